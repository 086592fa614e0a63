"""Compiles kernels and the subroutines that they call: Numba's typing and lowering, and little else of Numba.

Numba's own pipeline serves functions that Python calls. It gives every function passes for features that no
kernel uses, reference counting, Numba's runtime, and machine code of its own: more than half of the time in
which a kernel compiles. Here a function is typed and lowered once, and its LLVM code is optimised only as a
part of the kernels that call it:

    @subroutine
    def clear(address, n):
        target = float32_at(address, n)
        for k in range(n):
            target[k] = np.float32(0)
"""

from __future__ import annotations

import copy
import functools
import inspect
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import typing
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.cpu import CPUContext
from numba.core.errors import LoweringError, new_error_context  # type: ignore[attr-defined]
from numba.core.interpreter import (
    Interpreter,
    peep_hole_delete_with_exit,
    peep_hole_fuse_dict_add_updates,
)
from numba.core.ir import Assign
from numba.core.ir_utils import build_definitions
from numba.core.lowering import Lower
from numba.core.registry import cpu_target
from numba.core.rewrites import rewrite_registry
from numba.core.runtime import rtsys
from numba.core.ssa import reconstruct_ssa
from numba.core.targetconfig import Option
from numba.core.typed_passes import (
    NativeLowering,
    NoPythonBackend,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)
from numba.extending import intrinsic

from nbdl.kernels.cpu.calling import Convention
from nbdl.kernels.cpu.definitions import generator_for, item_of, stack_slot
from nbdl.kernels.cpu.inference import Inference, TypingContext

__all__ = [
    "FASTMATH",
    "FASTMATH_REASSOC",
    "CodeLibrary",
    "call_compiled",
    "compile_function",
    "make_callable",
    "subroutine",
]

FASTMATH = frozenset({"nsz", "arcp", "contract"})
"""The relaxations that every kernel may use: NaN and infinities keep their meaning."""

FASTMATH_REASSOC = FASTMATH | {"reassoc"}
"""For kernels whose sums may be taken in another order."""


def subroutine(
    function: Callable[..., Any] | None = None,
    *,
    fastmath: Collection[str] = FASTMATH,
    inlined: bool | None = None,
    noalias: bool = False,
) -> Callable[..., Any]:
    """Decorate a function that kernels, or other compiled code, call.

    Args:
        function: What Numba can compile without objects and allocations; arguments by position.
        fastmath: LLVM's relaxations for the instructions of this function.
        inlined: Whether LLVM must or must not inline it; None lets LLVM decide.
        noalias: The promise that no two arrays among the arguments share memory.
    """
    if function is None:
        return functools.partial(subroutine, fastmath=fastmath, inlined=inlined, noalias=noalias)

    @functools.cache
    def compile_for(*operands: Any) -> Any:
        library = CodeLibrary.new(function.__name__)
        return compile_function(function, operands, None, library, fastmath, inlined=inlined, noalias=noalias)

    def compiled_for(*operands: Any) -> Any:
        return compile_for(*map(types.unliteral, operands))

    called = make_callable(function.__name__, inspect.signature(function).parameters, compiled_for)
    return functools.update_wrapper(called, function, updated=())


def make_callable(
    name: str, parameters: Iterable[str], compiled_for: Callable[..., Any]
) -> Callable[..., Any]:
    """An intrinsic that calls compiled code.

    Args:
        name: Its name.
        parameters: Names of the parameters.
        compiled_for: Returns a result of `compile_function` for the Numba types of the operands, which are
            cast to those of its signature.
    """

    def typer(typing_context: Any, *operands: Any) -> Any:
        compiled = compiled_for(*operands)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return call_compiled(context, builder, compiled, args)

        return typing.signature(compiled.signature.return_type, *compiled.signature.args), codegen

    typer.__name__ = name
    # Numba reads the arity off the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("typing_context", *parameters)
    typer.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    return intrinsic(typer)


def call_compiled(context: Any, builder: ir.IRBuilder, compiled: Any, args: Any) -> ir.Value:
    """Lowers a call of what `compile_function` returned, in the code generator of an intrinsic."""
    for library in compiled.library.with_callees:
        context.active_code_library.add_linking_library(library)
    return compiled.target_context.call_conv.call(builder, compiled.fndesc, args)


def compile_function(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    returns: Any,
    library: CodeLibrary,
    fastmath: Collection[str] = FASTMATH,
    *,
    inlined: bool | None = None,
    noalias: bool = False,
) -> Any:
    """Lowers a function into a library.

    Args:
        function: What Numba can compile without objects and allocations. Divisions by zero do not raise.
        arguments: Numba types of the arguments.
        returns: Numba type of the result, or None to infer it.
        library: Receives the code.
        fastmath: LLVM's relaxations for the instructions of this function; its callees have their own.
        inlined: Whether LLVM must or must not inline it; None lets LLVM decide.
        noalias: The promise that no two arrays among the arguments share memory.

    Returns:
        Numba's compile result: `signature`, `fndesc` and `library`, no machine code.

    Raises:
        numba.core.errors.NumbaError: Numba cannot compile the function.
    """
    flags = _Flags()
    flags.fastmath = set(fastmath)
    flags.error_model = "numpy"
    flags.forceinline = inlined is True
    flags.noinline = inlined is False
    flags.noalias = noalias
    flags.nrt = False
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    return compile_extra(
        *_contexts(),
        function,
        args=arguments,
        return_type=returns,
        flags=flags,
        locals={},
        library=library,
        pipeline_class=_Compiler,
    )


class CodeLibrary(JITCodeLibrary):
    """LLVM code as lowering made it."""

    @classmethod
    def new(cls, name: str) -> CodeLibrary:
        """An empty library for code of this CPU."""
        return cls(cpu_target.target_context.codegen(), name)

    def add_linking_library(self, library: Any) -> None:
        if library is not rtsys.library and library not in self._linking_libraries:  # nothing is allocated
            super().add_linking_library(library)

    @property
    def with_callees(self) -> tuple[Any, ...]:
        """All libraries that a caller needs: each has the code of its own functions only."""
        return self, *self._linking_libraries

    def finalize(self) -> None:
        """Ends the library: functions that a caller does not use will not be in its code."""
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        self._shared_module = self._final_module
        self._finalized = True

    def _optimize_functions(self, ll_module: Any) -> None:
        """Left to the kernel that the code becomes a part of."""
        ll_module.data_layout = self._codegen._data_layout


class _Interpreter(Interpreter):
    """Numba's, without the rewrites of `with` and of dictionaries."""

    def post_process(self, peepholes: Any, func_ir: Any) -> Any:
        unused = (peep_hole_delete_with_exit, peep_hole_fuse_dict_add_updates)
        return super().post_process([step for step in peepholes if step not in unused], func_ir)


class _Passes(PassManager):
    """Runs passes without Numba's checks and repairs between them, which take as long as the passes."""

    def _runPass(self, index: int, step: Any, state: Any) -> None:
        step.analysis = self._analysis
        step.run_pass(state)


# Numba's own end with an analysis of the lifetime of variables, for reference counts and generators.


@register_pass(mutates_CFG=True, analysis_only=False)
class _Translate(TranslateByteCode):
    def run_pass(self, state: Any) -> bool:
        state["func_ir"] = _Interpreter(state["func_id"]).interpret(state["bc"])
        return True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Rewrites(GenericRewrites):
    def run_pass(self, state: Any) -> bool:
        blocks = state.func_ir.blocks
        for make_rewrite in rewrite_registry.rewrites["before-inference"]:
            rewrite = make_rewrite(state)
            for label in blocks:
                while rewrite.match(state.func_ir, blocks[label], state.typemap, state.calltypes):
                    blocks[label] = rewrite.apply()
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class _SingleAssignment(ReconstructSSA):
    def run_pass(self, state: Any) -> bool:
        state.func_ir = reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@register_pass(mutates_CFG=False, analysis_only=False)
class _StripPhis(PreLowerStripPhis):
    def run_pass(self, state: Any) -> bool:
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


class _Flags(Flags):
    noinline = Option(type=bool, default=False, doc="Forbid LLVM to inline the function.")


class _Lower(Lower):
    """Lowering without the parts that serve debuggers and reference counts."""

    def setup_function(self, fndesc: Any) -> None:
        self.function = self.call_conv.declare(self.module, fndesc)
        if self.flags.noinline:
            self.function.attributes.add("noinline")
        self.entry_block = self.function.append_basic_block("entry")
        self.builder = ir.IRBuilder(self.entry_block)
        self.call_helper = self.call_conv.init_call_helper(self.builder)

    def _find_singly_assigned_variable(self) -> None:
        """Finds what needs no memory: with single assignments, these come before all uses, in any block."""
        targets = Counter(
            statement.target.name
            for block in self.blocks.values()
            for statement in block.body
            if isinstance(statement, Assign)
        )
        self._singly_assigned_vars = {name for name, count in targets.items() if count == 1}
        self._blk_local_varmap: dict[str, ir.Value] = {}

    def lower_block(self, block: Any) -> None:
        self.pre_block(block)
        with new_error_context("lowering the block at {loc}", loc=block.loc, errcls_=LoweringError):
            for statement in block.body:
                self.loc = statement.loc
                self.lower_inst(statement)
        self.post_block(block)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> ir.Value:
        if op is operator.pow:  # only powers have definitions for constants; Numba always looks for them
            return super().lower_binop(resty, expr, op)
        typing_context = self.context.typing_context
        function, signature = typing_context.resolve_value_type(op), self.fndesc.calltypes[expr]
        operands = [
            self.context.cast(self.builder, self.loadvar(operand.name), self.typeof(operand.name), kind)
            for operand, kind in zip((expr.lhs, expr.rhs), signature.args, strict=True)
        ]
        called = typing_context.resolve_function_type(function, signature.args, {})
        result = self.context.get_function(function, called)(self.builder, operands)
        return self.context.cast(self.builder, result, signature.return_type, resty)

    def storevar(self, value: ir.Value, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: ir.Type, datamodel: Any = None) -> ir.Value:
        return stack_slot(self.builder, lltype, name)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    @property
    def lowering_class(self) -> type[Lower]:
        return _Lower


# In Numba's order. IRLegalization, which says where variables give up references, is not needed.
_PASSES = (
    _Translate,
    FixupArgs,
    RewriteSemanticConstants,
    DeadBranchPrune,
    _Rewrites,
    _SingleAssignment,
    Inference,
    _StripPhis,
    _Lowering,
    NoPythonBackend,
)


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        passes = _Passes("kernel")
        for step in _PASSES:
            passes.add_pass(step, step.name())
        passes.finalize()
        return [passes]


class _TargetContext(CPUContext):
    """Numba's, with a memory, and without a search of Numba's modules whenever a definition is missing."""

    definitions: dict[tuple[Any, Any], Callable[..., ir.Value]]

    @property
    def call_conv(self) -> Convention:
        return Convention(self)

    def get_function(self, fn: Any, sig: Any, _firstcall: bool = True) -> Callable[..., ir.Value]:
        definition = self.definitions.get((fn, sig))
        if definition is None:
            definition = self._own_definition(fn, sig) or super().get_function(fn, sig, _firstcall)
            self.definitions[fn, sig] = definition
        return definition

    def _own_definition(self, function: Any, signature: Any) -> Callable[..., ir.Value] | None:
        generate = self.typing_context.generators.get((function, signature))
        generate = generate or generator_for(function, signature)
        if generate is None:
            return None

        def definition(builder: ir.IRBuilder, args: Any, loc: Any = None) -> ir.Value:
            return generate(self, builder, signature, args)

        return definition

    def _compile_subroutine_no_cache(self, *function: Any, **options: Any) -> Any:
        """Functions in Python behind Numba's definitions are compiled by Numba, in its own convention."""
        return cpu_target.target_context._compile_subroutine_no_cache(*function, **options)

    def pair_first(self, builder: ir.IRBuilder, val: ir.Value, ty: Any) -> ir.Value:
        return item_of(builder, val, 0)

    def pair_second(self, builder: ir.IRBuilder, val: ir.Value, ty: Any) -> ir.Value:
        return item_of(builder, val, 1)

    def load_additional_registries(self) -> None:
        for registry in tuple(self._registries):  # new intrinsics are in one of these
            self.install_registry(registry)


@functools.cache
def _contexts() -> tuple[TypingContext, _TargetContext]:
    """Copies of Numba's contexts of the CPU, which share its tables."""
    cpu_target.target_context.refresh()
    typing_context = copy.copy(cpu_target.typing_context)
    typing_context.__class__ = TypingContext
    typing_context.signatures = {}
    typing_context.generators = {}
    target_context = cpu_target.target_context.subtarget(typing_context=typing_context)
    target_context.__class__ = _TargetContext
    target_context.definitions = {}
    return typing_context, target_context

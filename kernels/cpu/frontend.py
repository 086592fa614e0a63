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
from collections.abc import Callable, Collection, Iterable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import typing
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_machinery import PassManager
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.core.typed_passes import (
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.typing.context import Context
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)
from numba.extending import intrinsic

__all__ = ["FASTMATH", "FASTMATH_REASSOC", "CodeLibrary", "compile_function", "make_callable", "subroutine"]

FASTMATH = frozenset({"nsz", "arcp", "contract"})
"""The relaxations that every kernel may use: NaN and infinities keep their meaning."""

FASTMATH_REASSOC = FASTMATH | {"reassoc"}
"""For kernels whose sums may be taken in another order."""

# In Numba's order. IRLegalization, which says where variables give up references, is not needed.
_PASSES = (
    TranslateByteCode,
    FixupArgs,
    RewriteSemanticConstants,
    DeadBranchPrune,
    GenericRewrites,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    NativeLowering,
    NoPythonBackend,
)


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
            context.active_code_library.add_linking_library(compiled.library)
            return context.call_internal(builder, compiled.fndesc, signature, args)

        return typing.signature(compiled.signature.return_type, *compiled.signature.args), codegen

    typer.__name__ = name
    # Numba reads the arity off the signature.
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    names = ("typing_context", *parameters)
    typer.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])  # type: ignore[attr-defined]
    return intrinsic(typer)


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
    flags = Flags()
    flags.fastmath = set(fastmath)
    flags.error_model = "numpy"
    flags.forceinline = inlined is True
    flags.noalias = noalias
    flags.nrt = False
    flags.no_compile = True
    flags.no_cpython_wrapper = True
    flags.no_cfunc_wrapper = True
    result = compile_extra(
        *_contexts(),
        function,
        args=arguments,
        return_type=returns,
        flags=flags,
        locals={},
        library=library,
        pipeline_class=_Compiler,
    )
    if inlined is False:
        library.get_function(result.fndesc.llvm_func_name).add_function_attribute("noinline")
    return result


class CodeLibrary(JITCodeLibrary):
    """LLVM code as lowering made it."""

    @classmethod
    def new(cls, name: str) -> CodeLibrary:
        """An empty library for code of this CPU."""
        return cls(cpu_target.target_context.codegen(), name)

    def add_linking_library(self, library: Any) -> None:
        if library is not rtsys.library:  # nothing is allocated
            super().add_linking_library(library)

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """Left to the kernel that the code becomes a part of."""

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _Passes(PassManager):
    """Runs passes without Numba's checks and repairs between them, which take as long as the passes."""

    def _runPass(self, index: int, step: Any, state: Any) -> None:
        step.analysis = self._analysis
        step.run_pass(state)


class _Compiler(CompilerBase):
    def define_pipelines(self) -> list[PassManager]:
        passes = _Passes("kernel")
        for step in _PASSES:
            passes.add_pass(step, step.name())
        passes.finalize()
        return [passes]


class _TypingContext(Context):
    """Numba's, with a memory: which signature a function has for which types."""

    signatures: dict[tuple[Any, tuple[Any, ...]], Any]

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not isinstance(func, types.Function):
            return super().resolve_function_type(func, args, kws)
        signature = self.signatures.get((func, args))
        if signature is None:
            signature = self.signatures[func, args] = super().resolve_function_type(func, args, kws)
        return signature

    def load_additional_registries(self) -> None:
        """Nothing: they were loaded when this context was made."""


class _TargetContext(CPUContext):
    """Numba's, which does not look for new modules of Numba whenever a definition is missing."""

    def load_additional_registries(self) -> None:
        for registry in tuple(self._registries):  # new intrinsics are in one of these
            self.install_registry(registry)


@functools.cache
def _contexts() -> tuple[_TypingContext, _TargetContext]:
    """Copies of Numba's contexts of the CPU, which share its tables."""
    cpu_target.target_context.refresh()
    typing_context = copy.copy(cpu_target.typing_context)
    typing_context.__class__ = _TypingContext
    typing_context.signatures = {}
    target_context = cpu_target.target_context.subtarget(typing_context=typing_context)
    target_context.__class__ = _TargetContext
    return typing_context, target_context

"""The types of a kernel's variables: Numba's inference, without what it does anew for every function.

Numba finds the signature of a call by trying all templates of the function, and looks for the definitions of
an intrinsic in all of its modules. Here a signature is found once for all kernels, and an intrinsic is asked
for it. Numba also catches the warnings of every statement by itself, which takes longer than most statements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.compiler_machinery import register_pass
from numba.core.errors import (  # type: ignore[attr-defined]
    ForceLiteralArg,
    NumbaWarning,
    TypingError,
    WarningsFixer,
)
from numba.core.typed_passes import NopythonTypeInference
from numba.core.typeinfer import ConstraintNetwork, TypeInferer
from numba.core.typing.context import Context
from numba.core.typing.templates import _IntrinsicTemplate

from nbdl.kernels.cpu.definitions import signature_for

__all__ = ["Inference", "TypingContext"]


class TypingContext(Context):
    """Numba's, with a memory.

    Attributes:
        signatures: Of functions, by function and types of the arguments.
        generators: What emits the code of an intrinsic, by function and signature.
    """

    signatures: dict[tuple[Any, tuple[Any, ...]], Any]
    generators: dict[tuple[Any, Any], Callable[..., ir.Value]]

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if kws or not isinstance(func, types.Function):
            return super().resolve_function_type(func, args, kws)
        plain = func, tuple(map(types.unliteral, args))
        signature = self.signatures.get(plain) or self.signatures.get((func, args))
        if signature is None:
            signature = signature_for(*plain) or self._intrinsic(*plain) or self._intrinsic(func, args)
            signature = signature or super().resolve_function_type(func, args, kws)
            # Numba first tries without literals: one was needed only where it stands in the signature.
            needed = any(isinstance(argument, types.Literal) for argument in signature.args)
            self.signatures[(func, args) if needed else plain] = signature
        return signature

    def _intrinsic(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The signature of an intrinsic for these arguments; None for others, or where it wants literals."""
        template, *others = function.templates
        if others or not issubclass(template, _IntrinsicTemplate):
            return None
        found = template._definition_func(self, *arguments)
        if found is None:
            return None
        signature, generate = found
        self.generators[function, signature] = generate
        return signature

    def load_additional_registries(self) -> None:
        """Nothing: they were loaded when this context was made."""


class _Constraints(ConstraintNetwork):
    def propagate(self, typeinfer: TypeInferer) -> list[Exception]:
        errors: list[Exception] = []
        with typeinfer.warnings.catch_warnings():
            for constraint in self.constraints:
                try:
                    constraint(typeinfer)
                except (ForceLiteralArg, TypingError) as error:  # another round may know more
                    errors.append(error)
        return errors


@register_pass(mutates_CFG=True, analysis_only=False)
class Inference(NopythonTypeInference):
    """Numba's, without preparations for results that kernels cannot have."""

    def run_pass(self, state: Any) -> bool:
        warnings = WarningsFixer(NumbaWarning)
        infer = TypeInferer(state.typingctx, state.func_ir, warnings)
        infer.constraints = _Constraints()
        calls = state.typingctx.callstack.register(state.targetctx.target, infer, state.func_id, state.args)
        with calls, warnings:
            for index, (name, kind) in enumerate(zip(state.func_ir.arg_names, state.args, strict=True)):
                infer.seed_argument(name, index, kind)
            if state.return_type is not None:
                infer.seed_return(state.return_type)
            infer.build_constraint()
            infer.propagate()
            state.typemap, state.return_type, state.calltypes = infer.unify()
        return True

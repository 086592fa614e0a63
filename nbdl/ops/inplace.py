"""Methods that end in an underscore: the operation with its first operand as output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbdl.autograd.inplace import apply_in_place
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.ops import arithmetic
from nbdl.ops.pointwise import Pointwise, operand

_ASSIGN = Formula("copy", lambda x, value: value, 2)


def call_in_place(formula: Formula, x: Tensor, *values: Any, any_cast: bool = False) -> Tensor:
    """Apply a formula to a tensor and other operands, the result replacing the tensor's elements."""
    weak, tensors = 0, []
    for k, value in enumerate(values, 1):
        tensor, is_number = operand(f"{formula.name}_", k + 1, value)
        tensors.append(tensor)
        weak |= is_number << k
    return apply_in_place(Pointwise.of(formula, weak), x, *tensors, any_cast=any_cast)


def _method(name: str, function: str | None = None) -> Callable[..., Tensor]:
    """The method called ``name`` + ``_``, applying ``function`` (default: ``name``) of the vocabulary."""
    formula = arithmetic.formula_of(function or name)

    def method(self: Tensor, *values: Any) -> Tensor:
        if len(values) != formula.arity - 1:
            raise TypeError(f"{name}_() takes {formula.arity - 1} operands but {len(values)} were given")
        return call_in_place(formula, self, *values)

    method.__name__ = method.__qualname__ = f"{name}_"
    method.__doc__ = f"``{name}`` in place."
    return method


def add_(self: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``self += alpha * other``."""
    if alpha != 1:
        return call_in_place(arithmetic.SCALED_ADD, self, other, alpha)
    return call_in_place(arithmetic.formula_of("add"), self, other)


def sub_(self: Tensor, other: Any, *, alpha: float = 1) -> Tensor:
    """``self -= alpha * other``."""
    if alpha != 1:
        return call_in_place(arithmetic.SCALED_SUBTRACT, self, other, alpha)
    return call_in_place(arithmetic.formula_of("subtract"), self, other)


def copy_(self: Tensor, source: Any, non_blocking: bool = False) -> Tensor:
    """Overwrite with ``source``, broadcast and cast to this tensor's shape and dtype."""
    if isinstance(source, Tensor) and source.device != self.device:
        source = source.to(device=self.device)
    return call_in_place(_ASSIGN, self, source, any_cast=True)


def fill_(self: Tensor, value: Any) -> Tensor:
    """Overwrite all elements with one value."""
    return call_in_place(_ASSIGN, self, value, any_cast=True)


def zero_(self: Tensor) -> Tensor:
    """Overwrite all elements with 0."""
    return call_in_place(_ASSIGN, self, 0, any_cast=True)


def clamp_(self: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """Limit to [min, max] in place.

    Raises:
        ValueError: both bounds are None.
    """
    if min is None and max is None:
        raise ValueError("clamp_: at least one of min or max must not be None")
    if max is None:
        return call_in_place(arithmetic.CLAMP_MIN, self, min)
    if min is None:
        return call_in_place(arithmetic.CLAMP_MAX, self, max)
    return call_in_place(arithmetic.formula_of("clip"), self, min, max)


def addcmul_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``self += value * tensor1 * tensor2``."""
    return call_in_place(arithmetic.ADDCMUL, self, tensor1, tensor2, value)


def addcdiv_(self: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """``self += value * tensor1 / tensor2``."""
    return call_in_place(arithmetic.ADDCDIV, self, tensor1, tensor2, value)


def lerp_(self: Tensor, end: Tensor, weight: Any) -> Tensor:
    """``self += weight * (end - self)``."""
    return call_in_place(arithmetic.LERP, self, end, weight)


subtract_, clip_ = sub_, clamp_
abs_ = _method("abs")
atan2_ = _method("atan2")
bitwise_and_ = _method("bitwise_and")
bitwise_or_ = _method("bitwise_or")
bitwise_xor_ = _method("bitwise_xor")
ceil_ = _method("ceil")
cos_ = _method("cos")
div_ = _method("div", "divide")
divide_ = _method("divide")
erf_ = _method("erf")
exp_ = _method("exp")
expm1_ = _method("expm1")
floor_ = _method("floor")
floor_divide_ = _method("floor_divide")
fmod_ = _method("fmod")
log1p_ = _method("log1p")
log_ = _method("log")
logical_not_ = _method("logical_not")
mul_ = _method("mul", "multiply")
multiply_ = _method("multiply")
neg_ = _method("neg", "negative")
pow_ = _method("pow")
reciprocal_ = _method("reciprocal")
relu_ = _method("relu")
remainder_ = _method("remainder")
round_ = _method("round", "rint")
rsqrt_ = _method("rsqrt")
sigmoid_ = _method("sigmoid", "expit")
sign_ = _method("sign")
sin_ = _method("sin")
sqrt_ = _method("sqrt")
square_ = _method("square")
tan_ = _method("tan")
tanh_ = _method("tanh")
trunc_ = _method("trunc")

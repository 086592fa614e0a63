"""Common divisors, and floats taken apart: mantissa and exponent, integer and fraction, spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import copysign, exp2, isinf, nextafter, trunc, where
from nbdl.ops.batching import over_broadcast_axes, over_leading_axes
from nbdl.ops.pointwise import call, operand
from nbdl.ops.primitive import NOTHING, Primitive, check_broadcast
from nbdl.ops.type_rules import result_type

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = ["frexp", "gcd", "lcm", "ldexp", "modf", "spacing"]

_LDEXP = Formula("ldexp", lambda x, exponent: x * exp2(exponent), 2)
_WHOLE = Formula("whole", lambda x: trunc(x), 1)
_FRACTION = Formula("fraction", lambda x: where(isinf(x), copysign(0.0, x), copysign(x - trunc(x), x)), 1)
_SPACING = Formula("spacing", lambda x: nextafter(x, copysign(math.inf, x)) - x, 1)


class CommonMultiple(Primitive):
    """The greatest common divisor (``gcd``) or the least common multiple (``lcm``) of integers."""

    name = "common_multiple"
    differentiable = False

    batch = over_broadcast_axes

    def __init__(self, kind: str):
        super().__init__(kind=kind)
        self.label = kind

    def check(self, *arrays: Any) -> None:
        """Operands must broadcast."""
        check_broadcast(self.label, arrays)


class MantissaExponent(Primitive):
    """Mantissas in [0.5, 1) and exponents (int32)."""

    name = "frexp"
    saved = NOTHING
    saves_output = True

    batch = over_leading_axes

    def is_differentiable_output(self, k: int) -> bool:
        """The mantissa only."""
        return k == 0

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The exponent is constant almost everywhere: x / 2^exponent."""
        assert gradients[0] is not None
        return (ldexp(gradients[0], -node.output(1)).to(gradients[0].dtype),)

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangent scaled alike."""
        assert tangents[0] is not None
        return ldexp(tangents[0], -outputs[1]).to(tangents[0].dtype), None


def _common_multiple(kind: str, input: Any, other: Any) -> Tensor:
    dtype = result_type(input, other)
    if dtype.kind not in "iu":
        raise RuntimeError(f"{kind}: operands must be integers, got {dtype}")
    operands = [operand(kind, k, value)[0].to(dtype) for k, value in enumerate((input, other), 1)]
    return apply(CommonMultiple.of(kind), *operands)


def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisors of integers, of 0 and 0 it is 0.

    Raises:
        RuntimeError: the operands are no integers, or do not broadcast.
    """
    return _common_multiple("gcd", input, other)


def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiples of integers; 0 where one of them is 0.

    Raises:
        RuntimeError: the operands are no integers, or do not broadcast.
    """
    return _common_multiple("lcm", input, other)


class FrexpResult(NamedTuple):
    """Both parts of floats."""

    mantissa: Tensor
    exponent: Tensor


def frexp(input: Tensor) -> FrexpResult:
    """Floats as mantissa * 2^exponent, mantissas in [0.5, 1), exponents int32.

    Raises:
        RuntimeError: the elements are not floats.
    """
    if not input.is_floating_point():
        raise RuntimeError(f"frexp: only supports floating-point dtypes, got {input.dtype}")
    if dtypes.is_bfloat16(input.dtype):
        mantissa, exponent = apply(MantissaExponent.of(), input.to("float32"))
        return FrexpResult(mantissa.to(input.dtype), exponent)
    return FrexpResult(*apply(MantissaExponent.of(), input))


def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """The product ``input * 2 ** other``."""
    return call(_LDEXP, input, other)


class ModfResult(NamedTuple):
    """Both parts of floats, each with their sign."""

    fraction: Tensor
    whole: Tensor


def modf(input: Tensor) -> ModfResult:
    """Floats as ``fraction + whole``, both with the sign of the number (``numpy.modf``).

    Example:
        >>> import nbdl
        >>> nbdl.modf(nbdl.tensor([2.5, -0.25])).fraction
        tensor([ 0.5000, -0.2500])
    """
    return ModfResult(call(_FRACTION, input), call(_WHOLE, input))


def spacing(input: Tensor) -> Tensor:
    """The distance from each float to the next one away from zero, with its sign (``numpy.spacing``).

    It is constant between the powers of two: no gradient flows through it.

    Example:
        >>> import nbdl
        >>> nbdl.spacing(nbdl.tensor(1.0, dtype=nbdl.float64)).item() == nbdl.finfo(nbdl.float64).eps
        True
    """
    return call(_SPACING, input)

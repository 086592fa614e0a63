"""Complex numbers: their parts, polar form, conjugation, and views as pairs of floats.

A gradient of z = x + iy is dL/dx + i dL/dy, so that ``z - rate * z.grad`` descends, as in PyTorch. The real
parts of the tape (sums, views, copies) need no more than that; rules that multiply by a derivative take its
conjugate (:func:`nbdl.ops.pointwise.conjugated`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import (
    atan2,
    copysign,
    equal,
    exp,
    hypot,
    isfinite,
    isnan,
    log1p,
    logical_and,
    sin,
    where,
)
from nbdl.formula.functions import signbit as has_sign
from nbdl.ops.batching import over_leading_axes
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import LinearMap, View

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = [
    "adjoint", "angle", "complex", "conj", "conj_physical", "imag", "is_complex", "is_conj", "isreal",
    "polar", "real", "resolve_conj", "sgn", "view_as_complex", "view_as_real",
]  # fmt: skip


def _at_origin(x: Any, y: Any) -> Any:
    return logical_and(equal(x, 0), equal(y, 0))


# All have a derivative of 0 at 0, by choice.
_MODULUS = Formula("abs", lambda x, y: where(_at_origin(x, y), 0, hypot(x, y)), 2)
_ARGUMENT = Formula(
    "angle",
    lambda x, y: where(_at_origin(x, y), copysign(where(has_sign(x), math.pi, 0), y), atan2(y, x)),
    2,
)
_SGN = Formula("sgn", lambda z, size: where(equal(size, 0), 0, z / size), 2)
_SINC = Formula("sinc", lambda z: where(equal(z, 0), 1, sin(math.pi * z) / (math.pi * z)), 1)
_LOGADDEXP = Formula(
    "logaddexp", lambda high, low: high + log1p(exp(where(isfinite(high), low - high, 0))), 2
)
_CHOICE = Formula("where", where, 3)
_REAL_ARGUMENT = Formula("angle", lambda x: where(isnan(x), x, where(x < 0, math.pi, 0)), 1)


class ViewAsReal(View):
    """A complex array as floats with a new last axis of length 2: real and imaginary part."""

    name = "view_as_real"

    def view(self, array: Any) -> Any:
        """The same memory as floats."""
        return array[..., None].view(dtypes.real_of(array.dtype))

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """The last axis stays the last."""
        return (self,)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The pairs as complex numbers."""
        (gradient,) = gradients
        return (view_as_complex(gradient.contiguous()),)  # type: ignore[union-attr]


class ViewAsComplex(View):
    """Pairs of floats along the last axis as complex numbers."""

    name = "view_as_complex"

    def view(self, array: Any) -> Any:
        """The same memory as complex numbers."""
        return array.view(dtypes.complex_of(array.dtype))[..., 0]

    def behind(self, size: int, shape: tuple[int, ...]) -> tuple[View, ...]:
        """The last axis stays the last."""
        return (self,)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The complex numbers as pairs."""
        return (view_as_real(gradients[0]),)  # type: ignore[arg-type]


class Conjugate(LinearMap):
    """The sign of the imaginary part changed; linear over the reals, and its own adjoint there."""

    name = "conjugate"

    batch = over_leading_axes

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The conjugate of the gradient."""
        return (conj(gradients[0]),)  # type: ignore[arg-type]


_VIEW_AS_REAL, _VIEW_AS_COMPLEX, _CONJUGATE = ViewAsReal.of(), ViewAsComplex.of(), Conjugate.of()


# ----------------------------------------------------------------------------------------- public functions
def is_complex(input: Tensor) -> bool:
    """Whether the elements are complex numbers."""
    return input.is_complex()


def is_conj(input: Tensor) -> bool:
    """False: conjugates are computed at once, not when they are read."""
    return False


def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugates are computed at once."""
    return input


def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers as pairs of floats, in the same memory.

    Returns:
        (..., 2): real and imaginary parts.

    Raises:
        RuntimeError: the elements are not complex.
    """
    if not input.is_complex():
        raise RuntimeError(f"view_as_real: is only supported for complex tensors, got {input.dtype}")
    return _VIEW_AS_REAL(input)


def view_as_complex(input: Tensor) -> Tensor:
    """Pairs of floats as complex numbers, in the same memory.

    Args:
        input: float32 or float64, (..., 2), the pairs lying together in memory.

    Raises:
        RuntimeError: another dtype, last axis or memory layout.

    Example:
        >>> import nbdl
        >>> nbdl.view_as_complex(nbdl.tensor([[1.0, 2.0], [3.0, -4.0]]))
        tensor([1.+2.j, 3.-4.j])
    """
    array = input.array
    if array.dtype not in (dtypes.FLOAT32, dtypes.FLOAT64):
        raise RuntimeError(f"view_as_complex: expected a float32 or float64 tensor, got {array.dtype}")
    if array.ndim == 0 or array.shape[-1] != 2:
        raise RuntimeError(
            f"view_as_complex: the last axis must have length 2, got shape {tuple(array.shape)}"
        )
    if array.size and (
        array.strides[-1] != array.itemsize or any(s % (2 * array.itemsize) for s in array.strides[:-1])
    ):
        raise RuntimeError("view_as_complex: the pairs must lie together in memory; use contiguous()")
    return _VIEW_AS_COMPLEX(input)


def real(input: Tensor) -> Tensor:
    """The real parts, a view; a real tensor is its own."""
    return view_as_real(input).select(-1, 0) if input.is_complex() else input


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, a view.

    Raises:
        RuntimeError: the elements are not complex.
    """
    if not input.is_complex():
        raise RuntimeError(f"imag: is not implemented for tensors with non-complex dtypes, got {input.dtype}")
    return view_as_real(input).select(-1, 1)


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """Complex numbers from their parts, which broadcast.

    Raises:
        RuntimeError: the parts are not both float32 or both float64.
    """
    if real.dtype != imag.dtype or real.dtype not in (dtypes.FLOAT32, dtypes.FLOAT64):
        raise RuntimeError(
            f"complex: expected both inputs to be float32 or both float64, got {real.dtype} and {imag.dtype}"
        )
    from nbdl.ops.joining import stack
    from nbdl.ops.rearranging import broadcast_tensors

    return view_as_complex(stack(broadcast_tensors(real, imag), -1))


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """Complex numbers from modulus and angle: ``abs * exp(i * angle)``.

    Raises:
        RuntimeError: the operands are not both float32 or both float64.
    """
    return complex(abs * angle.cos(), abs * angle.sin())


def conj(input: Tensor) -> Tensor:
    """The complex conjugates; a real tensor is its own."""
    return apply(_CONJUGATE, input) if input.array.dtype.kind == "c" else input


conj_physical = conj


def adjoint(input: Tensor) -> Tensor:
    """The conjugates of matrices with their two axes exchanged.

    Raises:
        RuntimeError: fewer than 2 axes.
    """
    if input.array.ndim < 2:
        raise RuntimeError(f"adjoint: input must have at least 2 axes, got {input.array.ndim}")
    return conj(input.transpose(-2, -1))


def modulus(input: Tensor) -> Tensor:
    """The absolute values of complex numbers; their derivative is 0 at 0."""
    pairs = view_as_real(input)
    return call(_MODULUS, pairs.select(-1, 0), pairs.select(-1, 1))


def angle(input: Tensor) -> Tensor:
    """The angles of complex numbers in (-pi, pi]; of real ones 0 or pi. The derivative is 0 at 0."""
    if input.is_complex():
        pairs = view_as_real(input)
        return call(_ARGUMENT, pairs.select(-1, 0), pairs.select(-1, 1))
    return call(_REAL_ARGUMENT, input if input.is_floating_point() else input.to(dtypes.get_default_dtype()))


def sgn(input: Tensor) -> Tensor:
    """``input / abs(input)``, 0 at 0; the sign of real numbers."""
    if not input.is_complex():
        return input.sign()
    return call(_SGN, input, modulus(input))


def isreal(input: Tensor) -> Tensor:
    """Whether the imaginary part is 0."""
    return imag(input).eq(0) if input.is_complex() else input.ones_like(dtype=bool)


def complex_sinc(z: Any) -> Tensor:
    """sin(pi z) / (pi z), 1 at 0."""
    return call(_SINC, z)


def complex_logaddexp(a: Tensor, b: Tensor) -> Tensor:
    """log(exp(a) + exp(b)), from the one with the larger real part."""
    is_first = real(a) >= real(b)
    return call(_LOGADDEXP, call(_CHOICE, is_first, a, b), call(_CHOICE, is_first, b, a))

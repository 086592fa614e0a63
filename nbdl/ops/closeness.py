"""Whether tensors are equal, or nearly so."""

from __future__ import annotations

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import eq, isfinite, isnan, logical_and, logical_or
from nbdl.ops.pointwise import call

__all__ = ["allclose", "equal", "isclose"]

_ISCLOSE = Formula(
    "isclose",
    lambda x, y, rtol, atol: f.logical_or(
        f.equal(x, y), f.logical_and(f.isfinite(y), f.abs(x - y) <= atol + rtol * f.abs(y))
    ),
    4,
)


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |x - y| <= atol + rtol |y|; infinities are close to themselves, NaN only with ``equal_nan``.

    Raises:
        RuntimeError: a tolerance is negative, or the dtypes differ.
    """
    for label, tolerance in (("rtol", rtol), ("atol", atol)):
        if tolerance < 0:
            raise RuntimeError(f"isclose: {label} must be greater than or equal to zero, but got {tolerance}")
    if input.dtype != other.dtype:
        raise RuntimeError(f"isclose: {input.dtype} of input did not match {other.dtype} of other; cast one")
    if input.is_complex() or other.is_complex():
        close = logical_or(
            eq(input, other), logical_and(isfinite(other), abs(input - other) <= atol + rtol * abs(other))
        )
    else:
        close = call(_ISCLOSE, input, other, rtol, atol)
    return logical_or(close, logical_and(isnan(input), isnan(other))) if equal_nan else close


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all elements are close, see :func:`isclose`.

    Example:
        >>> import nbdl
        >>> nbdl.allclose(nbdl.tensor([1.0]), nbdl.tensor([1.0 + 1e-7]))
        True
    """
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are the same."""
    return input.array.shape == other.array.shape and bool(eq(input, other).all())

"""Elements limited to a range, and finite numbers in the place of others."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.pointwise import call
from nbdl.ops.type_rules import finfo

__all__ = ["clamp", "clamp_max", "clamp_min", "clip", "nan_to_num"]

CLAMP_MIN = Formula("clamp", lambda x, low: f.where(x < low, low, x), 2)
CLAMP_MAX = Formula("clamp", lambda x, high: f.where(x > high, high, x), 2)


def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """``input`` limited to [min, max]; ``max`` wins where the bounds cross.

    Args:
        input: tensor.
        min: number, tensor, or None for no lower bound.
        max: number, tensor, or None for no upper bound.

    Raises:
        RuntimeError: both bounds are None.

    Example:
        >>> import nbdl
        >>> nbdl.tensor([1.0, -2.0, 3.0]).clamp(-1, 2)
        tensor([ 1., -1.,  2.])
    """
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of min or max must not be None")
    if max is None:
        return call(CLAMP_MIN, input, min)
    if min is None:
        return call(CLAMP_MAX, input, max)
    return call(formula_of("clip"), input, min, max)


clip = clamp


def clamp_min(input: Tensor, min: Any) -> Tensor:
    """``input`` limited from below."""
    return call(CLAMP_MIN, input, min)


def clamp_max(input: Tensor, max: Any) -> Tensor:
    """``input`` limited from above."""
    return call(CLAMP_MAX, input, max)


def nan_to_num(
    input: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """NaN and infinities replaced, infinities by default with the largest finite values."""
    if not input.is_floating_point():
        return input.clone()
    limits = finfo(input.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    return call(formula_of("nan_to_num"), input, float(nan), high, low)

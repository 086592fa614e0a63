"""Forward mode by hand: tensors that carry a tangent.

Example:
    >>> import nbdl
    >>> from nbdl.autograd import forward_ad
    >>> with forward_ad.dual_level():
    ...     x = forward_ad.make_dual(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 0.0]))
    ...     forward_ad.unpack_dual(x * x).tangent
    tensor([2., 0.])
"""

from __future__ import annotations

from typing import NamedTuple

from nbdl.autograd import duals
from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor


class UnpackedDualTensor(NamedTuple):
    """A tensor without its tangent, and the tangent (None: zero)."""

    primal: Tensor
    tangent: Tensor | None


def enter_dual_level() -> int:
    """Begin a level of forward differentiation; levels nest, and each keeps its own tangents.

    Returns:
        The level.
    """
    return duals.enter_level()


def exit_dual_level(*, level: int | None = None) -> None:
    """End a level, the innermost one by default; tangents of that level are forgotten.

    Raises:
        RuntimeError: it is not the innermost level.
    """
    innermost = mode.dual_level
    if innermost == 0 or level not in (None, innermost):
        raise RuntimeError(
            f"exit_dual_level: levels must be left in the reverse order; level is {level}, innermost "
            f"level {innermost}"
        )
    duals.exit_level()


class dual_level:
    """A level of forward differentiation as a ``with`` block; entering gives the level."""

    def __enter__(self) -> int:
        return enter_dual_level()

    def __exit__(self, *exc_info: object) -> None:
        exit_dual_level()


def _level(caller: str, level: int | None) -> int:
    found = mode.dual_level if level is None else level
    if found == 0 or found not in mode.dual_levels:
        raise RuntimeError(
            f"{caller}: needs a level of forward differentiation: use it inside `with dual_level()`"
        )
    return found


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """``tensor`` carrying a tangent: what is computed of it carries its derivative in that direction.

    Args:
        tensor: a floating tensor.
        tangent: of the same shape and dtype.
        level: default: the innermost.

    Raises:
        RuntimeError: outside all levels, or shape or dtype differ, or the dtype is not floating.
        TypeError: an argument is no tensor.
    """
    return with_checked_tangent("make_dual", tensor, tangent, _level("make_dual", level))


def with_checked_tangent(caller: str, tensor: Tensor, tangent: Tensor, level: int) -> Tensor:
    """``tensor`` carrying ``tangent`` at ``level``, errors in the name of ``caller``."""
    for name, value in (("tensor", tensor), ("tangent", tangent)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{caller}: the {name} must be a tensor, got {type(value).__name__}")
    if not tensor.is_floating_point():
        raise RuntimeError(f"{caller}: expected a floating point tensor, got {tensor.dtype}")
    if tangent.shape != tensor.shape or tangent.dtype != tensor.dtype:
        raise RuntimeError(
            f"{caller}: the tangent must have the tensor's shape {tuple(tensor.shape)} and dtype "
            f"{tensor.dtype}, got {tuple(tangent.shape)} and {tangent.dtype}"
        )
    return duals.with_tangent(tensor, tangent, level)


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """A tensor without the tangent of a level, and that tangent.

    Args:
        tensor: the tensor.
        level: default: the innermost.

    Raises:
        RuntimeError: outside all levels.
    """
    return split_tangent(tensor, _level("unpack_dual", level))


def split_tangent(tensor: Tensor, level: int) -> UnpackedDualTensor:
    """:func:`unpack_dual` for a known level, which must be the innermost that ``tensor`` knows."""
    dual = tensor.dual
    if dual is None or dual.level != level:
        return UnpackedDualTensor(tensor, None)
    return UnpackedDualTensor(dual.primal, dual.tangent)

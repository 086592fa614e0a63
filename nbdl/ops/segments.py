"""Reductions of consecutive parts of an axis."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange
from nbdl.ops.rearranging import repeat_interleave
from nbdl.ops.scattering import scatter_reduce

__all__ = ["segment_reduce"]

# PyTorch's name -> the name of scatter_reduce, and what an empty segment gives.
_REDUCTIONS = {
    "sum": ("sum", 0.0), "mean": ("sum", math.nan), "max": ("amax", -math.inf), "min": ("amin", math.inf),
    "prod": ("prod", 1.0),
}  # fmt: skip


def segment_reduce(
    data: Tensor,
    reduce: str,
    *,
    lengths: Tensor | None = None,
    offsets: Tensor | None = None,
    axis: int = 0,
    unsafe: bool = False,
    initial: Any = None,
) -> Tensor:
    """Each of the segments into which an axis is cut, reduced to one element.

    Args:
        data: floating; the axes before ``axis`` are those of ``lengths``.
        reduce: ``sum``, ``mean``, ``max``, ``min`` or ``prod``.
        lengths: int (..., segments): how long the segments are, one behind the other, covering the axis.
        offsets: int (..., segments + 1), in place of lengths: where they begin, and where the last one ends.
        axis: the axis that is cut.
        unsafe: do not look whether the lengths cover the axis.
        initial: what each segment starts with; default: what empty ones give, NaN for ``mean``.

    Returns:
        ``data`` with as many elements along ``axis`` as there are segments.

    Raises:
        RuntimeError: not exactly one of ``lengths`` and ``offsets``, shapes that do not fit, or lengths that
            do not cover the axis.
        ValueError: the reduction is unknown.

    Example:
        >>> import nbdl
        >>> nbdl.segment_reduce(nbdl.arange(5.0), "sum", lengths=nbdl.tensor([2, 0, 3]))
        tensor([1., 0., 9.])
    """
    if reduce not in _REDUCTIONS:
        raise ValueError(f"segment_reduce: reduce must be one of {', '.join(_REDUCTIONS)}, got {reduce!r}")
    if (lengths is None) == (offsets is None):
        raise RuntimeError("segment_reduce: expected exactly one of lengths and offsets")
    if lengths is None:
        assert offsets is not None
        lengths = offsets.diff()
    leading, n = tuple(data.array.shape[:axis]), data.array.shape[axis]
    if lengths.array.ndim != axis + 1 or tuple(lengths.array.shape[:-1]) != leading:
        raise RuntimeError(
            f"segment_reduce: lengths must have shape {[*leading, 'segments']} to cut axis {axis} of "
            f"{list(data.shape)}, got {list(lengths.shape)}"
        )
    if not unsafe and not bool((lengths.sum(-1) == n).all().item()):
        raise RuntimeError(f"segment_reduce: expected all rows of lengths along axis {axis} to sum to {n}")
    segments = lengths.array.shape[-1]
    rest = tuple(data.array.shape[axis + 1 :])
    rows = data.reshape((math.prod(leading) * n, *rest))
    owner = repeat_interleave(
        arange(math.prod(leading) * segments, device=data.device),
        lengths.reshape(-1),
        output_size=rows.array.shape[0],
    )
    operation, empty = _REDUCTIONS[reduce]
    start = (0.0 if reduce == "mean" else empty) if initial is None else initial
    result = data.new_full((math.prod(leading) * segments, *rest), start)
    index = owner.reshape((-1, *[1] * len(rest))).expand(rows.shape)
    result = scatter_reduce(result, 0, index, rows, operation)
    if reduce == "mean":
        counts = lengths.reshape((-1, *[1] * len(rest)))
        divided = result / counts.clamp(min=1).to(data.dtype)
        result = where(counts > 0, divided, empty if initial is None else initial)
    return result.reshape((*leading, segments, *rest))

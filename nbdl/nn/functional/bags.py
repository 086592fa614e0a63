"""Sums, means and maxima of embeddings over bags of indices."""

from __future__ import annotations

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.nn.functional.embedding import embedding, limit_rows
from nbdl.ops import bags
from nbdl.ops.creation import arange, zeros
from nbdl.ops.index_writing import index_add
from nbdl.ops.scattering import scatter_reduce
from nbdl.ops.searching import searchsorted

BAG_MODES = ("sum", "mean", "max")


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """The sum, mean or maximum of the rows of ``weight`` at the indices of every bag.

    Args:
        input: integers (bags, n), or (all indices,) with ``offsets``.
        weight: the table, (number of rows, D).
        offsets: where each bag begins in a 1-D input; the first is 0, and they do not decrease.
        max_norm: rows that are used and longer than this are scaled down to it first, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide the gradient of a row by the number of its uses; not with ``max``.
        mode: ``sum``, ``mean`` or ``max``. An empty bag gives zeros.
        sparse: not supported: gradients are dense.
        per_sample_weights: factors of the rows, of the shape of the input; only with ``sum``.
        include_last_offset: the last offset is the end of the last bag, instead of the beginning of another.
        padding_idx: indices that do not count.

    Returns:
        (bags, D)

    Raises:
        ValueError: the weight has not two axes, the input has not one or two, offsets are missing or too
            many, or the mode is unknown.
        NotImplementedError: weights of samples with another mode than ``sum``.

    Example:
        >>> import nbdl
        >>> table = nbdl.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> indices, offsets = nbdl.tensor([0, 2, 1]), nbdl.tensor([0, 2])
        >>> nbdl.nn.functional.embedding_bag(indices, table, offsets, mode="sum")
        tensor([[6., 8.],
                [3., 4.]])
    """
    _check(input, weight, offsets, mode, scale_grad_by_freq, sparse, per_sample_weights)
    starts = offsets[:-1] if include_last_offset and offsets is not None else offsets
    padding = None if padding_idx is None else padding_idx % weight.array.shape[0]
    is_plain = per_sample_weights is None and not scale_grad_by_freq
    if mode != "max" and is_plain and dtypes.is_floating(weight.array.dtype):
        if max_norm is not None:
            limit_rows(weight, input, max_norm, norm_type)
        places = None if starts is None else starts.to(dtype=np.int64)
        return bags.embedding_bag(weight, input.to(dtype=np.int64), places, mode == "mean", padding)
    if starts is None:
        count, length = input.array.shape
        starts = arange(count, device=input.device) * length
    count = starts.array.shape[0]
    flat = input.reshape((-1,))
    # The bag of every index; elements before the first offset belong to none.
    places = arange(flat.array.size, device=input.device)
    owner = searchsorted(starts.to(dtype=np.int64).contiguous(), places, right=True) - 1
    rows = embedding(flat, weight, None, max_norm, norm_type, scale_grad_by_freq)
    counted = None if padding is None else flat != padding
    if mode == "max":
        return _maxima(rows, owner, counted, count)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape((-1, 1))
    if counted is not None:
        rows = rows * counted.unsqueeze(1).to(dtype=rows.dtype)
    nothing = zeros(count, weight.array.shape[1], dtype=rows.dtype, device=rows.device)
    total = index_add(nothing, 0, owner, rows)
    if mode == "sum":
        return total
    ones = rows.new_ones(flat.array.size) if counted is None else counted.to(dtype=rows.dtype)
    counts = index_add(rows.new_zeros(count), 0, owner, ones)
    return total / counts.clamp(min=1).unsqueeze(1)


def _maxima(rows: Tensor, owner: Tensor, counted: Tensor | None, count: int) -> Tensor:
    """(count, D), through one more bag that takes what does not count."""
    if counted is not None:
        owner = owner.masked_fill(~counted, count)
    nothing = zeros(count + 1, rows.array.shape[1], dtype=rows.dtype, device=rows.device)
    index = owner.unsqueeze(1).expand(rows.array.shape)
    return scatter_reduce(nothing, 0, index, rows, "amax", include_self=False)[:count]


def _check(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None,
    mode: str,
    scale_grad_by_freq: bool,
    sparse: bool,
    per_sample_weights: Tensor | None,
) -> None:
    if weight.array.ndim != 2:
        raise ValueError(f"embedding_bag: 'weight' must be 2-D, got shape {tuple(weight.shape)}")
    if mode not in BAG_MODES:
        raise ValueError(f"embedding_bag: mode has to be one of sum, mean or max, got {mode!r}")
    if sparse:
        raise ValueError("embedding_bag: sparse=True is not supported, gradients are dense; use sparse=False")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("embedding_bag: max mode does not support scaling the gradient by the frequency")
    if input.array.ndim not in (1, 2):
        raise ValueError(f"embedding_bag: input has to be 1D or 2D Tensor, but got {input.array.ndim}D")
    if input.array.ndim == 2 and offsets is not None:
        raise ValueError(
            "embedding_bag: if input is 2D, then offsets has to be None, as input is treated as a mini-batch "
            "of fixed length sequences"
        )
    if input.array.ndim == 1 and offsets is None:
        raise ValueError("embedding_bag: offsets has to be a 1D Tensor but got None")
    if input.array.ndim == 1 and offsets is not None and offsets.array.ndim != 1:
        raise ValueError(f"embedding_bag: offsets has to be a 1D Tensor, but got {offsets.array.ndim}D")
    if per_sample_weights is None:
        return
    if mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for "
            f"mode='sum' (got mode={mode!r})"
        )
    if per_sample_weights.array.shape != input.array.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({tuple(per_sample_weights.shape)}) is not None, then it "
            f"must have the same shape as the input ({tuple(input.shape)})"
        )

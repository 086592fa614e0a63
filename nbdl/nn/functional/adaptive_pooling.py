"""Means and maxima over a given number of windows, which cover the input evenly."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.backend.resampling import Taps
from nbdl.nn.functional.sizes import batched, sizes
from nbdl.ops import pooling
from nbdl.ops.resampling import resample

# Elements of a window up to which one thread of a GPU should read them all; a CPU reads them side by side.
_SMALL_WINDOW = 32


def _adaptive(label: str, rank: int, input: Tensor, output_size: Any) -> tuple[Tensor, Any, tuple[int, ...]]:
    if rank > 1 and input.array.ndim <= rank:
        raise ValueError(
            f"{label}: the input must have at least {rank + 1} dimensions, got {input.array.ndim}"
        )
    x, unbatch = batched(label, input, rank)
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * rank
    if len(wanted) != rank:
        raise RuntimeError(f"{label}: output_size must be one integer or {rank}, got {output_size!r}")
    spatial = x.array.shape[2:]
    if min(spatial) < 1:
        raise RuntimeError(
            f"{label}: Expected input to have non-zero size for non-batch dimensions, got {list(input.shape)}"
        )
    if output_size.__class__ is int and output_size >= 0:
        return x, unbatch, wanted
    counts = tuple(n if w is None else w for n, w in zip(spatial, wanted, strict=True))
    return x, unbatch, sizes(label, "output_size", counts, rank)


@lru_cache(maxsize=1024)
def _equal_windows(spatial: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...] | None:
    """The windows if they are equal and do not overlap, else None."""
    if 0 in counts or any(n % count for n, count in zip(spatial, counts, strict=True)):
        return None
    return tuple([n // count for n, count in zip(spatial, counts, strict=True)])


@lru_cache(256)
def _bin_means(n: int, count: int) -> Taps:
    """The means of [floor(i n / count), ceil((i + 1) n / count)) for all i below ``count``."""
    bins = [np.arange(i * n // count, -(-(i + 1) * n // count)) for i in range(count)]
    lengths = np.array([len(places) for places in bins], np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    places = np.concatenate([*bins, np.zeros(0, np.int64)]).astype(np.int64)
    return Taps(starts, places, 1 / np.repeat(lengths, lengths), n)


def _adaptive_avg_pool(label: str, rank: int, input: Tensor, output_size: Any) -> Tensor:
    x, unbatch, counts = _adaptive(label, rank, input, output_size)
    spatial = x.array.shape[2:]
    if set(counts) == {1}:
        return unbatch(x.mean(tuple(range(2, rank + 2)), keepdim=True))
    kernel = _equal_windows(spatial, counts)
    if kernel is not None:
        if math.prod(kernel) <= _SMALL_WINDOW or not x.is_cuda:
            return unbatch(pooling.avg_pool(x, kernel, kernel, (0,) * rank, False, True, None))
        bins = [size for pair in zip(counts, kernel, strict=True) for size in pair]
        return unbatch(x.reshape((*x.array.shape[:2], *bins)).mean(tuple(range(3, 2 * rank + 2, 2))))
    for axis, (n, count) in enumerate(
        zip(spatial, counts, strict=True), 2
    ):  # a mean over a box is one an axis
        x = resample(x, axis, _bin_means(n, count))
    return unbatch(x)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """Means over ``output_size`` windows that cover one spatial axis evenly."""
    return _adaptive_avg_pool("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows that cover two spatial axes evenly.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: number of windows, one an axis or one for both; None keeps an axis.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.adaptive_avg_pool2d(nbdl.arange(16.0).reshape(1, 4, 4), 1)
        tensor([[[7.5000]]])
    """
    return _adaptive_avg_pool("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """Means over windows that cover three spatial axes evenly."""
    return _adaptive_avg_pool("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_max_pool(label: str, rank: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    x, unbatch, counts = _adaptive(label, rank, input, output_size)
    if 0 in input.array.shape[1:]:
        raise RuntimeError(
            f"{label}: Expected input to have non-zero size for non-batch dimensions, got {list(input.shape)}"
        )
    kernel = _equal_windows(x.array.shape[2:], counts)
    if kernel is not None and math.prod(kernel) <= _SMALL_WINDOW:
        values, indices = pooling.max_pool(x, kernel, kernel, (0,) * rank, (1,) * rank, False)
    else:
        values, indices = pooling.adaptive_max_pool(x, counts)
    return (unbatch(values), unbatch(indices)) if return_indices else unbatch(values)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over ``output_size`` windows that cover one spatial axis evenly."""
    return _adaptive_max_pool("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over windows that cover two spatial axes evenly.

    Args:
        input: (N, C, H, W) or (C, H, W).
        output_size: number of windows, one an axis or one for both; None keeps an axis.
        return_indices: return the int64 positions in the flattened (H, W) as well.
    """
    return _adaptive_max_pool("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over windows that cover three spatial axes evenly."""
    return _adaptive_max_pool("adaptive_max_pool3d", 3, input, output_size, return_indices)

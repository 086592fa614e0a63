"""Maxima over windows at random places: pooling by factors that are no integers.

Source: Graham (2014), Fractional max-pooling.
"""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional.sizes import batched, sizes
from nbdl.ops.pooling import fractional_max_pool
from nbdl.ops.random import rand


def _counts(label: str, spatial: tuple[int, ...], output_size: Any, output_ratio: Any) -> tuple[int, ...]:
    rank = len(spatial)
    if output_size is not None:
        return sizes(label, "output_size", output_size, rank, least=1)
    if output_ratio is None:
        raise ValueError(f"{label}: requires specifying either an output_size or an output_ratio")
    ratios = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * rank
    if len(ratios) != rank or not all(0 < ratio < 1 for ratio in ratios):
        raise ValueError(f"{label}: output_ratio must be {rank} numbers between 0 and 1, got {output_ratio}")
    return tuple(int(n * ratio) for n, ratio in zip(spatial, ratios, strict=True))


def _fractional(
    label: str,
    rank: int,
    input: Tensor,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    samples: Tensor | None,
) -> Any:
    x, unbatch = batched(label, input, rank)
    kernel = sizes(label, "kernel_size", kernel_size, rank, least=1)
    batch, channels, *spatial = x.array.shape
    counts = _counts(label, tuple(spatial), output_size, output_ratio)
    for n, window, count in zip(spatial, kernel, counts, strict=True):
        if count < 1 or count + window - 1 > n:
            raise RuntimeError(
                f"{label}: pooling windows {kernel} and output size {counts} are too large for an input of "
                f"{tuple(spatial)}"
            )
    if samples is None:
        samples = rand(batch, channels, rank, dtype=x.dtype, device=x.device)
    if input.array.ndim == rank + 1 and len(samples.array) > 1:
        samples = samples[:1]  # as PyTorch does
    if samples.array.shape != (batch, channels, rank):
        raise RuntimeError(
            f"{label}: _random_samples must be ({batch}, {channels}, {rank}), got {tuple(samples.shape)}"
        )
    values, indices = fractional_max_pool(x, samples, kernel, counts)
    return (unbatch(values), unbatch(indices)) if return_indices else unbatch(values)


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """Maxima over windows whose distances are drawn at random, so that a given size results.

    Args:
        input: (N, C, H, W) or (C, H, W).
        kernel_size: size of the windows.
        output_size: how many windows, one number or one an axis.
        output_ratio: their number as a part of the size of the input, in (0, 1), instead.
        return_indices: return the int64 positions in the flattened (H, W) as well.
        _random_samples: (N, C, 2) numbers in [0, 1) to be used instead of random ones.

    Raises:
        ValueError: neither an output size nor a ratio in (0, 1) is given.
        RuntimeError: the windows do not fit.
    """
    return _fractional(
        "fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, return_indices,
        _random_samples,
    )  # fmt: skip


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Any:
    """The same over three spatial axes, see :func:`fractional_max_pool2d`."""
    return _fractional(
        "fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, return_indices,
        _random_samples,
    )  # fmt: skip

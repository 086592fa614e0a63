"""Images, sequences and volumes at another size.

Every mode is separable: along one axis each output is a weighted sum of a few inputs, its taps. Where the
taps are and what they weigh depends on sizes only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.backend.resampling import Taps
from nbdl.nn.functional.adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from nbdl.ops.resampling import resample

_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
_RANKS = {
    "nearest": (1, 2, 3),
    "nearest-exact": (1, 2, 3),
    "area": (1, 2, 3),
    "linear": (1,),
    "bilinear": (2,),
    "bicubic": (2,),
    "lanczos": (2,),
    "trilinear": (3,),
}
_LINEAR = ("linear", "bilinear", "trilinear")
_ANTIALIASED = ("bilinear", "bicubic", "lanczos")


class _Axis(NamedTuple):
    """One axis: ``n`` elements become ``size``; neighbours lie ``scale`` input elements apart."""

    n: int
    size: int
    scale: float


# -------------------------------------------------------------------------------------- filters and taps
def cubic_weight(x: Any, a: float, where: Callable[..., Any], distance: Callable[[Any], Any]) -> Any:
    """Keys' cubic convolution kernel; of arrays or of formulas, whose ``where`` and ``abs`` are given.

    Source: Keys (1981), Cubic convolution interpolation for digital image processing, equation 4.
    """
    t = distance(x)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return where(t <= 1, near, where(t < 2, far, 0 * t))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(x), 0)


def _cubic(x: np.ndarray) -> np.ndarray:
    return cubic_weight(x, -0.5, np.where, np.abs)


def _lanczos(x: np.ndarray) -> np.ndarray:
    return np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)


_FILTERS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0), "lanczos": (_lanczos, 3.0)}


@lru_cache(256)
def _nearest_taps(axis: _Axis, exact: bool, dtype: np.dtype) -> Taps:
    """The input of every output; rounded as PyTorch does, in float32 unless the data are float64."""
    float_type = np.float64 if dtype == np.float64 else np.float32
    places = np.arange(axis.size).astype(float_type)
    scale = float_type(axis.scale)
    source = scale * (places + float_type(0.5)) if exact else scale * places
    places = np.minimum(np.floor(source.astype(np.float32)).astype(np.int64), axis.n - 1)
    return Taps.of_rows(places[:, None], np.ones((axis.size, 1)), axis.n)


@lru_cache(256)
def _smooth_taps(axis: _Axis, cubic: bool, align_corners: bool) -> Taps:
    """Two or four inputs an output; those beyond the ends are moved to the ends."""
    places = np.arange(axis.size, dtype=np.float64)
    source = axis.scale * places if align_corners else axis.scale * (places + 0.5) - 0.5
    if not cubic:
        source = np.maximum(source, 0)
    first = np.floor(source)
    t = source - first
    if cubic:
        offsets = np.arange(-1, 3)
        weights = cubic_weight(t[:, None] - offsets, -0.75, np.where, np.abs)
    else:
        offsets = np.arange(2)
        weights = np.stack([1 - t, t], 1)
    taps = np.clip(first[:, None].astype(np.int64) + offsets, 0, axis.n - 1)
    return Taps.of_rows(taps, weights, axis.n)


@lru_cache(256)
def _filter_taps(axis: _Axis, mode: str) -> Taps:
    """The inputs under a filter that is stretched over all those which an output stands for."""
    kernel, support = _FILTERS[mode]
    stretch = max(axis.scale, 1.0)
    centre = axis.scale * (np.arange(axis.size) + 0.5)
    first = np.maximum((centre - support * stretch + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support * stretch + 0.5).astype(np.int64), axis.n)
    places = first[:, None] + np.arange((stop - first).max())
    weights = kernel((places - centre[:, None] + 0.5) / stretch) * (places < stop[:, None])
    return Taps.of_rows(np.minimum(places, axis.n - 1), weights / weights.sum(1, keepdims=True), axis.n)


# -------------------------------------------------------------------------------------------------- arguments
def _per_axis(name: str, value: Any, rank: int) -> tuple:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * rank
    if len(values) != rank:
        raise ValueError(
            f"interpolate: Input and {name} must have the same number of spatial dimensions, but got input "
            f"with {rank} spatial dimensions and {name} of {value!r}"
        )
    return values


def _target(
    spatial: Sequence[int], size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[tuple[int, ...], tuple[float | None, ...]]:
    """The sizes of the result, and the scale factors that are used for the positions; None: of the sizes."""
    rank = len(spatial)
    unscaled = (None,) * rank
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: exactly one of size and scale_factor must be defined")
    if size is not None:
        if recompute:
            raise ValueError("interpolate: recompute_scale_factor is not meaningful with an explicit size")
        return tuple(int(n) for n in _per_axis("size", size, rank)), unscaled
    factors = tuple(float(factor) for factor in _per_axis("scale_factor", scale_factor, rank))
    counts = tuple(math.floor(n * factor) for n, factor in zip(spatial, factors, strict=True))
    return counts, unscaled if recompute else factors


def _axes(
    spatial: Sequence[int], counts: Sequence[int], factors: Sequence[float | None], align_corners: bool
) -> list[_Axis]:
    axes = []
    for n, count, factor in zip(spatial, counts, factors, strict=True):
        if align_corners:
            scale = (n - 1) / (count - 1) if count > 1 else 0.0
        else:
            scale = 1 / factor if factor else n / count
        axes.append(_Axis(n, count, scale))
    return axes


def _check(input: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _RANKS:
        raise NotImplementedError(f"interpolate: unknown mode {mode!r}; expected one of {', '.join(_RANKS)}")
    rank = input.array.ndim - 2
    if rank not in _RANKS[mode]:
        expected = " or ".join(f"{allowed + 2}D" for allowed in _RANKS[mode])
        raise NotImplementedError(
            f"interpolate: mode {mode!r} needs {expected} input (N, C, *size), got {input.array.ndim}D input"
        )
    if align_corners is not None and mode in ("nearest", "nearest-exact", "area"):
        raise ValueError(
            "interpolate: align_corners option can only be set with the interpolating modes: linear | "
            f"bilinear | bicubic | lanczos | trilinear, got mode={mode!r}"
        )
    if antialias and mode not in _ANTIALIASED:
        raise ValueError(
            "interpolate: Anti-alias option is restricted to bilinear, bicubic and lanczos modes, got "
            f"mode={mode!r}"
        )
    if mode == "lanczos" and not antialias:
        raise ValueError("interpolate: mode 'lanczos' requires antialias=True")
    if mode == "lanczos" and align_corners:
        raise ValueError("interpolate: mode 'lanczos' does not support align_corners=True")


def interpolate(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """The input at another spatial size.

    Args:
        input: (N, C, L), (N, C, H, W) or (N, C, D, H, W).
        size: spatial sizes of the result, one for all axes or one an axis.
        scale_factor: how many times larger the result is, instead of ``size``.
        mode: ``nearest`` (a floor, as in old OpenCV), ``nearest-exact``, ``linear`` (3-D), ``bilinear`` and
            ``bicubic`` (4-D), ``trilinear`` (5-D), ``area`` (adaptive means) or ``lanczos`` (4-D,
            antialiased).
        align_corners: map the centres of the first and last elements onto each other, instead of the edges.
        recompute_scale_factor: compute positions from the sizes, instead of the ``scale_factor`` given.
        antialias: stretch the filter of ``bilinear`` or ``bicubic`` when the result is smaller.

    Raises:
        ValueError: not exactly one of size and scale factor is given, or options contradict each other.
        NotImplementedError: the mode is unknown, or not for so many axes.
        RuntimeError: a size of the input or of the result is not positive.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.interpolate(nbdl.tensor([[[0.0, 1.0]]]), scale_factor=2, mode="linear")
        tensor([[[0.0000, 0.2500, 0.7500, 1.0000]]])
    """
    _check(input, mode, align_corners, antialias)
    spatial = input.array.shape[2:]
    counts, factors = _target(spatial, size, scale_factor, recompute_scale_factor)
    if min(spatial) < 1 or min(counts) < 1:
        raise RuntimeError(
            "interpolate: Input and output sizes should be greater than 0, but got input "
            f"{tuple(spatial)} and output {counts}"
        )
    if mode == "area":
        return _AREA[len(spatial)](input, counts)
    aligned = bool(align_corners)
    axes = _axes(spatial, counts, factors, aligned)
    x = input
    for dim, axis in enumerate(axes, 2):
        x = resample(x, dim, _taps(axis, mode, aligned, antialias, input.dtype))
    return x


def _taps(axis: _Axis, mode: str, align_corners: bool, antialias: bool, dtype: np.dtype) -> Taps:
    if mode.startswith("nearest"):
        return _nearest_taps(axis, mode == "nearest-exact", dtype)
    return _filter_taps(axis, mode) if antialias else _smooth_taps(axis, mode == "bicubic", align_corners)


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
) -> Tensor:
    """An older name of :func:`interpolate`."""
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """:func:`interpolate` with mode ``nearest``."""
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """:func:`interpolate` with mode ``bilinear`` and aligned corners."""
    return interpolate(input, size, scale_factor, "bilinear", align_corners=True)

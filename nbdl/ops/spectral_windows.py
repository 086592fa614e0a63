"""Windows for spectra: cosine sums, Bartlett's, Kaiser's."""

from __future__ import annotations

import math
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.creation import arange
from nbdl.ops.special_functions import i0

__all__ = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]


def _places(label: str, length: int, periodic: bool, device: Any) -> tuple[Tensor, int]:
    """0 ... length - 1 in double precision, and the place where the window ends."""
    if length < 0:
        raise RuntimeError(f"{label}: requires non-negative window_length, got window_length={length}")
    return arange(length, dtype="float64", device=device), max(1, length if periodic else length - 1)


def _finished(window: Tensor, length: int, dtype: Any, requires_grad: bool) -> Tensor:
    if length == 1:
        window = window.ones_like()
    result = window.to(dtypes.get_default_dtype() if dtype is None else dtype)
    return result.requires_grad_() if requires_grad else result


def _cosines(
    label: str, length: int, periodic: bool, weights: tuple[float, ...], dtype: Any, device: Any, grad: bool
) -> Tensor:
    """weights[0] - weights[1] cos(t) + weights[2] cos(2 t) with t from 0 to 2 pi."""
    places, end = _places(label, length, periodic, device)
    window = places * 0 + weights[0]
    for k, weight in enumerate(weights[1:], 1):
        window = window + (-1) ** k * weight * (places * (2 * math.pi * k / end)).cos()
    return _finished(window, length, dtype, grad)


def hann_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """(1 - cos t) / 2 for t from 0 to 2 pi.

    Args:
        window_length: number of points.
        periodic: leave out the last one, as for a window that is repeated.
        dtype: default: the default dtype.
        device: where the result is made.
        requires_grad: whether gradients shall flow to it.

    Raises:
        RuntimeError: the length is negative.
    """
    return _cosines("hann_window", window_length, periodic, (0.5, 0.5), dtype, device, requires_grad)


def hamming_window(
    window_length: int,
    periodic: bool = True,
    alpha: float = 0.54,
    beta: float = 0.46,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """alpha - beta cos t; further arguments as for :func:`hann_window`."""
    return _cosines("hamming_window", window_length, periodic, (alpha, beta), dtype, device, requires_grad)


def blackman_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """0.42 - 0.5 cos t + 0.08 cos 2t; arguments as for :func:`hann_window`."""
    weights = (0.42, 0.5, 0.08)
    return _cosines("blackman_window", window_length, periodic, weights, dtype, device, requires_grad)


def bartlett_window(
    window_length: int,
    periodic: bool = True,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A triangle from 0 to 1 and back; arguments as for :func:`hann_window`."""
    places, end = _places("bartlett_window", window_length, periodic, device)
    return _finished(1 - (places * (2 / end) - 1).abs(), window_length, dtype, requires_grad)


def kaiser_window(
    window_length: int,
    periodic: bool = True,
    beta: float = 12.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """i0(beta sqrt(1 - u^2)) / i0(beta) for u from -1 to 1; further arguments as for :func:`hann_window`."""
    places, end = _places("kaiser_window", window_length, periodic, device)
    height = (1 - (places * (2 / end) - 1).square()).clamp(min=0).sqrt()
    top = i0((places * 0 + beta)[:1])
    return _finished(i0(height * beta) / top, window_length, dtype, requires_grad)

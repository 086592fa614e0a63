"""Counts: histograms, occurrences of integers, membership."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.reading import before_reading
from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula.expr import Expr
from nbdl.formula.functions import equal, floor, logical_and, minimum, where
from nbdl.ops import arithmetic
from nbdl.ops.clamping import clamp
from nbdl.ops.creation import arange, ones, tensor, zeros
from nbdl.ops.pointwise import call
from nbdl.ops.scattering import scatter_add
from nbdl.ops.searching import searchsorted
from nbdl.ops.selecting import IndexPut
from nbdl.ops.sorting import sort

__all__ = ["bincount", "histc", "histogram", "histogramdd", "isin"]

# Bounds that coincide are moved apart, by `margin` on either side.
_LOWER = Formula("lower_bound", lambda low, high, margin: where(equal(low, high), low - margin, low), 3)
_UPPER = Formula("upper_bound", lambda low, high, margin: where(equal(low, high), high + margin, high), 3)
# From both ends, so that the last edge is the bound itself.
_EDGE = Formula(
    "edge",
    lambda k, low, high, bins: where(
        k * 2 < bins + 1, low + k * ((high - low) / bins), high - (bins - k) * ((high - low) / bins)
    ),
    4,
)


def _bin_of(x: Expr, low: Expr, high: Expr, bins: Expr) -> Expr:
    place = (x - low) * bins / (high - low)
    return where(logical_and(place >= 0, x <= high), minimum(floor(place), bins - 1), bins)


# The bin of an element; what lies in none is counted behind the last one.
_BIN = Formula("bin", _bin_of, 4)


class Histogram(NamedTuple):
    """Counts of bins, and their edges."""

    hist: Tensor
    bin_edges: Tensor


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each integer occurs.

    Args:
        input: vector of integers that are not negative.
        weights: vector of what each one counts.
        minlength: least length of the result.

    Returns:
        Vector of length max(input) + 1 or more: int64, or the sums of the weights (in float64 if they are no
        floats).

    Raises:
        RuntimeError: an integer is negative, shapes differ, or there are no integers in ``input``.

    Example:
        >>> import nbdl
        >>> nbdl.bincount(nbdl.tensor([0, 2, 2]))
        tensor([1, 0, 2])
    """
    if input.array.ndim != 1 or input.array.dtype.kind not in "iu":
        raise RuntimeError(
            "bincount: only supports 1-d non-negative integral inputs, got "
            f"{input.dtype} of shape {list(input.array.shape)}"
        )
    if minlength < 0:
        raise RuntimeError(f"bincount: minlength should be >= 0, got {minlength}")
    if weights is not None and weights.array.shape != input.array.shape:
        raise RuntimeError(
            f"bincount: weights should be 1-d and have the same length as input, got shape "
            f"{list(weights.array.shape)} for {list(input.array.shape)}"
        )
    n = input.array.size
    before_reading(input, "the extrema (bincount)")
    low, high = (int(input.array.min()), int(input.array.max())) if n else (0, -1)
    if low < 0:
        raise RuntimeError(f"bincount: only supports 1-d non-negative integral inputs, got {low}")
    count, places = max(high + 1, minlength), input.to(np.int64)
    if weights is None:
        return _occurrences(places, count, np.int64)
    if not weights.is_floating_point():
        weights = weights.to(np.float64)
    none = weights.new_zeros(count)
    return scatter_add(none, 0, places, weights) if n else none


def _occurrences(places: Tensor, count: int, dtype: Any) -> Tensor:
    """How often each of ``count`` numbers is in a vector."""
    none = zeros(count, dtype=dtype, device=places.device)
    return apply(IndexPut.of((0,), True), none, ones(dtype=dtype, device=places.device), places)


def _bounds(x: Tensor, given: Sequence[float] | None, margin: float) -> tuple[Tensor, Tensor]:
    """The range of a histogram, of the data (0 to 1 for none) if it is not given; 0-d tensors that differ."""
    if given is None:
        first, last = (x.amin(), x.amax()) if x.array.size else (x.new_tensor(0.0), x.new_tensor(1.0))
    else:
        first, last = x.new_tensor(given[0]), x.new_tensor(given[1])
    return call(_LOWER, first, last, margin), call(_UPPER, first, last, margin)


def _check_bounds(label: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"{label}: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{label}: max must be larger than min, got range [{low}, {high}]")


def _edges(low: Tensor, high: Tensor, bins: int) -> Tensor:
    """The edges of ``bins`` bins of equal width."""
    places = arange(bins + 1, dtype=low.dtype, device=low.device)
    return call(_EDGE, places, low, high, float(bins))


def _counts(x: Tensor, edges: Tensor, weight: Tensor | None) -> Tensor:
    """What lies in each bin; a bin has its lower edge, the last one both."""
    flat = x.reshape(-1)
    weights = flat.ones_like() if weight is None else weight.reshape(-1)
    places, inside = _places(flat, edges)
    counted = arithmetic.where(inside, weights, weights.zeros_like())
    return scatter_add(counted.new_zeros(edges.array.size - 1), 0, places, counted)


def _places(x: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """The bin of every element, and whether it lies in one."""
    bins = edges.array.size - 1
    places = searchsorted(edges, x, right=True) - 1
    places = arithmetic.where(arithmetic.eq(x, edges[-1]), bins - 1, places)
    inside = arithmetic.logical_and(places >= 0, places < bins)
    return clamp(places, 0, bins - 1), inside


def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements lie in each of ``bins`` bins of equal width from ``min`` to ``max``.

    Args:
        input: floats; those outside the range, and NaN, are not counted.
        bins: number of bins.
        min: lower bound.
        max: upper bound, which is part of the last bin; if both are equal, the range of the data.

    Returns:
        Vector of the dtype of ``input``, without a gradient.

    Raises:
        RuntimeError: ``input`` is not of floats, or the range or ``bins`` make no sense.

    Example:
        >>> import nbdl
        >>> nbdl.histc(nbdl.tensor([1.0, 2.0, 2.5]), bins=3, min=0, max=3)
        tensor([0., 1., 2.])
    """
    if not input.is_floating_point():
        raise NotImplementedError(f"histc: expected a floating tensor, got {input.dtype}")
    if bins <= 0:
        raise RuntimeError(f"histc: bins must be > 0, got {bins}")
    _check_bounds("histc", min, max)
    x = input.detach()
    low, high = _bounds(x, None, 1.0) if min == max else (min, max)
    places = call(_BIN, x.reshape(-1), low, high, bins).to(np.int64)
    return _occurrences(places, bins + 1, x.dtype).narrow(0, 0, bins)


def histogram(
    input: Tensor,
    bins: int | Tensor,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Histogram:
    """Counts of elements in bins.

    Args:
        input: floats of any shape.
        bins: number of bins of equal width, or a rising vector of edges.
        range: (lower, upper) bound for a number of bins; default: of the data.
        weight: what each element counts, of the shape of ``input``.
        density: divide by the sum and by the widths, so that the integral is 1.

    Returns:
        (hist, bin_edges) of ``input``'s dtype. A bin has its lower edge, the last one both.

    Raises:
        RuntimeError: dtypes or shapes do not fit, or the range makes no sense.
    """
    if not input.is_floating_point():
        raise RuntimeError(f"histogram: expected a floating tensor, got {input.dtype}")
    if weight is not None and (weight.array.shape != input.array.shape or weight.dtype != input.dtype):
        raise RuntimeError(
            f"histogram: weight must have the shape and dtype of input, {list(input.array.shape)} and "
            f"{input.dtype}, got {list(weight.array.shape)} and {weight.dtype}"
        )
    x = input.detach()
    if isinstance(bins, Tensor):
        if range is not None:
            raise TypeError("histogram: argument 'range' is for a number of bins, not for a tensor of edges")
        if bins.array.ndim != 1 or bins.array.size < 2 or bins.dtype != input.dtype:
            raise RuntimeError(
                f"histogram: bins must be a vector of 2 or more edges of dtype {input.dtype}, got "
                f"{list(bins.array.shape)} of {bins.dtype}"
            )
        edges = bins.detach()
    else:
        if bins <= 0:
            raise RuntimeError(f"histogram: bins must be > 0, got {bins}")
        if range is not None:
            _check_bounds("histogram", *range)
        low, high = _bounds(x, range, 0.5)
        edges = _edges(low, high, int(bins))
    hist = _counts(x, edges, None if weight is None else weight.detach())
    if density:
        hist = hist / (hist.sum() * (edges[1:] - edges[:-1]))
    return Histogram(hist, edges)


class HistogramDD(NamedTuple):
    """Counts, and the edges along every axis."""

    hist: Tensor
    bin_edges: tuple[Tensor, ...]


def histogramdd(
    input: Tensor,
    bins: int | Sequence[Any],
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> HistogramDD:
    """Counts of points in boxes.

    Args:
        input: floats (..., D), points of D coordinates.
        bins: number of bins of equal width of all axes, or of each axis; or rising edges of each.
        range: lower and upper bound for each axis, one behind the other; default: of the data.
        weight: what each point counts, of the shape of ``input`` without its last axis.
        density: divide by the sum and by the volumes, so that the integral is 1.

    Returns:
        (hist, bin_edges): counts with D axes, and D vectors. A bin has its lower edge, the last one both.

    Raises:
        RuntimeError: ``input`` is not of floats, there are not D numbers of bins, or the range is wrong.
    """
    if not input.is_floating_point() or input.array.ndim < 2:
        raise RuntimeError(
            f"histogramdd: expected floats with 2 or more axes, got {list(input.shape)} of {input.dtype}"
        )
    axes = input.array.shape[-1]
    counts = [bins] * axes if isinstance(bins, int) else list(bins)
    bounds = None if range is None else [tuple(pair) for pair in zip(range[::2], range[1::2], strict=True)]
    if len(counts) != axes or (bounds is not None and len(bounds) != axes):
        raise RuntimeError(f"histogramdd: expected bins and bounds for {axes} axes, got {bins} and {range}")
    points = input.detach().reshape((-1, axes))
    columns = [column.contiguous() for column in points.unbind(1)]
    each = [
        histogram(x, count, range=None if bounds is None else bounds[k]).bin_edges
        for k, (x, count) in enumerate(zip(columns, counts, strict=True))
    ]
    inside: Any = True
    number: Any = 0
    for x, edges in zip(columns, each, strict=True):
        places, within = _places(x, edges)
        inside = arithmetic.logical_and(within, inside)
        number = number * (edges.array.size - 1) + places
    weights = columns[0].ones_like() if weight is None else weight.detach().reshape(-1)
    counted = arithmetic.where(inside, weights, weights.zeros_like())
    shape = tuple([edges.array.size - 1 for edges in each])
    hist = scatter_add(counted.new_zeros(math.prod(shape)), 0, number, counted).reshape(shape)
    if density:
        hist = hist / hist.sum()
        for k, edges in enumerate(each):
            hist = hist / edges.diff().reshape((-1, *[1] * (axes - 1 - k)))
    return HistogramDD(hist, tuple(each))


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each of ``elements`` occurs in ``test_elements``.

    Args:
        elements: tensor or number.
        test_elements: tensor or number.
        assume_unique: accepted; the search does not need it.
        invert: whether it does not.

    Returns:
        bools of the shape of ``elements``.

    Raises:
        RuntimeError: both are numbers.

    Example:
        >>> import nbdl
        >>> nbdl.isin(nbdl.tensor([1, 2, 3]), nbdl.tensor([2, 5]))
        tensor([False,  True, False])
    """
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor):
        raise RuntimeError("isin: at least one of elements and test_elements must be a tensor")
    device = (elements if isinstance(elements, Tensor) else test_elements).device
    wanted, tests = [
        value.detach() if isinstance(value, Tensor) else tensor(value, device=device)
        for value in (elements, test_elements)
    ]
    dtype = dtypes.promote(wanted.dtype, tests.dtype)
    wanted, tests = wanted.to(dtype), tests.to(dtype).reshape(-1)
    if not tests.array.size:
        return wanted.new_full(wanted.array.shape, bool(invert), dtype=np.bool_)
    rising = sort(tests).values
    places = clamp(searchsorted(rising, wanted), max=tests.array.size - 1)
    nearest = rising.take(places)
    return arithmetic.ne(nearest, wanted) if invert else arithmetic.eq(nearest, wanted)

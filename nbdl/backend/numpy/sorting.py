"""Sorting and searching on NumPy arrays. NaN counts as the largest value everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes


class Sorting:
    """Primitives that find places; values are gathered from there."""

    xp: Any

    def argsort(self, x: Any, *, axis: int, descending: bool, out: Any = None) -> Any:
        """The places of the elements in rising (falling) order; equal ones keep their order; int64."""
        keys = _comparable(x)
        if descending:  # backwards twice, so that equal ones keep their order
            reversed_order = self.xp.flip(keys, axis).argsort(axis=axis, kind="stable")
            result = x.shape[axis] - 1 - self.xp.flip(reversed_order, axis)
        else:
            result = keys.argsort(axis=axis, kind="stable")
        return delivered(self.xp.ascontiguousarray(result), out)

    def argtopk(self, x: Any, *, k: int, axis: int, largest: bool, out: Any = None) -> Any:
        """The places of the ``k`` largest (smallest) elements, best first; int64."""
        keys, n = _comparable(x), x.shape[axis]
        pivot = max(0, n - k) if largest else min(k, n - 1)
        candidates = (
            keys.argpartition(pivot, axis=axis) if 0 < k < n else keys.argsort(axis=axis, kind="stable")
        )
        candidates = self.xp.sort(
            _part(candidates, axis, slice(n - k, n) if largest else slice(0, k)), axis=axis
        )
        order = self.argsort(self.xp.take_along_axis(keys, candidates, axis), axis=axis, descending=largest)
        return delivered(self.xp.take_along_axis(candidates, order, axis), out)

    def argkth(self, x: Any, *, k: int, axis: int, nan_wins: bool, out: Any = None) -> Any:
        """The place of the ``k``-th smallest element, counted from 0, along an axis that is kept; int64.

        Of equal ones it is the first. With ``nan_wins`` it is that of the first NaN where there is one.
        """
        keys = _comparable(x)
        pivot = _part(self.xp.partition(keys, k, axis=axis), axis, slice(k, k + 1))
        is_nan = keys != keys
        if nan_wins:
            pivot = self.xp.where(is_nan.any(axis=axis, keepdims=True), np.nan, pivot)
        found = (keys == pivot) | (is_nan & (pivot != pivot))
        return delivered(found.argmax(axis=axis, keepdims=True).astype(np.int64, copy=False), out)

    def searchsorted(self, boundaries: Any, values: Any, *, right: bool, out: Any = None) -> Any:
        """Where ``values`` belong in rising ``boundaries``: how many are below them (or equal, if ``right``).

        Args:
            boundaries: (n,), or (..., n) with the leading axes of ``values``.
            values: any shape, or (..., m).
            right: count equal ones.
            out: receives the result, int64.
        """
        side = "right" if right else "left"
        keys, wanted = _comparable(boundaries), _comparable(values)
        if keys.ndim == 1:
            result = self.xp.asarray(self.xp.searchsorted(keys, wanted, side=side))
        else:
            result = self.xp.empty(wanted.shape, np.int64)
            for place in np.ndindex(*keys.shape[:-1]):
                result[place] = self.xp.searchsorted(keys[place], wanted[place], side=side)
        return delivered(result.astype(np.int64, copy=False), out)

    def unique(self, x: Any, *, axis: int | None, out: Any = None) -> Any:
        """The different elements (or slices along ``axis``) in rising order; every NaN is different.

        Returns:
            The elements, for every element of ``x`` its place among them (int64), and how often each occurs
            (int64).
        """
        values, inverse, counts = self.xp.unique(
            _comparable(x), return_inverse=True, return_counts=True, axis=axis, equal_nan=False
        )
        shape = x.shape if axis is None else (x.shape[axis],)
        inverse, counts = inverse.astype(np.int64).reshape(shape), counts.astype(np.int64)
        return delivered((values.astype(x.dtype), inverse, counts), out)


def _comparable(x: Any) -> Any:
    """``x`` in a dtype that sorts: NumPy does not know bfloat16's NaN."""
    return x.astype(np.float32) if dtypes.is_bfloat16(x.dtype) else x


def _part(x: Any, axis: int, window: slice) -> Any:
    return x[(slice(None),) * axis + (window,)]

"""Sparse linear maps along an axis: which elements are added up, with which weights."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Taps"]


class Taps:
    """Element j of the result is the sum of ``weights[k] x[places[k]]``, ``starts[j] <= k < starts[j + 1]``.

    Two are never equal: whoever makes them keeps them, as primitives and plans are kept by them.

    Attributes:
        starts: int64 (count + 1,).
        places: int64 (terms,).
        weights: float64 (terms,).
        length: of the axis of x.
    """

    def __init__(
        self, starts: NDArray[np.int64], places: NDArray[np.int64], weights: NDArray[np.float64], length: int
    ):
        self.starts, self.places, self.weights, self.length = starts, places, weights, length
        self._cast: dict[np.dtype, NDArray] = {}
        self._columns: dict[tuple[Any, np.dtype], list[tuple[Any, Any, Any]]] = {}
        self._on: dict[tuple[Any, np.dtype], tuple[Any, Any, Any]] = {}

    @classmethod
    def of_rows(cls, places: NDArray[np.int64], weights: NDArray[np.float64], length: int) -> Taps:
        """Of (count, k) places and weights."""
        count, k = places.shape
        starts = np.arange(count + 1, dtype=np.int64) * k
        return cls(
            starts, np.ascontiguousarray(places.reshape(-1), np.int64), weights.reshape(-1) * 1.0, length
        )

    @property
    def count(self) -> int:
        """Length of the axis of the result."""
        return len(self.starts) - 1

    def weights_as(self, dtype: np.dtype) -> NDArray:
        """The weights in a dtype; the same array each time."""
        found = self._cast.get(dtype)
        if found is None:
            found = self._cast[dtype] = self.weights.astype(dtype)
        return found

    def on(self, xp: Any, device: Any, dtype: np.dtype) -> tuple[Any, Any, Any]:
        """(starts, places, weights) on a device, where they stay; see :meth:`columns`."""
        found = self._on.get((device, dtype))
        if found is None:
            starts, places, weights = map(xp.asarray, (self.starts, self.places, self.weights_as(dtype)))
            found = self._on[device, dtype] = starts, places, weights
        return found

    def columns(self, xp: Any, device: Any, dtype: np.dtype) -> list[tuple[Any, Any, Any]]:
        """The k-th terms of all elements that have so many: (elements, places, weights), for each k.

        Args:
            xp: the array module.
            device: where the arrays are; they stay there, as a program that is replayed may copy nothing.
            dtype: of the weights.
        """
        found = self._columns.get((device, dtype))
        if found is None:
            sizes = np.diff(self.starts)
            found = self._columns[device, dtype] = []
            for k in range(int(sizes.max(initial=0))):
                rows = np.flatnonzero(sizes > k)
                terms = self.starts[rows] + k
                weights = self.weights_as(dtype)[terms]
                found.append((xp.asarray(rows), xp.asarray(self.places[terms]), xp.asarray(weights)))
        return found

    @cached_property
    def run(self) -> tuple[int, int, int]:
        """The longest run of elements that are copies of neighbours: from, to, and their first place."""
        single = np.flatnonzero(np.diff(self.starts) == 1)
        terms = self.starts[single]
        single, places = single[self.weights[terms] == 1], self.places[terms][self.weights[terms] == 1]
        if not len(single):
            return 0, 0, 0
        breaks = np.flatnonzero((np.diff(single) != 1) | (np.diff(places) != 1)) + 1
        firsts, lasts = np.r_[0, breaks], np.r_[breaks, len(single)]
        k = int(np.argmax(lasts - firsts))
        return int(single[firsts[k]]), int(single[lasts[k] - 1]) + 1, int(places[firsts[k]])

    @cached_property
    def transposed(self) -> Taps:
        """The adjoint map."""
        order = np.argsort(self.places, kind="stable")
        rows = np.repeat(np.arange(self.count), np.diff(self.starts))
        starts = np.searchsorted(self.places[order], np.arange(self.length + 1)).astype(np.int64)
        other = Taps(starts, rows[order].astype(np.int64), self.weights[order], self.count)
        other.__dict__["transposed"] = self
        return other

"""Sets of elements in the Numba backend: integers of a short range are counted, which beats sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.results import delivered
from nbdl.backend.numpy.sorting import Sorting


class CountedSets(Sorting):
    """See :class:`~nbdl.backend.numpy.sorting.Sorting`; all that cannot be counted is left to NumPy."""

    def unique(self, x: Any, *, axis: int | None, out: Any = None) -> Any:
        """The different elements in rising order, the place of every element among them, and their counts."""
        if axis is not None or x.size == 0 or x.dtype.kind not in "iu":
            return super().unique(x, axis=axis, out=out)
        low, high = int(x.min()), int(x.max())
        if high - low >= x.size or high > np.iinfo(np.int64).max:
            return super().unique(x, axis=axis, out=out)
        places = x.reshape(-1).astype(np.int64, copy=False) - low
        counts = np.bincount(places, minlength=high - low + 1)
        present = counts != 0
        values = np.flatnonzero(present)
        inverse = (np.cumsum(present) - 1)[places].reshape(x.shape)
        found = (values + low).astype(x.dtype), inverse, counts[values].astype(np.int64, copy=False)
        return delivered(found, out)

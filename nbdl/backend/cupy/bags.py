"""Sums and means of table rows over bags of indices on the GPU: a thread a column of a bag."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.cupy.files import launch_each
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered
from nbdl.formula.dtypes import arithmetic_dtype


class CupyBags:
    """See :class:`~nbdl.backend.numpy.bags.Bags`.

    A row that does not exist gives NaN, and gets no gradient: to raise an error, the host would have to wait.
    """

    xp: Any
    cast: Any
    _kernels: Kernels

    def embedding_bag(
        self, table: Any, indices: Any, *starts: Any, mean: bool, padding: int | None, out: Any = None
    ) -> Any:
        """The sum or the mean of the rows of a table at the indices of every bag."""
        bags, rows = (starts[0] if starts else indices).shape[0], table.shape[0]
        result = target(self.xp, out, (bags, table.shape[1]), table.dtype, table)
        table = self.xp.ascontiguousarray(table)
        self._each("embedding_bag", table, result, (indices, *starts), result, rows, mean, padding)
        return delivered(result, out)

    def embedding_bag_input(
        self,
        g: Any,
        indices: Any,
        *starts: Any,
        mean: bool,
        padding: int | None,
        rows: int,
        out: Any = None,
    ) -> Any:
        """The gradient of :meth:`embedding_bag` by the table."""
        total = self.xp.zeros((rows, g.shape[1]), arithmetic_dtype(g.dtype))
        g = self.xp.ascontiguousarray(g)
        if g.shape[0] != (starts[0] if starts else indices).shape[0]:
            raise ValueError("one gradient is needed for every bag")
        self._each("embedding_bag_input", g, total, (indices, *starts), g, rows, mean, padding)
        result = total if total.dtype == g.dtype else self.cast(total, dtype=g.dtype)
        return delivered(result, out)

    def _each(
        self,
        name: str,
        x: Any,
        y: Any,
        places: tuple[Any, ...],
        of_bags: Any,
        rows: int,
        mean: bool,
        padding: int | None,
    ) -> None:
        """A thread for each element of ``of_bags`` (bags, width)."""
        bags, width = of_bags.shape
        wide = [
            place if place.dtype == np.int64 else self.cast(place, dtype=np.dtype(np.int64))
            for place in places
        ]
        indices, *starts = map(self.xp.ascontiguousarray, wide)
        length = 0 if starts else indices.size // max(bags, 1)
        sizes = rows, width, bags, indices.size, length, -1 if padding is None else padding
        operands = x, indices, starts[0] if starts else indices, y
        flags = np.int32(bool(starts)), np.int32(mean)
        launch_each(
            self._kernels, name, "bags.cu", x.dtype, operands, of_bags.size, *map(np.int64, sizes), *flags
        )

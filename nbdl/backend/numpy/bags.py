"""Sums and means of table rows over bags of indices, on NumPy arrays."""

from __future__ import annotations

from typing import Any

from nbdl.backend.numpy.results import delivered


class Bags:
    """What an embedding bag computes, and its gradient by the table."""

    xp: Any

    def embedding_bag(
        self, table: Any, indices: Any, *starts: Any, mean: bool, padding: int | None, out: Any = None
    ) -> Any:
        """The sum or the mean of the rows of a table at the indices of every bag.

        Args:
            table: (rows, D).
            indices: (bags, n), or (bags,) for bags of one; with ``starts`` the indices of all bags.
            starts: one vector: where each bag begins, or nothing.
            mean: divide by the number of indices that count, where there are any.
            padding: the row that does not count, not negative.
            out: (bags, D), receives the result.

        Raises:
            IndexError: an index is out of range.
        """
        rows, owner, factors, bags = self._bags(indices, starts, table, mean, padding)
        values = table[rows] * factors.astype(table.dtype)[:, None]
        return delivered(self._added((bags, table.shape[1]), owner, values), out)

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
        """The gradient of :meth:`embedding_bag` by the table.

        Args:
            g: gradient of the result, (bags, D).
            indices: of :meth:`embedding_bag`.
            starts: of :meth:`embedding_bag`.
            mean: of :meth:`embedding_bag`.
            padding: of :meth:`embedding_bag`.
            rows: of the table.
            out: (rows, D), receives the result.
        """
        shape = (rows, g.shape[1])
        places, owner, factors, _ = self._bags(indices, starts, self.xp.empty(shape, g.dtype), mean, padding)
        values = g[owner] * factors.astype(g.dtype)[:, None]
        return delivered(self._added(shape, places, values), out)

    def _bags(
        self, indices: Any, starts: tuple[Any, ...], table: Any, mean: bool, padding: int | None
    ) -> tuple[Any, Any, Any, int]:
        """For the indices that are in a bag: the row, the bag, the factor; and the number of bags."""
        xp = self.xp
        flat = indices.reshape(-1)
        if starts:
            bags = starts[0].size
            owner = xp.searchsorted(starts[0], xp.arange(flat.size), side="right") - 1
        else:
            bags = indices.shape[0]
            owner = xp.repeat(xp.arange(bags), indices.size // max(bags, 1))
        rows = flat[owner >= 0]
        owner = owner[owner >= 0]
        count = table.shape[0]  # what is too small must stay so, as the sum could be an index again
        rows = xp.where((rows < 0) & (rows >= -count), rows + count, rows)
        factors = xp.ones(rows.shape) if padding is None else (rows != padding).astype("float64")
        if mean:
            counts = xp.bincount(owner, weights=factors, minlength=max(bags, 1))
            factors = factors / xp.maximum(counts, 1)[owner]
        return rows, owner, factors, bags

    def _added(self, shape: tuple[int, ...], places: Any, values: Any) -> Any:
        """Rows of zeros to which rows were added."""
        result = self.xp.zeros(shape, values.dtype)
        if places.size:
            self.xp.add.at(result, places, values)
        return result

"""Sums and means of the rows of a table over bags of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.tape import apply
from nbdl.ops.primitive import LinearMap

if TYPE_CHECKING:
    from nbdl.autograd.batching import BatchLevel
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


class _OverBags(LinearMap):
    """What both directions have in common.

    Args:
        mean: divide by the number of indices that count.
        padding: the row that does not count, or None.
    """

    saved = frozenset((1, 2))

    def __init__(self, mean: bool, padding: int | None, **more: int):
        super().__init__(mean=mean, padding=padding, **more)
        self.is_mean, self.padding = mean, padding

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """Rows of all examples side by side, if the indices are the same in all."""
        if any(flags[1:]):
            return super().batch(values, flags, level)
        size, rows, width = values[0].array.shape
        together = self(values[0].movedim(0, 1).reshape(rows, size * width), *values[1:])
        return together.reshape(together.array.shape[0], size, width).movedim(1, 0)


class EmbeddingBag(_OverBags):
    """``embedding_bag(table, indices, starts?)``: (bags, D), linear in the table."""

    name = "embedding_bag"

    def batch(self, values: Sequence[Tensor], flags: Sequence[bool], level: BatchLevel) -> Any:
        """Also the bags of all examples one after the other, if the table is the same in all."""
        if len(values) > 2 or not flags[1] or flags[0]:
            return super().batch(values, flags, level)
        table, indices = values
        size, bags, *length = indices.array.shape
        return self(table, indices.reshape(size * bags, *length)).reshape(size, bags, table.array.shape[1])

    def check_values(self, *arrays: Any) -> None:
        """The indices are rows of the table."""
        rows, indices = arrays[0].shape[0], arrays[1]
        wrong = indices[(indices < -rows) | (indices >= rows)]
        if wrong.size:
            raise IndexError(
                f"{self.label}: index {wrong.flat[0]} is out of range for a table of {rows} rows"
            )

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient of every bag added to its rows."""
        (g,) = gradients
        primitive = EmbeddingBagInput.of(self.is_mean, self.padding, node.shape(0)[0])
        return apply(primitive, g, *_indices(node)), *[None] * (len(node.edges) - 1)  # type: ignore[arg-type]


class EmbeddingBagInput(_OverBags):
    """``embedding_bag_input(g, indices, starts?)``: the gradient by a table of so many rows; linear in g."""

    name = "embedding_bag_input"

    def __init__(self, mean: bool, padding: int | None, rows: int):
        super().__init__(mean, padding, rows=rows)

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The bags of the gradient's rows."""
        (h,) = gradients
        primitive = EmbeddingBag.of(self.is_mean, self.padding)
        return apply(primitive, h, *_indices(node)), *[None] * (len(node.edges) - 1)  # type: ignore[arg-type]


def _indices(node: Node) -> list[Tensor]:
    """Indices, and where bags begin if they say so."""
    return [node.input(k) for k in range(1, len(node.edges))]


def embedding_bag(
    table: Tensor, indices: Tensor, starts: Tensor | None, mean: bool, padding: int | None
) -> Tensor:
    """The sum or the mean of the rows of a table at the indices of every bag.

    Args:
        table: (rows, D).
        indices: integers (bags, n); with ``starts`` (all indices,).
        starts: where each bag begins; the last one ends with the indices.
        mean: the mean of what counts, not the sum.
        padding: the row that does not count, not negative; None: all count.

    Raises:
        IndexError: an index is out of range.
    """
    operands = (table, indices) if starts is None else (table, indices, starts)
    return apply(EmbeddingBag.of(mean, padding), *operands)

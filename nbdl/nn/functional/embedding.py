"""Rows of a table at integer indices."""

from __future__ import annotations

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.distance import vector_norm
from nbdl.ops import triangular
from nbdl.ops.creation import ones, zeros
from nbdl.ops.index_writing import index_copy_
from nbdl.ops.pointwise import call
from nbdl.ops.scattering import scatter_add
from nbdl.ops.searching import unique
from nbdl.ops.selecting import named, take_rows

_CONSTANT_WHERE = Formula(
    "padding_row", lambda index, padding, row, constant: f.where(f.equal(index, padding), constant, row), 4
)
# PyTorch's own constant keeps a renormalised row below the limit.
_LIMIT = Formula(
    "limit_norm", lambda row, norm, limit: f.where(norm > limit, row * (limit / (norm + 1e-7)), row), 3
)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight`` at the indices ``input``.

    Args:
        input: integers of any shape.
        weight: (number of rows, D).
        padding_idx: a row that gets no gradient.
        max_norm: rows that are used and longer than this are scaled down to it first, in place.
        norm_type: order of that norm.
        scale_grad_by_freq: divide the gradient of a row by the number of its uses.
        sparse: not supported: gradients are dense.

    Returns:
        (*input.shape, D)

    Raises:
        IndexError: an index is out of range.
        RuntimeError: ``padding_idx`` is out of range, the table has not two axes, or the indices are no
            integers.
        ValueError: sparse gradients are asked for.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.embedding(nbdl.tensor([1, 0]), nbdl.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[3., 4.],
                [1., 2.]])
    """
    if weight.array.ndim != 2:
        raise RuntimeError(f"embedding: 'weight' must be 2-D, got shape {tuple(weight.shape)}")
    if input.dtype.kind not in "iu":
        raise RuntimeError(f"embedding: the indices must be integers, got {input.dtype}")
    if sparse:
        raise ValueError("embedding: sparse=True is not supported, gradients are dense; use sparse=False")
    rows = weight.array.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise RuntimeError(
                f"embedding: padding_idx must be within num_embeddings ({rows}), got {padding_idx}"
            )
        padding_idx %= rows
    if max_norm is not None:
        limit_rows(weight, input, max_norm, norm_type)
    try:
        out = take_rows(weight, input)
    except IndexError as error:
        raise named(error, "embedding") from None
    if not weight.requires_grad:
        return out
    if scale_grad_by_freq:
        share = out * _reciprocal_frequency(input, rows).to(out.dtype).unsqueeze(-1)
        out = share + (out - share).detach()
    if padding_idx is not None:
        out = call(_CONSTANT_WHERE, input.unsqueeze(-1), padding_idx, out, out.detach())
    return out


def limit_rows(weight: Tensor, input: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale down the rows at ``input`` that are longer than ``max_norm``, in place."""
    with no_grad():
        used = unique(input.reshape((input.array.size,)))
        table = weight.detach()
        chosen = take_rows(table, used)
        index_copy_(
            table, 0, used, call(_LIMIT, chosen, vector_norm(chosen, norm_type, 1, True), float(max_norm))
        )


def _reciprocal_frequency(input: Tensor, rows: int) -> Tensor:
    """1 / (how often the index occurs), for every index."""
    flat = input.reshape((input.array.size,))
    nothing = zeros(rows, dtype="float64", device=input.device)
    counts = scatter_add(nothing, 0, flat, ones(flat.array.size, dtype="float64", device=input.device))
    return 1 / take_rows(counts, input)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 vectors with a 1 at the class, along a new last axis.

    Args:
        tensor: integer classes.
        num_classes: length of the vectors; default: as long as the largest class needs.

    Raises:
        RuntimeError: a class is negative or too large.
    """
    return triangular.one_hot(tensor, num_classes)

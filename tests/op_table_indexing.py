"""Lines of the op table: writing at computed places, counting, combining."""

from __future__ import annotations

import warnings
from typing import Any

from op_samples import Op, between, bools, distinct, ints, op, positive, real

import nbdl


def index_reduce(x: Any, *args: Any, **options: Any) -> Any:
    """PyTorch's, which warns that it is new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return x.index_reduce(*args, **options)


def histogram(x: Any, edges: Any) -> Any:
    """PyTorch's, or ours, with edges that are yet to be sorted."""
    library = nbdl if isinstance(x, nbdl.Tensor) else __import__("torch")
    return library.histogram(x, edges.sort()[0])


COUNTING: list[Op] = [
    op("bincount", ints(0, 5, 9), orders=0),
    op("bincount", ints(0, 5, 9), positive(9, constant=True), 8, orders=0),
    op("histc", real(4, 5), 6, orders=0, half=False),
    op("histc", real(4, 5), 4, -1.0, 1.5, orders=0, half=False),
    op("histogram", real(4, 5), 6, orders=0, half=False),
    op("histogram", real(4, 5), 3, range=(-1.0, 1.0), density=True, orders=0, half=False),
    op(
        "histogram",
        real(20),
        between(0, 1, 4, constant=True),
        orders=0,
        half=False,
        call=histogram,
        twin=histogram,
    ),
    op("isin", ints(0, 9, 4, 3), ints(0, 9, 5), orders=0),
    op("isin", ints(0, 9, 4, 3), 4, invert=True, orders=0),
]

WRITING: list[Op] = [
    op("slice_scatter", real(5, 3), real(2, 3), 0, 1, 5, 2),
    op("slice_scatter", real(3, 4), real(3, 2), 1, -2),
    op("select_scatter", real(3, 4), real(3), 1, -1),
    op("diagonal_scatter", real(3, 4), real(3), 1),
    op("diagonal_scatter", real(2, 3, 3), real(2, 3), 0, 1, 2),
    op("put", real(3, 4), ints(0, 12, 2, 3), real(2, 3), accumulate=True),
    op("index_reduce", positive(3, 4), 0, ints(0, 3, 5), positive(5, 4), "prod", twin=index_reduce),
    op(
        "index_reduce",
        positive(3, 4),
        1,
        ints(0, 4, 5),
        positive(3, 5),
        "mean",
        include_self=False,
        twin=index_reduce,
    ),
    op("index_reduce", distinct(3, 4), 0, ints(0, 3, 5), distinct(5, 4), "amax", twin=index_reduce),
    op(
        "index_reduce",
        distinct(3, 4),
        0,
        ints(0, 3, 5),
        distinct(5, 4),
        "amin",
        include_self=False,
        twin=index_reduce,
    ),
    op("nonzero_static", bools(3, 4), size=15, orders=0, twin=None),
    op("unravel_index", ints(0, 12, 2, 3), (3, 4), orders=0),
]

COMBINING: list[Op] = [
    op("cartesian_prod", real(3), real(2), real(2)),
    op("combinations", real(4)),
    op("combinations", real(3), 2, with_replacement=True),
    op("block_diag", real(2, 3), real(2), real(1, 2)),
    op("split_with_sizes", real(5, 3), [1, 4], dim=0),
]

INDEXING_LINES: list[Op] = [*COUNTING, *WRITING, *COMBINING]

"""Reductions whose broadcast operands are too large for one piece are cut along an axis that is kept."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import nbdl
from nbdl.backend.numpy import reduction
from nbdl.formula import Formula
from nbdl.ops.reduction import Reduce

PRODUCT = Formula("product", lambda a, b: a * b, 2)
SHAPES = [
    ((4, 1, 5), (1, 3, 5)),
    ((4, 3, 5), (5,)),
    ((3, 5), (4, 1, 1)),
    ((4, 3, 5), ()),
    ((4, 3, 5), (4, 3, 5)),
]


@pytest.mark.parametrize("axes", [(2,), (0,), (1,), (0, 2), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["sum", "mean", "max"])
def test_pieces_give_what_the_whole_gives(kind, shapes, axes, monkeypatch):
    generator = np.random.default_rng(0)
    # Small integers: sums are exact in any order.
    operands = [nbdl.tensor(generator.integers(-8, 8, shape).astype(np.float64)) for shape in shapes]
    with nbdl.use_backend("numpy"):
        for keepdims in (False, True):
            reduce = Reduce.of(PRODUCT, kind, axes, keepdims, 0)
            whole = reduce(*operands).numpy()
            for block in (1, 7, 20, 40):
                with monkeypatch.context() as patch:
                    patch.setattr(reduction, "_BLOCK", block)
                    np.testing.assert_array_equal(reduce(*operands).numpy(), whole)


def test_distances_of_many_rows_need_little_memory():
    x, y = nbdl.randn(64, 600), nbdl.randn(500, 600)
    with nbdl.use_backend("numpy"):
        tracemalloc.start()
        try:
            distances = nbdl.cdist(x, y, 1.0)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert distances.shape == (64, 500)
    assert peak < 4 * 4 * reduction._BLOCK < 64 * 500 * 600 * 4

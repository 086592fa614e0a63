"""Rows added at an index, and joined arrays, of the Numba backend against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.backend import registry
from nbdl.backend.numba import indexing as planners
from nbdl.backend.numba import threads
from nbdl.backend.numba.indexing import plan_index_put
from nbdl.backend.numba.launch import launch
from nbdl.ops.joining import Concatenate
from nbdl.ops.selecting import IndexPut, take_rows

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")
ADD = IndexPut.of((0,), True)


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"], autouse=True)
def num_threads(request, monkeypatch):
    monkeypatch.setattr(planners, "tasks_for", lambda work, rows: max(1, min(request.param, rows)))
    NUMBA._forget_plans()
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield
    threads.set_num_threads(before)
    NUMBA._forget_plans()


def random(shape, dtype=np.float64, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def assert_adds(x, values, index):
    assert plan_index_put([x, values, index], [x], axes=(0,), accumulate=True) is not None
    expected = x.copy()
    np.add.at(expected, index, values)
    assert NUMBA.execute(ADD, [x, values, index], out=x) is x
    np.testing.assert_array_equal(x, expected)  # equal indices add up in their order, so bit by bit


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("index_shape", [(1,), (9,), (3, 4), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("row", [(), (1,), (3,), (2, 5), (64,), (130,), (3, 100)], ids=str)
def test_rows_are_added(row, index_shape, dtype):
    index = np.random.default_rng(1).integers(-6, 6, index_shape)  # few rows: they repeat
    assert_adds(random((6, *row), dtype), random((*index_shape, *row), dtype, 1), index)


def test_values_of_other_layouts():
    index = np.array([0, 2, 2, 1, -1])
    wide = random((5, 200))
    columns = np.broadcast_to(wide[:, :1], (5, 100))
    for values in (wide[:, ::2], wide[:, 99::-1], wide[::-1, :100], columns, wide[0, :100]):
        assert_adds(random((4, 100)), values, index)
    assert_adds(random((8, 150))[::2, 7:107], wide[:, :100], index)  # rows of a window
    assert_adds(random((4, 100)), np.array(0.5), index)


def test_an_index_out_of_range_is_passed_over_by_the_kernel():
    x, values, index = np.zeros((3, 2)), np.ones((4, 2)), np.array([0, 3, -4, 2])
    plan = plan_index_put([x, values, index], [x], axes=(0,), accumulate=True)
    launch(plan.block, x, values, index, x)
    np.testing.assert_array_equal(x, [[1, 1], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("x", "values", "index", "axes", "accumulate"),
    [
        (np.zeros((3, 2)), np.ones(2), np.zeros(4, np.int64), (0,), False),
        (np.zeros((3, 2)), np.ones(3), np.zeros(3, np.int64), (1,), True),
        (np.zeros((3, 2), np.int64), np.ones(2, np.int64), np.zeros(4, np.int64), (0,), True),
        (np.zeros((3, 2), np.float16), np.ones(2, np.float16), np.zeros(4, np.int64), (0,), True),
        (np.zeros((2, 3)).T, np.ones(2), np.zeros(4, np.int64), (0,), True),
        (np.zeros((3, 0)), np.ones(0), np.zeros(4, np.int64), (0,), True),
        (np.zeros((3, 2)), np.ones((3, 4, 2)).swapaxes(0, 1), np.zeros((4, 3), np.int64), (0,), True),
    ],
)  # fmt: skip
def test_what_is_left_to_numpy(x, values, index, axes, accumulate):
    assert plan_index_put([x, values, index], [x], axes=axes, accumulate=accumulate) is None
    primitive, expected = IndexPut.of(axes, accumulate), x.copy()
    SPECIFICATION.execute(primitive, [expected, values, index], out=expected)
    NUMBA.execute(primitive, [x, values, index], out=x)
    np.testing.assert_array_equal(x, expected)


def test_gradients_of_rows(backend):
    index = nbdl.tensor([[0, 2, 2], [1, 0, 2]])
    table = nbdl.tensor(random((4, 3)), requires_grad=True)
    assert gradcheck(lambda x: take_rows(x, index) ** 2, [table])
    assert gradgradcheck(lambda x: take_rows(x, index) ** 3, [table])
    take_rows(table, index).sum().backward()  # a gradient that is one number, repeated
    np.testing.assert_array_equal(table.grad.numpy(), np.repeat([[2.0], [1.0], [3.0], [0.0]], 3, axis=1))


def test_an_index_out_of_range(backend):
    with pytest.raises(IndexError, match="index 4 is out of bounds for dimension 0 with size 4"):
        nbdl.zeros(4, 2).index_add(0, nbdl.tensor([1, 4]), nbdl.ones(2, 2))
    x = nbdl.zeros(4, 2)
    x.index_add_(0, nbdl.tensor([1, 3]), nbdl.ones(2, 2))
    with pytest.raises(IndexError, match="index -5 is out of bounds"):  # the plan is made by now
        x.index_add_(0, nbdl.tensor([1, -5]), nbdl.ones(2, 2))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenation(axis):
    parts = []
    for k, n in enumerate((3, 0, 130)):
        shape = [40, 50, 60]
        shape[axis] = n
        parts.append(random(shape, np.float32, k))
    primitive = Concatenate.of(axis, (3, 0, 130))
    for operands in (parts, [part[::-1] for part in parts]):
        found = NUMBA.execute(primitive, operands)
        np.testing.assert_array_equal(found, np.concatenate(operands, axis), strict=True)
        assert found.flags.c_contiguous
        out = np.empty_like(found)
        assert NUMBA.execute(primitive, operands, out=out) is out
        np.testing.assert_array_equal(out, found)

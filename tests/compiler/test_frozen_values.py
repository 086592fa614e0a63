"""What a program would keep as it was, and what is said about it."""

from __future__ import annotations

import random

import numpy as np
import pytest

import nbdl


@pytest.mark.parametrize("draw", [random.random, np.random.rand, np.random.standard_normal])
def test_random_numbers_of_others_are_told(draw):
    with pytest.warns(UserWarning, match="were drawn while the function was recorded") as caught:
        nbdl.compile(lambda x: x * draw())(nbdl.ones(2))
    assert caught[0].filename == __file__


def test_own_random_numbers_are_fresh_and_nothing_is_told():
    f = nbdl.compile(lambda x: x * nbdl.rand(2))
    assert len({tuple(f(nbdl.ones(2)).tolist()) for _ in range(4)}) == 4


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    "convert",
    [
        nbdl.tensor,
        nbdl.from_numpy,
        nbdl.as_tensor,
        lambda x: nbdl.tensor(x, dtype=nbdl.float32),
        lambda x: nbdl.as_tensor(x, dtype=nbdl.float32),
        lambda x: nbdl.tensor(nbdl.from_numpy(x)),
        lambda x: nbdl.ones(3).new_tensor(x),
    ],
)
def test_arrays_of_numpy_are_read_at_every_call(convert, backend):
    array = np.ones(3)
    with nbdl.use_backend(backend):
        outside = nbdl.compile(lambda: convert(array) * 2)
        argument = nbdl.compile(lambda x: convert(x) * 2)
        for value in (1, 2, 3):
            array[:] = value
            assert outside().tolist() == [2 * value] * 3
            assert argument(np.full(3, value, float)).tolist() == [2 * value] * 3


@pytest.mark.parametrize("make", [lambda x: [x[0], 1.0], lambda x: [[x[0]], [2.0]], lambda x: [np.ones(2)]])
def test_lists_of_tensors_as_data_are_refused(make):
    with pytest.raises(nbdl.compiler.RecordingError, match=r"list of arrays or tensors .* use nbdl.stack"):
        nbdl.compile(lambda x: nbdl.tensor(make(x)))(nbdl.ones(2))


def table():
    """Functions that read an argument of NumPy as a number."""
    return {
        "number": lambda x, a: x * float(a[0]),
        "scalar": lambda x, a: x * a[0],
        "shape": lambda x, a: x.reshape(int(a[0]), -1),
        "branch": lambda x, a: x if a[0] > 1 else -x,
        "sum": lambda x, a: x + a.sum(),
        "result": lambda x, a: (x * 1, float(a[0])),
        "nested": lambda x, a: x * max(a.tolist()),
    }


@pytest.mark.parametrize("name", table())
def test_numbers_in_arguments_of_numpy(name):
    function = table()[name]
    compiled, x = nbdl.compile(function), nbdl.arange(4.0)
    for value in (1, 1, 2, 2, 1, 4):
        given, expected = (f(x, np.full(2, value)) for f in (compiled, function))
        nbdl.testing.assert_close(given, expected)


def test_arguments_of_numpy_that_nobody_reads():
    recorded = []
    compiled = nbdl.compile(lambda batch: recorded.append(1) or batch["x"] * 2)
    for k in range(6):
        batch = {"x": nbdl.full((2,), float(k)), "ids": np.arange(k, k + 3)}
        assert compiled(batch).tolist() == [2 * k] * 2
    assert len(recorded) == 2  # the second one shows that the values do not matter


def test_changed_arguments_of_numpy_are_refused():
    def function(x, a):
        a[0] = 5
        return x * 2

    with pytest.raises(nbdl.compiler.RecordingError, match="changes an array of NumPy that is an argument"):
        nbdl.compile(function)(nbdl.ones(2), np.zeros(2))
    array = np.zeros(2)
    compiled = nbdl.compile(lambda a: nbdl.from_numpy(a).add_(1))
    for k in (1, 2, 3):
        assert compiled(array).tolist() == [k, k] == array.tolist()


def test_results_that_are_no_tensors_are_new():
    compiled = nbdl.compile(lambda x: (x * 2, np.arange(2), [1, {"k": [2]}]))
    for _ in range(3):
        _, array, nest = compiled(nbdl.ones(1))
        assert array.tolist() == [0, 1] and nest == [1, {"k": [2]}]
        array += 1
        nest[1]["k"].append(3)


def test_tensors_from_outside_are_results(backend):
    total = nbdl.zeros(2)
    compiled = nbdl.compile(lambda x: (total.add_(x), total))
    for k in (1, 2, 3):
        changed, same = compiled(nbdl.ones(2))
        assert same is total and changed.tolist() == [k, k] == total.tolist()

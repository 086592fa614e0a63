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

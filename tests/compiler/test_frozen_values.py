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

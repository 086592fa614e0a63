"""Assignments that broadcast, and masks that are combined: what a pass leaves of them computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import nbdl

DTYPES = (nbdl.float64, nbdl.float32, nbdl.float16, nbdl.int64, nbdl.int8, nbdl.bool)
ASSIGNMENTS: dict[str, Callable[[Any], Any]] = {
    "a number": lambda x: x.fill_(1),
    "zeros": lambda x: x[1].zero_(),
    "an element": lambda x: x[2, 1].fill_(1),
    "a number to a column": lambda x: x[:, 1].fill_(1),
    "a number to a slice": lambda x: x.__setitem__((slice(None), slice(1, 3)), 1),
    "a 0-d tensor": lambda x: x.copy_(x.new_ones(())),
    "a row": lambda x: x.copy_(x[1].clone()),
    "a column": lambda x: x.copy_(x[:, 1:2].clone()),
    "a row of another dtype": lambda x: x.copy_(nbdl.ones(6, dtype=nbdl.int16)),
    "a row to a transposed one": lambda x: x.t()[1:5].copy_(x[:, 0].clone()),
    "a row, and a loop behind it": lambda x: x.copy_(x[1].clone()).mul_(2),
    "a number, and a loop behind it": lambda x: x.fill_(0).add_(1),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignments_that_broadcast(name, dtype, backend):
    if dtype == nbdl.bool and "loop" in name:
        pytest.skip("bools are no numbers")

    def function(x):
        copied = x.clone()
        ASSIGNMENTS[name](copied)
        return copied

    compiled = nbdl.compile(function)
    x = nbdl.arange(24).reshape(4, 6).remainder(7).to(dtype)
    for _ in range(2):
        assert compiled(x).equal(function(x))


MASKS: dict[str, Callable[[Any, Any], Any]] = {
    "and": lambda x, y: (x > 0) & (y > 0),
    "between": lambda x, y: nbdl.where((x > -1) & (x < 1), x, y),
    "not": lambda x, y: ~(x > 0),
    "or, as a factor": lambda x, y: ((x > 0) | (y > 0)).to(x.dtype) * x,
    "xor, counted": lambda x, y: ((x > 0) ^ (y > 0)).sum(0),
    "behind a product": lambda x, y: (x @ y.t() > 0) & ~(y @ x.t() > 1),
}


@pytest.mark.parametrize("dtype", [nbdl.float64, nbdl.float32, nbdl.int64], ids=str)
@pytest.mark.parametrize("name", MASKS)
def test_masks(name, dtype, backend):
    function = MASKS[name]
    compiled = nbdl.compile(function)
    x = (nbdl.arange(24).reshape(4, 6) * 5 % 13 - 6).to(dtype)
    for _ in range(2):
        assert compiled(x, x.flip(0)).equal(function(x, x.flip(0)))

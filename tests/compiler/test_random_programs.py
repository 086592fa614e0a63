"""Random functions, compiled against eager: the result is the same, up to rounding, at every call."""

from __future__ import annotations

import pytest
from compiler.random_programs import compare, compare_backward_outside
from hypothesis import given, settings
from hypothesis import strategies as st

import nbdl
from nbdl.compiler import PASSES

CODE = st.lists(st.integers(0, 10**6), min_size=1, max_size=8)
MANY = settings(max_examples=350, deadline=None, derandomize=True)
SOME = settings(MANY, max_examples=40)  # each of them compiles kernels of its own, or is long
FEW = settings(MANY, max_examples=8)


@pytest.mark.parametrize("order", [0, 1])
@MANY
@given(code=CODE)
def test_compiled_equals_eager_on_numpy(order, code):
    with nbdl.use_backend("numpy"):
        compare(code, nbdl.float64, order)


@pytest.mark.parametrize("order", [0, 1])
@SOME
@given(code=CODE)
def test_compiled_equals_eager_on_numba(order, code):
    with nbdl.use_backend("numba"):
        compare(code, nbdl.float64, order)


@SOME
@given(code=CODE)
def test_second_derivatives_equal_eager_on_numpy(code):
    with nbdl.use_backend("numpy"):
        compare(code, nbdl.float64, 2)


@FEW
@given(code=CODE)
def test_second_derivatives_equal_eager_on_numba(code):
    with nbdl.use_backend("numba"):
        compare(code, nbdl.float64, 2)


@settings(MANY, max_examples=150)
@given(code=CODE)
def test_backward_outside_equals_eager_on_numpy(code):
    with nbdl.use_backend("numpy"):
        compare_backward_outside(code, nbdl.float64)


@FEW
@given(code=CODE)
def test_backward_outside_equals_eager_on_numba(code):
    with nbdl.use_backend("numba"):
        compare_backward_outside(code, nbdl.float64)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@FEW
@given(code=CODE)
def test_compiled_equals_eager_in_single_precision(backend, code):
    with nbdl.use_backend(backend):
        compare(code, nbdl.float32, 1)


@pytest.mark.parametrize("alone", [*PASSES, None])
@FEW
@given(code=CODE)
def test_every_pass_alone_keeps_the_meaning(alone, code):
    with nbdl.use_backend("numpy"):
        compare(code, nbdl.float64, 1, without=[name for name in PASSES if name != alone])


@pytest.mark.parametrize("left_out", PASSES)
@FEW
@given(code=CODE)
def test_every_pass_can_be_left_out(left_out, code):
    with nbdl.use_backend("numba"):
        compare(code, nbdl.float64, 1, without=[left_out])

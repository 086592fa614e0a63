"""logsumexp, var, std, norm, counts: values, derivatives, extreme numbers, errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nbdl

RNG = np.random.default_rng(4)
X = RNG.standard_normal((3, 4))
CUBE = RNG.standard_normal((2, 3, 4))
HOLES = np.where(RNG.random((3, 4)) < 0.3, np.nan, X)

CASES = {
    "logsumexp": (lambda lib, x: x.logsumexp(1), X),
    "logsumexp, axes": (lambda lib, x: lib.logsumexp(x, (0, 2), keepdim=True), CUBE),
    "logsumexp, large": (lambda lib, x: x.logsumexp(0), 1000 * X),
    "logsumexp, scalar": (lambda lib, x: x.logsumexp(0), np.float64(3)),
    "var": (lambda lib, x: x.var(), X),
    "var, axis": (lambda lib, x: x.var(1), CUBE),
    "var, biased": (lambda lib, x: x.var(0, unbiased=False), CUBE),
    "var, flag": (lambda lib, x: x.var(False), CUBE),
    "var, correction": (lambda lib, x: lib.var(x, dim=(0, 2), correction=2, keepdim=True), CUBE),
    "std": (lambda lib, x: x.std(), X),
    "std, axes": (lambda lib, x: lib.std(x, dim=(-1, 0), keepdim=True), CUBE),
    "var_mean": (lambda lib, x: lib.var_mean(x, dim=1), CUBE),
    "std_mean": (lambda lib, x: lib.std_mean(x, dim=1, correction=0), CUBE),
    "norm": (lambda lib, x: x.norm(), X),
    "norm, fro": (lambda lib, x: x.norm("fro", 1), X),
    "norm, 1": (lambda lib, x: x.norm(1, 0), X),
    "norm, 3": (lambda lib, x: x.norm(3, (0, 2), True), CUBE),
    "norm, half": (lambda lib, x: x.norm(0.5, 1), X),
    "norm, -2": (lambda lib, x: x.norm(-2.0, 1), X),
    "norm, inf": (lambda lib, x: x.norm(math.inf, 1), X),
    "norm, -inf": (lambda lib, x: x.norm(-math.inf, 1), X),
    "nansum": (lambda lib, x: x.nansum(1), HOLES),
    "nanmean": (lambda lib, x: x.nanmean(0, keepdim=True), HOLES),
    "aminmax": (lambda lib, x: x.aminmax(dim=1), X),
    "amax": (lambda lib, x: x.amax((0, 1)), CUBE),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, orders=0 if "nan" in name else 2)


def test_nan_takes_no_gradient() -> None:
    x = nbdl.tensor([1.0, math.nan, 3.0], requires_grad=True)
    (by_sum,) = nbdl.autograd.grad(x.nansum(), x)
    (by_mean,) = nbdl.autograd.grad(x.nanmean(), x)
    assert by_sum.tolist() == [1, 0, 1]
    assert by_mean.tolist() == [0.5, 0, 0.5]


def test_logsumexp_of_infinities() -> None:
    inf = math.inf
    x = nbdl.tensor(
        [[-inf, -inf], [1.0, -inf], [inf, 0.0], [math.nan, 0.0]], dtype="float64", requires_grad=True
    )
    y = x.logsumexp(1)
    np.testing.assert_array_equal(y.detach().numpy(), [-inf, 1.0, inf, math.nan])
    y[:2].sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:2], [[0, 0], [1, 0]])


def test_logsumexp_of_nothing_and_of_integers() -> None:
    assert nbdl.zeros(2, 0).logsumexp(1).tolist() == [-math.inf, -math.inf]
    assert nbdl.tensor([0, 0]).logsumexp(0).item() == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1e4, 1e6])
def test_variance_far_from_zero(offset: float) -> None:
    x = np.linspace(0, 1, 1001, dtype=np.float32) + np.float32(offset)
    expected = x.astype(np.float64).var(ddof=1)
    assert nbdl.tensor(x).var().item() == pytest.approx(expected, rel=2e-4)


def test_degrees_of_freedom() -> None:
    assert math.isnan(nbdl.tensor([1.0]).var().item())
    assert nbdl.tensor([1.0]).var(correction=0).item() == 0
    assert math.isinf(nbdl.tensor([1.0, 2.0]).var(correction=3).item())


@pytest.mark.parametrize("p", [0.5, 1, 2, 3, math.inf])
def test_norm_of_zeros_has_no_slope(p: float) -> None:
    x = nbdl.zeros(3, dtype="float64", requires_grad=True)
    y = x.norm(p)
    y.backward()
    assert y.item() == 0
    assert x.grad.tolist() == [0, 0, 0]


def test_standard_deviation_of_equal_numbers_has_no_slope() -> None:
    x = nbdl.full((3,), 2.0, requires_grad=True)
    x.std().backward()
    assert x.grad.tolist() == [0, 0, 0]


def test_counts() -> None:
    x = nbdl.tensor([[0, 1, 2], [0, 0, 3]])
    assert x.count_nonzero().item() == 3
    assert x.count_nonzero(1).tolist() == [2, 1]
    assert x.count_nonzero(axis=(0, 1)).dtype == np.int64
    assert nbdl.tensor([0.0, 2.0, -1.0]).norm(0).item() == 2
    assert nbdl.tensor([1, 2]).nansum().item() == 3
    assert x.aminmax().max.item() == 3


ERRORS = {
    "var": (
        lambda x: x.to("int64").var(),
        RuntimeError,
        "var: only supports floating point tensors, got int64",
    ),
    "var, twice": (lambda x: x.var(0, True, correction=1), TypeError, "var: give unbiased or correction"),
    "var, axis": (lambda x: x.var(2), IndexError, "var: Dimension out of range"),
    "norm": (lambda x: x.norm("max"), ValueError, "norm: p must be a number, 'fro' or 'nuc', got 'max'"),
    "norm, dtype": (
        lambda x: x.to("int64").norm(),
        RuntimeError,
        "norm: only supports floating point tensors",
    ),
    "nanmean": (lambda x: x.to("int64").nanmean(), RuntimeError, "nanmean: only supports floating point"),
    "aminmax": (lambda x: x[:0].aminmax(dim=0), IndexError, "aminmax: expected dimension 0 to have elements"),
    "logsumexp": (lambda x: x.logsumexp((0, 0)), RuntimeError, "logsumexp: dim 0 appears multiple times"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(X))

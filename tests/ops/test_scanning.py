"""cumsum, cumprod, cummax, cummin, logcumsumexp, diff, linear_scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

RNG = np.random.default_rng(1)
X = RNG.standard_normal((3, 4))
ZEROS = np.array([[2.0, 0.0, 3.0, 4.0], [0.0, 5.0, 0.0, 2.0], [1.0, 2.0, 3.0, 0.0]])
DISTINCT = RNG.permutation(24).reshape(2, 3, 4).astype(float)

CASES = {
    "cumsum": (lambda lib, x: x.cumsum(0), X),
    "cumsum, last axis": (lambda lib, x: lib.cumsum(x, dim=-1), X),
    "cumsum, scalar": (lambda lib, x: x.cumsum(0), np.float64(2.0)),
    "cumprod": (lambda lib, x: x.cumprod(1), X),
    "cumprod, first axis": (lambda lib, x: x.cumprod(0), X),
    "cumprod, zeros": (lambda lib, x: x.cumprod(1), ZEROS),
    "cumprod, zeros, first axis": (lambda lib, x: x.cumprod(0), ZEROS),
    "prod, zeros": (lambda lib, x: x.prod(1), ZEROS),
    "logcumsumexp": (lambda lib, x: x.logcumsumexp(1), X),
    "logcumsumexp, large": (lambda lib, x: x.logcumsumexp(0), 300 * X),
    "cummax": (lambda lib, x: x.cummax(1), DISTINCT),
    "cummin": (lambda lib, x: lib.cummin(x, dim=2), DISTINCT),
    "diff": (lambda lib, x: x.diff(), X),
    "diff, twice": (lambda lib, x: lib.diff(x, n=2, dim=0), X),
    "diff, joined": (lambda lib, x, y: x.diff(dim=1, prepend=y, append=y), X, X[:, :2]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_linear_scan(reverse: bool, axis: int, check_op: Any, backend: str) -> None:
    a, b = RNG.standard_normal((2, 3, 4))
    found = nbdl.linear_scan(nbdl.tensor(a), nbdl.tensor(b), axis, reverse).numpy()
    factors, terms = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    y, expected = np.zeros_like(terms[0]), np.empty_like(terms)
    order = range(len(terms))
    for t in reversed(order) if reverse else order:
        expected[t] = y = factors[t] * y + terms[t]
    np.testing.assert_allclose(found, np.moveaxis(expected, 0, axis), rtol=1e-14)
    check_op(lambda lib, a, b: nbdl.linear_scan(a, b, axis, reverse), a, b, twin=False)


def test_linear_scan_broadcasts_and_promotes() -> None:
    y = nbdl.linear_scan(nbdl.tensor(0.5), nbdl.tensor([1.0, 1.0, 1.0], dtype="float64"))
    assert y.dtype == np.float64
    assert y.tolist() == [1.0, 1.5, 1.75]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32"])
def test_integers_are_summed_in_int64(dtype: str) -> None:
    x = nbdl.tensor([1, 1, 0, 1], dtype=dtype)
    assert x.cumsum(0).dtype == np.int64
    assert x.cumsum(0).tolist() == [1, 2, 2, 3]
    assert x.cumprod(0).tolist() == [1, 1, 0, 0]
    assert x.cumsum(0, dtype="float32").dtype == np.float32


def test_halves_are_accumulated_in_float32() -> None:
    x = nbdl.ones(5000, dtype="float16")
    assert x.cumsum(0)[-1].item() == 5000


def test_non_finite(backend: str) -> None:
    nan, inf = float("nan"), float("inf")
    values, indices = nbdl.tensor([1.0, 1.0, nan, 0.0, nan]).cummax(0)
    np.testing.assert_array_equal(values.numpy(), [1, 1, nan, nan, nan])
    assert indices.tolist() == [0, 1, 2, 2, 4]
    x = nbdl.tensor([-inf, -inf, 1.0, 2.0], dtype="float64", requires_grad=True)
    y = x.logcumsumexp(0)
    np.testing.assert_allclose(y.detach().numpy(), [-inf, -inf, 1.0, np.log(np.e + np.e**2)])
    y[2:].sum().backward()
    share = 1 / (1 + np.e)
    np.testing.assert_allclose(x.grad.numpy(), [0, 0, 1 + share, 1 - share])


def test_diff_of_bools_and_order_0() -> None:
    x = nbdl.tensor([True, False, False])
    assert x.diff().tolist() == [True, False]
    assert nbdl.tensor([1, 2]).diff(n=0).tolist() == [1, 2]
    assert nbdl.tensor([1, 2]).diff(n=3).tolist() == []


ERRORS = {
    "cumsum, no axis": (lambda x: x.cumsum(), TypeError, "cumsum: missing argument dim"),
    "cumsum, axis": (lambda x: x.cumsum(2), IndexError, "cumsum: Dimension out of range"),
    "logcumsumexp": (
        lambda x: x.to("int64").logcumsumexp(0),
        RuntimeError,
        "logcumsumexp: expected a floating tensor",
    ),
    "diff": (lambda x: x.sum().diff(), RuntimeError, "diff: .*at least one-dimensional"),
    "diff, order": (lambda x: x.diff(n=-1), RuntimeError, "diff: order must be non-negative but got -1"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.from_numpy(X))

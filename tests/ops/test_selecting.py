"""Gather, scatter, index_*, masks, triangles: values, derivatives, in place, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

RNG = np.random.default_rng(2)
X = RNG.standard_normal((3, 4))
CUBE = RNG.standard_normal((2, 3, 4))
MASK = RNG.random((3, 4)) < 0.5
ROWS = np.array([2, 0, 2])
PLACES = RNG.integers(0, 3, (2, 4))


FUNCTIONS = {
    "gather": (lambda lib, x, i: x.gather(0, i), X, PLACES),
    "gather, last axis": (lambda lib, x, i: lib.gather(x, 1, i), X, PLACES[:, :3].copy()),
    "gather, scalar": (lambda lib, x, i: x.gather(0, i), np.float64(2), np.int64(0)),
    "take_along_dim": (lambda lib, x, i: lib.take_along_dim(x, i, 1), CUBE, PLACES[:1, None, :] % 3),
    "take_along_dim, flat": (lambda lib, x, i: lib.take_along_dim(x, i), X, np.array([5, 0])),
    "scatter": (lambda lib, x, i, s: x.scatter(1, i, s), X, np.array([[0, 2], [1, 3]]), X[:2, :2] + 1),
    "scatter, number": (lambda lib, x, i: x.scatter(0, i, 2.5), X, PLACES),
    "scatter, larger source": (lambda lib, x, i, s: x.scatter(1, i, s), X, np.array([[0, 2]]), X),
    "scatter, add": (lambda lib, x, i, s: x.scatter_add(0, i, s), X, PLACES, X[:2]),
    "scatter_add, larger source": (lambda lib, x, i, s: x.scatter_add(0, i, s), X, PLACES[:1, :2].copy(), X),
    "scatter_reduce, sum": (lambda lib, x, i, s: x.scatter_reduce(0, i, s, "sum"), X, PLACES, X[1:]),
    "scatter_reduce, mean": (lambda lib, x, i, s: x.scatter_reduce(0, i, s, "mean"), X, PLACES, X[1:]),
    "scatter_reduce, prod": (lambda lib, x, i, s: x.scatter_reduce(0, i, s, "prod"), X, PLACES, X[1:]),
    "scatter_reduce, amax": (lambda lib, x, i, s: x.scatter_reduce(0, i, s, "amax"), X, PLACES, 2 * X[1:]),
    "scatter_reduce, amin": (lambda lib, x, i, s: x.scatter_reduce(0, i, s, "amin"), X, PLACES, 2 * X[1:]),
    "scatter_reduce, sum alone": (
        lambda lib, x, i, s: x.scatter_reduce(0, i, s, "sum", include_self=False),
        X,
        PLACES,
        X[1:],
    ),
    "scatter_reduce, mean alone": (
        lambda lib, x, i, s: x.scatter_reduce(0, i, s, "mean", include_self=False),
        X,
        PLACES,
        X[1:],
    ),
    "scatter_reduce, amax alone": (
        lambda lib, x, i, s: x.scatter_reduce(0, i, s, "amax", include_self=False),
        X,
        PLACES,
        2 * X[1:],
    ),
    "index_select": (lambda lib, x, i: x.index_select(0, i), X, ROWS),
    "index_select, axis": (lambda lib, x, i: lib.index_select(x, 2, i), CUBE, ROWS),
    "index_select, scalar": (lambda lib, x, i: x.index_select(0, i), np.float64(2), np.array(0)),
    "index_add": (lambda lib, x, i, s: x.index_add(0, i, s, alpha=2), X, ROWS, X + 1),
    "index_add, axis": (lambda lib, x, i, s: x.index_add(1, i, s), X, ROWS, X[:, :3]),
    "index_copy": (lambda lib, x, i, s: x.index_copy(1, i, s), X, np.array([3, 1]), X[:, :2] + 1),
    "index_fill": (lambda lib, x, i: x.index_fill(1, i, 5.0), X, ROWS),
    "index_put": (lambda lib, x, i, s: x.index_put((i, i), s), X, np.array([2, 0]), X[0, :2]),
    "index_put, adding": (lambda lib, x, i, s: lib.index_put(x, (i,), s, accumulate=True), X, ROWS, X[0]),
    "index_put, mask": (lambda lib, x, m: x.index_put((m,), lib.zeros((), dtype=x.dtype)), X, MASK),
    "take": (lambda lib, x, i: x.take(i), X, np.array([[0, 11], [-1, 5]])),
    "masked_fill": (lambda lib, x, m: x.masked_fill(m, 2), X, MASK),
    "masked_fill, tensor": (lambda lib, x, m, v: x.masked_fill(m, v), X, MASK[0], np.float64(3)),
    "masked_select": (lambda lib, x, m: x.masked_select(m), X, MASK[1]),
    "masked_select, scalar": (lambda lib, x, m: x.masked_select(m), np.float64(1), np.array([True, True])),
    "masked_scatter": (lambda lib, x, m, s: x.masked_scatter(m, s), X, MASK, X + 1),
    "where": (lambda lib, x, m: lib.where(m, x, x * 2), X, MASK),
    "tril": (lambda lib, x: x.tril(), X),
    "tril, above": (lambda lib, x: lib.tril(x, 1), CUBE),
    "triu": (lambda lib, x: x.triu(-1), CUBE),
    "diag of a vector": (lambda lib, x: x.diag(1), X[0]),
    "diag of a matrix": (lambda lib, x: lib.diag(x, -1), X),
    "diag_embed": (lambda lib, x: x.diag_embed(), X),
    "diag_embed, axes": (lambda lib, x: lib.diag_embed(x, -1, 0, 2), X),
    "diagflat": (lambda lib, x: lib.diagflat(x), X[:2, :2]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = FUNCTIONS[name]
    check_op(
        function, *arrays, twin="larger source" not in name
    )  # PyTorch has values, and no gradient, there


IN_PLACE = {
    "scatter_": (lambda y, i, s: y.scatter_(1, i, s), lambda x, i, s: x.scatter(1, i, s)),
    "scatter_, multiply": (
        lambda y, i, s: y.scatter_(1, i, s, reduce="multiply"),
        lambda x, i, s: x.scatter(1, i, s, reduce="multiply"),
    ),
    "scatter_add_": (lambda y, i, s: y.scatter_add_(1, i, s), lambda x, i, s: x.scatter_add(1, i, s)),
    "scatter_reduce_": (
        lambda y, i, s: y.scatter_reduce_(1, i, s, "prod"),
        lambda x, i, s: x.scatter_reduce(1, i, s, "prod"),
    ),
    "index_add_": (lambda y, i, s: y.index_add_(1, i[0], s), lambda x, i, s: x.index_add(1, i[0], s)),
    "index_copy_": (lambda y, i, s: y.index_copy_(1, i[0], s), lambda x, i, s: x.index_copy(1, i[0], s)),
    "index_fill_": (lambda y, i, s: y.index_fill_(1, i[0], 3.0), lambda x, i, s: x.index_fill(1, i[0], 3.0)),
    "index_put_": (
        lambda y, i, s: y.index_put_((i[0, :2],), s[0, 0]),
        lambda x, i, s: x.index_put((i[0, :2],), s[0, 0]),
    ),
    "masked_fill_": (lambda y, i, s: y.masked_fill_(y > 0, 1), lambda x, i, s: x.masked_fill(x > 0, 1)),
    "masked_scatter_": (
        lambda y, i, s: y.masked_scatter_(y > 0, y * 3),
        lambda x, i, s: x.masked_scatter(x > 0, x * 3),
    ),
    "tril_": (lambda y, i, s: y.tril_(), lambda x, i, s: x.tril()),
    "triu_": (lambda y, i, s: y.triu_(1), lambda x, i, s: x.triu(1)),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place_forms(name: str) -> None:
    in_place, out_of_place = IN_PLACE[name]
    x, index = nbdl.tensor(X, requires_grad=True), nbdl.tensor([[0, 2, 1, 3]] * 3)
    y = x * 1
    assert in_place(y, index, x * 2) is y
    expected = out_of_place(x * 1, index, x * 2)
    np.testing.assert_array_equal(y.detach().numpy(), expected.detach().numpy())
    for result in (y, expected):
        (result * result).sum().backward(retain_graph=True)
    twice, x.grad = x.grad.numpy(), None
    (expected * expected).sum().backward()
    np.testing.assert_allclose(twice, 2 * x.grad.numpy())


PRODUCT_PLACES = np.array([[0, 1, 0], [0, 1, 1], [0, 0, 1]])
PRODUCTS: dict[str, Any] = {  # the axis, places, zeros of the source
    "no zero": (0, PRODUCT_PLACES, []),
    "one zero": (1, PRODUCT_PLACES.T, [(0, 0)]),
    "two in one place": (0, PRODUCT_PLACES, [(0, 0), (2, 0)]),
    "nothing else in one place": (0, PRODUCT_PLACES, [(0, 0), (1, 0), (2, 0)]),
    "two in two places": (1, PRODUCT_PLACES.T, [(0, 0), (1, 2)]),
    "a part of the source": (0, PRODUCT_PLACES[:, :2], [(0, 0)]),
}


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize(("axis", "index", "zeros"), PRODUCTS.values(), ids=PRODUCTS)
def test_products_of_zeros(axis: int, index: Any, zeros: Any, include: bool, check_op: Any) -> None:
    x, source = X[:2, :3].copy() if axis == 0 else X[:, :2].copy(), X[:, 1:].copy()
    x[1, 1] = 0
    for place in zeros:
        source[place] = 0
    check_op(
        lambda lib, x, i, s: x.scatter_reduce(axis, i, s, "prod", include_self=include),
        x,
        index,
        source,
        twin=index.shape == source.shape,  # PyTorch has no gradient otherwise
    )


def test_derivatives_of_products_in_one_place(backend: str) -> None:
    x, s = nbdl.tensor(2.0, requires_grad=True), nbdl.tensor(0.0, requires_grad=True)
    slopes = nbdl.autograd.grad(x.scatter_reduce(0, nbdl.tensor(0), s, "prod"), (x, s), create_graph=True)
    assert [slope.item() for slope in slopes] == [0, 2]
    assert nbdl.autograd.grad(slopes[0], s)[0].item() == 1


def test_extrema_of_truth_values() -> None:
    x, source = nbdl.tensor([True, False, False]), nbdl.tensor([False, True, False])
    index = nbdl.tensor([0, 1, 1])
    assert x.scatter_reduce(0, index, source, "amax").tolist() == [True, True, False]
    assert x.scatter_reduce(0, index, source, "amin", include_self=False).tolist() == [False, False, False]


def test_extrema_share_the_gradient_among_ties() -> None:
    x, source = (nbdl.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    x.scatter_reduce(0, nbdl.tensor([0, 0]), source * nbdl.tensor([1.0, 0.5]), "amax").sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [1 / 3, 1])
    np.testing.assert_allclose(source.grad.numpy(), [1 / 3, 1 / 6])


def test_take_rows(check_op: Any, backend: str) -> None:
    index = np.array([[2, 0], [2, 2]])
    table = nbdl.tensor(X)
    np.testing.assert_array_equal(nbdl.take_rows(table, nbdl.tensor(index)).numpy(), X[index])
    check_op(lambda lib, x, i: nbdl.take_rows(x, i), X, index, twin=False)


def test_one_place() -> None:
    x, place = nbdl.tensor(X), nbdl.tensor(2)
    assert x.take(place).item() == X.ravel()[2]
    assert nbdl.take_rows(x, place).tolist() == X[2].tolist()
    assert x[place].tolist() == x[2].tolist()
    assert isinstance(nbdl.take_rows(x[0], place).array, np.ndarray)


def test_nonzero_and_argwhere() -> None:
    x = nbdl.tensor(X * MASK)
    np.testing.assert_array_equal(x.nonzero().numpy(), np.argwhere(MASK))
    np.testing.assert_array_equal(nbdl.argwhere(x).numpy(), np.argwhere(MASK))
    for found, wanted in zip(x.nonzero(as_tuple=True), np.nonzero(MASK), strict=True):
        np.testing.assert_array_equal(found.numpy(), wanted)
    assert nbdl.tensor(3).nonzero().shape == (1, 0)
    assert nbdl.tensor(0).nonzero(as_tuple=True)[0].shape == (0,)
    assert nbdl.where(x)[0].tolist() == np.nonzero(MASK)[0].tolist()


def test_one_hot_and_triangle_indices() -> None:
    assert nbdl.one_hot(nbdl.tensor([[0, 2]])).tolist() == [[[1, 0, 0], [0, 0, 1]]]
    assert nbdl.one_hot(nbdl.tensor([1]), 4).tolist() == [[0, 1, 0, 0]]
    assert nbdl.tril_indices(2, 3, -1).tolist() == [[1], [0]]
    assert nbdl.triu_indices(2, 3, 1).tolist() == [[0, 0, 1], [1, 2, 2]]


def test_masked_fill_keeps_the_dtype() -> None:
    filled = nbdl.tensor([1, 2, 3]).masked_fill(nbdl.tensor([True, False, True]), 7.9)
    assert filled.dtype == np.int64
    assert filled.tolist() == [7, 2, 7]


ERRORS = {
    "gather": (
        lambda x: x.gather(0, nbdl.tensor([[9]])),
        RuntimeError,
        "gather: index 9 is out of bounds for dimension 0 with size 3",
    ),
    "gather, ranks": (
        lambda x: x.gather(0, nbdl.tensor([0])),
        RuntimeError,
        "gather: index tensor must have the same number",
    ),
    "gather, shapes": (
        lambda x: x.gather(0, nbdl.zeros(1, 5, dtype="int64")),
        RuntimeError,
        r"gather: size does not match: .*\[1, 5\]",
    ),
    "gather, dtype": (
        lambda x: x.gather(0, x),
        RuntimeError,
        "gather: expected dtype int64 for index, got float64",
    ),
    "gather, number": (
        lambda x: x.gather(0, 1),
        TypeError,
        "gather.*'index' .position 3. must be Tensor, not int",
    ),
    "scatter, source": (
        lambda x: x.scatter(0, nbdl.zeros(2, 4, dtype="int64"), x[:1]),
        RuntimeError,
        "scatter: expected index .* no larger than src",
    ),
    "scatter, dtype": (
        lambda x: x.scatter(0, nbdl.zeros(2, 4, dtype="int64"), x.to("float32")),
        RuntimeError,
        "scatter: .*float64 and float32",
    ),
    "scatter, reduce": (
        lambda x: x.scatter(0, nbdl.zeros(1, 1, dtype="int64"), x, reduce="mean"),
        RuntimeError,
        "scatter: reduce argument must be",
    ),
    "scatter_reduce": (
        lambda x: x.scatter_reduce(0, nbdl.zeros(1, 1, dtype="int64"), x, "max"),
        RuntimeError,
        "scatter_reduce: reduce argument .* 'max'",
    ),
    "take_along_dim": (
        lambda x: nbdl.take_along_dim(x, nbdl.zeros(2, 1, dtype="int64"), 1),
        RuntimeError,
        "take_along_dim: .*cannot be broadcast",
    ),
    "index_select": (
        lambda x: x.index_select(0, nbdl.tensor([3])),
        IndexError,
        "index_select: index 3 is out of bounds for dimension 0 with size 3",
    ),
    "index_select, matrix": (
        lambda x: x.index_select(0, nbdl.tensor([[0]])),
        IndexError,
        "index_select: index is supposed to be a vector",
    ),
    "index_add": (
        lambda x: x.index_add(0, nbdl.tensor([0]), x),
        RuntimeError,
        r"index_add: source must have shape \[1, 4\], got \[3, 4\]",
    ),
    "index_fill": (
        lambda x: x.index_fill(0, nbdl.tensor([0]), x),
        RuntimeError,
        "index_fill: value must be a number",
    ),
    "masked_fill": (
        lambda x: x.masked_fill(x, 0),
        RuntimeError,
        "masked_fill: only supports boolean masks, .* float64",
    ),
    "masked_fill, value": (
        lambda x: x.masked_fill(x > 0, x),
        RuntimeError,
        "masked_fill: only supports a 0-dimensional value tensor",
    ),
    "masked_scatter": (
        lambda x: x.masked_scatter(x == x, x[0]),
        RuntimeError,
        "masked_scatter: number of elements of source .4. < number of ones in mask .12.",
    ),
    "masked_select": (lambda x: x.masked_select(x), RuntimeError, "masked_select: expected a bool mask"),
    "tril": (lambda x: x[0].tril(), RuntimeError, "tril: .*at least 2 dimensions, got 1"),
    "diag": (lambda x: x[None].diag(), RuntimeError, "diag: supports 1D or 2D tensors, got 3D"),
    "one_hot": (
        lambda x: nbdl.one_hot(nbdl.tensor([3]), 3),
        RuntimeError,
        r"one_hot: class values must lie in \[0, 3\), got 3",
    ),
    "one_hot, dtype": (
        lambda x: nbdl.one_hot(x),
        RuntimeError,
        "one_hot: only applicable to integer index tensors",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(X))

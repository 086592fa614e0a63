"""sort, topk, max, median, mode, unique, searchsorted: values, derivatives, ties, NaN, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

RNG = np.random.default_rng(3)
DISTINCT = RNG.permutation(24).reshape(2, 3, 4) / 7
ROW = np.array([3.0, 1.0, 2.0, 1.5, -4.0])
TIES = np.array([[2.0, 1.0, 2.0, 1.0, 0.0], [0.0, 0.0, 5.0, 5.0, 1.0]])
NAN = np.array([[2.0, np.nan, -1.0, np.nan, 0.0], [4.0, 3.0, 2.0, np.inf, -np.inf]])

CASES = {
    "sort": (lambda lib, x: x.sort(), DISTINCT),
    "sort, descending": (lambda lib, x: lib.sort(x, dim=1, descending=True), DISTINCT),
    "sort, scalar": (lambda lib, x: x.sort(), np.float64(2)),
    "argsort": (lambda lib, x: x.argsort(0), DISTINCT),
    "msort": (lambda lib, x: lib.msort(x), DISTINCT),
    "topk": (lambda lib, x: x.topk(2), DISTINCT),
    "topk, smallest": (lambda lib, x: lib.topk(x, 2, dim=1, largest=False), DISTINCT),
    "topk, all": (lambda lib, x: x.topk(4), DISTINCT),
    "topk, one": (lambda lib, x: x.topk(1, 0), DISTINCT),
    "kthvalue": (lambda lib, x: x.kthvalue(2), DISTINCT),
    "kthvalue, kept": (lambda lib, x: x.kthvalue(3, 1, True), DISTINCT),
    "max": (lambda lib, x: x.max(), DISTINCT),
    "max, axis": (lambda lib, x: x.max(1), DISTINCT),
    "max, kept": (lambda lib, x: lib.max(x, dim=-1, keepdim=True), DISTINCT),
    "max, elementwise": (lambda lib, x, y: lib.max(x, y), DISTINCT, DISTINCT[::-1].copy()),
    "min": (lambda lib, x: x.min(), DISTINCT),
    "min, axis": (lambda lib, x: x.min(0), DISTINCT),
    "min, elementwise": (lambda lib, x, y: x.min(y), DISTINCT, DISTINCT[::-1].copy()),
    "median": (lambda lib, x: x.median(), DISTINCT),
    "median, odd": (lambda lib, x: x.median(1), DISTINCT),
    "median, even": (lambda lib, x: x.median(2, keepdim=True), DISTINCT),
    "nanmedian": (lambda lib, x: x.nanmedian(1), DISTINCT),
    "mode": (lambda lib, x: x.mode(-1, True), DISTINCT),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_derivatives(name: str, check_op: Any, backend: str) -> None:
    function, *arrays = CASES[name]
    check_op(function, *arrays, orders=0 if name == "argsort" else 2)


CHOICES = {
    "stable sort": lambda lib, x: lib.sort(x, dim=-1, stable=True),
    "stable descending sort": lambda lib, x: lib.sort(x, dim=-1, stable=True, descending=True),
    "topk": lambda lib, x: x.topk(3).values,
    "topk, smallest": lambda lib, x: x.topk(3, largest=False).values,
    "max": lambda lib, x: x.max(1),
    "min": lambda lib, x: x.min(1),
    "kthvalue": lambda lib, x: x.kthvalue(2).values,
    "median": lambda lib, x: x.median(1).values,
    "nanmedian": lambda lib, x: x.nanmedian(1).values,
    "total median": lambda lib, x: x.median(),
    "mode": lambda lib, x: x.mode(1).values,
    "unique": lambda lib, x: lib.unique(x, return_inverse=True, return_counts=True),
    "unique_consecutive": lambda lib, x: lib.unique_consecutive(x, return_inverse=True, return_counts=True),
}


# Integers are finite, and PyTorch has no topk and no medians of bools.
CHOICE_CASES = [(name, "nan", dtype) for name in CHOICES for dtype in ("float64", "float32")]
CHOICE_CASES += [
    (name, "ties", dtype) for name in CHOICES for dtype in ("float64", "float32", "int64", "uint8")
]
CHOICE_CASES += [
    (name, "ties", "bool")
    for name in CHOICES
    if not any(word in name for word in ("topk", "median", "kthvalue"))
]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "kind", "dtype"), CHOICE_CASES)
def test_choices_among_ties_and_nan(name: str, kind: str, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    values = {"ties": TIES, "nan": NAN}[kind]
    x = values.astype(dtype)
    found, wanted = (
        CHOICES[name](nbdl, nbdl.from_numpy(x.copy())),
        CHOICES[name](torch, torch.from_numpy(x.copy())),
    )
    many = isinstance(wanted, tuple)
    for a, b in zip(found if many else [found], wanted if many else [wanted], strict=True):
        assert a.dtype == b.numpy().dtype
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_named_results() -> None:
    x = nbdl.tensor(ROW)
    assert x.max(0).values.item() == 3
    assert x.max(0).indices.item() == 0
    values, indices = x.sort()
    np.testing.assert_array_equal(values.numpy(), ROW[indices.numpy()])


def test_the_largest_of_all_shares_its_gradient_and_the_one_along_an_axis_does_not() -> None:
    x = nbdl.tensor([1.0, 3.0, 3.0], requires_grad=True)
    (shared,) = nbdl.autograd.grad(x.max(), x)
    (single,) = nbdl.autograd.grad(x.max(0).values, x)
    assert shared.tolist() == [0, 0.5, 0.5]
    assert single.tolist() == [0, 1, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    x = nbdl.tensor([3.0, float("nan"), -1.0, 2.0], dtype=dtype)
    assert x.argsort().tolist() == [2, 3, 0, 1]
    assert x.topk(2).indices.tolist() == [1, 0]
    assert x.sort(descending=True).values.to("float32").tolist()[1:] == [3.0, 2.0, -1.0]
    assert x.unique()[0].item() == -1


@pytest.mark.parametrize("k", [0, 1, 50, 999, 1000])
def test_topk_of_many(k: int) -> None:
    x = RNG.integers(0, 100, 1000)
    values, indices = nbdl.tensor(x).topk(k)
    np.testing.assert_array_equal(values.numpy(), np.sort(x)[::-1][:k])
    np.testing.assert_array_equal(x[indices.numpy()], values.numpy())
    assert len(set(indices.tolist())) == k


def test_mode_finds_a_place_of_the_value() -> None:
    values, indices = nbdl.tensor(TIES).mode(1)
    assert values.tolist() == [1.0, 0.0]
    assert indices.tolist() == [3, 1]


def test_unique_slices() -> None:
    x = np.array([[1, 2, 1], [0, 0, 0], [1, 2, 1]])
    values, inverse, counts = nbdl.unique(nbdl.tensor(x), return_inverse=True, return_counts=True, dim=0)
    assert values.tolist() == [[0, 0, 0], [1, 2, 1]]
    assert inverse.tolist() == [1, 0, 1]
    assert counts.tolist() == [1, 2]
    assert nbdl.unique(nbdl.tensor(x), dim=1).tolist() == [[1, 2], [0, 0], [1, 2]]
    assert nbdl.unique_consecutive(nbdl.tensor([[1, 1], [1, 1], [2, 1]]), dim=0).tolist() == [[1, 1], [2, 1]]
    assert nbdl.unique_consecutive(nbdl.tensor([], dtype="int64")).tolist() == []


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_searchsorted(right: bool, shape: tuple[int, ...]) -> None:
    boundaries, values = np.array([0.0, 1.0, 1.0, 2.0, np.inf]), RNG.integers(-1, 4, shape).astype(float)
    found = nbdl.searchsorted(nbdl.tensor(boundaries), nbdl.tensor(values), right=right)
    np.testing.assert_array_equal(
        found.numpy(), np.searchsorted(boundaries, values, side="right" if right else "left")
    )
    assert found.dtype == np.int64
    np.testing.assert_array_equal(
        nbdl.bucketize(nbdl.tensor(values), nbdl.tensor(boundaries), right=right).numpy(), found.numpy()
    )


def test_searchsorted_rows_scalars_and_dtypes() -> None:
    rows = nbdl.tensor([[1, 3, 5], [2, 4, 6]])
    assert nbdl.searchsorted(rows, nbdl.tensor([[3, 9], [3, 2]])).tolist() == [[1, 3], [1, 0]]
    assert nbdl.searchsorted(rows[0], 3.5).item() == 2
    assert nbdl.searchsorted(rows[0], 3, side="right", out_int32=True).dtype == np.int32
    sorter = nbdl.tensor([2, 0, 1])
    assert nbdl.searchsorted(nbdl.tensor([3, 5, 1]), nbdl.tensor([4]), sorter=sorter).tolist() == [2]


ERRORS = {
    "sort": (lambda x: x.sort(3), IndexError, "sort: Dimension out of range"),
    "topk": (
        lambda x: x.topk(9),
        RuntimeError,
        "topk: selected index k out of range: k = 9 for size 4 of dim 2",
    ),
    "kthvalue": (
        lambda x: x.kthvalue(0),
        RuntimeError,
        "kthvalue: selected number k out of range for dimension 2: k = 0",
    ),
    "max of nothing": (lambda x: x[:0].max(), RuntimeError, "max: expected reduction dim"),
    "max along nothing": (
        lambda x: x[:0].max(0),
        IndexError,
        "max: expected dimension 0 to have non-zero size",
    ),
    "median along nothing": (
        lambda x: x[:0].median(0),
        IndexError,
        "median: expected dimension 0 to have non-zero",
    ),
    "searchsorted": (
        lambda x: nbdl.searchsorted(x, x[0]),
        RuntimeError,
        "searchsorted: boundaries must be 1-dim",
    ),
    "searchsorted, side": (
        lambda x: nbdl.searchsorted(x, x, side="up"),
        RuntimeError,
        "searchsorted: side must be",
    ),
    "bucketize": (lambda x: nbdl.bucketize(x, x), RuntimeError, r"bucketize: boundaries .* got dim\(3\)"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(DISTINCT))

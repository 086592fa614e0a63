"""x[...] and x[...] = v: values, derivatives, views, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

RNG = np.random.default_rng(2)
X = RNG.standard_normal((3, 4))
CUBE = RNG.standard_normal((2, 3, 4))
MASK = RNG.random((3, 4)) < 0.5

BASIC: dict[str, Any] = {
    "int": 1,
    "negative": -1,
    "slice": slice(0, 1),
    "steps": (slice(None), slice(None, None, 2)),
    "empty slice": slice(2, 1),
    "beyond": (slice(None), slice(1, 99)),
    "ints": (0, 1, 2),
    "ellipsis": (..., 0),
    "middle ellipsis": (0, ..., 1),
    "lone ellipsis": ...,
    "nothing": (),
    "new axis": None,
    "new axes": (None, 0, None, ..., None),
    "column": (slice(None), 0),
    "last axis": (..., None),
    "numpy integer": np.int32(1),
    "numpy bound": slice(np.int64(1), None),
}
BACKWARDS: dict[str, Any] = {"reversed": slice(None, None, -1), "backwards": (0, slice(2, 0, -1))}
ADVANCED: dict[str, Any] = {
    "list": [1, 0, 1],
    "array": np.array([[0, 1], [1, 1]]),
    "negative": np.array([-1, 0]),
    "second axis": (slice(None), [2, 0]),
    "neighbours": (slice(None), [0, 2], [3, 1]),
    "apart": ([0, 1, 0], slice(None), [3, 1, 0]),
    "broadcast": (np.array([[0], [1]]), np.array([0, 2])),
    "all": ([0, 1], [1, 2], [3, 0]),
    "ellipsis": (..., [0, 3, 3]),
    "new axis": (None, [1, 0]),
    "new axis apart": ([1, 0], None, [0, 2]),
    "with a slice": ([0, 1], slice(1, 3)),
    "with steps": (slice(None), [0, 1], slice(None, None, 2)),
    "mask": CUBE > 0,
    "row mask": np.array([True, False]),
    "inner mask": (slice(None), MASK),
    "mask and int list": (np.array([True, True]), [0, 2]),
    "list of bools": [False, True],
    "true": True,
    "false": False,
    "nothing": np.zeros(0, int),
    "mask of nothing": np.zeros((2, 3, 4), bool),
    "unsigned": np.array([1, 0], np.uint16),
}
TENSOR_INDEX = {
    "int and list": (0, slice(None), [3, 1]),
    "scalar tensor": (np.array(1), [0, 2]),
}  # as PyTorch has it


def converted(lib: Any, index: Any) -> Any:
    """Arrays in an index as tensors of `lib`."""
    if isinstance(index, tuple):
        return tuple(converted(lib, entry) for entry in index)
    return (
        lib.tensor(index.astype(np.int64) if index.dtype.kind == "u" else index)
        if isinstance(index, np.ndarray)
        else index
    )


@pytest.mark.parametrize("name", BASIC | BACKWARDS)
def test_basic_indices_make_views(name: str) -> None:
    index = (BASIC | BACKWARDS)[name]
    x = nbdl.tensor(CUBE)
    y = x[index]
    np.testing.assert_array_equal(y.numpy(), CUBE[index])
    assert isinstance(y.array, np.ndarray)
    assert y.numpy().size == 0 or np.shares_memory(y.numpy(), x.numpy())


@pytest.mark.parametrize("name", ADVANCED)
def test_advanced_indices_make_copies(name: str, backend: str) -> None:
    x = nbdl.tensor(CUBE)
    for index in (ADVANCED[name], converted(nbdl, ADVANCED[name])):
        y = x[index]
        np.testing.assert_array_equal(y.numpy(), CUBE[ADVANCED[name]])
        assert not np.shares_memory(y.numpy(), x.numpy())


READS = {f"basic, {name}": index for name, index in BASIC.items()}
READS |= {f"advanced, {name}": index for name, index in ADVANCED.items()} | TENSOR_INDEX


@pytest.mark.parametrize("name", READS)
def test_derivatives_of_reading(name: str, check_op: Any) -> None:
    check_op(
        lambda lib, x: x[converted(lib, READS[name])],
        CUBE,
        orders=0 if "nothing" in name or "false" in name else 2,
    )


def written(lib: Any, x: Any, value: Any, index: Any) -> Any:
    y = x * 1
    y[converted(lib, index)] = value
    return y


WRITES = READS | BACKWARDS
REPEATED = {
    "advanced, list",
    "advanced, array",
    "advanced, new axis",
    "advanced, ellipsis",
}  # which one wins is not defined


@pytest.mark.parametrize("name", WRITES)
def test_writing(name: str, backend: str) -> None:
    expected, x = CUBE.copy(), nbdl.tensor(CUBE)
    index = WRITES[name]
    selected = x[converted(nbdl, index)].shape
    value = np.arange(np.prod(selected, dtype=int), dtype=float).reshape(selected)
    x[converted(nbdl, index)] = value
    reference = nbdl.tensor(CUBE)
    if name in TENSOR_INDEX:
        index = (index[0], ..., index[-1]) if name == "int and list" else (1, index[1])
        expected[0][:, [3, 1]] = value if name == "int and list" else expected[0][:, [3, 1]]
        if name != "int and list":
            expected[1][[0, 2]] = value
    else:
        expected[index] = value
    np.testing.assert_array_equal(x.numpy(), expected)
    assert reference.shape == x.shape


@pytest.mark.parametrize("name", [name for name in WRITES if name not in REPEATED])
def test_derivatives_of_writing(name: str, check_op: Any) -> None:
    index = WRITES[name]
    shape = tuple(nbdl.tensor(CUBE)[converted(nbdl, index)].shape)
    orders = 0 if 0 in shape else 2
    twin = name not in BACKWARDS
    check_op(
        lambda lib, x, v: written(lib, x, v, index),
        CUBE,
        RNG.standard_normal(shape),
        orders=orders,
        twin=twin,
    )
    check_op(lambda lib, x, v: written(lib, x, v, index), CUBE, np.float64(2.0), orders=orders, twin=twin)


def test_in_place_arithmetic_on_an_index() -> None:
    x = nbdl.tensor(X, requires_grad=True)
    y = x * 1
    y[0] += 1
    y[[1, 2], [0, 3]] *= 3
    y[nbdl.tensor(MASK)] -= 2
    expected = X.copy()
    expected[0] += 1
    expected[[1, 2], [0, 3]] *= 3
    expected[MASK] -= 2
    np.testing.assert_allclose(y.detach().numpy(), expected)
    y.sum().backward()
    slopes = np.ones_like(X)
    slopes[[1, 2], [0, 3]] = 3
    np.testing.assert_array_equal(x.grad.numpy(), slopes)


def test_assigned_values_are_cast_and_broadcast() -> None:
    x = nbdl.zeros(2, 3, dtype="int64")
    x[0] = 1.9
    x[1] = nbdl.tensor([[4.5, 5.5, 6.5]])
    x[:, [0, 2]] = [7, 8]
    assert x.tolist() == [[7, 1, 8], [7, 5, 8]]
    x[nbdl.tensor([True, False])] = nbdl.tensor(3)
    x[x == 5] = -1
    assert x.tolist() == [[3, 3, 3], [7, -1, 8]]


def test_writing_through_a_view_of_a_view() -> None:
    base = nbdl.tensor(CUBE, requires_grad=True) * 1
    base[1][[0, 2], 1:3] = 0
    assert (base[1, [0, 2]][:, 1:3] == 0).all()
    np.testing.assert_array_equal(base[0].detach().numpy(), CUBE[0])


ERRORS = {
    "int": (lambda x: x[3], IndexError, "index 3 is out of bounds for axis 0 with size 3"),
    "too many": (lambda x: x[0, 0, 0], IndexError, "too many indices"),
    "too many advanced": (
        lambda x: x[[0], [0], [0]],
        IndexError,
        "too many indices for tensor of dimension 2",
    ),
    "an axis behind two ellipses": (lambda x: x[..., ..., 0], IndexError, "behind a second ellipsis"),
    "float": (lambda x: x[1.5], IndexError, "index: only integers, slices .* float"),
    "text": (lambda x: x["a"], IndexError, "index: only integers, slices .* str"),
    "float tensor": (lambda x: x[nbdl.tensor([1.0])], IndexError, "valid indices, got float32"),
    "float bound": (lambda x: x[1.0:], TypeError, "integer"),
    "index tensor": (
        lambda x: x[nbdl.tensor([0, 5])],
        IndexError,
        "index: index 5 is out of bounds for dimension 0 with size 3",
    ),
    "negative": (lambda x: x[:, [-5]], IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    "not broadcast": (
        lambda x: x[[0, 1], [0, 1, 2]],
        IndexError,
        r"could not be broadcast together with shapes \[2\], \[3\]",
    ),
    "mask": (
        lambda x: x[nbdl.tensor([True, False])],
        IndexError,
        r"shape of the mask \[2\] at dimension 0 .* \[3, 4\]",
    ),
    "set": (lambda x: x.__setitem__(0, nbdl.zeros(5)), RuntimeError, "copy"),
    "set advanced": (
        lambda x: x.__setitem__([0, 1], nbdl.zeros(5)),
        RuntimeError,
        r"shape \[5\] .* \[2, 4\]",
    ),
    "set, out of range": (
        lambda x: x.__setitem__([5], 0.0),
        IndexError,
        "index_put: index 5 is out of bounds",
    ),
    "set on a leaf": (lambda x: x.requires_grad_().__setitem__([0], 0.0), RuntimeError, "leaf Variable"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(X))

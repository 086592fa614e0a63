"""Dtypes of formulas: PyTorch's promotion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nbdl
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.pointwise import call

NAMES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def operands(library, name, as_dtype):
    """The same dtype as an array, as a 0-d array, and as a Python number."""
    number = True if name == "bool" else 1.0 if name.startswith("float") else 1
    array = library.ones(2, dtype=as_dtype(name))
    return [array, array.sum().to(as_dtype(name)), number]


@pytest.mark.torch
@pytest.mark.parametrize(("a", "b"), list(itertools.combinations_with_replacement(NAMES, 2)))
def test_promotion_against_torch(a, b):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = itertools.product(operands(nbdl, a, np.dtype), operands(nbdl, b, np.dtype))
    theirs = itertools.product(
        operands(torch, a, lambda n: getattr(torch, n)), operands(torch, b, lambda n: getattr(torch, n))
    )
    for mine, twin in zip(ours, theirs, strict=True):
        assert str(nbdl.result_type(*mine)) == str(torch.result_type(*twin)).removeprefix("torch."), mine
        if isinstance(mine[0], nbdl.Tensor) or isinstance(mine[1], nbdl.Tensor):
            for name in ("add", "mul", "true_divide"):
                x, t = getattr(nbdl, name)(*mine), getattr(torch, name)(*twin)
                assert str(x.dtype) == str(t.dtype).removeprefix("torch."), (name, mine)


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("exp", "int64", "float32"), ("exp", "bool", "float32"), ("exp", "float16", "float16"),
        ("exp", "float64", "float64"),
        ("square", "int32", "int32"), ("abs", "int8", "int8"), ("isnan", "int64", "bool"),
        ("isfinite", "float16", "bool"),
        ("logical_not", "float32", "bool"), ("bitwise_not", "bool", "bool"), ("sign", "int16", "int16"),
    ],
)  # fmt: skip
def test_kinds_of_functions(name, dtype, expected, backend):
    assert getattr(nbdl, name)(nbdl.ones(3, dtype=dtype)).dtype == expected


def test_bits_of_floats_are_an_error():
    with pytest.raises(
        NotImplementedError, match="bitwise_and: operands must be integers or bools, got float32, int64"
    ):
        nbdl.bitwise_and(nbdl.ones(3), 1)


def test_half_precision_is_computed_in_single(backend):
    x = nbdl.tensor([60000.0], dtype="float16")
    lerp = nbdl.lerp(x, -x, 0.5)  # the difference overflows float16
    assert lerp.tolist() == [0.0]


def test_the_condition_of_where_does_not_count(backend):
    choose = Formula("choose", lambda condition, x: f.where(condition, x, 2.0), 2)
    assert call(choose, nbdl.tensor([1.0], dtype="float64"), nbdl.ones(1)).dtype == "float32"
    assert nbdl.where(nbdl.tensor([True]), nbdl.ones(1), 2.0).dtype == "float32"


def test_default_dtype_is_used_and_restored():
    assert nbdl.tensor([1, 2]).exp().dtype == "float32"
    dtypes.set_default_dtype("float64")
    try:
        assert nbdl.tensor([1.5]).dtype == "float64"
        assert nbdl.tensor([1, 2]).exp().dtype == "float64"
        assert (nbdl.tensor([1, 2]) * 1.5).dtype == "float64"
    finally:
        dtypes.set_default_dtype("float32")
    with pytest.raises(TypeError, match="must be a floating dtype, got int64"):
        dtypes.set_default_dtype("int64")


def test_bfloat16():
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    bfloat16 = dtypes.bfloat16()
    x = nbdl.ones(3, dtype="bfloat16")
    assert x.exp().dtype == bfloat16
    assert (x + 1.5).dtype == bfloat16
    assert (x + nbdl.ones(3, dtype="float16")).dtype == "float32"
    assert (x + nbdl.ones(3, dtype="int64")).dtype == bfloat16
    assert x.is_floating_point()
    y = nbdl.ones(3, dtype="bfloat16", requires_grad=True)
    (y * y).sum().backward()
    assert y.grad.dtype == bfloat16
    assert y.grad.to("float32").tolist() == [2.0] * 3

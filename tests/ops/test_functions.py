"""Functions in place, einsum's forms, quantiles, windows, layouts, questions: edge cases and errors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.autograd import gradcheck

RNG = np.random.default_rng(21)
X = RNG.uniform(0.2, 0.8, (3, 4)) * RNG.choice([-1.0, 1.0], (3, 4))
POSITIVE = RNG.uniform(1.1, 2.0, (3, 4))
SQUARE = RNG.standard_normal((3, 3))
BATCH = RNG.standard_normal((2, 3, 3))
WHOLE = RNG.integers(1, 9, (3, 4))

ONE_OPERAND = """abs absolute acos arccos asin arcsin asinh arcsinh atan arctan atanh arctanh cosh deg2rad
    erfc erfinv exp2 fix frac i0 nan_to_num negative rad2deg sgn sinc sinh round logical_not"""
POSITIVE_OPERAND = "acosh arccosh digamma lgamma log2 log10"
TWO_OPERANDS = """eq ne ge gt le lt greater greater_equal less less_equal not_equal logical_and logical_or
    logical_xor copysign hypot heaviside nextafter arctan2 true_divide clamp_min clamp_max"""
# name without underscore: (tensor, arguments)
IN_PLACE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(ONE_OPERAND.split(), (X,)),
    **dict.fromkeys(POSITIVE_OPERAND.split(), (POSITIVE,)),
    **dict.fromkeys(TWO_OPERANDS.split(), (X, X.round(1))),
    "float_power": (POSITIVE, X),
    "xlogy": (X, POSITIVE),
    "igamma": (POSITIVE, POSITIVE[::-1]),
    "igammac": (POSITIVE, POSITIVE[::-1]),
    "ldexp": (X, WHOLE),
    "logit": (np.abs(X), 0.3),
    "mvlgamma": (POSITIVE, 2),
    "polygamma": (POSITIVE, 1),
    "renorm": (X, 2, 0, 0.5),
    "cumsum": (X, 1),
    "cumprod": (X, 0),
    "addmm": (SQUARE, SQUARE, SQUARE.T),
    "addmv": (SQUARE[0], SQUARE, SQUARE[1]),
    "addr": (SQUARE, SQUARE[0], SQUARE[1]),
    "baddbmm": (BATCH, BATCH, BATCH),
    "addbmm": (SQUARE, BATCH, BATCH),
    "gcd": (WHOLE, WHOLE[::-1]),
    "lcm": (WHOLE, WHOLE[::-1]),
    "bitwise_left_shift": (WHOLE, WHOLE % 3),
    "bitwise_right_shift": (WHOLE, WHOLE % 3),
    "bitwise_not": (WHOLE,),
    "fill_diagonal": (X, 7.0),
    "transpose": (X, 0, 1),
    "t": (X,),
    "swapaxes": (X, 1, 0),
    "unsqueeze": (X, 1),
    "squeeze": (X[None, :, None], 2),
}
# PyTorch has no derivative, or none in place, or leaves the history as it was.
VALUES_ONLY = {
    "acosh", "arccosh", "arcsinh", "arctanh", "asinh", "atanh", "digamma", "gcd", "heaviside", "igamma",
    "igammac", "lcm", "logical_and", "logical_or", "nextafter", "polygamma", "sgn",
}  # fmt: skip
# Functions of which PyTorch's values have fewer digits.
TOLERANCE = {"digamma": 1e-8, "igamma": 1e-9, "igammac": 1e-9, "polygamma": 1e-8}


@pytest.mark.torch
@pytest.mark.parametrize("name", IN_PLACE)
def test_in_place(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    array, *arguments = IN_PLACE[name]
    floating = array.dtype.kind == "f" and name not in VALUES_ONLY
    results = []
    for lib in (nbdl, torch):
        leaf = lib.tensor(array)
        if floating:
            leaf.requires_grad_()
        x = leaf * 1
        others = [lib.tensor(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
        assert getattr(x, f"{name}_")(*others) is x
        y = x * x
        if floating:
            y.sum().backward()
        results.append((x.detach().numpy(), leaf.grad.numpy() if floating else np.zeros(1)))
    (value, gradient), (expected, expected_gradient) = results
    assert value.dtype == expected.dtype
    np.testing.assert_allclose(value, expected, rtol=TOLERANCE.get(name, 1e-11), atol=1e-13)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "int64", "complex64"])
def test_float_power_is_double(dtype: str) -> None:
    x = nbdl.tensor([1, 2, 3], dtype=dtype)
    for power in (nbdl.float_power(x, 2), nbdl.float_power(x, x.abs()), nbdl.float_power(3, x)):
        assert power.dtype == (np.complex128 if dtype == "complex64" else np.float64)
    x = nbdl.tensor([1.0, 2.0], requires_grad=True)
    x.float_power(2).sum().backward()
    assert x.grad.dtype == np.float32 and x.grad.tolist() == [2, 4]


def test_views_in_place_share_memory() -> None:
    base = nbdl.arange(6).reshape(2, 3).clone()
    row = base[0]
    base.t_()
    base[0, 1] = 9
    assert base.tolist() == [[0, 9], [1, 4], [2, 5]]
    assert base.transpose_(dim0=0, dim1=1).shape == (2, 3)
    assert base.clone().as_strided_((2,), (2,), storage_offset=1).tolist() == [1, 9]
    assert row.tolist() == [0, 1, 2]
    x = nbdl.ones(2, 3, requires_grad=True)
    y = (x * 2).transpose_(0, 1)
    y[0].mul_(5)
    y.sum().backward()
    assert x.grad.tolist() == [[10, 2, 2], [10, 2, 2]]
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad"):
        x.t_()


def test_diagonals_are_filled() -> None:
    assert nbdl.zeros(5, 2).fill_diagonal_(1, wrap=True).tolist() == [[1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]
    cube = nbdl.zeros(2, 2, 2).fill_diagonal_(3)
    assert cube.sum().item() == 6
    assert cube[1, 1, 1].item() == 3


def test_python_functions_on_elements() -> None:
    assert nbdl.tensor([1.0, 4.0]).apply_(math.sqrt).tolist() == [1, 2]
    assert nbdl.tensor([1.0, 4.0]).map_(nbdl.tensor(2.0), lambda a, b: a + b).tolist() == [3, 6]


EQUATIONS = [
    ("ij,jk", (3, 4), (4, 5)),
    ("ii", (3, 3)),
    ("iij,jk->ik", (3, 3, 4), (4, 2)),
    ("iijj->ij", (2, 2, 3, 3)),
    ("ij->", (3, 4)),
    ("i,j->ij", (3,), (4,)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)),
    ("b...,b...->...", (2, 3, 4), (2, 3, 4)),
    ("i...->...i", (2, 3, 4)),
    ("bhid, bhjd -> bhij", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)),
    ("ij,jk,ki->", (3, 4), (4, 5), (5, 3)),
    ("ij,j->i", (3, 1), (4,)),
    ("bi,bi->bi", (1, 4), (3, 4)),
    ("bij,bjk->ik", (1, 3, 4), (2, 4, 5)),
    ("i,->i", (3,), ()),
    ("ij,jk->ik", (0, 3), (3, 2)),
    ("ij,ik->i", (3, 4), (3, 5)),
    ("dcba,ab", (2, 3, 4, 5), (5, 4)),
]


@pytest.mark.torch
@pytest.mark.parametrize(("equation", "shapes"), [(eq, shapes) for eq, *shapes in EQUATIONS])
def test_einsum(equation: str, shapes: list[tuple[int, ...]]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    mine = [nbdl.tensor(x, requires_grad=True) for x in arrays]
    twins = [torch.tensor(x, requires_grad=True) for x in arrays]
    found, expected = nbdl.einsum(equation, mine), torch.einsum(equation, *twins)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-12, atol=1e-12)
    found.square().sum().backward()
    expected.square().sum().backward()
    for a, b in zip(mine, twins, strict=True):
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-11, atol=1e-12)


def test_einsum_of_lists() -> None:
    a, b = nbdl.tensor(RNG.standard_normal((3, 4))), nbdl.tensor(RNG.standard_normal((4, 5)))
    np.testing.assert_array_equal(nbdl.einsum(a, [0, 1], b, [1, 2], [2, 0]).numpy(), (a @ b).T.numpy())
    np.testing.assert_array_equal(nbdl.einsum(a, [..., 1], b, [1, 51]).numpy(), (a @ b).numpy())


def test_quantiles_of_nan_and_many_axes() -> None:
    x = nbdl.tensor([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0], [math.nan] * 3])
    np.testing.assert_array_equal(x.quantile(0.5, 1).numpy(), [math.nan, 5, math.nan])
    np.testing.assert_array_equal(x.nanquantile(0.5, 1).numpy(), [2, 5, math.nan])
    many = nbdl.arange(24.0).reshape(2, 3, 4).quantile(nbdl.tensor([0.0, 0.5, 1.0]), 1, keepdim=True)
    assert tuple(many.shape) == (3, 2, 1, 4)
    assert nbdl.tensor([4.0, 1.0]).quantile(0.25, axis=0, keepdims=True).tolist() == [1.75]


@pytest.mark.parametrize("interpolation", ["linear", "lower", "higher", "midpoint", "nearest"])
def test_quantiles_of_numbers_are_those_of_tensors(backend: str, interpolation: str) -> None:
    values = RNG.integers(0, 5, (3, 7)).astype("float32")
    values[2, 3] = math.nan
    for q in (0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 1):
        for dim, keepdim in ((None, False), (0, True), (1, False)):
            found, expected = (
                nbdl.tensor(values).quantile(wanted, dim, keepdim, interpolation=interpolation)
                for wanted in (q, nbdl.tensor(q, dtype="float32"))
            )
            np.testing.assert_array_equal(found.numpy(), expected.numpy(), strict=True)


def test_distances_have_no_slope_at_zero() -> None:
    x = nbdl.ones(2, 3, dtype="float64", requires_grad=True)
    for p in (0, 0.5, 1, 2, 3, math.inf):
        (grad,) = nbdl.autograd.grad(nbdl.cdist(x, x.detach(), p).sum(), x)
        assert grad.abs().sum().item() == 0
    far = nbdl.tensor(RNG.standard_normal((40, 3)))
    exact = nbdl.cdist(far, far, compute_mode="donot_use_mm_for_euclid_dist")
    np.testing.assert_allclose(nbdl.cdist(far, far).numpy(), exact.numpy(), atol=1e-7)
    assert nbdl.cdist(nbdl.ones(2, 0), nbdl.ones(3, 0)).tolist() == [[0] * 3] * 2


@pytest.mark.torch
def test_covariances_with_weights() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    often, much = np.array([1, 3, 2, 1]), np.array([0.5, 0.2, 1.0, 0.3])
    for lib_often, lib_much in ((often, None), (None, much), (often, much)):
        for correction in (0, 1):
            found, expected = (
                lib.cov(
                    lib.tensor(X),
                    correction=correction,
                    fweights=None if lib_often is None else lib.tensor(lib_often),
                    aweights=None if lib_much is None else lib.tensor(lib_much),
                ).numpy()
                for lib in (nbdl, torch)
            )
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert nbdl.corrcoef(nbdl.tensor([1.0, 2.0, 4.0])).item() == 1


WINDOWS = ("hann_window", "hamming_window", "blackman_window", "bartlett_window", "kaiser_window")


@pytest.mark.torch
@pytest.mark.parametrize("name", WINDOWS)
def test_windows(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for length in (0, 1, 2, 5, 8):
        for periodic in (True, False):
            found = getattr(nbdl, name)(length, periodic, dtype=nbdl.float64)
            expected = getattr(torch, name)(length, periodic, dtype=torch.float64)
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12, atol=1e-15)
    assert getattr(nbdl, name)(4).dtype == np.float32


def test_windows_on_memory() -> None:
    x = nbdl.arange(8.0, dtype="float64").requires_grad_()
    diagonal = nbdl.as_strided(x * x, (3,), (3,), 1)
    assert diagonal.tolist() == [1, 16, 49]
    gradcheck(lambda x: nbdl.as_strided(x * x, (3, 4), (1, 1)), x, check_forward_ad=True)
    windows = x.detach().unfold(0, 3, 2)
    assert windows.tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    y = x * 1
    y.unfold(0, 2, 3).mul_(nbdl.tensor([2.0, 3.0], dtype="float64"))
    y.sum().backward()
    assert y.tolist() == [0, 3, 2, 6, 12, 5, 12, 21]
    assert x.grad.tolist() == [2, 3, 1, 2, 3, 1, 2, 3]
    strided = nbdl.empty_strided((2, 3), (1, 2))
    assert strided.stride() == (1, 2)
    assert nbdl.empty_permuted((2, 3, 4), (0, 2, 1)).stride() == (12, 1, 3)
    x.data[2:5].zero_()
    assert x.data[3:].storage_offset() == 3 or x.data[3:].view_of is not None


RANGES: dict[str, Any] = {
    "arange": lambda lib: lib.arange(0.5, 4.5, 1.5, dtype=lib.int64),
    "arange down": lambda lib: lib.arange(0.0, -8.001, -4, dtype=lib.int64),
    "arange of tensors": lambda lib: lib.arange(lib.tensor(1), lib.tensor(4)),
    "arange of floating tensors": lambda lib: lib.arange(lib.tensor(1.5), 4),
    "linspace": lambda lib: lib.linspace(4.3, -3, 10, dtype=lib.int64),
    "linspace of tensors": lambda lib: lib.linspace(lib.tensor(4.5), lib.tensor(-3), 4, dtype=lib.float64),
    "logspace": lambda lib: lib.logspace(0, 1.2, 2, dtype=lib.int64),
    "logspace of tensors": lambda lib: lib.logspace(4.3, lib.tensor(1.0), 3, 2.0, dtype=lib.float64),
    "triu_indices": lambda lib: lib.triu_indices(2, 3, dtype=lib.int32),
    "tril_indices": lambda lib: lib.tril_indices(2, 3, -1),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", RANGES)
def test_ranges(name: str, backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    found, expected = RANGES[name](nbdl).numpy(), RANGES[name](torch).numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_making_and_asking() -> None:
    assert nbdl.range(1, 2, 0.5).tolist() == [1, 1.5, 2]
    assert nbdl.scalar_tensor(3).dtype == np.float32
    assert nbdl.frombuffer(bytearray(b"\x01\x00\x02\x00"), dtype=nbdl.int16).tolist() == [1, 2]
    x = nbdl.ones(2, 3)
    assert tuple(x.new_empty(4).shape) == (4,)
    assert tuple(nbdl.broadcast_shapes((2, 1), (3,), 1)) == (2, 3)
    assert nbdl.can_cast(nbdl.int32, nbdl.float16) and not nbdl.can_cast(nbdl.float32, nbdl.int64)
    assert not nbdl.can_cast(nbdl.int8, nbdl.uint8) and nbdl.can_cast(nbdl.float64, nbdl.complex64)
    assert nbdl.is_nonzero(nbdl.tensor(2)) and not nbdl.tensor([0.0]).is_nonzero()
    assert nbdl.is_same_size(x, x + 1) and x.is_signed() and not x.byte().is_signed()
    assert (x.ndimension(), x.nelement(), nbdl.numel(x), x.get_device()) == (2, 6, 6, -1)
    assert x.is_cpu and not x.is_sparse and not x.is_quantized and not x.is_pinned()
    assert x.type() == "nbdl.FloatTensor" and x.type(nbdl.int64).dtype == np.int64
    assert x.pin_memory() is x and x.is_set_to(x[:]) and not x.is_set_to(x[0])
    assert tuple(x.expand_as(nbdl.ones(4, 2, 3)).shape) == (4, 2, 3)
    assert tuple(x.view_as(nbdl.ones(6)).shape) == tuple(x.reshape_as(nbdl.ones(6)).shape) == (6,)
    assert nbdl.atleast_2d(nbdl.ones(3), nbdl.tensor(1.0))[1].tolist() == [[1.0]]


ERRORS = {
    "einsum, operands": (
        lambda x: nbdl.einsum("i,jk->k", x, x),
        RuntimeError,
        "does not match the number of dim",
    ),
    "einsum, count": (
        lambda x: nbdl.einsum("ij,jk->ik", x),
        RuntimeError,
        "does not match the number of operands",
    ),
    "einsum, output": (
        lambda x: nbdl.einsum("ij->iz", x),
        RuntimeError,
        "output subscript z does not appear",
    ),
    "einsum, twice": (
        lambda x: nbdl.einsum("ij->ii", x),
        RuntimeError,
        "appears more than once in the output",
    ),
    "einsum, letter": (lambda x: nbdl.einsum("i$->i", x), RuntimeError, "invalid subscript given in"),
    "einsum, size": (
        lambda x: nbdl.einsum("ij,ji->i", x, x),
        RuntimeError,
        "does not broadcast with previously",
    ),
    "einsum, nothing": (lambda x: nbdl.einsum("ij"), ValueError, "must specify the equation string"),
    "tensordot": (lambda x: nbdl.tensordot(x, x, 1), RuntimeError, "contracted dimensions need to match"),
    "tensordot, lists": (
        lambda x: nbdl.tensordot(x, x, ([0], [0, 1])),
        RuntimeError,
        "should have same length",
    ),
    "inner": (lambda x: nbdl.inner(x, x.T), RuntimeError, "the last dimension must match"),
    "outer": (lambda x: nbdl.outer(x, x), RuntimeError, "Expected argument 1 to be a 1D tensor, got 2D"),
    "cross": (lambda x: nbdl.cross(x[:2], x[:2]), RuntimeError, "no dimension of size 3"),
    "addmm": (
        lambda x: nbdl.addmm(nbdl.ones(5, dtype="float64"), x, x.T),
        RuntimeError,
        "addmm: the input of shape",
    ),
    "addmm, dtype": (
        lambda x: nbdl.addmm(x.float()[:, :3], x, x.T),
        RuntimeError,
        "addmm: expected operands of the same",
    ),
    "cdist": (lambda x: nbdl.cdist(x, x.T), RuntimeError, "must have the same number of columns"),
    "cdist, p": (lambda x: nbdl.cdist(x, x, -1), RuntimeError, "only supports non-negative p values"),
    "quantile": (lambda x: x.quantile(1.5), RuntimeError, "q must be in the range"),
    "quantile, dtype": (
        lambda x: x.quantile(nbdl.tensor([0.5])),
        RuntimeError,
        "of dtype float64, got 1D of float32",
    ),
    "quantile, integers": (lambda x: x.long().quantile(0.5), RuntimeError, "must be floating, got int64"),
    "quantile, empty": (lambda x: x[:0].quantile(0.5), RuntimeError, "must be non-empty"),
    "cov": (
        lambda x: nbdl.cov(x[None]),
        RuntimeError,
        "expected input to have two or fewer dimensions but got 3",
    ),
    "renorm": (lambda x: x[0].renorm(2, 0, 1), RuntimeError, "needs at least 2 dimensions"),
    "trapezoid": (lambda x: nbdl.trapezoid(x, x[:, 0]), RuntimeError, "one `x` value for each sample point"),
    "gradient": (lambda x: nbdl.gradient(x[:1]), RuntimeError, "at least edge_order"),
    "hsplit": (lambda x: x.hsplit(3), RuntimeError, "not divisible by the split_size 3"),
    "dsplit": (lambda x: x.dsplit(1), RuntimeError, "requires a tensor with at least 3 dimension"),
    "arange": (lambda x: nbdl.arange(0, math.inf), RuntimeError, "unsupported range"),
    "cov, weights": (
        lambda x: x.cov(aweights=-nbdl.ones(x.shape[1], dtype="float64")),
        RuntimeError,
        "cov: aweights cannot be negative",
    ),
    "gradient, twice": (lambda x: nbdl.gradient(x, dim=(0, 0)), RuntimeError, "appears multiple times"),
    "hstack": (lambda x: nbdl.hstack([]), RuntimeError, "hstack: expected a non-empty sequence"),
    "isclose": (lambda x: x.isclose(x, atol=-1), RuntimeError, "atol must be greater than or equal to zero"),
    "masked_fill": (lambda x: x.masked_fill(x > 0, 1j), RuntimeError, "cannot be stored as float64"),
    "narrow": (lambda x: x.narrow(0, 9, 0), IndexError, "narrow: start out of range"),
    "narrow of a number": (lambda x: x[0, 0].narrow(0, 0, 1), RuntimeError, "narrow: .* 0-dim tensor"),
    "rot90": (lambda x: x[0].rot90(), RuntimeError, "expected total dims >= 2"),
    "unbind": (lambda x: x[0, 0].unbind(), IndexError, "unbind: .* tensor has no dimensions"),
    "as_strided": (lambda x: x.as_strided((3,), (6,)), RuntimeError, "reach element 12 of a tensor with 12"),
    "as_strided, view": (lambda x: x.T.as_strided((3,), (1,)), RuntimeError, "must be contiguous"),
    "unfold": (lambda x: x.unfold(0, 4, 1), RuntimeError, "maximum size for tensor at dimension 0 is 3"),
    "gcd": (lambda x: nbdl.gcd(x, x), RuntimeError, "gcd: operands must be integers, got float64"),
    "in place": (lambda x: x.cumsum_(0).addmm_(x, x.T), RuntimeError, "addmm: the input of shape"),
    "rounding": (lambda x: x.div_(2, rounding_mode="up"), ValueError, "rounding_mode must be None"),
    "broadcast": (lambda x: nbdl.broadcast_shapes((2,), (3,)), RuntimeError, "sizes 2 and 3 meet at axis -1"),
    "window": (lambda x: nbdl.hann_window(-1), RuntimeError, "requires non-negative window_length"),
    "device": (lambda x: x.to("xla"), RuntimeError, "to: expected a device .* or a dtype, got 'xla'"),
    "range": (lambda x: nbdl.range(1, 0), RuntimeError, "inconsistent with step sign"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    function, error, message = ERRORS[name]
    with pytest.raises(error, match=message):
        function(nbdl.tensor(X))

"""Convolution and its two transposes: against loops, as each other's derivatives, and their errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.backend.windows import taps, window_count
from nbdl.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight, convolution

# size, kernel, stride, padding, dilation, groups, channels in, channels out
GEOMETRIES = [
    ((5,), (3,), (1,), ((0, 0),), (1,), 1, 2, 3),
    ((6,), (3,), (2,), ((1, 2),), (2,), 2, 4, 2),
    ((5, 4), (3, 2), (1, 1), ((1, 1), (0, 1)), (1, 1), 1, 2, 3),
    ((6, 5), (2, 3), (3, 2), ((1, 0), (2, 1)), (2, 1), 2, 2, 4),
    ((4, 4), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 3, 3, 3),
    ((5, 5), (2, 2), (2, 2), ((0, -1), (-1, 0)), (1, 1), 1, 1, 2),
    ((3, 4, 3), (2, 3, 1), (1, 2, 2), ((1, 0), (1, 1), (0, 0)), (1, 1, 2), 1, 1, 2),
]
IDS = [f"{len(size)}d-{k}" for k, (size, *_) in enumerate(GEOMETRIES)]


def operands(geometry: tuple, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    size, kernel, _, _, _, groups, c, o = geometry
    rng = np.random.default_rng(1)
    x, w, b = rng.normal(size=(2, c, *size)), rng.normal(size=(o, c // groups, *kernel)), rng.normal(size=o)
    return x.astype(dtype), w.astype(dtype), b.astype(dtype)


def by_loops(x: np.ndarray, w: np.ndarray, b: np.ndarray, geometry: tuple) -> np.ndarray:
    """The definition, one product at a time."""
    size, kernel, stride, padding, dilation, groups, c, o = geometry
    counts = tuple(map(window_count, size, kernel, stride, padding, dilation))
    y = np.zeros((x.shape[0], o, *counts))
    for n, out, window in itertools.product(range(x.shape[0]), range(o), np.ndindex(*counts)):
        group = out // (o // groups)
        total = float(b[out])
        for k, tap in itertools.product(range(c // groups), np.ndindex(*kernel)):
            at = tuple(
                i * s + t * d - p[0]
                for i, s, t, d, p in zip(window, stride, tap, dilation, padding, strict=True)
            )
            if all(0 <= i < m for i, m in zip(at, size, strict=True)):
                total += float(w[(out, k, *tap)]) * float(x[(n, group * (c // groups) + k, *at)])
        y[(n, out, *window)] = total
    return y


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=IDS)
def test_equals_the_definition(backend: str, geometry: tuple) -> None:
    x, w, b = operands(geometry)
    y = convolution(nbdl.tensor(x), nbdl.tensor(w), nbdl.tensor(b), *geometry[2:6])
    np.testing.assert_allclose(y.numpy(), by_loops(x, w, b, geometry), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float16", 3e-3), ("bfloat16", 3e-2)])
def test_dtypes(backend: str, dtype: str, tolerance: float) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    x, w, b = operands(GEOMETRIES[3])
    tensors = [nbdl.tensor(a, dtype=dtype, requires_grad=True) for a in (x, w, b)]
    y = convolution(*tensors, *GEOMETRIES[3][2:6])
    assert str(y.dtype) == dtype
    expected = by_loops(*[t.detach().to("float64").numpy() for t in tensors], GEOMETRIES[3])
    np.testing.assert_allclose(y.detach().to("float64").numpy(), expected, rtol=tolerance, atol=tolerance)
    y.sum().backward()
    assert all(t.grad is not None and t.grad.dtype == t.dtype for t in tensors)


def test_blocks_of_filters_and_tiles_of_outputs(backend: str) -> None:
    rng = np.random.default_rng(2)
    for dtype, filters, width in itertools.product(("float32", "float64"), (7, 8, 9, 16, 17, 40), (13, 27)):
        x, w = rng.integers(-3, 4, (2, 3, 4, width)), rng.integers(-3, 4, (filters, 3, 3, 2))
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 2), (2, 3))
        expected = np.einsum("nchwij,ocij->nohw", windows, w)
        y = F.conv2d(nbdl.tensor(x.astype(dtype)), nbdl.tensor(w.astype(dtype)))
        np.testing.assert_array_equal(y.numpy(), expected.astype(dtype), strict=True)


def test_strided_and_empty_operands(backend: str) -> None:
    x, w, b = operands(GEOMETRIES[2])
    strided = nbdl.tensor(x.transpose(3, 1, 0, 2).copy()).permute(2, 1, 3, 0)
    y = convolution(strided, nbdl.tensor(w[:, :, ::-1].copy()).flip(2), nbdl.tensor(b), *GEOMETRIES[2][2:6])
    np.testing.assert_allclose(y.numpy(), by_loops(x, w, b, GEOMETRIES[2]), rtol=1e-12, atol=1e-12)
    none = nbdl.zeros(0, 2, 5, 4, dtype="float64", requires_grad=True)
    weight = nbdl.tensor(w, requires_grad=True)
    convolution(none, weight, None, *GEOMETRIES[2][2:6]).sum().backward()
    assert none.grad is not None and none.grad.shape == none.shape
    assert weight.grad is not None and not weight.grad.numpy().any()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=IDS)
def test_the_three_are_transposes_of_each_other(geometry: tuple) -> None:
    x, w, _ = (nbdl.tensor(a) for a in operands(geometry))
    size, kernel, *rest = geometry[:6]
    y = convolution(x, w, None, *rest)
    g = nbdl.tensor(np.random.default_rng(2).normal(size=y.shape))
    product = float((y * g).sum())
    assert float((ConvolutionInput.of(*rest, size)(g, w) * x).sum()) == pytest.approx(product, rel=1e-12)
    assert float((ConvolutionWeight.of(*rest, kernel)(x, g) * w).sum()) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize("geometry", [GEOMETRIES[1], GEOMETRIES[3], GEOMETRIES[6]], ids=["1d", "2d", "3d"])
def test_derivatives(geometry: tuple) -> None:
    with nbdl.use_backend("numpy"):
        inputs = [nbdl.tensor(a, requires_grad=True) for a in operands(geometry)]

        def function(*xs: nbdl.Tensor) -> nbdl.Tensor:
            return convolution(*xs, *geometry[2:6])

        assert gradcheck(function, inputs, check_forward_ad=True)
        assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("primitive", ["input", "weight"])
def test_derivatives_of_the_transposes(primitive: str) -> None:
    geometry = GEOMETRIES[3]
    size, kernel, *rest = geometry[:6]
    with nbdl.use_backend("numpy"):
        x, w, _ = (nbdl.tensor(a, requires_grad=True) for a in operands(geometry))
        y = convolution(x, w, None, *rest).detach().requires_grad_()
        transposed, inputs = (
            (ConvolutionInput.of(*rest, size), (y, w))
            if primitive == "input"
            else (ConvolutionWeight.of(*rest, kernel), (x, y))
        )
        assert gradcheck(transposed, inputs, check_forward_ad=True)
        assert gradgradcheck(transposed, inputs, fast_mode=True)


def test_out_receives_the_result() -> None:
    x, w, b = operands(GEOMETRIES[2])
    backend = nbdl.backend.registry.load("numpy")
    primitive = Convolution.of(*GEOMETRIES[2][2:6])
    expected = backend.execute(primitive, [x, w, b])
    out = np.empty(expected.shape[::-1]).T  # not contiguous
    assert backend.execute(primitive, [x, w, b], out=out) is out
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_taps_meet_what_the_definition_says(size: int, kernel: int, stride: int) -> None:
    for before, after, dilation in itertools.product((-1, 0, 2), (-1, 0, 1), (1, 2)):
        count = window_count(size, kernel, stride, (before, after), dilation)
        if count < 1:
            continue
        met = {
            (tap.position[0], window): element
            for tap in taps((size,), (kernel,), (stride,), (before,), (dilation,), (count,))
            for window, element in zip(
                range(count)[tap.windows[-1]], range(size)[tap.elements[-1]], strict=True
            )
        }
        defined = {
            (k, o): o * stride + k * dilation - before
            for k, o in itertools.product(range(kernel), range(count))
            if 0 <= o * stride + k * dilation - before < size
        }
        assert met == defined


def shapes(*given: tuple[int, ...]) -> list[nbdl.Tensor]:
    return [nbdl.zeros(*shape) for shape in given]


ERRORS = [
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 2, 3, 3)),
        {},
        RuntimeError,
        r"expected input \[2, 3, 8, 8\] to have 2 channels, but got 3",
    ),
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 3, 3, 3), (3,)),
        {},
        RuntimeError,
        "expected bias to be 1-dimensional with 4 elements",
    ),
    (
        F.conv2d,
        shapes((2, 3, 2, 2), (4, 3, 3, 3)),
        {},
        RuntimeError,
        "Kernel size can't be greater than actual input size",
    ),
    (
        F.conv2d,
        shapes((8, 8), (4, 3, 3, 3)),
        {},
        RuntimeError,
        r"Expected 3D \(unbatched\) or 4D \(batched\) input",
    ),
    (F.conv2d, shapes((2, 3, 8, 8), (4, 3, 3)), {}, RuntimeError, "expected a weight with 4 axes"),
    (
        F.conv2d,
        shapes((2, 4, 8, 8), (3, 2, 3, 3)),
        {"groups": 2},
        RuntimeError,
        "expected weight to be divisible by 2",
    ),
    (F.conv2d, shapes((2, 4, 8, 8), (3, 4, 3, 3)), {"groups": 0}, RuntimeError, "non-positive groups"),
    (F.conv2d, shapes((2, 3, 8, 8), (4, 3, 3, 3)), {"stride": 0}, RuntimeError, "stride must be at least 1"),
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 3, 3, 3)),
        {"stride": (1, 2, 3)},
        RuntimeError,
        "a tuple of 2 integers",
    ),
    (F.conv2d, shapes((2, 3, 8, 8), (4, 3, 3, 3)), {"stride": 1.5}, TypeError, "stride must be an integer"),
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 3, 3, 3)),
        {"padding": -1},
        RuntimeError,
        "padding must be at least 0",
    ),
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 3, 3, 3)),
        {"padding": "full"},
        ValueError,
        "should be one of 'valid', 'same'",
    ),
    (
        F.conv2d,
        shapes((2, 3, 8, 8), (4, 3, 3, 3)),
        {"padding": "same", "stride": 2},
        RuntimeError,
        "strided convolutions",
    ),
    (F.conv_transpose2d, shapes((2, 3, 4, 4), (4, 3, 3, 3)), {}, RuntimeError, "to have 4 channels"),
    (
        F.conv_transpose2d,
        shapes((2, 3, 4, 4), (3, 4, 3, 3)),
        {"output_padding": 1},
        RuntimeError,
        "smaller than either stride",
    ),
    (
        F.conv_transpose2d,
        shapes((2, 3, 4, 4), (3, 4, 3, 3), (3,)),
        {},
        RuntimeError,
        r"bias to have shape \(4,\)",
    ),
    (F.conv_transpose1d, shapes((2, 3, 1), (3, 4, 1)), {"padding": 1}, RuntimeError, "too small"),
    (F.fold, shapes((2, 12, 7)), {"output_size": (5, 6), "kernel_size": 2}, RuntimeError, "need an input"),
    (F.unfold, shapes((2, 12)), {"kernel_size": 2}, RuntimeError, "Expected 3D"),
]


@pytest.mark.parametrize(("function", "operands", "options", "error", "message"), ERRORS)
def test_errors(backend: str, function, operands, options, error, message: str) -> None:
    with pytest.raises(error, match=message):
        function(*operands, **options)


def test_different_dtypes_are_refused(backend: str) -> None:
    x, w = nbdl.zeros(1, 1, 4, 4), nbdl.zeros(1, 1, 2, 2, dtype="float64")
    with pytest.raises(RuntimeError, match="same dtype, but got float32 and float64"):
        F.conv2d(x, w)

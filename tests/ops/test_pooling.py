"""Pooling: positions, ties, NaN, windows over the edge, derivatives and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.pooling import pool_counts, window_gather, window_scatter

NAN, INF = math.nan, math.inf


def test_values_and_positions(backend: str) -> None:
    x = nbdl.tensor([[[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 9.0, 8.0], [7.0, 6.0, -1.0, -2.0]]]])
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert values.tolist() == [[[[5.0, 9.0]]]]
    assert indices.tolist() == [[[[1, 6]]]]
    assert indices.dtype == np.int64
    values, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    assert values.tolist() == [[[[5.0, 9.0], [7.0, -1.0]]]]
    assert indices.tolist() == [[[[1, 6], [8, 10]]]]


@pytest.mark.parametrize(
    ("row", "expected", "position"),
    [
        ([1.0, 3.0, 3.0], 3.0, 1),  # the first of equal ones
        ([1.0, NAN, 3.0], NAN, 1),
        ([NAN, 1.0, 3.0], NAN, 0),
        ([-INF, -INF, -INF], -INF, 0),
        ([-INF, -2.0, INF], INF, 2),
        ([0.0, -0.0, 0.0], 0.0, 0),
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_special_values(backend: str, dtype: str, row: list, expected: float, position: int) -> None:
    values, indices = F.max_pool1d(nbdl.tensor([[row]], dtype=dtype), 3, return_indices=True)
    np.testing.assert_array_equal(values.numpy(), np.array([[[expected]]], dtype))
    assert indices.item() == position


def test_padding_never_wins(backend: str) -> None:
    x = nbdl.full((1, 1, 3, 3), -INF)
    values, indices = F.max_pool2d(x, 3, stride=2, padding=1, return_indices=True)
    assert (values == -INF).all()
    assert indices.tolist() == [[[[0, 1], [3, 4]]]]
    integers = F.max_pool2d(nbdl.tensor(np.full((1, 1, 3, 3), -5)), 3, stride=2, padding=1)
    assert (integers == -5).all()


def test_overlapping_windows_share_a_maximum() -> None:
    x = nbdl.tensor([[[0.0, 9.0, 1.0, 0.5]]], requires_grad=True)
    F.max_pool1d(x, 2, stride=1).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[[0.0, 2.0, 1.0, 0.0]]]


@pytest.mark.parametrize("seed", range(4))
def test_gather_and_scatter_are_transposes(backend: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, indices = nbdl.tensor(rng.normal(size=(2, 3, 4, 5))), nbdl.tensor(rng.integers(0, 20, (2, 3, 2, 6)))
    y = nbdl.tensor(rng.normal(size=(2, 3, 2, 6)))
    assert float((window_gather(x, indices) * y).sum()) == pytest.approx(
        float((window_scatter(y, indices, (4, 5)) * x).sum())
    )


FUNCTIONS = [
    lambda x: F.max_pool2d(x, (2, 3), stride=(1, 2), padding=(1, 1)),
    lambda x: F.max_pool2d(x, 2, ceil_mode=True, dilation=2),
    lambda x: F.adaptive_max_pool2d(x, (2, 3)),
    lambda x: F.avg_pool2d(x, (3, 2), stride=2, padding=1, count_include_pad=False, ceil_mode=True),
    lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    lambda x: F.adaptive_avg_pool2d(x, (3, 4)),
    lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
    lambda x: F.fractional_max_pool2d(x, 2, (3, 4), _random_samples=nbdl.full((1, 2, 2), 0.4, dtype=x.dtype)),
]


@pytest.mark.parametrize("k", range(len(FUNCTIONS)))
def test_derivatives(k: int) -> None:
    distinct = np.random.default_rng(k).permutation(60).reshape(1, 2, 5, 6) * 0.1
    with nbdl.use_backend("numpy"):
        x = nbdl.tensor(distinct, requires_grad=True)
        assert gradcheck(FUNCTIONS[k], x, check_forward_ad=True)
        assert gradgradcheck(FUNCTIONS[k], x, fast_mode=True)


@pytest.mark.parametrize("position", [-1, 16])
def test_unpooling_outside_is_an_error(backend: str, position: int) -> None:
    indices = nbdl.full((1, 2, 2, 2), position, dtype="int64")
    with pytest.raises((RuntimeError, IndexError), match="max_unpool: found an invalid max index"):
        F.max_unpool2d(nbdl.ones(1, 2, 2, 2), indices, 2)


@pytest.mark.torch
def test_unpooling_of_overlapping_windows_equals_pytorchs(backend: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.random.default_rng(0).standard_normal((2, 3, 7, 8))
    results = []
    for lib in (nbdl, torch):
        functional = lib.nn.functional
        a = lib.tensor(x, requires_grad=True)
        values, indices = functional.max_pool2d(a, 3, 2, return_indices=True)
        y = functional.max_unpool2d(values, indices, 3, 2, output_size=(7, 8))
        (gradient,) = lib.autograd.grad((y * y).sum(), a)
        results.append((y.detach().numpy(), gradient.numpy()))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["max_pool2d", "adaptive_max_pool2d"])
def test_the_last_nan_wins_as_in_pytorch(backend: str, name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = np.zeros((1, 1, 4, 4))
    x[0, 0, [0, 1, 0, 2, 3], [1, 0, 2, 3, 3]] = np.nan
    ours, theirs = (
        getattr(lib.nn.functional, name)(lib.tensor(x), 2, return_indices=True)[1] for lib in (nbdl, torch)
    )
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize("channels", [1, 3])
def test_elements_that_are_not_neighbours(backend: str, channels: int) -> None:
    x = nbdl.rand(2, channels, 9, 20)[..., ::2]
    for name in ("max_pool2d", "avg_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d"):
        function = getattr(F, name)
        for size in (2, 4, (1, 8)):
            np.testing.assert_allclose(
                function(x, size).numpy(), function(x.clone(), size).numpy(), rtol=1e-6
            )


def test_pools_are_batched_and_compiled(backend: str) -> None:
    x, u = nbdl.rand(3, 2, 2, 9, 9), nbdl.rand(3, 2, 2, 2)

    def pooled(x: nbdl.Tensor, u: nbdl.Tensor) -> nbdl.Tensor:
        values, indices = F.fractional_max_pool2d(x, 2, 4, return_indices=True, _random_samples=u)
        back = F.max_unpool2d(values, indices, 2, output_size=(9, 9))
        return back.sum() + F.adaptive_max_pool2d(x, 2).sum() + F.adaptive_avg_pool2d(x, 3).sum()

    expected = nbdl.stack([pooled(a, b) for a, b in zip(x, u, strict=True)])
    np.testing.assert_allclose(nbdl.func.vmap(pooled)(x, u).numpy(), expected.numpy(), rtol=1e-5)
    np.testing.assert_allclose(nbdl.compile(pooled)(x[0], u[0]).numpy(), expected[0].numpy(), rtol=1e-5)


def test_unpooling_puts_maxima_back(backend: str) -> None:
    x = nbdl.tensor(np.random.default_rng(0).permutation(25).reshape(1, 1, 5, 5) * 1.0)
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    back = F.max_unpool2d(values, indices, 2, output_size=(5, 5))
    assert back.shape == x.shape
    kept = back.numpy() != 0
    np.testing.assert_array_equal(back.numpy()[kept], x.numpy()[kept])
    assert sorted(back.numpy()[kept]) == sorted(values.numpy().reshape(-1))


@pytest.mark.parametrize(
    ("function", "empty"),
    [
        *[(f, (0, 2, 4, 4)) for f in (F.max_pool2d, F.avg_pool2d, F.adaptive_max_pool2d)],
        *[(F.adaptive_avg_pool2d, empty) for empty in ((0, 2, 4, 4), (2, 0, 4, 4))],
    ],
)
def test_no_images(backend: str, function, empty: tuple[int, ...]) -> None:
    x = nbdl.zeros(*empty, requires_grad=True)
    y = function(x, 2)
    assert y.shape == (*empty[:2], 2, 2)
    y.sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.torch
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_counts_of_windows_equal_pytorchs(ceil_mode: bool) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for size in range(1, 9):
        for kernel in range(1, 4):
            for stride in range(1, 5):
                for padding in range(kernel // 2 + 1):
                    if size + 2 * padding < kernel:
                        continue
                    expected = torch.nn.functional.avg_pool1d(
                        torch.ones(1, 1, size),
                        kernel,
                        stride,
                        padding,
                        ceil_mode=ceil_mode,
                        count_include_pad=False,
                    )
                    counts = pool_counts("pool", (size,), (kernel,), (stride,), (padding,), (1,), ceil_mode)
                    assert counts == expected.shape[2:], (size, kernel, stride, padding)
                    ours = F.avg_pool1d(
                        nbdl.ones(1, 1, size),
                        kernel,
                        stride,
                        padding,
                        ceil_mode=ceil_mode,
                        count_include_pad=False,
                    )
                    np.testing.assert_allclose(ours.numpy(), expected.numpy())


IMAGE = nbdl.zeros(1, 2, 4, 4)
ERRORS = [
    (F.max_pool2d, (IMAGE, 2), {"padding": 2}, RuntimeError, "pad should be at most half"),
    (F.avg_pool2d, (IMAGE, 3), {"padding": 2}, RuntimeError, "pad should be at most half"),
    (F.max_pool2d, (IMAGE, 5), {}, RuntimeError, "output size is too small"),
    (F.max_pool2d, (IMAGE, 0), {}, RuntimeError, "kernel_size must be at least 1"),
    (F.max_pool2d, (IMAGE, 2), {"stride": 0}, RuntimeError, "stride must be at least 1"),
    (F.max_pool2d, (IMAGE, (2, 2, 2)), {}, RuntimeError, "a tuple of 2 integers"),
    (F.max_pool1d, (IMAGE, 2), {}, RuntimeError, r"Expected 2D \(unbatched\) or 3D"),
    (F.avg_pool2d, (IMAGE, 2), {"divisor_override": 0}, RuntimeError, "divisor must be not zero"),
    (F.adaptive_avg_pool2d, (IMAGE, (2, 2, 2)), {}, RuntimeError, "output_size must be one integer or 2"),
    (F.adaptive_avg_pool2d, (nbdl.zeros(1, 2, 0, 4), 2), {}, RuntimeError, "non-zero size"),
    (F.max_unpool2d, (IMAGE, IMAGE.long(), 2), {"output_size": (20, 8)}, ValueError, "invalid output_size"),
    (
        F.max_unpool2d,
        (IMAGE, nbdl.zeros(1, 2, 4, dtype="int64"), 2),
        {},
        RuntimeError,
        "Expected shape of indices",
    ),
]


@pytest.mark.parametrize(("function", "operands", "options", "error", "message"), ERRORS)
def test_errors(function, operands: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        function(*operands, **options)

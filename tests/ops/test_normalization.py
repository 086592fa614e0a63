"""Normalisation: its one primitive, running statistics, half precision, derivatives through the statistics,
errors.
"""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.ops.normalization import NormalizeInput, normalize, normalize_with


def real(*shape: int, dtype: str = "float64") -> nbdl.Tensor:
    values = np.random.default_rng(sum(shape)).normal(1.0, 2.0, shape)
    return nbdl.tensor(values, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("axes", [(0, 2), (1, 2), (2,), (0,)])
def test_statistics_and_result(backend: str, axes: tuple[int, ...]) -> None:
    x = real(3, 4, 5).detach()
    y, mean, variance = normalize(x, None, None, axes, 1e-5)
    a = x.numpy()
    np.testing.assert_allclose(mean.numpy(), a.mean(axes, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(variance.numpy(), a.var(axes, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(
        y.numpy(),
        (a - a.mean(axes, keepdims=True)) / np.sqrt(a.var(axes, keepdims=True) + 1e-5),
        rtol=1e-10,
        atol=1e-12,
    )


def test_large_means_do_not_cost_digits(backend: str) -> None:
    noise = np.random.default_rng(0).normal(size=(4, 1000))
    y = F.layer_norm(nbdl.tensor(noise + 1e4, dtype="float32"), 1000).numpy()
    expected = (noise - noise.mean(1, keepdims=True)) / noise.std(1, keepdims=True)
    assert np.abs(y - expected).max() < 2e-3  # the operand itself is rounded to 1e-3
    assert np.abs(y.std(1) - 1).max() < 1e-4


FUNCTIONS = {
    "all outputs": (lambda x, w, b: normalize(x, w, b, (0, 2), 0.1), [(3, 2, 4), (1, 2, 1), (1, 2, 1)]),
    "layer": (lambda x, w, b: normalize(x, w, b, (1, 2), 0.1)[0], [(2, 2, 3), (1, 2, 3), (1, 2, 3)]),
    "weight only": (lambda x, w: normalize(x, w, None, (0,), 0.1), [(5, 2), (1, 2)]),
    "bias only": (lambda x, b: normalize(x, None, b, (0,), 0.1), [(5, 2), (1, 2)]),
    "plain": (lambda x: normalize(x, None, None, (1,), 0.1), [(2, 5)]),
    "rms": (lambda x, w: normalize(x, w, None, (1,), 0.1, centred=False), [(2, 5), (1, 5)]),
    "vectors along the last axes": (lambda x, w, b: normalize(x, w, b, (2,), 0.1), [(2, 2, 3), (3,), (2, 3)]),
    "by channel": (
        lambda x, w, b: normalize(x, w, b, (0, 2), 0.1, by_channel=True),
        [(3, 2, 4), (2,), (2,)],
    ),
    "groups": (lambda x, w, b: normalize(x, w, b, (), 0.1, groups=2), [(2, 4, 3), (4,), (4,)]),
    "groups, bias only": (lambda x, b: normalize(x, None, b, (), 0.1, groups=2), [(2, 4, 3), (4,)]),
    "given statistics": (
        lambda x, m, v, w, b: normalize_with(x, m, v * v, w, b, 0.1),
        [(4, 3), (1, 3), (1, 3), (1, 3), (1, 3)],
    ),
    "backward": (
        lambda g, x, w, m, v: NormalizeInput.of((0,), 0.1, True, True)(g, x, w, m, v * v),
        [(4, 2), (4, 2), (1, 2), (1, 2), (1, 2)],
    ),
    "groups backward": (
        lambda g, x, w, m, v: NormalizeInput.of((), 0.1, True, True, True, 2)(g, x, w, m, v * v),
        [(2, 4, 3), (2, 4, 3), (4,), (2, 2, 1, 1), (2, 2, 1, 1)],
    ),
    "rms backward": (
        lambda g, x, v: NormalizeInput.of((1,), 0.1, False, False)(g, x, v * v),
        [(2, 3), (2, 3), (2, 1)],
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives(name: str) -> None:
    function, shapes = FUNCTIONS[name]
    with nbdl.use_backend("numpy"):
        inputs = [real(*shape) for shape in shapes]
        if "backward" in name:
            function = _first(function)
        assert gradcheck(function, inputs, check_forward_ad=True)
        assert gradgradcheck(function, inputs, fast_mode=True)


def _first(function):
    """The gradient of x alone."""

    def first(*inputs: nbdl.Tensor) -> nbdl.Tensor:
        result = function(*inputs)
        return result[0] if isinstance(result, tuple) else result

    return first


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 5)])
def test_running_statistics_equal_pytorchs(backend: str, dtype: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    mean, var, weight, bias = (
        np.array(v, dtype) for v in ([0.5, 1, 2], [1, 2, 0.5], [2, 1, 0.3], [0, 1, -1])
    )
    ours, theirs = [nbdl.tensor(a) for a in (mean, var)], [torch.tensor(a) for a in (mean, var)]
    tolerance = {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-6}
    functions = [(F.batch_norm, torch.nn.functional.batch_norm, "training")]
    if len(shape) > 2:
        functions.append((F.instance_norm, torch.nn.functional.instance_norm, "use_input_stats"))
    for function, twin, mode in functions:
        for step, training in enumerate((True, True, False)):
            x = np.random.default_rng(step).normal(3, 2, shape).astype(dtype)
            options = {mode: training, "momentum": 0.3, "eps": 1e-3}
            y = function(nbdl.tensor(x), *ours, nbdl.tensor(weight), nbdl.tensor(bias), **options)
            z = twin(torch.tensor(x), *theirs, torch.tensor(weight), torch.tensor(bias), **options)
            np.testing.assert_allclose(y.numpy(), z.numpy(), **tolerance)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a.numpy(), b.numpy(), **tolerance)
                assert a.dtype == dtype and not a.requires_grad


def test_running_statistics_are_changed_in_place_and_not_recorded(backend: str) -> None:
    x, mean, var = real(8, 3), nbdl.zeros(3, dtype="float64"), nbdl.ones(3, dtype="float64")
    before, versions = mean.array, (mean._version, var._version)
    y = F.batch_norm(x, mean, var, training=True)
    assert mean.array is before
    assert (mean._version, var._version) == (versions[0] + 1, versions[1] + 1)
    assert not mean.requires_grad and y.requires_grad
    y.sum().backward()


@pytest.mark.parametrize("function", ["batch", "layer", "rms"])
def test_half_precision(backend: str, function: str) -> None:
    x = np.random.default_rng(0).normal(3, 2, (8, 5)).astype(np.float16)
    weight = np.linspace(0.5, 2, 5).astype(np.float16)

    def run(dtype: str) -> tuple[nbdl.Tensor, nbdl.Tensor, nbdl.Tensor]:
        a, w = (
            nbdl.tensor(x, dtype=dtype, requires_grad=True),
            nbdl.tensor(weight, dtype=dtype, requires_grad=True),
        )
        if function == "batch":
            y = F.batch_norm(a, None, None, w, training=True)
        else:
            y = F.layer_norm(a, 5, w) if function == "layer" else F.rms_norm(a, 5, w, eps=1e-3)
        (y * y).sum().backward()
        assert a.grad is not None and w.grad is not None
        return y.detach(), a.grad, w.grad

    for half, full in zip(run("float16"), run("float64"), strict=True):
        assert half.dtype == np.float16
        np.testing.assert_allclose(half.numpy(), full.numpy(), rtol=2e-2, atol=2e-2)


def test_mixed_in_place_change_of_a_saved_operand_is_found() -> None:
    x = real(4, 3)
    middle = x * 1.0
    y = F.layer_norm(middle, 3)
    middle.mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


X = nbdl.zeros(2, 4, 3)
ERRORS = [
    (
        lambda: F.batch_norm(X, nbdl.zeros(3), nbdl.ones(3)),
        RuntimeError,
        "running_mean should contain 4 elements",
    ),
    (lambda: F.batch_norm(X, None, None), RuntimeError, "running_mean and running_var to be defined"),
    (
        lambda: F.batch_norm(nbdl.zeros(1, 4), None, None, training=True),
        ValueError,
        "more than 1 value per channel",
    ),
    (
        lambda: F.batch_norm(nbdl.zeros(4), None, None, training=True),
        RuntimeError,
        r"expected an input \(N, C, ...\)",
    ),
    (lambda: F.instance_norm(nbdl.zeros(2, 4)), ValueError, "with spatial axes"),
    (lambda: F.instance_norm(nbdl.zeros(2, 4, 1)), ValueError, "more than 1 spatial element"),
    (lambda: F.layer_norm(X, (4, 2)), RuntimeError, r"expected input with shape \[\*, 4, 2\]"),
    (lambda: F.layer_norm(X, (3,), nbdl.ones(4)), RuntimeError, "Expected weight to be of same shape"),
    (lambda: F.rms_norm(X, ()), RuntimeError, "normalized_shape"),
    (lambda: F.group_norm(X, 3), RuntimeError, "divisible by num_groups"),
    (lambda: F.group_norm(X, 2, nbdl.ones(3)), RuntimeError, "weight should contain 4 elements"),
    (lambda: F.local_response_norm(nbdl.zeros(2, 4), 3), ValueError, "3D or higher"),
    (lambda: F.layer_norm(X, (3,), nbdl.ones(3, dtype="float64")), RuntimeError, "same dtype"),
    (lambda: normalize(X, nbdl.ones(4), None, (0,), 0.1), RuntimeError, "weight and bias must broadcast"),
]


@pytest.mark.parametrize(("call", "error", "message"), ERRORS)
def test_errors(call, error: type[Exception], message: str) -> None:
    with nbdl.use_backend("numpy"), pytest.raises(error, match=message):
        call()

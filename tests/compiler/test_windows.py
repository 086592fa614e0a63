"""Masks of the gradients of maxima: computed on the windows where that gives the same, and only there."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F
from nbdl.compiler import PASSES

# name -> pooling, shape of x
POOLS = {
    "2x2": (lambda x: F.max_pool2d(x, 2), (3, 4, 8, 6)),
    "border left out": (lambda x: F.max_pool2d(x, 2), (2, 3, 7, 5)),
    "padded": (lambda x: F.max_pool2d(x, 3, padding=1), (2, 3, 7, 8)),
    "gaps": (lambda x: F.max_pool2d(x, 2, stride=3), (2, 3, 8, 8)),
    "1d": (lambda x: F.max_pool1d(x, 3), (3, 4, 11)),
    "3d": (lambda x: F.max_pool3d(x, (1, 2, 2)), (2, 3, 3, 4, 6)),
}


def tensor(*shape: int, channels_last: bool = False) -> nbdl.Tensor:
    values = np.random.default_rng(sum(shape)).normal(size=shape).astype("float32").round(1)  # with ties
    if channels_last:
        values = np.ascontiguousarray(np.moveaxis(values, 1, -1))
        return nbdl.tensor(values).movedim(-1, 1)
    return nbdl.tensor(values)


@pytest.mark.parametrize("channels_last", [False, True], ids=["rows", "channels last"])
@pytest.mark.parametrize("name", POOLS)
def test_gradients_stay_the_same(backend: str, name: str, channels_last: bool) -> None:
    pool, shape = POOLS[name]
    x = tensor(*shape, channels_last=channels_last).requires_grad_(True)
    bias = tensor(shape[1], *[1] * (len(shape) - 2)).requires_grad_(True)

    def function():
        out = pool((x + bias).relu())
        weights = nbdl.arange(out.numel(), dtype=out.dtype).reshape(out.shape) - 5
        return nbdl.autograd.grad((out * weights).sum(), (x, bias))

    compiled, separate = nbdl.compile(function), nbdl.compile(function, without=["windows"])
    masks = [
        [op.outputs[0].size for op in f.program().improved.operations if "relu_vjp" in op.label]
        for f in (compiled, separate)
    ]
    assert masks[0] != masks[1]
    for _ in range(2):
        results, expected = compiled(), separate()
    for result, value, eager in zip(results, expected, function(), strict=True):
        np.testing.assert_allclose(result.numpy(), value.numpy(), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(result.numpy(), eager.numpy(), rtol=1e-5, atol=1e-4)


def sizes(function, x) -> list[int]:
    """Of the results of pointwise operations behind the gradient of the maximum, after the pass."""
    x.requires_grad_(True)
    with nbdl.use_backend("numpy"):
        recorded = nbdl.compile(lambda: nbdl.autograd.grad(function(x), x)).program().recorded
    operations = PASSES["windows"](recorded).operations
    return [op.outputs[0].size for op in operations if op.label in ("window_scatter", "relu_vjp", "abs_vjp")]


X = tensor(2, 3, 6, 6)
SMALL, LARGE = 2 * 3 * 3 * 3, 2 * 3 * 6 * 6


def test_the_mask_moves_before_the_scatter() -> None:
    assert sizes(lambda x: F.max_pool2d(x.relu(), 2).sum(), X) == [SMALL, LARGE]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x.relu(), 3, stride=2).sum(),  # an element may be in two windows
        lambda x: F.max_pool2d(x.relu(), 2, dilation=2, stride=2).sum(),
        lambda x: F.max_pool2d(x.relu() + 1, 2).sum(),  # the mask is not one of what was pooled
    ],
    ids=["overlapping", "dilated", "another operand"],
)
def test_where_it_stays_behind(function) -> None:
    found = sizes(function, X)
    assert found == [LARGE, LARGE]


@pytest.mark.parametrize(
    "function", [lambda g, z: g + z, lambda g, z: g - 1, lambda g, z: nbdl.where(g > 0, g, z), nbdl.maximum]
)
def test_what_is_not_zero_beside_the_maxima_is_computed_everywhere(backend: str, function) -> None:
    def step(x):
        x = x.detach().requires_grad_()
        return function(nbdl.autograd.grad(F.max_pool2d(x, 2).sum(), x)[0], x.detach())

    compiled = nbdl.compile(step)
    for _ in range(2):
        np.testing.assert_array_equal(compiled(X.detach()).numpy(), step(X.detach()).numpy())

"""Gradients of arguments that are leaves, and transforms of compiled functions."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


@pytest.mark.parametrize("create", [lambda x: x.clone().requires_grad_(), lambda x: x.requires_grad_() * 1])
def test_gradients_flow_to_any_argument(create, backend):
    calls = 0

    @nbdl.compile
    def function(x, y):
        nonlocal calls
        calls += 1
        return (x.sin() * y).sum()

    for k in range(5):
        x, y = create(nbdl.full((3,), float(k))), nbdl.full((3,), 2.0, requires_grad=True)
        gradients = nbdl.autograd.grad(function(x, y), (x, y))
        np.testing.assert_allclose(gradients[0].tolist(), np.full(3, 2 * np.cos(k)), rtol=1e-6)
        np.testing.assert_allclose(gradients[1].tolist(), np.full(3, np.sin(k)), rtol=1e-6)
    assert calls == 2  # the first leaf may have been a part of the program


def test_transforms_of_compiled_functions(backend):
    function = nbdl.compile(lambda x: (x.sin() * x).sum(-1))
    x = nbdl.randn(2, 3, dtype=nbdl.float64, generator=nbdl.Generator().manual_seed(0))
    expected = x.cos() * x + x.sin()
    for _ in range(3):
        np.testing.assert_allclose(nbdl.func.grad(lambda x: function(x).sum())(x), expected, rtol=1e-12)
        np.testing.assert_allclose(nbdl.func.jvp(function, (x,), (x,))[1], (expected * x).sum(-1), rtol=1e-12)
        np.testing.assert_allclose(nbdl.vmap(function)(x), function(x), rtol=1e-12)
    with pytest.raises(RuntimeError, match="call the function inside the transform, uncompiled"):
        nbdl.func.jacrev(function)(x)


def test_a_gradient_taken_inside_belongs_to_the_leaf():
    @nbdl.compile
    def function(x):
        (x * x).sum().backward()
        gradient, x.grad = x.grad, None
        return gradient

    for k in range(4):
        assert function(nbdl.full((2,), float(k), requires_grad=True)).tolist() == [2 * k] * 2

"""The random tests of convexity: what is convex stays unrefuted, what is not is refuted with a witness."""

from __future__ import annotations

import pytest

import nbdl
from nbdl.utils.convexity import (
    convex_function_counterexample,
    convex_set_counterexample,
    first_order_counterexample,
)


def points(n: int = 2, dtype=nbdl.float64) -> nbdl.Tensor:
    nbdl.manual_seed(0)
    return 4 * nbdl.rand(300, n, dtype=dtype) - 2


FUNCTIONS = [
    ("affine", lambda p: 3 * p[0] - 2 * p[1] + 1, True),
    ("square", lambda p: (p * p).sum(), True),
    ("norm", nbdl.linalg.norm, True),
    ("maximum norm", lambda p: p.abs().max(), True),
    ("log sum exp", lambda p: nbdl.logsumexp(p, 0), True),
    ("saddle", lambda p: p[0] * p[1], False),
    ("concave", lambda p: -(p * p).sum(), False),
    ("ripple", lambda p: (3 * p).sin().sum(), False),
]


@pytest.mark.parametrize("dtype", [nbdl.float32, nbdl.float64], ids=str)
@pytest.mark.parametrize(("name", "function", "convex"), FUNCTIONS)
def test_two_points(name, function, convex, dtype, backend):
    found = convex_function_counterexample(function, points(dtype=dtype))
    assert (found is None) == convex
    if found:
        middle = function(found.t * found.x + (1 - found.t) * found.y)
        chord = found.t * function(found.x) + (1 - found.t) * function(found.y)
        assert (middle - chord).item() == pytest.approx(found.excess, rel=1e-3)
        assert 0 < found.t < 1


@pytest.mark.parametrize(("name", "function", "convex"), FUNCTIONS)
def test_first_order(name, function, convex, backend):
    found = first_order_counterexample(function, points())
    assert (found is None) == convex
    if found:
        tangent = function(found.x) + nbdl.func.grad(function)(found.x) @ (found.y - found.x)
        assert (tangent - function(found.y)).item() == pytest.approx(found.excess)


SETS = [
    ("ball", lambda p: (p * p).sum() <= 1, True),
    ("half-space", lambda p: p.sum() <= 0.5, True),
    ("ring", lambda p: ((p * p).sum() - 1.5).abs() <= 0.5, False),
    ("two halves", lambda p: p[0].abs() >= 1, False),
]


@pytest.mark.parametrize(("name", "contains", "convex"), SETS)
def test_segments(name, contains, convex, backend):
    found = convex_set_counterexample(contains, points())
    assert (found is None) == convex
    if found:
        assert contains(found.x)
        assert contains(found.y)
        assert not contains(found.t * found.x + (1 - found.t) * found.y)


def test_points_of_any_shape():
    def spectral_norm(X: nbdl.Tensor) -> nbdl.Tensor:
        return nbdl.linalg.svdvals(X)[0]

    matrices = nbdl.randn(40, 3, 2, dtype=nbdl.float64)
    assert convex_function_counterexample(spectral_norm, matrices, trials=50) is None
    assert first_order_counterexample(spectral_norm, matrices, trials=50) is None
    assert first_order_counterexample(lambda X: -spectral_norm(X), matrices, trials=50) is not None


REFUSALS = [
    (lambda: convex_set_counterexample(lambda p: p.sum() > 99, points()), "none of the points is in the set"),
    (lambda: convex_function_counterexample(nbdl.sum, points(), trials=0), "one trial, got .* trials=0"),
    (lambda: first_order_counterexample(nbdl.sum, points()[:0]), r"points of shape \(0, 2\)"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS)
def test_refusals(call, text):
    with pytest.raises(ValueError, match=text):
        call()

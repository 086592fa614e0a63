"""Values, moments and derivatives of all distributions, against PyTorch in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from distribution_cases import CASES, Case
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import nbdl
from nbdl import distributions

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytestmark = pytest.mark.torch

# What PyTorch has wrong: these modes are 0 where the density falls from there on; it has 1, and NaN.
OURS = {("Weibull", "mode"), ("Kumaraswamy", "mode")}


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    """PyTorch makes some constants in the default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def specification() -> Iterator[None]:
    """Without kernels to compile: those of formulas are tested with the formulas."""
    with nbdl.use_backend("numpy"):
        yield


def twins(case: Case) -> tuple[Any, Any, dict[str, Any], dict[str, Any]]:
    """The distribution of nbdl, that of PyTorch, and their parameters."""
    mine = {key: nbdl.tensor(value, requires_grad=True) for key, value in case.parameters.items()}
    theirs = {key: torch.tensor(value, requires_grad=True) for key, value in case.parameters.items()}
    return case.make(distributions, mine), case.make(torch.distributions, theirs), mine, theirs


def compare(found: Any, expected: Any, tolerance: float) -> None:
    found, expected = found.detach(), expected.detach()
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_values(name: str, backend: str) -> None:
    case = CASES[name]
    mine, theirs, _, _ = twins(case)
    assert (mine.batch_shape, mine.event_shape) == (tuple(theirs.batch_shape), tuple(theirs.event_shape))
    assert (mine.has_rsample, mine.has_enumerate_support) == (
        theirs.has_rsample,
        theirs.has_enumerate_support,
    )
    x, twin = nbdl.tensor(case.values), torch.tensor(case.values)
    compare(mine.log_prob(x), theirs.log_prob(twin), case.tolerance)


# An attribute, or a method of none or one argument
PROPERTIES = (
    "mean",
    "variance",
    "stddev",
    "mode",
    "entropy",
    "perplexity",
    "cdf",
    "icdf",
    "enumerate_support",
)


def value_of(distribution: Any, key: str, values: list[np.ndarray]) -> Any:
    found = getattr(distribution, key)
    return found(*map(nbdl.tensor, values)) if callable(found) else found


@pytest.mark.parametrize("name", CASES)
def test_properties(name: str, specification: None) -> None:
    case = CASES[name]
    mine, theirs, _, _ = twins(case)
    arguments = {"cdf": case.values, "icdf": np.linspace(0.05, 0.95, 3)}
    for key in PROPERTIES:
        values = [arguments[key]] if key in arguments else []
        try:
            expected = getattr(theirs, key)
            if callable(expected):
                expected = expected(*map(torch.tensor, values))
        except (NotImplementedError, AttributeError):
            with pytest.raises(NotImplementedError):
                value_of(mine, key, values)
            continue
        found = value_of(mine, key, values)
        if (name, key) not in OURS:
            compare(found, expected, case.tolerance)


def derivatives(grad: Any, log_prob: Any, inputs: list[Any], weights: Any) -> tuple[Any, Any]:
    """The gradient of a weighted sum, and that of a sum of the gradient."""
    first = grad((log_prob * weights).sum(), inputs, create_graph=True)
    total = sum((g * (1 + 0.1 * k)).sum() for k, g in enumerate(first))
    return first, grad(total, inputs, allow_unused=True)


@pytest.mark.parametrize("name", CASES)
def test_derivatives(name: str, specification: None) -> None:
    """First and second derivatives of log densities by parameters, and by values where there are such."""
    case = CASES[name]
    mine, theirs, parameters, others = twins(case)
    x = nbdl.tensor(case.values, requires_grad=not case.is_fixed)
    twin = torch.tensor(case.values, requires_grad=not case.is_fixed)
    inputs, their_inputs = list(parameters.values()), list(others.values())
    if not case.is_fixed and name != "Uniform":
        inputs, their_inputs = [*inputs, x], [*their_inputs, twin]
    log_prob, expected = mine.log_prob(x), theirs.log_prob(twin)
    weights = np.linspace(1, 2, log_prob.numel()).reshape(log_prob.shape)
    found = derivatives(nbdl.autograd.grad, log_prob, inputs, nbdl.tensor(weights))
    wanted = derivatives(torch.autograd.grad, expected, their_inputs, torch.tensor(weights))
    for order, (ours, torchs) in enumerate(zip(found, wanted, strict=True)):
        for a, b in zip(ours, torchs, strict=True):
            if b is None or a is None:
                assert all(g is None or not g.detach().numpy().any() for g in (a, b))
            else:
                compare(a, b, case.tolerance * 10 ** (order + 1))


def batches() -> st.SearchStrategy[tuple[tuple[int, ...], ...]]:
    """Shapes that broadcast, of three operands."""
    return mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3).map(lambda x: x.input_shapes)


@settings(max_examples=25)
@given(batches(), st.integers(1, 3), st.sampled_from(["full", "low rank"]))
def test_multivariate_batches(shapes: tuple[tuple[int, ...], ...], n: int, kind: str) -> None:
    """Batches of means, matrices and values broadcast, and equal to PyTorch's, in densities and gradients."""
    rng = np.random.default_rng(sum(map(len, shapes)) + n)
    loc_shape, matrix_shape, value_shape = shapes
    batch = np.broadcast_shapes(loc_shape, matrix_shape)
    value_shape = np.broadcast_shapes(value_shape, batch) if len(value_shape) < len(batch) else value_shape
    arrays = {"loc": rng.standard_normal((*loc_shape, n))}
    if kind == "full":
        name = "MultivariateNormal"
        arrays["scale_tril"] = np.tril(rng.uniform(0.5, 1, (*matrix_shape, n, n)))
    else:
        name = "LowRankMultivariateNormal"
        arrays["cov_factor"] = rng.standard_normal((*matrix_shape, n, 2))
        arrays["cov_diag"] = rng.uniform(0.5, 1, (*matrix_shape, n))
    x = rng.standard_normal((*value_shape, n))
    results = []
    with nbdl.use_backend("numpy"):
        for library, module in ((nbdl, distributions), (torch, torch.distributions)):
            parameters = {key: library.tensor(value, requires_grad=True) for key, value in arrays.items()}
            log_prob = getattr(module, name)(**parameters).log_prob(library.tensor(x))
            gradients = library.autograd.grad(log_prob.square().sum(), list(parameters.values()))
            gradients = [g.tril() if g.ndim > 1 and g.shape[-2:] == (n, n) else g for g in gradients]
            results.append((log_prob, *gradients))
    for found, expected in zip(*results, strict=True):
        compare(found, expected, 1e-9)

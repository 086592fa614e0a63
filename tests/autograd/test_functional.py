"""Products with Jacobians and Hessians, against PyTorch; and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.utils.checkpoint import checkpoint, checkpoint_sequential

A = np.random.default_rng(0).standard_normal((2, 3))
B = np.random.default_rng(1).standard_normal(3)


def matrix(x: Any, y: Any) -> tuple[Any, Any]:
    return (x * y).sin(), x @ y


def number(x: Any, y: Any) -> Any:
    return (x.exp() * y).sum() ** 2


def first_only(x: Any, y: Any) -> Any:
    return x.prod()


CASES: dict[str, Callable[[Any, Any, Any, bool], Any]] = {
    "vjp": lambda F, x, y, c: F.vjp(matrix, (x, y), (x + 1, x @ y), create_graph=c),
    "vjp of a number": lambda F, x, y, c: F.vjp(lambda x: x.pow(3).sum(), x, create_graph=c),
    "jvp": lambda F, x, y, c: F.jvp(matrix, (x, y), (x * 2, y + 1), create_graph=c),
    "jacobian": lambda F, x, y, c: F.jacobian(matrix, (x, y), create_graph=c),
    "jacobian of one": lambda F, x, y, c: F.jacobian(lambda y: y.sin(), y, create_graph=c),
    "hessian": lambda F, x, y, c: F.hessian(number, (x, y), create_graph=c),
    "hessian of one": lambda F, x, y, c: F.hessian(lambda y: y.pow(3).sum(), y, create_graph=c),
    "hessian, unused": lambda F, x, y, c: F.hessian(first_only, (x, y), create_graph=c),
    "vhp": lambda F, x, y, c: F.vhp(number, (x, y), (x, y + 1), create_graph=c),
    "hvp": lambda F, x, y, c: F.hvp(number, (x, y), (x, y + 1), create_graph=c),
    "hvp, unused": lambda F, x, y, c: F.hvp(first_only, (x, y), (x, y), create_graph=c),
}


def flat(result: Any) -> list[Any]:
    return [result] if hasattr(result, "dtype") else [y for part in result for y in flat(part)]


def results(lib: Any, name: str, create_graph: bool) -> list[np.ndarray]:
    x, y = lib.tensor(A, requires_grad=create_graph), lib.tensor(B, requires_grad=create_graph)
    found = flat(CASES[name](lib.autograd.functional, x, y, create_graph))
    if create_graph:
        total = sum((z * z).sum() for z in found if z.requires_grad)
        gradients = lib.autograd.grad(total, (x, y), allow_unused=True)
        found += [g for g in gradients if g is not None]
    else:
        assert not any(z.requires_grad for z in found)
    return [z.detach().numpy() for z in found]


@pytest.mark.torch
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_against_torch(name: str, create_graph: bool) -> None:
    import torch

    ours, theirs = results(nbdl, name, create_graph), results(torch, name, create_graph)
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda F, x, y: F.jacobian(first_only, (x, y), strict=True), RuntimeError, "independent of input 1"),
        (lambda F, x, y: F.hessian(matrix, (x, y)), RuntimeError, "single element"),
        (lambda F, x, y: F.vjp(matrix, (x, y)), RuntimeError, "vector v can only be None"),
        (lambda F, x, y: F.vjp(matrix, (x, y), (y, x)), RuntimeError, "v has invalid size"),
        (lambda F, x, y: F.jvp(lambda x: 3, x, x), TypeError, "outputs of the function must be a tensor"),
        (lambda F, x, y: F.hvp(number, [1.0], x), TypeError, "inputs must be a tensor"),
    ],
)
def test_refused(call: Callable[[Any, Any, Any], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call(nbdl.autograd.functional, nbdl.tensor(A), nbdl.tensor(B))


# ------------------------------------------------------------------------------------ checkpoints
def block(seed: int = 0) -> Any:
    nbdl.manual_seed(seed)
    return nbdl.nn.Sequential(
        nbdl.nn.Linear(3, 8),
        nbdl.nn.ReLU(inplace=True),
        nbdl.nn.Dropout(0.5),
        nbdl.nn.Tanh(),
        nbdl.nn.Linear(8, 3),
    ).double()


@pytest.mark.parametrize("reentrant", [True, False, None])
def test_checkpoint_has_the_same_gradients(reentrant: bool | None, backend: str) -> None:
    net, x = block(), nbdl.tensor(A, requires_grad=True)

    def gradients(run: Callable[[Any], Any]) -> list[np.ndarray]:
        nbdl.manual_seed(5)
        loss = run(run(x)).square().sum()
        (penalty,) = nbdl.autograd.grad(loss, x, create_graph=True)
        return [g.numpy() for g in nbdl.autograd.grad(loss + penalty.square().sum(), [x, *net.parameters()])]

    plain = gradients(net)
    for ours, expected in zip(gradients(lambda h: checkpoint(net, h, use_reentrant=reentrant)), plain):
        np.testing.assert_allclose(ours, expected, rtol=1e-13, atol=1e-14)


def test_checkpoint_calls_again_once_and_keeps_the_random_numbers() -> None:
    calls = []

    def f(x: Any, y: Any) -> Any:
        calls.append(1)
        return nbdl.nn.functional.dropout(x.exp() * y, 0.5).sin(), x.cos()

    x = nbdl.ones(20, requires_grad=True)
    h = (x * 2).exp()  # not to be touched, although the function reads it
    outputs = checkpoint(lambda x: f(x, h), x)
    after = nbdl.get_rng_state()
    assert outputs[0].grad_fn.saved is None
    (outputs[0].sum() + outputs[1].sum()).backward()
    assert len(calls) == 2
    assert nbdl.equal(nbdl.get_rng_state(), after)
    assert bool(x.grad.isfinite().all())
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        outputs[0].sum().backward()


def test_checkpoint_that_does_something_else() -> None:
    calls = []

    def f(x: Any) -> Any:
        calls.append(1)
        return x.exp() if len(calls) == 1 else x.sin().exp()

    y = checkpoint(f, nbdl.ones(2, requires_grad=True))
    with pytest.raises(
        RuntimeError, match="did other operations when it was called again: 1 at first, then 2"
    ):
        y.sum().backward()


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_checkpoint_sequential(segments: int) -> None:
    net, x = block(1).eval(), nbdl.tensor(A, requires_grad=True)
    (expected,) = nbdl.autograd.grad(net(x).square().sum(), x)
    (ours,) = nbdl.autograd.grad(
        checkpoint_sequential(net, segments, x, use_reentrant=False).square().sum(), x
    )
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [((9,), ValueError, "segments must be in 1 ... 5, got 9"), ((2, True), TypeError, "unexpected keyword")],
)
def test_checkpoint_sequential_refuses(arguments: Any, error: type[Exception], text: str) -> None:
    more = {"early": True} if len(arguments) == 2 else {}
    with pytest.raises(error, match=text):
        checkpoint_sequential(block(), arguments[0], nbdl.tensor(A), **more)


def test_no_graph_no_checkpoint() -> None:
    with nbdl.no_grad():
        assert not checkpoint(block(), nbdl.tensor(A)).requires_grad

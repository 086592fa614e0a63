"""nbdl.compile: a training step is the same as in eager mode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from compiler.samples import batches

import nbdl
from nbdl import nn


def network() -> nn.Module:
    nbdl.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.3), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    )


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: nbdl.optim.SGD(p, lr=0.1),
    "momentum": lambda p: nbdl.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: nbdl.optim.Adam(p, lr=0.01),
    "amsgrad": lambda p: nbdl.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: nbdl.optim.AdamW(p, lr=0.01, weight_decay=0.1),
}


def same_training(make_step: Any, calls: int = 6, change: Any = lambda k, thing: None) -> None:
    """Two equal trainings, one of them compiled: losses and parameters agree at every step."""
    histories = []
    for compiled in (False, True):
        step, parameters, thing = make_step()
        if compiled:
            step = nbdl.compile(step)
        nbdl.manual_seed(11)
        history = []
        for k, (x, y) in enumerate(zip(batches(calls, 6, 4), batches(calls, 6, 2, seed=1), strict=True)):
            change(k, thing)
            loss = step(x, y)
            history.append([loss.detach().numpy().copy(), *[p.detach().numpy().copy() for p in parameters]])
        histories.append(history)
    for eager, replayed in zip(*histories, strict=True):
        for want, got in zip(eager, replayed, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_step(backend, name):
    def make():
        model = network().double()
        optimizer = OPTIMIZERS[name](model.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, list(model.parameters()), optimizer

    def change(k, optimizer):  # a schedule between the calls
        optimizer.param_groups[0]["lr"] *= 0.8

    same_training(make, change=change)


def test_gradients_accumulate_over_calls(backend):
    def make():
        model = network().double().eval()
        optimizer = nbdl.optim.SGD(model.parameters(), lr=0.05)

        def step(x, y):
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            return loss

        return step, list(model.parameters()), optimizer

    def change(k, optimizer):
        if k % 3 == 2:
            optimizer.step()
            optimizer.zero_grad()

    same_training(make, calls=9, change=change)


def test_gradient_clipping_and_manual_updates(backend):
    def make():
        weight = nbdl.ones(4, 2, dtype=nbdl.float64, requires_grad=True)

        def step(x, y):
            loss = ((x @ weight).sigmoid() - y).square().sum()
            (gradient,) = nbdl.autograd.grad(loss, weight)
            norm = gradient.norm()
            with nbdl.no_grad():
                weight.sub_(gradient * nbdl.clamp(1.0 / norm, max=1.0), alpha=0.1)
            return loss.detach()

        return step, [weight], None

    same_training(make)


def test_batch_norm_statistics(backend):
    def make():
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 2)).double()
        optimizer = nbdl.optim.SGD(model.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad()
            loss = ((model(x) - y) ** 2).mean()
            loss.backward()
            optimizer.step()
            return loss

        return step, [*model.parameters(), *model.buffers()], model

    def change(k, model):
        model.train(k % 4 != 3)  # another mode is another program

    nbdl.manual_seed(5)
    state = None

    def seeded():
        nonlocal state
        step, tensors, model = make()
        if state is None:
            state = {key: value.clone() for key, value in model.state_dict().items()}
        model.load_state_dict(state)
        return step, tensors, model

    same_training(seeded, calls=9, change=change)


def test_convolutions(backend):
    nbdl.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    twin = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))
    twin.load_state_dict(model.state_dict())
    y = nbdl.tensor([0, 1, 2, 1])

    def make(net):
        optimizer = nbdl.optim.Adam(net.parameters(), lr=0.01)

        def step(x):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return step

    eager, compiled = make(model), nbdl.compile(make(twin))
    for x in batches(5, 4, 1, 8, 8):
        np.testing.assert_allclose(
            compiled(x.float()).numpy(), eager(x.float()).detach().numpy(), rtol=2e-4, atol=1e-5
        )


def test_random_numbers_are_fresh_and_the_same_as_eager(backend):
    @nbdl.compile
    def draw(x):
        return x + nbdl.rand(3), nbdl.randn(2)

    nbdl.manual_seed(7)
    given = [draw(nbdl.zeros(3)) for _ in range(4)]
    nbdl.manual_seed(7)
    for uniform, normal in given:
        np.testing.assert_array_equal(uniform.numpy(), nbdl.rand(3).numpy())
        np.testing.assert_array_equal(normal.numpy(), nbdl.randn(2).numpy())


def test_second_derivatives(backend):
    def loss(p):
        return (p.tanh() * p).sum() ** 2

    hvp = nbdl.compile(lambda p, v: nbdl.func.jvp(nbdl.func.grad(loss), (p,), (v,))[1])
    hessian = nbdl.compile(nbdl.func.hessian(loss))
    for p, v in zip(batches(3, 4), batches(3, 4, seed=2), strict=True):
        matrix = hessian(p).numpy()
        np.testing.assert_allclose(matrix, nbdl.func.hessian(loss)(p).numpy(), rtol=1e-12)
        np.testing.assert_allclose(hvp(p, v).numpy(), matrix @ v.numpy(), rtol=1e-10, atol=1e-12)


def test_gradients_of_a_norm_without_weights(backend):
    """The operation has up to three results, and here only one."""

    def gradient(x):
        x = x.detach().requires_grad_()
        return nbdl.autograd.grad(nbdl.nn.functional.layer_norm(x, (4,)).tanh().square().sum(), x)[0]

    step = nbdl.compile(gradient)
    for x in batches(3, 5, 4):
        np.testing.assert_allclose(step(x).numpy(), gradient(x).numpy(), rtol=1e-12, atol=1e-12)

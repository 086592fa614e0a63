"""What `docs/coming_from_pytorch.md` says beside its examples is so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 6, 6))


def convolved(lib: Any, x: Any) -> Any:
    return lib.nn.functional.conv2d(x, lib.tensor(np.ones((4, 3, 3, 3))), padding=1)


# Views that PyTorch allows, of results whose memory order a kernel chose.
VIEWS = {
    "convolution": lambda lib, x: convolved(lib, x).view(2, -1),
    "what follows it": lambda lib, x: lib.nn.functional.max_pool2d(convolved(lib, x).relu(), 2).view(-1, 36),
    "one example": lambda lib, x: convolved(lib, x)[1].view(-1),
    "without an axis": lambda lib, x: convolved(lib, x).unsqueeze(0).squeeze(0).view(-1),
    "in two steps": lambda lib, x: convolved(lib, x).view(2, 4, 36).transpose(1, 2).contiguous().view(2, -1),
    "a gradient": lambda lib, x: lib.autograd.grad(convolved(lib, x).square().sum(), x, create_graph=True)[
        0
    ].view(-1),
    "no gradient": lambda lib, x: convolved(lib, x.detach()).view(-1) * x.view(-1)[:1],
}


@pytest.mark.torch
@pytest.mark.parametrize("name", VIEWS)
def test_views(name: str, backend: str) -> None:
    import torch

    results = []
    for lib in (torch, nbdl):
        x = lib.tensor(IMAGE, requires_grad=True)
        y = VIEWS[name](lib, x)
        (gradient,) = lib.autograd.grad((y * lib.arange(1.0, y.numel() + 1).view(y.shape)).sum(), x)
        results.append((y.detach().numpy(), gradient.numpy()))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)


def test_a_view_shares_memory_with_the_result_it_is_of(backend: str) -> None:
    y = convolved(nbdl, nbdl.tensor(IMAGE))
    y.view(-1)[5] = 100.0
    assert y.flatten()[5].item() == 100.0
    y.add_(1)
    assert y.view(-1)[5].item() == 101.0


@pytest.mark.parametrize(
    "strided",
    [
        lambda: nbdl.ones(2, 3).t(),
        lambda: nbdl.from_numpy(np.ones((2, 3)).T),
        lambda: nbdl.ones(2, 3)[:, :2],
        lambda: convolved(nbdl, nbdl.tensor(IMAGE))[:, :2],
    ],
)
def test_views_that_pytorch_refuses_too(strided: Any, backend: str) -> None:
    with pytest.raises(RuntimeError, match="is not compatible with input tensor's size"):
        strided().view(-1)


# Followed by an operation in place, which PyTorch allows since its rules do not read the result.
BEFORE_IN_PLACE = {
    "batch_norm": lambda lib, x: lib.nn.functional.batch_norm(x, None, None, training=True),
    "layer_norm": lambda lib, x: lib.nn.functional.layer_norm(x, (6,)),
    "group_norm": lambda lib, x: lib.nn.functional.group_norm(x, 3),
    "quotient": lambda lib, x: x / (x * x + 1),
    "logaddexp": lambda lib, x: lib.logaddexp(x, x * 2),
    "erfinv": lambda lib, x: lib.erfinv(x.tanh() * 0.9),
    "i0": lambda lib, x: lib.special.i0(x),
    "softsign": lambda lib, x: lib.nn.functional.softsign(x),
    "normalize": lambda lib, x: lib.nn.functional.normalize(x),
}


@pytest.mark.torch
@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("name", BEFORE_IN_PLACE)
def test_results_may_be_overwritten(name: str, window: bool, backend: str) -> None:
    import torch

    results = []
    for lib in (torch, nbdl):
        x = lib.tensor(IMAGE, requires_grad=True)
        y = BEFORE_IN_PLACE[name](lib, x)
        (y[0] if window else y).mul_(2).relu_()
        (gradient,) = lib.autograd.grad(y.square().sum(), x)
        results.append((y.detach().numpy(), gradient.numpy()))
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_results_of_recurrent_layers_may_be_overwritten(kind: str, backend: str) -> None:
    import torch

    results = []
    for lib in (torch, nbdl):
        layer = getattr(lib.nn, kind)(6, 4).double()
        rng = np.random.default_rng(1)
        layer.load_state_dict(
            {k: lib.tensor(rng.standard_normal(tuple(v.shape))) for k, v in layer.state_dict().items()}
        )
        x = lib.tensor(IMAGE[0], requires_grad=True)
        y, _ = layer(x)
        y += 1
        results.append(lib.autograd.grad(y.square().sum(), x)[0].numpy())
    np.testing.assert_allclose(*results, rtol=1e-9, atol=1e-10)


def test_compiled_steps_with_layers_in_place(backend: str) -> None:
    """What operations in place save of their operands is a part of the program."""

    def losses(compiled: bool) -> list[float]:
        nbdl.manual_seed(0)
        body = nbdl.nn.Sequential(
            nbdl.nn.Conv2d(3, 4, 3),
            nbdl.nn.BatchNorm2d(4),
            nbdl.nn.ReLU(inplace=True),
            nbdl.nn.SiLU(inplace=True),
        ).double()
        head = nbdl.nn.Linear(64, 3).double()
        optimizer = nbdl.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)

        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nbdl.nn.functional.cross_entropy(head(body(x).view(2, -1)), y)
            loss.backward()
            optimizer.step()
            return loss.detach()

        run = nbdl.compile(step) if compiled else step
        return [run(nbdl.tensor(IMAGE), nbdl.tensor([0, 2])).item() for _ in range(6)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-9)

"""Whole training steps on the GPU backend: eager ones wait for nothing, compiled ones are one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gpu import standin
from gpu.test_compile import steps_of

import nbdl
from nbdl import config, nn, optim
from nbdl.nn import functional as F

pytestmark = pytest.mark.usefixtures("gpu")

Training = tuple[Callable[[], nn.Module], Callable[..., Any], tuple[int, ...], Callable[..., Any]]


class Residual(nn.Module):
    """A block of workload e: channels double, the shortcut is padded."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, 2, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.head = nn.Linear(4, 3)

    def forward(self, x: nbdl.Tensor) -> nbdl.Tensor:
        y = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return self.head(F.relu(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)) + y).mean((2, 3)))


class Characters(nn.Module):
    """Workload f: a transformer over characters, with one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(7, 8), nn.Parameter(nbdl.zeros(5, 8, device="cpu"))
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 7, bias=False)

    def forward(self, x: nbdl.Tensor) -> nbdl.Tensor:
        x = self.tokens(x) + self.positions
        heads = [part.view(2, 5, 2, 4).transpose(1, 2) for part in self.qkv(self.norm1(x)).split(8, 2)]
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(2, 5, 8))
        return self.head(x + self.down(F.gelu(self.up(self.norm2(x)))))


def perceptron(activation: type[nn.Module], *sizes: int) -> Callable[[], nn.Module]:
    first, second, third = sizes
    return lambda: nn.Sequential(nn.Linear(first, second), activation(), nn.Linear(second, third))


def convolutions() -> nn.Module:
    layers = nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Dropout(0.3), nn.BatchNorm1d(8), nn.Linear(8, 3))


def squares(model: nn.Module, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
    return F.mse_loss(model(x), y.to(dtype=nbdl.float32).unsqueeze(1))


def classes(model: nn.Module, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
    return F.cross_entropy(model(x), y)


def characters(model: nn.Module, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
    return F.cross_entropy(model(y).flatten(0, 1), y.flatten())


def in_half_precision(model: nn.Module, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
    with nbdl.autocast("cuda", dtype=nbdl.float16):
        return F.cross_entropy(model(x), y)


def adam(parameters: Any) -> Any:
    return optim.Adam(parameters, lr=0.05)


def adamw(parameters: Any) -> Any:
    return optim.AdamW(parameters, lr=0.05, weight_decay=0.1)


def momentum(parameters: Any) -> Any:
    return optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=1e-4)


TRAININGS: dict[str, Training] = {
    "a": (perceptron(nn.Tanh, 2, 8, 1), squares, (6, 2), adam),
    "b": (perceptron(nn.ReLU, 6, 8, 3), classes, (5, 6), adam),
    "c": (perceptron(nn.ReLU, 6, 40, 3), classes, (9, 6), adam),
    "d": (convolutions, classes, (2, 1, 8, 8), momentum),
    "e": (Residual, classes, (3, 2, 6, 6), momentum),
    "f": (Characters, characters, (2, 5), adamw),
    "dropout, batch norm": (with_dropout, classes, (8, 6), adamw),
    "half precision": (perceptron(nn.ReLU, 6, 8, 3), in_half_precision, (5, 6), adam),
}


class Run:
    """A training with a fixed seed; its steps clip the gradients."""

    def __init__(self, name: str, wrap: Callable[[Any], Any] = lambda step: step):
        make, loss_of, shape, optimizer_of = TRAININGS[name]
        nbdl.manual_seed(0)
        self.model = make().to("cuda")
        self.optimizer = optimizer_of(self.model.parameters())

        def step(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
            self.optimizer.zero_grad()
            loss = loss_of(self.model, x, y)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 0.5)
            self.optimizer.step()
            return loss.detach()

        self.step = wrap(step)
        random = np.random.default_rng(0)
        labels = shape if name == "f" else shape[:1]
        self.batches = [
            (
                nbdl.tensor(random.standard_normal(shape).astype(np.float32), device="cuda"),
                nbdl.tensor(random.integers(0, 3, labels), device="cuda"),
            )
            for _ in range(4)
        ]

    def steps(self, count: int) -> list[nbdl.Tensor]:
        """Losses, with a learning rate that changes on the way."""
        losses = []
        for k in range(count):
            self.optimizer.param_groups[0]["lr"] = 0.05 / (k + 1)
            losses.append(self.step(*self.batches[k % 4]))
        return losses

    def state(self) -> list[np.ndarray]:
        return [x.detach().cpu().numpy() for x in self.model.state_dict().values()]


@pytest.mark.parametrize("name", TRAININGS)
def test_an_eager_step_waits_for_nothing(name: str, gpu: str) -> None:
    run = Run(name)
    standin.counters.reset()
    nbdl.cuda.set_sync_debug_mode("error")
    try:
        run.steps(2)
    finally:
        config.SYNC_DEBUG.set(None)
    if gpu == "standin":
        assert standin.counters.synchronisations == 0


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("name", TRAININGS)
def test_a_compiled_step_is_one_graph(name: str, gpu: str) -> None:
    eager = Run(name)
    expected = [loss.item() for loss in eager.steps(5)]
    compiled = Run(name, nbdl.compile)
    got = compiled.steps(4)
    (steps,) = steps_of(compiled.step)
    assert (steps.graphs, steps.eager) == (1, [])
    standin.counters.reset()
    compiled.optimizer.param_groups[0]["lr"] = 0.05 / 5
    got.append(compiled.step(*compiled.batches[0]))
    if gpu == "standin":
        assert (standin.counters.graphs, standin.counters.synchronisations) == (1, 0)
    tolerance = 2e-2 if name == "half precision" else 1e-4
    np.testing.assert_allclose([loss.item() for loss in got], expected, rtol=tolerance)
    # The gradient of a bias of keys is nothing but rounding, which the optimizer scales up.
    tolerance = 5e-3 if name == "f" else tolerance
    for a, b in zip(compiled.state(), eager.state(), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def scaled(count: int, passes: Callable[[Any], Any] = lambda f: f, whole: Any = lambda f: f) -> list[Any]:
    """Parameters after steps with a GradScaler, one of which overflows, and its scale.

    ``passes`` and ``whole`` wrap the computation of gradients and the whole step.
    """
    nbdl.manual_seed(0)
    model = with_dropout().to("cuda")
    optimizer, scaler = adamw(model.parameters()), nbdl.amp.GradScaler("cuda", init_scale=8.0)

    @passes
    def gradients(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        return loss.detach()

    @whole
    def step(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        loss = gradients(x, y)
        scaler.step(optimizer)
        scaler.update()
        return loss

    y = nbdl.tensor(np.arange(8) % 3, device="cuda")
    for k in range(count):
        x = np.random.default_rng(k).standard_normal((8, 6)).astype(np.float32)
        x[0] *= np.float32("inf") if k == 4 else np.float32(1)
        x = nbdl.tensor(x, device="cuda")
        if k == count - 1:
            standin.counters.reset()
        step(x, y)
    counts = standin.counters.graphs, standin.counters.synchronisations
    return [*counts, scaler.get_scale(), *[p.detach().cpu().numpy() for p in model.parameters()]]


@pytest.mark.usefixtures("products")
@pytest.mark.parametrize("wrapped", ["passes", "whole"])
def test_steps_with_scaled_losses(wrapped: str, gpu: str) -> None:
    """A whole step is one graph that reads nothing; outside of it, the scaler's step reads one number."""
    with np.errstate(all="ignore"):  # of what stands for a device
        graphs, reads, *got = scaled(6, **{wrapped: nbdl.compile})
        _, eager_reads, *expected = scaled(6)
    if gpu == "standin":
        assert (graphs, reads, eager_reads) == (1, 0 if wrapped == "whole" else 1, 1)
    for a, b in zip(got, expected, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

#!/usr/bin/env python
"""Separates two spirals by networks that are discretised differential equations.

    python examples/hamiltonian_network.py --model hamiltonian
    python examples/hamiltonian_network.py --model ode --backend numba --eager

residual: y' = tanh(K(t) y + b(t)) by Euler's method, a plain residual network.
hamiltonian: y' = K(t)^T tanh(K(t) z + b(t)), z' = -K(t)^T tanh(K(t) y + b(t)) by the method of Störmer and
Verlet. Its steps can be undone, and they keep volumes, so that gradients cannot vanish in all directions.
ode: y' = f(t, y) with one network f for all times, by the classical Runge-Kutta method.

The program prints the test accuracy; by how much the flow changes volumes, as the largest |log det| of its
Jacobian at some points; and for the Hamiltonian network the error of inputs that are computed back from
outputs.

Sources: Haber, Ruthotto (2017), Stable architectures for deep neural networks, section 4; Chen, Rubanova,
Bettencourt, Duvenaud (2018), Neural ordinary differential equations.
"""

from __future__ import annotations

import argparse
import math
import sys

import application
import nbdl
from nbdl import nn
from nbdl.nn import functional as F
from nbdl.utils.metrics import accuracy

END = 4.0  # the time that the output belongs to


class Residual(nn.Module):
    """Euler's method for y' = tanh(K(t) y + b(t)), with K and b of each step.

    Args:
        width: components of y.
        steps: how many.
    """

    def __init__(self, width: int, steps: int):
        super().__init__()
        self.step = END / steps
        self.layers = nn.ModuleList([nn.Linear(width, width) for _ in range(steps)])

    def forward(self, y: nbdl.Tensor) -> nbdl.Tensor:
        for layer in self.layers:
            y = y + self.step * layer(y).tanh()
        return y


class Hamiltonian(nn.Module):
    """The method of Störmer and Verlet for the two halves y and z of the state.

    Args:
        width: components of the state, an even number.
        steps: how many.
    """

    def __init__(self, width: int, steps: int):
        super().__init__()
        self.step = END / steps
        self.layers = nn.ModuleList([nn.Linear(width // 2, width // 2) for _ in range(steps)])

    def forward(self, state: nbdl.Tensor) -> nbdl.Tensor:
        y, z = state.chunk(2, 1)
        for layer in self.layers:
            y = y + self.step * force(layer, z)
            z = z - self.step * force(layer, y)
        return nbdl.cat([y, z], 1)

    def inverse(self, state: nbdl.Tensor) -> nbdl.Tensor:
        """The state that ``forward`` makes into this one."""
        y, z = state.chunk(2, 1)
        for layer in reversed(self.layers):
            z = z + self.step * force(layer, y)
            y = y - self.step * force(layer, z)
        return nbdl.cat([y, z], 1)


def force(layer: nn.Linear, y: nbdl.Tensor) -> nbdl.Tensor:
    """K^T tanh(K y + b), the gradient of sum log cosh(K y + b)."""
    return layer(y).tanh() @ layer.weight


class NeuralODE(nn.Module):
    """The classical Runge-Kutta method for y' = f(t, y).

    Args:
        width: components of y.
        steps: how many.
    """

    def __init__(self, width: int, steps: int):
        super().__init__()
        self.step, self.steps = END / steps, steps
        self.slope = nn.Sequential(nn.Linear(width + 1, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))

    def f(self, t: float, y: nbdl.Tensor) -> nbdl.Tensor:
        """The right-hand side."""
        return self.slope(F.pad(y, (0, 1), value=t / END))

    def forward(self, y: nbdl.Tensor) -> nbdl.Tensor:
        h = self.step
        for k in range(self.steps):
            t = k * h
            k1 = self.f(t, y)
            k2 = self.f(t + h / 2, y + h / 2 * k1)
            k3 = self.f(t + h / 2, y + h / 2 * k2)
            k4 = self.f(t + h, y + h * k3)
            y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y


MODELS = {"residual": Residual, "hamiltonian": Hamiltonian, "ode": NeuralODE}


class Classifier(nn.Module):
    """The points, with zeros appended, flow to where a plane separates them.

    Args:
        flow: the network that moves them.
        width: components of its state.
    """

    def __init__(self, flow: nn.Module, width: int):
        super().__init__()
        self.flow, self.width = flow, width
        self.head = nn.Linear(width, 1)

    def start(self, points: nbdl.Tensor) -> nbdl.Tensor:
        """The state at time 0: points (n, 2), in both halves of it."""
        half = F.pad(points, (0, self.width // 2 - 2))
        return nbdl.cat([half, half], 1)

    def forward(self, points: nbdl.Tensor) -> nbdl.Tensor:
        return self.head(self.flow(self.start(points))).squeeze(1)


def make_spirals(count: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Points (count, 2) on two intertwined spirals with noise, and on which of them (count,)."""
    label = nbdl.randint(0, 2, (count,)).to(nbdl.float32)
    angle = 3 * math.pi * nbdl.rand(count).sqrt()
    turned = angle + math.pi * label
    points = nbdl.stack([turned.cos(), turned.sin()], 1) * (angle / (3 * math.pi)).unsqueeze(1)
    return points + 0.02 * nbdl.randn(count, 2), label


def volume_change(model: Classifier, points: nbdl.Tensor) -> float:
    """The largest |log det| of the Jacobian of the flow at these points."""
    jacobians = nbdl.func.vmap(nbdl.func.jacrev(lambda y: model.flow(y.unsqueeze(0)).squeeze(0)))
    with nbdl.no_grad():
        return nbdl.linalg.slogdet(jacobians(model.start(points)))[1].abs().max().item()


def train(options: argparse.Namespace) -> application.Figures:
    """Train one of the models; returns accuracies and properties."""
    width, steps, count, epochs = (8, 6, 200, 10) if options.quick else (16, options.steps, 1000, 300)
    points, labels = make_spirals(count)
    test_points, test_labels = make_spirals(count)
    model = Classifier(MODELS[options.model](width, steps), width)
    optimizer = nbdl.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = nbdl.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    @application.compiled(options)
    def descend() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(points), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    @nbdl.no_grad()
    def evaluate() -> dict[str, nbdl.Tensor]:
        schedule.step()
        return {"accuracy": accuracy(model(test_points) > 0, test_labels > 0.5)}

    history = application.fit(
        options, lambda batch: descend(), [None] * (2 if options.quick else 10), epochs,
        {"model": model, "optimizer": optimizer, "schedule": schedule}, evaluate,
    )  # fmt: skip

    def draw(left, right):
        ticks = nbdl.linspace(-1.2, 1.2, 100)
        grid = nbdl.stack(nbdl.meshgrid(ticks, ticks, indexing="xy"), 2).reshape(-1, 2)
        with nbdl.no_grad():
            probability = model(grid).sigmoid().reshape(100, 100)
        ends = ticks.tolist()
        left.contourf(ends, ends, probability.cpu().numpy(), levels=10, cmap="coolwarm", alpha=0.6)
        left.scatter(*test_points.T.cpu().numpy(), c=test_labels.cpu().numpy(), cmap="coolwarm", s=4)
        left.set(
            title=f"{options.model}: probability and test points", xlabel="x", ylabel="y", aspect="equal"
        )
        passes = range(1, len(history) + 1)
        right.semilogy(passes, [epoch["loss"] for epoch in history], label="training loss")
        right.semilogy(passes, [1.001 - epoch["accuracy"] for epoch in history], label="test error + 0.001")
        right.set(xlabel="epoch", ylabel="loss, share of wrong points")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    figures = {
        "training loss": history[-1]["loss"],
        "test accuracy": history[-1]["accuracy"],
        "change of the logarithm of volumes": volume_change(model, test_points[:10]),
    }
    if isinstance(model.flow, Hamiltonian):
        with nbdl.no_grad():
            state = model.start(test_points)
            figures["error of inputs computed back"] = (
                (model.flow.inverse(model.flow(state)) - state).abs().max().item()
            )
    return figures


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "hamiltonian_network.png")
    parser.add_argument("--model", choices=MODELS, default="hamiltonian", help="default hamiltonian")
    parser.add_argument("--steps", type=application.positive, default=24, help="of the method (default 24)")
    return application.run(parser, argv, train)


if __name__ == "__main__":
    sys.exit(main())

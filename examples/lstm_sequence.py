#!/usr/bin/env python
"""Teaches an LSTM how a pendulum swings, by L-BFGS on all sequences at once.

    python examples/lstm_sequence.py
    python examples/lstm_sequence.py --backend numba --eager

A sequence holds the angles of a pendulum that begins somewhere between rest and almost upright. The wider it
swings the longer its period, so no linear recurrence describes them all. The network learns to predict the
next angle. On new sequences it then goes on alone, each prediction being its next input. The error of that is
set against repeating the last angle, and against linear prediction from the last angles.
"""

from __future__ import annotations

import argparse
import sys

import application
import nbdl
from nbdl import nn
from nbdl.nn import functional as F

LOOKBACK = 8  # angles from which linear prediction is made
TIME_STEP = 0.2  # in units in which small swings have the period 2 pi


class Forecaster(nn.Module):
    """An LSTM and a linear layer that predict the change to the next angle."""

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(1, width, batch_first=True, dtype=nbdl.float64)
        self.head = nn.Linear(width, 1, dtype=nbdl.float64)

    def forward(self, swings: nbdl.Tensor, state=None) -> tuple[nbdl.Tensor, tuple]:
        """Predictions of the value after each one of (batch, time), and the state at the end."""
        hidden, state = self.lstm(swings.unsqueeze(2), state)
        return swings + self.head(hidden).squeeze(2), state

    @nbdl.no_grad()
    def go_on(self, swings: nbdl.Tensor, steps: int) -> nbdl.Tensor:
        """What comes after (batch, time), (batch, steps)."""
        predictions, state = self(swings)
        values = [predictions[:, -1:]]
        while len(values) < steps:
            value, state = self(values[-1], state)
            values.append(value)
        return nbdl.cat(values, 1)


def make_swings(count: int, length: int) -> nbdl.Tensor:
    """Angles of pendulums, (count, length): x'' = -sin x from random x and x' = 0, at random times.

    The steps are those of Störmer and Verlet, ten between two angles.
    """
    h = TIME_STEP / 10
    x = 0.1 + 2.4 * nbdl.rand(count, dtype=nbdl.float64)
    velocity = nbdl.zeros(count, dtype=nbdl.float64)
    lead = 40  # so that sequences begin anywhere in a swing
    angles = []
    for _ in range(length + lead):
        angles.append(x)
        for _ in range(10):
            middle = velocity - h / 2 * x.sin()
            x = x + h * middle
            velocity = middle - h / 2 * x.sin()
    starts = nbdl.randint(0, lead, (count, 1))
    return nbdl.stack(angles, 1).gather(1, starts + nbdl.arange(length))


def linear_prediction(training: nbdl.Tensor, seen: nbdl.Tensor, steps: int) -> nbdl.Tensor:
    """Continuations by the linear recurrence that fits the training sequences best."""
    windows = training.unfold(1, LOOKBACK + 1, 1).reshape(-1, LOOKBACK + 1)
    weights = nbdl.linalg.lstsq(windows[:, :-1], windows[:, -1:]).solution
    values = seen
    for _ in range(steps):
        values = nbdl.cat([values, values[:, -LOOKBACK:] @ weights], 1)
    return values[:, seen.shape[1] :]


def train(options: argparse.Namespace) -> application.Figures:
    """Train on some sequences, continue others; returns errors."""
    count, length, steps = (16, 40, 10) if options.quick else (100, 80, 80)
    epochs = 4 if options.quick else 100
    training, test = make_swings(count, length), make_swings(count, length + steps)
    seen, future = test[:, :length], test[:, length:]
    model = Forecaster(8 if options.quick else 32)
    optimizer = nbdl.optim.LBFGS(
        model.parameters(), max_iter=20, line_search_fn="strong_wolfe", tolerance_grad=0.0,
        tolerance_change=0.0,
    )  # fmt: skip

    @application.compiled(options)
    def closure() -> nbdl.Tensor:
        optimizer.zero_grad()
        # A single angle does not tell the velocity, so the first prediction does not count. The sum, and not
        # the mean, since L-BFGS makes no use of curvatures s^T y below 1e-10.
        loss = F.mse_loss(model(training[:, :-1])[0][:, 1:], training[:, 2:], reduction="sum")
        loss.backward()
        return loss.detach()

    def error(continuation: nbdl.Tensor) -> float:
        return (continuation - future).square().mean().sqrt().item()

    history = application.fit(
        options, lambda batch: optimizer.step(closure) / training[:, 2:].numel(), [None], epochs,
        {"model": model, "optimizer": optimizer}, lambda: {"test error": error(model.go_on(seen, steps))},
    )  # fmt: skip

    def draw(left, right):
        continuation = model.go_on(seen, steps)
        for k, color in enumerate(("C0", "C1", "C2")):
            past, coming = range(length), range(length, length + steps)
            left.plot(past, seen[k].tolist(), color=color)
            left.plot(coming, future[k].tolist(), color=color, alpha=0.4, linewidth=4)
            left.plot(coming, continuation[k].tolist(), color=color, linestyle="--")
        left.axvline(length, color="gray", linestyle=":")
        left.set(
            xlabel=f"time in steps of {TIME_STEP}",
            ylabel="angle in radians",
            title="what came (wide), predicted (dashed)",
        )
        for name, label in (("loss", "mean square, next angle"), ("test error", "root of it, continuations")):
            right.semilogy(range(1, len(history) + 1), [epoch[name] for epoch in history], label=label)
        right.set(xlabel="epoch of 20 iterations of L-BFGS", ylabel="error")
        right.legend()

    application.save_picture(options.out, draw, columns=2)
    return {
        "training loss": history[-1]["loss"],
        "error of continuations": history[-1]["test error"],
        "error of repeating the last angle": error(seen[:, -1:].expand(-1, steps)),
        "error of linear prediction": error(linear_prediction(training, seen, steps)),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return application.run(application.make_parser(__doc__, "lstm_sequence.png"), argv, train)


if __name__ == "__main__":
    sys.exit(main())

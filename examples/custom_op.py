#!/usr/bin/env python
"""An operation of one's own, with kernels for NumPy, Numba and CUDA, and a network that is built on it.

    python examples/custom_op.py
    python examples/custom_op.py --backend numba --eager

The operation is the linear recurrence y_t = a y_{t-1} + x_t, one a for each channel: a loop over time that no
formula says, and of which a program of tensor operations would make as many steps as the sequence is long. It
is its own derivative: gradients run through the same recurrence, backwards in time.

The network has to add: in a sequence of random numbers two are marked, far from each other, and the sum of
the two is to be said at the end. Who ignores the marks has a mean squared error of 1/6.

Sources: Hochreiter, Schmidhuber (1997), Long short-term memory, section 5.4 (the task); Orvieto et al.
(2023), Resurrecting recurrent neural networks for long sequences (the layer).
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

import application
import nbdl
from nbdl import nn
from nbdl.autograd import cuda_kernel, custom_op, gradcheck, gradgradcheck, numba_kernel
from nbdl.nn import functional as F
from nbdl.utils import bench


# ---------------------------------------------------------------------------------------------- the operation
def numpy_kernel(x: np.ndarray, a: np.ndarray, y: np.ndarray) -> None:
    """What the others must compute, too: x and y (batch, time, channels), a (channels,)."""
    state = np.zeros_like(y[:, 0])
    for t in range(x.shape[1]):
        state = a * state + x[:, t]
        y[:, t] = state


@numba_kernel
def loops(x, a, y):
    """The same as loops, which become machine code at the first call."""
    batch, time, channels = x.shape
    for b in range(batch):
        for c in range(channels):
            y[b, 0, c] = x[b, 0, c]
        for t in range(1, time):
            for c in range(channels):
                y[b, t, c] = a[c] * y[b, t - 1, c] + x[b, t, c]


CUDA_SOURCE = r"""
// One thread walks along the sequence of one channel; neighbours read neighbouring addresses.
extern "C" __global__ void linear_recurrence(
    const REAL* x, const REAL* a, REAL* y, long long threads, long long time, long long channels
) {
    const long long thread = blockIdx.x * (long long) blockDim.x + threadIdx.x;
    if (thread >= threads) return;
    const long long channel = thread % channels;
    const long long first = thread / channels * time * channels + channel;
    REAL state = 0;
    for (long long t = 0; t < time; ++t) {
        state = a[channel] * state + x[first + t * channels];
        y[first + t * channels] = state;
    }
}
"""


def shape(x, a):
    """Shape and dtype of the result; raises an error if the operands do not fit."""
    if len(x.shape) != 3 or tuple(a.shape) != x.shape[2:] or x.dtype != a.dtype:
        raise RuntimeError(
            "linear_recurrence: expected x (batch, time, channels) and a (channels,) of one dtype, got "
            f"{tuple(x.shape)} {x.dtype} and {tuple(a.shape)} {a.dtype}"
        )
    return x.shape, x.dtype


def before(y: nbdl.Tensor) -> nbdl.Tensor:
    """y_{t-1}, which is 0 at the start."""
    return F.pad(y[:, :-1], (0, 0, 1, 0))


def vjp(node, gradient):
    """s_t = g_t + a s_{t+1} is the gradient by x, and sum s_t y_{t-1} the one by a."""
    s = linear_recurrence(gradient.flip(1), node.input(1)).flip(1)
    return s, (s * before(node.output(0))).sum((0, 1))


def jvp(inputs, outputs, tangents):
    """The tangent obeys the recurrence, too: with dx_t + da y_{t-1} in the place of x_t."""
    dx, da = tangents
    drive = (0 if dx is None else dx) + (0 if da is None else da * before(outputs[0]))
    return linear_recurrence(drive, inputs[1])


linear_recurrence = custom_op(
    "linear_recurrence",
    numpy=numpy_kernel,
    numba=loops,
    cupy=cuda_kernel(
        CUDA_SOURCE, "linear_recurrence", lambda x, a, y: (x.shape[0] * x.shape[2], x.shape[1], x.shape[2])
    ),
    shape=shape,
    vjp=vjp,
    jvp=jvp,
    saves_inputs=(1,),
    saves_outputs=True,
)


def composed(x: nbdl.Tensor, a: nbdl.Tensor) -> nbdl.Tensor:
    """The same of tensor operations."""
    state, states = nbdl.zeros_like(x[:, 0]), []
    for now in x.unbind(1):
        state = a * state + now
        states.append(state)
    return nbdl.stack(states, 1)


# ------------------------------------------------------------------------------------------------ the network
class Adder(nn.Module):
    """A gated input, the recurrence, and a small network for what it holds at the end."""

    def __init__(self, channels: int):
        super().__init__()
        self.value, self.gate = nn.Linear(2, channels), nn.Linear(2, channels)
        self.decay = nn.Parameter(nbdl.linspace(2, 8, channels))  # a from 0.88 to 0.9997
        self.head = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, 1))

    def forward(self, sequences: nbdl.Tensor) -> nbdl.Tensor:
        x = self.value(sequences) * self.gate(sequences).sigmoid()
        return self.head(linear_recurrence(x, self.decay.sigmoid())[:, -1]).squeeze(1)


def make_task(count: int, length: int) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """Sequences (count, length, 2) of numbers and marks, one mark in each half, and the sums (count,)."""
    numbers, marks = nbdl.rand(count, length), nbdl.zeros(count, length)
    places = nbdl.randint(0, length // 2, (count, 2)) + nbdl.tensor([0, length // 2])
    marks = marks.scatter(1, places, 1.0)
    return nbdl.stack([numbers, marks], 2), (numbers * marks).sum(1)


def check() -> None:
    """First and second derivatives, against finite differences in double precision."""
    x = nbdl.randn(2, 5, 3, dtype=nbdl.float64, requires_grad=True)
    a = nbdl.rand(3, dtype=nbdl.float64, requires_grad=True)
    gradcheck(linear_recurrence, (x, a), check_forward_ad=True)
    gradgradcheck(linear_recurrence, (x, a))


def compare(length: int, seconds: float) -> dict[str, float]:
    """Seconds of a forward and backward pass through the operation and through tensor operations."""
    x = nbdl.randn(32, length, 32, requires_grad=True)
    a = nbdl.rand(32, requires_grad=True)

    def passes(recurrence) -> None:
        nbdl.autograd.grad(recurrence(x, a).square().sum(), [x, a])

    return {
        "own operation: forward and backward pass in ms": 1e3
        * bench(passes, linear_recurrence, seconds=seconds).median,
        "tensor operations: the same in ms": 1e3 * bench(passes, composed, seconds=seconds).median,
    }


def train(options: argparse.Namespace) -> application.Figures:
    """Check the operation, train the network on it; returns its error, and times."""
    check()
    length, steps, epochs = (20, 20, 2) if options.quick else (200, 100, 30)
    model = Adder(32)
    optimizer = nbdl.optim.Adam(model.parameters(), lr=5e-3)
    schedule = nbdl.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    test = make_task(500, length)

    @application.compiled(options)
    def descend() -> nbdl.Tensor:
        sequences, sums = make_task(64, length)
        optimizer.zero_grad()
        loss = F.mse_loss(model(sequences), sums)
        loss.backward()
        optimizer.step()
        return loss.detach()

    @nbdl.no_grad()
    def evaluate() -> dict[str, nbdl.Tensor]:
        schedule.step()
        return {"test error": F.mse_loss(model(test[0]), test[1])}

    history = application.fit(
        options, lambda batch: descend(), [None] * steps, epochs,
        {"model": model, "optimizer": optimizer, "schedule": schedule}, evaluate,
    )  # fmt: skip

    def draw(axes):
        passes = range(1, len(history) + 1)
        axes.semilogy(passes, [epoch["loss"] for epoch in history], ".-", label="training")
        axes.semilogy(passes, [epoch["test error"] for epoch in history], ".-", label="test")
        axes.axhline(1 / 6, color="gray", linestyle=":", label="marks ignored")
        axes.set(xlabel=f"epoch of {steps} batches", ylabel="mean squared error of sums")
        axes.legend()

    application.save_picture(options.out, draw)
    return {
        "mean squared error of sums, test": history[-1]["test error"],
        **compare(length, 0.02 if options.quick else 1.0),
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return application.run(application.make_parser(__doc__, "custom_op.png"), argv, train)


if __name__ == "__main__":
    sys.exit(main())

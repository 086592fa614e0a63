#!/usr/bin/env python
"""First- and second-order optimizers on handwritten digits: loss and accuracy against seconds.

    python examples/benchmarks/digits_optimizers.py
    python examples/benchmarks/digits_optimizers.py --seconds 20 --plot digits.png --methods adam,k-fac

A net of two layers, 64-64-10 with tanh, learns scikit-learn's digits; a fifth of them is kept for the test.
Every method begins with the same weights and gets the same time of training; evaluations between are not
counted. Its settings are the best of a coarse grid for the training loss.

Seconds are those of the processor on one thread, so that other programs on the machine count little.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import machine
import report
from contenders import NBDL
from harness import FOLDER

import nbdl
from nbdl import nn, optim

WIDTH, TEST_SIZE = 64, 360
LOSSES = (0.1, 0.01, 0.001)  # the time to reach these is in the table


class Data(NamedTuple):
    """Images as vectors, and their digits."""

    x: Any
    y: Any
    test_x: Any
    test_y: Any


class Method(NamedTuple):
    """An optimizer.

    Attributes:
        batch_size: of a step; None for all examples.
        make: of the model, gives the optimizer.
        closure: "gradient" if it calls ``backward``, "outputs" if it returns outputs and targets.
    """

    batch_size: int | None
    make: Callable[[nn.Module], optim.Optimizer]
    closure: str = "gradient"


LOSS = nn.CrossEntropyLoss()
METHODS = {
    "sgd": Method(64, lambda model: optim.SGD(model.parameters(), lr=0.1, momentum=0.9)),
    "adam": Method(64, lambda model: optim.Adam(model.parameters(), lr=3e-3)),
    "shampoo": Method(
        256, lambda model: optim.Shampoo(model.parameters(), lr=0.03, momentum=0.9, update_freq=10)
    ),
    "l-bfgs": Method(
        None, lambda model: optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    ),
    "gauss-newton/cg": Method(
        None,
        lambda model: optim.HessianFree(model.parameters(), LOSS, damping=0.1, max_cg_iterations=50),
        "outputs",
    ),
    "k-fac": Method(
        512,
        lambda model: optim.KFAC(model, LOSS, lr=0.3, damping=3e-2, max_kl=0.1, inverse_freq=10),
        "outputs",
    ),
}  # fmt: skip


class Moment(NamedTuple):
    """Where a run stands after so many seconds of training."""

    seconds: float
    steps: int
    loss: float
    accuracy: float


def load() -> Data:
    """The digits, scaled to [0, 1], in an order of their own."""
    digits = nbdl.datasets.Digits()
    images = nbdl.stack([image for image, _ in digits]).reshape(len(digits), -1).float()
    labels = nbdl.tensor([int(label) for _, label in digits])
    images = images / images.max()
    order = nbdl.randperm(len(labels), generator=nbdl.Generator().manual_seed(0))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return Data(images[train], labels[train], images[test], labels[test])


def make_model() -> nn.Module:
    """4810 parameters, the same in every run."""
    nbdl.manual_seed(0)
    return nn.Sequential(nn.Linear(64, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 10))


def batches(data: Data, size: int | None) -> Iterator[tuple[Any, Any]]:
    """Mini-batches for ever, in a new order every epoch."""
    generator = nbdl.Generator().manual_seed(1)
    while True:
        if size is None:
            yield data.x, data.y
            continue
        order = nbdl.randperm(len(data.y), generator=generator)
        for k in range(0, len(data.y) - size + 1, size):
            rows = order[k : k + size]
            yield data.x[rows], data.y[rows]


def closure_of(
    method: Method, model: nn.Module, optimizer: optim.Optimizer, x: Any, y: Any
) -> Callable[[], Any]:
    """What the optimizer wants to be called with."""
    if method.closure == "outputs":
        return lambda: (model(x), y)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = LOSS(model(x), y)
        loss.backward()
        return loss

    return closure


def train(method: Method, data: Data, seconds: float) -> list[Moment]:
    """Train for some seconds, and look about forty times, ever more seldom."""
    model = make_model()
    optimizer = method.make(model)
    spent, following = 0.0, 0.0
    history = []
    for steps, (x, y) in enumerate(batches(data, method.batch_size)):
        if spent >= following:
            with nbdl.no_grad():
                loss = LOSS(model(data.x), data.y).item()
                right = (model(data.test_x).argmax(1) == data.test_y).double().mean().item()
            history.append(Moment(spent, steps, loss, right))
            if spent >= seconds:
                return history
            following = min(seconds, max(1.15 * spent, seconds / 200))
        start = time.process_time()
        optimizer.step(closure_of(method, model, optimizer, x, y))
        spent += time.process_time() - start
    raise AssertionError("mini-batches do not end")


def table(results: dict[str, list[Moment]]) -> str:
    """A line a method: the end, the best test accuracy, and when losses were reached."""
    rows = []
    for name, history in results.items():
        reached = [next((m.seconds for m in history if m.loss <= loss), None) for loss in LOSSES]
        last, best = history[-1], max(moment.accuracy for moment in history)
        rows.append([
            name, str(METHODS[name].batch_size or "all"), str(last.steps), f"{last.loss:.2g}",
            f"{last.accuracy:.1%}", f"{best:.1%}", *[report.number(seconds, " s") for seconds in reached],
        ])  # fmt: skip
    header = ["optimizer", "batch", "steps", "training loss", "test accuracy", "best"]
    return report.table([*header, *[f"loss {loss:g} after" for loss in LOSSES]], rows)


def plot(results: dict[str, list[Moment]], path: Path) -> None:
    """Loss and test error against seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5))
    for name, history in results.items():
        later = history[1:]  # no time 0 on a logarithmic axis
        left.loglog([m.seconds for m in later], [m.loss for m in later], label=name)
        right.semilogx([m.seconds for m in later], [100 * m.accuracy for m in later], label=name)
    left.set(xlabel="seconds of training", ylabel="training loss")
    right.set(xlabel="seconds of training", ylabel="test accuracy in %", ylim=(85, 100))
    left.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Train a small net on digits with several optimizers.")
    parser.add_argument("--methods", default=",".join(METHODS), help="some of %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of training for each (%(default)s)")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the report")
    parser.add_argument("--plot", type=Path, help="where to save a picture; default: none")
    options = parser.parse_args(argv)
    methods = options.methods.split(",")
    for name in methods:
        if name not in METHODS:
            parser.error(f"--methods: {name!r} is unknown; there are {', '.join(METHODS)}")
    if not options.seconds > 0:
        parser.error(f"--seconds: must be above 0, got {options.seconds}")
    described = machine.describe([NBDL]) | {"seconds of training": f"{options.seconds:g}"}
    print(report.facts(described), flush=True)
    nbdl.set_num_threads(1)
    data, results = load(), {}
    for name in methods:
        warm_up(METHODS[name], data)
        results[name] = train(METHODS[name], data, options.seconds)
        print(f"{name}: loss {results[name][-1].loss:.3g}", flush=True)
    sections = [f"\n## Digits, a net of two layers\n\n{table(results)}"]
    print(sections[0])
    if options.plot is not None:
        plot(results, options.plot)
        sections.append(f"\n![Loss and test accuracy against seconds]({options.plot.name})")
    report.write(
        options.out, "digits_optimizers", "Optimizers on digits", described, [], sections,
        {name: [moment._asdict() for moment in history] for name, history in results.items()},
    )  # fmt: skip
    print(f"\nwritten: {options.out / 'digits_optimizers'}.md and .json")
    return 0


def warm_up(method: Method, data: Data) -> None:
    """Some steps that do not count: kernels are loaded or compiled."""
    model = make_model()
    optimizer = method.make(model)
    for _, (x, y) in zip(range(3), batches(data, method.batch_size), strict=False):
        optimizer.step(closure_of(method, model, optimizer, x, y))


if __name__ == "__main__":
    if "OPENBLAS_NUM_THREADS" not in os.environ:  # must be known before NumPy is loaded
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OPENBLAS_NUM_THREADS": "1"})
    sys.exit(main())

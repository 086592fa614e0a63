#!/usr/bin/env python
"""What a product with a curvature matrix costs, in gradients: time, and multiplications of matrices.

    python examples/benchmarks/curvature_products.py
    python examples/benchmarks/curvature_products.py --models mlp --repeats 50

Beside the operators of `nbdl.optim.curvature` (what was recorded is kept between products, or not; the
Hessian in both modes) stand `nbdl.func.hvp`, forward over reverse, and reverse over reverse mode. By default
`curvature.Hessian` goes backward through what it has recorded, since that is kept for the next product, which
then costs the least of all. The program fails where a product needs more than four times the operations of a
gradient. Times are those of the processor on one thread, so that other programs on the machine count little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import machine
import report
from contenders import NBDL
from harness import FOLDER

import nbdl
from nbdl import nn
from nbdl.optim import curvature
from nbdl.utils.flops import flops
from nbdl.utils.observer import observing

LOSS = nn.CrossEntropyLoss()
MOST = 4  # gradients that a product may cost, in operations
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (
        lambda: nn.Sequential(
            nn.Linear(784, 512), nn.Tanh(), nn.Linear(512, 512), nn.Tanh(), nn.Linear(512, 10)
        ),
        (256, 784),
    ),
    "small mlp": (lambda: nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)), (128, 64)),
    "cnn": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Linear(32 * 49, 10),
        ),
        (64, 1, 14, 14),
    ),
}  # fmt: skip


def products(model: nn.Module, x: Any, y: Any) -> dict[str, Callable[[], Any]]:
    """A gradient, and products with a random vector."""
    risk = curvature.Risk(model, LOSS, (x, y))
    anew = curvature.Risk(model, LOSS, [(x, y)])
    v = nbdl.randn(risk.layout.size)
    names = [name for name, _ in model.named_parameters()]
    primals = tuple(param.detach() for param in risk.params)
    tangents = tuple(risk.layout.split(v))

    def loss(*params: Any) -> Any:
        outputs = nbdl.func.functional_call(model, dict(zip(names, params, strict=True)), x)
        return LOSS(outputs, y)

    found: dict[str, Callable[[], Any]] = {"gradient": risk.gradient}
    for kind in (curvature.Hessian, curvature.GGN, curvature.Fisher):
        kept, recorded = kind(risk), kind(anew)
        found[f"{kind.__name__}, kept"] = lambda kept=kept: kept @ v
        found[f"{kind.__name__}, recorded anew"] = lambda recorded=recorded: recorded @ v
    forward = curvature.Hessian(risk, outer_strategy="forward-mode")
    found["Hessian, forward over reverse"] = lambda: forward @ v
    every = tuple(range(len(primals)))
    found["nbdl.func.hvp"] = lambda: nbdl.func.hvp(loss, primals, tangents)
    found["nbdl.func.vjp of grad"] = lambda: nbdl.func.vjp(nbdl.func.grad(loss, every), *primals)[1](tangents)
    return found


def counted(function: Callable[[], Any]) -> int:
    """The floating-point operations of the products of matrices in a call."""
    total = 0

    def observe(call: Any) -> None:
        nonlocal total
        total += flops(call)

    with observing(observe):
        function()
    return total


def timed(function: Callable[[], Any], repeats: int) -> float:
    """The least seconds of the processor in a call."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def measure(name: str, repeats: int) -> dict[str, dict[str, float]]:
    """Operations and seconds by what is computed."""
    nbdl.manual_seed(0)
    make, shape = MODELS[name]
    functions = products(make(), nbdl.randn(*shape), nbdl.randint(0, 10, shape[:1]))
    found = {}
    for label, function in functions.items():
        for _ in range(2):
            function()
        found[label] = {"flops": counted(function), "seconds": timed(function, repeats)}
    return found


def section(name: str, found: dict[str, dict[str, float]]) -> str:
    """A table of a model."""
    unit = found["gradient"]
    rows = [
        [
            label, f"{1e3 * one['seconds']:.2f}", f"{one['seconds'] / unit['seconds']:.2f}",
            f"{one['flops'] / unit['flops']:.2f}",
        ]
        for label, one in found.items()
    ]  # fmt: skip
    header = ["", "milliseconds", "in gradients", "operations, in gradients"]
    return f"\n## {name}\n\n{report.table(header, rows)}"


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure products with curvature matrices.")
    parser.add_argument("--models", default=",".join(MODELS), help="some of %(default)s")
    parser.add_argument("--repeats", type=int, default=30, help="calls, of which the fastest counts")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the report")
    options = parser.parse_args(argv)
    models = options.models.split(",")
    for name in models:
        if name not in MODELS:
            parser.error(f"--models: {name!r} is unknown; there are {', '.join(MODELS)}")
    nbdl.set_num_threads(1)
    described = machine.describe([NBDL])
    print(report.facts(described), flush=True)
    results = {name: measure(name, options.repeats) for name in models}
    sections = [section(name, found) for name, found in results.items()]
    print("\n".join(sections))
    report.write(
        options.out,
        "curvature_products",
        "Products with curvature matrices",
        described,
        [],
        sections,
        results,
    )
    print(f"\nwritten: {options.out / 'curvature_products'}.md and .json")
    dear = [
        f"{name}: {label}"
        for name, found in results.items()
        for label, one in found.items()
        if one["flops"] > MOST * found["gradient"]["flops"]
    ]
    for product in dear:
        print(f"more than {MOST} gradients: {product}", file=sys.stderr)
    return 1 if dear else 0


if __name__ == "__main__":
    sys.exit(main())

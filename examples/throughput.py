#!/usr/bin/env python
"""Compares the backends on matrix products, elementwise chains, convolutions and training steps.

    python examples/throughput.py
    python examples/throughput.py --backend numpy --backend numba --quick
    python examples/throughput.py --backend numba --backend cupy --compiled    # a GPU, eager and as graphs

Each backend runs in a process of its own, so that no thread pool disturbs another. The script prints a table
of times with the sizes from which one backend overtakes another, and saves the figures as CSV and as a plot.
"""

from __future__ import annotations

import argparse
import csv
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import application
import nbdl
from nbdl import nn

SECONDS_A_POINT = 0.3
BLOCKS = 5
COMPILED = "+compile"
# Settings of other programs' tests, found on some machines, that halve the speed of NumPy's matrix products.
HINDERING_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")

Step = Callable[[], nbdl.Tensor]


class Workload(NamedTuple):
    """Something to measure.

    Attributes:
        title: what the table is headed with.
        size_name: what the sizes count.
        sizes: the sizes.
        unit: of the rate.
        work: units of the rate that one step of a size does, in billions.
        make: gives for a size the function that does one step.
    """

    title: str
    size_name: str
    sizes: tuple[int, ...]
    unit: str
    work: Callable[[int], float]
    make: Callable[[int], Step]


def make_matmul(n: int) -> Step:
    """A product of two n x n matrices."""
    a, b = nbdl.randn(n, n), nbdl.randn(n, n)
    return lambda: a @ b


def make_chain(n: int) -> Step:
    """Eight arithmetic operations and two elementary functions on n elements, op by op."""
    x, y = nbdl.randn(n), nbdl.randn(n)
    return lambda: ((x * 2 + y) * x - y).tanh() * ((y * y + 1).log() + x)


def make_convolution(channels: int) -> Step:
    """A 3 x 3 convolution of 16 images of 28 x 28 pixels that keeps the number of channels."""
    images = nbdl.randn(16, channels, 28, 28)
    layer = nn.Conv2d(channels, channels, 3, padding=1)
    layer.requires_grad_(False)
    return lambda: layer(images)


def make_training_step(width: int) -> Step:
    """Forward, backward and Adam for an MLP 784-width-width-10 with a batch of 128."""
    model = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    images, labels = nbdl.randn(128, 784), nbdl.randint(0, 10, (128,))
    loss_function, optimizer = nn.CrossEntropyLoss(), nbdl.optim.Adam(model.parameters())

    def step() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = loss_function(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def training_work(width: int) -> float:
    """GFLOP of the matrix products of a training step."""
    return 6 * 128 * (784 * width + width * width + width * 10) / 1e9


WORKLOADS = {
    "matmul": Workload(
        "Matrix product, n x n, float32", "n", (16, 32, 64, 128, 256, 512, 1024), "GFLOP/s",
        lambda n: 2 * n**3 / 1e9, make_matmul,
    ),
    "chain": Workload(
        "Elementwise chain of ten operations, float32", "elements",
        (100, 1_000, 10_000, 100_000, 1_000_000, 4_000_000), "G elements/s", lambda n: n / 1e9, make_chain,
    ),
    "convolution": Workload(
        "Convolution 3 x 3, 16 images of 28 x 28 pixels, float32", "channels", (1, 4, 16, 32, 64), "GFLOP/s",
        lambda c: 2 * 16 * 28 * 28 * 9 * c * c / 1e9, make_convolution,
    ),
    "training": Workload(
        "Training step of an MLP 784-w-w-10, batch 128, Adam, float32", "w", (16, 64, 256, 512, 1024),
        "GFLOP/s", training_work, make_training_step,
    ),
}  # fmt: skip
QUICK_SIZES = 3


def sizes_of(workload: Workload, quick: bool) -> tuple[int, ...]:
    """The sizes to measure; the smaller ones if it shall be quick."""
    return workload.sizes[:QUICK_SIZES] if quick else workload.sizes


def seconds_a_step(step: Step, budget: float) -> float:
    """Median over blocks of steps; reading an element at the end of a block waits for the device."""

    def block(count: int) -> float:
        start = time.perf_counter()
        for _ in range(count):
            result = step()
        result.reshape(-1)[0].item()
        return (time.perf_counter() - start) / count

    block(4)  # compiles kernels, records a program, and captures it
    count = max(1, int(budget / BLOCKS / max(block(2), 1e-7)))
    return statistics.median(block(count) for _ in range(BLOCKS))


def work(name_of_worker: str, quick: bool) -> None:
    """The part that runs in a process for one backend: a line of JSON for each point."""
    backend, _, is_compiled = name_of_worker.partition("+")
    nbdl.set_backend(backend)
    nbdl.manual_seed(0)
    for name, workload in WORKLOADS.items():
        for size in sizes_of(workload, quick):
            step = nbdl.compile(workload.make(size)) if is_compiled else workload.make(size)
            seconds = seconds_a_step(step, SECONDS_A_POINT / 10 if quick else SECONDS_A_POINT)
            print(json.dumps({"workload": name, "size": size, "seconds": seconds}), flush=True)


def measure(backend: str, quick: bool) -> dict[tuple[str, int], float]:
    """Seconds a step by workload and size, from a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in HINDERING_VARIABLES}
    command = [sys.executable, __file__, "--worker", backend, *(["--quick"] if quick else [])]
    total = sum(len(sizes_of(workload, quick)) for workload in WORKLOADS.values())
    seconds: dict[tuple[str, int], float] = {}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            point = json.loads(line)
            seconds[point["workload"], point["size"]] = point["seconds"]
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{backend}: {len(seconds)}/{total} points ")
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    if process.returncode:
        raise SystemExit(
            f"throughput: the measurement of backend {backend} failed (exit code {process.returncode})"
        )
    return seconds


Results = dict[str, dict[tuple[str, int], float]]


def print_tables(results: Results, quick: bool) -> None:
    """Times and rates by size, and the crossover sizes."""
    for name, workload in WORKLOADS.items():
        sizes = sizes_of(workload, quick)
        print(f"\n{workload.title}: ms a step ({workload.unit})")
        print(f"{workload.size_name:>10}" + "".join(f"{backend:>22}" for backend in results))
        for size in sizes:
            cells = []
            for seconds in results.values():
                time_ = seconds[name, size]
                cells.append(f"{1e3 * time_:>12.4f} ({workload.work(size) / time_:>7.3g})")
            print(f"{size:>10}" + "".join(cells))
        for line in crossovers(results, name, sizes):
            print(f"  {line}")


def crossovers(results: Results, name: str, sizes: tuple[int, ...]) -> list[str]:
    """For each pair of backends the size from which the later one stays faster."""
    lines = []
    backends = list(results)
    for k, later in enumerate(backends):
        for earlier in backends[:k]:
            faster = [results[later][name, size] < results[earlier][name, size] for size in sizes]
            first = len(faster)
            while first and faster[first - 1]:
                first -= 1
            size_name = WORKLOADS[name].size_name
            if first == 0:
                lines.append(f"{later} is faster than {earlier} at all sizes")
            elif first == len(faster):
                lines.append(f"{later} is not faster than {earlier} at the largest size")
            else:
                lines.append(f"{later} is faster than {earlier} from {size_name} = {sizes[first]} on")
    return lines


def save_csv(results: Results, path: Path) -> None:
    """One line a point."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["backend", "workload", "size", "seconds", "rate", "unit"])
        for backend, points in results.items():
            for (name, size), seconds in points.items():
                workload = WORKLOADS[name]
                writer.writerow([backend, name, size, seconds, workload.work(size) / seconds, workload.unit])


def draw(results: Results, *grid: Any) -> None:
    """The rates over the sizes."""
    for axes, (name, workload) in zip(grid, WORKLOADS.items(), strict=True):
        for backend, points in results.items():
            sizes = [size for workload_name, size in points if workload_name == name]
            axes.plot(sizes, [workload.work(n) / points[name, n] for n in sizes], marker="o", label=backend)
        axes.set(
            title=workload.title, xlabel=workload.size_name, ylabel=workload.unit, xscale="log", yscale="log"
        )
        axes.legend()


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare the backends over sizes.")
    parser.add_argument(
        "--backend", action="append", metavar="NAME", help="numpy, numba or cupy; default: all that work"
    )
    parser.add_argument("--csv", type=Path, default=Path("throughput.csv"), help="default throughput.csv")
    parser.add_argument("--plot", type=Path, default=Path("throughput.png"), help="default throughput.png")
    parser.add_argument("--compiled", action="store_true", help="each backend also through nbdl.compile")
    parser.add_argument("--quick", action="store_true", help="only the small sizes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.worker:
        work(options.worker, options.quick)
        return 0
    application.check_folder(parser, "--csv", options.csv)
    application.check_folder(parser, "--plot", options.plot)
    backends = application.choose_backends(parser, options.backend)
    ways = ["", COMPILED] if options.compiled else [""]
    results = {backend + way: measure(backend + way, options.quick) for backend in backends for way in ways}
    print_tables(results, options.quick)
    save_csv(results, options.csv)
    print(f"\nfigures: {options.csv}")
    application.save_picture(options.plot, functools.partial(draw, results), rows=2, columns=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())

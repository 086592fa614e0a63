#!/usr/bin/env python
"""Runs the applications among the examples, and writes what they reach and how long they take.

    python examples/benchmarks/applications.py
    python examples/benchmarks/applications.py --backend numpy --only rbf_regression,custom_op

Every program runs alone, in a fresh process, without further options, so with --seed 0. What it prints as
`name: figure` goes into `applications.md` and `applications.json`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import machine
import report

EXAMPLES = Path(__file__).resolve().parents[1]
FIGURE = re.compile(r"^(.+): ([-+.\de]+|inf|nan)$", re.M)
SECONDS = re.compile(r"^(seconds \(\w+\)|processor seconds)$")


class Application(NamedTuple):
    """A program with its options."""

    program: str
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As it is typed."""
        return " ".join([f"{self.program}.py", *self.options])


APPLICATIONS = [
    Application("char_gpt"),
    Application("lstm_sequence"),
    *[Application("physics_informed", ("--problem", name)) for name in ("poisson", "burgers")],
    Application("variational_autoencoder"),
    Application("cifar_resnet"),
    Application("rbf_regression"),
    Application("logistic_regression"),
    *[Application("hamiltonian_network", ("--model", name)) for name in ("hamiltonian", "residual", "ode")],
    Application("matrix_factorization"),
    Application("custom_op"),
]


def run(application: Application, options: argparse.Namespace) -> dict[str, Any]:
    """The figures that a program prints, its seconds, and how many cores other processes kept busy."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(EXAMPLES / f"{application.program}.py"), *application.options,
            "--backend", options.backend, "--out", str(Path(folder) / "picture.png"),
            *(["--quick"] if options.quick else []),
        ]  # fmt: skip
        start, used, busy = time.perf_counter(), children_seconds(), machine.busy_seconds()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds, own = time.perf_counter() - start, children_seconds() - used
        busy_after = machine.busy_seconds()
    if done.returncode:
        last = (done.stderr.splitlines() or ["no message"])[-1]
        return {"error": f"exit code {done.returncode}: {last}"}
    others = None if busy is None or busy_after is None else (busy_after - busy - own) / seconds
    return {
        "figures": {
            name: float(value) for name, value in FIGURE.findall(done.stdout) if not SECONDS.match(name)
        },
        "seconds": seconds,
        "processor_seconds": own,
        "others_cores": [others],
    }


def children_seconds() -> float:
    """Processor time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def tables(results: dict[str, dict[str, Any]]) -> list[str]:
    """Seconds, and what is reached, in Markdown."""
    found = {name: result for name, result in results.items() if "error" not in result}
    times = [
        [f"`{name}`", report.number(result["seconds"]), report.number(result["processor_seconds"])]
        for name, result in found.items()
    ]
    figures = [
        [f"`{name}`", figure, f"{value:.4g}"]
        for name, result in found.items()
        for figure, value in result["figures"].items()
    ]
    return [
        "\n## Seconds\n",
        report.table(["program", "seconds", "processor seconds of all threads"], times),
        "\n## Figures\n",
        report.table(["program", "figure", "value"], figures),
        *report.failures(results),
        *report.disturbance([{"contenders": found}]),
    ]


def choose(text: str) -> list[Application]:
    """Applications by the names of their programs."""
    wanted, known = text.split(","), {application.program for application in APPLICATIONS}
    for name in wanted:
        if name not in known:
            there = ", ".join(sorted(known))
            raise argparse.ArgumentTypeError(f"unknown program {name!r}; there are {there}")
    return [application for application in APPLICATIONS if application.program in wanted]


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", default="numba", help="numpy, numba or cupy (default numba)")
    parser.add_argument("--only", type=choose, default=APPLICATIONS, metavar="NAMES", help="such programs")
    parser.add_argument("--quick", action="store_true", help="only shows that all of them run")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"), metavar="FOLDER")
    options = parser.parse_args(argv)
    described = machine.describe([]) | {
        "backend": options.backend,
        "method": "one run of each program in a fresh process, import and compilation included",
    }
    results = {}
    for application in options.only:
        result = results[application.name] = run(application, options)
        print(f"{application.name}: " + result.get("error", f"{result.get('seconds', 0):.1f} s"), flush=True)
    sections = tables(results)
    print("\n".join(sections))
    report.write(options.out, "applications", "What the applications reach", described, [], sections, results)
    return int(any("error" in result for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())

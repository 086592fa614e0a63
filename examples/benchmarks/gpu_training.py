#!/usr/bin/env python
"""Training steps on a GPU: nbdl eager and as CUDA graphs, beside PyTorch and JAX.

    python examples/benchmarks/gpu_training.py
    python examples/benchmarks/gpu_training.py --only a,f --contenders nbdl-graph,torch-graph

Every contender runs in a process of its own; blocks of steps are interleaved A B C A B C, and timed by events
on the device after a warm-up, on batches that take turns. Beside each figure stands the floor: the time in
which the device could compute the FLOPs of the step at the rate of a large matrix product, or move the bytes
of its operands at the rate of a large copy, the larger of the two; both rates are measured first. All compute
float32 in float32. Without a GPU the program says so, and writes nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from typing import Any

import machine
import report
from contenders import Contender
from data import WORKLOADS
from gpu_tensors import COPIED, NAMES, ROWS
from harness import Worker, WorkerError, measure
from options import Defaults, make_parser, make_worker, parse

import nbdl

_CUPY = {"NBDL_BACKEND": "cupy"}
CONTENDERS = (
    Contender("nbdl", "nbdl", "eager", "nbdl", _CUPY),
    Contender("nbdl-graph", "nbdl", "compiled", "nbdl", _CUPY),
    Contender("torch", "torch", "eager", "torch"),
    Contender("torch-graph", "torch", "graph", "torch"),
    Contender("torch-compile", "torch", "compile", "torch"),
    Contender("jax", "jax", "step", "jax", {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),
)
BASELINE, GRAPH = "torch", "nbdl-graph"
DEFAULTS = Defaults(rounds=9, block=0.25, quick_rounds=3, quick_block=0.02)


def rates(options: argparse.Namespace) -> dict[str, float]:
    """Bytes and FLOPs a second that the device reaches: the best of those who know how."""
    fastest: dict[str, list[float]] = {"copy": [], "product": []}
    for contender in options.chosen:
        if contender.programs == "jax" or contender.variant != "eager":
            continue
        with make_worker(options, "gpu", contender) as worker:
            for name, found in fastest.items():
                blocks = measure({"": worker}, name, options.rounds, options.block)[""]
                if "error" not in blocks:
                    found.append(statistics.median(blocks["blocks_s"]))
    return {
        "bytes": 8 * COPIED / min(fastest["copy"], default=float("inf")),
        "flops": 2 * ROWS**3 / min(fastest["product"], default=float("inf")),
    }


def run(options: argparse.Namespace, name: str, reached: dict[str, float]) -> dict[str, Any]:
    """The summary of a workload, see `report.summarize`, with the `floor` in seconds where it is known."""
    with contextlib.ExitStack() as stack:
        workers = {c.name: stack.enter_context(make_worker(options, "gpu", c)) for c in options.chosen}
        found = measure(workers, name, options.rounds, options.block)
        summary = report.summarize(found, {c.name for c in options.chosen if c.own}, BASELINE)
        if GRAPH in workers and "error" not in found.get(GRAPH, {"error": ""}):
            summary["floor_s"] = floor(workers[GRAPH], reached)
    return summary


def floor(worker: Worker, reached: dict[str, float]) -> float | None:
    """The least seconds of a step on this device; None where the rates are unknown."""
    with contextlib.suppress(WorkerError):
        facts = worker.ask("facts")
        return max((facts[kind] / rate for kind, rate in reached.items() if rate), default=None)
    return None


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    floor_s = summary.get("floor_s")
    header = ["contender", "median ms", "min", "max", "over the floor", f"vs {BASELINE}",
              f"vs best peer ({summary['best_peer']})"]  # fmt: skip
    rows = []
    for contender, result in summary["contenders"].items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
            continue
        above = result["median_ms"] / 1e3 / floor_s if floor_s else None
        rows.append(
            [
                contender,
                *(report.number(result[key]) for key in ("median_ms", "min_ms", "max_ms")),
                report.number(above, "x"),
                *(report.times(result[key]) for key in ("against_baseline", "against_best")),
            ]
        )
    section = report.section(name, WORKLOADS[name].title, header, rows, summary["contenders"])
    limit = f"\nFloor: {report.number(1e3 * floor_s)} ms." if floor_s else "\nThe floor is unknown."
    return "\n".join([section, limit])


def missing_device() -> str | None:
    """Why there is nothing to measure; None where a GPU works."""
    status = next(status for status in nbdl.backend.status() if status.name == "cupy")
    return None if status.available else f"{status.reason}; {status.remedy}"


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = make_parser("Compare nbdl and its peers on a GPU.", NAMES, CONTENDERS, DEFAULTS)
    options = parse(parser, argv, NAMES, CONTENDERS, DEFAULTS)
    reason = missing_device()
    if reason is not None:
        print(f"skipped: there is no GPU to measure: {reason}")
        return 0
    timing = f"{options.rounds} interleaved blocks of {options.block:g} s, by events"
    described = machine.describe(options.chosen) | {
        "GPU": nbdl.cuda.get_device_name(0),
        "method": f"{timing}; gains: median (range)",
    }
    reached = rates(options)
    described["rates"] = f"{reached['bytes'] / 1e9:.0f} GB/s, {reached['flops'] / 1e12:.1f} TFLOP/s (float32)"
    print("\n".join([report.facts(described), *options.missing]), flush=True)
    results, sections = {}, []
    for name in options.only:
        results[name] = run(options, name, reached)
        sections.append(table(name, results[name]))
        print(sections[-1], flush=True)
    report.write(
        options.out, "gpu_training", "Training steps on a GPU", described, options.missing, sections, results
    )
    print(f"\nwritten: {options.out / 'gpu_training'}.md and .json")
    return int(report.any_failed(results))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""Training steps of nbdl and its peers, side by side.

    python examples/benchmarks/training.py
    python examples/benchmarks/training.py --only a,d --contenders nbdl,torch --threads 2 --rounds 9
    python examples/benchmarks/training.py --startup   # imports and first steps, cold and warm cache
    python examples/benchmarks/training.py --check     # do all contenders compute the same losses?

Every contender runs in a process of its own, with equally many threads, and only one works at a time: blocks
of steps are interleaved A B C A B C. Tables are printed and written to `--out`, as Markdown and as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from typing import Any

import contenders
import machine
import report
from contenders import Contender
from data import WORKLOADS
from harness import Unsupported, WorkerError, measure
from options import Defaults, make_parser, make_worker, parse

BASELINE = contenders.TORCH.name
DEFAULTS = Defaults(rounds=9, block=0.25, quick_rounds=3, quick_block=0.02)
STARTUP_RUNS = 3
CHECK_STEPS = 5
CHECK_TOLERANCE = 1e-4  # relative; the losses are float32, and rounding errors grow from step to step


def throughput(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds of a training step: workload -> summary."""
    own = {contender.name for contender in options.chosen if contender.own}
    results = {}
    for name in options.only:
        with contextlib.ExitStack() as stack:
            workers = {
                c.name: stack.enter_context(make_worker(options, "workloads", c)) for c in options.chosen
            }
            found = measure(workers, name, options.rounds, options.block)
            for contender, result in found.items():
                if "error" not in result:
                    result |= workers[contender].ask("memory")
        results[name] = report.summarize(found, own, BASELINE)
        print(throughput_table(name, results[name]), flush=True)
    return results


def throughput_table(name: str, summary: dict[str, Any]) -> str:
    """One workload in Markdown."""
    best = summary["best_peer"]
    header = [
        "contender",
        "median ms",
        "min",
        "max",
        f"vs {BASELINE}",
        f"vs best peer ({best})",
        "peak MB",
        "loss",
    ]
    rows = []
    for contender, result in summary["contenders"].items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
            continue
        rows.append(
            [
                contender,
                *(report.number(result[key]) for key in ("median_ms", "min_ms", "max_ms")),
                *(report.times(result[key]) for key in ("against_baseline", "against_best")),
                report.MISSING if result["peak_mb"] is None else f"{result['peak_mb']:.0f}",
                f"{result['value']:.3g} to {result['last_value']:.3g}",
            ]
        )
    return "\n".join([section(name, header, rows, summary["contenders"]), *report.disturbance([summary])])


def section(name: str, header: list[str], rows: list[list[str]], found: dict[str, Any]) -> str:
    """A workload in Markdown: heading, table, what failed."""
    lines = [f"\n## {name}: {WORKLOADS[name].title}\n", report.table(header, rows), *report.failures(found)]
    return "\n".join(lines)


def startup(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds until the first step is done: workload -> `contenders` -> name -> cold or warm -> medians."""
    results: dict[str, Any] = {}
    for name in options.only:
        found: dict[str, Any] = {}
        for contender in options.chosen:
            try:
                runs = [start_twice(options, contender, name) for _ in range(options.startup_runs)]
            except Unsupported:
                continue
            except WorkerError as error:
                found[contender.name] = {"error": str(error)}
                continue
            found[contender.name] = {
                state: {key: statistics.median(run[state][key] for run in runs) for key in runs[0][state]}
                for state in runs[0]
            }
        results[name] = {"contenders": found}
        print(startup_table(name, results[name]), flush=True)
    return results


def start_twice(
    options: argparse.Namespace, contender: Contender, workload: str
) -> dict[str, dict[str, float]]:
    """Times of two fresh processes: with an empty cache of compiled code, and with what the first left."""
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as cache:
        folders = {"NBDL_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
        return {state: start(options, contender, workload, folders) for state in ("cold", "warm")}


def start(
    options: argparse.Namespace, contender: Contender, workload: str, folders: dict[str, str]
) -> dict[str, float]:
    """Times of one fresh process."""
    begin = time.perf_counter()
    with make_worker(options, "workloads", contender, **folders) as worker:
        answer = worker.ask("prepare", program=workload)
        total = time.perf_counter() - begin
    return {key: answer[key] for key in ("import_s", "build_s", "first_step_s")} | {"total_s": total}


def startup_table(name: str, summary: dict[str, Any]) -> str:
    """One workload in Markdown."""
    labels = {"import_s": "import", "build_s": "model", "first_step_s": "first step", "total_s": "total"}
    header = ["contender", *(f"{label}, {state}" for state in ("cold", "warm") for label in labels.values())]
    rows = []
    for contender, result in summary["contenders"].items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
        else:
            rows.append(
                [contender, *(f"{result[state][key]:.2f}" for state in ("cold", "warm") for key in labels)]
            )
    return section(name, header, rows, summary["contenders"])


def check(options: argparse.Namespace) -> bool:
    """Whether all contenders compute the same losses, step by step from equal weights; prints a table."""
    agree = True
    for name in options.only:
        losses: dict[str, list[float]] = {}
        failed: dict[str, dict[str, str]] = {}
        rows = []
        for contender in options.chosen:
            try:
                losses[contender.name] = first_losses(options, contender, name)
            except Unsupported:
                continue
            except WorkerError as error:
                agree = False
                rows.append([contender.name, *[report.MISSING] * 3, report.FAILED])
                failed[contender.name] = {"error": str(error)}
        reference = losses.get(BASELINE) or next(iter(losses.values()), [])
        for contender_name, values in losses.items():
            error = max(abs(value / other - 1) for value, other in zip(values, reference))
            right = error <= CHECK_TOLERANCE  # false for NaN too
            agree &= right
            verdict = "agrees" if right else "DIFFERS"
            rows.append([contender_name, f"{values[0]:.6f}", f"{values[-1]:.6f}", f"{error:.1e}", verdict])
        header = ["contender", "first loss", f"after {CHECK_STEPS} steps", "relative difference", ""]
        print(section(name, header, rows, failed), flush=True)
    return agree


def first_losses(options: argparse.Namespace, contender: Contender, workload: str) -> list[float]:
    """The losses of the first step and of those after it."""
    with make_worker(options, "workloads", contender) as worker:
        first = worker.ask("prepare", program=workload)["value"]
        return [first, *worker.ask("values", steps=CHECK_STEPS)["values"]]


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    names = list(WORKLOADS)
    parser = make_parser(
        "Compare training steps of nbdl and its peers.", names, contenders.TRAINING, DEFAULTS
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--startup", action="store_true", help="time imports and first steps instead")
    modes.add_argument(
        "--check", action="store_true", help="compare losses instead; exit code 1 if they differ"
    )
    options = parse(parser, argv, names, contenders.TRAINING, DEFAULTS)
    options.startup_runs = 1 if options.quick else STARTUP_RUNS
    described = machine.describe(options.chosen) | {"threads": str(options.threads)}
    print("\n".join([report.facts(described), *options.missing]), flush=True)
    if options.check:
        return int(not check(options))
    if options.startup:
        name, title, run, make_table = "startup", "Imports and first steps", startup, startup_table
        described["method"] = f"seconds, medians of {options.startup_runs} fresh processes; cold: empty cache"
    else:
        name, title, run, make_table = "training", "Training steps", throughput, throughput_table
        described["method"] = (
            f"{options.rounds} interleaved blocks of {options.block:g} s; gains: median (range)"
        )
    results = run(options)
    sections = [make_table(workload, result) for workload, result in results.items()]
    report.write(options.out, name, title, described, options.missing, sections, results)
    print(f"\nwritten: {options.out / name}.md and .json")
    return int(report.any_failed(results))


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python
"""The workloads in nbdl and its peers, side by side.

    python examples/benchmarks/training.py
    python examples/benchmarks/training.py --only a,d --contenders nbdl,torch --threads 2 --rounds 9
    python examples/benchmarks/training.py --memory    # peak memory of each contender's process
    python examples/benchmarks/training.py --startup   # imports and first steps, cold and warm cache
    python examples/benchmarks/training.py --scaling   # from one thread to so many as `--threads` says
    python examples/benchmarks/training.py --neighbour # while another process keeps one core busy
    python examples/benchmarks/training.py --check     # do all contenders compute the same values?

Every contender runs in a process of its own, with equally many threads, and only one works at a time: blocks
of steps are interleaved A B C A B C. Tables are printed and written to `--out`, as Markdown and as JSON.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import agreement
import contenders
import machine
import memory
import neighbour
import report
import scaling
import startup
import throughput
from data import WORKLOADS
from options import Defaults, make_parser, parse

DEFAULTS = Defaults(rounds=9, block=0.25, quick_rounds=3, quick_block=0.02)
STEPS = "{rounds} interleaved blocks of {block:g} s"


class Mode(NamedTuple):
    """What the program can measure.

    Attributes:
        help: one line for the command line.
        title: of the report.
        method: how it is measured, with the options in braces.
        only: the workloads it takes where nobody names them; empty for all.
        run: gives the summary of a workload.
        table: makes Markdown of a summary.
        overview: makes Markdown of all of them.
    """

    help: str
    title: str
    method: str
    only: tuple[str, ...]
    run: Callable[[argparse.Namespace, str], dict[str, Any]]
    table: Callable[[str, dict[str, Any]], str]
    overview: Callable[[dict[str, Any]], str] | None = None


MODES = {
    "training": Mode(
        "milliseconds of a step (the default)",
        "Training steps",
        f"{STEPS}; gains: median (range)",
        (),
        throughput.run,
        throughput.table,
        throughput.overview,
    ),
    "memory": Mode(
        "measure memory instead, of d, e and f where --only is not given",
        "Memory",
        "greatest resident memory of a fresh process after {memory_steps} steps",
        ("d", "e", "f"),
        memory.run,
        memory.table,
    ),
    "startup": Mode(
        "time imports and first steps instead",
        "Imports and first steps",
        "seconds, medians of {startup_runs} fresh processes; cold: empty cache",
        (),
        startup.run,
        startup.table,
    ),
    "scaling": Mode(
        "compare numbers of threads instead, 1, 2, 4 ... up to --threads",
        "Numbers of threads",
        f"milliseconds a step, medians of {STEPS}; gain: median (range)",
        (),
        scaling.run,
        scaling.table,
    ),
    "neighbour": Mode(
        "time steps while another process keeps a core busy, and without it",
        "A busy neighbour",
        f"milliseconds a step, medians of {STEPS}, alone and beside a process that keeps one core busy",
        (),
        neighbour.run,
        neighbour.table,
    ),
    "check": Mode(
        "compare values instead; exit code 1 if they differ", "", "", (), agreement.run, agreement.table
    ),
}


def parse_options(argv: list[str] | None) -> argparse.Namespace:
    """The command line, with `mode` and what the modes want."""
    names = list(WORKLOADS)
    parser = make_parser("Compare nbdl and its peers on whole tasks.", names, contenders.TRAINING, DEFAULTS)
    modes = parser.add_mutually_exclusive_group()
    for name, mode in MODES.items():
        modes.add_argument(f"--{name}", action="store_const", const=name, dest="mode", help=mode.help)
    parser.set_defaults(mode="training", only=None)
    options = parse(parser, argv, names, contenders.TRAINING, DEFAULTS)
    options.startup_runs = 1 if options.quick else startup.RUNS
    options.memory_steps = 2 if options.quick else memory.STEPS
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    options = parse_options(argv)
    mode = MODES[options.mode]
    described = machine.describe(options.chosen) | {"threads": str(options.threads)}
    if mode.method:
        described["method"] = mode.method.format(**vars(options))
    print("\n".join([report.facts(described), *options.missing]), flush=True)
    results, sections = {}, []
    for workload in options.only or mode.only or WORKLOADS:
        results[workload] = mode.run(options, workload)
        sections.append(mode.table(workload, results[workload]))
        print(sections[-1], flush=True)
    if mode.overview:
        sections.insert(0, mode.overview(results))
        print(sections[0], flush=True)
    if options.mode == "check":
        return int(not all(summary["agree"] for summary in results.values()))
    report.write(options.out, options.mode, mode.title, described, options.missing, sections, results)
    print(f"\nwritten: {options.out / options.mode}.md and .json")
    return int(report.any_failed(results))


if __name__ == "__main__":
    sys.exit(main())

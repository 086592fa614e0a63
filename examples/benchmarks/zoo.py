#!/usr/bin/env python
"""Every module of the zoo, forward and backward, and functions, in nbdl and in PyTorch, side by side.

    python examples/benchmarks/zoo.py
    python examples/benchmarks/zoo.py --only loss,pooling

Microseconds of a call, of modules with all gradients, without a compiler, on a small input (where the call
counts) and on a large one (where memory counts), measured as `training.py` does, in fewer rounds where the
ratio is clear. Where nbdl is slower, the ratio is marked. The report is written anew after every group.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import contenders
import machine
import report
from harness import is_clear, measure
from options import Defaults, make_parser, make_worker, parse
from zoo_cases import CASES, GROUPS, SIZES
from zoo_functions import FUNCTIONS

OWN, PEER = contenders.NBDL, contenders.TORCH
TABLE = (OWN, PEER)
DEFAULTS = Defaults(rounds=5, block=0.015, quick_rounds=2, quick_block=0.001)


def names_of(group: str) -> list[str]:
    """The programs under one heading."""
    return [case.name(size) for case in (*CASES, *FUNCTIONS) if case.group == group for size in SIZES]


def run(options: Any, done: Callable[[list[str], dict[str, Any]], None]) -> dict[str, Any]:
    """Time the modules of the chosen groups: name -> summary; `done` is given those so far."""
    results: dict[str, Any] = {}
    is_settled = functools.partial(is_clear, own=OWN.name, peer=PEER.name)
    with contextlib.ExitStack() as stack:
        workers = {c.name: stack.enter_context(make_worker(options, "zoo", c)) for c in options.chosen}
        for k, group in enumerate(options.only, 1):
            for name in names_of(group):
                found = measure(workers, name, options.rounds, options.block, is_settled)
                results[name] = report.summarize(found, {OWN.name}, PEER.name)
            print(group_table(group, results), flush=True)
            done(options.only[:k], results)
    return results


def ratio_of(summary: Mapping[str, Any]) -> list[float] | None:
    """How many times faster than PyTorch nbdl is: median, least, greatest; None where one is missing."""
    return summary["contenders"].get(OWN.name, {}).get("against_baseline")


def group_table(group: str, results: Mapping[str, Any]) -> str:
    """A group in Markdown: a line a module and size, slower ones marked."""
    rows, failures = [], []
    for name in names_of(group):
        found, ratio = results[name]["contenders"], ratio_of(results[name])
        times = [
            report.number(1e3 * found[c.name]["median_ms"]) if "median_ms" in found.get(c.name, {}) else "-"
            for c in TABLE
        ]
        rows.append([name, *times, report.times(ratio), "slower" if ratio and ratio[0] < 1 else ""])
        failures += report.failures(found, f"{name}: ")
    header = ["module", f"{OWN.name} us", f"{PEER.name} us", "ratio", ""]
    notes = report.disturbance(results[name] for name in names_of(group))
    return "\n".join([f"\n## {group}\n", report.table(header, rows), *failures, *notes])


def overview(results: Mapping[str, Any]) -> str:
    """In Markdown: how many cases are slower, how the ratios are spread, and the worst ones."""
    lines = ["\n## Overview\n"]
    for size in SIZES:
        ratios = {
            name: ratio[0] for name, s in results.items() if name.endswith(size) and (ratio := ratio_of(s))
        }
        if not ratios:
            continue
        slower = sorted((name for name in ratios if ratios[name] < 1), key=ratios.__getitem__)
        lines.append(
            f"- {size}: {len(ratios)} cases, median ratio {statistics.median(ratios.values()):.2f}x, "
            f"{len(slower)} below 1"
            + "".join(f"\n  - {name.removesuffix(size).strip()} {ratios[name]:.2f}x" for name in slower)
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = make_parser("Compare the modules of nbdl and PyTorch.", GROUPS, TABLE, DEFAULTS)
    options = parse(parser, argv, GROUPS, TABLE, DEFAULTS)
    described = machine.describe(options.chosen) | {
        "threads": str(options.threads),
        "method": f"medians of up to {options.rounds} interleaved blocks of {options.block:g} s",
    }
    print("\n".join([report.facts(described), *options.missing]), flush=True)

    def save(groups: list[str], results: Mapping[str, Any]) -> None:
        sections = [overview(results), *[group_table(group, results) for group in groups]]
        report.write(
            options.out, "zoo", "The layer zoo", described, options.missing, sections, results, brief=True
        )

    results = run(options, save)
    print(overview(results))
    print(f"\nwritten: {options.out / 'zoo'}.md and .json")
    return int(report.any_failed(results))


if __name__ == "__main__":
    sys.exit(main())

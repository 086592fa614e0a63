#!/usr/bin/env python
"""Single operations of nbdl, NumPy and PyTorch, side by side.

    python examples/benchmarks/kernels.py
    python examples/benchmarks/kernels.py --only matmul,copy --contenders nbdl,torch

Microseconds of a call through the public interface, in one table a group, measured as `training.py` does, in
fewer rounds where the ratio to PyTorch is clear. The report is written anew after every group.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import contenders
import machine
import report
from contenders import Contender
from harness import is_clear, measure
from kernel_cases import CASES, GROUPS, Case
from options import Defaults, make_parser, make_worker, parse

BASELINE = contenders.TORCH.name
DEFAULTS = Defaults(rounds=5, block=0.02, quick_rounds=3, quick_block=0.002)


def run(options: argparse.Namespace, done: Callable[[list[str], dict[str, Any]], None]) -> dict[str, Any]:
    """Time the cases of the chosen groups: name of the case -> summary; `done` is given those so far."""
    own = {contender.name for contender in options.chosen if contender.own}
    is_settled = functools.partial(is_clear, own=contenders.NBDL.name, peer=BASELINE)
    results: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        workers = {c.name: stack.enter_context(make_worker(options, "kernels", c)) for c in options.chosen}
        for k, group in enumerate(options.only, 1):
            for case in cases_of(group):
                found = measure(workers, case.name, options.rounds, options.block, is_settled)
                results[case.name] = report.summarize(found, own, BASELINE)
                for contender, result in found.items():
                    if "error" not in result:
                        workers[contender].ask("drop")
            print(group_table(group, results, options.chosen), flush=True)
            done(options.only[:k], results)
    return results


def cases_of(group: str) -> list[Case]:
    """The cases under one heading."""
    return [case for case in CASES if case.group == group]


def overview(results: Mapping[str, Any]) -> str:
    """In Markdown: how many times faster than PyTorch nbdl is over all cases, and where it is slower."""
    found = {name: s["contenders"].get(contenders.NBDL.name, {}) for name, s in results.items()}
    gains = {name: r["against_baseline"][0] for name, r in found.items() if r.get("against_baseline")}
    if not gains:
        return ""
    slower = sorted((name for name in gains if gains[name] < 1), key=gains.__getitem__)
    text = f"{len(gains)} cases, median {statistics.median(gains.values()):.2f}x, {len(slower)} below 1"
    return "\n".join(
        [f"\n## Against {BASELINE}\n", f"- {text}", *(f"  - {name} {gains[name]:.2f}x" for name in slower)]
    )


def group_table(group: str, results: dict[str, Any], chosen: list[Contender]) -> str:
    """A group in Markdown: a line a case, a column a contender, and the gains of the first one."""
    names = [contender.name for contender in chosen]
    first, *others = names
    header = [
        "operation",
        *(f"{name} us" for name in names),
        f"{first} rate",
        *(f"vs {name}" for name in others),
    ]
    rows, failures = [], []
    for case in cases_of(group):
        found = results[case.name]["contenders"]
        rows.append(
            [case.name, *(time_of(name, found) for name in names), *rate_and_gains(case, found, names)]
        )
        failures += report.failures(found, f"{case.name}: ")
    notes = [*failures, *report.disturbance(results[case.name] for case in cases_of(group))]
    return "\n".join([f"\n## {group}\n", report.table(header, rows), *notes])


def rate_and_gains(case: Case, found: dict[str, Any], names: list[str]) -> list[str]:
    """How fast the first contender works, and how many times faster than each other one."""
    first, *others = names
    blocks = {name: result["blocks_s"] for name, result in found.items() if "error" not in result}
    if first not in blocks:
        return [report.MISSING] * len(names)
    rate = report.number(case.work / found[first]["median_ms"] / 1e6, f" {case.unit}")
    gains = [report.gain(blocks.get(name), blocks[first]) for name in others]
    return [rate, *(f"{gain[0]:.2f}x" if gain else report.MISSING for gain in gains)]


def time_of(contender: str, found: dict[str, Any]) -> str:
    """The median in microseconds."""
    result = found.get(contender)
    if result is None:
        return report.MISSING
    return report.FAILED if "error" in result else report.number(1e3 * result["median_ms"])


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = make_parser(
        "Compare single operations of nbdl, NumPy and PyTorch.", GROUPS, contenders.KERNELS, DEFAULTS
    )
    options = parse(parser, argv, GROUPS, contenders.KERNELS, DEFAULTS)
    described = machine.describe(options.chosen) | {
        "threads": str(options.threads),
        "method": f"medians of {options.rounds} interleaved blocks of {options.block:g} s",
    }
    print("\n".join([report.facts(described), *options.missing]), flush=True)

    def save(groups: list[str], results: dict[str, Any]) -> None:
        tables = [group_table(group, results, options.chosen) for group in groups]
        report.write(
            options.out,
            "kernels",
            "Single operations",
            described,
            options.missing,
            [overview(results), *tables],
            results,
            brief=True,
        )

    results = run(options, save)
    print(overview(results))
    print(f"\nwritten: {options.out / 'kernels'}.md and .json")
    return int(report.any_failed(results))


if __name__ == "__main__":
    sys.exit(main())

"""`training.py`: milliseconds of a step."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

import contenders
import report
from data import WORKLOADS
from harness import measure
from options import make_worker

BASELINE = contenders.TORCH.name


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """The summary of a workload, see `report.summarize`."""
    own = {contender.name for contender in options.chosen if contender.own}
    with contextlib.ExitStack() as stack:
        workers = {c.name: stack.enter_context(make_worker(options, "workloads", c)) for c in options.chosen}
        found = measure(workers, name, options.rounds, options.block)
        for contender, result in found.items():
            if "error" not in result:
                result |= workers[contender].ask("memory")
    return report.summarize(found, own, BASELINE)


def overview(results: dict[str, dict[str, Any]]) -> str:
    """All workloads in Markdown: the best of nbdl beside the best peer."""
    header = ["workload", "nbdl's best", "ms", "best peer", "ms", "gain"]
    rows = []
    for name, summary in results.items():
        found = summary["contenders"]
        pair = (summary["best_own"], summary["best_peer"])
        cells = [
            cell
            for best in pair
            for cell in ((best, report.number(found[best]["median_ms"])) if best else [report.MISSING] * 2)
        ]
        gain = found[summary["best_own"]]["against_best"] if all(pair) else None
        rows.append([name, *cells, report.times(gain)])
    return f"\n## Overview\n\n{report.table(header, rows)}"


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    header = [
        "contender", "median ms", "min", "max", f"vs {BASELINE}", f"vs best peer ({summary['best_peer']})",
        "peak MB", "value",
    ]  # fmt: skip
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
                report.megabytes(result["peak_mb"]),
                f"{result['value']:.3g} to {result['last_value']:.3g}",
            ]
        )
    section = report.section(name, WORKLOADS[name].title, header, rows, summary["contenders"])
    return "\n".join([section, *report.disturbance([summary])])

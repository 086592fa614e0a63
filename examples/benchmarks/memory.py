"""`training.py --memory`: the greatest resident memory of the process of each contender."""

from __future__ import annotations

import argparse
from typing import Any

import contenders
import report
from data import WORKLOADS
from harness import Unsupported, WorkerError
from options import make_worker

BASELINE = contenders.TORCH.name
STEPS = 20


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """For each contender `imported_mb`, with the framework imported, and `peak_mb`, after some steps."""
    found: dict[str, Any] = {}
    for contender in options.chosen:
        try:
            with make_worker(options, "workloads", contender) as worker:
                imported = worker.ask("prepare", program=name)["imported_mb"]
                worker.ask("values", calls=options.memory_steps)
                found[contender.name] = {"imported_mb": imported} | worker.ask("memory")
        except Unsupported:
            continue
        except WorkerError as error:
            found[contender.name] = {"error": str(error)}
    return {"contenders": found}


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown: totals, and what the steps add to the framework."""
    found = summary["contenders"]
    header = ["contender", "imported MB", "peak MB", f"of {BASELINE}", "added MB", f"of {BASELINE}"]
    baseline = found.get(BASELINE, {})
    rows = []
    for contender, result in found.items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
            continue
        cells = [contender, report.megabytes(result["imported_mb"])]
        for quantity in (peak, added):
            cells += [report.megabytes(quantity(result)), share(quantity(result), quantity(baseline))]
        rows.append(cells)
    return report.section(name, WORKLOADS[name].title, header, rows, found)


def peak(result: dict[str, Any]) -> float | None:
    """Everything; None where it is not known."""
    return result.get("peak_mb")


def added(result: dict[str, Any]) -> float | None:
    """What model, data and steps need beside the imported framework; None where it is not known."""
    if result.get("peak_mb") is None:
        return None
    return result["peak_mb"] - result["imported_mb"]


def share(value: float | None, reference: float | None) -> str:
    """A ratio in percent."""
    return f"{100 * value / reference:.0f} %" if value is not None and reference else report.MISSING

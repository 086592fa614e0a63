"""`training.py --check`: whether all contenders compute the same values, step by step from equal weights."""

from __future__ import annotations

import argparse
import math
from typing import Any

import contenders
import report
from contenders import Contender
from data import WORKLOADS
from harness import Unsupported, WorkerError
from options import make_worker

BASELINE = contenders.TORCH.name


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """For each contender `values`, `error` relative to the reference, `agrees`; and `agree`, whether all do.

    The reference is the baseline, or else the first contender.
    """
    found: dict[str, Any] = {}
    for contender in options.chosen:
        try:
            found[contender.name] = {"values": first_values(options, contender, name)}
        except Unsupported:
            continue
        except WorkerError as error:
            found[contender.name] = {"error": str(error)}
    computed = {key: result for key, result in found.items() if "values" in result}
    reference = computed.get(BASELINE) or next(iter(computed.values()), None)
    for result in computed.values():
        result["difference"] = difference(result["values"], reference["values"])
        result["agrees"] = result["difference"] <= WORKLOADS[name].tolerance  # false for NaN too
    return {"contenders": found, "agree": all(result.get("agrees", False) for result in found.values())}


def first_values(options: argparse.Namespace, contender: Contender, name: str) -> dict[int, float]:
    """Number of the step -> loss, of those steps whose loss the contender tells."""
    with make_worker(options, "workloads", contender) as worker:
        first = worker.ask("prepare", program=name)
        steps = first["steps_a_call"]
        calls = WORKLOADS[name].check_steps // steps
        values = [first["value"], *worker.ask("values", calls=calls - 1)["values"]]
    return {(k + 1) * steps: value for k, value in enumerate(values)}


def difference(values: dict[int, float], reference: dict[int, float]) -> float:
    """The greatest relative difference over the steps that both know; NaN if there is none, or one is NaN."""
    common = values.keys() & reference.keys()
    differences = [abs(values[step] / reference[step] - 1) for step in common]
    if not differences or any(map(math.isnan, differences)):
        return math.nan
    return max(differences)


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    found = summary["contenders"]
    header = ["contender", "first value", "last value", "steps", "relative difference", ""]
    rows = []
    for contender, result in found.items():
        if "error" in result:
            rows.append([contender, *[report.MISSING] * (len(header) - 2), report.FAILED])
            continue
        (_, first), *_, (steps, last) = [*result["values"].items()] * 2
        rows.append(
            [
                contender,
                f"{first:.7g}",
                f"{last:.7g}",
                str(steps),
                f"{result['difference']:.1e}",
                "agrees" if result["agrees"] else "DIFFERS",
            ]
        )
    return report.section(name, WORKLOADS[name].title, header, rows, found)

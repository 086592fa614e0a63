"""`training.py --startup`: seconds until the first step is done, with an empty and a full cache of code."""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import report
from contenders import Contender
from data import WORKLOADS
from harness import Unsupported, WorkerError
from options import make_worker

RUNS = 3
PARTS = {"import_s": "import", "build_s": "model", "first_step_s": "first step", "total_s": "total"}
STATES = ("cold", "warm")


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """For each contender, cold and warm, the medians of the parts."""
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
            state: {part: statistics.median(times[state][part] for times in runs) for part in PARTS}
            for state in STATES
        }
    return {"contenders": found}


def start_twice(
    options: argparse.Namespace, contender: Contender, workload: str
) -> dict[str, dict[str, float]]:
    """Times of two fresh processes: with an empty cache of compiled code, and with what the first left."""
    with tempfile.TemporaryDirectory(prefix="benchmark-cache-") as cache:
        folders = {"NBDL_CACHE_DIR": cache, "TORCHINDUCTOR_CACHE_DIR": cache}
        return {state: start(options, contender, workload, folders) for state in STATES}


def start(
    options: argparse.Namespace, contender: Contender, workload: str, folders: dict[str, str]
) -> dict[str, float]:
    """Times of one fresh process."""
    begin = time.perf_counter()
    with make_worker(options, "workloads", contender, **folders) as worker:
        answer = worker.ask("prepare", program=workload)
        total = time.perf_counter() - begin
    return {part: answer.get(part, total) for part in PARTS}


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    header = ["contender", *(f"{label}, {state}" for state in STATES for label in PARTS.values())]
    rows = []
    for contender, result in summary["contenders"].items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
        else:
            rows.append([contender, *(f"{result[state][part]:.2f}" for state in STATES for part in PARTS)])
    return report.section(name, WORKLOADS[name].title, header, rows, summary["contenders"])

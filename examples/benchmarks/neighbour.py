"""`training.py --neighbour`: what a step costs while another process keeps one core busy."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import report
from data import WORKLOADS
from harness import SETTLE_SECONDS, Unsupported, Worker, WorkerError
from options import make_worker


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """For each contender `alone_ms` and `beside_ms`, medians, and `cost`, see `report.gain`."""
    found: dict[str, Any] = {}
    for contender in options.chosen:
        try:
            with make_worker(options, "workloads", contender) as worker:
                worker.ask("prepare", program=name)
                found[contender.name] = measure(worker, options.rounds, options.block)
        except Unsupported:
            continue
        except WorkerError as error:
            found[contender.name] = {"error": str(error)}
    return {"contenders": found}


def measure(worker: Worker, rounds: int, block_seconds: float) -> dict[str, Any]:
    """Blocks alone and beside a busy process, in turn."""
    calls = worker.ask("calibrate", seconds=block_seconds)["calls"]
    alone, beside = [], []
    for _ in range(rounds):
        alone.append(worker.ask("measure", calls=calls)["step_s"])
        with busy_core():
            beside.append(worker.ask("measure", calls=calls)["step_s"])
    return {
        "alone_ms": 1e3 * statistics.median(alone),
        "beside_ms": 1e3 * statistics.median(beside),
        "cost": report.gain(beside, alone),
    }


@contextlib.contextmanager
def busy_core() -> Iterator[None]:
    """A process that computes all the time, in one thread, on whatever core the system gives it."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            time.sleep(SETTLE_SECONDS)
            yield
        finally:
            process.kill()


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    header = ["contender", "ms alone", "ms beside", "cost"]
    rows = []
    for contender, result in summary["contenders"].items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
            continue
        times = [report.number(result[key]) for key in ("alone_ms", "beside_ms")]
        rows.append([contender, *times, report.times(result["cost"])])
    return report.section(name, WORKLOADS[name].title, header, rows, summary["contenders"])

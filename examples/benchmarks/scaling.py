"""`training.py --scaling`: what more threads bring."""

from __future__ import annotations

import argparse
import contextlib
import statistics
from typing import Any

import report
from data import WORKLOADS
from harness import Worker, measure


def thread_counts(most: int) -> list[int]:
    """Powers of two, and the greatest count."""
    return sorted({2**k for k in range(most.bit_length())} | {most})


def run(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """For each contender `threads`: count -> `median_ms`, and `gain` on one thread, see `report.gain`."""
    counts = thread_counts(options.threads)
    cases = {f"{c.name} at {count}": (c, count) for c in options.chosen for count in counts}
    with contextlib.ExitStack() as stack:
        workers = {
            case: stack.enter_context(Worker(contender, "workloads", count, verbose=options.verbose))
            for case, (contender, count) in cases.items()
        }
        results = measure(workers, name, options.rounds, options.block)
    found: dict[str, Any] = {}
    for contender in options.chosen:
        blocks = {count: results.get(f"{contender.name} at {count}") for count in counts}
        if None in blocks.values():  # it has no such program
            continue
        errors = [result["error"] for result in blocks.values() if "error" in result]
        found[contender.name] = {"error": errors[0]} if errors else compare(blocks)
    return {"contenders": found}


def compare(results: dict[int, Any]) -> dict[str, Any]:
    """The measurements of one contender with several numbers of threads."""
    one, cores = results[1]["blocks_s"], [c for result in results.values() for c in result["others_cores"]]
    threads = {
        str(count): {
            "median_ms": 1e3 * statistics.median(result["blocks_s"]),
            "gain": report.gain(one, result["blocks_s"]),
        }
        for count, result in results.items()
    }
    return {"threads": threads, "others_cores": cores}


def table(name: str, summary: dict[str, Any]) -> str:
    """A workload in Markdown."""
    found = summary["contenders"]
    counts = next((list(result["threads"]) for result in found.values() if "error" not in result), ["1"])
    header = ["contender", *(f"ms, {count}" for count in counts), *(f"gain, {count}" for count in counts[1:])]
    rows = []
    for contender, result in found.items():
        if "error" in result:
            rows.append([contender, report.FAILED, *[report.MISSING] * (len(header) - 2)])
            continue
        threads = result["threads"]
        medians = [report.number(threads[count]["median_ms"]) for count in counts]
        gains = [report.times(threads[count]["gain"]) for count in counts[1:]]
        rows.append([contender, *medians, *gains])
    section = report.section(name, WORKLOADS[name].title, header, rows, found)
    return "\n".join([section, *report.disturbance([summary])])

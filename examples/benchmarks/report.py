"""Statistics of interleaved measurements, and their Markdown and JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

MISSING = "-"
FAILED = "failed"
QUIET_CORES = 0.1  # what other processes may use without disturbing the measurement


def summarize(results: Mapping[str, dict[str, Any]], own: Collection[str], baseline: str) -> dict[str, Any]:
    """Median, least and greatest milliseconds of each contender, and what it gains on others.

    A gain is the median over the rounds of the ratio of two blocks of the same round, so that a slow phase of
    the machine, which hits both, drops out; with the least and the greatest ratio beside it.

    Args:
        results: contender -> what `harness.measure` found.
        own: the contenders that are not peers.
        baseline: the peer with whom everybody is compared, beside the best one.

    Returns:
        `best_peer` and `best_own`, their names or None, and `contenders`: name -> its results with
        `median_ms`, `min_ms`, `max_ms`, `against_baseline` and `against_best` (median, least, greatest; None
        where the other one is missing).
    """
    blocks = {name: result["blocks_s"] for name, result in results.items() if "error" not in result}
    medians = {name: statistics.median(values) for name, values in blocks.items()}
    best = min((name for name in medians if name not in own), key=medians.__getitem__, default=None)
    best_own = min((name for name in medians if name in own), key=medians.__getitem__, default=None)
    summaries = {}
    for name, result in results.items():
        summaries[name] = dict(result)
        if name in blocks:
            milliseconds = [1e3 * seconds for seconds in blocks[name]]
            summaries[name] |= {
                "median_ms": statistics.median(milliseconds),
                "min_ms": min(milliseconds),
                "max_ms": max(milliseconds),
                "against_baseline": gain(blocks.get(baseline), blocks[name]),
                "against_best": gain(blocks.get(best), blocks[name]),
            }
    return {"best_peer": best, "best_own": best_own, "contenders": summaries}


def gain(reference: Sequence[float] | None, times: Sequence[float]) -> list[float] | None:
    """How many times faster than the reference: median, least and greatest ratio over the rounds."""
    if reference is None:
        return None
    ratios = [other / time for other, time in zip(reference, times)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table: the first column to the left, the others to the right, aligned to be read as text."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        padded = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:]))]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(header), line(rule), *map(line, rows)])


def number(value: float | None, unit: str = "") -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return MISSING
    digits = max(0, 2 - _exponent(value))
    return f"{value:,.{digits}f}{unit}"


def _exponent(value: float) -> int:
    return int(f"{value:.2e}".partition("e")[2])


def times(ratio: Sequence[float] | None) -> str:
    """A gain with its range."""
    if ratio is None:
        return MISSING
    median, least, greatest = ratio
    return f"{median:.2f}x ({least:.2f}-{greatest:.2f})"


def megabytes(value: float | None) -> str:
    """Without decimals."""
    return MISSING if value is None else f"{value:.0f}"


def section(
    name: str, title: str, header: list[str], rows: list[list[str]], found: Mapping[str, dict[str, Any]]
) -> str:
    """A program in Markdown: heading, table, and which contender failed."""
    return "\n".join([f"\n## {name}: {title}\n", table(header, rows), *failures(found)])


def facts(described: Mapping[str, str]) -> str:
    """The machine as a list."""
    return "\n".join(f"- {label}: {text}" for label, text in described.items())


def failures(found: Mapping[str, dict[str, Any]], label: str = "") -> list[str]:
    """A line of Markdown for each contender that failed."""
    return [
        f"\n{label}{name} failed: {result['error']}" for name, result in found.items() if "error" in result
    ]


def disturbance(summaries: Iterable[Mapping[str, Any]]) -> list[str]:
    """A line of Markdown that says how busy other processes were, where that is known."""
    cores = [
        block
        for summary in summaries
        for result in summary["contenders"].values()
        for block in result.get("others_cores", [])
        if block is not None
    ]
    if not cores:
        return []
    mean = max(0.0, statistics.fmean(cores))  # clock ticks are coarse
    warning = f" This is more than {QUIET_CORES:g}: do not trust the figures." if mean > QUIET_CORES else ""
    return [f"\nMeanwhile other processes kept {mean:.2f} cores busy.{warning}"]


def any_failed(results: Mapping[str, dict[str, Any]]) -> bool:
    """Whether a contender failed in one of the summaries."""
    return any("error" in result for summary in results.values() for result in summary["contenders"].values())


def times_of(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What of a summary was measured: the others follow from it. Times have four digits."""
    found = {}
    for name, result in summary["contenders"].items():
        if "error" in result:
            found[name] = {"error": result["error"]}
        else:
            found[name] = {"blocks_s": [float(f"{seconds:.4g}") for seconds in result["blocks_s"]]}
    return {"best_peer": summary["best_peer"], "contenders": found}


def write(
    folder: Path,
    name: str,
    title: str,
    described: Mapping[str, str],
    missing: Sequence[str],
    sections: Sequence[str],
    results: Mapping[str, Any],
    *,
    brief: bool = False,
) -> None:
    """Write `<name>.md` and `<name>.json`.

    Args:
        folder: where; made if it is not there.
        name: of the files.
        title: heading of the Markdown.
        described: the machine, see `machine.describe`.
        missing: a line for each contender that is left out.
        sections: the tables in Markdown.
        results: summaries by program.
        brief: of many programs the JSON keeps the measured times alone, a line a program.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes = [f"\n{line}" for line in missing]
    markdown = "\n".join([f"# {title}\n", facts(described), *notes, *sections, ""])
    data = {"machine": described, "missing": missing, "results": {} if brief else results}
    values = json.dumps(data, indent=1)
    if brief:
        lines = [f"  {json.dumps(key)}: {json.dumps(times_of(results[key]))}" for key in results]
        values = values.replace('"results": {}', '"results": {\n' + ",\n".join(lines) + "\n }")
    for file, text in ((f"{name}.md", markdown), (f"{name}.json", values + "\n")):
        unfinished = folder / f".{file}"  # so that a run that is cut short leaves a whole file
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / file)

"""`nbdl`, or `python -m nbdl`: what nbdl finds on this machine; `nbdl warmup`: kernels compiled ahead."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import nbdl
from nbdl import backend, config

_CUPY_DISTRIBUTIONS = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def report() -> Iterator[str]:
    """Yields the lines of the report: versions, backends, threads, cache."""
    yield f"nbdl {nbdl.__version__}"
    yield ""
    yield "Backends"
    statuses = backend.status()
    for status in statuses:
        yield from _backend_lines(status)
    yield f"  in force: {nbdl.get_backend()} (NBDL_BACKEND={config.backend()})"
    yield ""
    yield "CPU"
    yield f"  threads: {config.num_threads()} of {config.usable_cores()} usable cores"
    yield f"  threading layer: {_threading_layer(statuses)}"
    yield ""
    yield "Kernel cache"
    yield f"  folder: {config.cache_dir()}"
    yield f"  size: {_size(config.cache_dir())}"
    yield ""
    yield "Versions"
    yield f"  Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield f"  NumPy {_version('numpy')}"
    yield f"  Numba {_version('numba')}"
    yield f"  CuPy {_version(*_CUPY_DISTRIBUTIONS)}"


def _backend_lines(status: backend.BackendStatus) -> Iterator[str]:
    if status.available:
        yield f"  {status.name}: available, on {', '.join(status.devices)}"
        if status.name == "cupy":
            from nbdl.backend.cupy import libraries

            yield from [f"    {line}" for line in libraries.report()]
        return
    yield f"  {status.name}: missing: {status.reason}"
    yield f"    remedy: {status.remedy}"


def _threading_layer(statuses: list[backend.BackendStatus]) -> str:
    if not any(status.name == "numba" and status.available for status in statuses):
        return "none, since the numba backend is missing"
    from nbdl.backend.numba.threads import threading_layer

    return threading_layer()


def _size(folder: Path) -> str:
    sizes = []
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process has just replaced it
                sizes.append(os.lstat(os.path.join(parent, name)).st_size)
    return f"{sum(sizes) / 1e3:,.0f} kB in {len(sizes)} files"


def _version(*distributions: str) -> str:
    """Version of the first of these that is installed; asks the metadata, so that nothing is imported."""
    for name in distributions:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nbdl", description="Without a command: what nbdl finds on this machine."
    )
    commands = parser.add_subparsers(dest="command")
    warmup = commands.add_parser(
        "warmup", help="compile kernels ahead, so that a program starts at once",
        description="Compile the kernels of common operations, or, by running it, those of a program.",
    )  # fmt: skip
    warmup.add_argument("--backend", help="numba or cupy; default: those that can be used here")
    warmup.add_argument("program", nargs="?", help="a Python file")
    warmup.add_argument("arguments", nargs=argparse.REMAINDER, help="of the program")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the report or warms up; returns the exit code, 1 where something of the user's is wrong."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "warmup":
            for warmed in nbdl.utils.warmup(options.program, options.arguments, options.backend):
                print(warmed)
            return 0
        for line in report():
            print(line)
    except (OSError, ValueError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The command line that the benchmarks share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import contenders
from contenders import Contender
from harness import FOLDER, Worker


@dataclass(frozen=True)
class Defaults:
    """What a benchmark does where the command line says nothing: rounds of blocks of so many seconds."""

    rounds: int
    block: float
    quick_rounds: int
    quick_block: float


def make_parser(
    description: str, programs: Sequence[str], table: Sequence[Contender], defaults: Defaults
) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    names = ", ".join(contender.name for contender in table)
    slow = ", ".join(contender.name for contender in table if not contender.default)
    parser.add_argument("--only", default=",".join(programs), help=f"some of {', '.join(programs)}")
    parser.add_argument("--contenders", help=f"of {names}; default: the installed ones but {slow}")
    parser.add_argument("--threads", type=int, default=2, help="of every contender, default 2")
    parser.add_argument(
        "--rounds", type=int, default=defaults.rounds, help="blocks a contender, default %(default)s"
    )
    parser.add_argument(
        "--block", type=float, default=defaults.block, help="seconds a block, default %(default)s"
    )
    parser.add_argument("--quick", action="store_true", help="a few short blocks: does it run?")
    parser.add_argument("--out", type=Path, default=FOLDER / "results", help="folder of the reports")
    parser.add_argument(
        "--verbose", action="store_true", help="show what the contenders write to standard error"
    )
    return parser


def parse(
    parser: argparse.ArgumentParser,
    argv: list[str] | None,
    programs: Sequence[str],
    table: Sequence[Contender],
    defaults: Defaults,
) -> argparse.Namespace:
    """The options, checked; `chosen` and `missing` are what `contenders.choose` gives.

    `only` is a list, empty where nobody named a program and the benchmark has taken the default away.

    Raises:
        SystemExit: an option is wrong; the parser has said which.
    """
    options = parser.parse_args(argv)
    options.only = options.only.split(",") if options.only else []
    for name in options.only:
        if name not in programs:
            parser.error(f"--only: {name!r} is unknown; there are {', '.join(programs)}")
    for name in ("threads", "rounds", "block"):
        if not getattr(options, name) > 0:
            parser.error(f"--{name} must be greater than 0, got {getattr(options, name)}")
    if options.quick:
        options.rounds, options.block = defaults.quick_rounds, defaults.quick_block
    try:
        options.chosen, options.missing = contenders.choose(table, options.contenders)
    except ValueError as error:
        parser.error(f"--contenders: {error}")
    if not options.chosen:
        parser.error("--contenders: none of them is installed")
    return options


def make_worker(
    options: argparse.Namespace, benchmark: str, contender: Contender, **environment: str
) -> Worker:
    """The process of a contender under these options."""
    return Worker(contender, benchmark, options.threads, verbose=options.verbose, **environment)

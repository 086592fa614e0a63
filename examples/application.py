"""What the programs of this folder share: options, backends, checkpoints, results and pictures.

A program makes a parser by :func:`make_parser`, adds its own options, and hands :func:`run` the function that
does the work. In it :func:`fit` trains, with a progress bar and checkpoints, and :func:`save_picture` draws.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import nbdl
from nbdl.utils import callbacks

History = list[dict[str, float]]
Figures = dict[str, float]

STYLE = Path(__file__).with_name("pictures.mplstyle")

# Options that have no part in what is computed, so that they may differ when a run is resumed.
_FREE = ("backend", "checkpoint", "eager", "out", "resume")


def make_parser(description: str, out: str) -> argparse.ArgumentParser:
    """A parser with the options that all applications have.

    Args:
        description: the docstring of the program.
        out: default name of the picture.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--backend", metavar="NAME", help="numpy, numba or cupy; default: the best that works"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of all that is random (default 0)")
    parser.add_argument("--quick", action="store_true", help="small and short: only shows that it runs")
    parser.add_argument("--eager", action="store_true", help="without nbdl.compile, to see what it gains")
    parser.add_argument("--out", type=Path, default=Path(out), help=f"the picture (default {out})")
    add_checkpoint(parser)
    return parser


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """The options that :func:`fit` saves and resumes by."""
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="where to save the run now and then")
    parser.add_argument("--resume", action="store_true", help="go on with the run that --checkpoint saved")


def check_checkpoint(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End the program with one line if there is nothing to resume, or no folder to save in."""
    if options.checkpoint is not None:
        check_folder(parser, "--checkpoint", options.checkpoint)
    if options.resume and options.checkpoint is None:
        parser.error("--resume needs --checkpoint FILE")
    if options.resume and not options.checkpoint.is_file():
        parser.error(f"--checkpoint: there is no file {options.checkpoint}")


def seed(text: str) -> int:
    """A seed of the generators, as the command line gives it."""
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"must be in [0, 2^63), got {text}")
    return int(text)


def positive(text: str) -> int:
    """A number from 1 on, as the command line gives it."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, got {text}")
    return int(text)


def check_backend(parser: argparse.ArgumentParser, name: str) -> str:
    """``name``, if that backend can be used; else the program ends with one line."""
    states = {state.name: state for state in nbdl.backend.status()}
    if name not in states:
        parser.error(f"unknown backend {name!r}; there are {', '.join(states)}")
    if not states[name].available:
        parser.error(f"backend {name!r} cannot be used: {states[name].reason} ({states[name].remedy})")
    return name


def choose_backends(parser: argparse.ArgumentParser, wanted: list[str] | None) -> list[str]:
    """The backends to compare: those wanted, or all that work; says which do not."""
    if wanted is not None:
        return [check_backend(parser, name) for name in wanted]
    for state in nbdl.backend.status():
        if not state.available:
            print(f"{state.name:6} skipped: {state.reason} ({state.remedy})")
    return nbdl.available_backends()


def check_folder(parser: argparse.ArgumentParser, option: str, path: Path) -> None:
    """End the program with one line if a file cannot be written: there is no folder for it, or it is one."""
    folder = path.resolve().parent
    if not folder.is_dir():
        parser.error(f"{option}: there is no folder {folder}")
    if path.is_dir():
        parser.error(f"{option}: {path} is a folder, and no file")
    if not os.access(folder, os.W_OK):
        parser.error(f"{option}: {folder} cannot be written in")


def refuse(message: object) -> NoReturn:
    """End the program with one line."""
    raise SystemExit(f"{Path(sys.argv[0]).stem}: {message}")


@contextmanager
def refusing(*errors: type[Exception]) -> Iterator[None]:
    """End the program with one line where one of these exceptions is raised."""
    try:
        yield
    except errors as error:
        refuse(str(error).partition("\n")[0])


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's BLAS and LAPACK with one thread, where threadpoolctl (of scikit-learn) can do that.

    The Numba backend has threads of its own, and matrices are small here: a second pool would only disturb.
    """
    with ExitStack() as stack:
        with suppress(ImportError):
            from threadpoolctl import threadpool_limits

            stack.enter_context(threadpool_limits(1, user_api="blas"))
        yield


@contextmanager
def stopping(options: argparse.Namespace) -> Iterator[None]:
    """End the program with one line on Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        saved = options.checkpoint is not None and options.checkpoint.is_file()
        print("\nstopped" + (f"; --resume goes on with {options.checkpoint}" if saved else ""))
        raise SystemExit(130) from None


def run(
    parser: argparse.ArgumentParser, argv: list[str] | None, work: Callable[[argparse.Namespace], Figures]
) -> int:
    """Parse and check the options, do the work, and print its figures and the time that it took.

    Args:
        parser: made by :func:`make_parser`.
        argv: the command line; default: that of the process.
        work: gets the options and returns figures by name.

    Returns:
        The exit code.
    """
    options = parser.parse_args(argv)
    if options.backend is None:
        with refusing(ValueError, RuntimeError):  # of the environment variable NBDL_BACKEND
            options.backend = nbdl.get_backend()
    check_backend(parser, options.backend)
    check_folder(parser, "--out", options.out)
    check_checkpoint(parser, options)
    start, work_start = time.perf_counter(), time.process_time()
    threads = one_blas_thread() if options.backend == "numba" else nullcontext()
    with nbdl.use_backend(options.backend), threads, stopping(options):
        nbdl.manual_seed(options.seed)
        figures = work(options)
    figures |= {
        f"seconds ({options.backend})": time.perf_counter() - start,
        "processor seconds": time.process_time() - work_start,
    }
    for name, value in figures.items():
        print(f"{name}: {value:.4g}")
    return 0


def compiled(options: argparse.Namespace) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: :func:`nbdl.compile`, unless ``--eager`` forbids it."""
    return (lambda function: function) if options.eager else nbdl.compile


class _Settings:
    """The options of a run as a part of its checkpoint: a run goes on with those it began with."""

    def __init__(self, options: argparse.Namespace):
        self._values = {name: str(value) for name, value in vars(options).items() if name not in _FREE}

    def state_dict(self) -> dict[str, str]:
        return self._values

    def load_state_dict(self, state: Mapping[str, str]) -> None:
        for name, value in self._values.items():
            if state.get(name) != value:
                raise RuntimeError(f"the checkpoint was made with --{name} {state.get(name)}, not {value}")


def fit(
    options: argparse.Namespace,
    step: Callable[[Any], Any],
    batches: Iterable[Any],
    epochs: int,
    parts: Mapping[str, Any],
    evaluate: Callable[[], Mapping[str, Any]] | None = None,
) -> History:
    """:func:`nbdl.utils.fit` with a progress bar where somebody watches, checkpoints, and resuming.

    Args:
        options: of the program.
        step: trains on a batch, and returns its loss or a dict of numbers by name.
        batches: iterated once an epoch.
        epochs: how many.
        parts: what the checkpoint holds, by name: model, optimizer.
        evaluate: called after each epoch; what it returns joins the history.

    Returns:
        The metrics of all epochs, those before a resumption included.
    """
    helpers: list[nbdl.utils.Callback] = []
    start = 0
    if options.checkpoint is not None:
        every = max(1, epochs // 50)
        saving = callbacks.Checkpoint(options.checkpoint, {"settings": _Settings(options), **parts}, every)
        helpers.append(saving)
        if options.resume:
            with refusing(RuntimeError, KeyError):
                start = saving.resume()
    if sys.stderr.isatty():
        helpers.append(callbacks.Progress())
    with refusing(OSError):  # of the checkpoint
        return nbdl.utils.fit(step, batches, epochs, helpers, evaluate, start).history


def save_picture(path: Path, draw: Callable[..., object], rows: int = 1, columns: int = 1) -> None:
    """Call ``draw`` with all axes of a picture, row by row, save it, and say so."""
    try:
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        print("picture: not drawn, since matplotlib is missing: pip install matplotlib")
        return
    with style.context(STYLE):
        figure = Figure(figsize=(6 * columns, 4.5 * rows))
        FigureCanvasAgg(figure)
        draw(*figure.subplots(rows, columns, squeeze=False).flat)
        with refusing(OSError, ValueError):  # of a path, or of its suffix
            figure.savefig(path)
    print(f"picture: {path}")

"""What the lecture programs share: options, tables, pictures, and one clear line where something is missing.

A program is a function of a `Lesson` and two lines:

    def show(lesson: Lesson) -> None:
        lesson.table("Squares", ("x", "x^2"), [(x, x * x) for x in range(3)])
        lesson.picture("squares", draw, data)

    def main(argv: list[str] | None = None) -> int:
        return lecture.run(show, __doc__, argv)

`draw(figure, data)` fills a figure of matplotlib. It is called only where matplotlib is installed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbdl
from nbdl.utils.text import as_table

STYLE = Path(__file__).parents[1] / "pictures.mplstyle"


@dataclass(frozen=True)
class Lesson:
    """One run of a program.

    Attributes:
        seed: of everything random; `nbdl.manual_seed` was called with it.
        quick: whether to show the same in less time, with less of everything.
        out: the folder of the pictures.
    """

    seed: int
    quick: bool
    out: Path

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print a table; its cells are text, numbers, or tensors of one element."""
        print(f"\n{title}\n{as_table(header, [[_cell(value) for value in row] for row in rows])}")

    def correction(self, text: str) -> None:
        """Print the right form of what a slide has wrong."""
        print(f"\nThe slide corrected: {text}")

    def picture(
        self, name: str, draw: Callable[..., None], *data: Any, size: tuple[float, float] = (8.0, 5.0)
    ) -> None:
        """Save the figure that `draw(figure, *data)` fills as a PNG of this name; `size` is in inches."""

        def save(figure: Any, path: Path) -> None:
            draw(figure, *data)
            figure.savefig(path)

        self._save(f"{name}.png", size, save)

    def animation(
        self,
        name: str,
        animate: Callable[..., Any],
        *data: Any,
        size: tuple[float, float] = (8.0, 5.0),
        fps: int = 15,
    ) -> None:
        """Save the animation of matplotlib that `animate(figure, *data)` returns as a GIF of this name."""

        def save(figure: Any, path: Path) -> None:
            from matplotlib.animation import PillowWriter

            animate(figure, *data).save(path, writer=PillowWriter(fps), dpi=80)

        self._save(f"{name}.gif", size, save)

    def _save(self, name: str, size: tuple[float, float], save: Callable[[Any, Path], Any]) -> None:
        """Let `save` draw and save on an empty figure; no window is needed, whatever the settings say."""
        try:
            from matplotlib import style
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            print(f"picture {name}: not drawn, since matplotlib is missing: pip install matplotlib")
            return
        with style.context(STYLE):
            figure = Figure(figsize=size)
            FigureCanvasAgg(figure)
            try:
                save(figure, self.out / name)
            except OSError as error:
                raise SystemExit(f"{Path(sys.argv[0]).stem}: {self.out / name}: {error.strerror}") from None
        print(f"picture {self.out / name}")


def array(tensor: nbdl.Tensor) -> Any:
    """A tensor as matplotlib wants it: a NumPy array, wherever the tensor is."""
    return tensor.detach().cpu().numpy()


def run(
    show: Callable[[Lesson], None],
    description: str,
    argv: list[str] | None = None,
    *,
    seed: int = 0,
    dtype: Any = nbdl.float64,
) -> int:
    """Run a program as its options say, and leave nbdl's settings as they were.

    Args:
        show: the program.
        description: its docstring.
        argv: the options; None: those of the command line.
        seed: the default of `--seed`.
        dtype: the default dtype inside the program.

    Returns:
        The exit code.
    """
    options = _options(description, argv, seed)
    kept = nbdl.get_default_dtype()
    nbdl.set_default_dtype(dtype)
    try:
        with nbdl.use_backend(options.backend):
            nbdl.manual_seed(options.seed)
            print(f"{description.splitlines()[0]} [{options.backend}, seed {options.seed}]")
            show(Lesson(options.seed, options.quick, options.out))
    finally:
        nbdl.set_default_dtype(kept)
    return 0


def _options(description: str, argv: list[str] | None, seed: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--backend", metavar="NAME", help="numpy, numba or cupy; default: the fastest here")
    parser.add_argument("--seed", type=int, default=seed, help=f"of everything random (default {seed})")
    parser.add_argument(
        "--out", type=Path, default=Path("lectures"), help="folder of the pictures (default ./lectures)"
    )
    parser.add_argument("--quick", action="store_true", help="show the same with less of everything")
    options = parser.parse_args(argv)
    options.backend = _usable_backend(parser, options.backend)
    if not 0 <= options.seed < 2**63:
        parser.error(f"--seed must be in [0, 2^63), got {options.seed}")
    try:
        options.out.mkdir(exist_ok=True)
    except FileNotFoundError:
        parser.error(f"--out: there is no folder {options.out.resolve().parent}")
    except OSError as error:
        parser.error(f"--out: {options.out} cannot be a folder: {error.strerror}")
    return options


def _usable_backend(parser: argparse.ArgumentParser, wanted: str | None) -> str:
    if wanted is None:
        try:
            return nbdl.get_backend()
        except (ValueError, RuntimeError) as error:  # of the environment variable NBDL_BACKEND
            parser.error(str(error).partition("\n")[0])
    states = {state.name: state for state in nbdl.backend.status()}
    if wanted not in states:
        parser.error(f"unknown backend {wanted!r}; there are {', '.join(states)}")
    if not states[wanted].available:
        parser.error(f"backend {wanted!r} cannot be used: {states[wanted].reason} ({states[wanted].remedy})")
    return wanted


def _cell(value: Any) -> str:
    if isinstance(value, nbdl.Tensor):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value + 0.0:.4g}"  # + 0.0: no minus before 0

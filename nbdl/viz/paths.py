"""The way of an optimizer over a function of two variables, still and animated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.ops.functions import tensor
from nbdl.optim import Optimizer
from nbdl.viz.figures import axes_or_new, numbers
from nbdl.viz.planes import Limits, contours

_MARKERS = "osD^vP*X"


def optimizer_path(
    function: Callable[[Tensor], Tensor],
    start: Any,
    make_optimizer: Callable[[Iterable[Tensor]], Optimizer],
    steps: int,
) -> np.ndarray:
    """The points that an optimizer visits.

    Args:
        function: takes a point, a float64 tensor of the shape of ``start``, and returns a scalar.
        start: where to begin.
        make_optimizer: makes the optimizer of a list of parameters, such as
            ``lambda params: nbdl.optim.SGD(params, lr=0.1)``.
        steps: number of steps; fewer are taken if a point is not finite.

    Returns:
        (steps + 1, *shape of start), float64, beginning with ``start``.

    Raises:
        ValueError: ``steps`` is negative.

    Example:
        >>> import nbdl
        >>> path = nbdl.viz.optimizer_path(
        ...     lambda p: (p * p).sum(), [1.0, 2.0], lambda params: nbdl.optim.SGD(params, lr=0.25), steps=2)
        >>> path.tolist()
        [[1.0, 2.0], [0.5, 1.0], [0.25, 0.5]]
    """
    if steps < 0:
        raise ValueError(f"optimizer_path: steps must not be negative, got {steps}")
    point = tensor(numbers(start), requires_grad=True)
    optimizer = make_optimizer([point])

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = function(point)
        value.backward(retain_graph=True)  # second-order methods differentiate the value once more
        return value

    visited = [numbers(point).copy()]
    for _ in range(steps):
        optimizer.step(closure)
        visited.append(numbers(point).copy())
        if not np.isfinite(visited[-1]).all():
            break
    return np.array(visited)


def paths(
    function: Callable[[Tensor], Tensor],
    tracks: Mapping[str, np.ndarray],
    xlim: Limits,
    ylim: Limits,
    ax: Any = None,
    **options: Any,
) -> Any:
    """Draw paths over the level sets of a function of two variables.

    Each path has a colour and, every few steps, a marker of its own; its last point is larger.

    Args:
        function: takes a point, a float64 tensor (2,), and returns a scalar; evaluated by ``vmap``.
        tracks: for each name the points of a path, (n, 2).
        xlim: range of the first coordinate.
        ylim: range of the second coordinate.
        ax: matplotlib's axes to draw on; None: new ones.
        **options: of :func:`contours`.

    Returns:
        The axes.

    Raises:
        ValueError: a path has not the shape (n, 2), or an option of :func:`contours` is wrong.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> def bowl(p):
        ...     return p[0] ** 2 + 10 * p[1] ** 2
        >>> optimizers = {
        ...     "SGD": lambda params: nbdl.optim.SGD(params, lr=0.08),
        ...     "Adam": lambda params: nbdl.optim.Adam(params, lr=0.2),
        ... }
        >>> tracks = {name: nbdl.viz.optimizer_path(bowl, [-2.0, 1.0], make, steps=30)
        ...           for name, make in optimizers.items()}
        >>> ax = nbdl.viz.paths(bowl, tracks, (-2.5, 1), (-1.2, 1.2))
    """
    checked = _checked("paths", tracks)
    ax = contours(function, xlim, ylim, axes_or_new(ax), **options)
    for k, (name, track) in enumerate(checked.items()):
        ax.plot(*track.T, label=name, **_style(k, len(track)))
        ax.plot(*track[-1], **_head(k))
    ax.legend()
    return ax


def animate_paths(
    function: Callable[[Tensor], Tensor],
    tracks: Mapping[str, np.ndarray],
    xlim: Limits,
    ylim: Limits,
    ax: Any = None,
    frames: int = 60,
    **options: Any,
) -> Any:
    """Animate paths over the level sets of a function of two variables.

    Args:
        function: takes a point, a float64 tensor (2,), and returns a scalar; evaluated by ``vmap``.
        tracks: for each name the points of a path, (n, 2); shorter ones stand at their end.
        xlim: range of the first coordinate.
        ylim: range of the second coordinate.
        ax: matplotlib's axes to draw on; None: new ones.
        frames: number of pictures, at most one a step.
        **options: of :func:`contours`.

    Returns:
        matplotlib's animation; ``animation.save("paths.gif", writer="pillow")`` writes it.

    Raises:
        ValueError: a path has not the shape (n, 2), ``frames`` is below 1, or an option is wrong.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> def bowl(p):
        ...     return p[0] ** 2 + 10 * p[1] ** 2
        >>> path = nbdl.viz.optimizer_path(
        ...     bowl, [-2.0, 1.0], lambda params: nbdl.optim.SGD(params, lr=0.08), steps=30)
        >>> animation = nbdl.viz.animate_paths(bowl, {"SGD": path}, (-2.5, 1), (-1.2, 1.2), frames=3)
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     animation.save(f"{folder}/sgd.gif", writer="pillow", dpi=20)
    """
    checked = _checked("animate_paths", tracks)
    if frames < 1:
        raise ValueError(f"animate_paths: frames must be at least 1, got {frames}")
    ax = contours(function, xlim, ylim, axes_or_new(ax), **options)
    from matplotlib.animation import FuncAnimation

    longest = max(len(track) for track in checked.values())
    times = np.unique(np.linspace(0, longest - 1, frames).round().astype(int))
    lines, heads = [], []
    for k, (name, track) in enumerate(checked.items()):
        lines += ax.plot([], [], label=name, **_style(k, len(track)))
        heads += ax.plot([], [], **_head(k))
    title = ax.set_title("step 0")
    ax.legend(loc="upper right")
    # Nothing moves but the paths: a new layout for each picture would take as long as to draw it.
    ax.figure.draw_without_rendering()
    ax.figure.set_layout_engine("none")

    def draw(time: int) -> list[Any]:
        for line, head, track in zip(lines, heads, checked.values(), strict=True):
            line.set_data(*track[: time + 1].T)
            head.set_data(*track[min(time, len(track) - 1)][:, None])
        title.set_text(f"step {time}")
        return [*lines, *heads, title]

    return FuncAnimation(ax.figure, draw, frames=times.tolist(), interval=80)


def _checked(label: str, tracks: Mapping[str, Any]) -> dict[str, np.ndarray]:
    if not tracks:
        raise ValueError(f"{label}: tracks must hold at least one path, got none")
    checked = {name: numbers(track) for name, track in tracks.items()}
    for name, track in checked.items():
        if track.ndim != 2 or track.shape[1] != 2 or len(track) == 0:
            raise ValueError(f"{label}: path {name!r} must have the shape (n, 2), got {track.shape}")
    return checked


def _style(k: int, length: int) -> dict[str, Any]:
    """Colour and marker of path k, with some eight markers along it."""
    return {
        "color": f"C{k}", "marker": _MARKERS[k % len(_MARKERS)], "markersize": 4,
        "markevery": max(1, length // 8), "linewidth": 1.6,
    }  # fmt: skip


def _head(k: int) -> dict[str, Any]:
    """The last point of path k."""
    return {"color": f"C{k}", "marker": _MARKERS[k % len(_MARKERS)], "markersize": 8, "mec": "white"}

"""Functions of two variables: level sets, surfaces, vector fields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.func import vmap
from nbdl.ops.functions import tensor
from nbdl.viz.figures import axes_or_new, numbers, pyplot

Limits = tuple[float, float]


def contours(
    function: Callable[[Tensor], Tensor],
    xlim: Limits,
    ylim: Limits,
    ax: Any = None,
    levels: int = 20,
    points: int = 101,
    log: bool = False,
) -> Any:
    """Draw the level sets of a function of two variables.

    Args:
        function: takes a point, a float64 tensor (2,), and returns a scalar; evaluated by ``vmap``.
        xlim: range of the first coordinate.
        ylim: range of the second coordinate.
        ax: matplotlib's axes to draw on; None: new ones.
        levels: number of levels.
        points: grid points along each axis.
        log: equally spaced levels of log(f - min f + a small number), which show a narrow valley.

    Returns:
        The axes.

    Raises:
        ValueError: a range is empty, or there are fewer than 2 points.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> ax = nbdl.viz.contours(lambda p: p[0] ** 2 + 10 * p[1] ** 2, (-2, 2), (-1, 1))
        >>> text = ax.set_title("A bowl")  # ax.figure.savefig("bowl.png") writes it
    """
    xs, ys, values = on_grid("contours", function, xlim, ylim, points)
    if log:
        spread = values.max() - values.min()
        values = np.log(values - values.min() + 1e-3 * (spread or 1.0))
    ax = axes_or_new(ax)
    # Colours of equal lightness steps, pale enough for paths drawn over them.
    ax.contourf(xs, ys, values, levels=levels, cmap="Greys", alpha=0.55)
    ax.contour(xs, ys, values, levels=levels, colors="0.45", linewidths=0.6, linestyles="solid")
    ax.set(xlim=xlim, ylim=ylim)
    return ax


def surface(
    function: Callable[[Tensor], Tensor],
    xlim: Limits,
    ylim: Limits,
    ax: Any = None,
    points: int = 61,
    cmap: str = "viridis",
) -> Any:
    """Draw a function of two variables as a surface in three dimensions.

    Args:
        function: takes a point, a float64 tensor (2,), and returns a scalar; evaluated by ``vmap``.
        xlim: range of the first coordinate.
        ylim: range of the second coordinate.
        ax: matplotlib's three-dimensional axes to draw on; None: new ones.
        points: grid points along each axis.
        cmap: colours of the heights.

    Returns:
        The axes.

    Raises:
        ValueError: a range is empty, or there are fewer than 2 points.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> ax = nbdl.viz.surface(lambda p: p[0] ** 2 - p[1] ** 2, (-1, 1), (-1, 1))
        >>> text = ax.set_title("A saddle")
    """
    xs, ys, values = on_grid("surface", function, xlim, ylim, points)
    return draw_surface(xs, ys, values, ax, cmap)


def vector_field(
    field: Callable[[Tensor], Tensor],
    xlim: Limits,
    ylim: Limits,
    ax: Any = None,
    points: int = 15,
    color: str = "C0",
) -> Any:
    """Draw the arrows of a vector field in the plane.

    Args:
        field: takes a point, a float64 tensor (2,), and returns a vector (2,); evaluated by ``vmap``. For the
            gradient of ``f`` pass ``nbdl.func.grad(f)``.
        xlim: range of the first coordinate.
        ylim: range of the second coordinate.
        ax: matplotlib's axes to draw on; None: new ones.
        points: arrows along each axis.
        color: of the arrows.

    Returns:
        The axes.

    Raises:
        ValueError: a range is empty, there are fewer than 2 points, or the field is not two-dimensional.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> def bowl(p):
        ...     return p[0] ** 2 + 10 * p[1] ** 2
        >>> ax = nbdl.viz.contours(bowl, (-2, 2), (-1, 1))
        >>> ax = nbdl.viz.vector_field(nbdl.func.grad(bowl), (-2, 2), (-1, 1), ax)
    """
    xs, ys, values = on_grid("vector_field", field, xlim, ylim, points)
    if values.shape != (*xs.shape, 2):
        raise ValueError(
            f"vector_field: field must return a vector of shape (2,), got one of shape {values.shape[2:]}"
        )
    ax = axes_or_new(ax)
    ax.quiver(xs, ys, values[..., 0], values[..., 1], color=color, angles="xy", pivot="mid", width=0.004)
    ax.set(xlim=xlim, ylim=ylim)
    return ax


@no_grad()
def on_grid(
    label: str, function: Callable[[Tensor], Tensor], xlim: Limits, ylim: Limits, points: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates x and y of a grid, each (points, points), and the values of ``function`` there."""
    for name, (low, high) in (("xlim", xlim), ("ylim", ylim)):
        if not low < high:
            raise ValueError(f"{label}: {name} must be (low, high) with low < high, got {(low, high)}")
    if points < 2:
        raise ValueError(f"{label}: points must be at least 2, got {points}")
    xs, ys = np.meshgrid(np.linspace(*xlim, points), np.linspace(*ylim, points))
    values = numbers(vmap(function)(tensor(np.stack([xs.ravel(), ys.ravel()], axis=1))))
    return xs, ys, values.reshape(*xs.shape, *values.shape[1:])


def draw_surface(xs: np.ndarray, ys: np.ndarray, values: np.ndarray, ax: Any, cmap: str) -> Any:
    """The surface of ``values`` over a grid."""
    if ax is None:
        ax = pyplot().figure(layout="constrained").add_subplot(projection="3d")
    ax.plot_surface(xs, ys, values, cmap=cmap, rcount=len(xs), ccount=len(xs), linewidth=0)
    ax.set_box_aspect(None, zoom=0.85)  # layouts leave no room for the labels of three axes
    for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
        axis.labelpad = 8
    return ax

"""Curves: training histories, activations with their derivatives, spectra."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.tensor import Tensor
from nbdl.func import grad, vmap
from nbdl.linalg import eigvalsh
from nbdl.ops.functions import tensor
from nbdl.viz.figures import axes_or_new, numbers


def training_curves(
    histories: Mapping[str, Sequence[float]],
    ax: Any = None,
    smoothing: float = 0.0,
    xlabel: str = "epoch",
    ylabel: str = "loss",
    log: bool = True,
) -> Any:
    """Draw how losses, or other figures, changed during training.

    Args:
        histories: for each name its figures, one an epoch or step.
        ax: matplotlib's axes to draw on; None: new ones.
        smoothing: weight of the past in a running mean, corrected for its start, in [0, 1); the figures
            themselves stay visible behind it.
        xlabel: what is counted, from 1.
        ylabel: what the figures are, with their unit.
        log: a logarithmic axis of figures.

    Returns:
        The axes.

    Raises:
        ValueError: ``smoothing`` is not in [0, 1).
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> ax = nbdl.viz.training_curves({"training": [2.1, 0.9, 0.4], "test": [2.2, 1.1, 0.8]})
        >>> ax.get_ylabel()
        'loss'
    """
    if not 0 <= smoothing < 1:
        raise ValueError(f"training_curves: smoothing must be in [0, 1), got {smoothing}")
    ax = axes_or_new(ax)
    for k, (name, history) in enumerate(histories.items()):
        figures = numbers(history)
        counts = np.arange(1, len(figures) + 1)
        if smoothing:
            ax.plot(counts, figures, color=f"C{k}", alpha=0.3, linewidth=1)
        ax.plot(counts, _smooth(figures, smoothing), color=f"C{k}", label=name)
    ax.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    ax.legend()
    return ax


def _smooth(figures: np.ndarray, smoothing: float) -> np.ndarray:
    """The running mean with weights smoothing^k, divided by the sum of the weights."""
    means, mean, weight = np.empty_like(figures), 0.0, 0.0
    for k, figure in enumerate(figures):
        mean = smoothing * mean + (1 - smoothing) * figure
        weight = smoothing * weight + (1 - smoothing)
        means[k] = mean / weight
    return means


def activation(
    function: Callable[[Tensor], Tensor],
    xlim: tuple[float, float] = (-4.0, 4.0),
    ax: Any = None,
    points: int = 401,
    label: str = "f(x)",
) -> Any:
    """Draw a function of one variable and its derivative.

    Args:
        function: takes a tensor and works element by element, such as an activation; float64 is given.
        xlim: range of the variable.
        ax: matplotlib's axes to draw on; None: new ones.
        points: number of points.
        label: name of the function.

    Returns:
        The axes.

    Raises:
        ValueError: the range is empty, or there are fewer than 2 points.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> ax = nbdl.viz.activation(nbdl.nn.functional.gelu, label="GELU")
        >>> [line.get_label() for line in ax.lines]
        ['GELU', 'derivative']
    """
    if not xlim[0] < xlim[1] or points < 2:
        raise ValueError(
            f"activation: expected low < high and at least 2 points, got xlim={xlim}, points={points}"
        )
    xs = np.linspace(*xlim, points)
    x = tensor(xs)
    ax = axes_or_new(ax)
    ax.plot(xs, numbers(function(x)), label=label)
    ax.plot(xs, numbers(vmap(grad(function))(x)), "--", label="derivative")
    ax.set(xlabel="x", xlim=xlim)
    ax.legend()
    return ax


def spectrum(values: Any, ax: Any = None, label: str = "eigenvalues") -> Any:
    """Draw the eigenvalues of a symmetric matrix, such as a Hessian, by size on a logarithmic axis.

    Positive ones are filled circles, negative ones, directions of descent at a stationary point, are open
    triangles; those that are 0 up to rounding are counted in the legend.

    Args:
        values: the eigenvalues (n,), or the matrix (n, n), of which only the lower triangle is read.
        ax: matplotlib's axes to draw on; None: new ones.
        label: what they are the eigenvalues of.

    Returns:
        The axes.

    Raises:
        ValueError: ``values`` is neither a vector nor a square matrix.
        ImportError: matplotlib is not installed.

    Example:
        >>> import nbdl
        >>> H = nbdl.func.hessian(lambda x: x[0] ** 2 - 3 * x[1] ** 2)(nbdl.ones(2))
        >>> ax = nbdl.viz.spectrum(H)
        >>> [line.get_label() for line in ax.lines]
        ['1 positive', '1 negative']
    """
    found = numbers(values)
    if found.ndim == 2 and found.shape[0] == found.shape[1]:
        found = numbers(eigvalsh(tensor(found)))
    if found.ndim != 1:
        raise ValueError(f"spectrum: values must be (n,) or (n, n), got the shape {found.shape}")
    ax = axes_or_new(ax)
    found = found[np.argsort(-np.abs(found))]
    ranks = np.arange(1, len(found) + 1)
    zero = np.abs(found) <= np.finfo(np.float64).eps * len(found) * np.abs(found).max(initial=0.0)
    for part, name, style in (
        (~zero & (found > 0), "positive", {"marker": "o", "color": "C0"}),
        (~zero & (found < 0), "negative", {"marker": "v", "color": "C1", "markerfacecolor": "none"}),
    ):
        if part.any():
            ax.plot(ranks[part], np.abs(found[part]), linestyle="", label=f"{part.sum()} {name}", **style)
    if zero.any():
        ax.plot([], [], linestyle="", label=f"{zero.sum()} zero up to rounding")
    ax.set(xlabel="rank by magnitude", ylabel=f"magnitude of {label}", yscale="log")
    ax.legend()
    return ax

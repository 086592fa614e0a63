"""The loss of a network along a line or over a plane through its parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.functions import randn_like, where
from nbdl.viz.figures import axes_or_new
from nbdl.viz.planes import draw_surface

Direction = Sequence[Tensor]


@dataclass
class LossSlice:
    """A loss over a line or a plane of parameters.

    Attributes:
        steps: (n,), the coefficients along each direction.
        losses: (n,) for a line; (n, n) for a plane, the second direction along the rows.
    """

    steps: np.ndarray
    losses: np.ndarray

    def plot(self, ax: Any = None, levels: int = 20) -> Any:
        """Draw the curve of a line, the level sets of a plane.

        Args:
            ax: matplotlib's axes to draw on; None: new ones.
            levels: number of levels.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        ax = axes_or_new(ax)
        if self.losses.ndim == 1:
            ax.plot(self.steps, self.losses)
            ax.set(xlabel="step along the direction", ylabel="loss")
            return ax
        drawn = ax.contourf(self.steps, self.steps, self.losses, levels=levels, cmap="viridis")
        ax.figure.colorbar(drawn, ax=ax, label="loss")
        ax.plot(0, 0, marker="+", color="white", markersize=10)
        ax.set(xlabel="step along direction 1", ylabel="step along direction 2", aspect="equal")
        return ax

    def plot_surface(self, ax: Any = None) -> Any:
        """Draw a plane's losses as a surface in three dimensions.

        Args:
            ax: matplotlib's three-dimensional axes to draw on; None: new ones.

        Returns:
            The axes.

        Raises:
            ValueError: the slice is a line.
            ImportError: matplotlib is not installed.
        """
        if self.losses.ndim == 1:
            raise ValueError("plot_surface: the slice is a line; use plot, or a slice with 2 directions")
        xs, ys = np.meshgrid(self.steps, self.steps)
        ax = draw_surface(xs, ys, self.losses, ax, "viridis")
        ax.set(xlabel="direction 1", ylabel="direction 2", zlabel="loss")
        return ax


@no_grad()
def loss_slice(
    loss: Callable[[], Tensor],
    params: Iterable[Tensor],
    directions: int | Sequence[Direction] = 2,
    radius: float = 1.0,
    points: int = 25,
) -> LossSlice:
    """Evaluate a loss along one direction, or over the plane of two, around the present parameters.

    Random directions are normalised by filter: what belongs to one output of a layer gets the length that
    the parameters of this output have, and a vector of parameters is taken as a whole, so that the picture
    does not depend on the scale of the layers. Parameters are afterwards as before.

    Args:
        loss: computes the loss; it should be given the same data every time.
        params: the parameters to change.
        directions: 1 or 2 for random directions; or one or two directions, each one tensor a parameter.
        radius: the largest step along a direction.
        points: steps along each direction, from ``-radius`` to ``radius``.

    Returns:
        The losses, which can be drawn.

    Raises:
        ValueError: not one or two directions, a direction does not fit the parameters, ``radius`` is not
            positive or there are fewer than 2 points.

    Source: Li, Xu, Taylor, Studer, Goldstein (2018), Visualizing the loss landscape of neural nets,
        section 4.

    Example:
        >>> import nbdl
        >>> w = nbdl.tensor([3.0, 4.0], requires_grad=True)
        >>> e1, e2 = nbdl.tensor([1.0, 0.0]), nbdl.tensor([0.0, 1.0])
        >>> found = nbdl.viz.loss_slice(lambda: (w * w).sum(), [w], [[e1], [e2]], points=3)
        >>> found.losses.tolist()
        [[13.0, 18.0, 25.0], [20.0, 25.0, 32.0], [29.0, 34.0, 41.0]]
    """
    params = list(params)
    if not radius > 0 or points < 2:
        raise ValueError(
            f"loss_slice: radius must be positive and points at least 2, got radius={radius}, points={points}"
        )
    chosen = _directions(params, directions)
    values = [param.detach().clone() for param in params]
    steps = np.linspace(-radius, radius, points)
    losses = np.empty((points,) * len(chosen))
    try:
        for place in np.ndindex(losses.shape):
            # The last axis of the array is the first direction, as for an image.
            lengths = [float(steps[k]) for k in reversed(place)]
            for k, (param, value) in enumerate(zip(params, values, strict=True)):
                moved = value
                for length, direction in zip(lengths, chosen, strict=True):
                    moved = moved + length * direction[k]
                param.copy_(moved)
            losses[place] = loss().item()
    finally:
        for param, value in zip(params, values, strict=True):
            param.copy_(value)
    return LossSlice(steps, losses)


def _directions(params: Sequence[Tensor], wanted: int | Sequence[Direction]) -> list[Direction]:
    if isinstance(wanted, int):
        chosen: list[Direction] = [[_by_filter(param) for param in params] for _ in range(wanted)]
    else:
        chosen = list(wanted)
    if len(chosen) not in (1, 2):
        raise ValueError(f"loss_slice: expected 1 or 2 directions, got {len(chosen)}")
    shapes = [tuple(param.shape) for param in params]
    for direction in chosen:
        given = [tuple(part.shape) for part in direction]
        if given != shapes:
            raise ValueError(f"loss_slice: a direction must have the shapes {shapes}, got {given}")
    return chosen


def _by_filter(param: Tensor) -> Tensor:
    """A random direction whose rows, or which itself if it is a vector, is as long as in ``param``."""
    value = param.detach()
    random = randn_like(value)
    dims = tuple(range(1 if value.dim() > 1 else 0, value.dim()))
    if not dims:
        return random * value.abs()
    length = (random * random).sum(dims, keepdim=True).sqrt()
    wanted = (value * value).sum(dims, keepdim=True).sqrt()
    return random * where(length > 0, wanted / length, length)

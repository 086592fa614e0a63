"""Margin losses on NumPy arrays: one number for all rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class MarginLosses:
    """Multi-class and multi-label margin losses, reduced, and their gradients."""

    xp: Any

    def multi_margin_loss(
        self, x: Any, target: Any, *, p: int, margin: float, mean: bool, out: Any = None
    ) -> tuple[Any, Any]:
        """The sum or the mean over rows of the mean over classes j != y of max(0, margin - x_y + x_j)^p.

        Args:
            x: scores (N, C).
            target: (N,), integer classes y.
            p: 1 or 2.
            margin: how far the target's score shall be above the others.
            mean: the mean over the rows, not the sum.
            out: receives the results.

        Returns:
            The reduced loss, and the losses (N,).

        Raises:
            IndexError: a class does not exist.
        """
        short, _ = self._margins(x, target, margin)
        return self._total((short**p).mean(1), mean, x.dtype, out)

    def multi_margin_loss_input(
        self, g: Any, x: Any, target: Any, *, p: int, margin: float, mean: bool, out: Any = None
    ) -> Any:
        """The gradient of :meth:`multi_margin_loss` by the scores.

        Args:
            g: gradient of the reduced loss, ().
            x: scores (N, C).
            target: (N,), integer classes.
            p: of :meth:`multi_margin_loss`.
            margin: of :meth:`multi_margin_loss`.
            mean: of :meth:`multi_margin_loss`.
            out: (N, C), receives the result.
        """
        short, hit = self._margins(x, target, margin)
        slopes = (short > 0) * (widened(g) / (x.size if mean else x.shape[1]))
        with np.errstate(all="ignore"):
            if p == 2:
                slopes = slopes * (2 * short)
            result = self.xp.where(hit, -slopes.sum(1, keepdims=True), slopes)
        return delivered(narrowed(result.astype(widened(x).dtype), x.dtype), out)

    def multilabel_margin_loss(self, x: Any, target: Any, *, mean: bool, out: Any = None) -> tuple[Any, Any]:
        """The sum or mean over rows of the sum of max(0, 1 - x_y + x_j) / C over targets y and others j.

        Args:
            x: scores (N, C).
            target: (N, C), the integer classes y, then -1.
            mean: the mean over the rows, not the sum.
            out: receives the results.

        Returns:
            The reduced loss, and the losses (N,).

        Raises:
            IndexError: a class does not exist.
        """
        short, _, _ = self._shortfalls(x, target)
        return self._total(short.sum((1, 2)) / x.shape[1], mean, x.dtype, out)

    def multilabel_margin_loss_input(
        self, g: Any, x: Any, target: Any, *, mean: bool, out: Any = None
    ) -> Any:
        """The gradient of :meth:`multilabel_margin_loss` by the scores.

        Args:
            g: gradient of the reduced loss, ().
            x: scores (N, C).
            target: (N, C), the integer classes, then -1.
            mean: of :meth:`multilabel_margin_loss`.
            out: (N, C), receives the result.
        """
        short, safe, _ = self._shortfalls(x, target)
        slopes = (short > 0) * (widened(g) / (x.size if mean else x.shape[1]))
        hits = safe[:, :, None] == self.xp.arange(x.shape[1])
        result = slopes.sum(1) - (hits * slopes.sum(2)[:, :, None]).sum(1)
        return delivered(narrowed(result.astype(widened(x).dtype), x.dtype), out)

    def _margins(self, x: Any, target: Any, margin: float) -> tuple[Any, Any]:
        """max(0, margin - x_y + x_j), 0 where j is y; and where that is."""
        wide, column = widened(x), target[:, None]
        self._check_classes("multi_margin_loss", target, x.shape[1])
        hit = column == self.xp.arange(x.shape[1])
        with np.errstate(all="ignore"):
            short = self.xp.maximum(wide - self.xp.take_along_axis(wide, column, 1) + margin, 0)
        return self.xp.where(hit, 0, short), hit

    def _shortfalls(self, x: Any, target: Any) -> tuple[Any, Any, Any]:
        """max(0, 1 - x_y + x_j) for all targets (axis 1) and other classes (axis 2); targets; which count."""
        counts = self.xp.cumsum(target < 0, 1) == 0
        safe = target * counts
        self._check_classes("multilabel_margin_loss", safe, x.shape[1])
        hits = (safe[:, :, None] == self.xp.arange(x.shape[1])) & counts[:, :, None]
        wide = widened(x)
        with np.errstate(all="ignore"):
            leads = wide[:, None, :] - self.xp.take_along_axis(wide, safe, 1)[:, :, None] + 1
        counted = counts[:, :, None] & ~hits.any(1)[:, None, :]
        return self.xp.where(counted, self.xp.maximum(leads, 0), 0), safe, counts

    def _check_classes(self, label: str, target: Any, count: int) -> None:
        wrong = (target < 0) | (target >= count)
        if wrong.any():
            raise IndexError(
                f"{label}: Target {target[wrong][0]} is out of bounds: there are {count} classes"
            )

    def _total(self, losses: Any, mean: bool, dtype: Any, out: Any) -> tuple[Any, Any]:
        """Sum or mean of the losses, and the losses, in the dtype of the scores."""
        total = self.xp.asarray(losses.mean() if mean else losses.sum())
        return delivered((narrowed(total, dtype), narrowed(losses, dtype)), out)

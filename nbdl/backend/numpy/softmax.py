"""Softmax, its logarithm, and the cross-entropy with class indices, on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class Softmax:
    """Normalised exponentials along an axis; the maximum is subtracted first, so nothing finite overflows."""

    xp: Any

    def softmax(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """exp(x) / sum(exp(x)); a slice of -inf only gives NaN, as 0 / 0 does."""
        with np.errstate(all="ignore"):
            exponentials, total, _ = self._exponentials(x, axis)
            return delivered(narrowed(exponentials / total, x.dtype), out)

    def log_softmax(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """x - log(sum(exp(x)))."""
        with np.errstate(all="ignore"):
            _, total, shifted = self._exponentials(x, axis)
            return delivered(narrowed(shifted - self.xp.log(total), x.dtype), out)

    def softmax_input(self, y: Any, g: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient by x of ``y = softmax(x)``: y * (g - sum(g * y))."""
        with np.errstate(all="ignore"):
            wide_y, wide_g = widened(y), widened(g)
            result = wide_y * (wide_g - (wide_g * wide_y).sum(axis, keepdims=True))
        return delivered(narrowed(result, y.dtype), out)

    def log_softmax_input(self, y: Any, g: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient by x of ``y = log_softmax(x)``: g - exp(y) * sum(g)."""
        with np.errstate(all="ignore"):
            wide_g = widened(g)
            result = wide_g - self.xp.exp(widened(y)) * wide_g.sum(axis, keepdims=True)
        return delivered(narrowed(result, y.dtype), out)

    def cross_entropy(
        self, logits: Any, target: Any, *, ignore_index: int, out: Any = None
    ) -> tuple[Any, Any]:
        """-log(softmax(logits)) at the target classes.

        Args:
            logits: (N, C, ...).
            target: (N, ...), integer classes.
            ignore_index: rows of this class have no loss.
            out: receives the results.

        Returns:
            Losses (N, ...) and probabilities (N, C, ...), in the dtype of the logits.

        Raises:
            IndexError: a class does not exist.
        """
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError("one class is needed for every row")
        classes, counted = self._classes(target, logits.shape[1], ignore_index)
        with np.errstate(all="ignore"):
            exponentials, total, shifted = self._exponentials(logits, 1)
            losses = self.xp.log(total) - self.xp.take_along_axis(shifted, classes, 1)
            losses = narrowed(self.xp.where(counted, losses, 0)[:, 0], logits.dtype)
            probabilities = narrowed(exponentials / total, logits.dtype)
        return delivered((losses, probabilities), out)

    def cross_entropy_input(self, p: Any, target: Any, g: Any, *, ignore_index: int, out: Any = None) -> Any:
        """The gradient of :meth:`cross_entropy` by the logits: g * (p - 1) at the target, g * p elsewhere.

        Args:
            p: probabilities (N, C, ...).
            target: (N, ...), integer classes.
            g: gradient of the losses (N, ...).
            ignore_index: rows of this class get zeros.
            out: (N, C, ...), receives the result.
        """
        classes, counted = self._classes(target, p.shape[1], ignore_index)
        scale = self.xp.where(counted, widened(g)[:, None], 0)
        hit = self.xp.arange(p.shape[1]).reshape((-1, *[1] * (p.ndim - 2))) == classes
        with np.errstate(all="ignore"):
            result = self.xp.where(counted, scale * (widened(p) - hit), 0)
        return delivered(narrowed(result, p.dtype), out)

    def _exponentials(self, x: Any, axis: int) -> tuple[Any, Any, Any]:
        """exp(x - max), its sum, and x - max."""
        wide = widened(x)
        shifted = wide - wide.max(axis, keepdims=True) if x.size else wide
        exponentials = self.xp.exp(shifted)
        return exponentials, exponentials.sum(axis, keepdims=True), shifted

    def _classes(
        self, target: Any, count: int, ignore_index: int, label: str = "cross_entropy"
    ) -> tuple[Any, Any]:
        """The classes (N, 1, ...), 0 where ignored, and where they count."""
        classes = target[:, None]
        counted = classes != ignore_index
        classes = self.xp.where(counted, classes, 0)
        wrong = (classes < 0) | (classes >= count)
        if wrong.any():
            raise IndexError(
                f"{label}: Target {classes[wrong][0]} is out of bounds: there are {count} classes"
            )
        return classes, counted

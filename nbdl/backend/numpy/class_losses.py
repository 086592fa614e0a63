"""Losses over classes on NumPy arrays: one number for all rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class ClassLosses:
    """Cross-entropy and negative log-likelihood with class indices, reduced, and their gradients."""

    xp: Any
    cross_entropy: Any
    cross_entropy_input: Any
    _classes: Any

    def cross_entropy_loss(
        self, logits: Any, target: Any, *, ignore_index: int, mean: bool, out: Any = None
    ) -> tuple[Any, ...]:
        """The sum or the mean of the losses of all rows.

        Args:
            logits: (N, C, ...).
            target: (N, ...), integer classes.
            ignore_index: rows of this class do not count.
            mean: divide by the number of rows that count.
            out: receives the results.

        Returns:
            Losses (N, ...), probabilities (N, C, ...), their sum or mean, and the share of a row in it: one
            over the number of rows that count, or one.

        Raises:
            IndexError: a class does not exist.
        """
        losses, probabilities = self.cross_entropy(logits, target, ignore_index=ignore_index)
        reduced = self._total_and_share(losses, target, ignore_index, mean)
        return delivered((losses, probabilities, *reduced), out)

    def cross_entropy_loss_input(
        self, p: Any, target: Any, g: Any, share: Any, *, ignore_index: int, out: Any = None
    ) -> Any:
        """The gradient of :meth:`cross_entropy_loss` by the logits.

        Args:
            p: probabilities (N, C, ...).
            target: (N, ...), integer classes.
            g: gradient of the reduced loss, ().
            share: of a row, ().
            ignore_index: rows of this class get zeros.
            out: (N, C, ...), receives the result.
        """
        with np.errstate(all="ignore"):
            rows = self.xp.broadcast_to(g * share, target.shape)
        return self.cross_entropy_input(p, target, rows, ignore_index=ignore_index, out=out)

    def nll_loss(
        self, scores: Any, target: Any, *, ignore_index: int, mean: bool, out: Any = None
    ) -> tuple[Any, ...]:
        """Minus the sum or the mean of the scores of the target classes, and the share of a row in it.

        Args:
            scores: (N, C, ...).
            target: (N, ...), integer classes.
            ignore_index: rows of this class do not count.
            mean: divide by the number of rows that count.
            out: receives the results.

        Raises:
            IndexError: a class does not exist.
        """
        classes, counted = self._classes(target, scores.shape[1], ignore_index, "nll_loss")
        losses = self.xp.where(counted, -self.xp.take_along_axis(widened(scores), classes, 1), 0)
        reduced = self._total_and_share(losses, target, ignore_index, mean)
        return delivered(tuple([narrowed(x, scores.dtype) for x in reduced]), out)

    def nll_loss_input(
        self,
        g: Any,
        target: Any,
        share: Any,
        *,
        ignore_index: int,
        shape: tuple[int, ...],
        out: Any = None,
    ) -> Any:
        """The gradient of :meth:`nll_loss` by the scores: -g * share at the target classes, 0 elsewhere.

        Args:
            g: gradient of the loss, ().
            target: (N, ...), integer classes.
            share: of a row, ().
            ignore_index: rows of this class get zeros.
            shape: (N, C, ...).
            out: receives the result.
        """
        classes, counted = self._classes(target, shape[1], ignore_index, "nll_loss")
        result = self.xp.zeros(shape, g.dtype)
        with np.errstate(all="ignore"):
            self.xp.put_along_axis(result, classes, self.xp.where(counted, -(g * share), 0), 1)
        return delivered(result, out)

    def _total_and_share(self, losses: Any, target: Any, ignored: int, mean: bool) -> tuple[Any, Any]:
        """The reduction and the share of a row, in the dtype of the losses."""
        wide = widened(losses)
        count = wide.dtype.type((target != ignored).sum()) if mean else wide.dtype.type(1)
        with np.errstate(all="ignore"):
            results = wide.sum() / count, 1 / count
        return tuple([narrowed(self.xp.asarray(x), losses.dtype) for x in results])

"""Connectionist temporal classification on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class Alignments:
    """The loss of Graves et al. (2006), section 4.1, over all alignments of labels with steps."""

    xp: Any

    def ctc_loss(
        self,
        log_probs: Any,
        labels: Any,
        input_lengths: Any,
        target_lengths: Any,
        *,
        blank: int,
        mean: bool,
        zero_infinity: bool,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """Minus the logarithm of the probability of the labels, summed over their alignments.

        Args:
            log_probs: (T, N, C).
            labels: (N, S), integer classes.
            input_lengths: (N,), steps of each sample.
            target_lengths: (N,), labels of each sample.
            blank: the class between labels.
            mean: the total is a mean of the losses divided by the numbers of labels, not their sum.
            zero_infinity: a loss of 0 where there is no alignment.
            out: receives the results.

        Returns:
            The losses (N,) and their total.

        Raises:
            IndexError: a length or a class does not exist.
        """
        x = widened(log_probs)
        with np.errstate(all="ignore"):
            *_, losses = self._ctc_forward(x, labels, input_lengths, target_lengths, blank)
            if zero_infinity:
                losses = self.xp.where(losses == np.inf, 0, losses).astype(x.dtype)
            total = self.xp.asarray((losses * self._ctc_shares(target_lengths, mean)).sum())
        return delivered((narrowed(losses, log_probs.dtype), narrowed(total, log_probs.dtype)), out)

    def ctc_loss_input(
        self,
        log_probs: Any,
        labels: Any,
        input_lengths: Any,
        target_lengths: Any,
        g: Any,
        *,
        blank: int,
        mean: bool,
        zero_infinity: bool,
        out: Any = None,
    ) -> Any:
        """The gradient of :meth:`ctc_loss` by log-probabilities that a log-softmax gave.

        It includes the derivative of the log-softmax: the probabilities minus those given the labels. NaN
        where there is no alignment.

        Args:
            log_probs: (T, N, C).
            labels: of :meth:`ctc_loss`.
            input_lengths: of :meth:`ctc_loss`.
            target_lengths: of :meth:`ctc_loss`.
            g: gradient of the total, (), or of the losses, (N,).
            blank: of :meth:`ctc_loss`.
            mean: of :meth:`ctc_loss`.
            zero_infinity: of :meth:`ctc_loss`.
            out: (T, N, C), receives the result.
        """
        xp, x = self.xp, widened(log_probs)
        with np.errstate(all="ignore"):
            alphas, emitted, classes, skips, losses = self._ctc_forward(
                x, labels, input_lengths, target_lengths, blank
            )
            scale = widened(g) if g.ndim else widened(g) * self._ctc_shares(target_lengths, mean)
            scale = xp.where(losses == np.inf, 0 if zero_infinity else np.nan, scale)
            betas = self._ctc_backward(emitted, skips, input_lengths, target_lengths)
            exists = (alphas != -np.inf) & (betas != -np.inf)
            posteriors = xp.where(exists, xp.exp(alphas + betas - emitted + losses[:, None]), 0)
            hits = classes[:, :, None] == xp.arange(x.shape[2])
            counted = xp.matmul(posteriors.swapaxes(0, 1), hits.astype(x.dtype)).swapaxes(0, 1)
            runs = (xp.arange(x.shape[0])[:, None] < input_lengths)[:, :, None]
            result = xp.where(runs, (xp.exp(x) - counted) * scale[:, None], 0)
        return delivered(narrowed(result.astype(x.dtype), log_probs.dtype), out)

    def _ctc_shares(self, target_lengths: Any, mean: bool) -> Any:
        """What each loss counts in the total."""
        if not mean:
            return self.xp.ones(target_lengths.shape)
        return 1 / (self.xp.maximum(target_lengths, 1) * target_lengths.size)

    def _ctc_forward(
        self, x: Any, labels: Any, input_lengths: Any, target_lengths: Any, blank: int
    ) -> tuple[Any, ...]:
        """Forward variables and emissions (T, N, 2S + 1), classes and skips of the states, losses (N,)."""
        xp, (steps, batch, count) = self.xp, x.shape
        inside = xp.arange(labels.shape[1]) < target_lengths[:, None]
        fits = (labels >= 0) & (labels < count) | ~inside
        lengths_fit = (input_lengths >= 0) & (input_lengths <= steps)
        lengths_fit &= (target_lengths >= 0) & (target_lengths <= labels.shape[1])
        if not (fits.all() and lengths_fit.all()):
            raise IndexError("a length or a class is out of range")
        classes = xp.full((batch, 2 * labels.shape[1] + 1), blank, labels.dtype)
        classes[:, 1::2] = xp.where(inside, labels, blank)
        skips = xp.zeros(classes.shape, bool)
        skips[:, 2:] = classes[:, 2:] != classes[:, :-2]
        places = xp.broadcast_to(classes, (steps, *classes.shape))
        emitted = xp.take_along_axis(x, places, 2)
        alphas = xp.full(emitted.shape, -np.inf, x.dtype)
        alphas[:1, :, :2] = emitted[:1, :, :2]
        for t in range(1, steps):
            alphas[t] = self._ctc_step(alphas[t - 1], skips) + emitted[t]
        if not steps:
            return alphas, emitted, classes, skips, xp.where(target_lengths > 0, np.inf, 0).astype(x.dtype)
        rows = xp.arange(batch)
        last = alphas[xp.maximum(input_lengths - 1, 0), rows]
        before = last[rows, xp.maximum(2 * target_lengths - 1, 0)]
        before = xp.where(target_lengths > 0, before, -np.inf)
        losses = -xp.logaddexp(last[rows, 2 * target_lengths], before)
        losses = xp.where(input_lengths > 0, losses, xp.where(target_lengths > 0, np.inf, 0))
        return alphas, emitted, classes, skips, losses.astype(x.dtype)

    def _ctc_backward(self, emitted: Any, skips: Any, input_lengths: Any, target_lengths: Any) -> Any:
        """Backward variables (T, N, 2S + 1), with the emission of their own step."""
        xp = self.xp
        state, last = xp.arange(skips.shape[1]), 2 * target_lengths[:, None]
        is_end = (state == last) | (state == last - 1)
        ahead = xp.zeros(skips.shape, bool)  # mirrored: whether a path may go on to the state after the next
        ahead[:, 2:] = skips[:, :1:-1]
        betas = xp.full(emitted.shape, -np.inf, emitted.dtype)
        following = xp.full(skips.shape, -np.inf, emitted.dtype)
        for t in range(len(emitted) - 1, -1, -1):
            steps_on = self._ctc_step(following[:, ::-1], ahead)[:, ::-1]
            ends = (input_lengths == t + 1)[:, None]
            following = xp.where(ends, xp.where(is_end, 0, -np.inf), steps_on) + emitted[t]
            betas[t] = following
        return betas

    def _ctc_step(self, variables: Any, skips: Any) -> Any:
        """log of the sum of the probabilities of staying, of one step, and of two where that is allowed."""
        xp = self.xp
        none = xp.full((len(variables), 2), -np.inf, variables.dtype)
        padded = xp.concatenate((none, variables), axis=1)
        skipped = xp.where(skips, padded[:, :-2], -np.inf)
        return xp.logaddexp(xp.logaddexp(variables, padded[:, 1:-1]), skipped).astype(variables.dtype)

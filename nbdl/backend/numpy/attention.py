"""Scaled dot-product attention on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes


class Attention:
    """Attention and its gradients, with the matrix of all weights in memory."""

    xp: Any
    random_bernoulli: Any

    def attention(
        self,
        query: Any,
        key: Any,
        value: Any,
        *rest: Any,
        scale: float,
        is_causal: bool,
        has_mask: bool,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """softmax(query @ key^T * scale + mask) @ value, rows that see nothing being 0.

        Args:
            query: (..., L, E); the axes before are broadcast with those of key and value.
            key: (..., S, E).
            value: (..., S, V).
            rest: a mask if ``has_mask``, broadcast to (..., L, S): bools, true where a query sees a key, or
                numbers that are added; then, for dropout of the weights, seed and number of the draw (0-d
                int64) and the probability p (0-d float64): a weight is kept where :meth:`random_bernoulli`
                gives 1 with probability 1 - p, and divided by 1 - p.
            scale: of the products.
            is_causal: query i sees keys up to i only.
            has_mask: whether there is a mask.
            out: receives the results.

        Returns:
            The result (..., L, V), and the logarithms (..., L) of the sums of the exponentials, in at least
            float32: weights are made of them again, whose sums would else be off by the rounding of these.
        """
        mask, random = (rest[0], rest[1:]) if has_mask else (None, rest)
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        shape = (*batch, query.shape[-2], key.shape[-2])
        if mask is not None and np.broadcast_shapes(mask.shape, shape) != shape:
            raise ValueError("the mask does not broadcast to the scores")
        with np.errstate(all="ignore"):
            scores = self._scores(query, key, mask, scale, is_causal)
            largest = scores.max(-1, keepdims=True) if scores.shape[-1] else scores.sum(-1, keepdims=True)
            shift = self.xp.where(largest == -np.inf, scores.dtype.type(0), largest)
            weights = self.xp.exp(scores - shift)
            total = weights.sum(-1, keepdims=True)
            weights = weights / self.xp.where(total == 0, scores.dtype.type(1), total)
            weights = self._dropped(weights, random, batch)
            result = narrowed(weights @ widened(value), query.dtype)
            log_sum = (shift + self.xp.log(total))[..., 0]
            log_sum = self.xp.broadcast_to(log_sum, result.shape[:-1])
        return delivered((result, log_sum), out)

    def attention_input(
        self,
        g: Any,
        query: Any,
        key: Any,
        value: Any,
        y: Any,
        log_sum: Any,
        *rest: Any,
        scale: float,
        is_causal: bool,
        has_mask: bool,
        out: Any = None,
    ) -> tuple[Any, Any, Any]:
        """The gradients of :meth:`attention` by query, key and value.

        Args:
            g: gradient of the result.
            query: of :meth:`attention`, likewise the following.
            key: likewise.
            value: likewise.
            y: result of :meth:`attention`.
            log_sum: the other result.
            rest: likewise.
            scale: likewise.
            is_causal: likewise.
            has_mask: likewise.
            out: receives the results.

        Returns:
            Three arrays with the batch axes of the result: where those of an operand were broadcast, its
            gradient has yet to be summed over them.
        """
        mask, random = (rest[0], rest[1:]) if has_mask else (None, rest)
        wide, q, k, v = widened(g), widened(query), widened(key), widened(value)
        batch = g.shape[:-2]
        with np.errstate(all="ignore"):
            scores = self._scores(query, key, mask, scale, is_causal)
            logs = widened(log_sum)[..., None]
            logs = self.xp.where(logs == -np.inf, logs.dtype.type(np.inf), logs)  # such rows have weights 0
            weights = self.xp.exp(scores - logs)
            centre = (wide * widened(y)).sum(-1, keepdims=True)
            slopes = self._dropped(wide @ v.swapaxes(-1, -2), random, batch)
            slopes = weights * (slopes - centre) * q.dtype.type(scale)
            weights = self._dropped(weights, random, batch)
            results = tuple(
                narrowed(x, query.dtype)
                for x in (slopes @ k, slopes.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ wide)
            )
        return delivered(results, out)

    def _scores(self, query: Any, key: Any, mask: Any, scale: float, is_causal: bool) -> Any:
        """query @ key^T * scale + mask, -infinity where a query does not see a key."""
        q, k = widened(query), widened(key)
        scores = (q * q.dtype.type(scale)) @ k.swapaxes(-1, -2)
        lowest = scores.dtype.type(-np.inf)
        if mask is not None and mask.dtype == np.bool_:
            scores = self.xp.where(mask, scores, lowest)
        elif mask is not None:
            scores = scores + widened(mask)
        if is_causal:
            length, source = scores.shape[-2:]
            seen = self.xp.arange(length)[:, None] >= self.xp.arange(source)
            scores = self.xp.where(seen, scores, lowest)
        return scores

    def _dropped(self, weights: Any, random: tuple[Any, ...], batch: tuple[int, ...]) -> Any:
        """Weights, some dropped at random, the others divided by 1 - p; every batch entry draws its own."""
        if not random:
            return weights
        seed, draw, p = random
        shape = (*batch, *weights.shape[-2:])
        kept = self.random_bernoulli(seed, draw, 1 - p, shape=shape, dtype=dtypes.BOOL)
        return self.xp.where(kept, weights * (1 / (1 - p)).astype(weights.dtype), weights.dtype.type(0))

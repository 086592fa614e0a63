"""Random numbers by rejection on NumPy arrays: gamma, Poisson, binomial and von Mises.

Attempt t of element i reads block i + 2^40 t of the draw (:mod:`nbdl.backend.numpy.random`), which suffices
for one attempt. So an element depends on its own parameters and its position alone: neither on how often the
others were rejected, nor on the backend. Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numpy.random import CHUNK
from nbdl.backend.numpy.results import delivered

_STRIDE = 1 << 40  # from the blocks of one attempt to those of the next
# Below this mean, Poisson and binomial numbers are found by summing probabilities. No such sum needs more
# terms: what is left is below 2^-53.
_SMALL_MEAN = 10.0
_TERMS = 80
_AT_ONCE = 1 << 11  # numbers that are proposed together where that takes no longer than one

# From the words of one block each and the parameters to proposals, and which of them are accepted.
Proposal = Callable[..., "tuple[Any, Any]"]


class Rejection:
    """Random primitives whose parameters are floating arrays that broadcast to ``shape``.

    A parameter outside of its domain, or not finite, gives NaN.
    """

    xp: Any
    _blocks: Callable[..., Any]
    _library: Callable[[], Any]

    def random_log_gamma(
        self,
        seed: Any,
        offset: Any,
        concentration: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Logarithms of gamma numbers of rate 1, by the method of Marsaglia and Tsang (2000).

        Below concentration 1, a number of concentration a + 1 is multiplied by u^(1/a); in logarithms that
        does not underflow. Attempts begin with t = 1; the block of t = 0 makes u.
        """
        xp = self.xp

        def propose(words: Any, a: Any) -> tuple[Any, Any]:
            d = xp.where(a < 1, a + 1, a) - 1 / 3
            normal = xp.sqrt(-2 * xp.log(_wide(words[0], words[1]))) * xp.cos(2 * math.pi * _narrow(words[2]))
            root = 1 + normal / (3 * xp.sqrt(d))
            log_cube = 3 * xp.log(root)
            bound = 0.5 * normal**2 + d - d * root**3 + d * log_cube
            return xp.log(d) + log_cube, xp.log(_narrow(words[3])) < bound

        def finish(values: Any, block: Any, a: Any) -> Any:
            words = self._blocks(seed, offset, block)
            return values + xp.where(a < 1, xp.log(_wide(words[0], words[1])) / a, 0)

        return self._drawn(
            seed, offset, (concentration,), lambda a: a > 0, propose, shape, dtype, out, finish, first=1
        )

    def random_poisson(
        self, seed: Any, offset: Any, rate: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Poisson numbers: by inversion for small rates, else by the method PTRS of Hörmann (1993)."""
        xp = self.xp

        def propose(words: Any, mean: Any) -> tuple[Any, Any]:
            u, v = _wide(words[0], words[1]), _wide(words[2], words[3])
            large = xp.maximum(mean, _SMALL_MEAN)
            b = 0.931 + 2.53 * xp.sqrt(large)
            a = -0.059 + 0.02483 * b
            distance = 0.5 - abs(u - 0.5)
            k = xp.floor((2 * a / distance + b) * (u - 0.5) + large + 0.43)
            scale = (1.1239 + 1.1328 / (b - 3.4)) / (a / distance**2 + b)
            bound = k * xp.log(large) - large - self._library().gammaln(k + 1)
            quick = (distance >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2))
            slow = (k >= 0) & ((distance >= 0.013) | (v <= distance)) & (xp.log(v * scale) <= bound)
            small = mean < _SMALL_MEAN
            counted = self._inverted(xp.where(small, u, 0), xp.exp(-mean), lambda k: mean / (k + 1))
            return xp.where(small, counted, k), small | quick | slow

        return self._drawn(seed, offset, (rate,), lambda rate: rate >= 0, propose, shape, dtype, out)

    def random_binomial(
        self,
        seed: Any,
        offset: Any,
        count: Any,
        p: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Numbers of successes in ``count`` trials: by inversion, or BTRS of Hörmann (1993)."""
        xp = self.xp

        def propose(words: Any, n: Any, p: Any) -> tuple[Any, Any]:
            u, v = _wide(words[0], words[1]), _wide(words[2], words[3])
            rare = xp.minimum(p, 1 - p)  # count the rarer outcome
            odds = rare / (1 - rare)
            mean = n * rare
            spread = xp.sqrt(xp.maximum(mean, _SMALL_MEAN) * (1 - rare))
            b = 1.15 + 2.53 * spread
            a = -0.0873 + 0.0248 * b + 0.01 * rare
            distance = 0.5 - abs(u - 0.5)
            k = xp.floor((2 * a / distance + b) * (u - 0.5) + mean + 0.5)
            scale = (2.83 + 5.1 / b) * spread / (a / distance**2 + b)
            mode, log_factorial = xp.floor((n + 1) * rare), lambda k: self._library().gammaln(k + 1)
            bound = log_factorial(mode) + log_factorial(n - mode) - log_factorial(k) - log_factorial(n - k)
            quick = (distance >= 0.07) & (v <= 0.92 - 4.2 / b)
            inside = (k >= 0) & (k <= n)
            slow = inside & (xp.log(v * scale) <= bound + (k - mode) * xp.log(odds))
            small = mean < _SMALL_MEAN
            start = xp.exp(n * xp.log1p(-rare))
            counted = self._inverted(xp.where(small, u, 0), start, lambda k: (n - k) / (k + 1) * odds)
            k = xp.where(small, counted, k)
            return xp.where(p > 0.5, n - k, k), small | quick | slow

        def is_valid(n: Any, p: Any) -> Any:
            return (n >= 0) & (p >= 0) & (p <= 1)

        return self._drawn(seed, offset, (xp.floor(count), p), is_valid, propose, shape, dtype, out)

    def random_von_mises(
        self,
        seed: Any,
        offset: Any,
        concentration: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Angles in [-pi, pi] about 0, by the method of Best and Fisher (1979).

        Their f = cos(angle) is near 1 for large concentrations k, so 1 - f is computed, from r - 1 and
        1 - rho, in forms without cancellation.
        """
        xp = self.xp

        def propose(words: Any, k: Any) -> tuple[Any, Any]:
            root = xp.sqrt(1 + 4 * k**2)
            tau = 1 + root
            rho = xp.sqrt(tau) * 2 * k / (tau * (xp.sqrt(tau) + math.sqrt(2)))
            gap = xp.where(k < 1, 1 - rho, (xp.sqrt(2 * tau) - 1 - 1 / (root + 2 * k)) / (2 * k))
            excess = gap**2 / (2 * rho)  # r - 1
            half = 0.5 * math.pi * _wide(words[0], words[1])
            versine = excess * 2 * xp.sin(half) ** 2 / (excess + 2 * xp.cos(half) ** 2)  # 1 - f
            c = k * (excess + versine)
            angle = 2 * xp.arcsin(xp.sqrt(xp.minimum(0.5 * versine, 1)))
            accepted = xp.log(c / _narrow(words[2])) + 1 - c >= 0
            return xp.where(words[3] < np.uint64(1 << 31), angle, -angle), accepted

        return self._drawn(seed, offset, (concentration,), lambda k: k > 0, propose, shape, dtype, out)

    def _inverted(self, u: Any, probability: Any, ratio: Callable[[int], Any]) -> Any:
        """The first k where the sum of probabilities exceeds ``u``, from the first one and their ratios."""
        k = self.xp.zeros_like(u)
        total = probability
        for term in range(_TERMS):
            above = u >= total
            if not above.any():
                break
            k += above
            probability = probability * self.xp.maximum(ratio(term), 0)
            total = total + probability
        return k

    def _drawn(
        self,
        seed: Any,
        offset: Any,
        parameters: tuple[Any, ...],
        is_valid: Callable[..., Any],
        propose: Proposal,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any,
        finish: Callable[..., Any] | None = None,
        first: int = 0,
    ) -> Any:
        """Propose for each element until it is accepted, a chunk of elements at a time.

        Args:
            seed: the seed.
            offset: number of the draw.
            parameters: of the distribution.
            is_valid: from the parameters, where they are in their domain.
            propose: makes one attempt.
            shape: shape of the result.
            dtype: dtype of the result.
            out: receives the result.
            finish: from accepted values, blocks of attempt 0 and parameters to results.
            first: number of the first attempt.
        """
        xp, count = self.xp, math.prod(shape)
        columns = [xp.broadcast_to(x, shape).reshape(-1).astype(np.float64) for x in parameters]
        results = xp.full(count, math.nan)
        with np.errstate(all="ignore"):
            for start in range(0, count, CHUNK):
                stop = min(start + CHUNK, count)
                rows = [column[start:stop] for column in columns]
                block = xp.arange(start, stop, dtype=np.uint64)
                valid = is_valid(*rows) & xp.isfinite(sum(rows))
                values, attempt = results[start:stop], first
                pending = xp.nonzero(valid)[0]
                while pending.size:
                    # Few elements cost as much as one: so many attempts at once that hardly any is left.
                    several = min(max(_AT_ONCE // pending.size, 1), 4)
                    attempts = xp.arange(attempt, attempt + several, dtype=np.uint64)[:, None]
                    words = self._blocks(seed, offset, block[pending] + attempts * np.uint64(_STRIDE))
                    proposed, accepted = propose(words, *[row[pending] for row in rows])
                    chosen = accepted.argmax(0)[None]  # the first one
                    done = accepted.any(0)
                    values[pending[done]] = xp.take_along_axis(proposed, chosen, 0)[0][done]
                    pending, attempt = pending[~done], attempt + several
                if finish is not None:
                    values[...] = finish(values, block, *rows)
        return delivered(results.reshape(shape).astype(dtype, copy=False), out)


def _wide(high: Any, low: Any) -> Any:
    """Numbers in (0, 1) from 52 bits: the odd multiples of 2^-53."""
    return ((high >> np.uint64(6)) * 2.0**26 + (low >> np.uint64(6)) + 0.5) * 2.0**-52


def _narrow(words: Any) -> Any:
    """Numbers in (0, 1) from 32 bits."""
    return (words + 0.5) * 2.0**-32

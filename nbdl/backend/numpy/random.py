"""Counter-based random numbers on NumPy arrays: Philox4x32-10.

A draw is made of 32-bit words that are a function of (seed, offset, position) alone. Block b of draw number
``offset`` is the Philox output for the counter (b mod 2^32, b div 2^32, offset mod 2^32, offset div 2^32) and
the key (seed mod 2^32, seed div 2^32); it holds the words 4b ... 4b + 3. All backends follow these
definitions, so they give the same numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f

DROP = Formula("dropout", lambda x, kept, p: f.where(kept, x * (1 / (1 - p)), 0), 3)

# Salmon, Moraes, Dror, Shaw: Parallel Random Numbers: As Easy as 1, 2, 3 (SC 2011), section 3.3 and table 2.
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
# Blocks that are computed at a time: temporaries then stay in the cache.
CHUNK = 1 << 14


def philox4x32(counter: tuple[Any, Any, Any, Any], key: tuple[int, int]) -> tuple[Any, Any, Any, Any]:
    """Ten rounds of Philox on words held in uint64 arrays.

    Args:
        counter: four words, arrays or scalars that broadcast.
        key: two words.

    Returns:
        Four words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        c0, c1 = (product1 >> _32) ^ c1 ^ np.uint64(k0), product1 & _LOW
        c2, c3 = (product0 >> _32) ^ c3 ^ np.uint64(k1), product0 & _LOW
        k0, k1 = (k0 + KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


class Random:
    """Random primitives. ``seed`` and ``offset`` are 0-d int64 arrays, read as 64 bits."""

    xp: Any
    pointwise: Any

    def random_uniform(
        self, seed: Any, offset: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Multiples of 2^-d in [0, 1), d being the digits of ``dtype`` (24 for float32, 53 for float64).

        Element i is the top of word i; in float64 of words 2i (27 bits) and 2i + 1 (26 bits).
        """
        count = math.prod(shape)
        if dtype == dtypes.FLOAT64:
            result = _unit53(self._words(seed, offset, 2 * count).reshape(count, 2))
        else:
            digits = 24 if dtype == dtypes.FLOAT32 else 11 if dtype == dtypes.FLOAT16 else 8
            words = self._words(seed, offset, count) >> np.uint32(32 - digits)
            result = words.astype(np.float32) * np.float32(2.0**-digits)
        return self._shaped(result, shape, dtype, out)

    def random_normal(
        self, seed: Any, offset: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """Standard normal numbers by Box and Muller: elements 2j and 2j + 1 are r cos(a) and r sin(a).

        r = sqrt(-2 log(u)) and a = 2 pi v, with u = 2^-32 w + 2^-33 and v = 2^-32 w' of the words w = 2j and
        w' = 2j + 1 in float32 arithmetic; in float64 u = m + 2^-54 and v = m' of the 53-bit fractions m and
        m' of words 4j ... 4j + 3.
        """
        count = math.prod(shape)
        pairs = (count + 1) // 2
        if dtype == dtypes.FLOAT64:
            fractions = _unit53(self._words(seed, offset, 4 * pairs).reshape(pairs, 2, 2))
            u, v = fractions[:, 0] + 2.0**-54, fractions[:, 1]
        else:
            fractions = self._words(seed, offset, 2 * pairs).astype(np.float32) * np.float32(2.0**-32)
            fractions = fractions.reshape(pairs, 2)
            u, v = fractions[:, 0] + np.float32(2.0**-33), fractions[:, 1]
        radius, angle = self.xp.sqrt(-2 * self.xp.log(u)), v.dtype.type(2 * math.pi) * v
        result = self.xp.stack([radius * self.xp.cos(angle), radius * self.xp.sin(angle)], axis=1).reshape(
            -1
        )[:count]
        return self._shaped(result, shape, dtype, out)

    def random_integers(
        self,
        seed: Any,
        offset: Any,
        low: Any,
        span: Any,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype,
        out: Any = None,
    ) -> Any:
        """Integers low + (w mod span) of 64-bit words w: for element i, w is word 2i + 2^32 word 2i + 1.

        Args:
            seed: the seed.
            offset: number of the draw.
            low: 0-d int64, the smallest value.
            span: 0-d int64, read as 64 bits without sign: the number of values; 0 means 2^64.
            shape: shape of the result.
            dtype: integer or floating dtype of the result.
            out: receives the result.
        """
        count = math.prod(shape)
        words = self._words(seed, offset, 2 * count).reshape(count, 2).astype(np.uint64)
        wide = words[:, 1] << _32 | words[:, 0]
        values = span.astype(np.uint64)
        remainders = wide % values if int(span) else wide
        return self._shaped((low.astype(np.uint64) + remainders).view(np.int64), shape, dtype, out)

    def random_bernoulli(
        self, seed: Any, offset: Any, p: Any, *, shape: tuple[int, ...], dtype: np.dtype, out: Any = None
    ) -> Any:
        """1 with probability ``p`` (floating, broadcast), else 0: element i is whether word i < 2^32 p."""
        words = self._words(seed, offset, math.prod(shape)).reshape(shape)
        return self._shaped(words < p.astype(np.float64) * 2.0**32, shape, dtype, out)

    def dropout(self, seed: Any, offset: Any, x: Any, p: Any, *, out: Any = None) -> Any:
        """``x`` / (1 - p) where an element is kept, else 0; and which are kept, bool.

        Args:
            seed: the seed.
            offset: number of the draw.
            x: floating.
            p: 0-d float64, the probability that an element is dropped: it is kept where
                :meth:`random_bernoulli` gives 1 with probability 1 - p.
            out: receives both results.
        """
        result, kept = out or (None, None)
        kept = self.random_bernoulli(seed, offset, 1 - p, shape=x.shape, dtype=dtypes.BOOL, out=kept)
        return self.pointwise(x, kept, p, formula=DROP, weak=1 << 2, out=result), kept

    def _words(self, seed: Any, offset: Any, count: int) -> Any:
        """The first ``count`` words of a draw, uint32."""
        blocks = (count + 3) // 4
        words = self.xp.empty((blocks, 4), np.uint32)
        for start in range(0, blocks, CHUNK):
            block = self.xp.arange(start, min(start + CHUNK, blocks), dtype=np.uint64)
            for column, word in enumerate(self._blocks(seed, offset, block)):
                words[start : start + len(block), column] = word
        return words.reshape(-1)[:count]

    def _blocks(self, seed: Any, offset: Any, block: Any) -> tuple[Any, Any, Any, Any]:
        """The four words of each of the given blocks (uint64) of a draw, as uint64."""
        seed_bits, draw = int(seed) & (1 << 64) - 1, int(offset) & (1 << 64) - 1
        counter = block & _LOW, block >> _32, np.uint64(draw & 0xFFFFFFFF), np.uint64(draw >> 32)
        return philox4x32(counter, (seed_bits & 0xFFFFFFFF, seed_bits >> 32))

    def _shaped(self, values: Any, shape: tuple[int, ...], dtype: np.dtype, out: Any) -> Any:
        return delivered(self.xp.asarray(values, dtype).reshape(shape), out)


def _unit53(words: Any) -> Any:
    """Fractions m * 2^-53 in [0, 1) from pairs of words along the last axis."""
    high, low = words[..., 0] >> np.uint32(5), words[..., 1] >> np.uint32(6)
    return (high * 2.0**26 + low) * 2.0**-53

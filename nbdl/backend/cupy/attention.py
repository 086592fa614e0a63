"""Attention on the GPU: by cuDNN, or products by cuBLAS and a launch each for scores, weights and slopes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy import dnn_attention as dnn
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.waiting import number_on_host
from nbdl.backend.numpy.random import DROP
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import equal, exp, where

_SCALED = Formula("scores", lambda x, scale: x * scale, 2)
_MASKED = Formula("masked_scores", lambda x, scale, mask: where(mask, x * scale, -math.inf), 3)
_ADDED = Formula("added_scores", lambda x, scale, mask: x * scale + mask, 3)
_CAUSAL = Formula("causal_scores", lambda x, i, k: where(i >= k, x, -math.inf), 3)
_WEIGHT = Formula("weight", lambda x, total: where(equal(total, -math.inf), 0, exp(x - total)), 2)
_SLOPE = Formula("slope", lambda weight, g, centre, scale: weight * (g - centre) * scale, 4)
_PRODUCT = Formula("product", lambda x, y: x * y, 2)


class CupyAttention:
    """See :class:`~nbdl.backend.numpy.attention.Attention`."""

    xp: Any
    cast: Any
    matmul: Any
    pointwise: Any
    random_bernoulli: Any
    reduce: Any
    _launch_rows: Any

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
        """softmax(query @ key^T * scale + mask) @ value, and the logarithms of the sums of exponentials."""
        if not rest:
            place = out[0] if out else None
            found = dnn.attend(self, (query, key, value), scale, is_causal, place)
            if found is not None:
                return delivered(found, out)
        mask, random = (rest[0], rest[1:]) if has_mask else (None, rest)
        batch = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
        if mask is not None:
            shape = (*batch, query.shape[-2], key.shape[-2])
            if np.broadcast_shapes(mask.shape, shape) != shape:
                raise ValueError("the mask does not broadcast to the scores")
        scores = self._attention_scores(query, key, mask, scale, is_causal)
        weights = self.xp.empty(scores.shape, scores.dtype)
        place, of_sums = out or (None, None)
        log_sum = target(self.xp, of_sums, scores.shape[:-1], scores.dtype, scores)
        operands = self.xp.ascontiguousarray(scores), weights, log_sum
        self._launch_rows("attention_weights", scores.shape, scores.ndim - 1, scores.dtype, operands)
        weights = self._dropped_weights(weights, random, batch)
        result = self._product_in(query.dtype, place, weights, self._wide(value))
        if log_sum.shape != result.shape[:-1]:
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
        """The gradients of :meth:`attention` by query, key and value."""
        if not rest:
            found = dnn.attend_back(self, (query, key, value, y, g), log_sum, scale, is_causal)
            if found is not None:
                return delivered(tuple(found), out)
        mask, random = (rest[0], rest[1:]) if has_mask else (None, rest)
        batch, dtype = g.shape[:-2], query.dtype
        wide, q, k, v = (self._wide(x) for x in (g, query, key, value))
        scores = self._attention_scores(query, key, mask, scale, is_causal)
        weights = self.pointwise(scores, log_sum[..., None], formula=_WEIGHT)
        centre = self.reduce(
            wide, self._wide(y), formula=_PRODUCT, kind="sum", axes=(g.ndim - 1,), keepdims=True
        )
        slopes = self._dropped_weights(self.matmul(wide, v, transpose_b=True), random, batch)
        slopes = self.pointwise(weights, slopes, centre, np.array(scale), formula=_SLOPE, weak=1 << 3)
        weights = self._dropped_weights(weights, random, batch)
        places = out or (None,) * 3
        results = (
            self._product_in(dtype, places[0], slopes, k),
            self._product_in(dtype, places[1], slopes, q, transpose_a=True),
            self._product_in(dtype, places[2], weights, wide, transpose_a=True),
        )
        return delivered(results, out)

    def _wide(self, x: Any) -> Any:
        """``x`` in the dtype that its arithmetic runs in."""
        kind = dtypes.arithmetic_dtype(x.dtype)
        return x if kind == x.dtype else self.cast(x, dtype=kind)

    def _product_in(self, dtype: np.dtype, place: Any, a: Any, b: Any, *, transpose_a: bool = False) -> Any:
        """A product in another dtype, in ``place`` if that is given and has its shape."""
        if place is not None and place.shape != (
            *np.broadcast_shapes(a.shape[:-2], b.shape[:-2]),
            *place.shape[-2:],
        ):
            place = None
        if a.dtype == dtype:
            return self.matmul(a, b, transpose_a=transpose_a, out=place)
        return self.cast(self.matmul(a, b, transpose_a=transpose_a), dtype=dtype, out=place)

    def _attention_scores(self, query: Any, key: Any, mask: Any, scale: float, is_causal: bool) -> Any:
        """query @ key^T * scale + mask, -infinity where a query does not see a key."""
        products = self.matmul(self._wide(query), self._wide(key), transpose_b=True)
        factor, weak = np.array(scale), 1 << 1
        if mask is None:
            scores = self.pointwise(products, factor, formula=_SCALED, weak=weak)
        elif mask.dtype == dtypes.BOOL:
            scores = self.pointwise(products, factor, mask, formula=_MASKED, weak=weak)
        else:
            scores = self.pointwise(products, factor, self._wide(mask), formula=_ADDED, weak=weak)
        if is_causal:
            length, source = scores.shape[-2:]
            places = self.xp.arange(length)[:, None], self.xp.arange(source)
            scores = self.pointwise(scores, *places, formula=_CAUSAL)
        return scores

    def _dropped_weights(self, weights: Any, random: tuple[Any, ...], batch: tuple[int, ...]) -> Any:
        """Weights, some dropped at random, the others divided by 1 - p; every batch entry draws its own."""
        if not random:
            return weights
        seed, draw, p = random
        p = np.float64(number_on_host(p, "the rate of dropout"))
        kept = self.random_bernoulli(
            seed, draw, np.array(1 - p), shape=(*batch, *weights.shape[-2:]), dtype=dtypes.BOOL
        )
        return self.pointwise(weights, kept, np.array(p), formula=DROP, weak=1 << 2)

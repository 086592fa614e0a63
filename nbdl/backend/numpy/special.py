"""Special functions without a formula on NumPy arrays: SciPy's, and orthogonal polynomials by recurrence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered

# (p_0, p_1) and p_{k+1} = (slope x + shift) p_k - back p_{k-1}, as functions of k. p_1 = start x + offset.
_Step = Callable[[int], tuple[float, float, float]]
RECURRENCES: dict[str, tuple[float, float, _Step]] = {
    "chebyshev_t": (1, 0, lambda k: (2, 0, 1)),
    "chebyshev_u": (2, 0, lambda k: (2, 0, 1)),
    "chebyshev_v": (2, -1, lambda k: (2, 0, 1)),
    "chebyshev_w": (2, 1, lambda k: (2, 0, 1)),
    "hermite_h": (2, 0, lambda k: (2, 0, 2 * k)),
    "hermite_he": (1, 0, lambda k: (1, 0, k)),
    "laguerre_l": (-1, 1, lambda k: (-1 / (k + 1), (2 * k + 1) / (k + 1), k / (k + 1))),
    "legendre_p": (1, 0, lambda k: ((2 * k + 1) / (k + 1), 0, k / (k + 1))),
}


class Special:
    """Special functions of floats, computed in single precision at least."""

    xp: Any

    def _library(self) -> Any:
        if self.xp is np:
            import scipy.special as library
        else:
            import cupyx.scipy.special as library
        return library

    def special(self, *inputs: Any, function: str, out: Any = None) -> Any:
        """SciPy's ``function`` on broadcast operands of one dtype; ``ai`` and ``aip`` are Airy's."""
        operands = [widened(x) for x in inputs]
        with np.errstate(all="ignore"):
            if function in ("ai", "aip"):
                value = self._library().airy(*operands)[("ai", "aip").index(function)]
            else:
                value = getattr(self._library(), function)(*operands)
        return delivered(narrowed(self.xp.asarray(value), inputs[0].dtype), out)

    def polynomial(self, x: Any, n: Any, *, family: str, order: int, out: Any = None) -> Any:
        """The ``order``-th derivative at ``x`` of the polynomial of degree trunc(``n``); 0 where n < 0.

        Differentiated d times the recurrence is p_{k+1}^(d) = (slope x + shift) p_k^(d) + d slope p_k^(d-1)
        - back p_{k-1}^(d).
        """
        start, offset, step = RECURRENCES[family]
        z, degree = widened(x), n.astype(np.int64)
        shape = np.broadcast_shapes(x.shape, n.shape)
        zero = self.xp.zeros_like(z)
        previous = [zero + 1, *[zero] * order]
        current = [start * z + offset, *[zero + start, *[zero] * order][:order]]
        result = self.xp.zeros(shape, z.dtype)
        with np.errstate(all="ignore"):
            for k in range(int(degree.max()) + 1 if degree.size else 0):
                result = self.xp.where(degree == k, previous[order], result)
                slope, shift, back = step(k + 1)
                following = []
                for d in range(order + 1):
                    value = (slope * z + shift) * current[d] - back * previous[d]
                    following.append(value + d * slope * current[d - 1] if d else value)
                previous, current = current, following
        return delivered(narrowed(result.astype(z.dtype, copy=False), x.dtype), out)

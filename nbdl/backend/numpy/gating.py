"""The gated linear unit on NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered


class Gating:
    """The first half of an axis times the logistic function of the second, and the gradient."""

    xp: Any

    def glu(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """The values, as far as their gates are open.

        Args:
            x: values and gates, the two halves of an axis.
            axis: that axis, of even length.
            out: receives the result, half as long.
        """
        values, gates = self._halves(x, axis)
        with np.errstate(all="ignore"):
            product = values * gates
        return delivered(narrowed(product, x.dtype), out)

    def glu_input(self, g: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient of :meth:`glu`.

        Args:
            g: gradient of the result.
            x: of :meth:`glu`.
            axis: of :meth:`glu`.
            out: of the shape of x, receives the result.
        """
        values, gates = self._halves(x, axis)
        wide = widened(g)
        with np.errstate(all="ignore"):
            halves = wide * gates, wide * (values * (gates * (1 - gates)))
        return delivered(narrowed(self.xp.concatenate(halves, axis), x.dtype), out)

    def _halves(self, x: Any, axis: int) -> tuple[Any, Any]:
        """The values, and how far the gates are open."""
        values, gates = self.xp.split(widened(x), 2, axis)
        with np.errstate(all="ignore"):
            power = self.xp.exp(-abs(gates))
            return values, self.xp.where(gates >= 0, 1, power) / (1 + power)

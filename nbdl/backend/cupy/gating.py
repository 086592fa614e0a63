"""The gated linear unit on the GPU: a formula of the two halves, and one for both parts of its gradient."""

from __future__ import annotations

from typing import Any

from nbdl.backend.cupy.placing import target
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula
from nbdl.formula.functions import expit

_GLU = Formula("glu", lambda value, gate: value * expit(gate), 2)
_GRADIENT = Formula(
    "glu_input",
    lambda g, value, gate: (g * expit(gate), g * (value * (expit(gate) * (1 - expit(gate))))),
    3,
)


class CupyGating:
    """See :class:`~nbdl.backend.numpy.gating.Gating`."""

    xp: Any
    pointwise: Any

    def glu(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """The values, as far as their gates are open."""
        return self.pointwise(*_halves(x, axis), formula=_GLU, out=out)

    def glu_input(self, g: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient of :meth:`glu`."""
        result = target(self.xp, out, x.shape, x.dtype, g, x)
        self.pointwise(g, *_halves(x, axis), formula=_GRADIENT, out=_halves(result, axis))
        return delivered(result, out)


def _halves(x: Any, axis: int) -> tuple[Any, Any]:
    """Windows on the first and the second half of an axis."""
    half, front = x.shape[axis] // 2, (slice(None),) * axis
    first, second = (*front, slice(None, half)), (*front, slice(half, None))
    return x[first], x[second]

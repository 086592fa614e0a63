"""What the curvature says of a point where the gradient is small."""

from __future__ import annotations

import math

import numpy as np

from nbdl import linalg
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import arange
from nbdl.optim.krylov import Lanczos, Watch
from nbdl.optim.objective import NonFiniteError, Objective, Point
from nbdl.optim.vectors import fetch

SINGULAR = "The Hessian is singular: this need not be a minimum."
_LANCZOS_STEPS = 30


def negative_curvature(objective: Objective, point: Point, dense: bool) -> tuple[float, Tensor] | str:
    """The least eigenvalue of the Hessian and its vector, if it is negative beyond rounding.

    Args:
        objective: what is minimized.
        point: where; differentiated.
        dense: whether the whole Hessian may be computed; otherwise some steps of the Lanczos process from a
            fixed vector give an estimate.

    Returns:
        The pair; else what is to be said of the Hessian, which may be nothing.
    """
    least, largest, vector = _dense(objective, point) if dense else _estimated(objective, point)
    noise = float(np.finfo(point.x.dtype).eps) ** 0.5 * largest
    if least < -noise:
        return least, vector
    return SINGULAR if least <= noise else ""  # an estimate is never below the least eigenvalue


def _dense(objective: Objective, point: Point) -> tuple[float, float, Tensor]:
    matrix, size = objective.hessian(point)
    values, vectors = linalg.eigh(matrix)
    least, largest, read = fetch(values[0], values.abs().amax(), size)
    if not math.isfinite(read):
        raise NonFiniteError
    return least, largest, vectors[:, 0].contiguous()


def _estimated(objective: Objective, point: Point) -> tuple[float, float, Tensor]:
    # A vector that is hardly orthogonal to an eigenvector of any problem, and the same in every run.
    start = arange(1, point.x.numel() + 1, dtype=point.x.dtype, device=point.x.device).sin()
    lanczos = Lanczos(objective.hessian_operator(point), start)
    for _ in lanczos.sizes(Watch(_LANCZOS_STEPS), _LANCZOS_STEPS):
        pass
    values, vectors = lanczos.eigen()
    least, largest, wrong = fetch(values[0], values.abs().amax(), lanczos.wrong)
    if wrong:
        raise NonFiniteError
    return least, largest, lanczos.combine(vectors[:, 0])

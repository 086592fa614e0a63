"""Conjugate gradients that stop at the boundary."""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.formula import Formula, maximum, sqrt, where
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import call
from nbdl.optim.checks import count
from nbdl.optim.krylov import Watch, moved_if, turned_if
from nbdl.optim.objective import Objective, Point
from nbdl.optim.trust_region.subproblem import ModelStep, Subproblem


def _to_boundary(dd: Any, zd: Any, zz: Any, radius: Any) -> Any:
    """The tau >= 0 with |z + tau d| = radius, from d^T d, z^T d and z^T z."""
    rest = maximum(radius * radius - zz, 0)
    root = sqrt(zd * zd + dd * rest)
    return where(zd > 0, rest / where(zd > 0, zd + root, 1), (root - zd) / where(dd > 0, dd, 1))


def _step(
    active: Any, zz: Any, zd: Any, dd: Any, rr: Any, bend: Any, decrease: Any, used: Any, radius: Any
) -> tuple[Any, ...]:
    """A step along d: its length, whether the process goes on, |z|^2, -m(z), and the number of products."""
    length = rr / where(bend > 0, bend, 1)
    inside = zz + 2 * length * zd + length * length * dd
    stays = where(bend > 0, where(inside < radius * radius, 1, 0), 0)
    length = where(stays, length, _to_boundary(dd, zd, zz, radius))
    gained = where(active, length * rr - length * length * bend / 2, 0)
    zz = where(active, where(stays, inside, radius * radius), zz)
    return length, where(active, stays, 0), zz, decrease + gained, used + active


def _turn(goes_on: Any, length: Any, zd: Any, dd: Any, rr: Any, new_rr: Any, enough: Any) -> tuple[Any, ...]:
    """Whether the process goes on from here; the new d, as a multiple of the old one; z^T d and |d|^2."""
    beta = new_rr / where(goes_on, rr, 1)
    return where(new_rr > enough, goes_on, 0), beta, beta * (zd + length * dd), new_rr + beta * beta * dd


_STEP = Formula("steihaug_step", _step, 9)
_TURN = Formula("steihaug_turn", _turn, 7)


class Steihaug(Subproblem):
    """CG-Steihaug, Nocedal & Wright (2006), algorithm 7.2.

    Negative curvature is followed to the boundary, and so is a step that would leave the region. On a device
    there are as many products as a :class:`~nbdl.optim.krylov.Watch` says.

    Args:
        max_iterations: of conjugate gradients; default: 2 n.
    """

    def __init__(self, max_iterations: int | None = None):
        if max_iterations is not None:
            count("Steihaug", "max_iterations", max_iterations, 1)
        self._max_iterations, self._watch = max_iterations, Watch()

    def __call__(self, objective: Objective, point: Point, radius: float) -> ModelStep:
        operator, r = objective.hessian_operator(point), point.gradient
        with no_grad():
            z, d, rr = r.zeros_like(), -r, dot(r, r)
            zz = zd = decrease = used = at_boundary = rr.zeros_like()
            dd, active = rr, (rr > 0).to(rr.dtype)
            enough = rr.sqrt().sqrt().clamp(max=0.5).square() * rr
        for _ in self._watch.products(r, self._max_iterations or 2 * r.numel()):
            if self._watch.is_over(active):
                break
            product = operator @ d
            with no_grad():
                bend = dot(d, product)
                length, goes_on, zz, decrease, used = call(
                    _STEP, active, zz, zd, dd, rr, bend, decrease, used, radius
                )
                z, r = moved_if(active, z, length, d), moved_if(goes_on, r, length, product)
                new_rr, at_boundary = dot(r, r), at_boundary + active - goes_on
                active, beta, zd, dd = call(_TURN, goes_on, length, zd, dd, rr, new_rr, enough)
                d, rr = turned_if(active, -r, beta, d), new_rr
        return ModelStep(z, zz.sqrt(), decrease, at_boundary > 0, note=used)

    def see(self, model: ModelStep) -> None:
        self._watch.learn(model.note)

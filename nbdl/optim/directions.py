"""Directions of line-search methods: what to make of the gradient.

A :class:`Direction` turns a point into a direction and learns from the steps that were taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import eye
from nbdl.ops.matmul import dot
from nbdl.ops.pointwise import pointwise
from nbdl.ops.quasi_newton import RememberPair, TwoLoop
from nbdl.optim.checks import count, one_of
from nbdl.optim.objective import Objective, Point
from nbdl.optim.vectors import overwrite

# What the relative curvature must exceed for a pair to be learned: the matrix stays positive definite.
_MIN_CURVATURE = 1e-8

_ENTRIES = ("steps", "changes", "curvatures", "norms")  # of the state of an optimizer
_BFGS = Formula(
    "bfgs_update",
    lambda h, s_i, s_j, u_i, u_j, sy, yu: (
        h + (sy + yu) * s_i * s_j / (sy * sy) - (u_i * s_j + s_i * u_j) / sy
    ),
    7,
)
_DFP = Formula("dfp_update", lambda h, s_i, s_j, u_i, u_j, sy, yu: h + s_i * s_j / sy - u_i * u_j / yu, 7)
_combined = pointwise("conjugate_direction", lambda g, beta, d: beta * d - g)


class Direction:
    """Base of the directions, and the steepest descent -g.

    Attributes:
        needs_hessian: whether :meth:`Objective.hessian_operator` is called.
        scales_itself: whether the direction has a natural length, so that the first trial step is 1.
        longest_trial: the first one of a direction that does not scale itself; a search goes on from there.
        unread: 0-d tensors that tell of the last direction; they are read together with the function at the
            end of the first trial, and :meth:`see` is told.
    """

    needs_hessian = False
    scales_itself = False
    longest_trial = 1.0
    unread: Sequence[Tensor] = ()

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        """The direction at a point (n,)."""
        return -point.gradient

    def learn(self, old: Point, new: Point, curvature: float) -> None:
        """Take notice of a step.

        Args:
            old: where it began.
            new: where it led.
            curvature: the relative change of the slope along it, s^T y / -s^T g; Wolfe steps have 1 - c2 at
                least.
        """

    def forget(self) -> bool:
        """Drop what was learned; False if there was nothing to drop."""
        return False

    def see(self, values: Sequence[float]) -> None:
        """The values of :attr:`unread`.

        Raises:
            WrongDirectionError: the direction is none.
        """

    def doubt(self) -> None:
        """The last direction was wrong: compute the next one from less.

        Raises:
            NonFiniteError: there is none.
        """

    def save(self, state: dict[str, Any]) -> None:
        """Put what was learned into the state of an optimizer."""

    def load(self, state: dict[str, Any]) -> None:
        """Take it from there, if it is there."""


class SteepestDescent(Direction):
    """-g, Nocedal & Wright (2006), section 3.3.

    Backtracking only shortens, so that nothing else limits the first trial.
    """

    longest_trial = math.inf


# ------------------------------------------------------------------------------------- conjugate gradients


def fletcher_reeves(g: Tensor, y: Tensor, old: Tensor, d: Tensor) -> Tensor:
    """Nocedal & Wright (2006), eq. (5.41a)."""
    return dot(g, g) / dot(old, old)


def polak_ribiere(g: Tensor, y: Tensor, old: Tensor, d: Tensor) -> Tensor:
    """PR+, Nocedal & Wright (2006), eq. (5.45)."""
    return (dot(g, y) / dot(old, old)).clamp(min=0)


def hestenes_stiefel(g: Tensor, y: Tensor, old: Tensor, d: Tensor) -> Tensor:
    """Nocedal & Wright (2006), eq. (5.46)."""
    return dot(g, y) / dot(d, y)


def dai_yuan(g: Tensor, y: Tensor, old: Tensor, d: Tensor) -> Tensor:
    """Nocedal & Wright (2006), eq. (5.49)."""
    return dot(g, g) / dot(d, y)


def hager_zhang(g: Tensor, y: Tensor, old: Tensor, d: Tensor) -> Tensor:
    """Hager & Zhang (2005), eqs. (1.3) and (1.6), with the truncation that makes the method converge."""
    dy = dot(d, y)
    beta = (dot(y, g) - 2 * dot(y, y) * dot(d, g) / dy) / dy
    lower = -1 / (dot(d, d).sqrt() * dot(old, old).sqrt().clamp(max=0.01))
    return beta.maximum(lower)


CONJUGATE_RULES = {
    "fr": fletcher_reeves,
    "pr+": polak_ribiere,
    "hs": hestenes_stiefel,
    "dy": dai_yuan,
    "hz": hager_zhang,
}


class ConjugateGradient(Direction):
    """d = -g + beta d, Nocedal & Wright (2006), algorithm 5.4.

    Args:
        rule: the formula of beta: "fr", "pr+", "hs", "dy" or "hz".
    """

    def __init__(self, rule: str = "pr+"):
        one_of("ConjugateGradient", "the rule of beta", rule, CONJUGATE_RULES)
        self._beta = CONJUGATE_RULES[rule]
        self._previous: tuple[Tensor, Tensor] | None = None  # gradient and direction
        self._direction: Tensor | None = None

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        g = point.gradient
        if self._previous is None:
            self._direction = -g
        else:
            old, d = self._previous
            beta = self._beta(g, g - old, old, d)
            descends = beta * dot(g, d) < dot(g, g)  # otherwise the steepest descent takes over
            self._direction = _combined(g, where(descends, beta, 0.0), d)
        return self._direction

    def learn(self, old: Point, new: Point, curvature: float) -> None:
        assert self._direction is not None
        self._previous = old.gradient, self._direction

    def forget(self) -> bool:
        had_memory, self._previous = self._previous is not None, None
        return had_memory

    def save(self, state: dict[str, Any]) -> None:
        if self._previous is not None:
            state["prev_gradient"], state["prev_direction"] = self._previous

    def load(self, state: dict[str, Any]) -> None:
        if "prev_gradient" in state:
            self._previous = state["prev_gradient"], state["prev_direction"]


# ----------------------------------------------------------------------------------------- quasi-Newton


class QuasiNewton(Direction):
    """-H g with a dense inverse Hessian H that learns by the BFGS or the DFP formula.

    H starts as the identity, and is scaled by s^T y / y^T y before the first update.

    Source: Nocedal & Wright (2006), algorithm 6.1, eqs. (6.17) and (6.20); DFP: eq. (6.15).

    Args:
        formula: "bfgs" or "dfp".
    """

    def __init__(self, formula: str = "bfgs"):
        self._formula = formula
        self.inverse: Tensor | None = None

    @property
    def scales_itself(self) -> bool:  # type: ignore[override]
        return self.inverse is not None

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        return -point.gradient if self.inverse is None else -(self.inverse @ point.gradient)

    def learn(self, old: Point, new: Point, curvature: float) -> None:
        if not curvature > _MIN_CURVATURE:
            return
        s, y = new.x - old.x, new.gradient - old.gradient
        if self.inverse is None:
            self.inverse = eye(s.numel(), dtype=s.dtype, device=s.device) * (dot(s, y) / dot(y, y))
        updated_inverse(self.inverse, s, y, self._formula)

    def forget(self) -> bool:
        had_memory, self.inverse = self.inverse is not None, None
        return had_memory

    def save(self, state: dict[str, Any]) -> None:
        state["inverse_hessian"] = self.inverse

    def load(self, state: dict[str, Any]) -> None:
        self.inverse = state.get("inverse_hessian")


def updated_inverse(inverse: Tensor, s: Tensor, y: Tensor, formula: str) -> Tensor:
    """The inverse Hessian after a pair, in place.

    Args:
        inverse: H (n, n).
        s: the step (n,).
        y: the change of the gradient (n,).
        formula: "bfgs" or "dfp".
    """
    u = inverse @ y
    row = [inverse, s.unsqueeze(1), s.unsqueeze(0), u.unsqueeze(1), u.unsqueeze(0), dot(s, y), dot(y, u)]
    overwrite({"bfgs": _BFGS, "dfp": _DFP}[formula], [row], (0,))
    return inverse


class LimitedMemory(Direction):
    """-H g with the inverse Hessian that the last pairs (s, y) make, Nocedal & Wright (2006), algorithm 7.4.

    The pairs lie in a ring of rows, detached from any graph; the recursion is one operation of the backend.

    Args:
        history_size: number of pairs m.

    Raises:
        TypeError: it is no integer.
        ValueError: it is not positive.
    """

    def __init__(self, history_size: int = 10):
        self.history_size = count("LimitedMemory", "history_size", history_size, 1)
        self.oldest = self.count = 0
        self._slots: list[list[Tensor]] = []
        self._rows: list[Tensor] = []  # s and y (m, n), s^T y and y^T y (m,)

    @property
    def scales_itself(self) -> bool:  # type: ignore[override]
        return self.count > 0

    def __call__(self, objective: Objective, point: Point) -> Tensor:
        return self.multiply(point.gradient, negative=True)

    def multiply(self, vector: Tensor, negative: bool = False) -> Tensor:
        """H times a vector (n,), or times the negative vector."""
        if not self.count:
            return -vector if negative else vector
        return TwoLoop.of(self.oldest, self.count, negative)(vector, *self._rows)

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The steps and the changes of the gradient (count, n), the oldest first."""
        order = [(self.oldest + k) % self.history_size for k in range(self.count)]
        return self._rows[0][order], self._rows[1][order]

    @classmethod
    def from_pairs(cls, steps: Tensor, changes: Tensor) -> LimitedMemory:
        """A memory of such pairs."""
        memory = cls(steps.shape[0])
        memory._rows = [steps, changes, (steps * changes).sum(1), (changes * changes).sum(1)]
        memory.count = steps.shape[0]
        memory._index()
        return memory

    def learn(self, old: Point, new: Point, curvature: float) -> None:
        if curvature > _MIN_CURVATURE:
            self.push(old, new)

    def push(self, old: Point, new: Point) -> None:
        """Remember a pair whose curvature s^T y is positive; the oldest one makes room."""
        if not self._rows:
            self._allocate(new.x)
        k = (self.oldest + self.count) % self.history_size
        row = [*self._slots[k], new.x, old.x, new.gradient, old.gradient]
        overwrite(RememberPair.of(), [row], (0, 1, 2, 3))
        if self.count < self.history_size:
            self.count += 1
        else:
            self.oldest = (self.oldest + 1) % self.history_size

    def _allocate(self, like: Tensor) -> None:
        m, n = self.history_size, like.numel()
        self._rows = [like.new_zeros(shape) for shape in ((m, n), (m, n), (m,), (m,))]
        self._index()

    def _index(self) -> None:
        """Keep a view of every row."""
        self._slots = [[row[k] for row in self._rows] for k in range(self.history_size)]

    def forget(self) -> bool:
        had_memory = self.count > 0
        self.oldest = self.count = 0
        return had_memory

    def save(self, state: dict[str, Any]) -> None:
        if self._rows:
            state.update(zip(_ENTRIES, self._rows, strict=True), oldest=self.oldest, count=self.count)

    def load(self, state: dict[str, Any]) -> None:
        rows = [state[name] for name in _ENTRIES if name in state]
        if rows and rows[0].shape[0] == self.history_size:
            self._rows, self.oldest, self.count = rows, state["oldest"], state["count"]
            self._index()

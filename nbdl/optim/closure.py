"""The closure of an optimizer's step as an objective over its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import full
from nbdl.ops.joining import cat
from nbdl.optim.function import check_loss
from nbdl.optim.objective import Objective, Point, RecordedHessian
from nbdl.optim.operators import LinearOperator
from nbdl.optim.recorded import gradients_of
from nbdl.optim.vectors import Layout, assign


def place(params: Sequence[Tensor], layout: Layout, x: Tensor) -> None:
    """Give parameters the values of a flat vector, in place."""
    with no_grad():
        assign(params, layout.split(x))


class ClosureObjective(Objective):
    """``closure()`` as a function of the parameters, which get other values before each call.

    Args:
        caller: the name that errors begin with.
        params: the parameters.
        closure: computes the loss; without ``records`` its gradients, too (``loss.backward()``).
        records: whether products with the Hessian are wanted; the closure then returns a loss that can be
            differentiated, and calls no ``backward``.
        scales: for each parameter the unit in which the flat vector counts it; None if all are 1.

    Attributes:
        first_loss: what the first call returned.
    """

    def __init__(
        self,
        caller: str,
        params: Sequence[Tensor],
        closure: Callable[[], Any],
        records: bool = False,
        scales: Sequence[float] | None = None,
    ):
        super().__init__()
        self._caller, self._params, self._closure, self._records = caller, list(params), closure, records
        self.layout = Layout(caller, self._params)
        self._here: Point | None = None  # whose x the parameters have
        self.first_loss: Any = None
        self._anchor: Tensor | None = None
        with no_grad():
            x = self.layout.flat([p.detach() for p in self._params]).clone()
            if scales is not None:
                self._anchor, self._scale = x, self._units(x, scales)
                x = x.zeros_like()
        self.start = x

    def _units(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        pieces = [
            full((p.numel(),), s, dtype=x.dtype, device=x.device)
            for p, s in zip(self._params, scales, strict=True)
        ]
        return cat(pieces)

    def place(self, x: Tensor) -> None:
        """Give the parameters the values of a flat vector."""
        with no_grad():
            values = x if self._anchor is None else self._anchor + self._scale * x
        place(self._params, self.layout, values)
        self._here = None

    def loss(self, point: Point) -> Tensor:
        if point.x is not self.start or self._here is not None:
            self.place(point.x)
        with enable_grad():
            value = self._closure()
        self._here = point
        if self.first_loss is None:
            self.first_loss = value
        if self._records:
            check_loss(self._caller, "the closure", value, "return the loss itself")
            point.record = value
        elif not isinstance(value, Tensor):
            return self._number(value)
        if value.numel() != 1:
            raise RuntimeError(
                f"{self._caller}: the closure must return a scalar loss, got shape {tuple(value.shape)}"
            )
        return value.detach().reshape(())

    def _number(self, value: Any) -> Tensor:
        if not isinstance(value, (int, float, np.number)):
            raise TypeError(
                f"{self._caller}: the closure must return the loss, a tensor or a number, got "
                f"{type(value).__name__}"
            )
        return full((), float(value), dtype=np.float64)

    def gradient(self, point: Point) -> Tensor:
        if self._records:
            gradients = gradients_of(point.record, self._params, create_graph=True)
            point.record = RecordedHessian(self, self.layout, self._params, gradients)
        else:
            gradients = [p.grad if p.grad is not None else p.detach().zeros_like() for p in self._params]
            if all(p.grad is None for p in self._params):
                raise RuntimeError(
                    f"{self._caller}: the closure left no gradient in any parameter; call backward() on the "
                    "loss in it"
                )
        with no_grad():
            flat = self.layout.flat([g.detach() for g in gradients])
            if self._anchor is not None:
                return flat * self._scale
            return flat.clone() if len(self._params) == 1 else flat

    def curvature(self, point: Point) -> LinearOperator:
        if self._here is not point:  # what was recorded there read parameters that have changed since
            again = self.evaluate(point.x)
            point.record = again.record
            self._here = point
        return point.record

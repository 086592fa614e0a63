"""The closure of an optimizer's step as an objective over its parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.creation import full
from nbdl.ops.joining import cat
from nbdl.optim.bounds import Box
from nbdl.optim.function import check_loss
from nbdl.optim.objective import Objective, Point, RecordedHessian
from nbdl.optim.operators import LinearOperator
from nbdl.optim.recorded import gradients_of
from nbdl.optim.vectors import Layout, assign, fetch, moved, slope_and_size


def place(params: Sequence[Tensor], layout: Layout, x: Tensor) -> None:
    """Give parameters the values of a flat vector, in place; nothing is recorded."""
    assign(params, layout.split(x))


def relative_units(groups: Sequence[dict[str, Any]]) -> list[float] | None:
    """The units in which a quasi-Newton method counts parameters of groups that have learning rates.

    Counted in units of sqrt(lr), the gradient is shorter by that factor, and so is the step that it leads to:
    the matrix that the method begins with has the rates on its diagonal. The largest rate counts as 1, since
    the length of a step is the search's; a rate of 0 freezes a group.

    Args:
        groups: with ``lr`` each.

    Returns:
        The units; None where all groups have one rate.
    """
    rates = [float(group["lr"]) for group in groups for _ in group["params"]]
    largest = max(rates)
    return None if min(rates) == largest else [(rate / largest) ** 0.5 for rate in rates]


def differentiable(closure: Callable[[], Any]) -> Callable[[], Any]:
    """The closure; without its program if it is compiled, since the gradients of that have none."""
    return getattr(closure, "uncompiled", closure)


class ClosureObjective(Objective):
    """``closure()`` as a function of the parameters, which get other values before each call.

    Args:
        caller: the name that errors begin with.
        params: the parameters.
        closure: computes the loss; without ``records`` its gradients, too (``loss.backward()``).
        records: whether products with the Hessian are wanted; the closure then returns a loss that can be
            differentiated, and calls no ``backward``.
        scales: for each parameter the unit in which the flat vector counts it; None if all are 1.
        box: bounds of the parameters, which every call of the closure finds kept; None if there are none.

    Attributes:
        first_loss: what the first call returned.
        box: the bounds of the flat vector, in its units.
    """

    def __init__(
        self,
        caller: str,
        params: Sequence[Tensor],
        closure: Callable[[], Any],
        records: bool = False,
        scales: Sequence[float] | None = None,
        box: Box | None = None,
    ):
        super().__init__()
        self._caller, self._params, self._records = caller, list(params), records
        self._closure = differentiable(closure) if records else closure
        self.layout = Layout(caller, self._params)
        self._here: Point | None = None  # whose x the parameters have
        self.first_loss: Any = None
        self._anchor: Tensor | None = None
        self.box = self._within = box
        with no_grad():
            x = self.layout.flat([p.detach() for p in self._params]).clone()
            x = x if box is None else box.project(x)
            if scales is not None:
                self._anchor, self._scale = x, self._units(x, scales)
                self.box = None if box is None else box.seen_from(x, self._scale)
                x = x.zeros_like()
        self.start = x

    def _units(self, x: Tensor, scales: Sequence[float]) -> Tensor:
        pieces = [
            full((piece.stop - piece.start,), s, dtype=x.dtype, device=x.device)
            for piece, s in zip(self.layout.slices, scales, strict=True)
        ]
        return cat(pieces)

    def place(self, x: Tensor) -> None:
        """Give the parameters the values of a flat vector."""
        if self._anchor is not None:
            x = self._anchor + self._scale * x
        if self._within is not None:  # in other units the bounds are rounded
            x = self._within.project(x)
        place(self._params, self.layout, x)
        self._here = None

    def loss(self, point: Point) -> Tensor:
        if point.x is not self.start or self._here is not None or self._within is not None:
            self.place(point.x)
        with enable_grad():
            value = self._closure()
        self._here = point
        if self.first_loss is None:
            self.first_loss = value
        if self._records:
            check_loss(self._caller, "the closure", value, "return the loss itself")
            point.record = value
        return _scalar(self._caller, value)

    def gradient(self, point: Point) -> Tensor:
        if self._records:
            gradients = gradients_of(point.record, self._params, create_graph=True)
            point.record = RecordedHessian(self, self.layout, self._params, gradients)
            with no_grad():
                flat = self.layout.flat([g.detach() for g in gradients])
        else:
            flat = _left_gradient(self._caller, self._params, self.layout)
        return flat if self._anchor is None else flat * self._scale

    def free_gradient(self, point: Point) -> Tensor:
        if self.box is None:
            return point.gradient
        return self.box.projected_gradient(point.x, point.gradient)

    def evaluate_along(
        self, start: Tensor, step: float, along: Tensor, extra: Sequence[Tensor] = ()
    ) -> Point:
        """As that of every objective; with a compiled closure all of it is one program."""
        whole = self._whole
        if whole is None:
            return super().evaluate_along(start, step, along, extra)
        loss, x, gradient, measured = whole(start, Tensor(np.array(step)), along)
        self.nfev += 1
        self.njev += 1
        point = self._here = Point(x)
        point.gradient = gradient
        point.value, point.slope, point.gradient_norm, *point.extra = fetch(loss, measured, *extra)
        self._compare(point)
        return point

    @cached_property
    def _whole(self) -> Callable[..., Any] | None:
        """Placing the parameters, the closure and what is read of its results; None if it is not compiled."""
        companion = getattr(self._closure, "companion", None)
        is_plain = self._anchor is None and not any(p.is_complex() for p in self._params)
        if companion is None or self._records or self.start.is_cuda or not is_plain:
            return None
        caller, params, layout = self._caller, self._params, self.layout

        def make(closure: Callable[[], Any]) -> Callable[..., Any]:
            def whole(start: Tensor, step: Tensor, along: Tensor) -> tuple[Tensor, ...]:
                x = moved(start, step, along)
                place(params, layout, x)
                with enable_grad():
                    loss = closure()
                gradient = _left_gradient(caller, params, layout)
                return _scalar(caller, loss), x, gradient, slope_and_size(gradient, along)

            return whole

        return companion([caller, *(p.array for p in params)], make)

    def curvature(self, point: Point) -> LinearOperator:
        if self._here is not point:  # what was recorded there read parameters that have changed since
            again = self.evaluate(point.x)
            point.record = again.record
            self._here = point
        return point.record


def _scalar(caller: str, value: Any) -> Tensor:
    """What a closure returned, 0-d and without history.

    Raises:
        TypeError: it is no loss.
        RuntimeError: it has several elements.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise RuntimeError(
                f"{caller}: the closure must return a scalar loss, got shape {tuple(value.shape)}"
            )
        return Tensor(value.array.reshape(()))
    if not isinstance(value, (int, float, np.number)):
        raise TypeError(
            f"{caller}: the closure must return the loss, a tensor or a number, got {type(value).__name__}"
        )
    return full((), float(value), dtype=np.float64)


def _left_gradient(caller: str, params: Sequence[Tensor], layout: Layout) -> Tensor:
    """The gradients that a closure left in the parameters, as a vector of its own memory.

    Raises:
        RuntimeError: there is none.
    """
    gradients = [p.grad if p.grad is not None else p.detach().zeros_like() for p in params]
    if all(p.grad is None for p in params):
        raise RuntimeError(
            f"{caller}: the closure left no gradient in any parameter; call backward() on the loss in it"
        )
    flat = layout.flat(gradients)
    return flat.clone() if len(params) == 1 else flat

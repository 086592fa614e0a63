"""A Python function of tensors as an objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.func import tree
from nbdl.ops.creation import from_numpy
from nbdl.optim.bounds import Box
from nbdl.optim.objective import Objective, Point, RecordedHessian
from nbdl.optim.operators import DenseOperator, FunctionOperator, LinearOperator
from nbdl.optim.recorded import gradients_of
from nbdl.optim.vectors import Layout

DIFFERENCES = ("2-point", "3-point", "cs")
"""What SciPy calls derivatives that the user does not give; here they are exact all the same."""


class Variables:
    """The argument of a function: a nest of tensors, or something that becomes one, as a flat vector.

    Args:
        caller: the name that errors begin with.
        x0: a tensor, an array, a number, a list of numbers, or a nest (tuples, lists, dicts) of tensors.

    Attributes:
        start: the flat vector of the starting point.
        layout: where its tensors lie in it.

    Raises:
        TypeError: there are other things, or tensors that are not floating.
        RuntimeError: there is nothing, or dtypes or devices differ.
    """

    def __init__(self, caller: str, x0: Any):
        leaves, self._tree = tree.flatten(x0)
        self.returns_tensors = any(isinstance(leaf, Tensor) for leaf in leaves)
        if not self.returns_tensors:
            leaves, self._tree = [_as_tensor(caller, x0)], tree.LEAF
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise TypeError(
                    f"{caller}: x0 must hold tensors only, or numbers only; got {type(leaf).__name__} too"
                )
            if not leaf.is_floating_point():
                raise TypeError(f"{caller}: x0 must be floating, got a tensor of dtype {leaf.dtype}")
        self.layout = Layout(caller, leaves)
        with no_grad():
            self.start = self.layout.flat([leaf.detach() for leaf in leaves]).clone()

    def leaves(self, x: Tensor) -> list[Tensor]:
        """The tensors of a flat vector, to be differentiated by."""
        return [part.requires_grad_() for part in self.layout.split(x)]

    def nest(self, leaves: Sequence[Tensor]) -> Any:
        """Tensors as the function takes them."""
        return tree.unflatten(list(leaves), self._tree)

    def flat(self, caller: str, what: str, value: Any, like: Tensor) -> Tensor:
        """What a function of the user gave for the whole of x as a flat vector.

        Raises:
            ValueError: it has another number of elements.
        """
        parts, _ = tree.flatten(value) if self.returns_tensors else ([value], None)
        with no_grad():
            tensors = [convert(caller, what, part, like) for part in parts]
            vector = self.layout.flat(tensors) if len(tensors) > 1 else tensors[0].reshape(-1).clone()
        if vector.numel() != self.layout.size:
            raise ValueError(
                f"{caller}: {what} must have as many elements as x0, {self.layout.size}; got {vector.numel()}"
            )
        return vector

    def returned(self, x: Tensor) -> Any:
        """A flat vector in the form of x0."""
        if self.returns_tensors:
            return self.nest([part.detach().clone() for part in self.layout.split(x)])
        return x.detach().cpu().numpy().reshape(self.layout.shapes[0]).copy()


def _as_tensor(caller: str, x0: Any) -> Tensor:
    try:
        array = np.asarray(x0)
    except ValueError:
        raise TypeError(f"{caller}: x0 must be an array of numbers, got a list of uneven rows") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{caller}: x0 must be real numbers or tensors, got {type(x0).__name__}")
    return from_numpy(np.atleast_1d(array).astype(array.dtype if array.dtype.kind == "f" else np.float64))


def convert(caller: str, what: str, value: Any, like: Tensor) -> Tensor:
    """What a function of the user returned as a tensor in the dtype and on the device of another one.

    Raises:
        TypeError: these are no real numbers.
    """
    if isinstance(value, Tensor):
        tensor = value.detach()
    else:
        try:
            array = np.asarray(value)
            if array.dtype.kind not in "fiub":
                raise TypeError
            tensor = from_numpy(array.astype(like.dtype))
        except (TypeError, ValueError):
            raise TypeError(
                f"{caller}: {what} must return real numbers or a tensor, got {type(value).__name__}"
            ) from None
    return tensor.to(dtype=like.dtype, device=like.device)


class FunctionObjective(Objective):
    """``fun(x, *args)`` with its derivatives, by automatic differentiation where the user gives none.

    Args:
        caller: the name that errors begin with.
        variables: the form of x.
        fun: returns a tensor with one element; (value, gradient) with ``jac=True``; a number where ``jac`` is
            given.
        args: further arguments of ``fun``, ``jac``, ``hess`` and ``hessp``.
        jac: None, True, or a function that returns the gradient.
        hess: None, or a function that returns the Hessian (n, n).
        hessp: None, or a function of x, a vector and ``args`` that returns their product.
        needs_hessian: whether :meth:`curvature` will be asked for.
        box: the bounds, if there are any.
    """

    def __init__(
        self,
        caller: str,
        variables: Variables,
        fun: Callable[..., Any],
        args: tuple[Any, ...] = (),
        jac: Any = None,
        hess: Callable[..., Any] | None = None,
        hessp: Callable[..., Any] | None = None,
        needs_hessian: bool = False,
        box: Box | None = None,
    ):
        super().__init__()
        self._box = box
        self._caller, self._variables, self._fun, self._args = caller, variables, fun, args
        self._jac, self._hess, self._hessp = jac, hess, hessp
        self._records = needs_hessian and hess is None and hessp is None

    def loss(self, point: Point) -> Tensor:
        leaves = self._variables.leaves(point.x)
        if self._jac:
            with no_grad():
                value = self._fun(self._variables.nest([leaf.detach() for leaf in leaves]), *self._args)
            gradient = None
            if self._jac is True:
                if not (isinstance(value, (tuple, list)) and len(value) == 2):
                    raise TypeError(
                        f"{self._caller}: with jac=True fun must return a pair (value, gradient), got "
                        f"{type(value).__name__}"
                    )
                value, gradient = value
            point.record = leaves, gradient
            loss = convert(self._caller, "fun", value, point.x)
            if loss.numel() != 1:
                raise RuntimeError(f"{self._caller}: fun must return a scalar, got shape {tuple(loss.shape)}")
            return loss.reshape(())
        with enable_grad():
            value = self._fun(self._variables.nest(leaves), *self._args)
        check_loss(self._caller, "fun", value, "give its gradient by jac")
        point.record = leaves, value
        return value.detach().reshape(())

    def gradient(self, point: Point) -> Tensor:
        leaves, value = point.record
        if self._jac:
            return self._given_gradient(point, leaves, value)
        gradients = gradients_of(value, leaves, self._records)
        return self._keep(point, leaves, gradients)

    def _given_gradient(self, point: Point, leaves: list[Tensor], gradient: Any) -> Tensor:
        if callable(self._jac):
            with enable_grad() if self._records else no_grad():
                inputs = leaves if self._records else [leaf.detach() for leaf in leaves]
                gradient = self._jac(self._variables.nest(inputs), *self._args)
        if self._records:
            parts = tree.flatten(gradient)[0]
            if not all(isinstance(part, Tensor) and part.requires_grad for part in parts):
                raise ValueError(
                    f"{self._caller}: this method needs second derivatives: give hess or hessp, or let jac "
                    "return a tensor that depends differentiably on x"
                )
            return self._keep(point, leaves, parts)
        point.record = leaves, None
        return self._variables.flat(self._caller, "jac", gradient, point.x)

    def _keep(self, point: Point, leaves: list[Tensor], gradients: Sequence[Any]) -> Tensor:
        """The flat gradient; its record stays with the point where products with the Hessian are wanted."""
        layout = self._variables.layout
        recorded = RecordedHessian(self, layout, leaves, gradients) if self._records else None
        point.record = leaves, recorded
        with no_grad():
            return layout.flat([gradient.detach() for gradient in gradients])

    def free_gradient(self, point: Point) -> Tensor:
        if self._box is None:
            return point.gradient
        return self._box.projected_gradient(point.x, point.gradient)

    def curvature(self, point: Point) -> LinearOperator:
        leaves, recorded = point.record
        if recorded is not None:
            return recorded
        x = self._variables.nest([leaf.detach() for leaf in leaves])
        n = self._variables.layout.size
        if self._hess is not None:
            self.nhev += 1
            matrix = convert(self._caller, "hess", self._hess(x, *self._args), point.x)
            if matrix.shape != (n, n):
                raise ValueError(
                    f"{self._caller}: hess must return a matrix of shape {(n, n)}, got {tuple(matrix.shape)}"
                )
            return DenseOperator(matrix)

        def product(v: Tensor) -> Tensor:
            assert self._hessp is not None
            self.nhev += 1
            vector = self._variables.nest(self._variables.layout.split(v))
            found = self._hessp(x, vector, *self._args)
            return self._variables.flat(self._caller, "hessp", found, point.x)

        return FunctionOperator((n, n), point.x.dtype, product, device=point.x.device)


def check_loss(caller: str, name: str, value: Any, remedy: str) -> None:
    """Raise unless a function returned a differentiable tensor with one element.

    Raises:
        TypeError: it is no tensor.
        RuntimeError: it has several elements, or does not depend on what it is differentiated by.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{caller}: {name} must return a tensor, got {type(value).__name__}; or {remedy}")
    if value.numel() != 1:
        raise RuntimeError(f"{caller}: {name} must return a scalar, got shape {tuple(value.shape)}")
    if value.is_complex():
        raise RuntimeError(f"{caller}: {name} must return a real number, got dtype {value.dtype}")
    if not value.requires_grad:
        raise RuntimeError(
            f"{caller}: {name} must return a tensor that depends differentiably on the variables; or {remedy}"
        )

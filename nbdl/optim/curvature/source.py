"""What curvature is taken of: a loss of outputs that depend on parameters, summed over mini-batches."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nbdl.autograd.modes import enable_grad, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.optim.function import check_loss
from nbdl.optim.recorded import gradients_of
from nbdl.optim.vectors import Layout, moved


class Term(NamedTuple):
    """One mini-batch.

    Attributes:
        outputs: of the model, recorded.
        targets: what they are compared with.
        weight: of its loss, relative to the other mini-batches.
    """

    outputs: Tensor
    targets: Any
    weight: float


class Source:
    """A loss of outputs of parameters, summed or averaged over mini-batches.

    Args:
        caller: the name that errors begin with.
        params: what is differentiated by, floating tensors of one dtype on one device.
        batches: gives the recorded outputs and the targets of every mini-batch, anew at each call.
        loss: of outputs and targets, 0-d.
        reduction: "mean" if it is a mean over the rows (first axis) of the outputs, else "sum".
        is_single: whether there is one mini-batch only, so that what is recorded of it may be kept.

    Attributes:
        params: as given.
        layout: where they lie in a flat vector.
        loss: as given.
        reduction: as given.
        is_single: as given.
    """

    def __init__(
        self,
        caller: str,
        params: Iterable[Tensor],
        batches: Callable[[], Iterable[tuple[Tensor, Any]]],
        loss: Callable[[Tensor, Any], Tensor],
        reduction: str,
        is_single: bool,
    ):
        self.caller, self._batches, self.loss = caller, batches, loss
        self.reduction, self.is_single = reduction, is_single
        if reduction not in ("mean", "sum"):
            raise ValueError(f"{caller}: reduction must be 'mean' or 'sum', got {reduction!r}")
        self._set(list(params))

    def _set(self, params: list[Tensor]) -> None:
        for k, param in enumerate(params):
            if not isinstance(param, Tensor):
                raise TypeError(f"{self.caller}: params[{k}] must be a tensor, got {type(param).__name__}")
            if not (param.is_floating_point() and param.requires_grad):
                raise RuntimeError(f"{self.caller}: params[{k}] must be floating and require a gradient")
        self.params, self.layout = params, Layout(self.caller, params)

    def restricted(self, params: Sequence[Tensor]) -> Source:
        """The same loss, differentiated by some of the parameters only."""
        part = copy.copy(self)
        part._set(list(params))
        return part

    def terms(self) -> Iterator[Term]:
        """All mini-batches, with new outputs.

        Raises:
            TypeError: the outputs are no tensor.
            RuntimeError: there is no mini-batch.
        """
        empty = True
        with enable_grad():
            for outputs, targets in self._batches():
                empty = False
                if not isinstance(outputs, Tensor):
                    raise TypeError(
                        f"{self.caller}: the model must return a tensor, got {type(outputs).__name__}"
                    )
                rows = outputs.shape[0] if outputs.ndim else 1
                yield Term(outputs, targets, float(rows) if self.reduction == "mean" else 1.0)
        if empty:
            raise RuntimeError(f"{self.caller}: the data have no mini-batch")

    def loss_of(self, term: Term) -> Tensor:
        """The loss of a mini-batch, recorded, 0-d.

        Raises:
            TypeError: it is no tensor.
            RuntimeError: it has several elements, or does not depend on the parameters.
        """
        with enable_grad():
            value = self.loss(term.outputs, term.targets)
        check_loss(self.caller, "the loss", value, "give another loss")
        return value.reshape(())

    def scale(self, outputs: Tensor) -> float:
        """The number by which the gradient of a mini-batch's loss becomes that of a row's own loss."""
        return float(outputs.shape[0]) if self.reduction == "mean" and outputs.ndim else 1.0

    def value(self) -> Tensor:
        """The loss, 0-d."""
        return self._total(lambda term: self.loss_of(term).detach())

    def gradient(self) -> Tensor:
        """Its gradient by all parameters (n,)."""
        return self._total(
            lambda term: self.layout.flat(gradients_of(self.loss_of(term), self.params, create_graph=False))
        )

    def _total(self, of_term: Callable[[Term], Tensor]) -> Tensor:
        total = Total(self.reduction)
        for term in self.terms():
            total.add(of_term(term), term.weight)
        return total.value()


class Total:
    """A sum over mini-batches, or the mean over all their rows."""

    def __init__(self, reduction: str):
        self._averages, self._weight = reduction == "mean", 0.0
        self._total: Tensor | None = None

    def add(self, value: Tensor, weight: float) -> None:
        """Count in what a mini-batch gave."""
        self._weight += weight
        if self._total is None:
            self._total = value  # of a single mini-batch nothing has to be computed
            return
        with no_grad():
            if self._averages:
                self._total = moved(self._total, weight / self._weight, value - self._total)
            else:
                self._total = self._total + value

    def value(self) -> Tensor:
        """The total."""
        assert self._total is not None
        return self._total


class Risk(Source):
    """The empirical risk: the loss of a model over data.

    Curvature is that at the values which the parameters have when a product is computed. The model is called
    for every product and mini-batch (once, if there is only one), in the mode it is in: put one with dropout
    or batch norm into ``eval`` mode.

    Args:
        model: a module, or a function of the inputs (then ``params`` is needed).
        loss: a module or function of outputs and targets. If it averages, it must do so over the rows of the
            outputs, so that mini-batches count by their rows.
        data: a pair (inputs, targets), or what gives such pairs whenever it is iterated: a list, a loader.
            Its order does not matter, but it must give the same examples every time.
        params: what to differentiate by; default: all parameters of the model that require a gradient.
        reduction: "mean" or "sum"; default: ``loss.reduction``, or "mean" where there is none.

    Raises:
        TypeError: the data are an iterator, which can be gone through only once, or the model no function.
        ValueError: ``params`` is missing, or the reduction unknown.
        RuntimeError: there is no parameter, or they differ in dtype or device.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> layer = nbdl.nn.Linear(2, 1, bias=False)
        >>> data = nbdl.tensor([[1.0, 2.0]]), nbdl.tensor([[3.0]])
        >>> risk = curvature.Risk(layer, nbdl.nn.MSELoss(), data)
        >>> curvature.Hessian(risk).to_dense()
        tensor([[2., 4.],
                [4., 8.]])
    """

    def __init__(
        self,
        model: Callable[[Any], Any],
        loss: Callable[[Tensor, Any], Tensor],
        data: Any,
        params: Iterable[Tensor] | None = None,
        reduction: str | None = None,
    ):
        if not callable(model):
            raise TypeError(f"Risk: model must be a module or a function, got {type(model).__name__}")
        if isinstance(model, Module):
            params = [p for p in model.parameters() if p.requires_grad] if params is None else params
        elif params is None:
            raise ValueError("Risk: params must be given where the model is no module")
        is_pair = _is_pair(data)
        if not is_pair and (not isinstance(data, Iterable) or iter(data) is data):
            raise TypeError(
                "Risk: data must be a pair (inputs, targets), or give such pairs whenever it is iterated "
                f"(a list, a loader), got {type(data).__name__}"
            )
        self.model = model

        def batches() -> Iterator[tuple[Tensor, Any]]:
            for inputs, targets in [data] if is_pair else data:
                yield model(inputs), targets

        reduction = getattr(loss, "reduction", "mean") if reduction is None else reduction
        super().__init__("Risk", params, batches, loss, reduction, is_pair)


def _is_pair(data: Any) -> bool:
    """Whether this is one mini-batch, and no list of two of them."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    return not all(isinstance(entry, (tuple, list)) and len(entry) == 2 for entry in data)


class Function(Source):
    """A function at a point as the source of curvature.

    Args:
        function: of x; returns a scalar, or any tensor if there is a ``loss``.
        x: where; a floating tensor of any shape.
        loss: None, or a scalar function of what ``function`` returns.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> at = curvature.Function(lambda x: (x ** 3).sum(), nbdl.tensor([1.0, 2.0]))
        >>> curvature.Hessian(at) @ nbdl.tensor([1.0, 1.0])
        tensor([ 6., 12.])
    """

    def __init__(
        self, function: Callable[[Tensor], Tensor], x: Tensor, loss: Callable[[Tensor], Tensor] | None = None
    ):
        if not isinstance(x, Tensor):
            raise TypeError(f"Function: x must be a tensor, got {type(x).__name__}")
        leaf = x.detach().clone()
        if leaf.is_floating_point():
            leaf.requires_grad_()

        def outer(outputs: Tensor, targets: None) -> Tensor:
            return outputs if loss is None else loss(outputs)

        super().__init__("Function", [leaf], lambda: [(function(leaf), None)], outer, "sum", True)

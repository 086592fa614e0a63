"""K-FAC: the Fisher matrix as one Kronecker product a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from nbdl.autograd import engine
from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.module import Module
from nbdl.ops.joining import cat
from nbdl.optim.checks import count, one_of
from nbdl.optim.curvature.blocks import BlockDiagonal, Kronecker
from nbdl.optim.curvature.kfac_layers import RULES, LayerRule, Moments, packed, unpacked
from nbdl.optim.curvature.likelihood import draws, likelihood_of
from nbdl.optim.curvature.source import Risk, Source, Term
from nbdl.optim.operators import LinearOperator
from nbdl.optim.recorded import gradients_of
from nbdl.random import Generator

FISHERS = ("exact", "mc", "empirical")


class Layer(NamedTuple):
    """A module whose parameters K-FAC treats.

    Attributes:
        name: of the module.
        module: the module.
        rule: of its kind.
        params: weight, and bias if there is one.
    """

    name: str
    module: Any
    rule: LayerRule
    params: Sequence[Tensor]


def layers_of(model: Module, params: Sequence[Tensor]) -> list[Layer]:
    """The layers of a kind that K-FAC knows, all of whose parameters are among ``params``."""
    wanted = {id(param) for param in params}
    found = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if type(module) in RULES and own and all(id(param) in wanted for param in own):
            found.append(Layer(name, module, RULES[type(module)], own))
    return found


class Recording:
    """What hooks see while a model computes: inputs and outputs of its layers.

    Args:
        layers: those to look at.

    Attributes:
        seen: for every layer the pairs (input, output) of its calls.
    """

    def __init__(self, layers: Sequence[Layer]):
        self.layers = list(layers)
        self.seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in layers]

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look on inside the ``with`` block."""
        handles = []
        for calls, layer in zip(self.seen, self.layers, strict=True):

            def hook(module: Any, args: tuple, output: Tensor, calls: list = calls) -> Tensor:
                calls.append((args[0].detach(), output))
                return output.clone()  # what follows may change it in place

            handles.append(layer.module.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def moments(self, outputs: Tensor, columns: Tensor) -> list[Moments | None]:
        """Sums over what was seen; the recording is empty afterwards.

        Args:
            outputs: of the model, recorded.
            columns: gradients (K, N, ...) by them.

        Returns:
            An entry for every layer, None for one that was not called.
        """
        calls = [call for calls in self.seen for call in calls if call[1].requires_grad]
        gradients = engine.grad(
            [outputs], [output for _, output in calls], [columns],
            retain_graph=True, is_grads_batched=True, materialize_grads=True,
        )  # fmt: skip
        by_output = {id(output): gradient for (_, output), gradient in zip(calls, gradients, strict=True)}
        found: list[Moments | None] = []
        with no_grad():
            for layer, calls in zip(self.layers, self.seen, strict=True):
                parts = [
                    layer.rule.moments(layer.module, inputs, by_output[id(output)])
                    for inputs, output in calls
                    if id(output) in by_output
                ]
                found.append(_summed(parts) if parts else None)
        for calls in self.seen:
            calls.clear()
        return found


def _summed(parts: Sequence[Moments]) -> Moments:
    total = parts[0]
    for part in parts[1:]:
        total = Moments(total.left + part.left, total.right + part.right, total.positions + part.positions)
    return total


def columns_of(
    source: Source, term: Term, fisher: str, n_samples: int, generator: Generator | None
) -> Tensor:
    """Gradients (K, N, ...) by the outputs whose products, summed over K, are the matrix of each row."""
    outputs = term.outputs.detach()
    if fisher == "empirical":
        outputs = outputs.requires_grad_()
        loss = source.loss_of(term._replace(outputs=outputs))
        (gradient,) = gradients_of(loss, [outputs], create_graph=False)
        with no_grad():
            return (gradient * source.scale(outputs)).unsqueeze(0)
    with no_grad():
        likelihood = likelihood_of("KFAC", source.loss, source.reduction)
        if fisher == "exact":
            return likelihood.root(outputs)
        return draws(likelihood, outputs, n_samples, generator)


def check_fisher(caller: str, fisher: str, n_samples: int) -> None:
    """Raise unless these are a kind of Fisher matrix and a number of samples."""
    one_of(caller, "fisher", fisher, FISHERS)
    count(caller, "n_samples", n_samples, 1)


class LayerBlock(LinearOperator):
    """A Kronecker product over the parameters of a layer, weight before bias.

    Args:
        layer: the layer.
        product: over its parameters as matrices (g, p, q).

    Attributes:
        product: as given.
    """

    def __init__(self, layer: Layer, product: Kronecker):
        super().__init__(product.shape, product.dtype, product.device)
        self.product, self._layer, self._shape = product, layer, layer.rule.shape(layer.module)

    def matvec(self, v: Tensor) -> Tensor:
        return self._within(v, self.product.matvec)

    def solve(self, v: Tensor, damping: float = 0.0) -> Tensor:
        """(A + damping I)^-1 v."""
        return self._within(v, lambda x: self.product.solve(x, damping))

    def diagonal(self) -> Tensor:
        return self._unpacked(self.product.diagonal())

    def logdet(self, damping: float = 0.0) -> float:
        """The logarithm of the determinant of A + damping I."""
        return self.product.logdet(damping)

    @no_grad()
    def _within(self, v: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        parts, start = [], 0
        for param in self._layer.params:
            parts.append(v[start : start + param.numel()])
            start += param.numel()
        return self._unpacked(function(packed(parts, self._shape).reshape(-1)))

    @no_grad()
    def _unpacked(self, v: Tensor) -> Tensor:
        matrices = v.reshape(*self._shape, -1)
        return cat([part.reshape(-1) for part in unpacked(matrices, self._layer.params)])


class KFAC(BlockDiagonal):
    """The Kronecker-factored approximation of the Fisher matrix: blocks L (x) R, one a layer.

    L is the second moment of the gradients by the outputs of a layer, R that of its inputs, with a 1 for the
    bias. It is exact for a linear net with the squared error on one example, block by block. Linear layers
    (further axes are positions), convolutions with groups, and embeddings have Kronecker factors; batch,
    layer, group, instance and RMS norm have an exact 2 x 2 block for every scale and its shift.

    The factors are computed when the operator is made, in one pass over the data.

    Args:
        risk: the loss of a module; all its parameters must belong to such layers.
        fisher: "exact", "mc" (targets drawn from the model) or "empirical" (the targets of the data).
        n_samples: targets for every row with "mc".
        generator: where they come from; default: the global one.

    Raises:
        TypeError: ``risk`` is no risk of a module.
        ValueError: a parameter belongs to another kind of layer, or ``fisher`` or the loss is none of the
            known ones.

    Source: Martens, Grosse (2015), Optimizing neural networks with Kronecker-factored approximate curvature,
        section 3; Grosse, Martens (2016), A Kronecker-factored approximate Fisher matrix for convolution
        layers, section 3; Osawa et al. (2020), Scalable and practical natural gradient for large-scale deep
        learning, section 4.

    Example:
        >>> import nbdl
        >>> from nbdl.optim import curvature
        >>> layer = nbdl.nn.Linear(2, 1, bias=False)
        >>> risk = curvature.Risk(layer, nbdl.nn.MSELoss(), (nbdl.tensor([[1.0, 2.0]]), nbdl.ones(1, 1)))
        >>> curvature.KFAC(risk).to_dense().round(decimals=4)
        tensor([[2., 4.],
                [4., 8.]])
    """

    def __init__(
        self, risk: Risk, fisher: str = "exact", n_samples: int = 1, generator: Generator | None = None
    ):
        if not (isinstance(risk, Risk) and isinstance(risk.model, Module)):
            raise TypeError(f"KFAC: expected the Risk of a module, got {type(risk).__name__}")
        check_fisher("KFAC", fisher, n_samples)
        layers = layers_of(risk.model, risk.params)
        covered = {id(param) for layer in layers for param in layer.params}
        if len(covered) < len(risk.params):
            missing = [
                name for name, param in risk.model.named_parameters()
                if id(param) not in covered and any(param is other for other in risk.params)
            ]  # fmt: skip
            raise ValueError(
                f"KFAC: no layer rule for {', '.join(missing)}; there are rules for "
                f"{', '.join(kind.__name__ for kind in RULES)}"
            )
        totals: list[list[Moments]] = [[] for _ in layers]
        rows, recording = 0.0, Recording(layers)
        with recording.looking():
            for term in risk.terms():
                columns = columns_of(risk, term, fisher, n_samples, generator)
                rows += term.outputs.shape[0]
                for found, moments in zip(totals, recording.moments(term.outputs, columns), strict=True):
                    if moments is not None:
                        found[:] = [_summed([*found, moments])]
        scale = rows if risk.reduction == "mean" else 1.0
        blocks = []
        for layer, found in zip(layers, totals, strict=True):
            if not found:
                raise ValueError(f"KFAC: the model never called its layer {layer.name!r}")
            (moments,) = found
            with no_grad():
                factors = moments.left / scale, moments.right / moments.positions
            blocks.append(LayerBlock(layer, Kronecker(*factors)))
        place = {id(param): piece for param, piece in zip(risk.params, risk.layout.slices, strict=True)}
        super().__init__(blocks, [[place[id(param)] for param in layer.params] for layer in layers])

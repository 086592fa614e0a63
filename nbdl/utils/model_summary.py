"""A model layer by layer: shapes, parameters, operations, memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.func.tree import flatten
from nbdl.nn.module import Module
from nbdl.utils.flops import flops
from nbdl.utils.observer import Call, observing
from nbdl.utils.text import as_table, with_unit


@dataclass
class LayerSummary:
    """One call of a module.

    Attributes:
        name: dotted name in the model; empty for the model itself.
        kind: its class.
        depth: how many modules it is inside of.
        parameters: elements of its parameters, without those of modules inside that were called, too.
        output_shapes: of the tensors that it returned.
        output_bytes: of them together.
        flops: multiplications and additions of products in it and in modules inside (see
            :func:`nbdl.utils.flops.flops`).
    """

    name: str
    kind: str
    depth: int
    parameters: int
    output_shapes: list[tuple[int, ...]] = field(default_factory=list)
    output_bytes: int = 0
    flops: int = 0


@dataclass(frozen=True)
class ModelSummary:
    """What :func:`summary` found; its text is a table.

    Attributes:
        layers: the calls of modules in the order in which they began.
        parameters: elements of all parameters, each counted once.
        trainable: those of them that require gradients.
        parameter_bytes: of parameters and buffers.
        input_bytes: of the input.
        output_bytes: of the results of all modules that called no module, which a backward pass may need.
        flops: multiplications and additions of products in one forward pass.
    """

    layers: list[LayerSummary]
    parameters: int
    trainable: int
    parameter_bytes: int
    input_bytes: int
    output_bytes: int
    flops: int

    def __str__(self) -> str:
        rows = [
            (
                "  " * layer.depth + f"{layer.kind} {layer.name}".strip(),
                ", ".join(str(list(shape)) for shape in layer.output_shapes),
                f"{layer.parameters:,}" if layer.parameters else "",
                f"{layer.flops:,}" if layer.flops else "",
            )
            for layer in self.layers
        ]
        return (
            as_table(("layer", "output", "parameters", "FLOPs"), rows)
            + f"\nparameters: {self.parameters:,}, of which {self.trainable:,} are trained\n"
            f"FLOPs of a forward pass: {with_unit(self.flops, 'FLOP')}\n"
            f"memory: input {with_unit(self.input_bytes, 'B')}, parameters and buffers "
            f"{with_unit(self.parameter_bytes, 'B')}, results {with_unit(self.output_bytes, 'B')}"
        )


def summary(model: Module, *inputs: Any, **kwargs: Any) -> ModelSummary:
    """Run a model once, without gradients and in eval mode, and describe it.

    Args:
        model: a module.
        inputs: its arguments.
        kwargs: likewise by name.

    Returns:
        Figures for each layer and the whole; ``str()`` of it is a table.

    Raises:
        TypeError: ``model`` is no module.

    Example:
        >>> import nbdl
        >>> from nbdl.utils import summary
        >>> found = summary(nbdl.nn.Linear(4, 3), nbdl.ones(2, 4))
        >>> found.parameters, found.flops, found.layers[0].output_shapes
        (15, 48, [(2, 3)])
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary: model must be a module, got {type(model).__name__}")
    layers: list[LayerSummary] = []
    running: list[LayerSummary] = []

    def count(call: Call) -> None:
        amount = flops(call)
        for layer in running:
            layer.flops += amount

    def enter(module: Any, name: str) -> None:
        layer = LayerSummary(name, type(module).__name__, len(running), 0)
        layers.append(layer)
        running.append(layer)

    def leave(output: Any) -> None:
        layer = running.pop()
        tensors = list(_tensors(output))
        layer.output_shapes = [tuple(tensor.shape) for tensor in tensors]
        layer.output_bytes = sum(tensor.nbytes for tensor in tensors)

    training = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        stack.callback(_restore, training)
        for name, module in model.named_modules():
            stack.enter_context(
                module.register_forward_pre_hook(lambda module, args, name=name: enter(module, name))
            )
            stack.enter_context(module.register_forward_hook(lambda module, args, output: leave(output)))
        stack.enter_context(no_grad())
        stack.enter_context(observing(count))
        model.eval()
        model(*inputs, **kwargs)
    _count_parameters(model, layers)
    parameters = list(model.parameters())
    depths = [*(layer.depth for layer in layers), 0]
    return ModelSummary(
        layers,
        sum(parameter.numel() for parameter in parameters),
        sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        sum(tensor.nbytes for tensor in (*parameters, *model.buffers())),
        sum(tensor.nbytes for tensor in _tensors((inputs, kwargs))),
        sum(layer.output_bytes for k, layer in enumerate(layers) if depths[k + 1] <= layer.depth),
        layers[0].flops,
    )


def _count_parameters(model: Module, layers: list[LayerSummary]) -> None:
    """Count the parameters of each module where it was called, else where the module that holds it was."""
    own: dict[str, int] = {layer.name: 0 for layer in layers}
    for name, module in model.named_modules():
        home = name
        while home not in own:
            home = home.rpartition(".")[0]
        own[home] += sum(parameter.numel() for parameter in module.parameters(recurse=False))
    for layer in layers:
        layer.parameters = own[layer.name]


def _restore(training: dict[Any, bool]) -> None:
    for module, value in training.items():
        module.training = value


def _tensors(nest: Any) -> Iterator[Tensor]:
    return (leaf for leaf in flatten(nest)[0] if isinstance(leaf, Tensor))

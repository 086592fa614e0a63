"""The ends of a backward pass: outputs with their gradients, inputs, and their places on the tape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nbdl.autograd.nodes import AccumulateGrad
from nbdl.autograd.tape import Node, OutputEdge, is_connected
from nbdl.autograd.tensor import Tensor, made


class GradientEdge(NamedTuple):
    """A value of the graph without the tensor: output ``output_nr`` of ``node``.

    Both :func:`nbdl.autograd.grad` and :func:`nbdl.autograd.backward` take it in the place of a tensor, so
    that the memory of a value need not be kept to differentiate it, or by it.
    """

    node: Node | AccumulateGrad
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place of ``tensor`` in the graph; of a leaf, where its gradient is accumulated.

    Raises:
        RuntimeError: the tensor needs no gradient.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> y = x * 3
        >>> edge = nbdl.autograd.graph.get_gradient_edge(y)
        >>> nbdl.autograd.grad((y * y).sum(), edge)
        (tensor([ 6., 12.]),)
    """
    if not tensor.requires_grad:
        raise RuntimeError(
            "get_gradient_edge: it is not possible to get the gradient edge for a tensor that "
            "does not require gradients"
        )
    return GradientEdge(tensor.grad_fn or AccumulateGrad(tensor), tensor.output_nr)


def listed(tensors: Any) -> list[Any]:
    """Tensors or edges; one alone is a list of one."""
    return [tensors] if isinstance(tensors, (Tensor, GradientEdge)) else list(tensors)


def inputs_of(caller: str, inputs: Any) -> list[Tensor]:
    """What is differentiated by, checked; of a dict the values.

    Raises:
        TypeError: something is neither a tensor nor an edge, or a mapping is no dict.
        RuntimeError: a tensor needs no gradient.
    """
    if isinstance(inputs, Mapping) and type(inputs) is not dict:
        raise TypeError(f"{caller}: inputs must be tensors or a dict of them, got {type(inputs).__name__}")
    tensors = []
    for k, given in enumerate(listed(inputs.values() if type(inputs) is dict else inputs)):
        tensor = _tensor_at(given) if isinstance(given, GradientEdge) else given
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{caller}: inputs[{k}] must be a tensor, got {type(tensor).__name__}")
        if not tensor.requires_grad:
            raise RuntimeError(f"{caller}: inputs[{k}] does not require grad")
        tensors.append(tensor)
    return tensors


def _tensor_at(edge: GradientEdge) -> Tensor:
    """A tensor at an edge: the leaf, or one whose elements take no memory, and are not read."""
    node, index, _ = edge
    if isinstance(node, AccumulateGrad):
        return node.variable
    shape, dtype = node.specs[index]
    tensor = Tensor(np.broadcast_to(np.zeros((), dtype), shape), requires_grad=True)
    tensor.edge = node if len(node.specs) == 1 else OutputEdge(node, index)
    return tensor


def seeds_of(caller: str, tensors: Any, given: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and their gradients, checked."""
    if given is None and isinstance(tensors, Tensor):
        return [tensors], [_seed(caller, tensors, None)]
    roots = [_tensor_at(root) if isinstance(root, GradientEdge) else root for root in listed(tensors)]
    if given is None:
        vectors: list[Tensor | None] = [None] * len(roots)
    else:
        vectors = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(vectors) != len(roots):
        raise RuntimeError(
            f"{caller}: got {len(roots)} tensors and {len(vectors)} gradients; one each is needed"
        )
    return roots, [_seed(caller, root, vector) for root, vector in zip(roots, vectors, strict=True)]


def _seed(caller: str, root: Tensor, vector: Tensor | None) -> Tensor:
    """The gradient of one output, checked; 1 where none is given."""
    if not isinstance(root, Tensor):
        raise TypeError(f"{caller}: expected tensors, got {type(root).__name__}")
    if not (root.requires_grad or (root.view_of is not None and is_connected(root))):
        raise RuntimeError(
            f"{caller}: element 0 of tensors does not require grad and does not have a grad_fn"
        )
    array = root.array
    if vector is None:
        if array.size != 1:
            raise RuntimeError(
                f"{caller}: grad can be implicitly created only for scalar outputs, got shape "
                f"{tuple(array.shape)}; give the gradient"
            )
        if array.dtype.kind == "c":
            raise RuntimeError(
                f"{caller}: grad can be implicitly created only for real scalar outputs but got {array.dtype}"
            )
        return _one(array) if type(array) is np.ndarray else root.ones_like()
    if not isinstance(vector, Tensor):
        raise TypeError(f"{caller}: a gradient must be a tensor or None, got {type(vector).__name__}")
    if vector.array.shape != array.shape:
        raise RuntimeError(
            f"{caller}: Mismatch in shape: the gradient has shape {tuple(vector.array.shape)}, the tensor "
            f"{tuple(array.shape)}"
        )
    return vector


def _one(array: np.ndarray) -> Tensor:
    """1 in the shape and dtype of an array of one element."""
    one = np.array(1, array.dtype)
    return made(one if array.ndim == 0 else one.reshape(array.shape))


def key_of(tensor: Tensor) -> Any:
    """What identifies the value of a tensor on the tape: a leaf itself, else the node and the output."""
    edge = edge_of(tensor)
    if type(edge) is OutputEdge:
        return edge.node, edge.index
    return (edge, 0) if type(edge) is Node else edge


def edge_of(tensor: Tensor) -> Any:
    """Where a tensor was made; a leaf itself."""
    if tensor.view_of is not None:
        tensor.refresh_edge()
    return tensor.edge or tensor

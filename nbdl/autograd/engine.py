"""Reverse mode: walk the tape from the outputs to the leaves.

Nodes are visited from the newest to the oldest with a heap, so a node is run when all its gradients have
arrived, and a chain of any length needs no recursion. Rules are written with differentiable operations;
recording them (``create_graph``) is what makes gradients of gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import Node, OutputEdge, freed_error
from nbdl.autograd.tensor import Tensor


def backward(
    tensors: Tensor | Sequence[Tensor],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Tensor | Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradients of ``tensors`` into the ``grad`` of the leaves.

    Args:
        tensors: what to differentiate.
        grad_tensors: for each of them the gradient of a final scalar by it; None for a scalar.
        retain_graph: keep the saved values for another pass; default: the value of ``create_graph``.
        create_graph: record the pass itself, for higher derivatives.
        inputs: accumulate into these leaves only; default: all.

    Raises:
        RuntimeError: a tensor needs no gradient, is no scalar and has no gradient given, or the graph was
            freed.
    """
    roots, seeds = _seeds("backward", tensors, grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    wanted = None if inputs is None else [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if wanted is not None:
        if not wanted:
            raise RuntimeError("backward: inputs must not be empty")
        for k, tensor in enumerate(wanted):
            if not tensor.requires_grad:
                raise RuntimeError(f"backward: inputs[{k}] does not require grad")
    gradients = _run(roots, seeds, wanted, retain, create_graph)
    taken = {id(seed.array) for seed in seeds}
    for leaf, gradient in gradients.values():
        _accumulate(leaf, gradient, create_graph, taken)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of ``outputs`` by ``inputs``, as new tensors.

    Args:
        outputs: what to differentiate; scalars unless ``grad_outputs`` says more.
        inputs: tensors with ``requires_grad``, leaves or not.
        grad_outputs: the vector of the vector-Jacobian product, one per output.
        retain_graph: keep the saved values for another pass; default: the value of ``create_graph``.
        create_graph: record the pass itself, for higher derivatives.
        allow_unused: give None for an input that the outputs do not depend on, instead of an error.
        is_grads_batched: the first axis of each ``grad_outputs`` counts several vectors; the results are
            stacked.
        materialize_grads: give zeros instead of None.

    Raises:
        RuntimeError: as :func:`backward`, or an input is unused.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> nbdl.autograd.grad((x ** 3).sum(), x)
        (tensor([ 3., 12.]),)
    """
    wanted = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    if is_grads_batched:
        return _batched_grad(
            outputs, wanted, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads
        )
    roots, seeds = _seeds("grad", outputs, grad_outputs)
    for k, tensor in enumerate(wanted):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"grad: inputs[{k}] must be a tensor, got {type(tensor).__name__}")
        if not tensor.requires_grad:
            raise RuntimeError(f"grad: inputs[{k}] does not require grad")
    retain = create_graph if retain_graph is None else retain_graph
    gradients = _run(roots, seeds, wanted, retain, create_graph)
    results: list[Tensor | None] = []
    for k, tensor in enumerate(wanted):
        found = gradients.get(_key(tensor))
        if found is not None:
            results.append(found[1])
        elif materialize_grads:
            results.append(tensor.zeros_like())
        elif allow_unused:
            results.append(None)
        else:
            raise RuntimeError(
                "grad: One of the differentiated Tensors appears to not have been used in the graph "
                f"(inputs[{k}]). "
                "Set allow_unused=True if this is the desired behavior."
            )
    return tuple(results)


def _batched_grad(
    outputs, wanted, grad_outputs, retain_graph, create_graph, allow_unused, materialize
) -> tuple:
    from nbdl.ops import stack

    roots = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    vectors = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or [])
    if len(vectors) != len(roots) or any(vector is None for vector in vectors):
        raise RuntimeError("grad: is_grads_batched needs one tensor in grad_outputs for every output")
    rows = [
        grad(roots, wanted, [v[i] for v in vectors], True, create_graph, allow_unused, False, materialize)
        for i in range(vectors[0].shape[0])
    ]
    return tuple(None if column[0] is None else stack(column) for column in zip(*rows, strict=True))


def _seeds(caller: str, tensors: Any, given: Any) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs and their gradients, checked."""
    roots = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    if given is None:
        vectors: list[Tensor | None] = [None] * len(roots)
    else:
        vectors = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(vectors) != len(roots):
        raise RuntimeError(
            f"{caller}: got {len(roots)} tensors and {len(vectors)} gradients; one each is needed"
        )
    seeds = []
    for root, vector in zip(roots, vectors, strict=True):
        if not isinstance(root, Tensor):
            raise TypeError(f"{caller}: expected tensors, got {type(root).__name__}")
        if not root.requires_grad:
            raise RuntimeError(
                f"{caller}: element 0 of tensors does not require grad and does not have a grad_fn"
            )
        if vector is None:
            if root.array.size != 1:
                raise RuntimeError(
                    f"{caller}: grad can be implicitly created only for scalar outputs, got shape "
                    f"{tuple(root.shape)}; "
                    "give the gradient"
                )
            vector = root.ones_like()
        elif not isinstance(vector, Tensor):
            raise TypeError(f"{caller}: a gradient must be a tensor or None, got {type(vector).__name__}")
        elif vector.shape != root.shape:
            raise RuntimeError(
                f"{caller}: Mismatch in shape: the gradient has shape {tuple(vector.shape)}, the tensor "
                f"{tuple(root.shape)}"
            )
        seeds.append(vector)
    return roots, seeds


def _key(tensor: Tensor) -> tuple[int, int]:
    """What identifies the value of a tensor on the tape."""
    if tensor.view_of is not None:
        tensor.refresh_edge()
    edge = tensor.edge
    if edge is None:
        return id(tensor), -1
    return (id(edge.node), edge.index) if type(edge) is OutputEdge else (id(edge), 0)


def _run(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    wanted: Sequence[Tensor] | None,
    retain: bool,
    create: bool,
) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """One pass.

    Returns:
        For every leaf reached, or every wanted tensor: the tensor and its gradient, by :func:`_key`.
    """
    targets = None if wanted is None else {_key(tensor): tensor for tensor in wanted}
    useful = None if targets is None else _nodes_towards(roots, targets)
    found: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    arrived: dict[Node, list[Tensor | None]] = {}
    heap: list[tuple[int, Node]] = []
    # What has to be delivered: (edge, gradient) pairs, of the roots first, then of each node in turn.
    deliveries: Iterable[tuple[Any, Tensor | None]] = [
        (_edge_of(root), seed) for root, seed in zip(roots, seeds)
    ]
    rule: Node | None = None  # the node whose gradients are delivered
    previous, mode.grad = mode.grad, create
    try:
        while True:
            for edge, gradient in deliveries:
                if edge is None or gradient is None:
                    continue
                kind = type(edge)
                if kind is Node:
                    node, index = edge, 0
                    spec = node.specs[0]
                elif kind is OutputEdge:
                    node, index = edge.node, edge.index
                    spec = node.specs[index]
                else:  # a leaf
                    array = edge.array
                    if gradient.array.shape != array.shape or gradient.array.dtype is not array.dtype:
                        gradient = _fitted(rule, gradient, array.shape, array.dtype)
                    key = (id(edge), -1)
                    if targets is None or key in targets:
                        old = found.get(key)
                        found[key] = (edge, gradient if old is None else old[1] + gradient)
                    continue
                if useful is not None and node not in useful:
                    continue
                array = gradient.array
                if array.shape != spec[0] or array.dtype is not spec[1]:
                    gradient = _fitted(rule, gradient, *spec)
                slots = arrived.get(node)
                if slots is None:
                    slots = arrived[node] = [None] * len(node.specs)
                    heappush(heap, (-node.time, node))
                old_gradient = slots[index]
                slots[index] = gradient if old_gradient is None else old_gradient + gradient
            if not heap:
                break
            _, node = heappop(heap)
            rule = node
            gradients = arrived.pop(node)
            if node.hooks:
                _call_hooks(node, gradients)
            deliveries = ()
            if targets is not None:
                for index, gradient in enumerate(gradients):
                    target = targets.get((id(node), index))
                    if target is not None and gradient is not None:
                        found[id(node), index] = (target, gradient)
                if not useful[node]:  # type: ignore[index]
                    continue
            deliveries = zip(node.edges, _vjp(node, gradients))
            if not retain:
                node.saved = node.saved_outputs = None if node.saved or node.saved_outputs else ()
        for key, (tensor, gradient) in found.items():
            if tensor.hooks and tensor.edge is None:
                for hook in list(tensor.hooks.values()):
                    replaced = hook(gradient)
                    gradient = gradient if replaced is None else replaced
                found[key] = (tensor, gradient)
    finally:
        mode.grad = previous
    return found


def _edge_of(tensor: Tensor) -> Any:
    if tensor.view_of is not None:
        tensor.refresh_edge()
    return tensor.edge or tensor


def _vjp(node: Node, gradients: list[Tensor | None]) -> Sequence[Tensor | None]:
    if node.saved is None:
        raise freed_error(node)
    if not mode.anomaly:
        return node.primitive.vjp(node, *gradients)
    from nbdl.autograd.anomaly import check_backward

    looking, mode.check_nan = mode.check_nan, False  # the rule's own operations are no lines of the user
    try:
        results = node.primitive.vjp(node, *gradients)
    finally:
        mode.check_nan = looking
    check_backward(node, results)
    return results


def _fitted(rule: Node | None, gradient: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """``gradient`` in the dtype of the value it belongs to; a wrong shape is an error of the rule."""
    if gradient.array.dtype != dtype:
        gradient = gradient.to(dtype)
    if gradient.array.shape != shape:
        raise RuntimeError(
            f"{rule.name if rule else 'the caller'} returned an invalid gradient: got shape "
            f"{tuple(gradient.array.shape)} but "
            f"expected {tuple(shape)}"
        )
    return gradient


def _call_hooks(node: Node, gradients: list[Tensor | None]) -> None:
    for index, hook in list(node.hooks.values()):  # type: ignore[union-attr]
        if gradients[index] is not None:
            replaced = hook(gradients[index])
            if replaced is not None:
                gradients[index] = replaced


def _nodes_towards(roots: Sequence[Tensor], targets: dict[tuple[int, int], Tensor]) -> dict[Node, bool]:
    """The nodes on a path from ``roots`` to a target; the value says whether the path goes on below."""
    reachable: dict[Node, None] = {}
    stack = [_node_of(root.edge) for root in roots]
    while stack:
        node = stack.pop()
        if node is None or node in reachable:
            continue
        reachable[node] = None
        stack.extend(_node_of(edge) for edge in node.edges)
    useful: dict[Node, bool] = {}
    for node in sorted(reachable, key=lambda node: node.time):
        below = any(
            edge is not None
            and (_node_of(edge) in useful if _node_of(edge) is not None else (id(edge), -1) in targets)
            for edge in node.edges
        )
        if below or any((id(node), index) in targets for index in range(len(node.specs))):
            useful[node] = below
    return useful


def _node_of(edge: Any) -> Node | None:
    if type(edge) is Node:
        return edge
    return edge.node if type(edge) is OutputEdge else None


def _accumulate(leaf: Tensor, gradient: Tensor, create: bool, taken: set[int]) -> None:
    """``leaf.grad += gradient``; the first gradient is taken over unless the pass is recorded.

    Args:
        leaf: the tensor.
        gradient: its gradient.
        create: whether the pass is recorded.
        taken: ids of arrays that belong to somebody; an array that several leaves got, or a view, is copied.
    """
    if leaf.grad is None:
        if not create:
            array = gradient.array
            if array.base is not None or id(array) in taken:
                gradient = gradient.detach().clone()
            elif gradient.requires_grad:
                gradient = gradient.detach()
            taken.add(id(array))
        leaf.grad = gradient
    elif create:
        leaf.grad = leaf.grad + gradient
    else:
        with recording(False):
            leaf.grad.add_(gradient)
    if leaf.post_accumulate_hooks:
        for hook in list(leaf.post_accumulate_hooks.values()):
            hook(leaf)


def reset_gradient(leaf: Tensor, set_to_none: bool) -> None:
    """Forget ``leaf.grad``, or fill it with zeros."""
    if leaf.grad is None:
        return
    if set_to_none:
        leaf.grad = None
    else:
        leaf.grad = leaf.grad.detach()
        leaf.grad.zero_()

"""Reverse mode: walk the tape from the outputs to the leaves.

Nodes are visited from the newest to the oldest with a heap, so a node is run when all its gradients have
arrived, and a chain of any length needs no recursion. Rules are written with differentiable operations;
recording them (``create_graph``) is what makes gradients of gradients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from operator import attrgetter
from typing import Any

from nbdl.autograd.edges import GradientEdge, edge_of, inputs_of, key_of, listed, seeds_of
from nbdl.autograd.hooks import replaced
from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import Node, OutputEdge, mark_changed
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry

_time_of = attrgetter("time")

Differentiable = Tensor | GradientEdge


def backward(
    tensors: Differentiable | Sequence[Differentiable],
    grad_tensors: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Differentiable | Sequence[Differentiable] | dict[str, Tensor] | None = None,
) -> None:
    """Accumulate the gradients of ``tensors`` into the ``grad`` of the leaves.

    Args:
        tensors: what to differentiate; tensors, or edges of :func:`nbdl.autograd.graph.get_gradient_edge`.
        grad_tensors: for each of them the gradient of a final scalar by it; None for a scalar.
        retain_graph: keep the saved values for another pass; default: the value of ``create_graph``.
        create_graph: record the pass itself, for higher derivatives.
        inputs: accumulate into these leaves only, which may be the values of a dict; default: all.

    Raises:
        TypeError: of ``inputs`` something is neither a tensor nor an edge.
        RuntimeError: a tensor needs no gradient, is no scalar and has no gradient given, or the graph was
            freed.
    """
    roots, seeds = seeds_of("backward", tensors, grad_tensors)
    retain = create_graph if retain_graph is None else retain_graph
    targets = None
    if inputs is not None:
        targets = {key_of(tensor): tensor for tensor in inputs_of("backward", inputs)}
        if not targets:
            raise RuntimeError("backward: inputs must not be empty")
    gradients = _run(roots, seeds, targets, retain, create_graph)
    if targets is not None:
        gradients = {targets[key]: gradient for key, gradient in gradients.items()}
    _accumulate(gradients, create_graph, {id(seed.array) for seed in seeds})


def grad(
    outputs: Differentiable | Sequence[Differentiable],
    inputs: Differentiable | Sequence[Differentiable] | dict[str, Tensor],
    grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> Any:
    """The gradients of ``outputs`` by ``inputs``, as new tensors.

    Args:
        outputs: what to differentiate; scalars unless ``grad_outputs`` says more.
        inputs: tensors with ``requires_grad``, leaves or not, or edges of
            :func:`nbdl.autograd.graph.get_gradient_edge`; or a dict of tensors.
        grad_outputs: the vector of the vector-Jacobian product, one per output.
        retain_graph: keep the saved values for another pass; default: the value of ``create_graph``.
        create_graph: record the pass itself, for higher derivatives.
        allow_unused: give None for an input that the outputs do not depend on, instead of an error.
        is_grads_batched: the first axis of each ``grad_outputs`` counts several vectors; the results are
            stacked.
        materialize_grads: give zeros instead of None.

    Returns:
        A tuple of tensors; a dict with the same keys where ``inputs`` is one.

    Raises:
        TypeError: of ``inputs`` something is neither a tensor nor an edge.
        ValueError: ``materialize_grads`` and ``allow_unused=False`` contradict each other.
        RuntimeError: as :func:`backward`, or an input is unused.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([1.0, 2.0], requires_grad=True)
        >>> nbdl.autograd.grad((x ** 3).sum(), x)
        (tensor([ 3., 12.]),)
    """
    if materialize_grads and allow_unused is False:
        raise ValueError("grad: expected allow_unused to be True or not passed when materialize_grads=True")
    if type(inputs) is dict:
        in_order = grad(
            outputs, list(inputs.values()), grad_outputs, retain_graph, create_graph, allow_unused,
            is_grads_batched, materialize_grads,
        )  # fmt: skip
        return dict(zip(inputs, in_order, strict=True))
    wanted = inputs_of("grad", inputs)
    if is_grads_batched:
        return _batched_grad(
            outputs, wanted, grad_outputs, retain_graph, create_graph, allow_unused, materialize_grads
        )
    roots, seeds = seeds_of("grad", outputs, grad_outputs)
    retain = create_graph if retain_graph is None else retain_graph
    gradients = _run(roots, seeds, {key_of(tensor): tensor for tensor in wanted}, retain, create_graph)
    results: list[Tensor | None] = []
    for k, tensor in enumerate(wanted):
        found = gradients.get(key_of(tensor))
        if found is not None:
            results.append(found)
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
    from nbdl.autograd.batching import Batch, batch_level, lifted

    roots = listed(outputs)
    vectors = [grad_outputs] if isinstance(grad_outputs, Tensor) else list(grad_outputs or [])
    if len(vectors) != len(roots) or any(vector is None for vector in vectors):
        raise RuntimeError("grad: is_grads_batched needs one tensor in grad_outputs for every output")
    retain = create_graph if retain_graph is None else retain_graph
    with batch_level(vectors[0].shape[0], "error") as level:
        seeds = [Batch(level, vector, True).tensor() for vector in vectors]
        found = grad(roots, wanted, seeds, retain, create_graph, allow_unused, False, materialize)
        batches = [None if gradient is None else lifted(gradient, level).batch for gradient in found]
    return tuple([None if batch is None else batch.full() for batch in batches])


def _run(
    roots: Sequence[Tensor],
    seeds: Sequence[Tensor],
    targets: dict[Any, Tensor] | None,
    retain: bool,
    create: bool,
) -> dict[Any, Tensor]:
    """One pass.

    Args:
        roots: what is differentiated.
        seeds: their gradients.
        targets: by :func:`_key`, the tensors whose gradients are wanted; None: all leaves.
        retain: keep what the nodes saved.
        create: record the pass.

    Returns:
        The gradients of the targets or leaves that were reached, by :func:`_key`.
    """
    useful = None if targets is None else _nodes_towards(roots, targets)
    found: dict[Any, Tensor] = {}
    arrived: dict[Node, list[Tensor | None]] = {}
    heap: list[tuple[int, Node]] = []
    # What has to be delivered: (edge, gradient) pairs, of the roots first, then of each node in turn.
    deliveries: Iterable[tuple[Any, Tensor | None]] = [
        (edge_of(root), seed) for root, seed in zip(roots, seeds)
    ]
    rule: Node | None = None  # the node whose gradients are delivered
    modes = mode.__dict__
    previous, mode.grad = mode.grad, create
    casts, mode.autocast = mode.autocast, None
    endings, mode.endings = mode.endings, {}
    try:
        while True:
            for edge, gradient in deliveries:
                if gradient is None or edge is None:
                    continue
                array = gradient.array
                kind = type(edge)
                if kind is Node:
                    node, index = edge, 0
                elif kind is OutputEdge:
                    node, index = edge.node, edge.index
                else:  # a leaf
                    value = edge.array
                    if array.shape != value.shape or array.dtype != value.dtype:
                        gradient = _fitted(rule, gradient, value.shape, value.dtype)
                    if targets is None or edge in targets:
                        old = found.get(edge)
                        found[edge] = gradient if old is None else old + gradient
                    continue
                if useful is not None and node not in useful:
                    continue
                if (array.shape, array.dtype) != node.specs[index]:
                    gradient = _fitted(rule, gradient, *node.specs[index])
                slots = arrived.get(node)
                if slots is None:
                    slots = arrived[node] = [None] * len(node.specs)
                    heappush(heap, (-node.time, node))
                old = slots[index]
                slots[index] = gradient if old is None else old + gradient
            if not heap:
                break
            _, node = heappop(heap)
            rule = node
            gradients = arrived.pop(node)
            if node.hooks:
                node.hooks.before(gradients)
            deliveries = ()
            if targets is not None:
                for index, gradient in enumerate(gradients):
                    if gradient is not None and (node, index) in targets:
                        found[node, index] = gradient
                if not useful[node]:  # type: ignore[index]
                    continue
            if node.saved is None:
                node.restore()
            if modes["anomaly"]:
                results = _checked_vjp(node, gradients)
            else:
                results = node.primitive.vjp(node, *gradients)
            if node.hooks:
                results = node.hooks.after(results, gradients)
            deliveries = zip(node.edges, results)
            if not retain:
                node.saved = node.saved_outputs = None if node.saved or node.saved_outputs else ()
        for key, gradient in found.items():
            if type(key) is not tuple and key.hooks:
                found[key] = _hooked(key, gradient)
        for hook, seen in mode.endings.items():
            hook(seen)
    finally:
        mode.grad, mode.autocast, mode.endings = previous, casts, endings
    return found


def _hooked(leaf: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a leaf after its hooks."""
    for hook in list(leaf.hooks.values()):  # type: ignore[union-attr]
        gradient = replaced(hook, gradient)
    return gradient


def _checked_vjp(node: Node, gradients: list[Tensor | None]) -> Sequence[Tensor | None]:
    """The rule of ``node``, its results searched for NaN."""
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
            f"{rule.name() if rule else 'the caller'} returned an invalid gradient: got shape "
            f"{tuple(gradient.array.shape)} but "
            f"expected {tuple(shape)}"
        )
    return gradient


def _nodes_towards(roots: Sequence[Tensor], targets: dict[Any, Tensor]) -> dict[Node, bool]:
    """The nodes on a path from ``roots`` to a target; the value says whether the path goes on below."""
    reachable: set[Node] = set()
    stack = [root.edge for root in roots]
    while stack:
        edge = stack.pop()
        node = edge.node if type(edge) is OutputEdge else edge
        if type(node) is Node and node not in reachable:
            reachable.add(node)
            stack.extend(node.edges)
    inner = {key[0] for key in targets if type(key) is tuple}
    useful: dict[Node, bool] = {}
    for node in sorted(reachable, key=_time_of):
        below = False
        for edge in node.edges:
            kind = type(edge)
            if kind is Node:
                below = edge in useful
            elif kind is OutputEdge:
                below = edge.node in useful
            elif edge is not None:
                below = edge in targets
            if below:
                break
        if below or node in inner:
            useful[node] = below
    return useful


def _accumulate(gradients: dict[Tensor, Tensor], create: bool, taken: set[int]) -> None:
    """``leaf.grad += gradient``; the first gradient is taken over unless the pass is recorded.

    Args:
        gradients: by leaf.
        create: whether the pass is recorded.
        taken: ids of arrays that belong to somebody; an array that several leaves got, or a view, is copied.
    """
    recorder = mode.recorder
    sums: list[tuple[Tensor, Tensor]] = []
    for leaf, gradient in gradients.items():
        if recorder is not None:
            recorder.uses_gradient(leaf, resets=False)
        if leaf._grad is not None:
            if create:
                leaf.grad = leaf.grad + gradient
            else:
                sums.append((leaf.grad, gradient))
            continue
        if not create:
            array = gradient.array
            if id(array) in taken or (array.base is not None and _is_view(array)):
                gradient = gradient.detach().clone()
            elif gradient.requires_grad:
                gradient = gradient.detach()
            taken.add(id(array))
        leaf._grad = gradient
    if sums:
        _add_in_place(sums)
    for leaf in gradients:
        if leaf.post_accumulate_hooks:
            for hook in list(leaf.post_accumulate_hooks.values()):
                hook(leaf)


def _is_view(array: Any) -> bool:
    """Whether its memory is another array's; that of a memory pool belongs to an object that is no array."""
    base = array.base
    while base is not None:
        if isinstance(base, type(array)):
            return True
        base = getattr(base, "base", None)
    return False


def _add_in_place(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """``x += y`` for all pairs, in one call where the arrays are plain."""
    from nbdl.ops.arithmetic import formula_of
    from nbdl.ops.pointwise import Pointwise

    plain = [
        (x, y)
        for x, y in pairs
        if x.array.dtype == y.array.dtype and x.array.shape == y.array.shape and _is_plain(x.array)
    ]
    if len(plain) < len(pairs) or mode.dual_level:
        with recording(False):
            for x, y in pairs:
                x.add_(y)
        return
    backend = mode.backend or registry.cpu or registry.select()
    backend.overwrite(Pointwise.of(formula_of("add")), [[x.array, y.array] for x, y in plain], (0,))
    mark_changed([x for x, _ in plain])


def _is_plain(array: Any) -> bool:
    """Whether ``array`` may be written to, and every element has a place of its own."""
    flags = array.flags
    return flags.c_contiguous and getattr(flags, "writeable", True)


def reset_gradient(leaf: Tensor, set_to_none: bool) -> None:
    """Forget ``leaf.grad``, or fill it with zeros."""
    if mode.recorder is not None:
        mode.recorder.uses_gradient(leaf, resets=set_to_none)
    if leaf._grad is None:
        return
    if set_to_none:
        leaf._grad = None
    else:
        leaf.grad = leaf.grad.detach()
        leaf.grad.zero_()

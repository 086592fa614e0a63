"""Operations in place: the memory of a tensor changes, and its history with it.

The tensor gets the node of the operation as its edge, as if a new tensor had taken its name. If it is a
view, its base gets a new edge too (the base with the window replaced), and other views of the base are
connected anew when they are next used (:meth:`Tensor.refresh_edge`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd.batching import write_into
from nbdl.autograd.modes import mode
from nbdl.autograd.tape import OutputEdge, Storage, apply, is_connected, mark_changed, wrap
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive, View


_MAX_VERIFIED = 64
_OVERWRITTEN = (0,)  # the key of plans whose output is the first operand


def apply_in_place(primitive: Primitive, x: Tensor, *others: Tensor, any_cast: bool = False) -> Tensor:
    """Run ``primitive(x, *others)`` with ``x`` as its output.

    Args:
        primitive: one output of the shape of ``x``.
        x: operand 0, overwritten.
        others: the other operands.
        any_cast: let the result lose its fraction (assignment).

    Raises:
        RuntimeError: ``x`` is a leaf that requires grad, an inference tensor, has overlapping elements, or
            the result does not fit.
    """
    label = f"{primitive.label}_"
    modes = mode.__dict__
    recorded = modes["grad"] and (x.requires_grad or _any_requires_grad((x, *others)))
    check_target(label, x)
    arrays = [x.array]
    for other in others:
        arrays.append(other.array)
    table = primitive.plans.get(_OVERWRITTEN)
    plan = None if table is None else table.find(*arrays, x.array)
    if plan is None or primitive.verified.get(id(plan)) is not plan:
        primitive.check(*arrays)
        _check_result(label, primitive, arrays, any_cast)
    if modes["dual_level"]:
        return _with_tangents(primitive, x, others)
    for other in others:
        if _shares_memory(x, other):
            others = tuple(frozen(other) if _shares_memory(x, other) else other for other in others)
            arrays[1:] = [other.array for other in others]
            break
    if recorded:
        before = twin(x)
        if 0 in (primitive.saves(_needs((before, *others)))[0] or ()):
            before = frozen(x)
    _protect_saved(x)
    backend = modes["backend"] or registry.cpu or registry.select()
    backend.execute(primitive, arrays, out=x.array)
    mark_changed((x,))
    if plan is None:
        _remember(primitive, arrays)
    if recorded:
        after = wrap(primitive, (before, *others), x.array)
        node = after.edge
        if (
            node is not None and node.saved_outputs is not None
        ):  # the next operation in place may overwrite it
            node.saved_outputs, node.output_storage = (copied(x.array),), None
        rebase(x, after)
    return x


def copied(array: Any) -> Any:
    """The array in fresh memory; by the backend, so that a recorder sees it."""
    from nbdl.ops.copying import COPY

    backend = mode.backend or registry.cpu or registry.select()
    return backend.execute(COPY, [array])


def _remember(primitive: Primitive, arrays: Sequence[Any]) -> None:
    """Note that operands like these have passed the checks: the plan that was made for them says so."""
    table = primitive.plans.get(_OVERWRITTEN)
    plan = None if table is None else table.find(*arrays, arrays[0])
    if hasattr(plan, "block"):
        if len(primitive.verified) >= _MAX_VERIFIED:
            primitive.verified.clear()
        primitive.verified[id(plan)] = plan


def _protect_saved(x: Tensor) -> None:
    """Copy what the node of ``x`` saved of it, if it is one that protects its outputs."""
    owner = x if x.view_of is None else x.view_of[0]
    edge = owner.edge
    node, k = (edge.node, edge.index) if isinstance(edge, OutputEdge) else (edge, 0)
    if node is None or not node.primitive.protects_output:
        return
    storages = node.output_storage
    if node.saved_outputs is None or storages is None or storages[k].changed > (node.restored or node.time):
        return
    own = copied(node.saved_outputs[k])
    node.saved_outputs = (*node.saved_outputs[:k], own, *node.saved_outputs[k + 1 :])
    node.output_storage = (*storages[:k], Storage(), *storages[k + 1 :])


def _with_tangents(primitive: Primitive, x: Tensor, others: Sequence[Tensor]) -> Tensor:
    """In place in forward mode: rules read operands, so the result is made elsewhere and written back."""
    others = [other.clone() if _shares_memory(x, other) else other for other in others]
    after = apply(primitive, x.clone(), *others).to(x.dtype)
    if x.batch is not None or after.batch is not None:
        write_into(x, after, f"{primitive.label}_")
    else:
        from nbdl.ops.copying import COPY

        backend = mode.backend or registry.cpu or registry.select()
        backend.execute(COPY, [after.array], out=x.array)
    x.mark_changed()
    rebase(x, after)
    return x


def _any_requires_grad(tensors: Sequence[Tensor]) -> bool:
    return any(x.requires_grad or (x.view_of is not None and is_connected(x)) for x in tensors)


def _needs(tensors: Sequence[Tensor]) -> int:
    return sum(1 << k for k, tensor in enumerate(tensors) if tensor.requires_grad)


def twin(x: Tensor) -> Tensor:
    """``x`` as it is now: what the new node has as its operand."""
    if x.view_of is not None:
        x.refresh_edge()
    same = Tensor(x.array)
    same.requires_grad, same.edge, same.dual, same.batch = x.requires_grad, x.edge, x.dual, x.batch
    return same


def _shares_memory(x: Tensor, other: Tensor) -> bool:
    """Whether writing to ``x`` may change ``other``."""
    if other is x:
        return True
    known = other.view_of is not None or other.storage is not None
    return known and other.shared_storage() is x.shared_storage()


def frozen(x: Tensor) -> Tensor:
    """:func:`twin` with memory of its own."""
    copy = twin(x)
    copy.array = copied(x.array)
    return copy


def check_target(label: str, x: Tensor) -> None:
    """Raise unless ``x`` may be changed in place."""
    if mode.grad and x.requires_grad:
        owner = x if x.view_of is None else x.view_of[0]
        if x.edge is None or (owner.edge is None and owner.requires_grad):
            kind = "a view of a leaf Variable" if x.view_of is not None else "a leaf Variable"
            raise RuntimeError(f"{label}: {kind} that requires grad is being used in an in-place operation.")
    if x._inference and not mode.inference:
        raise RuntimeError(
            f"{label}: inplace update to inference tensor outside inference_mode is not allowed"
        )
    array = x.array
    if not getattr(array.flags, "writeable", True):
        raise RuntimeError(f"{label}: the tensor of shape {tuple(array.shape)} is read-only")
    if array.size and any(
        stride == 0 and n > 1 for n, stride in zip(array.shape, array.strides, strict=True)
    ):
        raise RuntimeError(
            f"{label}: unsupported operation: more than one element of the written-to tensor refers to "
            "a single memory "
            "location. Please clone() the tensor before performing the operation."
        )


def _check_result(label: str, primitive: Primitive, arrays: Sequence[Any], any_cast: bool) -> None:
    import numpy as np

    x = arrays[0]
    shapes = {array.shape for array in arrays} if primitive.name == "pointwise" else {x.shape}
    shape = x.shape if shapes == {x.shape} else np.broadcast_shapes(*shapes)
    if shape != x.shape:
        raise RuntimeError(
            f"{label}: output with shape {list(x.shape)} doesn't match the broadcast shape {list(shape)}"
        )
    formula = primitive.params.get("formula")
    if formula is not None and not any_cast:
        result = dtypes.arithmetic(
            formula, tuple([a.dtype for a in arrays]), dtypes.priorities(arrays, primitive.params["weak"])
        )[2][0]
        if dtypes.category(result) > dtypes.category(x.dtype):
            raise RuntimeError(
                f"{label}: result type {result} can't be cast to the desired output type {x.dtype}"
            )


def rebase(x: Tensor, after: Tensor) -> None:
    """Give ``x`` the history of ``after``; if it is a view, its base one in which the window is replaced."""
    if x.view_of is not None:
        base, views = x.view_of
        if after.requires_grad or base.requires_grad or after.dual or base.dual:
            from nbdl.ops.copying import ViewUpdate

            _take_history(base, wrap(ViewUpdate.of(views), (twin(base), after), base.array))
        x.view_time = x.shared_storage().changed
    _take_history(x, after)


def _take_history(x: Tensor, after: Tensor) -> None:
    if after.requires_grad:  # else nothing was recorded: what x was made of still holds, in no_grad mode too
        x.edge, x.requires_grad = after.edge, True
    x.dual = after.dual


def rebuilt_view(base: Tensor, views: Sequence[View]) -> Tensor:
    """A view of ``base`` as it is now."""
    tensor = base if base.edge is None else twin(base)  # the edge of a leaf is the leaf itself
    previous, mode.grad = mode.grad, True
    try:
        for primitive in views:
            tensor = wrap(primitive, (tensor,), primitive.view(tensor.array))
    finally:
        mode.grad = previous
    return tensor

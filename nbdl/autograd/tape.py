"""The tape: what is remembered of an operation, and the one function that runs and records operations.

The engine knows no rule. A :class:`~nbdl.ops.primitive.Primitive` brings its own ``vjp`` and ``jvp``; a
:class:`Node` remembers which primitive ran, where its operands came from, and the values the rule will read.

Every tensor points to the node that made it (its *edge*), every node to the edges of its operands, and
nothing points forward: the graph is freed by reference counts alone.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbdl.autograd import modes as modes_module
from nbdl.autograd.duals import carry_tangents, may_carry
from nbdl.autograd.modes import mode
from nbdl.autograd.nodes import GraphNode
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive

# One clock for nodes and in-place changes: a saved value is stale if its storage changed after the node.
clock = itertools.count(1)
_new = object.__new__


class Storage:
    """What tensors that share memory have in common: when, and how often, it was changed in place.

    Attributes:
        changed: time of the last change, on the clock.
        version: number of changes.
    """

    changed: int = 0
    version: int = 0


class Node(GraphNode):
    """One recorded operation.

    Attributes:
        primitive: what was done.
        edges: for each operand the node that made it, an :class:`OutputEdge`, the tensor itself if it is a
            leaf, or None if it needs no gradient.
        needs: bit k is set where operand k needs a gradient.
        saved: the operands, None where the rule reads only their shape; None for all once freed.
        saved_outputs: arrays of the outputs if the rule reads them.
        carrying: weak references to the outputs where they carry tangents (with others the node would keep
            itself); who reads an output that is gone computes all of them again, of a node of their own.
        specs: (shape, dtype) of every output.
        time: when it was recorded; operands are always older.
        refill: computes the saved values of a checkpoint again.
        restored: when that was done.
    """

    # Class attributes are the defaults: recording sets only what differs.
    primitive: Primitive
    edges: list
    needs: int
    saved: tuple | None
    specs: tuple
    time: int
    saved_outputs: tuple | None = None
    output_storage: tuple | None = None
    carrying: tuple | None = None
    origin: str | None = None
    refill: Callable[[], None] | None = None
    restored: int = 0

    # ------------------------------------------------------------------------------- what rules ask for
    def restore(self) -> tuple:
        """The saved operands, after a checkpoint has computed all saved values again.

        Raises:
            RuntimeError: there is none: a backward pass has freed them.
        """
        if self.refill is None:
            raise freed_error(self)
        self.refill()
        assert self.saved is not None
        return self.saved

    def needs_grad(self, k: int) -> bool:
        """Whether operand k needs a gradient."""
        return bool(self.needs >> k & 1)

    def input(self, k: int) -> Tensor:
        """Operand k as it was.

        Raises:
            RuntimeError: the graph was freed, or the operand was changed in place since.
        """
        saved = self.restore() if self.saved is None else self.saved
        tensor = saved[k]
        storage = tensor.storage
        if storage is None and tensor.view_of is not None:
            storage = tensor.view_of[0].storage
        if storage is not None and storage.changed > (self.restored or self.time):
            raise _changed_error(self, tensor.array, storage)
        return tensor

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """All operands; every one must have been saved."""
        saved = self.restore() if self.saved is None else self.saved
        return tuple(self.input(k) for k in range(len(saved)))

    def output(self, k: int = 0) -> Tensor:
        """Output k, connected to the tape.

        Raises:
            RuntimeError: the graph was freed, or the output was changed in place since.
        """
        if self.saved is None:
            self.restore()
        if self.saved_outputs is None:  # operands carry tangents, and so must the outputs
            kept = self.carrying[k]() if self.carrying else None
            if kept is not None and (kept.storage is None or kept.storage.changed <= self.time):
                return kept
            result = self.primitive(*self.inputs)
            results = result if isinstance(result, tuple) else (result,)
            self.carrying = tuple([lambda x=x: x for x in results])
            return results[k]
        array = self.saved_outputs[k]
        if self.output_storage is not None and self.output_storage[k].changed > (self.restored or self.time):
            raise _changed_error(self, array, self.output_storage[k])
        return _connected(self, k, array) if mode.grad else _plain(array)

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """All outputs, connected to the tape."""
        return tuple([self.output(k) for k in range(len(self.specs))])

    def shape(self, k: int) -> tuple[int, ...]:
        """Shape of operand k, which must need a gradient."""
        return edge_spec(self.edges[k])[0]

    def dtype(self, k: int) -> Any:
        """Dtype of operand k, which must need a gradient."""
        return edge_spec(self.edges[k])[1]


class OutputEdge:
    """One output of a node with several."""

    __slots__ = ("index", "node")

    def __init__(self, node: Node, index: int):
        self.node, self.index = node, index


def edge_spec(edge: Any) -> tuple[tuple[int, ...], Any]:
    """(shape, dtype) of the value at an edge."""
    if type(edge) is Node:
        return edge.specs[0]
    if type(edge) is OutputEdge:
        return edge.node.specs[edge.index]
    return edge.array.shape, edge.array.dtype


def mark_changed(tensors: Sequence[Tensor]) -> None:
    """Note that the memory of ``tensors`` was changed in place: values saved before are stale."""
    time, recorder = next(clock), mode.recorder
    for tensor in tensors:
        storage = tensor.storage or tensor.shared_storage()
        storage.changed = time
        storage.version += 1
        if recorder is not None:
            recorder.changed(storage)


def apply(primitive: Primitive, *inputs: Tensor) -> Any:
    """Run ``primitive`` on tensors and record it if an operand needs a gradient.

    Returns:
        A tensor, or a tuple of tensors where the primitive has several outputs.
    """
    modes = mode.__dict__  # one look at the thread's state
    if modes["autocast"] is not None:
        return modes["autocast"].apply(primitive, inputs)
    backend = modes["backend"] or registry.cpu or registry.select()
    if modes["inference"] or modes["dual_level"] or modes["anomaly"]:
        if modes["batch_levels"] and (level := level_of(inputs)) is not None:
            return apply_batched(primitive, inputs, level)
        return wrap(primitive, inputs, backend.execute(primitive, [tensor.array for tensor in inputs]))
    arrays = []
    for tensor in inputs:
        arrays.append(tensor.array)
    result = backend.execute(primitive, arrays)
    if modes["grad"] and primitive.differentiable:
        for tensor in inputs:  # the base first: most views have one that needs no gradient
            if tensor.requires_grad or (
                (view := tensor.view_of) and view[0].requires_grad and is_connected(tensor)
            ):
                return _record(primitive, inputs, result)
    if type(result) is tuple:
        several = []
        for array in result:
            out = _new(Tensor)  # cheaper than its constructor
            out.array = array
            several.append(out)
        return tuple(several)
    out = _new(Tensor)
    out.array = result
    return out


def wrap(primitive: Primitive, inputs: Sequence[Tensor], result: Any) -> Any:
    """What ``primitive`` made of ``inputs``, arrays or batches, as tensors, recorded where it is needed."""
    modes = mode.__dict__
    if modes["batch_levels"]:
        if type(result) is Batch:
            return wrap(primitive, inputs, (result,))[0]
        if type(result) is tuple and type(result[0]) is Batch:
            inputs = [lifted(tensor, result[0].level) for tensor in inputs]
    out = None
    if modes["grad"] and primitive.differentiable:
        for tensor in inputs:
            if tensor.requires_grad or (
                (view := tensor.view_of) and view[0].requires_grad and is_connected(tensor)
            ):
                out = _record(primitive, inputs, result)
                break
    if out is None:
        out = _plain(result)
    if modes["dual_level"] and primitive.differentiable and any(map(may_carry, inputs)):
        carried = carry_tangents(primitive, inputs, out)
        first = out[0] if type(out) is tuple else out
        if carried is not out and (edge := first.edge) is not None:
            node = edge if type(edge) is Node else edge.node
            node.carrying = tuple(map(weakref.ref, carried if type(carried) is tuple else (carried,)))
        return carried
    if modes["anomaly"]:
        _check_finite(primitive, out)
    return out


def is_connected(view: Tensor) -> bool:
    """Whether a view requires grad, or does since its base, changed in place, has come to require it."""
    if not view.requires_grad and view.view_of[0].requires_grad:  # type: ignore[index]
        view.refresh_edge()
    return view.requires_grad


def _plain(result: Any) -> Any:
    if type(result) is tuple:
        return tuple([_plain(array) for array in result])
    if type(result) is Batch:
        return result.tensor()
    tensor = _new(Tensor)
    tensor.array = result
    if mode.inference:
        tensor._inference = True
    return tensor


def _record(primitive: Primitive, inputs: Sequence[Tensor], result: Any) -> Any:
    needs, bit = 0, 1
    edges: list[Node | OutputEdge | Tensor | None] = []
    for tensor in inputs:
        if tensor.requires_grad or (tensor.view_of is not None and is_connected(tensor)):
            needs |= bit
            if tensor.view_of is not None:
                tensor.refresh_edge()
            edges.append(tensor.edge or tensor)
        else:
            edges.append(None)
        bit += bit
    modes = mode.__dict__
    node = _new(Node)
    node.primitive = primitive
    node.edges = edges
    node.needs = needs
    node.time = next(clock)
    saved_inputs, saves_output = primitive.saves(needs)
    if modes["dual_level"] and any(tensor.dual is not None for tensor in inputs):
        # A rule that reads outputs computes them again, tangents and all: see Node.outputs.
        node.saved, saves_output = tuple(inputs), False
    elif saved_inputs is None:
        node.saved = ()
    elif len(saved_inputs) >= len(inputs):
        node.saved = tuple(inputs)
    else:
        node.saved = tuple([tensor if k in saved_inputs else None for k, tensor in enumerate(inputs)])
    if modes_module.inference_was_used:
        _refuse_inference_tensors(primitive, node.saved)
    if type(result) is tuple:
        node.specs = tuple([(array.shape, array.dtype) for array in result])
        outputs: Any = tuple([_connected(node, k, array) for k, array in enumerate(result)])
        if saves_output:
            node.saved_outputs = result
            storages = []
            for tensor in outputs:
                tensor.storage = storage = _new(Storage)
                storages.append(storage)
            node.output_storage = tuple(storages)
    else:
        node.specs = ((result.shape, result.dtype),)
        outputs = tensor = _new(Tensor)
        tensor.array = result
        tensor.requires_grad = True
        tensor.edge = node
        if saves_output:
            node.saved_outputs = (result,)
            tensor.storage = storage = _new(Storage)
            node.output_storage = (storage,)
    if modes["packing"] and not (modes["recorder"] or modes["dual_level"]):
        from nbdl.autograd.graph import pack_saved

        pack_saved(node)
    if modes["anomaly"]:
        from nbdl.autograd.anomaly import user_line

        node.origin = user_line()
    return outputs


def _refuse_inference_tensors(primitive: Primitive, saved: Sequence[Tensor | None]) -> None:
    for tensor in saved:
        if tensor is not None and tensor._inference:
            raise RuntimeError(
                f"{primitive.label}: an inference tensor cannot be saved for backward; make a normal "
                "tensor of it with clone() outside inference_mode"
            )


def _connected(node: Node, k: int, array: Any) -> Tensor:
    """Output k of ``node`` as a tensor."""
    tensor = _new(Tensor)
    if type(array) is Batch:
        tensor.batch, array = array, array.array
    tensor.array = array
    if node.primitive.is_differentiable_output(k):
        tensor.requires_grad = True
        tensor.edge = node if len(node.specs) == 1 else OutputEdge(node, k)
    return tensor


# ----------------------------------------------------------------------------------------------------- errors
def freed_error(node: Node) -> RuntimeError:
    """The error for a second backward pass."""
    return RuntimeError(
        f"Trying to backward through the graph a second time ({node.name()}): its saved values were freed "
        "by the first pass. Specify retain_graph=True the first time if you need to go through it again."
    )


def _changed_error(node: Node, array: Any, storage: Storage) -> RuntimeError:
    origin = f" It was recorded at {node.origin}." if node.origin else ""
    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"{node.name()} saved a tensor of shape {tuple(array.shape)}, which is at version {storage.version} "
        f"now.{origin} Use the out-of-place form of the operation, or clone() before it."
    )


def _check_finite(primitive: Primitive, out: Any) -> None:
    from nbdl.autograd.anomaly import check_forward

    check_forward(primitive, out)


from nbdl.autograd.batching import Batch, apply_batched, level_of, lifted  # noqa: E402  (both need each other)

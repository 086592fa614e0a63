"""Results with a history: the backward pass of a recorded function, as a program of its own.

After the function, and still under a recorder, the engine differentiates its results. What that pass reads of
what the function computed becomes a result of the first program and an argument of the second. On the tape a
call is one node: its operands are the leaves, and beside them all that the backward program reads, so that
changes in place are noticed, and memory is freed, as with any other operation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbdl.autograd import engine
from nbdl.autograd.function import guarded
from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tape import Node, OutputEdge, wrap
from nbdl.autograd.tensor import Tensor
from nbdl.compiler.addresses import owner_of
from nbdl.compiler.arguments import Arguments
from nbdl.compiler.passes import improve
from nbdl.compiler.program import INPUT, Program
from nbdl.compiler.recorder import Recorder, RecordingError, note_changes
from nbdl.compiler.replay import Replay
from nbdl.ops.primitive import Primitive

_TWICE = (
    "compile: the gradients of a compiled function cannot be differentiated again (create_graph=True): its "
    "program has one backward pass. Compile the function that takes both derivatives, or call this one "
    "without compile."
)


def record_backward(
    recorder: Recorder, results: Sequence[Tensor], arguments: Arguments, without: Sequence[str]
) -> BackwardProgram | None:
    """The backward pass from the results that need gradients; None if none does.

    Args:
        recorder: of the function that has just returned.
        results: its results, with their history.
        arguments: of the call.
        without: names of passes to leave out.
    """
    smooth = [k for k, y in enumerate(results) if _can_go_back(y) or arguments.twin_number(y) is not None]
    if not smooth:
        return None
    recorder.compute()  # the backward pass has a program of its own, and reads values of this one
    return BackwardProgram(recorder, results, smooth, arguments, without)


class BackwardProgram(Primitive):
    """A call of a program as an operation of the tape, with the program of its backward pass.

    The operands are the leaves, then the arguments and residuals that the backward program is given, then
    the tensors from outside that it reads where they are.

    Args:
        recorder: of the function.
        results: what it returned, with history.
        smooth: which of them need gradients.
        arguments: of the call.
        without: names of passes to leave out.

    Attributes:
        residuals: arrays that the function computed and the backward program reads.
    """

    name = "compiled"

    def __init__(
        self,
        recorder: Recorder,
        results: Sequence[Tensor],
        smooth: Sequence[int],
        arguments: Arguments,
        without: Sequence[str],
    ):
        super().__init__()
        self._smooth, self._result_count, self._backend = smooth, len(results), recorder.backend
        roots = [results[k] for k in smooth]
        leaves, saved = _history(roots)
        seeds = [root.new_ones(root.shape) for root in roots]
        inner = Recorder(self._backend, [*[seed.array for seed in seeds], *arguments.arrays])
        with inner:
            gradients = _gradients(roots, leaves, seeds)
        reached = [k for k, gradient in enumerate(gradients) if gradient is not None]
        program = inner.program([gradients[k].array for k in reached], recorder)  # type: ignore[union-attr]
        improved = improve(program, without)
        operands = [window for operation in improved.operations for window in operation.inputs]
        read = dict.fromkeys(window.buffer for window in (*operands, *improved.outputs))
        # Of the inputs (seeds, arguments, residuals) the backward program is given those that it reads.
        given = [k for k, buffer in enumerate(program.inputs) if buffer in read]
        first, behind = len(seeds), len(seeds) + len(arguments.arrays)
        self._seeds = [k for k in given if k < first]
        self._arguments = [k - first for k in given if first <= k < behind]
        self.residuals: list[Any] = [program.inputs[k].array for k in given if k >= behind]
        self._residual_count = len(self.residuals)
        self._program = Program(improved.operations, [program.inputs[k] for k in given], improved.outputs)
        outside = {id(buffer.array) for buffer in read if buffer.kind != INPUT and buffer.array is not None}
        known = {id(x): x for x in (*leaves, *saved)}
        self._watched = [x.detach() for x in known.values() if id(owner_of(x.array)) in outside]
        self._twins = [arguments.twin_number(leaves[k]) for k in reached]
        self._leaves = [
            leaves[k].detach() if twin is not None else leaves[k]
            for k, twin in zip(reached, self._twins, strict=True)
        ]
        self._refreshers, self._storages = inner.refreshers, list(inner.storages.values())
        self._recording = inner, program

    def forget_the_run(self) -> None:
        """Forget what the function made itself; its results have no history any more.

        Raises:
            RecordingError: somebody keeps a tensor that the backward pass computed.
        """
        for k in range(len(self._leaves)):
            if sys.getrefcount(self._leaves[k]) <= 2:  # the references of the list and of the call
                self._leaves[k] = self._leaves[k].detach()
        recorder, program = self._recording
        del self._recording
        if recorder.escaped(program):
            raise RecordingError(
                "compile: the backward pass from a result keeps a tensor that it computed, say in a hook "
                "inside the function. A program would leave it as it is now; register the hook outside."
            )

    def finish(self, program: Program) -> None:
        """Get ready for calls.

        Args:
            program: of the function; its results, then the residuals.
        """
        buffers = [window.buffer for window in program.outputs]
        self._aliases = [(buffers.index(buffer), k) for k, buffer in enumerate(buffers)]
        self._replay = Replay(self._program, self._backend)
        del self._program
        self.residuals = []

    def connect(self, arguments: Arguments, arrays: Sequence[Any]) -> list[Tensor]:
        """The results of a call as tensors with a history.

        Args:
            arguments: of the call.
            arrays: the results and residuals.
        """
        tensors = [Tensor(array) for array in arrays]
        residuals = tensors[self._result_count :]
        leaves = [
            leaf if twin is None else arguments.connected[twin]
            for leaf, twin in zip(self._leaves, self._twins, strict=True)
        ]
        given = [arguments.tensors[k].detach() for k in self._arguments]
        with recording(True):
            operands = [*leaves, *given, *residuals, *self._watched]
            made = wrap(self, operands, tuple([arrays[k] for k in self._smooth]))
        for k, tensor in zip(self._smooth, made, strict=True):
            tensors[k] = tensor
        for original, k in self._aliases:
            if original != k:  # what shares memory is stale together
                tensors[k].storage = tensors[original].shared_storage()
        return tensors[: self._result_count]

    def saves(self, needs: int) -> tuple[frozenset[int] | None, bool]:
        """All operands that the backward program reads."""
        first = len(self._leaves)
        count = len(self._arguments) + self._residual_count + len(self._watched)
        return frozenset(range(first, first + count)) or None, False

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """Run the backward program.

        Raises:
            RuntimeError: an operand was changed in place since, or a transform wants to see the operations.
        """
        if mode.recorder is not None:
            mode.recorder.refuse("the result of another compiled function", "call that one inside, too")
        if mode.dual_level:
            raise RuntimeError(
                "compile: the backward pass of a compiled function can neither be batched (is_grads_batched) "
                "nor differentiated in forward mode; call the function inside the transform, uncompiled"
            )
        # Asking for the watched ones is what notices their changes.
        given = [node.input(k) for k in range(len(self._leaves), len(node.edges))]
        some = next(gradient for gradient in gradients if gradient is not None)
        seeds = [_seed(gradients[k], some, *node.specs[k]) for k in self._seeds]
        arrays = [seed.array for seed in seeds]
        arrays += [tensor.array for tensor in given[: len(given) - len(self._watched)]]
        for refresh in self._refreshers:
            refresh()
        found: list[Tensor | None] = [Tensor(array) for array in self._replay(*arrays)]
        note_changes(self._storages)
        if mode.grad:
            behind = [_operand(edge) for edge in node.edges if edge is not None]
            behind += [x for x in gradients if x is not None and x.requires_grad]
            found = [guarded(gradient, _TWICE, behind) for gradient in found]
        return [*found, *[None] * len(given)]


def _operand(edge: Any) -> Tensor:
    """A tensor with the history of an operand."""
    if isinstance(edge, Tensor):
        return edge
    tensor = Tensor(np.empty(0))
    tensor.edge, tensor.requires_grad = edge, True
    return tensor


def _seed(gradient: Tensor | None, some: Tensor, shape: tuple[int, ...], dtype: Any) -> Tensor:
    """The gradient of a result in the layout that the program was recorded with; missing, zeros."""
    return some.new_zeros(shape, dtype=dtype) if gradient is None else gradient.detach().contiguous()


def _history(roots: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The leaves behind ``roots``, and the tensors that were saved for the way there."""
    leaves: dict[int, Tensor] = {}
    saved: dict[int, Tensor] = {}
    seen: set[int] = set()
    pending: list[Any] = [root.edge or root for root in roots]
    while pending:
        edge = pending.pop()
        if isinstance(edge, Tensor):
            leaves[id(edge)] = edge
            continue
        node = edge.node if isinstance(edge, OutputEdge) else edge
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            pending.extend(node.edges)
            saved.update((id(x), x) for x in node.saved or () if x is not None)
    return list(leaves.values()), list(saved.values())


def _can_go_back(tensor: Tensor) -> bool:
    """Whether a backward pass from here would find all saved values: nothing of the history was freed."""
    seen: set[int] = set()
    pending: list[Any] = [tensor.edge]
    while pending:
        edge = pending.pop()
        node = edge.node if isinstance(edge, OutputEdge) else edge
        if not isinstance(node, Node) or id(node) in seen:
            continue
        if node.saved is None and node.refill is None:
            return False
        seen.add(id(node))
        pending.extend(node.edges)
    return tensor.edge is not None


def _gradients(
    roots: Sequence[Tensor], leaves: Sequence[Tensor], seeds: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    """The gradients of the leaves; their hooks wait for the gradients of a call."""
    hooks = [leaf.hooks for leaf in leaves]
    for leaf in leaves:
        leaf.hooks = None
    try:
        return engine.grad(roots, leaves, seeds, retain_graph=True, allow_unused=True)
    finally:
        for leaf, held in zip(leaves, hooks, strict=True):
            leaf.hooks = held

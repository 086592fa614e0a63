"""A run of a function that is written down, with all that its program needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from nbdl.autograd.modes import mode
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.compiler.arguments import Arguments
from nbdl.compiler.captured import Captured
from nbdl.compiler.history import record_backward
from nbdl.compiler.program import CAPTURED, Program
from nbdl.compiler.recorder import Recorder, RecordingError, owner_of
from nbdl.func.tree import flatten, unflatten

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend


class _Constant(NamedTuple):
    """A result that is no tensor."""

    value: Any


class Recording:
    """One run of a function under a recorder, and of the backward pass from its results if they need one.

    Args:
        function: what to run.
        arguments: of the call.
        captured: what the function uses from outside.
        known_leaves: leaves to which earlier runs gave gradients.
        without: names of passes to leave out of the backward program.
        with_lines: whether to note the user's line of every operation.

    Attributes:
        program: the operations.
        result: what the function returned.
        backend: what ran it.
        tree: the nest of the results, ``constants`` what in it is no tensor.
        assigned: attributes of modules that it set, whose values are the last results.
        leaves: the leaves whose gradients it uses.
        refreshers: what is to be called before each replay.
        storages: what it changes in place.
        backward: the backward pass from the results, if they need gradients.
        escaped: what of a computed tensor is kept beyond the call, for an error; empty if nothing is.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Arguments,
        captured: Captured,
        known_leaves: Iterable[Tensor] = (),
        without: Sequence[str] = (),
        with_lines: bool = False,
    ):
        self.backend: NumpyBackend = mode.backend or registry.cpu or registry.select()
        args, kwargs = arguments.for_recording()
        recorder = Recorder(self.backend, arguments.arrays, known_leaves, with_lines)
        before = captured.attributes()
        with recorder:
            result = function(*args, **kwargs)
        found, self.tree = flatten(result)
        del result, args, kwargs
        self.constants = [None if isinstance(leaf, Tensor) else _Constant(leaf) for leaf in found]
        self.assigned = [place for place in captured.assigned if place.value is not before.get(place)]
        found += [place.value for place in self.assigned]
        del before
        tensors = [leaf for leaf in found if isinstance(leaf, Tensor)]
        self.backward = record_backward(recorder, tensors, arguments, without)
        found = [leaf.detach() if isinstance(leaf, Tensor) else leaf for leaf in found]
        del tensors  # and with them their history
        arrays = [leaf.array for leaf in found if isinstance(leaf, Tensor)]
        if any(arguments.twin_number(leaf.tensor) is not None for leaf in recorder.leaves.values()):
            raise RecordingError(
                "compile: backward() inside the function reached an argument that has a history, which "
                "cannot go on from there; pass its detach(), or call backward() on a result."
            )
        recorder.forget_local_leaves()
        self.leaves = list(recorder.leaves.values())
        for leaf in self.leaves:
            if leaf.tensor.grad is not None and leaf.tensor.grad.edge is not None:
                leaf.tensor.grad = leaf.tensor.grad.detach()
        self.refreshers = recorder.refreshers
        self.storages = list(recorder.storages.values())
        if self.backward is not None:
            self.backward.forget_the_run()
            arrays += self.backward.residuals
        self.program: Program = recorder.program(arrays)
        if self.backward is not None:
            self.backward.finish(self.program)
            connected = iter(self.backward.connect(arguments, arrays))
            found = [next(connected) if isinstance(leaf, Tensor) else leaf for leaf in found]
        for attribute in reversed(self.assigned):
            attribute.set(found.pop())
        self.result = unflatten(found, self.tree)
        del arrays, found
        kept = recorder.escaped(self.program)
        self.escaped = _describe(kept, self.program, recorder.lines) if kept else ""

    def reads(self, tensor: Tensor) -> bool:
        """Whether an operation reads the memory of a tensor from outside."""
        owner = owner_of(tensor.array)
        windows = [window for operation in self.program.operations for window in operation.inputs]
        return any(window.buffer.kind == CAPTURED and window.buffer.array is owner for window in windows)


def _describe(kept: Sequence[Any], program: Program, lines: Sequence[str | None]) -> str:
    """What was kept, and where it was made."""
    for k, operation in enumerate(program.operations):
        if any(window.buffer in kept for window in operation.outputs):
            where = f" at {lines[k]}" if k < len(lines) and len(lines) == len(program.operations) else ""
            shape = list(operation.outputs[0].shape)
            return f"the result of {operation.primitive.label}, of shape {shape}{where}"
    return "a tensor"

"""A run of a function that is written down, with all that its program needs to know of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.modes import mode, recording
from nbdl.autograd.tensor import Tensor
from nbdl.backend import registry
from nbdl.compiler.addresses import owner_of
from nbdl.compiler.aliasing import Writes
from nbdl.compiler.arguments import Arguments
from nbdl.compiler.captured import Captured
from nbdl.compiler.history import record_backward
from nbdl.compiler.passes import improve
from nbdl.compiler.program import CAPTURED, INPUT, OUTPUT, Program
from nbdl.compiler.recorder import Recorder, RecordingError
from nbdl.compiler.replay import Replay
from nbdl.compiler.states import MAX_NUMBERS
from nbdl.func.tree import flatten, unflatten

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend


_CHANGED = (
    "compile: the function changes a list, dict or data class that is an argument, which a program cannot "
    "repeat; return what it puts there."
)


class _Constant(NamedTuple):
    """A result that is no tensor, or a parameter."""

    value: Any

    def of(self, arguments: Arguments) -> Any:
        """What a call with these arguments returns."""
        return self.value.copy() if isinstance(self.value, np.ndarray) else self.value


class _Argument(NamedTuple):
    """A result that is an argument."""

    number: int

    def of(self, arguments: Arguments) -> Any:
        """What a call with these arguments returns."""
        return arguments.flat[self.number]


class Recording:
    """One run of a function under a recorder, and of the backward pass from its results if they need one.

    Args:
        function: what to run.
        arguments: of the call.
        captured: what the function uses from outside.
        known_leaves: leaves to which earlier runs gave gradients.
        moving: ids of leaves that are known to get other gradients between the calls.
        without: names of passes to leave out of the backward program.
        with_lines: whether to note the user's line of every operation.
        defers: leave the computing to the program, where that can be; :meth:`finish` must follow.

    Attributes:
        program: the operations.
        result: what the function returned; its values are there after :meth:`finish`.
        backend: what ran it.
        tree: the nest of the results, ``constants`` what in it is not computed; None stands for what is.
        shared: the results in memory of an argument or from outside: position, and the argument's number or
            the storage.
        assigned: attributes of modules that it set, whose values are the last results.
        leaves: the leaves whose gradients it uses.
        moved: those whose gradients are arguments of the program, behind those of the function.
        gradients: the leaves that have other gradients afterwards, with these.
        refreshers: what is to be called before each replay.
        storages: what it changes in place.
        backward: the backward pass from the results, if they need gradients.
        values: arguments of NumPy that the program does not read, and what they held: perhaps Python did.
        escaped: what of a computed tensor is kept beyond the call, for an error; empty if nothing is.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: Arguments,
        captured: Captured,
        known_leaves: Iterable[Tensor] = (),
        moving: Collection[int] = (),
        without: Sequence[str] = (),
        with_lines: bool = False,
        defers: bool = False,
    ):
        self._without = without
        self.backend: NumpyBackend = mode.backend or registry.cpu or registry.select()
        args, kwargs = arguments.for_recording()
        recorder = Recorder(self.backend, arguments.arrays, known_leaves, with_lines, defers)
        before = captured.attributes()
        held = {k: arguments.arrays[k].tobytes() for k in arguments.foreign if _is_small(arguments.arrays[k])}
        with recorder:
            result = function(*args, **kwargs)
            if arguments.are_changed(args, kwargs):
                raise RecordingError(_CHANGED)
            found, self.tree = flatten(result)
            outside = {id(tensor) for tensor in captured.all_tensors()}
            self.constants = [_constant(leaf, arguments, recorder, outside) for leaf in found]
            found = [leaf for leaf, fixed in zip(found, self.constants, strict=True) if fixed is None]
            self.assigned = [place for place in captured.assigned if place.value is not before.get(place)]
            found += [place.value for place in self.assigned]
            with recording(True):
                found = [_apart(leaf, recorder) for leaf in found]
        del result, args, kwargs, before
        arguments.given.clear()
        try:
            self._conclude(recorder, found, arguments, captured, moving, held, with_lines)
        except BaseException:
            recorder.compute()  # state that the function has made must not stay unwritten
            raise

    def _conclude(
        self,
        recorder: Recorder,
        found: list[Tensor],
        arguments: Arguments,
        captured: Captured,
        moving: Collection[int],
        held: dict[int, bytes],
        with_lines: bool,
    ) -> None:
        """After the function has run: its program, and what has to be done about results and gradients.

        Args:
            recorder: what wrote the operations down.
            found: the results that are computed; emptied, so that nobody but the caller holds them.
            arguments: of the call.
            captured: what the function uses from outside.
            moving: ids of leaves that are known to get other gradients between the calls.
            held: what small arguments of NumPy held before.
            with_lines: whether the user's lines were noted.
        """
        self.backward = record_backward(recorder, found, arguments, self._without)
        found[:] = [leaf.detach() for leaf in found]  # what they were made of is gone
        arrays = [leaf.array for leaf in found]
        if any(arguments.twin_number(leaf.tensor) is not None for leaf in recorder.leaves.values()):
            raise RecordingError(
                "compile: backward() inside the function reached an argument that has a history, which "
                "cannot go on from there; pass its detach(), or call backward() on a result."
            )
        recorder.forget_local_leaves()
        taken: list[tuple[Tensor, Tensor]] = []
        if self.backward is None:  # its program would find the gradients of this call
            taken = recorder.take_gradients(moving, captured.all_tensors())
        arguments.add([gradient for _, gradient in taken])
        self.moved = [leaf for leaf, _ in taken]
        self.leaves = list(recorder.leaves.values())
        for leaf in self.leaves:
            if leaf.tensor.grad is not None and leaf.tensor.grad.edge is not None:
                leaf.tensor.grad = leaf.tensor.grad.detach()
        same = {id(leaf) for leaf, gradient in taken if leaf._grad is gradient}
        self.gradients = [(x.tensor, x.tensor._grad) for x in self.leaves if id(x.tensor) not in same]
        self.refreshers = recorder.refreshers
        self.storages = list(recorder.storages.values())
        if self.backward is not None:
            self.backward.forget_the_run()
            arrays += self.backward.residuals
        self.program: Program = recorder.program(arrays)
        if Writes(self.program).collide([tensor.array for tensor in arguments.tensors]):
            recorder.compute()  # a program takes its arguments for memory that is apart
        self.values = self._unread(held, arguments.arrays)
        self.shared = [
            (k, window.buffer.number if window.buffer.kind == INPUT else leaf.shared_storage())
            for k, (leaf, window) in enumerate(zip(found, self.program.outputs))  # behind them, residuals
            if window.buffer.kind != OUTPUT
        ]
        if self.backward is not None:
            self.backward.finish(self.program)
            found[:] = self.backward.connect(arguments, arrays)
        for attribute in reversed(self.assigned):
            attribute.set(found.pop())
        values = iter(found)
        leaves = [next(values) if fixed is None else fixed.of(arguments) for fixed in self.constants]
        self.result = unflatten(leaves, self.tree)
        del arrays, leaves, values
        found.clear()
        is_unfinished = recorder.leave_to_program()
        # At first that is usual, and the function is recorded again; then its lines are noted for an error.
        kept = recorder.escaped(self.program, thoroughly=with_lines)
        self.escaped = _describe(kept, self.program, recorder.lines) if kept else ""
        self._unfinished: list[Any] | None = None  # the arrays of the run that is missing
        if is_unfinished:
            recorder.keep(kept)
            results = dict.fromkeys(window.buffer for window in self.program.outputs)
            self._unfinished = [buffer.array for buffer in self.program.inputs]
            self._unfinished += [recorder.owner(buffer) for buffer in results if buffer.kind == OUTPUT]

    def finish(self, replay: Replay | None = None) -> Any:
        """What the function returned; computed by its program, as far as it was not yet.

        Args:
            replay: of the program, if there is one.
        """
        if self._unfinished is not None:
            run = replay or Replay(improve(self.program, self._without), self.backend)
            run.run(self._unfinished)
            self._unfinished = None
        return self.result

    def _unread(self, held: dict[int, bytes], arrays: Sequence[Any]) -> list[tuple[int, bytes]]:
        """Of arrays of NumPy and what they held before, those that the program leaves alone."""
        operations, inputs = self.program.operations, self.program.inputs
        written = {window.buffer for operation in operations for window in operation.outputs}
        for k, values in held.items():
            if inputs[k] not in written and arrays[k].tobytes() != values:
                raise RecordingError(
                    "compile: the function changes an array of NumPy that is an argument, which a program "
                    "cannot repeat; return the values, or make a tensor of the array and change that."
                )
        used = [window for operation in operations for window in operation.inputs]
        read = {window.buffer for window in (*used, *self.program.outputs)} | written
        return [(k, values) for k, values in held.items() if inputs[k] not in read]

    def reads(self, array: Any) -> bool:
        """Whether an operation reads the memory of an array from outside."""
        owner = owner_of(array)
        windows = [window for operation in self.program.operations for window in operation.inputs]
        return any(window.buffer.kind == CAPTURED and window.buffer.array is owner for window in windows)


def _is_small(array: Any) -> bool:
    return isinstance(array, np.ndarray) and array.size <= MAX_NUMBERS


def _constant(
    leaf: Any, arguments: Arguments, recorder: Recorder, outside: Collection[int]
) -> _Constant | _Argument | None:
    """How a result is found that is not computed: an argument, a parameter from outside, or no tensor."""
    if hasattr(leaf, "__next__"):
        raise RecordingError(
            f"compile: the function returns a {type(leaf).__name__}, which computes after the function has "
            "ended; return a list of what it gives."
        )
    number = arguments.given_number(leaf)
    if number is not None:
        return _Argument(number)
    if isinstance(leaf, Tensor):
        is_from_outside = leaf.edge is None and (leaf.requires_grad or id(leaf) in outside)
        return _Constant(leaf) if is_from_outside and recorder.is_outside(leaf.array) else None
    return _Constant(leaf)


def _apart(leaf: Tensor, recorder: Recorder) -> Tensor:
    """A result that needs gradients, in memory of its own: a program could not say what it is a view of."""
    return leaf.clone() if leaf.edge is not None and recorder.is_outside(leaf.array) else leaf


def _describe(kept: Sequence[Any], program: Program, lines: Sequence[str | None]) -> str:
    """What was kept, and where it was made."""
    for k, operation in enumerate(program.operations):
        if any(window.buffer in kept for window in operation.outputs):
            where = f" at {lines[k]}" if k < len(lines) and len(lines) == len(program.operations) else ""
            shape = list(operation.outputs[0].shape)
            return f"the result of {operation.primitive.label}, of shape {shape}{where}"
    return "a tensor"

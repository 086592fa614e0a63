"""Recording: a backend that computes with another one and writes down what it was asked for."""

from __future__ import annotations

import contextlib
import gc
import pickle
import random
import sys
import warnings
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.anomaly import user_line, user_stacklevel
from nbdl.autograd.modes import mode
from nbdl.autograd.tape import clock
from nbdl.compiler.addresses import address_of, extent_of, layout_of, owner_of
from nbdl.compiler.deferral import Deferral
from nbdl.compiler.program import (
    CAPTURED,
    INPUT,
    OUTPUT,
    TEMPORARY,
    Buffer,
    Operation,
    Program,
    Window,
)

if TYPE_CHECKING:
    from nbdl.autograd.tape import Storage
    from nbdl.autograd.tensor import Tensor
    from nbdl.backend.numpy import NumpyBackend
    from nbdl.ops.primitive import Primitive


class RecordingError(RuntimeError):
    """Something was done during a recording that a program cannot repeat."""


class Leaf(NamedTuple):
    """A leaf whose ``grad`` attribute the function used.

    Attributes:
        tensor: the leaf.
        before: its gradient when it was first used, if it matters.
        reads: whether the function depends on the gradient it finds, or begins by resetting it.
        layout: what the gradient that it finds must be like, if the program gets it as an argument.
    """

    tensor: Tensor
    before: Tensor | None
    reads: bool
    layout: tuple[Any, ...] | None = None

    def fits(self) -> bool:
        """Whether a program would find a gradient that it can work on."""
        if not self.reads:
            return True
        found = self.tensor._grad
        if self.layout is not None:
            return found is not None and not found.requires_grad and layout_of(found.array) == self.layout
        return not self.finds_other_memory() and (found is None) is (self.before is None)

    def finds_other_memory(self) -> bool:
        """Whether there was a gradient and is one now, but somewhere else."""
        if self.before is None or self.tensor._grad is None:
            return False
        return self.tensor._grad.array is not self.before.array


class Recorder:
    """Stands in for a backend while a function runs, and writes down what it is asked for.

    Where it computes, it keeps no array alive that the function lets go, so that a recording needs no more
    memory than the function itself; where the computing is left to the program, no more than that.

    Args:
        backend: what computes.
        inputs: the arrays that are arguments of the function.
        known_leaves: leaves that an earlier recording found, whose gradients are noted before the run.
        with_lines: note the user's line of every call, for error messages.
        defers: leave the computing to the program, where that can be; then :meth:`leave_to_program` or
            :meth:`compute` must follow.

    Attributes:
        backend: what computes.
        operations: what was recorded.
        lines: of each operation, if they are noted.
        leaves: by id, the leaves whose gradients were used.
        refreshers: what has to be called before each replay.
        storages: by id, what was changed in place and belongs to tensors from outside.
    """

    def __init__(
        self,
        backend: NumpyBackend,
        inputs: Sequence[Any],
        known_leaves: Iterable[Tensor] = (),
        with_lines: bool = False,
        defers: bool = False,
    ):
        self.backend = backend
        self._deferral = Deferral(backend, defers)
        self.operations: list[Operation] = []
        self.lines: list[str | None] = []
        self.leaves: dict[int, Leaf] = {}
        self.refreshers: list[Callable[[], Any]] = []
        self.storages: dict[int, Storage] = {}
        self._tracer = _Tracer(inputs)
        self._with_lines = with_lines
        self._born: dict[int, Any] = {}
        self._pristine: dict[int, Any] = {}
        self._entry = {
            id(leaf): None if leaf._grad is None else weakref.ref(leaf._grad) for leaf in known_leaves
        }

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def __enter__(self) -> None:
        self._previous, self._dice = mode.backend, _foreign_generators()
        mode.backend, mode.recorder = self, self  # type: ignore[assignment]

    def __exit__(self, *exc_info: object) -> None:
        mode.backend, mode.recorder = self._previous, None
        if exc_info[0] is not None:
            self.compute()  # what was done before the error is done
        for name, state in _foreign_generators().items():
            if state != self._dice[name]:
                warnings.warn(
                    f"compile: random numbers of {name} were drawn while the function was recorded; its "
                    "program repeats the ones of this time. Draw them by nbdl.rand and its like, or outside.",
                    stacklevel=user_stacklevel(),
                )

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Inside, nothing is written down; for what is done anew before each replay."""
        mode.backend, mode.recorder = self.backend, None
        try:
            yield
        finally:
            mode.backend, mode.recorder = self, self  # type: ignore[assignment]

    # ------------------------------------------------------------------------------- what backends are asked
    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Compute, and write it down."""
        if not primitive.has_static_shape:
            self.refuse(
                f"{primitive.label}, whose result has a shape that depends on values,",
                "use a form of fixed shape, such as where(condition, x, 0)",
            )
        arrays = tuple(arrays)
        if out is not None:
            outs = out if type(out) is tuple else (out,)
            self._before_writing(outs)
            self._deferral.execute(primitive, arrays, out)
            self._add(primitive, arrays, outs, True)
            return out
        result = self._deferral.execute(primitive, arrays)
        self._add(primitive, arrays, result if type(result) is tuple else (result,), False)
        return result

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """Compute, and write every row down."""
        operands = [tuple(row) for row in rows]
        for row in operands:
            self._before_writing([row[k] for k in positions])
        self._deferral.overwrite(primitive, operands, positions)
        for row in operands:
            self._add(primitive, row, tuple(row[k] for k in positions), True)

    def _add(self, primitive: Primitive, inputs: tuple, outputs: tuple, into: bool) -> None:
        windows = [self._tracer.window(array, CAPTURED) for array in inputs]
        if not into and any(owner_of(out) is owner_of(x) for out in outputs for x in inputs):
            return  # the result is a view of the operand
        kind = CAPTURED if into else TEMPORARY
        results = [self._tracer.window(out, kind) for out in outputs]
        self.operations.append(Operation(primitive, windows, results, into))
        if self._with_lines:
            self.lines.append(user_line())

    def _before_writing(self, arrays: Sequence[Any]) -> None:
        """Keep what an array that was made of Python data held before it is overwritten."""
        for array in arrays:
            owner = owner_of(array)
            if id(owner) in self._born and id(owner) not in self._pristine:
                self._pristine[id(owner)] = _copied(owner)

    # --------------------------------------------------------------------- what the rest of nbdl tells about
    def refuse(self, what: str, remedy: str) -> None:
        """Stop the recording because of something that a program cannot repeat.

        Raises:
            RecordingError: always.
        """
        raise RecordingError(
            f"compile: {what} was used at {user_line()}. A program repeats array operations only, and "
            f"would keep what it saw this time; {remedy}, or do it outside the compiled function."
        )

    def constant(self, array: Any) -> None:
        """An array was made of Python data."""
        self._born.setdefault(id(array), array)

    def changed(self, storage: Storage) -> None:
        """Memory was changed in place."""
        self.storages[id(storage)] = storage

    def uses_gradient(self, leaf: Tensor, resets: bool) -> None:
        """The ``grad`` of a leaf is about to be reset, or to be read or accumulated into."""
        if id(leaf) in self.leaves:
            return
        entry = self._entry.get(id(leaf))
        reset_by_hand = entry is not None and leaf._grad is None
        reads = not resets and not reset_by_hand
        before = entry() if entry is not None else None if id(leaf) in self._entry else leaf._grad
        self.leaves[id(leaf)] = Leaf(leaf, before if reads else None, reads)

    def before_replay(self, refresh: Callable[[], Any]) -> None:
        """Something must be brought up to date before each replay."""
        self.refreshers.append(refresh)

    # -------------------------------------------------------------------------------- what was not computed
    def compute(self) -> None:
        """Compute what was deferred: somebody needs the values."""
        self._deferral.compute()

    def leave_to_program(self) -> bool:
        """Let go of what was deferred; whether there is something, which the program now has to compute."""
        return self._deferral.leave_to_program()

    def keep(self, buffers: Iterable[Buffer]) -> None:
        """Make these temporaries memory from outside, since somebody has them: the program writes there."""
        for buffer in buffers:
            buffer.kind, buffer.array = CAPTURED, self.owner(buffer)

    def owner(self, buffer: Buffer) -> Any:
        """The array that owned the memory in the recorded run; None if it is gone."""
        return self._tracer.owner(buffer)

    # ------------------------------------------------------------------------------------------- the program
    def computed(self, owner: Any) -> bool:
        """Whether the function computed what this array holds; what it only read is from outside."""
        return id(owner) in self._pristine or self._tracer.is_temporary(owner)

    def is_outside(self, array: Any) -> bool:
        """Whether it is memory of an argument or from outside."""
        owner = owner_of(array)
        return id(owner) not in self._born and not self.computed(owner)

    def take_gradients(
        self, moving: Collection[int], outside: Iterable[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Make arguments of the gradients that were found: at the next call they may be other tensors.

        Taken are those that are only read, and those of leaves that are known to get others.

        Args:
            moving: the ids of these leaves.
            outside: what else the function uses; what shares memory with it stays where it is.

        Returns:
            The leaves and their gradients, in the order of the inputs that they become.
        """
        found = [
            (leaf, leaf.before) for leaf in self.leaves.values() if leaf.reads and leaf.before is not None
        ]
        tensors = (*outside, *[gradient for _, gradient in found])
        owners = Counter(id(owner_of(x.array)) for x in tensors)
        written = {window.buffer for operation in self.operations for window in operation.outputs}
        taken: dict[int, tuple[Tensor, Tensor]] = {}
        for leaf, gradient in found:
            array, key = gradient.array, id(leaf.tensor)
            if gradient.requires_grad or owner_of(array) is not array or owners[id(array)] > 1:
                continue
            if not self.is_outside(array):
                continue
            if key in moving or self._tracer.window(array, CAPTURED).buffer not in written:
                taken[id(array)] = leaf.tensor, gradient
                self.leaves[key] = leaf._replace(before=None, layout=layout_of(array))
                self.storages.pop(id(gradient.storage), None)
        known = len(self._tracer.inputs)
        self._tracer.make_inputs(lambda owner: id(owner) in taken)
        return [taken[id(buffer.array)] for buffer in self._tracer.inputs[known:]]

    def program(self, outputs: Sequence[Any], earlier: Recorder | None = None) -> Program:
        """What was recorded.

        Args:
            outputs: the arrays that the function returned.
            earlier: what this recording read of what was computed in that one becomes inputs, too.
        """
        tracer, operations = self._tracer, self.operations
        gradients = [
            leaf.tensor._grad.array for leaf in self.leaves.values() if leaf.tensor._grad is not None
        ]
        returned = [tracer.window(array, CAPTURED) for array in outputs]
        for array in gradients:
            tracer.window(array, CAPTURED)
        if earlier is not None:
            tracer.make_inputs(earlier.computed)
        self._before_writing([*outputs, *gradients])  # others may write to what they get
        operations[:0] = tracer.initial_values(self._pristine)
        self._born.clear()
        for array in gradients:
            tracer.stays(array)  # the gradient stays where it is from now on
        for window in returned:
            if window.buffer.kind == TEMPORARY:
                window.buffer.kind = OUTPUT  # new at each call
        return Program(operations, tracer.inputs, returned)

    def forget_local_leaves(self) -> None:
        """Forget the leaves that the function made itself: with the function's end they are gone.

        The results of the function must be without history by now.
        """
        for key in list(self.leaves):
            if (
                sys.getrefcount(self.leaves[key].tensor) <= 2
            ):  # the reference in the entry, and the argument's
                del self.leaves[key]

    def escaped(self, program: Program, thoroughly: bool = True) -> list[Buffer]:
        """Temporaries of ``program`` that are still alive: somebody kept a tensor.

        Args:
            program: what was recorded.
            thoroughly: whether all garbage is collected first where one is alive, and not just the young: a
                collection of all objects of a process takes as long as many steps.
        """
        candidates = [buffer for buffer in program.buffers if buffer.kind == TEMPORARY]
        for generation in (1, 2) if thoroughly else (1,):
            if any(map(self._tracer.is_alive, candidates)):
                gc.collect(generation)
        return [buffer for buffer in candidates if self._tracer.is_alive(buffer)]


def _foreign_generators() -> dict[str, Any]:
    """The states of the global random generators that a program knows nothing of."""
    numpys = pickle.dumps(np.random.get_state(legacy=False))  # noqa: NPY002, watched, not used
    return {"Python's random": random.getstate(), "numpy.random": numpys}


def note_changes(storages: Sequence[Storage]) -> None:
    """Note that a replay changed memory in place: values saved before are stale."""
    if storages:
        time = next(clock)
        for storage in storages:
            storage.changed = time
            storage.version += 1


def _copied(array: Any) -> Any:
    """What an array holds: a copy, or one element where all are the same, as in fresh state of optimizers."""
    if array.size and bool((array == array.ravel()[0]).all()):
        return np.broadcast_to(array.ravel()[:1].copy().reshape(()), array.shape)
    return array.copy()


class _Tracer:
    """Arrays become windows of buffers.

    A buffer is found by the identity of the array that owns its memory, until that array is gone. Memory from
    outside is kept alive; of what the function computed, only references that do not keep it.
    """

    def __init__(self, inputs: Sequence[Any]):
        self._buffers: dict[int, tuple[Buffer, int]] = {}  # by id of the owner: buffer, and its address
        self._owners: dict[Buffer, weakref.ref[Any]] = {}
        self._inputs: list[tuple[Buffer, tuple[int, int], Any]] = []
        for number, array in enumerate(inputs):
            start, stop = extent_of(array)
            buffer = Buffer(INPUT, stop - start, number, array, isinstance(array, np.ndarray))
            self._inputs.append((buffer, (start, stop), owner_of(array)))

    @property
    def inputs(self) -> list[Buffer]:
        """The buffers of the arguments."""
        return [buffer for buffer, _, _ in self._inputs]

    def window(self, array: Any, kind: str) -> Window:
        """The elements of ``array``; memory seen for the first time is of this kind."""
        buffer, start = self._place(array, kind)
        return Window(buffer, address_of(array) - start, array.shape, array.strides, array.dtype)

    def _place(self, array: Any, kind: str) -> tuple[Buffer, int]:
        owner = owner_of(array)
        for buffer, (start, stop), input_owner in self._inputs:
            if input_owner is owner:
                low, high = extent_of(array)
                if (start <= low and high <= stop) or low == high:
                    return buffer, start
        key = id(owner)
        found = self._buffers.get(key)
        if found is None:
            start, stop = extent_of(owner)
            number = len(self._owners)
            kept = owner if kind == CAPTURED else None
            buffer = Buffer(kind, stop - start, number, kept, isinstance(owner, np.ndarray))
            buffers = self._buffers  # the callback holds this and not the tracer, which would be a cycle
            found = buffers[key] = buffer, start
            self._owners[buffer] = weakref.ref(owner, lambda _: buffers.pop(key, None))
        return found

    def is_temporary(self, owner: Any) -> bool:
        """Whether this array owns memory that the function made."""
        buffer, _ = self._buffers.get(id(owner), (None, 0))
        return buffer is not None and buffer.kind == TEMPORARY

    def make_inputs(self, chosen: Callable[[Any], bool]) -> None:
        """Make inputs of the memory from outside whose owners are chosen."""
        for buffer, start in self._buffers.values():
            if buffer.kind == CAPTURED and chosen(buffer.array):
                buffer.kind, buffer.number = INPUT, len(self._inputs)
                self._inputs.append((buffer, (start, start + buffer.nbytes), buffer.array))

    def stays(self, array: Any) -> None:
        """The memory of ``array``, if the function computed it, is from now on where it is."""
        buffer = self.window(array, CAPTURED).buffer
        if buffer.kind == TEMPORARY:
            buffer.kind, buffer.array = CAPTURED, owner_of(array)

    def owner(self, buffer: Buffer) -> Any:
        """The array that owned the memory in the recorded run; None if it is gone."""
        return self._owners[buffer]() if buffer in self._owners else None

    def is_alive(self, buffer: Buffer) -> bool:
        """Whether the array that owned the memory in the recorded run is still there."""
        return self.owner(buffer) is not None

    def initial_values(self, pristine: dict[int, Any]) -> list[Operation]:
        """Copies of what arrays made of Python data held at first, where the function overwrites them.

        Args:
            pristine: by id of the array what it held; the arrays themselves live.
        """
        from nbdl.ops.copying import COPY

        copies = []
        for key, value in pristine.items():
            buffer, _ = self._buffers[key]
            owner = self._owners[buffer]()
            assert owner is not None
            if buffer.kind == CAPTURED:
                buffer.kind, buffer.array = TEMPORARY, None
            source = self.window(value, CAPTURED)
            copies.append(
                Operation(COPY, [source], [Window(buffer, 0, owner.shape, owner.strides, owner.dtype)])
            )
        return copies

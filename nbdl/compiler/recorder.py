"""Recording: a backend that computes with another one and writes down what it was asked for."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.anomaly import user_line
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


class Call(NamedTuple):
    """What the array layer was asked for: arrays in, arrays out, and whether these were given."""

    primitive: Primitive
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    into: bool
    line: str | None


class Leaf(NamedTuple):
    """A leaf whose ``grad`` attribute the function used.

    Attributes:
        tensor: the leaf.
        before: its gradient when it was first used; whether it matters, ``reads`` says.
        reads: whether the function depends on the gradient it finds, or begins by resetting it.
    """

    tensor: Tensor
    before: Tensor | None
    reads: bool


class Recorder:
    """Stands in for a backend while a function runs, and keeps the calls.

    Args:
        backend: what computes.
        inputs: the arrays that are arguments of the function.
        known_leaves: leaves that an earlier recording found, whose gradients are noted before the run.
        with_lines: note the user's line of every call, for error messages.

    Attributes:
        backend: what computes.
        calls: what was recorded.
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
    ):
        self.backend = backend
        self.calls: list[Call] = []
        self.leaves: dict[int, Leaf] = {}
        self.refreshers: list[Callable[[], Any]] = []
        self.storages: dict[int, Storage] = {}
        self._inputs = list(inputs)
        self._with_lines = with_lines
        self._born: dict[int, Any] = {}
        self._pristine: dict[int, Any] = {}
        self._entry = {id(leaf): leaf.grad for leaf in known_leaves}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

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
            self.backend.execute(primitive, arrays, out=out)
            self._add(primitive, arrays, outs, True)
            return out
        result = self.backend.execute(primitive, arrays)
        self._add(primitive, arrays, result if type(result) is tuple else (result,), False)
        return result

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """Compute, and write every row down."""
        operands = [tuple(row) for row in rows]
        for row in operands:
            self._before_writing([row[k] for k in positions])
        self.backend.overwrite(primitive, operands, positions)
        for row in operands:
            self._add(primitive, row, tuple(row[k] for k in positions), True)

    def _add(self, primitive: Primitive, inputs: tuple, outputs: tuple, into: bool) -> None:
        self.calls.append(Call(primitive, inputs, outputs, into, user_line() if self._with_lines else None))

    def _before_writing(self, arrays: Sequence[Any]) -> None:
        """Keep what an array that was made of Python data held before it is overwritten."""
        for array in arrays:
            owner = owner_of(array)
            if id(owner) in self._born and id(owner) not in self._pristine:
                self._pristine[id(owner)] = owner.copy()

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

    def forget_constants(self) -> None:
        """Let go of the arrays that were made of Python data."""
        self._born.clear()

    def changed(self, storage: Storage) -> None:
        """Memory was changed in place."""
        self.storages[id(storage)] = storage

    def uses_gradient(self, leaf: Tensor, resets: bool) -> None:
        """The ``grad`` of a leaf is about to be reset, or to be accumulated into."""
        if id(leaf) in self.leaves:
            return
        before = self._entry.get(id(leaf), leaf.grad)
        reset_by_hand = before is not None and leaf.grad is None
        self.leaves[id(leaf)] = Leaf(leaf, before, not resets and not reset_by_hand)

    def before_replay(self, refresh: Callable[[], Any]) -> None:
        """Something must be brought up to date before each replay."""
        self.refreshers.append(refresh)

    # ------------------------------------------------------------------------------------------- the program
    def program(self, outputs: Sequence[Any]) -> Program:
        """What was recorded; the calls, and with them the arrays, are forgotten.

        Args:
            outputs: the arrays that the function returned.
        """
        return _Tracer(self._inputs, self._pristine).program(self, outputs)

    def forget_local_leaves(self) -> None:
        """Forget the leaves that the function made itself: with the function's end they are gone.

        The results of the function must be without history by now.
        """
        for key in list(self.leaves):
            if (
                sys.getrefcount(self.leaves[key].tensor) <= 2
            ):  # the reference in the entry, and the argument's
                del self.leaves[key]

    def escaped(self, program: Program) -> list[Buffer]:
        """Temporaries of ``program`` that are still referred to: somebody kept a tensor.

        Their arrays are let go.
        """
        candidates = [buffer for buffer in program.buffers if buffer.kind == TEMPORARY]
        if any(map(_is_referred_to, candidates)):
            gc.collect()
        kept = [buffer for buffer in candidates if _is_referred_to(buffer)]
        for buffer in candidates:
            buffer.array = None
        return kept


def _is_referred_to(buffer: Buffer) -> bool:
    return sys.getrefcount(buffer.array) > 2  # the buffer's own reference, and the argument's


def owner_of(array: Any) -> Any:
    """The array that owns the memory of ``array``.

    Between a strided view and its array NumPy puts an object that only refers to the array, as ``base``.
    """
    base = array.base
    while base is not None:
        if isinstance(base, type(array)):
            array = base
        base = getattr(base, "base", None)
    return array


def address_of(array: Any) -> int:
    """Address of the first element."""
    return array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr


def extent_of(array: Any) -> tuple[int, int]:
    """First byte of the elements, and the one behind the last."""
    start = stop = address_of(array)
    for n, step in zip(array.shape, array.strides, strict=True):
        if n == 0:
            return start, start
        start, stop = start + min(0, (n - 1) * step), stop + max(0, (n - 1) * step)
    return start, stop + array.itemsize


class _Tracer:
    """Arrays become windows of buffers."""

    def __init__(self, inputs: Sequence[Any], pristine: dict[int, Any]):
        self._buffers: dict[int, tuple[Buffer, int]] = {}  # by id of the owner: buffer, and its address
        self._keep: list[Any] = []
        self._pristine = pristine
        self._inputs: list[tuple[Buffer, tuple[int, int], Any]] = []
        for number, array in enumerate(inputs):
            start, stop = extent_of(array)
            self._inputs.append((Buffer(INPUT, stop - start, number, array), (start, stop), owner_of(array)))

    def program(self, recorder: Recorder, outputs: Sequence[Any]) -> Program:
        """All calls as operations."""
        operations: list[Operation] = []
        calls, recorder.calls = recorder.calls, []
        recorder.forget_constants()
        for call in calls:
            inputs = [self.window(array, CAPTURED) for array in call.inputs]
            if not call.into and any(
                owner_of(out) is owner_of(x) for out in call.outputs for x in call.inputs
            ):
                continue  # the result is a view of the operand
            kind = CAPTURED if call.into else TEMPORARY
            operations.append(
                Operation(call.primitive, inputs, [self.window(out, kind) for out in call.outputs], call.into)
            )
        del calls, call  # with them go the last references to what nobody kept
        returned = [self.window(array, CAPTURED) for array in outputs]
        operations[:0] = self._initial_values()
        for leaf in recorder.leaves.values():
            if leaf.tensor.grad is not None:
                buffer = self.window(leaf.tensor.grad.array, CAPTURED).buffer
                if buffer.kind == TEMPORARY:
                    buffer.kind = CAPTURED  # the gradient stays where it is from now on
        returned = [self._as_output(window, operations) for window in returned]
        self._keep.clear()
        return Program(operations, [buffer for buffer, _, _ in self._inputs], returned)

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
        found = self._buffers.get(id(owner))
        if found is None:
            start, stop = extent_of(owner)
            found = Buffer(kind, stop - start, len(self._buffers), owner), start
            self._buffers[id(owner)] = found
            self._keep.append(owner)
        return found

    def _as_output(self, window: Window, operations: list[Operation]) -> Window:
        """A result in memory that is new at each call, unless it is memory from outside."""
        if window.buffer.kind == TEMPORARY:
            window.buffer.kind = OUTPUT
        if window.buffer.kind != INPUT:
            return window
        from nbdl.ops.copying import COPY

        strides = np.empty(window.shape, window.dtype).strides
        copied = Buffer(OUTPUT, window.nbytes, len(self._buffers))
        self._buffers[id(copied)] = copied, 0
        out = Window(copied, 0, window.shape, strides, window.dtype)
        operations.append(Operation(COPY, [window], [out]))
        return out

    def _initial_values(self) -> list[Operation]:
        """Copies of what arrays made of Python data held at first, where the function overwrites them."""
        from nbdl.ops.copying import COPY

        copies = []
        for key, value in self._pristine.items():
            buffer, _ = self._buffers[key]
            if buffer.kind == CAPTURED:
                buffer.kind = TEMPORARY
            source = self.window(value, CAPTURED)
            owner = buffer.array
            copies.append(
                Operation(COPY, [source], [Window(buffer, 0, owner.shape, owner.strides, owner.dtype)])
            )
        return copies

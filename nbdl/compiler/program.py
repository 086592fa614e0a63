"""The program that a recorded function becomes: operations on windows of buffers.

Views are not recorded. An operand is a :class:`Window`, some strided elements of a :class:`Buffer`, so
reshapes and slices cost nothing in a program, and two operands share memory exactly if their buffers are one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive

INPUT = "input"  # memory of an argument, another one at each call
CAPTURED = "captured"  # memory from outside: parameters, state, constants; where it is, it stays
TEMPORARY = "temporary"  # memory that only the program knows
OUTPUT = "output"  # memory of a result, new at each call


class Buffer:
    """A piece of memory.

    Attributes:
        kind: INPUT, CAPTURED, TEMPORARY or OUTPUT.
        nbytes: its size.
        number: of an input, which argument it is; of others a running number.
        array: the array that owned the memory in the recorded run; kept for captured memory only.
        on_host: whether it lies in the memory of the host. In a program of a GPU that is so of learning rates
            and counters.
    """

    __slots__ = ("array", "kind", "nbytes", "number", "on_host")

    def __init__(self, kind: str, nbytes: int, number: int, array: Any = None, on_host: bool = True):
        self.kind, self.nbytes, self.number, self.array = kind, nbytes, number, array
        self.on_host = on_host

    @property
    def is_private(self) -> bool:
        """Whether nobody but the program sees the memory, so that what it holds at the end is lost."""
        return self.kind == TEMPORARY

    def __repr__(self) -> str:
        return f"{self.kind[0]}{self.number}"


class Window(NamedTuple):
    """Elements of a buffer.

    Attributes:
        buffer: the buffer.
        offset: bytes from its beginning to the first element.
        shape: number of elements along each axis.
        strides: bytes between neighbours along each axis.
        dtype: of the elements.
    """

    buffer: Buffer
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def place(self) -> tuple[Any, ...]:
        """What two windows on the same elements in the same order have in common."""
        steps = [(n, step) for n, step in zip(self.shape, self.strides, strict=True) if n != 1]
        shape, strides = tuple(n for n, _ in steps), tuple(step for _, step in steps)
        return id(self.buffer), self.offset, shape, strides, self.dtype

    def on(self, buffer: Buffer) -> Window:
        """The same window of another buffer."""
        return self._replace(buffer=buffer)

    def __repr__(self) -> str:
        start = f"+{self.offset}" if self.offset else ""
        return f"{self.buffer}{start}:{self.dtype}{list(self.shape)}"


class Operation:
    """A primitive with its operands.

    Attributes:
        primitive: what is computed.
        inputs: what it reads.
        outputs: what it writes.
        into: whether the outputs were given by the caller (in place), so that they may be operands as well
            and hold something that matters to others.
        parts: of a product with an epilogue the two operations, the second one in place; of a group of
            operations in place, which have one formula, all of them; else empty. The operands are those of
            all parts.
    """

    __slots__ = ("inputs", "into", "outputs", "parts", "primitive")

    def __init__(
        self,
        primitive: Primitive,
        inputs: Iterable[Window],
        outputs: Iterable[Window],
        into: bool = False,
        parts: tuple[Operation, ...] = (),
    ):
        self.primitive = primitive
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.into, self.parts = into, parts

    def replaced(self, windows: dict[Buffer, Buffer]) -> Operation:
        """The operation reading other buffers."""
        if not any(window.buffer in windows for window in self.inputs):
            return self
        inputs = [window.on(windows.get(window.buffer, window.buffer)) for window in self.inputs]
        parts = tuple([part.replaced(windows) for part in self.parts])
        return Operation(self.primitive, inputs, self.outputs, self.into, parts)

    @property
    def label(self) -> str:
        """Its name for people."""
        return self.named(lambda operation: operation.primitive.label)

    def named(self, name: Callable[[Operation], str]) -> str:
        """Its name, out of those of its parts."""
        if not self.parts:
            return name(self)
        if self.into:
            return f"{len(self.parts)} x {name(self.parts[0])}"
        return " + ".join(map(name, self.parts))

    def __repr__(self) -> str:
        outputs = ", ".join(map(repr, self.outputs))
        return (
            f"{outputs} {'<-' if self.into else '='} {self.primitive!r}({', '.join(map(repr, self.inputs))})"
        )


class Program:
    """Operations in their order, and what goes in and out.

    Attributes:
        operations: in the order in which they run.
        inputs: the buffers of the arguments that are arrays, in their order.
        outputs: what the function returned.
    """

    def __init__(self, operations: Sequence[Operation], inputs: Sequence[Buffer], outputs: Sequence[Window]):
        self.operations = list(operations)
        self.inputs, self.outputs = list(inputs), list(outputs)

    def with_operations(self, operations: Sequence[Operation]) -> Program:
        """The program with other operations."""
        return Program(operations, self.inputs, self.outputs)

    @property
    def on_device(self) -> bool:
        """Whether it computes on a GPU."""
        return not all(buffer.on_host for buffer in self.buffers)

    @property
    def buffers(self) -> list[Buffer]:
        """All buffers, each once, in the order of their first use."""
        found = dict.fromkeys(self.inputs)
        for operation in self.operations:
            for window in (*operation.inputs, *operation.outputs):
                found.setdefault(window.buffer)
        found.update(dict.fromkeys(window.buffer for window in self.outputs))
        return list(found)


def write_counts(operations: Sequence[Operation]) -> dict[Buffer, int]:
    """How often each buffer is written."""
    counts: dict[Buffer, int] = {}
    for operation in operations:
        for window in operation.outputs:
            counts[window.buffer] = counts.get(window.buffer, 0) + 1
    return counts


def read_counts(program: Program) -> dict[Buffer, int]:
    """How many operations read each buffer; a result counts as one more."""
    counts: dict[Buffer, int] = {}
    for operation in program.operations:
        for buffer in {window.buffer for window in operation.inputs}:
            counts[buffer] = counts.get(buffer, 0) + 1
    for window in program.outputs:
        counts[window.buffer] = counts.get(window.buffer, 0) + 1
    return counts


def are_same(a: Program, b: Program) -> bool:
    """Whether two programs are the same operations on the same memory, or on equal numbers."""
    partners: dict[Buffer, Buffer] = {}

    def match(x: Window, y: Window) -> bool:
        if x._replace(buffer=y.buffer) != y or x.buffer.kind != y.buffer.kind:
            return False
        if x.buffer not in partners:
            partners[x.buffer] = y.buffer
            if x.buffer.kind == CAPTURED and x.buffer.array is not y.buffer.array:
                return np.array_equal(x.buffer.array, y.buffer.array)
        return partners[x.buffer] is y.buffer

    def windows(program: Program) -> list[Window]:
        every = [(*operation.inputs, *operation.outputs) for operation in program.operations]
        return [*itertools.chain(*every), *program.outputs]

    kinds = [[operation.primitive for operation in program.operations] for program in (a, b)]
    first, second = windows(a), windows(b)
    return kinds[0] == kinds[1] and len(first) == len(second) and all(map(match, first, second))

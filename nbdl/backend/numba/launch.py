"""Plans: what an array operation has found out about its operands, kept so that the next call is short.

The first call of an operation with operands of new shapes, strides or dtypes makes a `Plan`: the kernel, its
argument block, the rows and tasks, the outputs. Later calls find it in the operation's `PlanTable`:

    plan = table.find(x, y)
    if plan is None:
        plan = make_plan(x, y)
        table.add(plan, (x, y))
    out = plan.allocate()
    launch(plan.block, x, y, out)

`find` and `launch` are builtin functions in machine code (`nbdl.backend.numba.native`); they are made when
this module is imported, which takes a few milliseconds once the kernel cache has them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nbdl.backend.numba import pool, threads
from nbdl.backend.numba.native import Words, runtime, state
from nbdl.kernels.cpu import launcher

__all__ = ["OutputSpec", "Plan", "PlanTable", "clear_all_plans", "launch", "launch_many"]

MAX_PLANS = 64

launch = runtime().launch
launch_many = runtime().launch_many


class OutputSpec(NamedTuple):
    """How to allocate an output.

    Attributes:
        shape: Shape of the result.
        dtype: Its dtype.
        axes: None for C order; else the result is a C-ordered array, transposed by these axes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...] | None = None


class Plan:
    """A kernel with everything but the data addresses.

    Args:
        kernel: Address of the kernel (`compile_kernel`).
        inputs: Number of input operands.
        outputs: The output operands; they come after the inputs.
        arguments: The kernel's own integers; they follow the operands' addresses in its argument block.
        rows: The kernel computes the rows `[0, rows)`.
        tasks: Into how many tasks the rows are split; more than one starts the thread pool.
        keep: Objects whose memory `arguments` refers to.

    Attributes:
        kernel: As above.
        block: int64 array: a header, then the kernel's argument block.
        outputs: As above, a tuple.
        keep: As above.
        allocate: Function without arguments: the uninitialised output, or a tuple of all if not just one.

    Raises:
        ValueError: A count is negative.
    """

    __slots__ = ("__weakref__", "allocate", "block", "keep", "kernel", "outputs")

    kernel: int
    block: Words
    outputs: tuple[OutputSpec, ...]
    keep: Any
    allocate: Callable[[], Any]

    def __init__(
        self,
        kernel: int,
        *,
        inputs: int,
        outputs: Iterable[OutputSpec] = (),
        arguments: Sequence[int] = (),
        rows: int,
        tasks: int = 1,
        keep: Any = None,
    ) -> None:
        if inputs < 0 or rows < 0:
            raise ValueError(f"Plan: inputs and rows must not be negative, got {inputs} and {rows}")
        self.kernel = kernel
        self.outputs = tuple(outputs)
        self.keep = keep
        self.allocate = _allocator(self.outputs)
        operands = inputs + len(self.outputs)
        tasks = max(1, min(tasks, rows))
        if tasks > 1:
            threads.start()
        self.block = np.zeros(launcher.HEADER_WORDS + operands + len(arguments), np.int64)
        self.block[launcher.HEADER_KERNEL] = kernel
        self.block[launcher.HEADER_ROWS] = rows
        self.block[launcher.HEADER_TASKS] = tasks
        self.block[launcher.HEADER_OPERANDS] = operands
        self.block[launcher.HEADER_OUTPUTS] = len(self.outputs)
        self.block[launcher.HEADER_MAGIC] = launcher.MAGIC
        self.block[launcher.HEADER_WORDS + operands :] = arguments

    @property
    def rows(self) -> int:
        """The kernel computes the rows `[0, rows)`."""
        return int(self.block[launcher.HEADER_ROWS])

    @property
    def tasks(self) -> int:
        """Into how many tasks the rows are split."""
        return int(self.block[launcher.HEADER_TASKS])

    @property
    def arguments(self) -> Words:
        """View of the kernel's argument block: the operands' addresses of the last launch, then integers."""
        return self.block[launcher.HEADER_WORDS :]

    def __repr__(self) -> str:
        return f"Plan(kernel={self.kernel:#x}, outputs={self.outputs}, rows={self.rows}, tasks={self.tasks})"


def _allocator(outputs: tuple[OutputSpec, ...]) -> Callable[[], Any]:
    allocators = [_output_allocator(output) for output in outputs]
    if len(allocators) == 1:
        return allocators[0]
    return lambda: tuple([allocate() for allocate in allocators])


def _output_allocator(output: OutputSpec) -> Callable[[], NDArray[Any]]:
    shape, dtype, axes = output
    if axes is None:
        return pool.allocator(shape, dtype)
    allocate = pool.allocator(tuple(shape[axis] for axis in np.argsort(axes)), dtype)
    return lambda: allocate().transpose(axes)


class PlanTable:
    """The plans of one operation, at most `MAX_PLANS`; the oldest gives way.

    Attributes:
        find: `find(*operands) -> Plan | None`, the plan for operands of exactly these dtypes, shapes and
            strides, aligned or not as they were; None for anything else, such as an operand that is not
            exactly a numpy.ndarray.
    """

    __slots__ = ("__weakref__", "_entries", "_memory", "_oldest", "find")

    find: Callable[..., Plan | None]

    def __init__(self) -> None:
        self._memory = np.zeros(launcher.TABLE_PLANS + 2 * MAX_PLANS, np.int64)
        self._memory[launcher.TABLE_STATE] = state().ctypes.data
        self._entries: list[tuple[Plan, Words, list[Any]]] = []
        self._oldest = 0
        make_find = runtime().make_find
        self.find = make_find(self._memory) if make_find else partial(_find_in_python, self._entries)
        _tables.add(self)

    def add(self, plan: Plan, operands: Sequence[NDArray[Any]]) -> None:
        """Keeps a plan for operands like these.

        Raises:
            TypeError: An operand is not exactly a numpy.ndarray.
        """
        signature = np.array(_signature(operands), np.int64)
        dtypes = [operand.dtype for operand in operands]  # kept, so that no other dtype gets their addresses
        entry = (plan, signature, dtypes)
        with _lock:
            if len(self._entries) < MAX_PLANS:
                k = len(self._entries)
                self._entries.append(entry)
            else:
                k = self._oldest
                self._oldest = (k + 1) % MAX_PLANS
            pair = launcher.TABLE_PLANS + 2 * k
            self._memory[pair : pair + 2] = id(plan), signature.ctypes.data
            self._memory[launcher.TABLE_COUNT] = len(self._entries)
            self._memory[launcher.TABLE_LAST] = k
            # Last, since a plan that gives way must live as long as the memory points to it
            self._entries[k] = entry

    def clear(self) -> None:
        """Forgets all plans."""
        with _lock:
            self._memory[launcher.TABLE_COUNT] = 0
            self._oldest = 0
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


_tables: weakref.WeakSet[PlanTable] = weakref.WeakSet()
_lock = threading.Lock()  # of all tables, for changes only


def clear_all_plans() -> None:
    """Forgets the plans of all operations, because something they depend on has changed."""
    for table in list(_tables):
        table.clear()


threads.on_change(clear_all_plans)


def _signature(operands: Sequence[NDArray[Any]]) -> list[int]:
    words = [len(operands)]
    for i, array in enumerate(operands):
        if type(array) is not np.ndarray:
            raise TypeError(f"PlanTable.add: operand {i} must be a numpy.ndarray, got {type(array).__name__}")
        aligned = launcher.FLAG_ALIGNED if array.flags.aligned else 0
        words += [id(array.dtype), array.ndim, aligned, *array.shape, *array.strides]
    return words


def _find_in_python(entries: list[tuple[Plan, Words, list[Any]]], *operands: Any) -> Plan | None:
    if any(type(operand) is not np.ndarray for operand in operands):
        return None
    signature = _signature(operands)
    return next((plan for plan, known, _ in entries if known.tolist() == signature), None)

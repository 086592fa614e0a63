"""Plans: what an array operation has found out about its operands, kept so that the next call is short.

The first call of an operation with operands of new shapes, strides or dtypes makes a `Plan`: the kernel, its
argument block, the rows and tasks, the outputs. Later calls find it in the operation's `PlanTable`, allocate
the outputs and launch the kernel, all in one builtin function in machine code (`nbdl.backend.numba.native`):

    out = table.run_plan((x, y))
    if out is None:
        table.add(make_plan(x, y), (x, y))
        out = table.run_plan((x, y))

The same in steps is `plan = table.find(x, y)`, `out = plan.allocate()`, `launch(plan.block, x, y, out)`. The
builtins are made when this module is imported, which takes a few milliseconds once the kernel cache has them.
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

__all__ = ["OutputSpec", "Plan", "PlanTable", "clear_all_plans", "launch"]

MAX_PLANS = 64

launch = runtime().launch


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
        regions: How many parallel regions the kernel itself opens.
        keep: Objects whose memory `arguments` refers to.

    Attributes:
        kernel: As above.
        block: int64 array: a header, then the kernel's argument block.
        outputs: As above, a tuple.
        regions: How many parallel regions a launch opens.
        keep: As above.
        allocate: Function without arguments: the uninitialised output, or a tuple of all if not just one.

    Raises:
        ValueError: A count is negative.
    """

    __slots__ = ("__weakref__", "_specs", "allocate", "block", "keep", "kernel", "outputs", "regions")

    kernel: int
    block: Words
    outputs: tuple[OutputSpec, ...]
    regions: int
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
        regions: int = 0,
        keep: Any = None,
    ) -> None:
        if inputs < 0 or rows < 0:
            raise ValueError(f"Plan: inputs and rows must not be negative, got {inputs} and {rows}")
        self.kernel = kernel
        self.outputs = tuple(outputs)
        self.keep = keep
        operands = inputs + len(self.outputs)
        tasks = max(1, min(tasks, rows))
        self.regions = regions + (tasks > 1)
        if self.regions:
            threads.start()
        self.block = np.zeros(launcher.HEADER_WORDS + operands + len(arguments), np.int64)
        self.block[launcher.HEADER_KERNEL] = kernel
        self.block[launcher.HEADER_ROWS] = rows
        self.block[launcher.HEADER_TASKS] = tasks
        self.block[launcher.HEADER_OPERANDS] = operands
        self.block[launcher.HEADER_OUTPUTS] = len(self.outputs)
        self._specs = np.array([word for output in self.outputs for word in _spec_words(output)], np.int64)
        self.block[launcher.HEADER_SPECS] = self._specs.ctypes.data
        if any(pool.keeps(output.shape, output.dtype) for output in self.outputs):
            self.allocate_by(_allocator(self.outputs))
        else:
            self.allocate = _allocator(self.outputs)
        self.block[launcher.HEADER_MAGIC] = launcher.MAGIC
        self.block[launcher.HEADER_WORDS + operands :] = arguments

    def allocate_by(self, allocate: Callable[[], Any]) -> None:
        """Lets a function allocate the outputs: it returns an array, or a tuple of all."""
        self.allocate = allocate
        self.block[launcher.HEADER_ALLOCATE] = id(allocate)

    @property
    def operands(self) -> int:
        """Number of inputs and outputs."""
        return int(self.block[launcher.HEADER_OPERANDS])

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


def _spec_words(output: OutputSpec) -> list[int]:
    """What `nbdl.kernels.cpu.launcher` reads to allocate an output; `Plan.outputs` keeps the dtype alive."""
    order = np.arange(len(output.shape)) if output.axes is None else np.argsort(output.axes)
    strides, step = [0] * len(output.shape), output.dtype.itemsize
    for axis in reversed(order):
        strides[axis] = step
        step *= output.shape[axis]
    return [id(output.dtype), len(output.shape), *output.shape, *strides]


class PlanTable:
    """The plans of one operation, at most `MAX_PLANS`; the oldest gives way.

    Args:
        positions: For each output the operand that it overwrites; empty where outputs are new arrays.

    Attributes:
        find: `find(*operands) -> Plan | None`, the plan for operands of exactly these dtypes, shapes and
            strides, aligned or not as they were; None for anything else, such as an operand that is not
            exactly a numpy.ndarray.
        run_plan: `run_plan(inputs)`, the outputs of the plan for a list or tuple of inputs, newly allocated:
            an array, or a tuple if they are not just one; None if there is no plan with a kernel.
        run_rows: `run_rows(*rows) -> int`, runs the plans for rows (lists or tuples) of operands, outputs
            overwriting the operands at `positions`; how many, since it ends at the first row that has no plan
            with a kernel or must not be overwritten.
    """

    __slots__ = (
        "__weakref__", "_entries", "_memory", "_oldest", "_positions", "find", "run_plan", "run_rows",
    )  # fmt: skip

    find: Callable[..., Plan | None]
    run_plan: Callable[..., Any]
    run_rows: Callable[..., int]

    def __init__(self, positions: tuple[int, ...] = ()) -> None:
        self._memory = np.zeros(launcher.TABLE_PLANS + launcher.TABLE_PLAN_WORDS * MAX_PLANS, np.int64)
        self._memory[launcher.TABLE_STATE] = state().ctypes.data
        self._positions = np.array([len(positions), *positions], np.int64)
        self._memory[launcher.TABLE_POSITIONS] = self._positions.ctypes.data
        self._entries: list[tuple[Plan, Words, list[Any]]] = []
        self._oldest = 0
        for name, function in _IN_PYTHON.items():
            maker = runtime().makers.get(name)
            setattr(self, name, maker(self._memory) if maker else partial(function, self._entries, positions))
        _tables.add(self)

    def add(self, plan: Any, operands: Sequence[NDArray[Any]]) -> None:
        """Keeps a plan for operands like these; outputs that are given come last.

        Any other object may stand in for a plan where there is no kernel; `find` returns it.

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
            words = launcher.TABLE_PLANS + launcher.TABLE_PLAN_WORDS * k
            block = plan.block.ctypes.data if isinstance(plan, Plan) else 0
            self._memory[words : words + launcher.TABLE_PLAN_WORDS] = id(plan), signature.ctypes.data, block
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


# ---- Where only Python can search ----

_Entries = list[tuple[Plan, Words, list[Any]]]


def _find_in_python(entries: _Entries, positions: Any, *operands: Any) -> Plan | None:
    if any(type(operand) is not np.ndarray for operand in operands):
        return None
    signature = _signature(operands)
    return next((plan for plan, known, _ in entries if known.tolist() == signature), None)


def _run_plan_in_python(entries: _Entries, positions: Any, inputs: Sequence[Any]) -> Any:
    plan = _find_in_python(entries, positions, *inputs)
    if not isinstance(plan, Plan):
        return None
    outputs = plan.allocate()
    launch(plan.block, *inputs, *(outputs if type(outputs) is tuple else (outputs,)))
    return outputs


def _run_rows_in_python(entries: _Entries, positions: tuple[int, ...], *rows: Sequence[Any]) -> int:
    for done, row in enumerate(rows):
        operands = [*row, *[row[position] for position in positions]]
        plan = _find_in_python(entries, positions, *operands)
        if not isinstance(plan, Plan) or not all(array.flags.writeable for array in operands[len(row) :]):
            return done
        launch(plan.block, *operands)
    return len(rows)


_IN_PYTHON: dict[str, Callable[..., Any]] = {
    "find": _find_in_python,
    "run_plan": _run_plan_in_python,
    "run_rows": _run_rows_in_python,
}

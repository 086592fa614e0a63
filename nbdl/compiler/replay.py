"""Replaying: a program with memory and kernels, ready to run as often as it is called.

What the backend has kernels for becomes plans, which run one after the other without Python between them;
the rest, on the NumPy backend everything, is a list of calls with ``out=``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.compiler.addresses import address_of, extent_of, share_memory
from nbdl.compiler.arrays import Memory, view_at
from nbdl.compiler.graphs import GraphSteps, keeps_inputs, placed
from nbdl.compiler.memory import plan_memory
from nbdl.compiler.program import INPUT, OUTPUT, Buffer, Operation, Program, Window
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.primitive import Primitive
from nbdl.utils.timing import wait_for_gpu

if TYPE_CHECKING:
    from nbdl.backend.numba.launch import Plan
    from nbdl.backend.numba.replay import Place, Sequel
    from nbdl.backend.numpy import NumpyBackend

# Runs a part of the program on the arrays of a call: those of the arguments, then those of the results.
Step = Callable[..., Any]


class Replay:
    """A program that can be called.

    Args:
        program: what to run; the arrays of its inputs are used to make plans, and let go.
        backend: what computes.
        one_by_one: make a step of every operation, to time them.

    Attributes:
        operations: as they are computed, parts for which there is no common plan on their own.
        steps: the parts that a call runs.
        memory: where the temporaries lie.
        backend: what computes.
        xp: makes arrays where the program computes.
        bound: the buffers of arguments and results, and where in the arrays of a call theirs is.
    """

    def __init__(self, program: Program, backend: NumpyBackend, one_by_one: bool = False):
        self._program, self._cpu = program, backend
        self.backend, self.xp = backend, backend.xp
        self._one_by_one = one_by_one
        if program.on_device:
            self.backend, self.xp = placed(program)
        self.memory = Memory(plan_memory(program), self.xp)
        self._results = list(
            dict.fromkeys(window.buffer for window in program.outputs if window.buffer.kind == OUTPUT)
        )
        self.bound: dict[Buffer, int] = {
            buffer: k for k, buffer in enumerate([*program.inputs, *self._results])
        }
        self._lock = threading.Lock()
        # They own the memory that their `run` reads. By position of a plan: what raises its error.
        self._sequels: list[tuple[Sequel, dict[int, Step]]] = []
        plans = list(self._planned())
        self.operations = [operation for operation, _ in plans]
        self.steps = self._lower(plans)
        self._allocators = [self._allocator(buffer) for buffer in self._results]
        self._views = [self._result_view(window) for window in program.outputs]
        for buffer in self.bound:
            buffer.array = None
        self.memory.forget_samples()

    def __call__(self, *inputs: Any) -> list[Any]:
        """Run on these arrays; the arrays of the results."""
        arrays = [*inputs, *[allocate() for allocate in self._allocators]]
        self.run(arrays)
        return [view(arrays) for view in self._views]

    def run(self, arrays: Sequence[Any]) -> None:
        """Run on these arrays: those of the arguments, then the memory of the results."""
        try:
            if self._sequels and len(self.steps) == 1:
                self.steps[0](*arrays)  # one builtin, during which the interpreter lock is held
            else:
                with self._lock:  # the temporaries are shared by all calls
                    for step in self.steps:
                        step(*arrays)
        except IndexError:
            self._explain(arrays)
            raise

    def _explain(self, arrays: Sequence[Any]) -> None:
        """Raise the error of the operation that failed, which a kernel cannot: it only stops the program."""
        for sequel, checks in self._sequels:
            failed = sequel.take_failure()
            if failed in checks:
                checks[failed](*arrays)

    @property
    def regions(self) -> int:
        """How many parallel regions a run opens."""
        return sum(sequel.regions for sequel, _ in self._sequels)

    def step_seconds(self, inputs: Sequence[Any], runs: int) -> list[float]:
        """Run on these arrays so many times; the median time of each step."""
        arrays = [*inputs, *[allocate() for allocate in self._allocators]]
        times = np.empty((runs, len(self.steps)))
        with self._lock:
            for run in range(-1, runs):  # the first one only warms up
                for k, step in enumerate(self.steps):
                    wait_for_gpu()
                    start = perf_counter()
                    step(*arrays)
                    wait_for_gpu()
                    times[run, k] = perf_counter() - start
        return np.median(times, 0).tolist()

    # --------------------------------------------------------------------------------------------- results
    def _allocator(self, buffer: Buffer) -> Callable[[], Any]:
        """Fresh memory for a result: of its shape if one window is all of it, else bytes."""
        window = self.whole(buffer)
        if window is None:
            return lambda: self.memory.new(buffer)
        shape, dtype, xp = window.shape, window.dtype, np if buffer.on_host else self.xp
        return lambda: xp.empty(shape, dtype)

    def whole(self, buffer: Buffer) -> Window | None:
        """The one window through which a result is returned, if it is the whole buffer in C order."""
        windows = [window for window in self._program.outputs if window.buffer is buffer]
        first = windows[0]
        contiguous = np.empty((0,), first.dtype).itemsize
        for n, step in zip(reversed(first.shape), reversed(first.strides), strict=True):
            if n != 1 and step != contiguous:
                return None
            contiguous *= n
        whole = first.offset == 0 and first.nbytes == buffer.nbytes and first.size > 0
        return first if whole and all(window == first for window in windows) else None

    def _result_view(self, window: Window) -> Callable[[Sequence[Any]], Any]:
        buffer = window.buffer
        if buffer.kind == INPUT:
            return self.reader(window)
        if buffer.kind != OUTPUT:
            array = self.memory.array(window)  # memory from outside, such as a parameter
            return lambda arrays: array
        k = self.bound[buffer]
        if self.whole(buffer) is not None:
            return lambda arrays: arrays[k]
        return lambda arrays: view_at(arrays[k], address_of(arrays[k]), window)

    # ------------------------------------------------------------------------------------------- operations
    def _lower(self, plans: Sequence[tuple[Operation, Plan | None]]) -> list[Step]:
        if self._program.on_device and not self._one_by_one and keeps_inputs(self._program):
            return [GraphSteps(self)]
        steps: list[Step] = []
        planned: list[tuple[Plan, list[Place]]] = []
        checks: dict[int, Step] = {}

        def flush() -> None:
            if planned:
                from nbdl.backend.numba.replay import Sequel

                sequel = Sequel(planned, len(self.bound))
                self._sequels.append((sequel, checks.copy()))
                steps.append(sequel.run)
                planned.clear()
                checks.clear()

        for operation, plan in plans:
            if plan is None:
                flush()
                steps.append(self.call_of(operation))
            else:
                if type(operation.primitive).check_values is not Primitive.check_values:
                    checks[len(planned)] = self._check_of(operation)
                windows = (*operation.inputs, *operation.outputs) if plan.operands else ()
                planned.append((plan, [self._place(window) for window in windows]))
                if self._one_by_one:
                    flush()
        flush()
        return steps

    def _planned(self) -> Iterator[tuple[Operation, Plan | None]]:
        """The operations with their plans; without a plan for all parts of one, the parts."""
        for operation in self._program.operations:
            plan = self._plan_parts(operation) if operation.parts else self._plan(operation)
            if plan is None and operation.parts:
                yield from ((part, self._plan(part)) for part in operation.parts)
            else:
                yield operation, plan

    def _plan_parts(self, operation: Operation) -> Plan | None:
        if operation.into:
            return self._plan_group(operation)
        product, epilogue = operation.parts
        inputs, operands, (out,) = (
            [self.memory.array(window) for window in windows]
            for windows in (product.inputs, epilogue.inputs, epilogue.outputs)
        )
        plan = self.backend.plan_with_epilogue(product.primitive, inputs, epilogue.primitive, operands, out)
        return plan if plan is not None and _lies_like(plan.outputs[0], out) else None

    def _plan_group(self, operation: Operation) -> Plan | None:
        rows = []
        for part in operation.parts:
            inputs = [self.memory.array(window) for window in part.inputs]
            outputs = tuple(self.memory.array(window) for window in part.outputs)
            if _overlap_partly(inputs, outputs):
                return None
            rows.append((inputs, outputs))
        return self.backend.plan_group(operation.primitive, rows)

    def _plan(self, operation: Operation) -> Plan | None:
        """The backend's plan for an operation, if its results then lie where the program wants them."""
        inputs = [self.memory.array(window) for window in operation.inputs]
        outputs = tuple(self.memory.array(window) for window in operation.outputs)
        if operation.into or isinstance(operation.primitive, Pointwise):
            if _overlap_partly(inputs, outputs):
                return None
            return self.backend.plan_for(operation.primitive, inputs, outputs)
        plan = self.backend.plan_for(operation.primitive, inputs, None)
        if plan is not None and all(map(_lies_like, plan.outputs, outputs)):
            return plan
        return self.backend.plan_for(operation.primitive, inputs, outputs)

    def _place(self, window: Window) -> Place:
        from nbdl.backend.numba.replay import Place

        if window.buffer in self.bound:
            return Place(self.bound[window.buffer], window.offset - self._start(window.buffer))
        return Place(None, address_of(self.memory.array(window)))

    def _start(self, buffer: Buffer) -> int:
        """Offset in the buffer of the first element of the call's array."""
        if buffer.kind == INPUT:
            return address_of(buffer.array) - extent_of(buffer.array)[0]
        return 0

    def call_of(self, operation: Operation) -> Step:
        """A call of the backend from Python."""
        on_host = all(window.buffer.on_host for window in operation.outputs)
        primitive, backend = operation.primitive, self._cpu if on_host else self.backend
        reads = [self.reader(window) for window in operation.inputs]
        writes = [self.reader(window) for window in operation.outputs]

        def step(*arrays: Any) -> None:
            outs = tuple([read(arrays) for read in writes])
            backend.execute(
                primitive, [read(arrays) for read in reads], out=outs if len(outs) > 1 else outs[0]
            )

        return step

    def _check_of(self, operation: Operation) -> Step:
        """What raises the error of an operation if elements of its operands are not allowed."""
        reads = [self.reader(window) for window in operation.inputs]
        return lambda *arrays: operation.primitive.check_values(*[read(arrays) for read in reads])

    def reader(self, window: Window) -> Callable[[Sequence[Any]], Any]:
        """The array of a window, given the arrays of a call."""
        buffer = window.buffer
        if buffer not in self.bound:
            array = self.memory.array(window)
            return lambda arrays: array
        k, start = self.bound[buffer], self._start(buffer)
        whole = buffer.kind == INPUT and window.shape == buffer.array.shape
        if whole and window.strides == buffer.array.strides and window.dtype == buffer.array.dtype:
            return lambda arrays: arrays[k]
        return lambda arrays: view_at(arrays[k], address_of(arrays[k]) - start, window)


def _overlap_partly(inputs: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether an output shares memory with an input without being it."""
    return any(x is not out and share_memory(x, out) for x in inputs for out in outputs)


def _lies_like(spec: Any, out: Any) -> bool:
    """Whether an output that a plan would allocate has the layout of ``out``."""
    shape, dtype, axes = spec
    if tuple(shape) != out.shape or dtype != out.dtype:
        return False
    order = range(len(shape)) if axes is None else np.argsort(axes)
    expected = out.itemsize
    for axis in reversed(list(order)):
        if out.shape[axis] != 1 and out.strides[axis] != expected:
            return False
        expected *= out.shape[axis]
    return True

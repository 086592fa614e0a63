"""A program on a GPU: CUDA graphs, each launched at once, and between them what cannot be captured.

A graph repeats its kernels at the addresses that they were captured with. So arguments and results have
places of their own, which are copied to and from; numbers on the host that may change (learning rates,
counts of steps) become numbers on the device, sent before the graphs run; and what operations allocate while
they are captured comes from a pool that the program keeps. The first call runs operation by operation, which
compiles what is needed; the second one captures.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.backend import registry
from nbdl.backend.cupy.placing import Placed, PrivatePool
from nbdl.compiler.addresses import address_of, extent_of
from nbdl.compiler.arrays import view_at
from nbdl.compiler.program import CAPTURED, INPUT, Buffer, Operation, Program, Window

if TYPE_CHECKING:
    from nbdl.backend.cupy.backend import CupyBackend
    from nbdl.compiler.replay import Replay
    from nbdl.ops.primitive import Primitive

_log = logging.getLogger("nbdl")


def keeps_inputs(program: Program) -> bool:
    """Whether the program leaves its arguments as they are."""
    return all(window.buffer.kind != INPUT for op in program.operations for window in op.outputs)


def placed(program: Program) -> tuple[CupyBackend, Any]:
    """The backend of a program on a GPU, and CuPy's functions on its device.

    Raises:
        RuntimeError: the program uses several devices.
    """
    backend: Any = registry.load("cupy")
    arrays = [buffer.array for buffer in program.buffers if isinstance(buffer.array, backend.array_type)]
    numbers = sorted({int(array.device.id) for array in arrays})
    if len(numbers) > 1:
        names = " and ".join(f"cuda:{number}" for number in numbers)
        raise RuntimeError(f"compile: a program works on one device, but its tensors are on {names}")
    return backend, Placed(backend.xp, numbers[0] if numbers else backend.xp.cuda.runtime.getDevice())


class Call(NamedTuple):
    """An operation with the arrays that it works on at every call."""

    primitive: Primitive
    inputs: tuple[Any, ...]
    out: Any


class GraphSteps:
    """The steps of a program on a GPU; called with the arrays of arguments and results.

    Args:
        replay: has the program's operations and memory.

    Attributes:
        calls: what is computed on the device, in order.
        graphs: how many graphs a call launches; 0 before they are captured.
        eager: the names of the operations that run between them.
    """

    def __init__(self, replay: Replay):
        from nbdl.backend.cupy.libraries import plans_in

        self._replay = replay
        self._backend: Any = replay.backend
        self._plans: dict[Any, Any] = {}  # of libraries, with workspaces that are the program's own
        self._plans_in = plans_in
        self._cupy = self._backend.xp
        self._device = self._cupy.cuda.Device(replay.xp.index)
        self._places: dict[Buffer, Any] = {}
        self._copied_in: list[tuple[int, Any]] = []
        self._copied_out: list[tuple[int, Any]] = []
        for buffer, k in replay.bound.items():
            if not buffer.on_host:
                self._make_place(buffer, k)
        self._host: list[Callable[..., Any]] = []
        self.calls = self._calls_of(replay.operations)
        self._parts: list[Callable[[], Any]] = [functools.partial(self._run, self.calls)]
        self._count = 0
        with self._device:  # an event is of the device where it is made
            self._stream, self._done = None, self._cupy.cuda.Event(disable_timing=True)
        self.graphs = 0
        self.eager: list[str] = []

    def __call__(self, *arrays: Any) -> None:
        """Run on these arrays."""
        if self._device.id == self._cupy.cuda.runtime.getDevice():
            self._run_all(arrays)
        else:
            with self._device:
                self._run_all(arrays)

    def _run_all(self, arrays: Sequence[Any]) -> None:
        stream = self._cupy.cuda.get_current_stream()
        if self._stream is not None and self._stream != stream:
            stream.wait_event(self._done)  # the memory of the program is in use
        self._stream = stream
        for k, place in self._copied_in:
            place[...] = arrays[k]
        for step in self._host:
            step(*arrays)
        self._numbers.send()
        self._count += 1
        if self._count == 2:
            self._capture()
        for part in self._parts:
            part()
        for k, place in self._copied_out:
            arrays[k][...] = place
        self._done.record(stream)

    def _run(self, calls: Sequence[Call]) -> None:
        with self._plans_in(self._plans):
            for primitive, inputs, out in calls:
                self._backend.execute(primitive, inputs, out=out)

    # ------------------------------------------------------------------------------------------- capturing
    def _capture(self) -> None:
        """Make graphs of the calls, as long as possible."""
        cuda = self._cupy.cuda
        self._pool = PrivatePool(self._cupy)  # a graph owns no memory: the pool must live with it
        stream = self._capturing = cuda.Stream(non_blocking=True)  # workspaces are kept by stream
        parts: list[Callable[[], Any]] = []
        with stream, cuda.using_allocator(self._pool.malloc):
            possible = [self._graph(stream, [call]) is not None for call in self.calls]
            for can, pairs in itertools.groupby(zip(possible, self.calls), key=lambda pair: pair[0]):
                calls = [call for _, call in pairs]
                graph = self._graph(stream, calls) if can else None
                parts.append(functools.partial(self._run, calls) if graph is None else graph.launch)
                if graph is not None:
                    graph.upload()
                    self.graphs += 1
                else:
                    self.eager += [call.primitive.label for call in calls]
        self._parts = parts

    def _graph(self, stream: Any, calls: Sequence[Call]) -> Any:
        """A graph of these calls; None, with the reason logged, if they cannot be captured."""
        graph, problem = None, None
        stream.begin_capture()
        try:
            self._run(calls)
        except Exception as error:  # whatever it is: the same call runs outside of the capture, and tells
            problem = error
        try:
            graph = stream.end_capture()  # in any case: a stream that is left capturing spoils what follows
        except RuntimeError as error:
            problem = problem or error
        if problem is None:
            return graph
        _tell(calls[0].primitive.label, " ".join(str(problem).split()))
        return None

    # ------------------------------------------------------------------------------------------ preparation
    def _make_place(self, buffer: Buffer, k: int) -> None:
        """Memory for an argument or a result, and its window on what a call brings."""
        self._places[buffer] = memory = self._replay.xp.empty(buffer.nbytes, np.uint8)
        if buffer.kind == INPUT:
            array = buffer.array
            offset = address_of(array) - extent_of(array)[0]
            window = Window(buffer, offset, array.shape, array.strides, array.dtype)
            self._copied_in.append((k, self._array(window)))
        else:
            whole = self._replay.whole(buffer)
            self._copied_out.append((k, memory if whole is None else self._array(whole)))

    def _array(self, window: Window) -> Any:
        place = self._places.get(window.buffer)
        if place is None:
            return self._replay.memory.array(window)
        return view_at(place, address_of(place), window)

    def _calls_of(self, operations: Sequence[Operation]) -> list[Call]:
        """What is to be called on the device; what is computed on the host goes before all of it."""
        written: dict[Buffer, int] = {}
        numbers: dict[Any, int] = {}
        waiting: list[tuple[Primitive, list[Any], Any]] = []
        for operation in operations:
            if all(window.buffer.on_host for window in operation.outputs):
                self._host.append(self._replay.call_of(operation))
                for window in operation.outputs:
                    written[window.buffer] = written.get(window.buffer, 0) + 1
                continue
            inputs: list[Any] = []
            for window in operation.inputs:
                if not window.buffer.on_host:
                    inputs.append(self._array(window))
                elif _is_constant(window):
                    value = self._replay.memory.array(window)
                    takes = self._backend.takes_numbers(operation.primitive)
                    inputs.append(value if takes else self._replay.xp.asarray(value))
                else:  # the value that it has at this place of the program
                    key = (*window.place, written.get(window.buffer, 0))
                    if key not in numbers:
                        numbers[key] = len(numbers)
                        self._host.append(self._note(numbers[key], self._replay.reader(window)))
                    inputs.append((numbers[key], window.dtype))
            outs = tuple([self._array(window) for window in operation.outputs])
            waiting.append((operation.primitive, inputs, outs if len(outs) > 1 else outs[0]))
        with self._device:
            self._numbers = self._backend.numbers(len(numbers))
        return [
            Call(primitive, tuple([self._numbers.place(*x) if type(x) is tuple else x for x in inputs]), out)
            for primitive, inputs, out in waiting
        ]

    def _note(self, k: int, read: Callable[[Sequence[Any]], Any]) -> Callable[..., Any]:
        return lambda *arrays: self._numbers.put(k, read(arrays))


def _is_constant(window: Window) -> bool:
    """Whether it is a Python number, whose array is read-only."""
    return window.buffer.kind == CAPTURED and not window.buffer.array.flags.writeable


@functools.cache
def _tell(label: str, reason: str) -> None:
    """Log, once, why an operation is not in a graph."""
    _log.info("compile: %s runs outside of the CUDA graphs: %s", label, reason)

"""Looking on while the array layer computes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.autograd.modes import mode
from nbdl.backend import registry

if TYPE_CHECKING:
    from nbdl.backend.numpy import NumpyBackend
    from nbdl.ops.primitive import Primitive


class Call(NamedTuple):
    """One call of the array layer.

    Attributes:
        primitive: what was computed.
        inputs: the operands.
        outputs: the results.
        into: whether the results were written into arrays that existed.
        start: when it began, in nanoseconds of :func:`time.perf_counter_ns`.
        stop: when it was done; on a GPU, when its results were there.
    """

    primitive: Primitive
    inputs: Sequence[Any]
    outputs: tuple[Any, ...]
    into: bool
    start: int
    stop: int


class Observer:
    """Stands in for a backend, and tells about every call.

    Args:
        backend: what computes.
        observe: is told.
    """

    def __init__(self, backend: NumpyBackend, observe: Callable[[Call], None]):
        self.backend = backend
        self.observe: Callable[[Call], None] | None = observe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Compute, and tell."""
        start = time.perf_counter_ns()
        result = self.backend.execute(primitive, arrays, out)
        self._tell(primitive, arrays, result if type(result) is tuple else (result,), out is not None, start)
        return result

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """Compute all rows, and tell about them as one call."""
        start = time.perf_counter_ns()
        self.backend.overwrite(primitive, rows, positions)
        inputs = [array for row in rows for array in row]
        self._tell(primitive, inputs, tuple([row[k] for row in rows for k in positions]), True, start)

    def _tell(
        self, primitive: Primitive, inputs: Sequence[Any], outputs: tuple[Any, ...], into: bool, start: int
    ) -> None:
        if self.observe is None:  # somebody kept the backend longer than the observation lasted
            return
        if outputs and not isinstance(outputs[0], np.ndarray):
            _wait_for_gpu()
        self.observe(Call(primitive, inputs, outputs, into, start, time.perf_counter_ns()))


@contextmanager
def observing(observe: Callable[[Call], None]) -> Iterator[None]:
    """Inside the ``with`` block ``observe`` is told about every call of the array layer in this thread."""
    if mode.recorder is not None:
        mode.recorder.refuse("a profiler or a summary", "use it around the call of the compiled function")
    previous = mode.backend
    observer = Observer(previous or registry.cpu or registry.select(), observe)
    mode.backend = observer  # type: ignore[assignment]
    try:
        yield
    finally:
        mode.backend, observer.observe = previous, None


def _wait_for_gpu() -> None:
    import cupy

    cupy.cuda.get_current_stream().synchronize()

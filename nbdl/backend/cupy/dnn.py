"""Graphs of cuDNN, by way of nvidia-cudnn-frontend: described once, kept with their workspace, run often.

A graph computes a few arrays of others, each known to it by a number. Sizes are given in the order N, C,
spatial axes, whatever the strides say: strides alone tell whether channels lie last. A graph with its
workspace may run while a stream is captured.

This was tested with a library that stands for cuDNN, under the names of nvidia-cudnn-frontend 1.18, not on a
device.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nbdl.backend.cupy.libraries import tell
from nbdl.backend.cupy.placing import overlap
from nbdl.backend.windows import Sizes

DATA_TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT", "float64": "DOUBLE"}

# Bytes; what nvidia-cudnn-frontend assumes of tensors of which nothing else is said.
ALIGNMENT = 16


class Sketch:
    """A graph that is being described.

    Args:
        library: the module ``cudnn``.
        kind: name of the dtype of its arrays.
        handle: the library's state.

    Attributes:
        graph: of cuDNN.
        values: the numbers on the host that it reads, by the numbers of their tensors.
    """

    def __init__(self, library: Any, kind: str, handle: int):
        self.library, self._kind = library, kind
        wide = library.data_type.DOUBLE if kind == "float64" else library.data_type.FLOAT
        self.graph = library.pygraph(
            io_data_type=self._data_type(kind),
            intermediate_data_type=wide,
            compute_data_type=wide,
            handle=handle,
        )
        self.values: dict[int, np.ndarray] = {}

    def operand(self, number: int, dims: Sizes, steps: Sizes, kind: str | None = None) -> Any:
        """An array that the graph reads."""
        made = self.graph.tensor(
            dim=list(dims), stride=list(steps), data_type=self._data_type(kind), name=f"t{number}"
        )
        return made.set_uid(number)

    def value(self, number: int, value: float, ndim: int) -> Any:
        """A number that is part of the plan."""
        self.values[number] = np.full((1,) * ndim, value, np.float32)
        made = self.graph.tensor(
            dim=[1] * ndim, stride=[1] * ndim, data_type=self.library.data_type.FLOAT,
            is_pass_by_value=True, name=f"t{number}",
        )  # fmt: skip
        return made.set_uid(number)

    def result(self, made: Any, number: int, dims: Sizes, steps: Sizes, kind: str | None = None) -> None:
        """An array that the graph writes."""
        made.set_output(True).set_dim(list(dims)).set_stride(list(steps))
        made.set_data_type(self._data_type(kind)).set_uid(number)

    def _data_type(self, kind: str | None) -> Any:
        return getattr(self.library.data_type, DATA_TYPES[kind or self._kind])


class Plan:
    """A graph that is ready to run.

    Args:
        library: the module ``cudnn``.
        xp: the module ``cupy``.
        kind: name of the dtype of the arrays.
        label: what it computes, for people.
        describe: adds operands, operations and results to a sketch.
        avoids: notes of engines that are left out.

    Attributes:
        graph: of cuDNN; None where it has no engine for it, or does not know it.
    """

    def __init__(
        self,
        library: Any,
        xp: Any,
        kind: str,
        label: str,
        describe: Callable[[Sketch], None],
        avoids: Sequence[str] = (),
    ):
        self._library, self._handle = library, _handle(library, xp.cuda.runtime.getDevice())
        self.graph: Any = None
        try:
            sketch = Sketch(library, kind, self._handle)
            describe(sketch)
            graph, self._values = sketch.graph, sketch.values
            graph.validate()
            graph.build_operation_graph()
            graph.create_execution_plans([library.heur_mode.A, library.heur_mode.FALLBACK])
            if avoids:
                graph.deselect_numeric_notes([getattr(library.numerical_note, note) for note in avoids])
            graph.check_support()
            graph.build_plans()
        except (library.cudnnGraphNotSupportedError, RuntimeError, ValueError) as error:
            tell(f"cuDNN does not compute {label}: {' '.join(str(error).split())}")
            return
        self.graph = graph
        self._workspace = xp.empty(max(1, graph.get_workspace_size()), np.uint8)

    def __call__(self, arrays: dict[int, Any], stream: Any) -> None:
        """Compute the results of the operands, by their numbers."""
        addresses = {number: x.data.ptr for number, x in arrays.items()}
        addresses |= {number: value.ctypes.data for number, value in self._values.items()}
        with _lock:  # the stream is the handle's, which other threads use as well
            self._library.set_stream(handle=self._handle, stream=stream.ptr)
            self.graph.execute(addresses, self._workspace.data.ptr, handle=self._handle)


def steps_of(x: Any) -> Sizes:
    """Strides in elements."""
    return tuple(step // x.itemsize for step in x.strides)


def packed(shape: Sizes, order: Sequence[int]) -> Sizes:
    """Strides, in elements, of an array without gaps whose axes lie in this order, the outermost first."""
    steps, step = [0] * len(shape), 1
    for axis in reversed(order):
        steps[axis] = step
        step *= shape[axis]
    return tuple(steps)


def image_order(ndim: int, is_last: bool) -> tuple[int, ...]:
    """The axes of (N, C, *size) as they lie in memory, with the channels last or not."""
    return (0, *range(2, ndim), 1) if is_last else tuple(range(ndim))


def lies(x: Any, steps: Sizes) -> bool:
    """Whether the elements lie with these strides; those of axes of length 1 mean nothing."""
    return all(n == 1 or a == b for n, a, b in zip(x.shape, steps_of(x), steps, strict=True))


def is_upright(x: Any) -> bool:
    """Whether cuDNN knows such strides: no elements overlap, and no axis runs backwards."""
    reached = 1
    for step, n in sorted(zip(steps_of(x), x.shape, strict=True)):
        if n > 1:
            if step < reached:
                return False
            reached = step * n
    return True


def is_aligned(x: Any) -> bool:
    """Whether the array begins where graphs expect theirs to."""
    return x.data.ptr % ALIGNMENT == 0


def empty_in_order(xp: Any, shape: Sizes, order: Sequence[int], dtype: np.dtype) -> Any:
    """A new array whose axes lie in this order in memory."""
    made = xp.empty(tuple(shape[axis] for axis in order), dtype)
    return made.transpose(tuple(int(axis) for axis in np.argsort(order)))


def placed_in_order(
    xp: Any, out: Any, shape: Sizes, order: Sequence[int], dtype: np.dtype, *operands: Any
) -> Any:
    """``out`` if it lies in this order and apart from the operands, else a new array that does."""
    fits = out is not None and out.shape == shape and out.dtype == dtype and is_aligned(out)
    if fits and lies(out, packed(shape, order)) and not any(overlap(x, out) for x in operands):
        return out
    return empty_in_order(xp, shape, order, dtype)


def planar(shape: Sizes, steps: Sizes) -> tuple[Sizes, Sizes]:
    """Sizes and strides of (N, C, *size) with at least two spatial axes: cuDNN knows planes and spaces."""
    if len(shape) == 2:
        return (*shape, 1, 1), (*steps, *[max(steps)] * 2)
    if len(shape) == 3:
        return (*shape[:2], 1, shape[2]), (*steps[:2], shape[2] * steps[2], steps[2])
    return shape, steps


_handles: dict[tuple[int, int], int] = {}
_lock = threading.Lock()


def _handle(library: Any, device: int) -> int:
    """The library's state on a device."""
    key = (id(library), device)
    if key not in _handles:
        _handles[key] = library.create_handle()
    return _handles[key]

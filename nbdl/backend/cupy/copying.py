"""Copies on the GPU: in another order of axes by tiles in shared memory, and in a frame of one value.

A copy whose elements lie in one order on both sides is a formula, or the driver's. Where the fastest axis of
one side is not that of the other, neighbouring threads would read or write far from each other: a block then
takes a tile to shared memory along the one axis, and from there along the other (Ruetsch and Micikevicius
2009, Optimizing matrix transpose in CUDA).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import c_type
from nbdl.backend.cupy.files import of_real_numbers, source_of
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, Launch, blocks, index_type
from nbdl.backend.cupy.placing import overlap
from nbdl.backend.cupy.reduction import IDENTITY
from nbdl.backend.loops import element_strides, memory_order, merge, row_major
from nbdl.backend.numpy.copying import Copying
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.ops.primitive import View

# The side of a tile, the rows that a block takes at once, and the lengths from which tiles pay.
_TILE = 32
_ROWS = 8
_LONG = 16


class Side(NamedTuple):
    """Where elements go along an axis of a frame.

    Attributes:
        start: place of the first one.
        length: how many there are.
        step: between their places, positive.
        stride: between them in the operand, in elements.
    """

    start: int
    length: int
    step: int
    stride: int


class CupyCopying(Copying):
    """See :class:`~nbdl.backend.numpy.copying.Copying`."""

    pointwise: Any
    _kernels: Kernels
    _plans: dict[Any, Any]
    _keep: Any

    def copy(self, x: Any, *, order: str, out: Any = None) -> Any:
        """Fresh memory; ``order`` ``C`` (row-major) or ``K`` (as it is)."""
        if out is None:
            out = self.xp.empty(x.shape, x.dtype) if order == "C" else self.xp.empty_like(x)
        return self._copied_into(out, x)

    def rearrange(
        self,
        x: Any,
        *,
        split: tuple[int, ...],
        axes: tuple[int, ...],
        shape: tuple[int, ...],
        out: Any = None,
    ) -> Any:
        """Fresh memory of ``shape`` with the elements of x, split into more axes, in the order ``axes``."""
        moved = x.reshape(split).transpose(axes)
        is_direct = out is None or out.flags.c_contiguous
        result = self.xp.empty(shape, x.dtype) if out is None or not is_direct else out
        self._copied_into(result.reshape(moved.shape), moved)
        return result if is_direct else self._copied_into(out, result)

    def pad(
        self, x: Any, *, widths: tuple[tuple[int, int], ...], value: bool | int | float, out: Any = None
    ) -> Any:
        """``x`` in a frame of ``value``, in one launch."""
        if x.dtype.kind == "c" or (out is not None and overlap(x, out)):
            return super().pad(x, widths=widths, value=value, out=out)  # type: ignore[misc]
        if out is None:
            shape = tuple([before + n + after for n, (before, after) in zip(x.shape, widths, strict=True)])
            out = self.xp.empty_like(x, shape=shape)  # in the layout of x
        steps = _strides("pad", x)
        sides = [
            Side(before, n, 1, step) for n, (before, _), step in zip(x.shape, widths, steps, strict=True)
        ]
        return self._framed_in(out, x, sides, value)

    @of_real_numbers
    def view_scatter(
        self, x: Any, *, views: tuple[View, ...], shape: tuple[int, ...], out: Any = None
    ) -> Any:
        """``x`` in the window that ``views`` cut out of an array of zeros; slices in one launch."""
        is_sliced = all(view.name == "slice" for view in views)
        if out is not None and overlap(x, out):
            x = x.copy()
        result = out
        if out is None:
            is_alike = is_sliced and x.ndim == len(shape)
            result = self.xp.empty_like(x, shape=shape) if is_alike else self.xp.empty(shape, x.dtype)
        if is_sliced:
            x, sides = _sides(x, views, shape)
            return self._framed_in(result, x, sides, 0)
        result.fill(0)
        window = result
        for view in views:
            window = view.view(window)
        self._copied_into(window, x)
        return result

    def _row_major(self, x: Any) -> Any:
        """``x``, or a copy of it where it is not row-major."""
        return x if x.flags.c_contiguous else self.copy(x, order="C")

    def _copied_into(self, out: Any, x: Any) -> Any:
        """``out`` holding ``x``, which has its shape and dtype."""
        if overlap(x, out):
            x = x.copy()
        if not out.size or (x.flags.c_contiguous and out.flags.c_contiguous):
            out[...] = x
            return out
        key = ("copy", x.shape, x.strides, out.strides, x.dtype)
        if key not in self._plans:
            self._keep(key, plan_tiles(self._kernels, x.shape, x.strides, out.strides, x.itemsize))
        launch = self._plans[key]
        if launch is not None:
            launch(x, out)
        elif x.dtype.kind == "c":
            out[...] = x
        else:
            self.pointwise(x, formula=IDENTITY, out=out)
        return out

    def _framed_in(self, out: Any, x: Any, sides: Sequence[Side], value: bool | int | float) -> Any:
        if out.size and not x.size:
            out.fill(value)
        elif out.size:
            own = tuple(_strides("pad", out))
            key = ("frame", out.shape, own, tuple(sides), x.dtype)
            launch = self._plans.get(key)
            if launch is None:
                launch = self._keep(key, plan_frame(self._kernels, out.shape, own, sides, x.dtype))
            kind = codegen.value_type(x.dtype).type
            launch(x, out, kind(value))
        return out


def _strides(label: str, array: Any) -> tuple[int, ...]:
    strides = element_strides(array, array.shape)
    if strides is None:
        raise ValueError(f"{label}: strides must be multiples of {array.itemsize} bytes, got {array.strides}")
    return strides


def _sides(x: Any, views: Sequence[View], shape: tuple[int, ...]) -> tuple[Any, list[Side]]:
    """``x``, with axes turned that go backwards, and where slices of an array of ``shape`` put it."""
    # An array of bytes that nobody reads: places in it tell the axis and the element.
    own = row_major([max(1, n) for n in shape])
    window = whole = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), shape, own)
    for view in views:
        window = view.view(window)
    offset = window.__array_interface__["data"][0] - whole.__array_interface__["data"][0] if x.size else 0
    sides = []
    for n, step in zip(shape, own, strict=True):
        start, offset = divmod(offset, step)
        sides.append(Side(start, 1 if n and x.size else 0, 1, 0))
    turned = [-1 if n > 1 and step < 0 else 1 for n, step in zip(x.shape, window.strides, strict=True)]
    x = x[tuple([slice(None, None, turn) for turn in turned])]
    strides = _strides("view_scatter", x)
    for n, stride, step in zip(x.shape, strides, window.strides, strict=True):
        if n < 2 or not x.size:
            continue
        axis = max(k for k in range(len(shape)) if shape[k] > 1 and own[k] <= abs(step) < own[k] * shape[k])
        step //= own[axis]
        start = sides[axis].start + min(0, step) * (n - 1)
        sides[axis] = Side(start, n, abs(step), stride)
    return x, sides


# ----------------------------------------------------------------------------------------------------- tiles
def plan_tiles(
    kernels: Kernels,
    shape: tuple[int, ...],
    source: tuple[int, ...],
    target: tuple[int, ...],
    itemsize: int,
) -> Launch | None:
    """A copy by tiles; None where both sides have one fastest axis, or tiles would be nearly empty.

    Args:
        kernels: makes the kernel.
        shape: of both arrays, without an axis of length 0.
        source: strides of the operand in bytes.
        target: strides of the result in bytes.
        itemsize: bytes of an element.
    """
    if any(step % itemsize for steps in (source, target) for step, n in zip(steps, shape) if n > 1):
        return None
    nest, _ = merge(shape, [[step // itemsize for step in steps] for steps in (source, target)])
    loops = list(zip(nest.dims, *nest.strides, strict=True))
    long = [loop for loop in loops if loop[0] >= _LONG]
    rows = next((loop for loop in long if loop[1] == 1 and loop[2] != 1), None)
    columns = next((loop for loop in long if loop[2] == 1 and loop[1] != 1), None)
    if rows is None or columns is None:
        return None
    outer = [loop for loop in loops if loop not in (rows, columns)]
    dims = [loop[0] for loop in outer]
    index = index_type(nest.dims, nest.strides)
    text = tiles_source("nbdl_copy", len(outer), index, itemsize)
    kernel = kernels.get("nbdl_copy", text, codegen.headers([]))
    tiles = -(-rows[0] // _TILE), -(-columns[0] // _TILE)
    count = math.prod(tiles) * math.prod(dims)
    sizes = [count, *tiles, rows[0], rows[2], columns[0], columns[1], *dims[1:]]
    for side in (1, 2):
        sizes += [loop[side] for loop in outer]
    grid = (blocks(count, 1, MAX_BLOCKS),)
    return Launch(kernel, grid, (_TILE, _ROWS), tuple([index(size) for size in sizes]))


def tiles_source(name: str, depth: int, index: type, itemsize: int) -> str:
    """The CUDA C source of a copy by tiles.

    Its parameters: operand and result; numbers of tiles, of tiles along the rows and the columns of a matrix;
    lengths of both, the rows being neighbours in the operand, the columns in the result, and their strides on
    the other side; and lengths (without the outermost) and strides of the loops over matrices.

    Args:
        name: of the kernel.
        depth: number of loops over matrices.
        index: type of the indices.
        itemsize: bytes of an element.
    """
    sizes = ["tiles", "row_tiles", "column_tiles", "rows", "y_step", "columns", "x_step"]
    parameters = ["const word_t* __restrict__ x", "word_t* __restrict__ y"]
    parameters += [f"const index_t {size}" for size in sizes]
    parameters += [f"const index_t length{loop}" for loop in range(1, depth)]
    parameters += [f"const index_t {side}_outer{loop}" for side in "xy" for loop in range(depth)]
    lines = [
        f"__shared__ word_t tile[{_TILE}][{_TILE + 1}];  // a word more, lest columns lie in one bank",
        "for (index_t t = blockIdx.x; t < tiles; t += gridDim.x) {",
        "    const index_t matrix = t / (row_tiles * column_tiles), place = t % (row_tiles * column_tiles);",
        f"    const index_t first_row = place / column_tiles * {_TILE};",
        f"    const index_t first_column = place % column_tiles * {_TILE};",
        *codegen.decompose("matrix", depth, "length", {"x_start": "x_outer", "y_start": "y_outer"}, "    "),
        f"    for (int k = threadIdx.y; k < {_TILE}; k += blockDim.y) {{",
        "        const index_t row = first_row + threadIdx.x, column = first_column + k;",
        "        if (row < rows && column < columns)",
        "            tile[k][threadIdx.x] = x[x_start + row + column * x_step];",
        "    }",
        "    __syncthreads();",
        f"    for (int k = threadIdx.y; k < {_TILE}; k += blockDim.y) {{",
        "        const index_t row = first_row + k, column = first_column + threadIdx.x;",
        "        if (row < rows && column < columns)",
        "            y[y_start + row * y_step + column] = tile[threadIdx.x][k];",
        "    }",
        "    __syncthreads();  // before the next tile comes",
        "}",
    ]
    head = [
        source_of("words.cuh", {"index_t": c_type(np.dtype(index))}, (), {"NBDL_BYTES": itemsize}),
        "",
    ]
    return "\n".join([*head, *codegen.kernel(name, parameters, [f"    {line}" for line in lines]), ""])


# ---------------------------------------------------------------------------------------------------- frames
def plan_frame(
    kernels: Kernels, shape: tuple[int, ...], strides: tuple[int, ...], sides: Sequence[Side], dtype: np.dtype
) -> Launch:
    """A launch on (operand, result, value of the frame).

    Args:
        kernels: makes the kernel.
        shape: of the result, without an axis of length 0.
        strides: of the result, in elements.
        sides: where elements go, for every axis.
        dtype: of the elements.
    """
    order = memory_order(shape, [strides])
    is_whole = [sides[k] == Side(0, shape[k], 1, sides[k].stride) for k in order]
    groups = [0 if whole else k + 1 for k, whole in enumerate(is_whole)]
    steps = [[strides[k] for k in order], [sides[k].stride for k in order]]
    nest, kinds = merge([shape[k] for k in order], steps, groups)
    framed = [order[group - 1] for group in kinds if group]
    index = index_type(nest.dims, nest.strides)
    has_steps = any(sides[k].step != 1 for k in framed)
    text = frame_source("nbdl_pad", [bool(group) for group in kinds], has_steps, index, dtype)
    kernel = kernels.get("nbdl_pad", text, codegen.headers([dtype]))
    count = math.prod(nest.dims)
    sizes = [count, *nest.dims[1:], *nest.strides[0], *nest.strides[1]]
    for k in framed:
        sizes += [sides[k].start, sides[k].length, *([sides[k].step] if has_steps else [])]
    grid = (blocks(count, THREADS, MAX_BLOCKS),)
    return Launch(kernel, grid, (THREADS,), tuple([index(size) for size in sizes]))


def frame_source(name: str, framed: Sequence[bool], has_steps: bool, index: type, dtype: np.dtype) -> str:
    """The CUDA C source of an operand in a frame: a thread an element of the result.

    Its parameters: operand, result, and the value of the frame; the number of elements; the lengths of the
    loops without the outermost; strides of result and operand; and for every loop with a frame the place of
    the first element of the operand, their number and, if ``has_steps``, the step.

    Args:
        name: of the kernel.
        framed: for every loop whether there are places without an element of the operand.
        has_steps: whether there are such places between elements.
        index: type of the indices.
        dtype: of the elements.
    """
    element, depth = c_type(dtype), len(framed)
    loops = [loop for loop in range(depth) if framed[loop]]
    parameters = [f"const {element}* __restrict__ x", f"{element}* __restrict__ y"]
    parameters += [f"const {c_type(codegen.value_type(dtype))} value", "const index_t count"]
    parameters += [f"const index_t length{loop}" for loop in range(1, depth)]
    parameters += [f"const index_t {array}_step{loop}" for array in "yx" for loop in range(depth)]
    names = ("start", "count", "step") if has_steps else ("start", "count")
    parameters += [f"const index_t {size}{loop}" for loop in loops for size in names]
    lines = [
        "for (index_t i = blockIdx.x * (index_t)blockDim.x + threadIdx.x; i < count; "
        "i += (index_t)gridDim.x * blockDim.x) {",
        "    index_t rest = i, from = 0, to = 0;",
        "    bool is_inside = true;",
    ]
    for loop in reversed(range(depth)):
        lines.append(f"    index_t at{loop} = rest{f' % length{loop}' if loop else ''};")
        lines += [f"    rest /= length{loop};"] if loop else []
        lines.append(f"    to += at{loop} * y_step{loop};")
        if framed[loop]:
            lines.append(f"    at{loop} -= start{loop};")
            if has_steps:
                lines.append(f"    is_inside = is_inside && at{loop} % step{loop} == 0;")
                lines.append(f"    if (at{loop} >= 0) at{loop} /= step{loop};")
            lines.append(f"    is_inside = is_inside && at{loop} >= 0 && at{loop} < count{loop};")
        lines.append(f"    from += at{loop} * x_step{loop};")
    lines += [f"    y[to] = is_inside ? x[from] : nbdl::cast<{element}>(value);", "}"]
    entry = codegen.kernel(name, parameters, [f"    {line}" for line in lines])
    return codegen.source(IDENTITY, dtypes.arithmetic_dtype(dtype), index, [], entry)

"""Reading at computed places, and combining values there, as the gradients of indexing and pooling do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.cupy import codegen
from nbdl.backend.cupy.codegen import c_type
from nbdl.backend.cupy.files import of_real_numbers
from nbdl.backend.cupy.launch import MAX_BLOCKS, THREADS, Kernels, Launch, blocks, index_type
from nbdl.backend.cupy.placing import overlap, target
from nbdl.backend.loops import Strides, element_strides, merge, row_major
from nbdl.backend.numpy.results import delivered
from nbdl.backend.windows import Sizes
from nbdl.formula import Formula, dtypes
from nbdl.formula.dtypes import arithmetic_dtype

_IDENTITY = Formula("scatter", lambda x: x, 1)
# How a value is combined with what is in its place; "gather" takes what is there.
_COMBINED = {
    "add": "a + b",
    "prod": "a * b",
    "amax": "nbdl::maximum(a, b)",
    "amin": "nbdl::minimum(a, b)",
}


class Places(NamedTuple):
    """Where the elements of a loop nest go, or come from, in an array with computed places.

    Attributes:
        shape: lengths of the loops.
        values: strides of the values.
        fixed: strides of that array along the loops that are its own axes, 0 along the others.
        indices: strides of every index.
        lengths: of the axes that are indexed.
        steps: strides of that array along these axes.
        ranks: along the loops, the number of an element among those that may have one place.
        claims, claim_steps: as ``fixed`` and ``steps``, of an array with a number for each such place.
    """

    shape: tuple[int, ...]
    values: Strides
    fixed: Strides
    indices: tuple[Strides, ...]
    lengths: tuple[int, ...]
    steps: tuple[int, ...]
    ranks: Strides = ()
    claims: Strides = ()
    claim_steps: tuple[int, ...] = ()

    def claiming(self) -> Places:
        """The loops along which places are chosen, with ranks for values."""
        loops = [loop for loop, step in enumerate(self.ranks) if step]
        shape, ranks, claims, *indices = (
            tuple([steps[loop] for loop in loops])
            for steps in (self.shape, self.ranks, self.claims, *self.indices)
        )
        return Places(shape, ranks, claims, tuple(indices), self.lengths, self.claim_steps)


class CupyScattering:
    """See :class:`~nbdl.backend.numpy.indexing.Indexing`.

    An index that does not exist is passed over, and read as NaN (0 if there is none): to raise an error, the
    host would have to wait. Where several values are written to one place, the last one stays, as in NumPy:
    a first launch notes for every place the last value that wants it.
    """

    xp: Any
    cast: Any
    _kernels: Kernels
    _plans: dict[Any, Any]
    _keep: Any

    @of_real_numbers
    def index(self, x: Any, *indices: Any, axes: tuple[int, ...], out: Any = None) -> Any:
        """``x`` at ``indices``, whole along the other axes."""
        shape = indexed_shape(x.shape, axes, indices)
        result = target(self.xp, out, shape, x.dtype, x, *indices)
        places = _places(x.shape, _strides(x, x.shape), axes, indices, shape, row_major(shape))
        return delivered(self._gather(places, x, result, indices), out)

    @of_real_numbers
    def gather(self, x: Any, index: Any, *, axis: int, out: Any = None) -> Any:
        """result[i, j, k] = x[i, index[i, j, k], k] for axis 1."""
        if index.ndim == 0:
            return super().gather(x, index, axis=axis, out=out)  # type: ignore[misc]
        _check_reach(x, index, axis)
        result, own = target(self.xp, out, index.shape, x.dtype, x, index), _strides(x, x.shape)
        places = Places(
            index.shape,
            row_major(index.shape),
            tuple([0 if k == axis else step for k, step in enumerate(own)]),
            (_strides(index, index.shape),),
            (x.shape[axis],),
            (own[axis],),
        )
        return delivered(self._gather(places, x, result, (index,)), out)

    @of_real_numbers
    def index_put(
        self, x: Any, values: Any, *indices: Any, axes: tuple[int, ...], accumulate: bool, out: Any = None
    ) -> Any:
        """``x`` with ``values`` written at ``indices``, or added there."""
        out = self._copied(x, out)
        shape = indexed_shape(x.shape, axes, indices)
        places = _places(x.shape, row_major(x.shape), axes, indices, shape, _strides(values, shape))
        return self._scatter("add" if accumulate else "set", places, out, values, indices)

    @of_real_numbers
    def scatter(self, x: Any, index: Any, source: Any, *, axis: int, kind: str, out: Any = None) -> Any:
        """``x`` with ``source`` written along an axis at ``index``, or combined with what is there."""
        if index.ndim == 0:
            return super().scatter(x, index, source, axis=axis, kind=kind, out=out)  # type: ignore[misc]
        _check_reach(x, index, axis)
        out = self._copied(x, out)
        own = row_major(x.shape)
        places = Places(
            index.shape,
            _strides(source[tuple([slice(n) for n in index.shape])] if source.ndim else source, index.shape),
            tuple([0 if k == axis else step for k, step in enumerate(own)]),
            (_strides(index, index.shape),),
            (x.shape[axis],),
            (own[axis],),
        )
        if index.shape[axis] > 1:  # else every element has a place of its own
            claims = places.fixed, places.steps
            places = places._replace(ranks=row_major(index.shape), claims=claims[0], claim_steps=claims[1])
        return self._scatter(kind, places, out, source, (index,))

    def window_scatter(self, y: Any, indices: Any, *, size: Sizes, out: Any = None) -> Any:
        """Elements added to zeros (N, C, *size) at flat positions of their planes."""
        planes = y.shape[0] * y.shape[1]
        plane = int(np.prod(size, dtype=np.int64))
        total = self.xp.zeros((planes, plane), arithmetic_dtype(y.dtype))
        wide = y if y.dtype == total.dtype else self.cast(y, dtype=total.dtype)
        windows = y.size // max(planes, 1)
        rows = [self.xp.ascontiguousarray(array).reshape((planes, windows)) for array in (indices, wide)]
        total = self.scatter(total, *rows, axis=1, kind="add", out=total)
        result = total.reshape((*y.shape[:2], *size))
        if out is None:
            return result if y.dtype == result.dtype else self.cast(result, dtype=y.dtype)
        return self.cast(result, dtype=out.dtype, out=out)

    def _copied(self, x: Any, out: Any) -> Any:
        """``out`` holding ``x``, or a row-major copy of it."""
        if out is None:
            return x.copy("C")
        if out is not x:
            out[...] = x
        return out

    def _gather(self, places: Places, x: Any, result: Any, indices: Sequence[Any]) -> Any:
        if 0 not in places.shape:
            self._launch_places("gather", places, x, (result,), indices)
        return result

    def _scatter(self, kind: str, places: Places, out: Any, values: Any, indices: Sequence[Any]) -> Any:
        if 0 in places.shape:
            return out
        target = out if out.flags.c_contiguous else out.copy("C")
        values = values if values.dtype == out.dtype else self.cast(values, dtype=out.dtype)
        values = values.copy() if overlap(values, target) else values
        if dtypes.is_half(out.dtype) and kind in ("add", "prod"):
            # Many roundings to 8 or 11 digits would add up: the sum is rounded once.
            wide = self.cast(target, dtype=dtypes.FLOAT32)
            wide = self._scatter(kind, places, wide, self.cast(values, dtype=dtypes.FLOAT32), indices)
            return self.cast(wide, dtype=out.dtype, out=out)
        if kind == "set" and places.ranks:
            claiming = places.claiming()
            size = target.size if any(places.claims) else int(np.prod(places.lengths, dtype=np.int64))
            claims = self.xp.zeros(size, _claim_dtype(places))
            self._launch_places("claim", claiming, claims, (), indices)
            self._launch_places(kind, places, target, (values, claims), indices)
        else:
            self._launch_places(kind, places, target, (values,), indices)
        if target is not out:
            out[...] = target
        return out

    def _launch_places(
        self, kind: str, places: Places, x: Any, values: Sequence[Any], indices: Sequence[Any]
    ) -> None:
        kinds = [index.dtype for index in indices]
        key = ("scatter", kind, places, x.dtype, tuple(kinds))
        launch = self._plans.get(key)
        if launch is None:
            launch = self._keep(key, plan_scatter(self._kernels, kind, places, x.dtype, kinds))
        launch(x, *values, *indices)


def _check_reach(x: Any, index: Any, axis: int) -> None:
    """An index along one axis must not be longer than the array along another one.

    Raises:
        IndexError: it is.
    """
    pairs = zip(x.shape, index.shape, strict=True)  # as many axes, or a ValueError
    if any(long > n for k, (n, long) in enumerate(pairs) if k != axis):
        raise IndexError(f"index of shape {index.shape} reaches out of {x.shape} beside axis {axis}")


def indexed_shape(shape: Sizes, axes: tuple[int, ...], indices: Sequence[Any]) -> Sizes:
    """The shape of an array indexed along ``axes``: the place of the indices is that of neighbouring axes."""
    chosen = np.broadcast_shapes(*[index.shape for index in indices])
    kept = [n for axis, n in enumerate(shape) if axis not in axes]
    front = _front(axes)
    return (*kept[:front], *chosen, *kept[front:])


def _front(axes: tuple[int, ...]) -> int:
    """How many of the axes that are kept whole come before the indices."""
    return axes[0] if axes == tuple(range(axes[0], axes[-1] + 1)) else 0


def _places(
    lengths: Sizes,
    own: Strides,
    axes: tuple[int, ...],
    indices: Sequence[Any],
    shape: Sizes,
    values: Strides,
) -> Places:
    """Of an array of these lengths and strides, indexed along ``axes`` to ``shape``."""
    kept = [own[axis] for axis in range(len(lengths)) if axis not in axes]
    chosen = np.broadcast_shapes(*[index.shape for index in indices])
    front = _front(axes)
    behind = len(kept) - front
    several = math.prod(chosen) > 1
    lengths_indexed = tuple([lengths[axis] for axis in axes])
    return Places(
        shape,
        values,
        (*kept[:front], *(0,) * len(chosen), *kept[front:]),
        tuple([(*(0,) * front, *_strides(index, chosen), *(0,) * behind) for index in indices]),
        lengths_indexed,
        tuple([own[axis] for axis in axes]),
        (*(0,) * front, *row_major(chosen), *(0,) * behind) if several else (),
        (0,) * len(shape) if several else (),
        row_major(lengths_indexed) if several else (),
    )


def _strides(array: Any, shape: tuple[int, ...]) -> Strides:
    strides = element_strides(array, shape)
    if strides is None:
        raise ValueError(f"scatter: strides must be multiples of {array.itemsize} bytes, got {array.strides}")
    return strides


def _claim_dtype(places: Places) -> np.dtype:
    """Of ranks, counted from 1."""
    return np.dtype(index_type(places.shape, [places.ranks]))


def plan_scatter(
    kernels: Kernels, kind: str, places: Places, dtype: np.dtype, index_dtypes: Sequence[np.dtype]
) -> Launch:
    """A launch on (array with computed places, values, *indices).

    One of ``claim`` has no values, one of ``set`` the claims behind them, if places may meet.

    Args:
        kernels: makes the kernel.
        kind: ``gather``, or what is done there: ``set``, ``add``, ``prod``, ``amax`` or ``amin``; ``claim``
            notes the highest rank of those that want a place, counted from 1.
        places: where elements go or come from; there is at least one.
        dtype: of both arrays.
        index_dtypes: of the indices.
    """
    claims = (places.claims, places.ranks) if kind == "set" and places.ranks else ()
    nest, _ = merge(places.shape, [places.fixed, places.values, *places.indices, *claims])
    # Each reaches over less than half of what an index type holds, so their sum fits as well.
    reaches = index_type(nest.dims, nest.strides), index_type(places.lengths, [places.steps])
    index = np.int64 if np.int64 in reaches else np.int32
    depth = len(nest.dims)
    name = f"nbdl_scatter_{kind}"
    claim = _claim_dtype(places) if claims else None
    text = kernel_source(name, kind, depth, len(places.indices), index, dtype, index_dtypes, claim)
    headers = (*codegen.headers([dtype]), *(("atomics.cuh",) if kind in _COMBINED else ()))
    kernel = kernels.get(name, text, headers)
    count = int(np.prod(nest.dims, dtype=np.int64))
    sizes = [count, *nest.dims[1:]]
    for steps in nest.strides:
        sizes += steps
    sizes += [*places.lengths, *places.steps, *(places.claim_steps if claims else ())]
    grid = (blocks(count, THREADS, MAX_BLOCKS),)
    return Launch(kernel, grid, (THREADS,), tuple([index(size) for size in sizes]))


def kernel_source(
    name: str,
    kind: str,
    depth: int,
    n_indices: int,
    index: type,
    dtype: np.dtype,
    index_dtypes: Sequence[np.dtype],
    claim: np.dtype | None = None,
) -> str:
    """The CUDA C source: thread i takes element i of a loop nest to its place, or gets it from there.

    Args:
        name: of the kernel.
        kind: see :func:`plan_scatter`.
        depth: number of loops.
        n_indices: number of indices.
        index: type of offsets.
        dtype: of both arrays.
        index_dtypes: of the indices.
        claim: dtype of the claims; None where there are none.
    """
    numbers = range(n_indices)
    element = c_type(dtype)
    arrays = ["y", "x", *[f"i{k}" for k in numbers], *([] if claim is None else ["claim", "rank"])]
    gathers = kind == "gather"
    parameters = [f"const {element}* __restrict__ y", f"{element}* __restrict__ x"]
    if not gathers:
        parameters = [f"{element}* y"]
        parameters += [] if kind == "claim" else [f"const {element}* __restrict__ x"]
        parameters += [] if claim is None else [f"const {c_type(claim)}* __restrict__ claims"]
    parameters += [f"const {c_type(index_dtypes[k])}* __restrict__ i{k}" for k in numbers]
    parameters += ["const index_t count", *[f"const index_t length{loop}" for loop in range(1, depth)]]
    parameters += [f"const index_t {array}_step{loop}" for array in arrays for loop in range(depth)]
    parameters += [f"const index_t axis{k}" for k in numbers] + [
        f"const index_t axis_step{k}" for k in numbers
    ]
    parameters += [] if claim is None else [f"const index_t claim_axis{k}" for k in numbers]
    offsets = {f"{array}_offset": f"{array}_step" for array in arrays}
    lines = [
        "for (index_t k = blockIdx.x * (index_t)blockDim.x + threadIdx.x; k < count; "
        "k += (index_t)gridDim.x * blockDim.x) {",
        *codegen.decompose("k", depth, "length", offsets, "    "),
        "    index_t place = y_offset;",
        "    bool exists = true;",
        *([] if claim is None else ["    index_t claim = claim_offset;"]),
    ]
    for k in numbers:
        lines += [
            f"    index_t at{k} = (index_t)i{k}[i{k}_offset];",
            f"    if (at{k} < 0) at{k} += axis{k};",
            f"    exists = exists && at{k} >= 0 && at{k} < axis{k};",
            f"    place += at{k} * axis_step{k};",
            *([] if claim is None else [f"    claim += at{k} * claim_axis{k};"]),
        ]
    if gathers:
        missing = "nbdl::not_a_number<number>()" if dtypes.is_floating(dtype) else "number(0)"
        lines.append(f"    x[x_offset] = exists ? y[place] : nbdl::cast<{element}>({missing});")
    elif kind == "claim":
        lines.append(f"    if (exists) atomicMax(y + place, ({element})(x_offset + 1));")
    elif kind == "set":
        wins = "" if claim is None else " && claims[claim] == rank_offset + 1"
        lines.append(f"    if (exists{wins}) y[place] = x[x_offset];")
    else:
        function = "nbdl::atomic_add" if kind == "add" else "nbdl::atomic_combine"
        lines.append(f"    if (exists) {function}(y + place, x[x_offset], Combine());")
    lines.append("}")
    functions = _combine(element, kind) if kind in _COMBINED else []
    entry = codegen.kernel(name, parameters, [f"    {line}" for line in lines])
    return codegen.source(_IDENTITY, arithmetic_dtype(dtype), index, functions, entry)


def _combine(element: str, kind: str) -> list[str]:
    """The function object that combines a value with what is there."""
    return [
        "struct Combine {",
        f"    __device__ __forceinline__ {element} operator()({element} p, {element} q) const {{",
        "        const number a = nbdl::cast<number>(p), b = nbdl::cast<number>(q);",
        f"        return nbdl::cast<{element}>({_COMBINED[kind]});",
        "    }",
        "};",
    ]

"""Matrix products on the GPU: cuBLASLt, which adds the bias on the way, or CuPy's cuBLAS where it is missing.

cuBLASLt sees matrices by columns, so it is asked for the transpose: of ``y = a b``, with rows in memory,
it computes ``y' = b' a'``. Its bias then runs along the columns of ``y``. What was asked of it is a plan,
kept by shapes, strides, dtype, alignment and stream; it has its workspace, so it may run while a stream is
captured.

This was tested with a library that stands for cuBLASLt, under the names of nvmath-python 1.0, not on a
device.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.cupy.libraries import Lt, cublaslt, state, tell
from nbdl.backend.cupy.placing import overlap
from nbdl.formula import Formula, dtypes
from nbdl.formula.functions import relu

_ADD = Formula("add", lambda x, y: x + y, 2)
_RELU = Formula("relu", relu, 1)
_WORKSPACE = 32 << 20
# Addresses are aligned to a power of two; of more than this cuBLASLt makes no use.
_ALIGNMENT = 256


class Matrices(NamedTuple):
    """A stack of matrices as cuBLASLt describes it, in elements.

    Attributes:
        rows, columns: of a matrix as it lies in memory, by columns.
        stride: between columns.
        is_transposed: whether the product needs its transpose.
        distance: between matrices.
        alignment: of the address.
    """

    rows: int
    columns: int
    stride: int
    is_transposed: bool
    distance: int
    alignment: int


class CupyProducts:
    """Products; see :class:`~nbdl.backend.numpy.linalg.LinearAlgebra`."""

    xp: Any
    _plans: dict[Any, Any]
    _keep: Any
    cast: Any
    pointwise: Any

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """``a @ b``; see :meth:`~nbdl.backend.numpy.NumpyBackend.matmul`."""
        if transpose_a:
            a = a.swapaxes(-1, -2)
        if transpose_b:
            b = b.swapaxes(-1, -2)
        result = self._product(a, b, (), out)
        return self._cupy_product(a, b, out) if result is None else result

    def linear(self, x: Any, weight: Any, *bias: Any, out: Any = None) -> Any:
        """``x @ weight.T + bias``; see :meth:`~nbdl.backend.numpy.NumpyBackend.linear`."""
        result = self._product(x, weight.T, bias, out)
        if result is not None:
            return result
        result = self.matmul(x, weight.T, out=out)  # there may be an algorithm without a bias
        return self.pointwise(result, bias[0], formula=_ADD, out=result) if bias else result

    def activated_linear(self, x: Any, weight: Any, *bias: Any, activation: Formula, out: Any = None) -> Any:
        """``activation(x @ weight.T + bias)``; a rectifier in the same call.

        What that makes of NaN is up to the library: NaN or 0.
        """
        if activation.outputs == _RELU.outputs:
            result = self._product(x, weight.T, bias, out, is_rectified=True)
            if result is not None:
                return result
        return self.pointwise(self.linear(x, weight, *bias), formula=activation, out=out)

    def _cupy_product(self, a: Any, b: Any, out: Any) -> Any:
        """By CuPy, bfloat16 in float32."""
        if dtypes.is_bfloat16(a.dtype):
            product = self.xp.matmul(self.cast(a, dtype=dtypes.FLOAT32), self.cast(b, dtype=dtypes.FLOAT32))
            return self.cast(product, dtype=dtypes.bfloat16(), out=out)
        if out is None:
            return self.xp.matmul(a, b)
        if out.flags.c_contiguous and not overlap(a, out) and not overlap(b, out):
            return self.xp.matmul(a, b, out=out)
        out[...] = self.xp.matmul(a, b)
        return out

    def _product(self, a: Any, b: Any, bias: Sequence[Any], out: Any, is_rectified: bool = False) -> Any:
        """``a b + bias``, or its positive part, by cuBLASLt; None where it cannot compute it."""
        if min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype or a.shape[-1] != b.shape[-2]:
            return None  # vectors, or what is an error
        kind = a.dtype.name
        if kind not in _KINDS or not a.size or not b.size or not all(_is_plain(array, b) for array in bias):
            return None
        library = cublaslt()
        if library is None:
            return None
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        if b.ndim == 2:
            left, right = a.reshape(-1, a.shape[-1]), b
        else:
            left, right = (
                self.xp.broadcast_to(x, (*batch, *x.shape[-2:])).reshape(-1, *x.shape[-2:]) for x in (a, b)
            )
        is_direct = out is not None and out.flags.c_contiguous and not (overlap(a, out) or overlap(b, out))
        result = out if is_direct else self.xp.empty(shape, a.dtype)
        left, left_matrices = self._matrices(left)
        right, right_matrices = self._matrices(right)
        stream = self.xp.cuda.get_current_stream()
        flat = result.reshape(*left.shape[:-1], b.shape[-1])
        _, product = self._matrices(flat)
        key = (
            "product", kind, left_matrices, right_matrices, product, left.shape[:-2],
            _EPILOGUES[bool(bias), is_rectified], state.tf32, int(a.device.id), stream.ptr,
        )  # fmt: skip
        plan = self._plans.get(key)
        if plan is None:
            plan = self._keep(key, Plan(library, self.xp, key))
        if plan.algorithm is None:
            return None
        plan(left, right, bias[0] if bias else None, flat, stream)
        if out is None or is_direct:
            return result
        out[...] = result
        return out

    def _matrices(self, x: Any) -> tuple[Any, Matrices]:
        """An array of matrices, copied if need be, and how cuBLASLt sees it."""
        *_, rows, columns = x.shape
        item, alignment = x.itemsize, min(_ALIGNMENT, x.data.ptr & -x.data.ptr or _ALIGNMENT)
        across, along = (step // item for step in x.strides[-2:])
        distance = x.strides[0] // item if x.ndim == 3 else 0
        if (along == 1 or columns == 1) and (across >= columns or rows == 1):
            return x, Matrices(columns, rows, max(columns, across), False, distance, alignment)
        if (across == 1 or rows == 1) and along >= rows:
            return x, Matrices(rows, columns, along, True, distance, alignment)
        return self._matrices(self.xp.ascontiguousarray(x))


def _is_plain(bias: Any, b: Any) -> bool:
    return bias.dtype == b.dtype and bias.shape == (b.shape[-1],) and bias.flags.c_contiguous


# By whether there is a bias, and a rectifier.
_EPILOGUES = {
    (False, False): "DEFAULT", (True, False): "BIAS", (False, True): "RELU", (True, True): "RELU_BIAS",
}  # fmt: skip
# By dtype: what is computed in, the dtype of the factors, that of the data, and the factors' in NumPy.
_KINDS = {
    "float16": ("COMPUTE_32F", "CUDA_R_32F", "CUDA_R_16F", np.float32),
    "bfloat16": ("COMPUTE_32F", "CUDA_R_32F", "CUDA_R_16BF", np.float32),
    "float32": ("COMPUTE_32F", "CUDA_R_32F", "CUDA_R_32F", np.float32),
    "float64": ("COMPUTE_64F", "CUDA_R_64F", "CUDA_R_64F", np.float64),
}


class Plan:
    """A product that cuBLASLt has found an algorithm for.

    Args:
        library: cuBLASLt.
        xp: the module ``cupy``.
        key: what it depends on; see :meth:`CupyProducts._product`.

    Attributes:
        algorithm: in the library's own form; None where it has none.
    """

    def __init__(self, library: Lt, xp: Any, key: Sequence[Any]):
        _, kind, left, right, product, batch, epilogue, tf32, *_ = key
        self._has_bias = "BIAS" in epilogue
        self._api, self._handle = library.api, _handle(library, xp.cuda.runtime.getDevice())
        self._lock = threading.Lock()
        api, attributes, cublas = library.api, library.api.MatmulDescAttribute, library.cublas
        compute, scale, data, factor = _KINDS[kind]
        if kind == "float32" and tf32:
            compute = "COMPUTE_32F_FAST_TF32"
        self._one, self._zero = np.ones(1, factor), np.zeros(1, factor)
        self._description = api.matmul_desc_create(
            getattr(cublas.ComputeType, compute), getattr(library.kinds, scale)
        )
        for attribute, matrices in ((attributes.TRANSA, right), (attributes.TRANSB, left)):
            self._set(attribute, cublas.Operation.T if matrices.is_transposed else cublas.Operation.N)
        self._set(attributes.EPILOGUE, api.Epilogue[epilogue])
        self._layouts = [
            self._layout(getattr(library.kinds, data), matrices, math.prod(batch))
            for matrices in (right, left, product)
        ]
        made = [*self._layouts, self._description]
        weakref.finalize(self, _destroy, api, made).atexit = False
        self.algorithm = self._search((right, left, product, product))
        if self.algorithm is None:
            tell(f"cuBLASLt has no algorithm for a product of {kind}, {left} by {right}: CuPy computes it")
        else:
            self._workspace = xp.empty(max(1, int(self.algorithm["workspace_size"][0])), np.uint8)

    def __call__(self, left: Any, right: Any, bias: Any, out: Any, stream: Any) -> None:
        """Compute ``left right + bias`` into ``out``."""
        algorithm = np.ascontiguousarray(self.algorithm["algo"])
        with self._lock:  # the address of the bias is a part of the description
            if self._has_bias:
                self._set(self._api.MatmulDescAttribute.BIAS_POINTER, bias.data.ptr)
            right_layout, left_layout, layout = self._layouts
            self._api.matmul(
                self._handle, self._description, self._one.ctypes.data, right.data.ptr, right_layout,
                left.data.ptr, left_layout, self._zero.ctypes.data, out.data.ptr, layout, out.data.ptr,
                layout, algorithm.ctypes.data, self._workspace.data.ptr, self._workspace.nbytes, stream.ptr,
            )  # fmt: skip

    def _set(self, attribute: int, value: int) -> None:
        kind = self._api.get_matmul_desc_attribute_dtype(attribute)
        _store(self._api.matmul_desc_set_attribute, self._description, attribute, kind, value)

    def _layout(self, data: int, matrices: Matrices, count: int) -> int:
        api = self._api
        layout = api.matrix_layout_create(data, matrices.rows, matrices.columns, matrices.stride)
        if count > 1:
            names = api.MatrixLayoutAttribute
            for attribute, value in (
                (names.BATCH_COUNT, count),
                (names.STRIDED_BATCH_OFFSET, matrices.distance),
            ):
                kind = api.get_matrix_layout_attribute_dtype(attribute)
                _store(api.matrix_layout_set_attribute, layout, attribute, kind, value)
        return int(layout)

    def _search(self, operands: Sequence[Matrices]) -> Any:
        """The algorithm that the library thinks is fastest."""
        api, names = self._api, self._api.MatmulPreferenceAttribute
        wishes = [(names.MAX_WORKSPACE_BYTES, _WORKSPACE)]
        wishes += [
            (getattr(names, f"MIN_ALIGNMENT_{letter}_BYTES"), matrices.alignment)
            for letter, matrices in zip("ABCD", operands, strict=True)
        ]
        preference = api.matmul_preference_create()
        for attribute, value in wishes:
            kind = api.get_matmul_preference_attribute_dtype(attribute)
            _store(api.matmul_preference_set_attribute, preference, attribute, kind, value)
        found, count = np.zeros(1, api.matmul_heuristic_result_dtype), np.zeros(1, np.int32)
        right, left, product = self._layouts
        try:
            api.matmul_algo_get_heuristic(
                self._handle, self._description, right, left, product, product, preference, 1,
                found.ctypes.data, count.ctypes.data,
            )  # fmt: skip
        except api.cuBLASLtError:  # nothing fits: so the library says it
            return None
        finally:
            api.matmul_preference_destroy(preference)
        return found if count[0] else None


def _store(setter: Any, owner: int, attribute: int, kind: Any, value: int) -> None:
    """Set an attribute of a description: the library reads it from memory."""
    memory = np.array([value], kind)
    setter(owner, attribute, memory.ctypes.data, memory.nbytes)


_handles: dict[tuple[int, int], int] = {}


def _handle(library: Lt, device: int) -> int:
    """The library's state on a device."""
    key = (id(library), device)
    if key not in _handles:
        _handles[key] = library.api.create()
    return _handles[key]


def _destroy(api: Any, made: Sequence[int]) -> None:
    for layout in made[:-1]:
        api.matrix_layout_destroy(layout)
    api.matmul_desc_destroy(made[-1])

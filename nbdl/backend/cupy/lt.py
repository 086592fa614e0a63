"""cuBLASLt by the bindings of nvmath-python: a product and what is done on the way, found once, run often.

cuBLASLt sees matrices by columns, so it is asked for the transpose: of ``y = a b``, with rows in memory, it
computes ``y' = b' a'``, whose rows are the columns of ``y``. A plan has its workspace, so it may run while a
stream is captured; it is made before that, in the first run of a program.

=====================  ==============================================================================
epilogue               what it adds, in terms of ``y = a b`` with rows in memory
=====================  ==============================================================================
BIAS                   ``vector``, one element for each column of ``y``
RELU, GELU             the activation; GELU is the one with tanh
..._AUX                writes ``aux``: bits that say where ``y`` is positive, or what GELU is given
DRELU, DGELU           ``y`` times the derivative of the activation, which is read from ``aux``
DRELU_BGRAD, ...       the same, and ``vector`` receives the sums of the columns of the result
BGRADB                 ``vector`` receives the sums of the rows of ``a``
=====================  ==============================================================================

Rows of bits begin at multiples of 128, rows of what GELU is given at multiples of 8 elements (NVIDIA,
cuBLAS documentation, cublasLtMatmulDescAttributes_t). This was tested with a library that stands for
cuBLASLt, under the names of nvmath-python 1.0, not on a device.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.cupy.libraries import Lt, tell

_WORKSPACE = 32 << 20


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


# By dtype: what is computed in, the dtype of the factors, that of the data, and the factors' in NumPy.
KINDS = {
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
        vector: what the epilogue adds or receives, or None.
        aux: what it writes or reads beside the result, or None.

    Attributes:
        algorithm: in the library's own form; None where it has none.
    """

    def __init__(self, library: Lt, xp: Any, key: Sequence[Any], vector: Any = None, aux: Any = None):
        _, kind, left, right, product, batch, epilogue, _, tf32, _ = key
        self._api, self._handle = library.api, _handle(library, xp.cuda.runtime.getDevice())
        self._lock = threading.Lock()
        api, attributes, cublas = library.api, library.api.MatmulDescAttribute, library.cublas
        compute, scale, data, factor = KINDS[kind]
        if kind == "float32" and tf32:
            compute = "COMPUTE_32F_FAST_TF32"
        self._one, self._zero = np.ones(1, factor), np.zeros(1, factor)
        self._description = api.matmul_desc_create(
            getattr(cublas.ComputeType, compute), getattr(library.kinds, scale)
        )
        for attribute, matrices in ((attributes.TRANSA, right), (attributes.TRANSB, left)):
            self._set(attribute, cublas.Operation.T if matrices.is_transposed else cublas.Operation.N)
        self._set(attributes.EPILOGUE, api.Epilogue[epilogue])
        if aux is not None:
            elements = 8 if aux.dtype == np.uint8 else 1  # bits are counted
            self._set(attributes.EPILOGUE_AUX_LD, elements * aux.shape[-1])
        self._set_pointers(vector, aux)  # the search looks at them
        self._layouts = [
            self._layout(getattr(library.kinds, data), matrices, math.prod(batch))
            for matrices in (right, left, product)
        ]
        made = [*self._layouts, self._description]
        weakref.finalize(self, _destroy, api, made).atexit = False
        self.algorithm = self._search((right, left, product, product))
        if self.algorithm is None:
            instead = "CuPy computes it" if epilogue == "DEFAULT" else "it is computed in several steps"
            tell(
                f"cuBLASLt has no algorithm for a product of {kind} with epilogue {epilogue}, {left} by "
                f"{right}: {instead}"
            )
        else:
            self._workspace = xp.empty(max(1, int(self.algorithm["workspace_size"][0])), np.uint8)

    def __call__(self, left: Any, right: Any, out: Any, stream: Any, vector: Any, aux: Any) -> None:
        """Compute ``left right`` and what the epilogue says into ``out``."""
        algorithm = np.ascontiguousarray(self.algorithm["algo"])
        with self._lock:  # addresses of what the epilogue works on are a part of the description
            self._set_pointers(vector, aux)
            right_layout, left_layout, layout = self._layouts
            self._api.matmul(
                self._handle, self._description, self._one.ctypes.data, right.data.ptr, right_layout,
                left.data.ptr, left_layout, self._zero.ctypes.data, out.data.ptr, layout, out.data.ptr,
                layout, algorithm.ctypes.data, self._workspace.data.ptr, self._workspace.nbytes, stream.ptr,
            )  # fmt: skip

    def _set_pointers(self, vector: Any, aux: Any) -> None:
        attributes = self._api.MatmulDescAttribute
        for attribute, array in ((attributes.BIAS_POINTER, vector), (attributes.EPILOGUE_AUX_POINTER, aux)):
            if array is not None:
                self._set(attribute, array.data.ptr)

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

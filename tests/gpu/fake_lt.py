"""A library that stands for cuBLASLt: the calls of nvmath-python, computed by NumPy on the addresses.

It knows matrices by columns, as the library does, and refuses what that refuses; its names and numbers are
those of nvmath-python 1.0 (see `NAMES`).
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import types
from typing import Any

import numpy as np
from gpu.standin_device import current_device, get_current_stream, is_capturing, issue

from nbdl.formula import dtypes


class ComputeType(enum.IntEnum):
    COMPUTE_32F = 68
    COMPUTE_32F_FAST_TF32 = 77
    COMPUTE_64F = 70


class Operation(enum.IntEnum):
    N = 0
    T = 1


class CudaDataType(enum.IntEnum):
    CUDA_R_32F = 0
    CUDA_R_64F = 1
    CUDA_R_16F = 2
    CUDA_R_16BF = 14


class Epilogue(enum.IntEnum):
    DEFAULT = 1
    RELU = 2
    RELU_AUX = 130
    BIAS = 4
    RELU_BIAS = 6
    RELU_AUX_BIAS = 134
    DRELU = 136
    DRELU_BGRAD = 152
    GELU = 32
    GELU_AUX = 160
    GELU_BIAS = 36
    GELU_AUX_BIAS = 164
    DGELU = 192
    DGELU_BGRAD = 208
    BGRADA = 256
    BGRADB = 512


class MatmulDescAttribute(enum.IntEnum):
    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8
    EPILOGUE_AUX_POINTER = 11
    EPILOGUE_AUX_LD = 12


class MatrixLayoutAttribute(enum.IntEnum):
    BATCH_COUNT = 5
    STRIDED_BATCH_OFFSET = 6


class MatmulPreferenceAttribute(enum.IntEnum):
    MAX_WORKSPACE_BYTES = 1
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class cuBLASLtError(Exception):
    """What the library answers with."""


matmul_heuristic_result_dtype = np.dtype(
    [
        ("algo", [("data_", "<u8", (8,))]), ("workspace_size", "<u8"), ("state", "<i4"), ("waves_count",
        "<f4"), ("reserved", "<i4", (4,)),
    ]
)  # fmt: skip
_objects: dict[int, dict[str, Any]] = {}
_numbers = itertools.count(1)
refused: set[int] = set()
"""Epilogues for which there is no algorithm."""
calls: list[dict[str, Any]] = []
"""The products that were computed or captured, with what was asked."""


def _made(**fields: Any) -> int:
    number = next(_numbers)
    _objects[number] = fields
    return number


def create() -> int:
    return _made(kind="handle", device=current_device())


def get_version() -> int:
    return 120900


def matmul_desc_create(compute_type: int, scale_type: int) -> int:
    return _made(kind="description", compute=ComputeType(compute_type), scale=scale_type)


def matrix_layout_create(type: int, rows: int, cols: int, ld: int) -> int:
    if ld < rows:
        raise cuBLASLtError("CUBLAS_STATUS_INVALID_VALUE")
    return _made(kind="layout", type=CudaDataType(type), rows=rows, columns=cols, stride=ld)


def matmul_preference_create() -> int:
    return _made(kind="preference")


def _destroy(number: int) -> None:
    del _objects[number]


matmul_desc_destroy = matrix_layout_destroy = matmul_preference_destroy = _destroy


def get_matmul_desc_attribute_dtype(attr: int) -> type:
    if attr == MatmulDescAttribute.EPILOGUE:
        return np.uint32
    return np.int64 if MatmulDescAttribute(attr).name.endswith(("_POINTER", "_LD")) else np.int32


def get_matrix_layout_attribute_dtype(attr: int) -> type:
    return np.int32 if attr == MatrixLayoutAttribute.BATCH_COUNT else np.int64


def get_matmul_preference_attribute_dtype(attr: int) -> type:
    return np.uint64 if attr == MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES else np.uint32


def _setter(kinds: Any, names: Any) -> Any:
    def store(owner: int, attr: int, buf: int, size_in_bytes: int) -> None:
        kind = np.dtype(kinds(attr))
        assert size_in_bytes == kind.itemsize
        _objects[owner][names(attr).name] = int(np.frombuffer(ctypes.string_at(buf, size_in_bytes), kind)[0])

    return store


matmul_desc_set_attribute = _setter(get_matmul_desc_attribute_dtype, MatmulDescAttribute)
matrix_layout_set_attribute = _setter(get_matrix_layout_attribute_dtype, MatrixLayoutAttribute)
matmul_preference_set_attribute = _setter(get_matmul_preference_attribute_dtype, MatmulPreferenceAttribute)


def matmul_algo_get_heuristic(
    light_handle: int, operation_desc: int, adesc: int, bdesc: int, cdesc: int, ddesc: int, preference: int,
    requested_algo_count: int, heuristic_results_array: int, return_algo_count: int,
) -> None:  # fmt: skip
    assert _objects[light_handle]["kind"] == "handle"
    assert not is_capturing(), "a plan is made before"
    wanted = _objects[preference]
    described, shape = _objects[operation_desc], _objects[ddesc]
    epilogue = Epilogue(described["EPILOGUE"]).name
    if described["EPILOGUE"] in refused:
        raise cuBLASLtError("CUBLAS_STATUS_NOT_SUPPORTED")
    if "BIAS" in epilogue or "GRAD" in epilogue:
        assert described["BIAS_POINTER"], "the search looks at it"
    if "AUX" in epilogue or (epilogue.startswith("D") and epilogue != "DEFAULT"):
        assert described["EPILOGUE_AUX_POINTER"] % 16 == 0 < described["EPILOGUE_AUX_POINTER"]
        assert described["EPILOGUE_AUX_LD"] >= shape["rows"]
        assert described["EPILOGUE_AUX_LD"] % (8 if "GELU" in epilogue else 128) == 0
        assert "BATCH_COUNT" not in shape
    if "BGRAD" in epilogue or (epilogue[0] == "D" and epilogue != "DEFAULT"):
        transposed = described.get("TRANSA")
        assert _objects[adesc]["columns" if not transposed else "rows"] > 1, "gradients need K > 1"
    if epilogue == "BGRADB":
        assert described.get("TRANSB"), "as nvmath asks for it"
    found = np.zeros(1, matmul_heuristic_result_dtype)
    found["workspace_size"] = 4096
    found["algo"]["data_"][0, :4] = [wanted[f"MIN_ALIGNMENT_{letter}_BYTES"] for letter in "ABCD"]
    assert wanted["MAX_WORKSPACE_BYTES"] >= 4096
    ctypes.memmove(heuristic_results_array, found.ctypes.data, found.nbytes)
    ctypes.memmove(return_algo_count, np.ones(1, np.int32).ctypes.data, 4)


def matmul(
    light_handle: int, compute_desc: int, alpha: int, a: int, adesc: int, b: int, bdesc: int, beta: int, c:
    int, cdesc: int, d: int, ddesc: int, algo: int, workspace: int, workspace_size_in_bytes: int, stream: int,
) -> None:  # fmt: skip
    asked = dict(_objects[compute_desc]) | {"stream": stream, "workspace": workspace}
    assert _objects[light_handle]["device"] == current_device(), "a handle of another device"
    assert stream == get_current_stream().ptr
    alignments = np.frombuffer(ctypes.string_at(algo, 32), np.uint64)
    for address, alignment in zip((a, b, c, d), alignments, strict=True):
        assert address % int(alignment) == 0, "an algorithm for another alignment"
    assert workspace
    assert workspace_size_in_bytes >= 4096
    factor = np.float64 if asked["scale"] == CudaDataType.CUDA_R_64F else np.float32
    one, zero = (
        np.frombuffer(ctypes.string_at(x, np.dtype(factor).itemsize), factor)[0] for x in (alpha, beta)
    )
    assert (one, zero) == (1, 0)
    left, right, result = (
        _matrices(x, _objects[layout]) for x, layout in ((a, adesc), (b, bdesc), (d, ddesc))
    )
    if asked.get("TRANSA"):
        left = left.swapaxes(-1, -2)
    if asked.get("TRANSB"):
        right = right.swapaxes(-1, -2)
    epilogue = Epilogue(asked["EPILOGUE"]).name
    rows, columns = result.shape[-2:]
    length = columns if epilogue == "BGRADB" else rows
    vector = bits = given = None
    if "BIAS" in epilogue or "GRAD" in epilogue:
        vector = _memory(asked["BIAS_POINTER"], result.dtype, (length,), (result.itemsize,))
    if "EPILOGUE_AUX_POINTER" in asked:
        address, stride = asked["EPILOGUE_AUX_POINTER"], asked["EPILOGUE_AUX_LD"]
        if "RELU" in epilogue:
            bits = _memory(address, np.dtype(np.uint8), (columns, stride // 8), (stride // 8, 1))
        else:
            given = _memory(
                address, result.dtype, (rows, columns), (result.itemsize, stride * result.itemsize)
            )
    calls.append(asked)

    def run() -> None:
        wide = np.result_type(factor, left.dtype) if left.dtype.kind == "f" else factor
        product = left.astype(wide) @ right.astype(wide)
        if "BIAS" in epilogue:
            product = product + vector.astype(wide)[:, None]
        if epilogue in ("DRELU", "DRELU_BGRAD"):
            product = product * np.unpackbits(bits, axis=1, count=rows, bitorder="little").T
        elif epilogue in ("DGELU", "DGELU_BGRAD"):
            product = product * _gelu(given.astype(wide))[1]
        elif "RELU" in epilogue:
            if bits is not None:
                packed = np.packbits(product.T > 0, axis=1, bitorder="little")
                bits[...] = 0xAA  # what is behind a row is nobody's business
                bits[:, : packed.shape[1]] = packed
            product = np.maximum(product, 0)
        elif "GELU" in epilogue:
            if given is not None:
                given[...] = product
            product = _gelu(product)[0]
        result[...] = product
        if epilogue == "BGRADB":
            vector[...] = right.astype(wide).sum(0)
        elif "BGRAD" in epilogue:
            vector[...] = product.sum(1)

    issue(run, [])


def _gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The approximation by tanh, and its derivative."""
    inner = np.tanh(0.7978845608028654 * (x + 0.044715 * x**3))
    slope = 0.7978845608028654 * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 + inner), 0.5 * (1 + inner) + 0.5 * x * (1 - inner**2) * slope


def _matrices(address: int, layout: dict[str, Any]) -> np.ndarray:
    """Matrices by columns, as an array (count, rows, columns) or (rows, columns)."""
    names = {"CUDA_R_32F": "float32", "CUDA_R_64F": "float64", "CUDA_R_16F": "float16"}
    name = layout["type"].name
    dtype = np.dtype(names[name]) if name in names else dtypes.bfloat16()
    shape, strides = (layout["rows"], layout["columns"]), (dtype.itemsize, layout["stride"] * dtype.itemsize)
    if "BATCH_COUNT" in layout:
        shape = (layout["BATCH_COUNT"], *shape)
        strides = (layout["STRIDED_BATCH_OFFSET"] * dtype.itemsize, *strides)
    return _memory(address, dtype, shape, strides)


def _memory(address: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    span = dtype.itemsize + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    return np.ndarray(shape, dtype, (ctypes.c_char * span).from_address(address), 0, strides)


NAMES = [
    "Epilogue", "MatmulDescAttribute", "MatmulPreferenceAttribute", "MatrixLayoutAttribute", "create",
    "cuBLASLtError", "get_matmul_desc_attribute_dtype", "get_matmul_preference_attribute_dtype",
    "get_matrix_layout_attribute_dtype", "get_version", "matmul", "matmul_algo_get_heuristic",
    "matmul_desc_create", "matmul_desc_destroy", "matmul_desc_set_attribute",
    "matmul_heuristic_result_dtype", "matmul_preference_create", "matmul_preference_destroy",
    "matmul_preference_set_attribute", "matrix_layout_create", "matrix_layout_destroy",
    "matrix_layout_set_attribute",
]  # fmt: skip


def modules() -> dict[str, types.ModuleType]:
    """What `sys.modules` needs for nvmath-python to be this."""
    nvmath: Any = types.ModuleType("nvmath")
    bindings: Any = types.ModuleType("nvmath.bindings")
    cublas: Any = types.ModuleType("nvmath.bindings.cublas")
    lt: Any = types.ModuleType("nvmath.bindings.cublasLt")
    nvmath.CudaDataType, nvmath.bindings = CudaDataType, bindings
    cublas.ComputeType, cublas.Operation = ComputeType, Operation
    for name in NAMES:
        setattr(lt, name, globals()[name])
    return {
        "nvmath": nvmath,
        "nvmath.bindings": bindings,
        "nvmath.bindings.cublas": cublas,
        "nvmath.bindings.cublasLt": lt,
    }

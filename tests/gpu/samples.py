"""Operands for comparing the cupy backend with the NumPy backend."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend import registry
from nbdl.formula import dtypes

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 4e-6, "float64": 1e-13}
SPECIAL = [
    np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 0.75, 2.0, 3.0, -2.5, 1e-30, -1e-30, 88.0,
    -88.0, 1e30,
]  # fmt: skip


def on_device(array: np.ndarray) -> Any:
    """A copy on the device with the same strides, negative ones and zeros too."""
    import cupy

    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    if base is array:
        return cupy.asarray(array)
    assert base.flags.c_contiguous, "the samples are windows of row-major arrays"
    offset = array.ctypes.data - base.ctypes.data
    return cupy.ndarray(
        array.shape, array.dtype, memptr=cupy.asarray(base).data + offset, strides=array.strides
    )


def layouts(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays of one shape with all kinds of strides."""
    random = np.random.default_rng(seed)
    full = (np.abs(random.standard_normal([2 * n + 1 for n in shape])) * 4).astype(dtype)
    window = full[(..., *[slice(n) for n in shape])]
    return {
        "C": np.ascontiguousarray(window),
        "F": np.ascontiguousarray(window.T).T,
        "window": window,
        "stepped": full[(..., *[slice(None, 2 * n, 2) for n in shape])],
        "reversed": window[(..., *[slice(None, None, -1) for _ in shape])],
        "broadcast": np.broadcast_to(np.ascontiguousarray(window[:1]), shape) if shape else window,
    }


def assert_close(actual: Any, wanted: np.ndarray, label: str = "", scale: float = 1.0) -> None:
    """A device array has the dtype, shape and values of a NumPy array."""
    assert actual.dtype == wanted.dtype, label
    assert actual.shape == wanted.shape, label
    found = actual.get()
    if not dtypes.is_floating(wanted.dtype):
        np.testing.assert_array_equal(found, wanted, err_msg=label)
        return
    tolerance = TOLERANCE[wanted.dtype.name] * scale
    wide = np.float64
    np.testing.assert_allclose(
        found.astype(wide), wanted.astype(wide), rtol=tolerance, atol=tolerance, err_msg=label
    )


def assert_same(primitive: Any, *arrays: np.ndarray, scale: float = 1.0, label: str = "") -> None:
    """The cupy backend agrees with the NumPy backend; 0-d arrays are passed from the host."""
    expected = registry.load("numpy").execute(primitive, arrays)
    got = registry.load("cupy").execute(primitive, [on_device(x) if x.ndim else x for x in arrays])
    several = isinstance(expected, tuple)
    for k, (a, b) in enumerate(
        zip(got if several else [got], expected if several else [expected], strict=True)
    ):
        assert_close(a, b, f"{label} output {k}", scale)

"""Joined arrays on the GPU backend: NumPy's, in the order in which all parts lie, and in CUDA graphs."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_same, layouts, on_device
from gpu.test_compile import steps_of
from gpu.test_rows import random

import nbdl
from nbdl.backend import registry
from nbdl.ops.joining import Concatenate

pytestmark = pytest.mark.usefixtures("gpu")

DTYPES = ["bool", "int8", "float16", "bfloat16", "int32", "float32", "float64", "complex64", "complex128"]


def joined(axis: int, *arrays: np.ndarray) -> None:
    assert_same(Concatenate.of(axis, tuple(x.shape[axis] for x in arrays)), *arrays)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values(dtype: str, axis: int) -> None:
    """Lengths that fill wide words and lengths that do not."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    for lengths in ((4, 8), (3, 1, 5), (2,)):
        shapes = [[2, 3, 4] for _ in lengths]
        for shape, n in zip(shapes, lengths, strict=True):
            shape[axis] = n
        is_known = dtype in ("float16", "bfloat16", "float32", "float64")
        parts = [
            random(*shape, dtype=dtype, seed=k)
            if is_known
            else (10 * np.random.default_rng(k).standard_normal(shape)).astype(dtype)
            for k, shape in enumerate(shapes)
        ]
        joined(axis, *parts)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 17])
def test_any_number_of_parts(count: int) -> None:
    rng = np.random.default_rng(count)
    joined(1, *[rng.standard_normal((3, k % 4)).astype(np.float32) for k in range(count)])
    joined(0, *[np.zeros((0, 2))] * count)


def test_strides_and_addresses() -> None:
    for name, x in layouts((3, 4, 5), np.float32).items():
        for other, y in layouts((3, 4, 5), np.float32, seed=1).items():
            assert_same(Concatenate.of(1, (4, 4)), x, y, label=f"{name} {other}")
    base = np.arange(64, dtype=np.int8)
    joined(0, base[1:17], base[3:35])  # at addresses that no wide word has


def test_channels_stay_last() -> None:
    """Parts whose channels lie last are joined without being reordered."""
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((2, 4, 5, c)).astype(np.float32).transpose(0, 3, 1, 2) for c in (8, 3)]
    backend = registry.load("cupy")
    result = backend.execute(Concatenate.of(1, (8, 3)), [on_device(x) for x in images])
    np.testing.assert_array_equal(result.get(), np.concatenate(images, 1))
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous


def test_many_parts_are_one_graph() -> None:
    """Arguments change between replays, and so does what is joined."""
    parts = [nbdl.arange(3.0, device="cuda") + k for k in range(12)]
    run = nbdl.compile(lambda *xs: nbdl.cat([x * 2 for x in xs]))
    for _ in range(4):
        parts = [x + 1 for x in parts]
        np.testing.assert_array_equal(
            run(*parts).cpu().numpy(), np.concatenate([2 * x.cpu().numpy() for x in parts])
        )
    (steps,) = steps_of(run)
    assert (steps.graphs, steps.eager) == (1, [])


def test_parts_that_do_not_fit(gpu: str) -> None:
    with pytest.raises(RuntimeError, match="sizes of tensors must match except in dimension 0"):
        nbdl.cat([nbdl.ones(2, 3, device="cuda"), nbdl.ones(2, 4, device="cuda")])

"""Frames that continue arrays, on the GPU backend: NumPy's, and their transposes."""

from __future__ import annotations

import numpy as np
import pytest
from gpu.samples import assert_same, layouts
from gpu.test_rows import KINDS, random

from nbdl.ops.padding import Extend, ExtendInput
from nbdl.ops.pooling import FractionalMaxPool, WindowPut

pytestmark = pytest.mark.usefixtures("gpu")

MODES = ["edge", "reflect", "symmetric", "wrap"]
FRAMES = [((0, 0), (2, 3)), ((1, 0), (0, 3)), ((0, 0), (0, 0)), ((3, 3), (4, 1))]


def framed(shape, frame):
    return [n + sum(widths) for n, widths in zip(shape, frame, strict=True)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_frames(frame: tuple, dtype: str, mode: str) -> None:
    assert_same(Extend.of(frame, mode), random(4, 5, dtype=dtype))
    assert_same(ExtendInput.of(frame, mode), random(*framed((4, 5), frame), dtype=dtype), scale=8)


@pytest.mark.parametrize("mode", MODES)
def test_layouts_and_far_frames(mode: str) -> None:
    frame = ((0, 0), (5, 4), (0, 0))
    for name, x in layouts((2, 3, 4), np.float32).items():
        assert_same(Extend.of(frame, mode), x, label=name)
        assert_same(ExtendInput.of(((0, 0), (1, 1), (0, 0)), mode), x, scale=4, label=name)
    assert_same(Extend.of(((7, 5),), mode), np.arange(3))
    assert_same(Extend.of(((2, 3),), mode), np.ones(1, np.float32))
    assert_same(Extend.of(((2, 1),), mode), np.array([True, False, True]))
    assert_same(Extend.of(((2, 1),), mode), np.array([1 + 2j, 3j, 4]))
    assert_same(Extend.of(((0, 0), (1, 2)), mode), np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_windows_at_random_places_and_what_is_put_back(dtype: str) -> None:
    generator = np.random.default_rng(0)
    for size, kernel, counts in (
        ((9,), (3,), (4,)),
        ((7, 8), (2, 3), (3, 4)),
        ((5, 6, 4), (2, 2, 1), (4, 1, 4)),
    ):
        x = random(2, 3, *size, dtype=dtype)
        x[0, 0] = np.nan
        x[1, 1] = -np.inf
        u = generator.random((2, 3, len(size))).astype(dtype)
        assert_same(FractionalMaxPool.of(kernel, counts), x, u)
        plane, count = int(np.prod(size)), int(np.prod(counts))
        places = generator.permuted(np.tile(np.arange(plane), (2, 3, 1)), axis=2)[..., :count]
        y = random(2, 3, *counts, dtype=dtype)
        assert_same(WindowPut.of(size), y, places.reshape(y.shape))

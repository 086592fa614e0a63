"""Copies on the GPU backend: transposed by tiles, rearranged, in frames, in the place of slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.emulator import KernelError
from gpu.samples import assert_same, layouts, on_device
from gpu.test_compile import steps_of
from gpu.test_rows import KINDS, random

import nbdl
from nbdl.backend import registry
from nbdl.backend.cupy import copying
from nbdl.backend.cupy.backend import CupyBackend
from nbdl.ops.copying import Copy, Rearrange, ViewScatter
from nbdl.ops.padding import Pad
from nbdl.ops.views import Diagonal, Permute, Slice

pytestmark = pytest.mark.usefixtures("gpu")

ALL_KINDS = ["bool", "int8", "float16", "bfloat16", "int32", "float32", "float64", "complex64", "complex128"]


def numbers(*shape: int, dtype: str) -> np.ndarray:
    if dtype in KINDS:
        return random(*shape, dtype=dtype)
    return (10 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)


class Names:
    """Stands for `launch.Kernels`: notes which kernels are asked for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def get(self, name: str, source: str, headers: tuple[str, ...]) -> str:
        self.names.append(name)
        return name


def is_tiled(x: np.ndarray, y: np.ndarray) -> bool:
    kernels: Any = Names()
    return copying.plan_tiles(kernels, x.shape, x.strides, y.strides, x.itemsize) is not None


@pytest.mark.parametrize("dtype", ALL_KINDS)
@pytest.mark.parametrize("shape", [(33, 47), (3, 16, 70), (2, 17, 3, 65)], ids=str)
def test_transposed_copies(dtype: str, shape: tuple[int, ...], order: int) -> None:
    """Sizes that fill no tile; the axes in between stay."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    base = numbers(*shape, dtype=dtype)
    x = base.swapaxes(1, -1) if len(shape) > 2 else base.T
    assert is_tiled(x, np.empty(x.shape, x.dtype))
    assert_same(Copy.of("C"), x)
    execute = registry.load("cupy").execute
    kept = execute(Copy.of("K"), [on_device(x)])
    assert kept.strides == x.copy("K").strides
    np.testing.assert_array_equal(kept.get(), x)


def test_tiles_are_taken_where_the_fastest_axes_differ() -> None:
    x = np.zeros((20, 40), np.float32)
    assert is_tiled(x.T, np.empty((40, 20), np.float32))
    assert not is_tiled(x[:, ::2], np.empty((20, 20), np.float32))
    assert not is_tiled(np.zeros((4, 40), np.float32).T, np.empty((40, 4), np.float32))
    assert is_tiled(np.zeros((40, 3, 50), np.float32).transpose(2, 1, 0), np.empty((50, 3, 40), np.float32))


TILE_FAULTS = {
    "a missing barrier": ("__syncthreads();\n", "\n", "data race"),
    "one row too many": ("row < rows &&", "row <= rows &&", "illegal memory access|wrote outside|race"),
    "the tile as it is": ("tile[threadIdx.x][k];", "tile[k][threadIdx.x];", None),
}


@pytest.mark.parametrize("name", TILE_FAULTS)
def test_a_fault_in_the_tiles_is_caught(name: str, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if gpu != "standin":
        pytest.skip("a device would not notice")
    right, wrong, message = TILE_FAULTS[name]
    source, x = copying.tiles_source, random(33, 47).T

    def with_fault(*args: Any) -> str:
        text = source(*args)
        assert right in text, "the source is another one now"
        return text.replace(right, wrong)

    monkeypatch.setattr(copying, "tiles_source", with_fault)
    backend, operands = CupyBackend(), [on_device(x)]  # a backend that has compiled nothing
    if message is None:
        assert not np.array_equal(backend.execute(Copy.of("C"), operands).get(), x)
        return
    with pytest.raises(KernelError, match=message):
        backend.execute(Copy.of("C"), operands)


def test_layouts() -> None:
    for name, x in layouts((3, 20, 18), np.float32).items():
        for axes in ((0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0)):
            assert_same(Copy.of("C"), x.transpose(axes), label=f"{name} {axes}")
    assert_same(Copy.of("C"), np.zeros((0, 40)).T)
    number = on_device(np.array([3.0])).reshape(())
    assert registry.load("cupy").execute(Copy.of("K"), [number]).get() == 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "complex64"])
def test_rearranged(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    x = numbers(2, 36, 20, dtype=dtype)
    heads = Rearrange.of((2, 36, 4, 5), (0, 2, 1, 3), (8, 36, 5))
    assert_same(heads, x)
    assert_same(Rearrange.of((2, 36, 20), (0, 2, 1), (2, 720)), x)
    backend = registry.load("cupy")
    expected = backend.execute(heads, [on_device(x)])
    place = on_device(np.zeros((5, 36, 8), x.dtype)).transpose(2, 1, 0)
    assert backend.execute(heads, [on_device(x)], out=place) is place
    np.testing.assert_array_equal(place.get(), expected.get())


@pytest.mark.parametrize("dtype", ALL_KINDS)
def test_frames_of_one_value(dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    x = numbers(2, 3, 4, dtype=dtype)
    whole = (0, 0)
    for widths in ((whole, (1, 2), (3, 0)), ((1, 1), whole, whole), (whole,) * 3, ((0, 2), (1, 0), (1, 1))):
        assert_same(Pad.of(widths, 1), x)
        assert_same(Pad.of(widths, 0), x.transpose(2, 0, 1).copy().transpose(1, 2, 0))


def test_frames_of_special_values_and_of_nothing() -> None:
    for name, x in layouts((3, 4), np.float32).items():
        for value in (-np.inf, np.nan, 0.1):
            assert_same(Pad.of(((1, 0), (0, 2)), value), x, label=name)
    assert_same(Pad.of(((1, 2), (0, 1)), 7.0), np.zeros((0, 3), np.float32))
    assert_same(Pad.of(((0, 0), (0, 1)), 7.0), np.zeros((0, 3), np.float32))
    assert_same(Pad.of(((1, 0),), 2**40 + 1), np.arange(3))
    assert_same(Pad.of(((0, 1),), True), np.zeros(2, bool))


def test_the_layout_of_frames() -> None:
    """Channels stay last."""
    execute, every = registry.load("cupy").execute, (None, None, None)
    x = on_device(np.zeros((2, 4, 5, 3), np.float32)).transpose(0, 3, 1, 2)
    window = Slice.of((every, every, (1, 9, 2), every))
    for primitive in (Pad.of((*[(0, 0)] * 2, (1, 1), (1, 1)), 0), ViewScatter.of((window,), (2, 3, 9, 5))):
        assert execute(primitive, [x]).transpose(0, 2, 3, 1).flags.c_contiguous


_EVERY = (None, None, None)
SLICES = [
    ((6,), (1, 5, 2)), ((6,), (None, None, -1)), ((7,), (5, None, -2)), ((4, 5), _EVERY, (0, 5, 3)),
    ((4, 5), 2, _EVERY), ((4, 5), (None, None, -3), -1), ((1, 3), _EVERY, (1, 3, None)),
    ((4, 5), (1, 1, None), _EVERY), ((3, 4, 5), _EVERY, (1, 3, None), (None, None, 2)),
]  # fmt: skip


@pytest.mark.parametrize("case", SLICES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8", "bfloat16", "complex64"])
def test_slices_among_zeros(case: tuple[Any, ...], dtype: str) -> None:
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="bfloat16 needs ml_dtypes")
    shape, *entries = case
    view = Slice.of(tuple(entries))
    x = numbers(*view.view(np.zeros(shape)).shape, dtype=dtype)
    assert_same(ViewScatter.of((view,), shape), x)
    backend = registry.load("cupy")
    place = on_device(np.ones((*shape, 2), x.dtype))[..., 0]  # a window that is given
    backend.execute(ViewScatter.of((view,), shape), [on_device(x)], out=place)
    np.testing.assert_array_equal(
        place.get(), registry.load("numpy").execute(ViewScatter.of((view,), shape), [x])
    )


def test_chains_of_views() -> None:
    first = Slice.of(((1, 6, None), 1, (None, None, 2)))
    second = Slice.of(((None, None, -2), None, (1, None, None)))
    x = random(3, 1, 2)
    assert_same(ViewScatter.of((first, second), (6, 3, 6)), x)
    assert_same(ViewScatter.of((Diagonal.of(1, 0, 1),), (4, 5)), random(4))
    assert_same(ViewScatter.of((Permute.of((1, 0)), Slice.of(((0, 20, None),))), (17, 30)), random(20, 17))


def test_copies_are_in_graphs() -> None:
    """Places of results are written at once, and nothing runs outside."""

    def step(values: nbdl.Tensor) -> list[nbdl.Tensor]:
        x = values.detach().requires_grad_()
        framed = nbdl.nn.functional.pad(x.t().contiguous() * 2, (1, 2), value=3.0)
        (g,) = nbdl.autograd.grad((framed[::2] ** 2).sum(), [x])
        return [framed.detach(), g]

    run = nbdl.compile(step)
    for k in range(4):
        x = nbdl.tensor(random(33, 18, seed=k), device="cuda")
        for a, b in zip(run(x), step(x), strict=True):
            np.testing.assert_allclose(a.cpu().numpy(), b.cpu().numpy(), rtol=1e-6)
    (steps,) = steps_of(run)
    assert (steps.graphs, steps.eager) == (1, [])

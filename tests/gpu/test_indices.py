"""What generated kernels count with, and how wide they read: chosen by sizes, strides and addresses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from gpu.samples import on_device
from gpu.test_nvrtc import spec

from nbdl.backend import registry
from nbdl.backend.cupy import copying, pointwise, reduction, scanning, scattering
from nbdl.backend.cupy.launch import Launch, Spec
from nbdl.backend.loops import row_major
from nbdl.formula import Formula
from nbdl.ops.arithmetic import formula_of
from nbdl.ops.pointwise import Pointwise
from nbdl.ops.reduction import IDENTITY

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)


class Kernels:
    """Stands for `launch.Kernels`: gives the source for a kernel."""

    def get(self, name: str, source: str, headers: tuple[str, ...]) -> str:
        return source


KERNELS: Any = Kernels()


def of_pointwise(rows: int, columns: int) -> list[Launch]:
    operands = spec(rows, columns), spec(rows, columns, order="F")
    plan = pointwise.plan_pointwise(KERNELS, formula_of("add"), 0, operands, None, [False, False])
    return [plan.launch]


def of_reduction(rows: int, columns: int) -> list[Launch]:
    plan = reduction.plan_reduce(
        KERNELS, (spec(rows, columns),), None, formula=IDENTITY, kind="sum", axes=(1,), keepdims=False, weak=0
    )
    return [plan.launch]


def of_scan(rows: int, columns: int) -> list[Launch]:
    return [scanning.plan_scan(KERNELS, (rows, columns), FLOAT, FLOAT, "sum", 1, False)]


def of_scatter(rows: int, columns: int) -> list[Launch]:
    """Few values, and an array of that size in which they have their places."""
    places = scattering.Places((4,), (1,), (0,), ((1,), (1,)), (rows, columns), row_major((rows, columns)))
    return [
        scattering.plan_scatter(KERNELS, kind, places, FLOAT, [INT, INT]) for kind in ("set", "add", "gather")
    ]


def of_tiles(rows: int, columns: int) -> list[Launch]:
    return [copying.plan_tiles(KERNELS, (rows, columns), (4, 4 * rows), (4 * columns, 4), 4)]


def of_frame(rows: int, columns: int) -> list[Launch]:
    sides = [copying.Side(1, 2, 1, 3), copying.Side(0, 3, 1, 1)]
    return [copying.plan_frame(KERNELS, (rows, columns), (columns, 1), sides, FLOAT)]


class Case(NamedTuple):
    shape: tuple[int, int]
    c_type: str
    dtype: type


CASES = [
    Case((1 << 10, 1 << 10), "int", np.int32),
    Case((1 << 16, 1 << 16), "long long", np.int64),
    Case((3, 1 << 30), "long long", np.int64),  # more than 2^31 elements
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "plan", [of_pointwise, of_reduction, of_scan, of_scatter, of_tiles, of_frame], ids=lambda f: f.__name__
)
def test_the_width_of_indices(plan: Any, case: Case) -> None:
    """64 bits where 32 would overflow, in the source and in the arguments of the launch."""
    if plan is of_tiles and case.shape[0] == 3:
        case = case._replace(shape=(48, 1 << 26))
    for launch in plan(*case.shape):
        assert f"typedef {case.c_type} index_t;" in launch.kernel
        assert {type(argument) for argument in launch.arguments} == {case.dtype}
        assert max(launch.grid) < 1 << 31
        assert all(count < 1 << 16 for count in launch.grid[1:])


def packs(*specs: Spec, outputs: Any = None) -> str:
    formula = Formula("total", lambda x, y: x + y, 2)
    plan = pointwise.plan_pointwise(KERNELS, formula, 0, specs, outputs, [False] * 2)
    source: str = plan.launch.kernel
    return source


def test_wide_loads_need_alignment() -> None:
    """16 bytes at once where every operand that moves begins, and every row begins, at a multiple of them."""
    whole = spec(64, 64)
    assert "load_pack<4>" in packs(whole, whole)
    assert "load_pack<4>" in packs(whole, spec(64))  # a row for all rows
    assert "load_pack<2>" in packs(spec(64, dtype=np.float64), spec(64, dtype=np.float64))
    assert "load_pack<8>" in packs(spec(64, dtype=np.float16), spec(64, dtype=np.float16))
    assert "load_pack<2>" in packs(spec(64), spec(64, dtype=np.float64))  # the widest dtype decides
    narrow = {
        "address": packs(whole, whole._replace(alignment=4)),
        "rows": packs(spec(64, 63), spec(63)),
        "steps": packs(whole, Spec((64, 64), (512, 8), FLOAT, 16)),
        "backwards": packs(spec(64), Spec((64,), (-4,), FLOAT, 16)),
        "result": packs(spec(64), spec(64), outputs=(spec(64)._replace(alignment=8),)),
        "length": packs(spec(3), spec(3)),
    }
    assert [name for name, source in narrow.items() if "load_pack" in source] == []


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("first", [0, 1, 2, 3, 4])
def test_windows_at_any_address(first: int) -> None:
    """The emulator reports a wide load at an address that does not fit."""
    base = on_device(np.arange(70, dtype=np.float32))
    x, y = base[first : first + 64], base[1:65]
    total = registry.load("cupy").execute(Pointwise.of(formula_of("add"), 0), (x, y))
    np.testing.assert_array_equal(total.get(), x.get() + y.get())

"""Plans and their launch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from processes import run_python
from sample_plans import add_plan

from nbdl.backend.numba import launch, native
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import OutputSpec, Plan, PlanTable


def make_nothing() -> Callable[..., Any]:
    def nothing(args, lo, hi, task):
        pass

    return nothing


def test_layout_is_known_here():
    assert native.layout_is_known()
    assert type(launch.launch).__name__ == "builtin_function_or_method"


def operands() -> dict[str, Any]:
    """Operands that differ from the first in one thing each."""
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    unaligned = np.empty(24 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(4, 6)
    return {
        "same": base,
        "same in another place": base.copy(),
        "read-only": np.broadcast_to(base, (4, 6)),
        "dtype": base.astype(np.float64),
        "integer of that size": base.view(np.int32),
        "byte order": base.astype(">f4"),
        "ndim": base.reshape(24),
        "shape": base[:, :3],
        "rows": base[:3],
        "F order": np.asfortranarray(base),
        "negative stride": base[::-1],
        "stride 0": np.broadcast_to(base[0], (4, 6)),
        "unaligned": unaligned,
        "0-d": base[0, 0, ...],
        "empty": base[:0],
        "subclass": base.view(np.matrix),
        "scalar": np.float32(1),
        "list": base.tolist(),
        "None": None,
    }


@pytest.mark.parametrize("name", list(operands()))
def test_find_compares_everything(entry_points, name):
    table, plan = PlanTable(), add_plan()
    first, other = operands()["same"], operands()[name]
    table.add(plan, (first, first))
    expected = plan if name in ("same", "same in another place", "read-only") else None
    assert table.find(first, other) is expected
    assert table.find(other, first) is expected
    assert table.find(first) is None
    assert table.find(first, first, other) is None
    assert table.find() is None


def test_find_among_many(entry_points):
    table = PlanTable()
    shapes = [(i, 3) for i in range(launch.MAX_PLANS + 6)]
    plans = []
    for shape in shapes:
        plans.append(add_plan())
        table.add(plans[-1], (np.empty(shape),))
    found = [table.find(np.empty(shape)) for shape in shapes]
    assert found[:6] == [None] * 6  # the oldest gave way
    assert found[6:] == plans[6:]
    assert len(table) == launch.MAX_PLANS
    launch.clear_all_plans()
    assert len(table) == 0
    assert table.find(np.empty(shapes[-1])) is None
    table.add(plans[0], (np.empty(shapes[-1]),))
    assert table.find(np.empty(shapes[-1])) is plans[0]


def test_add_refuses_what_find_does_not_know():
    with pytest.raises(TypeError, match=r"PlanTable.add: operand 1 .* got list"):
        PlanTable().add(add_plan(), (np.zeros(3), [1.0]))


def test_launch_adds(entry_points):
    plan = add_plan()
    x = np.arange(64, dtype=np.float32)
    out = plan.allocate()
    assert (out.shape, out.dtype) == ((64,), np.float32)
    assert entry_points.launch(plan.block, x, 3 * x, out) is None
    np.testing.assert_array_equal(out, 4 * x)


def test_run_plan_allocates_and_launches(entry_points):
    table, plan = PlanTable(), add_plan()
    x = np.arange(64, dtype=np.float32)
    assert table.run_plan([x, x]) is None
    table.add(plan, (x, x))
    out = table.run_plan([x, 3 * x])
    assert type(out) is np.ndarray
    np.testing.assert_array_equal(out, 4 * x)
    assert table.run_plan([x, x]) is not table.run_plan([x, x])
    assert table.run_plan([x]) is table.run_plan([x, 1.0]) is table.run_plan([x, x[::-1]]) is None
    stand_in = object()
    table.add(stand_in, (x,))
    assert table.find(x) is stand_in
    assert table.run_plan([x]) is None


OUTPUTS = [
    ([OutputSpec((2, 3), np.dtype("f8"))], [(2, 3)], [(24, 8)]),
    ([OutputSpec((2, 3, 4), np.dtype("f4"), (2, 0, 1))], [(2, 3, 4)], [(4, 32, 8)]),
    ([OutputSpec((), np.dtype("?")), OutputSpec((1, 2), np.dtype("i1"))], [(), (1, 2)], [(), (2, 1)]),
    ([OutputSpec((512, 512, 2), np.dtype("f4"), (1, 0, 2))], [(512, 512, 2)], [(8, 4096, 4)]),
    ([OutputSpec((1 << 20,), np.dtype("i1")), OutputSpec((), np.dtype("i1"))], [(1 << 20,), ()], [(1,), ()]),
    ([], [], []),
]


@pytest.mark.parametrize(("outputs", "shapes", "strides"), OUTPUTS)
def test_run_plan_allocates_all_outputs(entry_points, outputs, shapes, strides):
    kernel = compile_kernel("test_nothing", make_nothing, "tests nothing")
    table, x = PlanTable(), np.zeros(3)
    table.add(Plan(kernel, inputs=1, outputs=outputs, rows=1), (x,))
    result = table.run_plan([x])
    arrays = [result] if len(outputs) == 1 else list(result)
    assert type(result) is (np.ndarray if len(outputs) == 1 else tuple)
    assert [(array.shape, array.strides) for array in arrays] == list(zip(shapes, strides, strict=True))
    assert [array.dtype for array in arrays] == [output.dtype for output in outputs]
    assert all(array.flags.writeable and array.flags.aligned for array in arrays)


def test_run_plan_allocates_as_it_is_told(entry_points):
    table, plan, x = PlanTable(), add_plan(), np.ones(64, np.float32)
    plan.allocate_by(lambda: (np.empty(64, np.float32),))
    table.add(plan, (x, x))
    (result,) = table.run_plan([x, x])
    np.testing.assert_array_equal(result, 2 * x)


def test_run_rows_overwrites_until_a_row_without_plan(entry_points):
    table = PlanTable((0,))
    x, y, z = (np.full(64, value, np.float32) for value in (1, 2, 3))
    assert table.run_rows([x, x]) == 0
    table.add(add_plan(), (x, x, x))
    assert table.run_rows() == 0
    assert table.run_rows([x, y], (y, y), [z, x]) == 3
    assert (x == 3).all()
    assert (y == 4).all()
    assert (z == 6).all()
    strangers: list[Any] = [[x], [x, 1.0], [x, y[:3]], [READ_ONLY, x]]
    if entry_points.makers:  # these lie in memory otherwise, or are too long
        strangers += [[], x, None, [x] * 40]
    for stranger in strangers:
        assert table.run_rows([x, READ_ONLY], stranger, [x, y]) == 1
    assert (x == 3).all()


READ_ONLY = np.zeros(64, np.float32)
READ_ONLY.flags.writeable = False
X = np.zeros(64, np.float32)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((), TypeError, "block"),
        ((None,), TypeError, "expected the block of a plan, got NoneType"),
        ((np.zeros((), np.int64), X, X, X), TypeError, "block of a plan"),
        ((np.zeros(20, np.int64), X, X, X), TypeError, "block of a plan"),
        ((np.zeros(2, np.int64), X, X, X), TypeError, "block of a plan"),
        (("block", X, X), TypeError, "expected 3 arrays after the block, got 2"),
        (("block", X, X, X, X), TypeError, "expected 3 arrays after the block, got 4"),
        (("block", X, [1], X), TypeError, "operand 1 must be a numpy.ndarray, got list"),
        (("block", X, X, X.view(np.matrix)), TypeError, "operand 2 must be a numpy.ndarray, got matrix"),
        (("block", X, X, READ_ONLY), ValueError, "operand 2 is an output .* read-only"),
    ],
)
def test_launch_errors(entry_points, arguments, error, message):
    plan = add_plan()
    arguments = [plan.block if isinstance(item, str) else item for item in arguments]
    with pytest.raises(error, match=message):
        entry_points.launch(*arguments)


def test_references_are_balanced():
    x = np.zeros(64, np.float32)
    plain, rows, pooled = PlanTable(), PlanTable((0,)), PlanTable()
    plan, row_plan = add_plan(), add_plan()
    nothing = compile_kernel("test_nothing", make_nothing, "tests nothing")
    outputs = (OutputSpec((1 << 20,), np.dtype("f4")), OutputSpec((2,), np.dtype("f4")))
    pooled_plan = Plan(nothing, inputs=1, outputs=outputs, rows=1)
    pair_plan = Plan(nothing, inputs=3, outputs=(outputs[1], outputs[1]), rows=1)
    plain.add(plan, (x, x))
    plain.add(pair_plan, (x, x, x))
    rows.add(row_plan, (x, x, x))
    pooled.add(pooled_plan, (x,))
    row = [x, x]
    counted = (plan, row_plan, pooled_plan, pair_plan, plan.block, x, x.dtype, row, pooled_plan.allocate)
    before = [sys.getrefcount(item) for item in counted]
    for _ in range(100):
        plain.find(x, x), plain.find(plan.block)
        plain.run_plan([x, x]), plain.run_plan([x, x, x]), plain.run_plan([x]), pooled.run_plan([x])
        rows.run_rows(row, row), rows.run_rows(row, None)
        launch.launch(plan.block, x, x, x)
        with pytest.raises(TypeError):
            launch.launch(plan.block, x)
    assert [sys.getrefcount(item) for item in counted] == before


def test_no_memory_left(entry_points):
    nothing = compile_kernel("test_nothing", make_nothing, "tests nothing")
    table, x = PlanTable(), np.zeros(3)
    for k, outputs in enumerate(([1 << 55], [2, 1 << 55])):
        specs = [OutputSpec((n,), np.dtype("f8")) for n in outputs]
        table.add(Plan(nothing, inputs=k, outputs=specs, rows=1), (x,) * k)
        with pytest.raises(MemoryError):
            table.run_plan([x] * k)


@pytest.mark.parametrize(("outputs", "shapes", "strides"), OUTPUTS)
def test_allocate(outputs, shapes, strides):
    plan = Plan(0, inputs=0, outputs=outputs, rows=0)
    allocated = plan.allocate()
    arrays = [allocated] if len(outputs) == 1 else list(allocated)
    assert [array.shape for array in arrays] == shapes
    assert [array.strides for array in arrays] == strides
    assert [array.dtype for array in arrays] == [output.dtype for output in outputs]


def test_plan_holds_its_arguments():
    plan = Plan(5, inputs=1, outputs=[OutputSpec((3,), np.dtype("f4"))], arguments=[10, 20], rows=3, tasks=9)
    assert plan.arguments.tolist() == [0, 0, 10, 20]
    assert (plan.rows, plan.tasks) == (3, 3)
    with pytest.raises(ValueError, match="Plan: inputs and rows"):
        Plan(5, inputs=1, rows=-1)


def test_launch_while_the_interpreter_shuts_down():
    code = """
import numpy as np
from nbdl.backend.numba import pool
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.launch import Plan, PlanTable, launch
def make():
    def nothing(args, lo, hi, task):
        pass
    return nothing
class Late:
    def __init__(self):
        self.plan = Plan(compile_kernel("nothing", make, "nothing"), inputs=1, rows=1)
        self.table = PlanTable()
        self.launch, self.array = launch, pool.empty((1 << 20,), np.uint8)
        self.table.add(self.plan, (self.array,))
    def __del__(self):
        self.launch(self.table.find(self.array).block, self.array)
        print("launched", flush=True)
late = Late()
late.itself = late  # so that it dies when the modules are taken apart
"""
    result = run_python("-c", code)
    assert (result.returncode, result.stdout, result.stderr) == (0, "launched\n", "")

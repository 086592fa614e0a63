"""NumbaBackend: plans an operation once for given shapes, strides and dtypes, and launches the plan.

What has no planner, or whose planner gives None, is done by NumPy: the methods are those of
:class:`~nbdl.backend.numpy.NumpyBackend`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import numpy as np

from nbdl.backend.numba import pool
from nbdl.backend.numba.convolution import plan_convolution, plan_convolution_input, plan_convolution_weight
from nbdl.backend.numba.copying import plan_copy
from nbdl.backend.numba.indexing import plan_index_put
from nbdl.backend.numba.launch import Plan, PlanTable, launch, launch_many
from nbdl.backend.numba.matmul import plan_linear, plan_matmul
from nbdl.backend.numba.normalization import plan_normalize, plan_normalize_input
from nbdl.backend.numba.pointwise import plan_pointwise
from nbdl.backend.numba.pooling import plan_avg_pool, plan_avg_pool_input, plan_max_pool, plan_window_scatter
from nbdl.backend.numba.random import (
    plan_dropout,
    plan_random_bernoulli,
    plan_random_integers,
    plan_random_normal,
    plan_random_uniform,
)
from nbdl.backend.numba.reduction import plan_reduce
from nbdl.backend.numba.softmax import (
    plan_cross_entropy,
    plan_cross_entropy_input,
    plan_log_softmax,
    plan_log_softmax_input,
    plan_softmax,
    plan_softmax_input,
)
from nbdl.backend.numpy import NumpyBackend
from nbdl.formula import dtypes

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive

Planner = Callable[..., Plan | None]


def _plan_matmul(
    inputs: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray] | None,
    *,
    transpose_a: bool,
    transpose_b: bool,
) -> Plan | None:
    """A transposed operand is one with other strides: the plan holds for the array as it is given."""
    a, b = inputs
    return plan_matmul(
        (a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b), outputs
    )


# name of the primitive -> planner(inputs, outputs or None, **static parameters)
PLANNERS: dict[str, Planner] = {
    "pointwise": plan_pointwise,
    "reduce": plan_reduce,
    "matmul": _plan_matmul,
    "linear": plan_linear,
    "copy": plan_copy,
    "convolution": plan_convolution,
    "convolution_input": plan_convolution_input,
    "convolution_weight": plan_convolution_weight,
    "max_pool": plan_max_pool,
    "avg_pool": plan_avg_pool,
    "avg_pool_input": plan_avg_pool_input,
    "window_scatter": plan_window_scatter,
    "softmax": plan_softmax,
    "softmax_input": plan_softmax_input,
    "log_softmax": plan_log_softmax,
    "log_softmax_input": plan_log_softmax_input,
    "cross_entropy": plan_cross_entropy,
    "cross_entropy_input": plan_cross_entropy_input,
    "normalize": plan_normalize,
    "normalize_input": plan_normalize_input,
    "random_uniform": plan_random_uniform,
    "random_normal": plan_random_normal,
    "random_integers": plan_random_integers,
    "random_bernoulli": plan_random_bernoulli,
    "dropout": plan_dropout,
    "index_put": plan_index_put,
}


class _LeaveToNumpy:
    """Stands in a plan table for operands that no kernel takes."""


_NUMPY: Any = _LeaveToNumpy()


class NumbaBackend(NumpyBackend):
    """Computes on NumPy arrays with compiled loops."""

    name = "numba"

    def __init__(self) -> None:
        self._planned: WeakSet[Primitive] = WeakSet()
        dtypes.when_default_changes(self._forget_plans)

    def _forget_plans(self) -> None:
        for primitive in self._planned:
            primitive.forget_plans()

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Run ``primitive``: launch the plan for operands like these, which is made at the first time."""
        if out is not None:
            return self._execute_into(primitive, arrays, out)
        plan = primitive.find_plan(*arrays)
        if plan is None:
            plan = self._plan(primitive, arrays, None)
        if plan is _NUMPY:
            return super().execute(primitive, arrays)
        result = plan.allocate()
        if type(result) is tuple:
            launch(plan.block, *arrays, *result)
        else:
            launch(plan.block, *arrays, result)
        return result

    def _execute_into(self, primitive: Primitive, arrays: Sequence[Any], out: Any) -> Any:
        outs = out if type(out) is tuple else (out,)
        # Plans differ by which output overwrites which operand.
        aliases = tuple([_position(arrays, array) for array in outs])
        table = primitive.plans.get(aliases)
        plan = table.find(*arrays, *outs) if table is not None else None
        if plan is None:
            plan = self._plan(primitive, arrays, outs)
        if plan is _NUMPY:
            return super().execute(primitive, arrays, out)
        for k, array in zip(aliases, outs, strict=True):
            if k is None and any(np.may_share_memory(array, x) for x in arrays):
                arrays = [x.copy() if np.may_share_memory(array, x) else x for x in arrays]
                return self._execute_into(primitive, arrays, out)
        launch(plan.block, *arrays, *outs)
        return out

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """As NumPy's, all rows in one launch."""
        table = primitive.plans.get(positions)
        launches: list[Any] = []
        for row in rows:
            operands = [*row, *[row[position] for position in positions]]
            plan = None if table is None else table.find(*operands)
            if plan is None:
                plan = self._plan(primitive, row, tuple(operands[len(row) :]))
                table = primitive.plans.get(positions)
            if plan is _NUMPY:
                super().overwrite(primitive, [row], positions)
            else:
                launches.append(plan.block)
                launches += operands
        launch_many(*launches)

    def concatenate(self, *arrays: Any, axis: int, out: Any = None) -> Any:
        """As NumPy's, which copies as fast as memory allows; large results come from the memory pool."""
        if out is None:
            shape = list(arrays[0].shape)
            shape[axis] = sum(array.shape[axis] for array in arrays)
            out = pool.empty(tuple(shape), arrays[0].dtype)
        return super().concatenate(*arrays, axis=axis, out=out)

    def _plan(self, primitive: Primitive, arrays: Sequence[Any], outs: tuple | None) -> Any:
        """Make the plan for operands like these and keep it."""
        planner = PLANNERS.get(primitive.name)
        operands = [*arrays, *(outs or ())]
        if planner is None or any(type(array) is not np.ndarray for array in operands):
            return _NUMPY
        primitive.check(*arrays)
        plan = planner(arrays, outs, **primitive.params) or _NUMPY
        key = None if outs is None else tuple([_position(arrays, array) for array in outs])
        table = primitive.plans.get(key)
        if table is None:
            table = primitive.plans[key] = PlanTable()
            if key is None:
                primitive.find_plan = table.find
        table.add(plan, operands)
        self._planned.add(primitive)
        return plan


def _position(arrays: Sequence[Any], array: Any) -> int | None:
    for k, x in enumerate(arrays):
        if x is array:
            return k
    return None

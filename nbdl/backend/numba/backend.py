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
from nbdl.backend.numba.activated_linear import plan_activated_linear, plan_activated_linear_gradients
from nbdl.backend.numba.alignments import plan_ctc_loss, plan_ctc_loss_input
from nbdl.backend.numba.attention import plan_attention, plan_attention_input
from nbdl.backend.numba.bags import plan_embedding_bag, plan_embedding_bag_input
from nbdl.backend.numba.blas import DECOMPOSITIONS, threads_for
from nbdl.backend.numba.class_losses import plan_cross_entropy_loss, plan_nll_loss, plan_nll_loss_input
from nbdl.backend.numba.convolution import (
    plan_convolution,
    plan_convolution_input,
    plan_convolution_weight,
    plan_ending_convolution,
    plan_ending_convolution_input,
)
from nbdl.backend.numba.copying import plan_copy, plan_rearrange
from nbdl.backend.numba.epilogues import plan_with_epilogue
from nbdl.backend.numba.fourier import ThreadedFourier
from nbdl.backend.numba.framing import plan_extend, plan_extend_input
from nbdl.backend.numba.gating import plan_glu, plan_glu_input
from nbdl.backend.numba.indexing import plan_gather, plan_index, plan_index_put, plan_scatter
from nbdl.backend.numba.joining import plan_concatenate, plan_pad, plan_view_scatter
from nbdl.backend.numba.launch import Plan, PlanTable, launch
from nbdl.backend.numba.margin_losses import (
    plan_multi_margin_loss,
    plan_multi_margin_loss_input,
    plan_multilabel_margin_loss,
    plan_multilabel_margin_loss_input,
)
from nbdl.backend.numba.matmul import (
    plan_ending_linear,
    plan_ending_matmul,
    plan_linear,
    plan_linear_gradients,
    plan_matmul,
)
from nbdl.backend.numba.normalization import plan_normalize, plan_normalize_input
from nbdl.backend.numba.pointwise import plan_group, plan_pointwise
from nbdl.backend.numba.pooling import (
    plan_adaptive_max_pool,
    plan_avg_pool,
    plan_avg_pool_input,
    plan_max_pool,
    plan_window_scatter,
)
from nbdl.backend.numba.quasi_newton import plan_remember_pair, plan_slope_and_size, plan_two_loop
from nbdl.backend.numba.random import (
    plan_dropout,
    plan_random_bernoulli,
    plan_random_integers,
    plan_random_log_gamma,
    plan_random_normal,
    plan_random_poisson,
    plan_random_uniform,
)
from nbdl.backend.numba.recurrent import plan_recurrent, plan_recurrent_input
from nbdl.backend.numba.reduction import plan_reduce
from nbdl.backend.numba.requirements import plan_requirement
from nbdl.backend.numba.resampling import plan_resample
from nbdl.backend.numba.scanning import plan_argreduce, plan_argscan, plan_linear_scan, plan_scan
from nbdl.backend.numba.sets import CountedSets
from nbdl.backend.numba.small_matrices import plan_inverse, plan_lu, plan_solve, plan_solve_triangular
from nbdl.backend.numba.softmax import (
    plan_cross_entropy,
    plan_cross_entropy_input,
    plan_cross_entropy_loss_input,
    plan_log_softmax,
    plan_log_softmax_input,
    plan_softmax,
    plan_softmax_input,
)
from nbdl.backend.numba.sorting import plan_argsort, plan_argtopk, plan_searchsorted
from nbdl.backend.numba.unfolding import plan_columns_of_windows, plan_windows_of_columns
from nbdl.backend.numba.window_places import plan_fractional_max_pool, plan_window_gather, plan_window_put
from nbdl.backend.numpy import NumpyBackend
from nbdl.backend.numpy.precision import narrowed, widened
from nbdl.backend.numpy.results import delivered
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
    "linear_gradients": plan_linear_gradients,
    "activated_linear": plan_activated_linear,
    "activated_linear_gradients": plan_activated_linear_gradients,
    "copy": plan_copy,
    "convolution": plan_convolution,
    "convolution_input": plan_convolution_input,
    "convolution_weight": plan_convolution_weight,
    "max_pool": plan_max_pool,
    "adaptive_max_pool": plan_adaptive_max_pool,
    "avg_pool": plan_avg_pool,
    "avg_pool_input": plan_avg_pool_input,
    "window_scatter": plan_window_scatter,
    "window_gather": plan_window_gather,
    "window_put": plan_window_put,
    "fractional_max_pool": plan_fractional_max_pool,
    "columns_of_windows": plan_columns_of_windows,
    "windows_of_columns": plan_windows_of_columns,
    "rearrange": plan_rearrange,
    "softmax": plan_softmax,
    "softmax_input": plan_softmax_input,
    "log_softmax": plan_log_softmax,
    "log_softmax_input": plan_log_softmax_input,
    "cross_entropy": plan_cross_entropy,
    "cross_entropy_input": plan_cross_entropy_input,
    "cross_entropy_loss": plan_cross_entropy_loss,
    "cross_entropy_loss_input": plan_cross_entropy_loss_input,
    "nll_loss": plan_nll_loss,
    "nll_loss_input": plan_nll_loss_input,
    "multi_margin_loss": plan_multi_margin_loss,
    "multi_margin_loss_input": plan_multi_margin_loss_input,
    "multilabel_margin_loss": plan_multilabel_margin_loss,
    "multilabel_margin_loss_input": plan_multilabel_margin_loss_input,
    "ctc_loss": plan_ctc_loss,
    "ctc_loss_input": plan_ctc_loss_input,
    "glu": plan_glu,
    "glu_input": plan_glu_input,
    "attention": plan_attention,
    "attention_input": plan_attention_input,
    "normalize": plan_normalize,
    "normalize_input": plan_normalize_input,
    "recurrent": plan_recurrent,
    "recurrent_input": plan_recurrent_input,
    "random_uniform": plan_random_uniform,
    "random_normal": plan_random_normal,
    "random_integers": plan_random_integers,
    "random_bernoulli": plan_random_bernoulli,
    "random_log_gamma": plan_random_log_gamma,
    "random_poisson": plan_random_poisson,
    "dropout": plan_dropout,
    "embedding_bag": plan_embedding_bag,
    "embedding_bag_input": plan_embedding_bag_input,
    "index": plan_index,
    "index_put": plan_index_put,
    "gather": plan_gather,
    "scatter": plan_scatter,
    "two_loop": plan_two_loop,
    "remember_pair": plan_remember_pair,
    "slope_and_size": plan_slope_and_size,
    "requirement": plan_requirement,
    "concatenate": plan_concatenate,
    "pad": plan_pad,
    "extend": plan_extend,
    "extend_input": plan_extend_input,
    "resample": plan_resample,
    "view_scatter": plan_view_scatter,
    "scan": plan_scan,
    "argscan": plan_argscan,
    "linear_scan": plan_linear_scan,
    "argreduce": plan_argreduce,
    "argsort": plan_argsort,
    "argtopk": plan_argtopk,
    "searchsorted": plan_searchsorted,
    "lu": plan_lu,
    "inverse": plan_inverse,
    "solve": plan_solve,
    "solve_triangular": plan_solve_triangular,
}

# The same for products that end with a pointwise operation, and whether on blocks of rows and columns.
_WITH_EPILOGUE: dict[str, tuple[Planner, bool]] = {
    "convolution": (plan_ending_convolution, False),
    "convolution_input": (plan_ending_convolution_input, False),
    "matmul": (plan_ending_matmul, True),
    "linear": (plan_ending_linear, True),
}


class _LeaveToNumpy:
    """Stands in a plan table for operands that no kernel takes."""


_NUMPY: Any = _LeaveToNumpy()


class NumbaBackend(ThreadedFourier, CountedSets, NumpyBackend):
    """Computes on NumPy arrays with compiled loops."""

    name = "numba"

    def __init__(self) -> None:
        self._planned: WeakSet[Primitive] = WeakSet()
        self._products: dict[tuple[bool, bool], PlanTable] = {}  # of half precision, by what is transposed
        dtypes.when_default_changes(self._forget_plans)

    def _forget_plans(self) -> None:
        for primitive in self._planned:
            primitive.forget_plans()

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Run ``primitive``: launch the plan for operands like these, which is made at the first time."""
        if out is not None:
            return self._execute_into(primitive, arrays, out)
        try:
            result = primitive.run_plan(arrays)
        except IndexError:
            primitive.check_values(*arrays)  # says which index, in the terms of the operation
            raise
        if result is not None:
            return result
        plan = primitive.find_plan(*arrays)
        if plan is None:
            plan = self._plan(primitive, arrays, None)
        if plan is _NUMPY:
            return self._by_numpy(primitive, arrays)
        return self.execute(primitive, arrays)

    def _by_numpy(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        if primitive.name in DECOMPOSITIONS:
            with threads_for(arrays):
                return super().execute(primitive, arrays, out)
        return super().execute(primitive, arrays, out)

    def _execute_into(self, primitive: Primitive, arrays: Sequence[Any], out: Any) -> Any:
        outs = out if type(out) is tuple else (out,)
        # Plans differ by which output overwrites which operand.
        aliases = tuple([_position(arrays, array) for array in outs])
        table = primitive.plans.get(aliases)
        plan = table.find(*arrays, *outs) if table is not None else None
        if plan is None:
            plan = self._plan(primitive, arrays, outs)
        if plan is _NUMPY:
            return self._by_numpy(primitive, arrays, out)
        for k, array in zip(aliases, outs, strict=True):
            if k is None and any(np.may_share_memory(array, x) for x in arrays):
                arrays = [x.copy() if np.may_share_memory(array, x) else x for x in arrays]
                return self._execute_into(primitive, arrays, out)
        try:
            launch(plan.block, *arrays, *outs)
        except IndexError:
            primitive.check_values(*arrays)
            raise
        return out

    def overwrite(
        self, primitive: Primitive, rows: Sequence[Sequence[Any]], positions: tuple[int, ...]
    ) -> None:
        """As NumPy's; rows that were seen before, one like the other, in one call of machine code."""
        done = 0
        while done < len(rows):
            table = primitive.plans.get(positions)
            done += 0 if table is None else table.run_rows(*rows[done:])
            if done < len(rows):
                super().overwrite(primitive, rows[done : done + 1], positions)
                done += 1

    def plan_for(self, primitive: Primitive, arrays: Sequence[Any], outs: tuple | None) -> Any:
        """The planner's answer; not kept."""
        if primitive.params.get("label"):
            return None  # a program that runs it could not say what failed
        planner = PLANNERS.get(primitive.name)
        return None if planner is None else planner(arrays, outs, **primitive.params)

    def plan_with_epilogue(
        self,
        product: Primitive,
        inputs: Sequence[Any],
        pointwise: Primitive,
        operands: Sequence[Any],
        out: Any,
    ) -> Any:
        """A plan of two operations, the second one in place on the result of the first; None without."""
        if product.name not in _WITH_EPILOGUE:
            return None
        planner, by_blocks = _WITH_EPILOGUE[product.name]
        return plan_with_epilogue(planner, inputs, product.params, pointwise.params, operands, out, by_blocks)

    def plan_group(self, primitive: Primitive, rows: Sequence[tuple[Sequence[Any], tuple]]) -> Any:
        """A plan of one pointwise operation in place on rows of operands and outputs; None without."""
        return plan_group(rows, **primitive.params) if primitive.name == "pointwise" else None

    def matmul(
        self, a: Any, b: Any, *, transpose_a: bool = False, transpose_b: bool = False, out: Any = None
    ) -> Any:
        """As NumPy's; half precision by the kernel of float32, since NumPy's BLAS has threads of its own."""
        wide = (widened(a), widened(b))
        result = None
        if wide[0] is not a and a.dtype == b.dtype:
            table = self._products.setdefault((transpose_a, transpose_b), PlanTable())
            result = table.run_plan(wide)
            if result is None:
                plan = _plan_matmul(wide, None, transpose_a=transpose_a, transpose_b=transpose_b)
                table.add(plan or _NUMPY, wide)
                result = table.run_plan(wide)
        if result is None:
            return super().matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b, out=out)
        return delivered(narrowed(result, a.dtype), out)

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
            positions = () if key is None else tuple([k for k in key if k is not None])
            table = primitive.plans[key] = PlanTable(positions)
            if key is None:
                primitive.run_plan, primitive.find_plan = table.run_plan, table.find
        table.add(plan, operands)
        self._planned.add(primitive)
        return plan


def _position(arrays: Sequence[Any], array: Any) -> int | None:
    for k, x in enumerate(arrays):
        if x is array:
            return k
    return None

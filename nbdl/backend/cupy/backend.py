"""CupyBackend: the primitives on CuPy arrays.

Formulas, casts, reductions and scans are kernels of this package, products NVIDIA's libraries; the rest is
inherited from the NumPy backend, whose methods are written for any array module.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.backend.cupy.alignments import CupyAlignments
from nbdl.backend.cupy.attention import CupyAttention
from nbdl.backend.cupy.availability import require_device
from nbdl.backend.cupy.bags import CupyBags
from nbdl.backend.cupy.class_losses import CupyClassLosses
from nbdl.backend.cupy.complex_numbers import scanned
from nbdl.backend.cupy.convolution import CupyConvolution
from nbdl.backend.cupy.copying import CupyCopying
from nbdl.backend.cupy.framing import CupyFraming
from nbdl.backend.cupy.gating import CupyGating
from nbdl.backend.cupy.joining import CupyJoining
from nbdl.backend.cupy.launch import Kernels, as_argument, spec_of
from nbdl.backend.cupy.margin_losses import CupyMarginLosses
from nbdl.backend.cupy.normalization import CupyNormalization
from nbdl.backend.cupy.placing import out_of_memory, overlap, target
from nbdl.backend.cupy.pointwise import Output, plan_pointwise
from nbdl.backend.cupy.pooling_last import CupyLastPooling
from nbdl.backend.cupy.products import CupyProducts
from nbdl.backend.cupy.quasi_newton import CupyQuasiNewton
from nbdl.backend.cupy.random import CupyRandom
from nbdl.backend.cupy.recurrent import CupyRecurrent
from nbdl.backend.cupy.reduction import IDENTITY, plan_reduce
from nbdl.backend.cupy.rejection import CupyRejection
from nbdl.backend.cupy.resampling import CupyResampling
from nbdl.backend.cupy.scanning import CupyScanning, plan_scan
from nbdl.backend.cupy.scattering import CupyScattering
from nbdl.backend.cupy.searching import CupySearching
from nbdl.backend.cupy.unfolding import CupyUnfolding
from nbdl.backend.cupy.uploading import Numbers
from nbdl.backend.cupy.waiting import announce, to_host
from nbdl.backend.numpy import NumpyBackend
from nbdl.backend.numpy.reduction import reduced_dtype
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula

if TYPE_CHECKING:
    from nbdl.ops.primitive import Primitive

# Primitives whose kernels take numbers on the host as they are.
_TAKE_NUMBERS = frozenset((
    "attention", "attention_input", "dropout", "pointwise", "random_bernoulli", "random_integers",
    "random_normal", "random_uniform", "reduce",
))  # fmt: skip
# Primitives that wait for a value in between.
_LOOK_AT_VALUES = frozenset(("cofactors", "matrix_exp", "polynomial"))
MAX_PLANS = 4096


class CupyBackend(
    CupyAlignments,
    CupyAttention,
    CupyBags,
    CupyClassLosses,
    CupyConvolution,
    CupyCopying,
    CupyFraming,
    CupyGating,
    CupyJoining,
    CupyLastPooling,
    CupyMarginLosses,
    CupyNormalization,
    CupyProducts,
    CupyQuasiNewton,
    CupyRandom,
    CupyRecurrent,
    CupyRejection,
    CupyResampling,
    CupyScanning,
    CupyScattering,
    CupySearching,
    CupyUnfolding,
    NumpyBackend,
):
    """Computes on CuPy arrays, on the device where they are."""

    name = "cupy"

    def __init__(self) -> None:
        self.xp = require_device(None)
        self.array_type = self.xp.ndarray
        self._kernels = Kernels(self.xp)
        self._plans: dict[Any, Any] = {}

    def execute(self, primitive: Primitive, arrays: Sequence[Any], out: Any = None) -> Any:
        """Run ``primitive`` on the device of ``arrays``; 0-d NumPy arrays beside them are numbers.

        Raises:
            RuntimeError: the arrays are on different devices, or their shapes do not fit.
            TypeError: the primitive is not defined for the dtypes.
        """
        device: Any = None
        kind: Any = self.array_type
        for array in arrays:
            if type(array) is np.ndarray and array.ndim == 0:
                continue
            if not isinstance(array, kind) or (device is not None and array.device != device):
                return self._elsewhere(primitive, arrays, out)  # or it says what is wrong
            device = array.device
        if device is None:
            return self._elsewhere(primitive, arrays, out)
        if not self.takes_numbers(primitive):
            arrays = [self.xp.asarray(array) if type(array) is np.ndarray else array for array in arrays]
        if device.id == self.xp.cuda.runtime.getDevice():
            return self._run(primitive, arrays, out)
        with device:
            return self._run(primitive, arrays, out)

    @property
    def kernel_count(self) -> int:
        """How many kernels this process has compiled, or found in CuPy's cache."""
        return self._kernels.count

    def takes_numbers(self, primitive: Primitive) -> bool:
        """Whether 0-d NumPy arrays among the operands are handed to kernels by value."""
        return primitive.name in _TAKE_NUMBERS

    def numbers(self, count: int) -> Numbers:
        """Places on the device for numbers of the host."""
        return Numbers(self._kernels, self.xp, count)

    def _run(self, primitive: Primitive, arrays: Sequence[Any], out: Any) -> Any:
        if not primitive.has_static_shape:
            announce(f"{primitive.label}: the shape of the result depends on values")
        elif primitive.name in _LOOK_AT_VALUES:
            announce(f"{primitive.label}: what is computed depends on values")
        try:
            return getattr(self, primitive.name)(*arrays, **primitive.params, out=out)
        except (ValueError, IndexError, TypeError):
            primitive.check(*arrays)  # says what is wrong in the terms of the operation
            primitive.check_values(*arrays)
            raise
        except MemoryError as error:
            text = str(error)
        # Outside the handler: the error would hold the frames in which large arrays are.
        raise out_of_memory(self.xp, primitive.label, text)

    def on_host(self, array: Any) -> np.ndarray:
        """A copy of an operand, for what LAPACK computes."""
        return array if isinstance(array, np.ndarray) else to_host(array, "LAPACK computes on the CPU")

    # ------------------------------------------------------------------------------------------ own kernels
    def pointwise(self, *inputs: Any, formula: Formula, weak: int = 0, out: Any = None) -> Any:
        """A formula on broadcast operands; see :meth:`~nbdl.backend.numpy.NumpyBackend.pointwise`."""
        outs = None if out is None else out if isinstance(out, tuple) else (out,)
        is_shared = [False] * len(inputs)
        if outs is not None:
            inputs, is_shared = _separated(inputs, outs)
        specs = tuple([spec_of(x) for x in inputs])
        out_specs = None if outs is None else tuple([spec_of(array) for array in outs])
        key = (formula, weak, specs, out_specs, tuple(is_shared))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._keep(key, plan_pointwise(self._kernels, formula, weak, specs, out_specs, is_shared))
        results = outs or tuple([self._allocate(output) for output in plan.outputs])
        if plan.launch is not None:
            plan.launch(*[as_argument(x) for x in inputs], *results)
        if out is not None:
            return out
        return results[0] if len(results) == 1 else results

    def cast(self, x: Any, *, dtype: np.dtype, out: Any = None) -> Any:
        """``x`` in another dtype, always a copy; of complex numbers the real part if that is real."""
        if x.dtype.kind == "c" and dtype.kind not in "cb":
            x = x.real
        if out is None:
            out = self.xp.empty(x.shape, dtype)
        return self.pointwise(x, formula=IDENTITY, out=out)

    def reduce(
        self,
        *inputs: Any,
        formula: Formula,
        kind: str,
        axes: tuple[int, ...],
        keepdims: bool,
        weak: int = 0,
        out: Any = None,
    ) -> Any:
        """A formula on broadcast operands, reduced; see :meth:`~nbdl.backend.numpy.NumpyBackend.reduce`."""
        if out is not None:
            inputs = tuple([x.copy() if overlap(x, out) else x for x in inputs])
        specs = tuple([spec_of(x) for x in inputs])
        out_spec = None if out is None else spec_of(out)
        key = (formula, weak, kind, axes, keepdims, specs, out_spec)
        plan = self._plans.get(key)
        if plan is None:
            made = plan_reduce(
                self._kernels, specs, out_spec,
                formula=formula, kind=kind, axes=axes, keepdims=keepdims, weak=weak,
            )  # fmt: skip
            plan = self._keep(key, made)
        result = self.xp.empty(plan.shape, plan.dtype) if out is None else out
        if plan.launch is None:
            return result
        operands = [as_argument(x) for x in inputs]
        if plan.totals is None:
            plan.launch(*operands, result)
        else:
            totals = self.xp.empty(*plan.totals)
            plan.launch(*operands, totals)
            plan.second(totals, result)
        return result

    def scan(self, x: Any, *, kind: str, axis: int, reverse: bool = False, out: Any = None) -> Any:
        """A running reduction along an axis; see :meth:`~nbdl.backend.numpy.NumpyBackend.scan`."""
        if x.dtype.kind == "c":
            return delivered(scanned(self.xp, x, kind, axis, reverse), out)
        result = target(self.xp, out, x.shape, reduced_dtype(kind, x.dtype), x)
        if x.size:
            source = self.xp.ascontiguousarray(x).reshape(x.shape or (1,))
            key = ("scan", source.shape, source.dtype, kind, axis, reverse)
            launch = self._plans.get(key)
            if launch is None:
                launch = self._keep(
                    key,
                    plan_scan(self._kernels, source.shape, source.dtype, result.dtype, kind, axis, reverse),
                )
            launch(source, result)
        if out is None or out is result:
            return result
        return self.cast(result, dtype=out.dtype, out=out)

    def _allocate(self, output: Output) -> Any:
        if output.axes is None:
            return self.xp.empty(output.shape, output.dtype)
        order = np.argsort(output.axes)
        return self.xp.empty(tuple(output.shape[axis] for axis in order), output.dtype).transpose(output.axes)

    def _keep(self, key: Any, plan: Any) -> Any:
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan


def _separated(inputs: Sequence[Any], outs: Sequence[Any]) -> tuple[tuple[Any, ...], list[bool]]:
    """Operands that are safe while outputs are written, and which of them share memory with an output.

    An operand that is the very window an output is written to stays: every element is read before it is
    written. One that overlaps an output otherwise is copied.
    """
    separate, is_shared = [], []
    for x in inputs:
        overlapping = [array for array in outs if overlap(x, array)]
        same = all(_window(x) == _window(array) for array in overlapping)
        separate.append(x if same else x.copy())
        is_shared.append(bool(overlapping) and same)
    return tuple(separate), is_shared


def _window(array: Any) -> tuple[Any, ...]:
    return array.data.ptr, array.shape, array.strides, array.dtype

"""Softmax and cross-entropy on the GPU: one launch each, and no look at the classes from the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy import placing
from nbdl.backend.cupy.files import kernel_of, shape_of_rows, types_of
from nbdl.backend.cupy.launch import Kernels
from nbdl.backend.numpy.results import delivered


class CupySoftmax:
    """See :class:`~nbdl.backend.numpy.softmax.Softmax`."""

    xp: Any
    cast: Any
    _kernels: Kernels

    def softmax(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """exp(x) / sum(exp(x)) along an axis."""
        return self._along("softmax", axis, out, x)

    def log_softmax(self, x: Any, *, axis: int, out: Any = None) -> Any:
        """x - log(sum(exp(x))) along an axis."""
        return self._along("log_softmax", axis, out, x)

    def softmax_input(self, y: Any, g: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient by x of ``y = softmax(x)``."""
        return self._along("softmax_input", axis, out, y, g)

    def log_softmax_input(self, y: Any, g: Any, *, axis: int, out: Any = None) -> Any:
        """The gradient by x of ``y = log_softmax(x)``."""
        return self._along("log_softmax_input", axis, out, y, g)

    def cross_entropy(
        self, logits: Any, target: Any, *, ignore_index: int, out: Any = None
    ) -> tuple[Any, Any]:
        """Losses of all rows and probabilities; NaN for a class that does not exist."""
        if target.shape != (logits.shape[0], *logits.shape[2:]):
            raise ValueError("one class is needed for every row")
        of_losses, of_y = out or (None, None)
        losses = placing.target(self.xp, of_losses, target.shape, logits.dtype, logits, target)
        y = placing.target(self.xp, of_y, logits.shape, logits.dtype, logits, target)
        operands = self.xp.ascontiguousarray(logits), self._as_int64(target), losses, y
        self._launch_rows("cross_entropy", logits.shape, 1, logits.dtype, operands, np.int64(ignore_index))
        return delivered((losses, y), out)

    def cross_entropy_input(self, p: Any, target: Any, g: Any, *, ignore_index: int, out: Any = None) -> Any:
        """The gradient of :meth:`cross_entropy` by the logits."""
        g = self.xp.ascontiguousarray(g)
        return self._slopes_of_logits(p, target, (g, g), False, ignore_index, out)

    def _slopes_of_logits(
        self, p: Any, target: Any, factors: tuple[Any, Any], is_shared: bool, ignored: int, out: Any
    ) -> Any:
        """The gradient for rows that have factors of their own, or all share the product of two numbers."""
        gx = placing.target(self.xp, out, p.shape, p.dtype, p, target, *factors)
        operands = self.xp.ascontiguousarray(p), self._as_int64(target), *factors, gx
        arguments = np.int64(ignored), np.int32(is_shared)
        self._launch_rows("cross_entropy_input", p.shape, 1, p.dtype, operands, *arguments)
        return delivered(gx, out)

    def _as_int64(self, target: Any) -> Any:
        wide = target if target.dtype == np.int64 else self.cast(target, dtype=np.dtype(np.int64))
        return self.xp.ascontiguousarray(wide)

    def _along(self, name: str, axis: int, out: Any, *inputs: Any) -> Any:
        shape, dtype = inputs[0].shape, inputs[0].dtype
        result = placing.target(self.xp, out, shape, dtype, *inputs)
        operands = [self.xp.ascontiguousarray(x) for x in inputs]
        self._launch_rows(name, shape, axis, dtype, (*operands, result))
        return delivered(result, out)

    def _launch_rows(
        self,
        name: str,
        shape: tuple[int, ...],
        axis: int,
        dtype: np.dtype,
        operands: tuple[Any, ...],
        *arguments: Any,
    ) -> None:
        n, inner = shape[axis], math.prod(shape[axis + 1 :])
        rows = math.prod(shape[:axis]) * inner
        if rows == 0:
            return
        kernel = kernel_of(
            self._kernels, f"nbdl_{name}", "softmax.cu", types_of(dtype), (dtype,),
            parts=("rows.cuh",), flags={"NBDL_ACROSS": int(inner > 1)},
        )  # fmt: skip
        block, grid = shape_of_rows(rows, n, inner)
        kernel(grid, block, (*operands, np.int64(rows), np.int64(n), np.int64(inner), *arguments))

"""Losses over classes on the GPU, reduced to one number: nobody looks at the classes from the host."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.backend.cupy import placing
from nbdl.backend.cupy.files import kernel_of, launch_each, types_of
from nbdl.backend.cupy.launch import THREADS, Kernels, blocks
from nbdl.backend.cupy.softmax import CupySoftmax
from nbdl.backend.numpy.results import delivered
from nbdl.formula import dtypes

_FILE = "class_losses.cu"
# Rows that a thread adds up before there are more blocks, and how many blocks there are at most.
_ROWS_OF_A_THREAD = 4
_BLOCKS = 256


class CupyClassLosses(CupySoftmax):
    """See :class:`~nbdl.backend.numpy.class_losses.ClassLosses`; a class that does not exist gives NaN."""

    xp: Any
    _kernels: Kernels

    def cross_entropy_loss(
        self, logits: Any, target: Any, *, ignore_index: int, mean: bool, out: Any = None
    ) -> tuple[Any, ...]:
        """The sum or the mean of the losses of all rows."""
        target = self._as_int64(target)
        rows, totals = (out[:2], out[2:]) if out else (None, (None, None))
        losses, probabilities = self.cross_entropy(logits, target, ignore_index=ignore_index, out=rows)
        reduced = self._class_total(losses, target, (0, 1), ignore_index, mean, totals)
        return delivered((losses, probabilities, *reduced), out)

    def cross_entropy_loss_input(
        self, p: Any, target: Any, g: Any, share: Any, *, ignore_index: int, out: Any = None
    ) -> Any:
        """The gradient of :meth:`cross_entropy_loss` by the logits."""
        _check_rows(p.shape, target)
        return self._slopes_of_logits(p, target, (g, share), True, ignore_index, out)

    def nll_loss(
        self, scores: Any, target: Any, *, ignore_index: int, mean: bool, out: Any = None
    ) -> tuple[Any, ...]:
        """Minus the sum or the mean of the scores of the target classes, and the share of a row in it."""
        _check_rows(scores.shape, target)
        geometry = scores.shape[1], math.prod(scores.shape[2:])
        values = self.xp.ascontiguousarray(scores)
        places = out or (None, None)
        reduced = self._class_total(values, self._as_int64(target), geometry, ignore_index, mean, places)
        return delivered(reduced, out)

    def nll_loss_input(
        self, g: Any, target: Any, share: Any, *, ignore_index: int, shape: tuple[int, ...], out: Any = None
    ) -> Any:
        """The gradient of :meth:`nll_loss` by the scores."""
        _check_rows(shape, target)
        result = placing.target(self.xp, out, shape, g.dtype, g, target, share)
        operands = g, self._as_int64(target), share, result
        sizes = np.int64(shape[1]), np.int64(math.prod(shape[2:])), np.int64(ignore_index)
        launch_each(self._kernels, "nll_loss_input", _FILE, g.dtype, operands, result.size, *sizes)
        return delivered(result, out)

    def _class_total(
        self,
        values: Any,
        target: Any,
        geometry: tuple[int, int],
        ignored: int,
        mean: bool,
        places: tuple[Any, Any],
    ) -> tuple[Any, Any]:
        """The reduction and the share of a row; see the kernel for the geometry (n, inner)."""
        dtype = values.dtype
        total, share = (placing.target(self.xp, place, (), dtype, values, target) for place in places)
        count = blocks(target.size, THREADS * _ROWS_OF_A_THREAD, _BLOCKS)
        sums = self.xp.empty(count, dtypes.arithmetic_dtype(dtype))
        counts = self.xp.empty(count, np.int64)
        kernel = self._class_kernel("class_total", dtype)
        sizes = map(np.int64, (target.size, *geometry, ignored))
        kernel((count,), (THREADS,), (values, target, sums, counts, total, share, *sizes, np.int32(mean)))
        if count > 1:
            conclusion = self._class_kernel("class_conclusion", dtype)
            flags = np.int32(count), np.int32(mean)
            conclusion((1,), (THREADS,), (sums, counts, total, share, *flags))
        return total, share

    def _class_kernel(self, name: str, dtype: np.dtype) -> Any:
        types, parts = types_of(dtype), ("elements.cuh",)
        return kernel_of(self._kernels, f"nbdl_{name}", _FILE, types, (dtype,), parts=parts)


def _check_rows(shape: tuple[int, ...], target: Any) -> None:
    """There is a class for every row of scores of this shape.

    Raises:
        ValueError: there is not.
    """
    if target.shape != (shape[0], *shape[2:]):
        raise ValueError("one class is needed for every row")

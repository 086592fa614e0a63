"""Margin losses on the GPU: a few threads a row, or a block where there are several targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.cupy.files import kernel_of, shape_of_rows, types_of
from nbdl.backend.cupy.launch import THREADS, Kernels, power_of_two
from nbdl.backend.cupy.placing import target as place_of
from nbdl.backend.cupy.reduction import IDENTITY
from nbdl.backend.numpy.results import delivered
from nbdl.formula.dtypes import arithmetic_dtype


class CupyMarginLosses:
    """See :class:`~nbdl.backend.numpy.margin_losses.MarginLosses`; a class that does not exist gives NaN."""

    xp: Any
    cast: Any
    reduce: Any
    _as_int64: Any
    _kernels: Kernels

    def multi_margin_loss(
        self, x: Any, target: Any, *, p: int, margin: float, mean: bool, out: Any = None
    ) -> tuple[Any, Any]:
        """The reduced loss, and the losses of the rows."""
        _check_rows(target, x.shape[:1])
        losses = self.xp.empty(x.shape[:1], arithmetic_dtype(x.dtype))
        operands = self.xp.ascontiguousarray(x), self._as_int64(target), losses
        self._launch_margins("multi_margin_loss", x, operands, np.float64(margin), np.int32(p))
        return self._margin_total(losses, mean, x.dtype, out)

    def multi_margin_loss_input(
        self, g: Any, x: Any, target: Any, *, p: int, margin: float, mean: bool, out: Any = None
    ) -> Any:
        """The gradient of :meth:`multi_margin_loss` by the scores."""
        _check_rows(target, x.shape[:1])
        result = place_of(self.xp, out, x.shape, x.dtype, g, x, target)
        operands = g, self.xp.ascontiguousarray(x), self._as_int64(target), result
        numbers = np.float64(margin), np.float64(x.size if mean else x.shape[1]), np.int32(p)
        self._launch_margins("multi_margin_loss_input", x, operands, *numbers)
        return delivered(result, out)

    def multilabel_margin_loss(self, x: Any, target: Any, *, mean: bool, out: Any = None) -> tuple[Any, Any]:
        """The reduced loss, and the losses of the rows."""
        _check_rows(target, x.shape)
        losses = self.xp.empty(x.shape[:1], arithmetic_dtype(x.dtype))
        operands = self.xp.ascontiguousarray(x), self._as_int64(target), losses
        self._launch_margins("multilabel_margin_loss", x, operands, is_block=True)
        return self._margin_total(losses, mean, x.dtype, out)

    def multilabel_margin_loss_input(
        self, g: Any, x: Any, target: Any, *, mean: bool, out: Any = None
    ) -> Any:
        """The gradient of :meth:`multilabel_margin_loss` by the scores."""
        _check_rows(target, x.shape)
        result = place_of(self.xp, out, x.shape, x.dtype, g, x, target)
        marks = self.xp.empty(x.shape, np.uint8)
        operands = g, self.xp.ascontiguousarray(x), self._as_int64(target), marks, result
        divisor = np.float64(x.size if mean else x.shape[1])
        self._launch_margins("multilabel_margin_loss_input", x, operands, divisor, is_block=True)
        return delivered(result, out)

    def _launch_margins(
        self, name: str, x: Any, operands: tuple[Any, ...], *numbers: Any, is_block: bool = False
    ) -> None:
        """Launch a kernel over the rows of the scores ``x``, with a block for each if they need one."""
        rows, n = x.shape
        if rows == 0:
            return
        kernel = kernel_of(
            self._kernels, f"nbdl_{name}", "margin_losses.cu", types_of(x.dtype), (x.dtype,),
            parts=("rows.cuh",), flags={"NBDL_ACROSS": 0},
        )  # fmt: skip
        block, grid = shape_of_rows(rows, n, 1)
        if is_block:
            block, grid = (min(THREADS, power_of_two(n)), 1), (rows,)
        kernel(grid, block, (*operands, np.int64(rows), np.int64(n), *numbers))

    def _margin_total(self, losses: Any, mean: bool, dtype: np.dtype, out: Any) -> tuple[Any, Any]:
        """The losses, reduced, and as they are, in the dtype of the scores."""
        kind = "mean" if mean else "sum"
        results = self.reduce(losses, formula=IDENTITY, kind=kind, axes=(0,), keepdims=False), losses
        if dtype != losses.dtype:
            results = tuple([self.cast(x, dtype=dtype) for x in results])
        return delivered(results, out)


def _check_rows(target: Any, shape: tuple[int, ...]) -> None:
    """There are targets for every row.

    Raises:
        ValueError: there are not.
    """
    if target.shape != shape:
        raise ValueError("targets are needed for every row")

"""Connectionist temporal classification on the GPU: a block a sample, whose threads share the states."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.backend.cupy.files import kernel_of, types_of
from nbdl.backend.cupy.launch import THREADS, Kernels, power_of_two
from nbdl.backend.cupy.placing import target
from nbdl.backend.cupy.reduction import IDENTITY
from nbdl.backend.numpy.results import delivered
from nbdl.formula import Formula
from nbdl.formula.dtypes import arithmetic_dtype
from nbdl.formula.functions import maximum

_PER_LABEL = Formula("ctc_per_label", lambda loss, count: loss / maximum(count, 1), 2)


class CupyAlignments:
    """See :class:`~nbdl.backend.numpy.alignments.Alignments`; what does not exist gives NaN."""

    xp: Any
    reduce: Any
    _as_int64: Any
    _kernels: Kernels

    def ctc_loss(
        self,
        log_probs: Any,
        labels: Any,
        input_lengths: Any,
        target_lengths: Any,
        *,
        blank: int,
        mean: bool,
        zero_infinity: bool,
        out: Any = None,
    ) -> tuple[Any, Any]:
        """The losses of all samples, and their total."""
        samples, columns = labels.shape
        place = None if out is None else out[0]
        losses = target(self.xp, place, (samples,), log_probs.dtype, log_probs)
        if not samples:
            return delivered((losses, self.xp.zeros((), log_probs.dtype)), out)
        lengths = self._as_int64(target_lengths)
        alphas = self.xp.empty((samples, 2, 2 * columns + 1), arithmetic_dtype(log_probs.dtype))
        operands = self._ctc_operands(log_probs, labels, input_lengths, lengths)
        self._ctc("ctc_loss", (*operands, alphas, losses), blank, int(zero_infinity))
        if mean:
            total = self.reduce(losses, lengths, formula=_PER_LABEL, kind="mean", axes=(0,), keepdims=False)
        else:
            total = self.reduce(losses, formula=IDENTITY, kind="sum", axes=(0,), keepdims=False)
        return delivered((losses, total), out)

    def ctc_loss_input(
        self,
        log_probs: Any,
        labels: Any,
        input_lengths: Any,
        target_lengths: Any,
        g: Any,
        *,
        blank: int,
        mean: bool,
        zero_infinity: bool,
        out: Any = None,
    ) -> Any:
        """The gradient of :meth:`ctc_loss` by log-probabilities that a log-softmax gave."""
        result = target(self.xp, out, log_probs.shape, log_probs.dtype, log_probs, g)
        if not result.size:
            return delivered(result, out)
        (samples, columns), number = labels.shape, arithmetic_dtype(log_probs.dtype)
        states = 2 * columns + 1
        alphas = self.xp.empty((samples, len(log_probs), states), number)
        betas, chains = (
            self.xp.empty((samples, 2, states), number),
            self.xp.empty((samples, states), np.int64),
        )
        operands = self._ctc_operands(log_probs, labels, input_lengths, target_lengths)
        operands += (self.xp.ascontiguousarray(g), alphas, betas, chains, result)
        self._ctc("ctc_loss_input", operands, blank, int(mean), int(zero_infinity), int(g.ndim == 0))
        return delivered(result, out)

    def _ctc_operands(self, log_probs: Any, *integers: Any) -> tuple[Any, ...]:
        """What both kernels read, row-major."""
        return tuple(map(self.xp.ascontiguousarray, (log_probs, *map(self._as_int64, integers))))

    def _ctc(self, name: str, operands: tuple[Any, ...], blank: int, *flags: int) -> None:
        log_probs, labels = operands[:2]
        (samples, columns), dtype = labels.shape, log_probs.dtype
        kernel = kernel_of(self._kernels, f"nbdl_{name}", "alignments.cu", types_of(dtype), (dtype,))
        sizes = map(np.int64, (len(log_probs), log_probs.shape[2], columns, blank))
        threads = min(THREADS, power_of_two(2 * columns + 1))
        kernel((samples,), (threads,), (*operands, *sizes, *map(np.int32, flags)))

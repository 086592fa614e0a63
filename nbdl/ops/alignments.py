"""Connectionist temporal classification: the likelihood of labels under all their alignments with steps.

Source: Graves, Fernandez, Gomez, Schmidhuber (2006), Connectionist temporal classification, section 4.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nbdl.autograd.modes import recording
from nbdl.autograd.tape import apply
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange
from nbdl.ops.fused import Fused
from nbdl.ops.joining import cat, stack
from nbdl.ops.padding import pad_constant
from nbdl.ops.pointwise import call
from nbdl.ops.scattering import gather

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node
    from nbdl.autograd.tensor import Tensor


def _advanced(stay: Any, step: Any, skip: Any, allowed: Any, emitted: Any) -> Any:
    """log of (exp(stay) + exp(step) + [exp(skip)]) exp(emitted), where all may be -inf."""
    skipped = f.where(allowed, skip, -np.inf)
    top = f.maximum(f.maximum(stay, step), skipped)
    reachable = top > -np.inf
    safe = f.where(reachable, top, 0)
    total = f.exp(stay - safe) + f.exp(step - safe) + f.exp(skipped - safe)
    return f.where(reachable, safe + f.log(f.where(reachable, total, 1)), -np.inf) + emitted


_ADVANCE = Formula("ctc_step", _advanced, 5)
_IF_RUNNING = Formula("ctc_running", lambda t, length, new, old: f.where(t < length, new, old), 4)
_FINITE = Formula("ctc_finite", lambda loss: f.where(f.isinf(loss), 0, loss), 1)
_PER_LABEL = Formula("ctc_per_label", lambda loss, length: loss / f.maximum(length, 1), 2)


def _with_blanks(targets: Tensor, blank: int) -> Tensor:
    """(N, S) labels as (N, 2S + 1), a blank before, between and after them."""
    batch, length = targets.array.shape
    blanks = targets.new_full((batch, length), blank)
    pairs = stack([blanks, targets], 2).reshape((batch, 2 * length))
    return cat([pairs, targets.new_full((batch, 1), blank)], 1)


def _shifted(alpha: Tensor, by: int) -> Tensor:
    """alpha[s - by], which is -inf before the beginning."""
    return pad_constant(alpha, [(0, 0), (by, 0)], -np.inf)[:, : alpha.array.shape[1]]


def _negative_log_likelihood(
    log_probs: Tensor, targets: Tensor, input_lengths: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """The forward variables alpha of equations 5 to 8, in logarithms; (N,)."""
    steps, batch, _ = log_probs.array.shape
    places = arange(targets.array.shape[1], device=targets.device)
    targets = call(_IF_RUNNING, places, target_lengths.unsqueeze(1), targets, blank)
    labels = _with_blanks(targets, blank)
    states = labels.array.shape[1]
    before = cat([labels[:, :1], labels[:, :1], labels], 1)[:, :states]
    may_skip = labels != before
    emitted = gather(log_probs, 2, labels.unsqueeze(0).expand((steps, batch, states)))
    is_start = arange(states, device=log_probs.device).unsqueeze(0) < 2
    first = emitted[0] if steps else log_probs.new_zeros((batch, states))
    alpha = where(is_start, first, -np.inf)
    lengths = input_lengths.unsqueeze(1)
    for t in range(1, steps):
        new = call(_ADVANCE, alpha, _shifted(alpha, 1), _shifted(alpha, 2), may_skip, emitted[t])
        alpha = call(_IF_RUNNING, t, lengths, new, alpha)
    # The last label or the blank behind it; an empty target has only the blank.
    last = 2 * target_lengths.unsqueeze(1)
    final, label = gather(alpha, 1, last), gather(alpha, 1, (last - 1).clamp(min=0))
    nothing = alpha.new_full((batch, 1), -np.inf)
    label = where(last > 0, label, nothing)
    total = call(_ADVANCE, final, label, nothing, False, alpha.new_zeros((batch, 1))).squeeze(1)
    started = input_lengths > 0
    return where(started | (target_lengths > 0), -where(started, total, -np.inf), 0.0)


def _as_if_normalised(log_probs: Tensor, input_lengths: Tensor) -> Tensor:
    """Zeros (N,) whose gradient is that of the sum of the probabilities.

    That sum is 1 behind a log-softmax and changes nothing there. It makes the gradient in ``log_probs``
    themselves the one that PyTorch gives, which includes the derivative of the log-softmax.
    """
    sums = log_probs.exp().sum(2)
    t = arange(log_probs.array.shape[0], device=log_probs.device).unsqueeze(1)
    total = call(_IF_RUNNING, t, input_lengths.unsqueeze(0), sums, 0.0).sum(0)
    return total - total.detach()


class CtcLoss(Fused):
    """``ctc_loss(log_probs, labels, input_lengths, target_lengths)``: the losses (N,), and their total.

    Args:
        blank: the label that stands for none.
        mean: the total is the mean of the losses divided by the target lengths, not their sum.
        zero_infinity: a loss of 0 where there is no alignment.
    """

    name = "ctc_loss"

    def __init__(self, blank: int, mean: bool, zero_infinity: bool):
        super().__init__(blank=blank, mean=mean, zero_infinity=zero_infinity)
        self.blank, self.is_mean, self.zero_infinity = blank, mean, zero_infinity

    def check_values(self, *arrays: Any) -> None:
        """Lengths fit, and the labels are classes."""
        x, labels, inputs, targets = arrays[:4]
        for name, lengths, most in (("input", inputs, x.shape[0]), ("target", targets, labels.shape[1])):
            wrong = lengths[(lengths < 0) | (lengths > most)]
            if wrong.size:
                raise RuntimeError(
                    f"ctc_loss: Expected {name}_lengths to have values from 0 to {most}, but got {wrong[0]}"
                )
        counts = np.arange(labels.shape[1]) < targets[:, None]
        wrong = labels[((labels < 0) | (labels >= x.shape[2])) & counts]
        if wrong.size:
            raise IndexError(f"ctc_loss: label {wrong[0]} is out of bounds: there are {x.shape[2]} classes")

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The recursion over the steps, and the reduction."""
        log_probs, labels, input_lengths, target_lengths = inputs
        losses = _negative_log_likelihood(log_probs, labels, input_lengths, target_lengths, self.blank)
        losses = losses + _as_if_normalised(log_probs, input_lengths)
        if self.zero_infinity:
            losses = call(_FINITE, losses)
        total = call(_PER_LABEL, losses, target_lengths).mean() if self.is_mean else losses.sum()
        return losses, total

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The fused backward kernel, for the losses and for their total."""
        primitive, operands = CtcLossInput.of(**self.params), [node.input(k) for k in range(4)]
        parts = [apply(primitive, *operands, g) for g in gradients if g is not None]
        return sum(parts[1:], parts[0]) if parts else None, None, None, None


class CtcLossInput(Fused):
    """``ctc_loss_input(log_probs, labels, input_lengths, target_lengths, g)``: the gradient by log_probs.

    g is the gradient of the losses, (N,), or of their total, ().
    """

    name = "ctc_loss_input"

    def __init__(self, blank: int, mean: bool, zero_infinity: bool):
        super().__init__(blank=blank, mean=mean, zero_infinity=zero_infinity)

    def compose(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The gradient of the composition."""
        from nbdl.autograd.engine import grad

        log_probs, *integers, g = inputs
        with recording(True):
            x = (
                log_probs + log_probs.new_zeros(()).requires_grad_()
            )  # a node, whatever has a gradient already
            losses, total = CtcLoss.of(**self.params).compose(x, *integers)
            return (grad(losses if g.array.ndim else total, x, g, create_graph=True)[0],)


def ctc_loss(
    log_probs: Tensor,
    labels: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int,
    mean: bool,
    zero_infinity: bool,
) -> tuple[Tensor, Tensor]:
    """The losses and their total, by one kernel; see :class:`CtcLoss`.

    Args:
        log_probs: (T, N, C), the result of a log-softmax.
        labels: (N, S), int64, as the lengths are.
        input_lengths: (N,).
        target_lengths: (N,).
        blank: the label that stands for none.
        mean: how the losses are reduced.
        zero_infinity: a loss of 0 where there is no alignment.

    Raises:
        RuntimeError: a length does not fit.
        IndexError: a label is no class.
        NotImplementedError: log_probs are no floating-point numbers.
    """
    if not dtypes.is_floating(log_probs.array.dtype):
        raise NotImplementedError(
            f"ctc_loss: log_probs must have a floating-point dtype, got {log_probs.array.dtype}"
        )
    primitive = CtcLoss.of(blank, mean, zero_infinity)
    return apply(primitive, log_probs, labels, input_lengths, target_lengths)

"""Connectionist temporal classification: the likelihood of a sequence under all its alignments.

Source: Graves, Fernandez, Gomez, Schmidhuber (2006), Connectionist temporal classification, section 4.1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.autocast import in_float32
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn.functional.reduction import check_reduction
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import arange, as_tensor
from nbdl.ops.joining import cat, stack
from nbdl.ops.padding import pad_constant
from nbdl.ops.pointwise import call
from nbdl.ops.scattering import gather


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


def _lengths(name: str, lengths: Any, batch: int, like: Tensor) -> Tensor:
    given = lengths if isinstance(lengths, Tensor) else as_tensor(np.asarray(lengths, np.int64))
    given = given.to(like.device).reshape((-1,)).to(dtype=np.int64)
    if given.array.size != batch:
        raise RuntimeError(f"ctc_loss: {name} must be of size batch_size ({batch}), got {given.array.size}")
    return given


def _padded_targets(targets: Tensor, lengths: Tensor) -> Tensor:
    """Concatenated targets as (N, S); the lengths are read, since they make the shape."""
    counts = lengths.cpu().array
    ends = np.cumsum(counts)
    if targets.array.size != (ends[-1] if len(ends) else 0):
        raise RuntimeError(
            f"ctc_loss: concatenated targets must have sum(target_lengths) = {ends[-1] if len(ends) else 0} "
            f"elements, got {targets.array.size}"
        )
    places = np.arange(max(counts, default=0))
    index = np.where(places < counts[:, None], (ends - counts)[:, None] + places, 0)
    if not targets.array.size:
        return targets.new_zeros(index.shape)
    return gather(targets, 0, as_tensor(index.reshape(-1), device=targets.device)).reshape(index.shape)


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
    labels = _with_blanks(targets, blank)
    states = labels.array.shape[1]
    before = cat([labels[:, :1], labels[:, :1], labels], 1)[:, :states]
    may_skip = (labels != blank) & (labels != before)
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


@in_float32
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of a label sequence, summed over all its alignments with the input.

    Args:
        log_probs: logarithms of probabilities, (T, N, C) or (T, C): the result of ``log_softmax``. The
            gradient is the one for such operands, as PyTorch's is.
        targets: integer labels (N, S), padded, or (sum of the target lengths,), one after the other; without
            batch (S,).
        input_lengths: (N,), at most T.
        target_lengths: (N,), at most S.
        blank: the label that stands for none.
        reduction: ``none``, ``mean`` (of the losses divided by the target lengths) or ``sum``.
        zero_infinity: a loss of 0, with gradient 0, for targets that are longer than the input allows.

    Raises:
        RuntimeError: the blank is no class, or lengths do not fit.
        ValueError: an unknown reduction.

    Example:
        >>> import nbdl
        >>> log_probs = nbdl.full((2, 1, 3), 1 / 3).log()  # two steps, three labels
        >>> nbdl.nn.functional.ctc_loss(log_probs, nbdl.tensor([[1]]), [2], [1]).exp()  # 3 of 9 alignments
        tensor(3.)
    """
    check_reduction("ctc_loss", reduction)
    if log_probs.array.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: log_probs must be (T, N, C) or (T, C), got {list(log_probs.shape)}")
    unbatched = log_probs.array.ndim == 2
    if unbatched:
        log_probs = log_probs.unsqueeze(1)
        targets = targets.unsqueeze(0) if targets.array.ndim == 1 else targets
    _, batch, classes = log_probs.array.shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss: blank must be in label range [0, {classes}), got {blank}")
    inputs = _lengths("input_lengths", input_lengths, batch, log_probs)
    lengths = _lengths("target_lengths", target_lengths, batch, log_probs)
    labels = targets.to(log_probs.device).to(dtype=np.int64)
    if labels.array.ndim == 1:
        labels = _padded_targets(labels, lengths)
    losses = _negative_log_likelihood(log_probs, labels, inputs, lengths, blank)
    losses = losses + _as_if_normalised(log_probs, inputs)
    if zero_infinity:
        losses = call(_FINITE, losses)
    if reduction == "mean":
        return call(_PER_LABEL, losses, lengths).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.squeeze(0) if unbatched else losses

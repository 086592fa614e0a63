"""Connectionist temporal classification: arguments of PyTorch's, for :func:`nbdl.ops.alignments.ctc_loss`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbdl.autograd.autocast import in_float32
from nbdl.autograd.tensor import Tensor
from nbdl.nn.functional.reduction import check_reduction
from nbdl.ops import alignments
from nbdl.ops.creation import as_tensor
from nbdl.ops.scattering import gather


def _integers(x: Tensor, like: Tensor) -> Tensor:
    """int64, where ``like`` is."""
    array = x.array
    if type(array) is type(like.array) and array.dtype == np.int64:
        return x  # as most are: a call of little work
    return x.to(like.device).to(dtype=np.int64)


def _lengths(name: str, lengths: Any, batch: int, like: Tensor) -> Tensor:
    given = lengths if isinstance(lengths, Tensor) else as_tensor(np.asarray(lengths, np.int64))
    given = _integers(given, like)
    if given.array.ndim != 1:
        given = given.reshape((-1,))
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
        IndexError: a label is no class.
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
    labels = _integers(targets, log_probs)
    if labels.array.ndim == 1:
        labels = _padded_targets(labels, lengths)
    losses, total = alignments.ctc_loss(
        log_probs, labels, inputs, lengths, blank, reduction == "mean", zero_infinity
    )
    if reduction != "none":
        return total
    return losses.squeeze(0) if unbatched else losses

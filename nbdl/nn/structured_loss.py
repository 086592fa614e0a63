"""Losses with parameters or structure of their own: alignments, clustered classes, a linear map before."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.nn import functional as F
from nbdl.nn.containers import ModuleList, Sequential
from nbdl.nn.functional.reduction import check_reduction
from nbdl.nn.linear import Linear
from nbdl.nn.module import Module
from nbdl.nn.settings import settings
from nbdl.ops.joining import cat
from nbdl.ops.pointwise import call, scalar
from nbdl.ops.reduction import Reduce
from nbdl.ops.selecting import index_select, nonzero
from nbdl.ops.softmax import cross_entropy_rows

_ANY_OUTSIDE = Reduce.of(
    Formula("outside", lambda target, n: f.where(target < 0, 1, f.where(target >= n, 1, 0)), 2),
    "sum",
    (0,),
    False,
    0b10,
)
_WITHIN = Formula("within", lambda target, low, high: f.logical_and(target >= low, target < high), 3)
_CLUSTER = Formula(
    "cluster",
    lambda column, target, low, high, k: f.where(f.logical_and(target >= low, target < high), k, column),
    5,
)


class CTCLoss(Module):
    """-log of the probability of a label sequence, summed over its alignments: :func:`functional.ctc_loss`.

    Args:
        blank: the label that stands for none.
        reduction: ``none``, ``mean`` (of the losses divided by the target lengths) or ``sum``.
        zero_infinity: a loss of 0 for targets that are longer than the input allows.

    Shape:
        log-probabilities (T, N, C), labels (N, S) or (sum of lengths,), lengths (N,) and (N,)
    """

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False):
        super().__init__()
        check_reduction("CTCLoss", reduction)
        self.blank, self.reduction, self.zero_infinity = blank, reduction, zero_infinity

    def forward(self, log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any) -> Tensor:
        return F.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )


class LinearCrossEntropyLoss(Module):
    """Cross-entropy of a linear map of the input, whose weight is a parameter of the loss.

    Args:
        in_features: size of the last axis of the input.
        num_classes: number of classes.
        out_features: further axes of the target.
        bias: whether there is a bias.
        device: where the parameters are.
        dtype: their dtype.
        reduction: ``none``, ``mean`` or ``sum``.
        weight: a weight for every class.
        ignore_index: a class that does not count.
        label_smoothing: how much of the target is spread over all classes.
        options: accepted for PyTorch's sake.

    Attributes:
        linear: the linear map to ``num_classes`` times the ``out_features``.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: Sequence[int] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Tensor | None = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: Any = None,
    ):
        super().__init__()
        check_reduction("LinearCrossEntropyLoss", reduction)
        self.reduction, self.ignore_index, self.label_smoothing = reduction, ignore_index, label_smoothing
        self.num_classes, self.out_features, self.options = num_classes, tuple(out_features), options
        outputs = math.prod(self.out_features, start=num_classes)
        self.linear = Linear(in_features, outputs, bias, device=device, dtype=dtype)
        self.register_buffer("weight", weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        shape, bias = (self.num_classes, *self.out_features), self.linear.bias
        return F.linear_cross_entropy(
            input,
            self.linear.weight.reshape((*shape, self.linear.in_features)),
            target,
            linear_bias=None if bias is None else bias.reshape(shape),
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )

    def extra_repr(self) -> str:
        shown = settings(
            self, "num_classes", "out_features", "reduction", "ignore_index", "label_smoothing", "options"
        )
        return f"in_features={self.linear.in_features}, {shown}"


class ASMoutput(NamedTuple):
    """What the adaptive softmax gives: the log-probability of each target, and their negative mean."""

    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """A softmax over many classes of very different frequency, sorted by it, most frequent first.

    The most frequent classes are in the head, the others in clusters, which are computed for those samples
    only whose target is there.

    Args:
        in_features: size of the last axis of the input.
        n_classes: number of classes.
        cutoffs: where the clusters begin, increasing.
        div_value: each cluster's features are this many times fewer than those of the one before.
        head_bias: whether the head has a bias.
        device: where the parameters are.
        dtype: their dtype.

    Raises:
        ValueError: the cutoffs are not increasing in [1, n_classes - 1].

    Source: Grave, Joulin, Cisse, Grangier, Jegou (2017), Efficient softmax approximation for GPUs.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        bounds = [0, *cutoffs, n_classes]
        if not cutoffs or any(low >= high or int(low) != low for low, high in itertools.pairwise(bounds)):
            raise ValueError(
                "AdaptiveLogSoftmaxWithLoss: cutoffs should be a sequence of unique, positive integers "
                "sorted in an increasing order, where each value is between 1 and n_classes-1, got "
                f"{list(cutoffs)} for {n_classes} classes"
            )
        self.in_features, self.n_classes = in_features, n_classes
        self.cutoffs, self.div_value, self.head_bias = bounds[1:], div_value, head_bias
        self.shortlist_size, self.n_clusters = bounds[1], len(cutoffs)
        self.head_size = self.shortlist_size + self.n_clusters
        factory = {"device": device, "dtype": dtype}
        self.head = Linear(in_features, self.head_size, bias=head_bias, **factory)
        self.tail = ModuleList()
        for k, (low, high) in enumerate(itertools.pairwise(self.cutoffs), 1):
            hidden = int(in_features // div_value**k)
            self.tail.append(
                Sequential(
                    Linear(in_features, hidden, bias=False, **factory),
                    Linear(hidden, high - low, bias=False, **factory),
                )
            )

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        self.head.reset_parameters()
        for to_hidden, to_classes in self.tail:
            to_hidden.reset_parameters()
            to_classes.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> ASMoutput:
        """The log-probabilities of the targets, (N,) or (), and their negative mean."""
        input, target = self._batched(input_, target_)
        if apply(_ANY_OUTSIDE, target, scalar(self.n_classes)).item():
            raise RuntimeError(
                f"AdaptiveLogSoftmaxWithLoss: Target values should be in [0, {self.n_classes - 1}], but "
                f"values in range [{target.min().item()}, {target.max().item()}] were found."
            )
        column, rest = target, []
        for k, (low, high) in enumerate(itertools.pairwise(self.cutoffs)):
            rows = nonzero(call(_WITHIN, target, low, high)).squeeze(1)
            if not rows.array.size:
                continue
            classes = index_select(target, 0, rows) - low
            rest.append((rows, cross_entropy_rows(self.tail[k](index_select(input, 0, rows)), classes)))
            column = call(_CLUSTER, column, target, low, high, self.shortlist_size + k)
        losses = cross_entropy_rows(self.head(input), column)
        for rows, of_cluster in rest:
            losses = losses.index_add(0, rows, of_cluster)
        output = -losses
        return ASMoutput(output if target_.ndim else output.squeeze(0), losses.mean())

    @staticmethod
    def _batched(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if target.ndim > 1:
            raise RuntimeError(
                "AdaptiveLogSoftmaxWithLoss: 0D or 1D target tensor expected, multi-target not supported"
            )
        if input.ndim != target.ndim + 1:
            raise RuntimeError(
                f"AdaptiveLogSoftmaxWithLoss: {target.ndim}D target tensor expects {target.ndim + 1}D input "
                f"tensors, but found inputs with size {list(input.shape)}"
            )
        if target.ndim == 0:
            return input.unsqueeze(0), target.unsqueeze(0)
        if input.shape[0] != target.shape[0]:
            raise RuntimeError(
                "AdaptiveLogSoftmaxWithLoss: Input and target should have the same size in the batch "
                f"dimension, got {input.shape[0]} and {target.shape[0]}"
            )
        return input, target

    def log_prob(self, input: Tensor) -> Tensor:
        """The log-probabilities of all classes, (N, n_classes)."""
        head = F.log_softmax(self.head(input), 1)
        parts = [head[:, : self.shortlist_size]]
        for k, cluster in enumerate(self.tail):
            share = head[:, self.shortlist_size + k].unsqueeze(1)
            parts.append(F.log_softmax(cluster(input), 1) + share)
        return cat(parts, 1)

    def predict(self, input: Tensor) -> Tensor:
        """The most probable class of every sample, (N,)."""
        return self.log_prob(input).argmax(1)

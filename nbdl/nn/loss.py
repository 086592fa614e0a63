"""Losses: the functions of :mod:`nbdl.nn.functional` as modules; their formulas stand there.

``reduction`` is ``none``, ``mean`` or ``sum`` everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.functional.reduction import check_reduction
from nbdl.nn.module import Module


class _Loss(Module):
    """A loss with a reduction and other options.

    Every option is an attribute, or a buffer if it is a tensor, and a keyword of the function.
    """

    _function: ClassVar[Callable[..., Tensor]]
    _reductions: ClassVar[tuple[str, ...]] = ("none", "mean", "sum")

    def __init__(self, reduction: str = "mean", **options: Any):
        super().__init__()
        if reduction not in self._reductions:
            check_reduction(type(self).__name__, reduction)
        self.reduction = reduction
        self._options = tuple(options)
        for name, value in options.items():
            setattr(self, name, value)

    def _register_weights(self, **weights: Tensor | None) -> None:
        for name, weight in weights.items():
            self.register_buffer(name, weight)
        self._options += tuple(weights)

    def forward(self, *inputs: Tensor) -> Tensor:
        if not self._options:
            return type(self)._function(*inputs, reduction=self.reduction)
        options = {name: getattr(self, name) for name in self._options}
        return type(self)._function(*inputs, reduction=self.reduction, **options)


class L1Loss(_Loss):
    """|input - target|.

    Example:
        >>> import nbdl
        >>> nbdl.nn.L1Loss()(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 4.0]))
        tensor(1.)
    """

    _function = staticmethod(F.l1_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)


class MSELoss(_Loss):
    """(input - target)^2.

    Example:
        >>> import nbdl
        >>> nbdl.nn.MSELoss()(nbdl.tensor([1.0, 2.0]), nbdl.tensor([1.0, 4.0]))
        tensor(2.)
    """

    _function = staticmethod(F.mse_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)


class SmoothL1Loss(_Loss):
    """Quadratic where |input - target| < beta, linear beyond."""

    _function = staticmethod(F.smooth_l1_loss)

    def __init__(self, reduction: str = "mean", beta: float = 1.0):
        super().__init__(reduction, beta=beta)


class HuberLoss(_Loss):
    """Quadratic where |input - target| < delta, linear beyond, with slope delta.

    Example:
        >>> import nbdl
        >>> nbdl.nn.HuberLoss()(nbdl.tensor([0.5, 3.0]), nbdl.zeros(2))
        tensor(1.3125)
    """

    _function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0):
        super().__init__(reduction, delta=delta)


class CrossEntropyLoss(_Loss):
    """The negative logarithm of the softmax of the target class.

    Args:
        weight: a weight for every class.
        ignore_index: a class that does not count.
        reduction: ``none``, ``mean`` (weighted) or ``sum``.
        label_smoothing: how much of the target is spread over all classes.

    Shape:
        logits (N, C, *) or (C,), and classes (N, *) or (), or probabilities of the shape of the logits.

    Example:
        >>> import nbdl
        >>> loss = nbdl.nn.CrossEntropyLoss()
        >>> loss(nbdl.zeros(3, 4), nbdl.tensor([0, 1, 2]))
        tensor(1.3863)
    """

    _function = staticmethod(F.cross_entropy)

    def __init__(
        self,
        weight: Tensor | None = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ):
        super().__init__(reduction, ignore_index=ignore_index, label_smoothing=label_smoothing)
        self._register_weights(weight=weight)


class NLLLoss(_Loss):
    """Minus the log-probability of the target class; arguments as in :class:`CrossEntropyLoss`.

    Example:
        >>> import nbdl
        >>> scores = nbdl.tensor([[0.25, 0.75]]).log()
        >>> nbdl.nn.NLLLoss()(scores, nbdl.tensor([1]))
        tensor(0.2877)
    """

    _function = staticmethod(F.nll_loss)

    def __init__(self, weight: Tensor | None = None, *, ignore_index: int = -100, reduction: str = "mean"):
        super().__init__(reduction, ignore_index=ignore_index)
        self._register_weights(weight=weight)


class NLLLoss2d(NLLLoss):
    """An older name of :class:`NLLLoss` for (N, C, H, W)."""


class PoissonNLLLoss(_Loss):
    """Negative log-likelihood of counts under a Poisson distribution with the predicted mean.

    Args:
        log_input: whether the input is the logarithm of the mean.
        full: add Stirling's approximation of the constant term.
        eps: added to the mean before its logarithm is taken.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.poisson_nll_loss)

    def __init__(
        self, log_input: bool = True, full: bool = False, *, eps: float = 1e-8, reduction: str = "mean"
    ):
        super().__init__(reduction, log_input=log_input, full=full, eps=eps)


class GaussianNLLLoss(_Loss):
    """Negative log-likelihood under a normal distribution; called with input, target and variance.

    Args:
        full: add the constant term.
        eps: lower bound of the variance.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.gaussian_nll_loss)

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean"):
        super().__init__(reduction, full=full, eps=eps)


class KLDivLoss(_Loss):
    """target (log target - input), the input being a log-probability.

    Args:
        reduction: ``none``, ``mean``, ``sum`` or ``batchmean``, the sum divided by the batch size.
        log_target: whether the target is a log-probability.

    Example:
        >>> import nbdl
        >>> p = nbdl.tensor([[0.5, 0.5]])
        >>> nbdl.nn.KLDivLoss(reduction="batchmean")(p.log(), p)
        tensor(0.)
    """

    _function = staticmethod(F.kl_div)
    _reductions = ("none", "mean", "sum", "batchmean")

    def __init__(self, reduction: str = "mean", log_target: bool = False):
        super().__init__(reduction, log_target=log_target)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities.

    Args:
        weight: a weight for every element of a batch.
        reduction: ``none``, ``mean`` or ``sum``.

    Example:
        >>> import nbdl
        >>> nbdl.nn.BCELoss()(nbdl.tensor([0.5]), nbdl.tensor([1.0]))
        tensor(0.6931)
    """

    _function = staticmethod(F.binary_cross_entropy)

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        super().__init__(reduction)
        self._register_weights(weight=weight)


class BCEWithLogitsLoss(_Loss):
    """Binary cross-entropy of logits.

    Args:
        weight: a weight for every element of a batch.
        reduction: ``none``, ``mean`` or ``sum``.
        pos_weight: a weight for positive examples.

    Example:
        >>> import nbdl
        >>> nbdl.nn.BCEWithLogitsLoss()(nbdl.zeros(2), nbdl.tensor([0.0, 1.0]))
        tensor(0.6931)
    """

    _function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(
        self, weight: Tensor | None = None, *, reduction: str = "mean", pos_weight: Tensor | None = None
    ):
        super().__init__(reduction)
        self._register_weights(weight=weight, pos_weight=pos_weight)


class HingeEmbeddingLoss(_Loss):
    """The input where the target is 1, max(0, margin - input) where it is -1."""

    _function = staticmethod(F.hinge_embedding_loss)

    def __init__(self, margin: float = 1.0, *, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)


class MarginRankingLoss(_Loss):
    """max(0, -target (input1 - input2) + margin)."""

    _function = staticmethod(F.margin_ranking_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target input)), the target being ±1."""

    _function = staticmethod(F.soft_margin_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos where the target is 1, max(0, cos - margin) where it is -1."""

    _function = staticmethod(F.cosine_embedding_loss)

    def __init__(self, margin: float = 0.0, *, reduction: str = "mean"):
        super().__init__(reduction, margin=margin)


class MultiMarginLoss(_Loss):
    """The mean of max(0, margin - x[target] + x[i])^p over the other classes i.

    Args:
        p: 1 or 2.
        margin: the margin.
        weight: a weight for every class.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.multi_margin_loss)

    def __init__(
        self, p: int = 1, margin: float = 1.0, weight: Tensor | None = None, *, reduction: str = "mean"
    ):
        super().__init__(reduction, p=p, margin=margin)
        self._register_weights(weight=weight)


class MultiLabelMarginLoss(_Loss):
    """Hinge loss between every target class and every other class; targets are ended by -1."""

    _function = staticmethod(F.multilabel_margin_loss)

    def __init__(self, reduction: str = "mean"):
        super().__init__(reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """The mean binary cross-entropy of logits over the classes.

    Args:
        weight: a weight for every class.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.multilabel_soft_margin_loss)

    def __init__(self, weight: Tensor | None = None, *, reduction: str = "mean"):
        super().__init__(reduction)
        self._register_weights(weight=weight)


class TripletMarginLoss(_Loss):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), d being a p-norm.

    Args:
        margin: the margin.
        p: the order of the norm.
        eps: added to the differences.
        swap: take the smaller one of the distances from anchor and positive to negative.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.triplet_margin_loss)

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        *,
        reduction: str = "mean",
    ):
        super().__init__(reduction, margin=margin, p=p, eps=eps, swap=swap)


class TripletMarginWithDistanceLoss(_Loss):
    """:class:`TripletMarginLoss` with a distance of one's own.

    Args:
        distance_function: a function of two tensors; default: :class:`PairwiseDistance`.
        margin: the margin.
        swap: take the smaller one of the distances from anchor and positive to negative.
        reduction: ``none``, ``mean`` or ``sum``.
    """

    _function = staticmethod(F.triplet_margin_with_distance_loss)

    def __init__(
        self,
        *,
        distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ):
        super().__init__(reduction, distance_function=distance_function, margin=margin, swap=swap)

"""How good predictions are: as functions of one batch, and as objects that gather many.

An object has ``update`` for each batch, ``compute`` for the value over all of them, and ``reset``.
"""

from __future__ import annotations

from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula.dtypes import FLOAT64, INT64, get_default_dtype
from nbdl.ops.creation import as_tensor, zeros
from nbdl.ops.new_like import ones_like


def accuracy(scores: Tensor, target: Tensor, k: int = 1) -> Tensor:
    """Which fraction of the targets is among the k best scores.

    Args:
        scores: (n, classes), or the predicted classes (n,), for which k must be 1.
        target: (n,), the true classes.
        k: how many guesses count.

    Returns:
        A 0-d tensor of the default floating dtype; NaN without samples.

    Raises:
        ValueError: shapes do not fit, or k is not from 1 to the number of classes.

    Example:
        >>> import nbdl
        >>> from nbdl.utils.metrics import accuracy
        >>> accuracy(nbdl.tensor([[0.1, 0.9], [0.8, 0.2]]), nbdl.tensor([1, 1]))
        tensor(0.5000)
    """
    return _hits("accuracy", scores, target, k).to(get_default_dtype()).mean()


def confusion_matrix(scores: Tensor, target: Tensor, num_classes: int) -> Tensor:
    """How often class i (row) was taken for class j (column).

    Args:
        scores: (n, classes), or the predicted classes (n,).
        target: (n,), the true classes.
        num_classes: size of the matrix.

    Returns:
        (num_classes, num_classes), int64.

    Raises:
        ValueError: shapes do not fit.
        IndexError: a class is not below ``num_classes``.
    """
    _check_shapes("confusion_matrix", scores, target)
    predicted = scores.argmax(1) if scores.ndim == 2 else scores
    counts = zeros(num_classes, num_classes, dtype=INT64, device=target.device)
    target = target.long()
    return counts.index_put((target, predicted.long()), ones_like(target), accumulate=True)


def r2_score(prediction: Tensor, target: Tensor) -> Tensor:
    """Coefficient of determination: 1 - sum of squared residuals / sum of squared deviations from the mean.

    Args:
        prediction: (n,) or (n, outputs).
        target: the same shape.

    Returns:
        A 0-d tensor, the mean over the outputs: 1 for a perfect prediction, 0 for that of the mean; -inf or
        NaN where the target is constant.

    Raises:
        ValueError: the shapes differ.
    """
    _check_equal("r2_score", prediction, target)
    residuals = ((target - prediction) ** 2).sum(0)
    deviations = ((target - target.mean(0)) ** 2).sum(0)
    return (1 - residuals / deviations).mean()


class Mean:
    """The mean of numbers, such as the losses of batches, with weights.

    Example:
        >>> from nbdl.utils.metrics import Mean
        >>> mean = Mean()
        >>> mean.update(1.0, weight=3)
        >>> mean.update(5.0)
        >>> mean.compute()
        tensor(2., dtype=float64)
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._total = zeros((), dtype=FLOAT64)
        self._weight = 0.0

    @no_grad()
    def update(self, value: Any, weight: float = 1.0) -> None:
        """Add a number, or a 0-d tensor."""
        self._total = self._total.to(value.device) if isinstance(value, Tensor) else self._total
        self._total = self._total + as_tensor(value).double() * weight
        self._weight += weight

    def compute(self) -> Tensor:
        """The mean; NaN if there was nothing."""
        return self._total / self._weight if self._weight else self._total * float("nan")


class Accuracy(Mean):
    """:func:`accuracy` over many batches.

    Args:
        k: how many guesses count.
    """

    def __init__(self, k: int = 1):
        self.k = k
        super().__init__()

    def update(self, scores: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add a batch."""
        if target.numel():
            super().update(accuracy(scores, target, self.k), target.numel())


class ConfusionMatrix:
    """:func:`confusion_matrix` over many batches.

    Args:
        num_classes: size of the matrix.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._counts: Tensor | None = None

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Add a batch."""
        counts = confusion_matrix(scores, target, self.num_classes)
        self._counts = counts if self._counts is None else self._counts + counts

    def compute(self) -> Tensor:
        """The matrix."""
        if self._counts is None:
            return zeros(self.num_classes, self.num_classes, dtype=INT64)
        return self._counts


class R2Score:
    """:func:`r2_score` over many batches, in float64.

    Means and squared deviations of batches are merged as by Chan, Golub and LeVeque (1983), which keeps the
    digits that a sum of squares would lose.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._count = 0
        self._mean: Any = 0.0
        self._deviations: Any = 0.0
        self._residuals: Any = 0.0

    @no_grad()
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch."""
        _check_equal("R2Score", prediction, target)
        if not target.numel():
            return
        target, count = target.double(), target.shape[0]
        total = self._count + count
        mean = target.mean(0)
        step = mean - self._mean
        self._residuals = self._residuals + ((target - prediction.double()) ** 2).sum(0)
        self._deviations = (
            self._deviations + ((target - mean) ** 2).sum(0) + step**2 * (self._count * count / total)
        )
        self._mean = self._mean + step * (count / total)
        self._count = total

    def compute(self) -> Tensor:
        """The coefficient.

        Raises:
            RuntimeError: there was nothing.
        """
        if not self._count:
            raise RuntimeError("R2Score: compute() was called before update()")
        return (1 - self._residuals / self._deviations).mean()


def _hits(label: str, scores: Tensor, target: Tensor, k: int) -> Tensor:
    """Where the target is among the k best scores."""
    _check_shapes(label, scores, target)
    n_classes = scores.shape[1] if scores.ndim == 2 else 1
    if not 1 <= k <= n_classes:
        raise ValueError(
            f"{label}: k must be from 1 to {n_classes} for scores of shape {list(scores.shape)}, got {k}"
        )
    if scores.ndim == 1:
        return scores == target
    if k == 1:
        return scores.argmax(1) == target
    return (scores.topk(k, 1)[1] == target.unsqueeze(1)).any(1)


def _check_shapes(label: str, scores: Tensor, target: Tensor) -> None:
    if target.ndim != 1 or scores.ndim not in (1, 2) or scores.shape[0] != target.shape[0]:
        raise ValueError(
            f"{label}: expected scores (n, classes) or classes (n,) and targets (n,), got shapes "
            f"{list(scores.shape)} and {list(target.shape)}"
        )


def _check_equal(label: str, prediction: Tensor, target: Tensor) -> None:
    if prediction.shape != target.shape:
        raise ValueError(
            f"{label}: prediction and target must have one shape, got {list(prediction.shape)} and "
            f"{list(target.shape)}"
        )

"""The distribution of the targets that a loss is the negative log-likelihood of.

For a row n of the outputs with loss l_n, the matrix B_n = d^2 l_n / d f_n^2 does not depend on the target
for these three, and is the covariance of the gradient d l_n / d f_n under the model's own distribution:
Fisher and Gauss-Newton matrix are the same. Source: Martens (2020), New insights and perspectives on the
natural gradient method, sections 8 and 9.
"""

from __future__ import annotations

from typing import Any

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.loss import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss
from nbdl.ops.creation import eye
from nbdl.ops.joining import stack
from nbdl.ops.softmax import softmax
from nbdl.random import Generator


class Likelihood:
    """Base of the likelihoods.

    Args:
        averages: whether l_n is a mean over the elements of a row rather than their sum.
    """

    def __init__(self, averages: bool):
        self._averages = averages

    def product(self, outputs: Tensor, u: Tensor) -> Tensor:
        """B_n u_n for all rows.

        Args:
            outputs: f (N, ...).
            u: of the shape of f, or with further axes before it.
        """
        raise NotImplementedError

    def root(self, outputs: Tensor) -> Tensor:
        """Columns s_kn with sum_k s_kn s_kn^T = B_n, as (K, N, ...)."""
        raise NotImplementedError

    def draw(self, outputs: Tensor, generator: Generator | None) -> Tensor:
        """Random vectors g_n with E[g_n g_n^T] = B_n: gradients for targets that the model draws itself."""
        raise NotImplementedError

    def _scale(self, outputs: Tensor) -> float:
        """What the loss of an element counts in l_n."""
        return outputs.shape[0] / max(outputs.numel(), 1) if self._averages else 1.0


class Categorical(Likelihood):
    """Classes drawn from the softmax of logits (N, C): the cross-entropy. B = diag(p) - p p^T."""

    def product(self, outputs: Tensor, u: Tensor) -> Tensor:
        p = self._probabilities(outputs)
        return p * (u - (p * u).sum(-1, keepdim=True))

    def root(self, outputs: Tensor) -> Tensor:
        p = self._probabilities(outputs)
        units = eye(p.shape[1], dtype=p.dtype, device=p.device).unsqueeze(1)
        return p.sqrt().T.unsqueeze(2) * (units - p)

    def draw(self, outputs: Tensor, generator: Generator | None) -> Tensor:
        p = self._probabilities(outputs)
        # The first arrival of exponential clocks; unlike multinomial it reads nothing to check the weights.
        clocks = outputs.detach().clone().exponential_(generator=generator)
        labels = (clocks / p).argmin(1, keepdim=True)
        return p - p.zeros_like().scatter(1, labels, 1.0)

    @staticmethod
    def _probabilities(outputs: Tensor) -> Tensor:
        if outputs.ndim != 2:
            raise ValueError(
                "Fisher: the cross-entropy is handled for logits of shape (N, C), got shape "
                f"{tuple(outputs.shape)}; flatten all positions into the first axis"
            )
        return softmax(outputs, 1)


class _Elementwise(Likelihood):
    """Independent elements: B is diagonal."""

    def _curvature(self, outputs: Tensor) -> Tensor:
        """The diagonal of B."""
        raise NotImplementedError

    def product(self, outputs: Tensor, u: Tensor) -> Tensor:
        return self._curvature(outputs) * u

    def root(self, outputs: Tensor) -> Tensor:
        values = self._curvature(outputs).sqrt().reshape(outputs.shape[0], -1)
        units = eye(values.shape[1], dtype=values.dtype, device=values.device)
        return (units.unsqueeze(1) * values).reshape(-1, *outputs.shape)


class Gaussian(_Elementwise):
    """Normal distributions with mean f: the squared error. B = 2 / (elements of a row)."""

    def _curvature(self, outputs: Tensor) -> Tensor:
        return outputs.detach().full_like(2 * self._scale(outputs))

    def draw(self, outputs: Tensor, generator: Generator | None) -> Tensor:
        noise = outputs.detach().clone().normal_(generator=generator)
        return noise * (2 * self._scale(outputs)) ** 0.5


class Bernoulli(_Elementwise):
    """Bits with logits f: the binary cross-entropy. B = p (1 - p) / (elements of a row)."""

    def _curvature(self, outputs: Tensor) -> Tensor:
        p = outputs.sigmoid()
        return p * (1 - p) * self._scale(outputs)

    def draw(self, outputs: Tensor, generator: Generator | None) -> Tensor:
        p = outputs.sigmoid()
        bits = outputs.detach().clone().uniform_(generator=generator) < p
        return (p - bits.to(p.dtype)) * self._scale(outputs) ** 0.5


_OF_CLASS: dict[type, Any] = {
    CrossEntropyLoss: (Categorical, {"weight": None, "ignore_index": -100, "label_smoothing": 0.0}),
    MSELoss: (Gaussian, {}),
    BCEWithLogitsLoss: (Bernoulli, {"weight": None, "pos_weight": None}),
}
_OF_FUNCTION: dict[Any, type[Likelihood]] = {
    F.cross_entropy: Categorical, F.mse_loss: Gaussian, F.binary_cross_entropy_with_logits: Bernoulli,
}  # fmt: skip


def likelihood_of(caller: str, loss: Any, reduction: str) -> Likelihood:
    """The likelihood of a loss.

    Args:
        caller: the name that errors begin with.
        loss: a module or function of outputs and targets.
        reduction: "mean" or "sum".

    Raises:
        ValueError: it is none of a known distribution, or has weights or smoothing.
    """
    if loss in _OF_FUNCTION:
        return _OF_FUNCTION[loss](reduction == "mean")
    if type(loss) not in _OF_CLASS:
        raise ValueError(
            f"{caller}: the likelihood is known for CrossEntropyLoss, MSELoss, BCEWithLogitsLoss and their "
            f"functions, got {loss!r}; use GGN or EmpiricalFisher for other losses"
        )
    kind, plain = _OF_CLASS[type(loss)]
    for name, value in plain.items():
        if getattr(loss, name) is not value and getattr(loss, name) != value:
            raise ValueError(
                f"{caller}: {type(loss).__name__} is a likelihood only with {name}={value!r}, got "
                f"{getattr(loss, name)!r}"
            )
    return kind(reduction == "mean")


def draws(likelihood: Likelihood, outputs: Tensor, n_samples: int, generator: Generator | None) -> Tensor:
    """``n_samples`` draws g / sqrt(n_samples), stacked: (n_samples, N, ...)."""
    samples = [likelihood.draw(outputs, generator) for _ in range(n_samples)]
    return stack(samples) * n_samples**-0.5

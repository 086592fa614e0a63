"""Entropies of discrete distributions, in nats; with 0 log 0 = 0."""

from __future__ import annotations

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.primitive import check_broadcast, normalize_axis
from nbdl.ops.reduction import Reduce

# The slope of p log p at 0, -inf, would be NaN times the slope 0 of a softmax that underflowed: here it is 0.
_ENTROPY = Formula("entropy", lambda p: f.where(f.equal(p, 0), 0, -p * f.log(p)), 1)
_CROSS_ENTROPY = Formula("relative_information", lambda p, q: -f.xlogy(p, q), 2)
_DIVERGENCE = Formula(
    "kl_divergence", lambda p, q: f.where(f.equal(p, 0), 0, p * f.log(p) - f.xlogy(p, q)), 2
)


def _summed(formula: Formula, dim: int, *distributions: Tensor) -> Tensor:
    shape = check_broadcast(formula.name, [p.array for p in distributions])
    axis = normalize_axis(formula.name, dim, len(shape))
    return apply(Reduce.of(formula, "sum", (axis,), False, 0), *[p.expand(shape) for p in distributions])


@numpy_keywords
def entropy(p: Tensor, dim: int = -1) -> Tensor:
    """H(p) = -sum p log p of probabilities along an axis; where p is 0, so are its term and its slope.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.entropy(nbdl.tensor([0.5, 0.5]))
        tensor(0.6931)
    """
    return _summed(_ENTROPY, dim, p)


@numpy_keywords
def distribution_cross_entropy(p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """H(p, q) = -sum p log q of probabilities along an axis; at least H(p), infinite where q excludes p.

    For logits there is :func:`cross_entropy`, which is exact where the probabilities would underflow.
    """
    return _summed(_CROSS_ENTROPY, dim, p, q)


@numpy_keywords
def distribution_kl_divergence(p: Tensor, q: Tensor, dim: int = -1) -> Tensor:
    """KL(p || q) = H(p, q) - H(p) of probabilities along an axis; not negative, and 0 only for p = q.

    Where p is 0, so are its term and its slope.

    Example:
        >>> import nbdl
        >>> p, q = nbdl.tensor([0.5, 0.5]), nbdl.tensor([0.25, 0.75])
        >>> nbdl.nn.functional.distribution_kl_divergence(p, q)
        tensor(0.1438)
    """
    return _summed(_DIVERGENCE, dim, p, q)

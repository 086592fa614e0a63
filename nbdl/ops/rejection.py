"""Random tensors by rejection: gamma (differentiable by its parameter), Poisson, binomial, von Mises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import dtypes
from nbdl.ops.drawing import Draw, generator_for, is_everywhere
from nbdl.ops.gamma import log_gamma_slope
from nbdl.ops.primitive import check_broadcast
from nbdl.ops.reduction import sum_to
from nbdl.random import Generator

if TYPE_CHECKING:
    from nbdl.autograd.tape import Node

__all__ = ["binomial", "poisson"]


class RandomLogGamma(Draw):
    """Logarithms of gamma numbers of rate 1 and the concentration that the last operand gives.

    The derivative is implicit (Figurnov, Mohamed, Mnih 2018): a sample keeps its probability.
    """

    name = "random_log_gamma"
    differentiable = True
    saved = frozenset((2,))
    saves_output = True

    def vjp(self, node: Node, *gradients: Tensor | None) -> Sequence[Tensor | None]:
        """The gradient times the slope, summed over what broadcasting had added."""
        assert gradients[0] is not None
        slope = log_gamma_slope(node.input(2), node.output())
        return None, None, sum_to(gradients[0] * slope, node.shape(2))

    def jvp(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
    ) -> Sequence[Tensor | None]:
        """The tangent times the slope."""
        if tangents[2] is None:
            return (None,)
        return (tangents[2] * log_gamma_slope(inputs[2], outputs[0]),)


class RandomPoisson(Draw):
    """Poisson numbers of the rate that the last operand gives."""

    name = "random_poisson"


class RandomBinomial(Draw):
    """Numbers of successes; operands are the number of trials and the probability."""

    name = "random_binomial"


class RandomVonMises(Draw):
    """Angles about 0, of the concentration that the last operand gives."""

    name = "random_von_mises"


def _draw(
    label: str, kind: type[Draw], dtype_of: Tensor, parameters: Sequence[Tensor], generator: Generator | None
) -> Tensor:
    shape = check_broadcast(label, [x.array for x in parameters])
    source = generator_for(label, generator, dtype_of.device)
    return source.draw(kind.of(shape, dtype_of.array.dtype), *parameters)


def log_standard_gamma(concentration: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Logarithms of gamma numbers of rate 1, differentiable by the concentration.

    The logarithm stays finite where the number itself, for a small concentration, is below all floats.

    Args:
        concentration: floating and positive; NaN is drawn where it is not.
        generator: default: the one of the device.
    """
    return _draw("log_standard_gamma", RandomLogGamma, concentration, [concentration], generator)


def standard_von_mises(concentration: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Angles in [-pi, pi] of von Mises distributions about 0; NaN where the concentration is not positive."""
    return _draw("standard_von_mises", RandomVonMises, concentration, [concentration], generator)


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson numbers of the rates in ``input``, in its dtype and shape.

    Args:
        input: floating, not negative.
        generator: default: the one of the device.

    Raises:
        RuntimeError: the rates are no floats, or one is negative.

    Example:
        >>> import nbdl
        >>> nbdl.poisson(nbdl.tensor([0.0, 1e-9]))
        tensor([0., 0.])
    """
    if not input.is_floating_point():
        raise RuntimeError(f"poisson: expected a floating tensor of rates, got {input.dtype}")
    if not is_everywhere(input.detach() >= 0):
        raise RuntimeError("poisson: expected all rates to be >= 0, got invalid Poisson rate")
    return _draw("poisson", RandomPoisson, input, [input], generator)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """Numbers of successes in ``count`` trials, each of probability ``prob``, in the dtype of ``count``.

    Args:
        count: floating, whole numbers, not negative.
        prob: in [0, 1], of the same dtype; both broadcast.
        generator: default: the one of the device.

    Raises:
        RuntimeError: a dtype is not floating, the dtypes differ, or a number is not in its range.

    Example:
        >>> import nbdl
        >>> nbdl.binomial(nbdl.tensor([10.0, 20.0]), nbdl.tensor([0.0, 1.0]))
        tensor([ 0., 20.])
    """
    if not dtypes.is_floating(count.dtype) or count.dtype != prob.dtype:
        raise RuntimeError(
            f"binomial: expected count and prob of one floating dtype, got {count.dtype} and {prob.dtype}"
        )
    with no_grad():
        if not (is_everywhere(count >= 0) and is_everywhere((prob >= 0) & (prob <= 1))):
            raise RuntimeError("binomial: expected count >= 0 and 0 <= prob <= 1")
    return _draw("binomial", RandomBinomial, count, [count, prob], generator)

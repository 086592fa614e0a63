"""Activations: every one a formula, with PyTorch's slopes at the kinks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.tape import apply
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula
from nbdl.formula import functions as f
from nbdl.ops import arithmetic
from nbdl.ops.creation import arange
from nbdl.ops.gating import Glu
from nbdl.ops.inplace import call_in_place
from nbdl.ops.keywords import numpy_keywords
from nbdl.ops.pointwise import call
from nbdl.ops.primitive import normalize_axis
from nbdl.ops.random import rand_like
from nbdl.ops.rectifiers import LEAKY_RELU
from nbdl.ops.softmax import log_softmax as log_softmax_along
from nbdl.ops.softmax import softmax as softmax_along

# Klambauer et al., Self-Normalizing Neural Networks (2017): the fixed point has mean 0 and variance 1.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def _formula(name: str, definition: Callable[..., Any]) -> Formula:
    return Formula(name, definition, definition.__code__.co_argcount)


_RELU = arithmetic.formula_of("relu")
_HARDTANH = _formula("hardtanh", lambda x, low, high: f.where(x <= low, low, f.where(x >= high, high, x)))
_RANDOM_RELU = _formula("rrelu", lambda x, u, width, low: f.where(x > 0, x, (u * width + low) * x))
_ELU = _formula("elu", lambda x, alpha: f.where(x > 0, x, alpha * f.expm1(x)))
_CELU = _formula("celu", lambda x, alpha: f.where(x > 0, x, alpha * f.expm1(x / alpha)))
_SELU = _formula("selu", lambda x: SELU_SCALE * f.where(x > 0, x, SELU_ALPHA * f.expm1(x)))
_GELU = _formula("gelu", lambda x: 0.5 * x * (1 + f.erf(x * math.sqrt(0.5))))
_GELU_TANH = _formula(
    "gelu_tanh", lambda x: 0.5 * x * (1 + f.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))))
)
_SILU = _formula("silu", lambda x: x * f.expit(x))
_MISH = _formula("mish", lambda x: x * f.tanh(f.softplus(x)))
# Linear where the exponential would only be rounded away.
_SOFTPLUS = _formula(
    "softplus", lambda x, beta, threshold: f.where(x * beta > threshold, x, f.softplus(x * beta) / beta)
)
_LOGSIGMOID = _formula("logsigmoid", lambda x: -f.softplus(-x))
_SOFTSIGN = _formula("softsign", lambda x: x / (1 + f.abs(x)))
_TANHSHRINK = _formula("tanhshrink", lambda x: x - f.tanh(x))
_SOFTSHRINK = _formula(
    "softshrink", lambda x, lam: f.where(x > lam, x - lam, f.where(x < -lam, x + lam, x * 0))
)
_HARDSIGMOID = _formula("hardsigmoid", lambda x: f.where(x <= -3, 0, f.where(x >= 3, 1, x / 6 + 0.5)))
_HARDSWISH = _formula("hardswish", lambda x: f.where(x <= -3, 0, f.where(x >= 3, x, x * (x + 3) / 6)))
_THRESHOLD = _formula("threshold", lambda x, threshold, value: f.where(x <= threshold, value, x))


def _apply(formula: Formula, inplace: bool, x: Tensor, *parameters: Any) -> Tensor:
    return call_in_place(formula, x, *parameters) if inplace else call(formula, x, *parameters)


sigmoid, tanh = arithmetic.sigmoid, arithmetic.tanh


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0); slope 0 at 0.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.relu(nbdl.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """
    return call_in_place(_RELU, input) if inplace else arithmetic.relu(input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; slope 0 at the bounds.

    Raises:
        ValueError: the bounds are in the wrong order.
    """
    if min_val > max_val:
        raise ValueError(f"hardtanh: min_val cannot be greater than max_val, got {min_val} and {max_val}")
    if input.dtype.kind in "iu":  # bounds take the dtype of the operand
        min_val, max_val = int(min_val), int(max_val)
    return _apply(_HARDTANH, inplace, input, min_val, max_val)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x above 0, negative_slope * x below.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.leaky_relu(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.0100,  2.0000])
    """
    return _apply(LEAKY_RELU, inplace, input, negative_slope)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """x above 0, slope * x below, with random slopes from [lower, upper] in training, else their mean.

    Raises:
        RuntimeError: ``lower`` is above ``upper``.
    """
    if lower > upper:
        raise RuntimeError(
            f"rrelu: lower bound should be less than or equal to the upper bound, got {lower} and {upper}"
        )
    if not training:
        return _apply(LEAKY_RELU, inplace, input, (lower + upper) / 2)
    return _apply(_RANDOM_RELU, inplace, input, rand_like(input), upper - lower, lower)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x) - 1) below.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.elu(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.6321,  2.0000])
    """
    return _apply(_ELU, inplace, input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """Scaled elu, whose fixed point has mean 0 and variance 1 (Klambauer et al. 2017)."""
    return _apply(_SELU, inplace, input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x above 0, alpha * (exp(x / alpha) - 1) below.

    Raises:
        ZeroDivisionError: alpha is 0.
    """
    if alpha == 0:
        raise ZeroDivisionError("celu: alpha cannot be 0")
    return _apply(_CELU, inplace, input, alpha)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x times the normal distribution function of x (Hendrycks & Gimpel 2016).

    Args:
        input: the tensor.
        approximate: ``none``, or ``tanh`` for their approximation.

    Raises:
        RuntimeError: another approximation.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.gelu(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.1587,  1.9545])
    """
    if approximate not in ("none", "tanh"):
        raise RuntimeError(f"gelu: approximate argument must be either 'none' or 'tanh', got {approximate!r}")
    return call(_GELU if approximate == "none" else _GELU_TANH, input)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x * sigmoid(x).

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.silu(nbdl.tensor([-1.0, 2.0]))
        tensor([-0.2689,  1.7616])
    """
    return _apply(_SILU, inplace, input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x))."""
    return _apply(_MISH, inplace, input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta; x itself where beta * x is above the threshold.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.softplus(nbdl.tensor([-1.0, 2.0]))
        tensor([0.3133, 2.1269])
    """
    return call(_SOFTPLUS, input, beta, threshold)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return call(_LOGSIGMOID, input)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + abs(x))."""
    return input / (1 + input.abs()) if input.is_complex() else call(_SOFTSIGN, input)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return call(_TANHSHRINK, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by ``lambd``, 0 inside [-lambd, lambd].

    Raises:
        RuntimeError: ``lambd`` is negative.
    """
    if lambd < 0:
        raise RuntimeError(f"softshrink: lambda must be greater or equal to 0, but found to be {lambd}")
    return call(_SOFTSHRINK, input, lambd)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x / 6 + 1/2, limited to [0, 1]."""
    return _apply(_HARDSIGMOID, inplace, input)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x)."""
    return _apply(_HARDSWISH, inplace, input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x above the threshold, else ``value``."""
    return _apply(_THRESHOLD, inplace, input, threshold, value)


@numpy_keywords
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half of an axis times the sigmoid of the second.

    Raises:
        RuntimeError: the axis has an odd length.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.glu(nbdl.tensor([4.0, 0.0]))
        tensor([2.])
    """
    axis = normalize_axis("glu", dim, input.array.ndim)
    n = input.array.shape[axis] if input.array.ndim else 1
    if n % 2:
        raise RuntimeError(f"glu: Halving dimension must be even, but dimension {dim} is size {n}")
    primitive = Glu.of(axis)
    if isinstance(input.array, np.ndarray) and input.array.dtype.kind == "f":
        return apply(primitive, input.contiguous())
    return primitive.compose(input)[0]


# ------------------------------------------------------------------------------------ normalised exponentials
def _softmax_axis(label: str, dim: int | None) -> int:
    if dim is None:
        raise TypeError(f"{label}: dim is missing: it must name the axis whose slices are normalised")
    return dim


@numpy_keywords
def softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along ``dim``, see :func:`nbdl.softmax`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.softmax(nbdl.tensor([0.0, 0.0]), dim=0)
        tensor([0.5000, 0.5000])
    """
    return softmax_along(input, _softmax_axis("softmax", dim), dtype)


@numpy_keywords
def softmin(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """softmax of -x along ``dim``."""
    return softmax_along(-input, _softmax_axis("softmin", dim), dtype)


@numpy_keywords
def log_softmax(input: Tensor, dim: int | None = None, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along ``dim``, see :func:`nbdl.log_softmax`.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.log_softmax(nbdl.tensor([0.0, 0.0]), dim=0)
        tensor([-0.6931, -0.6931])
    """
    return log_softmax_along(input, _softmax_axis("log_softmax", dim), dtype)


@numpy_keywords
def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, dim: int = -1) -> Tensor:
    """A sample of the Gumbel-softmax distribution (Jang et al. 2016).

    Args:
        logits: unnormalised log-probabilities.
        tau: temperature.
        hard: return one-hot samples, with the gradient of the soft ones.
        dim: the axis of the classes.
    """
    # -log(-log(u)) is Gumbel distributed; u = 0 would make it infinite, so u is taken from (0, 1].
    noise = -arithmetic.log(-arithmetic.log1p(-rand_like(logits)))
    soft = softmax_along((logits + noise) / tau, dim)
    if not hard:
        return soft
    axis = normalize_axis("gumbel_softmax", dim, logits.array.ndim)
    choice = soft.detach().argmax(axis, keepdim=True)
    shape = [1] * logits.array.ndim
    shape[axis] = -1
    classes = arange(logits.array.shape[axis], device=logits.device).reshape(tuple(shape))
    return (classes == choice).to(soft.dtype) - soft.detach() + soft

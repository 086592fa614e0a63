"""Initial values of parameters. Every function fills a tensor in place, outside the tape, and returns it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import erfinv
from nbdl.ops.creation import from_numpy
from nbdl.ops.random import randperm

_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance of activations behind a nonlinearity.

    Args:
        nonlinearity: ``linear`` or the name of a convolution, ``sigmoid``, ``tanh``, ``relu``, ``leaky_relu``
            or ``selu``.
        param: the slope of ``leaky_relu``; default 0.01.

    Raises:
        ValueError: the name is unknown, or ``param`` is no number.
    """
    if nonlinearity in _LINEAR or nonlinearity == "sigmoid":
        return 1
    if nonlinearity == "tanh":
        return 5 / 3
    if nonlinearity == "relu":
        return math.sqrt(2)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"calculate_gain: negative_slope {slope!r} not a valid number")
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3 / 4
    raise ValueError(
        f"calculate_gain: Unsupported nonlinearity {nonlinearity}; expected one of "
        f"{', '.join(_LINEAR)}, sigmoid, tanh, relu, leaky_relu, selu"
    )


def fans(tensor: Tensor, label: str = "fans") -> tuple[int, int]:
    """(fan_in, fan_out): inputs that an output of a weight (out, in, *kernel) sees, and vice versa.

    Args:
        tensor: the weight.
        label: what errors call the function.

    Raises:
        ValueError: the weight has fewer than 2 axes.
    """
    if tensor.ndim < 2:
        raise ValueError(
            f"{label}: Fan in and fan out can not be computed for tensor with fewer than 2 dimensions, got "
            f"shape {tuple(tensor.shape)}"
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


_calculate_fan_in_and_fan_out = fans  # as programs with initial values of their own call it


def _fan(label: str, tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"{label}: Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    fan_in, fan_out = fans(tensor, label)
    return fan_in if mode == "fan_in" else fan_out


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Evenly distributed in [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normally distributed."""
    return tensor.normal_(mean, std, generator=generator)


@no_grad()
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Any = None,
) -> Tensor:
    """Normally distributed, with values outside [a, b] drawn anew: by inverting the distribution function."""

    def distribution(x: float) -> float:
        return (1 + math.erf((x - mean) / std / math.sqrt(2))) / 2

    low, high = distribution(a), distribution(b)
    tensor.uniform_(2 * low - 1, 2 * high - 1, generator=generator)
    values = erfinv(tensor).mul_(std * math.sqrt(2)).add_(mean).clamp_(a, b)
    return tensor.copy_(values)


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One value."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix.

    Raises:
        ValueError: it has not 2 axes.
    """
    if tensor.ndim != 2:
        raise ValueError(
            f"eye_: Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    return tensor.copy_(from_numpy(np.eye(*tensor.shape)))


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """The kernel of a convolution that passes as many channels through as it can.

    Raises:
        ValueError: it has not 3, 4 or 5 axes, or the groups do not divide the first.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError(
            f"dirac_: Only tensors with 3, 4, or 5 dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    if tensor.shape[0] % groups:
        raise ValueError(f"dirac_: dim 0 must be divisible by groups, got {tensor.shape[0]} and {groups}")
    values = np.zeros(tensor.shape)
    per_group = tensor.shape[0] // groups
    middle = tuple(n // 2 for n in tensor.shape[2:])
    for group in range(groups):
        for k in range(min(per_group, tensor.shape[1])):
            position = (group * per_group + k, k, *middle)
            values[position] = 1
    return tensor.copy_(from_numpy(values))


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Evenly distributed in ±gain sqrt(6 / (fan_in + fan_out)).

    Source: Glorot, Bengio (2010), Understanding the difficulty of training deep feedforward neural networks.
    """
    bound = gain * math.sqrt(6 / sum(fans(tensor, "xavier_uniform_")))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normally distributed with variance 2 gain^2 / (fan_in + fan_out); see :func:`xavier_uniform_`."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor, "xavier_normal_"))), generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Evenly distributed in ±gain sqrt(3 / fan).

    Args:
        tensor: a weight (out, in, *kernel).
        a: the slope of ``leaky_relu``.
        mode: ``fan_in`` keeps the variance of activations, ``fan_out`` that of gradients.
        nonlinearity: see :func:`calculate_gain`.
        generator: where the randomness comes from.

    Source: He, Zhang, Ren, Sun (2015), Delving deep into rectifiers.
    """
    if 0 in tensor.shape:
        return tensor
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3 / _fan("kaiming_uniform_", tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Any = None,
) -> Tensor:
    """Normally distributed, standard deviation gain / sqrt(fan); arguments as in :func:`kaiming_uniform_`."""
    if 0 in tensor.shape:
        return tensor
    std = calculate_gain(nonlinearity, a) / math.sqrt(_fan("kaiming_normal_", tensor, mode))
    return normal_(tensor, 0.0, std, generator)


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """A random matrix with orthogonal rows or columns; further axes count as columns.

    Raises:
        ValueError: it has fewer than 2 axes.

    Source: Saxe, McClelland, Ganguli (2014), Exact solutions to the nonlinear dynamics of learning.
    """
    if tensor.ndim < 2:
        raise ValueError(
            "orthogonal_: Only tensors with 2 or more dimensions are supported, got shape "
            f"{tuple(tensor.shape)}"
        )
    if 0 in tensor.shape:
        return tensor
    normal = normal_(tensor, generator=generator).cpu().array.astype(np.float64)
    matrix = normal.reshape(tensor.shape[0], -1)
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    q *= np.sign(np.diag(r))  # so that every orthogonal matrix is equally likely
    values = gain * (q.T if wide else q)
    return tensor.copy_(from_numpy(values.reshape(tensor.shape)))


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Any = None) -> Tensor:
    """Normally distributed, with a part of every column set to 0.

    Args:
        tensor: a matrix.
        sparsity: the part of each column that is 0.
        std: standard deviation of the rest.
        generator: where the randomness comes from.

    Raises:
        ValueError: it has not 2 axes.
    """
    if tensor.ndim != 2:
        raise ValueError(
            f"sparse_: Only tensors with 2 dimensions are supported, got shape {tuple(tensor.shape)}"
        )
    rows, columns = tensor.shape
    values = normal_(tensor, 0.0, std, generator).cpu().array.copy()
    for column in range(columns):
        values[randperm(rows, generator=generator).array[: math.ceil(sparsity * rows)], column] = 0
    return tensor.copy_(from_numpy(values))


# ------------------------------------------------------------------------------ names without underscore
def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The older name of a function, which warns."""
    new = function.__name__
    old = new.rstrip("_")

    def alias(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"nn.init.{old} is now deprecated in favor of nn.init.{new}.", FutureWarning, stacklevel=2
        )
        return function(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = old
    alias.__doc__ = f"Deprecated; see :func:`{new}`."
    return alias


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)

"""Normalisation over batches, layers, groups and channels."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from nbdl.autograd.autocast import in_single
from nbdl.autograd.modes import mode, no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.formula import Formula, dtypes
from nbdl.formula import functions as f
from nbdl.ops.inplace import call_in_place
from nbdl.ops.normalization import move_statistics, normalize, normalize_with
from nbdl.ops.pointwise import call
from nbdl.ops.pooling import avg_pool
from nbdl.ops.type_rules import finfo, promote_types

_RUNNING = Formula("running_mean", lambda old, new, momentum: (1 - momentum) * old + momentum * new, 3)
# The running variance is unbiased, the one that normalises is not.
_RUNNING_VARIANCE = Formula(
    "running_var",
    lambda old, new, momentum, count: (1 - momentum) * old + momentum * new * (count / (count - 1)),
    4,
)
_RESPONSE = Formula("local_response", lambda x, mean, alpha, beta, k: x / f.pow(k + alpha * mean, beta), 5)
# (k + alpha * mean)^-beta of positive numbers: its derivative is itself times a quotient, and no other power.
_RESPONSE_SCALE = Formula(
    "local_response_scale", lambda mean, alpha, beta, k: f.exp(-beta * f.log(k + alpha * mean)), 4
)


def _check_channels(label: str, input: Tensor, **vectors: Tensor | None) -> None:
    """Every given vector must have one entry a channel."""
    channels = input.array.shape[1]
    for name, vector in vectors.items():
        if vector is not None and vector.array.shape != (channels,):
            raise RuntimeError(
                f"{label}: {name} should contain {channels} elements, one a channel of the input "
                f"{tuple(input.shape)}, not {tuple(vector.shape)}"
            )


def _broadcast(vector: Tensor | None, ndim: int) -> Tensor | None:
    """(C,) as (1, C, 1, ...)."""
    return None if vector is None else vector.reshape((1, vector.array.shape[0], *[1] * (ndim - 2)))


def _normalize_groups(
    input: Tensor, groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, ...]:
    """The result, in the dtype of the input, mean and variance of all groups of channels."""
    x = input
    found = {tensor.array.dtype for tensor in (input, weight, bias) if tensor is not None}
    if len(found) > 1 and mode.autocast is None:
        common = functools.reduce(promote_types, found)
        x = x.to(common)
        weight, bias = (None if vector is None else vector.to(common) for vector in (weight, bias))
    out, *statistics = normalize(x.contiguous(), weight, bias, (), eps, groups=groups)
    return (out if out.array.dtype == input.array.dtype else out.to(input.dtype), *statistics)


def _update_running(
    running_mean: Tensor | None,
    running_var: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    momentum: float | Tensor,
    count: int,
) -> None:
    """Move the running statistics towards those of a batch, in place."""
    both = running_mean is not None and running_var is not None
    if both and move_statistics((running_mean, running_var), (mean, variance), momentum, count):  # type: ignore[arg-type]
        return
    with no_grad():
        if running_mean is not None:
            call_in_place(_RUNNING, running_mean, mean.detach().reshape(running_mean.array.shape), momentum)
        if running_var is not None:
            new = variance.detach().reshape(running_var.array.shape)
            call_in_place(_RUNNING_VARIANCE, running_var, new, momentum, float(count))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float | Tensor = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, channel by channel (Ioffe & Szegedy 2015).

    Args:
        input: (N, C) or (N, C, ...).
        running_mean: (C,) or None.
        running_var: (C,) or None.
        weight: (C,) or None.
        bias: (C,) or None.
        training: normalise with the statistics of the batch, and move the running ones towards them in place;
            else use the running ones.
        momentum: weight of the new statistics, a number or a 0-d tensor.
        eps: added to the variance.

    Raises:
        ValueError: there is only one value a channel in training.
        RuntimeError: the shapes do not fit, or evaluation lacks statistics.

    Example:
        >>> import nbdl
        >>> x = nbdl.tensor([[1.0], [3.0]])
        >>> nbdl.nn.functional.batch_norm(x, None, None, training=True)
        tensor([[-1.0000],
                [ 1.0000]])
    """
    ndim = input.array.ndim
    if ndim < 2:
        raise RuntimeError(f"batch_norm: expected an input (N, C, ...), got {tuple(input.shape)}")
    _check_channels(
        "batch_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "batch_norm: Expected running_mean and running_var to be defined when training=False"
            )
        mean, variance = _broadcast(running_mean, ndim), _broadcast(running_var, ndim)
        scale, shift = _broadcast(weight, ndim), _broadcast(bias, ndim)
        return normalize_with(input, mean, variance, scale, shift, eps)  # type: ignore[arg-type]
    shape = input.array.shape
    count = shape[0] * math.prod(shape[2:])
    if count == 1:
        raise ValueError(
            f"batch_norm: Expected more than 1 value per channel when training, got input size {list(shape)}"
        )
    out, mean, variance = normalize(input, weight, bias, (0, *range(2, ndim)), eps, by_channel=True)
    if running_mean is not None or running_var is not None:
        _update_running(running_mean, running_var, mean, variance, momentum, count)
    return out


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation of every channel of every sample by its own statistics (Ulyanov et al. 2016).

    Args:
        input: (N, C, ...).
        running_mean: (C,) or None.
        running_var: (C,) or None.
        weight: (C,) or None.
        bias: (C,) or None.
        use_input_stats: normalise with the statistics of the input, and move the running ones towards their
            mean over the batch in place; else use the running ones.
        momentum: weight of the new statistics.
        eps: added to the variance.

    Raises:
        ValueError: there is only one value to average.
        RuntimeError: the shapes do not fit, or statistics are missing.
    """
    ndim = input.array.ndim
    if ndim < 3:
        raise ValueError(
            f"instance_norm: expected an input (N, C, ...) with spatial axes, got {tuple(input.shape)}"
        )
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "instance_norm: Expected running_mean and running_var to be defined when use_input_stats is "
                "false"
            )
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    _check_channels(
        "instance_norm", input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias
    )
    count = math.prod(input.array.shape[2:])
    if count == 1:
        raise ValueError(
            "instance_norm: Expected more than 1 spatial element when training, got input size "
            f"{list(input.shape)}"
        )
    out, mean, variance = _normalize_groups(input, input.array.shape[1], weight, bias, eps)
    if running_mean is not None or running_var is not None:
        with no_grad():
            mean, variance = mean.detach().mean(0), variance.detach().mean(0)
        _update_running(running_mean, running_var, mean, variance, momentum, count)
    return out


def _trailing(
    label: str, input: Tensor, normalized_shape: int | Sequence[int], *affine: Tensor | None
) -> tuple[int, ...]:
    """The last axes, which must have ``normalized_shape``, as weight and bias must."""
    wanted = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    shape = input.array.shape
    if not wanted or shape[len(shape) - len(wanted) :] != wanted or len(shape) < len(wanted):
        raise RuntimeError(
            f"{label}: Given normalized_shape={list(wanted)}, expected input with shape "
            f"[{', '.join(['*', *map(str, wanted)])}], but got input of size {list(shape)}"
        )
    for name, tensor in zip(("weight", "bias"), affine, strict=False):
        if tensor is not None and tensor.array.shape != wanted:
            raise RuntimeError(
                f"{label}: Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(tensor.shape)} and normalized_shape = {list(wanted)}"
            )
    return tuple(range(len(shape) - len(wanted), len(shape)))


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation over the last axes (Ba, Kiros & Hinton 2016).

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of these axes.
        weight: of this shape, or None.
        bias: of this shape, or None.
        eps: added to the variance.

    Raises:
        RuntimeError: the shapes do not fit.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.layer_norm(nbdl.tensor([[1.0, 3.0]]), (2,))
        tensor([[-1.0000,  1.0000]])
    """
    axes = _trailing("layer_norm", input, normalized_shape, weight, bias)
    return normalize(input, weight, bias, axes, eps)[0]


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axes (Zhang & Sennrich 2019).

    Args:
        input: (*, *normalized_shape).
        normalized_shape: sizes of these axes.
        weight: of this shape, or None.
        eps: added to the mean square; default: the rounding unit of the dtype.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    axes = _trailing("rms_norm", input, normalized_shape, weight)
    least = finfo(dtypes.real_of(input.dtype)).eps if eps is None else eps
    return normalize(input, weight, None, axes, least, centred=False)[0]


@in_single("cuda")
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalisation of groups of neighbouring channels (Wu & He 2018).

    Args:
        input: (N, C, ...).
        num_groups: how many; divides C.
        weight: (C,) or None.
        bias: (C,) or None.
        eps: added to the variance.

    Raises:
        RuntimeError: the shapes do not fit.
        ValueError: there is one sample with groups of one value.

    Example:
        >>> import nbdl
        >>> nbdl.nn.functional.group_norm(nbdl.randn(2, 6, 5), 3).shape
        nbdl.Size([2, 6, 5])
    """
    shape = input.array.shape
    if len(shape) < 2:
        raise RuntimeError(
            f"group_norm: Expected at least 2 dimensions for input tensor but received {len(shape)}"
        )
    if num_groups < 1 or shape[1] % num_groups:
        raise RuntimeError(
            "group_norm: Expected number of channels in input to be divisible by num_groups, but got input "
            f"of shape {list(shape)} and num_groups={num_groups}"
        )
    if shape[0] * shape[1] == num_groups and math.prod(shape[2:]) == 1:
        raise ValueError(
            f"group_norm: Expected more than 1 value per channel when training, got input size {list(shape)}"
        )
    _check_channels("group_norm", input, weight=weight, bias=bias)
    return _normalize_groups(input, num_groups, weight, bias, eps)[0]


def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + alpha * mean of x^2 over ``size`` neighbouring channels)^beta (Krizhevsky et al. 2012).

    Args:
        input: (N, C, ...).
        size: number of channels; those beyond the ends count as 0.
        alpha: factor.
        beta: exponent.
        k: offset.
    """
    shape = input.array.shape
    if len(shape) < 3:
        raise ValueError(
            f"local_response_norm: Expected 3D or higher dimensionality input (got {len(shape)} dimensions)"
        )
    if not input.array.size:
        return input.clone()
    squares = input.square().reshape((shape[0], 1, shape[1], -1))
    mean = avg_pool(squares, (size, 1), (1, 1), (size // 2, 0), False, True, None)
    if size % 2 == 0:  # the window reaches further down than up, so the last one is not wanted
        mean = mean.narrow(2, 0, shape[1])
    mean = mean.reshape(shape)
    if alpha >= 0 and k > 0:
        return input * call(_RESPONSE_SCALE, mean, alpha, beta, k)
    return call(_RESPONSE, input, mean, alpha, beta, k)

"""A batch normalisation in evaluation is an affine map a channel: folded into the layer before it."""

from __future__ import annotations

import copy
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.parameter import Parameter
from nbdl.ops.new_like import ones_like, zeros_like

Fused = tuple[Parameter, Parameter]


def _fuse_weights(
    weight: Tensor,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    eps: float,
    scale: Tensor | None,
    shift: Tensor | None,
    channels: int,
) -> Fused:
    """Weight and bias of the layer whose axis ``channels`` of the weight counts the normalised channels."""
    wanted = weight.requires_grad, weight.requires_grad if bias is None else bias.requires_grad
    with no_grad():
        bias = zeros_like(mean) if bias is None else bias
        scale = ones_like(mean) if scale is None else scale
        shift = zeros_like(mean) if shift is None else shift
        factor = scale * (var + eps).rsqrt()
        shape = [-1 if axis == channels else 1 for axis in range(weight.array.ndim)]
        new_weight = (weight * factor.reshape(shape)).to(dtype=weight.dtype)
        new_bias = ((bias - mean) * factor + shift).to(dtype=bias.dtype)
    return Parameter(new_weight, wanted[0]), Parameter(new_bias, wanted[1])


def fuse_conv_bn_weights(
    conv_w: Tensor,
    conv_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor | None,
    bn_b: Tensor | None,
    transpose: bool = False,
) -> Fused:
    """Weight and bias of a convolution that includes the batch normalisation behind it.

    Args:
        conv_w: weight of the convolution.
        conv_b: its bias, or None.
        bn_rm: running mean.
        bn_rv: running variance.
        bn_eps: what is added to the variance.
        bn_w: scale, or None.
        bn_b: shift, or None.
        transpose: whether it is a transposed convolution.
    """
    return _fuse_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(
    linear_w: Tensor,
    linear_b: Tensor | None,
    bn_rm: Tensor,
    bn_rv: Tensor,
    bn_eps: float,
    bn_w: Tensor,
    bn_b: Tensor,
) -> Fused:
    """Weight and bias of a linear layer that includes the batch normalisation behind it; see above."""
    return _fuse_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _fuse(caller: str, layer: Any, bn: Any, channels: int) -> Any:
    if layer.training or bn.training:
        raise AssertionError(f"{caller}: Fusion only for eval! Call eval() of both modules first")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError(f"{caller}: the batch normalisation has no running statistics")
    fused = copy.deepcopy(layer)
    fused.weight, fused.bias = _fuse_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, channels
    )
    return fused


def fuse_conv_bn_eval(conv: Any, bn: Any, transpose: bool = False) -> Any:
    """A convolution that does what ``conv`` and then ``bn`` do, both in evaluation mode.

    Args:
        conv: a convolution.
        bn: the batch normalisation behind it.
        transpose: whether it is a transposed convolution.

    Raises:
        AssertionError: one of them is in training mode, or there are no running statistics.

    Example:
        >>> import nbdl
        >>> from nbdl import nn
        >>> conv, bn = nn.Conv2d(1, 2, 3).eval(), nn.BatchNorm2d(2).eval()
        >>> nn.utils.fuse_conv_bn_eval(conv, bn)
        Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
    """
    return _fuse("fuse_conv_bn_eval", conv, bn, 1 if transpose else 0)


def fuse_linear_bn_eval(linear: Any, bn: Any) -> Any:
    """A linear layer that does what ``linear`` and then ``bn`` do, both in evaluation mode.

    Raises:
        AssertionError: one of them is in training mode, the features do not fit, or there are no running
            statistics.
    """
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(
            "fuse_linear_bn_eval: To fuse, linear.out_features == bn.num_features or bn.num_features == 1, "
            f"got {linear.out_features} and {bn.num_features}"
        )
    return _fuse("fuse_linear_bn_eval", linear, bn, 0)

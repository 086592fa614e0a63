"""What K-FAC needs of each kind of layer: its inputs as vectors, and the gradients of its outputs.

The parameters of a layer are seen as matrices (g, p, q), one for each of g independent blocks; the Fisher
matrix of a block is approximated by L (x) R with L (p, p) from the gradients by the outputs and R (q, q) from
the inputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nbdl.autograd.tensor import Tensor
from nbdl.nn import functional as F
from nbdl.nn.batch_normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
)
from nbdl.nn.convolution import Conv1d, Conv2d, Conv3d
from nbdl.nn.embedding import Embedding
from nbdl.nn.linear import Linear
from nbdl.nn.normalization import GroupNorm, LayerNorm, RMSNorm
from nbdl.ops.joining import cat


class Moments(NamedTuple):
    """Sums over a mini-batch.

    Attributes:
        left: of products of gradients by the outputs (g or 1, p, p).
        right: of products of inputs (g or 1, q, q).
        positions: how many inputs ``right`` is a sum over.
    """

    left: Tensor
    right: Tensor
    positions: float


Rule = Callable[[Any, Tensor, Tensor], Moments]
Normalization = Callable[[Any, Tensor], Tensor]


class LayerRule(NamedTuple):
    """How a kind of layer takes part.

    Attributes:
        shape: the (g, p) of a layer's parameters.
        moments: of a layer, its input and the gradients (K, ...) by its output.
    """

    shape: Callable[[Any], tuple[int, int]]
    moments: Rule


def packed(parts: Sequence[Tensor], shape: tuple[int, int]) -> Tensor:
    """Weight and bias of a layer, or their gradients, as matrices (g, p, q)."""
    pieces = [part.reshape(*shape, -1) for part in parts]
    return cat(pieces, 2) if len(pieces) > 1 else pieces[0]


def unpacked(matrices: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors that :func:`packed` joined, in the shapes of ``like``."""
    pieces, start = [], 0
    for tensor in like:
        stop = start + tensor.numel() // math.prod(matrices.shape[:2])
        pieces.append(matrices[:, :, start:stop].reshape(tensor.shape))
        start = stop
    return pieces


def _gram(rows: Tensor) -> Tensor:
    """The sums of products of rows (g, r, n): (g, n, n)."""
    return rows.transpose(1, 2) @ rows


def _with_ones(rows: Tensor, layer: Any) -> Tensor:
    """Rows (g, r, n) with a 1 behind each if the layer has a bias."""
    return rows if layer.bias is None else cat([rows, rows.new_ones((*rows.shape[:2], 1))], 2)


def _linear(layer: Linear, inputs: Tensor, gradients: Tensor) -> Moments:
    """Martens & Grosse (2015), section 3; further axes are positions (Eschenhagen et al. 2023)."""
    rows = inputs.reshape(1, -1, inputs.shape[-1])
    left = _gram(gradients.reshape(1, -1, gradients.shape[-1]))
    return Moments(left, _gram(_with_ones(rows, layer)), float(rows.shape[1]))


def _convolution(layer: Conv1d | Conv2d | Conv3d, inputs: Tensor, gradients: Tensor) -> Moments:
    """Grosse & Martens (2016), section 3, theorem 1."""
    n, g = len(layer.kernel_size), layer.groups
    batch = inputs if inputs.ndim == n + 2 else inputs.unsqueeze(0)
    patches = _patches(layer, batch)  # (N, C, *positions, *kernel)
    size = (batch.shape[0], g, batch.shape[1] // g)
    patches = patches.reshape(*size, *patches.shape[2:])
    count = patches.ndim
    order = (1, 0, *range(3, 3 + n), 2, *range(3 + n, count))  # (g, N, *positions, C / g, *kernel)
    rows = patches.permute(order)
    rows = rows.reshape(g, math.prod(rows.shape[1 : 2 + n]), -1)
    p = layer.out_channels // g
    by_group = gradients.reshape(-1, g, p, math.prod(gradients.shape[-n:]))
    outputs = by_group.permute(1, 0, 3, 2).reshape(g, -1, p)
    return Moments(_gram(outputs), _gram(_with_ones(rows, layer)), float(rows.shape[1]))


def _patches(layer: Conv1d | Conv2d | Conv3d, inputs: Tensor) -> Tensor:
    """What each output position reads: (N, C, *positions, *kernel)."""
    widths = layer._pad_widths()
    if any(widths):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        inputs = F.pad(inputs, widths, mode=mode)
    for k, size in enumerate(layer.kernel_size):
        span = layer.dilation[k] * (size - 1) + 1
        inputs = inputs.unfold(2 + k, span, layer.stride[k])[..., :: layer.dilation[k]]
    return inputs


def _embedding(layer: Embedding, inputs: Tensor, gradients: Tensor) -> Moments:
    """A linear layer of one-hot vectors: the products of its inputs are the counts of the entries."""
    indices = inputs.reshape(-1)
    counts = indices.bincount(minlength=layer.num_embeddings).to(gradients.dtype)
    if layer.padding_idx is not None:
        counts[layer.padding_idx] = 0
    left = _gram(gradients.reshape(1, -1, layer.embedding_dim))
    return Moments(left, counts.reshape(-1, 1, 1), float(indices.numel()))


def _scale_and_shift(layer: Any, normalized: Tensor, gradients: Tensor, axes: tuple[int, ...]) -> Moments:
    """The exact 2 x 2 blocks of every scale with its shift; ``axes`` of an example are summed over.

    Source: Osawa et al. (2020), Scalable and practical natural gradient for large-scale deep learning,
        section 4.
    """
    has_shift = getattr(layer, "bias", None) is not None
    parts = [gradients * normalized, gradients] if has_shift else [gradients * normalized]
    columns = [(part.sum(axes) if axes else part).reshape(-1, layer.weight.numel()) for part in parts]
    rows = cat([column.T.unsqueeze(2) for column in columns], 2)  # (features, K N, 1 or 2)
    return Moments(rows.new_ones((1, 1, 1)), _gram(rows), 1.0)


def _channel_norm(normalize: Normalization) -> Rule:
    """A layer with a scale for each channel (N, C, ...)."""

    def moments(layer: Any, inputs: Tensor, gradients: Tensor) -> Moments:
        axes = tuple(range(3, gradients.ndim))
        return _scale_and_shift(layer, normalize(layer, inputs), gradients, axes)

    return moments


def _feature_norm(normalize: Normalization) -> Rule:
    """A layer with a scale for each element of the last axes."""

    def moments(layer: Any, inputs: Tensor, gradients: Tensor) -> Moments:
        axes = tuple(range(2, gradients.ndim - layer.weight.ndim))
        return _scale_and_shift(layer, normalize(layer, inputs), gradients, axes)

    return moments


def _batch_normalized(layer: Any, x: Tensor) -> Tensor:
    uses_batch = layer.training or layer.running_mean is None
    return F.batch_norm(
        x, None if uses_batch else layer.running_mean, None if uses_batch else layer.running_var,
        training=uses_batch, eps=layer.eps,
    )  # fmt: skip


def _instance_normalized(layer: Any, x: Tensor) -> Tensor:
    uses_input = layer.training or not layer.track_running_stats
    return F.instance_norm(
        x, None if uses_input else layer.running_mean, None if uses_input else layer.running_var,
        use_input_stats=uses_input, eps=layer.eps,
    )  # fmt: skip


def _features(layer: Any) -> tuple[int, int]:
    return layer.weight.numel(), 1


_LINEAR = LayerRule(lambda layer: (1, layer.out_features), _linear)
_CONVOLUTION = LayerRule(lambda layer: (layer.groups, layer.out_channels // layer.groups), _convolution)
_BATCH_NORM = LayerRule(_features, _channel_norm(_batch_normalized))
_INSTANCE_NORM = LayerRule(_features, _channel_norm(_instance_normalized))

RULES: dict[type, LayerRule] = {
    Linear: _LINEAR,
    Conv1d: _CONVOLUTION,
    Conv2d: _CONVOLUTION,
    Conv3d: _CONVOLUTION,
    Embedding: LayerRule(lambda layer: (layer.num_embeddings, layer.embedding_dim), _embedding),
    BatchNorm1d: _BATCH_NORM,
    BatchNorm2d: _BATCH_NORM,
    BatchNorm3d: _BATCH_NORM,
    InstanceNorm1d: _INSTANCE_NORM,
    InstanceNorm2d: _INSTANCE_NORM,
    InstanceNorm3d: _INSTANCE_NORM,
    GroupNorm: LayerRule(
        _features, _channel_norm(lambda layer, x: F.group_norm(x, layer.num_groups, eps=layer.eps))
    ),
    LayerNorm: LayerRule(
        _features, _feature_norm(lambda layer, x: F.layer_norm(x, layer.normalized_shape, eps=layer.eps))
    ),
    RMSNorm: LayerRule(
        _features, _feature_norm(lambda layer, x: F.rms_norm(x, layer.normalized_shape, eps=layer.eps))
    ),
}

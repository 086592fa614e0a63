"""The kernels in PyTorch and in nbdl, which has its names."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from kernel_cases import Call, labels, normal


class Kernels:
    """Each method builds a call of the operation of its name.

    Args:
        lib: `torch` or `nbdl`.
        dtype: of the arrays.
    """

    def __init__(self, lib: ModuleType, dtype: str = "float32"):
        self._lib, self._dtype = lib, dtype
        self._functional = lib.nn.functional

    def _normal(self, *shape: int, seed: int = 0, requires_grad: bool = False) -> Any:
        array = normal(*shape, seed=seed, dtype=self._dtype)
        return self._lib.from_numpy(array).requires_grad_(requires_grad)

    def _layer(self, kind: str, *sizes: int) -> Any:
        return getattr(self._lib.nn, kind)(*sizes, dtype=getattr(self._lib, self._dtype))

    def matmul(self, m: int, k: int, n: int) -> Call:
        a, b = self._normal(m, k), self._normal(k, n)
        return lambda: a @ b

    def matmul_nt(self, m: int, k: int, n: int) -> Call:
        a, b = self._normal(m, k), self._normal(n, k)
        return lambda: a @ b.T

    def matmul_tn(self, m: int, k: int, n: int) -> Call:
        a, b = self._normal(k, m), self._normal(k, n)
        return lambda: a.T @ b

    def matmul_tt(self, m: int, k: int, n: int) -> Call:
        a, b = self._normal(k, m), self._normal(n, k)
        return lambda: a.T @ b.T

    def matmul_batched(self, batch: int, m: int, k: int, n: int) -> Call:
        a, b = self._normal(batch, m, k), self._normal(batch, k, n)
        return lambda: a @ b

    def linear_gelu(self, rows: int, inputs: int, outputs: int) -> Call:
        x, weight, bias = self._normal(rows, inputs), self._normal(outputs, inputs), self._normal(outputs)
        linear, gelu = self._functional.linear, self._functional.gelu
        return lambda: gelu(linear(x, weight, bias))

    def linear_gelu_training(self, rows: int, inputs: int, outputs: int) -> Call:
        shapes = ((rows, inputs), (outputs, inputs), (outputs,))
        x, weight, bias = wanted = [self._normal(*shape, requires_grad=True) for shape in shapes]
        gradient = self._normal(rows, outputs, seed=1)
        linear, gelu, grad = self._functional.linear, self._functional.gelu, self._lib.autograd.grad
        return lambda: grad(gelu(linear(x, weight, bias)), wanted, gradient)

    def add(self, n: int) -> Call:
        x, y = self._normal(n), self._normal(n, seed=1)
        return lambda: x + y

    def multiply_add(self, n: int) -> Call:
        x, y, z = (self._normal(n, seed=seed) for seed in range(3))
        return lambda: x * y + z

    def exp(self, n: int) -> Call:
        x = self._normal(n)
        return lambda: x.exp()

    def tanh(self, n: int) -> Call:
        x = self._normal(n)
        return lambda: x.tanh()

    def dropout(self, n: int) -> Call:
        """New random numbers in every call."""
        x, dropout = self._normal(n), self._functional.dropout
        return lambda: dropout(x, 0.1)

    def gelu(self, n: int) -> Call:
        x, gelu = self._normal(n), self._functional.gelu
        return lambda: gelu(x)

    def silu_chain(self, n: int) -> Call:
        """As a user writes it, of four operations."""
        x = self._normal(n)
        return lambda: x / (1 + (-x).exp())

    def softmax(self, rows: int, columns: int) -> Call:
        x, softmax = self._normal(rows, columns), self._functional.softmax
        return lambda: softmax(x, -1)

    def cross_entropy_training(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns, requires_grad=True)
        y = self._lib.from_numpy(labels(rows, columns))
        cross_entropy, grad = self._functional.cross_entropy, self._lib.autograd.grad
        return lambda: grad(cross_entropy(x, y), x)

    def log_softmax_training(self, rows: int, columns: int) -> Call:
        x, gradient = self._normal(rows, columns, requires_grad=True), self._normal(rows, columns, seed=1)
        log_softmax, grad = self._functional.log_softmax, self._lib.autograd.grad
        return lambda: grad(log_softmax(x, -1), x, gradient)

    def group_norm_training(self, batch: int, channels: int, height: int, width: int) -> Call:
        x = self._normal(batch, channels, height, width, requires_grad=True)
        weight, bias = (self._normal(channels, requires_grad=True) for _ in range(2))
        gradient = self._normal(batch, channels, height, width, seed=1)
        group_norm, grad = self._functional.group_norm, self._lib.autograd.grad
        return lambda: grad(group_norm(x, 4, weight, bias), (x, weight, bias), gradient)

    def layer_norm(self, rows: int, columns: int) -> Call:
        x, weight, bias = self._normal(rows, columns), self._normal(columns), self._normal(columns)
        layer_norm = self._functional.layer_norm
        return lambda: layer_norm(x, (columns,), weight, bias)

    def layer_norm_training(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns, requires_grad=True)
        weight, bias = (self._normal(columns, requires_grad=True) for _ in range(2))
        gradient = self._normal(rows, columns, seed=1)
        layer_norm, grad = self._functional.layer_norm, self._lib.autograd.grad
        return lambda: grad(layer_norm(x, (columns,), weight, bias), (x, weight, bias), gradient)

    def rms_norm_training(self, rows: int, columns: int) -> Call:
        x, weight = self._normal(rows, columns, requires_grad=True), self._normal(columns, requires_grad=True)
        gradient = self._normal(rows, columns, seed=1)
        rms_norm, grad = self._functional.rms_norm, self._lib.autograd.grad
        return lambda: grad(rms_norm(x, (columns,), weight), (x, weight), gradient)

    def instance_norm_training(self, batch: int, channels: int, height: int, width: int) -> Call:
        x = self._normal(batch, channels, height, width, requires_grad=True)
        gradient = self._normal(batch, channels, height, width, seed=1)
        instance_norm, grad = self._functional.instance_norm, self._lib.autograd.grad
        return lambda: grad(instance_norm(x), x, gradient)

    def batch_norm_training(self, batch: int, channels: int, height: int, width: int) -> Call:
        x = self._normal(batch, channels, height, width, requires_grad=True)
        layer = self._layer("BatchNorm2d", channels)
        wanted = (x, layer.weight, layer.bias)
        gradient = self._normal(batch, channels, height, width, seed=1)
        grad = self._lib.autograd.grad
        return lambda: grad(layer(x), wanted, gradient)

    def conv2d(self, batch: int, c_in: int, c_out: int, height: int, padding: int) -> Call:
        x, weight = self._normal(batch, c_in, height, height), self._normal(c_out, c_in, 3, 3)
        conv2d = self._functional.conv2d
        return lambda: conv2d(x, weight, padding=padding)

    def conv2d_training(self, batch: int, c_in: int, c_out: int, height: int, padding: int) -> Call:
        """Forward and backward; an image of one channel is an input of the network and needs no gradient."""
        x = self._normal(batch, c_in, height, height, requires_grad=c_in > 1)
        weight = self._normal(c_out, c_in, 3, 3, requires_grad=True)
        wanted = (x, weight) if x.requires_grad else (weight,)
        gradient = self._normal(batch, c_out, height + 2 * padding - 2, height + 2 * padding - 2, seed=1)
        conv2d, grad = self._functional.conv2d, self._lib.autograd.grad
        return lambda: grad(conv2d(x, weight, padding=padding), wanted, gradient)

    def _convolution(
        self,
        batch: int,
        channels: int,
        size: int,
        function: str = "conv2d",
        kernel: int = 3,
        **options: int,
    ) -> Call:
        """A convolution that keeps the number of channels, padded unless told otherwise."""
        axes, groups = int(function[-2]), options.get("groups", 1)
        x = self._normal(batch, channels, *[size] * axes)
        weight = self._normal(channels, channels // groups, *[kernel] * axes)
        convolve, options = getattr(self._functional, function), {"padding": kernel // 2} | options
        return lambda: convolve(x, weight, **options)

    def conv2d_same(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height)

    def conv2d_pointwise(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, kernel=1)

    def conv2d_wide(self, batch: int, channels: int, height: int) -> Call:
        """Of 5 x 5 elements."""
        return self._convolution(batch, channels, height, kernel=5)

    def conv2d_strided(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, stride=2)

    def conv2d_dilated(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, dilation=2, padding=2)

    def conv2d_grouped(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, groups=4)

    def conv2d_depthwise(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, groups=channels)

    def conv2d_depthwise_strided(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, groups=channels, stride=2)

    def conv2d_depthwise_last(self, batch: int, channels: int, height: int) -> Call:
        """The channels are neighbours in memory."""
        x, weight = self._normal(batch, channels, height, height), self._normal(channels, 1, 3, 3)
        x, conv2d = x.contiguous(memory_format=self._lib.channels_last), self._functional.conv2d
        return lambda: conv2d(x, weight, padding=1, groups=channels)

    def conv2d_depthwise_training(self, batch: int, channels: int, height: int) -> Call:
        x = self._normal(batch, channels, height, height, requires_grad=True)
        weight = self._normal(channels, 1, 3, 3, requires_grad=True)
        gradient = self._normal(batch, channels, height, height, seed=1)
        conv2d, grad = self._functional.conv2d, self._lib.autograd.grad
        return lambda: grad(conv2d(x, weight, padding=1, groups=channels), (x, weight), gradient)

    def conv_transpose2d(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, "conv_transpose2d")

    def conv_transpose2d_strided(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, "conv_transpose2d", stride=2)

    def conv_transpose1d(self, batch: int, channels: int, length: int) -> Call:
        return self._convolution(batch, channels, length, "conv_transpose1d")

    def conv_transpose3d(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, "conv_transpose3d")

    def conv3d(self, batch: int, channels: int, height: int) -> Call:
        return self._convolution(batch, channels, height, "conv3d")

    def conv1d(self, batch: int, channels: int, length: int) -> Call:
        return self._convolution(batch, channels, length, "conv1d")

    def avg_pool2d(self, batch: int, channels: int, height: int) -> Call:
        x, avg_pool2d = self._normal(batch, channels, height, height), self._functional.avg_pool2d
        return lambda: avg_pool2d(x, 2)

    def max_pool1d(self, batch: int, channels: int, length: int) -> Call:
        x, max_pool1d = self._normal(batch, channels, length), self._functional.max_pool1d
        return lambda: max_pool1d(x, 2)

    def max_pool3d(self, batch: int, channels: int, height: int) -> Call:
        x, max_pool3d = self._normal(batch, channels, height, height, height), self._functional.max_pool3d
        return lambda: max_pool3d(x, 2)

    def avg_pool2d_training(self, batch: int, channels: int, height: int) -> Call:
        x = self._normal(batch, channels, height, height, requires_grad=True)
        gradient = self._normal(batch, channels, height // 2, height // 2, seed=1)
        avg_pool2d, grad = self._functional.avg_pool2d, self._lib.autograd.grad
        return lambda: grad(avg_pool2d(x, 2), x, gradient)

    def max_pool2d(self, batch: int, channels: int, height: int) -> Call:
        x, max_pool2d = self._normal(batch, channels, height, height), self._functional.max_pool2d
        return lambda: max_pool2d(x, 2)

    def max_pool2d_training(self, batch: int, channels: int, height: int) -> Call:
        x = self._normal(batch, channels, height, height, requires_grad=True)
        gradient = self._normal(batch, channels, height // 2, height // 2, seed=1)
        max_pool2d, grad = self._functional.max_pool2d, self._lib.autograd.grad
        return lambda: grad(max_pool2d(x, 2), x, gradient)

    def causal_attention(self, *shape: int) -> Call:
        q, k, v = (self._normal(*shape, seed=seed) for seed in range(3))
        attention = self._functional.scaled_dot_product_attention
        return lambda: attention(q, k, v, is_causal=True)

    def causal_attention_training(self, *shape: int) -> Call:
        return self._attention_training(shape, is_causal=True)

    def masked_attention(self, *shape: int) -> Call:
        """With a mask of numbers that are true or false."""
        q, k, v = (self._normal(*shape, seed=seed) for seed in range(3))
        mask = self._normal(shape[2], shape[2], seed=3) > -1
        attention = self._functional.scaled_dot_product_attention
        return lambda: attention(q, k, v, attn_mask=mask)

    def masked_attention_training(self, *shape: int) -> Call:
        return self._attention_training(shape, attn_mask=self._normal(shape[2], shape[2], seed=4) > -1)

    def dropped_attention_training(self, *shape: int) -> Call:
        """New random numbers in every call."""
        return self._attention_training(shape, dropout_p=0.1)

    def _attention_training(self, shape: tuple[int, ...], **options: Any) -> Call:
        q, k, v = wanted = [self._normal(*shape, seed=seed, requires_grad=True) for seed in range(3)]
        gradient = self._normal(*shape, seed=3)
        attention, grad = self._functional.scaled_dot_product_attention, self._lib.autograd.grad
        return lambda: grad(attention(q, k, v, **options), wanted, gradient)

    def lstm(self, length: int, batch: int, width: int) -> Call:
        return self._recurrent("LSTM", length, batch, width)

    def gru(self, length: int, batch: int, width: int) -> Call:
        return self._recurrent("GRU", length, batch, width)

    def lstm_training(self, length: int, batch: int, width: int) -> Call:
        return self._recurrent_training("LSTM", length, batch, width)

    def gru_training(self, length: int, batch: int, width: int) -> Call:
        return self._recurrent_training("GRU", length, batch, width)

    def _recurrent(self, kind: str, length: int, batch: int, width: int) -> Call:
        x, layer, no_grad = (
            self._normal(length, batch, width),
            self._layer(kind, width, width),
            self._lib.no_grad,
        )

        def call() -> Any:
            with no_grad():
                return layer(x)

        return call

    def _recurrent_training(self, kind: str, length: int, batch: int, width: int) -> Call:
        x = self._normal(length, batch, width, requires_grad=True)
        layer = self._layer(kind, width, width)
        wanted, gradient = [x, *layer.parameters()], self._normal(length, batch, width, seed=1)
        grad = self._lib.autograd.grad
        return lambda: grad(layer(x)[0], wanted, gradient)

    def embedding(self, rows: int, width: int, n: int) -> Call:
        weight, indices = self._normal(rows, width), self._lib.from_numpy(labels(n, rows))
        embedding = self._functional.embedding
        return lambda: embedding(indices, weight)

    def embedding_gradient(self, rows: int, width: int, n: int) -> Call:
        weight, indices = self._normal(rows, width, requires_grad=True), self._lib.from_numpy(labels(n, rows))
        gradient, grad = self._normal(n, width), self._lib.autograd.grad
        embedded = self._functional.embedding(indices, weight)
        return lambda: grad(embedded, weight, gradient, retain_graph=True)

    def sort(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.sort(1)

    def argsort(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.argsort(1)

    def top_10(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.topk(10, 1)

    def median(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.median(1)

    def adam(self, n: int) -> Call:
        parameter = self._normal(n, requires_grad=True)
        parameter.grad = self._normal(n, seed=1)
        return self._lib.optim.Adam([parameter], fused=True).step

    def sum_all(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.sum()

    def sum_rows(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.sum(1)

    def sum_columns(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.sum(0)

    def max_rows(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.amax(1)

    def argmax_rows(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.argmax(1)

    def variance_rows(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.var(1)

    def clone(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.clone()

    def transposed_copy(self, rows: int, columns: int) -> Call:
        x = self._normal(rows, columns)
        return lambda: x.T.contiguous()

    def concatenate(self, rows: int, columns: int) -> Call:
        parts, cat = [self._normal(rows // 2, columns) for _ in range(2)], self._lib.cat
        return lambda: cat(parts)

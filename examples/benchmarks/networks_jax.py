"""The losses of the workloads in JAX, as functions of the parameters, the inputs and the targets.

Images are channels last, which is the faster layout on the CPU, and matrices are stored as (in, out): see
`own_layout`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from data import HEADS, RIDGE
from jax import lax

Params = dict[str, jax.Array]
Statistics = Params  # of batch normalization
Loss = Callable[[Params, jax.Array, jax.Array], jax.Array]


def own_layout(name: str, weight: np.ndarray) -> np.ndarray:
    """A weight of PyTorch's layout as the losses want it."""
    if name == "6.weight" and weight.shape[1] == 64 * 12 * 12:  # behind the flattened image of workload d
        weight = weight.reshape(-1, 64, 12, 12).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    if name in ("tokens.weight", "positions", "weight"):
        return weight
    return weight.T


def is_statistic(name: str) -> bool:
    """Whether a batch normalization keeps this, and no optimizer changes it."""
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over all but the last axis; the labels are class numbers."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[..., None], -1).mean()


def linear(params: Params, layer: str, x: jax.Array) -> jax.Array:
    """A linear layer."""
    return x @ params[f"{layer}.weight"] + params[f"{layer}.bias"]


def perceptron(params: Params, x: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Three linear layers."""
    for layer in ("0", "2"):
        x = activation(linear(params, layer, x))
    return linear(params, "4", x)


def regression_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workloads a, i1 and i2."""
    return jnp.square(perceptron(params, x, jnp.tanh) - y).mean()


def classification_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workloads b and c."""
    return cross_entropy(perceptron(params, x, jax.nn.relu), y)


def convolution(x: jax.Array, weight: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    """A convolution of images, channels last."""
    border = (padding, padding)
    return lax.conv_general_dilated(
        x, weight, (stride, stride), (border, border), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def convolutional_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload d."""
    for layer in ("0", "2"):
        x = jax.nn.relu(convolution(x, params[f"{layer}.weight"]) + params[f"{layer}.bias"])
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(len(x), -1)
    return cross_entropy(linear(params, "8", jax.nn.relu(linear(params, "6", x))), y)


def batch_norm(
    params: Params, statistics: Statistics, layer: str, x: jax.Array
) -> tuple[jax.Array, Statistics]:
    """In training: the output, and the new running statistics."""
    mean = x.mean((0, 1, 2))
    variance = jnp.square(x).mean((0, 1, 2)) - jnp.square(mean)
    count = x.size // x.shape[-1]
    new = {
        f"{layer}.running_mean": mean,
        f"{layer}.running_var": variance * (count / (count - 1)),
    }
    updated = {key: 0.9 * statistics[key] + 0.1 * value for key, value in new.items()}
    scale = lax.rsqrt(variance + 1e-5) * params[f"{layer}.weight"]
    return (x - mean) * scale + params[f"{layer}.bias"], updated


def residual_loss(
    params: Params, statistics: Statistics, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, Statistics]:
    """Workload e: the loss, and the new running statistics."""
    updated: Statistics = {}

    def norm(layer: str, x: jax.Array) -> jax.Array:
        x, new = batch_norm(params, statistics, layer, x)
        updated.update(new)
        return x

    x = jax.nn.relu(norm("norm", convolution(x, params["conv.weight"], padding=1)))
    for k in range(9):
        block, first = f"blocks.{k}", params[f"blocks.{k}.conv1.weight"]
        inputs, outputs = first.shape[2:]
        stride, border = outputs // inputs, (outputs - inputs) // 2
        z = jax.nn.relu(norm(f"{block}.norm1", convolution(x, first, stride, padding=1)))
        z = norm(f"{block}.norm2", convolution(z, params[f"{block}.conv2.weight"], padding=1))
        if stride > 1:
            x = jnp.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (border, border)))
        x = jax.nn.relu(x + z)
    return cross_entropy(linear(params, "head", x.mean((1, 2))), y), updated


def layer_norm(params: Params, layer: str, x: jax.Array) -> jax.Array:
    """Over the last axis."""
    centered = x - x.mean(-1, keepdims=True)
    scale = lax.rsqrt(jnp.square(centered).mean(-1, keepdims=True) + 1e-5)
    return centered * scale * params[f"{layer}.weight"] + params[f"{layer}.bias"]


def attention(params: Params, block: str, x: jax.Array) -> jax.Array:
    """Causal self-attention of several heads."""
    n, length, width = x.shape
    parts = jnp.split(linear(params, f"{block}.qkv", x), 3, -1)
    q, k, v = (part.reshape(n, length, HEADS, width // HEADS).transpose(0, 2, 1, 3) for part in parts)
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // HEADS)
    mask = jnp.tril(jnp.ones((length, length), bool))
    weights = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf))
    return linear(params, f"{block}.out", (weights @ v).transpose(0, 2, 1, 3).reshape(n, length, width))


def transformer_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload f."""
    z = params["tokens.weight"][x] + params["positions"]
    for k in range(4):
        block = f"blocks.{k}"
        z = z + attention(params, block, layer_norm(params, f"{block}.norm1", z))
        hidden = linear(params, f"{block}.up", layer_norm(params, f"{block}.norm2", z))
        z = z + linear(params, f"{block}.down", jax.nn.gelu(hidden, approximate=False))
    return cross_entropy(layer_norm(params, "norm", z) @ params["head.weight"], y)


def recurrent_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload g; the products with the inputs are one, before the scan."""
    bias = params["lstm.bias_ih_l0"] + params["lstm.bias_hh_l0"]
    inputs = params["tokens.weight"][x] @ params["lstm.weight_ih_l0"] + bias

    def cell(state: tuple[jax.Array, jax.Array], z: jax.Array) -> Any:
        h, c = state
        i, f, g, o = jnp.split(z + h @ params["lstm.weight_hh_l0"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zeros = jnp.zeros((len(x), params["lstm.weight_hh_l0"].shape[0]), inputs.dtype)
    _, hidden = lax.scan(cell, (zeros, zeros), inputs.transpose(1, 0, 2), unroll=4)
    return cross_entropy(linear(params, "head", hidden.transpose(1, 0, 2)), y)


def softmax_regression_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload h."""
    logits = x @ params["weight"] + params["bias"]
    return cross_entropy(logits, y) + RIDGE / 2 * jnp.square(params["weight"]).sum()


def poisson_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload i3."""
    hessian = jax.vmap(jax.hessian(lambda point: perceptron(params, point, jnp.tanh)[0]))(x)
    return jnp.square(hessian[:, 0, 0] + hessian[:, 1, 1] - y[:, 0]).mean()


LOSSES: dict[str, Loss] = {
    "a": regression_loss,
    "b": classification_loss,
    "c": classification_loss,
    "d": convolutional_loss,
    "f": transformer_loss,
    "g": recurrent_loss,
    "h": softmax_regression_loss,
    "i1": regression_loss,
    "i2": regression_loss,
    "i3": poisson_loss,
}

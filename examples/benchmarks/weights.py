"""Initial weights of the networks, the same for every framework, with the names of PyTorch's `state_dict`."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import numpy as np

Weights = dict[str, np.ndarray]


def uniform_weights(
    shapes: dict[str, tuple[int, ...]], without_bias: Collection[str] = (), dtype: type = np.float32
) -> Weights:
    """Weights and biases of linear and convolution layers, distributed as PyTorch's.

    Args:
        shapes: layer name -> shape of the weight, (out, in, ...).
        without_bias: the layers that have none.
        dtype: of all of them.

    Returns:
        `<layer>.weight` and `<layer>.bias`, uniform in +-1/sqrt(fan in).
    """
    rng = np.random.default_rng(1)
    weights = {}
    for layer, shape in shapes.items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, shape).astype(dtype)
        if layer not in without_bias:
            weights[f"{layer}.bias"] = rng.uniform(-bound, bound, shape[0]).astype(dtype)
    return weights


def layer_norm_weights(layers: Iterable[str], width: int) -> Weights:
    """Scales of 1 and shifts of 0."""
    weights = {}
    for layer in layers:
        weights[f"{layer}.weight"] = np.ones(width, np.float32)
        weights[f"{layer}.bias"] = np.zeros(width, np.float32)
    return weights


def batch_norm_weights(layer: str, channels: int) -> Weights:
    """The same, and the running statistics."""
    return layer_norm_weights([layer], channels) | {
        f"{layer}.running_mean": np.zeros(channels, np.float32),
        f"{layer}.running_var": np.ones(channels, np.float32),
        f"{layer}.num_batches_tracked": np.array(0),
    }


def embedding(rows: int, width: int, seed: int) -> np.ndarray:
    """Normal with standard deviation 0.02, as in GPT-2."""
    return 0.02 * np.random.default_rng(seed).standard_normal((rows, width), np.float32)


def perceptron_weights(*sizes: int, dtype: type = np.float32) -> Weights:
    """Of a Sequential of Linear layers with an activation between each two."""
    shapes = {str(2 * k): (sizes[k + 1], sizes[k]) for k in range(len(sizes) - 1)}
    return uniform_weights(shapes, dtype=dtype)


def residual_weights(stages: Sequence[int], blocks: int) -> Weights:
    """Of a ResNet for 3 colors and 10 classes, with so many blocks a stage."""
    shapes: dict[str, tuple[int, ...]] = {"conv": (stages[0], 3, 3, 3)}
    norms = {"norm": stages[0]}
    channels = stages[0]
    for k in range(len(stages) * blocks):
        out = stages[k // blocks]
        shapes |= {f"blocks.{k}.conv1": (out, channels, 3, 3), f"blocks.{k}.conv2": (out, out, 3, 3)}
        norms |= {f"blocks.{k}.norm1": out, f"blocks.{k}.norm2": out}
        channels = out
    weights = uniform_weights(shapes | {"head": (10, channels)}, without_bias=shapes)
    for layer, count in norms.items():
        weights |= batch_norm_weights(layer, count)
    return weights


def transformer_weights(layers: int, width: int, length: int, characters: int) -> Weights:
    """Of a GPT with a head of its own, without bias."""
    shapes = {}
    norms = ["norm"]
    for k in range(layers):
        shapes |= {
            f"blocks.{k}.qkv": (3 * width, width),
            f"blocks.{k}.out": (width, width),
            f"blocks.{k}.up": (4 * width, width),
            f"blocks.{k}.down": (width, 4 * width),
        }
        norms += [f"blocks.{k}.norm1", f"blocks.{k}.norm2"]
    weights = uniform_weights(shapes | {"head": (characters, width)}, without_bias=["head"])
    weights |= layer_norm_weights(norms, width)
    tokens, positions = embedding(characters, width, seed=2), embedding(length, width, seed=3)
    return weights | {"tokens.weight": tokens, "positions": positions}


def lstm_weights(width: int, characters: int) -> Weights:
    """Of an embedding, one LSTM layer and a linear layer; the gates are input, forget, cell and output."""
    gates = uniform_weights({"ih": (4 * width, width), "hh": (4 * width, width)})
    weights = {f"lstm.{kind}_{name}_l0": gates[f"{name}.{kind}"]
               for kind in ("weight", "bias") for name in ("ih", "hh")}  # fmt: skip
    weights["tokens.weight"] = embedding(characters, width, seed=2)
    return weights | uniform_weights({"head": (characters, width)})


def softmax_regression_weights(features: int, classes: int) -> Weights:
    """Zeros, float64; the weight is (features, classes)."""
    return {"weight": np.zeros((features, classes)), "bias": np.zeros(classes)}

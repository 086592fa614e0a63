"""The workloads that all frameworks share: sizes, data, initial weights and hyperparameters.

A workload is described once, in NumPy; `workloads_<framework>.py` builds it with one framework. All start
from the same weights and see the same batch, so that their losses must agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Weights = dict[str, np.ndarray]

# A program of one framework: step() runs one training step, and value(result) reads what it returned as a
# number, once it is computed.
Program = tuple[Callable[[], Any], Callable[[Any], float]]


@dataclass(frozen=True)
class Workload:
    """What is trained.

    Attributes:
        title: one line for the reports.
        make_batch: gives inputs and targets.
        make_weights: gives the initial weights, with the names and shapes of PyTorch's `state_dict`.
        optimizer: arguments of PyTorch's optimizer; `name` is "adam" or "sgd".
    """

    title: str
    make_batch: Callable[[], tuple[np.ndarray, np.ndarray]]
    make_weights: Callable[[], Weights]
    optimizer: dict[str, Any]

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The arguments of the optimizer, without its name."""
        return {name: value for name, value in self.optimizer.items() if name != "name"}


def uniform_weights(shapes: dict[str, tuple[int, ...]]) -> Weights:
    """Weights and biases of linear and convolution layers, distributed as PyTorch's.

    Args:
        shapes: layer name -> shape of the weight, (out, in, ...).

    Returns:
        `<layer>.weight` and `<layer>.bias`, uniform in +-1/sqrt(fan in), float32.
    """
    rng = np.random.default_rng(1)
    weights = {}
    for layer, shape in shapes.items():
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        weights[f"{layer}.weight"] = rng.uniform(-bound, bound, shape).astype(np.float32)
        weights[f"{layer}.bias"] = rng.uniform(-bound, bound, shape[0]).astype(np.float32)
    return weights


def perceptron_weights(*sizes: int) -> Weights:
    """Of a Sequential of Linear layers with an activation between each two."""
    return uniform_weights({str(2 * k): (sizes[k + 1], sizes[k]) for k in range(len(sizes) - 1)})


def regression_batch() -> tuple[np.ndarray, np.ndarray]:
    """64 points of the plane, and a smooth function of them."""
    x = np.random.default_rng(0).random((64, 2), np.float32)
    return x, np.sin(3 * x[:, :1]) * x[:, 1:]


def classification_batch(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of a shape, uniform in [0, 1), each with one of 10 classes."""
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32), rng.integers(0, 10, shape[0])


ADAM = {"name": "adam", "lr": 1e-3}
SGD = {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4}

WORKLOADS = {
    "a": Workload(
        "MLP 2-32-32-1, tanh, batch 64, mean squared error, Adam",
        regression_batch,
        lambda: perceptron_weights(2, 32, 32, 1),
        ADAM,
    ),
    "b": Workload(
        "MLP 784-512-512-10, ReLU, batch 128, cross-entropy, Adam",
        lambda: classification_batch(128, 784),
        lambda: perceptron_weights(784, 512, 512, 10),
        ADAM,
    ),
    "c": Workload(
        "MLP 784-2048-2048-10, ReLU, batch 1024, cross-entropy, Adam",
        lambda: classification_batch(1024, 784),
        lambda: perceptron_weights(784, 2048, 2048, 10),
        ADAM | {"lr": 1e-4},  # with 1e-3 the first steps diverge, and rounding errors with them
    ),
    "d": Workload(
        "CNN conv 1-32-64, max-pool, fc 9216-128-10, 28 x 28, batch 64, cross-entropy, SGD with momentum",
        lambda: classification_batch(64, 1, 28, 28),
        lambda: uniform_weights(
            {"0": (32, 1, 3, 3), "2": (64, 32, 3, 3), "6": (128, 64 * 12 * 12), "8": (10, 128)}
        ),
        SGD,
    ),
}

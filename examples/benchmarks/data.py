"""The workloads that all frameworks share: sizes, data, initial weights and hyperparameters.

A workload is described once, in NumPy; `workloads_<framework>.py` builds it with one framework. All start
from the same weights and see the same batch, so that their losses must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from weights import (
    Weights,
    lstm_weights,
    perceptron_weights,
    residual_weights,
    softmax_regression_weights,
    transformer_weights,
    uniform_weights,
)

Batch = tuple[np.ndarray, np.ndarray]

HEADS = 4  # of the attention in f
MEMORY = 10  # pairs that L-BFGS remembers in h
RIDGE = 1e-3  # half of it times the sum of squares of the weights is part of the loss of h
GRADIENT_TOLERANCE = 1e-6  # of h: no element of the gradient is larger at the solution
MOST_ITERATIONS = 10_000
SCAN = 32  # steps a call of the contenders nbdl-scan and jax-scan


@dataclass(frozen=True)
class Workload:
    """What is computed.

    Attributes:
        title: one line for the reports.
        make_batch: gives inputs and targets.
        make_weights: gives the initial weights, with the names and shapes of PyTorch's `state_dict`.
        optimizer: arguments of PyTorch's optimizer, with its `name`: "adam", "adamw" or "sgd"; empty where
            nothing is trained.
        check_steps: how many values `--check` compares.
        tolerance: the relative difference that it allows.
    """

    title: str
    make_batch: Callable[[], Batch]
    make_weights: Callable[[], Weights]
    optimizer: dict[str, Any] = field(default_factory=dict)
    check_steps: int = 6
    tolerance: float = 1e-4  # float32; rounding errors grow from step to step

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The arguments of the optimizer, without its name."""
        return {name: value for name, value in self.optimizer.items() if name != "name"}


def regression_batch(n: int, dtype: type) -> Batch:
    """Points of the plane, and a smooth function of them."""
    x = np.random.default_rng(0).random((n, 2)).astype(dtype)
    return x, np.sin(3 * x[:, :1]) * x[:, 1:]


def classification_batch(*shape: int) -> Batch:
    """Inputs of a shape, uniform in [0, 1), each with one of 10 classes."""
    rng = np.random.default_rng(0)
    return rng.random(shape, np.float32), rng.integers(0, 10, shape[0])


def text_batch(n: int, length: int) -> Batch:
    """Sequences of random characters, and the same moved by one."""
    characters = np.random.default_rng(0).integers(0, 65, (n, length + 1))
    return characters[:, :-1].copy(), characters[:, 1:].copy()


def digits_batch() -> Batch:
    """1797 noisy pictures of 8 x 8 pixels, float64, and which of 10 they show."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 1797)
    pictures = rng.integers(0, 17, (10, 64))
    x = np.round(0.6 * pictures[y] + 5 * rng.standard_normal((1797, 64)))
    return x.clip(0, 16) / 16, y


ADAM = {"name": "adam", "lr": 1e-3}
SGD = {"name": "sgd", "lr": 1e-2, "momentum": 0.9, "weight_decay": 1e-4}


def perceptron_on_the_plane(task: str, **more: Any) -> Workload:
    """Workloads i: derivatives of second order of a small network, float64."""
    return Workload(
        f"{task} of an MLP 2-16-16-1, tanh, 337 parameters, batch 256, float64",
        lambda: regression_batch(256, np.float64),
        lambda: perceptron_weights(2, 16, 16, 1, dtype=np.float64),
        tolerance=1e-9,
        **more,
    )


WORKLOADS = {
    "a": Workload(
        "MLP 2-32-32-1, tanh, batch 64, mean squared error, Adam",
        lambda: regression_batch(64, np.float32),
        lambda: perceptron_weights(2, 32, 32, 1),
        ADAM,
        check_steps=SCAN,
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
    "e": Workload(
        "ResNet-20 (16-32-64, batch norm), 32 x 32, batch 64, cross-entropy, SGD with momentum",
        lambda: classification_batch(64, 3, 32, 32),
        lambda: residual_weights((16, 32, 64), blocks=3),
        SGD,
        tolerance=1e-3,  # 19 normalizations amplify rounding errors
    ),
    "f": Workload(
        "GPT, 4 layers, 4 heads, width 128, 128 characters, batch 16, cross-entropy, AdamW",
        lambda: text_batch(16, 128),
        lambda: transformer_weights(layers=4, width=128, length=128, characters=65),
        {"name": "adamw", "lr": 3e-4, "weight_decay": 0.1},
    ),
    "g": Workload(
        "LSTM, width 128, 64 characters, batch 32, cross-entropy, Adam",
        lambda: text_batch(32, 64),
        lambda: lstm_weights(width=128, characters=65),
        ADAM,
    ),
    "h": Workload(
        "softmax regression 64-10 with weight decay on 1797 examples, float64, solved by L-BFGS",
        digits_batch,
        lambda: softmax_regression_weights(64, 10),
        check_steps=2,
        tolerance=1e-6,  # what the tolerance of the gradient leaves open
    ),
    "i1": perceptron_on_the_plane("product of a vector with the Hessian", check_steps=2),
    "i2": perceptron_on_the_plane("whole Hessian", check_steps=2),
    "i3": perceptron_on_the_plane("Adam step on a Poisson equation, the Laplacian", optimizer=ADAM),
}

"""The workloads in HIPS autograd, which has no fast convolution: perceptrons only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as np
import numpy
from data import WORKLOADS, Program

Params = dict[str, numpy.ndarray]


def perceptron(params: Params, x: numpy.ndarray, activation: Callable[[Any], Any]) -> Any:
    """Three linear layers; the weights are stored as (in, out)."""
    for layer in ("0", "2"):
        x = activation(np.dot(x, params[f"{layer}.weight"]) + params[f"{layer}.bias"])
    return np.dot(x, params["4.weight"]) + params["4.bias"]


def regression_loss(params: Params, x: numpy.ndarray, y: numpy.ndarray) -> Any:
    """Workload a."""
    return np.mean((perceptron(params, x, np.tanh) - y) ** 2)


def classification_loss(params: Params, x: numpy.ndarray, y: numpy.ndarray) -> Any:
    """Workloads b and c; y is one-hot."""
    logits = perceptron(params, x, lambda z: np.maximum(z, 0))
    logits = logits - np.max(logits, axis=1, keepdims=True)
    return np.sum(y * (np.log(np.sum(np.exp(logits), axis=1, keepdims=True)) - logits)) / len(y)


def adam(params: Params, lr: float) -> Callable[[Params], None]:
    """Adam with PyTorch's defaults; the function it returns updates the parameters in place."""
    m = {key: numpy.zeros_like(value) for key, value in params.items()}
    v = {key: numpy.zeros_like(value) for key, value in params.items()}
    t = 0

    def update(grads: Params) -> None:
        nonlocal t
        t += 1
        scale, root = lr / (1 - 0.9**t), 1 / (1 - 0.999**t) ** 0.5
        for key, g in grads.items():
            m[key] = 0.9 * m[key] + 0.1 * g
            v[key] = 0.999 * v[key] + 0.001 * g**2
            params[key] -= scale * m[key] / (numpy.sqrt(v[key]) * root + 1e-8)

    return update


def training(name: str, loss: Callable[..., Any]) -> Program:
    """Training steps on the batch of a workload."""
    workload = WORKLOADS[name]
    x, y = workload.make_batch()
    if y.dtype == numpy.int64:
        y = numpy.eye(10, dtype=numpy.float32)[y]
    params = {key: numpy.ascontiguousarray(value.T) for key, value in workload.make_weights().items()}
    update = adam(params, **workload.hyperparameters)
    value_and_grad = autograd.value_and_grad(loss)

    def step() -> float:
        value, grads = value_and_grad(params, x, y)
        update(grads)
        return value

    return step, float


PROGRAMS = {
    "a": lambda variant: training("a", regression_loss),
    "b": lambda variant: training("b", classification_loss),
    "c": lambda variant: training("c", classification_loss),
}

"""The workloads in HIPS autograd, which has no fast convolution, attention or LSTM: perceptrons only."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as np
import numpy
from autograd.misc.flatten import flatten
from data import WORKLOADS
from program import Program

Params = dict[str, numpy.ndarray]


def perceptron(params: Params, x: numpy.ndarray, activation: Callable[[Any], Any]) -> Any:
    """Three linear layers; the weights are stored as (in, out)."""
    for layer in ("0", "2"):
        x = activation(np.dot(x, params[f"{layer}.weight"]) + params[f"{layer}.bias"])
    return np.dot(x, params["4.weight"]) + params["4.bias"]


def regression_loss(params: Params, x: numpy.ndarray, y: numpy.ndarray) -> Any:
    """Workloads a, i1 and i2."""
    return np.mean((perceptron(params, x, np.tanh) - y) ** 2)


def classification_loss(params: Params, x: numpy.ndarray, y: numpy.ndarray) -> Any:
    """Workloads b and c; y is one-hot."""
    logits = perceptron(params, x, lambda z: np.maximum(z, 0))
    logits = logits - np.max(logits, axis=1, keepdims=True)
    return np.sum(y * (np.log(np.sum(np.exp(logits), axis=1, keepdims=True)) - logits)) / len(y)


def poisson_loss(params: Params, x: numpy.ndarray, y: numpy.ndarray) -> Any:
    """Workload i3; every value depends on one point only, so that derivatives go by element."""
    derivative = autograd.elementwise_grad
    slope = derivative(lambda x: perceptron(params, x, np.tanh))
    laplacian = sum(derivative(lambda x, k=k: slope(x)[:, k])(x)[:, k] for k in range(2))
    return np.mean((laplacian - y[:, 0]) ** 2)


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


def load(name: str) -> tuple[Params, numpy.ndarray, numpy.ndarray]:
    """The initial parameters of a workload, the inputs and the targets; classes are one-hot."""
    workload = WORKLOADS[name]
    x, y = workload.make_batch()
    if y.dtype == numpy.int64:
        y = numpy.eye(10, dtype=numpy.float32)[y]
    weights = workload.make_weights()
    return {key: numpy.ascontiguousarray(value.T) for key, value in weights.items()}, x, y


def training(name: str, loss: Callable[..., Any]) -> Program:
    """Training steps on the batch of a workload."""
    params, x, y = load(name)
    update = adam(params, **WORKLOADS[name].hyperparameters)
    value_and_grad = autograd.value_and_grad(loss)

    def step() -> float:
        value, grads = value_and_grad(params, x, y)
        update(grads)
        return value

    return Program(step, float)


def second_derivative(name: str) -> Program:
    """Workloads i1 and i2, reverse over reverse mode."""
    params, x, y = load(name)
    start, unflatten = flatten(params)
    direction = numpy.ones_like(start) / math.sqrt(start.size)

    def loss(vector: numpy.ndarray) -> Any:
        return regression_loss(unflatten(vector), x, y)

    if name == "i1":
        product = autograd.hessian_vector_product(loss)
        return Program(lambda: product(start, direction), sum_of_magnitudes)
    hessian = autograd.hessian(loss)
    return Program(lambda: hessian(start), sum_of_magnitudes)


def sum_of_magnitudes(result: numpy.ndarray) -> float:
    """Of a product with a Hessian, or of a Hessian."""
    return float(numpy.abs(result).sum())


PROGRAMS = {
    "a": lambda variant: training("a", regression_loss),
    "b": lambda variant: training("b", classification_loss),
    "c": lambda variant: training("c", classification_loss),
    "i1": lambda variant: second_derivative("i1"),
    "i2": lambda variant: second_derivative("i2"),
    "i3": lambda variant: training("i3", poisson_loss),
}

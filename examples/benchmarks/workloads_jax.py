"""The workloads in JAX: the whole step, optimizer included, is one jitted function with donated state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from data import WORKLOADS, Program
from jax import lax

Params = dict[str, jax.Array]
Loss = Callable[[Params, jax.Array, jax.Array], jax.Array]
Update = Callable[[Params, Any, Params], tuple[Params, Any]]

tree_map = jax.tree_util.tree_map


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch; the labels are class numbers."""
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.take_along_axis(log_probabilities, labels[:, None], 1).mean()


def perceptron(params: Params, x: jax.Array, activation: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Three linear layers; the weights are stored as (in, out)."""
    for layer in ("0", "2"):
        x = activation(x @ params[f"{layer}.weight"] + params[f"{layer}.bias"])
    return x @ params["4.weight"] + params["4.bias"]


def regression_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload a."""
    return jnp.square(perceptron(params, x, jnp.tanh) - y).mean()


def classification_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workloads b and c."""
    return cross_entropy(perceptron(params, x, jax.nn.relu), y)


def convolutional_loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    """Workload d, channels last, which is the faster layout on the CPU."""
    for layer in ("0", "2"):
        x = lax.conv_general_dilated(
            x, params[f"{layer}.weight"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + params[f"{layer}.bias"])
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(len(x), -1)
    x = jax.nn.relu(x @ params["6.weight"] + params["6.bias"])
    return cross_entropy(x @ params["8.weight"] + params["8.bias"], y)


def own_layout(name: str, weight: np.ndarray) -> np.ndarray:
    """A weight of PyTorch's layout as the losses above want it."""
    if name == "6.weight" and weight.shape[1] == 64 * 12 * 12:  # behind the flattened image of workload d
        weight = weight.reshape(-1, 64, 12, 12).transpose(0, 2, 3, 1).reshape(len(weight), -1)
    if weight.ndim == 4:
        return weight.transpose(2, 3, 1, 0)
    return weight.T


def adam(lr: float) -> tuple[Callable[[Params], Any], Update]:
    """Initial state and update rule of Adam, with PyTorch's defaults."""

    def init(params: Params) -> Any:
        return tree_map(jnp.zeros_like, params), tree_map(jnp.zeros_like, params), jnp.zeros(())

    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        m, v, t = state
        t = t + 1
        m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        scale, root = lr / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t)
        params = tree_map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) * root + 1e-8), params, m, v)
        return params, (m, v, t)

    return init, update


def sgd(lr: float, momentum: float, weight_decay: float) -> tuple[Callable[[Params], Any], Update]:
    """Initial state and update rule of SGD with momentum."""

    def init(params: Params) -> Any:
        return tree_map(jnp.zeros_like, params)

    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        state = tree_map(lambda v, g, p: momentum * v + g + weight_decay * p, state, grads, params)
        return tree_map(lambda p, v: p - lr * v, params, state), state

    return init, update


OPTIMIZERS = {"adam": adam, "sgd": sgd}


def training(name: str, loss: Loss) -> Program:
    """Training steps on the batch of a workload."""
    workload = WORKLOADS[name]
    x, y = workload.make_batch()
    x, y = jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x), jnp.asarray(y)
    params = {key: jnp.array(own_layout(key, value)) for key, value in workload.make_weights().items()}
    init, update = OPTIMIZERS[workload.optimizer["name"]](**workload.hyperparameters)

    def train(params: Params, state: Any, x: jax.Array, y: jax.Array) -> tuple[Params, Any, jax.Array]:
        value, grads = jax.value_and_grad(loss)(params, x, y)
        return *update(params, state, grads), value

    train = jax.jit(train, donate_argnums=(0, 1))
    state = init(params)

    def step() -> jax.Array:
        nonlocal params, state
        params, state, value = train(params, state, x, y)
        return value

    return step, float


PROGRAMS = {
    "a": lambda variant: training("a", regression_loss),
    "b": lambda variant: training("b", classification_loss),
    "c": lambda variant: training("c", classification_loss),
    "d": lambda variant: training("d", convolutional_loss),
}

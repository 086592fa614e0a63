"""The workloads in JAX: the whole step, optimizer included, is one jitted function with donated state.

Variants: "step", one step a call; "scan", many in one call, workload a only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from data import GRADIENT_TOLERANCE, MEMORY, MOST_ITERATIONS, SCAN, WORKLOADS
from jax.flatten_util import ravel_pytree
from networks_jax import LOSSES, Params, is_statistic, own_layout, residual_loss
from program import Program, Unsupported

Update = Callable[[Params, Any, Params], tuple[Params, Any]]

tree_map = jax.tree_util.tree_map


def build(name: str, variant: str) -> Program:
    """A workload in one variant.

    Raises:
        Unsupported: many steps in a call are for workload a.
    """
    if variant == "scan" and name != "a":
        raise Unsupported("jax-scan has workload a only")
    if name in ("i1", "i2"):
        return second_derivative(name)
    if name == "h":
        return solver()
    return training(name, scanned=variant == "scan")


def load(name: str) -> tuple[Params, jax.Array, jax.Array]:
    """The initial parameters of a workload, the inputs and the targets."""
    workload = WORKLOADS[name]
    weights = workload.make_weights()
    if np.float64 in {weight.dtype.type for weight in weights.values()}:
        jax.config.update("jax_enable_x64", True)
    params = {key: jnp.array(own_layout(key, value)) for key, value in weights.items()}
    return params, *on_device(*workload.make_batch())


def on_device(x: np.ndarray, y: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """A batch, images channels last."""
    return jnp.asarray(x.transpose(0, 2, 3, 1) if x.ndim == 4 else x), jnp.asarray(y)


def adam(lr: float, weight_decay: float = 0.0) -> tuple[Callable[[Params], Any], Update]:
    """Initial state and update rule of AdamW, with PyTorch's other defaults."""

    def init(params: Params) -> Any:
        return tree_map(jnp.zeros_like, params), tree_map(jnp.zeros_like, params), jnp.zeros(())

    def update(params: Params, state: Any, grads: Params) -> tuple[Params, Any]:
        m, v, t = state
        t = t + 1
        m = tree_map(lambda m, g: 0.9 * m + 0.1 * g, m, grads)
        v = tree_map(lambda v, g: 0.999 * v + 0.001 * g * g, v, grads)
        scale, root, kept = lr / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.999**t), 1 - lr * weight_decay
        params = tree_map(lambda p, m, v: kept * p - scale * m / (jnp.sqrt(v) * root + 1e-8), params, m, v)
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


OPTIMIZERS = {"adam": adam, "adamw": adam, "sgd": sgd}


def training(
    name: str, *, scanned: bool, batches: Sequence[tuple[np.ndarray, np.ndarray]] | None = None
) -> Program:
    """Training steps on the batch of a workload, or on others that take turns."""
    workload = WORKLOADS[name]
    weights, x, y = load(name)
    turns = itertools.cycle([(x, y)] if batches is None else [on_device(*batch) for batch in batches])
    params = {key: value for key, value in weights.items() if not is_statistic(key)}
    statistics = {key: value for key, value in weights.items() if is_statistic(key)}
    init, update = OPTIMIZERS[workload.optimizer["name"]](**workload.hyperparameters)

    def loss(params: Params, statistics: Params, x: jax.Array, y: jax.Array) -> tuple[jax.Array, Params]:
        if name == "e":
            return residual_loss(params, statistics, x, y)
        return LOSSES[name](params, x, y), statistics

    def train(state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        params, statistics, moments = state
        (value, statistics), grads = jax.value_and_grad(loss, has_aux=True)(params, statistics, x, y)
        params, moments = update(params, moments, grads)
        return (params, statistics, moments), value

    def train_long(state: Any, x: jax.Array, y: jax.Array) -> tuple[Any, jax.Array]:
        state, values = jax.lax.scan(lambda state, _: train(state, x, y), state, None, length=SCAN)
        return state, values[-1]

    run = jax.jit(train_long if scanned else train, donate_argnums=0)
    state = (params, statistics, init(params))

    def step() -> jax.Array:
        nonlocal state
        state, value = run(state, *next(turns))
        return value

    return Program(step, float, SCAN if scanned else 1)


def solver() -> Program:
    """Workload h by JAX's own L-BFGS, all of it in one jitted function; its value is the loss."""
    from jax.scipy.optimize import minimize

    params, x, y = load("h")
    start, unravel = ravel_pytree(params)
    options = {"maxcor": MEMORY, "gtol": GRADIENT_TOLERANCE, "ftol": 0, "maxiter": MOST_ITERATIONS}

    @jax.jit
    def solve(start: jax.Array) -> jax.Array:
        return minimize(
            lambda vector: LOSSES["h"](unravel(vector), x, y),
            start,
            method="l-bfgs-experimental-do-not-rely-on-this",
            options=options,
        ).fun

    return Program(lambda: solve(start), float)


def second_derivative(name: str) -> Program:
    """Workloads i1 and i2, forward over reverse mode."""
    params, x, y = load(name)
    start, unravel = ravel_pytree(params)
    direction = jnp.ones_like(start) / math.sqrt(start.size)

    def loss(vector: jax.Array) -> jax.Array:
        return LOSSES[name](unravel(vector), x, y)

    @jax.jit
    def derivative(point: jax.Array, direction: jax.Array) -> jax.Array:
        if name == "i1":
            return jax.jvp(jax.grad(loss), (point,), (direction,))[1]
        return jax.hessian(loss)(point)

    return Program(lambda: derivative(start, direction), lambda result: float(jnp.abs(result).sum()))


PROGRAMS = {name: lambda variant, name=name: build(name, variant) for name in WORKLOADS}

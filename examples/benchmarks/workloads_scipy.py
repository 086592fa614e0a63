"""Workload h by SciPy's L-BFGS-B.

Variants: "numpy", with the gradient by hand; "jax", with a jitted one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from data import GRADIENT_TOLERANCE, MEMORY, MOST_ITERATIONS, RIDGE, WORKLOADS
from program import Program
from scipy.optimize import minimize

Evaluation = Callable[[np.ndarray], tuple[float, np.ndarray]]


def evaluation_in_numpy() -> tuple[Evaluation, np.ndarray]:
    """Loss and gradient as a function of all parameters in one vector, and where to begin."""
    workload = WORKLOADS["h"]
    x, y = workload.make_batch()
    weights = workload.make_weights()
    shape = weights["weight"].shape
    size = weights["weight"].size
    rows = np.arange(len(y))

    def evaluate(vector: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = vector[:size].reshape(shape), vector[size:]
        logits = x @ weight
        logits += bias
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        sums = p.sum(1, keepdims=True)
        loss = (np.log(sums[:, 0]) - logits[rows, y]).mean() + RIDGE / 2 * np.square(weight).sum()
        p /= sums
        p[rows, y] -= 1
        p /= len(y)
        return loss, np.concatenate([(x.T @ p + RIDGE * weight).ravel(), p.sum(0)])

    return evaluate, np.concatenate([weights["weight"].ravel(), weights["bias"]])


def evaluation_in_jax() -> tuple[Evaluation, np.ndarray]:
    """The same by JAX."""
    import jax
    from networks_jax import LOSSES
    from workloads_jax import load

    params, x, y = load("h")
    start, unravel = jax.flatten_util.ravel_pytree(params)
    value_and_grad = jax.jit(jax.value_and_grad(lambda vector: LOSSES["h"](unravel(vector), x, y)))

    def evaluate(vector: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = value_and_grad(vector)
        return float(value), np.asarray(gradient)

    return evaluate, np.asarray(start)


def solver(variant: str) -> Program:
    """Workload h; its value is the loss."""
    evaluate, start = evaluation_in_jax() if variant == "jax" else evaluation_in_numpy()
    options = {
        "maxcor": MEMORY, "ftol": 0, "gtol": GRADIENT_TOLERANCE, "maxiter": MOST_ITERATIONS,
        "maxfun": 10 * MOST_ITERATIONS,
    }  # fmt: skip

    def solve() -> float:
        return minimize(evaluate, start, jac=True, method="L-BFGS-B", options=options).fun

    return Program(solve, float)


PROGRAMS = {"h": solver}

"""The workloads in nbdl; the environment chooses the backend.

Variants: "eager"; "compiled", the whole step through `nbdl.compile`, or the closure of L-BFGS; "scan", many
steps in one compiled function.
"""

from __future__ import annotations

from data import SCAN, WORKLOADS
from program import Program, Unsupported
from workloads_tensors import (
    Loss,
    flat_loss,
    load,
    loss_and_gradients,
    make_loss,
    make_optimizer,
    solution,
    sum_of_magnitudes,
    training_step,
)

import nbdl


def build(name: str, variant: str) -> Program:
    """A workload in one variant.

    Raises:
        Unsupported: several steps at once are for workload a, where a step is shorter than its Python.
    """
    if variant == "scan" and name != "a":
        raise Unsupported("nbdl-scan has workload a only")
    if name in ("i1", "i2"):
        return second_derivative(name, variant)
    if name == "h":
        return solver(variant)
    return training(name, variant)


def training(name: str, variant: str) -> Program:
    """Training steps of a model on the batch of a workload."""
    model, x, y = load(nbdl, name)
    step = training_step(make_optimizer(nbdl, name, model), make_loss(nbdl, name, model))
    if variant == "scan":
        step = unrolled(step)
    if variant != "eager":
        step = nbdl.compile(step)
    return Program(lambda: step(x, y), nbdl.Tensor.item, SCAN if variant == "scan" else 1)


def unrolled(step: Loss) -> Loss:
    """Many steps on one batch; the last loss."""

    def steps(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        for _ in range(SCAN):
            loss = step(x, y)
        return loss

    return steps


def solver(variant: str) -> Program:
    """Workload h."""
    model, x, y = load(nbdl, "h")
    evaluate = loss_and_gradients(model, make_loss(nbdl, "h", model))

    def closure() -> nbdl.Tensor:
        return evaluate(x, y)

    return solution(nbdl, model, nbdl.compile(closure) if variant == "compiled" else closure)


def second_derivative(name: str, variant: str) -> Program:
    """Workloads i1, in reverse over reverse mode, and i2, in forward over reverse mode."""
    loss, start, direction = flat_loss(nbdl, name)
    product, hessian = nbdl.func.hvp, nbdl.func.hessian(loss)

    def derivative(point: nbdl.Tensor, direction: nbdl.Tensor) -> nbdl.Tensor:
        return product(loss, point, direction) if name == "i1" else hessian(point)

    if variant == "compiled":
        derivative = nbdl.compile(derivative)
    return Program(lambda: derivative(start, direction), sum_of_magnitudes)


PROGRAMS = {name: lambda variant, name=name: build(name, variant) for name in WORKLOADS}

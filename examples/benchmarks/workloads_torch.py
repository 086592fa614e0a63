"""The workloads in PyTorch.

Variants: "eager", with the optimizer of its defaults; "fused", with the fused optimizer, and channels last in
convolutional networks; "compile", the latter with forward and backward pass through `torch.compile`;
"compile-step", one compiled function of the whole step, see `compiled_torch.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from compiled_torch import compiled_step, functional_laplacian
from data import WORKLOADS
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

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def build(name: str, variant: str) -> Program:
    """A workload in one variant.

    Raises:
        Unsupported: the variant is none of this workload, or PyTorch cannot do it.
    """
    if name in ("i1", "i2"):
        return second_derivative(name, variant)
    if name == "h":
        return solver(variant)
    if variant == "compile-step":
        return compiled_step(name)
    return training(name, variant)


def training(name: str, variant: str) -> Program:
    """Training steps of a model on the batch of a workload."""
    model, x, y = load(torch, name)
    fused = variant in ("fused", "compile")
    if fused and x.dim() == 4:
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    loss = make_loss(torch, name, model)
    if variant == "compile":
        loss = torch.compile(functional_laplacian(model) if name == "i3" else loss)
    step = training_step(make_optimizer(torch, name, model, fused=fused or None), loss)
    return Program(lambda: step(x, y), torch.Tensor.item)


def solver(variant: str) -> Program:
    """Workload h."""
    if variant not in ("eager", "compile"):
        raise Unsupported("L-BFGS has no fused variant, and makes decisions that cannot be compiled")
    model, x, y = load(torch, "h")
    loss: Loss = make_loss(torch, "h", model)
    evaluate = loss_and_gradients(model, torch.compile(loss) if variant == "compile" else loss)
    return solution(torch, model, lambda: evaluate(x, y))


def second_derivative(name: str, variant: str) -> Program:
    """Workloads i1 and i2: the product by a second backward pass, the Hessian as `torch.func` makes it."""
    if variant not in ("eager", "compile"):
        raise Unsupported("there is no optimizer to fuse")
    loss, start, direction = flat_loss(torch, name)
    derivative: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    if name == "i2":
        hessian = torch.func.hessian(loss)
        derivative = torch.compile(hessian) if variant == "compile" else hessian
        return Program(lambda: derivative(start), sum_of_magnitudes)
    if variant == "compile":
        raise Unsupported("torch.compile fails at derivatives of derivatives by a vector")

    def product(point: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
        point = point.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)
        return torch.autograd.grad(gradient, point, direction)[0]

    return Program(lambda: product(start, direction), sum_of_magnitudes)


PROGRAMS = {name: lambda variant, name=name: build(name, variant) for name in WORKLOADS}

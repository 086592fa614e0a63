"""Whole training steps of PyTorch in one compiled function, and what `torch.compile` needs for i3."""

from __future__ import annotations

import math
from typing import Any

import torch
from data import WORKLOADS
from program import Program, Unsupported
from torch.func import functional_call, grad, grad_and_value, jacrev, vmap
from workloads_tensors import Loss, load, make_loss

State = dict[str, torch.Tensor]
WORKLOADS_OF_STEPS = ("a", "b", "c", "f", "i3")


def functional_laplacian(model: Any, parameters: State | None = None) -> Loss:
    """The loss of i3 by `torch.func`, since `torch.compile` does not look into `torch.autograd.grad`."""

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        weights = dict(model.named_parameters()) if parameters is None else parameters

        def value(point: torch.Tensor) -> torch.Tensor:
            return functional_call(model, weights, (point[None],))[0, 0]

        hessian = vmap(jacrev(grad(value)))(x)
        return (hessian[:, 0, 0] + hessian[:, 1, 1] - y[:, 0]).square().mean()

    return loss


def compiled_step(name: str) -> Program:
    """Forward pass, backward pass and Adam as one graph; parameters and state change in place.

    Raises:
        Unsupported: for networks with buffers, and those whose time is in convolutions and the LSTM.
    """
    if name not in WORKLOADS_OF_STEPS:
        raise Unsupported(f"torch-compile-step has workloads {', '.join(WORKLOADS_OF_STEPS)} only")
    model, x, y = load(torch, name)
    settings = WORKLOADS[name].hyperparameters
    parameters = {key: p.detach().clone() for key, p in model.named_parameters()}
    m = {key: torch.zeros_like(p) for key, p in parameters.items()}
    v = {key: torch.zeros_like(p) for key, p in parameters.items()}
    t = torch.zeros((), dtype=torch.float64)

    def loss(parameters: State) -> torch.Tensor:
        if name == "i3":
            return functional_laplacian(model, parameters)(x, y)
        return make_loss(torch, name, lambda x: functional_call(model, parameters, (x,)))(x, y)

    @torch.compile(fullgraph=True)
    def step(parameters: State, m: State, v: State, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradients, value = grad_and_value(loss)(parameters)
        now = t + 1
        for key, p in parameters.items():
            adam(p, gradients[key], m[key], v[key], now, **settings)
        return value, now

    def call() -> torch.Tensor:
        nonlocal t
        with torch.no_grad():
            value, t = step(parameters, m, v, t)
        return value

    return Program(call, torch.Tensor.item)


def adam(
    p: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, t: torch.Tensor, lr: float,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """AdamW with the other hyperparameters of PyTorch, in place."""
    new_m, new_v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    m.copy_(new_m)
    v.copy_(new_v)
    scale = lr / (1 - torch.exp(t * math.log(0.9)))
    root = 1 / (1 - torch.exp(t * math.log(0.999)))
    p.copy_(
        p * (1 - lr * weight_decay) - scale.to(p.dtype) * new_m / ((new_v * root.to(p.dtype)).sqrt() + 1e-8)
    )

"""The workloads in PyTorch.

Variants: "eager", with the optimizer of its defaults; "fused", with the fused optimizer, and channels last in
convolutional networks; "compile", the latter with forward and backward pass through `torch.compile`.
"""

from __future__ import annotations

import os

import torch
from data import WORKLOADS, Program
from torch import nn

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def regression_perceptron() -> tuple[nn.Module, nn.Module]:
    """Workload a."""
    layers = [nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)]
    return nn.Sequential(*layers), nn.MSELoss()


def classifying_perceptron(width: int) -> tuple[nn.Module, nn.Module]:
    """Workloads b and c."""
    layers = [nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)]
    return nn.Sequential(*layers), nn.CrossEntropyLoss()


def convolutional_network() -> tuple[nn.Module, nn.Module]:
    """Workload d."""
    layers = [
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10),
    ]  # fmt: skip
    return nn.Sequential(*layers), nn.CrossEntropyLoss()


def training(name: str, variant: str, model: nn.Module, loss_function: nn.Module) -> Program:
    """Training steps of a model on the batch of a workload."""
    workload = WORKLOADS[name]
    x, y = map(torch.from_numpy, workload.make_batch())
    model.load_state_dict({key: torch.from_numpy(value) for key, value in workload.make_weights().items()})
    fused = variant in ("fused", "compile")
    if fused and x.dim() == 4:
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    make_optimizer = OPTIMIZERS[workload.optimizer["name"]]
    optimizer = make_optimizer(model.parameters(), **workload.hyperparameters, fused=fused or None)

    def compute_loss() -> torch.Tensor:
        return loss_function(model(x), y)

    if variant == "compile":
        compute_loss = torch.compile(compute_loss)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        loss = compute_loss()
        loss.backward()
        optimizer.step()
        return loss

    return step, torch.Tensor.item


PROGRAMS = {
    "a": lambda variant: training("a", variant, *regression_perceptron()),
    "b": lambda variant: training("b", variant, *classifying_perceptron(512)),
    "c": lambda variant: training("c", variant, *classifying_perceptron(2048)),
    "d": lambda variant: training("d", variant, *convolutional_network()),
}

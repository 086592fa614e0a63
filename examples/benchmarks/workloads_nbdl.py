"""The workloads in nbdl; the variant makes no difference, since the environment chooses the backend."""

from __future__ import annotations

from data import WORKLOADS, Program

import nbdl
from nbdl import nn

OPTIMIZERS = {"adam": nbdl.optim.Adam, "sgd": nbdl.optim.SGD}


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


def training(name: str, model: nn.Module, loss_function: nn.Module) -> Program:
    """Training steps of a model on the batch of a workload."""
    workload = WORKLOADS[name]
    x, y = map(nbdl.from_numpy, workload.make_batch())
    model.load_state_dict({key: nbdl.from_numpy(value) for key, value in workload.make_weights().items()})
    optimizer = OPTIMIZERS[workload.optimizer["name"]](model.parameters(), **workload.hyperparameters)

    def step() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step, nbdl.Tensor.item


PROGRAMS = {
    "a": lambda variant: training("a", *regression_perceptron()),
    "b": lambda variant: training("b", *classifying_perceptron(512)),
    "c": lambda variant: training("c", *classifying_perceptron(2048)),
    "d": lambda variant: training("d", *convolutional_network()),
}

"""What the workloads in PyTorch and in nbdl have in common: `lib` is `torch` or `nbdl`."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

from data import GRADIENT_TOLERANCE, MEMORY, MOST_ITERATIONS, RIDGE, WORKLOADS
from networks_tensors import NETWORKS
from program import Program

Model = Callable[[Any], Any]
Loss = Callable[[Any, Any], Any]


def load(lib: ModuleType, name: str) -> tuple[Any, Any, Any]:
    """The network of a workload with its initial weights, the inputs and the targets."""
    workload = WORKLOADS[name]
    model = NETWORKS[name](lib)
    weights = {key: lib.from_numpy(value) for key, value in workload.make_weights().items()}
    if lib.float64 in {weight.dtype for weight in weights.values()}:
        model.double()
    model.load_state_dict(weights)
    x, y = workload.make_batch()
    return model, lib.from_numpy(x), lib.from_numpy(y)


def make_optimizer(lib: ModuleType, name: str, model: Any, **more: Any) -> Any:
    """The optimizer of a workload."""
    workload = WORKLOADS[name]
    table = {"adam": lib.optim.Adam, "adamw": lib.optim.AdamW, "sgd": lib.optim.SGD}
    return table[workload.optimizer["name"]](model.parameters(), **workload.hyperparameters, **more)


def make_solver(lib: ModuleType, model: Any) -> Any:
    """L-BFGS for workload h: one step of it is the whole solution."""
    return lib.optim.LBFGS(
        model.parameters(), max_iter=MOST_ITERATIONS, max_eval=10 * MOST_ITERATIONS, history_size=MEMORY,
        tolerance_grad=GRADIENT_TOLERANCE, tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip


def make_loss(lib: ModuleType, name: str, model: Any) -> Loss:
    """The loss of a workload as a function of inputs and targets."""
    F = lib.nn.functional
    if name == "i3":
        return lambda x, y: F.mse_loss(laplacian(lib, model, x), y[:, 0])
    if name == "h":
        return lambda x, y: F.cross_entropy(model(x), y) + RIDGE / 2 * model.weight.square().sum()
    if name in ("a", "i1", "i2"):
        return lambda x, y: F.mse_loss(model(x), y)
    if name in ("f", "g"):
        return lambda x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    return lambda x, y: F.cross_entropy(model(x), y)


def laplacian(lib: ModuleType, model: Model, x: Any) -> Any:
    """Of a function of points of the plane, at each of them; it can be differentiated once more."""
    grad = lib.autograd.grad
    x = x.detach().requires_grad_(True)
    (slope,) = grad(model(x).sum(), x, create_graph=True)
    return sum(grad(slope[:, k].sum(), x, create_graph=True)[0][:, k] for k in range(2))


def flat_loss(lib: ModuleType, name: str) -> tuple[Callable[[Any], Any], Any, Any]:
    """A loss as a function of all parameters in one vector, that vector, and a direction of length 1."""
    model, x, y = load(lib, name)
    parameters = dict(model.named_parameters())
    start = lib.cat([p.detach().reshape(-1) for p in parameters.values()])
    sizes = [p.numel() for p in parameters.values()]

    def loss(vector: Any) -> Any:
        parts = {key: part.view(p.shape) for (key, p), part in zip(parameters.items(), vector.split(sizes))}
        return make_loss(lib, name, lambda x: lib.func.functional_call(model, parts, (x,)))(x, y)

    return loss, start, lib.ones_like(start) / math.sqrt(start.numel())


def training_step(optimizer: Any, loss_function: Loss) -> Loss:
    """Forward pass, backward pass and update."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_function(x, y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def loss_and_gradients(model: Any, loss_function: Loss) -> Loss:
    """The closure of L-BFGS, as a function of inputs and targets."""

    def evaluate(x: Any, y: Any) -> Any:
        model.zero_grad()
        loss = loss_function(x, y)
        loss.backward()
        return loss

    return evaluate


def solution(lib: ModuleType, model: Any, closure: Callable[[], Any]) -> Program:
    """Workload h, solved from zero; its value is the loss."""

    def solve() -> None:
        with lib.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        make_solver(lib, model).step(closure)

    return Program(solve, lambda _: closure().item())


def sum_of_magnitudes(result: Any) -> float:
    """Of a product with a Hessian, or of a Hessian."""
    return result.detach().abs().sum().item()

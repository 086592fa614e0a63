"""Training of networks of radial basis functions in two and in three steps.

Source: Schwenker, Kestler, Palm (2001), Three learning phases for radial-basis-function networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.nn.rbf.centers import (
    growing_neural_gas,
    k_means,
    kmeans_plus_plus,
    neighbor_widths,
    random_centers,
)
from nbdl.nn.rbf.layer import RBFNetwork
from nbdl.ops.random import randperm


@contextmanager
def _frozen(parameters: Iterable[Tensor]) -> Iterator[None]:
    """No gradients are computed for these in this block."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


CENTERS: dict[str, Callable[..., Tensor]] = {
    "random": random_centers,
    "k-means++": kmeans_plus_plus,
    "k-means": k_means,
    "growing neural gas": growing_neural_gas,
}
Loss = Callable[[Tensor, Tensor], Tensor]
MakeOptimizer = Callable[[Iterable[Tensor]], Any]


@no_grad()
def place_centers(
    network: RBFNetwork, x: Tensor, method: str | Callable[..., Tensor] = "k-means", neighbors: int = 2
) -> None:
    """The first step: centres from the samples, widths from the distances between centres.

    Args:
        network: the network.
        x: samples (N, D).
        method: ``random``, ``k-means++``, ``k-means``, ``growing neural gas``, or a function of samples and
            number of centres.
        neighbors: nearest centres that determine a width.

    Raises:
        ValueError: the method is unknown, or found too few centres.
    """
    if isinstance(method, str) and method not in CENTERS:
        raise ValueError(f"place_centers: unknown method {method!r}; expected one of {', '.join(CENTERS)}")
    choose = CENTERS[method] if isinstance(method, str) else method
    centers = choose(x, network.rbf.n_centers)
    if tuple(centers.shape) != tuple(network.rbf.centers.shape):
        raise ValueError(
            f"place_centers: {method!r} found {centers.shape[0]} centres, but the network has "
            f"{network.rbf.n_centers}"
        )
    network.rbf.centers.copy_(centers)
    network.rbf.widths.copy_(neighbor_widths(centers, neighbors))


def descend(
    network: RBFNetwork,
    parameters: Iterable[Tensor],
    x: Tensor,
    target: Tensor,
    loss: Loss,
    epochs: int,
    batch_size: int,
    optimizer: MakeOptimizer | None,
) -> list[Tensor]:
    """Train some parameters by gradient descent on mini-batches, in a fresh random order each epoch.

    Returns:
        the loss of the last mini-batch of every epoch, 0-d tensors
    """
    from nbdl.optim import SGD

    stepper = SGD(parameters, lr=0.1) if optimizer is None else optimizer(parameters)
    history = []
    for _ in range(epochs):
        order = randperm(x.shape[0]).to(x.device)
        for start in range(0, x.shape[0], batch_size):
            rows = order[start : start + batch_size]
            stepper.zero_grad()
            value = loss(network(x[rows]), target[rows])
            value.backward()
            stepper.step()
        history.append(value.detach())
    return history


def train_two_step(
    network: RBFNetwork,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    centers: str | Callable[..., Tensor] = "k-means++",
    epochs: int = 100,
    batch_size: int = 32,
    optimizer: MakeOptimizer | None = None,
) -> list[Tensor]:
    """Centres and widths from the samples, then the output weights by gradient descent.

    Args:
        network: the network.
        x: samples (N, D).
        target: what the loss takes.
        loss: of output and target.
        centers: how the centres are chosen, see :func:`place_centers`.
        epochs: of the second step.
        batch_size: of the second step.
        optimizer: makes an optimizer of parameters; default: SGD with rate 0.1.

    Returns:
        the loss of the last mini-batch of every epoch, 0-d tensors

    Example:
        >>> import nbdl
        >>> from nbdl.nn import rbf
        >>> x = nbdl.linspace(-3, 3, 64).unsqueeze(1)
        >>> network = rbf.RBFNetwork(1, 10)
        >>> losses = rbf.train_two_step(network, x, x.sin(), nbdl.nn.MSELoss(), epochs=20)
        >>> len(losses)
        20
    """
    place_centers(network, x, centers)
    weights = list(network.output.parameters())
    with _frozen(network.rbf.parameters()):
        return descend(network, weights, x, target, loss, epochs, batch_size, optimizer)


def train_three_step(
    network: RBFNetwork,
    x: Tensor,
    target: Tensor,
    loss: Loss,
    *,
    centers: str | Callable[..., Tensor] = "k-means",
    epochs: int = 100,
    final_epochs: int = 100,
    batch_size: int = 32,
    optimizer: MakeOptimizer | None = None,
) -> list[Tensor]:
    """The two steps, then centres, widths and weights together by gradient descent.

    Args:
        network: the network.
        x: samples (N, D).
        target: what the loss takes.
        loss: of output and target.
        centers: how the centres are chosen, see :func:`place_centers`.
        epochs: of the second step.
        final_epochs: of the third step.
        batch_size: of both.
        optimizer: makes an optimizer of parameters; default: SGD with rate 0.1.

    Returns:
        the loss of the last mini-batch of every epoch of both steps, 0-d tensors
    """
    history = train_two_step(
        network, x, target, loss, centers=centers, epochs=epochs, batch_size=batch_size, optimizer=optimizer
    )
    everything = list(network.parameters())
    return history + descend(network, everything, x, target, loss, final_epochs, batch_size, optimizer)

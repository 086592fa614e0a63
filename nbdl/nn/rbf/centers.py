"""Where radial basis functions stand, and how wide they are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nbdl.autograd.modes import no_grad
from nbdl.autograd.tensor import Tensor
from nbdl.ops.arithmetic import where
from nbdl.ops.creation import as_tensor, ones
from nbdl.ops.index_writing import index_add
from nbdl.ops.joining import stack
from nbdl.ops.new_like import zeros_like
from nbdl.ops.products import cdist
from nbdl.ops.random import multinomial, randint, randperm
from nbdl.ops.selecting import index_select
from nbdl.ops.sorting import topk


def _check(label: str, x: Tensor, n: int) -> None:
    if x.ndim != 2 or not 1 <= n <= x.shape[0]:
        raise ValueError(
            f"{label}: needs samples (N, features) and a number of centres in [1, N], got {tuple(x.shape)} "
            f"and {n}"
        )


@no_grad()
def random_centers(x: Tensor, n: int, generator: Any = None) -> Tensor:
    """``n`` different samples of (N, D), at random.

    Raises:
        ValueError: there are fewer samples.
    """
    _check("random_centers", x, n)
    return index_select(x, 0, randperm(x.shape[0], generator=generator)[:n].to(x.device))


@no_grad()
def kmeans_plus_plus(x: Tensor, n: int, generator: Any = None) -> Tensor:
    """``n`` samples of (N, D), each drawn with the squared distance to the nearest of those before as weight.

    Raises:
        ValueError: there are fewer samples.

    Source: Arthur, Vassilvitskii (2007), k-means++, section 2.2.
    """
    _check("kmeans_plus_plus", x, n)
    chosen = [index_select(x, 0, randint(0, x.shape[0], (1,), generator=generator).to(x.device))[0]]
    squares = (x - chosen[0]).square().sum(1)
    while len(chosen) < n:
        weights = where(squares.sum() > 0, squares, 1.0)  # all samples may be centres already
        index = multinomial(weights, 1, generator=generator)
        chosen.append(index_select(x, 0, index)[0])
        squares = squares.minimum((x - chosen[-1]).square().sum(1))
    return stack(chosen)


@no_grad()
def k_means(
    x: Tensor, n: int, iterations: int = 100, centers: Tensor | None = None, generator: Any = None
) -> Tensor:
    """Centres that are the means of the samples nearest to them.

    Args:
        x: samples (N, D).
        n: number of centres.
        iterations: at most so many; it ends when no centre moves.
        centers: (n, D) at first; default: :func:`kmeans_plus_plus`.
        generator: where the randomness comes from.

    Returns:
        (n, D); a centre without samples stays where it is

    Raises:
        ValueError: there are fewer samples than centres.

    Source: Lloyd (1982), Least squares quantization in PCM.
    """
    _check("k_means", x, n)
    centers = kmeans_plus_plus(x, n, generator) if centers is None else centers
    count = ones(x.shape[0], dtype=x.dtype, device=x.device)
    for _ in range(iterations):
        owner = cdist(x, centers).argmin(1)
        sizes = index_add(zeros_like(centers[:, 0]), 0, owner, count).unsqueeze(1)
        sums = index_add(zeros_like(centers), 0, owner, x)
        moved = where(sizes > 0, sums / sizes.clamp(min=1), centers)
        if bool((moved == centers).all()):
            break
        centers = moved
    return centers


class _Gas:
    """A growing neural gas: nodes, their errors, and the ages of edges, NaN where there is none."""

    def __init__(self, nodes: np.ndarray):
        self.nodes = nodes
        self.errors = np.zeros(len(nodes))
        self.ages = np.full((len(nodes), len(nodes)), np.nan)

    def connect(self, a: int, b: int, age: float = 0.0) -> None:
        self.ages[a, b] = self.ages[b, a] = age

    def keep(self, nodes: np.ndarray) -> None:
        self.nodes, self.errors = self.nodes[nodes], self.errors[nodes]
        self.ages = self.ages[np.ix_(nodes, nodes)]

    def adapt(self, sample: np.ndarray, winner_rate: float, neighbor_rate: float, max_age: float) -> None:
        """Steps 2 to 7 of the algorithm."""
        squares = ((self.nodes - sample) ** 2).sum(1)
        first, second = np.argsort(squares)[:2]
        self.ages[first] += 1
        self.ages[:, first] = self.ages[first]
        self.errors[first] += squares[first]
        neighbors = ~np.isnan(self.ages[first])
        self.nodes[first] += winner_rate * (sample - self.nodes[first])
        self.nodes[neighbors] += neighbor_rate * (sample - self.nodes[neighbors])
        self.connect(first, second)
        self.ages[self.ages > max_age] = np.nan
        connected = ~np.isnan(self.ages).all(1)
        if not connected.all():
            self.keep(np.flatnonzero(connected))

    def insert(self, alpha: float) -> None:
        """Step 8: a node between the one with the largest error and the worst of its neighbours."""
        worst = int(self.errors.argmax())
        among = np.flatnonzero(~np.isnan(self.ages[worst]))
        other = int(among[self.errors[among].argmax()])
        self.errors[[worst, other]] *= alpha
        self.nodes = np.vstack([self.nodes, (self.nodes[worst] + self.nodes[other]) / 2])
        self.errors = np.append(self.errors, self.errors[worst])
        self.ages = np.pad(self.ages, (0, 1), constant_values=np.nan)
        self.connect(worst, other, np.nan)
        self.connect(worst, len(self.nodes) - 1)
        self.connect(other, len(self.nodes) - 1)


def growing_neural_gas(
    x: Tensor,
    n: int,
    steps: int | None = None,
    insert_every: int = 100,
    winner_rate: float = 0.2,
    neighbor_rate: float = 0.006,
    max_age: int = 50,
    alpha: float = 0.5,
    decay: float = 0.005,
    generator: Any = None,
) -> Tensor:
    """Centres by a graph that grows where the error is large, and follows the samples.

    Args:
        x: samples (N, D).
        n: number of centres.
        steps: samples that are shown; default: as many as ``n`` insertions need, and as many again.
        insert_every: a node is inserted after so many.
        winner_rate: how far the nearest node moves towards a sample.
        neighbor_rate: how far its neighbours move.
        max_age: an edge that was not used for longer is removed, and nodes without edges too.
        alpha: factor of the errors of the two nodes beside an inserted one.
        decay: part by which all errors decrease after every sample.
        generator: where the order of the samples comes from.

    Returns:
        (n, D)

    Raises:
        ValueError: there are fewer samples than centres, or fewer than two centres.

    Source: Fritzke (1995), A growing neural gas network learns topologies, section 2.
    """
    _check("growing_neural_gas", x, n)
    if n < 2:
        raise ValueError(f"growing_neural_gas: needs at least 2 centres, got {n}")
    steps = 2 * insert_every * n if steps is None else steps
    samples = x.detach().cpu().array.astype(np.float64)
    gas = _Gas(random_centers(x, 2, generator).cpu().array.astype(np.float64))
    gas.connect(0, 1)
    order = randint(0, len(samples), (steps,), generator=generator).cpu().array
    for step, index in enumerate(order, 1):
        gas.adapt(samples[index], winner_rate, neighbor_rate, max_age)
        if step % insert_every == 0 and len(gas.nodes) < n:
            gas.insert(alpha)
        gas.errors *= 1 - decay
    while len(gas.nodes) < n:
        gas.insert(alpha)
    return as_tensor(gas.nodes, dtype=x.dtype, device=x.device)


@no_grad()
def neighbor_widths(centers: Tensor, neighbors: int = 2) -> Tensor:
    """The root mean square distance of each of (n, D) centres to its nearest others, (n,).

    Source: Moody, Darken (1989), Fast learning in networks of locally-tuned processing units, section 3.
    """
    n = centers.shape[0]
    if n == 1:
        return ones(1, dtype=centers.dtype, device=centers.device)
    k = min(neighbors, n - 1)
    nearest = topk(cdist(centers, centers), k + 1, dim=1, largest=False).values[:, 1:]
    return nearest.square().mean(1).sqrt().clamp(min=math.sqrt(np.finfo(centers.dtype).tiny))

#!/usr/bin/env python
"""Derivatives: gradient, Jacobian and Hessian as functions, their identities, and the chain rule.

The Jacobian has one row an output and one column an input (numerator layout, n_y x n_x). The chain rule is a
product of Jacobians; where a value is read by several others, a sum over all paths between input and output.

Source: D, calculus; B, gradients and chain rule; N, backpropagation (groups 29, 30, 31).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl.func import grad, hessian, jacrev

Function = Callable[[nbdl.Tensor], nbdl.Tensor]


class Identity(NamedTuple):
    """A rule of calculus: its name, the derivative that the library finds, and the one that the rule says."""

    name: str
    found: nbdl.Tensor
    rule: nbdl.Tensor

    @property
    def error(self) -> float:
        """The largest difference of an element."""
        return (self.found - self.rule).abs().max().item()


def shapes() -> list[tuple[str, str, str, str]]:
    """What gradient, Jacobian and Hessian are of, and their shapes."""
    x, A = nbdl.randn(3), nbdl.randn(2, 3)

    def curve(t: nbdl.Tensor) -> nbdl.Tensor:
        return (A @ t).sin()

    def energy(t: nbdl.Tensor) -> nbdl.Tensor:
        return (curve(t) ** 2).sum()

    return [
        ("gradient", "R^3 -> R", "grad(f)(x)", str(tuple(grad(energy)(x).shape))),
        ("Jacobian", "R^3 -> R^2", "jacrev(f)(x)", str(tuple(jacrev(curve)(x).shape))),
        ("Hessian", "R^3 -> R", "hessian(f)(x)", str(tuple(hessian(energy)(x).shape))),
    ]


def identities(n: int) -> list[Identity]:
    """The rules of the slides at a random point of R^n."""
    x, b, A, X = nbdl.randn(n), nbdl.randn(n), nbdl.randn(n, n), nbdl.randn(n, n)

    def u(t: nbdl.Tensor) -> nbdl.Tensor:
        return (A @ t).tanh()

    def v(t: nbdl.Tensor) -> nbdl.Tensor:
        return (b * t).exp()

    return [
        Identity("d b^T x = b^T", grad(lambda t: b @ t)(x), b),
        Identity("d A x = A", jacrev(lambda t: A @ t)(x), A),
        Identity("d x^T A x = (A + A^T) x", grad(lambda t: t @ A @ t)(x), (A + A.T) @ x),
        Identity("d^2 x^T A x = A + A^T", hessian(lambda t: t @ A @ t)(x), A + A.T),
        Identity("d |x|^2 = 2 x", grad(lambda t: (t * t).sum())(x), 2 * x),
        Identity("d |X|_F^2 = 2 X", grad(lambda t: nbdl.linalg.norm(t, "fro") ** 2)(X), 2 * X),
        Identity(
            "d u^T v = v^T du + u^T dv",
            grad(lambda t: u(t) @ v(t))(x),
            v(x) @ jacrev(u)(x) + u(x) @ jacrev(v)(x),
        ),
        Identity("d u(v(x)) = du(v) dv(x)", jacrev(lambda t: u(v(t)))(x), jacrev(u)(v(x)) @ jacrev(v)(x)),
    ]


def jacobian_factors(sizes: list[int]) -> tuple[list[nbdl.Tensor], nbdl.Tensor]:
    """The Jacobian of each layer of a tanh network, the last layer first, and that of the whole network."""
    weights = [nbdl.randn(m, n) for n, m in itertools.pairwise(sizes)]
    layers: list[Function] = [lambda u, W=W: (W @ u).tanh() for W in weights]

    def network(u: nbdl.Tensor) -> nbdl.Tensor:
        for layer in layers:
            u = layer(u)
        return u

    u = x = nbdl.randn(sizes[0])
    factors = []
    for layer in layers:
        factors.insert(0, jacrev(layer)(u))
        u = layer(u)
    return factors, jacrev(network)(x)


def sum_over_paths(width: int, depth: int) -> tuple[int, float, float]:
    """A network R -> R with `depth` hidden linear layers of `width` units.

    Returns:
        The number of paths from input to output, the sum over them of the product of their weights, and the
        gradient.
    """
    sizes = [1, *[width] * depth, 1]
    weights = [nbdl.randn(m, n) for n, m in itertools.pairwise(sizes)]
    # A path is a choice of one unit a layer: an axis a layer, and all products at once.
    products = nbdl.ones(1)
    for W in weights:
        products = products.unsqueeze(-1) * W.T  # (paths so far..., unit) -> (..., unit, next unit)
    x = nbdl.ones(1, requires_grad=True)
    u = x
    for W in weights:
        u = W @ u
    u.sum().backward()
    return products.numel(), products.sum().item(), x.grad.item()


def show(lesson: Lesson) -> None:
    """The program."""
    lesson.table("Derivatives are functions", ("derivative", "of", "how", "shape"), shapes())
    lesson.table(
        "Identities at a random point of R^6",
        ("identity", "largest difference"),
        [(identity.name, f"{identity.error:.1e}") for identity in identities(6)],
    )
    factors, whole = jacobian_factors([5, 4, 3, 2])
    product = nbdl.linalg.multi_dot(factors)
    lesson.table(
        "The chain rule is a product of Jacobians",
        ("Jacobian", "shape", "largest difference from the whole network's"),
        [
            *[(f"layer {len(factors) - k}", tuple(J.shape), "") for k, J in enumerate(factors)],
            ("product", tuple(product.shape), f"{(product - whole).abs().max().item():.1e}"),
        ],
    )
    depths = (1, 2, 3) if lesson.quick else (1, 2, 3, 4, 5, 6)
    lesson.table(
        "Paths through a network of m hidden layers of N = 8 units",
        ("m", "paths N^m", "sum over all paths", "gradient by one backward pass"),
        [(m, *sum_over_paths(8, m)) for m in depths],
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

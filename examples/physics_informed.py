#!/usr/bin/env python
"""Solves two partial differential equations with networks that know nothing but the equations.

    python examples/physics_informed.py --problem poisson
    python examples/physics_informed.py --problem burgers --backend numba

poisson: -(u_xx + u_yy) = f on the unit square, u = 0 on its boundary, which the ansatz satisfies exactly.
burgers: u_t + u u_x = nu u_xx for |x| < 1 with nu = 0.01 / pi, from u = -sin(pi x), u = 0 at the ends: a
shock forms at x = 0. Here too the ansatz satisfies initial and boundary values.

The squared residual of the equation at random points is minimized by Adam, then by L-BFGS, in double
precision. The error is measured against the exact solution: for Burgers the one of Cole and Hopf, with its
integrals by Gauss-Hermite quadrature.

Sources: Raissi, Perdikaris, Karniadakis (2019), Physics-informed neural networks; Basdevant et al. (1986),
Spectral and finite difference solutions of the Burgers equation; Lagaris, Likas, Fotiadis (1998), Artificial
neural networks for solving ordinary and partial differential equations (the ansatz).
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import application
import nbdl
from nbdl import nn
from nbdl.autograd import grad

NU = 0.01 / math.pi
ITERATIONS = 20  # an epoch

Field = Callable[[nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]


@dataclass(frozen=True)
class Problem:
    """An equation in two variables p, q, whose solution is sought between lower and upper corner.

    Attributes:
        lower: the least p and q.
        upper: the largest.
        names: of p and q, for the picture.
        ansatz: (network's output, p, q) -> u with the right values on the boundary.
        residual: (u as a function of p and q, p, q) -> what must vanish.
        exact: the solution at NumPy arrays p and q.
        epochs: of Adam, and of L-BFGS.
        points: at which the equation shall hold.
        hidden: widths of the hidden layers.
    """

    lower: tuple[float, float]
    upper: tuple[float, float]
    names: tuple[str, str]
    ansatz: Callable[[nbdl.Tensor, nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]
    residual: Callable[[Field, nbdl.Tensor, nbdl.Tensor], nbdl.Tensor]
    exact: Callable[[np.ndarray, np.ndarray], np.ndarray]
    epochs: tuple[int, int]
    points: int
    hidden: tuple[int, ...]


def slopes(u: nbdl.Tensor, *variables: nbdl.Tensor) -> tuple[nbdl.Tensor, ...]:
    """The derivatives of u at each point; its value there depends on the variables there alone."""
    return grad(u.sum(), variables, create_graph=True)


def poisson_residual(u: Field, x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
    """-(u_xx + u_yy) - f, where f belongs to the exact solution."""
    u_x, u_y = slopes(u(x, y), x, y)
    (u_xx,), (u_yy,) = slopes(u_x, x), slopes(u_y, y)
    f = 5 * math.pi**2 * (math.pi * x).sin() * (2 * math.pi * y).sin()
    return -(u_xx + u_yy) - f


def burgers_residual(u: Field, t: nbdl.Tensor, x: nbdl.Tensor) -> nbdl.Tensor:
    """u_t + u u_x - nu u_xx."""
    value = u(t, x)
    u_t, u_x = slopes(value, t, x)
    (u_xx,) = slopes(u_x, x)
    return u_t + value * u_x - NU * u_xx


def burgers_exact(t: np.ndarray, x: np.ndarray, nodes: int = 200) -> np.ndarray:
    """The solution of Cole and Hopf.

    u = - integral sin(pi (x - s)) w(s) ds / integral w(s) ds, where w(s) = exp(-cos(pi (x - s)) / (2 pi nu)
    - s^2 / (4 nu t)). With s = 2 sqrt(nu t) z the second term is the weight of Gauss-Hermite quadrature.
    """
    z, weights = np.polynomial.hermite.hermgauss(nodes)
    angle = np.pi * (x[..., None] - 2 * np.sqrt(NU * t[..., None]) * z)
    # At most exp(0): the largest exponent cancels in the quotient.
    factor = weights * np.exp(-(np.cos(angle) + 1) / (2 * np.pi * NU))
    return -(np.sin(angle) * factor).sum(-1) / factor.sum(-1)


PROBLEMS = {
    "poisson": Problem(
        (0.0, 0.0), (1.0, 1.0), ("x", "y"),
        lambda n, x, y: x * (1 - x) * y * (1 - y) * n,
        poisson_residual,
        lambda x, y: np.sin(np.pi * x) * np.sin(2 * np.pi * y),
        (20, 80), 1000, (32, 32),
    ),
    "burgers": Problem(
        (0.0, -1.0), (1.0, 1.0), ("t", "x"),
        lambda n, t, x: -(math.pi * x).sin() + t * (1 - x * x) * n,
        burgers_residual,
        burgers_exact,
        (25, 200), 5000, (24, 24, 24, 24),
    ),
}  # fmt: skip


class Solution(nn.Module):
    """u(p, q): the ansatz with a network of p and q."""

    def __init__(self, problem: Problem):
        super().__init__()
        sizes = [2, *problem.hidden, 1]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs, dtype=nbdl.float64), nn.Tanh()]
            nn.init.xavier_normal_(layers[-2].weight)
        self.network = nn.Sequential(*layers[:-1])
        self.problem = problem
        corners = nbdl.tensor([problem.lower, problem.upper], dtype=nbdl.float64)
        self.register_buffer("center", corners.mean(0))
        self.register_buffer("half_width", (corners[1] - corners[0]) / 2)

    def forward(self, p: nbdl.Tensor, q: nbdl.Tensor) -> nbdl.Tensor:
        inputs = (nbdl.stack([p, q], 1) - self.center) / self.half_width
        return self.problem.ansatz(self.network(inputs).squeeze(1), p, q)


class AdamThenLBFGS:
    """Some epochs of Adam, then L-BFGS: the first finds a valley, the second its bottom.

    Args:
        parameters: what is trained.
        adam_epochs: so many calls of ``step`` go to Adam.
    """

    def __init__(self, parameters: Iterable[nbdl.Tensor], adam_epochs: int):
        parameters = list(parameters)
        self.adam_epochs, self.epoch = adam_epochs, 0
        self.adam = nbdl.optim.Adam(parameters, lr=5e-3)
        self.lbfgs = nbdl.optim.LBFGS(
            parameters, max_iter=ITERATIONS, history_size=50, line_search_fn="strong_wolfe",
            tolerance_grad=0.0, tolerance_change=0.0,
        )  # fmt: skip

    def step(self, closure: Callable[[], nbdl.Tensor]) -> nbdl.Tensor:
        """An epoch; returns a loss in it."""
        self.epoch += 1
        if self.epoch > self.adam_epochs:
            return self.lbfgs.step(closure)
        for _ in range(ITERATIONS):
            loss = self.adam.step(closure)
        return loss

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {"epoch": self.epoch, "adam": self.adam.state_dict(), "lbfgs": self.lbfgs.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.epoch = state["epoch"]
        self.adam.load_state_dict(state["adam"])
        self.lbfgs.load_state_dict(state["lbfgs"])


def draw_points(problem: Problem, count: int) -> list[nbdl.Tensor]:
    """Random points, as two variables that derivatives can be taken for."""
    return [
        (low + (high - low) * nbdl.rand(count, dtype=nbdl.float64)).requires_grad_()
        for low, high in zip(problem.lower, problem.upper)
    ]


def grid_points(problem: Problem, n: int) -> tuple[np.ndarray, np.ndarray]:
    """n x n points; for Burgers t = 0, where there is nothing to integrate, is left out."""
    p, q = (np.linspace(low, high, n + 1)[1:] for low, high in zip(problem.lower, problem.upper))
    return tuple(np.meshgrid(p, q, indexing="ij"))


@nbdl.no_grad()
def on_grid(solution: Solution, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The values of the solution at the points of a grid."""
    flat = [nbdl.tensor(values.ravel()) for values in (p, q)]
    return solution(*flat).cpu().numpy().reshape(p.shape)


def solve(options: argparse.Namespace) -> application.Figures:
    """Train the network; returns residual and error."""
    problem = PROBLEMS[options.problem]
    adam_epochs, lbfgs_epochs = (1, 2) if options.quick else problem.epochs
    p, q = draw_points(problem, 200 if options.quick else problem.points)
    grid = grid_points(problem, 20 if options.quick else 100)
    exact = problem.exact(*grid)
    solution = Solution(problem)
    optimizer = AdamThenLBFGS(solution.parameters(), adam_epochs)

    @application.compiled(options)
    def loss_and_gradients() -> nbdl.Tensor:
        solution.zero_grad()
        loss = problem.residual(solution, p, q).square().mean()
        loss.backward(inputs=list(solution.parameters()))
        return loss.detach()

    def error() -> float:
        return float(np.linalg.norm(on_grid(solution, *grid) - exact) / np.linalg.norm(exact))

    history = application.fit(
        options, lambda batch: optimizer.step(loss_and_gradients), [None], adam_epochs + lbfgs_epochs,
        {"solution": solution, "optimizer": optimizer}, lambda: {"error": error()},
    )  # fmt: skip

    def draw(left, middle, right):
        for axes, values, title in (
            (left, on_grid(solution, *grid), "solution of the network"),
            (middle, on_grid(solution, *grid) - exact, "error"),
        ):
            picture = axes.pcolormesh(*grid, values, shading="nearest")
            axes.set(title=title, xlabel=problem.names[0], ylabel=problem.names[1])
            axes.figure.colorbar(picture, label="u")
        iterations = [ITERATIONS * (k + 1) for k in range(len(history))]
        right.semilogy(iterations, [epoch["loss"] for epoch in history], label="mean squared residual")
        right.semilogy(iterations, [epoch["error"] for epoch in history], label="relative error")
        right.axvline(ITERATIONS * adam_epochs, color="gray", linestyle=":", label="from Adam to L-BFGS")
        right.set(xlabel="iterations", ylabel="residual, error")
        right.legend()

    application.save_picture(options.out, draw, columns=3)
    return {
        "mean squared residual": history[-1]["loss"],
        "relative error after Adam": history[adam_epochs - 1]["error"],
        "relative error": history[-1]["error"],
    }


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    parser = application.make_parser(__doc__, "physics_informed.png")
    parser.add_argument("--problem", choices=PROBLEMS, default="burgers", help="default burgers")
    return application.run(parser, argv, solve)


if __name__ == "__main__":
    sys.exit(main())

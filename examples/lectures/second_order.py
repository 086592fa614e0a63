#!/usr/bin/env python
"""Second-order methods: Taylor models, Newton's step and what it costs, and the methods that need less.

The quadratic model of a function beside the linear one; Newton's step, which is exact on a quadratic and
drawn to saddles; its memory and time; gradient descent, conjugate gradients, Newton, BFGS, L-BFGS and
saddle-free Newton on Rosenbrock's valley; a network trained by full-batch L-BFGS, and its Hessian there.

Source: B and L, second-order optimization (groups 45, 46).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import optim, viz
from nbdl.func import grad, grad_and_value, hessian

Function = Callable[[nbdl.Tensor], nbdl.Tensor]
HIDDEN = 12
START_SEED = 1  # all methods train from the same parameters


def curve(w: nbdl.Tensor) -> nbdl.Tensor:
    """A function of one variable with two minima."""
    return w**4 / 4 - w**2 + 0.3 * w


def saddle(p: nbdl.Tensor) -> nbdl.Tensor:
    """A saddle at 0 between minima at (0, -2) and (0, 2)."""
    return p[0] ** 2 / 2 - p[1] ** 2 / 2 + p[1] ** 4 / 16


def rosenbrock(p: nbdl.Tensor) -> nbdl.Tensor:
    """A narrow curved valley, with the minimum 0 at (1, 1)."""
    return 100 * (p[1] - p[0] ** 2) ** 2 + (1 - p[0]) ** 2


class Taylor(NamedTuple):
    """Value, slope and curvature of a function at w0, and the models that they give."""

    w0: float
    value: float
    slope: float
    curvature: float

    @classmethod
    def of(cls, f: Function, w0: float) -> Taylor:
        """The models of f at w0."""
        w = nbdl.tensor(w0)
        return cls(w0, f(w).item(), grad(f)(w).item(), hessian(f)(w).item())

    def linear(self, w: Any) -> Any:
        """f(w0) + f'(w0) (w - w0)."""
        return self.value + self.slope * (w - self.w0)

    def quadratic(self, w: Any) -> Any:
        """The linear model and f''(w0) (w - w0)^2 / 2."""
        return self.linear(w) + self.curvature * (w - self.w0) ** 2 / 2

    @property
    def newton(self) -> float:
        """Where the quadratic model is stationary."""
        return self.w0 - self.slope / self.curvature


def newton_step(f: Function, w: nbdl.Tensor) -> nbdl.Tensor:
    """w - H^-1 g."""
    return w - nbdl.linalg.solve(hessian(f)(w), grad(f)(w))


def newton_path(f: Function, start: tuple[float, float], n_steps: int) -> Any:
    """The points that pure Newton steps visit."""
    w = nbdl.tensor(start)
    path = [w]
    for _ in range(n_steps):
        w = newton_step(f, w)
        path.append(w)
    return lecture.array(nbdl.stack(path))


def one_step_on_a_quadratic(n: int) -> tuple[float, float]:
    """How far from the minimum of a random quadratic of n variables: before and after one Newton step."""
    B, b = nbdl.randn(n, n), nbdl.randn(n)
    A = B @ B.T + nbdl.eye(n)
    minimum = nbdl.linalg.solve(A, b)
    start = nbdl.randn(n)
    after = newton_step(lambda w: w @ A @ w / 2 - b @ w, start)
    return nbdl.linalg.norm(start - minimum).item(), nbdl.linalg.norm(after - minimum).item()


def cost(n: int) -> tuple[int, int, int, int, float]:
    """Bytes of gradient and Hessian, operations of a solve, seconds of the fastest of some Newton steps."""
    w, seconds = nbdl.randn(n), []
    for _ in range(4):
        start = time.perf_counter()
        newton_step(lambda w: w.cosh().sum() + w.sum() ** 2, w)
        seconds.append(time.perf_counter() - start)
    return n, 8 * n, 8 * n * n, 2 * n**3 // 3, min(seconds)


METHODS = ("gradient-descent", "cg", "newton", "saddle-free-newton", "bfgs", "l-bfgs")


def valley(method: str, max_iterations: int) -> tuple[Any, Any]:
    """The result of a method on Rosenbrock's function, and its path."""
    path = [nbdl.tensor([-1.2, 1.0])]
    options = {"maxiter": max_iterations}
    result = optim.minimize(
        rosenbrock, path[0], method=method, callback=path.append, options=options, tol=1e-8
    )
    return result, lecture.array(nbdl.stack(path))


class Network:
    """A network 1 -> 12 -> 1 as a function of one vector, on a noisy sine."""

    n_parameters = 3 * HIDDEN + 1

    def __init__(self, n_samples: int):
        self.x = nbdl.linspace(-3, 3, n_samples)
        self.y = self.x.sin() + 0.1 * nbdl.randn(n_samples)

    def __call__(self, theta: nbdl.Tensor) -> nbdl.Tensor:
        """The mean squared error."""
        weight, bias, out = theta[:-1].reshape(3, HIDDEN)
        prediction = (self.x.unsqueeze(1) * weight + bias).tanh() @ out + theta[-1]
        return ((prediction - self.y) ** 2).mean()


def train(network: Network, make: Callable[[list[nbdl.Tensor]], optim.Optimizer], n_gradients: int) -> Any:
    """Train with a budget of gradients: theta at the end, and the best loss after each gradient."""
    nbdl.manual_seed(START_SEED)
    theta = nbdl.randn(network.n_parameters, requires_grad=True)
    optimizer = make([theta])
    losses: list[float] = []

    def closure() -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = network(theta)
        loss.backward()
        losses.append(min([loss.item(), *losses[-1:]]))
        return loss

    while len(losses) < n_gradients:
        before = len(losses)
        optimizer.step(closure)
        if len(losses) == before:
            break
    return theta.detach(), losses[:n_gradients]


TRAINERS: dict[str, Callable[[list[nbdl.Tensor]], optim.Optimizer]] = {
    "SGD, momentum 0.9": lambda p: optim.SGD(p, lr=0.02, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.02),
    "L-BFGS, full batch": lambda p: optim.LBFGS(p, max_iter=20, line_search_fn="strong_wolfe"),
}


def draw_models(figure: Any, models: list[Taylor]) -> None:
    """A function with its linear and quadratic models at two points."""
    w = nbdl.linspace(-2.2, 2.2, 300)
    grid = lecture.array(w)
    for ax, model in zip(figure.subplots(1, 2, sharey=True), models, strict=True):
        ax.plot(grid, lecture.array(curve(w)), color="black", label="f")
        ax.plot(grid, model.linear(grid), "--", label="linear model")
        ax.plot(grid, model.quadratic(grid), "-.", label="quadratic model")
        ax.plot(model.w0, model.value, "o", color="black", label="$w_0$")
        ax.plot(
            model.newton, model.quadratic(model.newton), "*", markersize=15, color="C3", label="Newton's step"
        )
        kind = "minimum" if model.curvature > 0 else "maximum: Newton climbs"
        ax.set(xlabel="w", ylim=(-2, 2.5), title=f"curvature {model.curvature:.2g}, the model has a {kind}")
        ax.legend(fontsize=10)
    figure.axes[0].set_ylabel("f(w)")


def draw_paths(figure: Any, at_saddle: dict[str, Any], in_valley: dict[str, Any]) -> None:
    """Newton's method and a saddle; each method in Rosenbrock's valley."""
    left, right = figure.subfigures(1, 2, width_ratios=(2, 3))
    ax = viz.paths(saddle, at_saddle, (-1.6, 1.6), (-0.8, 3.6), left.subplots())
    ax.set(xlabel="x", ylabel="y", title="Newton is drawn to the saddle at 0")
    panels = right.subplots(2, 3, sharex=True, sharey=True)
    for k, (ax, (name, path)) in enumerate(zip(panels.flat, in_valley.items(), strict=True)):
        viz.contours(rosenbrock, (-1.8, 1.5), (-0.7, 1.8), ax, levels=12, log=True)
        ax.plot(*path.T, ".-", color=f"C{k % 5}", linewidth=1.5)
        ax.plot(1, 1, "*", color="white", markersize=13, markeredgecolor="black")
        ax.set_title(f"{name}: {len(path) - 1:,} steps", fontsize=12)
    right.supxlabel("x")
    right.supylabel("y")


def draw_network(figure: Any, losses: dict[str, Any], eigenvalues: Any, plane: viz.LossSlice) -> None:
    """Training curves, the spectrum of the last Hessian, and the loss around it."""
    left, middle = figure.add_subplot(1, 3, 1), figure.add_subplot(1, 3, 2)
    viz.training_curves(losses, left, xlabel="gradients computed", ylabel="best mean squared error")
    left.set_title("Training")
    viz.spectrum(eigenvalues, middle)
    middle.set_title("Hessian where L-BFGS ends")
    right = plane.plot_surface(figure.add_subplot(1, 3, 3, projection="3d"))
    right.set_title("Loss in two random directions", fontsize=13)


def show(lesson: Lesson) -> None:
    """The program."""
    models = [Taylor.of(curve, 1.7), Taylor.of(curve, -0.5)]
    lesson.table(
        "Taylor models of w^4/4 - w^2 + 0.3 w",
        ("w_0", "f", "f'", "f''", "Newton's step to", "f there"),
        [(*m, m.newton, curve(nbdl.tensor(m.newton))) for m in models],
    )
    lesson.correction("Newton's method minimizes only where the Hessian is positive definite.")
    lesson.picture("taylor_models", draw_models, models, size=(13, 5))

    before, after = one_step_on_a_quadratic(20)
    lesson.table(
        "One Newton step on a quadratic of 20 variables",
        ("distance from the minimum before", "after"),
        [(before, f"{after:.1e}")],
    )
    sizes = (50, 100) if lesson.quick else (100, 200, 400, 800)
    lesson.table(
        "What Newton's step costs: memory N^2, time N^3",
        ("N", "bytes of g", "bytes of H", "operations of the solve", "seconds with the Hessian"),
        [cost(n) for n in sizes],
    )
    start = (1.2, 0.5)
    at_saddle = {
        "Newton, w - H^-1 g": newton_path(saddle, start, 8),
        "saddle-free Newton": viz.optimizer_path(saddle, start, optim.SaddleFreeNewton, 8),
        "gradient descent": viz.optimizer_path(saddle, start, lambda p: optim.SGD(p, lr=0.3), 30),
    }
    lesson.table(
        f"A saddle at (0, 0), minima at (0, -2) and (0, 2); from {start}",
        ("method", "x", "y", "f"),
        [(name, *path[-1].tolist(), saddle(nbdl.tensor(path[-1]))) for name, path in at_saddle.items()],
    )
    runs = {method: valley(method, 200 if lesson.quick else 2000) for method in METHODS}
    lesson.table(
        "Rosenbrock's valley from (-1.2, 1) until |g|_inf < 1e-8",
        ("method", "iterations", "functions", "gradients", "Hessian products", "f", "stopped"),
        [
            (name, r.nit, r.nfev, r.njev, r.nhev, f"{r.fun:.1e}", r.status.name.lower())
            for name, (r, _) in runs.items()
        ],
    )
    lesson.correction("conjugate gradients move along d_k = -g_k + beta_k d_{k-1}, not along the gradient.")
    in_valley = {name: path for name, (_, path) in runs.items()}
    lesson.picture("newton_paths", draw_paths, at_saddle, in_valley, size=(14, 6))

    network, n_gradients = Network(100), 60 if lesson.quick else 1000
    trained = {name: train(network, make, n_gradients) for name, make in TRAINERS.items()}
    rows = []
    for name, (theta, losses) in trained.items():
        gradient, value = grad_and_value(network)(theta)
        rows.append((name, len(losses), value, nbdl.linalg.norm(gradient)))
    lesson.table(
        f"A network of {network.n_parameters} parameters, {n_gradients} full-batch gradients",
        ("method", "gradients", "mean squared error", "|gradient|"),
        rows,
    )
    theta = trained["L-BFGS, full batch"][0]
    eigenvalues = nbdl.linalg.eigvalsh(hessian(network)(theta))
    lesson.table(
        "Eigenvalues of the Hessian where L-BFGS ends",
        ("largest", "smallest", "negative", "condition by magnitude"),
        [
            (
                eigenvalues.max(),
                eigenvalues.min(),
                int((eigenvalues < 0).sum()),
                eigenvalues.abs().max() / eigenvalues.abs().min(),
            )
        ],
    )
    plane = viz.loss_slice(lambda: network(theta), [theta], 2, radius=1.0, points=9 if lesson.quick else 31)
    losses = {name: losses for name, (_, losses) in trained.items()}
    lesson.picture(
        "network_second_order", draw_network, losses, lecture.array(eigenvalues), plane, size=(17, 5.2)
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

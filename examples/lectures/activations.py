#!/usr/bin/env python
"""Activations: values, derivatives, ranges; softmax with its Jacobian, maxout.

Source: B, activation functions (group 25).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl
from nbdl import nn, viz
from nbdl.func import jacrev
from nbdl.nn import functional as F


class Activation(NamedTuple):
    """A function of one variable.

    Attributes:
        formula: as the lecture writes it.
        function: of the library.
        range: of its values; round brackets where a bound is not attained.
    """

    formula: str
    function: Callable[[nbdl.Tensor], nbdl.Tensor]
    range: str


ACTIVATIONS = {
    "identity": Activation("x", nn.Identity(), "(-inf, inf)"),
    "binary step": Activation("1 if x >= 0 else 0", F.binary_step, "{0, 1}"),
    "sigmoid": Activation("1 / (1 + e^-x)", nbdl.sigmoid, "(0, 1)"),
    "tanh": Activation("(e^x - e^-x) / (e^x + e^-x)", nbdl.tanh, "(-1, 1)"),
    "Soboleva tanh": Activation(
        "(e^ax - e^-bx) / (e^cx + e^-dx)", partial(F.soboleva_tanh, a=0.8, b=0.9, c=1.2, d=1.1), "bounded"
    ),
    "ReLU": Activation("max(0, x), slope 0 at 0", F.relu, "[0, inf)"),
    "leaky ReLU": Activation("x if x > 0 else 0.01 x", F.leaky_relu, "(-inf, inf)"),
    "PReLU": Activation(
        "x if x > 0 else a x, here a = 0.25",
        lambda x: F.prelu(x, nbdl.tensor([0.25], dtype=x.dtype)),
        "(-inf, inf)",
    ),
    "GELU": Activation("x/2 (1 + erf(x / sqrt 2))", F.gelu, "[-0.170, inf)"),
    "ELU": Activation("x if x > 0 else a (e^x - 1)", F.elu, "(-a, inf)"),
    "SELU": Activation("1.0507 (x if x > 0 else 1.67326 (e^x - 1))", F.selu, "(-1.758, inf)"),
    "SiLU": Activation("x / (1 + e^-x)", F.silu, "[-0.278, inf)"),
    "Gaussian": Activation("e^(-x^2)", F.gaussian, "(0, 1]"),
    "softplus": Activation("log(1 + e^x)", F.softplus, "(0, inf)"),
}


def derivative(function: Callable[[nbdl.Tensor], nbdl.Tensor], at: list[float]) -> list[float]:
    """The derivative at some points, by the tape."""
    x = nbdl.tensor(at, requires_grad=True)
    (slope,) = nbdl.autograd.grad(function(x).sum(), [x])
    return slope.tolist()


def softmax_jacobian(x: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor]:
    """The Jacobian of softmax, by the tape and as diag(p) - p p^T."""
    p = x.softmax(0)
    return jacrev(lambda z: z.softmax(0))(x), nbdl.diag(p) - nbdl.outer(p, p)


def maxout_of_lines(x: nbdl.Tensor) -> nbdl.Tensor:
    """The largest of three lines, which is a piecewise linear convex function of x."""
    lines = nbdl.stack([-x - 1, 0.3 * x, 2 * x - 3], dim=-1)
    return F.maxout(lines, pieces=3).squeeze(-1)


def learned_slope(n_steps: int) -> float:
    """A PReLU whose slope is learned from samples of the leaky ReLU."""
    x = nbdl.linspace(-2, 2, 50)
    unit = nn.PReLU()
    optimizer = nbdl.optim.SGD(unit.parameters(), lr=1.0)
    for _ in range(n_steps):
        optimizer.zero_grad()
        F.mse_loss(unit(x), F.leaky_relu(x, 0.01)).backward()
        optimizer.step()
    return unit.weight.item()


def draw_activations(figure: Any) -> None:
    """Each function (solid) with its derivative (dashed)."""
    panels = {name: a.function for name, a in ACTIVATIONS.items()} | {"maxout of 3 lines": maxout_of_lines}
    grid = figure.subplots(4, 4, sharex=True)
    for axes, (name, function) in zip(grid.flat, panels.items()):
        viz.activation(function, ax=axes)
        axes.set(title=name, ylim=(-2.1, 2.1), xlabel="", ylabel="")
        axes.get_legend().remove()
    last = grid.flat[-1]
    last.axis("off")
    last.legend(*grid.flat[0].get_legend_handles_labels(), loc="center", fontsize=16)
    grid.flat[11].tick_params(labelbottom=True)
    figure.supxlabel("x")


def show(lesson: Lesson) -> None:
    """The program."""
    points = [-2.0, 0.0, 2.0]
    lesson.table(
        "Activations and their derivatives",
        ("", "formula", "range", *(f"f({x:g})" for x in points), *(f"f'({x:g})" for x in points)),
        [
            (
                name,
                a.formula,
                a.range,
                *(f"{v:.3f}" for v in a.function(nbdl.tensor(points)).tolist()),
                *(f"{v + 0.0:.3f}" for v in derivative(a.function, points)),
            )
            for name, a in ACTIVATIONS.items()
        ],
    )
    lesson.correction(
        "tanh' = 1 - tanh^2; erf integrates from 0; the Soboleva tanh is bounded for a <= c and b <= d; "
        "bounds that ELU, SELU, Gaussian and softplus only approach are open; softmax maps R^J to the "
        "simplex; maxout is one number for each group of affine pieces."
    )
    x = nbdl.tensor([1.0, 2.0, 0.5])
    by_tape, by_formula = softmax_jacobian(x)
    lesson.table(
        "Softmax of (1, 2, 0.5), which maps R^3 to the simplex, and its Jacobian diag(p) - p p^T",
        ("", "x_1", "x_2", "x_3", "row sum"),
        [("p", *x.softmax(0).tolist(), x.softmax(0).sum())]
        + [(f"dp_{i + 1}", *row.tolist(), f"{row.sum().item():.1g}") for i, row in enumerate(by_tape)],
    )
    print(f"largest difference to the formula: {(by_tape - by_formula).abs().max().item():.1g}")
    tie = nbdl.tensor([1.0, 1.0, 0.0], requires_grad=True)
    F.maxout(tie, pieces=3).backward(nbdl.ones(1))
    lesson.table(
        "Maxout: one number for each group of affine pieces",
        ("quantity", "value"),
        [
            ("maxout of (1, 1, 0)", F.maxout(tie, pieces=3).item()),
            ("its gradient: ties share evenly", str(tie.grad.tolist())),
            ("PReLU, slope learned from leaky ReLU", learned_slope(20 if lesson.quick else 100)),
            ("SELU's constants", f"{F.selu(nbdl.tensor(1.0)).item():.4f}, "
             f"{-F.selu(nbdl.tensor(-math.inf)).item() / F.selu(nbdl.tensor(1.0)).item():.5f}"),
        ],
    )  # fmt: skip
    lesson.picture("activations", draw_activations, size=(15, 12))


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

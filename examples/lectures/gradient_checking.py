#!/usr/bin/env python
"""Gradient checking: numerical gradients, a sparse check of a classifier, and gradcheck.

The slide's entries -2.5, 0.6 and 0.0, as differences of a hinge loss of one example; the gradient of the
hinge loss of a linear classifier, by automatic differentiation and by differences at a few random weights;
`gradcheck` and `gradgradcheck`, which accept a right derivative and name the element of a wrong one.

Source: L, numerical and analytic gradients (group 35).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import lecture
from lecture import Lesson

import nbdl
from nbdl.autograd import Function, grad_check_sparse, gradcheck, gradgradcheck
from nbdl.nn import functional as F

H = 1e-4
FEATURES = (2.5, 0.6)
WORKED_WEIGHTS = ((0.4, -0.5), (0.3, 0.2), (-0.6, 0.1))  # of the true class, a close one, and a distant one
ROWS = ("true class", "class within the margin", "class beyond the margin")
SLIDE = {(0, 0): "-2.5", (1, 1): "0.6", (2, 0): "0.0"}  # where the entries of the slide stand


def worked_loss(W: nbdl.Tensor) -> nbdl.Tensor:
    """The hinge loss of one example with two features, of the first of three classes.

    It shows how entries like the slide's come about: the weights of the true class have the slope -x for each
    class within the margin, the weights of such a class have x, and all others 0.
    """
    return F.multiclass_hinge_loss(W @ nbdl.tensor(FEATURES), nbdl.tensor(0))


def numerical_gradient(f: Callable[[nbdl.Tensor], nbdl.Tensor], x: nbdl.Tensor, h: float = H) -> nbdl.Tensor:
    """(f(x + h e_i) - f(x)) / h for every element of x: one evaluation an element, and one more."""
    steps = h * nbdl.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    return ((nbdl.func.vmap(f)(x + steps) - f(x)) / h).reshape(x.shape)


def classifier(n_samples: int, n_features: int) -> tuple[Callable[[nbdl.Tensor], nbdl.Tensor], nbdl.Tensor]:
    """The multiclass hinge loss of a linear classifier as a function of its weights, and random weights."""
    X, labels = nbdl.randn(n_samples, n_features), nbdl.randint(0, 10, (n_samples,))
    W = 0.1 * nbdl.randn(10, n_features)
    return lambda weights: F.multiclass_hinge_loss(X @ weights.T, labels), W


class WrongCube(Function):
    """x^3 with a derivative that forgets the factor 3."""

    @staticmethod
    def forward(ctx: Any, x: nbdl.Tensor) -> nbdl.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, gradient: nbdl.Tensor) -> nbdl.Tensor:
        (x,) = ctx.saved_tensors
        return gradient * x**2


def verdict(check: Callable[..., bool], f: Callable[[nbdl.Tensor], nbdl.Tensor], x: list[float]) -> str:
    """What a check says of a function at a point: "right", or the beginning of its complaint."""
    try:
        check(f, (nbdl.tensor(x, dtype=nbdl.float64, requires_grad=True),))
    except RuntimeError as error:
        return str(error).split(" for output")[0]
    return "right"


def verdicts() -> list[tuple[str, str, str]]:
    """Each function with what `gradcheck` and `gradgradcheck` say of it."""
    cases = [
        ("tanh", nbdl.tanh, [0.3, -1.2]),
        ("x^3", lambda x: x**3, [0.3, -1.2]),
        ("x^3, wrong derivative", WrongCube.apply, [0.3, -1.2]),
        ("ReLU away from 0", nbdl.relu, [0.3, -1.2]),
        ("ReLU at 0", nbdl.relu, [0.0]),
    ]
    return [(name, verdict(gradcheck, f, x), verdict(gradgradcheck, f, x)) for name, f, x in cases]


def show(lesson: Lesson) -> None:
    """The program."""
    W = nbdl.tensor(WORKED_WEIGHTS)
    slopes = numerical_gradient(worked_loss, W)
    rows = []
    for k, step in enumerate(H * nbdl.eye(W.numel())):
        i, j = divmod(k, len(FEATURES))
        moved, at_w = worked_loss(W + step.view_as(W)), worked_loss(W)
        rows.append(
            (ROWS[i], FEATURES[j], f"{moved.item():.5f}", f"{at_w.item():.5f}", f"{slopes[i, j].item():.1f}",
             SLIDE.get((i, j), ""))
        )  # fmt: skip
    lesson.table(
        f"A numerical gradient, h = {H}: hinge loss of one example",
        ("weight of", "feature", "L(W + h e_i)", "L(W)", "difference / h", "slide"),
        rows,
    )
    loss, W = classifier(*((20, 12) if lesson.quick else (100, 60)))
    analytic = nbdl.func.grad(loss)(W)
    numerical = numerical_gradient(loss, W)
    lesson.table(
        f"Hinge loss of a linear classifier: all {W.numel()} entries of its gradient",
        ("gradient", "evaluations", "|gradient|", "largest difference"),
        [
            ("automatic", 1, nbdl.linalg.norm(analytic), ""),
            ("numerical", W.numel() + 1, nbdl.linalg.norm(numerical), (analytic - numerical).abs().max()),
        ],
    )
    lesson.table(
        "grad_check_sparse: ten random entries, central differences, h = 1e-7",
        ("entry", "numerical", "analytic", "relative error"),
        [
            (str(check.index), check.numerical, check.analytic, f"{check.relative_error:.1e}")
            for check in grad_check_sparse(loss, W, analytic, num_checks=10, h=1e-7)
        ],
    )
    lesson.table(
        "Verdicts: gradgradcheck trusts the first derivative; at a kink differences give the mean of slopes",
        ("function", "gradcheck", "gradgradcheck"),
        verdicts(),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())

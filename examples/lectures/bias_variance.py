#!/usr/bin/env python
"""Risk, and its decomposition into bias^2, variance and noise.

Two points of sin(pi x) are given, and a constant or a line is put through them; many such data sets give the
average prediction, its variance and the expected error. Then the extremes, the trade-off over polynomial
degrees, and the approximation and estimation errors over the number of samples.

Source: D, learning theory (groups 17, 18, 19; the risk of group 2).
"""

from __future__ import annotations

import math
import sys
from typing import Any, NamedTuple

import lecture
from lecture import Lesson

import nbdl

NOISE = 0.5  # standard deviation of the targets in the trade-off and the extremes
DEGREES = range(10)
N_POINTS = 12  # of a data set of the trade-off


def truth(x: nbdl.Tensor) -> nbdl.Tensor:
    """The function that is to be learned, on [-1, 1]."""
    return (math.pi * x).sin()


class Decomposition(NamedTuple):
    """E_out = bias^2 + variance + noise^2, estimated from data sets, with the standard error of E_out.

    Attributes:
        bias: mean squared difference of the average prediction to the truth, less the variance that the
            average still has; an unbiased estimate, which may be negative.
        variance: mean squared deviation of the predictions from their average.
        noise: variance of a target.
        error: mean squared error on fresh targets, measured on its own.
        standard_error: of `error`.
    """

    bias: float
    variance: float
    noise: float
    error: float
    standard_error: float


def decompose(predictions: nbdl.Tensor, x: nbdl.Tensor, noise: float) -> Decomposition:
    """Decompose the error of predictions (data sets, points) at points x (points,)."""
    n = len(predictions)
    average = predictions.mean(0)
    variance = predictions.var(0).mean()
    bias = (average - truth(x)).square().mean() - variance / n
    fresh = truth(x) + noise * nbdl.randn(*predictions.shape)
    errors = (predictions - fresh).square().mean(1)
    return Decomposition(
        bias.item(), variance.item(), noise**2, errors.mean().item(), (errors.std() / math.sqrt(n)).item()
    )


def constant(x: nbdl.Tensor, y: nbdl.Tensor, points: nbdl.Tensor) -> nbdl.Tensor:
    """H0: h(x) = b, the mean of the targets of each data set (data sets, 2), at all points."""
    return y.mean(1, keepdim=True).expand(len(y), len(points))


def line(x: nbdl.Tensor, y: nbdl.Tensor, points: nbdl.Tensor) -> nbdl.Tensor:
    """H1: h(x) = a x + b through the two points of each data set."""
    a = (y[:, 1:] - y[:, :1]) / (x[:, 1:] - x[:, :1])
    return y[:, :1] + a * (points - x[:, :1])


def two_points(n_sets: int, points: nbdl.Tensor) -> dict[str, nbdl.Tensor]:
    """Predictions of H0 and H1 from data sets of two points without noise."""
    x = 2 * nbdl.rand(n_sets, 2) - 1
    return {
        "H0: h = b": constant(x, truth(x), points),
        "H1: h = a x + b": line(x, truth(x), points),
    }


def powers(x: nbdl.Tensor, degree: int) -> nbdl.Tensor:
    """Legendre polynomials up to a degree along a new last axis, which span what 1, ..., x^degree span."""
    columns = [nbdl.ones_like(x), x]
    for k in range(1, degree):
        columns.append(((2 * k + 1) * x * columns[k] - k * columns[k - 1]) / (k + 1))
    return nbdl.stack(columns[: degree + 1], dim=-1)


def fit_polynomials(x: nbdl.Tensor, y: nbdl.Tensor, degree: int) -> nbdl.Tensor:
    """Coefficients (data sets, degree + 1) of least squares, one fit for each data set."""
    return nbdl.linalg.lstsq(powers(x, degree), y.unsqueeze(-1)).solution.squeeze(-1)


def trade_off(n_sets: int, points: nbdl.Tensor) -> list[Decomposition]:
    """The decomposition for polynomials of every degree, from noisy data sets at fixed points."""
    x = nbdl.linspace(-1, 1, N_POINTS).expand(n_sets, N_POINTS)
    y = truth(x) + NOISE * nbdl.randn(n_sets, N_POINTS)
    return [
        decompose(fit_polynomials(x, y, degree) @ powers(points, degree).T, points, NOISE)
        for degree in DEGREES
    ]


def extremes(n_sets: int) -> dict[str, Decomposition]:
    """The constant 0, whatever the data; and what interpolates them, at the points where they are given."""
    x = nbdl.linspace(-1, 1, N_POINTS)
    y = truth(x) + NOISE * nbdl.randn(n_sets, N_POINTS)
    return {
        "constant predictor 0": decompose(nbdl.zeros_like(y), x, NOISE),
        "exact interpolator": decompose(y, x, NOISE),
    }


class Risks(NamedTuple):
    """Mean squared errors of polynomials of one degree, learned from n samples.

    Attributes:
        degree: of the polynomials.
        n: number of samples.
        empirical: on the samples.
        expected: over the distribution.
        approximation: what the best of the class has above the noise.
        estimation: what the learned one has above the best of the class.
    """

    degree: int
    n: int
    empirical: float
    expected: float
    approximation: float
    estimation: float


def risks(degree: int, n: int, n_sets: int, points: nbdl.Tensor) -> Risks:
    """Means over data sets of n samples, x uniform on [-1, 1]; the distribution is a fine grid."""
    x = 2 * nbdl.rand(n_sets, n) - 1
    y = truth(x) + NOISE * nbdl.randn(n_sets, n)
    basis = powers(points, degree)
    best = basis @ fit_polynomials(points.unsqueeze(0), truth(points).unsqueeze(0), degree)[0]
    approximation = (best - truth(points)).square().mean()
    coefficients = fit_polynomials(x, y, degree)
    empirical = ((powers(x, degree) @ coefficients.unsqueeze(-1)).squeeze(-1) - y).square().mean()
    expected = (coefficients @ basis.T - truth(points)).square().mean() + NOISE**2
    return Risks(
        degree, n, empirical.item(), expected.item(), approximation.item(),
        (expected - NOISE**2 - approximation).item(),
    )  # fmt: skip


def draw_bands(figure: Any, x: Any, target: Any, predictions: dict[str, Any]) -> None:
    """Some hypotheses, their average, and a band of one standard deviation."""
    for axes, (name, values) in zip(figure.subplots(1, 2, sharey=True), predictions.items(), strict=True):
        axes.plot(x, values[:40].T, color="0.6", linewidth=0.6, alpha=0.6)
        mean, deviation = values.mean(0), values.std(0)
        axes.fill_between(x, mean - deviation, mean + deviation, color="C5", alpha=0.4, label="one std. dev.")
        axes.plot(x, mean, color="C1", label="average prediction")
        axes.plot(x, target, color="C0", linestyle="--", label="sin($\\pi x$)")
        axes.set(title=name, xlabel="x", ylim=(-3, 3), xticks=(-1, -0.5, 0, 0.5, 1))
    figure.axes[0].set_ylabel("y")
    figure.axes[0].legend(loc="upper left")


def draw_trade_off(figure: Any, found: list[Decomposition]) -> None:
    """Bias, variance and error over the degree."""
    axes = figure.subplots()
    for name, values, style in (
        ("bias$^2$", [d.bias for d in found], "o--"),
        ("variance", [d.variance for d in found], "s--"),
        ("E$_{out}$, measured", [d.error for d in found], "D-"),
        ("bias$^2$ + variance + noise", [d.bias + d.variance + d.noise for d in found], "k+"),
    ):
        axes.plot(DEGREES, values, style, label=name, markersize=10 if style == "k+" else 6)
    axes.axhline(NOISE**2, color="black", linestyle=":", label="noise")
    axes.set(xlabel="degree of the polynomial", ylabel="mean squared error", ylim=(0, 0.85), xticks=DEGREES)
    axes.set_title(f"{N_POINTS} points of sin($\\pi x$) with noise {NOISE}")
    axes.legend(ncols=2, fontsize=11)


def _rows(found: dict[str, Decomposition]) -> list[tuple[Any, ...]]:
    return [
        (name, d.bias, d.variance, d.noise, d.bias + d.variance + d.noise, d.error, f"{d.standard_error:.1g}")
        for name, d in found.items()
    ]


HEADER = ("", "bias^2", "variance", "noise", "sum", "E_out", "std. error")


def show(lesson: Lesson) -> None:
    """The program."""
    n_sets = 500 if lesson.quick else 20_000
    points = nbdl.linspace(-1, 1, 101)
    grid = (nbdl.arange(200) + 0.5) / 100 - 1  # the midpoints are the uniform distribution
    predictions = two_points(n_sets, grid)
    lesson.table(
        f"Two points of sin(pi x), {n_sets:,} data sets",
        HEADER,
        _rows({name: decompose(values, grid, 0.0) for name, values in predictions.items()}),
    )
    lesson.correction("the squared difference of the average prediction to the truth is bias^2, not the bias;"
                      " noisy targets add sigma^2 to E_out.")  # fmt: skip
    lesson.table(
        "The extremes (unbiased estimates: a bias^2 of 0 may come out negative)",
        HEADER,
        _rows(extremes(n_sets)),
    )
    found = trade_off(n_sets, points)
    lesson.table(
        f"Polynomials through {N_POINTS} noisy points",
        HEADER,
        _rows({f"degree {d}": f for d, f in zip(DEGREES, found, strict=True)}),
    )
    table = [risks(degree, n, n_sets // 10, grid) for degree in (1, 3, 5, 7) for n in (50, 200, 1000)]
    lesson.table(
        f"Empirical and expected risk; the risk above the noise {NOISE**2:.2f} in its two parts",
        ("degree", "samples", "empirical", "expected", "approximation", "estimation"),
        table,
    )
    lesson.picture(
        "bias_variance_bands",
        draw_bands,
        lecture.array(grid),
        lecture.array(truth(grid)),
        {name: lecture.array(values) for name, values in predictions.items()},
        size=(11, 5),
    )
    lesson.picture("bias_variance_trade_off", draw_trade_off, found)


def main(argv: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    return lecture.run(show, __doc__, argv, seed=1)


if __name__ == "__main__":
    sys.exit(main())

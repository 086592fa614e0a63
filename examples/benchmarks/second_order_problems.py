"""Test problems for minimization, with their standard starts and published minima.

Source: Moré, Garbow, Hillstrom (1981), Testing unconstrained optimization software, ACM TOMS 7; f is the sum
of squared residuals. Further minima than those in the paper, most of them known from later work, are listed
where methods end there. Himmelblau's function and the logistic regression are beside that set.

Those with bounds are from Hock, Schittkowski (1981), Test examples for nonlinear programming codes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

import nbdl
from nbdl import Tensor


class Problem(NamedTuple):
    """A function to minimize.

    Attributes:
        name: with the number of variables where it is free.
        residuals: what f is the sum of squares of; None where it is not one.
        function: f(x), a scalar tensor.
        start: the standard start.
        minima: the published values of local minima, and infima at infinity. That of the logistic regression
            was found by these programs.
        bounds: pairs (lower, upper), None for no bound; None where there are none at all.
        gtol: the tolerance of the gradient; smaller where the minimum is so flat that others say nothing.
    """

    name: str
    residuals: Callable[[Tensor], Tensor] | None
    function: Callable[[Tensor], Tensor]
    start: list[float]
    minima: tuple[float, ...]
    bounds: list[tuple[float | None, float | None]] | None = None
    gtol: float = 1e-6


def _constant(values: Sequence[float] | np.ndarray) -> Tensor:
    return nbdl.tensor(np.asarray(values, np.float64))


def _numbers(count: int) -> Tensor:
    """1, 2, ..., count."""
    return nbdl.arange(1, count + 1, dtype=nbdl.float64)


def _squares(
    name: str, residuals: Callable[[Tensor], Tensor], start: Sequence[float], *minima: float
) -> Problem:
    return Problem(name, residuals, lambda x: (residuals(x) ** 2).sum(), list(map(float, start)), minima)


def _function(
    name: str, function: Callable[[Tensor], Tensor], start: Sequence[float], *minima: float
) -> Problem:
    return Problem(name, None, function, list(map(float, start)), minima)


# ------------------------------------------------------------------------------------ 1 to 20: fixed sizes
def _rosenbrock(x: Tensor) -> Tensor:
    return nbdl.cat([10 * (x[1:] - x[:-1] ** 2), 1 - x[:-1]])


def _freudenstein_roth(x: Tensor) -> Tensor:
    a, b = x.unbind()
    return nbdl.stack([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])


def _powell_badly_scaled(x: Tensor) -> Tensor:
    a, b = x.unbind()
    return nbdl.stack([1e4 * a * b - 1, nbdl.exp(-a) + nbdl.exp(-b) - 1.0001])


def _brown_badly_scaled(x: Tensor) -> Tensor:
    a, b = x.unbind()
    return nbdl.stack([a - 1e6, b - 2e-6, a * b - 2])


def _beale(x: Tensor) -> Tensor:
    y = _constant([1.5, 2.25, 2.625])
    return y - x[0] * (1 - x[1] ** _numbers(3))


def _jennrich_sampson(x: Tensor) -> Tensor:
    i = _numbers(10)
    return 2 + 2 * i - (nbdl.exp(i * x[0]) + nbdl.exp(i * x[1]))


def _helical_valley(x: Tensor) -> Tensor:
    a, b, c = x.unbind()
    theta = nbdl.atan2(b, a) / (2 * math.pi)
    turned = nbdl.where(theta < -0.25, theta + 1, theta)  # arctan(b / a) for a > 0, plus 1/2 for a < 0
    return nbdl.stack([10 * (c - 10 * turned), 10 * (nbdl.sqrt(a * a + b * b) - 1), c])


def _bard(x: Tensor) -> Tensor:
    y = _constant([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])
    u = _numbers(15)
    v = 16 - u
    return y - (x[0] + u / (v * x[1] + nbdl.minimum(u, v) * x[2]))


def _gaussian(x: Tensor) -> Tensor:
    half = [0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521]
    y = _constant([*half, 0.3989, *half[::-1]])
    t = (8 - _numbers(15)) / 2
    return x[0] * nbdl.exp(-x[1] * (t - x[2]) ** 2 / 2) - y


def _meyer(x: Tensor) -> Tensor:
    y = _constant([34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820,
                   3307, 2872])  # fmt: skip
    t = 45 + 5 * _numbers(16)
    return x[0] * nbdl.exp(x[1] / (t + x[2])) - y


def _gulf(x: Tensor) -> Tensor:
    t = _numbers(99) / 100
    y = 25 + (-50 * nbdl.log(t)) ** (2 / 3)
    return nbdl.exp(-(nbdl.abs(y - x[1]) ** x[2]) / x[0]) - t


def _box(x: Tensor) -> Tensor:
    t = _numbers(10) / 10
    return nbdl.exp(-t * x[0]) - nbdl.exp(-t * x[1]) - x[2] * (nbdl.exp(-t) - nbdl.exp(-10 * t))


def _powell_singular(x: Tensor) -> Tensor:
    a, b, c, d = x.reshape(-1, 4).unbind(1)
    return nbdl.cat([a + 10 * b, math.sqrt(5) * (c - d), (b - 2 * c) ** 2, math.sqrt(10) * (a - d) ** 2])


def _wood(x: Tensor) -> Tensor:
    a, b, c, d = x.unbind()
    return nbdl.stack([
        10 * (b - a * a), 1 - a, math.sqrt(90) * (d - c * c), 1 - c, math.sqrt(10) * (b + d - 2),
        (b - d) / math.sqrt(10),
    ])  # fmt: skip


def _kowalik_osborne(x: Tensor) -> Tensor:
    y = _constant([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = _constant([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])
    return y - x[0] * (u * u + u * x[1]) / (u * u + u * x[2] + x[3])


def _brown_dennis(x: Tensor) -> Tensor:
    t = _numbers(20) / 5
    return (x[0] + t * x[1] - nbdl.exp(t)) ** 2 + (x[2] + x[3] * nbdl.sin(t) - nbdl.cos(t)) ** 2


def _osborne_1(x: Tensor) -> Tensor:
    y = _constant([0.844, 0.908, 0.932, 0.936, 0.925, 0.908, 0.881, 0.850, 0.818, 0.784, 0.751, 0.718, 0.685,
                   0.658, 0.628, 0.603, 0.580, 0.558, 0.538, 0.522, 0.506, 0.490, 0.478, 0.467, 0.457, 0.448,
                   0.438, 0.431, 0.424, 0.420, 0.414, 0.411, 0.406])  # fmt: skip
    t = 10 * (_numbers(33) - 1)
    return y - (x[0] + x[1] * nbdl.exp(-t * x[3]) + x[2] * nbdl.exp(-t * x[4]))


def _biggs_exp6(x: Tensor) -> Tensor:
    t = _numbers(13) / 10
    y = nbdl.exp(-t) - 5 * nbdl.exp(-10 * t) + 3 * nbdl.exp(-4 * t)
    return x[2] * nbdl.exp(-t * x[0]) - x[3] * nbdl.exp(-t * x[1]) + x[5] * nbdl.exp(-t * x[4]) - y


def _osborne_2(x: Tensor) -> Tensor:
    y = _constant([1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608,
                   0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661,
                   0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428,
                   0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559,
                   0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098,
                   0.054])  # fmt: skip
    t = (_numbers(65) - 1) / 10
    total = x[0] * nbdl.exp(-t * x[4])
    for height, width, place in ((1, 5, 8), (2, 6, 9), (3, 7, 10)):
        total = total + x[height] * nbdl.exp(-((t - x[place]) ** 2) * x[width])
    return y - total


def _watson(x: Tensor) -> Tensor:
    n = x.numel()
    t = (_numbers(29) / 29).unsqueeze(1)
    j = _numbers(n) - 1
    powers = t**j
    slopes = (j[1:] * x[1:] * powers[:, :-1]).sum(1)
    first = slopes - (powers * x).sum(1) ** 2 - 1
    return nbdl.cat([first, x[:1], (x[1] - x[0] ** 2 - 1).reshape(1)])


# ------------------------------------------------------------------------------------ 21 to 35: free sizes
def _penalty_1(x: Tensor) -> Tensor:
    return nbdl.cat([math.sqrt(1e-5) * (x - 1), ((x * x).sum() - 0.25).reshape(1)])


def _penalty_2(x: Tensor) -> Tensor:
    n, a = x.numel(), math.sqrt(1e-5)
    i = _numbers(n)
    e = nbdl.exp(x / 10)
    y = nbdl.exp(i[1:] / 10) + nbdl.exp((i[1:] - 1) / 10)
    weighted = ((n - i + 1) * x * x).sum().reshape(1)
    return nbdl.cat([x[:1] - 0.2, a * (e[1:] + e[:-1] - y), a * (e[1:] - math.exp(-0.1)), weighted - 1])


def _variably_dimensioned(x: Tensor) -> Tensor:
    total = (_numbers(x.numel()) * (x - 1)).sum().reshape(1)
    return nbdl.cat([x - 1, total, total * total])


def _trigonometric(x: Tensor) -> Tensor:
    n = x.numel()
    return n - nbdl.cos(x).sum() + _numbers(n) * (1 - nbdl.cos(x)) - nbdl.sin(x)


def _brown_almost_linear(x: Tensor) -> Tensor:
    n = x.numel()
    return nbdl.cat([x[:-1] + x.sum() - (n + 1), (x.prod() - 1).reshape(1)])


def _discrete_boundary(x: Tensor) -> Tensor:
    n = x.numel()
    h = 1 / (n + 1)
    zero = nbdl.zeros(1, dtype=nbdl.float64)
    left, right = nbdl.cat([zero, x[:-1]]), nbdl.cat([x[1:], zero])
    return 2 * x - left - right + h * h * (x + h * _numbers(n) + 1) ** 3 / 2


def _discrete_integral(x: Tensor) -> Tensor:
    n = x.numel()
    h = 1 / (n + 1)
    t = h * _numbers(n)
    cubes = (x + t + 1) ** 3
    before = nbdl.cumsum(t * cubes, 0)
    after = ((1 - t) * cubes).sum() - nbdl.cumsum((1 - t) * cubes, 0)
    return x + h * ((1 - t) * before + t * after) / 2


def _broyden_tridiagonal(x: Tensor) -> Tensor:
    zero = nbdl.zeros(1, dtype=nbdl.float64)
    return (3 - 2 * x) * x - nbdl.cat([zero, x[:-1]]) - 2 * nbdl.cat([x[1:], zero]) + 1


def _broyden_banded(x: Tensor) -> Tensor:
    n = x.numel()
    row, column = np.indices((n, n))
    near = _constant(((column != row) & (column >= row - 5) & (column <= row + 1)).astype(float))
    return x * (2 + 5 * x * x) + 1 - near @ (x * (1 + x))


def _linear_full_rank(x: Tensor) -> Tensor:
    mean = 2 * x.sum() / (2 * x.numel())
    return nbdl.cat([x - mean - 1, -mean.expand(x.numel()) - 1])


def _linear_rank_1(x: Tensor) -> Tensor:
    return _numbers(2 * x.numel()) * (_numbers(x.numel()) * x).sum() - 1


def _linear_rank_1_with_zeros(x: Tensor) -> Tensor:
    m, n = 2 * x.numel(), x.numel()
    inner = _numbers(m - 2) * (_numbers(n)[1:-1] * x[1:-1]).sum()  # (i - 1) sum j x_j for i = 2 .. m - 1
    return nbdl.cat([-nbdl.ones(1, dtype=nbdl.float64), inner - 1, -nbdl.ones(1, dtype=nbdl.float64)])


def _extended_rosenbrock(x: Tensor) -> Tensor:
    a, b = x.reshape(-1, 2).unbind(1)
    return nbdl.cat([10 * (b - a * a), 1 - a])


def _chebyquad(x: Tensor) -> Tensor:
    n = x.numel()
    shifted = 2 * x - 1
    before, now, rows = nbdl.ones_like(x), shifted, []
    for i in range(1, n + 1):
        rows.append(now.mean() - (0.0 if i % 2 else -1 / (i * i - 1)))
        before, now = now, 2 * shifted * now - before
    return nbdl.stack(rows)


# ------------------------------------------------------------------------------------------------- others
def _himmelblau(x: Tensor) -> Tensor:
    a, b = x.unbind()
    return nbdl.stack([a * a + b - 11, a + b * b - 7])


def _logistic_regression(x: Tensor) -> Tensor:
    random = np.random.default_rng(0)
    features = random.standard_normal((200, 20))
    signs = np.sign(features @ random.standard_normal(20) + random.standard_normal(200))
    margins = _constant(features * signs[:, None]) @ x
    return nbdl.nn.functional.softplus(-margins).mean() + 5e-3 * (x * x).sum()


def problems() -> list[Problem]:
    """All problems."""
    rosenbrock = [
        _squares(f"Rosenbrock {n}", _rosenbrock, [-1.2, 1.0] * (n // 2), 0.0, 3.98658, 3.98662)
        for n in (2, 10, 50, 100)
    ]
    n = 10
    h = 1 / (n + 1)
    boundary = [i * h * (i * h - 1) for i in range(1, n + 1)]
    return [
        *rosenbrock,
        _squares("Freudenstein and Roth", _freudenstein_roth, [0.5, -2], 0.0, 48.9842),
        _squares("Powell badly scaled", _powell_badly_scaled, [0, 1], 0.0),
        _squares("Brown badly scaled", _brown_badly_scaled, [1, 1], 0.0),
        _squares("Beale", _beale, [1, 1], 0.0),
        _squares("Jennrich and Sampson", _jennrich_sampson, [0.3, 0.4], 124.362, 259.580),
        _squares("helical valley", _helical_valley, [-1, 0, 0], 0.0),
        _squares("Bard", _bard, [1, 1, 1], 8.21487e-3, 17.4286),
        _squares("Gaussian", _gaussian, [0.4, 1, 0], 1.12793e-8),
        _squares("Meyer", _meyer, [0.02, 4000, 250], 87.9458),
        _squares("Gulf", _gulf, [5, 2.5, 0.15], 0.0, 0.038),
        _squares("Box", _box, [0, 10, 20], 0.0),
        _squares("Powell singular", _powell_singular, [3, -1, 0, 1], 0.0),
        _squares("Wood", _wood, [-3, -1, -3, -1], 0.0),
        _squares("Kowalik and Osborne", _kowalik_osborne, [0.25, 0.39, 0.415, 0.39], 3.07505e-4, 1.02734e-3),
        _squares("Brown and Dennis", _brown_dennis, [25, 5, -5, -1], 85822.2),
        _squares("Osborne 1", _osborne_1, [0.5, 1.5, -1, 0.01, 0.02], 5.46489e-5),
        _squares("Biggs EXP6", _biggs_exp6, [1, 2, 1, 1, 1, 1], 0.0, 5.65565e-3, 0.242677),
        _squares(
            "Osborne 2", _osborne_2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5], 4.01377e-2, 1.78981
        ),
        _squares("Watson 6", _watson, [0] * 6, 2.28767e-3),
        _squares("Watson 9", _watson, [0] * 9, 1.39976e-6)._replace(gtol=1e-8),
        _squares("Watson 12", _watson, [0] * 12, 4.72238e-10)._replace(gtol=1e-8),
        _squares("extended Rosenbrock 20", _extended_rosenbrock, [-1.2, 1.0] * 10, 0.0),
        _squares("Powell singular 20", _powell_singular, [3, -1, 0, 1] * 5, 0.0),
        _squares("penalty I 10", _penalty_1, range(1, 11), 7.08765e-5),
        _squares("penalty II 4", _penalty_2, [0.5] * 4, 9.37629e-6),
        _squares("variably dimensioned 10", _variably_dimensioned, [1 - i / 10 for i in range(1, 11)], 0.0),
        _squares("trigonometric 10", _trigonometric, [0.1] * 10, 0.0, 2.79506e-5),
        _squares("Brown almost linear 10", _brown_almost_linear, [0.5] * 10, 0.0, 1.0),
        _squares("discrete boundary value 10", _discrete_boundary, boundary, 0.0),
        _squares("discrete integral equation 10", _discrete_integral, boundary, 0.0),
        _squares("Broyden tridiagonal 10", _broyden_tridiagonal, [-1] * 10, 0.0),
        _squares("Broyden banded 10", _broyden_banded, [-1] * 10, 0.0),
        _squares("linear full rank 10", _linear_full_rank, [1] * 10, 10.0),
        _squares("linear rank 1 10", _linear_rank_1, [1] * 10, 190 / 41),
        _squares("linear rank 1 with zeros 10", _linear_rank_1_with_zeros, [1] * 10, 227 / 37),
        _squares("Chebyquad 8", _chebyquad, [i / 9 for i in range(1, 9)], 3.51687e-3),
        _squares("Himmelblau", _himmelblau, [0, 0], 0.0),
        _function("logistic regression 20", _logistic_regression, [0] * 20, 0.250287162059),
    ]


# -------------------------------------------------------------------------------------------- with bounds
def _hs_3(x: Tensor) -> Tensor:
    return x[1] + 1e-5 * (x[1] - x[0]) ** 2


def _hs_4(x: Tensor) -> Tensor:
    return (x[0] + 1) ** 3 / 3 + x[1]


def _hs_5(x: Tensor) -> Tensor:
    a, b = x.unbind()
    return nbdl.sin(a + b) + (a - b) ** 2 - 1.5 * a + 2.5 * b + 1


def _hs_25(x: Tensor) -> Tensor:
    i = _numbers(99)
    u = 25 + (-50 * nbdl.log(0.01 * i)) ** (2 / 3)
    return nbdl.exp(-((u - x[1]).abs() ** x[2]) / x[0]) - 0.01 * i


def _hs_45(x: Tensor) -> Tensor:
    return 2 - x.prod() / 120


def _hs_110(x: Tensor) -> Tensor:
    return (nbdl.log(x - 2) ** 2 + nbdl.log(10 - x) ** 2).sum() - x.prod() ** 0.2


def bounded_problems() -> list[Problem]:
    """Those of Hock and Schittkowski that have no constraints but bounds; the start of HS 2 is put within."""
    wide: list[tuple[float | None, float | None]] = [(-10, 10)] * 4
    return [
        _squares("HS 1", _rosenbrock, [-2, 1], 0.0)._replace(bounds=[(None, None), (-1.5, None)]),
        _squares("HS 2", _rosenbrock, [-2, 1.5], 0.0504261879, 4.9412293)._replace(
            bounds=[(None, None), (1.5, None)]
        ),
        _function("HS 3", _hs_3, [10, 1], 0.0)._replace(bounds=[(None, None), (0, None)]),
        _function("HS 4", _hs_4, [1.125, 0.125], 8 / 3)._replace(bounds=[(1, None), (0, None)]),
        _function("HS 5", _hs_5, [0, 0], -math.sqrt(3) / 2 - math.pi / 3)._replace(
            bounds=[(-1.5, 4), (-3, 3)]
        ),
        _squares("HS 25", _hs_25, [100, 12.5, 3], 0.0)._replace(bounds=[(0.1, 100), (0, 25.6), (0, 5)]),
        _squares("HS 38", _wood, [-3, -1, -3, -1], 0.0)._replace(bounds=wide),
        _function("HS 45", _hs_45, [2] * 5, 1.0)._replace(bounds=[(0, i) for i in range(1, 6)]),
        _function("HS 110", _hs_110, [9] * 10, -45.77846971)._replace(bounds=[(2.001, 9.999)] * 10),
    ]


# ---------------------------------------------------------------------------------------- without a minimum
class Ending(NamedTuple):
    """A problem that has no minimum where a method looks for it, or does not look like one.

    Attributes:
        name: what it is.
        function: f(x), a scalar tensor.
        start: where methods begin.
        honest: the statuses that say the truth, for methods that know the gradient only.
        curved: likewise, for methods that know the Hessian.
        note: what their message says then, too.
    """

    name: str
    function: Callable[[Tensor], Tensor]
    start: list[float]
    honest: tuple[str, ...]
    curved: tuple[str, ...]
    note: str = ""


def _deep_linear(x: Tensor) -> Tensor:
    """A linear net 2-2-2-2 that is to become the rotation by 90 degrees."""
    a, b, c = x.reshape(3, 2, 2).unbind()
    target = nbdl.tensor([[0.0, -1.0], [1.0, 0.0]], dtype=nbdl.float64)
    return ((a @ b @ c - target) ** 2).sum()


def endings() -> list[Ending]:
    """Functions that are NaN, unbounded, flat, or start at a saddle point."""
    lost = ("NON_FINITE",)
    done = ("CONVERGED",)
    falls = ("UNBOUNDED", "MAX_ITERATIONS")
    singular = "singular"
    return [
        Ending("NaN at the start", lambda x: nbdl.log(x).sum(), [-1.0, 2.0], lost, lost),
        Ending("infinite at the start", lambda x: (1 / x).sum(), [0.0, 1.0], lost, lost),
        Ending("NaN on the way", lambda x: (x - nbdl.log(x)).sum(), [50.0, 1e-3], done, done),
        Ending("a plane", lambda x: x.sum(), [1.0, 2.0], falls, falls),  # no method may say that it is done
        Ending("-x^4", lambda x: -(x**4).sum(), [1.0, 2.0], ("UNBOUNDED",), ("UNBOUNDED",)),
        Ending("x^2 - y^2 at 0", lambda x: x[0] ** 2 - x[1] ** 2, [0.0, 0.0], done, ("UNBOUNDED",)),
        Ending("x^2 - y^2 at (1, 0)", lambda x: x[0] ** 2 - x[1] ** 2, [1.0, 0.0], done, ("UNBOUNDED",)),
        Ending(
            "monkey saddle at 0", lambda x: x[0] ** 3 - 3 * x[0] * x[1] ** 2, [0.0, 0.0], done, done, singular
        ),
        Ending("a deep linear net at 0", _deep_linear, [0.0] * 12, done, done, singular),
        Ending("flat", lambda x: 0 * x.sum(), [1.0, 2.0], done, done, singular),
    ]

"""Quadratic models in the basis of their eigenvectors, where the multiplier is the root of one equation.

The minimizers of g^T p + p^T B p / 2 under a constraint or penalty on |p| are p = -(B + nu I)^{-1} g. With
eigenvalues w of B and coefficients c of g in the basis of the eigenvectors, |p(nu)| falls monotonically; what
the constraint wants is a length that does not fall.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

_RELATIVE = 1e-13  # of the multiplier
_MAX_ITERATIONS = 200


@np.errstate(over="ignore", invalid="ignore")
def trust_region_step(
    values: np.ndarray, coefficients: np.ndarray, radius: float
) -> tuple[np.ndarray, float]:
    """The global minimizer within a radius.

    Source: Moré & Sorensen (1983), Computing a trust region step; Nocedal & Wright (2006), theorem 4.1 and
    eqs. (4.38) to (4.45) with the hard case.

    Args:
        values: eigenvalues in ascending order (n,).
        coefficients: of the gradient (n,).
        radius: of the trust region.

    Returns:
        The coefficients of the step (n,), and the multiplier nu.
    """
    if values[0] > 0:
        inside = -coefficients / values
        if np.linalg.norm(inside) <= radius:
            return inside, 0.0
    return _shifted_step(values, coefficients, lambda nu: radius)


@np.errstate(over="ignore", invalid="ignore")
def cubic_step(values: np.ndarray, coefficients: np.ndarray, weight: float) -> tuple[np.ndarray, float]:
    """The global minimizer of g^T p + p^T B p / 2 + weight |p|^3 / 3.

    Source: Cartis, Gould, Toint (2011), Adaptive cubic regularisation methods for unconstrained optimization,
        part
    I, theorem 3.1: nu = weight |p|.

    Args:
        values: eigenvalues in ascending order (n,).
        coefficients: of the gradient (n,).
        weight: sigma, positive.

    Returns:
        The coefficients of the step (n,), and nu.
    """
    return _shifted_step(values, coefficients, lambda nu: nu / weight)


@np.errstate(over="ignore", invalid="ignore")
def model_decrease(values: np.ndarray, coefficients: np.ndarray, step: np.ndarray) -> float:
    """-m(p) of the quadratic model."""
    return float(-(coefficients @ step + step @ (values * step) / 2))


def _shifted_step(
    values: np.ndarray, coefficients: np.ndarray, wanted: Callable[[float], float]
) -> tuple[np.ndarray, float]:
    """The step of the nu >= max(0, -w_min) for which its length is ``wanted(nu)``."""
    floor = max(0.0, -float(values[0]))
    scale = float(abs(values).max()) or 1.0
    near = values + floor <= 1e-14 * scale  # eigenvectors of the least eigenvalue, where it is not positive
    if np.linalg.norm(coefficients[near]) <= 1e-14 * np.linalg.norm(coefficients):
        step = np.zeros_like(coefficients)
        step[~near] = -coefficients[~near] / (values[~near] + floor)
        missing = wanted(floor) ** 2 - step @ step
        if missing >= 0:  # the hard case: the rest of the length lies along an eigenvector
            if near.any() and values[0] < 0:
                step[np.flatnonzero(near)[0]] = math.sqrt(missing)
            return step, floor
    low, high = _bracket(values, coefficients, wanted, floor, scale)
    nu, width = high, high - low
    for _ in range(_MAX_ITERATIONS):
        size, goal = _length(values, coefficients, nu), wanted(nu)
        low, high = (nu, high) if size > goal else (low, nu)
        if high - low <= _RELATIVE * high or size == goal:
            break
        nu = _newton(values, coefficients, nu, size, wanted)
        if not low < nu < high or high - low > 0.5 * width:
            nu = math.sqrt(low * high) if low > 0.01 * high else low + 0.1 * (high - low)
        width = high - low
    return -coefficients / (values + high), high


def _length(values: np.ndarray, coefficients: np.ndarray, nu: float) -> float:
    with np.errstate(divide="ignore", over="ignore"):
        return float(np.linalg.norm(coefficients / (values + nu)))


def _bracket(
    values: np.ndarray, coefficients: np.ndarray, wanted: Callable[[float], float], floor: float, scale: float
) -> tuple[float, float]:
    """Multipliers between which the step has the wanted length."""
    low, high = floor, floor + scale
    while _length(values, coefficients, high) > wanted(high):
        low, high = high, floor + 4 * (high - floor)
    return low, high


def _newton(
    values: np.ndarray, coefficients: np.ndarray, nu: float, size: float, wanted: Callable[[float], float]
) -> float:
    """A Newton step for 1 / |p(nu)| = 1 / wanted(nu), nearly linear: Nocedal & Wright (2006), eq. (4.43).

    What is wanted is constant or proportional to nu, so that its slope is a difference quotient.
    """
    with np.errstate(all="ignore"):
        goal, length = np.float64(wanted(nu)), np.float64(size)
        goal_slope = (wanted(2 * nu) - goal) / nu if nu > 0 else 0.0
        slope = (coefficients**2 / (values + nu) ** 3).sum() / length**3
        return float(nu - (1 / length - 1 / goal) / (slope + goal_slope / goal**2))

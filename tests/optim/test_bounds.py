"""Bounds as SciPy's functions take them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

import nbdl
from nbdl.optim import least_squares, minimize

PAIRS = {
    "list of tuples": [(-2, 0.5), (0.1, None)],
    "tuple of lists": ([-2, 0.5], [0.1, np.inf]),
    "array": np.array([[-2, 0.5], [0.1, np.inf]]),
    "Bounds": scipy.optimize.Bounds([-2, 0.1], [0.5, np.inf]),
}


@pytest.mark.parametrize("bounds", [*PAIRS.values(), zip([-2, 0.1], [0.5, None], strict=True)])
def test_minimize_takes_a_pair_for_each_variable(bounds):
    found = minimize(lambda x: (x - 1).square().sum(), np.array([0.0, 0.2]), method="L-BFGS-B", bounds=bounds)
    np.testing.assert_allclose(found.x, [0.5, 1])


@pytest.mark.parametrize("bounds", [([-2, 0.1], [0.5, 2]), [(-2, 0.1), (0.5, 2)], PAIRS["Bounds"], (-2, 0.5)])
def test_least_squares_takes_all_lower_and_all_upper_ones(bounds):
    found = least_squares(lambda x: x - nbdl.tensor([1.0, 0.3]), [-1.2, 0.2], bounds=bounds)
    truth = scipy.optimize.least_squares(lambda x: x - [1.0, 0.3], [-1.2, 0.2], bounds=bounds)
    np.testing.assert_allclose(found.x, truth.x, atol=1e-6)


def test_too_few_pairs():
    with pytest.raises(
        ValueError, match="minimize: bounds must have one pair for each of the 3 variables, got 2"
    ):
        minimize(lambda x: x.sum(), np.zeros(3), method="L-BFGS-B", bounds=PAIRS["list of tuples"])

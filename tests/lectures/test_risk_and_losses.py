"""Groups 17 to 24: bias and variance, losses, information."""

from __future__ import annotations

import math

import bias_variance
import losses
import pytest

import nbdl
from nbdl.utils import convexity

pytestmark = pytest.mark.usefixtures("exact")


def test_two_points_of_a_sine():
    """E_out = bias^2 + variance to Monte-Carlo error; for constants 1/2 and 1/4 exactly."""
    grid = (nbdl.arange(100) + 0.5) / 50 - 1
    found = {
        name: bias_variance.decompose(values, grid, 0.0)
        for name, values in bias_variance.two_points(4000, grid).items()
    }
    h0, h1 = found.values()
    assert h0.bias == pytest.approx(0.5, abs=0.005)
    assert h0.variance == pytest.approx(0.25, abs=0.02)
    assert h1.bias == pytest.approx(0.21, abs=0.03)
    assert h1.variance == pytest.approx(1.69, abs=0.15)
    for part in found.values():
        # Without noise and with one grid the identity holds exactly, for the biased variance.
        assert part.error == pytest.approx(part.bias + part.variance, rel=1e-3)


def test_the_decomposition_of_noisy_targets():
    for part in bias_variance.trade_off(400, nbdl.linspace(-1, 1, 41)):
        whole = part.bias + part.variance + part.noise
        assert abs(part.error - whole) < 5 * part.standard_error


def test_the_extremes():
    constant, interpolator = bias_variance.extremes(4000).values()
    assert constant.variance == 0
    assert constant.bias > 0.4
    assert interpolator.variance == pytest.approx(interpolator.noise, rel=0.03)
    assert abs(interpolator.bias) < 0.001
    assert interpolator.error == pytest.approx(2 * interpolator.noise, rel=0.03)


def test_bias_falls_and_variance_rises_with_the_degree():
    found = bias_variance.trade_off(400, nbdl.linspace(-1, 1, 41))
    assert [d.variance for d in found] == sorted(d.variance for d in found)
    assert found[0].bias > found[1].bias > found[3].bias > found[5].bias
    assert found.index(min(found, key=lambda d: d.error)) == 3


def test_risk_is_approximation_and_estimation():
    grid = (nbdl.arange(100) + 0.5) / 50 - 1
    small, large = (bias_variance.risks(3, n, 100, grid) for n in (50, 800))
    assert small.approximation == pytest.approx(large.approximation)
    assert large.estimation == pytest.approx(bias_variance.NOISE**2 * 4 / 800, rel=0.4)
    assert small.empirical < bias_variance.NOISE**2 + small.approximation < small.expected


def test_worked_scores():
    found = losses.worked_scores()
    assert found["probability"] == pytest.approx(0.1300, abs=5e-5)
    assert found["cross-entropy"] == pytest.approx(2.0404, abs=5e-5)
    assert found["hinge"] == pytest.approx(2.9)


@pytest.mark.parametrize("row", range(8))
def test_losses_are_their_formulas(row):
    _, _, library, by_hand = losses.definitions()[row]
    assert library == pytest.approx(by_hand, rel=1e-12)


def test_products_underflow_and_sums_of_logs_do_not():
    product, logarithms, exact = losses.likelihoods(1000)
    assert product == 0
    assert logarithms == pytest.approx(exact)
    assert exact == pytest.approx(1000 * math.log(0.3))


def test_information():
    found = dict(losses.information(5))
    assert 0 < found["H(p)"] < found["H(p, q)"]
    divergence = found["KL(p || q) = H(p, q) - H(p)"]
    assert divergence == pytest.approx(found["H(p, q)"] - found["H(p)"])
    assert found["H(p, p) - H(p)"] == pytest.approx(0, abs=1e-15)
    assert found["H(frequencies, model)"] == pytest.approx(found["-(1/N) log-likelihood"])


def test_matching_pairs_have_the_gradient_output_minus_target():
    squared, absolute, *others = losses.matching_pairs()
    for _, _, gradient, difference in (squared, *others[:2]):
        assert gradient == pytest.approx(difference)
    assert absolute[2:] == (-1, squared[3])  # the sign of output - target
    for _, _, gradient, difference in others[2:]:
        assert abs(gradient) < 1e-3 * abs(difference)


def test_only_the_saturated_loss_is_refuted():
    points = 6 * nbdl.randn(500)
    refuted = [
        name
        for name, loss in losses.ONE_SCORE.items()
        if convexity.convex_function_counterexample(loss, points, 2000)
    ]
    assert refuted == ["sigmoid, then squared error"]

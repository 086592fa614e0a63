"""Groups 25 to 28: activations, vanishing gradients and dying units, radial basis functions."""

from __future__ import annotations

import math

import activations
import pytest
import rbf_networks
import saturation

import nbdl
from nbdl import nn

E = math.e
# Values and derivatives at 1, from the formulas of the lecture.
AT_ONE = {
    "identity": (1, 1),
    "binary step": (1, 0),
    "sigmoid": (1 / (1 + 1 / E), E / (1 + E) ** 2),
    "tanh": (math.tanh(1), 1 - math.tanh(1) ** 2),
    "Soboleva tanh": (
        (E**0.8 - E**-0.9) / (E**1.2 + E**-1.1),
        (0.8 * E**0.8 + 0.9 * E**-0.9) / (E**1.2 + E**-1.1)
        - (E**0.8 - E**-0.9) * (1.2 * E**1.2 - 1.1 * E**-1.1) / (E**1.2 + E**-1.1) ** 2,
    ),
    "ReLU": (1, 1),
    "leaky ReLU": (1, 1),
    "PReLU": (1, 1),
    "GELU": (
        (1 + math.erf(2**-0.5)) / 2,
        (1 + math.erf(2**-0.5)) / 2 + E**-0.5 / math.sqrt(2 * math.pi),
    ),
    "ELU": (1, 1),
    "SELU": (1.0507009873554805, 1.0507009873554805),
    "SiLU": (1 / (1 + 1 / E), 1 / (1 + 1 / E) + E / (1 + E) ** 2),
    "Gaussian": (1 / E, -2 / E),
    "softplus": (math.log(1 + E), E / (1 + E)),
}


pytestmark = pytest.mark.usefixtures("exact")


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_activations_at_one(name):
    value, slope = AT_ONE[name]
    function = activations.ACTIVATIONS[name].function
    assert function(nbdl.tensor([1.0])).item() == pytest.approx(value)
    assert activations.derivative(function, [1.0]) == pytest.approx([slope])


def test_slopes_at_zero():
    """The lecture's choice is 0 for ReLU; tanh has 1, the sigmoid 1/4."""
    found = {name: activations.derivative(activations.ACTIVATIONS[name].function, [0.0])[0]
             for name in ("ReLU", "tanh", "sigmoid")}  # fmt: skip
    assert found == {"ReLU": 0, "tanh": 1, "sigmoid": 0.25}


def test_softmax_jacobian():
    by_tape, by_formula = activations.softmax_jacobian(nbdl.tensor([1.0, 2.0, 0.5]))
    assert nbdl.allclose(by_tape, by_formula)
    assert by_tape.sum(1).abs().max().item() < 1e-15


def test_maxout_of_lines_is_their_maximum():
    x = nbdl.linspace(-4, 4, 9)
    expected = [max(-v - 1, 0.3 * v, 2 * v - 3) for v in x.tolist()]
    assert activations.maxout_of_lines(x).tolist() == pytest.approx(expected)


def test_a_slope_is_learned():
    assert activations.learned_slope(100) == pytest.approx(0.01, abs=1e-6)


def test_gradients_vanish_where_activations_saturate():
    norms = {name: saturation.gradient_norms(10, case) for name, case in saturation.CASES.items()}
    ratios = {name: values[0] / values[-1] for name, values in norms.items()}
    assert ratios["sigmoid"] < 0.25**9 * 100
    assert ratios["tanh, saturated by biases"] < 1e-2
    assert all(0.02 < ratios[name] < 50 for name in ("tanh", "ReLU, gain sqrt 2", "SELU"))


def test_dead_units_are_counted():
    units = nbdl.tensor([[0.0, 1.0, -1.0, 0.0], [0.0, 0.0, -2.0, 3.0]])
    assert saturation.dead_share([units, units[:, :1]]) == pytest.approx(3 / 5)


def test_a_dead_layer_learns_nothing():
    layer = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    with nbdl.no_grad():
        layer[0].bias.fill_(-100.0)
    out = layer(nbdl.randn(10, 3))
    out.sum().backward()
    assert saturation.dead_share([out]) == 1
    assert layer[0].weight.grad.abs().max().item() == 0


def test_large_rates_kill_units():
    careful, bold = (saturation.train(nn.ReLU(), rate, 15, seed=0) for rate in (0.05, 0.4))
    assert careful.dead[-1] < 0.2 < bold.dead[-1]


TASKS = ["regression, g = identity, l2", "two classes, g = sigmoid, BCE", "three classes, g = softmax, CE"]


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("steps", [2, 3])
def test_networks_learn_their_task(name, steps):
    task = rbf_networks.make_tasks(90)[name]
    _, score = rbf_networks.train(task, "k-means", steps, 30, seed=0)
    assert score < 0.1 if "regression" in name else score > 0.85


def test_k_means_quantizes_better_than_chance():
    x, _ = rbf_networks.moons(60)
    errors = {method: rbf_networks.quantization(x, method, 0)[1] for method in rbf_networks.METHODS}
    assert max(errors["k-means"], errors["growing neural gas"]) < min(errors["random"], errors["k-means++"])


def test_more_functions_approximate_better():
    errors = rbf_networks.approximation_errors([4, 8, 16])
    assert errors[0] > 10 * errors[1] > 100 * errors[2] / 10
    assert errors[2] < 1e-3


def test_bumps_make_a_gaussian():
    x = nbdl.linspace(-4, 4, 101)
    exact = (-x.square() / 2).exp()
    gaps = [(rbf_networks.bumps_to_gaussian(x, n) - exact).abs().max().item() for n in (1, 4, 40)]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.05

"""Groups 1 to 16: networks, the training cycle, stochastic gradients, rates and batch sizes."""

from __future__ import annotations

from functools import partial
from statistics import fmean

import networks
import pytest
import rates_and_batches
import stochastic
import training_cycle
import universal_approximation
import width_and_depth

import nbdl
from nbdl import nn

pytestmark = pytest.mark.usefixtures("exact")


def test_layers_are_their_formulas():
    rows = networks.written_out(nbdl.randn(5, 4))
    assert [name for name, _, _ in rows] == ["sigmoid layer", "tanh layer", "ReLU layer", "residual layer"]
    assert max(difference for _, _, difference in rows) < 1e-14


def test_features_are_the_composition():
    network = networks.perceptron([2, 8, 3], nn.Tanh(), nn.Softmax(dim=1))
    y = nbdl.randn(5, 2)
    features = networks.hidden_features(network, y)
    assert [tuple(u.shape) for u in features] == [(5, 2), (5, 8), (5, 3)]
    assert nbdl.equal(features[-1], network(y))
    assert features[-1].sum(1).tolist() == pytest.approx([1] * 5)


def test_a_convolution_is_a_matrix():
    theta, K, forward, adjoint = networks.convolution()
    assert tuple(K.shape) == (16, 36)
    assert int((K != 0).sum()) == 16 * theta.numel()
    assert max(forward, adjoint) < 1e-12


def test_networks_side_by_side_train_as_each_alone():
    """Zero-padded widths in one vmap give what the plain loop gives for each of them."""
    widths, depth, epochs, seed = (2, 4), 2, 2, 7
    data = [(x[:20], y[:20]) for x, y in width_and_depth.make_data(20)]
    nbdl.manual_seed(1)
    state = nbdl.get_rng_state()
    together = width_and_depth.train(widths, depth, data, epochs, seed)
    orders = []
    width_and_depth.side_by_side(widths, depth, seed)  # draws from the seed, as `train` did before its epochs
    for _ in range(epochs):
        orders.append(nbdl.randperm(20))
    nbdl.set_rng_state(state)
    for k, width in enumerate(widths):
        nbdl.manual_seed(seed)
        network = width_and_depth.network(width, depth)
        optimizer = nbdl.optim.Adam(network.parameters(), lr=width_and_depth.RATE)
        x, y = data[0]
        for order in orders:
            for rows in order.split(width_and_depth.BATCH_SIZE):
                optimizer.zero_grad()
                nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
                optimizer.step()
        alone = [nn.functional.mse_loss(network(x), y).item() for x, y in data]
        assert together[-1, k].tolist() == pytest.approx(alone, rel=1e-10)
        assert together[-1, k, 0] < together[0, k, 0]


@pytest.mark.parametrize("dims", [1, 2])
def test_wider_networks_approximate_better(dims):
    f = universal_approximation.wave if dims == 1 else universal_approximation.hill
    points = universal_approximation.grid(dims, 301 if dims == 1 else 25)
    fits = [
        universal_approximation.width_for(
            eps, partial(universal_approximation.random_features, f, points), f, dims
        )
        for eps in (0.2, 0.05)
    ]
    assert fits[0].width < fits[1].width
    assert all(fit.error <= fit.eps for fit in fits)


def test_the_staircase_keeps_its_bound():
    """Between two steps the function differs from the staircase by at most its change over two of them."""
    width = 64
    f = universal_approximation.wave
    net = universal_approximation.staircase(f, width)
    values = f(nbdl.linspace(0, 1, width).unsqueeze(1))
    assert universal_approximation.error(f, net, 1) <= 2 * values.diff().abs().max().item()
    with pytest.raises(ValueError, match=r"width_for: 8 units do not reach 0.001"):
        universal_approximation.width_for(1e-3, partial(universal_approximation.staircase, f), f, 1, most=8)


def test_both_loops_are_the_same_and_repeat():
    y, c = training_cycle.sample(40)
    runs = [
        training_cycle.weights_after(make(y, c, 16), seed, epochs=2)
        for make, seed in (
            (training_cycle.partition, 3), (training_cycle.loader, 3), (training_cycle.partition, 4),
        )
    ]  # fmt: skip
    assert nbdl.equal(runs[0], runs[1])
    assert not nbdl.allclose(runs[0], runs[2])


def test_full_batch_repeats_bit_for_bit(backend):
    y, c = training_cycle.sample(40)
    first, again = (training_cycle.weights_after(training_cycle.full_batch(y, c), 3, 3) for _ in range(2))
    assert nbdl.equal(first, again)


def test_gradient_of_the_regularised_batch():
    """(1 / M) sum grad L_i + lambda grad R, summed by hand."""
    y, c = training_cycle.sample(6)
    net = nn.Linear(2, 1)
    training_cycle.regularised(net, y, c).backward()
    by_hand = nbdl.zeros_like(net.weight)
    for k in range(6):
        residual = net(y[k : k + 1]) - c[k : k + 1]
        by_hand += (residual.T @ y[k : k + 1]).detach() / 6
    by_hand += 2 * training_cycle.PENALTY * net.weight.detach()
    assert nbdl.allclose(net.weight.grad, by_hand)


@pytest.mark.parametrize("size", [1, 5, 20])
def test_mini_batch_gradients_are_unbiased(size):
    problem = stochastic.noisy_line(20)
    off, noise = stochastic.gradient_noise(problem, size, n_epochs=2)
    assert off < 1e-14
    assert (noise > 0.1) == (size < 20)


def test_single_samples_descend_fastest_and_the_full_batch_smoothly():
    problem = stochastic.noisy_line(40)
    ends = {}
    for size in (1, 40):
        _, gaps = stochastic.descend(problem, stochastic.batches(40, size, 3), 0.1, 40)
        ends[size] = gaps
    assert ends[1][1] < 0.1 * ends[40][1]
    assert ends[40] == sorted(ends[40], reverse=True)


def test_step_sizes_of_robbins_and_monro():
    runs = {name: stochastic.noisy_quadratic(make, 300, 200) for name, make in stochastic.SCHEDULES.items()}
    ends = {name: run.gaps[-1] for name, run in runs.items()}
    for name in ("1 / t", "1 / t^0.6"):
        assert ends[name] < 0.2 * min(ends["constant"], ends["1 / t^2"])
    assert all(0.05 * run.right < run.left < run.right for run in runs.values())
    # A constant rate a stays at sum a noise^2 / (2 (2 - a lambda)) above the minimum.
    a = stochastic.FIRST_RATE
    stationary = sum(a * stochastic.NOISE**2 / (2 * (2 - a * c)) for c in stochastic.CURVATURES)
    assert fmean(runs["constant"].gaps[100:]) == pytest.approx(stationary, rel=0.05)


def test_ten_copies_are_ten_epochs_to_online_learning_only():
    found = stochastic.redundancy(50, 0.03)
    gaps = {name: gaps for name, (_, gaps) in found.items()}
    assert {seen[-1] for seen, _ in found.values()} == {500}
    large, small = gaps["online, 10 copies, 1 epoch"], gaps["online, 10 epochs"]
    middle = len(large) // 3
    assert large[middle] == pytest.approx(small[middle], rel=0.5)
    assert large[middle] < 0.2 * gaps["full batch, 10 epochs"][-1]
    assert len(gaps["full batch, 10 copies, 1 epoch"]) == 2


def test_the_largest_stable_rate_is_two_over_the_curvature():
    exact, found = rates_and_batches.stable_rates()
    assert exact == pytest.approx(0.25)
    assert found == pytest.approx(0.25, rel=0.02)
    assert rates_and_batches.bowl_losses(0.249, 60)[-1] < 5 < rates_and_batches.bowl_losses(0.26, 60)[-1]


def test_gradient_noise_falls_with_the_batch():
    problem = rates_and_batches.Problem(0)
    n = rates_and_batches.N
    noise = {size: rates_and_batches.gradient_noise(problem, size) for size in (1, 16, n)}
    assert noise[16] == pytest.approx(noise[1] * (n - 16) / ((n - 1) * 16), rel=0.2)
    assert noise[n] < 1e-25

"""Groups 37 to 49: convexity, optimizers, the worked regression, schedules, second order, classifiers."""

from __future__ import annotations

import math

import classifiers
import convexity
import linear_regression
import numpy as np
import optimizer_paths
import optimizers
import pytest
import schedules
import second_order

import nbdl
from nbdl import optim

pytestmark = pytest.mark.usefixtures("exact")


# 37 to 39: convexity, stationarity, log-sum-exp


def test_only_what_is_not_convex_is_refuted():
    sets, functions = convexity.refutations(2000)
    assert [name for name, verdict in sets if verdict != "not refuted"] == ["outside of a ball |x| >= 1"]
    assert [name for name, chord, _ in functions if chord != "not refuted"] == ["x_1 x_2", "sum sin x"]
    assert [name for name, _, tangent in functions if tangent == "refuted"] == ["x_1 x_2", "sum sin x"]


def test_a_minimum_in_a_box():
    inside, corner = convexity.constrained(3.0, 500), convexity.constrained(1.0, 500)
    assert inside.x.tolist() == pytest.approx([21 / 11, 2 / 11])  # where the gradient is 0
    assert inside.slope < 1e-6
    assert corner.x.tolist() == pytest.approx([1, 1 / 3])  # the bound of x_1, and 6 x_2 = 3 - x_1
    assert corner.slope > 1
    assert min(inside.least, corner.least) > -1e-6


def test_the_function_falls_exactly_along_descent_directions():
    rows = convexity.slope_and_change()
    assert sum(product < 0 for _, product, _ in rows) == 3
    for _, product, change in rows:
        assert (change < 0) == (product < 0)  # at 0 it rises: d^T g <= 0 is not enough


@pytest.mark.parametrize("method", ["cg", "bfgs", "newton"])
def test_log_sum_exp_against_scipy(method):
    optimize = pytest.importorskip("scipy.optimize")
    special = pytest.importorskip("scipy.special")
    A, b = convexity.random_problem(40, 6)
    found = optim.minimize(convexity.log_sum_exp(A, b), nbdl.zeros(6), method=method, tol=1e-9)
    expected = optimize.minimize(
        lambda x: special.logsumexp(A.numpy() @ x + b.numpy()),
        np.zeros(6),
        jac=lambda x: A.numpy().T @ special.softmax(A.numpy() @ x + b.numpy()),
        tol=1e-12,
    )
    assert found.fun == pytest.approx(expected.fun, abs=1e-12)
    np.testing.assert_allclose(found.x.numpy(), expected.x, atol=1e-6)
    residual, smallest = convexity.certificate(A, b, found.x)
    assert residual < 1e-9
    assert smallest > 0


def test_a_minimum_exists_if_0_is_inside_the_hull():
    results = {}
    for name, vectors in convexity.three_hulls().items():
        f = convexity.log_sum_exp(vectors, nbdl.zeros(3))
        results[name] = optim.minimize(f, nbdl.ones(2), options={"maxiter": 60}, tol=1e-9)
    assert results["0 inside"].success
    assert nbdl.linalg.norm(results["0 inside"].x).item() < 1
    assert results["0 on the boundary"].fun == pytest.approx(math.log(2), abs=1e-8)
    assert nbdl.linalg.norm(results["0 on the boundary"].x).item() > 10
    assert results["0 outside"].status.name == "UNBOUNDED"


# 40, 44: the rules


@pytest.mark.parametrize("name", optimizers.RULES)
def test_rule_of_the_lecture(name):
    difference, value = optimizers.compare(optimizers.RULES[name], 30)
    assert difference < 1e-13
    assert value < 4.5  # the first is 5.25


def test_history_weights():
    weights = optimizers.history_weights(lambda p: optim.RMSprop(p, alpha=0.9), "square_avg", 20)
    np.testing.assert_allclose(weights.numpy(), 0.1 * 0.9 ** np.arange(20), rtol=1e-12)


def test_table_of_optimizers():
    measured = {name: tuple(optimizers.measure(make)) for name, make in optimizers.METHODS.items()}
    assert measured == {
        "SGD": (False, False, False, False),
        "SGD with momentum": (True, False, False, False),
        "AdaGrad": (False, True, False, False),
        "RMSProp": (False, True, True, False),
        "Adam": (True, True, True, True),
        "Adam without correction": (True, True, True, False),
    }


# 41: paths


def test_paths_of_the_lecture():
    bowl = optimizer_paths.tracks(optimizer_paths.LANDSCAPES["ill-conditioned bowl"], 200)
    assert all(optimizer_paths.bowl(nbdl.tensor(path[-1])).item() < 0.05 for path in bowl.values())
    valleys = optimizer_paths.tracks(optimizer_paths.LANDSCAPES["local minimum"], 200)
    left = {name for name, path in valleys.items() if path[-1, 0] < 0}
    assert left == {"momentum", "Nesterov"}  # the others stay in the local minimum
    saddle = optimizer_paths.tracks(optimizer_paths.LANDSCAPES["saddle"], 200)
    away = {name for name, path in saddle.items() if path[-1, 1] > 1.5}
    assert away == set(optimizer_paths.OPTIMIZERS) - {"SGD"}


# 42: the worked regression


@pytest.mark.parametrize("name", linear_regression.METHODS)
def test_worked_regression(name):
    method = linear_regression.METHODS[name]
    data = linear_regression.make_data()
    best, deviation = data.least_squares()
    found = linear_regression.solve(data, method)
    assert found.shape == (1001, 2)
    # The slide's figures, and ours, are the truth within the noise: that of the data, and of the last steps,
    # which are (eigenvalue x effective rate)^(1/2) of a sample's noise.
    spread = 4 * (deviation + 0.15 * linear_regression.NOISE)
    for theta in (found[-1], nbdl.tensor(method.slide)):
        assert bool(((theta - nbdl.tensor(linear_regression.TRUTH)).abs() < spread).all())
    assert bool(((best - nbdl.tensor(linear_regression.TRUTH)).abs() < 4 * deviation).all())
    assert data.loss(found[-1]).item() < 4 * data.loss(best).item()
    assert deviation.tolist() == pytest.approx([0.0105, 0.0037], rel=0.15)


# 43: schedules


def test_schedules():
    runs = {name: schedules.train(make, 210, 100, 0) for name, make in schedules.SCHEDULES.items()}
    ends = {name: run.values[-20:].mean().item() for name, run in runs.items()}
    assert ends["constant"] == pytest.approx(schedules.noise_floor(schedules.RATE), rel=0.2)
    assert all(value < 0.5 * ends["constant"] for name, value in ends.items() if name != "constant")
    linear = runs["linear from a_0 to a_f"].rates
    assert (linear[0].item(), linear[-1].item()) == pytest.approx((0.1, 0.001 + 0.099 / 210))
    halved = runs["halved on schedule"].rates
    assert sorted(set(halved.tolist()), reverse=True) == pytest.approx([0.1 / 2**k for k in range(7)])
    restarts = runs["warm restarts"].rates
    assert [k for k in range(210) if restarts[k].item() == schedules.RATE] == [0, 30, 90]
    cycle = runs["1-cycle"].rates
    assert (cycle[0].item(), cycle.max().item()) == pytest.approx((schedules.RATE / 25, schedules.RATE))


# 45, 46: second order


def test_taylor_models_touch():
    model = second_order.Taylor.of(second_order.curve, 1.7)
    assert (model.slope, model.curvature) == pytest.approx((1.7**3 - 2 * 1.7 + 0.3, 3 * 1.7**2 - 2))
    errors = []
    for h in (1e-1, 1e-2):
        exact = second_order.curve(nbdl.tensor(1.7 + h)).item()
        errors.append((exact - model.linear(1.7 + h), exact - model.quadratic(1.7 + h)))
    assert errors[0][0] / errors[1][0] == pytest.approx(100, rel=0.1)
    assert errors[0][1] / errors[1][1] == pytest.approx(1000, rel=0.1)


def test_newton_on_a_quadratic_and_at_a_saddle():
    before, after = second_order.one_step_on_a_quadratic(20)
    assert before > 1
    assert after < 1e-12
    assert abs(second_order.newton_path(second_order.saddle, (1.2, 0.5), 8)[-1]).max() < 1e-12


@pytest.mark.parametrize("method", second_order.METHODS[1:])
def test_rosenbrock(method):
    result, path = second_order.valley(method, 300)
    assert result.success
    assert result.x.tolist() == pytest.approx([1, 1], abs=1e-6)
    assert len(path) == result.nit + 1


def test_full_batch_lbfgs_needs_fewer_gradients():
    network = second_order.Network(50)
    losses = {name: second_order.train(network, make, 100)[1] for name, make in second_order.TRAINERS.items()}
    assert losses["L-BFGS, full batch"][-1] < 0.8 * min(losses["Adam"][-1], losses["SGD, momentum 0.9"][-1])


# 47 to 49: classifiers


def test_classifiers():
    classes = classifiers.patterns()
    train, test = classifiers.make_images(classes, 400), classifiers.make_images(classes, 60)
    assert train.pixels.shape == (400, 3, 32, 32)
    assert classifiers.nearest_neighbour(train, train, 2) == 1
    assert classifiers.nearest_neighbour(train, test, 2) > 0.3  # chance is 0.1
    for loss in classifiers.LOSSES.values():
        run = classifiers.train_linear(train, test, loss, epochs=3)
        assert run.model.weight.numel() + run.model.bias.numel() == 30730
        assert run.losses[-1] < 0.5 * run.losses[0]
        assert run.train_accuracy > 0.9
        assert run.test_accuracy > 0.4
        assert run.templates().shape == (10, 32, 32, 3)


@pytest.mark.parametrize(("size", "batches", "last"), [(32, 32, 8), (64, 16, 40), (128, 8, 104)])
def test_minibatches(size, batches, last):
    assert classifiers.minibatches(1000, size) == (batches, last, True)


def test_noise_of_minibatch_gradients_falls_with_the_root_of_their_size():
    train = classifiers.make_images(classifiers.patterns(), 200)
    small, large = (classifiers.gradient_noise(train, size, 40) for size in (8, 32))
    assert small / large == pytest.approx(2, rel=0.2)

"""Optimizers whose closure returns outputs and targets: natural gradient, Hessian-free, K-FAC."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import curvature
from nbdl.optim.curvature.matrices import squared_gradients
from nbdl.optim.hessian_free import _Candidate, _is_slow, _Step


def problem(dtype=nbdl.float64, layers=None):
    nbdl.manual_seed(0)
    model = layers or nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4))
    model.to(dtype=dtype)
    r = np.random.default_rng(0)
    x = nbdl.tensor(r.standard_normal((12, 3))).to(dtype=dtype)
    return model, x, nbdl.tensor(r.integers(0, 4, 12))


MAKE = {
    "NaturalGradient": lambda model, **kw: optim.NaturalGradient(
        kw.pop("params", model.parameters()), nn.CrossEntropyLoss(), momentum=0.5, **kw
    ),
    "NaturalGradient ggn": lambda model, **kw: optim.NaturalGradient(
        kw.pop("params", model.parameters()), nn.CrossEntropyLoss(), fisher="ggn", lr=1.0, max_kl=0.1, **kw
    ),
    "HessianFree": lambda model, **kw: optim.HessianFree(
        kw.pop("params", model.parameters()), nn.CrossEntropyLoss(), weight_decay=1e-3, **kw
    ),
    "HessianFree preconditioned": lambda model, **kw: optim.HessianFree(
        kw.pop("params", model.parameters()), nn.CrossEntropyLoss(), preconditioner=0.75, **kw
    ),
    "KFAC": lambda model, **kw: optim.KFAC(model, nn.CrossEntropyLoss(), fisher="exact", **kw),
    "KFAC sparing": lambda model, **kw: optim.KFAC(
        model, nn.CrossEntropyLoss(), fisher="empirical", factor_freq=2, inverse_freq=3, **kw
    ),
}


def flat(model):
    return nbdl.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()


@pytest.mark.parametrize("dtype", [nbdl.float32, nbdl.float64])
@pytest.mark.parametrize("name", MAKE)
def test_the_loss_falls(name, dtype, backend):
    model, x, y = problem(dtype)
    optimizer = MAKE[name](model)
    losses = [optimizer.step(lambda: (model(x), y)).item() for _ in range(15)]
    assert losses[-1] < 0.6 * losses[0]
    assert all(p.grad is not None and p.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize("name", MAKE)
def test_resumed_runs_are_bit_equal(name):
    model, x, y = problem()
    optimizer = MAKE[name](model)
    for _ in range(4):
        optimizer.step(lambda: (model(x), y))
    twin, _, _ = problem()
    twin.load_state_dict(copy.deepcopy(model.state_dict()))
    resumed = MAKE[name](twin)
    resumed.load_state_dict(optimizer.state_dict())
    for _ in range(4):
        optimizer.step(lambda: (model(x), y))
        resumed.step(lambda: (twin(x), y))
    np.testing.assert_array_equal(flat(model), flat(twin))


@pytest.mark.parametrize("name", ["NaturalGradient", "KFAC"])
def test_groups_have_their_own_rates(name):
    model, x, y = problem()
    first, second = list(model[0].parameters()), list(model[2].parameters())
    optimizer = MAKE[name](model, params=[{"params": first, "lr": 0.0}, {"params": second}])
    before = flat(model)
    optimizer.step(lambda: (model(x), y))
    changed = flat(model) != before
    assert not changed[:20].any()
    assert changed[20:].all()


@pytest.mark.parametrize("fisher", ["exact", "ggn", "empirical", "mc"])
def test_a_natural_step_solves_with_the_whole_matrix(fisher):
    model, x, y = problem()
    risk = curvature.Risk(model, nn.CrossEntropyLoss(), (x, y))
    kinds = {
        "exact": curvature.Fisher, "ggn": curvature.GGN, "empirical": curvature.EmpiricalFisher,
        "mc": lambda risk: curvature.MonteCarloFisher(risk, seed=1),
    }  # fmt: skip
    matrix = kinds[fisher](risk).to_dense().numpy() + 0.1 * np.eye(risk.layout.size)
    before = flat(model)
    expected = before - 0.5 * (np.linalg.solve(matrix, risk.gradient().numpy()) + 0.2 * before)
    optimizer = optim.NaturalGradient(
        model.parameters(), nn.CrossEntropyLoss(), lr=0.5, damping=0.1, weight_decay=0.2, fisher=fisher,
        max_cg_iterations=200, tolerance=1e-13,
    )  # fmt: skip
    loss = optimizer.step(lambda: (model(x), y))
    np.testing.assert_allclose(flat(model), expected, rtol=1e-8)
    assert loss.item() > risk.value().item()
    assert optimizer.solution.info == 0


def test_the_divergence_of_a_natural_step_is_bounded():
    model, x, y = problem()
    before = nn.functional.log_softmax(model(x), 1).detach()
    optimizer = optim.NaturalGradient(model.parameters(), nn.CrossEntropyLoss(), lr=1.0, max_kl=1e-4)
    optimizer.step(lambda: (model(x), y))
    after = nn.functional.log_softmax(model(x), 1).detach()
    divergence = (before.exp() * (before - after)).sum(1).mean().item()
    assert divergence == pytest.approx(1e-4, rel=0.1)


def test_kfac_steps_are_those_of_the_papers():
    # Factors with a growing memory, exact damping, the bound of the divergence, momentum.
    model, x, y = problem()
    settings = {"lr": 0.3, "momentum": 0.5, "damping": 0.05, "ema": 0.6, "max_kl": 0.02, "weight_decay": 0.01}
    optimizer = optim.KFAC(model, nn.CrossEntropyLoss(), fisher="exact", inverse_freq=1, **settings)
    factors, velocity = None, 0.0
    expected = flat(model)
    for step in range(4):
        risk = curvature.Risk(model, nn.CrossEntropyLoss(), (x, y))
        gradient = risk.gradient().numpy()
        new = [(b.product.left[0].numpy(), b.product.right[0].numpy()) for b in curvature.KFAC(risk).blocks]
        keep = min(1 - 1 / (step + 1), 0.6)
        factors = new if factors is None else [
            tuple(keep * old + (1 - keep) * now for old, now in zip(olds, nows, strict=True))
            for olds, nows in zip(factors, new, strict=True)
        ]  # fmt: skip
        direction, start = [], 0
        for (left, right), (out, inputs) in zip(factors, ((5, 3), (4, 5)), strict=True):
            size = out * (inputs + 1)
            part = gradient[start : start + size]
            matrix = np.c_[part[: out * inputs].reshape(out, inputs), part[out * inputs :]]
            damped = np.kron(left, right) + 0.05 * np.eye(size)
            solved = np.linalg.solve(damped, matrix.reshape(-1)).reshape(out, inputs + 1)
            direction += [solved[:, :-1].reshape(-1), solved[:, -1]]
            start += size
        direction = np.concatenate(direction)
        direction *= min(1.0, (0.02 / (0.3**2 * (direction @ gradient))) ** 0.5)
        velocity = 0.5 * velocity + direction
        expected = expected - 0.3 * (velocity + 0.01 * expected)
        optimizer.step(lambda: (model(x), y))
        np.testing.assert_allclose(flat(model), expected, rtol=1e-8, atol=1e-11)


def test_kfac_takes_gradient_steps_where_it_has_no_factors():
    model, x, y = problem(layers=nn.Sequential(nn.Bilinear(3, 3, 4), nn.Linear(4, 4)))
    bilinear, linear = model[0], model[1]
    optimizer = optim.KFAC(model, nn.CrossEntropyLoss(), lr=0.1, momentum=0.0)
    before = bilinear.weight.detach().clone()
    optimizer.step(lambda: (linear(bilinear(x, x)), y))
    np.testing.assert_allclose(
        bilinear.weight.detach().numpy(), (before - 0.1 * bilinear.weight.grad).numpy(), rtol=1e-12
    )
    assert "left" in optimizer.state[linear.weight]


def test_frozen_parameters_stay():
    for name, make in MAKE.items():
        model, x, y = problem()
        model[0].requires_grad_(False)
        optimizer = make(model)
        before = flat(model)
        optimizer.step(lambda model=model, x=x, y=y: (model(x), y))
        changed = flat(model) != before
        assert not changed[:20].any(), name
        assert changed[20:].any(), name


def test_hessian_free_solves_least_squares_in_a_few_steps():
    r = np.random.default_rng(0)
    features, targets = r.standard_normal((30, 4)), r.standard_normal((30, 2))
    model = nn.Linear(4, 2, bias=False).double()
    optimizer = optim.HessianFree(model.parameters(), nn.MSELoss(), damping=1e-3)
    x, y = nbdl.tensor(features), nbdl.tensor(targets)
    for _ in range(5):
        optimizer.step(lambda: (model(x), y))
        assert optimizer.result.success
    solution, *_ = np.linalg.lstsq(features, targets, rcond=None)
    np.testing.assert_allclose(model.weight.detach().numpy(), solution.T, atol=1e-6)
    assert optimizer.result.damping < 1e-3
    assert optimizer.result.ratio > 0.75


def test_hessian_free_keeps_the_parameters_where_no_step_helps():
    weight = nbdl.tensor([2.0], dtype=nbdl.float64, requires_grad=True)
    target = nbdl.zeros(1, dtype=nbdl.float64)

    def closure():  # finite at the start only
        return weight * (1.0 if weight.item() == 2.0 else np.nan), target

    optimizer = optim.HessianFree([weight], nn.MSELoss())
    optimizer.step(closure)
    assert weight.item() == 2.0
    assert not optimizer.result.success
    assert optimizer.result.damping > 0.1


def test_hessian_free_models_what_the_paper_says():
    # The damped matrix by hand: B + damping I + damping mu J^T J / N of the hidden states.
    nbdl.manual_seed(0)
    first, second = nn.Linear(3, 4).double(), nn.Linear(4, 2).double()
    params = [*first.parameters(), *second.parameters()]
    x, y = nbdl.randn(9, 3, dtype=nbdl.float64), nbdl.randn(9, 2, dtype=nbdl.float64)
    damping, mu = 0.3, 2.0
    optimizer = optim.HessianFree(
        params, nn.MSELoss(), damping=damping, preconditioner=0.75, structural_damping=mu
    )

    def closure():
        hidden = first(x).tanh()
        return second(hidden), y, hidden

    risk = curvature.Risk(lambda x: second(first(x).tanh()), nn.MSELoss(), (x, y), params)
    matrix, gradient = curvature.GGN(risk).to_dense().numpy(), risk.gradient().numpy()
    source = curvature.Risk(lambda x: first(x).tanh(), nn.MSELoss(), (x, y), params)
    jacobian = curvature.Jacobian(source).to_dense().numpy()
    damped = matrix + damping * (np.eye(len(matrix)) + mu * jacobian.T @ jacobian / 9)
    before = risk.value().item()
    optimizer.step(closure)
    step = optimizer.state[params[0]]["last_step"].numpy()

    def model(p, b):
        return gradient @ p + p @ b @ p / 2

    best = model(-np.linalg.solve(damped, gradient), damped)
    assert best <= model(step, damped) <= 0.99 * best
    with nbdl.no_grad():
        after = risk.value().item()
    assert optimizer.result.ratio == pytest.approx((after - before) / model(step, matrix), rel=1e-9)


def test_the_estimate_of_the_preconditioner():
    model, x, y = problem()
    for rows, count, tolerance in ((1, 1, 1e-12), (12, 3000, 0.2)):  # one example: exact
        risk = curvature.Risk(model, nn.CrossEntropyLoss(), (x[:rows], y[:rows]))
        expected = curvature.EmpiricalFisher(risk).diagonal().numpy()
        found = squared_gradients(risk, count, nbdl.Generator().manual_seed(0)).numpy()
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=1e-15)


def test_a_preconditioner_saves_products():
    r = np.random.default_rng(0)
    features = r.standard_normal((60, 12)) * 10.0 ** np.linspace(-2, 1, 12)
    x, y = nbdl.tensor(features), nbdl.tensor((r.random(60) < 0.5).astype(float)).unsqueeze(1)

    def products(alpha):
        model = nn.Linear(12, 1, bias=False).double()
        with nbdl.no_grad():
            model.weight.zero_()
        optimizer = optim.HessianFree(
            model.parameters(), nn.BCEWithLogitsLoss(), damping=1e-4, preconditioner=alpha
        )
        count = 0
        for _ in range(6):
            optimizer.step(lambda: (model(x), y))
            count += optimizer.result.nhev
        return count

    assert products(0.75) < 0.8 * products(0.0)


def test_conjugate_gradients_stop_and_go_back_as_the_paper_says():
    # Section 4.4: less than 10 * 5e-4 of the value was gained in the last 10 iterations (a tenth, later).
    steady = [nbdl.tensor(-float(k)) for k in range(40)]
    assert not any(_is_slow(steady[:k]) for k in range(1, 40))
    stuck = [*steady, *[nbdl.tensor(-39.0 - 1e-3 * k) for k in range(12)]]
    assert next(k for k in range(1, 52) if _is_slow(stuck[:k])) == 50
    long = [nbdl.tensor(-float(min(k, 300))) for k in range(340)]
    assert next(k for k in range(1, 340) if _is_slow(long[:k])) > 325
    # Section 4.6: back from the last candidate while the loss falls.
    losses = {0: 1.0, 1: 5.0, 2: 2.0, 3: 3.0, 4: 4.0}
    step = object.__new__(_Step)
    step._value = lambda candidate, length, unread: [losses[candidate], *unread]
    candidates = [_Candidate(k, k, [-float(k), 0.5 * k, k]) for k in range(4)]
    assert step._lowest(candidates, 4, losses[4], -4.0, 2.0) == (2, 2.0, -2.0, 1.0)


def test_structural_damping_keeps_the_states_of_a_recurrent_network():
    nbdl.manual_seed(1)
    network, out = nn.RNN(2, 6), nn.Linear(6, 1)
    params = [*network.parameters(), *out.parameters()]
    x = nbdl.randn(5, 16, 2)
    y = x[0, :, :1]  # the first input, after five steps

    def closure():
        states, _ = network(x)
        return out(states[-1]), y, states.transpose(0, 1)

    optimizer = optim.HessianFree(
        params, nn.MSELoss(), structural_damping=0.1, preconditioner=0.75, max_cg_iterations=30
    )
    losses = [optimizer.step(closure).item() for _ in range(12)]
    assert losses[-1] < 0.1 * losses[0]


MODEL = nn.Linear(2, 2)
LOSS = nn.MSELoss()


def natural(**settings):
    return optim.NaturalGradient(MODEL.parameters(), LOSS, **settings)


WRONG = {
    "loss": (lambda: optim.NaturalGradient(MODEL.parameters(), 3), TypeError, "loss must be a function"),
    "fisher": (lambda: natural(fisher="true"), ValueError, "exact, mc"),
    "lr": (lambda: natural(lr=-1.0), ValueError, "lr"),
    "cg": (
        lambda: natural(max_cg_iterations=0), ValueError, "at least 1",
    ),
    "max_kl": (lambda: natural(max_kl=-1.0), ValueError, "max_kl"),
    "empty": (lambda: optim.HessianFree([], LOSS), ValueError, "empty parameter list"),
    "matrix": (lambda: optim.HessianFree(MODEL.parameters(), LOSS, matrix="x"), ValueError, "ggn, exact"),
    "damping": (lambda: optim.HessianFree(MODEL.parameters(), LOSS, damping=-1.0), ValueError, "damping"),
    "products": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS, max_cg_iterations=0), ValueError, "at least 1",
    ),
    "no closure": (lambda: optim.HessianFree(MODEL.parameters(), LOSS).step(), TypeError, "needs a closure"),
    "no pair": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS).step(lambda: nbdl.ones(2)), TypeError, "a pair",
    ),
    "no states": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS, structural_damping=1.0).step(
            lambda: (nbdl.ones(2), nbdl.ones(2))
        ),
        TypeError, r"\(outputs, targets, states\)",
    ),
    "structural": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS, damping=0.0, structural_damping=1.0), ValueError,
        "structural_damping needs a damping above 0",
    ),
    "undamped": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS, damping=0.0, preconditioner=0.75), ValueError,
        "preconditioner needs a damping above 0",
    ),
    "preconditioner": (
        lambda: optim.HessianFree(MODEL.parameters(), LOSS, preconditioner=-1.0),
        ValueError, "preconditioner",
    ),
    "model": (lambda: optim.KFAC([nbdl.ones(2)], LOSS), TypeError, "model must be a module"),
    "layers": (lambda: optim.KFAC(nn.Bilinear(2, 2, 2), LOSS), ValueError, "no layer"),
    "kfac damping": (lambda: optim.KFAC(MODEL, LOSS, damping=0.0), ValueError, "above 0"),
    "ema": (lambda: optim.KFAC(MODEL, LOSS, ema=1.0), ValueError, "ema"),
    "frequency": (lambda: optim.KFAC(MODEL, LOSS, inverse_freq=0), ValueError, "inverse_freq"),
    "divergence": (lambda: optim.KFAC(MODEL, LOSS, max_kl=-1.0), ValueError, "max_kl"),
    "likelihood": (
        lambda: optim.KFAC(MODEL, nn.L1Loss()).step(lambda: (MODEL(nbdl.ones(1, 2)), nbdl.ones(1, 2))),
        ValueError, "likelihood is known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_bad_input(case):
    function, error, text = WRONG[case]
    with pytest.raises(error, match=text):
        function()


class Tagger(nn.Module):
    """A class for every position of a sequence."""

    def __init__(self):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(7, 6), nn.LayerNorm(6)
        self.hidden, self.out = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.hidden(self.norm(self.embedding(x))).tanh()).flatten(0, 1)


NETWORKS = {
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(4, 4, 3, groups=2), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
        ),
        lambda: (nbdl.randn(24, 1, 8, 8), nbdl.randint(0, 3, (24,))),
    ),
    "sequences": (Tagger, lambda: (nbdl.arange(30).reshape(6, 5) % 7, nbdl.arange(30) % 7 % 3)),
}  # fmt: skip


@pytest.mark.parametrize("fisher", ["exact", "mc", "empirical"])
@pytest.mark.parametrize("name", NETWORKS)
def test_kfac_trains_networks_of_all_its_layers(name, fisher):
    nbdl.manual_seed(0)
    make, data = NETWORKS[name]
    model, (x, y) = make(), data()
    optimizer = optim.KFAC(model, nn.CrossEntropyLoss(), lr=0.2, fisher=fisher)
    losses = [optimizer.step(lambda: (model(x), y)).item() for _ in range(25)]
    assert losses[-1] < 0.5 * losses[0]
    assert all("left" in optimizer.state[layer.params[0]] for layer in optimizer._layers)
    assert sum(len(layer.params) for layer in optimizer._layers) == len(list(model.parameters()))

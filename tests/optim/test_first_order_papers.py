"""First-order methods that PyTorch lacks, against plain NumPy transcriptions of their papers."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl import optim

STEPS = 30
SHAPE = (3, 3)


def adabelief(p, g, s, t):
    """Algorithm 2, with decoupled decay 0.1."""
    p = p * (1 - 0.05 * 0.1)
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["s"] = 0.99 * s.get("s", 0) + 0.01 * (g - s["m"]) ** 2 + 1e-8
    s["max"] = np.maximum(s.get("max", 0), s["s"])
    return p - 0.05 * s["m"] / (1 - 0.9**t) / (np.sqrt(s["max"] / (1 - 0.99**t)) + 1e-8)


def yogi(p, g, s, t):
    """Algorithm 2, with corrected means."""
    s["m"] = 0.9 * s.get("m", 1e-6) + 0.1 * g
    v = s.get("v", 1e-6)
    s["v"] = v - 0.001 * np.sign(v - g**2) * g**2
    return p - 0.05 * s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-3)


def adan(p, g, s, t):
    """Algorithm 1 with 1 - beta of the paper, corrected means and proximal decay 0.1."""
    d = g - s.get("g", g)
    s["g"] = g
    s["m"] = 0.98 * s.get("m", 0) + 0.02 * g
    s["v"] = 0.92 * s.get("v", 0) + 0.08 * d
    s["n"] = 0.99 * s.get("n", 0) + 0.01 * (g + 0.92 * d) ** 2
    root = np.sqrt(s["n"] / (1 - 0.99**t)) + 1e-8
    move = (s["m"] / (1 - 0.98**t) + 0.92 * s["v"] / (1 - 0.92**t)) / root
    return (p - 0.05 * move) / (1 + 0.05 * 0.1)


def lion(p, g, s, t):
    """Algorithm 2."""
    m = s.get("m", 0)
    p = p - 0.05 * (np.sign(0.9 * m + 0.1 * g) + 0.1 * p)
    s["m"] = 0.99 * m + 0.01 * g
    return p


def lamb(p, g, s, t):
    """Algorithm 2."""
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    r = s["m"] / (1 - 0.9**t) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-6) + 0.1 * p
    return p - 0.05 * np.linalg.norm(p) / np.linalg.norm(r) * r


def lars(p, g, s, t):
    """Algorithm 1."""
    local = 0.02 * np.linalg.norm(p) / (np.linalg.norm(g) + 0.1 * np.linalg.norm(p))
    s["v"] = 0.9 * s.get("v", 0) + 0.05 * local * (g + 0.1 * p)
    return p - s["v"]


def shampoo(p, g, s, t):
    """Algorithm 1."""
    s["L"] = s.get("L", 1e-4 * np.eye(3)) + g @ g.T
    s["R"] = s.get("R", 1e-4 * np.eye(3)) + g.T @ g

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return vectors @ np.diag(values**-0.25) @ vectors.T

    return p - 0.05 * root(s["L"]) @ g @ root(s["R"])


def soap(p, g, s, t):
    """Algorithms 3 and 4, the first step for the bases alone, corrected means, decay 0.1."""
    if t > 1:
        s["m"] = 0.95 * s.get("m", 0) + 0.05 * g
        s["v"] = 0.9 * s.get("v", 0) + 0.1 * (s["QL"].T @ g @ s["QR"]) ** 2
        turned = s["QL"].T @ s["m"] @ s["QR"] / (1 - 0.95 ** (t - 1))
        move = turned / (np.sqrt(s["v"] / (1 - 0.9 ** (t - 1))) + 1e-12)
        p = p * (1 - 0.05 * 0.1) - 0.05 * s["QL"] @ move @ s["QR"].T
    for name, product in (("L", g @ g.T), ("R", g.T @ g)):
        s[name] = 0.9 * s.get(name, 0) + 0.1 * product
        if t == 1:
            s["Q" + name] = np.linalg.eigh(s[name])[1]
        elif (t - 1) % 3 == 0:
            s["Q" + name] = np.linalg.qr(s[name] @ s["Q" + name])[0]
    return p


def prodigy(p, g, s, t):
    """Algorithm 4 with d0 = 0.01; all sums over the one parameter."""
    d = s.setdefault("d", 0.01)
    start, beta3 = s.setdefault("p0", p), np.sqrt(0.99)
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * d * g
    s["v"] = 0.99 * s.get("v", 0) + 0.01 * d**2 * g**2
    s["r"] = beta3 * s.get("r", 0) + (1 - beta3) * d**2 * (g * (start - p)).sum()
    s["s"] = beta3 * s.get("s", 0) + (1 - beta3) * d**2 * g
    p = p * (1 - d * 0.1) - d * s["m"] / (np.sqrt(s["v"]) + d * 1e-8)
    s["d"] = max(d, s["r"] / np.abs(s["s"]).sum())
    return p


def schedule_free(direction, momentum, lr):
    """Equations 3-5 with a warm-up of 5 steps and weights lr_max^2; p is y."""

    def rule(y, g, s, t):
        rate = lr * min(1, t / 5)
        s["lr_max"] = max(s.get("lr_max", 0), rate)
        s["sum"] = s.get("sum", 0) + s["lr_max"] ** 2
        c = s["lr_max"] ** 2 / s["sum"]
        x, z = s.get("x", y), s.get("z", y)
        s["z"] = z - rate * direction(y, g, s, t)
        s["x"] = (1 - c) * x + c * s["z"]
        return (1 - momentum) * s["z"] + momentum * s["x"]

    return rule


def sgd_direction(y, g, s, t):
    return g + 0.1 * y


def adam_direction(y, g, s, t):
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
    return g / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-8) + 0.1 * y


PAPERS = [
    ("AdaBelief", {"betas": (0.9, 0.99), "eps": 1e-8, "weight_decay": 0.1, "amsgrad": True}, adabelief),
    ("Yogi", {}, yogi),
    ("Adan", {"weight_decay": 0.1}, adan),
    ("Lion", {"weight_decay": 0.1}, lion),
    ("LAMB", {"weight_decay": 0.1}, lamb),
    ("LARS", {"weight_decay": 0.1, "trust_coefficient": 0.02}, lars),
    ("Shampoo", {}, shampoo),
    (
        "SOAP",
        {"betas": (0.95, 0.9), "eps": 1e-12, "weight_decay": 0.1, "precondition_frequency": 3},
        soap,
    ),
    ("Prodigy", {"lr": 1.0, "betas": (0.9, 0.99), "weight_decay": 0.1, "d0": 0.01}, prodigy),
    (
        "SGDScheduleFree",
        {"momentum": 0.8, "weight_decay": 0.1, "warmup_steps": 5},
        schedule_free(sgd_direction, 0.8, 0.05),
    ),
    (
        "AdamWScheduleFree",
        {"betas": (0.8, 0.999), "weight_decay": 0.1, "warmup_steps": 5},
        schedule_free(adam_direction, 0.8, 0.05),
    ),
]


def gradients():
    random = np.random.default_rng(0)
    return [np.sin(0.3 * k) + random.standard_normal(SHAPE) for k in range(STEPS)]


def run(make, climb=False):
    """The parameter after all steps, and its optimizer."""
    p = nbdl.tensor(np.random.default_rng(1).standard_normal(SHAPE), requires_grad=True)
    optimizer = make([p])
    for gradient in gradients():
        p.grad = nbdl.tensor(-gradient if climb else gradient)
        optimizer.step()
    return p, optimizer


@pytest.mark.parametrize("climb", [False, True])
@pytest.mark.parametrize(
    ("name", "options", "rule"), PAPERS, ids=lambda value: value if type(value) is str else ""
)
def test_steps_of_the_paper(name, options, rule, climb, backend):
    p, _ = run(
        lambda params: getattr(optim, name)(params, **{"lr": 0.05, **options, "maximize": climb}), climb
    )
    expected, state = np.random.default_rng(1).standard_normal(SHAPE), {}
    for t, gradient in enumerate(gradients(), 1):
        expected = rule(expected, gradient, state, t)
    np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-10, atol=1e-11)


def test_schedule_free_gives_the_average_for_evaluation(backend):
    p, optimizer = run(lambda params: optim.SGDScheduleFree(params, 0.05, 0.8, 0.1, 5))
    y, state = np.random.default_rng(1).standard_normal(SHAPE), {}
    for t, gradient in enumerate(gradients(), 1):
        y = schedule_free(sgd_direction, 0.8, 0.05)(y, gradient, state, t)
    optimizer.eval()
    np.testing.assert_allclose(p.detach().numpy(), state["x"], rtol=1e-12, atol=1e-13)
    with pytest.raises(RuntimeError, match=r"optimizer.train\(\)"):
        optimizer.step()
    optimizer.eval()
    optimizer.train()
    np.testing.assert_allclose(p.detach().numpy(), y, rtol=1e-12, atol=1e-13)


def test_prodigy_shares_its_distance_among_groups():
    a, b, c = (nbdl.full((2,), 3.0, dtype=nbdl.float64, requires_grad=True) for _ in range(3))
    optimizer = optim.Prodigy([{"params": [a]}, {"params": [b], "weight_decay": 0.1}], d0=1e-3)

    def steps(n):
        for _ in range(n):
            optimizer.zero_grad()
            ((a - 1) ** 2 + (b + 2) ** 2 + c**2).sum().backward()
            optimizer.step()

    steps(60)
    distances = [group["d"].item() for group in optimizer.param_groups]
    assert distances[0] == distances[1] > 0.1
    optimizer.add_param_group({"params": [c]})
    assert optimizer.param_groups[2]["d"].item() == distances[0]
    steps(60)
    assert len({group["d"].item() for group in optimizer.param_groups}) == 1
    assert (a - 1).abs().max().item() < 0.1


def test_unused_axes_and_vectors(backend):
    """0-d, 1-d, 3-d, empty and long parameters go through the methods that use matrices."""
    for make in (
        lambda params: optim.Shampoo(params, max_preconditioner_dim=6),
        lambda params: optim.SOAP(params, max_precond_dim=6),
        lambda params: optim.SOAP(params, precondition_1d=True),
        optim.Adafactor,
        optim.LAMB,
        optim.LARS,
    ):
        params = [nbdl.full(shape, 2.0, requires_grad=True) for shape in ((), (4,), (2, 3, 4), (7, 2))]
        optimizer = make(params)
        for _ in range(3):
            optimizer.zero_grad()
            sum((param**2).sum() for param in params).backward()
            optimizer.step()
        assert all((param**2).mean().item() < 4.0 for param in params)
    empty = nbdl.ones(0, 3, requires_grad=True)
    empty.grad = nbdl.ones(0, 3)
    for make in (optim.Shampoo, optim.SOAP, optim.LAMB, optim.LARS, optim.Muon):
        make([empty]).step()


# ---------------------------------------------------------------------- Hessian diagonals
def quadratic_of(matrix, p):
    """A function whose Hessian by p.reshape(-1) is ``matrix``."""
    flat = p.reshape(-1)
    return (flat @ (matrix @ flat)) / 2


def test_hutchinson_is_exact_on_diagonals_and_right_on_average():
    random = np.random.default_rng(0)
    dense = random.standard_normal((4, 4))
    dense = dense + dense.T
    for matrix, samples, tolerance in ((np.diag(np.arange(4.0)), 1, 1e-12), (dense, 1000, 0.3)):
        p = nbdl.tensor(random.standard_normal((2, 2)), requires_grad=True)
        quadratic_of(nbdl.tensor(matrix), p).backward(create_graph=True)
        generator = nbdl.Generator().manual_seed(3)
        (diagonal,) = optim.diagonal_hessian.hutchinson_diagonal([p], samples, generator)
        np.testing.assert_allclose(diagonal.numpy().reshape(-1), np.diag(matrix), atol=tolerance)
        assert not diagonal.requires_grad
    p.grad = nbdl.ones(2, 2, dtype=nbdl.float64)
    with pytest.raises(RuntimeError, match="create_graph=True"):
        optim.diagonal_hessian.hutchinson_diagonal([p])


@pytest.mark.parametrize("average", [False, True])
def test_adahessian(average, backend):
    """Algorithm 1 on a function whose Hessian is diagonal, so that the estimate is exact."""
    curvature = np.arange(1.0, 9.0).reshape(1, 2, 2, 2)
    p = nbdl.tensor(np.random.default_rng(0).standard_normal((1, 2, 2, 2)), requires_grad=True)
    x, m, v = p.detach().numpy().copy(), 0, 0
    optimizer = optim.AdaHessian(
        [p], lr=0.05, weight_decay=0.1, hessian_power=0.5, average_conv_kernel=average
    )
    for t in range(1, STEPS + 1):
        optimizer.zero_grad()
        ((nbdl.tensor(curvature) * p * p).sum() / 2).backward(create_graph=True)
        optimizer.step()
        diagonal = curvature.mean((2, 3), keepdims=True) if average else curvature
        m, v = 0.9 * m + 0.1 * curvature * x, 0.999 * v + 0.001 * diagonal**2
        scale = (v / (1 - 0.999**t)) ** 0.25 + 1e-8
        x = x * (1 - 0.05 * 0.1) - 0.05 * m / (1 - 0.9**t) / scale
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-11)


@pytest.mark.parametrize("estimator", ["hutchinson", "gauss-newton-bartlett"])
def test_sophia(estimator, backend):
    """Algorithm 3; the mean of the diagonal is updated every third step."""
    curvature = np.array([1.0, 10.0, 0.1])
    p = nbdl.tensor(np.array([3.0, -2.0, 1.0]), requires_grad=True)
    x, m, h = p.detach().numpy().copy(), 0, 0
    optimizer = optim.Sophia([p], lr=0.05, betas=(0.9, 0.95), rho=0.5, weight_decay=0.1)
    for t in range(STEPS):
        optimizer.zero_grad()
        ((nbdl.tensor(curvature) * p * p).sum() / 2).backward(create_graph=True)
        if t % 3 == 0:
            if estimator == "hutchinson":
                optimizer.update_hessian_hutchinson()
                h = 0.95 * h + 0.05 * curvature
            else:
                optimizer.update_hessian(bs=4)
                h = 0.95 * h + 0.05 * 4 * (curvature * x) ** 2
        optimizer.step()
        m = 0.9 * m + 0.1 * curvature * x
        x = x * (1 - 0.05 * 0.1) - 0.05 * np.clip(m / np.maximum(0.5 * h, 1e-12), -1, 1)
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-11)


# ---------------------------------------------------------------------- SAM
@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("two_calls", [False, True])
def test_sam(adaptive, two_calls, backend):
    """Algorithm 1, with momentum in the base optimizer, over two parameters and groups."""
    curvature = np.array([1.0, 10.0, 0.1])
    a = nbdl.tensor(np.array([3.0, -2.0]), requires_grad=True)
    b = nbdl.tensor(np.array([1.0]), requires_grad=True)
    optimizer = optim.SAM([{"params": [a]}, {"params": [b]}], optim.SGD, 0.3, adaptive, lr=0.05, momentum=0.5)

    def closure():
        loss = (nbdl.tensor(curvature) * nbdl.cat([a, b]) ** 2).sum() / 2
        loss.backward()
        return loss

    x, velocity = np.array([3.0, -2.0, 1.0]), 0
    for _ in range(STEPS):
        optimizer.zero_grad()
        before = (curvature * x**2).sum() / 2
        if two_calls:
            loss = closure()
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        else:
            loss = optimizer.step(closure)
        assert loss.item() == pytest.approx(before, rel=1e-11)
        g = curvature * x
        e = 0.3 * x**2 * g / np.linalg.norm(x * g) if adaptive else 0.3 * g / np.linalg.norm(g)
        velocity = 0.5 * velocity + curvature * (x + e)
        x = x - 0.05 * velocity
    np.testing.assert_allclose(
        np.concatenate([a.detach().numpy(), b.detach().numpy()]), x, rtol=1e-9, atol=1e-9
    )


def test_wrappers_share_groups_with_their_base():
    a, b = nbdl.ones(2, requires_grad=True), nbdl.ones(1, requires_grad=True)
    optimizer = optim.SAM([a], optim.Adam, lr=0.1)
    optimizer.add_param_group({"params": [b], "lr": 0.5})
    assert optimizer.base_optimizer.param_groups is optimizer.param_groups
    assert [group["rho"] for group in optimizer.param_groups] == [0.05, 0.05]
    assert [group["lr"] for group in optimizer.base_optimizer.param_groups] == [0.1, 0.5]
    for wrapper in (optimizer, optim.Nesterov([nbdl.ones(1, requires_grad=True)], optim.SGD, lr=0.1)):
        with pytest.raises(RuntimeError, match="needs a closure"):
            wrapper.step()

"""L-BFGS: PyTorch's trajectory, its state, groups, the two-loop recursion, bad input."""

from __future__ import annotations

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

import nbdl
from nbdl.backend import registry
from nbdl.ops.quasi_newton import RememberPair, SlopeAndSize, TwoLoop
from nbdl.optim import LBFGS

OPTIONS = [
    {},
    {"line_search_fn": "strong_wolfe"},
    {"lr": 0.3, "max_iter": 4, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_iter": 1},
    {"lr": 0.5, "max_iter": 1},
    {"line_search_fn": "strong_wolfe", "max_iter": 5, "history_size": 2},
    {"line_search_fn": "strong_wolfe", "max_iter": 30, "max_eval": 7, "lr": 3.0},
    {"tolerance_change": 1e-3},
    {"tolerance_grad": 1e-1, "line_search_fn": "strong_wolfe"},
]
STEPS = 6


def data(dtype):
    random = np.random.default_rng(0)
    return random.standard_normal((30, 12)).astype(dtype), random.standard_normal(30).astype(dtype)


def train(package, optimizer, options, dtype, steps=STEPS):
    """Regularised logistic regression: the way of two parameters, losses, evaluations, and the optimizer."""
    features, signs = (package.tensor(array) for array in data(dtype))
    v = package.tensor(np.zeros((3, 2), dtype))
    w = package.tensor(np.zeros(6, dtype))
    v.requires_grad_()
    w.requires_grad_()
    method = optimizer([v, w], **options)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        method.zero_grad()
        margins = (features[:, :6] @ v.reshape(-1) + features[:, 6:] @ w) * signs
        loss = package.log(1 + package.exp(-margins)).sum() + 0.05 * ((v * v).sum() + (w * w).sum())
        loss.backward()
        return loss

    losses, way = [], []
    for _ in range(steps):
        losses.append(float(method.step(closure).detach()))
        way.append(np.concatenate([v.detach().numpy().ravel(), w.detach().numpy()]))
    return np.array(way), losses, calls, method


@pytest.mark.torch
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_trajectory_as_torch(options, backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, our_losses, our_calls, our_method = train(nbdl, LBFGS, options, "float64")
    theirs, their_losses, their_calls, their_method = train(torch, torch.optim.LBFGS, options, "float64")
    np.testing.assert_allclose(ours, theirs, atol=1e-9)
    np.testing.assert_allclose(our_losses, their_losses, rtol=1e-12)
    assert our_calls == their_calls
    for name in ("n_iter", "func_evals"):
        our_state = our_method.state[our_method.param_groups[0]["params"][0]]
        assert our_state[name] == their_method.state[their_method.param_groups[0]["params"][0]][name]


def test_float32_converges(backend):
    way, losses, _, _ = train(nbdl, LBFGS, {"line_search_fn": "strong_wolfe"}, "float32")
    reference, _, _, _ = train(nbdl, LBFGS, {"line_search_fn": "strong_wolfe"}, "float64")
    np.testing.assert_allclose(way[-1], reference[-1], atol=1e-3)
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("search", [None, "strong_wolfe"])
def test_resumed_run_is_the_same(clone, search):
    scale = nbdl.tensor(np.arange(1.0, 6.0))

    def make(start):
        x = nbdl.tensor(start, requires_grad=True)
        method = LBFGS([x], lr=0.3, max_iter=2, history_size=3, line_search_fn=search)

        def closure():
            method.zero_grad()
            loss = (scale * (x - 1) ** 2).sum() + (x**4).sum()
            loss.backward()
            return loss

        return x, method, closure

    x, method, closure = make(np.zeros(5))
    for _ in range(4):
        method.step(closure)
    saved = clone(method.state_dict())
    twin, resumed, twin_closure = make(x.detach().numpy().copy())
    resumed.load_state_dict(saved)
    for _ in range(3):
        method.step(closure)
        resumed.step(twin_closure)
    assert x.tolist() == twin.tolist()


def quadratic(groups, **options):
    """Two parameters, one a group, and their optimizer."""
    a = nbdl.zeros(2, dtype=nbdl.float64, requires_grad=True)
    b = nbdl.zeros(3, dtype=nbdl.float64, requires_grad=True)
    parts = [{"params": [p], "lr": lr} for p, lr in zip((a, b), groups, strict=True)]
    method = LBFGS(parts, line_search_fn="strong_wolfe", **options)

    def closure():
        method.zero_grad()
        loss = ((a - 1) ** 2).sum() + 3 * ((b - 2) ** 2).sum() + a.sum() * b.sum() / 10
        loss.backward()
        return loss

    return a, b, method, closure


def test_groups_have_their_own_rates():
    a, b, method, closure = quadratic((1.0, 0.0), max_iter=30)
    method.step(closure)
    assert b.tolist() == [0.0] * 3  # frozen
    np.testing.assert_allclose(a.detach().numpy(), 1.0, atol=1e-6)
    a, b, method, closure = quadratic((1.0, 0.01), max_iter=1)
    method.step(closure)
    # the first step goes along the gradient, scaled by the rates
    assert (b[0] / a[0]).item() == pytest.approx(0.01 * 12 / 2)
    for _ in range(60):
        method.step(closure)
    same = quadratic((1.0, 1.0), max_iter=60)
    same[2].step(same[3])
    np.testing.assert_allclose(b.detach().numpy(), same[1].detach().numpy(), atol=1e-6)


def test_a_trial_that_is_not_finite_is_shortened():
    x = nbdl.tensor([3.0], dtype=nbdl.float64, requires_grad=True)
    method = LBFGS([x], lr=100.0, line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        method.zero_grad()
        loss = (x - nbdl.log(x)).sum()
        loss.backward()
        return loss

    method.step(closure)
    assert x.item() == pytest.approx(1.0, abs=1e-5)


def test_history_is_detached():
    _, _, _, method = train(nbdl, LBFGS, {}, "float64", steps=2)
    state = method.state[method.param_groups[0]["params"][0]]
    assert state["steps"].shape == (100, 12)
    assert not any(value.requires_grad for value in state.values() if isinstance(value, nbdl.Tensor))


# ---- the two-loop recursion
def inverse_hessian(steps, changes):
    """Nocedal & Wright (2006), eq. (7.16), for pairs from the oldest to the newest."""
    n = steps.shape[1]
    inverse = np.eye(n)
    if len(steps):
        inverse *= steps[-1] @ changes[-1] / (changes[-1] @ changes[-1])
    for s, y in zip(steps, changes, strict=True):
        v = np.eye(n) - np.outer(y, s) / (s @ y)
        inverse = v.T @ inverse @ v + np.outer(s, s) / (s @ y)
    return inverse


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("oldest", "count"), [(0, 0), (0, 1), (0, 3), (0, 5), (3, 5)])
def test_two_loop_is_the_product_with_the_inverse(oldest, count, dtype, backend):
    random = np.random.default_rng(0)
    steps = random.standard_normal((5, 9))
    changes = steps * random.uniform(0.5, 2, 9) + 0.01 * random.standard_normal((5, 9))
    gradient = random.standard_normal(9)
    order = [(oldest + k) % 5 for k in range(count)]
    expected = inverse_hessian(steps[order], changes[order]) @ gradient
    arrays = [gradient, steps, changes, (steps * changes).sum(1), (changes**2).sum(1)]
    arrays = [array.astype(dtype) for array in arrays]
    found = registry.select().execute(TwoLoop.of(oldest, count), arrays)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=2e-5 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 650, 20_000])
def test_vectors_are_measured_and_remembered(n, dtype, backend):
    random = np.random.default_rng(n)
    x, old_x, g, old_g = random.standard_normal((4, n)).astype(dtype)
    execute, tolerance = registry.select().execute, {"rtol": 1e-3 if dtype == "float32" else 1e-9}
    measured = execute(SlopeAndSize.of(), [x, g])
    np.testing.assert_allclose(measured[0], x.astype(float) @ g, atol=1e-3, **tolerance)
    assert measured[1] == abs(x).max()
    assert measured.dtype == dtype
    rows = np.full((3, 2, n), np.nan, dtype)
    scalars = np.full((2, 3), np.nan, dtype)
    for _ in range(2):  # the second time by the plan of the first
        row = [*rows[1], *(scalars[k, 1:2].reshape(()) for k in range(2)), x, old_x, g, old_g]
        registry.select().overwrite(RememberPair.of(), [row], (0, 1, 2, 3))
    s, y = x - old_x, g - old_g
    assert (rows[1] == [s, y]).all()
    np.testing.assert_allclose(
        scalars[:, 1], [s.astype(float) @ y, y.astype(float) @ y], atol=1e-3, **tolerance
    )
    assert np.isnan(rows[[0, 2]]).all()
    assert np.isnan(scalars[:, [0, 2]]).all()


@pytest.mark.parametrize("place", [0, 8191, 8192, 19_999])
def test_a_nan_in_a_vector_is_its_size(place, backend):
    x = np.ones(20_000)
    x[place] = np.nan
    assert np.isnan(registry.select().execute(SlopeAndSize.of(), [x, x])).all()
    x[place] = -np.inf
    assert registry.select().execute(SlopeAndSize.of(), [x, x]).tolist() == [np.inf, np.inf]


def test_vectors_of_several_lengths_are_an_error():
    with pytest.raises(RuntimeError, match=r"slope_and_size: expected vectors of one length"):
        SlopeAndSize.of()(nbdl.ones(3), nbdl.ones(2))


# ---- compiled closures
def compiled_training(package, optimizer, options, dtype, compiled, factor=0.05):
    """As :func:`train` with a closure that is compiled or not; a number that it reads changes on the way."""
    features, signs = (package.tensor(array) for array in data(dtype))
    v, w = package.zeros(6, dtype=features.dtype), package.zeros(6, dtype=features.dtype)
    v.requires_grad_()
    w.requires_grad_()
    method = optimizer([v, w], **options)

    def closure():
        method.zero_grad()
        margins = (features[:, :6] @ v + features[:, 6:] @ w) * signs
        loss = package.log(1 + package.exp(-margins)).sum() + factor * ((v * v).sum() + (w * w).sum())
        loss.backward()
        return loss

    called = nbdl.compile(closure) if compiled else closure
    way = []
    for step in range(STEPS):
        if step == 3:
            factor = 0.5
            v.data = v.detach().clone()  # other memory, too
        way.append([float(method.step(called).detach()), *v.detach().numpy(), *w.detach().numpy()])
    return np.array(way)


@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[2], OPTIONS[5]])
def test_a_compiled_closure_takes_the_same_way(options, backend):
    ways = [compiled_training(nbdl, LBFGS, options, "float64", compiled) for compiled in (False, True)]
    np.testing.assert_allclose(*ways, rtol=1e-9, atol=1e-12)


def test_a_compiled_closure_is_one_program_with_the_step():
    w = nbdl.zeros(3, dtype=nbdl.float64, requires_grad=True)
    calls = itertools.count()  # a number would be a constant of the program

    def closure():
        next(calls)
        w.grad = None
        loss = ((w - nbdl.arange(3.0, dtype=nbdl.float64)) ** 4).sum()
        loss.backward()
        return loss

    compiled = nbdl.compile(closure)
    for _ in range(3):
        LBFGS([w], line_search_fn="strong_wolfe", max_iter=5).step(compiled)
    assert 1 <= next(calls) <= 4  # recorded, not run at each of 18 evaluations


def test_two_loop_backends_agree_on_strides_and_nan():
    numba, numpy = registry.load("numba"), registry.load("numpy")
    random = np.random.default_rng(0)
    for n in (1, 7, 1000):
        steps = random.standard_normal((4, 2 * n))[:, ::2]
        arrays = [random.standard_normal(n), steps, 2 * steps, 2 * (steps**2).sum(1), 4 * (steps**2).sum(1)]
        results = [backend.execute(TwoLoop.of(1, 4), arrays) for backend in (numba, numpy)]
        np.testing.assert_allclose(*results, rtol=1e-13)
        arrays[0] = arrays[0] * math.nan
        assert np.isnan(numba.execute(TwoLoop.of(1, 4), arrays)).all()
    with pytest.raises(RuntimeError, match="two_loop: expected operands of shapes"):
        numba.execute(TwoLoop.of(0, 1), [np.zeros(3), *[np.zeros((2, 4))] * 2, np.zeros(2), np.zeros(2)])


# ---- bad input
def parameter():
    return nbdl.ones(2, requires_grad=True)


BAD = {
    "no parameters": (ValueError, "empty parameter list", lambda: LBFGS([])),
    "lr": (ValueError, "learning rate", lambda: LBFGS([parameter()], lr=-1)),
    "lr of two": (ValueError, "1 element", lambda: LBFGS([parameter()], lr=nbdl.ones(2))),
    "history": (ValueError, "history_size", lambda: LBFGS([parameter()], history_size=0)),
    "tolerance": (ValueError, "tolerance_grad", lambda: LBFGS([parameter()], tolerance_grad=-1e-3)),
    "search": (ValueError, "strong_wolfe", lambda: LBFGS([parameter()], line_search_fn="armijo")),
    "no closure": (TypeError, "needs a closure", lambda: LBFGS([parameter()]).step()),
    "dtypes": (
        RuntimeError,
        "same dtype",
        lambda: LBFGS([parameter(), nbdl.ones(2, dtype=nbdl.float64, requires_grad=True)]).step(lambda: 0.0),
    ),
    "no gradient": (RuntimeError, "no gradient in any", lambda: LBFGS([parameter()]).step(lambda: 1.0)),
    "no loss": (TypeError, "must return the loss", lambda: LBFGS([parameter()]).step(lambda: None)),
    "no scalar": (RuntimeError, "scalar", lambda: LBFGS([parameter()]).step(lambda: nbdl.ones(3))),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    error, message, call = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("n", [9, 17, 40])
def test_sums_do_not_depend_on_where_vectors_lie(n, backend):
    # Loops over arrays that lie close behind each other may take another way through the same code.
    random, found = np.random.default_rng(0), set()
    values = [random.standard_normal(n) for _ in range(4)]
    execute = registry.cpu or registry.select()
    for _ in range(100):
        memory, start, rows = np.empty(8 * (n + 40)), 0, {}
        for k in random.permutation(6):
            start += random.integers(0, 40)
            rows[k] = memory[start : start + n]
            start += n
        for k, value in enumerate(values):
            rows[k][:] = value
        sums = np.zeros(()), np.zeros(())
        operands = [rows[4], rows[5], *sums, *[rows[k] for k in range(4)]]
        execute.overwrite(RememberPair.of(), [operands], (0, 1, 2, 3))
        found.add(tuple(x.tobytes() for x in (*sums, execute.execute(SlopeAndSize.of(), [rows[0], rows[1]]))))
    assert len(found) == 1

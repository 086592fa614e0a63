"""First-order methods that PyTorch has: trajectories, state, errors; and what is particular to some."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim

STEPS = 50
RESUMED_AT = 20

# name, options of the first group, what the second group changes
CASES = [
    ("Adagrad", {}, {"lr": 0.2}),
    ("Adagrad", {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}, {"eps": 1e-2}),
    ("Adagrad", {"maximize": True}, {"weight_decay": 0.2}),
    ("Adadelta", {}, {"rho": 0.5}),
    ("Adadelta", {"weight_decay": 0.1, "maximize": True, "eps": 1e-3}, {"lr": 1.0}),
    ("RMSprop", {}, {"alpha": 0.5}),
    ("RMSprop", {"momentum": 0.9, "weight_decay": 0.1}, {"momentum": 0.5}),
    ("RMSprop", {"centered": True, "maximize": True}, {"eps": 1e-2}),
    ("RMSprop", {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "alpha": 0.9}, {"centered": False}),
    ("Rprop", {}, {"etas": (0.2, 2.0)}),
    ("Rprop", {"step_sizes": (1e-3, 0.1), "maximize": True}, {"step_sizes": (1e-2, 1.0)}),
    ("ASGD", {}, {"lambd": 0.1}),
    ("ASGD", {"t0": 10, "lambd": 0.1, "alpha": 0.6, "weight_decay": 0.1, "maximize": True}, {"t0": 0.0}),
    ("Adamax", {}, {"betas": (0.5, 0.6)}),
    ("Adamax", {"weight_decay": 0.1, "eps": 1e-3, "maximize": True}, {"lr": 0.01}),
    ("NAdam", {}, {"momentum_decay": 0.1}),
    ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}, {"decoupled_weight_decay": False}),
    ("NAdam", {"weight_decay": 0.1, "maximize": True, "momentum_decay": 0.0}, {"betas": (0.5, 0.6)}),
    ("RAdam", {}, {"betas": (0.8, 0.9)}),
    ("RAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}, {"lr": 0.01}),
    ("RAdam", {"weight_decay": 0.1, "maximize": True, "betas": (0.7, 0.5)}, {"eps": 1e-2}),
    ("Adafactor", {}, {"beta2_decay": -0.5}),
    ("Adafactor", {"weight_decay": 0.1, "maximize": True, "d": 2.0}, {"eps": (1e-3, 1e-1)}),
]
# Rounding of both sides, accumulated over the steps.
TOLERANCE = {"float64": 1e-13, "float32": 5e-5}
SHAPES = [(3, 4), (5,), (2, 3, 2), (), (6, 1)]


@pytest.fixture
def torch():
    """PyTorch, keeping counters such as NAdam's product in float64, as this library does."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


def problem(dtype, shapes=SHAPES, steps=STEPS):
    """Values of parameters, and their gradients in every step."""
    random = np.random.default_rng(0)
    start = [random.standard_normal(shape).astype(dtype) for shape in shapes]
    gradients = [
        [np.asarray(np.sin(0.3 * k) + random.standard_normal(shape), dtype) for shape in shapes]
        for k in range(steps)
    ]
    return start, gradients


def two_groups(tensors, changes):
    return [{"params": tensors[:2]}, {"params": tensors[2:], **changes}]


def assert_same(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "options", "changes"), CASES, ids=str)
def test_same_steps_as_torch(name, options, changes, dtype, backend, torch):
    start, gradients = problem(dtype)
    ours = [nbdl.tensor(array, requires_grad=True) for array in start]
    theirs = [torch.tensor(array, requires_grad=True) for array in start]
    our_optimizer = getattr(optim, name)(two_groups(ours, changes), lr=0.05, **options)
    their_optimizer = getattr(torch.optim, name)(two_groups(theirs, changes), lr=0.05, **options)
    for k in range(STEPS):
        for mine, other, gradient in zip(ours, theirs, gradients[k], strict=True):
            mine.grad, other.grad = nbdl.tensor(gradient), torch.tensor(gradient)
        if k % 3 == 0:
            ours[1].grad = theirs[1].grad = None
        if k == RESUMED_AT:  # what PyTorch saved, a new optimizer of ours goes on with
            our_optimizer = getattr(optim, name)(two_groups(ours, {}), lr=7.0)
            our_optimizer.load_state_dict(their_optimizer.state_dict())
        if k == 30:
            our_optimizer.param_groups[0]["lr"] = their_optimizer.param_groups[0]["lr"] = 0.02
        our_optimizer.step()
        their_optimizer.step()
    assert_same(ours, theirs, TOLERANCE[dtype])


@pytest.mark.torch
@pytest.mark.parametrize(("name", "options", "changes"), CASES, ids=str)
def test_state_dict_has_torchs_layout(name, options, changes, torch):
    def state_of(package, optimizers):
        tensors = [package.ones(*shape, requires_grad=True) for shape in ((2, 3), (4,), (2,))]
        optimizer = getattr(optimizers, name)(two_groups(tensors, changes), lr=0.1, **options)
        tensors[0].grad, tensors[1].grad = package.ones(2, 3), package.ones(4)
        optimizer.step()
        return optimizer

    ours, theirs = state_of(nbdl, optim), state_of(torch, torch.optim)
    for mine, other in zip(
        ours.state_dict()["param_groups"], theirs.state_dict()["param_groups"], strict=True
    ):
        assert {key: mine[key] for key in other} == other
        assert set(mine) - set(other) <= {"eps_inside_root"}
    shapes = [
        {
            number: {key: tuple(value.shape) for key, value in entries.items()}
            for number, entries in optimizer.state_dict()["state"].items()
        }
        for optimizer in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]
    # The state goes back to PyTorch, as arrays.
    state = {
        number: {key: torch.tensor(value.numpy()) for key, value in entries.items()}
        for number, entries in ours.state_dict()["state"].items()
    }
    theirs.load_state_dict({**ours.state_dict(), "state": state})


@pytest.mark.torch
def test_muon_is_near_torchs(torch):
    start, gradients = problem("float64", [(3, 4)], 1)
    ours, theirs = nbdl.tensor(start[0], requires_grad=True), torch.tensor(start[0], requires_grad=True)
    ours.grad, theirs.grad = nbdl.tensor(gradients[0][0]), torch.tensor(gradients[0][0])
    optim.Muon([ours], lr=1.0).step()
    torch.optim.Muon([theirs], lr=1.0).step()
    assert_same([ours], [theirs], 0.02)


@pytest.mark.torch
@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.6), "eps": 1e-3, "maximize": True}], ids=str)
def test_sparse_adam_moves_the_rows_of_the_batch(options, backend, torch):
    start = np.random.default_rng(0).standard_normal((6, 3))
    ours, theirs = nbdl.tensor(start, requires_grad=True), torch.tensor(start, requires_grad=True)
    our_optimizer = optim.SparseAdam([ours], lr=0.05, **options)
    their_optimizer = torch.optim.SparseAdam([theirs], lr=0.05, **options)
    random = np.random.default_rng(1)
    for k in range(STEPS):
        rows, gradient = random.choice(5, 2, replace=False), random.standard_normal((2, 3))
        dense = np.zeros((6, 3))
        dense[rows] = gradient
        ours.grad = nbdl.tensor(dense)
        indices, values = torch.tensor(rows)[None], torch.tensor(gradient)
        theirs.grad = torch.sparse_coo_tensor(indices, values, (6, 3), check_invariants=True)
        if k == RESUMED_AT:
            our_optimizer = optim.SparseAdam([ours], lr=1.0)
            our_optimizer.load_state_dict(their_optimizer.state_dict())
        our_optimizer.step()
        their_optimizer.step()
    assert_same([ours], [theirs], 1e-13)
    assert (ours.detach().numpy()[5] == start[5]).all()


@pytest.mark.torch
def test_tensor_learning_rate_that_a_schedule_changes(torch):
    start, gradients = problem("float64")

    def run(package, optimizers, wrap):
        tensors = [package.tensor(array, requires_grad=True) for array in start]
        optimizer = optimizers.RMSprop(tensors, lr=wrap(0.05))
        scheduler = optimizers.lr_scheduler.StepLR(optimizer, 5)
        for step in gradients:
            for tensor, gradient in zip(tensors, step, strict=True):
                tensor.grad = package.tensor(gradient)
            optimizer.step()
            scheduler.step()
        return tensors

    assert_same(run(nbdl, optim, nbdl.tensor), run(torch, torch.optim, float), 1e-7)


# ------------------------------------------------------------ forms that PyTorch does not have
def descend(optimizer, tensor, curvature, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        ((curvature * tensor * tensor).sum() / 2).backward()
        optimizer.step()


def numpy_descend(rule, start, curvature, steps):
    x, state = start.copy(), {}
    for t in range(1, steps + 1):
        x = rule(x, curvature * x, state, t)
    return x


def mean_momentum(x, g, state, t):
    state["m"] = 0.8 * state.get("m", 0) + 0.2 * g
    return x - 0.05 * state["m"]


def velocity_momentum(x, g, state, t):
    state["v"] = 0.8 * state.get("v", 0) - 0.05 * g
    return x + state["v"]


def summed_momentum(x, g, state, t):
    state["v"] = 0.8 * state.get("v", 0) + g
    return x - 0.05 * state["v"]


def adagrad_inside(x, g, state, t):
    state["s"] = state.get("s", 0) + g * g
    return x - 0.05 * g / np.sqrt(state["s"] + 0.1)


def rmsprop_inside(x, g, state, t):
    state["v"] = 0.99 * state.get("v", 0) + 0.01 * g * g
    return x - 0.05 * g / np.sqrt(state["v"] + 0.1)


def uncorrected_adam(x, g, state, t):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g * g
    return x - 0.05 * state["m"] / (np.sqrt(state["v"]) + 1e-8)


FORMS = [
    (lambda p: optim.Momentum(p, 0.05, 0.8, "mean"), mean_momentum),
    (lambda p: optim.Momentum(p, 0.05, 0.8, "velocity"), velocity_momentum),
    (lambda p: optim.Momentum(p, 0.05, 0.8, "sum"), summed_momentum),
    (lambda p: optim.Adagrad(p, 0.05, eps=0.1, eps_inside_root=True), adagrad_inside),
    (lambda p: optim.RMSprop(p, 0.05, eps=0.1, eps_inside_root=True), rmsprop_inside),
    (lambda p: optim.UncorrectedAdam(p, 0.05), uncorrected_adam),
]


@pytest.mark.parametrize(("make", "rule"), FORMS)
def test_forms_by_name(make, rule, backend):
    start, curvature = np.array([3.0, -2.0, 0.5]), np.array([1.0, 4.0, 0.25])
    x = nbdl.tensor(start, requires_grad=True)
    descend(make([x]), x, nbdl.tensor(curvature), STEPS)
    expected = numpy_descend(rule, start, curvature, STEPS)
    np.testing.assert_allclose(x.detach().numpy(), expected, rtol=1e-12, atol=1e-13)


def nesterov_steps(base, start, curvature, steps):
    """x_{t+1} = y - base(gradient at y), y = x_t + 0.8 (x_t - x_{t-1})."""
    x = before = start.copy()
    state = {}
    for _ in range(steps):
        y = x + 0.8 * (x - before)
        before, x = x, y - base(curvature * y, state)
    return x


def plain_step(g, state):
    return 0.05 * g


def rmsprop_step(g, state):
    state["v"] = 0.99 * state.get("v", 0) + 0.01 * g * g
    return 0.05 * g / (np.sqrt(state["v"]) + 1e-8)


@pytest.mark.parametrize(("base", "rule"), [(optim.SGD, plain_step), (optim.RMSprop, rmsprop_step)])
def test_nesterov_evaluates_at_the_look_ahead_point(base, rule, backend):
    start, curvature = np.array([3.0, -2.0]), np.array([1.0, 4.0])
    x = nbdl.tensor(start, requires_grad=True)
    optimizer = optim.Nesterov([x], base, momentum=0.8, lr=0.05)

    def closure():
        optimizer.zero_grad()
        loss = (nbdl.tensor(curvature) * x * x).sum() / 2
        loss.backward()
        return loss

    for k in range(STEPS):
        if k == RESUMED_AT:
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer = optim.Nesterov([x], base, momentum=0.1, lr=1.0)
            optimizer.load_state_dict(saved)
        optimizer.step(closure)
    np.testing.assert_allclose(x.detach().numpy(), nesterov_steps(rule, start, curvature, STEPS), rtol=1e-11)


# ------------------------------------------------------------ resuming, learning
RESUMABLE = [
    ("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {}), ("Adagrad", {}),
    ("Adadelta", {}), ("RMSprop", {"momentum": 0.9, "centered": True}), ("Rprop", {}),
    ("ASGD", {"t0": 2}), ("Adamax", {}), ("NAdam", {}), ("RAdam", {}), ("Adafactor", {}), ("Muon", {}),
    ("SparseAdam", {}), ("Momentum", {}), ("UncorrectedAdam", {}), ("AdaBelief", {"amsgrad": True}),
    ("Yogi", {}), ("Adan", {}), ("Lion", {}), ("LAMB", {}), ("LARS", {}), ("Prodigy", {"d0": 0.1}),
    ("Shampoo", {"momentum": 0.5, "update_freq": 2}), ("SOAP", {"precondition_frequency": 2}),
    ("SGDScheduleFree", {}), ("AdamWScheduleFree", {"warmup_steps": 10}), ("Sophia", {}),
]  # fmt: skip


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize(("name", "options"), RESUMABLE, ids=str)
def test_resumed_run_is_the_same(name, options, clone):
    """Also where the second parameter has no gradient in every third step."""
    start, gradients = problem("float32", [(3, 4), (2, 2)], 15)

    def run(first, last, tensors, optimizer):
        for k in range(first, last):
            for place, (tensor, gradient) in enumerate(zip(tensors, gradients[k], strict=True)):
                tensor.grad = None if place == 1 and k % 3 == 0 else nbdl.tensor(gradient)
            optimizer.step()

    tensors = [nbdl.tensor(array, requires_grad=True) for array in start]
    optimizer = getattr(optim, name)(tensors, lr=0.05, **options)
    run(0, 7, tensors, optimizer)
    saved = clone(optimizer.state_dict())
    twins = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    resumed = getattr(optim, name)(twins, lr=1.0)
    resumed.load_state_dict(saved)
    run(7, 15, tensors, optimizer)
    run(7, 15, twins, resumed)
    assert [tensor.tolist() for tensor in tensors] == [tensor.tolist() for tensor in twins]
    assert tensors[0].tolist() != start[0].tolist()


LEARNERS = [
    ("Adagrad", {"lr": 0.3}), ("Adadelta", {"lr": 20.0}), ("RMSprop", {"lr": 0.01}), ("Rprop", {"lr": 0.01}),
    ("ASGD", {"lr": 0.3}), ("Adamax", {"lr": 0.05}), ("NAdam", {"lr": 0.02}), ("RAdam", {"lr": 0.05}),
    ("Adafactor", {"lr": 0.05}), ("SparseAdam", {"lr": 0.02}), ("Momentum", {"lr": 0.1}),
    ("UncorrectedAdam", {"lr": 0.02}), ("AdaBelief", {"lr": 0.02}), ("Yogi", {"lr": 0.05}),
    ("Adan", {"lr": 0.03}), ("Lion", {"lr": 5e-3}), ("LAMB", {"lr": 0.02}),
    ("LARS", {"lr": 1.0, "trust_coefficient": 0.02}), ("Prodigy", {}), ("SGDScheduleFree", {"lr": 1.0}),
    ("AdamWScheduleFree", {"lr": 0.05}), ("Shampoo", {"lr": 0.3}), ("SOAP", {"lr": 0.03}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), LEARNERS, ids=str)
def test_learns(name, options, backend):
    nbdl.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    x = nbdl.randn(64, 2)
    y = x[:, :1] - 0.5 * x[:, 1:]
    optimizer = getattr(optim, name)(model.parameters(), **options)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_a_step_makes_saved_values_stale():
    for name, options in RESUMABLE:
        w = nbdl.ones(2, 2, requires_grad=True)
        out = (w * w).sum()
        w.grad = nbdl.ones(2, 2)
        optimizer = getattr(optim, name)([w], lr=0.1, **options)
        for _ in range(2):  # the first step of SOAP does not move
            optimizer.step()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.backward()


# ------------------------------------------------------------ errors
def leaf():
    return nbdl.ones(2, 2, requires_grad=True)


BAD_ARGUMENTS = [
    (lambda: optim.Adagrad([leaf()], lr=-1), "Adagrad: Invalid learning rate: -1"),
    (lambda: optim.Adagrad([leaf()], lr_decay=-1), "Invalid lr_decay value: -1"),
    (lambda: optim.Adagrad([leaf()], initial_accumulator_value=-1), "Invalid initial_accumulator_value"),
    (lambda: optim.Adagrad([leaf()], lr=nbdl.ones(2)), "Tensor lr must be 1-element"),
    (lambda: optim.Adadelta([leaf()], rho=1.1), "Adadelta: Invalid rho value: 1.1"),
    (lambda: optim.RMSprop([leaf()], alpha=-0.1), "RMSprop: Invalid alpha value: -0.1"),
    (lambda: optim.RMSprop([leaf()], momentum=-0.1), "Invalid momentum value"),
    (lambda: optim.RMSprop([leaf()], differentiable=True), "differentiable=True is not supported"),
    (lambda: optim.Rprop([leaf()], etas=(1.1, 1.2)), "Rprop: Invalid eta values: 1.1, 1.2"),
    (lambda: optim.ASGD([leaf()], weight_decay=-1), "ASGD: Invalid weight_decay value"),
    (lambda: optim.Adamax([leaf()], betas=(0.9, 1.0)), "Adamax: Invalid beta parameter at index 1: 1.0"),
    (lambda: optim.NAdam([leaf()], momentum_decay=-1), "NAdam: Invalid momentum_decay value"),
    (lambda: optim.RAdam([leaf()], eps=-1), "RAdam: Invalid epsilon value: -1"),
    (lambda: optim.Adafactor([leaf()], d=0.5), "Adafactor: Clipping threshold d should be >= 1"),
    (lambda: optim.Adafactor([leaf()], beta2_decay=0.5), "beta2_decay should be <= 0"),
    (lambda: optim.Adafactor([leaf()], eps=(-1, 1e-3)), "epsilon1 should be >= 0 but is: -1"),
    (lambda: optim.SparseAdam([leaf()], lr=0.0), "SparseAdam: Invalid learning rate: 0.0"),
    (lambda: optim.SparseAdam([leaf()], eps=0.0), "Invalid epsilon value: 0.0"),
    (lambda: optim.Muon([nbdl.ones(2, requires_grad=True)]), r"found a parameter with size: \(2,\)"),
    (lambda: optim.Muon([leaf()], adjust_lr_fn="other"), "function 'other' is not supported"),
    (lambda: optim.Muon([leaf()], ns_steps=100), "less than 100"),
    (lambda: optim.Muon([leaf()], ns_coefficients=(1.0, 2.0)), "ns_coefficients must be 3 numbers, got"),
    (lambda: optim.muon.orthogonalize(nbdl.ones(2)), "2 dimensions"),
    (lambda: optim.Momentum([leaf()], form="other"), "form must be one of mean, velocity, sum, got 'other'"),
    (lambda: optim.Nesterov([leaf()], optim.SGD, momentum=2.0), r"momentum must be in \[0, 1\], got 2.0"),
    (lambda: optim.Nesterov([leaf()], optim.SGD, lr=-1.0), "SGD: Invalid learning rate"),
    (lambda: optim.AdaBelief([leaf()], weight_decay=-1), "AdaBelief: Invalid weight_decay value"),
    (lambda: optim.Yogi([leaf()], initial_accumulator=-1), "Yogi: Invalid initial_accumulator value"),
    (lambda: optim.Adan([leaf()], betas=(0.9, 0.9, 1.0)), "Adan: Invalid beta parameter at index 2"),
    (lambda: optim.Lion([leaf()], lr=-1), "Lion: Invalid learning rate"),
    (lambda: optim.LAMB([leaf()], eps=-1), "LAMB: Invalid epsilon value"),
    (lambda: optim.LARS([leaf()], trust_coefficient=-1), "LARS: Invalid trust_coefficient value"),
    (lambda: optim.Shampoo([leaf()], epsilon=0.0), "epsilon must be above 0"),
    (lambda: optim.Shampoo([leaf()], update_freq=0), "update_freq must be an integer from 1 on, got 0"),
    (lambda: optim.SOAP([leaf()], shampoo_beta=1.0), "shampoo_beta must be below 1"),
    (lambda: optim.SOAP([leaf()], precondition_frequency=0.5), "precondition_frequency must be an integer"),
    (lambda: optim.SAM([leaf()], optim.SGD, rho=-1), "SAM: Invalid rho: -1"),
    (lambda: optim.Prodigy([leaf()], d0=0.0), "d0 must be above 0"),
    (lambda: optim.Prodigy([leaf()], growth_rate=0.5), "growth_rate must be at least 1"),
    (lambda: optim.SGDScheduleFree([leaf()], momentum=0.0), r"momentum must be in \(0, 1\)"),
    (lambda: optim.AdamWScheduleFree([leaf()], betas=(0.0, 0.9)), "first beta must be above 0"),
    (lambda: optim.AdaHessian([leaf()], hessian_power=2.0), "Invalid Hessian power value: 2.0"),
    (lambda: optim.AdaHessian([leaf()], n_samples=0), "n_samples must be an integer of at least 1, got 0"),
    (lambda: optim.Sophia([leaf()], rho=-1), "Sophia: Invalid rho value"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "message"), BAD_ARGUMENTS)
def test_bad_arguments(action, message):
    with pytest.raises(ValueError, match=message):
        action()

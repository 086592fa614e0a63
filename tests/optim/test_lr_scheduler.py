"""Schedules of the learning rate: the same numbers as PyTorch's, state, composition, errors."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest

import nbdl
from nbdl import optim
from nbdl.optim import lr_scheduler

EPOCHS = 60


class Halving:
    """A function with a state."""

    def __init__(self, factor=0.5):
        self.factor = factor

    def __call__(self, epoch):
        return self.factor ** (epoch // 7)


def sequential(s, optimizer):
    first = s.ConstantLR(optimizer, factor=0.1, total_iters=3)
    second = s.ExponentialLR(optimizer, gamma=0.9)
    third = s.CosineAnnealingLR(optimizer, T_max=11)
    return s.SequentialLR(optimizer, [first, second, third], milestones=[5, 20])


def nested(s, optimizer):
    inner = s.SequentialLR(
        optimizer, [s.StepLR(optimizer, 2), s.LinearLR(optimizer, total_iters=4)], milestones=[4]
    )
    return s.SequentialLR(optimizer, [inner, s.PolynomialLR(optimizer, 30, 2.0)], milestones=[10])


def chained(s, optimizer):
    schedulers = [
        s.LinearLR(optimizer, 0.2, 0.8, 10),
        s.MultiStepLR(optimizer, [15, 15, 30]),
        s.CosineAnnealingLR(optimizer, 25, 0.01),
    ]
    return s.ChainedScheduler(schedulers)


# name: (the schedule, given the module and the optimizer)
SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, [lambda epoch: 0.95**epoch, Halving()]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 1 - 1 / (epoch + 2)),
    "step": lambda s, o: s.StepLR(o, 7, 0.3),
    "multistep": lambda s, o: s.MultiStepLR(o, [3, 20, 20, 41], 0.5),
    "constant": lambda s, o: s.ConstantLR(o, 0.25, 8),
    "constant from the start": lambda s, o: s.ConstantLR(o, 0.25, 0),
    "linear": lambda s, o: s.LinearLR(o, 0.1, 0.7, 25),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.93),
    "polynomial": lambda s, o: s.PolynomialLR(o, 40, 1.7),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 17, 0.001),
    "warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 9, 1, 0.001),
    "longer warm restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 5, 2),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, [0.5, 0.3], 5, 8),
    "cyclic triangular2": lambda s, o: s.CyclicLR(o, [0.01, 0.02], 0.5, 6, mode="triangular2"),
    "cyclic exp_range": lambda s, o: s.CyclicLR(o, 0.01, 0.5, 6, mode="exp_range", gamma=0.98),
    "cyclic by function": lambda s, o: s.CyclicLR(
        o, 0.01, 0.5, 4, scale_fn=Halving(0.9), scale_mode="iterations", base_momentum=0.7, max_momentum=0.99
    ),
    "one cycle": lambda s, o: s.OneCycleLR(o, 0.5, total_steps=EPOCHS + 1),
    "one cycle linear": lambda s, o: s.OneCycleLR(
        o, [0.5, 0.2], epochs=7, steps_per_epoch=10, anneal_strategy="linear", pct_start=0.4, div_factor=5.0
    ),
    "one cycle in three phases": lambda s, o: s.OneCycleLR(
        o, 0.5, total_steps=80, three_phase=True, base_momentum=0.8, final_div_factor=100.0
    ),
    "sequential": sequential,
    "nested": nested,
    "chained": chained,
}
MOMENTUM = {"SGD": {"momentum": 0.9}, "Adam": {}}


def optimizer_of(package, optimizers, name, lr=0.1):
    tensors = [package.ones(2, requires_grad=True) for _ in range(2)]
    return getattr(optimizers, name)(
        [{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.4 * lr}], lr=lr, **MOMENTUM[name]
    )


def what_it_sets(optimizer):
    return [
        [group["lr"], group.get("momentum"), *group.get("betas", ())][: 2 if "momentum" in group else None]
        for group in optimizer.param_groups
    ]


def followed(optimizer, scheduler, epochs):
    """The rates and momenta in each of the epochs."""
    values = []
    for _ in range(epochs):
        optimizer.step()
        values.append([*what_it_sets(optimizer), scheduler.get_last_lr()])
        scheduler.step()
    return values


def flat(values):
    """All numbers of nested lists."""
    if isinstance(values, (list, tuple)):
        return [number for value in values for number in flat(value)]
    return [] if values is None else [float(values)]


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # PyTorch's, of nested sequences
@pytest.mark.torch
@pytest.mark.parametrize("optimizer", MOMENTUM)
@pytest.mark.parametrize("name", SCHEDULES)
def test_same_numbers_as_torch(name, optimizer):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    ours, theirs = optimizer_of(nbdl, optim, optimizer), optimizer_of(torch, torch.optim, optimizer)
    mine = followed(ours, SCHEDULES[name](lr_scheduler, ours), EPOCHS)
    other = followed(theirs, SCHEDULES[name](torch.optim.lr_scheduler, theirs), EPOCHS)
    np.testing.assert_allclose(flat(mine), flat(other), rtol=1e-12, atol=1e-15)


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.torch
@pytest.mark.parametrize("name", SCHEDULES)
def test_state_goes_from_torch_to_us(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    theirs = optimizer_of(torch, torch.optim, "SGD")
    their_scheduler = SCHEDULES[name](torch.optim.lr_scheduler, theirs)
    followed(theirs, their_scheduler, 13)
    ours = optimizer_of(nbdl, optim, "SGD", lr=3.0)
    our_scheduler = SCHEDULES[name](lr_scheduler, ours)
    ours.load_state_dict(theirs.state_dict())
    our_scheduler.load_state_dict(copy.deepcopy(their_scheduler.state_dict()))
    mine, other = followed(ours, our_scheduler, 30), followed(theirs, their_scheduler, 30)
    np.testing.assert_allclose(flat(mine), flat(other), rtol=1e-12, atol=1e-15)


OURS = {
    "warm-up and cosine": lambda s, o: s.WarmupCosineLR(o, 5, 40, 0.001),
    "linear to final": lambda s, o: s.LinearToFinalLR(o, [0.01, 0.3], 30),
    "halve every": lambda s, o: s.HalveEvery(o, 9),
    "robbins-monro": lambda s, o: s.RobbinsMonroLR(o, 10.0, 0.75),
}


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
@pytest.mark.parametrize("name", [*SCHEDULES, *OURS])
def test_resumed_schedule_goes_on(name, clone):
    make = {**SCHEDULES, **OURS}[name]
    whole = optimizer_of(nbdl, optim, "SGD")
    scheduler = make(lr_scheduler, whole)
    followed(whole, scheduler, 13)
    resumed = optimizer_of(nbdl, optim, "SGD", lr=3.0)
    resumed_scheduler = make(lr_scheduler, resumed)
    resumed.load_state_dict(clone(whole.state_dict()))
    resumed_scheduler.load_state_dict(clone(scheduler.state_dict()))
    assert followed(resumed, resumed_scheduler, 20) == followed(whole, scheduler, 20)


EXPECTED = {
    "warm-up and cosine": lambda k, base: (
        base * (k + 1) / 6 if k < 5
        else 0.001 + (base - 0.001) * (1 + math.cos(math.pi * min((k - 5) / 35, 1.0))) / 2
    ),
    "linear to final": lambda k, base: (
        base + min(k / 30, 1.0) * ((0.01 if base == 0.1 else 0.3) - base)
    ),
    "halve every": lambda k, base: base / 2 ** (k // 9),
    "robbins-monro": lambda k, base: base * (10.0 / (10.0 + k)) ** 0.75,
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_schedules_of_the_textbooks(name):
    optimizer = optimizer_of(nbdl, optim, "SGD")
    values = followed(optimizer, OURS[name](lr_scheduler, optimizer), EPOCHS)
    expected = [[EXPECTED[name](k, base) for base in (0.1, 0.1 * 0.4)] for k in range(EPOCHS)]
    np.testing.assert_allclose([rates for *_, rates in values], expected, rtol=1e-12)


def test_robbins_monro_conditions():
    """The sum of rates grows without bound, the sum of their squares does not."""
    optimizer = optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
    scheduler = lr_scheduler.RobbinsMonroLR(optimizer)
    rates = np.array([scheduler.rate(1.0, k) for k in range(100_000)])
    assert rates.sum() == pytest.approx(math.log(100_000) + np.euler_gamma, rel=1e-4)
    assert (rates**2).sum() == pytest.approx(math.pi**2 / 6, abs=2e-5)


@pytest.mark.torch
def test_warm_restarts_at_fractions_of_epochs():
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    for options in ({"T_0": 3}, {"T_0": 3, "T_mult": 2, "eta_min": 0.01}):
        values = []
        for package, optimizers in ((nbdl, optim), (torch, torch.optim)):
            optimizer = optimizer_of(package, optimizers, "SGD")
            scheduler = optimizers.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, **options)
            rates = []
            for epoch in [*np.arange(0, 25, 0.3), 2.0, 0.5]:
                scheduler.step(float(epoch))
                rates.append(list(scheduler.get_last_lr()))
            for _ in range(10):
                scheduler.step()
                rates.append(list(scheduler.get_last_lr()))
            values.append(rates)
        np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(
    "name", ["step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine"]
)
def test_closed_forms(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = []
    for package, optimizers in ((nbdl, optim), (torch, torch.optim)):
        optimizer = optimizer_of(package, optimizers, "SGD")
        scheduler = SCHEDULES[name](optimizers.lr_scheduler, optimizer)
        optimizer.step()
        rates = []
        for epoch in (5, 33, 2, 50):
            with pytest.warns(UserWarning, match="epoch parameter"):
                scheduler.step(epoch)
            rates.append(list(scheduler.get_last_lr()))
        values.append(rates)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


STARTED_LATE = {
    "step": lambda s, o, **last: s.StepLR(o, 7, 0.3, **last),
    "cosine": lambda s, o, **last: s.CosineAnnealingLR(o, 17, 0.001, **last),
    "linear": lambda s, o, **last: s.LinearLR(o, 0.1, 0.7, 25, **last),
    "warm restarts": lambda s, o, **last: s.CosineAnnealingWarmRestarts(o, 9, 1, 0.001, **last),
    "cyclic": lambda s, o, **last: s.CyclicLR(o, 0.01, [0.5, 0.3], 5, 8, **last),
    "one cycle": lambda s, o, **last: s.OneCycleLR(o, 0.5, total_steps=EPOCHS, **last),
}


@pytest.mark.torch
@pytest.mark.parametrize("name", STARTED_LATE)
def test_started_at_a_later_epoch(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = []
    for package, optimizers in ((nbdl, optim), (torch, torch.optim)):
        optimizer = optimizer_of(package, optimizers, "SGD")
        schedules = optimizers.lr_scheduler
        followed(optimizer, STARTED_LATE[name](schedules, optimizer), 10)
        values.append(followed(optimizer, STARTED_LATE[name](schedules, optimizer, last_epoch=9), 20))
    np.testing.assert_allclose(flat(values[0]), flat(values[1]), rtol=1e-12)


METRICS = [
    5,
    4,
    3,
    3,
    3,
    2.99999,
    3,
    3,
    3,
    3,
    2,
    2,
    2,
    2,
    2,
    2,
    2,
    float("nan"),
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
    1,
]
PLATEAUS = [
    {"patience": 2},
    {"patience": 0, "cooldown": 2, "factor": 0.5, "min_lr": [0.01, 0.03]},
    {"mode": "max", "patience": 1, "threshold": 0.5, "threshold_mode": "abs"},
    {"mode": "max", "patience": 3, "threshold": 0.01},
    {"threshold_mode": "abs", "threshold": 0.6, "patience": 1, "eps": 0.05, "factor": 0.2},
]


@pytest.mark.torch
@pytest.mark.parametrize("options", PLATEAUS, ids=str)
def test_plateaus(options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = []
    for package, optimizers in ((nbdl, optim), (torch, torch.optim)):
        optimizer = optimizer_of(package, optimizers, "SGD")
        scheduler = optimizers.lr_scheduler.ReduceLROnPlateau(optimizer, **options)
        rates = []
        for k, metric in enumerate(METRICS):
            if k == 8:
                state = copy.deepcopy(scheduler.state_dict())
                scheduler = optimizers.lr_scheduler.ReduceLROnPlateau(optimizer)
                scheduler.load_state_dict(state)
            scheduler.step(package.tensor(float(metric)))
            rates.append((scheduler.get_last_lr(), scheduler.num_bad_epochs, scheduler.best))
        values.append(rates)
    np.testing.assert_allclose(flat(values[0]), flat(values[1]), rtol=1e-12)


def test_halve_on_plateau():
    optimizer = optim.SGD([nbdl.ones(1, requires_grad=True)], lr=0.8)
    scheduler = lr_scheduler.HalveOnPlateau(optimizer, patience=1, min_lr=0.3)
    rates = []
    for metric in (3.0, 3.0, 3.0, 3.0, 3.0, 1.0):
        scheduler.step(metric)
        rates += scheduler.get_last_lr()
    assert rates == [0.8, 0.8, 0.4, 0.4, 0.3, 0.3]


def test_plateau_after_a_new_group():
    optimizer = optim.SGD([nbdl.ones(1, requires_grad=True)], lr=0.8)
    common = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=0.1)
    listed = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.1])
    optimizer.add_param_group({"params": nbdl.ones(2, requires_grad=True), "lr": 0.4})
    for scheduler in (common, listed):
        scheduler.step(1.0)
    common.step(1.0)
    assert common.get_last_lr() == pytest.approx([0.1, 0.1])
    with pytest.raises(RuntimeError, match="number of param groups"):
        listed.step(1.0)


def test_own_schedule_and_warnings():
    class Alternating(lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base * (-1) ** self.last_epoch for base in self.base_lrs]

    optimizer = optim.SGD([nbdl.ones(1, requires_grad=True)], lr=1.0)
    scheduler = Alternating(optimizer)
    with pytest.warns(UserWarning, match=r"before optimizer.step\(\)"):
        scheduler.step()
    assert scheduler.get_last_lr() == [-1.0]
    built_in = lr_scheduler.ExponentialLR(optimizer, 0.5)
    with pytest.warns(UserWarning, match="get_last_lr"):
        built_in.get_lr()


def test_tensor_rates_change_in_place():
    rate = nbdl.tensor(1.0)
    optimizer = optim.SGD([nbdl.ones(1, requires_grad=True)], lr=rate)
    scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == 0.5
    assert scheduler.get_last_lr() == [0.5]


def make(name, *args, lr=0.1, kind="SGD", **options):
    return lambda: getattr(lr_scheduler, name)(optimizer_of(nbdl, optim, kind), *args, **options)


def composed(build):
    def action():
        optimizer = optimizer_of(nbdl, optim, "SGD")
        return build(optimizer, lr_scheduler.ExponentialLR(optimizer, 0.5))

    return action


def beyond_the_end():
    optimizer = optimizer_of(nbdl, optim, "SGD")
    followed(optimizer, lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=3), 5)


S = lr_scheduler
BAD_ARGUMENTS = [
    (lambda: S.StepLR(3, 1), TypeError, "StepLR: int is not an Optimizer"),
    (lambda: S.ReduceLROnPlateau(3), TypeError, "int is not an Optimizer"),
    (make("StepLR", 3, last_epoch=4), KeyError, "'initial_lr' is not specified"),
    (make("LambdaLR", [abs]), ValueError, "Expected 2 lr_lambdas, but got 1"),
    (make("MultiplicativeLR", 3), TypeError, "should be a function, but got int"),
    (make("ConstantLR", 1.5), ValueError, "between 0 and 1, got 1.5"),
    (make("LinearLR", 0.0), ValueError, "greater than 0 and less or equal to 1, got 0.0"),
    (make("LinearLR", 0.5, 2.0), ValueError, "between 0 and 1, got 2.0"),
    (make("CosineAnnealingWarmRestarts", 0), ValueError, "positive integer T_0, but got 0"),
    (make("CosineAnnealingWarmRestarts", 3, 0), ValueError, "T_mult >= 1, but got 0"),
    (make("CosineAnnealingWarmRestarts", 3, eta_min="0"), ValueError, "float or int eta_min"),
    (lambda: make("CosineAnnealingWarmRestarts", 3)().step(-1), ValueError, "non-negative epoch, but got -1"),
    (make("CyclicLR", [0.1], 1.0), ValueError, "base_lr must have the same length"),
    (make("CyclicLR", 0.1, 1.0, mode="square"), ValueError, "mode is invalid and scale_fn is None"),
    (make("OneCycleLR", 0.1), ValueError, r"either total_steps OR \(epochs AND steps_per_epoch\)"),
    (make("OneCycleLR", 0.1, 0), ValueError, "positive integer total_steps, but got 0"),
    (make("OneCycleLR", 0.1, epochs=2, steps_per_epoch=0.5), ValueError, "positive integer steps_per_epoch"),
    (make("OneCycleLR", 0.1, 9, pct_start=2), ValueError, "float between 0 and 1 pct_start, but got 2"),
    (make("OneCycleLR", 0.1, 9, anneal_strategy="no"), ValueError, "must be one of 'cos' or 'linear'"),
    (beyond_the_end, ValueError, "Tried to step 4 times. The specified number of total steps is 3"),
    (
        lambda: S.OneCycleLR(optim.Adagrad([nbdl.ones(1, requires_grad=True)]), 0.1, 9),
        ValueError,
        "must support momentum or beta1",
    ),
    (make("ReduceLROnPlateau", factor=1.0), ValueError, "Factor should be < 1.0"),
    (make("ReduceLROnPlateau", "least"), ValueError, "mode least is unknown"),
    (make("ReduceLROnPlateau", threshold_mode="no"), ValueError, "threshold mode no is unknown"),
    (make("ReduceLROnPlateau", min_lr=[0.1]), ValueError, "expected 2 min_lrs, got 1"),
    (make("LinearToFinalLR", 0.1, 0), ValueError, "total_iters must be at least 1, got 0"),
    (make("RobbinsMonroLR", power=0.5), ValueError, "power must be above 1/2 and at most 1, got 0.5"),
    (make("RobbinsMonroLR", 0.0), ValueError, "decay_steps must be above 0"),
    (make("WarmupCosineLR", 5, 5), ValueError, "0 <= warmup_steps < total_steps"),
    (composed(lambda o, s: S.SequentialLR(o, [], [])), ValueError, "at least one scheduler"),
    (composed(lambda o, s: S.SequentialLR(o, [s], [3])), ValueError, "one more than the number of milestone"),
    (composed(lambda o, s: S.SequentialLR(o, [s, 3], [3])), TypeError, "index 1 should have `optimizer`"),
    (composed(lambda o, s: S.ChainedScheduler([])), ValueError, "at least one scheduler"),
    (
        composed(lambda o, s: S.ChainedScheduler([s, S.ReduceLROnPlateau(o)])),
        ValueError,
        "does not support `ReduceLROnPlateau`",
    ),
    (
        composed(lambda o, s: S.ChainedScheduler([s, make("StepLR", 3)()])),
        ValueError,
        "StepLR at index 1, which belongs to another",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("action", "kind", "message"), BAD_ARGUMENTS)
def test_bad_arguments(action, kind, message):
    with pytest.raises(kind, match=message):
        action()

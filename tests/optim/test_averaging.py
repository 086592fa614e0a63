"""Averages of iterates, and finding a learning rate."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

import nbdl
from nbdl import nn, optim
from nbdl.optim import swa_utils


def network(package):
    return package.nn.Sequential(package.nn.Linear(3, 4), package.nn.BatchNorm1d(4), package.nn.Linear(4, 2))


def weights(seed, shapes):
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape) for shape in shapes]


def set_weights(package, model, seed):
    """Floating parameters and buffers; the count of batches is ``seed``."""
    entries = [*model.parameters(), *model.buffers()]
    for entry, value in zip(entries, weights(seed, [tuple(entry.shape) for entry in entries]), strict=True):
        with package.no_grad():
            entry.copy_(package.tensor(abs(value)) if entry.is_floating_point() else package.tensor(seed))


AVERAGES = {
    "default": lambda utils: {},
    "swa": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "swa of lists": lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    "ema": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.7)},
    "ema of lists": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7)},
    "own": lambda utils: {"avg_fn": lambda average, value, n: average + value * n},
}


@pytest.fixture
def torch():
    """PyTorch, computing weights of averages in float64, as this library does."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


# PyTorch's mean of lists fails on integers, such as batch norm's count of batches.
WITH_BUFFERS = [(name, True) for name in AVERAGES if name not in ("default", "swa of lists")]


@pytest.mark.torch
@pytest.mark.parametrize(("name", "use_buffers"), [*((name, False) for name in AVERAGES), *WITH_BUFFERS])
def test_same_averages_as_torch(name, use_buffers, backend, torch):
    averaged = []
    for package, utils in ((nbdl, swa_utils), (torch, torch.optim.swa_utils)):
        model = network(package).double()
        average = utils.AveragedModel(model, use_buffers=use_buffers, **AVERAGES[name](utils))
        for seed in range(6):
            set_weights(package, model, seed)
            average.update_parameters(model)
        averaged.append(average.state_dict())
    ours, theirs = averaged
    assert list(ours) == list(theirs)
    for key, value in ours.items():
        np.testing.assert_allclose(value.numpy(), theirs[key].numpy(), rtol=1e-13, err_msg=key)


def test_averaged_model_computes_and_is_restored():
    model = nn.Linear(2, 1)
    average = swa_utils.AveragedModel(model, avg_fn=swa_utils.get_ema_avg_fn(0.5))
    for value in (1.0, 3.0):
        nn.init.constant_(model.weight, value)
        average.update_parameters(model)
    assert average.n_averaged.item() == 2
    assert average(nbdl.tensor([[1.0, 1.0]])).item() == pytest.approx(4.0 + average.module.bias.item())
    twin = swa_utils.AveragedModel(nn.Linear(2, 1))
    twin.load_state_dict(copy.deepcopy(average.state_dict()))
    assert twin.module.weight.tolist() == [[2.0, 2.0]]
    assert model.weight.tolist() == [[3.0, 3.0]]


@pytest.mark.torch
def test_update_bn_is_torchs(backend):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    batches = weights(0, [(5, 3), (8, 3), (6, 3)])
    statistics = []
    for package, utils in ((nbdl, swa_utils), (torch, torch.optim.swa_utils)):
        model = network(package).double()
        set_weights(package, model, 1)
        model.eval()
        loader = [package.tensor(batches[0]), (package.tensor(batches[1]), 0), [package.tensor(batches[2])]]
        utils.update_bn(loader, model)
        assert not model.training
        assert model[1].momentum == 0.1
        statistics.append([buffer.numpy() for buffer in model.buffers()])
    for mine, other in zip(*statistics, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-12)


def test_update_bn_leaves_other_models_alone():
    def batches():
        raise AssertionError("a model without batch norm needs no batches")
        yield

    swa_utils.update_bn(batches(), nn.Linear(2, 1))


@pytest.mark.torch
@pytest.mark.parametrize(
    "options", [{}, {"anneal_epochs": 0}, {"anneal_epochs": 4, "anneal_strategy": "linear"}]
)
def test_swalr_is_torchs(options):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    values = []
    for package, optimizers in ((nbdl, optim), (torch, torch.optim)):
        tensors = [package.ones(2, requires_grad=True) for _ in range(2)]
        optimizer = optimizers.SGD([{"params": tensors[:1]}, {"params": tensors[1:], "lr": 0.4}], lr=1.0)
        decay = optimizers.lr_scheduler.ExponentialLR(optimizer, 0.9)
        swa = optimizers.swa_utils.SWALR(optimizer, swa_lr=[0.05, 0.01], **options)
        rates = []
        for epoch in range(30):
            optimizer.step()
            (decay if epoch < 10 else swa).step()
            if epoch == 14:
                state = copy.deepcopy(swa.state_dict())
                swa = optimizers.swa_utils.SWALR(optimizer, swa_lr=[0.05, 0.01])
                swa.load_state_dict(state)
            rates.append([group["lr"] for group in optimizer.param_groups])
        values.append(rates)
    np.testing.assert_allclose(values[0], values[1], rtol=1e-12)


BAD_AVERAGES = [
    (lambda: swa_utils.get_ema_avg_fn(1.5), ValueError, "Invalid decay value 1.5"),
    (lambda: swa_utils.get_ema_multi_avg_fn(-0.1), ValueError, "Invalid decay value -0.1"),
    (
        lambda: swa_utils.AveragedModel(nn.Linear(1, 1), avg_fn=max, multi_avg_fn=max),
        AssertionError,
        "Only one of avg_fn and multi_avg_fn",
    ),
    (lambda: swa_utils.SWALR(quadratic()[1], 0.1, anneal_strategy="no"), ValueError, "'cos' or 'linear'"),
    (lambda: swa_utils.SWALR(quadratic()[1], 0.1, anneal_epochs=-1), ValueError, "equal or greater than 0"),
    (lambda: swa_utils.SWALR(quadratic()[1], [0.1, 0.2]), ValueError, "same length"),
]


@pytest.mark.parametrize(("action", "kind", "message"), BAD_AVERAGES)
def test_bad_averages(action, kind, message):
    with pytest.raises(kind, match=message):
        action()


# ------------------------------------------------------------ finding a rate
def quadratic(kind=optim.SGD, lr=0.1, **options):
    """A loss whose Hessian has the eigenvalues 1 and 8, and its optimizer."""
    w = nbdl.tensor(np.array([1.0, 1.0]), requires_grad=True)
    curvature = nbdl.tensor(np.array([1.0, 8.0]))
    return (lambda: (curvature * w * w).sum() / 2), kind([w], lr=lr, **options), w


# Momentum in the form "sum": stable below 2 (1 + beta) / curvature; plain descent: beta = 0.
STABLE = [({}, 2 / 8), ({"momentum": 0.5}, 3 / 8), ({"momentum": 0.9}, 3.8 / 8)]


@pytest.mark.parametrize(("options", "expected"), STABLE)
def test_largest_stable_rate(options, expected, backend):
    loss, optimizer, w = quadratic(**options)
    loss().backward()
    optimizer.step()
    before = w.tolist(), w.grad, optimizer.state_dict()["state"].get(0, {}).get("momentum_buffer")
    saved = None if before[2] is None else before[2].tolist()
    study = optim.largest_stable_rate(loss, optimizer, 1e-3, 100.0, n_steps=400, n_trials=24)
    assert study.largest_stable == pytest.approx(expected, rel=0.03)
    assert study.largest_stable in study.rates
    assert len(study.rates) == len(study.losses) == 24
    assert (np.diff(study.rates) > 0).all()
    assert (w.tolist(), w.grad) == before[:2]
    assert optimizer.param_groups[0]["lr"] == 0.1
    if saved is not None:
        assert optimizer.state[w]["momentum_buffer"].tolist() == saved


def test_all_rates_stable_or_none():
    loss, optimizer, _ = quadratic()
    assert optim.largest_stable_rate(loss, optimizer, 1e-4, 1e-2).largest_stable == 1e-2
    nothing = optim.largest_stable_rate(loss, optimizer, 10.0, 20.0)
    assert math.isnan(nothing.largest_stable)
    assert len(nothing.rates) == 1


def test_rate_range_test():
    loss, optimizer, w = quadratic(lr=nbdl.tensor(0.1))
    rate = optimizer.param_groups[0]["lr"]
    study = optim.rate_range_test(loss, optimizer, 1e-4, 10.0, n_steps=80, smoothing=0.3)
    assert study.rates[0] == 1e-4
    assert len(study.rates) == len(study.losses) < 80  # it exploded
    assert 1e-3 < study.suggestion < study.largest_stable < 2.0
    assert w.tolist() == [1.0, 1.0]
    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.1)


def test_plot(monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="draws a picture")
    matplotlib.use("Agg")
    loss, optimizer, _ = quadratic()
    study = optim.rate_range_test(loss, optimizer, 1e-4, 10.0)
    axes = study.plot()
    assert axes.get_xscale() == "log"
    assert len(axes.get_lines()) == 3
    assert len(axes.get_lines()[0].get_xdata()) == np.isfinite(study.losses).sum()
    assert study.plot(axes) is axes
    matplotlib.pyplot.close(axes.figure)


BAD_RATES = [
    ({"low": 0.0}, "expected 0 < low < high, got low=0.0"),
    ({"low": 2.0, "high": 1.0}, "expected 0 < low < high"),
    ({"n_steps": 0}, "n_steps must be at least"),
]


@pytest.mark.parametrize("function", [optim.largest_stable_rate, optim.rate_range_test])
@pytest.mark.parametrize(("options", "message"), BAD_RATES)
def test_bad_rates(function, options, message):
    with pytest.raises(ValueError, match=message):
        function(*quadratic()[:2], **options)


def test_bad_options_of_rate_finders():
    loss, optimizer, _ = quadratic()
    with pytest.raises(ValueError, match="n_trials must be at least 2"):
        optim.largest_stable_rate(loss, optimizer, n_trials=1)
    with pytest.raises(ValueError, match="smoothing"):
        optim.rate_range_test(loss, optimizer, smoothing=0.0)

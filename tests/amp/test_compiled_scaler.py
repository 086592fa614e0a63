"""A whole step with scaled losses as one program: the numbers of an eager run, also where steps overflow."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl

OPTIMIZERS = {
    "SGD": (nbdl.optim.SGD, {"momentum": 0.9}),
    "plain SGD": (nbdl.optim.SGD, {}),
    "Adam": (nbdl.optim.Adam, {"amsgrad": True}),
    "AdamW": (nbdl.optim.AdamW, {}),
    "RMSprop": (nbdl.optim.RMSprop, {"momentum": 0.5}),
    "NAdam": (nbdl.optim.NAdam, {}),
    "ASGD": (nbdl.optim.ASGD, {}),
    "AdamWScheduleFree": (nbdl.optim.AdamWScheduleFree, {}),
}
STEPS = 9


def run(name, overflows, compiled, device="cpu", later=None):
    """Scales, parameters and state after each of some steps; ``later`` is done before the sixth one."""
    kind, options = OPTIMIZERS[name]
    w = nbdl.tensor(np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3), device=device, requires_grad=True)
    b = nbdl.zeros(3, device=device, requires_grad=True)
    optimizer = kind([w, b], lr=0.05, **options)
    scaler = nbdl.amp.GradScaler(device, init_scale=16.0, growth_interval=2, backoff_factor=0.25)

    def step(x, factor):
        optimizer.zero_grad()
        loss = ((x @ w + b).square() * factor).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        return loss.detach()

    go = nbdl.compile(step) if compiled else step
    found = []
    for k in range(STEPS):
        if k == 5 and later is not None:
            later(scaler, optimizer)
        x = nbdl.tensor(np.random.default_rng(k).random((4, 2), np.float32), device=device)
        go(x, nbdl.tensor(np.float32(np.inf if k in overflows else 1.0), device=device))
        tensors = [w, b, *[entry for p in (w, b) for entry in optimizer.state[p].values()]]
        numbers = [
            np.atleast_1d(t.detach().cpu().numpy()).ravel() for t in tensors if isinstance(t, nbdl.Tensor)
        ]
        found.append((scaler.get_scale(), np.concatenate(numbers)))
    return found, scaler.state_dict()


def check(*args, **kwargs):
    """A compiled run gives what an eager one gives."""
    with np.errstate(all="ignore"):
        (got, state), (expected, expected_state) = (run(*args, c, **kwargs) for c in (True, False))
    assert state == expected_state
    for (scale, a), (expected_scale, b) in zip(got, expected, strict=True):
        assert scale == expected_scale
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("overflows", [(), (1, 4, 5), (3, 8)], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_skipped_inside_of_a_program(backend, name, overflows):
    check(name, overflows)


@pytest.mark.parametrize("overflows", [(0,), (0, 1, 3), (2,)], ids=str)
def test_the_first_step_that_is_not_skipped_is_not_dampened(backend, overflows):
    """Nor is it in an eager run, which has no state before it."""
    results = []
    for compiled in (True, False):
        w = nbdl.ones(3, requires_grad=True)
        optimizer = nbdl.optim.SGD([w], lr=0.1, momentum=0.9, dampening=0.5)
        scaler = nbdl.amp.GradScaler("cpu", init_scale=4.0)

        def step(factor, w=w, optimizer=optimizer, scaler=scaler):
            optimizer.zero_grad()
            scaler.scale((w.square() * factor).sum()).backward()
            scaler.step(optimizer)
            scaler.update()

        go = nbdl.compile(step) if compiled else step
        with np.errstate(all="ignore"):
            for k in range(6):
                go(nbdl.tensor(np.inf if k in overflows else 1.0))
                if compiled and k == 3:  # what is saved and loaded says which step comes
                    optimizer.load_state_dict(optimizer.state_dict())
        results.append(w.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_changed_settings_reach_the_program(backend):
    def later(scaler, optimizer):
        scaler.set_growth_factor(3.0)
        scaler.set_growth_interval(1)
        optimizer.param_groups[0]["lr"] = 0.01

    check("Adam", (3,), later=later)


def test_loaded_state_reaches_the_program(backend):
    def later(scaler, optimizer):
        scaler.load_state_dict({**scaler.state_dict(), "scale": 4.0, "_growth_tracker": 1})
        optimizer.load_state_dict(optimizer.state_dict())

    check("AdamW", (3,), later=later)


def test_a_method_that_must_read_the_flag_says_so(backend):
    w = nbdl.ones(2, 2, requires_grad=True)
    optimizer, scaler = nbdl.optim.Muon([w], lr=0.1), nbdl.amp.GradScaler("cpu")

    @nbdl.compile
    def step():
        scaler.scale(w.square().sum()).backward()
        scaler.step(optimizer)

    with pytest.raises(nbdl.compiler.RecordingError, match="test_compiled_scaler"):
        step()

"""GradScaler: scales, skipped steps and state against PyTorch on the CPU; closures; errors."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl


def history(library, overflows, **settings):
    """Scales and parameters over steps, some of which overflow."""
    w = library.ones(3, requires_grad=True)
    optimizer = library.optim.SGD([w], lr=0.1, momentum=0.9)
    scaler = library.amp.GradScaler("cpu", init_scale=16.0, **settings)
    found = []
    for overflow in overflows:
        optimizer.zero_grad()
        loss = (w * w).sum() * (float("inf") if overflow else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        found.append((scaler.get_scale(), *w.detach().numpy().tolist()))
    return found, scaler.state_dict()


@pytest.mark.torch
@pytest.mark.parametrize("interval", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_scales_and_parameters_are_those_of_pytorch(backend, seed, interval):
    torch = pytest.importorskip("torch")
    overflows = np.random.default_rng(seed).random(12) < 0.3
    settings = {"growth_interval": interval, "growth_factor": 3.0, "backoff_factor": 0.25}
    got, state = history(nbdl, overflows, **settings)
    expected, expected_state = history(torch, overflows, **settings)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)
    assert state == pytest.approx(expected_state)


def test_the_scale_stays_finite():
    scaler = nbdl.amp.GradScaler("cpu", init_scale=3e38, growth_interval=1)
    w = nbdl.zeros(2, requires_grad=True)
    optimizer = nbdl.optim.SGD([w], lr=0.1)
    scaler.scale((w * 1e-30).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == pytest.approx(3e38)


def test_unscale_before_clipping():
    w = nbdl.ones(2, requires_grad=True)
    optimizer, scaler = nbdl.optim.SGD([w], lr=1.0), nbdl.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale((w * 3).sum()).backward()
    scaler.unscale_(optimizer)
    np.testing.assert_array_equal(w.grad.numpy(), 3)
    scaler.step(optimizer)
    np.testing.assert_array_equal(w.detach().numpy(), -2)
    with pytest.raises(RuntimeError, match=r"unscale_\(\) is being called after step"):
        scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called since the last update"):
        scaler.step(optimizer)
    scaler.update()
    scaler.scale((w * 3).sum()).backward()
    scaler.unscale_(optimizer)
    with pytest.raises(RuntimeError, match="already been called on this optimizer"):
        scaler.unscale_(optimizer)


def test_two_optimizers_share_one_scale():
    a, b = nbdl.ones(2, requires_grad=True), nbdl.ones(2, requires_grad=True)
    first, second = nbdl.optim.SGD([a], lr=1.0), nbdl.optim.SGD([b], lr=1.0)
    scaler = nbdl.amp.GradScaler("cpu", init_scale=4.0)
    for output in scaler.scale([a.sum(), (b * float("nan")).sum()]):
        output.backward()
    scaler.step(first)
    scaler.step(second)
    scaler.update()
    np.testing.assert_array_equal(a.detach().numpy(), 0)
    np.testing.assert_array_equal(b.detach().numpy(), 1)
    assert scaler.get_scale() == 2.0


class TestClosures:
    def minimized(self, scaler, optimizer_of, overflow_at=()):
        w = nbdl.tensor([3.0, -2.0], requires_grad=True)
        optimizer, calls = optimizer_of([w]), []

        def closure():
            calls.append(None)
            optimizer.zero_grad()
            loss = (w * w * nbdl.tensor([1.0, 10.0])).sum()
            factor = float("inf") if len(calls) in overflow_at else 1.0
            (loss * factor if scaler is None else scaler.scale(loss * factor)).backward()
            return loss

        if scaler is None:
            optimizer.step(closure)
        else:
            scaler.step(optimizer, closure)
            scaler.update()
        return w.detach().numpy(), len(calls), optimizer

    @pytest.mark.parametrize(
        "optimizer_of",
        [
            lambda params: nbdl.optim.LBFGS(params, lr=0.1, max_iter=5),
            lambda params: nbdl.optim.LBFGS(params, line_search_fn="strong_wolfe", max_iter=5),
            lambda params: nbdl.optim.SGD(params, lr=0.01, momentum=0.9),
        ],
        ids=["L-BFGS", "L-BFGS with a search", "SGD"],
    )
    def test_steps_are_those_without_a_scale(self, optimizer_of):
        expected, calls, _ = self.minimized(None, optimizer_of)
        scaler = nbdl.amp.GradScaler("cpu", init_scale=1024.0)
        got, got_calls, _ = self.minimized(scaler, optimizer_of)
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert got_calls == calls

    @pytest.mark.parametrize("overflow_at", [1, 3])
    def test_a_step_with_an_overflow_is_undone(self, overflow_at):
        scaler = nbdl.amp.GradScaler("cpu", init_scale=1024.0)
        got, _, optimizer = self.minimized(
            scaler, lambda params: nbdl.optim.LBFGS(params, lr=0.1, max_iter=5), (overflow_at,)
        )
        np.testing.assert_array_equal(got, [3.0, -2.0])
        assert not any(optimizer.state.values())
        assert scaler.get_scale() == 512.0

    def test_unscaling_before_is_an_error(self):
        w = nbdl.ones(1, requires_grad=True)
        optimizer, scaler = nbdl.optim.SGD([w], lr=0.1), nbdl.amp.GradScaler("cpu")
        scaler.scale(w.sum()).backward()
        scaler.unscale_(optimizer)
        with pytest.raises(RuntimeError, match="unscales by itself"):
            scaler.step(optimizer, lambda: None)


def test_state_goes_to_another_scaler():
    _, state = history(nbdl, [False] * 3, growth_interval=5)
    other = nbdl.amp.GradScaler("cpu")
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert other.get_scale() == 16.0
    with pytest.raises(RuntimeError, match="source state dict is empty"):
        other.load_state_dict({})


def test_disabled():
    scaler = nbdl.amp.GradScaler("cpu", enabled=False)
    w = nbdl.ones(2, requires_grad=True)
    optimizer = nbdl.optim.SGD([w], lr=1.0)
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    np.testing.assert_array_equal(w.detach().numpy(), 0)
    assert (scaler.get_scale(), scaler.state_dict(), scaler.is_enabled()) == (1.0, {}, False)


def test_settings():
    scaler = nbdl.amp.GradScaler("cpu")
    scaler.set_growth_factor(4.0)
    scaler.set_backoff_factor(0.1)
    scaler.set_growth_interval(7)
    got = scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()
    assert got == (4.0, 0.1, 7)
    scaler.scale(nbdl.ones(()))
    scaler.update(32.0)
    assert scaler.get_scale() == 32.0
    scaler.update(nbdl.tensor(8.0))
    assert scaler.get_scale() == 8.0


def test_errors():
    w = nbdl.ones(2, requires_grad=True)
    optimizer, scaler = nbdl.optim.SGD([w], lr=1.0), nbdl.amp.GradScaler("cpu")
    with pytest.raises(AssertionError, match="scale is None"):
        scaler.update()
    with pytest.raises(AssertionError, match="No inf checks were recorded for this optimizer"):
        scaler.step(optimizer)
    with pytest.raises(AssertionError, match="growth factor must be > 1"):
        nbdl.amp.GradScaler("cpu", growth_factor=1.0)
    with pytest.raises(AssertionError, match="backoff factor must be < 1"):
        nbdl.amp.GradScaler("cpu", backoff_factor=1.0)
    with pytest.raises(ValueError, match="must be a Tensor or an iterable"):
        scaler.scale("loss")
    with pytest.raises(AssertionError, match="No inf checks were recorded prior"):
        nbdl.amp.GradScaler.update(scaler)
    half = nbdl.ones(2, dtype=nbdl.float16, requires_grad=True)
    half.sum().backward()
    with pytest.raises(ValueError, match="unscale FP16 gradients"):
        nbdl.amp.GradScaler("cpu").unscale_(nbdl.optim.SGD([half], lr=1.0))

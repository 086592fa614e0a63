"""The recorded call leaves the computing to the program where it can, and nobody sees a difference."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

import nbdl
from nbdl.backend.numba.backend import NumbaBackend
from nbdl.compiler.recorder import RecordingError


@pytest.fixture
def computed(monkeypatch):
    """What the Numba backend was asked to compute one by one."""
    found = []

    def execute(self, primitive, arrays, out=None):
        found.append(primitive.name)
        return plain(self, primitive, arrays, out)

    plain = NumbaBackend.execute
    monkeypatch.setattr(NumbaBackend, "execute", execute)
    with nbdl.use_backend("numba"):
        yield found


def test_nothing_is_computed_while_the_function_runs(computed):
    state = nbdl.zeros(3)
    computed.clear()

    @nbdl.compile
    def function(x):
        state.add_(x)
        return (x @ x).relu() + state

    for k in range(1, 4):
        np.testing.assert_array_equal(function(nbdl.full((3, 3), 2.0)[0] * 1.0).numpy()[:1], 12 + 2 * k)
        if k == 1:
            assert set(computed) <= {"pointwise", "copy"} and len(computed) < 3  # of the argument
    np.testing.assert_array_equal(state.numpy(), 6)


WEIGHT = nbdl.ones(4, 4, dtype=nbdl.float64, requires_grad=True)


def _raise(x):
    raise ZeroDivisionError("mine")


@pytest.mark.parametrize(
    ("stops", "error"), [(_raise, ZeroDivisionError), (lambda x: x.sum().item(), RecordingError)]
)
def test_what_was_done_before_an_error_is_done(backend, stops, error):
    state, done = nbdl.zeros(3), nbdl.ones(3)

    @nbdl.compile
    def function(x):
        state.add_(x * 2).mul_(3)
        done.sub_(state)
        stops(x)

    with pytest.raises(error):
        function(nbdl.ones(3))
    np.testing.assert_array_equal(state.numpy(), 6)
    np.testing.assert_array_equal(done.numpy(), -5)


@pytest.mark.parametrize(
    "needs_values",
    [
        lambda x: nbdl.linalg.eigvalsh(x @ x.t()),  # no kernel knows its result
        lambda x: (x * WEIGHT).tanh(),  # a backward pass of its own
        lambda x: nbdl.fft.ifft(nbdl.fft.fft(x)).real,
    ],
    ids=["no plan", "with history", "linear"],
)
def test_every_write_happens_once(backend, needs_values):
    def run(compile):
        state = nbdl.zeros(4, 4, dtype=nbdl.float64)

        def function(x):
            state.add_(x)
            middle = needs_values(state + x)
            state.mul_(0.5)
            return middle, state + 1

        step = compile(function)
        found = []
        for k in range(3):
            x = nbdl.arange(16, dtype=nbdl.float64).reshape(4, 4) + k
            found += [y.detach().numpy().copy() for y in step(x)] + [state.numpy().copy()]
        return found

    for want, got in zip(run(lambda function: function), run(nbdl.compile), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_steps_of_windows_are_tried_on_zeros(computed):
    """The gradient of a window with steps has no kernel; of zeros, once, tells what it is like."""
    weight = nbdl.ones(4, 8, 6, 6).to(memory_format=nbdl.channels_last).requires_grad_()

    @nbdl.compile
    def step(x):
        weight.grad = None
        (weight[:, :4, ::2, ::2] * x).sum().backward()
        return weight.grad * 1

    x = nbdl.arange(4.0).reshape(4, 1, 1, 1) + nbdl.zeros(4, 4, 3, 3)
    computed.clear()
    found = step(x)
    assert computed.count("view_scatter") <= 2
    expected = np.zeros((4, 8, 6, 6), np.float32)
    expected[:, :4, ::2, ::2] = x.numpy()
    for _ in range(2):
        np.testing.assert_array_equal(found.numpy(), expected)
        np.testing.assert_array_equal(weight.grad.numpy(), expected)
        found = step(x)


def test_copies_are_repeated_and_pickles_refused(backend):
    step = nbdl.compile(lambda x: copy.copy(copy.deepcopy(x * 2)) + 1)
    for k in range(3):
        np.testing.assert_array_equal(step(nbdl.full((2,), k)).numpy(), 2 * k + 1)
    with pytest.raises(RecordingError, match="a tensor that is pickled"):
        nbdl.compile(lambda x: pickle.loads(pickle.dumps(x * 2)))(nbdl.ones(2))


def _peak(reset: bool = False) -> float:
    """Greatest resident memory since the last reset, in MB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def test_the_first_call_needs_no_more_memory_than_later_ones():
    try:
        _peak(reset=True)
    except OSError:
        pytest.skip("only Linux tells the peak of the memory, and lets it be reset")
    x = nbdl.ones(1024, 1024)
    layers = 24

    def function(x):
        x = x.detach().requires_grad_()
        y = x
        for _ in range(layers):
            y = (y * y).clamp(0, 2)  # eager, each keeps 4 MB or more for its derivative
        return nbdl.autograd.grad(y.sum(), x)[0]

    with nbdl.use_backend("numba"):
        for _ in range(2):
            nbdl.compile(function)(x)  # kernels may have to be compiled, which takes memory, too
        before = _peak(reset=True)
        first = nbdl.compile(function)(x)
        added = _peak() - before
    np.testing.assert_array_equal(first.numpy()[0, :2], 2.0**layers)
    assert added < 4 * layers


def test_an_error_of_values_ends_the_first_call_where_the_function_makes_it(computed):
    # Behind it the function would make state, which nobody would write.
    layer = nbdl.nn.Linear(4, 3)
    optimizer = nbdl.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)

    def step(x, target):
        optimizer.zero_grad()
        loss = nbdl.nn.functional.cross_entropy(layer(x), target)
        loss.backward()
        optimizer.step()
        return loss

    with pytest.raises(IndexError, match="Target 7 is out of bounds"):
        nbdl.compile(step)(nbdl.randn(5, 4), nbdl.tensor([0, 1, 7, 2, 1]))
    assert not optimizer.state


def test_what_was_deferred_is_computed_where_no_program_can_be_made(computed):
    state = nbdl.zeros(3)
    leaf = nbdl.ones(3, requires_grad=True)

    @nbdl.compile
    def function(x):
        state.add_(1)
        x.sum().backward()
        return state * 2

    with pytest.raises(RecordingError, match="reached an argument that has a history"):
        function(leaf * 2)
    np.testing.assert_array_equal(state.numpy(), 1)

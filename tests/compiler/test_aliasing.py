"""Arguments that share memory, with one another or with what the function reads and changes outside."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl

BACKENDS = ["numpy", "numba"]


@pytest.fixture(params=BACKENDS, autouse=True)
def backend(request):
    with nbdl.use_backend(request.param):
        yield


def twice(compiled, make):
    """Record and replay on fresh arguments."""
    for _ in range(2):
        compiled(*make())


def whole_and_part(base):
    return base, base[1:3]


def halves(base):
    return base[:2], base[2:]


def shifted(base):
    return base[:3], base[1:]


def same_view_twice(base):
    return base[:3], base[:3]


def separate(base):
    return base[:3].clone(), base[:3].clone() * 5


VIEWS = [whole_and_part, halves, shifted, same_view_twice, separate]


def read(x, y):
    return x[:2] - 3 * y[:2]


def write_first(x, y):
    x.mul_(2)
    return x[:2] - 3 * y[:2]


def write_second_after_reading(x, y):
    before = x[:2] * 1
    y.add_(1)
    return before + y[:2], x.sum()


@pytest.mark.parametrize("function", [read, write_first, write_second_after_reading])
@pytest.mark.parametrize("called", VIEWS)
@pytest.mark.parametrize("recorded", VIEWS)
def test_arguments_that_share_memory(recorded, called, function):
    compiled = nbdl.compile(function)
    twice(compiled, lambda: recorded(nbdl.arange(4.0)))
    mine, theirs = nbdl.arange(4.0) + 1, nbdl.arange(4.0) + 1
    found, expected = compiled(*called(mine)), function(*called(theirs))
    for a, b in zip(
        found if isinstance(found, tuple) else (found,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_the_argument_of_the_recorded_call_is_not_what_is_read_outside():
    weight = nbdl.ones(3)
    f = nbdl.compile(lambda x: x * weight)
    twice(f, lambda: (weight,))
    assert f(2 * nbdl.ones(3)).tolist() == [2, 2, 2]
    g = nbdl.compile(lambda x: x * weight[:2])
    twice(g, lambda: (weight[:2],))
    assert g(2 * nbdl.ones(2)).tolist() == [2, 2]


def test_an_argument_that_is_written_to_and_read_outside():
    weight = nbdl.ones(3)
    f = nbdl.compile(lambda x: x.mul_(2) * weight)
    twice(f, lambda: (nbdl.ones(3),))
    assert f(weight).tolist() == [4, 4, 4]
    assert weight.tolist() == [2, 2, 2]


def test_an_argument_that_an_optimizer_changes():
    weight = nbdl.ones(4, requires_grad=True)
    optimizer = nbdl.optim.SGD([weight], lr=0.5)

    @nbdl.compile
    def step(x):
        optimizer.zero_grad()
        (weight * x).sum().backward()
        optimizer.step()
        return x * 1

    twice(step, lambda: (nbdl.ones(4),))
    assert weight.tolist() == [0, 0, 0, 0]
    with nbdl.no_grad():
        weight.fill_(4)
    assert step(weight.detach()).tolist() == [2, 2, 2, 2]  # read after the update, as in eager mode


def test_a_leaf_that_is_an_argument_and_changed_is_replayed():
    calls = 0

    def step(weight, x):
        nonlocal calls
        calls += 1
        (gradient,) = nbdl.autograd.grad((weight * x).sum(), weight)
        with nbdl.no_grad():
            weight -= 0.5 * gradient

    weight, compiled = nbdl.zeros(3, requires_grad=True), nbdl.compile(step)
    for _ in range(6):
        compiled(weight, nbdl.ones(3))
    assert weight.tolist() == [-3, -3, -3]
    assert calls <= 2


def test_a_replay_tells_that_its_argument_was_changed():
    f = nbdl.compile(lambda x: x.mul_(2))
    twice(f, lambda: (nbdl.ones(3),))
    x, w = nbdl.ones(3), nbdl.ones(3, requires_grad=True)
    loss = (w * x).sum()
    f(x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_both_zeros_and_nan_as_arguments():
    f = nbdl.compile(lambda x, k: x * k)
    x = nbdl.ones(1)
    signs = [np.signbit(f(x, k).item()) for k in (0.0, -0.0, 0.0, -0.0)]
    assert signs == [False, True, False, True]
    for _ in range(3):
        assert np.isnan(f(x, float("nan")).item())
    assert "3 programs" in repr(f)


def test_second_derivatives_of_the_results_are_refused_by_name():
    weight = nbdl.tensor([2.0], requires_grad=True)
    f = nbdl.compile(lambda x: (x * weight) ** 3)
    twice(f, lambda: (nbdl.ones(1),))
    scale = nbdl.tensor([1.0], requires_grad=True)
    for source in (weight, scale):
        (first,) = nbdl.autograd.grad(f(scale * 1).sum(), source, create_graph=True)
        with pytest.raises(RuntimeError, match="cannot be differentiated again"):
            nbdl.autograd.grad(first, source)

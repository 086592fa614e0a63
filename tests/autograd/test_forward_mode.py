"""forward_ad: tensors that carry tangents."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nbdl
from nbdl.autograd import forward_ad as fwd
from nbdl.utils.observer import observing


def vector(*values):
    return nbdl.tensor(values, dtype="float64")


def test_tangents_follow_the_computation():
    x, v = vector(1.0, 2.0), vector(1.0, 10.0)
    with fwd.dual_level():
        dual = fwd.make_dual(x, v)
        primal, tangent = fwd.unpack_dual(dual.exp() * x)
        assert fwd.unpack_dual(x).tangent is None
        assert fwd.unpack_dual(dual > 1).tangent is None
        assert fwd.unpack_dual(dual.detach()).tangent is None
    np.testing.assert_allclose(primal.numpy(), np.exp([1, 2]) * [1, 2])
    np.testing.assert_allclose(tangent.numpy(), np.exp([1, 2]) * [1, 2] * [1, 10])


@pytest.mark.parametrize("changes", [False, True])
def test_rules_that_read_outputs_find_them_with_their_tangents(changes):
    # (tanh x)'' = -2 t (1 - t^2): the derivative reads t, which is at hand unless it was changed in place.
    x, v, calls = vector(0.3, -1.0), vector(1.0, 1.0), []
    with observing(lambda call: calls.append(call.primitive.label)), fwd.dual_level():
        leaf = fwd.make_dual(x.clone().requires_grad_(), v)
        y = leaf.tanh()
        z = y.sum()
        if changes:
            with nbdl.no_grad():
                y.zero_()
        (slope,) = nbdl.autograd.grad(z, leaf, create_graph=True)
        bend = fwd.unpack_dual(slope).tangent
    t = np.tanh([0.3, -1.0])
    np.testing.assert_allclose(bend.detach().numpy(), -2 * t * (1 - t * t), rtol=1e-12)
    assert calls.count("tanh") == (2 if changes else 1)


def test_tangents_end_with_their_level():
    x = vector(1.0)
    with fwd.dual_level():
        dual = fwd.make_dual(x, x)
    with fwd.dual_level():
        assert fwd.unpack_dual(dual * 2).tangent is None


def test_levels_nest():
    x = vector(3.0)
    with fwd.dual_level() as outer:
        a = fwd.make_dual(x, vector(1.0))
        with fwd.dual_level() as inner:
            assert inner > outer
            b = fwd.make_dual(a, vector(1.0))
            first = fwd.unpack_dual(b * b * b).tangent
        second = fwd.unpack_dual(first).tangent
    assert (first.item(), second.item()) == (27.0, 18.0)


def test_no_grad_does_not_stop_tangents():
    x = vector(3.0)
    with fwd.dual_level(), nbdl.no_grad():
        assert fwd.unpack_dual(fwd.make_dual(x, vector(1.0)) ** 2).tangent.item() == 6.0


def test_reverse_over_forward_reaches_the_leaf():
    x = vector(3.0).requires_grad_()
    with fwd.dual_level():
        _, tangent = fwd.unpack_dual(fwd.make_dual(x, vector(1.0)) ** 3)
    tangent.backward()
    assert x.grad.tolist() == [18.0]


def test_forward_over_reverse():
    x = vector(3.0).requires_grad_()
    with fwd.dual_level():
        dual = fwd.make_dual(x, vector(1.0))
        (g,) = nbdl.autograd.grad((dual**3).sum(), dual)
        assert fwd.unpack_dual(g).tangent.item() == 18.0


def test_views_and_in_place_changes_carry_tangents():
    x = vector(1.0, 2.0, 3.0)
    with fwd.dual_level():
        y = fwd.make_dual(x, vector(1.0, 1.0, 1.0)).clone()
        last = y[2:]
        y[:2].mul_(y[2])
        last.add_(y[0])
        assert fwd.unpack_dual(y).tangent.tolist() == [4.0, 5.0, 5.0]
        assert fwd.unpack_dual(last).tangent.tolist() == [5.0]
        y.fill_(1.0)
        tangent = fwd.unpack_dual(y).tangent
        assert tangent is None or not tangent.numpy().any()


def test_a_constant_takes_the_tangent_of_what_is_written_into_it():
    x = vector(1.0, 2.0)
    with fwd.dual_level():
        dual = fwd.make_dual(x, vector(1.0, 10.0))
        y = nbdl.zeros(3, dtype="float64")
        y[1:] = dual * dual
        assert fwd.unpack_dual(y).tangent.tolist() == [0.0, 2.0, 40.0]


def test_levels_belong_to_a_thread():
    x, seen = vector(1.0), []
    with fwd.dual_level():
        dual = fwd.make_dual(x, x)
        thread = threading.Thread(target=lambda: seen.append((dual * 2).dual))
        thread.start()
        thread.join()
    assert seen == [None]


def test_hand_made_levels():
    level = fwd.enter_dual_level()
    fwd.exit_dual_level(level=level)
    with pytest.raises(RuntimeError, match="reverse order"):
        fwd.exit_dual_level()
    outer = fwd.enter_dual_level()
    fwd.enter_dual_level()
    with pytest.raises(RuntimeError, match="reverse order"):
        fwd.exit_dual_level(level=outer)
    fwd.exit_dual_level()
    fwd.exit_dual_level()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fwd.make_dual(vector(1.0), vector(1.0, 2.0)), RuntimeError, r"shape \(1,\).*got \(2,\)"),
        (lambda: fwd.make_dual(vector(1.0), nbdl.ones(1)), RuntimeError, "dtype float64, got .* float32"),
        (
            lambda: fwd.make_dual(nbdl.tensor([1]), nbdl.tensor([1])),
            RuntimeError,
            "floating point tensor, got int64",
        ),
        (lambda: fwd.make_dual(1.0, vector(1.0)), TypeError, "tensor must be a tensor, got float"),
    ],
)
def test_errors(call, error, message):
    with fwd.dual_level(), pytest.raises(error, match=message):
        call()


def test_outside_all_levels():
    with pytest.raises(RuntimeError, match="with dual_level"):
        fwd.make_dual(vector(1.0), vector(1.0))
    with pytest.raises(RuntimeError, match="with dual_level"):
        fwd.unpack_dual(vector(1.0))

"""The checks find what is wrong, and only that."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.autograd import Function, grad_check_sparse, gradcheck, gradgradcheck
from nbdl.autograd.checking import GradcheckError

fast = pytest.mark.parametrize("fast_mode", [False, True])


def leaf(*shape, seed=0):
    return nbdl.tensor(np.random.default_rng(seed).uniform(0.5, 1.5, shape), requires_grad=True)


def with_rules(backward, jvp=None):
    """x^2 with given derivatives."""

    class Square(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            return x * x

    Square.backward = staticmethod(lambda ctx, g: backward(ctx.saved_tensors[0], g))
    if jvp is not None:
        Square.jvp = staticmethod(lambda ctx, t: jvp(ctx.saved_tensors[0], t))
    return Square.apply


right = with_rules(lambda x, g: 2 * x * g, lambda x, t: 2 * x * t)


@fast
def test_right_rules_pass(fast_mode):
    x = leaf(2, 3)
    before = x.detach().clone()
    options = {"fast_mode": fast_mode}
    assert gradcheck(
        right, x, check_forward_ad=True, check_batched_grad=True, check_grad_dtypes=True, **options
    )
    assert gradgradcheck(right, x, check_fwd_over_rev=True, gen_non_contig_grad_outputs=True, **options)
    assert x.equal(before), "the inputs must be restored"


@fast
@pytest.mark.parametrize(
    "backward",
    [
        lambda x, g: x * g,  # a factor
        lambda x, g: -2 * x * g,  # a sign
        lambda x, g: 2 * x * g + 0.5,  # not linear in g
        lambda x, g: (2 * x * g).flip(0),  # another element
        lambda x, g: 2 * x * g * (1 + (x > 1)),  # some elements only
        lambda x, g: x * float("nan"),
    ],
)
def test_wrong_gradients_are_found(backward, fast_mode):
    with pytest.raises(
        GradcheckError, match="Jacobian mismatch in backward mode for output 0 with respect to input 0"
    ):
        gradcheck(with_rules(backward), leaf(4), fast_mode=fast_mode)
    assert not gradcheck(with_rules(backward), leaf(4), fast_mode=fast_mode, raise_exception=False)


@fast
def test_wrong_tangents_are_found(fast_mode):
    broken = with_rules(lambda x, g: 2 * x * g, lambda x, t: x * t)
    assert gradcheck(broken, leaf(4), fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="Jacobian mismatch in forward mode"):
        gradcheck(broken, leaf(4), check_forward_ad=True, fast_mode=fast_mode)


@fast
def test_wrong_second_derivatives_are_found(fast_mode):
    detached = with_rules(lambda x, g: 2 * x.detach() * g)
    assert gradcheck(detached, leaf(4), fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="gradcheck: Jacobian mismatch"):
        gradgradcheck(detached, leaf(4), fast_mode=fast_mode)


def test_the_message_names_the_worst_element():
    broken = with_rules(lambda x, g: 2 * x * g * nbdl.tensor([1.0, 1.0, 3.0]))
    with pytest.raises(GradcheckError, match=r"derivative of element 2 by element 2.*1 of 9 elements differ"):
        gradcheck(broken, leaf(3))


def test_backward_that_differs_from_call_to_call_is_found():
    state = {"calls": 0}

    def unsteady(x, g):
        state["calls"] += 1
        return 2 * x * g * (1 + 1e-9 * state["calls"])

    with pytest.raises(GradcheckError, match="not reentrant"):
        gradcheck(with_rules(unsteady), leaf(3))
    assert gradcheck(with_rules(unsteady), leaf(3), nondet_tol=1e-6)


def test_rules_must_take_missing_gradients():
    class Two(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx, g, h):
            return (0 if g is None else g) + (0 if h is None else 2 * h) + (1 if h is None else 0) * 0.5

    with pytest.raises(GradcheckError):
        gradcheck(Two.apply, leaf(3))


def test_functions_of_several_inputs_and_other_arguments():
    f = lambda x, k, y: (x * y.sum() * k, y.exp())  # noqa: E731
    assert gradcheck(f, (leaf(2), 3, leaf(3, seed=1)), check_forward_ad=True)
    assert gradcheck(f, (leaf(2), 3, leaf(3, seed=1).detach()))


def test_closures_over_the_inputs():
    x = leaf(3)
    assert gradcheck(lambda _: x * x, x)


def test_empty_inputs():
    assert gradcheck(lambda x: x * 2, leaf(0, 2), check_forward_ad=True)
    assert gradcheck(lambda x: x.sum(), leaf(0), check_forward_ad=True, fast_mode=True)


def test_wrong_use():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        gradcheck(nbdl.sin, leaf(2).detach())
    with pytest.raises(ValueError, match="check_forward_ad and check_backward_ad"):
        gradcheck(nbdl.sin, leaf(2), check_backward_ad=False)
    with pytest.raises(RuntimeError, match="stride 0"):
        gradcheck(nbdl.sin, leaf(1).detach().expand(3).requires_grad_())
    with pytest.warns(UserWarning, match="input 0 requires gradient and has dtype float32"):
        gradcheck(nbdl.neg, nbdl.ones(2, requires_grad=True), raise_exception=False)


# ------------------------------------------------------------------------------------------ grad_check_sparse
@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_sparse(kind):
    x = np.random.default_rng(0).uniform(1, 2, (3, 4))
    gradient = 3 * x**2
    if kind == "tensor":
        x, gradient = nbdl.tensor(x), nbdl.tensor(gradient)
    checks = grad_check_sparse(lambda x: (x**3).sum(), x, gradient, num_checks=5)
    assert len(checks) == 5
    assert max(check.relative_error for check in checks) < 1e-6
    wrong = grad_check_sparse(lambda x: (x**3).sum(), x, gradient * 1.1, num_checks=5)
    assert min(check.relative_error for check in wrong) > 1e-2


def test_sparse_reads_memory_behind_the_back():
    x = nbdl.tensor([1.0, 2.0], dtype="float64")
    checks = grad_check_sparse(lambda _: (x * x).sum().item(), x, 2 * x, num_checks=4)
    assert max(check.relative_error for check in checks) < 1e-6
    assert x.tolist() == [1.0, 2.0]


def test_sparse_shapes():
    with pytest.raises(ValueError, match=r"shape of x, \(2,\), got \(3,\)"):
        grad_check_sparse(lambda x: x.sum(), nbdl.ones(2), nbdl.ones(3))

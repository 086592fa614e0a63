"""In-place operations and views: values, gradients, and what must be refused."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.autograd import grad, gradcheck, gradgradcheck


def leaf(*shape):
    values = np.random.default_rng(0).uniform(0.3, 1.5, shape)
    return nbdl.tensor(values, requires_grad=True)


def mul_twice(x):
    y = x.clone()
    y.mul_(x)
    return y.mul_(3.0)


def square_in_place(x):
    y = x.clone()
    return y.mul_(y)


def change_view(x):
    y = x.clone()
    y[0].mul_(2.0)
    return y * x


def change_base_under_view(x):
    y = x.clone()
    row = y[1]
    y.exp_()
    return row * y


def change_view_of_view(x):
    y = x.clone()
    y.T[1:][0].add_(x[0, 0] * x[1, 1])
    return y * y


def siblings(x):
    y = x.clone()
    a, b = y[0], y.reshape(-1)
    a.mul_(x[1])
    return b * 2, a


def overlapping_views(x):
    y = x.clone()
    y[:, 1:].add_(y[:, :-1].clone())
    y[0].sin_()
    return y.sum(0)


def set_item(x):
    y = x * 1.0
    y[0, 1] = x[1, 0] * x[1, 0]
    y[1] = 0.5
    return y * y


def copy_from(x):
    y = x.new_zeros(x.shape)
    y.copy_(x)
    y[0].copy_(x[1] * x[0])
    return y.exp()


def many_operations(x):
    y = x.clone()
    return (
        y.add_(1.0).mul_(x).sub_(x, alpha=2.0).div_(x + 2).clamp_(min=-5.0).pow_(2).addcmul_(x, x, value=0.5)
    )


def fill_and_zero(x):
    y = x * 2
    y[0].zero_()
    y[1, 0].fill_(3.0)
    return y * x


PROGRAMS = [
    mul_twice, square_in_place, change_view, change_base_under_view, change_view_of_view, siblings,
    overlapping_views, set_item,
    copy_from, many_operations, fill_and_zero,
]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_derivatives(program, backend):
    x = leaf(2, 3)
    assert gradcheck(program, x, check_forward_ad=True)
    assert gradgradcheck(program, x, check_fwd_over_rev=True)


@pytest.mark.torch
@pytest.mark.parametrize(
    "program", [program for program in PROGRAMS if program is not square_in_place]
)  # torch refuses
def test_against_torch(program):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = leaf(2, 3)
    twin = torch.tensor(x.detach().numpy(), requires_grad=True)
    ours, theirs = program(x), program(twin)
    ours, theirs = ([y] if not isinstance(y, tuple) else list(y) for y in (ours, theirs))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    sum(y.sum() for y in ours).backward()
    sum(y.sum() for y in theirs).backward()
    np.testing.assert_allclose(x.grad.numpy(), twin.grad.numpy(), rtol=1e-12)


# ----------------------------------------------------------------------------------------------------- memory
def test_views_share_memory_both_ways():
    x = nbdl.zeros(2, 3)
    row, flat, transposed = x[1], x.reshape(-1), x.T
    row.fill_(5.0)
    assert flat.tolist() == [0, 0, 0, 5, 5, 5]
    x.add_(1)
    assert transposed.tolist() == [[1, 6]] * 3


def test_in_place_keeps_identity_memory_and_dtype():
    x = nbdl.ones(3, dtype="float32")
    address = x.data_ptr()
    y = x.add_(nbdl.ones(3, dtype="float64"))
    assert y is x
    assert (x.data_ptr(), x.dtype) == (address, np.float32)
    x += 1
    assert x.data_ptr() == address


def test_overlapping_operands_are_read_before_they_are_written(backend):
    x = nbdl.arange(6, dtype="float64")
    x[1:].add_(x[:-1])
    assert x.tolist() == [0, 1, 3, 5, 7, 9]
    y = nbdl.arange(4, dtype="float64").reshape(2, 2)
    y.add_(y.T)
    assert y.tolist() == [[0, 3], [3, 6]]


def test_no_grad_updates_of_leaves():
    x = leaf(3)
    (x * x).sum().backward()
    with nbdl.no_grad():
        x.sub_(x.grad, alpha=0.1)
        x[0] = 0.0
    assert x.requires_grad
    assert x.is_leaf
    (x * x).sum().backward()


# --------------------------------------------------------------------------------------------------- versions
def saved_operand(x):
    y = x * 2
    z = y * y
    y.add_(1)
    return z


def saved_output(x):
    z = x.exp()
    z.add_(1)
    return z


def saved_through_a_view(x):
    y = x * 2
    z = y.exp()
    z[0].mul_(2)
    return z


def saved_view(x):
    y = x * 2
    row = y[0]
    z = row * row
    y.add_(1)
    return z


def saved_then_base_changed_through_new_view(x):
    y = x * 2
    z = y.sin()
    y[0].add_(1)
    return z


def saved_matrix(x):
    y = x * 2
    z = y @ x.T
    y.add_(1)
    return z


@pytest.mark.parametrize(
    "program",
    [
        saved_operand,
        saved_output,
        saved_through_a_view,
        saved_view,
        saved_then_base_changed_through_new_view,
        saved_matrix,
    ],
)
def test_a_saved_value_that_was_overwritten_is_an_error(program, backend):
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        program(leaf(2, 3)).sum().backward()


def test_changes_that_no_rule_reads_are_fine():
    x = leaf(2, 3)
    y = x * 2
    z = y + 1  # saves nothing
    y.zero_()
    z.sum().backward()
    assert x.grad.tolist() == [[2.0] * 3] * 2


def test_version_counts_changes():
    x = nbdl.zeros(2, 2)
    assert x._version == 0
    view = x[0]
    x.add_(1)
    view.add_(1)
    x.detach().add_(1)
    assert x._version == view._version == 3


# ----------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda x: x.add_(1), "a leaf Variable that requires grad"),
        (lambda x: x[0].add_(1), "a view of a leaf Variable"),
        (lambda x: x.T[0].mul_(2), "a view of a leaf Variable"),
        (lambda x: x.detach().expand(4, 2, 3).add_(1), "more than one element"),
        (lambda x: x.detach().add_(nbdl.ones(4, 2, 3)), "doesn't match the broadcast shape"),
        (lambda x: nbdl.ones(3, dtype="int64").add_(1.5), "can't be cast"),
        (lambda x: nbdl.ones(3, dtype="int64").div_(2), "can't be cast"),
        (lambda x: (x * 1)[0].detach_(), "can't detach views"),
    ],
)
def test_refused(program, message):
    with pytest.raises(RuntimeError, match=message):
        program(leaf(2, 3))


def test_read_only_memory_is_refused():
    array = np.zeros(3)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="read-only"):
        nbdl.from_numpy(array).add_(1)


def test_infinite_gradients_stay_in_their_window():
    x = leaf(3)
    y = x * 1.0
    y[0] = x[0].detach().log()
    out = y[1:].sum() + (y[0] - y[0].detach()).sqrt()  # infinite slope at y[0]
    (g,) = grad(out, x)
    assert g.tolist() == [0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    "use",
    [
        lambda view, base: (view * view).sum(),
        lambda view, base: (base[2:] * view).sum() + view[:1].sum(),
        lambda view, base: (base.mul_(view[0]) * 3).sum(),
        lambda view, base: view.mul_(2).sum() + (base * base).sum(),
        lambda view, base: view[1],
    ],
)
def test_a_view_that_is_older_than_the_gradient_of_its_base(use):
    """Its base gets a history by another view."""
    values = nbdl.tensor([2.0, 3.0], dtype=np.float64, requires_grad=True)

    def program(values, order):
        base = nbdl.ones(4, dtype=np.float64)
        view = base[:2] if order == "view first" else None
        base[1:3] = values * values
        return use(base[:2] if view is None else view, base)

    first, second = (
        nbdl.autograd.grad(program(values, order), values, allow_unused=True)[0]
        for order in ("view first", "view last")
    )
    np.testing.assert_array_equal(first.numpy(), second.numpy())


def test_a_view_made_without_gradient_stays_a_constant():
    x = nbdl.ones(3, requires_grad=True)
    with nbdl.no_grad():
        view = x[:2]
        x.mul_(2)
    assert not (view * 1).requires_grad
    np.testing.assert_array_equal((view * 1).numpy(), [2, 2])

"""Groups 29 to 36: derivatives, the backward pass, the two modes, gradient checks, slopes."""

from __future__ import annotations

import itertools
import math

import autodiff
import backward_pass
import derivatives
import gradient_checking
import pytest
import slopes

import nbdl
from nbdl.autograd import gradcheck

pytestmark = pytest.mark.usefixtures("exact")


# 29 to 31: derivatives, identities, the chain rule


def test_shapes_are_those_of_the_numerator_layout():
    assert [row[-1] for row in derivatives.shapes()] == ["(3,)", "(2, 3)", "(3, 3)"]


@pytest.mark.parametrize("n", [1, 2, 7])
def test_identities(n):
    found = derivatives.identities(n)
    assert len(found) == 8
    for identity in found:
        assert identity.found.shape == identity.rule.shape, identity.name
        assert identity.error < 1e-13, identity.name


def test_the_chain_rule_is_a_product_of_jacobians():
    factors, whole = derivatives.jacobian_factors([5, 4, 3, 2])
    assert [tuple(J.shape) for J in factors] == [(2, 3), (3, 4), (4, 5)]
    assert (factors[0] @ factors[1] @ factors[2] - whole).abs().max().item() < 1e-15


@pytest.mark.parametrize(("width", "depth"), [(1, 3), (3, 1), (4, 3), (2, 6)])
def test_the_gradient_sums_over_all_paths(width, depth):
    n_paths, total, gradient = derivatives.sum_over_paths(width, depth)
    assert n_paths == width**depth
    assert total == pytest.approx(gradient, rel=1e-12)


# 32: the backward pass by hand


def test_worked_gradients_against_tape_and_differences():
    by_hand, by_tape, by_differences = backward_pass.worked_example()
    assert set(by_hand) == set(by_tape) == set(backward_pass.FORMULAS)
    assert set(by_differences) == {"W", "K", "b", "y"}
    for name, gradient in by_hand.items():
        assert (gradient - by_tape[name]).abs().max().item() < 1e-15, name
        assert gradient.abs().max().item() > 1e-3
    for name, gradient in by_differences.items():
        assert (gradient - by_hand[name]).abs().max().item() < 1e-9, name


def test_without_its_factor_a_gradient_is_wrong():
    # The slide's slip: no W^T in the gradient of b. The shapes alone show it when the layers differ in width.
    by_hand, by_tape, _ = backward_pass.worked_example(n_in=3, n_hidden=3, n_out=3)
    delta = by_hand["u2"]
    u1 = by_hand["W"].T @ delta / (delta @ delta)
    without = (1 - u1**2) * delta
    assert (without - by_tape["b"]).abs().max().item() > 1e-3


@pytest.mark.parametrize("sizes", [(4, 6, 3), (2, 5, 4, 1)])
def test_delta_recursion(sizes):
    recursion, tape = backward_pass.delta_recursion(sizes)
    assert set(recursion) == set(tape)
    assert len(tape) == 2 * (len(sizes) - 1)
    for name, gradient in recursion.items():
        assert (gradient - tape[name]).abs().max().item() < 1e-15, name


# 33, 34: the graph and the two modes


def test_the_graph_of_linear_regression():
    graph = autodiff.regression_graph()
    assert [(v.label, v.shape) for v in graph.vertices if v.kind in ("variable", "constant")] == [
        ("X", (64, 8)), ("w", (8,)), ("b", ()), ("t", (64,))
    ]  # fmt: skip
    operations = [v.label for v in graph.vertices if v.kind in ("operation", "result")]
    assert operations == ["matmul", "add", "subtract", "pow", "mean"]


def test_worked_graph():
    traces = autodiff.traces()
    ln2, sin5, cos5 = math.log(2), math.sin(5), math.cos(5)
    values = [2, 5, ln2, 10, sin5, ln2 + 10, ln2 + 10 - sin5]
    assert [trace.value for trace in traces] == pytest.approx(values)
    assert (traces[-1].by_x1, traces[-1].by_x2) == pytest.approx((5.5, 2 - cos5))
    assert [trace.adjoint for trace in traces] == pytest.approx([5.5, 2 - cos5, 1, 1, -1, 1, 1])


def test_operations_on_the_worked_graph():
    alone, forward, reverse = autodiff.worked_counts().values()
    assert alone == 5  # ln, times, sin, plus, minus
    assert forward == 2 * 2 * alone  # a tangent beside each value, for each input
    assert alone < reverse < forward


def test_cheaper_mode():
    wide, square, tall = autodiff.cost(60, 1, 16), autodiff.cost(8, 8, 16), autodiff.cost(1, 60, 16)
    assert wide.reverse < wide.forward / 20
    assert square.reverse == square.forward
    assert tall.forward < tall.reverse / 20
    # A forward pass pushes a tangent through each layer, beside the value: twice the operations.
    assert autodiff.cost(1, 4, 16).forward == 2 * 2 * (16 * 1 + 16 * 16 + 4 * 16)


def test_symbolic_derivatives_swell():
    sizes = [autodiff.swell(n) for n in (2, 4, 8)]
    assert all(b.symbolic > 5 * a.symbolic and b.shared < 2 * a.shared for a, b in itertools.pairwise(sizes))


def test_differences_truncate_and_round():
    one_sided, central, automatic = autodiff.errors_of_differences([1e-2, 1e-3, 1e-13]).values()
    assert one_sided[0] / one_sided[1] == pytest.approx(10, rel=0.02)
    assert central[0] / central[1] == pytest.approx(100, rel=0.02)
    assert min(one_sided[2], central[2]) > 1e-6
    assert max(automatic) < 1e-15


# 35: gradient checks


def test_worked_numerical_gradient():
    W = nbdl.tensor(gradient_checking.WORKED_WEIGHTS)
    found = gradient_checking.numerical_gradient(gradient_checking.worked_loss, W, h=1e-4)
    assert (found[0, 0].item(), found[1, 1].item(), found[2, 0].item()) == pytest.approx((-2.5, 0.6, 0.0))
    assert (found - nbdl.func.grad(gradient_checking.worked_loss)(W)).abs().max().item() < 1e-9


def test_numerical_gradient_of_a_classifier():
    loss, W = gradient_checking.classifier(20, 6)
    analytic = nbdl.func.grad(loss)(W)
    assert (gradient_checking.numerical_gradient(loss, W) - analytic).abs().max().item() < 1e-4
    checks = nbdl.autograd.grad_check_sparse(loss, W, analytic, num_checks=10, h=1e-7)
    assert len(checks) == 10
    assert max(check.relative_error for check in checks) < 1e-5


def test_verdicts():
    wrong = "gradcheck: Jacobian mismatch in backward mode"
    assert [row[1:] for row in gradient_checking.verdicts()] == [
        ("right", "right"), ("right", "right"), (wrong, "right"), ("right", "right"), (wrong, wrong),
    ]  # fmt: skip


# 36: slopes


def test_directional_derivative_is_a_dot_product():
    rows = slopes.directional_derivatives([0, 60, 90, 180])
    steepest = rows[0][1]
    for angle, slope, product in rows:
        assert slope == pytest.approx(product, abs=1e-14)
        assert slope == pytest.approx(steepest * math.cos(math.radians(angle)), abs=1e-14)
    assert gradcheck(slopes.hill, nbdl.tensor(slopes.POINT, requires_grad=True))


def test_a_sampled_gradient_wants_the_spacing():
    (coarse, _), (fine, without) = slopes.grid_gradients(101), slopes.grid_gradients(201)
    assert coarse / fine == pytest.approx(4, rel=0.1)  # second order
    assert without > 1


def test_steepest_descent_goes_down():
    path = slopes.descend(rate=4.0, n_steps=20)
    heights = nbdl.func.vmap(slopes.hill)(path)
    assert bool((heights.diff() < 0).all())

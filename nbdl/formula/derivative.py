"""Symbolic derivatives of scalar expressions, of any order.

A derivative is built from the same nodes as the value, so where it contains the value (``exp' = y``,
``tanh' = 1 - y*y``) it holds that very node; :class:`nbdl.formula.formula.Formula` then replaces the node by
the saved output instead of computing it again. A derivative that is zero everywhere is None: a product with a
literal 0 would turn infinities into NaN.
"""

from __future__ import annotations

from collections.abc import Mapping

from nbdl.formula.expr import Expr, const, is_const, lift, topological
from nbdl.formula.functions import where


def directional(root: Expr, seeds: Mapping[Expr, Expr]) -> Expr | None:
    """The derivative of ``root`` in the direction in which every variable has its seed as derivative.

    Args:
        root: the expression.
        seeds: for each variable that moves its derivative along the direction.

    Returns:
        An expression linear in the seeds, or None where ``root`` does not depend on any of them.
    """
    derivative: dict[Expr, Expr | None] = {}
    for node in topological([root]):
        if node in seeds:
            derivative[node] = seeds[node]
        elif node.function is None:
            derivative[node] = None
        elif node.function is where:
            condition, a, b = node.args
            da, db = derivative[a], derivative[b]
            # Chosen, not multiplied: an infinite slope of the branch not taken must not become NaN.
            constant = da is None and db is None
            derivative[node] = None if constant else where(condition, _or_zero(da), _or_zero(db))
        else:
            total: Expr | None = None
            for partial, arg in zip(node.function.partials, node.args, strict=True):
                inner = derivative[arg]
                if partial is None or inner is None:
                    continue
                outer = lift(partial(node, *node.args))
                if is_const(outer, 0):
                    continue
                # A slope times a choice is a choice between slopes: relu' * g is where(x > 0, g, 0).
                term = _times(outer, inner)
                total = term if total is None else total + term
            derivative[node] = total
    return derivative[root]


def partial(root: Expr, variable: Expr) -> Expr | None:
    """The derivative of ``root`` by ``variable``, or None where it does not depend on it."""
    return directional(root, {variable: const(1.0)})


def _or_zero(node: Expr | None) -> Expr:
    return const(0.0) if node is None else node


def _times(outer: Expr, inner: Expr) -> Expr:
    """``outer * inner``, a 0 that is chosen staying 0 even beside an infinite factor."""
    for choice, factor in ((outer, inner), (inner, outer)):
        if choice.function is where:
            condition, a, b = choice.args
            if is_const(a, 0) or is_const(b, 0):
                return where(condition, _times_unless_zero(a, factor), _times_unless_zero(b, factor))
    return outer * inner


def _times_unless_zero(branch: Expr, factor: Expr) -> Expr:
    return const(0.0) if is_const(branch, 0) else _times(branch, factor)

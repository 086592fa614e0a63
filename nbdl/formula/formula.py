"""Formula: the outputs of a pointwise operation as expressions of its operands, and its derivative rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

from nbdl.formula.derivative import directional
from nbdl.formula.expr import Expr, Number, substitute, topological, trace, var, variables
from nbdl.formula.functions import Function


class Formula:
    """A function of scalars with one or several outputs, written once as Python.

    Operand k is the variable ``x{k}``.

    Args:
        name: what errors, programs and graphs call it.
        definition: called once with symbolic scalars; returns an expression, a number, or a tuple of them.
        arity: number of operands.

    Example:
        >>> from nbdl.formula import Formula, exp
        >>> silu = Formula("silu", lambda x: x / (1 + exp(-x)), 1)
        >>> silu.outputs[0]
        x0 / (1 + exp(-x0))
    """

    def __init__(self, name: str, definition: Callable[..., Expr | Number | tuple], arity: int):
        self._set(name, trace(definition, arity), arity)

    def _set(self, name: str, outputs: tuple[Expr, ...], arity: int) -> None:
        self.name, self.outputs, self.arity = name, outputs, arity
        self._vjps: dict[tuple[int, int], VjpRule] = {}
        self._jvps: dict[int, JvpRule] = {}
        self._compositions: dict = {}

    @classmethod
    def of(cls, name: str, outputs: tuple[Expr, ...], arity: int) -> Formula:
        """A formula from finished expressions of ``x0 ... x{arity-1}``."""
        formula = cls.__new__(cls)
        formula._set(name, outputs, arity)
        return formula

    @cached_property
    def nodes(self) -> list[Expr]:
        """All nodes, operands before users."""
        return topological(self.outputs)

    @cached_property
    def functions(self) -> frozenset[Function]:
        """The functions it applies."""
        return frozenset(node.function for node in self.nodes if node.function is not None)

    @cached_property
    def is_identity(self) -> bool:
        """Whether the only output is operand 0 itself."""
        return self.outputs == (var("x0"),)

    def vjp(self, needs: int, given: int = 1) -> VjpRule:
        """How gradients of the outputs become gradients of the operands.

        Args:
            needs: bit k is set where operand k needs a gradient.
            given: bit k is set where output k has a gradient.
        """
        rule = self._vjps.get((needs, given))
        if rule is None:
            rule = self._vjps[needs, given] = _vjp_rule(self, needs, given)
        return rule

    def jvp(self, given: int) -> JvpRule:
        """How tangents of the operands become tangents of the outputs.

        Args:
            given: bit k is set where operand k has a tangent.
        """
        rule = self._jvps.get(given)
        if rule is None:
            rule = self._jvps[given] = _jvp_rule(self, given)
        return rule

    def __repr__(self) -> str:
        return f"Formula({self.name}: {', '.join(map(repr, self.outputs))})"


IDENTITY = Formula("identity", lambda x: x, 1)
"""The operand itself: what plain sums reduce."""


class Source(NamedTuple):
    """Where an operand of a derivative formula comes from.

    Attributes:
        kind: ``x`` (operand), ``y`` (output), ``g`` (gradient of an output) or ``t`` (tangent of an operand).
        index: which one.
    """

    kind: str
    index: int  # type: ignore[assignment]  # hides a method of tuples that nobody calls


class Term(NamedTuple):
    """One result of a rule: a formula over ``sources``; the identity passes its source through."""

    formula: Formula
    sources: tuple[Source, ...]


class VjpRule(NamedTuple):
    """Gradients of the operands; ``terms[k]`` is None where the gradient is zero or not needed."""

    terms: tuple[Term | None, ...]
    saved_inputs: frozenset[int]
    saves_output: bool


class JvpRule(NamedTuple):
    """Tangents of the outputs; ``terms[k]`` is None where the tangent is zero."""

    terms: tuple[Term | None, ...]


def _outputs_as_variables(formula: Formula) -> dict[Expr, Expr]:
    """The forward outputs, to be recognised inside a derivative (variables and constants gain nothing)."""
    return {node: var(f"y{k}") for k, node in enumerate(formula.outputs) if node.function is not None}


def _vjp_rule(formula: Formula, needs: int, given: int) -> VjpRule:
    outputs = _outputs_as_variables(formula)
    terms: list[Term | None] = []
    for k in range(formula.arity):
        total: Expr | None = None
        if needs >> k & 1:
            for j, root in enumerate(formula.outputs):
                if given >> j & 1:
                    part = directional(root, {var(f"x{k}"): var(f"g{j}")})
                    if part is not None:
                        part = substitute([part], outputs)[0]
                        total = part if total is None else total + part
        terms.append(None if total is None else _term(f"{formula.name}_vjp", total))
    sources = {source for term in terms if term is not None for source in term.sources}
    return VjpRule(
        tuple(terms),
        frozenset(source.index for source in sources if source.kind == "x"),
        any(source.kind == "y" for source in sources),
    )


def _jvp_rule(formula: Formula, given: int) -> JvpRule:
    outputs = _outputs_as_variables(formula)
    seeds = {var(f"x{k}"): var(f"t{k}") for k in range(formula.arity) if given >> k & 1}
    terms: list[Term | None] = []
    for root in formula.outputs:
        tangent = directional(root, seeds)
        if tangent is not None:
            tangent = substitute([tangent], outputs)[0]
        terms.append(None if tangent is None else _term(f"{formula.name}_jvp", tangent))
    return JvpRule(tuple(terms))


def _term(name: str, root: Expr) -> Term:
    """``root`` as a formula of ``x0, x1, ...`` and where these come from."""
    used = variables([root])
    renamed = substitute([root], {node: var(f"x{k}") for k, node in enumerate(used)})
    sources = tuple(Source(node.name[0], int(node.name[1:])) for node in used)  # type: ignore[index]
    return Term(Formula.of(name, (renamed[0],), len(used)), sources)

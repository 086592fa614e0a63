"""Formulas as text: for people, as NumPy code, as Numba code and as CUDA C.

All printers write the same three-address form, one statement a node, so that what a person reads is what
runs; they differ in how a literal, an operator and a cast are spelled.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from nbdl.formula.expr import Expr, topological
from nbdl.formula.functions import Function

# Operators that read the same in Python and in C.
INFIX = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==", "not_equal": "!=",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "left_shift": "<<", "right_shift": ">>",
}  # fmt: skip
_PRECEDENCE = {"add": 1, "subtract": 1, "multiply": 2, "divide": 2}


def to_text(root: Expr) -> str:
    """The expression as a person would write it (shared subexpressions are repeated)."""
    text: dict[Expr, tuple[str, int]] = {}
    for node in topological([root]):
        if node.function is None:
            text[node] = (node.name if node.name is not None else repr(node.value), 9)
            continue
        name, args = node.function.name, [text[arg] for arg in node.args]
        if name in INFIX:
            level = _PRECEDENCE.get(name, 0)
            left = args[0][0] if args[0][1] >= level else f"({args[0][0]})"
            right = args[1][0] if args[1][1] > level else f"({args[1][0]})"
            text[node] = (f"{left} {INFIX[name]} {right}", level)
        elif name == "negative":
            text[node] = (f"-{args[0][0]}" if args[0][1] > 1 else f"-({args[0][0]})", 2)
        else:
            text[node] = (f"{name}({', '.join(arg for arg, _ in args)})", 9)
    return text[root][0]


def is_truth_value(node: Expr) -> bool:
    """Whether the node is a comparison or a logical function, whatever the dtypes of the operands."""
    return node.function is not None and node.function.kind in ("bool", "logic")


class Statements:
    """Straight-line code for some expressions: ``lines``, and in ``results`` the names of the outputs.

    Subclasses say how a language spells things by overriding :meth:`literal`, :meth:`call` and
    :meth:`assign`.

    Args:
        roots: the outputs.
        operands: for each variable name the code that reads it.
        ready: nodes that are computed already, with their code.
    """

    def __init__(
        self, roots: Sequence[Expr], operands: dict[str, str], ready: Mapping[Expr, str] | None = None
    ):
        self.lines: list[str] = []
        self._code: dict[Expr, str] = dict(ready or {})
        for node in topological(roots, stop=self._code):
            if node.name is not None:
                self._code[node] = operands[node.name]
            elif node.value is not None:
                self._code[node] = self.literal(node.value)
            else:
                name = self.name(len(self.lines))
                args = [self.operand(node, arg) for arg in node.args]
                self.lines.append(self.assign(name, node, self.call(node.function, args)))  # type: ignore[arg-type]
                self._code[node] = name
        self.results = [self._code[root] for root in roots]

    def name(self, count: int) -> str:
        """Name of the ``count``-th result."""
        return f"t{count}"

    def operand(self, user: Expr, arg: Expr) -> str:
        """The code of ``arg`` as an operand of the node ``user``."""
        return self._code[arg]

    def literal(self, value: bool | int | float) -> str:
        """A literal of the language."""
        raise NotImplementedError

    def call(self, function: Function, args: list[str]) -> str:
        """An application of ``function``."""
        raise NotImplementedError

    def assign(self, name: str, node: Expr, code: str) -> str:
        """A statement that stores ``code`` under ``name``."""
        raise NotImplementedError


def depends_only_on(names: Collection[str], nodes: Sequence[Expr]) -> set[Expr]:
    """Which of ``nodes`` (operands before users) are determined by the variables ``names``."""
    found: set[Expr] = set()
    for node in nodes:
        if node.name in names or (
            node.args and all(arg in found or arg.value is not None for arg in node.args)
        ):
            found.add(node)
    return found


def used_from_outside(roots: Sequence[Expr], nodes: Sequence[Expr], inside: Collection[Expr]) -> list[Expr]:
    """Which nodes of the set ``inside`` are roots, or operands of one of ``nodes`` that is not in it."""
    used = [root for root in roots if root in inside]
    for node in nodes:
        if node not in inside:
            used.extend(arg for arg in node.args if arg in inside)
    return list(dict.fromkeys(used))


class NumpyStatements(Statements):
    """NumPy: every node one call on whole arrays, ``f`` being the table of functions.

    Args:
        roots: the outputs.
        operands: code that reads each variable.
        scalars: variables that are numbers beside arrays. What they alone determine is computed in their own
            precision and then cast to ``dtype``, the dtype of the arithmetic.
    """

    def __init__(self, roots: Sequence[Expr], operands: dict[str, str], scalars: Collection[str] = ()):
        self._scalar = depends_only_on(scalars, topological(roots))
        super().__init__(roots, operands)

    def literal(self, value: bool | int | float) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f"float({str(value)!r})"
        return repr(value)

    def operand(self, user: Expr, arg: Expr) -> str:
        code = self._code[arg]
        if arg in self._scalar:
            return code if user in self._scalar or is_truth_value(arg) else f"f.cast({code}, dtype)"
        # NumPy refuses bool - bool; arithmetic on truth values is done in the dtype of the formula.
        arithmetic = user.function is not None and user.function.kind in ("same", "float")
        return f"f.cast({code}, dtype)" if arithmetic and is_truth_value(arg) else code

    def call(self, function: Function, args: list[str]) -> str:
        if function.name == "where":
            args = [f"f.truth({args[0]})", *args[1:]]
        return f"f.{function.name}({', '.join(args)})"

    def assign(self, name: str, node: Expr, code: str) -> str:
        return f"{name} = {code}"

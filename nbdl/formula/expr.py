"""Scalar expressions: an immutable, hash-consed graph.

Equal subexpressions are one object, so ``is`` compares expressions, a common subexpression is computed once,
and a derivative that contains the forward output can find it (see :mod:`nbdl.formula.derivative`).

Simplification is limited to what holds for every float, including NaN, infinities and signed zeros: constants
are folded (so that products of constants are rounded once) and ``x * 1`` is ``x``, but neither ``x - x`` nor
``0 * x`` is touched.
"""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbdl.formula.functions import Function

Number = bool | int | float

_interned: weakref.WeakValueDictionary[tuple, Expr] = weakref.WeakValueDictionary()
_order = itertools.count()


class Expr:
    """A node of the graph: a constant, a variable, or a :class:`Function` applied to expressions.

    Build nodes with :func:`const`, :func:`var`, operators, and the functions of :mod:`nbdl.formula`.

    Attributes:
        function: the function applied here, or None for a constant or a variable.
        args: the operands of ``function``.
        value: the Python number of a constant, else None.
        name: the name of a variable, else None.
        order: position in the order of creation; gives commutative operands a canonical order.
    """

    __slots__ = ("__weakref__", "args", "function", "name", "order", "value")

    function: Function | None
    args: tuple[Expr, ...]
    value: Number | None
    name: str | None
    order: int

    def __add__(self, other: Expr | Number) -> Expr:
        return _call("add", self, other)

    def __radd__(self, other: Number) -> Expr:
        return _call("add", other, self)

    def __sub__(self, other: Expr | Number) -> Expr:
        return _call("subtract", self, other)

    def __rsub__(self, other: Number) -> Expr:
        return _call("subtract", other, self)

    def __mul__(self, other: Expr | Number) -> Expr:
        return _call("multiply", self, other)

    def __rmul__(self, other: Number) -> Expr:
        return _call("multiply", other, self)

    def __truediv__(self, other: Expr | Number) -> Expr:
        return _call("divide", self, other)

    def __rtruediv__(self, other: Number) -> Expr:
        return _call("divide", other, self)

    def __pow__(self, other: Expr | Number) -> Expr:
        return _call("pow", self, other)

    def __rpow__(self, other: Number) -> Expr:
        return _call("pow", other, self)

    def __neg__(self) -> Expr:
        return _call("negative", self)

    def __lt__(self, other: Expr | Number) -> Expr:
        return _call("less", self, other)

    def __le__(self, other: Expr | Number) -> Expr:
        return _call("less_equal", self, other)

    def __gt__(self, other: Expr | Number) -> Expr:
        return _call("greater", self, other)

    def __ge__(self, other: Expr | Number) -> Expr:
        return _call("greater_equal", self, other)

    # Hash-consing makes identity the equality of expressions, so ``==`` builds none: ``equal(a, b)`` does.

    def __bool__(self) -> bool:
        raise TypeError(
            "a formula is traced once with symbolic scalars, so `if`, `and`, `or`, `not` and chained "
            "comparisons cannot look at a value: use where(condition, a, b), logical_and, logical_or, "
            "logical_not"
        )

    def __repr__(self) -> str:
        from nbdl.formula.printers import to_text

        return to_text(self)


def _call(name: str, *args: Expr | Number) -> Expr:
    from nbdl.formula.functions import FUNCTIONS

    return FUNCTIONS[name](*args)


def intern(
    function: Function | None, args: tuple[Expr, ...], *, value: Number | None = None, name: str | None = None
) -> Expr:
    """The one node with these contents."""
    # repr keeps 0.0 and -0.0 apart and finds NaN again; the type keeps 1, 1.0 and True apart.
    key = (function, args, type(value), repr(value), name)
    node = _interned.get(key)
    if node is None:
        node = object.__new__(Expr)
        node.function, node.args, node.value, node.name = function, args, value, name
        node.order = next(_order)
        _interned[key] = node
    return node


def const(value: Number) -> Expr:
    """A literal. It takes the dtype of the arrays it meets, never widens them."""
    if isinstance(value, bool):
        return intern(None, (), value=value)
    return intern(None, (), value=int(value) if isinstance(value, int) else float(value))


def var(name: str) -> Expr:
    """The variable called ``name``. Operand k of a formula is called ``x{k}``."""
    return intern(None, (), name=name)


def lift(value: Expr | Number) -> Expr:
    """``value`` as an expression."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, (bool, int, float)):
        return const(value)
    try:
        return const(float(value))  # a NumPy scalar
    except (TypeError, ValueError):
        raise TypeError(
            "a formula is built of scalars: expected an expression or a Python number, "
            f"got {type(value).__name__}"
        ) from None


def is_const(node: Expr, value: Number) -> bool:
    """Whether ``node`` is the literal ``value`` (with its sign, if it is a zero)."""
    if node.value is None or node.value != value:
        return False
    return math.copysign(1.0, node.value) == math.copysign(1.0, value)


def topological(roots: Iterable[Expr], stop: Iterable[Expr] = ()) -> list[Expr]:
    """All nodes below ``roots``, operands before their users.

    Nodes in ``stop`` and what is only below them are left out. Iterative, so depth does not matter.
    """
    order: list[Expr] = []
    done: set[Expr] = set(stop)
    stack = [(root, False) for root in reversed(list(roots))]
    while stack:
        node, operands_done = stack.pop()
        if node in done:
            continue
        if operands_done or not node.args:
            done.add(node)
            order.append(node)
        else:
            stack.append((node, True))
            stack.extend((arg, False) for arg in reversed(node.args) if arg not in done)
    return order


def variables(roots: Iterable[Expr]) -> list[Expr]:
    """The variables below ``roots`` in order of first use."""
    return [node for node in topological(roots) if node.name is not None]


def substitute(roots: Sequence[Expr], replacement: Mapping[Expr, Expr]) -> list[Expr]:
    """``roots`` with every node found in ``replacement`` replaced, simplified on the way."""
    memo: dict[Expr, Expr] = dict(replacement)
    # Whatever stands below a replaced node is not visited: it may be gone from the result.
    pending = [(root, False) for root in roots]
    while pending:
        node, operands_done = pending.pop()
        if node in memo:
            continue
        if not node.args:
            memo[node] = node
        elif operands_done:
            args = [memo[arg] for arg in node.args]
            unchanged = all(new is old for new, old in zip(args, node.args, strict=True))
            memo[node] = node if unchanged else node.function(*args)  # type: ignore[misc]
        else:
            pending.append((node, True))
            pending.extend((arg, False) for arg in node.args if arg not in memo)
    return [memo[root] for root in roots]


def trace(function: Callable[..., Expr | Number | tuple], arity: int) -> tuple[Expr, ...]:
    """The outputs of ``function`` called once with the variables ``x0 ... x{arity-1}``."""
    outputs = function(*[var(f"x{k}") for k in range(arity)])
    return tuple(lift(out) for out in (outputs if isinstance(outputs, tuple) else (outputs,)))

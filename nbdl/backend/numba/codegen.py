"""Formulas as loops: the Python source of CPU kernels, and their compilation.

The source is what Numba compiles and what stands beside the machine code in the kernel cache, so a person can
read every kernel that runs. A kernel reads its argument block (addresses of the operands, then sizes and
strides), computes what depends on scalar operands only once, in their own precision, and loops over the rest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.backend.numba.compiler import FASTMATH, FASTMATH_REASSOC, compile_kernel
from nbdl.formula import Formula
from nbdl.formula.expr import Expr
from nbdl.formula.functions import Function
from nbdl.formula.printers import INFIX, Statements, depends_only_on, is_truth_value, used_from_outside
from nbdl.kernels.cpu import math as cpu_math
from nbdl.kernels.cpu import memory

# How an operand moves along the inner loop.
SCALAR = "scalar"  # the same element everywhere
ROW = "row"  # one element a row
CONTIGUOUS = "contiguous"
REVERSED = "reversed"  # contiguous, from the last element to the first
STRIDED = "strided"

SUPPORTED_DTYPES = frozenset("?bhilqBHILQfd")
_HEADER = "def kernel(args, lo, hi, task):"
# Cost of a function in additions, roughly; others count 1.
_EXPENSIVE = {
    "exp": 6, "exp2": 6, "expm1": 10, "log": 8, "log2": 8, "log10": 8, "log1p": 10, "tanh": 10, "expit": 10,
    "erf": 12, "erfc": 14, "sin": 10, "cos": 10, "tan": 16, "pow": 20, "divide": 3, "sqrt": 3, "rsqrt": 4,
    "softplus": 16,
}  # fmt: skip


class Operand(NamedTuple):
    """An operand of a kernel.

    Attributes:
        name: its variable in the formula (``x0``), or ``y0`` for output 0.
        dtype: dtype of its elements.
        pattern: how it moves along the inner loop.
        alias: for an output that is an operand overwritten: the name of that operand.
    """

    name: str
    dtype: np.dtype
    pattern: str
    alias: str | None = None


def is_supported(formula: Formula, dtypes: Sequence[np.dtype]) -> bool:
    """Whether compiled loops can do it: no half precision, and every function is in the CPU vocabulary."""
    return all(dtype.char in SUPPORTED_DTYPES for dtype in dtypes) and all(
        function.name in INFIX or function.name in _SPELLED or hasattr(cpu_math, function.name)
        for function in formula.functions
    )


def cost(formula: Formula) -> float:
    """Additions an element, roughly."""
    return 1.0 + sum(
        _EXPENSIVE.get(node.function.name, 1) for node in formula.nodes if node.function is not None
    )


def _logical(symbol: str) -> Callable[[list[str]], str]:
    return lambda a: f"(truth({a[0]}) {symbol} truth({a[1]}))"


# Functions that are spelled by operators. Truth values are combined with & and |, which do not branch.
_SPELLED: dict[str, Callable[[list[str]], str]] = {
    "negative": lambda a: f"-{a[0]}",
    "where": lambda a: f"({a[1]} if truth({a[0]}) else {a[2]})",
    "logical_and": _logical("&"),
    "logical_or": _logical("|"),
    "logical_xor": _logical("!="),
    "logical_not": lambda a: f"(not truth({a[0]}))",
    "bitwise_not": lambda a: f"~{a[0]}",
}


class _Code(Statements):
    """Statements of one loop level in one precision.

    Args:
        roots: what is computed.
        operands: code of the variables.
        ready: nodes computed at an outer level, with their code.
        kind: the name the kernel gives to the dtype of the arithmetic; None at the scalar level, where
            Python's float (float64) and int (int64) are used.
        prefix: of the names of the results.
    """

    def __init__(
        self,
        roots: Sequence[Expr],
        operands: dict[str, str],
        ready: dict[Expr, str],
        kind: str | None,
        integer: bool,
        prefix: str,
    ):
        self._ready, self._kind, self._integer, self._prefix = ready, kind, integer, prefix
        super().__init__(roots, operands, ready)

    def literal(self, value: bool | int | float) -> str:
        if isinstance(value, bool):
            return repr(value)
        text = repr(value) if math.isfinite(value) else f"float({str(value)!r})"
        if self._kind is None:
            return text
        return f"{self._kind}({text})"

    def operand(self, user: Expr, arg: Expr) -> str:
        code, function = self._code[arg], user.function
        arithmetic = function is not None and function.kind in ("same", "float") and function.name != "where"
        if arithmetic and is_truth_value(arg) and self._kind is not None:
            return f"{self._kind}({code})"
        return code

    def call(self, function: Function, args: list[str]) -> str:
        name = function.name
        if name in _SPELLED:
            return _SPELLED[name](args)
        if name in INFIX:
            return f"{args[0]} {INFIX[name]} {args[1]}"
        return f"m.{name}({', '.join(args)})"

    def assign(self, name: str, node: Expr, code: str) -> str:
        if self._kind is not None and self._integer and not is_truth_value(node):
            code = f"{self._kind}({code})"  # Numba widens small integers
        return f"{name} = {code}"

    def name(self, count: int) -> str:
        return f"{self._prefix}{count}"


class Body(NamedTuple):
    """The formula's code at its two levels: before the loops, and inside the inner one."""

    before: list[str]
    inside: list[str]
    results: list[str]


def formula_body(
    formula: Formula, operands: Sequence[Operand], loaded: dict[str, str], computed: np.dtype
) -> Body:
    """Split a formula into what scalars alone determine and the rest.

    Args:
        formula: the formula.
        operands: the inputs.
        loaded: code that reads each input: an element for arrays, the value for scalars.
        computed: dtype of the arithmetic.
    """
    kind = "real"
    everything_scalar = all(op.pattern == SCALAR for op in operands)
    scalar_names = set() if everything_scalar else {op.name for op in operands if op.pattern == SCALAR}
    scalar_nodes = depends_only_on(scalar_names, formula.nodes)
    roots = used_from_outside(formula.outputs, formula.nodes, scalar_nodes)
    outer = _Code(roots, loaded, {}, None, False, "s")
    ready: dict[Expr, str] = {}
    before = list(outer.lines)
    for k, (root, code) in enumerate(zip(roots, outer.results, strict=True)):
        if is_truth_value(root):
            ready[root] = code
        else:
            before.append(f"c{k} = {kind}({code})")
            ready[root] = f"c{k}"
    conditions = {op.name for op in operands if op.dtype == bool}
    cast = {
        op.name: loaded[op.name]
        if op.dtype == computed or op.name in conditions
        else f"{kind}({loaded[op.name]})"
        for op in operands
    }
    inner = _Code(formula.outputs, cast, ready, kind, computed.kind in "iu", "t")
    return Body(before, inner.lines, inner.results)


def accessor(dtype: np.dtype) -> str:
    """The function of nbdl.kernels.cpu.memory that sees memory as elements of ``dtype``."""
    return f"{dtype.name}_at"


def build(
    name: str,
    source: str,
    computed: np.dtype,
    accumulator: np.dtype | None = None,
    *,
    reassociate: bool = False,
) -> int:
    """Compile the source of a kernel; its address."""

    def make() -> Callable[..., Any]:
        namespace: dict[str, Any] = {
            "m": cpu_math,
            "real": computed.type,
            "truth": np.bool_,
            "accumulate": (accumulator or computed).type,
            "uint64": np.uint64,
            "int64": np.int64,
        }
        namespace.update({key: getattr(memory, key) for key in memory.__all__})
        exec(compile(source, f"<kernel {name}>", "exec"), namespace)
        return namespace["kernel"]

    text = f"# real = {computed}, accumulate = {accumulator}\n{source}"
    return compile_kernel(name, make, text, fastmath=FASTMATH_REASSOC if reassociate else FASTMATH)


class Writer:
    """Lines with indentation."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, level: int, *lines: str) -> None:
        """Append lines at an indentation level."""
        self.lines.extend("    " * level + line for line in lines)

    def text(self) -> str:
        """The whole source."""
        return "\n".join([_HEADER, *self.lines]) + "\n"


def row_offsets(
    writer: Writer, level: int, row: str, names: Sequence[str], depth: int, dims: int, table: int
) -> None:
    """Code that turns the number of a row into an element offset per operand.

    Args:
        writer: receives the lines.
        level: their indentation.
        row: the variable with the row's number.
        names: operands that move along the rows.
        depth: number of loops that were flattened into the rows.
        dims: position in the argument block of their lengths.
        table: position of the strides, ``depth`` words an operand.
    """
    if depth == 1:
        for k, name in enumerate(names):
            writer.add(level, f"{name}_offset = {row} * load_int64(args, {table + k})")
        return
    writer.add(level, f"rest = {row}")
    writer.add(level, *[f"{name}_offset = 0" for name in names])
    for loop in range(depth - 1, -1, -1):
        if loop:
            writer.add(
                level,
                f"length = load_int64(args, {dims + loop})",
                "index = rest % length",
                "rest = rest // length",
            )
        else:
            writer.add(level, "index = rest")
        for k, name in enumerate(names):
            writer.add(level, f"{name}_offset += index * load_int64(args, {table + k * depth + loop})")

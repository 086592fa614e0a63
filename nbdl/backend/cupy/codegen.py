"""Formulas as CUDA C: the parts that all generated kernels share.

A kernel is plain ``extern "C"`` CUDA C, so that NVRTC, a C++ compiler with an emulation header, and a person
can read it. The formula stands in it once, as a device function of one element. What numbers beside the
arrays alone determine is computed once a thread, in double, as the CPU backends do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nbdl.formula import Formula, dtypes
from nbdl.formula.expr import Expr
from nbdl.formula.functions import Function
from nbdl.formula.printers import (
    INFIX,
    Statements,
    depends_only_on,
    is_truth_value,
    used_from_outside,
)

C_TYPES = {
    "bool": "bool",
    "int8": "signed char", "int16": "short", "int32": "int", "int64": "long long",
    "uint8": "unsigned char", "uint16": "unsigned short", "uint32": "unsigned",
    "uint64": "unsigned long long",
    "float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float", "float64": "double",
}  # fmt: skip

# Functions that CUDA's C library has under the same name, for float and double; the others are in math.cuh.
_LIBRARY = frozenset((
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "cbrt", "hypot", "copysign",
    "nextafter", "sin", "cos", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh",
    "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma",
))  # fmt: skip
_OPERATORS = {name: symbol for name, symbol in INFIX.items() if not name.endswith("_shift")}
_LOGICAL = {"logical_and": "&&", "logical_or": "||", "logical_xor": "!="}

# How an operand is read.
ARRAY = "array"  # an element each time
SCALAR = "scalar"  # a 0-d array on the device beside arrays
VALUE = "value"  # a 0-d array on the host, passed by value


def c_type(dtype: np.dtype) -> str:
    """The CUDA C type of elements of ``dtype``.

    Raises:
        TypeError: kernels do not know the dtype.
    """
    kind = C_TYPES.get(dtype.name)
    if kind is None:
        raise TypeError(f"arrays of {dtype.name} are not supported by kernels of the cupy backend")
    return kind


def value_type(dtype: np.dtype) -> np.dtype:
    """The dtype in which a number of ``dtype`` is passed by value, and computes before it meets arrays."""
    if dtype == dtypes.BOOL:
        return dtypes.BOOL
    return dtypes.FLOAT64 if dtypes.is_floating(dtype) else dtypes.INT64


class Operand(NamedTuple):
    """An operand of a kernel.

    Attributes:
        name: its variable in the formula (``x0``), or ``y0`` for output 0.
        dtype: dtype of its elements.
        kind: ``ARRAY``, ``SCALAR`` or ``VALUE``.
        is_shared: whether another operand may be written through its memory.
    """

    name: str
    dtype: np.dtype
    kind: str = ARRAY
    is_shared: bool = False

    @property
    def parameter(self) -> str:
        """Its declaration in the parameter list."""
        if self.kind == VALUE:
            return f"const {c_type(value_type(self.dtype))} {self.name}"
        const = "" if self.name[0] == "y" else "const "
        return f"{const}{c_type(self.dtype)}* {'' if self.is_shared else '__restrict__ '}{self.name}"


class CudaStatements(Statements):
    """CUDA C: typed, three-address statements.

    Args:
        roots: the outputs.
        operands: code that reads each variable.
        ready: nodes that are computed already, with their code.
        number: dtype of the arithmetic, which the kernel calls ``number``; None where every node has the type
            that C gives it: bool, long long or double.
        prefix: of the names of the results.
        integers: at ``number=None``, the variables that are integers or bools.
    """

    def __init__(
        self,
        roots: Sequence[Expr],
        operands: dict[str, str],
        ready: Mapping[Expr, str] | None = None,
        *,
        number: np.dtype | None,
        prefix: str,
        integers: frozenset[str] = frozenset(),
    ):
        self._number, self._prefix, self._integers = number, prefix, integers
        super().__init__(roots, operands, ready)

    def name(self, count: int) -> str:
        return f"{self._prefix}{count}"

    def literal(self, value: bool | int | float) -> str:
        if isinstance(value, bool):
            return "true" if value else "false"
        number = np.result_type(type(value)) if self._number is None else self._number
        if not dtypes.is_floating(number):
            return f"{int(value)}LL" if self._number is None else f"number({value!r})"
        if not math.isfinite(value):
            kind = c_type(number)
            code = f"nbdl::not_a_number<{kind}>()" if math.isnan(value) else f"nbdl::infinity<{kind}>()"
            return f"-{code}" if value < 0 else code
        return repr(float(value)) + ("f" if number == dtypes.FLOAT32 else "")

    def operand(self, user: Expr, arg: Expr) -> str:
        code, function = self._code[arg], user.function
        assert function is not None
        if function.name == "where" or function.kind in ("bool", "logic"):
            return code
        if self._number is not None:
            return f"number({code})" if is_truth_value(arg) else code
        is_integer = function.kind != "float" and self._is_integer(user)
        return f"(long long)({code})" if is_integer else f"double({code})"

    def call(self, function: Function, args: list[str]) -> str:
        name = function.name
        if name in _OPERATORS:
            return f"{args[0]} {_OPERATORS[name]} {args[1]}"
        if name in _LOGICAL:
            return f"bool({args[0]}) {_LOGICAL[name]} bool({args[1]})"
        if name == "logical_not":
            return f"!bool({args[0]})"
        if name == "where":
            return f"bool({args[0]}) ? {args[1]} : {args[2]}"
        if name == "negative":
            return f"-{args[0]}"
        return f"{name}({', '.join(args)})" if name in _LIBRARY else f"nbdl::{name}({', '.join(args)})"

    def assign(self, name: str, node: Expr, code: str) -> str:
        if is_truth_value(node):
            kind = "bool"
        elif self._number is not None:
            kind = "number"
        else:
            kind = "long long" if self._is_integer(node) else "double"
        return f"const {kind} {name} = {code};"

    def _is_integer(self, node: Expr) -> bool:
        """Whether a node is no float when every operand keeps its own type."""
        if node.value is not None:
            return not isinstance(node.value, float)
        if node.name is not None:
            return node.name in self._integers
        assert node.function is not None
        if node.function.kind == "float":
            return False
        if node.function.kind == "same":
            args = node.args[1:] if node.function.name == "where" else node.args
            return all(self._is_integer(arg) for arg in args)
        return True


class Element(NamedTuple):
    """A formula in a kernel.

    Attributes:
        function: the device function ``element`` of one element, which gives its results through references.
        before: statements at the top of the kernel.
        arguments: code of the arguments that come after the operands of kind ARRAY and before the results.
        results: C types of the results.
    """

    function: list[str]
    before: list[str]
    arguments: list[str]
    results: list[str]


def element(formula: Formula, operands: Sequence[Operand], computed: np.dtype) -> Element:
    """Split a formula into what numbers beside arrays alone determine, and a device function of the rest.

    Args:
        formula: the formula.
        operands: its operands.
        computed: dtype of the arithmetic.
    """
    numbers = [op for op in operands if op.kind != ARRAY]
    before, arguments, parameters = [], [], []
    variables = {op.name: op.name for op in operands}
    for k, op in enumerate(operands):
        if op.kind == ARRAY:
            parameters.append(f"const {_operand_type(formula, k)} {op.name}")
        elif op.kind == SCALAR:
            variables[op.name] = f"{op.name}_value"
            kind = c_type(value_type(op.dtype))
            before.append(f"const {kind} {op.name}_value = nbdl::cast<{kind}>(*{op.name});")
    scalar_nodes = depends_only_on({op.name for op in numbers}, formula.nodes)
    roots = used_from_outside(formula.outputs, formula.nodes, scalar_nodes)
    integers = frozenset(op.name for op in numbers if not dtypes.is_floating(op.dtype))
    outer = CudaStatements(roots, variables, number=None, prefix="s", integers=integers)
    before += outer.lines
    ready: dict[Expr, str] = {}
    for k, (root, code) in enumerate(zip(roots, outer.results, strict=True)):
        kind = "bool" if is_truth_value(root) else "number"
        before.append(f"const {kind} c{k} = nbdl::cast<{kind}>({code});")
        ready[root] = f"c{k}"
        parameters.append(f"const {kind} c{k}")
        arguments.append(f"c{k}")
    inner = CudaStatements(formula.outputs, variables, ready, number=computed, prefix="t")
    results = ["bool" if is_truth_value(root) else "number" for root in formula.outputs]
    parameters += [f"{kind}& r{k}" for k, kind in enumerate(results)]
    function = [f"static __device__ __forceinline__ void element({', '.join(parameters)}) {{"]
    function += [f"    {line}" for line in inner.lines]
    function += [f"    r{k} = {result};" for k, result in enumerate(inner.results)]
    return Element([*function, "}"], before, arguments, results)


def _operand_type(formula: Formula, k: int) -> str:
    """What elements of operand k are cast to."""
    return "bool" if dtypes.is_condition(formula, k) else "number"


def loaded(formula: Formula, k: int, code: str) -> str:
    """Code of operand k as an argument of the device function."""
    return f"nbdl::cast<{_operand_type(formula, k)}>({code})"


def headers(kinds: Sequence[np.dtype]) -> tuple[str, ...]:
    """The files of kernels/cuda that a kernel over elements of these dtypes needs, in order."""
    names = {dtype.name for dtype in kinds}
    return (
        "math.cuh",
        *(["half.cuh"] if "float16" in names else []),
        *(["bfloat16.cuh"] if "bfloat16" in names else []),
    )


def decompose(index: str, depth: int, lengths: str, offsets: Mapping[str, str], indent: str) -> list[str]:
    """Statements that turn a flat index into one offset per operand.

    Args:
        index: the variable with the flat index, row-major over ``depth`` loops.
        depth: number of loops.
        lengths: the lengths of the loops are the variables ``{lengths}1, {lengths}2, ...``, without the
            outermost.
        offsets: name of the offset -> the strides are the variables ``{stride}0, {stride}1, ...``.
        indent: of the lines.
    """
    if depth == 0:
        return [f"{indent}const index_t {offset} = 0;" for offset in offsets]
    if depth == 1:
        return [
            f"{indent}const index_t {offset} = {index} * {stride}0;" for offset, stride in offsets.items()
        ]
    lines = [f"index_t {index}_rest = {index};"]
    for loop in range(depth - 1, 0, -1):
        lines.append(f"const index_t {index}_{loop} = {index}_rest % {lengths}{loop};")
        lines.append(f"{index}_rest /= {lengths}{loop};")
    terms = [f"{index}_rest", *[f"{index}_{loop}" for loop in range(1, depth)]]
    for offset, stride in offsets.items():
        total = " + ".join(f"{term} * {stride}{loop}" for loop, term in enumerate(terms))
        lines.append(f"const index_t {offset} = {total};")
    return [indent + line for line in lines]


def kernel(name: str, parameters: Sequence[str], body: Sequence[str]) -> list[str]:
    """A kernel's text around its body."""
    return [f'extern "C" __global__ void {name}({", ".join(parameters)}) {{', *body, "}"]


def source(
    formula: Formula, computed: np.dtype, index: Any, functions: Sequence[str], entry: Sequence[str]
) -> str:
    """A whole source: what the names mean, the device functions, the kernel."""
    lines = [
        f"// {formula.name}: {', '.join(map(repr, formula.outputs))}",
        f"typedef {c_type(computed)} number;",
        f"typedef {c_type(np.dtype(index))} index_t;",
        "",
        *functions,
        "",
        *entry,
    ]
    return "\n".join(lines) + "\n"

"""Dtypes of formulas: PyTorch's promotion, and which dtype the arithmetic of a formula runs in."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nbdl.formula.formula import Formula

BOOL = np.dtype(bool)
FLOAT16, FLOAT32, FLOAT64 = np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64)
INT64 = np.dtype(np.int64)
COMPLEX64, COMPLEX128 = np.dtype(np.complex64), np.dtype(np.complex128)

_default_float = FLOAT32

# bool < integer < float: a number without a dtype of its own counts only if its category is higher.
_CATEGORIES = {"b": 0, "u": 1, "i": 1, "f": 2, "V": 2, "c": 3}


def bfloat16() -> np.dtype:
    """The bfloat16 dtype of ``ml_dtypes``.

    Raises:
        ImportError: ``ml_dtypes`` is not installed.
    """
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError("bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def is_bfloat16(dtype: np.dtype) -> bool:
    """Whether ``dtype`` is bfloat16 (NumPy knows it as a registered void-like type)."""
    return dtype.num >= 256 and dtype.name == "bfloat16"  # numbers below are NumPy's own types


def is_half(dtype: np.dtype) -> bool:
    """Whether ``dtype`` is float16 or bfloat16."""
    return dtype == FLOAT16 or is_bfloat16(dtype)


def is_floating(dtype: np.dtype) -> bool:
    """Whether ``dtype`` is a real floating dtype."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def complex_of(dtype: np.dtype) -> np.dtype:
    """The complex dtype whose parts are floats of ``dtype``; complex64 for half precision."""
    return COMPLEX128 if dtype in (FLOAT64, COMPLEX128) else COMPLEX64


def real_of(dtype: np.dtype) -> np.dtype:
    """The dtype of the parts of a complex ``dtype``; itself if it is real."""
    if dtype.kind != "c":
        return dtype
    return FLOAT64 if dtype == COMPLEX128 else FLOAT32


def arithmetic_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype that elements of ``dtype`` are computed and summed in: float32 for halves."""
    return FLOAT32 if dtype == FLOAT16 or is_bfloat16(dtype) else dtype


def get_default_dtype() -> np.dtype:
    """The dtype that Python floats become, and integers in functions with floating results."""
    return _default_float


def set_default_dtype(dtype: Any) -> None:
    """Set the default floating dtype (float32 at start).

    Raises:
        TypeError: ``dtype`` is not a floating dtype.
    """
    global _default_float
    dtype = np.dtype(dtype)
    if not is_floating(dtype):
        raise TypeError(f"set_default_dtype: dtype must be a floating dtype, got {dtype}")
    if dtype != _default_float:
        _default_float = dtype
        for forget in (result_dtype.cache_clear, arithmetic.cache_clear, *_forgetting):
            forget()


_forgetting: list[Callable[[], None]] = []


def when_default_changes(forget: Callable[[], None]) -> None:
    """Have :func:`set_default_dtype` call ``forget``; for those who keep what :func:`arithmetic` said."""
    _forgetting.append(forget)


def category(dtype: np.dtype) -> int:
    """0 for bool, 1 for integers, 2 for floats, 3 for complex numbers."""
    return _CATEGORIES[dtype.kind]


def promote(a: np.dtype, b: np.dtype) -> np.dtype:
    """The dtype that two arrays with dimensions meet in: PyTorch's table.

    Unlike NumPy's, an integer beside a float never widens it (int64 and float32 give float32), and float16
    beside bfloat16 gives float32. A complex dtype beside a float is as wide as the wider of the two.
    """
    if a == b:
        return a
    if a.kind == "c" or b.kind == "c":
        return COMPLEX128 if {a, b} & {FLOAT64, COMPLEX128} else COMPLEX64
    if category(a) != category(b):
        return a if category(a) > category(b) else b
    if is_bfloat16(a) or is_bfloat16(b):
        other = b if is_bfloat16(a) else a
        return FLOAT32 if other == FLOAT16 else other
    return np.promote_types(a, b) if a.kind != "u" or b.kind != "i" or b.itemsize != 8 else INT64


@functools.lru_cache(maxsize=4096)
def result_dtype(dtypes: tuple[np.dtype, ...], priorities: tuple[int, ...]) -> np.dtype:
    """PyTorch's ``result_type``.

    Args:
        dtypes: one per operand.
        priorities: 2 for an array with dimensions, 1 for a 0-d array, 0 for a Python number. An operand of
            lower priority counts only if its category (bool, integer, float) is higher than that of all with
            higher priority.
    """
    result: np.dtype | None = None
    for priority in (2, 1, 0):
        group = [dtype for dtype, p in zip(dtypes, priorities, strict=True) if p == priority]
        if not group:
            continue
        merged = functools.reduce(promote, group)
        if priority == 0 and category(merged) >= 2 and (result is None or category(result) < 2):
            # A Python number has no width of its own.
            merged = _default_float if category(merged) == 2 else complex_of(_default_float)
        if result is None or category(merged) > category(result):
            keeps_width = result is not None and category(result) == 2
            result = complex_of(result) if keeps_width else merged  # type: ignore[arg-type]
    if result is None:
        raise ValueError("result_dtype: at least one operand is needed")
    return result


def priorities(arrays: Sequence[Any], weak: int) -> tuple[int, ...]:
    """The priorities for :func:`result_dtype`; bit k of ``weak`` is set where array k was a Python number."""
    if weak == 0:
        return tuple([2 if array.ndim else 1 for array in arrays])
    return tuple([0 if weak >> k & 1 else 2 if array.ndim else 1 for k, array in enumerate(arrays)])


@functools.lru_cache(maxsize=4096)
def arithmetic(
    formula: Formula, dtypes: tuple[np.dtype, ...], ranks: tuple[int, ...]
) -> tuple[np.dtype, np.dtype, tuple[np.dtype, ...]]:
    """The dtypes of a formula on operands of these dtypes.

    Returns:
        The dtype of the result, the dtype the arithmetic runs in (float32 for half precision), and the dtype
        of every output (bool for comparisons and logic).

    Raises:
        RuntimeError: a difference of bools.
        NotImplementedError: a bitwise function on floats, or one that bools or complex numbers do not have.
    """
    from nbdl.formula.printers import is_truth_value

    condition = [is_condition(formula, k) for k in range(len(dtypes))]
    counted = [k for k, only_condition in enumerate(condition) if not only_condition] or range(len(dtypes))
    result: np.dtype = _default_float
    if dtypes:
        result = result_dtype(tuple(dtypes[k] for k in counted), tuple(ranks[k] for k in counted))
    kinds = {function.kind for function in formula.functions}
    if "float" in kinds and category(result) < 2:
        result = _default_float
    if "bits" in kinds and category(result) > 1:
        raise NotImplementedError(
            f"{formula.name}: operands must be integers or bools, got {', '.join(map(str, dtypes))}"
        )
    if formula.name == "subtract" and BOOL in dtypes:  # 1 - mask: is the complement meant?
        raise RuntimeError("subtract: bools cannot be subtracted; use ^ or logical_xor, ~ or logical_not")
    if result == BOOL and formula.name in _OF_NUMBERS:
        raise NotImplementedError(f"{formula.name}: not implemented for bools; cast to a number type")
    if formula.name == "square" and result == BOOL:  # a power of 2, and numbers are integers
        result = np.dtype(np.int64)
    if result.kind == "c":
        _check_complex(formula, result)
    outputs = tuple(BOOL if is_truth_value(root) else result for root in formula.outputs)
    return result, arithmetic_dtype(result), outputs


_OF_NUMBERS = frozenset(("abs", "ceil", "floor", "floor_divide", "fmod", "pow", "remainder", "rint", "trunc"))

# What is defined for complex numbers: the analytic functions, and tests for equality and finiteness.
_COMPLEX_FUNCTIONS = frozenset((
    "add", "subtract", "multiply", "divide", "negative", "reciprocal", "square", "pow", "float_power", "exp",
    "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "sin", "cos", "tan", "asin", "acos",
    "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "where", "equal", "not_equal", "isnan",
    "isinf", "isfinite", "expit", "logical_and", "logical_or", "logical_xor", "logical_not",
))  # fmt: skip


def _check_complex(formula: Formula, dtype: np.dtype) -> None:
    """Raise unless all functions of a formula are defined for complex numbers."""
    unknown = sorted({function.name for function in formula.functions} - _COMPLEX_FUNCTIONS)
    if unknown:
        detail = "" if unknown == [formula.name] else f" ({', '.join(unknown)})"
        raise NotImplementedError(f"{formula.name}: not defined for complex numbers{detail}, got {dtype}")


@functools.lru_cache(maxsize=4096)
def is_condition(formula: Formula, k: int) -> bool:
    """Whether operand k is only a condition of ``where``, so that its dtype does not count."""
    name = f"x{k}"
    used = [node for node in formula.nodes if any(arg.name == name for arg in node.args)]
    if not used or any(root.name == name for root in formula.outputs):
        return False
    return all(
        node.function.name == "where"
        and node.args[0].name == name
        and all(arg.name != name for arg in node.args[1:])
        for node in used
        if node.function is not None
    )

"""Loops over ranges, and `//`, `%`, `min` and `max` of integers, in as few instructions as in C.

Numba counts the rounds of a loop by a division, raises an exception where the step is 0, and keeps all that
in structures in memory; its divisions branch four ways, and `min` is a function that it has to compile. LLVM
removes nearly all of it again, but it would be nearly half of the code that LLVM is given. A step of 0 is not
looked for here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import typing

__all__ = ["generator_for", "item_of", "signature_for", "stack_slot"]

Generator = Callable[[Any, ir.IRBuilder, Any, Any], ir.Value]  # of context, builder, signature, operands


def stack_slot(builder: ir.IRBuilder, kind: ir.Type, name: str = "") -> ir.Value:
    """Address of a value in the calling function's stack frame; Numba's own would be cleared first."""
    with builder.goto_entry_block():
        return builder.alloca(kind, name=name)


def item_of(builder: ir.IRBuilder, structure: ir.Value, k: int) -> ir.Value:
    """The k-th value of a structure; no instruction where the structure has just been put together."""
    while isinstance(structure, ir.instructions.InsertValue):
        if structure.indices == [k]:
            return structure.operands[1]
        structure = structure.operands[0]
    return builder.extract_value(structure, k)


def signature_for(function: Any, arguments: tuple[Any, ...]) -> Any:
    """The signature of a function that is defined here, where Numba would look for one at length, or None."""
    if getattr(function, "typing_key", None) in _COMPARISONS and len(arguments) > 1:
        kind = arguments[0]
        if isinstance(kind, types.Integer) and all(argument == kind for argument in arguments):
            return typing.signature(kind, *arguments)
    return None


def generator_for(function: Any, signature: Any) -> Generator | None:
    """What emits the code of `function` in place of Numba's definition, or None.

    Args:
        function: The Numba type of a function, "getiter" or "iternext".
        signature: Of the call.
    """
    operand, result = (signature.args or (None,))[0], signature.return_type
    if function == "getiter" and isinstance(operand, types.RangeType):
        return _lower_getiter
    if function == "iternext" and isinstance(operand, types.RangeIteratorType):
        return _lower_iternext
    key = getattr(function, "typing_key", None)
    if key is range:
        return _lower_range
    if key in _COMPARISONS and signature == signature_for(function, signature.args):
        return _lower_extremum(_COMPARISONS[key])
    if signature.args == (result, result) and isinstance(result, types.Integer) and result.signed:
        return _DIVISIONS.get(key)
    return None


def _structure(builder: ir.IRBuilder, kind: ir.Type, values: list[ir.Value]) -> ir.Value:
    structure = ir.Constant(kind, ir.Undefined)
    for k, value in enumerate(values):
        structure = builder.insert_value(structure, value, k)
    return structure


def _lower_range(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    word = args[0].type
    start, stop, step = {1: (word(0), *args, word(1)), 2: (*args, word(1)), 3: tuple(args)}[len(args)]
    return _structure(builder, context.get_value_type(signature.return_type), [start, stop, step])


def _lower_getiter(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    start, stop, step = (item_of(builder, args[0], k) for k in range(3))
    following = stack_slot(builder, start.type)
    builder.store(start, following)
    iterator = context.get_value_type(signature.return_type)
    return _structure(builder, iterator, [following, stop, step])  # and no counter


def _lower_iternext(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    following, stop, step = (item_of(builder, args[0], k) for k in range(3))
    value = builder.load(following)
    signed = signature.args[0].yield_type.signed
    compare = builder.icmp_signed if signed else builder.icmp_unsigned
    if not signed or isinstance(step, ir.Constant):
        is_valid = compare("<" if not signed or step.constant > 0 else ">", value, stop)
    else:
        is_up = builder.icmp_signed(">", step, step.type(0))
        is_valid = builder.select(is_up, compare("<", value, stop), compare(">", value, stop))
    builder.store(builder.add(value, step, flags=["nsw"] if signed else []), following)
    return _structure(builder, context.get_value_type(signature.return_type), [value, is_valid])


def _lower_extremum(comparison: str) -> Generator:
    def lower(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        compare = builder.icmp_signed if signature.return_type.signed else builder.icmp_unsigned
        best, *others = args
        for value in others:
            best = builder.select(compare(comparison, value, best), value, best)
        return best

    return lower


def _is_power_of_two(y: ir.Value) -> bool:
    return isinstance(y, ir.Constant) and y.constant > 0 and y.constant & (y.constant - 1) == 0


def _divide(builder: ir.IRBuilder, args: Any) -> tuple[ir.Value, ir.Value, ir.Value, ir.Value]:
    """C's quotient and remainder; whether they are not yet those of Python; whether the divisor is 0.

    Processors stop at a divisor of 0, and at -1 where the quotient is too large: they never get these two.
    """
    x, y = args
    zero, one = y.type(0), y.type(1)
    is_zero = builder.icmp_unsigned("==", y, zero)
    is_minus = builder.icmp_unsigned("==", y, y.type(-1))
    divisor = builder.select(builder.or_(is_zero, is_minus), one, y)
    quotient, remainder = builder.sdiv(x, divisor), builder.srem(x, divisor)
    quotient = builder.select(is_minus, builder.neg(x), quotient)
    differ = builder.icmp_signed("<", builder.xor(remainder, y), zero)
    is_above = builder.and_(builder.icmp_unsigned("!=", remainder, zero), differ)
    return quotient, remainder, is_above, is_zero


def _lower_quotient(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    x, y = args
    if _is_power_of_two(y):
        return builder.ashr(x, y.type(y.constant.bit_length() - 1))
    quotient, _, is_above, is_zero = _divide(builder, args)
    quotient = builder.sub(quotient, builder.zext(is_above, quotient.type))
    return builder.select(is_zero, quotient.type(0), quotient)


def _lower_remainder(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    x, y = args
    if _is_power_of_two(y):
        return builder.and_(x, y.type(y.constant - 1))
    _, remainder, is_above, _ = _divide(builder, args)
    return builder.select(is_above, builder.add(remainder, y), remainder)


_COMPARISONS: dict[Any, str] = {min: "<", max: ">"}
_DIVISIONS: dict[Any, Generator] = {
    operator.floordiv: _lower_quotient,
    operator.ifloordiv: _lower_quotient,
    operator.mod: _lower_remainder,
    operator.imod: _lower_remainder,
}

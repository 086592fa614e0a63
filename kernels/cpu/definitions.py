"""Loops over ranges and divisions of integers in as few instructions as in C.

Numba counts the rounds of a loop by a division, raises an exception where the step is 0, and keeps all that
in structures in memory; its divisions branch four ways. LLVM removes nearly all of it again, but it would be
nearly half of the code that LLVM is given. A step of 0 is not looked for here.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

__all__ = ["definition_for"]

_Lowering = Callable[..., ir.Value]  # of context, builder, signature and operands


def definition_for(context: Any, function: Any, signature: Any) -> Callable[..., ir.Value] | None:
    """What lowers `function` of these types in place of Numba's definition, or None.

    Args:
        context: The target context.
        function: The Numba type of a function, "getiter" or "iternext".
        signature: Of the call.
    """
    lower = _lowering_for(function, signature)
    if lower is None:
        return None

    def definition(builder: ir.IRBuilder, args: Any, loc: Any = None) -> ir.Value:
        return lower(context, builder, signature, args)

    return definition


def _lowering_for(function: Any, signature: Any) -> _Lowering | None:
    operand, result = (signature.args or (None,))[0], signature.return_type
    if function == "getiter" and isinstance(operand, types.RangeType):
        return _lower_getiter
    if function == "iternext" and isinstance(operand, types.RangeIteratorType):
        return _lower_iternext
    key = getattr(function, "typing_key", None)
    if key is range:
        return _lower_range
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
    start, stop, step = (builder.extract_value(args[0], k) for k in range(3))
    following = cgutils.alloca_once(builder, start.type)
    builder.store(start, following)
    iterator = context.get_value_type(signature.return_type)
    return _structure(builder, iterator, [following, stop, step])  # and no counter


def _lower_iternext(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    following, stop, step = (builder.extract_value(args[0], k) for k in range(3))
    value = builder.load(following)
    signed = signature.args[0].yield_type.signed
    compare = builder.icmp_signed if signed else builder.icmp_unsigned
    is_valid = compare("<", value, stop)
    if signed:
        is_up = builder.icmp_signed(">", step, step.type(0))
        is_valid = builder.select(is_up, is_valid, compare(">", value, stop))
    builder.store(builder.add(value, step, flags=["nsw"] if signed else []), following)
    return _structure(builder, context.get_value_type(signature.return_type), [value, is_valid])


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
    quotient, _, is_above, is_zero = _divide(builder, args)
    quotient = builder.sub(quotient, builder.zext(is_above, quotient.type))
    return builder.select(is_zero, quotient.type(0), quotient)


def _lower_remainder(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    _, remainder, is_above, _ = _divide(builder, args)
    return builder.select(is_above, builder.add(remainder, args[1]), remainder)


_DIVISIONS: dict[Any, _Lowering] = {
    operator.floordiv: _lower_quotient,
    operator.ifloordiv: _lower_quotient,
    operator.mod: _lower_remainder,
    operator.imod: _lower_remainder,
}

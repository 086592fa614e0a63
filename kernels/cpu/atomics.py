"""Words that several threads read and write: sequentially consistent accesses, for compiled code."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["atomic_add", "atomic_load", "atomic_store", "compare_exchange", "exchange", "relax"]

_INT64 = ir.IntType(64)
_ORDER = "seq_cst"
_PAUSES = {"x86": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.hint", (1,))}  # 1: yield


def _word(builder: ir.IRBuilder, address: ir.Value, k: ir.Value) -> ir.Value:
    return builder.gep(builder.inttoptr(address, _INT64.as_pointer()), [k])


@intrinsic
def atomic_load(typingctx: Any, address: Any, k: Any) -> Any:
    """Return the ``k``-th int64 word at ``address``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.load_atomic(_word(builder, *args), _ORDER, 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def atomic_store(typingctx: Any, address: Any, k: Any, value: Any) -> Any:
    """Store ``value`` into the ``k``-th int64 word at ``address``; what was written before is seen before."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        builder.store_atomic(args[2], _word(builder, *args[:2]), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def _read_and_write(operation: str) -> Any:
    def make(typingctx: Any, address: Any, k: Any, value: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return builder.atomic_rmw(operation, _word(builder, *args[:2]), args[2], _ORDER)

        return types.int64(types.int64, types.int64, types.int64), codegen

    make.__name__ = make.__qualname__ = f"atomic_{operation}"
    make.__doc__ = f"Return the ``k``-th int64 word at ``address`` and {operation} ``value``, in one step."
    return intrinsic(make)


atomic_add = _read_and_write("add")
exchange = _read_and_write("xchg")


@intrinsic
def compare_exchange(typingctx: Any, address: Any, k: Any, expected: Any, value: Any) -> Any:
    """Store ``value`` into a word if it is ``expected``, in one step; whether it was."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        address, k, expected, value = args
        result = builder.cmpxchg(_word(builder, address, k), expected, value, _ORDER, _ORDER)
        return builder.extract_value(result, 1)

    return types.boolean(*[types.int64] * 4), codegen


@intrinsic
def relax(typingctx: Any) -> Any:
    """Tell the core that this thread waits in a loop, so that its other thread gets the resources."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        triple = builder.module.triple
        for family, (name, arguments) in _PAUSES.items():
            if triple.startswith(family):
                flag = ir.IntType(32)
                function_type = ir.FunctionType(ir.VoidType(), [flag] * len(arguments))
                function = cgutils.get_or_insert_function(builder.module, function_type, name)
                builder.call(function, [flag(argument) for argument in arguments])
        return context.get_dummy_value()

    return types.void(), codegen

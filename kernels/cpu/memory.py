"""Raw memory for CPU kernels: words, arrays at an address, calls through an address.

Everything here is for compiled code and becomes one or two machine instructions; nothing is checked.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model

__all__ = [
    "array_at",
    "bool_at",
    "call_int64",
    "call_kernel",
    "float32_at",
    "float64_at",
    "int8_at",
    "int16_at",
    "int32_at",
    "int64_at",
    "load_int32",
    "load_int64",
    "prefetch",
    "stack_int64",
    "store_int64",
    "uint8_at",
    "uint16_at",
    "uint32_at",
    "uint64_at",
]

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)


def _word_pointer(builder: ir.IRBuilder, word: ir.IntType, address: ir.Value, index: ir.Value) -> ir.Value:
    return builder.gep(builder.inttoptr(address, word.as_pointer()), [index])


@intrinsic
def load_int64(typingctx: Any, address: Any, k: Any) -> Any:
    """Return the ``k``-th int64 word at ``address``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.load(_word_pointer(builder, _INT64, *args))

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load_int32(typingctx: Any, address: Any, k: Any) -> Any:
    """Return the ``k``-th int32 word at ``address``, sign-extended to int64."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.sext(builder.load(_word_pointer(builder, _INT32, *args)), _INT64)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def store_int64(typingctx: Any, address: Any, k: Any, value: Any) -> Any:
    """Store ``value`` into the ``k``-th int64 word at ``address``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        address, k, value = args
        builder.store(value, _word_pointer(builder, _INT64, address, k))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def prefetch(typingctx: Any, address: Any) -> Any:
    """Have the cache line at ``address`` brought into the second-level cache; any address is allowed."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        # for reading, to be kept in the second-level cache, data
        builder.call(function, [builder.inttoptr(args[0], byte), flag(0), flag(2), flag(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def stack_int64(typingctx: Any, n: Any) -> Any:
    """Return the address of ``n`` (a literal) uninitialised int64 words on the calling function's stack.

    The words live until the function returns. Each call in the source is one area: inside a loop, too.
    """
    if not isinstance(n, types.IntegerLiteral):
        return None
    words = n.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        with builder.goto_entry_block():
            area = builder.alloca(_INT64, words)
            area.align = 64 if words >= 8 else 8  # vectors do not straddle cache lines
        return builder.ptrtoint(area, _INT64)

    return types.int64(n), codegen


@intrinsic
def call_kernel(typingctx: Any, function: Any, args: Any, lo: Any, hi: Any, task: Any) -> Any:
    """Call the kernel at address ``function`` as ``kernel(args, lo, hi, task)``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        kernel_type = ir.FunctionType(ir.VoidType(), [_INT64] * 4)
        builder.call(builder.inttoptr(args[0], kernel_type.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), codegen


@intrinsic
def call_int64(typingctx: Any, function: Any, arguments: Any) -> Any:
    """Call the C function at address ``function`` with a tuple of int64; its result is taken as int64."""
    argument_types = types.UniTuple(types.int64, len(arguments))

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        word = _INT64
        function_type = ir.FunctionType(word, [word] * len(argument_types))
        words = [builder.extract_value(args[1], i) for i in range(len(argument_types))]
        return builder.call(builder.inttoptr(args[0], function_type.as_pointer()), words)

    return types.int64(types.int64, argument_types), codegen


def make_array(
    context: Any, builder: ir.IRBuilder, array_type: types.Array, address: ir.Value, n: ir.Value
) -> ir.Value:
    item = context.get_data_type(array_type.dtype)
    itemsize = _INT64(context.get_abi_sizeof(item))
    array = context.make_array(array_type)(context, builder)
    context.populate_array(
        array,
        data=builder.inttoptr(address, item.as_pointer()),
        shape=[n],
        strides=[itemsize],
        itemsize=itemsize,
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


@intrinsic
def array_at(typingctx: Any, address: Any, n: Any, dtype: Any) -> Any:
    """See ``n`` items at ``address`` as a 1-D C-contiguous array without an owner.

    ``dtype`` is a NumPy scalar type such as ``np.float32``, or any scalar of that type; ``address`` must be
    aligned for it.
    """
    item_type = dtype.dtype if isinstance(dtype, types.NumberClass) else types.unliteral(dtype)
    array_type = types.Array(item_type, 1, "C")

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return make_array(context, builder, array_type, args[0], args[1])

    return array_type(types.int64, types.int64, dtype), codegen


class Elements(types.CPointer):
    """The Numba type of what `float32_at` and its like return: elements at an address, indexed like an array.

    It is little more than a pointer, so a kernel compiles in a fraction of the time that arrays take.
    """


register_model(Elements)(models.PointerModel)


@lower_builtin(operator.getitem, Elements, types.Integer)
def _lower_getitem(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    pointer = builder.gep(args[0], [args[1]], inbounds=True)
    return context.unpack_value(builder, signature.return_type, pointer)


@lower_builtin(operator.setitem, Elements, types.Integer, types.Any)
def _lower_setitem(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    pointer = builder.gep(args[0], [args[1]], inbounds=True)
    context.pack_value(builder, signature.args[2], args[2], pointer)
    return context.get_dummy_value()


def _elements_view(item_type: types.Type) -> Callable[[Any, Any], Any]:
    elements = Elements(item_type)

    def view(typingctx: Any, address: Any, n: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            return builder.inttoptr(args[0], context.get_value_type(elements))

        return elements(types.int64, types.int64), codegen

    view.__name__ = view.__qualname__ = f"{item_type}_at"
    view.__doc__ = f"See ``n`` {item_type} at ``address``, to be indexed; ``n`` is for the reader only."
    return intrinsic(view)


bool_at = _elements_view(types.boolean)
int8_at = _elements_view(types.int8)
int16_at = _elements_view(types.int16)
int32_at = _elements_view(types.int32)
int64_at = _elements_view(types.int64)
uint8_at = _elements_view(types.uint8)
uint16_at = _elements_view(types.uint16)
uint32_at = _elements_view(types.uint32)
uint64_at = _elements_view(types.uint64)
float32_at = _elements_view(types.float32)
float64_at = _elements_view(types.float64)

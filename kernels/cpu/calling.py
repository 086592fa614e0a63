"""How the functions of a kernel call each other: as in C, with the result as what is returned.

Numba's functions return a status, and their result and an exception through pointers; what follows each call
is longer than most of our functions. Kernels raise nothing, so there is no status here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.callconv import CPUCallConv

__all__ = ["Convention"]


class Convention(CPUCallConv):
    """The convention of functions that we lower; calls of Numba's own functions are left to Numba's.

    Where Numba's definitions would raise, the function ends with a result of 0.
    """

    def declare(self, module: ir.Module, description: Any) -> ir.Function:
        """The function of ours that Numba describes so, as a part of a module."""
        packer = self._get_arg_packer(description.argtypes)
        result = self.context.data_model_manager[description.restype].get_return_type()
        kind = ir.FunctionType(result, packer.argument_types)
        function = cgutils.get_or_insert_function(module, kind, description.mangled_name)
        packer.assign_names(function.args, [f"arg.{name}" for name in description.args])
        if description.noalias:
            for argument in function.args:
                if isinstance(argument.type, ir.PointerType):
                    argument.add_attribute("captures(none)")
                    argument.add_attribute("noalias")
        if description.inline:
            function.attributes.add("alwaysinline")
        return function

    def call(self, builder: ir.IRBuilder, description: Any, args: Sequence[ir.Value]) -> ir.Value:
        """Calls a function of ours; gives its result."""
        function = self.declare(builder.module, description)
        words = self._get_arg_packer(description.argtypes).as_arguments(builder, args)
        result = builder.call(function, list(words))
        return self.context.get_returned_value(builder, description.restype, result)

    def decode_arguments(self, builder: ir.IRBuilder, argtypes: Any, func: ir.Function) -> Any:
        return self._get_arg_packer(argtypes).from_arguments(builder, func.args)

    def return_value(self, builder: ir.IRBuilder, retval: ir.Value) -> None:
        builder.ret(retval)

    def return_user_exc(self, builder: ir.IRBuilder, *exception: Any, **details: Any) -> None:
        self._return_errcode_raw(builder, None)

    def return_dynamic_user_exc(self, builder: ir.IRBuilder, *exception: Any, **details: Any) -> None:
        self._return_errcode_raw(builder, None)

    def return_status_propagate(self, builder: ir.IRBuilder, status: Any) -> None:
        self._return_errcode_raw(builder, status.code)

    def _return_errcode_raw(self, builder: ir.IRBuilder, code: Any) -> None:
        builder.ret(ir.Constant(builder.function.function_type.return_type, None))

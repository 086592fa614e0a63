"""Operations the elementary functions are written in, each one or a few instructions.

They are emitted into the function that calls them and are exact as long as that function is compiled without
fast-math, as everything made by :mod:`nbdl.kernels.cpu.math_dispatch` is.
"""

from __future__ import annotations

import struct
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_INTEGERS = {types.float32: types.int32, types.float64: types.int64}
_REALS = {integer: real for real, integer in _INTEGERS.items()}


def call_llvm(builder: ir.IRBuilder, name: str, *args: ir.Value) -> ir.Value:
    """Call the LLVM intrinsic ``name``, overloaded on the one floating type of all its operands."""
    kind = args[0].type
    suffix = "f32" if kind == ir.FloatType() else "f64"
    function_type = ir.FunctionType(kind, [kind] * len(args))
    function = cgutils.get_or_insert_function(builder.module, function_type, f"llvm.{name}.{suffix}")
    return builder.call(function, args)


def _unary(name: str) -> Any:
    def definition(typingctx: Any, x: Any) -> Any:
        return x(x), lambda context, builder, signature, args: call_llvm(builder, name, *args)

    return intrinsic(definition)


def _binary(name: str) -> Any:
    def definition(typingctx: Any, x: Any, y: Any) -> Any:
        return x(x, x), lambda context, builder, signature, args: call_llvm(builder, name, *args)

    return intrinsic(definition)


fabs, floor, ceil, trunc, sqrt = (_unary(name) for name in ("fabs", "floor", "ceil", "trunc", "sqrt"))
rint = _unary("rint")  # half to even
copysign = _binary("copysign")
maximum, minimum = _binary("maximum"), _binary("minimum")  # NaN if either is
maxnum, minnum = _binary("maxnum"), _binary("minnum")  # the other if one is NaN


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x*y + z, rounded once."""
    return x(x, x, x), lambda context, builder, signature, args: call_llvm(builder, "fma", *args)


@intrinsic
def fmod(typingctx: Any, x: Any, y: Any) -> Any:
    """Return the exact remainder of x/y with the sign of x; a call of the C library."""
    return x(x, x), lambda context, builder, signature, args: builder.frem(*args)


@intrinsic
def select(typingctx: Any, condition: Any, x: Any, y: Any) -> Any:
    """Return ``x`` if ``condition`` else ``y``, both of which have been computed."""
    return x(types.boolean, x, x), lambda context, builder, signature, args: builder.select(*args)


@intrinsic
def bits(typingctx: Any, x: Any) -> Any:
    """Return the representation of a float as the signed integer of its width."""
    integer = _INTEGERS[x]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], context.get_value_type(integer))

    return integer(x), codegen


@intrinsic
def from_bits(typingctx: Any, i: Any) -> Any:
    """Return the float whose representation is the int32 or int64 ``i``."""
    real = _REALS[i]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], context.get_value_type(real))

    return real(i), codegen


@intrinsic
def polynomial(typingctx: Any, x: Any, coefficients: Any) -> Any:
    """Return c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule, one fma a term.

    ``coefficients`` is a tuple of constants of the type of ``x``.
    """

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        value, terms = args
        *lower, result = cgutils.unpack_tuple(builder, terms)
        for term in reversed(lower):
            result = call_llvm(builder, "fma", result, value, term)
        return result

    return x(x, coefficients), codegen


def library_beyond(name: str, limits: dict[Any, float]) -> Any:
    """Make a function f(x, y): y for |x| below a limit, and ``name(x)`` of the C library for larger finite x.

    A branch would keep a loop from being vectorised, and a select would call the library for every element.
    The function therefore comes with vector variants, which LLVM's loop vectoriser finds by attribute (its
    vector function ABI): they return ``y`` unless one of the lanes is beyond the limit.

    Args:
        name: an LLVM intrinsic that becomes a call of the C library, such as "sin".
        limits: the limit for each of the Numba types float32 and float64.
    """

    def definition(typingctx: Any, x: Any, y: Any) -> Any:
        suffix = "f32" if x == types.float32 else "f64"
        function_name = f"nbdl_{name}_beyond_{suffix}"

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            text = _library_beyond_ir(name, function_name, suffix, limits[x])
            library = context.codegen().create_library(function_name)
            library.add_llvm_module(llvm.parse_assembly(text))
            library.finalize()
            context.active_code_library.add_linking_library(library)
            kind = args[0].type
            function_type = ir.FunctionType(kind, [kind, kind])
            function = cgutils.get_or_insert_function(builder.module, function_type, function_name)
            return builder.call(function, args)

        return x(x, x), codegen

    return intrinsic(definition)


def _library_beyond_ir(name: str, function_name: str, suffix: str, limit: float) -> str:
    scalar, widths = {"f32": ("float", (4, 8, 16)), "f64": ("double", (2, 4, 8))}[suffix]
    bound = f"0x{struct.unpack('<Q', struct.pack('<d', limit))[0]:016X}"
    infinity = "0x7FF0000000000000"
    variants = ",".join(f"_ZGV_LLVM_N{n}vv_{function_name}({function_name}_v{n})" for n in widths)
    kept = ", ".join(f"ptr @{function_name}_v{n}" for n in widths)
    text = [
        f"""
        declare {scalar} @llvm.{name}.{suffix}({scalar})
        declare {scalar} @llvm.fabs.{suffix}({scalar})
        @llvm.compiler.used = appending global [{len(widths)} x ptr] [{kept}], section "llvm.metadata"
        attributes #0 = {{ noinline nounwind willreturn memory(none) }}
        attributes #1 = {{ noinline nounwind willreturn memory(none)
                           "vector-function-abi-variant"="{variants}" }}

        define linkonce_odr {scalar} @{function_name}({scalar} %x, {scalar} %y) #1 {{
          %a = call {scalar} @llvm.fabs.{suffix}({scalar} %x)
          %large = fcmp oge {scalar} %a, {bound}
          %finite = fcmp olt {scalar} %a, {infinity}
          %beyond = and i1 %large, %finite
          br i1 %beyond, label %slow, label %fast
        slow:
          %z = call {scalar} @llvm.{name}.{suffix}({scalar} %x)
          ret {scalar} %z
        fast:
          ret {scalar} %y
        }}"""
    ]
    for n in widths:
        vector = f"<{n} x {scalar}>"
        text.append(
            f"""
        declare {vector} @llvm.fabs.v{n}{suffix}({vector})
        declare i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1>)

        define linkonce_odr {vector} @{function_name}_v{n}({vector} %x, {vector} %y) #0 {{
        entry:
          %a = call {vector} @llvm.fabs.v{n}{suffix}({vector} %x)
          %large = fcmp oge {vector} %a, splat ({scalar} {bound})
          %finite = fcmp olt {vector} %a, splat ({scalar} {infinity})
          %beyond = and <{n} x i1> %large, %finite
          %any = call i1 @llvm.vector.reduce.or.v{n}i1(<{n} x i1> %beyond)
          br i1 %any, label %lane, label %fast
        lane:
          %i = phi i32 [0, %entry], [%next, %lane]
          %result = phi {vector} [%y, %entry], [%updated, %lane]
          %xi = extractelement {vector} %x, i32 %i
          %yi = extractelement {vector} %y, i32 %i
          %zi = call {scalar} @{function_name}({scalar} %xi, {scalar} %yi)
          %updated = insertelement {vector} %result, {scalar} %zi, i32 %i
          %next = add i32 %i, 1
          %more = icmp ult i32 %next, {n}
          br i1 %more, label %lane, label %done
        done:
          ret {vector} %updated
        fast:
          ret {vector} %y
        }}"""
        )
    return "\n".join(text)

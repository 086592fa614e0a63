"""Arithmetic of whole vectors, written as a formula.

LLVM makes vectors of loops too, but Numba has to put such a loop together first, and LLVM to take it apart.
Where lengths are known, a formula of vectors is the shorter way, for the reader and for the compiler.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbdl.kernels.cpu.frontend import FASTMATH_REASSOC

__all__ = ["Vector", "line_kernel"]

_INT64 = ir.IntType(64)
_FLAGS = tuple(sorted(FASTMATH_REASSOC))


class Vector:
    """A value in a register of the compiled code; `+`, `-` and `*` by a number add instructions."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fadd(self.value, other.value, flags=_FLAGS))

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.builder, self.builder.fsub(self.value, other.value, flags=_FLAGS))

    def __rmul__(self, factor: float) -> Vector:
        vector = self.value.type
        factors = ir.Constant(vector, [vector.element(factor)] * vector.count)
        return Vector(self.builder, self.builder.fmul(factors, self.value, flags=_FLAGS))


def line_kernel(dtype: Any, lanes: int, formula: Callable[..., tuple[Vector, ...]]) -> Any:
    """A function for compiled code that computes vectors in memory from others.

    Args:
        dtype: float32 or float64.
        lanes: Elements of a vector.
        formula: From the vectors that are read, its positional parameters, to those that are written. One
            more, called `start`, may follow.

    Returns:
        An intrinsic `line(x, x_step, y, y_step)`, with a start `line(x, x_step, y, y_step, start)`, of int64:
        addresses, and bytes from one vector to the next. All is read before anything is written.
    """
    dtype = np.dtype(dtype)
    vector = ir.VectorType(ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType(), lanes)
    names = list(inspect.signature(formula).parameters)
    has_start = names[-1] == "start"

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, x_step, y, y_step, *start = args

        def place(address: ir.Value, step: ir.Value, k: int) -> ir.Value:
            return builder.inttoptr(builder.add(address, builder.mul(step, _INT64(k))), vector.as_pointer())

        def load(pointer: ir.Value) -> Vector:
            return Vector(builder, builder.load(pointer, align=dtype.itemsize))

        inputs = [load(place(x, x_step, k)) for k in range(len(names) - has_start)]
        inputs += [load(builder.inttoptr(address, vector.as_pointer())) for address in start]
        for k, result in enumerate(formula(*inputs)):
            builder.store(result.value, place(y, y_step, k), align=dtype.itemsize)
        return context.get_dummy_value()

    if has_start:

        @intrinsic
        def line_from(typingctx: Any, x: Any, x_step: Any, y: Any, y_step: Any, start: Any) -> Any:
            return types.void(*[types.int64] * 5), generate

        return line_from

    @intrinsic
    def line(typingctx: Any, x: Any, x_step: Any, y: Any, y_step: Any) -> Any:
        return types.void(*[types.int64] * 4), generate

    return line

"""The innermost loops of depthwise convolutions, whose sums stay in vector registers.

A tile is a few vectors. What the lanes are, channels or the positions of a line, is the caller's: it says how
far apart the vectors of an operand are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from nbdl.kernels.cpu.microkernel import intrinsic_of_int64, tile_shape

__all__ = ["TILE", "sum_of_products", "sum_of_taps"]

TILE = 4  # vectors: as many sums as a core works on at once

_INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)
_TAPS_ARGUMENTS = 13
_PRODUCTS_ARGUMENTS = 11


class _Lanes:
    """Instructions on the vectors of a tile; with `count`, so many lanes of each are read and written."""

    def __init__(self, builder: ir.IRBuilder, dtype: Any, vectors: int, count: ir.Value | None) -> None:
        self.builder, self.vectors, self.align = builder, vectors, np.dtype(dtype).itemsize
        lanes = tile_shape(dtype).lanes
        scalar = ir.FloatType() if self.align == 4 else ir.DoubleType()
        self.vector = ir.VectorType(scalar, lanes)
        self.suffix = f"v{lanes}f{8 * self.align}"
        self.mask = None
        if count is not None:
            numbers = ir.VectorType(_INT64, lanes)
            first = builder.insert_element(ir.Constant(numbers, ir.Undefined), count, _INT32(0))
            counts = builder.shuffle_vector(
                first, first, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes)
            )
            self.mask = builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), counts)
        self.sums = [cgutils.alloca_once(builder, self.vector) for _ in range(vectors)]
        self.zero = ir.Constant(self.vector, [0.0] * lanes)

    def steps(self, address: ir.Value, step: ir.Value) -> list[ir.Value]:
        """The addresses of vectors that are `step` bytes apart."""
        b = self.builder
        return [b.add(address, b.mul(step, _INT64(k))) for k in range(self.vectors)]

    def load(self, addresses: list[ir.Value], masked: bool = False) -> list[ir.Value]:
        """The vectors at these addresses."""
        return [self._load(self._pointer(address), masked) for address in addresses]

    def _pointer(self, address: ir.Value) -> ir.Value:
        return self.builder.inttoptr(address, self.vector.as_pointer())

    def _load(self, pointer: ir.Value, masked: bool) -> ir.Value:
        if self.mask is None or not masked:
            return self.builder.load(pointer, align=self.align)
        operands = [pointer, _INT32(self.align), self.mask, self.zero]
        return self._call(f"llvm.masked.load.{self.suffix}.p0", self.vector, operands)

    def store(self, addresses: list[ir.Value]) -> None:
        """Write the sums."""
        for total, address in zip(self.sums, addresses, strict=True):
            value, pointer = self.builder.load(total), self._pointer(address)
            if self.mask is None:
                self.builder.store(value, pointer, align=self.align)
            else:
                operands = [value, pointer, _INT32(self.align), self.mask]
                self._call(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), operands)

    def begin(self, values: list[ir.Value]) -> None:
        """Give the sums their first values."""
        for total, value in zip(self.sums, values, strict=True):
            self.builder.store(value, total)

    def add_products(self, xs: list[ir.Value], ys: list[ir.Value]) -> None:
        """Add products to the sums, fused where the CPU can."""
        for total, x, y in zip(self.sums, xs, ys, strict=True):
            operands = [x, y, self.builder.load(total)]
            product = self._call(f"llvm.fmuladd.{self.suffix}", self.vector, operands)
            self.builder.store(product, total)

    def _call(self, name: str, result: ir.Type, operands: list[ir.Value]) -> ir.Value:
        function = ir.FunctionType(result, [operand.type for operand in operands])
        function = cgutils.get_or_insert_function(self.builder.module, function, name)
        return self.builder.call(function, operands)


def sum_of_taps(dtype: Any, vectors: int, masked: bool = False, widths: int | None = None) -> Any:
    """The products of a box of taps with their weights, summed: `y = start + sum_t x[offset_t] w[t]`.

    Args:
        dtype: float32 or float64.
        vectors: Vectors of the tile.
        masked: Whether only some lanes of y are written, and read of start; x and w are read whole.
        widths: The number of taps of a line where it is known, for a loop without branches.

    Returns:
        An intrinsic of int64 `taps(x, x_step, weight, weight_step, weight_tap, start, start_step, y, y_step,
        offsets, lines, widths, line_taps)`, with the number of lanes at the end if `masked`. Addresses and
        distances of vectors count bytes. `offsets` is a table of byte offsets, by tap; of each of `lines`
        lines of `line_taps` taps the first `widths` are taken. A start of 0 stands for zeros.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, x_step, weight, weight_step, weight_tap, start, start_step, y, y_step, *rest = args
        offsets, lines, line_widths, line_taps, *count = rest
        tile = _Lanes(builder, dtype, vectors, count[0] if count else None)
        tile.begin([tile.zero] * vectors)
        with builder.if_then(builder.icmp_unsigned("!=", start, _INT64(0))):
            tile.begin(tile.load(tile.steps(start, start_step), masked=True))
        table = builder.inttoptr(offsets, _INT64.as_pointer())

        def add_tap(tap: ir.Value) -> None:
            place = builder.add(x, builder.load(builder.gep(table, [tap])))
            factors = builder.add(weight, builder.mul(tap, weight_tap))
            xs, weights = tile.steps(place, x_step), tile.steps(factors, weight_step)
            tile.add_products(tile.load(xs), tile.load(weights))

        with cgutils.for_range(builder, lines) as line:
            first = builder.mul(line.index, line_taps)
            if widths is None:
                with cgutils.for_range(builder, line_widths) as width:
                    add_tap(builder.add(first, width.index))
            for k in range(widths or 0):
                add_tap(builder.add(first, _INT64(k)))
        tile.store(tile.steps(y, y_step))
        return context.get_dummy_value()

    return intrinsic_of_int64(_TAPS_ARGUMENTS + masked, generate)


def sum_of_products(dtype: Any, sums: int, masked: bool = False, shared: bool = True) -> Any:
    """Several sums of products at once: `total_k += sum_o sum_i x[offset_k, o, i] y[o, i]`.

    Args:
        dtype: float32 or float64.
        sums: Their number.
        masked: Whether only some lanes of x and y are read, and the others are zeros.
        shared: Whether the sums have y in common; else y has the offsets of x.

    Returns:
        An intrinsic of int64 `products(x, offsets, x_outer, x_inner, y, y_outer, y_inner, total, total_step,
        outer, inner)`, with the number of lanes at the end if `masked`; addresses, and distances in bytes.
        `offsets` is a table of byte offsets.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, offsets, x_outer, x_inner, y, y_outer, y_inner, total, total_step, outer, inner, *count = args
        tile = _Lanes(builder, dtype, sums, count[0] if count else None)
        tile.begin(tile.load(tile.steps(total, total_step)))
        table = builder.inttoptr(offsets, _INT64.as_pointer())
        steps = [builder.load(builder.gep(table, [_INT64(k)])) for k in range(sums)]
        xs = [builder.add(x, step) for step in steps]
        ys = [y] if shared else [builder.add(y, step) for step in steps]
        with cgutils.for_range(builder, outer) as i, cgutils.for_range(builder, inner) as j:
            x_offset = builder.add(builder.mul(i.index, x_outer), builder.mul(j.index, x_inner))
            y_offset = builder.add(builder.mul(i.index, y_outer), builder.mul(j.index, y_inner))
            factors = tile.load([builder.add(address, y_offset) for address in ys], masked=True)
            values = tile.load([builder.add(address, x_offset) for address in xs], masked=True)
            tile.add_products(values, factors * (sums // len(ys)))
        tile.mask = None  # the sums are whole
        tile.store(tile.steps(total, total_step))
        return context.get_dummy_value()

    return intrinsic_of_int64(_PRODUCTS_ARGUMENTS + masked, generate)

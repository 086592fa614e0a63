"""The innermost loops of depthwise convolutions, whose sums stay in vector registers.

A tile is `TILE` vectors, or one; the vectors lie at equal distances in memory. What the lanes are, channels or the
positions of a line, is the caller's: it says how far apart the vectors of an operand are.
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
_PRODUCTS_ARGUMENTS = 12


class _Lanes:
    """Instructions on the vectors of a tile; with `count`, only so many lanes of each are read and written."""

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
            counts = builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_INT32, lanes), [0] * lanes))
            self.mask = builder.icmp_signed("<", ir.Constant(numbers, list(range(lanes))), counts)
        self.sums = [cgutils.alloca_once(builder, self.vector) for _ in range(vectors)]
        self.zero = ir.Constant(self.vector, [0.0] * lanes)

    def _pointers(self, address: ir.Value, step: ir.Value) -> list[ir.Value]:
        b, pointer = self.builder, self.vector.as_pointer()
        return [b.inttoptr(b.add(address, b.mul(step, _INT64(k))), pointer) for k in range(self.vectors)]

    def load(self, address: ir.Value, step: ir.Value, masked: bool = False) -> list[ir.Value]:
        """The vectors at `address`, `step` bytes apart."""
        return [self._load(pointer, masked) for pointer in self._pointers(address, step)]

    def _load(self, pointer: ir.Value, masked: bool) -> ir.Value:
        if self.mask is None or not masked:
            return self.builder.load(pointer, align=self.align)
        operands = [pointer, _INT32(self.align), self.mask, self.zero]
        return self._call(f"llvm.masked.load.{self.suffix}.p0", self.vector, operands)

    def store(self, address: ir.Value, step: ir.Value) -> None:
        """The sums."""
        for total, pointer in zip(self.sums, self._pointers(address, step), strict=True):
            value = self.builder.load(total)
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


def sum_of_taps(dtype: Any, vectors: int, masked: bool = False) -> Any:
    """The products of a box of taps with their weights, summed: `y = start + sum_t x[offset_t] w[t]`.

    Args:
        dtype: float32 or float64.
        vectors: Vectors of the tile.
        masked: Whether only some lanes of y are written, and read of start; x and w are read whole.

    Returns:
        An intrinsic of int64 `taps(x, x_step, weight, weight_step, weight_tap, start, start_step, y, y_step,
        offsets, lines, widths, line_taps)`, with the number of lanes at the end if `masked`. Addresses and
        distances of vectors count bytes. `offsets` is a table of byte offsets, by tap; of each of `lines` lines
        of `line_taps` taps the first `widths` are taken. A start of 0 stands for zeros.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, x_step, weight, weight_step, weight_tap, start, start_step, y, y_step, *rest = args
        offsets, lines, widths, line_taps, *count = rest
        tile = _Lanes(builder, dtype, vectors, count[0] if count else None)
        tile.begin([tile.zero] * vectors)
        with builder.if_then(builder.icmp_unsigned("!=", start, _INT64(0))):
            tile.begin(tile.load(start, start_step, masked=True))
        table = builder.inttoptr(offsets, _INT64.as_pointer())
        with cgutils.for_range(builder, lines) as line:
            first = builder.mul(line.index, line_taps)
            with cgutils.for_range(builder, widths) as width:
                tap = builder.add(first, width.index)
                place = builder.add(x, builder.load(builder.gep(table, [tap])))
                factors = builder.add(weight, builder.mul(tap, weight_tap))
                tile.add_products(tile.load(place, x_step), tile.load(factors, weight_step))
        tile.store(y, y_step)
        return context.get_dummy_value()

    return intrinsic_of_int64(_TAPS_ARGUMENTS + masked, generate)


def sum_of_products(dtype: Any, vectors: int, masked: bool = False) -> Any:
    """The products of two boxes of vectors, summed: `total += sum_o sum_i x[o, i] y[o, i]`.

    Args:
        dtype: float32 or float64.
        vectors: Vectors of the tile.
        masked: Whether only some lanes of x and y are read, and the others are zeros.

    Returns:
        An intrinsic of int64 `products(x, x_step, x_outer, x_inner, y, y_step, y_outer, y_inner, total,
        total_step, outer, inner)`, with the number of lanes at the end if `masked`; addresses, and distances in
        bytes.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        x, x_step, x_outer, x_inner, y, y_step, y_outer, y_inner, total, total_step, *rest = args
        outer, inner, *count = rest
        tile = _Lanes(builder, dtype, vectors, count[0] if count else None)
        tile.begin(tile.load(total, total_step))

        def place(address: ir.Value, index: ir.Value, step: ir.Value) -> ir.Value:
            return builder.add(address, builder.mul(index, step))

        with cgutils.for_range(builder, outer) as i:
            x_line, y_line = place(x, i.index, x_outer), place(y, i.index, y_outer)
            with cgutils.for_range(builder, inner) as j:
                xs = tile.load(place(x_line, j.index, x_inner), x_step, masked=True)
                ys = tile.load(place(y_line, j.index, y_inner), y_step, masked=True)
                tile.add_products(xs, ys)
        tile.mask = None  # the sums are whole
        tile.store(total, total_step)
        return context.get_dummy_value()

    return intrinsic_of_int64(_PRODUCTS_ARGUMENTS + masked, generate)

"""The register-blocked micro-kernel behind matrix multiplication, convolution, attention and recurrent cells.

One tile of C, `rows` x `columns`, is held in vector registers while the product runs over the inner dimension
(K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34(3), 2008):

    C[i, j] = start[i, j] + sum_o sum_p  A[o, i, p] * B[o, p, j]

Every operand is given by a byte address and by element strides; only the columns of B, C and start must be
adjacent. The outer sum is the second loop of a convolution (kernel rows); a plain product has `outer == 1`.

The loops are LLVM IR, because the compiler neither keeps 28 accumulators in registers nor splits a loop in
this way by itself. A dtype's micro-kernels, one for each size up to `tile_shape(dtype)`, are compiled once;
the kernels that use them find their table in the argument block and call `tile_caller(dtype)`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_VECTORS = 2  # vectors per row of a full tile
_ROWS_PER_POINTER = 4  # rows of A reached from one pointer: base, + row, + 2 row, + 3 row

# The arguments of a tile, all int64; addresses count bytes, strides count elements.
_ARGUMENTS = (
    "a",  # address of A[0, 0, 0]
    "a_row",  # stride from one row of A to the next
    "a_depth",  # stride along the inner dimension
    "b",  # address of B[0, 0, 0]
    "b_depth",  # stride along the inner dimension; columns are adjacent
    "c",  # address of C[0, 0]
    "c_row",  # stride from one row of C to the next; columns are adjacent
    "start",  # address of start[0, 0], 0 for zeros; C itself accumulates, a bias has start_row 0
    "start_row",  # stride from one row of start to the next; columns are adjacent
    "depth",  # length of the inner sum, at least 1
    "outer",  # length of the outer sum, at least 1
    "a_outer",  # stride of A along the outer sum
    "b_outer",  # stride of B along the outer sum
)


class VectorUnit(NamedTuple):
    """The vector registers of a CPU."""

    bytes: int
    registers: int
    has_masks: bool  # masked loads and stores cost no more than plain ones


class TileShape(NamedTuple):
    """The largest tile of C that stays in registers: `rows` x (`vectors` * `lanes`) elements."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


@cache
def vector_unit() -> VectorUnit:
    """The vector unit that Numba compiles for (the host's, unless NUMBA_CPU_FEATURES says otherwise)."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    enabled = features.split(",")
    if "+avx512f" in enabled:
        return VectorUnit(bytes=64, registers=32, has_masks=True)
    if "+avx" in enabled:
        return VectorUnit(bytes=32, registers=16, has_masks=False)
    is_arm = triple.startswith(("aarch64", "arm64"))
    return VectorUnit(bytes=16, registers=32 if is_arm else 16, has_masks=False)


def tile_shape(dtype) -> TileShape:
    """The tile for a dtype: all accumulators, one row of B and one element of A fill the registers.

    AVX-512: 14 x 2 vectors of 16 float32; AVX2 and SSE: 6 x 2; NEON: 14 x 2.
    """
    unit = vector_unit()
    rows = (unit.registers - _VECTORS - 1) // _VECTORS
    return TileShape(rows, _VECTORS, unit.bytes // np.dtype(dtype).itemsize)


def tile_table_words(dtype) -> int:
    """Length of the int64 table that `make_tile_table` fills."""
    return len(_KINDS) * tile_shape(dtype).rows


def make_tile_table(dtype):
    """The kernel `fill(table, 0, 1, 0)`: writes the addresses of all micro-kernels of a dtype into a table.

    They are compiled once, with this kernel, and not with every kernel that calls them.

    Args:
        dtype: float32 or float64.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"make_tile_table: dtype is {dtype}, allowed are float32 and float64")
    shape = tile_shape(dtype)

    def generate(context, builder, signature, args):
        table = builder.inttoptr(args[0], _INT64.as_pointer())
        for k, (vectors, masked) in enumerate(_KINDS):
            masked |= vectors == 1 and vector_unit().has_masks  # one function serves both kinds
            for rows in range(1, shape.rows + 1):
                kernel = _micro_kernel(builder.module, dtype, rows, vectors, masked)
                place = builder.gep(table, [_int64(k * shape.rows + rows - 1)])
                builder.store(builder.ptrtoint(kernel, _INT64), place)
        return context.get_dummy_value()

    fill = intrinsic_of_int64(1, generate)

    def fill_tile_table(args, lo, hi, task):
        fill(args)

    return fill_tile_table


def tile_caller(dtype):
    """A function for njit code that computes one tile of any size up to `tile_shape(dtype)`.

    Args:
        dtype: float32 or float64.

    Returns:
        An intrinsic `tile(table, rows, columns, a, a_row, a_depth, b, b_depth, c, c_row, start, start_row,
        depth, outer, a_outer, b_outer)`, every argument int64: the address of a table of `make_tile_table`,
        the size of the tile, and `_ARGUMENTS`. 1 <= rows <= shape.rows and 1 <= columns <= shape.columns are
        not checked. Nothing outside the tile's rows and columns is read or written. `start` may be `c`.
    """
    shape = tile_shape(dtype)

    def generate(context, builder, signature, args):
        table, rows, columns, *operands = args
        lanes = _int64(shape.lanes)
        is_whole = builder.icmp_signed("==", columns, lanes)
        is_wide = builder.icmp_signed(">", columns, lanes)
        kind = builder.select(is_wide, _int64(0), builder.select(is_whole, _int64(1), _int64(2)))
        index = builder.sub(builder.add(builder.mul(kind, _int64(shape.rows)), rows), _int64(1))
        address = builder.load(builder.gep(builder.inttoptr(table, _INT64.as_pointer()), [index]))
        builder.call(builder.inttoptr(address, _MICRO_KERNEL.as_pointer()), [*operands, columns])
        return context.get_dummy_value()

    return intrinsic_of_int64(3 + len(_ARGUMENTS), generate)


def copy_kernel(dtype):
    """A function for njit code that copies the columns of a full tile, `tile_shape(dtype).columns` elements.

    Args:
        dtype: float32 or float64.

    Returns:
        An intrinsic `copy(source, target)` of two byte addresses as int64.
    """
    dtype = np.dtype(dtype)
    row = ir.VectorType(_scalar_type(dtype), tile_shape(dtype).columns)

    def generate(context, builder, signature, args):
        source, target = (builder.inttoptr(address, row.as_pointer()) for address in args)
        builder.store(builder.load(source, align=dtype.itemsize), target, align=dtype.itemsize)
        return context.get_dummy_value()

    return intrinsic_of_int64(2, generate)


def transpose_kernel(dtype, lanes=None):
    """A function for njit code that transposes one square block of `lanes` x `lanes` elements in registers.

    Args:
        dtype: float32 or float64.
        lanes: a power of 2, by default as many as a vector has.

    Returns:
        An intrinsic `transpose(source, source_row, target, target_row)` of int64: byte addresses, element
        strides between rows; the columns of either block are adjacent.
    """
    dtype = np.dtype(dtype)
    lanes = lanes or tile_shape(dtype).lanes
    scalar = _scalar_type(dtype)
    vector = ir.VectorType(scalar, lanes)

    def generate(context, builder, signature, args):
        source, source_row, target, target_row = args

        def row_of(address, stride, i):
            pointer = builder.inttoptr(address, scalar.as_pointer())
            pointer = builder.gep(pointer, [builder.mul(stride, _int64(i))])
            return builder.bitcast(pointer, vector.as_pointer())

        rows = [builder.load(row_of(source, source_row, i), align=dtype.itemsize) for i in range(lanes)]
        for i, row in enumerate(_transposed(builder, rows)):
            builder.store(row, row_of(target, target_row, i), align=dtype.itemsize)
        return context.get_dummy_value()

    return intrinsic_of_int64(4, generate)


def _transposed(builder: ir.IRBuilder, rows: list) -> list:
    """The columns of a square of vectors: at each step, pairs of rows exchange their off-diagonal blocks."""
    lanes = len(rows)
    step = 1
    while step < lanes:
        # Lane l of row i and lane l of row i + step, numbered l and lanes + l.
        upper = [lane if not lane & step else lanes + lane - step for lane in range(lanes)]
        lower = [lane + step if not lane & step else lanes + lane for lane in range(lanes)]
        upper, lower = (ir.Constant(ir.VectorType(_INT32, lanes), order) for order in (upper, lower))
        for i in range(lanes):
            if not i & step:
                pair = rows[i], rows[i + step]
                rows[i], rows[i + step] = (builder.shuffle_vector(*pair, order) for order in (upper, lower))
        step *= 2
    return rows


def _scalar_type(dtype: np.dtype) -> ir.Type:
    return ir.FloatType() if dtype == np.float32 else ir.DoubleType()


def intrinsic_of_int64(count: int, generate):
    """An intrinsic of `count` int64 arguments and no result."""

    def typer(typing_context, *args):
        return types.void(*[types.int64] * count), generate

    # Numba reads the names of the parameters, so the typer must have as many as the intrinsic.
    names = ", ".join(f"x{k}" for k in range(count))
    wrapper = eval(f"lambda typing_context, {names}: typer(typing_context, {names})", {"typer": typer})
    return intrinsic(wrapper)


_MICRO_KERNEL = ir.FunctionType(ir.VoidType(), [_INT64] * (len(_ARGUMENTS) + 1))  # the last one: columns
# The ways to cover the columns of a tile, (vectors, masked): over one vector, one whole vector, less than
# one.
_KINDS = ((_VECTORS, False), (1, False), (1, True))


def _int64(value: int) -> ir.Constant:
    return ir.Constant(_INT64, value)


def _micro_kernel(module: ir.Module, dtype: np.dtype, rows: int, vectors: int, masked: bool) -> ir.Function:
    """The IR function of one tile shape, defined once in a module.

    The last vector of a row ends at `columns`: it overlaps the one before where the width is no multiple of
    the lanes. That needs no masks: the columns computed twice get the same bits, and all loads of `start`
    precede the stores. Only a tile narrower than one vector is `masked`.
    """
    name = f"nbdl.tile.{dtype.name}.{rows}x{vectors}" + (".masked" if masked else "")
    function = cgutils.get_or_insert_function(module, _MICRO_KERNEL, name)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        upper = _upper_rows(rows)
        if upper < rows:
            _emit_two_tiles(function, dtype, (upper, rows - upper), vectors, masked)
        else:
            _TileEmitter(function, dtype, rows, vectors, masked).emit()
    return function


def _upper_rows(rows: int) -> int:
    """Rows that a function computes itself; those below are another one's, to compile fewer of them.

    Loops of their own have even heights, 1 and 3.
    """
    return rows - 3 if rows % 2 and rows > 3 else rows


def _emit_two_tiles(
    function: ir.Function, dtype: np.dtype, rows: tuple[int, int], vectors: int, masked: bool
) -> None:
    """The body for a height that is computed as two tiles, one below the other."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    arguments = dict(zip((*_ARGUMENTS, "columns"), function.args))
    upper, lower = rows
    builder.call(_micro_kernel(builder.module, dtype, upper, vectors, masked), [*arguments.values()])
    no_start = builder.icmp_unsigned("==", arguments["start"], _int64(0))
    for name in ("a", "c", "start"):
        offset = builder.mul(arguments[f"{name}_row"], _int64(upper * dtype.itemsize))
        arguments[name] = builder.add(arguments[name], offset)
    arguments["start"] = builder.select(no_start, _int64(0), arguments["start"])
    builder.call(_micro_kernel(builder.module, dtype, lower, vectors, masked), [*arguments.values()])
    builder.ret_void()


class _TileEmitter:
    """Writes the body of one micro-kernel: load start; loop outer; loop depth; store C."""

    def __init__(self, function: ir.Function, dtype: np.dtype, rows: int, vectors: int, masked: bool):
        self.function = function
        self.rows, self.vectors, self.masked = rows, vectors, masked
        self.lanes = tile_shape(dtype).lanes
        self.align = dtype.itemsize
        self.scalar = _scalar_type(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * dtype.itemsize}"
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        for argument, argument_name in zip(function.args, (*_ARGUMENTS, "columns")):
            argument.name = argument_name
            setattr(self, argument_name, argument)

    def emit(self) -> None:
        b = self.builder
        for name in ("a", "b", "c", "start"):
            setattr(self, name, b.inttoptr(getattr(self, name), self.scalar.as_pointer()))
        last = b.sub(self.columns, _int64(self.lanes)) if not self.masked else _int64(0)
        self.offsets = [_int64(j * self.lanes) for j in range(self.vectors - 1)] + [last]
        self.mask = self._mask() if self.masked else None
        self.a_rows = [b.mul(self.a_row, _int64(i)) for i in range(min(self.rows, _ROWS_PER_POINTER))]
        sums = self._loop_outer(self._load_start())
        for i in range(self.rows):
            row = b.gep(self.c, [b.mul(self.c_row, _int64(i))])
            for j in range(self.vectors):
                self._store(sums[i * self.vectors + j], row, self.offsets[j])
        b.ret_void()

    def _load_start(self) -> list:
        """The first value of every accumulator: zero, or the vectors of `start`."""
        b = self.builder
        entry = b.block
        load, ready = (self.function.append_basic_block(name) for name in ("start", "ready"))
        is_zero = b.icmp_unsigned("==", b.ptrtoint(self.start, _INT64), _int64(0))
        b.cbranch(is_zero, ready, load)
        b.position_at_end(load)
        loaded = []
        for i in range(self.rows):
            row = b.gep(self.start, [b.mul(self.start_row, _int64(i))])
            loaded += [self._load(row, offset) for offset in self.offsets]
        b.branch(ready)
        b.position_at_end(ready)
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        return [self._phi((zero, entry), (value, load)) for value in loaded]

    def _loop_outer(self, sums: list) -> list:
        b = self.builder
        before = b.block
        body = self.function.append_basic_block("outer")
        after = self.function.append_basic_block("store")
        b.branch(body)
        b.position_at_end(body)
        index = self._phi((_int64(0), before))
        a, b_row = self._phi((self.a, before)), self._phi((self.b, before))
        phis = [self._phi((value, before)) for value in sums]
        results = self._loop_depth(a, b_row, phis)
        latch = b.block
        following = b.add(index, _int64(1))
        index.add_incoming(following, latch)
        a.add_incoming(b.gep(a, [self.a_outer]), latch)
        b_row.add_incoming(b.gep(b_row, [self.b_outer]), latch)
        for phi, value in zip(phis, results):
            phi.add_incoming(value, latch)
        b.cbranch(b.icmp_signed("<", following, self.outer), body, after)
        b.position_at_end(after)
        return results

    def _loop_depth(self, a, b_row, sums: list) -> list:
        """The innermost loop: one row of B, one column of A, rows x vectors multiply-adds."""
        b = self.builder
        before = b.block
        groups = range(0, self.rows, _ROWS_PER_POINTER)
        starts = [self._opaque(b.gep(a, [b.mul(self.a_row, _int64(i))])) for i in groups]
        body = self.function.append_basic_block("depth")
        after = self.function.append_basic_block("depth.end")
        b.branch(body)
        b.position_at_end(body)
        index = self._phi((_int64(0), before))
        pointers = [self._phi((value, before)) for value in starts]
        b_row = self._phi((b_row, before))
        phis = [self._phi((value, before)) for value in sums]
        columns = [self._load(b_row, offset) for offset in self.offsets]
        results = []
        for i in range(self.rows):
            group, row = divmod(i, _ROWS_PER_POINTER)
            factor = self._broadcast(b.load(b.gep(pointers[group], [self.a_rows[row]])))
            for j in range(self.vectors):
                results.append(self._multiply_add(factor, columns[j], phis[i * self.vectors + j]))
        following = b.add(index, _int64(1))
        index.add_incoming(following, body)
        for pointer in pointers:
            pointer.add_incoming(b.gep(pointer, [self.a_depth]), body)
        b_row.add_incoming(b.gep(b_row, [self.b_depth]), body)
        for phi, value in zip(phis, results):
            phi.add_incoming(value, body)
        b.cbranch(b.icmp_signed("<", following, self.depth), body, after)
        b.position_at_end(after)
        return results

    def _phi(self, *incoming):
        phi = self.builder.phi(incoming[0][0].type)
        for value, block in incoming:
            phi.add_incoming(value, block)
        return phi

    def _opaque(self, pointer):
        """The same pointer, of which the optimiser knows nothing.

        It would derive all rows of A from one pointer by a chain of additions, as long as the multiply-adds
        take.
        """
        identity = ir.FunctionType(pointer.type, [pointer.type])
        return self.builder.asm(identity, "", "=r,0", [pointer], side_effect=False)

    def _broadcast(self, value, lanes_type=None):
        vector = lanes_type or self.vector
        undefined = ir.Constant(vector, ir.Undefined)
        zeros = ir.Constant(ir.VectorType(_INT32, self.lanes), [0] * self.lanes)
        first = self.builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
        return self.builder.shuffle_vector(first, undefined, zeros)

    def _mask(self):
        """Which lanes lie inside the tile."""
        lanes_type = ir.VectorType(_INT64, self.lanes)
        lane_numbers = ir.Constant(lanes_type, list(range(self.lanes)))
        return self.builder.icmp_signed("<", lane_numbers, self._broadcast(self.columns, lanes_type))

    def _multiply_add(self, x, y, z):
        """x * y + z, fused where the CPU can (a call of llvm.fma would be a slow routine where it cannot)."""
        multiply_add = self._llvm(f"llvm.fmuladd.{self.suffix}", self.vector, [self.vector] * 3)
        return self.builder.call(multiply_add, [x, y, z])

    def _load(self, row, offset):
        b = self.builder
        pointer = b.bitcast(b.gep(row, [offset]), self.vector.as_pointer())
        if not self.masked:
            return b.load(pointer, align=self.align)
        load = self._llvm(f"llvm.masked.load.{self.suffix}.p0", self.vector,
                          [pointer.type, _INT32, self.mask.type, self.vector])  # fmt: skip
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        return b.call(load, [pointer, ir.Constant(_INT32, self.align), self.mask, zero])

    def _store(self, value, row, offset) -> None:
        b = self.builder
        pointer = b.bitcast(b.gep(row, [offset]), self.vector.as_pointer())
        if not self.masked:
            b.store(value, pointer, align=self.align)
            return
        store = self._llvm(f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(),
                           [self.vector, pointer.type, _INT32, self.mask.type])  # fmt: skip
        b.call(store, [value, pointer, ir.Constant(_INT32, self.align), self.mask])

    def _llvm(self, name: str, result, arguments) -> ir.Function:
        return cgutils.get_or_insert_function(self.builder.module, ir.FunctionType(result, arguments), name)

"""Matrix multiplication of the Numba backend against NumPy in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from nbdl.backend.numba import threads
from nbdl.backend.numba.compiler import compile_kernel
from nbdl.backend.numba.epilogues import Epilogue
from nbdl.backend.numba.launch import launch
from nbdl.backend.numba.matmul import plan_linear, plan_matmul, plan_product, tile_table
from nbdl.kernels.cpu import gemm
from nbdl.kernels.cpu.gemm import COLUMN_BITS
from nbdl.kernels.cpu.memory import float32_at, load_int64
from nbdl.kernels.cpu.microkernel import tile_caller, tile_shape

DTYPES = [np.float32, np.float64]


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def num_threads(request):
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield request.param
    threads.set_num_threads(before)


def random(shape, dtype, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def run(plan, *operands):
    assert plan is not None
    result = plan.allocate()
    result.fill(np.nan)  # an element that is not written shows
    launch(plan.block, *operands, result)
    return result


def assert_close(result, expected, depth, dtype):
    assert result.dtype == dtype
    assert result.shape == expected.shape
    tolerance = 4 * np.sqrt(depth) * np.finfo(dtype).eps * 3  # of sums of products of standard normals
    np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance * np.sqrt(depth))


def assert_matmul(a, b):
    expected = np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))
    assert_close(run(plan_matmul((a, b)), a, b), expected, a.shape[-1], a.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 7, 10, 17, 40])
@pytest.mark.parametrize("rows", [1, 5, 64, 200])
def test_few_columns_of_long_sums_are_computed_transposed(rows, columns, dtype, num_threads):
    a, b = random((600, rows), dtype).T, random((600, columns), dtype, 1)
    assert_matmul(a, b)
    out = np.full((columns, rows), np.nan, dtype).T  # columns that are not adjacent
    if rows == 1:
        launch(plan_matmul((a, b), (out,)).block, a, b, out)
        assert_close(out, a.astype(float) @ b.astype(float), 600, dtype)


def laid_out(shape, dtype, layout, seed):
    """A random matrix of a shape with the strides that `layout` names."""
    rows, columns = shape
    if layout == "transposed":
        return random((columns, rows), dtype, seed).T
    if layout == "every other column":
        return random((rows, 2 * columns), dtype, seed)[:, ::2]
    if layout == "reversed":
        return random(shape, dtype, seed)[::-1, ::-1]
    if layout == "repeated row":
        return np.broadcast_to(random((1, columns), dtype, seed), shape)
    if layout == "repeated column":
        return np.broadcast_to(random((rows, 1), dtype, seed), shape)
    return random(shape, dtype, seed)


LAYOUTS = ["plain", "transposed", "every other column", "reversed", "repeated row", "repeated column"]
SIZES = [1, 2, 3, 7, 17, 31, 64, 100]


@pytest.mark.parametrize("dtype", DTYPES)
def test_small_shapes(dtype):
    for m, k, n in itertools.product(SIZES, SIZES, SIZES):
        assert_matmul(random((m, k), dtype, 1), random((k, n), dtype, 2))


@pytest.mark.usefixtures("num_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [
        (257, 100, 257),
        (100, 257, 31),
        (3, 1000, 700),
        (129, 600, 550),  # several blocks of depth and of columns
        (1000, 31, 17),
        (40, 512, 1024),
        (1, 1000, 1000),
        (1000, 1000, 1),
        (5000, 3, 1),
        (2, 20000, 3),
    ],
)
@pytest.mark.parametrize("layouts", [("plain", "plain"), ("plain", "transposed"), ("transposed", "plain")])
def test_large_shapes(dtype, m, k, n, layouts):
    assert_matmul(laid_out((m, k), dtype, layouts[0], 1), laid_out((k, n), dtype, layouts[1], 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout_b", LAYOUTS)
@pytest.mark.parametrize("layout_a", LAYOUTS)
def test_strides(dtype, layout_a, layout_b):
    for m, k, n in [(1, 5, 9), (9, 5, 1), (17, 31, 7), (100, 64, 70), (90, 300, 40), (130, 33, 130)]:
        assert_matmul(laid_out((m, k), dtype, layout_a, 1), laid_out((k, n), dtype, layout_b, 2))


@pytest.mark.usefixtures("num_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((5,), (5,)),
        ((5,), (5, 3)),
        ((4, 5), (5,)),
        ((6, 4, 5), (5,)),
        ((5,), (6, 5, 3)),
        ((6, 4, 5), (5, 3)),
        ((6, 1, 5), (5, 3)),
        ((6, 4, 5), (6, 5, 3)),
        ((1, 4, 5), (6, 5, 3)),
        ((6, 4, 5), (1, 5, 3)),
        ((2, 3, 4, 5), (2, 3, 5, 2)),
        ((2, 1, 4, 5), (1, 3, 5, 2)),
        ((2, 3, 4, 5), (3, 5, 2)),
        ((3, 64, 40), (3, 40, 96)),
        ((2000, 4, 4), (2000, 4, 4)),
        ((2, 2, 2, 4, 5), (2, 2, 2, 5, 1)),
    ],
)
def test_batches(dtype, a_shape, b_shape):
    assert_matmul(random(a_shape, dtype, 1), random(b_shape, dtype, 2))


@pytest.mark.parametrize("dtype", DTYPES)
def test_heads_of_attention(dtype):
    """Two batch axes that cannot be merged, and transposed matrices in them."""
    queries, keys = (random((3, 10, 4, 8), dtype, seed).transpose(0, 2, 1, 3) for seed in (1, 2))
    assert_matmul(queries, keys.swapaxes(-1, -2))


@pytest.mark.usefixtures("num_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("x_shape", [(7,), (1, 7), (3, 7), (128, 300), (2, 3, 7), (100, 1000), (0, 7)])
@pytest.mark.parametrize("outputs", [1, 10, 100])
def test_linear(dtype, x_shape, outputs):
    x, weight = random(x_shape, dtype, 1), random((outputs, x_shape[-1]), dtype, 2)
    bias = random((outputs,), dtype, 3)
    product = x.astype(np.float64) @ weight.T.astype(np.float64)
    for operands, expected in (((x, weight), product), ((x, weight, bias), product + bias)):
        plan = plan_linear(operands)
        if x.size == 0:
            assert plan is None
        else:
            assert_close(run(plan, *operands), expected, x_shape[-1], dtype)


@pytest.mark.usefixtures("num_threads")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), [(3, 5, 7), (1, 40, 30), (30, 40, 1), (100, 600, 600)])
@pytest.mark.parametrize("layouts", [("plain", "plain"), ("transposed", "transposed")])
def test_accumulate(dtype, m, k, n, layouts):
    a, b = laid_out((m, k), dtype, layouts[0], 1), laid_out((k, n), dtype, layouts[1], 2)
    out = random((m, n), dtype, 3)
    expected = out + a.astype(np.float64) @ b.astype(np.float64)
    plan = plan_product(a, b, out=out, accumulate=True)
    launch(plan.block, a, b, out)
    assert_close(out, expected, k, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_with_wide_rows(dtype):
    a, b, frame = random((20, 9), dtype, 1), random((9, 21), dtype, 2), np.zeros((20, 40), dtype)
    out = frame[:, 5:26]
    plan = plan_matmul((a, b), (out,))
    launch(plan.block, a, b, out)
    assert_close(out.copy(), a.astype(np.float64) @ b, 9, dtype)
    assert not frame[:, :5].any()
    assert not frame[:, 26:].any()


def test_out_in_fortran_order_or_one_of_the_inputs_is_for_numpy():
    a = random((8, 8), np.float32)
    assert plan_matmul((a, a), (np.empty((8, 8), np.float32, order="F"),)) is None
    assert plan_matmul((a, a), (a,)) is None


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 3), np.int64), np.ones((3, 4), np.int64)),
        (np.ones((2, 3), np.float16), np.ones((3, 4), np.float16)),
        (np.ones((2, 3), np.float32), np.ones((3, 4), np.float64)),
        (np.ones((2, 3), object), np.ones((3, 4), object)),
        (np.ones((2, 3), np.dtype(np.float64).newbyteorder()), np.ones((3, 4))),
        (np.ones((2, 0)), np.ones((0, 4))),
        (np.ones((0, 3)), np.ones((3, 4))),
        (np.ones((2, 3)), np.ones((3, 0))),
        (np.ones((0, 2, 3)), np.ones((3, 4))),
        (np.ones((2, 3)), np.ones((2, 3))),
        (np.ones((2, 2, 3)), np.ones((5, 3, 4))),
        (np.ones(()), np.ones((3, 4))),
        (np.frombuffer(bytes(49), np.float64, 6, 1).reshape(2, 3), np.ones((3, 4))),
        (np.zeros((2, 3), "i4,f8")["f1"], np.ones((3, 4))),
    ],
    ids=[
        "int64", "float16", "mixed", "object", "byte order", "no depth", "no rows", "no columns",
        "no matrices", "shapes", "batches", "0-d", "unaligned", "strides",
    ],
)  # fmt: skip
def test_left_to_numpy(a, b):
    assert plan_matmul((a, b)) is None


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20, 30, 40), (1, 30, 40), (20, 30, 1), (200, 300, 100)])
def test_nan_and_infinity(dtype, shape):
    m, k, n = shape
    a, b = random((m, k), dtype, 1), random((k, n), dtype, 2)
    a[0, 3], b[5, n - 1], b[7, 0] = np.nan, np.inf, 0
    a[m - 1, 7] = -np.inf
    with np.errstate(invalid="ignore"):
        expected = a.astype(np.float64) @ b.astype(np.float64)
    assert_close(run(plan_matmul((a, b)), a, b), expected, k, dtype)


def make_square_block():
    def square_block(args, lo, hi, window):
        columns, first, count = load_int64(args, 1), window >> COLUMN_BITS, window & 0xFFFFFFFF
        for row in range(lo, hi):
            values = float32_at(load_int64(args, 0) + (row * columns + first) * 4, count)
            for k in range(count):
                values[k] *= values[k]

    return square_block


@pytest.mark.usefixtures("num_threads")
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [((300, 40), (40, 600)), ((5, 33, 7), (5, 7, 9)), ((500, 1200), (1200, 900)), ((3, 4, 20), (20, 30))],
)
def test_epilogue_runs_once_on_every_block(a_shape, b_shape):
    a, b = random(a_shape, np.float32, 1), random(b_shape, np.float32, 2)
    result = np.empty(np.matmul(a, b).shape, np.float32)
    arguments = np.array([result.ctypes.data, result.shape[-1]])
    kernel = compile_kernel("test_square_block", make_square_block, "square a block of a float32 matrix")
    plan = plan_product(a, b, out=result, epilogue=Epilogue(kernel, arguments.ctypes.data, 1), keep=arguments)
    launch(plan.block, a, b, result)
    np.testing.assert_allclose(result, np.matmul(a, b) ** 2, rtol=1e-4, atol=1e-2)


def test_no_epilogue_at_the_end_of_vectors():
    epilogue = Epilogue(1, 1, 1)
    a, row, column = np.ones((8, 9)), np.ones((1, 8)), np.ones((9, 1))
    assert plan_product(row, a, epilogue=epilogue) is None
    assert plan_product(a, column, epilogue=epilogue) is None


@pytest.mark.parametrize("dtype", DTYPES)
def test_tiles_of_all_sizes(dtype):
    """Two blocks of depth 3; nothing is read or written outside the tile."""
    shape, tile, table = tile_shape(dtype), tile_caller(dtype), tile_table(dtype).ctypes.data
    outer, depth = 2, 3

    @njit
    def compute(rows, columns, a, b, c, start, start_row):
        tile(table, rows, columns, a, depth, 1, b, columns, c, columns + 1, start, start_row, depth, outer,
             rows * depth, depth * columns)  # fmt: skip

    for rows, columns in itertools.product(range(1, shape.rows + 1), range(1, shape.columns + 1)):
        a, b = random((outer, rows, depth), dtype, 1), random((outer, depth, columns), dtype, 2)
        bias = random((columns,), dtype, 3)
        product = (a.astype(np.float64) @ b.astype(np.float64)).sum(0)
        for start in ("zero", "bias", "c"):
            c = np.full((rows, columns + 1), 5, dtype)
            address, row = {"zero": (0, 0), "bias": (bias.ctypes.data, 0), "c": (c.ctypes.data, columns + 1)}[
                start
            ]
            compute(rows, columns, a.ctypes.data, b.ctypes.data, c.ctypes.data, address, row)
            expected = product + {"zero": 0, "bias": bias, "c": 5}[start]
            assert_close(c[:, :columns].copy(), expected, outer * depth, dtype)
            assert (c[:, columns] == 5).all()


def test_tile_table_dtype():
    with pytest.raises(TypeError, match="float32 and float64"):
        tile_table(np.float16)


@pytest.mark.parametrize(
    ("shape", "split_columns"),
    [((4, 2000, 2000), True), ((2000, 2000, 4), False), ((2000, 2000, 2000), False)],
)
def test_work_is_split_for_all_threads(shape, split_columns):
    m, k, n = shape
    before = threads.get_num_threads()
    threads.set_num_threads(2)
    try:
        plan = plan_matmul((np.empty((m, k), np.float32), np.empty((k, n), np.float32)))
    finally:
        threads.set_num_threads(before)
    assert plan.tasks == 2
    assert plan.rows % 2 == 0
    assert (plan.arguments[gemm.COLUMN_STEP] < n) == split_columns

"""Kernels that read and write at computed places, join and pad, of the Numba backend against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

import nbdl
from nbdl.autograd import gradcheck, gradgradcheck
from nbdl.backend import registry
from nbdl.backend.numba import framing, indexing, joining, lines, threads
from nbdl.backend.numba.backend import PLANNERS
from nbdl.ops.copying import ViewScatter
from nbdl.ops.joining import Concatenate
from nbdl.ops.padding import Extend, ExtendInput, Pad
from nbdl.ops.scattering import Gather, Scatter
from nbdl.ops.selecting import Index, IndexPut, take_rows
from nbdl.ops.views import Diagonal, Slice

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")
ADD = IndexPut.of((0,), True)
WHOLE = (None, None, None)
DTYPES = ["float32", "float64", "float16", "bool"]  # an itemsize each: elements are moved as bits
SHAPES = [(5,), (1,), (4, 130), (30, 4), (3, 4, 20)]


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"], autouse=True)
def num_threads(request, monkeypatch):
    for module in (framing, indexing, joining, lines):
        monkeypatch.setattr(module, "tasks_for", lambda work, rows: max(1, min(request.param, rows)))
    NUMBA._forget_plans()
    before = threads.get_num_threads()
    threads.set_num_threads(request.param)
    yield
    threads.set_num_threads(before)
    NUMBA._forget_plans()


def random(shape, dtype=np.float64, seed=0):
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 4).astype(dtype)


def layouts(shape, dtype):
    """Arrays of one shape with all kinds of strides."""
    whole = random([2 * n for n in shape], dtype)
    return [
        random(shape, dtype),
        np.asfortranarray(random(shape, dtype)),
        whole[tuple(slice(None, None, 2) for _ in shape)],
        whole[tuple(slice(n - 1, None, -1) for n in shape)],
        np.broadcast_to(random(shape[-1:], dtype), shape),
    ]


def planned(primitive, operands, outputs=None):
    """Whether a kernel does it, and not NumPy."""
    return PLANNERS[primitive.name](operands, outputs, **primitive.params) is not None


def assert_same(primitive, *operands, by_kernel=True):
    """Allocated, and into an output."""
    assert planned(primitive, operands) or not by_kernel
    expected = SPECIFICATION.execute(primitive, operands)
    np.testing.assert_array_equal(NUMBA.execute(primitive, operands), expected, strict=True)
    out = np.empty(expected.shape, expected.dtype)
    assert NUMBA.execute(primitive, operands, out=out) is out
    np.testing.assert_array_equal(out, expected)


def assert_same_in_place(primitive, x, *operands):
    """Equal places come in the order of the index, so bit by bit."""
    assert planned(primitive, [x, *operands], [x])
    expected = x.copy()
    SPECIFICATION.execute(primitive, [expected, *operands], out=expected)
    assert NUMBA.execute(primitive, [x, *operands], out=x) is x
    np.testing.assert_array_equal(x, expected)


# ---- Index tensors ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_select(shape, dtype):
    generator = np.random.default_rng(0)
    for x in layouts(shape, dtype):
        by_kernel = x.ndim < 3 or x.flags.c_contiguous  # inner axes must be one loop
        for axis, n in enumerate(shape):
            for index_shape in ((1,), (7,), (3, 2)):
                for least in (-n, 0):
                    index = generator.integers(least, n, index_shape)
                    assert_same(Index.of((axis,)), x, index, by_kernel=by_kernel)
        if len(shape) > 1:
            first, last = generator.integers(0, shape[0], 6), generator.integers(-shape[-1], shape[-1], 6)
            assert_same(Index.of((0, len(shape) - 1)), x, first, last)
            assert_same(Index.of((0, len(shape) - 1)), x, first[::2], last[:3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
@pytest.mark.parametrize("index_shape", [(1,), (9,), (3, 4), (2, 1, 5)], ids=str)
@pytest.mark.parametrize("row", [(), (1,), (3,), (2, 5), (64,), (130,), (3, 100)], ids=str)
def test_rows_are_added(row, index_shape, dtype):
    index = np.random.default_rng(1).integers(-6, 6, index_shape)  # few rows: they repeat
    assert_same_in_place(ADD, random((6, *row), dtype), random((*index_shape, *row), dtype, 1), index)


def test_values_of_other_layouts():
    index = np.array([0, 2, 2, 1, -1])
    wide = random((5, 200))
    columns = np.broadcast_to(wide[:, :1], (5, 100))
    for values in (wide[:, ::2], wide[:, 99::-1], wide[::-1, :100], columns, wide[0, :100]):
        assert_same_in_place(ADD, random((4, 100)), values, index)
    assert_same_in_place(ADD, random((8, 150))[::2, 7:107], wide[:, :100], index)  # rows of a window
    assert_same_in_place(ADD, random((100, 4)).T, wide[:, :100], index)
    assert_same_in_place(ADD, random((4, 100)), np.array(0.5), index)


@pytest.mark.parametrize("accumulate", [False, True])
def test_put_along_other_axes(accumulate):
    index = np.array([4, 0, -2])  # without repetition, since then the last one wins only by chance
    for axis in range(3):
        x = random((6, 7, 8))
        values = random([3 if k == axis else n for k, n in enumerate(x.shape)])
        assert_same_in_place(IndexPut.of((axis,), accumulate), x, values, index)
    assert_same_in_place(IndexPut.of((0, 2), accumulate), random((6, 7, 8)), random((3, 7)), index, index)
    assert_same_in_place(IndexPut.of((1, 2), accumulate), random((6, 7, 8)), np.array(2.0), index, index)


@pytest.mark.parametrize(
    ("primitive", "operands", "in_place"),
    [
        (IndexPut.of((0,), True), (random((3, 2)), random((4, 2)), np.array([0, 3, -4, 2])), True),
        (Scatter.of(0, "add"), (random((3, 2)), np.array([[0, 5]]), random((1, 2))), True),
        (Index.of((0,)), (random((3,)), np.array([0, 3])), False),
        (Index.of((0,)), (random((3, 2)), np.array([0, -4])), False),
        (Gather.of(1), (random((3, 2)), np.array([[0, 2]])), False),
        (Gather.of(0), (random((3, 20)), np.full((2, 20), -4)), False),
    ],
    ids=str,
)
def test_an_index_out_of_range(primitive, operands, in_place):
    """Kernels raise nothing: they report it, and touch nothing outside."""
    x, *others = operands
    out = x if in_place else None
    for _ in range(2):  # at the first time the plan is made
        with pytest.raises((IndexError, RuntimeError), match="is out of bounds for dimension"):
            NUMBA.execute(primitive, [x, *others], out=out)
    fitting = [np.zeros_like(other) if other.dtype.kind == "i" else other for other in others]
    NUMBA.execute(primitive, [x, *fitting], out=out)  # and forget it


@pytest.mark.parametrize(
    ("x", "values", "index", "axes"),
    [
        (np.zeros((3, 2), np.float16), np.ones(2, np.float16), np.zeros(4, np.int64), (0,)),
        (np.zeros((3, 2), bool), np.ones(2, bool), np.zeros(4, np.int64), (0,)),
        (np.zeros((3, 0)), np.ones(0), np.zeros(4, np.int64), (0,)),
        (np.zeros((3, 2)), np.ones((3, 4, 2)).swapaxes(0, 1), np.zeros((4, 3), np.int64), (0,)),
    ],
)
def test_what_is_left_to_numpy(x, values, index, axes):
    primitive, expected = IndexPut.of(axes, True), x.copy()
    assert not planned(primitive, [x, values, index], [x])
    SPECIFICATION.execute(primitive, [expected, values, index], out=expected)
    NUMBA.execute(primitive, [x, values, index], out=x)
    np.testing.assert_array_equal(x, expected)


def test_gradients_of_rows(backend):
    index = nbdl.tensor([[0, 2, 2], [1, 0, 2]])
    table = nbdl.tensor(random((4, 3)), requires_grad=True)
    assert gradcheck(lambda x: take_rows(x, index) ** 2, [table])
    assert gradgradcheck(lambda x: take_rows(x, index) ** 3, [table])
    take_rows(table, index).sum().backward()  # a gradient that is one number, repeated
    np.testing.assert_array_equal(table.grad.numpy(), np.repeat([[2.0], [1.0], [3.0], [0.0]], 3, axis=1))


def test_errors_name_the_index(backend):
    with pytest.raises(IndexError, match="index 4 is out of bounds for dimension 0 with size 4"):
        nbdl.zeros(4, 2).index_add(0, nbdl.tensor([1, 4]), nbdl.ones(2, 2))
    x = nbdl.zeros(4, 2)
    x.index_add_(0, nbdl.tensor([1, 3]), nbdl.ones(2, 2))
    with pytest.raises(IndexError, match="index -5 is out of bounds"):  # the plan is made by now
        x.index_add_(0, nbdl.tensor([1, -5]), nbdl.ones(2, 2))
    with pytest.raises(RuntimeError, match="gather: index 7 is out of bounds"):
        x.gather(0, nbdl.tensor([[7, 0]]))


# ---- An index for every element ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gather(shape, dtype):
    generator = np.random.default_rng(0)
    for x in layouts(shape, dtype):
        for axis, n in enumerate(shape):
            index = generator.integers(-n, n, [6 if k == axis else m for k, m in enumerate(shape)])
            assert_same(Gather.of(axis), x, index)
            assert_same(Gather.of(axis), x, np.asfortranarray(index % n))
            assert_same(Gather.of(axis), x, index[tuple(slice(None, None, 2) for _ in shape)] % n)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("kind", ["set", "add", "prod", "amax", "amin"])
@pytest.mark.parametrize("shape", [(5,), (4, 30), (30, 4), (3, 4, 20)], ids=str)
def test_scatter(shape, kind, dtype):
    generator = np.random.default_rng(0)
    for axis, n in enumerate(shape):
        lengths = [min(n, 3) if k == axis else m for k, m in enumerate(shape)]
        index = generator.integers(-n, n, lengths)
        if kind == "set":
            others = (*lengths[:axis], *lengths[axis + 1 :], n)
            places = generator.permuted(np.broadcast_to(np.arange(n), others), axis=-1)
            index = np.moveaxis(places[..., : lengths[axis]], -1, axis)
        source = random([m + 1 for m in lengths], dtype, 1)
        primitive = Scatter.of(axis, kind)
        assert_same_in_place(primitive, random(shape, dtype), index, source)
        assert_same_in_place(primitive, np.asfortranarray(random(shape, dtype)), index, np.ones((), dtype))
        assert_same_in_place(primitive, layouts(shape, dtype)[2], index, np.asfortranarray(source))


def test_scattered_extrema_of_nan():
    x, index = np.array([1.0, np.nan, 3.0, 4.0]), np.array([0, 1, 2, 3, 3])
    source = np.array([np.nan, 1.0, np.inf, 5.0, np.nan])
    for kind in ("amax", "amin"):
        assert_same_in_place(Scatter.of(0, kind), x.copy(), index, source)


# ---- Joining ----


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenation(axis, dtype):
    parts = []
    for k, n in enumerate((3, 1, 130)):
        shape = [4, 50, 6]
        shape[axis] = n
        parts.append(random(shape, dtype, k))
    primitive = Concatenate.of(axis, (3, 1, 130))
    assert_same(primitive, *parts)
    front = (slice(None),) * axis
    windows = parts[2][(*front, slice(70, 80))], parts[2][(*front, slice(0, 70))]  # as rolling does
    assert_same(Concatenate.of(axis, (10, 70)), *windows)


def test_concatenation_left_to_numpy():
    x = random((3, 4))
    many = Concatenate.of(0, (3,) * 9)
    for primitive, operands in (
        (Concatenate.of(0, (3, 0)), [x, x[:0]]),
        (Concatenate.of(0, (3, 3)), [x[:, ::-1], x]),
        (many, [x] * 9),
    ):
        assert not planned(primitive, operands)
        found = NUMBA.execute(primitive, operands)
        np.testing.assert_array_equal(found, np.concatenate(operands, 0), strict=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_columns_are_interleaved(count, dtype):
    x = np.random.default_rng(0).standard_normal((700, 2 * count)).astype(dtype)
    columns = [x[:, 2 * k, None] for k in range(count)]
    primitive = Concatenate.of(1, (1,) * count)
    assert planned(primitive, columns)
    np.testing.assert_array_equal(NUMBA.execute(primitive, columns), x[:, ::2], strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bool", "int64"])
@pytest.mark.parametrize("shape", [(), *SHAPES], ids=str)
def test_pad(shape, dtype):
    value = True if dtype == "bool" else 3
    for x in layouts(shape, dtype) if shape else [np.ones((), dtype)]:
        frames = [tuple((k + 1, k) for k in range(len(shape)))]
        for axis in range(len(shape)):
            frames.append(tuple((2, 1) if k == axis else (0, 0) for k in range(len(shape))))
        for widths in frames:
            primitive = Pad.of(widths, value)
            expected = SPECIFICATION.execute(primitive, [x])
            np.testing.assert_array_equal(NUMBA.execute(primitive, [x]), expected, strict=True)


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize(
    "widths",
    [
        ((0, 0), (0, 0), (1, 2), (2, 1), (0, 3)),
        ((0, 0), (1, 0), (0, 0), (2, 2), (0, 0)),
        ((2, 1), (0, 0), (0, 0), (0, 0), (0, 0)),
        ((0, 0),) * 5,
    ],
    ids=str,
)
def test_frames_that_continue(widths, mode):
    shape = (3, 2, 4, 3, 40)
    primitive, transposed = Extend.of(widths, mode), ExtendInput.of(widths, mode)
    for dtype in ("float32", "float64", "float16", "bool"):
        x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
        y = SPECIFICATION.execute(primitive, [x])
        np.testing.assert_array_equal(NUMBA.execute(primitive, [x]), y, strict=True)
        assert planned(primitive, [x])
        if x.dtype.kind == "f":
            found, expected = (backend.execute(transposed, [y]) for backend in (NUMBA, SPECIFICATION))
            np.testing.assert_allclose(found, expected, rtol=1e-6 if x.itemsize < 8 else 1e-14, strict=True)
            assert planned(transposed, [y]) == (x.itemsize > 2)


def test_frames_apart_are_left_to_numpy():
    x = random((2, 3, 4, 5))
    primitive = Extend.of(((1, 1), (0, 0), (0, 0), (1, 1)), "edge")
    assert not planned(primitive, [x])
    np.testing.assert_array_equal(NUMBA.execute(primitive, [x]), SPECIFICATION.execute(primitive, [x]))


def test_pad_keeps_the_layout_of_channels_last():
    x = random((2, 8, 6, 4), np.float32).transpose(0, 3, 1, 2)
    primitive = Pad.of(((0, 0), (0, 0), (1, 1), (2, 2)), 0)
    assert planned(primitive, [x])
    assert NUMBA.execute(primitive, [x]).strides == SPECIFICATION.execute(primitive, [x]).strides


@pytest.mark.parametrize("shape", [(5,), (3, 5), (4, 9, 20), (1, 3)], ids=str)
def test_windows_of_zeros(shape):
    x = random(shape)
    for axis, n in enumerate(shape):
        larger = [m + 5 if k == axis else m for k, m in enumerate(shape)]
        assert_same(ViewScatter.of((Slice.of(((*(WHOLE,) * axis, (2, 2 + n, None)))),), tuple(larger)), x)
        more = (*shape[:axis], 4, *shape[axis:])
        assert_same(ViewScatter.of((Slice.of((*(WHOLE,) * axis, 2)),), more), x)


def test_windows_with_steps_are_left_to_numpy():
    x = random((3,))
    for views, shape in (
        ((Slice.of(((None, None, 2),)),), (6,)),
        ((Slice.of(((None, None, -1),)),), (3,)),
        ((Diagonal.of(0, 0, 1),), (3, 3)),
    ):
        primitive = ViewScatter.of(views, shape)
        assert not planned(primitive, [x])
        np.testing.assert_array_equal(NUMBA.execute(primitive, [x]), SPECIFICATION.execute(primitive, [x]))

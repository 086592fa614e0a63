"""What compiles kernels: loops, divisions and vectors, in place of Numba's."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import types
from numba.core import errors

from nbdl.backend.numba.compiler import compile_kernel
from nbdl.kernels.cpu import winograd_tiles
from nbdl.kernels.cpu.frontend import CodeLibrary, compile_function, subroutine
from nbdl.kernels.cpu.memory import float32_at, float64_at, int64_at, load_int64
from nbdl.kernels.cpu.microkernel import tile_shape
from nbdl.kernels.cpu.vectors import line_kernel

LEAST, MOST = -(2**63), 2**63 - 1
NUMBERS = (0, 1, -1, 2, -2, 3, -7, 10, LEAST, LEAST + 1, MOST)


def call(name: str, make: Callable[[], Callable[..., Any]], words: np.ndarray) -> np.ndarray:
    """Runs a kernel on words, which it changes."""
    function = ctypes.PYFUNCTYPE(None, *[ctypes.c_int64] * 4)(compile_kernel(name, make, f"tests {name}"))
    function(words.ctypes.data, 0, 0, 0)
    return words


# ---- definitions.py ----


def make_divisions():
    def divisions(args, lo, hi, task):
        x, y = load_int64(args, 0), load_int64(args, 1)
        result = int64_at(args, 6)
        result[2], result[3] = x // y, x % y
        x //= y
        result[4] = x
        x = load_int64(args, 0)
        x %= y
        result[5] = x

    return divisions


@pytest.mark.parametrize("y", NUMBERS)
@pytest.mark.parametrize("x", NUMBERS)
def test_divisions_are_those_of_python(x, y):
    found = call("test_divisions", make_divisions, np.array([x, y, 1, 1, 1, 1]))[2:].tolist()
    quotient, remainder = divmod(x, y) if y else (0, 0)
    quotient = LEAST if quotient > MOST else quotient  # it wraps around
    assert found == [quotient, remainder] * 2


def make_divisions_by_constants():
    def divisions_by_constants(args, lo, hi, task):
        x, result = load_int64(args, 0), int64_at(args, 7)
        result[1], result[2], result[3] = x // 8, x % 8, x // -3
        result[4], result[5], result[6] = x % -3, x // -1, x % -1

    return divisions_by_constants


@pytest.mark.parametrize("x", [number for number in NUMBERS if number != LEAST])
def test_divisions_by_constants(x):
    found = call("test_divisions_by_constants", make_divisions_by_constants, np.array([x] + [1] * 6))
    assert found[1:].tolist() == [*divmod(x, 8), *divmod(x, -3), *divmod(x, -1)]


def make_rounds():
    def rounds(args, lo, hi, task):
        """Counts the rounds of loops of 1, 2 and 3 arguments, and notes the last value."""
        start, stop, step = load_int64(args, 0), load_int64(args, 1), load_int64(args, 2)
        count = int64_at(args, 9)
        for i in range(stop):
            count[3], count[4] = count[3] + 1, i
        for i in range(start, stop):
            count[5], count[6] = count[5] + 1, i
        for i in range(start, stop, step):
            count[7], count[8] = count[7] + 1, i

    return rounds


@pytest.mark.parametrize("step", [1, 2, 5, 100, -1, -2, -5, -100])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 7), (-3, 4), (4, -3), (5, 5), (-9, -2), (7, 0)])
def test_loops_are_those_of_python(start, stop, step):
    words = call("test_rounds", make_rounds, np.array([start, stop, step, *[0, -99] * 3]))
    expected = [list(range(stop)), list(range(start, stop)), list(range(start, stop, step))]
    assert words[3:].tolist() == [x for values in expected for x in (len(values), (values or [-99])[-1])]


def make_nested():
    @subroutine
    def total(n, limit):
        found = 0
        for i in range(n):
            for j in range(i, -1, -2):
                if j == limit:
                    break
                if j == 3:
                    continue
                found += i * j
            else:
                found += 1000
        return found

    def nested(args, lo, hi, task):
        result = int64_at(args, 2)
        result[1] = total(result[0], 5)

    return nested


def test_nested_loops_with_breaks():
    def total(n: int, limit: int) -> int:
        found = 0
        for i in range(n):
            for j in range(i, -1, -2):
                if j == limit:
                    break
                if j == 3:
                    continue
                found += i * j
            else:
                found += 1000
        return found

    assert call("test_nested", make_nested, np.array([12, 0]))[1] == total(12, 5)


@pytest.mark.parametrize("kind", [types.int32, types.int64, types.uint64], ids=str)
def test_loops_over_other_integers(kind):
    number = np.dtype(str(kind)).type
    first, last, step = number(3), number(17), number(4)

    def make():
        def kernel(args, lo, hi, task):
            result = int64_at(args, 1)
            for i in range(first, last, step):
                result[0] = 100 * result[0] + np.int64(i)

        return kernel

    assert call(f"test_range_{kind}", make, np.array([0]))[0] == 3_07_11_15


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.int32])
def test_least_and_greatest_integers(kind):
    def make():
        def extrema(args, lo, hi, task):
            words = int64_at(args, 7)
            x, y, z = kind(words[0]), kind(words[1]), kind(words[2])
            words[3], words[4] = np.int64(min(x, y)), np.int64(max(x, y))
            words[5], words[6] = np.int64(min(x, y, z)), np.int64(max(x, y, z))

        return extrema

    for x, y, z in [(1, 2, 3), (3, 2, 1), (-1, 5, -7), (-7, -7, 2), (0, -1, 0)]:
        found = call(f"test_extrema_{kind.__name__}", make, np.array([x, y, z, 0, 0, 0, 0]))[3:]
        a, b, c = np.array([x, y, z]).astype(kind)
        expected = np.array([min(a, b), max(a, b), min(a, b, c), max(a, b, c)]).astype(np.int64)
        np.testing.assert_array_equal(found, expected)


# ---- inference.py ----


def test_what_cannot_be_typed_is_an_error_of_numba():
    def kernel(args, lo, hi, task):
        load_int64(args, 0).there_is_no_such_attribute

    with pytest.raises(errors.NumbaError, match="there_is_no_such_attribute"):
        compile_kernel("test_untyped", lambda: kernel, "tests untyped")


# ---- vectors.py ----


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_line_of_vectors(dtype):
    dtype = np.dtype(dtype)
    lanes, view = tile_shape(dtype).lanes, float32_at if dtype.itemsize == 4 else float64_at
    line = lanes * dtype.itemsize

    def formula(x0, x1, start):
        return start + 0.5 * x0, x0 - x1, x1

    def make():
        run = line_kernel(dtype, lanes, formula)

        def kernel(args, lo, hi, task):
            run(args, 2 * line, args + 3 * line, -line, args + line)  # overwrites x1, backwards
            view(args, 1)[0] = 7

        return kernel

    x = np.random.default_rng(0).normal(size=(4, lanes)).astype(dtype)
    call(f"test_line_{dtype}", make, found := x.copy())
    expected = np.stack(formula(x[0], x[2], x[1])).astype(dtype)
    np.testing.assert_array_equal(found[3:0:-1], expected)
    assert found[0, 0] == 7


# ---- the transforms of winograd_tiles.py, which are formulas of numbers, too ----


def test_winograd_transforms_of_one_axis():
    rng = np.random.default_rng(0)
    x, weight, gradient = (rng.normal(size=(n, 50)) for n in (6, 3, 4))
    x_values = np.stack(winograd_tiles.of_input(*x))
    products = x_values * np.stack(winograd_tiles.of_weight(*weight))
    outputs = [sum(weight[k] * x[i + k] for k in range(3)) for i in range(4)]
    np.testing.assert_allclose(winograd_tiles.to_output(*products), outputs, rtol=0, atol=1e-12)
    start = rng.normal(size=50)
    np.testing.assert_allclose(
        winograd_tiles.to_output_from(*products, start), outputs + start, rtol=0, atol=1e-12
    )
    products = x_values * np.stack(winograd_tiles.of_output(*gradient))
    weight_gradient = [sum(gradient[i] * x[i + k] for i in range(4)) for k in range(3)]
    np.testing.assert_allclose(winograd_tiles.to_weight(*products), weight_gradient, rtol=0, atol=1e-12)


# ---- calling.py and frontend.py ----


def make_calls():
    @subroutine(inlined=False)
    def parts(x, flag):
        if flag:
            return x, 2 * x, x > 3
        return -x, 0 * x, False

    @subroutine
    def nothing(args):
        int64_at(args, 1)[0] += 1

    @subroutine
    def greatest(x, y):
        return max(float(x), float(y))  # a function of Numba's

    def calls(args, lo, hi, task):
        words = int64_at(args, 8)
        for k in range(3):
            if k == 1:
                nothing(args)
                continue
            x = words[0]  # read where it was assigned, and in blocks behind
            first, second, is_large = parts(x, k == 0)
            if is_large:
                words[3] = second
            words[1 + k] += first
            words[4 + k] = x
        words[7] = np.int64(greatest(words[0], words[1]))

    return calls


@pytest.mark.parametrize("x", [2, 5])
def test_calls(x):
    expected = [x + 1, x, 0, 2 * x if x > 3 else 0, x, 0, x + 1, x + 1]
    expected[3] += -(x + 1)
    assert call("test_calls", make_calls, np.array([x, *[0] * 7])).tolist() == expected


def test_errors_of_numba_functions_end_a_function_with_zero():
    @subroutine
    def power(x, y):
        if y < 0:
            raise ValueError
        return x**y

    def make():
        def powers(args, lo, hi, task):
            words = int64_at(args, 3)
            words[2] = power(words[0], words[1])

        return powers

    assert call("test_powers", make, np.array([2, 5, 7]))[2] == 32
    assert call("test_powers", make, np.array([2, -5, 7]))[2] == 0


INLINING = [(False, "noinline"), (True, "alwaysinline"), (None, None)]


@pytest.mark.parametrize(("inlined", "attribute"), INLINING)
def test_subroutines_say_whether_they_are_inlined(inlined, attribute):
    library = CodeLibrary.new("library")
    compiled = compile_function(lambda x: x + 1, (types.int64,), None, library, inlined=inlined)
    library._final_module.verify()
    function = library.get_function(compiled.fndesc.llvm_func_name)
    found = {word for attributes in function.attributes for word in attributes.split()}
    assert found & {b"noinline", b"alwaysinline"} == ({attribute.encode()} if attribute else set())

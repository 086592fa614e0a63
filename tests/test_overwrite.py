"""Rows that are overwritten in one call, against each row on its own."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from nbdl.backend import registry
from nbdl.formula import Formula
from nbdl.ops.pointwise import Pointwise

# parameter, gradient, mean; step, rate
RULE = Pointwise.of(
    Formula("rule", lambda p, g, m, step, rate: (p - rate / step * g, m + rate * (g - m)), 5), 0b11000
)
POSITIONS = (0, 2)


def row(shape, dtype="f4", step=1.0, rate=0.5, order="C"):
    draw = np.random.default_rng(zlib.crc32(repr((shape, dtype, step)).encode())).standard_normal
    arrays = [np.asarray(draw(shape)).astype(dtype).copy(order=order) for _ in range(3)]
    return [*arrays, np.array(step), np.array(rate)]


def copies(rows):
    """The same, what is one array remaining one."""
    known: dict[int, np.ndarray] = {}
    return [[known.setdefault(id(array), array.copy("K")) for array in each] for each in rows]


def twins():
    """Two rows that overwrite the same parameter: the second begins where the first ends."""
    first, second = row((4,)), row((4,), step=2.0)
    return [first, [first[0], *second[1:3], first[3], first[4]]]


CASES = {
    "none": [],
    "one": [row((3, 2))],
    "small": [row((3, 2)), row((5,)), row((1,)), row((2, 1, 2))],
    "small and large": [row((3,)), row((100, 100)), row((4,)), row((70, 70))],
    "other steps": [row((3,), step=s) for s in (1.0, 2.0, 1.0, 3.0)],
    "other rates": [row((3,), rate=r) for r in (0.1, 0.2, 0.1)],
    "numbers": [row((), step=s) for s in (1.0, 2.0, 1.0)],
    "numbers and arrays": [row(()), row((3,)), row(()), row((2,))],
    "empty": [row((0, 3)), row((3,)), row((0,)), row((2,))],
    "dtypes": [row((3,)), row((3,), "f8"), row((3,)), row((2,), "f8"), row((3,), "f2")],
    "layouts": [row((3, 4), order="F"), row((2, 5)), [*row((4, 6)), *row((2,))][:5]],
    "not a number": [row((2,), rate=float("nan")), row((3,), rate=float("nan"))],
    "the same twice": twins(),
}
CASES["windows"] = [[array[::2, 1:] if array.ndim else array for array in row((6, 4))] for _ in range(2)]


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("rows", list(CASES.values()), ids=list(CASES))
def test_rows_are_computed_as_each_on_its_own(name, rows):
    backend, specification = registry.load(name), registry.load("numpy")
    for _ in range(2):  # the second time plans are known
        together, apart = copies(rows), copies(rows)
        before = copies(together)
        backend.overwrite(RULE, together, POSITIONS)
        for single in apart:
            specification.execute(RULE, single, out=(single[0], single[2]))
        tolerance = {"f4": 1e-6, "f8": 1e-14, "f2": 2e-3}
        for actual, expected, old in zip(together, apart, before, strict=True):
            for k, (got, wanted) in enumerate(zip(actual, expected, strict=True)):
                assert got.dtype == wanted.dtype
                rtol = tolerance[got.dtype.str[1:]]
                np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol)
                if k not in POSITIONS:
                    np.testing.assert_array_equal(got, old[k])


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_read_only_rows_are_refused(name):
    rows = [row((3,)), row((3,))]
    rows[1][0].flags.writeable = False
    with pytest.raises(ValueError, match=r"read-only"):
        registry.load(name).overwrite(RULE, rows, POSITIONS)

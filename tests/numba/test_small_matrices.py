"""The kernels for many small matrices against LAPACK and BLAS, which NumPy's backend calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("numba")

import nbdl
from nbdl.backend import registry
from nbdl.backend.numba.backend import PLANNERS
from nbdl.ops.lu_factors import LU
from nbdl.ops.solving import Inverse, Solve
from nbdl.ops.triangular_systems import SolveTriangular

SPECIFICATION, NUMBA = registry.load("numpy"), registry.load("numba")
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}


def assert_same(primitive: Any, *arrays: np.ndarray) -> None:
    """A kernel does it, and gives the same."""
    assert PLANNERS[primitive.name](arrays, None, **primitive.params) is not None
    results = [backend.execute(primitive, arrays) for backend in (NUMBA, SPECIFICATION)]
    ours, theirs = (result if isinstance(result, tuple) else (result,) for result in results)
    tolerance = TOLERANCE[arrays[0].dtype.name]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, strict=True)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 5), (3, 7, 4), (2, 3, 4, 7), (300, 16, 16), (2, 32, 32)], ids=str
)
def test_factors(shape: tuple[int, ...], dtype: str) -> None:
    assert_same(LU.of(), np.random.default_rng(0).standard_normal(shape).astype(dtype))


def test_factors_of_singular_matrices() -> None:
    x = np.random.default_rng(0).standard_normal((4, 5, 5))
    x[1, :, 2], x[2], x[3, :, 0] = 0, 0, 0
    assert_same(LU.of(), x)


def test_factors_of_what_is_not_finite() -> None:
    x = np.eye(3)[None].repeat(2, 0)
    x[0, 1, 1] = np.nan
    packed = NUMBA.execute(LU.of(), (x,))[0]
    assert np.isnan(packed[0]).any() and not np.isnan(packed[1]).any()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (6, 6, 3), (4, 5, 5, 1), (300, 16, 16, 2)], ids=str)
def test_triangular_systems(shape: tuple[int, ...], upper: bool, unit: bool, dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = (rng.standard_normal(shape[:-1]) / shape[-2] + 2 * np.eye(shape[-2])).astype(dtype)
    b = rng.standard_normal((*shape[:-2], shape[-1])).astype(dtype)
    primitive = SolveTriangular.of(upper, unit)
    assert_same(primitive, a, b)
    assert_same(primitive, a.swapaxes(-1, -2), b)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (6, 6, 3), (4, 5, 5, 1), (300, 16, 16, 2), (2, 32, 32, 9)], ids=str
)
def test_systems_and_inverses(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape[:-1]) / shape[-2] + 2 * np.eye(shape[-2])
    a = np.ascontiguousarray(rng.permutation(a, axis=-2), dtype)
    b = rng.standard_normal((*shape[:-2], shape[-1])).astype(dtype)
    assert_same(Inverse.of("linalg.inv"), a)
    assert_same(Solve.of(""), a, b)
    a[..., 0], b[..., 0] = 0, 1
    assert_same(Inverse.of(""), a)
    assert_same(Solve.of(""), a, b)


@pytest.mark.parametrize("backend", [SPECIFICATION, NUMBA], ids=["numpy", "numba"])
def test_singular_matrices_are_named(backend: Any) -> None:
    a = np.eye(3)[None].repeat(4, 0)
    a[2, 1] = 0
    for primitive, operands in ((Inverse.of("linalg.inv"), (a,)), (Solve.of("linalg.solve"), (a, a))):
        for _ in range(2):
            with pytest.raises(nbdl.linalg.LinAlgError, match=r"\(Batch element 2\).*singular"):
                backend.execute(primitive, operands)


def test_singular_matrices_are_named_in_a_program() -> None:
    doubled = nbdl.compile(lambda a: nbdl.linalg.inv(a) * 2)
    assert doubled(nbdl.eye(3)).tolist() == (2 * nbdl.eye(3)).tolist()
    with pytest.raises(nbdl.linalg.LinAlgError, match="singular"):
        doubled(nbdl.zeros(3, 3))


def test_what_libraries_do() -> None:
    x = np.zeros((3, 40, 40))
    for primitive, operands in (
        (LU.of(), [x]),
        (LU.of("lu"), [x[:, :3, :3].copy()]),
        (LU.of(), [x[:, :3, :3]]),
        (SolveTriangular.of(True, False), [x, x]),
        (SolveTriangular.of(True, False), [x[:, ::20, ::20], x[:, :2, :2].copy()]),
    ):
        assert PLANNERS[primitive.name](operands, None, **primitive.params) is None

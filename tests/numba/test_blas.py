"""The threads of NumPy's BLAS beside the kernels'."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.backend.numba import blas
from nbdl.backend.numpy.backend import NumpyBackend


def threads() -> list[int]:
    return [library.get_threads() for library in blas._libraries()]


needs_openblas = pytest.mark.skipif(
    not blas._libraries(), reason="NumPy and SciPy were not installed with OpenBLAS of their own"
)


@needs_openblas
def test_small_matrices_are_factorized_in_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = threads(), []
    original = NumpyBackend.eigh

    def eigh(self: NumpyBackend, *args: object, **keywords: object) -> object:
        seen.append(threads())
        return original(self, *args, **keywords)

    monkeypatch.setattr(NumpyBackend, "eigh", eigh)
    with nbdl.use_backend("numba"):
        nbdl.linalg.eigh(nbdl.eye(16))
        nbdl.linalg.eigh(nbdl.eye(512))
    assert seen == [[1] * len(before), before]
    assert threads() == before


@needs_openblas
def test_an_error_gives_the_threads_back() -> None:
    before = threads()
    with nbdl.use_backend("numba"), pytest.raises(nbdl.linalg.LinAlgError):
        nbdl.linalg.cholesky(-nbdl.eye(3))
    assert threads() == before


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_libraries", lambda: ())
    with nbdl.use_backend("numba"):
        values = nbdl.linalg.eigvalsh(nbdl.eye(3)).numpy()
    np.testing.assert_array_equal(values, np.ones(3))

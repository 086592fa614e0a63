"""NumPy's BLAS beside the kernels' threads: small matrices are factorized in one thread.

OpenBLAS has threads of its own, which spin for a while after every call. Beside kernels that want the same
cores, or a busy neighbour, that costs far more than a second thread gains on a small matrix. Other libraries
(MKL, Accelerate) are left as they are.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DECOMPOSITIONS", "threads_for"]

DECOMPOSITIONS = frozenset(
    [
        "cholesky",
        "cofactors",
        "determinant",
        "eig",
        "eigh",
        "eigvals",
        "eigvalsh",
        "geqrf",
        "inverse",
        "ldl",
        "ldl_solve",
        "least_squares",
        "lu",
        "matrix_exp",
        "pinverse",
        "qr",
        "singular_values",
        "slogdet",
        "solve",
        "solve_triangular",
        "svd",
    ]
)
"""Names of the primitives that NumPy and SciPy compute by LAPACK."""

_LARGE = 512 * 512  # elements of a matrix that gains by several threads
_SMALL = 12 * 12  # elements of a matrix that no function of OpenBLAS divides among threads
# The wheels of NumPy and SciPy rename what OpenBLAS calls openblas_set_num_threads.
_NAMES = tuple(
    f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")
)


class _Library(NamedTuple):
    """One loaded OpenBLAS."""

    get_threads: Any
    set_threads: Any


@cache
def _libraries() -> tuple[_Library, ...]:
    """Those that the wheels of NumPy and SciPy bring."""
    found = []
    for package in ("numpy", "scipy"):
        folder = Path(str(import_module(package).__file__)).parents[1] / f"{package}.libs"
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                logging.getLogger("nbdl").debug("cannot limit the threads of %s: %s", path, error)
                continue
            for name in _NAMES:
                if hasattr(library, name.format("set")) and hasattr(library, name.format("get")):
                    pair = getattr(library, name.format("get")), getattr(library, name.format("set"))
                    found.append(_Library(*pair))
                    break
    return tuple(found)


@contextmanager
def threads_for(arrays: Sequence[Any]) -> Iterator[None]:
    """OpenBLAS computes in one thread inside, unless a matrix among the operands is large."""
    size = max([array.shape[-1] * array.shape[-2] for array in arrays if array.ndim > 1], default=0)
    is_limited = _SMALL < size < _LARGE
    limited = [(library, library.get_threads()) for library in _libraries()] if is_limited else []
    try:
        for library, _ in limited:
            library.set_threads(1)
        yield
    finally:
        for library, threads in limited:
            library.set_threads(threads)

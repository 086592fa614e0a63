"""Fourier transforms of the Numba backend: SciPy's, which transform several lines at once, in threads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from nbdl.backend.numba import pool, threads
from nbdl.backend.numpy.fourier import Fourier
from nbdl.backend.numpy.results import delivered

_THREADED = 1 << 16  # elements from which threads pay
_DTYPES = {np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")}


class ThreadedFourier(Fourier):
    """See :class:`~nbdl.backend.numpy.fourier.Fourier`; half precision is left to NumPy."""

    def fourier(self, x: Any, *, axes: tuple[int, ...], inverse: bool, norm: str, out: Any = None) -> Any:
        """The complex transform over ``axes``, or the inverse one."""
        if x.dtype not in _DTYPES:
            return super().fourier(x, axes=axes, inverse=inverse, norm=norm, out=out)
        # SciPy would ask for new memory
        result = pool.empty(x.shape, np.result_type(x.dtype, np.complex64))
        result[...] = x
        transform = _library().ifftn if inverse else _library().fftn
        result = transform(result, axes=axes, norm=norm, overwrite_x=True, workers=_workers(x))
        return delivered(result, out)

    def fourier_real(self, x: Any, *, axis: int, norm: str, out: Any = None) -> Any:
        """The transform of real numbers: the n // 2 + 1 frequencies that are not negative."""
        if x.dtype not in _DTYPES:
            return super().fourier_real(x, axis=axis, norm=norm, out=out)
        return delivered(_library().rfft(x, axis=axis, norm=norm, workers=_workers(x)), out)

    def fourier_real_inverse(self, x: Any, *, axis: int, n: int, norm: str, out: Any = None) -> Any:
        """The ``n`` real numbers with the frequencies ``x``, of which 0 ... n // 2 are given."""
        if x.dtype not in _DTYPES:
            return super().fourier_real_inverse(x, axis=axis, n=n, norm=norm, out=out)
        return delivered(_library().irfft(x, n, axis=axis, norm=norm, workers=_workers(x)), out)


@cache
def _library() -> Any:
    """Imported when it is first needed."""
    import scipy.fft

    return scipy.fft


def _workers(x: Any) -> int | None:
    return threads.get_num_threads() if x.size >= _THREADED else None

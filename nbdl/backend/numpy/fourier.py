"""Discrete Fourier transforms on NumPy arrays, single precision staying single."""

from __future__ import annotations

from typing import Any

from nbdl.backend.numpy.results import delivered


class Fourier:
    """Fourier transforms.

    ``norm`` says what is divided by the number of points: the inverse transform (``backward``), the transform
    (``forward``), or both by its square root (``ortho``).
    """

    xp: Any

    def fourier(self, x: Any, *, axes: tuple[int, ...], inverse: bool, norm: str, out: Any = None) -> Any:
        """The complex transform over ``axes``, or the inverse one."""
        fft = self.xp.fft
        if len(axes) == 1:
            return delivered((fft.ifft if inverse else fft.fft)(x, axis=axes[0], norm=norm), out)
        return delivered((fft.ifftn if inverse else fft.fftn)(x, axes=axes, norm=norm), out)

    def fourier_real(self, x: Any, *, axis: int, norm: str, out: Any = None) -> Any:
        """The transform of real numbers: the n // 2 + 1 frequencies that are not negative."""
        return delivered(self.xp.fft.rfft(x, axis=axis, norm=norm), out)

    def fourier_real_inverse(self, x: Any, *, axis: int, n: int, norm: str, out: Any = None) -> Any:
        """The ``n`` real numbers with the frequencies ``x``, of which 0 ... n // 2 are given."""
        return delivered(self.xp.fft.irfft(x, n, axis=axis, norm=norm), out)

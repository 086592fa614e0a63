"""Complex numbers on the GPU backend: values and gradients are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ops.test_complex import FUNCTIONS, Z

import nbdl

pytestmark = pytest.mark.usefixtures("gpu")

TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "fft": lambda lib, z: lib.fft.fft(z) + lib.fft.ifft(z, norm="ortho"),
    "fftn": lambda lib, z: lib.fft.fftn(z.reshape(2, 2)),
    "rfft": lambda lib, z: lib.fft.rfft(z.real),
    "irfft": lambda lib, z: lib.fft.irfft(z, 6),
    "reversed sums": lambda lib, z: z.flip(0).cumsum(0) + z.cumprod(0).sum(),
    "truth": lambda lib, z: lib.stack([z.any(), (z - z).all()]),
}
PROGRAMS = FUNCTIONS | TRANSFORMS


def evaluated(name: str, backend: str, device: str) -> list[np.ndarray]:
    with nbdl.use_backend(backend):
        z = nbdl.tensor(Z, device=device, requires_grad=True)
        y = PROGRAMS[name](nbdl, z)
        found = [y.detach()]
        if y.requires_grad:
            (y.abs() if y.is_complex() else y).sum().backward()
            found.append(z.grad)
        return [x.cpu().numpy() for x in found]


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients(name: str) -> None:
    for a, b in zip(evaluated(name, "cupy", "cuda"), evaluated(name, "numpy", "cpu"), strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)

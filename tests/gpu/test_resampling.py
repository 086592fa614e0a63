"""Sparse maps along an axis on the GPU backend: interpolation and frames are NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import nbdl
import nbdl.nn.functional as F

pytestmark = pytest.mark.usefixtures("gpu")

PROGRAMS = {
    "linear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "cubic": lambda x: F.interpolate(x, size=(3, 7), mode="bicubic"),
    "nearest": lambda x: F.interpolate(x, size=(5, 3)),
    "frame": lambda x: F.pad(x, (1, 2, 2, 0), "reflect"),
    "ring": lambda x: F.pad(x, (1, 2, 2, 0), "circular"),
    "edge": lambda x: F.pad(x, (1, -2, 2, 0), "replicate"),
    "means": lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_as_on_the_cpu(name: str) -> None:
    program: Callable[[Any], Any] = PROGRAMS[name]
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 5)).astype(np.float32)
    results = []
    for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
        with nbdl.use_backend(backend):
            x = nbdl.tensor(values, device=device, requires_grad=True)
            y = program(x)
            y.square().sum().backward()
            results.append([y.detach().cpu().numpy(), x.grad.cpu().numpy()])
    for ours, expected in zip(*results):
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)

"""Programs written for PyTorch, run with nbdl under the name ``torch``: the same losses to rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from compat import generative, mechanisms, sequences, supervised

import nbdl

PROGRAMS = [p for module in (supervised, sequences, generative, mechanisms) for p in module.PROGRAMS]


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors are float64, in both frameworks."""
    import torch

    nbdl.set_default_dtype(nbdl.float64)
    torch.set_default_dtype(torch.float64)
    yield
    nbdl.set_default_dtype(nbdl.float32)
    torch.set_default_dtype(torch.float32)


@pytest.mark.torch
@pytest.mark.usefixtures("double", "backend")
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_same_losses(program: Callable[[Any], list[float]]) -> None:
    import torch

    expected = program(torch)
    assert np.isfinite(expected).all()
    assert len(set(expected)) > 1
    np.testing.assert_allclose(program(nbdl), expected, rtol=1e-9, atol=1e-11)

"""What the tests of the worked numbers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import nbdl


@pytest.fixture
def exact() -> Iterator[None]:
    """Float64, as in the programs, on NumPy, with a seed: the figures are the same everywhere."""
    kept = nbdl.get_default_dtype()
    nbdl.set_default_dtype(nbdl.float64)
    nbdl.manual_seed(0)
    with nbdl.use_backend("numpy"):
        yield
    nbdl.set_default_dtype(kept)

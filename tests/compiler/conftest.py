"""What the tests of programs share."""

from __future__ import annotations

import pytest

import nbdl


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    with nbdl.use_backend(request.param):
        yield request.param

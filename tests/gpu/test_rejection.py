"""Numbers by rejection on the GPU backend: those of the CPU, and gradients of them."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl
from nbdl.distributions import Binomial, Gamma, Poisson, VonMises

pytestmark = pytest.mark.usefixtures("gpu")

PARAMETERS = np.array([0.2, 0.7, 1.5, 8.0, 40.0])
# With CuPy's special functions, which the stand-in does not have
COUNTS = {
    "poisson": lambda x: Poisson(x).sample((20,)),
    "binomial": lambda x: Binomial(60, x / 50).sample((20,)),
}
DRAWS = {
    "gamma": lambda x: Gamma(x, 2.0).sample((20,)),
    "von Mises": lambda x: VonMises(0.3, x).sample((20,)),
    **COUNTS,
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers(name: str, gpu: str) -> None:
    if name in COUNTS and gpu == "standin":
        pytest.skip("the stand-in has no special functions")
    found = []
    for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
        with nbdl.use_backend(backend):
            nbdl.manual_seed(0)
            sample = DRAWS[name](nbdl.tensor(PARAMETERS, device=device))
            assert sample.device.type == device
            found.append(sample.cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)

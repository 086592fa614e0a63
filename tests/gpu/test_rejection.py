"""Numbers by rejection on the GPU backend: those of the CPU, and gradients of them."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import standin
from gpu.samples import on_device

import nbdl
from nbdl.backend import registry
from nbdl.distributions import Binomial, Gamma, Poisson, VonMises
from nbdl.ops.rejection import RandomBinomial, RandomLogGamma, RandomPoisson, RandomVonMises

pytestmark = pytest.mark.usefixtures("gpu")

PARAMETERS = np.array([0.2, 0.7, 1.5, 8.0, 40.0])
PRIMITIVES = [(RandomLogGamma, 0), (RandomPoisson, 0), (RandomVonMises, 0), (RandomBinomial, 1)]
DRAWS = {
    "gamma": lambda x: Gamma(x, 2.0).sample((20,)),
    "von Mises": lambda x: VonMises(0.3, x).sample((20,)),
    "Poisson": lambda x: Poisson(x).sample((20,)),
    "binomial": lambda x: Binomial(60, x / 50).sample((20,)),
    "rare failures": lambda x: Binomial(500, 1 - x / 50).sample((20,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_numbers(name: str) -> None:
    found = []
    for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
        with nbdl.use_backend(backend):
            nbdl.manual_seed(0)
            sample = DRAWS[name](nbdl.tensor(PARAMETERS, device=device))
            assert sample.device.type == device
            found.append(sample.cpu().numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_parameters_outside_of_their_domains(dtype: str) -> None:
    parameters = np.array([-1.0, 0.0, np.nan, np.inf, 3.0, 20.0])
    for primitive, several in PRIMITIVES:
        made = primitive.of((7, 6), np.dtype(dtype))
        results = []
        for backend in ("numpy", "cupy"):
            put = on_device if backend == "cupy" else (lambda x: x)
            seeds = [put(np.array([k])).reshape(()) for k in (0x0123456789ABCDEF, -5)]
            operands = [*seeds, put(parameters), *[put(np.array([0.25, 0.9] * 3))][:several]]
            found = registry.load(backend).execute(made, operands)
            results.append(found if backend == "numpy" else found.get())
        assert results[0].dtype == results[1].dtype == dtype
        np.testing.assert_allclose(
            results[1].astype(np.float64),
            results[0].astype(np.float64),
            rtol=1e-9 if dtype == "float64" else 1e-3,
        )


def test_nobody_waits(gpu: str) -> None:
    if gpu != "standin":
        pytest.skip("counts what the stand-in does")
    rate = nbdl.tensor(PARAMETERS)
    standin.counters.reset()
    nbdl.poisson(rate)
    assert standin.counters.synchronisations == 0

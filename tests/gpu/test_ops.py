"""The op table on the GPU backend: values and gradients in float32 are NumPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu.samples import on_device
from op_samples import Op, leaves, rebuilt
from op_table import TABLE

import nbdl

pytestmark = pytest.mark.usefixtures("gpu")

# The first line of every name: kernels take long to compile where they are emulated.
FIRST = list({entry.name: entry for entry in reversed(TABLE)}.values())

# What CuPy computes with cupyx.scipy, which the stand-in does not have.
LIBRARIES = frozenset(("i0", "igamma", "igammac"))


def evaluated(entry: Op, backend: str, device: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Results of an entry, and the gradients of a weighted sum of them."""
    with nbdl.use_backend(backend):
        values = [
            nbdl.tensor(value, device=device) if isinstance(value, np.ndarray) else value
            for value in leaves(entry.arrays(np.float32))
        ]
        wanted = [
            value for value, yes in zip(values, entry.differentiable(), strict=True) if yes and entry.orders
        ]
        for value in wanted:
            value.requires_grad_()
        out = entry.function()(*rebuilt(entry.args, iter(values)), **entry.kwargs)
        outputs = list(out) if isinstance(out, (tuple, list)) else [out]
        assert all(y.device.type == device.partition(":")[0] for y in outputs)
        total = [y.square().sum() for y in outputs if y.requires_grad]
        if total:
            sum(total[1:], total[0]).backward()
    host = [y.detach().cpu().numpy() for y in outputs]
    return host, [value.grad.cpu().numpy() for value in wanted if value.grad is not None]


@pytest.mark.parametrize("entry", FIRST, ids=[entry.name for entry in FIRST])
def test_an_operation(entry: Op, gpu: str) -> None:
    if gpu == "standin" and entry.name.lstrip(".") in LIBRARIES:
        pytest.skip("the stand-in for CuPy does not have the library that computes it")
    expected, gradients = evaluated(entry, "numpy", "cpu")
    got, got_gradients = evaluated(entry, "cupy", "cuda")
    for a, b in zip([*got, *got_gradients], [*expected, *gradients], strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        size = np.abs(b[np.isfinite(b)]).max(initial=1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * entry.scale * size)


# Decompositions that raise an error for NaN, or spread it in another way.
FINITE = frozenset(("svd", "triangular_solve", "nuclear_norm", "pinverse"))


def special(entry: Op) -> list[Any]:
    """The operands with strides, and NaN and zeros among the floats."""
    values = []
    for value in leaves(entry.arrays(np.float32)):
        if isinstance(value, np.ndarray) and value.ndim:
            room = np.zeros([2 * n for n in value.shape], value.dtype)
            window = room[tuple(slice(None, None, 2) for _ in value.shape)].T[..., ::-1].T
            window[...] = value
            if value.dtype == np.float32 and value.size > 2 and entry.name not in FINITE:
                window[(-1,) * value.ndim] = np.nan
                window[(0,) * value.ndim] = 0
            value = window
        values.append(value)
    return values


def strided_results(entry: Op, backend: str) -> list[np.ndarray]:
    """Results for operands of this kind."""
    place = on_device if backend == "cupy" else np.asarray
    with nbdl.use_backend(backend), np.errstate(all="ignore"):
        values = [
            nbdl.Tensor(place(value)) if isinstance(value, np.ndarray) else value for value in special(entry)
        ]
        out = entry.function()(*rebuilt(entry.args, iter(values)), **entry.kwargs)
        outputs = list(out) if isinstance(out, (tuple, list)) else [out]
        return [y.detach().cpu().numpy() for y in outputs]


STRIDED = [entry for entry in FIRST if entry.strided]


@pytest.mark.parametrize("entry", STRIDED, ids=[entry.name for entry in STRIDED])
def test_strides_and_special_values(entry: Op, gpu: str) -> None:
    if gpu == "standin" and entry.name.lstrip(".") in LIBRARIES:
        pytest.skip("the stand-in for CuPy does not have the library that computes it")
    expected = strided_results(entry, "numpy")
    for a, b in zip(strided_results(entry, "cupy"), expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        size = np.abs(b[np.isfinite(b)]).max(initial=1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * entry.scale * size)

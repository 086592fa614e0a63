"""The op table as CUDA graphs: what can be captured is captured, and gives the numbers of an eager run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gpu import standin
from gpu.test_compile import steps_of
from gpu.test_ops import FIRST, LIBRARIES
from op_samples import Op, leaves, rebuilt

import nbdl
from nbdl import config
from nbdl.backend.numba.blas import DECOMPOSITIONS

pytestmark = pytest.mark.usefixtures("gpu")

# Shapes that depend on values cannot be recorded.
UNKNOWN_SHAPES = frozenset(
    ("unique_consecutive", "unique", "masked_select", "nonzero", "argwhere", "x[mask]", "bincount")
)
# What Python waits for: LAPACK on the CPU, and values that say what is computed.
WAITING = frozenset(("geqrf", "lu", "row_order", "cofactors", "matrix_exp"))


def step_of(entry: Op, wanted: list[nbdl.Tensor]) -> Any:
    """A function of the entry's tensors: its results and the gradients of a weighted sum of them."""

    def step(*values: Any) -> list[nbdl.Tensor]:
        out = entry.function()(*rebuilt(entry.args, iter(values)), **entry.kwargs)
        outputs = list(out) if isinstance(out, (tuple, list)) else [out]
        parts = [y.square().sum() for y in outputs if y.requires_grad]
        places = [value for value, yes in zip(values, wanted, strict=True) if yes]
        found = nbdl.autograd.grad(sum(parts[1:], parts[0]), places, allow_unused=True) if parts else []
        return [y.detach() for y in outputs] + [g for g in found if g is not None]

    return step


@pytest.fixture(autouse=True)
def _mode() -> Iterator[None]:
    yield
    config.SYNC_DEBUG.set(None)


@pytest.mark.parametrize("entry", FIRST, ids=[entry.name for entry in FIRST])
@pytest.mark.usefixtures("products")
def test_an_operation(entry: Op, gpu: str) -> None:
    if gpu == "standin" and entry.name.lstrip(".") in LIBRARIES:
        pytest.skip("the stand-in for CuPy does not have the library that computes it")
    flags = [bool(yes and entry.orders) for yes in entry.differentiable()]
    step = step_of(entry, flags)

    def operands() -> list[Any]:
        values = [
            nbdl.tensor(value, device="cuda") if isinstance(value, np.ndarray) else value
            for value in leaves(entry.arrays(np.float32))
        ]
        for value, yes in zip(values, flags, strict=True):
            if yes:
                value.requires_grad_()
        return values

    if entry.name in UNKNOWN_SHAPES:
        with pytest.raises(nbdl.compiler.RecordingError, match=r"shape that depends|of a tensor"):
            nbdl.compile(step)(*operands())
        return
    values = operands()
    standin.counters.reset()
    results = step(*values)
    waits = standin.counters.synchronisations
    expected = [y.cpu().numpy() for y in results]
    run = nbdl.compile(step)
    for _ in range(3):
        got = [y.cpu().numpy() for y in run(*values)]
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == b.dtype
        size = np.abs(b[np.isfinite(b)]).max(initial=1.0) if b.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * entry.scale * size)
    (steps,) = steps_of(run)
    assert set(steps.eager) <= DECOMPOSITIONS | WAITING
    assert steps.graphs > 0 or steps.eager or not steps.calls
    if gpu == "standin":
        assert (waits > 0) == bool(WAITING & set(steps.eager))
    if WAITING & set(steps.eager):
        nbdl.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match=r"waits for the GPU at .*(LAPACK computes|depends on values)"):
            step(*values)

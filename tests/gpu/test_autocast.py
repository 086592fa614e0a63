"""autocast on a GPU: the dtypes that PyTorch's own test lists ask for, operation by operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import nbdl
from nbdl.nn import functional as F

pytestmark = [pytest.mark.usefixtures("gpu"), pytest.mark.torch]

# The lists, and the dtype of results where float16 is the lower one; None: each entry says it.
LISTS = {
    "torch_fp16": "float16",
    "nn_fp16": "float16",
    "linalg_fp16": "float16",
    "methods_fp16": "float16",
    "torch_fp32": "float32",
    "nn_fp32": "float32",
    "methods_fp32": "float32",
    "torch_need_autocast_promote": "float32",
    "torch_expect_builtin_promote": None,
}
# Names of PyTorch's inside, and samples that its public functions do not take either.
LEFT_OUT = frozenset((
    "_convolution", "cudnn_convolution", "cudnn_convolution_transpose", "einsum", "margin_ranking_loss",
    "nll_loss2d",
))  # fmt: skip


def moved(value: Any, torch: Any) -> Any:
    """Tensors of PyTorch's CPU as tensors of the GPU."""
    if isinstance(value, torch.Tensor):
        return nbdl.tensor(value.detach().numpy(), device="cuda")
    if isinstance(value, (list, tuple)):
        return type(value)(moved(x, torch) for x in value)
    return value


def function_of(name: str) -> Any:
    if name.startswith("linalg_"):
        return getattr(nbdl.linalg, name.removeprefix("linalg_"))
    return getattr(nbdl, name, None) or getattr(F, name)


@pytest.mark.parametrize("chosen", LISTS)
def test_dtypes_of_results(chosen: str) -> None:
    torch = pytest.importorskip("torch")
    lists = pytest.importorskip("torch.testing._internal.autocast_test_lists")
    entries = getattr(lists.AutocastTestLists(torch.device("cpu")), chosen)
    wrong = {}
    for name, args, *rest in entries:
        if name in LEFT_OUT:
            continue
        options = next((x for x in rest if isinstance(x, dict)), {})
        wanted = LISTS[chosen] or str(rest[0]).removeprefix("torch.")
        values = moved(args, torch)
        function = getattr(type(values[0]), name) if chosen.startswith("methods") else function_of(name)
        with nbdl.autocast("cuda", dtype=nbdl.float16):
            results = function(*values, **options)
        several = results if isinstance(results, (tuple, list)) else [results]
        found = {x.dtype.name for x in several if isinstance(x, nbdl.Tensor)}
        if found - {wanted} and wanted in ("float16", "float32", "float64"):
            wrong[name] = found
    assert wrong == {}


def test_products_that_pytorch_does_not_lower_on_a_cpu() -> None:
    x = nbdl.tensor(np.arange(4, dtype=np.float32), device="cpu")
    with nbdl.autocast("cpu", dtype=nbdl.float16):
        found = [
            nbdl.dot(x, x),
            nbdl.vdot(x, x),
            nbdl.addr(nbdl.ones(4, 4, device="cpu"), x, x),
            nbdl.outer(x, x),
        ]
        lower = [F.prelu(x, x[:1]), nbdl.linalg.vecdot(x, x)]
    assert {y.dtype.name for y in found} == {"float32"}
    assert {y.dtype.name for y in lower} == {"float16"}

"""The benchmarks of single operations and of modules: complete, comparable, reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nbdl

Run = Callable[..., str]


SMALL_KERNELS = {
    "matmul": (3, 4, 5),
    "matmul_nt": (3, 4, 5),
    "matmul_tn": (3, 4, 5),
    "matmul_tt": (3, 4, 5),
    "matmul_batched": (2, 3, 4, 5),
    "linear_gelu": (3, 4, 5),
    "linear_gelu_training": (3, 4, 5),
    "add": (7,),
    "multiply_add": (7,),
    "exp": (7,),
    "tanh": (7,),
    "gelu": (7,),
    "silu_chain": (7,),
    "softmax": (3, 5),
    "log_softmax_training": (3, 5),
    "cross_entropy_training": (3, 5),
    "layer_norm": (3, 5),
    "layer_norm_training": (3, 5),
    "rms_norm_training": (3, 5),
    "instance_norm_training": (2, 3, 4, 4),
    "batch_norm_training": (2, 3, 4, 4),
    "group_norm_training": (2, 8, 3, 3),
    "conv2d": (2, 3, 4, 6, 1),
    "conv2d_training": (2, 3, 4, 6, 1),
    "conv2d_strided": (2, 4, 7),
    "conv2d_dilated": (2, 4, 7),
    "conv2d_grouped": (2, 4, 7),
    "conv2d_depthwise": (2, 4, 7),
    "conv_transpose2d": (2, 4, 7),
    "conv1d": (2, 4, 7),
    "conv2d_same": (2, 4, 7),
    "conv2d_pointwise": (2, 4, 7),
    "conv2d_wide": (2, 4, 7),
    "conv2d_depthwise_strided": (2, 4, 7),
    "conv2d_depthwise_last": (2, 4, 7),
    "conv2d_depthwise_training": (2, 4, 7),
    "conv_transpose1d": (2, 4, 7),
    "conv_transpose2d_strided": (2, 4, 7),
    "conv_transpose3d": (2, 4, 5),
    "conv3d": (2, 4, 5),
    "max_pool2d": (2, 3, 5),
    "max_pool2d_training": (2, 3, 5),
    "avg_pool2d": (2, 3, 5),
    "avg_pool2d_training": (2, 3, 5),
    "max_pool1d": (2, 3, 5),
    "max_pool3d": (2, 3, 5),
    "causal_attention": (2, 2, 5, 3),
    "causal_attention_training": (2, 2, 5, 3),
    "masked_attention": (2, 2, 5, 3),
    "masked_attention_training": (2, 2, 5, 3),
    "embedding": (6, 3, 9),
    "embedding_gradient": (6, 3, 9),
    "sort": (3, 20),
    "argsort": (3, 20),
    "top_10": (3, 20),
    "median": (3, 21),
    "sum_all": (3, 5),
    "sum_rows": (3, 5),
    "sum_columns": (3, 5),
    "max_rows": (3, 5),
    "argmax_rows": (3, 5),
    "variance_rows": (3, 5),
    "clone": (3, 5),
    "transposed_copy": (3, 5),
    "concatenate": (4, 5),
}


# With random numbers or initial values, or without a result.
INCOMPARABLE = {
    "dropout",
    "dropped_attention_training",
    "lstm",
    "lstm_training",
    "gru",
    "gru_training",
    "adam",
}


def arrays(result: Any) -> list[np.ndarray]:
    """Tensors or arrays, several of which make a tuple or list, as NumPy arrays."""
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in arrays(part)]
    return [np.asarray(result.detach().numpy() if hasattr(result, "detach") else result)]


def assert_equal_kernels(ours: Any, others: Any, operations: Iterable[str]) -> None:
    for operation in operations:
        sizes = SMALL_KERNELS[operation]
        results = [arrays(getattr(kernels, operation)(*sizes)()) for kernels in (ours, others)]
        for result, expected in zip(*results):
            np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5, err_msg=operation)


def test_all_kernels_have_a_small_example(module):
    operations = {case.operation for case in module("kernel_cases").CASES}
    assert operations == SMALL_KERNELS.keys() | INCOMPARABLE


def test_kernels_agree_with_numpy(module):
    numpy_kernels = module("kernels_numpy").Kernels()
    common = [name for name in SMALL_KERNELS if hasattr(numpy_kernels, name)]
    assert len(common) > 25
    # A gradient alone stands beside a loss with its gradient.
    common.remove("cross_entropy_training")
    common.remove("layer_norm_training")
    assert_equal_kernels(module("kernels_tensors").Kernels(nbdl), numpy_kernels, common)


@pytest.mark.torch
def test_kernels_agree_with_pytorch(module):
    torch = pytest.importorskip("torch")
    kernels = module("kernels_tensors").Kernels
    with nbdl.use_backend("numpy"):
        for dtype in ("float32", "float64"):
            assert_equal_kernels(kernels(nbdl, dtype), kernels(torch, dtype), SMALL_KERNELS)


def test_kernels_of_both_dtypes_are_measured(module):
    cases, kernels = module("kernel_cases"), module("kernels_tensors").Kernels
    names = [case.name for case in cases.CASES]
    assert len(names) == len(set(names))
    groups = {case.group for case in cases.CASES if case.dtype == "float64"}
    assert groups == set(cases.GROUPS) - {"optimizer", "copy"}
    with nbdl.use_backend("numpy"):
        for dtype in ("float32", "float64"):
            results = [kernels(nbdl, dtype).add(3)(), *kernels(nbdl, dtype).gru_training(2, 3, 4)()]
            assert {str(result.dtype) for result in results} == {dtype}


def test_kernels_write_a_report(run: Run, tmp_path: Path):
    run("kernels.py", "--quick", "--only", "copy", "--contenders", "nbdl,numpy", "--out", str(tmp_path))
    results = json.loads((tmp_path / "kernels.json").read_text())["results"]
    assert "clone 128 x 512" in results
    assert all(set(summary["contenders"]) == {"nbdl", "numpy"} for summary in results.values())
    assert all(summary["best_peer"] == "numpy" for summary in results.values())
    assert "vs numpy" in (tmp_path / "kernels.md").read_text()


def test_slower_operations_are_listed(module):
    kernels, summarize = module("kernels"), module("report").summarize
    slow = {"nbdl": {"blocks_s": [2e-6, 2e-6]}, "torch": {"blocks_s": [1e-6, 1e-6]}}
    fast = {"nbdl": {"blocks_s": [1e-6, 1e-6]}, "torch": {"blocks_s": [3e-6, 3e-6]}}
    alone = {"nbdl": {"blocks_s": [1e-6]}}
    results = {"x": summarize(slow, {"nbdl"}, "torch"), "y": summarize(fast, {"nbdl"}, "torch")}
    results["z"] = summarize(alone, {"nbdl"}, "torch")
    text = kernels.overview(results)
    assert "- 2 cases, median 1.75x, 1 below 1\n  - x 0.50x" in text
    assert "y 3" not in text
    assert kernels.overview({"z": results["z"]}) == ""


def test_the_zoo_is_complete(module):
    """Every module is measured but those that hold others, wait for shapes, or PyTorch has not."""
    cases = module("zoo_cases").CASES
    classes = {name: getattr(nbdl.nn, name) for name in nbdl.nn.__all__}
    layers = {
        name for name, kind in classes.items() if isinstance(kind, type) and issubclass(kind, nbdl.nn.Module)
    }
    containers = {"Module", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential"}
    bases = {"RNNBase", "RNNCellBase"}
    own = {
        "BinaryStep", "DenselyConnected", "Gaussian", "Maxout", "RBF", "RBFNetwork", "Residual",
        "ResidualLinear", "SobolevaTanh",
    }  # fmt: skip
    lazy = {name for name in layers if name.startswith("Lazy")}
    assert {case.module for case in cases} == layers - containers - bases - own - lazy
    names = [case.name("small") for case in cases]
    assert len(names) == len(set(names))


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore:.*NLLLoss2d")
def test_the_zoo_gives_gradients_of_the_same_shapes(module):
    import torch

    zoo = module("zoo_cases")
    with nbdl.use_backend("numpy"):
        for case in zoo.CASES:
            shapes = [
                [None if g is None else tuple(g.shape) for g in zoo.build(lib, case, "small")()]
                for lib in (nbdl, torch)
            ]
            assert shapes[0] == shapes[1], case.name("small")


@pytest.mark.torch
def test_the_functions_of_the_zoo_are_pytorchs(module):
    import torch

    with nbdl.use_backend("numpy"):
        for case in module("zoo_functions").FUNCTIONS:
            results = [case.build(lib, "small")() for lib in (nbdl, torch)]
            ours, theirs = (r if isinstance(r, (tuple, list)) else (r,) for r in results)
            for a, b in zip(ours, theirs, strict=True):
                assert tuple(a.shape) == tuple(b.shape), case.label


def test_the_zoo_writes_a_report(run: Run, tmp_path: Path):
    output = run("zoo.py", "--quick", "--only", "dropout", "--contenders", "nbdl", "--out", str(tmp_path))
    results = json.loads((tmp_path / "zoo.json").read_text())["results"]
    assert {"Dropout small", "Dropout large", "Dropout3d small"} <= set(results)
    assert all(len(s["contenders"]["nbdl"]["blocks_s"]) == 2 for s in results.values())
    text = (tmp_path / "zoo.md").read_text()
    assert text.startswith("# The layer zoo\n")
    assert "## dropout" in text
    assert "failed" not in output


def test_slower_modules_are_marked(module):
    zoo = module("zoo")
    names = zoo.names_of("dropout")
    blocks = {"nbdl": {"blocks_s": [2e-6, 2e-6]}, "torch": {"blocks_s": [1e-6, 1e-6]}}
    faster = {"nbdl": {"blocks_s": [1e-6, 1e-6]}, "torch": {"blocks_s": [3e-6, 3e-6]}}
    summarize = module("report").summarize
    results = {name: summarize(faster, {"nbdl"}, "torch") for name in names}
    results[names[0]] = summarize(blocks, {"nbdl"}, "torch")
    table = zoo.group_table("dropout", results)
    assert [line.split("|")[1].strip() for line in table.splitlines() if "slower" in line] == [names[0]]
    text = zoo.overview(results)
    assert "- small: 6 cases, median ratio 3.00x, 1 below 1" in text
    assert "  - Dropout 0.50x" in text
    assert "- large: 6 cases, median ratio 3.00x, 0 below 1" in text

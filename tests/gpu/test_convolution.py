"""Convolutions by cuDNN, for which a library stands that computes with the specification, and without it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from gpu import fake_cudnn
from gpu.samples import assert_same
from gpu.test_rows import KINDS, random

import nbdl
from nbdl.backend import registry
from nbdl.backend.cupy import libraries
from nbdl.backend.windows import window_counts
from nbdl.ops.convolution import Convolution, ConvolutionInput, ConvolutionWeight

pytestmark = pytest.mark.usefixtures("gpu")


@pytest.fixture
def cudnn(gpu: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """cuDNN is there; gives the list of the graphs that are built."""
    if gpu == "standin":
        monkeypatch.setitem(sys.modules, "cudnn", fake_cudnn.module())
    libraries.cudnn.cache_clear()
    registry.load("cupy")._plans.clear()
    if libraries.cudnn() is None:
        pytest.skip("nvidia-cudnn-frontend is not installed")
    fake_cudnn.built.clear()
    yield fake_cudnn.built
    fake_cudnn.refused.clear()
    libraries.cudnn.cache_clear()
    registry.load("cupy")._plans.clear()


# size, kernel, stride, padding, dilation, groups
GEOMETRIES = {
    "plain": ((5, 6), (3, 2), (1, 1), ((0, 0), (0, 0)), (1, 1), 1),
    "strides and padding": ((7, 6), (3, 3), (2, 1), ((1, 1), (2, 0)), (1, 1), 1),
    "dilation and groups": ((7, 7), (2, 3), (1, 2), ((0, 1), (1, 1)), (2, 1), 2),
    "line": ((9,), (3,), (2,), ((1, 0),), (1,), 1),
    "space": ((3, 4, 3), (2, 2, 2), (1, 2, 1), ((0, 0), (1, 0), (0, 0)), (1, 1, 1), 2),
}


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("dtype", KINDS)
def test_results_and_gradients(cudnn: list, gpu: str, dtype: str, name: str) -> None:
    size, kernel, *windows, groups = GEOMETRIES[name]
    x, weight = random(2, 4, *size, dtype=dtype), random(6, 4 // groups, *kernel, dtype=dtype, seed=1)
    y = random(2, 6, *window_counts(size, kernel, *windows), dtype=dtype, seed=2)
    assert_same(Convolution.of(*windows, groups), x, weight, scale=20)
    assert_same(Convolution.of(*windows, groups), x, weight, random(6, dtype=dtype, seed=3), scale=20)
    assert_same(ConvolutionInput.of(*windows, groups, size), y, weight, scale=20)
    assert_same(ConvolutionWeight.of(*windows, groups, kernel), x, y, scale=40)
    if gpu == "standin":
        kinds = ["conv_fprop", "conv_dgrad", "conv_wgrad"]  # the bias needs no plan of its own
        assert [graph.kind for graph in cudnn] == kinds
        notes = ["NONDETERMINISTIC", *(["TENSOR_CORE"] if dtype == "float32" else [])]
        assert all(graph.notes == notes for graph in cudnn)


def test_layouts(cudnn: list, gpu: str) -> None:
    primitive = Convolution.of((1, 1), ((0, 0), (0, 0)), (1, 1), 1)
    x, weight = random(2, 5, 6, 4).transpose(0, 3, 1, 2), random(3, 2, 2, 4).transpose(0, 3, 1, 2)
    assert_same(primitive, x, weight, scale=10)
    if gpu == "standin":
        assert cudnn[0].operands[0].stride == [120, 1, 24, 4]  # channels last, as it lies
    assert_same(primitive, x[:, :, ::-1], weight, scale=10)
    assert_same(primitive, np.broadcast_to(x[:1], x.shape), weight, scale=10)


def test_what_there_is_no_engine_for_is_computed_all_the_same(
    cudnn: list, gpu: str, caplog: pytest.LogCaptureFixture
) -> None:
    if gpu == "real":
        pytest.skip("the stand-in refuses")
    fake_cudnn.refused.add("conv_fprop")
    libraries.tell.cache_clear()
    with caplog.at_level(logging.INFO, "nbdl"):
        for _ in range(2):
            assert_same(Convolution.of((1,), ((0, 0),), (1,), 1), random(1, 2, 5), random(3, 2, 2), scale=10)
    assert cudnn == []
    what = "cuDNN does not compute a convolution of float32, (1, 3, 4), channels"
    assert [text for text in caplog.messages if "cuDNN" in text] == [
        f"{what} {order}: No valid engine configs" for order in ("last", "first")
    ]


def test_it_is_captured(cudnn: list) -> None:
    model = nbdl.nn.Conv2d(1, 2, 2, bias=False).to("cuda")
    run, x = nbdl.compile(lambda x: model(x).tanh()), nbdl.tensor(random(2, 1, 4, 4))
    with nbdl.no_grad():
        expected = model(x).tanh().cpu().numpy()
        for _ in range(4):
            np.testing.assert_allclose(run(x).cpu().numpy(), expected, rtol=1e-5)
    ((variant,),) = run._variants.values()
    assert (variant.replay.steps[0].graphs, variant.replay.steps[0].eager) == (1, [])


def test_what_is_missing_is_told_once(
    gpu: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    libraries.cudnn.cache_clear()
    with caplog.at_level(logging.INFO, "nbdl"):
        for _ in range(2):
            assert_same(Convolution.of((1,), ((0, 0),), (1,), 1), random(1, 2, 5), random(3, 2, 2), scale=10)
    libraries.cudnn.cache_clear()
    (message,) = [text for text in caplog.messages if "cudnn" in text]
    assert "nvidia-cudnn-frontend cannot be used: " in message


def test_the_library_has_only_names_of_cudnn() -> None:
    real = pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    assert not [name for name in fake_cudnn.NAMES if not hasattr(real, name)]
    for kind in ("data_type", "heur_mode", "numerical_note"):
        for entry in getattr(fake_cudnn, kind):
            assert hasattr(getattr(real, kind), entry.name)
    for kind in ("pygraph", "tensor"):
        own = [
            name for name in vars(getattr(fake_cudnn, kind)) if name[0] != "_" and name not in ("at", "run")
        ]
        assert not [name for name in own if not hasattr(getattr(real, kind), name)]

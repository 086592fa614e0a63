"""Batch norm and attention by cuDNN, for which a library stands, and without it; channels that stay last."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gpu import fake_cudnn, frontend_checks
from gpu.samples import assert_same, on_device
from gpu.test_rows import random

import nbdl
from nbdl import nn
from nbdl.backend import registry
from nbdl.backend.cupy import libraries
from nbdl.backend.cupy.backend import CupyBackend
from nbdl.backend.cupy.dnn import image_order, lies, packed
from nbdl.nn import functional as F
from nbdl.ops.attention import Attention, AttentionInput
from nbdl.ops.convolution import Convolution, ConvolutionInput
from nbdl.ops.normalization import Normalize, NormalizeInput
from nbdl.ops.pooling import AdaptiveMaxPool, AvgPool, AvgPoolInput, MaxPool, WindowGather, WindowScatter

pytestmark = pytest.mark.usefixtures("gpu")
HALVES = ("float16", "bfloat16")


@pytest.fixture
def cudnn(gpu: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list]:
    """cuDNN is there; gives the list of the graphs that are built."""
    if gpu == "standin":
        monkeypatch.setitem(sys.modules, "cudnn", fake_cudnn.module())
    for cached in (libraries.cudnn, libraries.tell):
        cached.cache_clear()
    registry.load("cupy")._plans.clear()
    if libraries.cudnn() is None:
        pytest.skip("nvidia-cudnn-frontend is not installed")
    fake_cudnn.built.clear()
    yield fake_cudnn.built
    fake_cudnn.refused.clear()
    libraries.cudnn.cache_clear()
    registry.load("cupy")._plans.clear()


def built(graphs: list, gpu: str, expected: list[str]) -> None:
    if gpu == "standin":
        assert [graph.kind for graph in graphs] == expected


# ------------------------------------------------------------------------------------------ normalisation
SHAPES = {"vectors": (6, 5), "line": (3, 4, 7), "plane": (2, 3, 4, 5), "space": (2, 3, 2, 3, 4)}


def last(x: np.ndarray) -> np.ndarray:
    """The same with the channels last in memory."""
    order = (0, *range(2, x.ndim), 1)
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order))


def test_streams_and_devices_share_neither_workspace_nor_handle(cudnn: list, gpu: str) -> None:
    if gpu != "standin" or nbdl.cuda.device_count() < 2:
        pytest.skip("looks at the calls of the library, on two devices")
    fake_cudnn.workspaces.clear()
    images = [nbdl.ones(1, 2, 3, 3, device=f"cuda:{k}") for k in range(2)]
    side = nbdl.cuda.Stream()
    for _ in range(2):
        for image in images:
            assert nbdl.nn.functional.conv2d(image, image).item() == 18
        with side:
            assert nbdl.nn.functional.conv2d(images[0], images[0]).item() == 18
    assert fake_cudnn.workspaces[:3] == fake_cudnn.workspaces[3:]
    assert [stream for stream, _ in fake_cudnn.workspaces[:3]] == [0, 0, side.cuda_stream]
    assert len({workspace for _, workspace in fake_cudnn.workspaces}) == 3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(cudnn: list, gpu: str, shape: str, is_last: bool, dtype: str) -> None:
    x, g = random(*SHAPES[shape], dtype=dtype), random(*SHAPES[shape], dtype=dtype, seed=1)
    if is_last:
        x, g = last(x), last(g)
    axes = (0, *range(2, x.ndim))
    weight, bias = (random(x.shape[1], dtype=dtype, seed=k) for k in (2, 3))
    assert_same(Normalize.of(axes, 1e-3, True, True, True), x, weight, bias, scale=8)
    _, *statistics = registry.load("numpy").execute(
        Normalize.of(axes, 1e-3, True, True, True), (x, weight, bias)
    )
    backward = NormalizeInput.of(axes, 1e-3, True, True, True)
    assert_same(backward, g, x, weight, *statistics, scale=30)
    assert_same(backward, last(g[..., ::-1])[..., ::-1], x, weight, *statistics, scale=30)
    built(cudnn, gpu, ["batchnorm", "batchnorm_backward"])


@pytest.mark.parametrize(
    ("primitive", "shapes"),
    {
        "layer norm": (Normalize.of((1,), 1e-3, True, True), [(3, 4), (4,), (4,)]),
        "instance norm": (Normalize.of((2, 3), 1e-3, True, True, True), [(2, 3, 4, 5), (3,), (3,)]),
        "group norm": (Normalize.of((), 1e-3, True, True, True, 2), [(2, 4, 3), (4,), (4,)]),
        "no weight": (Normalize.of((0, 2), 1e-3, True, False, True), [(2, 3, 4)]),
        "no bias": (Normalize.of((0, 2), 1e-3, True, True, True), [(2, 3, 4), (3,)]),
        "one number a channel": (Normalize.of((0, 2), 1e-3, True, True, True), [(1, 3, 1), (3,), (3,)]),
    }.items(),
)
def test_other_norms_are_own_kernels(cudnn: list, gpu: str, primitive: str, shapes: tuple) -> None:
    rule, sizes = shapes
    assert_same(rule, *[random(*size, seed=k) for k, size in enumerate(sizes)], scale=8, label=primitive)
    built(cudnn, gpu, [])


def test_float64_and_windows_are_own_kernels(cudnn: list, gpu: str) -> None:
    rule = Normalize.of((0, 2, 3), 1e-3, True, True, True)
    assert_same(rule, *[random(*size, dtype="float64") for size in ((2, 3, 4, 5), (3,), (3,))], scale=8)
    assert_same(rule, random(2, 3, 4, 8)[..., ::2], random(3), random(3, seed=1), scale=8)
    built(cudnn, gpu, [])


def test_a_layer_moves_its_running_statistics(cudnn: list, gpu: str) -> None:
    found = []
    for backend, device in (("numpy", "cpu"), ("cupy", "cuda")):
        with nbdl.use_backend(backend):
            layer = nn.BatchNorm2d(3).to(device)
            for k in range(3):
                y = layer(nbdl.tensor(random(4, 3, 5, 5, seed=k) * 2 + 1, device=device))
            layer.eval()
            found.append([y, layer(y.detach()), layer.running_mean, layer.running_var])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(b.detach().cpu().numpy(), a.detach().cpu().numpy(), rtol=2e-5, atol=1e-5)
    built(cudnn, gpu, ["batchnorm"])


@pytest.mark.parametrize("kind", ["batchnorm", "batchnorm_backward", "sdpa", "sdpa_backward"])
def test_what_there_is_no_engine_for_is_an_own_kernel(
    cudnn: list, gpu: str, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    if gpu == "real":
        pytest.skip("the stand-in refuses")
    fake_cudnn.refused.add(kind)
    names = {"batchnorm": "batch_norm", "batchnorm_backward": "batch_norm_input",
             "sdpa": "attention", "sdpa_backward": "attention_input"}  # fmt: skip
    with caplog.at_level(logging.INFO, "nbdl"):
        for _ in range(2):
            x, w = random(2, 3, 4, 5), random(3)
            rule = Normalize.of((0, 2, 3), 1e-3, True, True, True)
            assert_same(rule, x, w, w, scale=8)
            statistics = registry.load("numpy").execute(rule, (x, w, w))[1:]
            assert_same(NormalizeInput.of((0, 2, 3), 1e-3, True, True, True), x, x, w, *statistics, scale=30)
            _attend(8, 8, True, "float16")
    (message,) = [text for text in caplog.messages if "cuDNN" in text]
    assert message.startswith(f"cuDNN does not compute {names[kind]} of float")
    assert message.endswith(": No valid engine configs")


# ---------------------------------------------------------------------------------------------- attention
def _attend(length: int, source: int, is_causal: bool, dtype: str, lead: tuple = (2, 3)) -> None:
    q, k, v = (
        random(*lead, n, columns, dtype=dtype, seed=seed)
        for seed, (n, columns) in enumerate(((length, 8), (source, 8), (source, 16)))
    )
    g = random(*lead, length, 16, dtype=dtype, seed=3)
    forward = Attention.of(0.35, is_causal, False)
    assert_same(forward, q, k, v, scale=4)
    results = registry.load("numpy").execute(forward, (q, k, v))
    assert_same(AttentionInput.of(0.35, is_causal, False), g, q, k, v, *results, scale=8)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("lengths", [(5, 5), (3, 7), (7, 3), (1, 4)], ids=str)
def test_attention(cudnn: list, gpu: str, lengths: tuple, is_causal: bool, dtype: str) -> None:
    _attend(*lengths, is_causal, dtype)
    built(cudnn, gpu, ["sdpa", "sdpa_backward"])
    _attend(*lengths, is_causal, dtype, (2,))


@pytest.mark.parametrize("dtype", HALVES)
def test_layouts_of_attention(cudnn: list, gpu: str, dtype: str) -> None:
    """Heads beside each other, as projections leave them, and all three in one array; nothing is copied."""
    packed = random(2, 5, 3, 4, 8, dtype=dtype)  # (N, L, which, heads, columns)
    q, k, v = (packed[:, :, which].swapaxes(1, 2) for which in range(3))
    assert_same(Attention.of(0.35, True, False), q, k, v, scale=4)
    if gpu == "standin":
        (graph,) = cudnn
        assert [x.stride for x in graph.operands] == [[480, 8, 96, 1]] * 3
        assert graph.results[0].stride == [160, 8, 32, 1]  # the heads of a query lie as they did
    assert_same(Attention.of(0.35, True, False), q[..., ::-1], k, np.broadcast_to(v[:1], v.shape), scale=4)
    whole = random(2 * 3 * 5 * 8 + 1, dtype=dtype)[1:].reshape(2, 3, 5, 8)  # not where graphs expect it
    assert_same(Attention.of(0.35, True, False), whole, whole, whole, scale=4)


def test_attention_of_other_kinds_is_own_kernels(cudnn: list, gpu: str) -> None:
    half = [random(2, 2, 4, 8, dtype="float16", seed=k) for k in range(3)]
    mask = np.arange(16).reshape(4, 4) % 3 > 0
    mask[1] = False  # a query that sees nothing: zeros
    assert_same(Attention.of(0.3, False, True), *half, mask, scale=4)
    draws = [np.array(7), np.array(0), np.array(0.25, np.float16)]
    assert_same(Attention.of(0.3, False, False), *half, *draws, scale=4)
    assert_same(Attention.of(0.3, False, False), half[0], half[1][:1], half[2], scale=4)
    assert_same(Attention.of(0.3, False, False), *[x.astype(np.float32) for x in half], scale=4)
    assert_same(Attention.of(0.3, False, False), *[x[:, 0, 0:0] for x in half], scale=4)
    built(cudnn, gpu, [])
    odd = [random(2, 2, 4, 5, dtype="float16", seed=k) for k in range(3)]  # 8 does not divide the columns
    assert_same(Attention.of(0.3, False, False), *odd, scale=4)
    built(cudnn, gpu, [])


def test_gradients_of_attention_in_order(cudnn: list, gpu: str) -> None:
    for mode in (False, True):
        nbdl.use_deterministic_algorithms(mode)
        _attend(4, 4, False, "float16")
    nbdl.use_deterministic_algorithms(False)
    if gpu == "standin":
        backward = [graph for graph in cudnn if graph.kind == "sdpa_backward"]
        assert [graph.is_ordered for graph in backward] == [False, True]


def test_attention_is_captured(cudnn: list, gpu: str) -> None:
    def step(x: nbdl.Tensor) -> tuple[nbdl.Tensor, nbdl.Tensor]:
        x = x.detach().requires_grad_()
        heads = x.unflatten(-1, (2, 8)).transpose(1, 2)
        y = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True).transpose(1, 2).flatten(-2)
        (gradient,) = nbdl.autograd.grad(y.float().square().sum(), [x])
        return y.detach(), gradient

    run = nbdl.compile(step)
    for k in range(4):
        x = nbdl.tensor(random(2, 5, 16, dtype="float16", seed=k))
        for a, b in zip(run(x), step(x), strict=True):
            np.testing.assert_allclose(
                a.cpu().numpy().astype(np.float32), b.cpu().numpy().astype(np.float32), atol=2e-2
            )
    ((variant,),) = run._variants.values()
    assert (variant.replay.steps[0].graphs, variant.replay.steps[0].eager) == (1, [])


# ------------------------------------------------------------------------------------- channels stay last
def test_a_chain_keeps_channels_last(cudnn: list, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions, batch norms and activations, there and back, reorder the first image and filters only."""
    copied: list[tuple] = []
    if gpu == "standin":
        from gpu import standin_arrays

        for name in ("copy", "__setitem__"):
            original = getattr(standin_arrays.ndarray, name)

            def counted(self: object, *args: object, original: object = original, **kwargs: object) -> object:
                copied.append(self.shape)  # type: ignore[attr-defined]
                return original(self, *args, **kwargs)  # type: ignore[operator]

            monkeypatch.setattr(standin_arrays.ndarray, name, counted)

        def reordered(
            self: object, out: object, x: object, copies: object = CupyBackend._copied_into
        ) -> object:
            known = [*copied, x.shape]  # type: ignore[attr-defined]
            copies(self, out, x)  # type: ignore[operator]
            copied[:] = known
            return out

        monkeypatch.setattr(CupyBackend, "_copied_into", reordered)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3, stride=2),
        nn.BatchNorm2d(5), nn.SiLU(), nn.MaxPool2d(2, stride=1), nn.Conv2d(5, 4, 1, bias=False),
        nn.AvgPool2d(2),
    ).to("cuda")  # fmt: skip
    x = nbdl.tensor(random(2, 3, 8, 8))
    seen = []
    for layer in model:
        layer.register_forward_hook(lambda module, inputs, y: seen.append(y))
    copied.clear()
    y = model(x)
    assert all(z.is_contiguous(memory_format=nbdl.channels_last) for z in seen)
    filters = [(4, 3, 3, 3), (5, 4, 3, 3)]
    if gpu == "standin":
        assert copied == [(2, 3, 8, 8), *filters]
        copied.clear()
    y.backward(y.detach())
    if gpu == "standin":
        assert {shape for shape in copied if len(shape) == 4} <= {*filters, (4, 5, 1, 1), (2, 3, 8, 8)}
        assert copied.count((2, 3, 8, 8)) == 1  # the image again, for the gradient of its filters
    assert all(parameter.grad.is_contiguous() for parameter in model.parameters())


def test_a_compiled_step_is_one_graph(cudnn: list, gpu: str) -> None:
    def train(is_compiled: bool) -> tuple[list[float], list[np.ndarray], nbdl.compiler.Compiled]:
        nbdl.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3),
            nn.AvgPool2d(2),
        ).to("cuda")  # fmt: skip
        optimizer = nbdl.optim.SGD(model.parameters(), lr=0.1)

        def step(x: nbdl.Tensor) -> nbdl.Tensor:
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        run = nbdl.compile(step) if is_compiled else step
        losses = [float(run(nbdl.tensor(random(2, 3, 8, 8, seed=k)))) for k in range(4)]
        return losses, [model[1].running_mean.cpu().numpy(), model[1].running_var.cpu().numpy()], run

    losses, statistics, run = train(True)
    expected, moved, _ = train(False)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    for a, b in zip(statistics, moved, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    ((variant,),) = run._variants.values()
    assert (variant.replay.steps[0].graphs, variant.replay.steps[0].eager) == (1, [])
    if gpu == "standin":
        kinds = {"conv_fprop", "conv_dgrad", "conv_wgrad", "batchnorm", "batchnorm_backward"}
        assert {graph.kind for graph in cudnn} == kinds


def test_where_channels_cannot_lie_last(cudnn: list, gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine for rows as they are indexed serves as well."""
    if gpu == "real":
        pytest.skip("the stand-in refuses")
    refuse = fake_cudnn.pygraph.check_support

    def check_support(graph: fake_cudnn.pygraph) -> None:
        if graph.results[0].stride[1] == 1:
            raise fake_cudnn.cudnnGraphNotSupportedError("No valid engine configs")
        refuse(graph)

    monkeypatch.setattr(fake_cudnn.pygraph, "check_support", check_support)
    geometry = (1, 1), ((0, 0), (0, 0)), (1, 1), 1
    assert_same(Convolution.of(*geometry), random(2, 3, 5, 5), random(4, 3, 2, 2), scale=10)
    assert_same(Convolution.of(*geometry), last(random(2, 3, 5, 5)), random(4, 3, 2, 2), scale=10)
    assert_same(ConvolutionInput.of(*geometry, (5, 5)), random(2, 4, 4, 4), random(4, 3, 2, 2), scale=10)
    assert [graph.results[0].stride[1] for graph in cudnn] == [16, 16, 25]


LINE = {"kernel": (3,), "stride": (2,), "padding": (1,), "counts": (3,)}
PLANE = {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "counts": (3, 3)}
SPACE = {"kernel": (2, 1, 2), "stride": (2, 1, 2), "padding": (0, 0, 0), "counts": (1, 4, 1)}
POOLS = {"line": ((2, 4, 6), LINE), "plane": ((2, 3, 6, 4), PLANE), "space": ((2, 3, 2, 4, 3), SPACE)}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("name", POOLS)
def test_pooling_keeps_channels_last(gpu: str, name: str, dtype: str) -> None:
    shape, geometry = POOLS[name]
    counts, size = geometry["counts"], shape[2:]
    ones = (1,) * len(size)
    x, y = last(random(*shape, dtype=dtype)), last(random(*shape[:2], *counts, dtype=dtype, seed=1))
    maximum = MaxPool.of(**geometry, dilation=ones)
    adaptive = AdaptiveMaxPool.of(counts)
    average = AvgPool.of(**geometry, size=size, count_include_pad=False, divisor=None)
    places = last(registry.load("numpy").execute(maximum, (x,))[1])
    calls = [
        (maximum, x), (adaptive, x), (average, x),
        (AvgPoolInput.of(*average.geometry), y),
        (WindowGather.of(), x, places), (WindowScatter.of(size), y, places),
    ]  # fmt: skip
    for primitive, *operands in calls:
        assert_same(primitive, *operands, scale=4, label=primitive.label)
        found = registry.load("cupy").execute(primitive, [on_device(operand) for operand in operands])
        for result in found if isinstance(found, tuple) else [found]:
            steps = packed(result.shape, image_order(result.ndim, name != "space"))
            assert lies(result, steps), primitive.label
    assert_same(WindowScatter.of(size), y, np.ascontiguousarray(places), scale=4)


# ------------------------------------------------------------------------------------------ the stand-in
def test_the_library_has_only_arguments_of_cudnn() -> None:
    """The names of arguments, against those in the descriptions that the compiled module carries."""
    real = pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")
    for name in ("batchnorm", "batchnorm_backward", "sdpa", "sdpa_backward", "conv_fprop"):
        signature = getattr(real.pygraph, name).__doc__.split(" -> ")[0]
        known = re.findall(r"(\w+): ", signature)
        own = list(inspect.signature(getattr(fake_cudnn.pygraph, name)).parameters)
        assert set(own) - {"windows"} <= set(known), name


def test_the_frontend_finds_the_graphs_well_described(tmp_path: Path) -> None:
    """By its own checks, which come before any planning and need no GPU."""
    if importlib.util.find_spec("cudnn") is None or not shutil.which("g++"):
        pytest.skip("nvidia-cudnn-frontend or g++ is not installed")
    for name, source in frontend_checks.STUBS.items():
        compiler = ["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", tmp_path / name]
        subprocess.run(compiler, input=source, text=True, check=True)
    tests = Path(__file__).resolve().parents[1]
    paths = [tests, tests.parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    found = subprocess.run(
        [sys.executable, frontend_checks.__file__, tmp_path],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == list(frontend_checks.GRAPHS)

"""Compiled functions on the GPU backend: the numbers of an eager run, in graphs that keep CUDA's rules."""

from __future__ import annotations

import copy
import itertools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from compiler import random_programs
from gpu import standin
from gpu.samples import on_device

import nbdl
from nbdl import nn, optim
from nbdl.backend import registry
from nbdl.compiler import graphs, report
from nbdl.nn import functional as F

pytestmark = pytest.mark.usefixtures("gpu")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tensor(*shape: int, seed: int = 0) -> nbdl.Tensor:
    return nbdl.tensor(numbers(*shape, seed=seed), device="cuda")


def steps_of(compiled: nbdl.compiler.Compiled) -> list[graphs.GraphSteps]:
    """What the programs of a compiled function run on the device."""
    variants = [variant for variants in compiled._variants.values() for variant in variants]
    return [
        step for variant in variants for step in variant.replay.steps if isinstance(step, graphs.GraphSteps)
    ]


def test_the_plain_mean_of_all_batches(gpu: str) -> None:
    """BatchNorm without a momentum counts on the device."""
    layers = [nn.BatchNorm1d(3, momentum=None).to("cuda") for _ in range(2)]
    run = nbdl.compile(lambda x: layers[0](x))
    for k in range(4):
        x = tensor(5, 3, seed=k)
        standin.counters.reset()
        run(x)
        assert gpu != "standin" or standin.counters.synchronisations == 0
        layers[1](x)
    (steps,) = steps_of(run)
    assert (steps.graphs, steps.eager) == (1, [])
    for a, b in zip(layers[0].buffers(), layers[1].buffers(), strict=True):
        np.testing.assert_allclose(a.cpu().numpy(), b.cpu().numpy(), rtol=1e-6)
    batches = np.stack([numbers(5, 3, seed=k) for k in range(4)])
    mean = layers[0].running_mean.cpu().numpy()
    np.testing.assert_allclose(mean, batches.mean((0, 1)), rtol=1e-5, atol=1e-6)


# ------------------------------------------------------------------------------------------------ training
def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2)
    )


TRAININGS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], Callable[..., Any]]] = {
    "adam": (mlp, (5, 3), lambda params: optim.Adam(params, lr=0.1)),
    "momentum": (network, (4, 1, 4, 4), lambda params: optim.SGD(params, lr=0.1, momentum=0.9)),
}


def train(name: str, wrap: Callable[[Any], Any]) -> tuple[list[float], list[np.ndarray]]:
    """Losses and final parameters; the learning rate changes on the way."""
    make, shape, optimizer_of = TRAININGS[name]
    nbdl.manual_seed(0)
    model = make().to("cuda")
    optimizer = optimizer_of(model.parameters())

    def step(x: nbdl.Tensor, y: nbdl.Tensor) -> nbdl.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run, losses = wrap(step), []
    for k in range(5):
        optimizer.param_groups[0]["lr"] = 0.1 / (k + 1)
        y = nbdl.tensor(np.arange(shape[0]) % 2, device="cuda")
        losses.append(float(run(tensor(*shape, seed=k), y)))
    return losses, [x.detach().cpu().numpy() for x in model.state_dict().values()]


@pytest.mark.parametrize("name", TRAININGS)
def test_training_is_that_of_an_eager_run(name: str) -> None:
    for got, expected in zip(train(name, nbdl.compile), train(name, lambda step: step), strict=True):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_numbers_of_the_host_have_the_value_of_their_place_in_the_program() -> None:
    weight = nbdl.zeros(3, device="cuda", requires_grad=True)
    optimizer = optim.Adam([weight], lr=0.1)

    def steps(x: nbdl.Tensor) -> nbdl.Tensor:
        for _ in range(2):  # the count of steps is another one in each
            optimizer.zero_grad()
            (weight * x).sum().backward()
            optimizer.step()
        return weight.detach().clone()

    run = nbdl.compile(steps)
    found = [run(tensor(3, seed=k)).cpu().numpy() for k in range(5)]
    assert steps_of(run)[0].graphs == 1
    weight = nbdl.zeros(3, device="cuda", requires_grad=True)
    optimizer = optim.Adam([weight], lr=0.1)
    for k, expected in enumerate(found):
        np.testing.assert_allclose(steps(tensor(3, seed=k)).cpu().numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_random_programs(seed: int) -> None:
    code = np.random.default_rng(seed).integers(0, 10**6, 6).tolist()
    shape = random_programs.ROWS, random_programs.COLUMNS
    state = [tensor(*shape, seed=9), tensor(*shape, seed=9)]
    run = nbdl.compile(lambda x, y: random_programs.run(code, [x, y], state[0]))
    for k in range(4):
        inputs = tensor(*shape, seed=k), tensor(*shape, seed=k + 10)
        expected = random_programs.run(code, inputs, state[1])
        np.testing.assert_allclose(run(*inputs).cpu().numpy(), expected.cpu().numpy(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(state[0].cpu().numpy(), state[1].cpu().numpy(), rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------------------------- graphs
def pointwise(x: nbdl.Tensor) -> nbdl.Tensor:
    return (x.tanh() * 2).sum(1)


class TestGraphs:
    def test_everything_is_one_graph(self) -> None:
        run = nbdl.compile(pointwise)
        results = [run(tensor(3, 4, seed=k)).cpu().numpy() for k in range(4)]
        (steps,) = steps_of(run)
        assert (steps.graphs, steps.eager) == (1, [])
        for k, result in enumerate(results):
            np.testing.assert_allclose(result, pointwise(tensor(3, 4, seed=k)).cpu().numpy(), rtol=1e-6)

    def test_a_replay_launches_one_graph_and_waits_for_nothing(self, gpu: str) -> None:
        if gpu == "real":
            pytest.skip("the stand-in counts")
        run = nbdl.compile(pointwise)
        x = tensor(3, 4)
        for _ in range(3):
            run(x)
        standin.counters.reset()
        run(x)
        counters = standin.counters
        assert (counters.graphs, counters.launches, counters.synchronisations) == (1, 1, 0)

    def test_what_cannot_be_captured_runs_between_graphs(self, caplog: pytest.LogCaptureFixture) -> None:
        run = nbdl.compile(lambda x: nbdl.linalg.inv(x.tanh() + 4 * nbdl.eye(3, device="cuda")).exp())
        graphs._tell.cache_clear()
        with caplog.at_level(logging.INFO, "nbdl"):
            results = [run(tensor(3, 3, seed=k)).cpu().numpy() for k in range(4)]
        (steps,) = steps_of(run)
        assert steps.graphs == 2
        assert len(steps.eager) == 1
        assert sum("runs outside of the CUDA graphs" in line for line in caplog.messages) == 1
        for k, result in enumerate(results):
            expected = np.exp(np.linalg.inv(np.tanh(numbers(3, 3, seed=k)) + 4 * np.eye(3)))
            np.testing.assert_allclose(result, expected, rtol=1e-4)

    def test_results_of_one_call_outlive_the_next(self) -> None:
        run = nbdl.compile(lambda x: (x + 1, (x * 2).t()))
        results = [run(tensor(2, 3, seed=k)) for k in range(5)]
        for k, (a, b) in enumerate(results):
            x = numbers(2, 3, seed=k)
            np.testing.assert_array_equal(a.cpu().numpy(), x + 1)
            np.testing.assert_array_equal(b.cpu().numpy(), (x * 2).T)

    def test_an_argument_that_is_changed(self) -> None:
        run = nbdl.compile(lambda x: x.add_(1).sum())
        x = nbdl.zeros(3, device="cuda")
        sums = [float(run(x)) for _ in range(4)]
        assert sums == [3, 6, 9, 12]
        assert steps_of(run) == []

    @pytest.mark.parametrize("layout", ["window", "reversed", "broadcast", "F"])
    def test_arguments_of_all_layouts(self, layout: str) -> None:
        from gpu.samples import layouts

        run = nbdl.compile(lambda x: x * 2 + 1)
        for k in range(3):
            x = layouts((3, 4), np.float32, seed=k)[layout]
            np.testing.assert_array_equal(run(nbdl.Tensor(on_device(x))).cpu().numpy(), x * 2 + 1)

    def test_the_backward_pass_of_a_compiled_model(self) -> None:
        nbdl.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to("cuda")
        eager, forward = copy.deepcopy(model), nbdl.compile(model)
        for k in range(4):
            for run in (forward, eager):
                run(tensor(5, 3, seed=k)).square().mean().backward()
        for a, b in zip(model.parameters(), eager.parameters(), strict=True):
            np.testing.assert_allclose(a.grad.cpu().numpy(), b.grad.cpu().numpy(), rtol=1e-5, atol=1e-6)

    def test_streams_that_share_a_program(self) -> None:
        run, results = nbdl.compile(pointwise), []
        streams = [nbdl.cuda.Stream() for _ in range(2)]
        for k in range(6):
            with nbdl.cuda.stream(streams[k % 2]):
                results.append(run(tensor(3, 4, seed=k)))
        nbdl.cuda.synchronize()
        for k, result in enumerate(results):
            np.testing.assert_allclose(result.cpu().numpy(), pointwise(tensor(3, 4, seed=k)).cpu().numpy())

    def test_more_numbers_than_one_launch_takes(self) -> None:
        places = registry.load("cupy").numbers(70)
        values = [np.array(k, dtype) for k, dtype in zip(range(70), itertools.cycle(["f8", "i8", "f4", "?"]))]
        for k, value in enumerate(values):
            places.put(k, value)
        places.send()
        for k, value in enumerate(values):
            assert places.place(k, value.dtype).get() == value

    def test_the_second_device(self) -> None:
        if nbdl.cuda.device_count() < 2:
            pytest.skip("there is one device")
        run = nbdl.compile(pointwise)
        for k in range(4):
            x = tensor(3, 4, seed=k).to("cuda:1")
            result = run(x)
            assert result.device.index == 1
            np.testing.assert_allclose(result.cpu().numpy(), pointwise(x).cpu().numpy(), rtol=1e-6)

    def test_a_copy_to_another_device_is_refused(self) -> None:
        with pytest.raises(
            nbdl.compiler.RecordingError, match=r"a copy to another device was used at .*test_comp"
        ):
            nbdl.compile(lambda x: x.cpu() + 1)(tensor(3))

    def test_tensors_of_two_devices_are_refused(self) -> None:
        if nbdl.cuda.device_count() < 2:
            pytest.skip("there is one device")
        with pytest.raises(
            RuntimeError, match=r"compile: a program works on one device, but .* cuda:0 and cuda:1"
        ):
            nbdl.compile(lambda x, y: (x + 1, y + 1))(tensor(3), tensor(3).to("cuda:1"))

    def test_the_report_and_the_profile(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(report, "_PEAK_ELEMENTS", 1 << 10)
        monkeypatch.setattr(report, "_PEAK_ROWS", 8)
        run = nbdl.compile(pointwise)
        assert "improved on cupy" in str(run.program(tensor(3, 4)))
        assert len(run.profile(tensor(3, 4), runs=1).rows) == 1


# ---------------------------------------------------------------------------------- the stand-in's rules
class TestRules:
    """What a device forbids while a stream is captured is an error on the stand-in too."""

    @pytest.fixture
    def cupy(self, gpu: str) -> Any:
        if gpu == "real":
            pytest.skip("rules of the stand-in")
        import cupy

        return cupy

    @pytest.mark.parametrize(
        ("forbidden", "message"),
        [
            (lambda cupy, x: cupy.empty(3), "default pool"),
            (lambda cupy, x: x.get(), "copy to the host"),
            (lambda cupy, x: float(x.sum()), "default pool"),
            (lambda cupy, x: cupy.matmul(x, x, out=x), "cuBLAS"),
            (lambda cupy, x: cupy.asarray(np.ones(3)), "copy from the host"),
            (lambda cupy, x: cupy.cuda.get_current_stream().synchronize(), "synchronize"),
            (lambda cupy, x: cupy.cuda.Device().synchronize(), "synchronize"),
            (lambda cupy, x: cupy.RawModule(code='extern "C" __global__ void f() {}'), "a module is loaded"),
            (lambda cupy, x: cupy.nonzero(x), "nonzero"),
            (lambda cupy, x: cupy.array([1.0]), "copy from the host"),
            (lambda cupy, x: x[[0, 1]], "copy of an index from the host"),
            (lambda cupy, x: x.__setitem__(np.array([0, 1]), 0), "copy of an index from the host"),
            (lambda cupy, x: cupy.concatenate([x] * 9), "addresses from the host"),
        ],
    )
    def test_forbidden(self, cupy: Any, forbidden: Any, message: str) -> None:
        x, stream = cupy.asarray(np.eye(3)), cupy.cuda.Stream(non_blocking=True)
        with stream:
            stream.begin_capture()
            with pytest.raises((RuntimeError, NotImplementedError), match=message):
                forbidden(cupy, x)
            stream.end_capture()

    def test_the_default_stream_is_not_captured(self, cupy: Any) -> None:
        with pytest.raises(RuntimeError, match="legacy"):
            cupy.cuda.Stream.null.begin_capture()

    def test_a_graph_works_when_it_is_launched_only(self, cupy: Any) -> None:
        x, y, stream = cupy.asarray(np.ones(3)), cupy.zeros(3), cupy.cuda.Stream(non_blocking=True)
        pool = cupy.cuda.MemoryPool()
        with stream, cupy.cuda.using_allocator(pool.malloc):
            stream.begin_capture()
            y[...] = x + 1
            graph = stream.end_capture()
        assert y.get().tolist() == [0, 0, 0]
        graph.launch()
        assert y.get().tolist() == [2, 2, 2]
        x[...] = 5
        graph.launch()
        assert y.get().tolist() == [6, 6, 6]
        pool.free_all_blocks()
        with pytest.raises(RuntimeError, match="memory was freed"):
            graph.launch()


DIRECT = {
    "max_pool2d": lambda x: F.max_pool2d(x, 2, return_indices=True),
    "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 2),
    "avg_pool2d": lambda x: F.avg_pool2d(x, 2),
    "softmax": lambda x: F.softmax(x, 3),
    "unfold": lambda x: F.unfold(x, 3),
    "index": lambda x: x[:, [1, 0]],
    "cat": lambda x: nbdl.cat([x, x], 1),
    "interpolate": lambda x: F.interpolate(x, size=(3, 6)),
    "dropout": lambda x: F.dropout(x, 0.5),
    "layer_norm": lambda x: F.layer_norm(x, (6,), x[0, 0, 0], x[0, 0, 1]),
    "group_norm": lambda x: F.group_norm(x, 2),
    "pad": lambda x: F.pad(x, (1, 2), value=3.0),
    "replicate": lambda x: F.pad(x[0], (1, 2), mode="replicate"),
    "transposed": lambda x: x.transpose(0, 3).contiguous(),
    "cumsum": lambda x: x.cumsum(3),
    "cummax": lambda x: x.cummax(3),
    "argmax": lambda x: x.argmax(1),
    "searchsorted": lambda x: nbdl.searchsorted(nbdl.arange(4.0, device="cuda"), x),
}


@pytest.mark.parametrize("name", DIRECT)
def test_kernels_write_results_where_they_belong(name: str) -> None:
    """Without memory of their own in between, which would be copied."""
    run = nbdl.compile(DIRECT[name])
    for _ in range(3):
        run(tensor(2, 4, 6, 6))
    (steps,) = steps_of(run)
    assert steps.graphs == 1
    assert steps._pool.total_bytes() == 0


@pytest.mark.parametrize("name", ["max_pool2d", "adaptive_max_pool2d", "avg_pool2d", "cat"])
def test_channels_stay_last_there(name: str) -> None:
    run = nbdl.compile(DIRECT[name])
    x = tensor(2, 4, 6, 6).contiguous(memory_format=nbdl.channels_last)
    for _ in range(3):
        results = run(x)
    y = results[0] if isinstance(results, tuple) else results
    assert y.is_contiguous(memory_format=nbdl.channels_last)
    expected = DIRECT[name](x)
    np.testing.assert_array_equal(
        y.cpu().numpy(), (expected[0] if isinstance(results, tuple) else expected).cpu().numpy()
    )
    (steps,) = steps_of(run)
    assert steps._pool.total_bytes() == 0

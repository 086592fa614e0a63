"""Summary, FLOPs, the profiler, timing."""

from __future__ import annotations

import json
import time

import pytest

import nbdl
from nbdl import nn
from nbdl.profiler import profile
from nbdl.utils import bench, compare, summary
from nbdl.utils.flops import flops
from nbdl.utils.observer import observing
from nbdl.utils.text import as_table, with_unit


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 10)
    )


def test_summary(backend):
    model = convolutional()
    model[1].training = False
    found = summary(model, nbdl.ones(4, 2, 6, 6))
    assert [(layer.name, layer.kind, layer.depth) for layer in found.layers] == [
        ("", "Sequential", 0), ("0", "Conv2d", 1), ("1", "ReLU", 1), ("2", "Flatten", 1), ("3", "Linear", 1),
    ]  # fmt: skip
    assert [layer.output_shapes for layer in found.layers] == [
        [(4, 10)], [(4, 8, 6, 6)], [(4, 8, 6, 6)], [(4, 288)], [(4, 10)],
    ]  # fmt: skip
    assert [layer.parameters for layer in found.layers] == [0, 8 * 9 + 8, 0, 0, 2890]
    convolution, linear = 2 * 4 * 8 * 36 * 9, 2 * 4 * 288 * 10
    assert [layer.flops for layer in found.layers] == [convolution + linear, convolution, 0, 0, linear]
    assert found.flops == convolution + linear
    assert (found.parameters, found.trainable, found.parameter_bytes) == (2970, 2970, 4 * 2970)
    assert (found.input_bytes, found.output_bytes) == (4 * 288, 4 * 4 * (3 * 288 + 10))
    assert "Conv2d 0" in str(found)
    assert "2,970" in str(found)
    assert model.training
    assert not model[1].training
    assert all(module._hooks is None or not module._hooks.forward for module in model.modules())


def test_summary_of_what_is_used_twice_and_frozen():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3, bias=False).requires_grad_(False)
            self.norm = nn.BatchNorm1d(3)

        def forward(self, x, scale=1.0):
            return {"a": self.inner(self.inner(x)) * scale, "b": (self.norm(x), None)}

    model = Twice()
    found = summary(model, nbdl.ones(2, 3), scale=nbdl.ones(()))
    assert [layer.name for layer in found.layers] == ["", "inner", "inner", "norm"]
    assert found.layers[0].output_shapes == [(2, 3), (2, 3)]
    assert (found.parameters, found.trainable) == (15, 6)
    assert found.flops == 2 * 2 * 2 * 9
    assert model.norm.num_batches_tracked.item() == 0
    with pytest.raises(RuntimeError):
        summary(model, nbdl.ones(2, 4))
    assert model.training


def test_summary_of_modules_whose_parts_are_not_called():
    x = nbdl.ones(2, 5, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)  # reads the parameters of its out_proj
    found = summary(attention, x, x, x)
    assert [layer.name for layer in found.layers] == [""]
    assert found.layers[0].parameters == found.parameters == 4 * (8 * 8 + 8)
    assert found.output_bytes == 4 * (2 * 5 * 8 + 2 * 5 * 5)
    projections, scores = (
        4 * 2 * 10 * 8 * 8,
        2 * 2 * 2 * 2 * 5 * 5 * 4,
    )  # by two heads
    assert found.flops == projections + scores


def test_only_modules_have_a_summary():
    with pytest.raises(TypeError, match="summary: model must be a module, got function"):
        summary(lambda x: x, nbdl.ones(2))


def counted(function):
    total = 0

    def add(call):
        nonlocal total
        total += flops(call)

    with observing(add):
        function()
    return total


def leaf(*shape):
    return nbdl.ones(*shape, requires_grad=True)


q, k, v = leaf(2, 3, 5, 4), leaf(2, 3, 7, 4), leaf(2, 3, 7, 6)
PRODUCTS = [
    ("matmul", lambda: leaf(3, 4) @ leaf(4, 5), 2 * 60, 3),
    ("batches", lambda: leaf(6, 3, 4) @ leaf(4, 5), 2 * 6 * 60, 3),
    ("linear", lambda: nn.functional.linear(leaf(3, 4), leaf(5, 4), leaf(5)), 2 * 60, 3),
    ("conv", lambda: nn.functional.conv2d(leaf(2, 4, 6, 6), leaf(8, 2, 3, 3), groups=2), 2 * 256 * 18, 3),
    ("transposed", lambda: nn.functional.conv_transpose1d(leaf(2, 3, 5), leaf(3, 4, 2)), 2 * 30 * 8, 3),
    ("attention", lambda: nn.functional.scaled_dot_product_attention(q, k, v), 2 * 6 * 35 * 10, 3.5),
    ("pointwise", lambda: leaf(3, 4) * leaf(3, 4), 0, 1),
]


@pytest.mark.parametrize(
    ("name", "function", "forward", "factor"), PRODUCTS, ids=[row[0] for row in PRODUCTS]
)
def test_flops(name, function, forward, factor, backend):
    assert counted(function) == forward
    assert counted(lambda: function().sum().backward()) == forward * factor


def test_flops_of_recurrent_layers(backend):
    layer, x = nn.LSTM(3, 5), nbdl.ones(7, 2, 3)
    assert counted(lambda: layer(x)) == 2 * 7 * 2 * 20 * (3 + 5)


def test_profile_of_a_training_step(backend, tmp_path):
    model = convolutional()
    optimizer = nbdl.optim.Adam(model.parameters())
    x = nbdl.ones(4, 2, 6, 6)
    with profile() as found:
        loss = model(x).square().mean()
        loss.backward()
        optimizer.step()
    rows = {row.name: row for row in found.by_operation()}
    assert rows["convolution"].calls == 1
    assert rows["convolution_weight"].flops == 2 * 4 * 8 * 36 * 9
    assert sum(row.calls for row in rows.values()) == len(found.events)
    times = [row.seconds for row in found.by_operation()]
    assert times == sorted(times, reverse=True)
    assert 0 < sum(times) <= found.seconds
    lines = found.by_line()
    assert all("test_observers.py:" in row.name for row in lines)
    assert len(lines) == 3
    assert all(a.start <= b.start for a, b in zip(found.events, found.events[1:], strict=False))
    for by in ("operation", "line"):
        assert "% " in found.table(by)
    assert len(found.table(limit=2).splitlines()) == 2 + 2 + 1
    with pytest.raises(ValueError, match="got 'module'"):
        found.table("module")
    found.export_chrome_trace(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert [event["name"] for event in trace if event["ph"] == "X"] == [event.name for event in found.events]
    assert [event["args"]["bytes"] for event in trace if event["ph"] == "C"] == [
        event.memory for event in found.events
    ]
    n = len(found.events)
    model(x)
    assert len(found.events) == n


def test_memory_high_water_mark(backend):
    x = nbdl.ones(1000, dtype=nbdl.float64)
    with profile() as found:
        a = x + 1
        b = (a * 2)[10:]
        c = b.reshape(-1, 10)
        del a
        d = x - 1
        d += c.sum()
        del b, c
        d = d * 3
        del d
    # The views cost nothing, the sum has 8 bytes.
    assert [event.memory for event in found.events] == [8000, 16000, 16000, 16008, 16008, 16000]
    assert found.peak_memory == 16008
    assert found._memory.live == 0


def test_the_profiler_ends_with_its_block():
    inside = nbdl.compile(lambda x: (x * 2).exp())
    x = nbdl.ones(3)
    found = profile()

    def fail():
        with found:
            inside(x)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    n = len(found.events)
    assert n
    inside(nbdl.ones(3))
    inside(nbdl.ones(5))
    assert len(found.events) == n

    def with_a_profile(x):
        with profile():
            return x + 1

    with pytest.raises(RuntimeError, match="a profiler or a summary"):
        nbdl.compile(with_a_profile)(x)


def test_bench():
    calls = []

    def work(seconds, label=None):
        calls.append(label)
        time.sleep(seconds)

    timing = bench(work, 0.002, label="x", seconds=0.02)
    assert timing.name == "work"
    assert set(calls) == {"x"}
    assert len(timing.samples) >= 5
    assert 0.002 <= timing.minimum <= timing.median
    assert f"work: {with_unit(timing.median, 's')}" in str(timing)
    fast, slow = compare({"fast": lambda: None, "slow": lambda: time.sleep(0.003)}, seconds=0.01)
    assert (fast.name, slow.name) == ("fast", "slow")
    assert len(fast.samples) == len(slow.samples)
    assert slow.minimum >= 0.003
    assert fast.loops > slow.loops == 1
    with pytest.raises(ValueError, match="must be positive, got 0"):
        bench(work, seconds=0)


def test_text():
    units = [(0, "0 s"), (1e-9, "1 ns"), (2.5e-5, "25 us"), (0.5, "500 ms"), (1, "1 s"), (999.6, "1 ks")]
    assert [with_unit(value, "s") for value, _ in units] == [text for _, text in units]
    assert as_table(("a", "bb"), [("xyz", "1")]).splitlines() == ["a    bb", "-------", "xyz   1"]

"""Saving tensors of a GPU, loading them there and elsewhere, and looking on while it computes."""

from __future__ import annotations

import io

import pytest

import nbdl
from nbdl.profiler import profile
from nbdl.utils import bench

pytestmark = pytest.mark.usefixtures("gpu")


def test_tensors_go_back_to_their_device():
    x = nbdl.arange(6, dtype=nbdl.float32).reshape(2, 3)
    assert x.device.type == "cuda"
    file = io.BytesIO()
    nbdl.save({"x": x, "same": x.detach(), "host": x.cpu()}, file)
    for location, device in ((None, "cuda"), ("cpu", "cpu"), ({"cuda:0": "cpu"}, "cpu")):
        found = nbdl.load(file, map_location=location)
        assert found["x"].device.type == found["same"].device.type == device
        assert found["host"].device.type == "cpu"
        assert found["x"].data_ptr() == found["same"].data_ptr()
        assert found["x"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    nbdl.save(x.cpu(), file := io.BytesIO())
    assert nbdl.load(file, map_location="cuda").device.type == "cuda"


def test_the_profiler_waits_for_results():
    x = nbdl.ones(64, dtype=nbdl.float32)
    with profile() as found:
        y = x + x
    (row,) = found.by_operation()
    assert (row.name, row.calls) == ("add", 1)
    assert found.peak_memory == 256
    assert y.sum().item() == 128.0
    assert bench(lambda: x + x, seconds=0.001).minimum > 0

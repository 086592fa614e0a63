"""Memory that others use as well: other libraries by DLPack, other streams by record_stream."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from gpu import standin, standin_device

import nbdl
from nbdl.backend.cupy import lending

pytestmark = pytest.mark.usefixtures("gpu")


class Foreign:
    """A tensor of another library, which notes what it is asked for."""

    def __init__(self, tensor: nbdl.Tensor):
        self._tensor, self.asked = tensor, {}

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._tensor.__dlpack_device__()

    def __dlpack__(self, **kwargs: Any) -> Any:
        self.asked = kwargs
        return self._tensor.__dlpack__(**kwargs)


DTYPES = ["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool", "complex64"]


class TestDLPack:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_same_memory(self, dtype):
        x = nbdl.arange(6, device="cuda").reshape(2, 3).to(getattr(nbdl, dtype)).t()
        y = nbdl.from_dlpack(Foreign(x))
        assert (y.dtype, y.shape, y.stride(), y.device) == (x.dtype, x.shape, x.stride(), x.device)
        y.zero_()
        assert x.cpu().tolist() == nbdl.zeros(3, 2, dtype=x.dtype, device="cpu").tolist()

    def test_the_memory_outlives_its_tensor(self):
        x = nbdl.arange(1000.0, device="cuda")
        before = nbdl.cuda.memory_allocated()
        y = nbdl.from_dlpack(Foreign(x))
        del x
        gc.collect()
        assert nbdl.cuda.memory_allocated() == before
        np.testing.assert_array_equal(y.cpu().numpy(), np.arange(1000))
        del y
        gc.collect()
        assert nbdl.cuda.memory_allocated() < before

    def test_the_reader_says_its_stream(self):
        """So that the other library lets it wait for what is not done yet."""
        side, source = nbdl.cuda.Stream(), Foreign(nbdl.ones(3, device="cuda"))
        nbdl.from_dlpack(source)
        assert source.asked["stream"] == 1  # CUDA's default stream
        assert source.asked["max_version"][0] >= 1
        with side:
            nbdl.from_dlpack(source)
        assert source.asked["stream"] == side.cuda_stream

    def test_the_stream_of_the_reader_reaches_cupy(self, gpu):
        if gpu != "standin":
            pytest.skip("the stand-in notes it")
        x = nbdl.ones(3, device="cuda")
        standin.counters.reset()
        for stream in (None, -1, 1, 2, 12345):
            x.__dlpack__(stream=stream)
        assert standin.counters.shared_with == [None, -1, 1, 2, 12345]
        with pytest.raises(ValueError, match="valid stream"):
            x.__dlpack__(stream=0)

    def test_a_capsule(self):
        x = nbdl.arange(3.0, device="cuda")
        capsule = nbdl.to_dlpack(x)
        y = nbdl.from_dlpack(capsule)
        y += 1
        assert x.tolist() == [1, 2, 3]
        with pytest.raises(RuntimeError, match=r"from_dlpack: expected a capsule .* nobody has taken yet"):
            nbdl.from_dlpack(capsule)

    def test_to_another_place(self):
        x = nbdl.arange(3.0, device="cuda")
        y = nbdl.from_dlpack(Foreign(x), device="cpu")
        assert (y.device.type, y.tolist()) == ("cpu", [0, 1, 2])
        assert nbdl.from_dlpack(np.ones(2), device="cuda").device.type == "cuda"
        with pytest.raises(BufferError, match="from_dlpack: memory of cuda:0 is not on cpu; copy=None"):
            nbdl.from_dlpack(Foreign(x), device="cpu", copy=False)
        copy = nbdl.from_dlpack(Foreign(x), copy=True)
        copy += 1
        assert x.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(np.from_dlpack(_OnHost(x)), [0, 1, 2])

    def test_what_is_not_shared(self):
        with pytest.raises(BufferError, match="requires gradient"):
            nbdl.ones(2, device="cuda", requires_grad=True).__dlpack__()
        with pytest.raises(BufferError):
            nbdl.ones(2, device="cuda").__dlpack__(dl_device=(2, 99))


class _OnHost:
    """A tensor of the GPU, as a library reads it that has none."""

    def __init__(self, tensor: nbdl.Tensor):
        self._tensor = tensor

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._tensor.__dlpack__(**{**kwargs, "dl_device": (1, 0), "copy": None})


class TestRecordStream:
    def test_the_memory_waits_for_the_stream(self, gpu, monkeypatch):
        """Memory of a tensor that is gone comes back when the other stream has done what it was given."""
        if gpu != "standin":
            pytest.skip("what a stream has done is not to be steered")
        reached = False
        monkeypatch.setattr(standin_device.Event, "done", property(lambda event: reached))
        side, x = nbdl.cuda.Stream(), nbdl.ones(1000, device="cuda")
        before = nbdl.cuda.memory_allocated()
        view = x[1:]
        with side:
            y = view + 1
        view.record_stream(side)
        del x, view
        gc.collect()
        assert nbdl.cuda.memory_allocated() == before + y.nbytes + (-y.nbytes) % 512
        reached = True
        assert nbdl.cuda.memory_allocated() == before  # that of y
        assert y.sum().item() == 2 * 999

    def test_an_empty_cache_takes_it_back(self, gpu):
        x = nbdl.ones(1000, device="cuda")
        x.record_stream(nbdl.cuda.Stream())
        del x
        gc.collect()
        nbdl.cuda.synchronize()
        nbdl.cuda.empty_cache()
        assert lending._lent == []

    def test_on_the_second_device(self):
        if nbdl.cuda.device_count() < 2:
            pytest.skip("there is one GPU")
        x = nbdl.ones(3, device="cuda:1")
        with pytest.raises(RuntimeError, match=r"the tensor is on cuda:1, the stream works on cuda:0"):
            x.record_stream(nbdl.cuda.Stream("cuda:0"))
        x.record_stream(nbdl.cuda.Stream("cuda:1"))
        del x
        gc.collect()
        assert len(lending._lent) == 1
        nbdl.cuda.empty_cache()

    def test_mistakes(self):
        with pytest.raises(NotImplementedError, match="a tensor on the CPU is used by no streams"):
            nbdl.ones(2, device="cpu").record_stream(nbdl.cuda.Stream())
        with pytest.raises(TypeError, match=r"record_stream: stream must be an nbdl.cuda.Stream, got int"):
            nbdl.ones(2, device="cuda").record_stream(3)

"""Arrays shared with PyTorch and JAX by DLPack, both ways: the same memory, no copy."""

from __future__ import annotations

import numpy as np
import pytest

import nbdl

DTYPES = ["float32", "float64", "int64", "int32", "uint8", "float16", "complex64"]


def example(dtype: str) -> np.ndarray:
    return np.arange(12).reshape(3, 4).astype(dtype)


def address(x: nbdl.Tensor) -> int:
    return x.array.__array_interface__["data"][0]


@pytest.mark.torch
class TestPyTorch:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_from_pytorch(self, dtype):
        torch = pytest.importorskip("torch")
        theirs = torch.from_numpy(example(dtype)).t()
        ours = nbdl.from_dlpack(theirs)
        assert address(ours) == theirs.data_ptr()
        np.testing.assert_array_equal(ours.numpy(), example(dtype).T)
        ours[0, 1] = 100
        assert theirs[0, 1] == 100

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_to_pytorch(self, dtype):
        torch = pytest.importorskip("torch")
        ours = nbdl.tensor(example(dtype)).t()
        theirs = torch.from_dlpack(ours)
        assert address(ours) == theirs.data_ptr()
        theirs[0, 1] = 100
        assert ours[0, 1].item() == 100

    def test_what_requires_gradients_is_detached_first(self):
        torch = pytest.importorskip("torch")
        x = nbdl.ones(3, requires_grad=True)
        with pytest.raises(BufferError, match=r"requires gradient; use tensor\.detach"):
            torch.from_dlpack(x)
        assert torch.from_dlpack(x.detach()).data_ptr() == address(x)


class TestJax:
    @pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "float16", "complex64"])
    def test_from_jax(self, dtype):
        jax = pytest.importorskip("jax")
        theirs = jax.numpy.asarray(example(dtype))
        ours = nbdl.from_dlpack(theirs)
        assert address(ours) == theirs.unsafe_buffer_pointer()
        np.testing.assert_array_equal((ours + 1).numpy(), example(dtype) + 1)

    @pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "float16", "complex64"])
    def test_to_jax(self, dtype):
        jax = pytest.importorskip("jax")
        data = example(dtype)
        room = np.zeros(data.nbytes + 64, np.uint8)
        start = -room.ctypes.data % 64  # JAX copies what does not begin at a multiple of 64 bytes
        ours = nbdl.from_numpy(room[start : start + data.nbytes].view(dtype).reshape(data.shape))
        ours[...] = nbdl.tensor(data)
        theirs = jax.dlpack.from_dlpack(ours, copy=False)
        assert theirs.unsafe_buffer_pointer() == address(ours)
        np.testing.assert_array_equal(np.asarray(theirs), example(dtype))

    @pytest.mark.parametrize("backend", ["numpy", "numba"])
    def test_arrays_of_jax_are_not_written_to(self, backend):
        jax = pytest.importorskip("jax")
        theirs = jax.numpy.ones(4)
        with nbdl.use_backend(backend):
            ours = nbdl.from_dlpack(theirs)
            with pytest.raises((RuntimeError, ValueError), match="read-only"):
                ours.add_(1)
            with pytest.raises((RuntimeError, ValueError), match="read-only"):
                ours[1:] = 5
        assert theirs.sum() == 4


class TestProtocol:
    @pytest.mark.torch
    def test_bfloat16(self):
        """NumPy does not share it; PyTorch and JAX do."""
        torch = pytest.importorskip("torch")
        theirs = torch.arange(6.0, dtype=torch.bfloat16).reshape(2, 3).t()
        ours = nbdl.from_dlpack(theirs)
        ours += 1
        assert (ours.dtype, ours.stride()) == (nbdl.bfloat16, theirs.stride())
        assert theirs.tolist() == ours.tolist() == [[1, 4], [2, 5], [3, 6]]
        back = torch.from_dlpack(ours)
        assert (back.dtype, back.data_ptr()) == (torch.bfloat16, theirs.data_ptr())
        jax = pytest.importorskip("jax")
        assert nbdl.from_dlpack(jax.numpy.ones(3, jax.numpy.bfloat16)).tolist() == [1, 1, 1]
        assert jax.numpy.from_dlpack(nbdl.ones(3, dtype=nbdl.bfloat16)).dtype == jax.numpy.bfloat16

    @pytest.mark.torch
    def test_capsules_are_taken_once(self):
        torch = pytest.importorskip("torch")
        capsule = torch.utils.dlpack.to_dlpack(torch.arange(3))
        assert nbdl.from_dlpack(capsule).tolist() == [0, 1, 2]
        with pytest.raises(RuntimeError, match="from_dlpack: expected a capsule with a tensor that nobody"):
            nbdl.from_dlpack(capsule)
        assert torch.from_dlpack(nbdl.to_dlpack(nbdl.arange(3))).tolist() == [0, 1, 2]

    @pytest.mark.torch
    def test_negative_strides_are_refused(self):
        """PyTorch ends the process where it meets some."""
        torch = pytest.importorskip("torch")
        x = nbdl.from_numpy(np.arange(4.0)[::-1])
        with pytest.raises(BufferError, match=r"negative strides \(-8,\) is not shared; use .*contiguous"):
            torch.from_dlpack(x)
        assert torch.from_dlpack(x.contiguous()).tolist() == [3, 2, 1, 0]

    def test_copies_and_devices(self):
        array = np.arange(3.0)
        shared, copied = nbdl.from_dlpack(array, device="cpu"), nbdl.from_dlpack(array, copy=True)
        array[0] = 5
        assert (shared.tolist(), copied.tolist()) == ([5, 1, 2], [0, 1, 2])

    def test_arguments_of_the_protocol(self):
        x = nbdl.ones(3)
        for stream in (None, -1):
            assert "dltensor" in repr(x.__dlpack__(stream=stream))
        assert "dltensor_versioned" in repr(x.__dlpack__(max_version=(1, 1), dl_device=(1, 0)))
        copied = x.__dlpack__(copy=True, max_version=(1, 0))
        nbdl.from_dlpack(copied).zero_()
        assert x.tolist() == [1, 1, 1]
        with pytest.raises(BufferError):
            x.__dlpack__(dl_device=(2, 0))

    def test_memory_that_is_read_only_stays_so(self):
        array = np.arange(3.0)
        array.flags.writeable = False
        x = nbdl.from_dlpack(array)
        with pytest.raises((RuntimeError, ValueError), match="read-only"):
            x.add_(1)
        assert not np.from_dlpack(x).flags.writeable
        with pytest.raises(BufferError):
            x.__dlpack__()  # the first version of the protocol cannot say it

    @pytest.mark.torch
    def test_mistakes(self):
        torch = pytest.importorskip("torch")
        with pytest.raises(TypeError, match=r"expected an object with __dlpack__ .* capsule, got int"):
            nbdl.from_dlpack(3)
        with pytest.raises(RuntimeError, match=r"share the memory of torch\.Tensor: Unsupported dtype"):
            nbdl.from_dlpack(torch.ones(3).to(torch.float8_e4m3fn))
        with pytest.raises(NotImplementedError, match="record_stream: a tensor on the CPU"):
            nbdl.ones(3).record_stream(None)

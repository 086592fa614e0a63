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

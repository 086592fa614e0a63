"""Operations of one's own on the GPU: the kernel of the example, and what cuda_kernel refuses."""

from __future__ import annotations

import custom_op
import numpy as np
import pytest
from gpu import nvrtc

import nbdl
from nbdl.autograd import cuda_kernel


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 5), (2, 4, 130), (0, 3, 2)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_kernel_of_the_example(shape, dtype, gpu, order):
    random = np.random.default_rng(0)
    x, a = random.normal(size=shape).astype(dtype), random.uniform(size=shape[2]).astype(dtype)
    operands = [nbdl.tensor(value, requires_grad=True) for value in (x, a)]
    result = custom_op.linear_recurrence(*operands)
    expected = np.empty_like(x)
    custom_op.numpy_kernel(x, a, expected)
    assert result.dtype == dtype
    np.testing.assert_allclose(result.detach().cpu().numpy(), expected, rtol=1e-5)
    weights = random.normal(size=shape).astype(dtype)
    found = nbdl.autograd.grad((result * nbdl.tensor(weights)).sum(), operands)
    with nbdl.use_backend("numpy"):
        twins = [nbdl.tensor(value, requires_grad=True) for value in (x, a)]
        wanted = nbdl.autograd.grad((custom_op.linear_recurrence(*twins) * nbdl.tensor(weights)).sum(), twins)
    for ours, theirs in zip(found, wanted):
        np.testing.assert_allclose(ours.cpu().numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not nvrtc.toolkits(), reason=f"NVRTC is not installed: {nvrtc.REMEDY}")
@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
def test_the_kernel_of_the_example_compiles(architecture):
    for toolkit in nvrtc.toolkits():
        for real in ("float", "double"):
            source = f"#define REAL {real}\n{custom_op.CUDA_SOURCE}"
            assert not nvrtc.compile_source(toolkit, source, architecture).spills


def test_types_and_parameters_of_kernels(gpu):
    source = """
    extern "C" __global__ void scaled(const REAL* x, REAL* out, long long threads, long long factor) {
        const long long i = blockIdx.x * (long long) blockDim.x + threadIdx.x;
        if (i < threads) out[i] = factor * x[i];
    }"""
    op = nbdl.autograd.custom_op(
        "scaled",
        numpy=lambda x, out, factor: np.multiply(x, factor, out=out),
        cupy=cuda_kernel(source, "scaled", lambda x, out, factor: (x.size, factor), block=32),
    )
    for dtype in ("float32", "float64", "int32", "int64"):
        assert op(nbdl.arange(40).to(getattr(nbdl, dtype)), factor=3).tolist() == list(range(0, 120, 3))
    with pytest.raises(TypeError, match="scaled: cuda_kernel has no type for bool, only for float32"):
        op(nbdl.ones(3, dtype=nbdl.bool), factor=3)

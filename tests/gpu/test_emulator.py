"""The emulator runs right kernels right, and catches what planted faults do."""

from __future__ import annotations

import numpy as np
import pytest
from gpu import emulator
from gpu.emulator import KernelError, Module

reason = emulator.missing_reason()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

RIGHT = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>

// Every block reverses its part of x.
extern "C" __global__ void reverse(const float* x, float* y) {
    __shared__ float tile[64];
    const int first = blockIdx.x * 64;
    tile[threadIdx.x] = x[first + threadIdx.x];
    __syncthreads();
    y[first + threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void warp_sums(const float* x, float* sums) {
    float v = x[blockIdx.x * blockDim.x + threadIdx.x];
    for (int distance = 16; distance; distance /= 2) v += __shfl_down_sync(0xffffffffu, v, distance);
    if (threadIdx.x % 32 == 0) atomicAdd(&sums[blockIdx.x], v);
}
extern "C" __global__ void dynamic_reverse(const float* x, float* y) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = tile[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void indices(int* at) {
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    at[block * 24 + thread] = blockIdx.z * 100 + threadIdx.z * 10 + threadIdx.y;
}
extern "C" __global__ void ballots(unsigned* out) {
    out[threadIdx.x] = __ballot_sync(0xffffffffu, threadIdx.x % 3 == 0);
}
extern "C" __global__ void halves(const float* x, __half* h, __nv_bfloat16* b, int n) {
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        h[i] = __float2half_rn(x[i]);
        b[i] = __float2bfloat16_rn(x[i]);
    }
}
"""

FAULTS = r"""
extern "C" __global__ void missing_barrier(float* x) {
    __shared__ float tile[64];
    tile[threadIdx.x] = x[threadIdx.x];  // line 4
    x[threadIdx.x] = tile[63 - threadIdx.x];
}
extern "C" __global__ void divergent_barrier(float* x) {
    if (threadIdx.x < 16) __syncthreads();  // line 8
    x[threadIdx.x] = 1;
}
extern "C" __global__ void two_barriers(float* x) {
    if (threadIdx.x % 2) __syncthreads();
    else __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void race_between_blocks(float* x) {
    x[threadIdx.x] += 1;  // line 17
}
extern "C" __global__ void race_in_a_block(float* x) {
    x[threadIdx.x / 2] = threadIdx.x;  // line 20
}
extern "C" __global__ void beyond_shared(float* x, int n) {
    __shared__ float tile[64];
    tile[threadIdx.x + n] = 1;  // line 24
    __syncthreads();
    x[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void beyond_dynamic(float* x) {
    extern __shared__ float tile[];
    tile[threadIdx.x] = 1;  // line 30
    x[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void partial_shuffle(float* x) {
    if (threadIdx.x < 20) x[threadIdx.x] = __shfl_down_sync(0xffffffffu, x[threadIdx.x], 1);
}
extern "C" __global__ void outside_own_mask(float* x) {
    x[threadIdx.x] = __shfl_sync(0xffffu, 1.0f, 0);
}
struct alignas(16) Four { float x, y, z, w; };
extern "C" __global__ void misaligned(float* x) {
    *(Four*)(x + 1) = Four{1, 2, 3, 4};  // line 41
}
extern "C" __global__ void division(int* x, int n) { x[0] = 5 / n; }  // line 43
extern "C" __global__ void wild(float* x) { x[(long long)1 << 40] = 1; }  // line 44
extern "C" __global__ void endless(volatile float* x) { while (x[0] >= 0) {} }
extern "C" __global__ void uninitialised(float* x) {
    __shared__ float tile[64];
    if (threadIdx.x == 0) tile[0] = 1;
    __syncthreads();
    x[threadIdx.x] = tile[threadIdx.x];
}
extern "C" __global__ void numbers(float* x, float a, int n) { x[0] = a * n; }
"""


@pytest.fixture(scope="module")
def right() -> Module:
    return Module(RIGHT)


@pytest.fixture(scope="module")
def faults() -> Module:
    return Module(FAULTS)


def random(n: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(n).astype(np.float32)


@pytest.mark.usefixtures("order")
class TestRightKernels:
    def test_shared_memory(self, right):
        x = random(192)
        y = np.zeros_like(x)
        right.get_function("reverse")((3,), (64,), (x, y))
        np.testing.assert_array_equal(y, x.reshape(3, 64)[:, ::-1].ravel())

    def test_dynamic_shared_memory(self, right):
        x = random(50)
        y = np.zeros_like(x)
        right.get_function("dynamic_reverse")((1,), (50,), (x, y), shared_mem=200)
        np.testing.assert_array_equal(y, x[::-1])

    def test_shuffles_and_atomics(self, right):
        x, sums = random(192), np.zeros(2, np.float32)
        right.get_function("warp_sums")((2,), (96,), (x, sums))
        np.testing.assert_allclose(sums, x.reshape(2, 96).sum(1), rtol=1e-5)

    def test_ballot(self, right):
        out = np.zeros(32, np.uint32)
        right.get_function("ballots")((1,), (32,), (out,))
        np.testing.assert_array_equal(out, sum(1 << k for k in range(0, 32, 3)))

    def test_indices(self, right):
        at = np.full(24 * 8, -1, np.int32)
        right.get_function("indices")((2, 2, 2), (2, 3, 4), (at,))
        block, z, y, _ = np.indices((8, 4, 3, 2))
        np.testing.assert_array_equal(at, (block // 4 * 100 + z * 10 + y).ravel())

    def test_halves_round_to_even(self, right):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="bfloat16 arrays need ml_dtypes")
        special = [np.inf, -np.inf, np.nan, 0.0, -0.0, 65520.0, 1e-7]
        x = np.concatenate([random(500) * 100, np.array(special, np.float32)])
        h, b = np.zeros(x.size, np.float16), np.zeros(x.size, ml_dtypes.bfloat16)
        right.get_function("halves")((1,), (64,), (x, h, b, np.int32(x.size)))
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(h, x.astype(np.float16))
        np.testing.assert_array_equal(b.astype(np.float32), x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize(
    ("name", "arguments", "grid", "block", "shared", "message"),
    [
        ("missing_barrier", (), 1, 64, 0, r"data race with thread \d+ of block 0, .* \(line [45]\)"),
        ("divergent_barrier", (), 1, 32, 0, r"cannot go on: .*waits at __syncthreads in line 8"),
        ("two_barriers", (), 1, 32, 0, "cannot go on"),
        ("race_between_blocks", (), 2, 32, 0, r"data race with thread 0 of block 0, .* \(line 17\)"),
        ("race_in_a_block", (), 1, 64, 0, r"data race .* \(line 20\)"),
        ("beyond_shared", (np.int32(1),), 1, 64, 0, "line 24: index outside its array"),
        ("beyond_dynamic", (), 1, 64, 128, r"illegal memory access .* \(line 30\)"),
        ("partial_shuffle", (), 1, 32, 0, "which has exited|cannot go on"),
        ("outside_own_mask", (), 1, 32, 0, "the lane is not in its own mask 0x0000ffff"),
        ("misaligned", (), 1, 1, 0, "line 41: misaligned"),
        ("division", (np.int32(0),), 1, 1, 0, "line 43: integer division by zero"),
        ("wild", (), 1, 1, 0, r"illegal memory access .* \(line 44\)"),
        ("numbers", (2.0, np.int32(1)), 1, 1, 0, "argument 1 is float64, the parameter is f4"),
        ("numbers", (np.float32(2), 1), 1, 1, 0, "argument 2 is int64, the parameter is i4"),
        ("numbers", (np.float32(2),), 1, 1, 0, "takes 3 arguments but 2 were given"),
        ("numbers", (np.float32(2), np.int32(1)), 1, 2000, 0, "1 to 1024 threads a block"),
        ("numbers", (np.float32(2), np.int32(1)), 0, 1, 0, "invalid configuration: the grid"),
    ],
)
def test_faults_are_reported(faults, name, arguments, grid, block, shared, message):
    x = np.ones(256, np.int32 if name == "division" else np.float32)
    with pytest.raises(KernelError, match=message):
        faults.get_function(name)((grid,), (block,), (x, *arguments), shared_mem=shared)


def test_kernels_run_after_a_fault(faults, right):
    with pytest.raises(KernelError):
        faults.get_function("wild")((1,), (1,), (np.ones(4, np.float32),))
    x = random(64)
    y = np.zeros_like(x)
    right.get_function("reverse")((1,), (64,), (x, y))
    np.testing.assert_array_equal(y, x[::-1])


def test_uninitialised_shared_memory_is_nan(faults):
    x = np.ones(64, np.float32)
    faults.get_function("uninitialised")((1,), (64,), (x,))
    assert x[0] == 1 and np.isnan(x[1:]).all()


def test_an_endless_kernel_is_ended(faults, monkeypatch):
    monkeypatch.setattr(emulator.Kernel, "seconds", 1)
    with pytest.raises(KernelError, match="did not end within 1 seconds"):
        faults.get_function("endless")((1,), (1,), (np.ones(1, np.float32),))


def test_an_array_of_another_element_size_is_refused(faults):
    with pytest.raises(KernelError, match="argument 0 is an array of float64, the parameter is p4"):
        faults.get_function("wild")((1,), (1,), (np.ones(4),))


def test_what_does_not_compile_is_reported_with_its_line():
    with pytest.raises(KernelError, match=r"kernel.cpp:2:.*'?undefined'?"):
        Module('extern "C" __global__ void f(float* x) {\n    x[0] = undefined(1);\n}\n')

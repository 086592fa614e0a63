// The part of CUDA's header that kernels use: bfloat16 as a type of memory, converted with rounding to nearest even.
// cuda_cpu.h comes first.
#pragma once

struct __nv_bfloat16 { unsigned short bits; };

inline float __bfloat162float(__nv_bfloat16 x) { return cuda_cpu_bits<float>(uint32_t(x.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
    const uint32_t bits = cuda_cpu_bits<uint32_t>(x);
    if (x != x) return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

// The part of CUDA's header that kernels use: float16 as a type of memory, converted with rounding to nearest even.
// cuda_cpu.h comes first.
#pragma once

struct __half { unsigned short bits; };

inline float __half2float(__half x) { return float(cuda_cpu_bits<_Float16>(x.bits)); }
inline __half __float2half_rn(float x) { return {cuda_cpu_bits<unsigned short>(_Float16(x))}; }
inline __half __double2half(double x) { return {cuda_cpu_bits<unsigned short>(_Float16(x))}; }

// CUDA C++ on the CPU: what a kernel sees when a C++ compiler reads it.
//
// The threads of a block are fibres on one thread of the operating system (cuda_cpu.cpp), so barriers, shuffles,
// shared memory and atomics mean what they mean on a device, and misuse is reported with the line of the kernel.
#pragma once
#include <cstdint>
#include <cstring>
#include <math.h>
#include <type_traits>
#include <utility>

// NVRTC has no standard headers: what they define must not be used by accident.
#undef INFINITY
#undef NAN

#define __global__ static
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
// `extern __shared__` is rewritten by the loader, to cuda_cpu_dynamic_shared.
#define __shared__ static __attribute__((section("cuda_shared")))

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x, y, z; };
extern "C" uint3 threadIdx, blockIdx;
extern "C" dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// ------------------------------------------------------------------------------------------------ the runtime
extern "C" {
enum CudaCpuWarpOp { CUDA_CPU_SYNC, CUDA_CPU_INDEX, CUDA_CPU_UP, CUDA_CPU_DOWN, CUDA_CPU_XOR, CUDA_CPU_BALLOT };
void cuda_cpu_barrier(int line);
uint64_t cuda_cpu_warp(CudaCpuWarpOp op, unsigned mask, uint64_t value, int argument, int width, int line);
void cuda_cpu_atomic_access(const void* address, int size);
void* cuda_cpu_dynamic_shared();
struct CudaCpuLaunch {
    void (*entry)(void* kernel, void** arguments);
    void* kernel;
    void** arguments;
    const unsigned* dims;  // of the grid and of a block
    size_t dynamic_shared;
    unsigned seed;
    int seconds;  // of processor time, after which the launch is ended
    char *shared_begin, *shared_end;
};
const char* cuda_cpu_launch(const CudaCpuLaunch* launch);
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

// ------------------------------------------------------------------------------------------------ a kernel's entry
struct CudaCpuParameter { char kind; int size; };  // kind: p (pointer to elements of `size` bytes), f (float), i (integer)

template <class T> constexpr CudaCpuParameter cuda_cpu_parameter() {
    using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
    if constexpr (std::is_pointer_v<T>) return {'p', int(sizeof(std::conditional_t<std::is_void_v<Pointee>, char, Pointee>))};
    else return {std::is_floating_point_v<T> ? 'f' : 'i', int(sizeof(T))};
}
template <class... P> const CudaCpuParameter* cuda_cpu_parameters(void (*)(P...)) {
    static const CudaCpuParameter list[] = {cuda_cpu_parameter<P>()..., {0, 0}};
    return list;
}
template <class... P, size_t... I>
void cuda_cpu_call(void (*kernel)(P...), void** arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_const_t<P>*>(arguments[I])...);
}
template <class... P>
const char* cuda_cpu_run(void (*kernel)(P...), const unsigned* dims, size_t shared, void** arguments, unsigned seed, int seconds) {
    auto entry = [](void* address, void** list) {
        cuda_cpu_call(reinterpret_cast<void (*)(P...)>(address), list, std::index_sequence_for<P...>{});
    };
    const CudaCpuLaunch launch = {entry, reinterpret_cast<void*>(kernel), arguments, dims, shared, seed, seconds,
                                  __start_cuda_shared, __stop_cuda_shared};
    return cuda_cpu_launch(&launch);
}
#define CUDA_CPU_EXPORT(kernel)                                                                                        \
    extern "C" const char* launch_##kernel(const unsigned* dims, size_t shared, void** arguments, unsigned seed, int seconds) { \
        return cuda_cpu_run(::kernel, dims, shared, arguments, seed, seconds);                                         \
    }                                                                                                                  \
    extern "C" const CudaCpuParameter* parameters_##kernel() { return cuda_cpu_parameters(::kernel); }

// ------------------------------------------------------------------------------------------------ synchronisation
#define CUDA_CPU_LINE int line = __builtin_LINE()
#define CUDA_CPU_WARP 0xffffffffu

inline void __syncthreads(CUDA_CPU_LINE) { cuda_cpu_barrier(line); }
inline void __syncwarp(unsigned mask = CUDA_CPU_WARP, CUDA_CPU_LINE) {
    cuda_cpu_warp(CUDA_CPU_SYNC, mask, 0, 0, warpSize, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}

template <class T>
T cuda_cpu_shuffle(CudaCpuWarpOp op, unsigned mask, T value, int argument, int width, int line) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move values of 4 or 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = cuda_cpu_warp(op, mask, bits, argument, width, line);
    memcpy(&value, &bits, sizeof value);
    return value;
}
template <class T> T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize, CUDA_CPU_LINE) {
    return cuda_cpu_shuffle(CUDA_CPU_INDEX, mask, value, lane, width, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_CPU_LINE) {
    return cuda_cpu_shuffle(CUDA_CPU_UP, mask, value, int(delta), width, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, CUDA_CPU_LINE) {
    return cuda_cpu_shuffle(CUDA_CPU_DOWN, mask, value, int(delta), width, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, CUDA_CPU_LINE) {
    return cuda_cpu_shuffle(CUDA_CPU_XOR, mask, value, lanes, width, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_CPU_LINE) {
    return unsigned(cuda_cpu_warp(CUDA_CPU_BALLOT, mask, predicate != 0, 0, warpSize, line));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_CPU_LINE) { return __ballot_sync(mask, predicate, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, CUDA_CPU_LINE) { return __ballot_sync(mask, predicate, line) == mask; }

// ------------------------------------------------------------------------------------------------ atomics
// A fibre is not interrupted between reading and writing. The accesses are not instrumented: the hook is told that
// they are atomic.
template <class T, class Update>
__attribute__((no_sanitize("thread"))) T cuda_cpu_atomic(T* address, Update update) {
    cuda_cpu_atomic_access(address, sizeof(T));
    const T old = *address;
    *address = T(update(old));
    return old;
}
#define CUDA_CPU_ATOMIC(name, expression)                                                              \
    template <class T, class V> T name(T* address, V value) {                                          \
        return cuda_cpu_atomic(address, [value](T old) { return T(expression); });               \
    }
CUDA_CPU_ATOMIC(atomicAdd, old + T(value))
CUDA_CPU_ATOMIC(atomicSub, old - T(value))
CUDA_CPU_ATOMIC(atomicExch, value)
CUDA_CPU_ATOMIC(atomicMax, old < T(value) ? T(value) : old)
CUDA_CPU_ATOMIC(atomicMin, T(value) < old ? T(value) : old)
CUDA_CPU_ATOMIC(atomicAnd, old & T(value))
CUDA_CPU_ATOMIC(atomicOr, old | T(value))
template <class T, class C, class V> T atomicCAS(T* address, C compare, V value) {
    return cuda_cpu_atomic(address, [=](T old) { return old == T(compare) ? T(value) : old; });
}

// ------------------------------------------------------------------------------------- CUDA's own mathematics and bits
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return float(1.0 / sqrt(double(x))); }
inline double sinpi(double x) { return sin(fmod(x, 2.0) * 3.14159265358979323846); }
inline float sinpi(float x) { return float(sinpi(double(x))); }
inline double cospi(double x) { return cos(fmod(x, 2.0) * 3.14159265358979323846); }
inline float cospi(float x) { return float(cospi(double(x))); }
extern "C" double cuda_cpu_erfinv(double x);
inline double erfinv(double x) { return cuda_cpu_erfinv(x); }
inline float erfinv(float x) { return float(cuda_cpu_erfinv(x)); }

template <class To, class From> To cuda_cpu_bits(From x) {
    static_assert(sizeof(To) == sizeof(From));
    To result;
    memcpy(&result, &x, sizeof result);
    return result;
}
inline int __float_as_int(float x) { return cuda_cpu_bits<int>(x); }
inline float __int_as_float(int x) { return cuda_cpu_bits<float>(x); }
inline long long __double_as_longlong(double x) { return cuda_cpu_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return cuda_cpu_bits<double>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
template <class T> T __ldg(const T* address) { return *address; }

template <class T> struct alignas(4 * sizeof(T)) CudaCpuVector4 { T x, y, z, w; };
template <class T> struct alignas(2 * sizeof(T)) CudaCpuVector2 { T x, y; };
using float2 = CudaCpuVector2<float>;
using float4 = CudaCpuVector4<float>;
using int2 = CudaCpuVector2<int>;
using int4 = CudaCpuVector4<int>;

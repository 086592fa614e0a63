// float16 in memory; arithmetic is in float, or in double where that is what an operand is cast to.
#include <cuda_fp16.h>

namespace nbdl {

template <class To> struct Cast<To, __half> { NBDL_FUNCTION To apply(__half x) { return To(__half2float(x)); } };
template <class From> struct Cast<__half, From> {
    NBDL_FUNCTION __half apply(From x) { return __float2half_rn(float(x)); }
};
template <> struct Cast<__half, double> { NBDL_FUNCTION __half apply(double x) { return __double2half(x); } };
template <> struct Cast<__half, __half> { NBDL_FUNCTION __half apply(__half x) { return x; } };
template <> struct Cast<bool, __half> { NBDL_FUNCTION bool apply(__half x) { return __half2float(x) != 0.0f; } };

}  // namespace nbdl

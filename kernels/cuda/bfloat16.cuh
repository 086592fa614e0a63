// bfloat16 in memory; arithmetic is in float.
#include <cuda_bf16.h>

namespace nbdl {

template <class To> struct Cast<To, __nv_bfloat16> {
    NBDL_FUNCTION To apply(__nv_bfloat16 x) { return To(__bfloat162float(x)); }
};
template <class From> struct Cast<__nv_bfloat16, From> {
    NBDL_FUNCTION __nv_bfloat16 apply(From x) { return __float2bfloat16_rn(float(x)); }
};
template <> struct Cast<__nv_bfloat16, __nv_bfloat16> {
    NBDL_FUNCTION __nv_bfloat16 apply(__nv_bfloat16 x) { return x; }
};
template <> struct Cast<bool, __nv_bfloat16> {
    NBDL_FUNCTION bool apply(__nv_bfloat16 x) { return __bfloat162float(x) != 0.0f; }
};

}  // namespace nbdl

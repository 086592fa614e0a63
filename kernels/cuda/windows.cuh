// Windows over three spatial axes; axes that are missing have length 1.

struct Axis {
    int size, count, kernel, stride, padding, dilation;

    __device__ __forceinline__ int begin(int window) const { return window * stride - padding; }
    // The divisor of a mean: taps inside the padded input, or inside the input.
    __device__ __forceinline__ int taps(int window, bool include_padding) const {
        int first = begin(window), last = first + kernel;
        if (last > size + padding) last = size + padding;
        if (!include_padding) {
            if (first < 0) first = 0;
            if (last > size) last = size;
        }
        return last - first;
    }
};

#define NBDL_AXIS(name) int name##_size, int name##_count, int name##_kernel, int name##_stride, int name##_padding, int name##_dilation
#define NBDL_AXIS_OF(name) const Axis name = {name##_size, name##_count, name##_kernel, name##_stride, name##_padding, name##_dilation}

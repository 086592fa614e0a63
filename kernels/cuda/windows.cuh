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

// Element i of (planes, na, nb, nc).
struct Place {
    int a, b, c;
    long long plane;
};

NBDL_FUNCTION Place place_of(long long i, int na, int nb, int nc) {
    Place at;
    at.c = int(i % nc);
    i /= nc;
    at.b = int(i % nb);
    i /= nb;
    at.a = int(i % na);
    at.plane = i / na;
    return at;
}

// The place of (m, n, o) in a plane (na, nb, nc).
NBDL_FUNCTION long long in_plane(int m, int n, int o, int nb, int nc) { return ((long long)m * nb + n) * nc + o; }

#define NBDL_AXIS(name) int name##_size, int name##_count, int name##_kernel, int name##_stride, int name##_padding, int name##_dilation
#define NBDL_AXIS_OF(name) const Axis name = {name##_size, name##_count, name##_kernel, name##_stride, name##_padding, name##_dilation}

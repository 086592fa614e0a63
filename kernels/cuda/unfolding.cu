// Windows (windows.cuh) of (planes, *size) as columns (planes, taps, windows), and columns added up as images.
// element_t is the type in memory, number that of the arithmetic, each defined in front of this text.

extern "C" __global__ void nbdl_columns_of_windows(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long count, NBDL_AXIS(a), NBDL_AXIS(b),
    NBDL_AXIS(c)) {
    NBDL_AXIS_OF(a);
    NBDL_AXIS_OF(b);
    NBDL_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place window = place_of(i, a.count, b.count, c.count);
        const Place tap = place_of(window.plane, a.kernel, b.kernel, c.kernel);
        const int m = a.begin(window.a) + tap.a * a.dilation, n = b.begin(window.b) + tap.b * b.dilation;
        const int o = c.begin(window.c) + tap.c * c.dilation;
        const bool is_inside = m >= 0 && m < a.size && n >= 0 && n < b.size && o >= 0 && o < c.size;
        const element_t* image = x + tap.plane * a.size * b.size * c.size;
        y[i] = is_inside ? image[in_plane(m, n, o, b.size, c.size)] : nbdl::cast<element_t>(0);
    }
}

// The window in which a tap meets an element, -1 if there is none.
NBDL_FUNCTION int window_at(const Axis& axis, int element, int tap) {
    const int start = element + axis.padding - tap * axis.dilation;
    if (start < 0 || start % axis.stride != 0) return -1;
    const int window = start / axis.stride;
    return window < axis.count ? window : -1;
}

// Every element of the images collects what lies on it.
extern "C" __global__ void nbdl_windows_of_columns(
    const element_t* __restrict__ y, element_t* __restrict__ x, long long count, NBDL_AXIS(a), NBDL_AXIS(b),
    NBDL_AXIS(c)) {
    NBDL_AXIS_OF(a);
    NBDL_AXIS_OF(b);
    NBDL_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a.size, b.size, c.size);
        const long long plane = at.plane * a.kernel;
        number total = 0;
        for (int p = 0; p < a.kernel; ++p) {
            const int m = window_at(a, at.a, p);
            if (m < 0) continue;
            for (int q = 0; q < b.kernel; ++q) {
                const int n = window_at(b, at.b, q);
                if (n < 0) continue;
                for (int r = 0; r < c.kernel; ++r) {
                    const int o = window_at(c, at.c, r);
                    if (o < 0) continue;
                    const long long tap = ((plane + p) * b.kernel + q) * c.kernel + r;
                    total += nbdl::cast<number>(y[((tap * a.count + m) * b.count + n) * c.count + o]);
                }
            }
        }
        x[i] = nbdl::cast<element_t>(total);
    }
}

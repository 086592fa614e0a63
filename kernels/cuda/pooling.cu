// Maxima and means over windows (windows.cuh) of (planes, *size).
// element_t is the type in memory, number that of the arithmetic, each defined in front of this text.

template <class T> NBDL_FUNCTION bool is_nan(T value) { return value != value; }
// NaN is the best, and the later of two.
template <class T> NBDL_FUNCTION bool is_better(T value, T best) { return value > best || is_nan(value); }

// The first maximum of every window, or a NaN, and its place in the plane.
extern "C" __global__ void nbdl_max_pool(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long* __restrict__ places, long long count,
    NBDL_AXIS(a), NBDL_AXIS(b), NBDL_AXIS(c)) {
    NBDL_AXIS_OF(a);
    NBDL_AXIS_OF(b);
    NBDL_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a.count, b.count, c.count);
        const int first_a = a.begin(at.a), first_b = b.begin(at.b), first_c = c.begin(at.c);
        const element_t* image = x + at.plane * a.size * b.size * c.size;
        long long place = -1;
        element_t best = nbdl::cast<element_t>(0);
        for (int p = 0, m = first_a; p < a.kernel; ++p, m += a.dilation) {
            if (m < 0 || m >= a.size) continue;
            for (int q = 0, n = first_b; q < b.kernel; ++q, n += b.dilation) {
                if (n < 0 || n >= b.size) continue;
                for (int r = 0, o = first_c; r < c.kernel; ++r, o += c.dilation) {
                    if (o < 0 || o >= c.size) continue;
                    const long long here = in_plane(m, n, o, b.size, c.size);
                    const element_t element = image[here];
                    const number value = nbdl::cast<number>(element);
                    if (place < 0 || is_better(value, nbdl::cast<number>(best))) {
                        best = element;
                        place = here;
                    }
                }
            }
        }
        y[i] = best;
        places[i] = place;
    }
}

extern "C" __global__ void nbdl_avg_pool(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long count, NBDL_AXIS(a), NBDL_AXIS(b),
    NBDL_AXIS(c), int include_padding, long long divisor) {
    NBDL_AXIS_OF(a);
    NBDL_AXIS_OF(b);
    NBDL_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a.count, b.count, c.count);
        const element_t* image = x + at.plane * a.size * b.size * c.size;
        number total = 0;
        for (int p = 0, m = a.begin(at.a); p < a.kernel; ++p, ++m) {
            if (m < 0 || m >= a.size) continue;
            for (int q = 0, n = b.begin(at.b); q < b.kernel; ++q, ++n) {
                if (n < 0 || n >= b.size) continue;
                for (int r = 0, o = c.begin(at.c); r < c.kernel; ++r, ++o) {
                    if (o < 0 || o >= c.size) continue;
                    total += nbdl::cast<number>(image[in_plane(m, n, o, b.size, c.size)]);
                }
            }
        }
        const long long taps = divisor != 0 ? divisor
            : (long long)a.taps(at.a, include_padding) * b.taps(at.b, include_padding) * c.taps(at.c, include_padding);
        y[i] = nbdl::cast<element_t>(total / number(taps));
    }
}

// The first and the last window that an element lies in.
NBDL_FUNCTION int first_window(const Axis& axis, int element) {
    const int reach = element + axis.padding - axis.kernel + 1;
    return reach <= 0 ? 0 : (reach + axis.stride - 1) / axis.stride;
}
NBDL_FUNCTION int last_window(const Axis& axis, int element) {
    const int window = (element + axis.padding) / axis.stride;
    return window < axis.count ? window : axis.count - 1;
}

// Every element of the input collects its share of the windows that it lies in.
extern "C" __global__ void nbdl_avg_pool_input(
    const element_t* __restrict__ y, element_t* __restrict__ x, long long count, NBDL_AXIS(a), NBDL_AXIS(b),
    NBDL_AXIS(c), int include_padding, long long divisor) {
    NBDL_AXIS_OF(a);
    NBDL_AXIS_OF(b);
    NBDL_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a.size, b.size, c.size);
        const element_t* plane = y + at.plane * a.count * b.count * c.count;
        const int last_a = last_window(a, at.a), last_b = last_window(b, at.b), last_c = last_window(c, at.c);
        number total = 0;
        for (int m = first_window(a, at.a); m <= last_a; ++m)
            for (int n = first_window(b, at.b); n <= last_b; ++n)
                for (int o = first_window(c, at.c); o <= last_c; ++o) {
                    const long long taps = divisor != 0 ? divisor
                        : (long long)a.taps(m, include_padding) * b.taps(n, include_padding) * c.taps(o, include_padding);
                    total += nbdl::cast<number>(plane[in_plane(m, n, o, b.count, c.count)]) / number(taps);
                }
        x[i] = nbdl::cast<element_t>(total);
    }
}

// Window i of an axis of length n is [floor(i n / count), ceil((i + 1) n / count)): they cover it evenly.
NBDL_FUNCTION int even_begin(int window, int size, int count) { return int((long long)window * size / count); }
NBDL_FUNCTION int even_end(int window, int size, int count) {
    return int(((long long)(window + 1) * size + count - 1) / count);
}

// The first maximum of every window, or the first NaN, and its place in the plane.
extern "C" __global__ void nbdl_adaptive_max_pool(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long* __restrict__ places, long long count,
    int a_size, int a_count, int b_size, int b_count, int c_size, int c_count) {
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a_count, b_count, c_count);
        const element_t* image = x + at.plane * a_size * b_size * c_size;
        const int end_a = even_end(at.a, a_size, a_count), end_b = even_end(at.b, b_size, b_count);
        const int end_c = even_end(at.c, c_size, c_count);
        long long place = -1;
        element_t best = nbdl::cast<element_t>(0);
        for (int m = even_begin(at.a, a_size, a_count); m < end_a; ++m)
            for (int n = even_begin(at.b, b_size, b_count); n < end_b; ++n)
                for (int o = even_begin(at.c, c_size, c_count); o < end_c; ++o) {
                    const long long here = in_plane(m, n, o, b_size, c_size);
                    const element_t element = image[here];
                    const number value = nbdl::cast<number>(element), highest = nbdl::cast<number>(best);
                    if (place < 0 || is_better(value, highest)) {
                        best = element;
                        place = here;
                    }
                }
        y[i] = best;
        places[i] = place;
    }
}

// The elements at computed places of every plane; a place that does not exist gives 0.
extern "C" __global__ void nbdl_window_gather(
    const element_t* __restrict__ x, const long long* __restrict__ places, element_t* __restrict__ y, long long count,
    long long plane, long long places_of_plane) {
    NBDL_EACH(i, count) {
        long long place = places[i];
        if (place < 0) place += plane;
        const bool exists = 0 <= place && place < plane;
        y[i] = exists ? x[i / places_of_plane * plane + place] : nbdl::cast<element_t>(0);
    }
}

// Elements written at places of their planes, which are zeros; of equal places one wins, and a place that does not
// exist is left out.
extern "C" __global__ void nbdl_window_put(
    const element_t* __restrict__ y, const long long* __restrict__ places, element_t* __restrict__ x, long long count,
    long long plane, long long places_of_plane) {
    NBDL_EACH(i, count) {
        const long long place = places[i];
        if (0 <= place && place < plane) x[i / places_of_plane * plane + place] = y[i];
    }
}

// Each operation is rounded to the type in memory, as where arrays of that type are multiplied.
NBDL_FUNCTION number rounded(number x) { return nbdl::cast<number>(nbdl::cast<element_t>(x)); }

// An axis along which windows begin at random places; `distance` is (size - kernel) / (count - 1).
struct RandomAxis {
    int size, kernel, count, sample;
    number distance;

    __device__ __forceinline__ int begin(int window, const element_t* samples) const {
        if (window == count - 1) return size - kernel;
        const number u = nbdl::cast<number>(samples[sample]);
        const number first = rounded(u * distance);
        return int(rounded(rounded(number(window) + u) * distance)) - int(first);
    }
};

#define NBDL_RANDOM_AXIS(name) int name##_size, int name##_kernel, int name##_count, int name##_sample, double name##_distance
#define NBDL_RANDOM_AXIS_OF(name) \
    const RandomAxis name = {name##_size, name##_kernel, name##_count, name##_sample, rounded(number(name##_distance))}

// The last of several NaN wins.
extern "C" __global__ void nbdl_fractional_max_pool(
    const element_t* __restrict__ x, const element_t* __restrict__ samples, element_t* __restrict__ y,
    long long* __restrict__ places, long long count, int rank, NBDL_RANDOM_AXIS(a), NBDL_RANDOM_AXIS(b),
    NBDL_RANDOM_AXIS(c)) {
    NBDL_RANDOM_AXIS_OF(a);
    NBDL_RANDOM_AXIS_OF(b);
    NBDL_RANDOM_AXIS_OF(c);
    NBDL_EACH(i, count) {
        const Place at = place_of(i, a.count, b.count, c.count);
        const element_t* numbers = samples + at.plane * rank;
        const element_t* image = x + at.plane * a.size * b.size * c.size;
        const int first_a = a.begin(at.a, numbers), first_b = b.begin(at.b, numbers);
        const int first_c = c.begin(at.c, numbers);
        number best = 0;
        long long place = -1;
        for (int p = 0; p < a.kernel; ++p)
            for (int q = 0; q < b.kernel; ++q)
                for (int r = 0; r < c.kernel; ++r) {
                    const long long here = in_plane(first_a + p, first_b + q, first_c + r, b.size, c.size);
                    const number value = nbdl::cast<number>(image[here]);
                    if (place < 0 || is_better(value, best)) {
                        best = value;
                        place = here;
                    }
                }
        y[i] = nbdl::cast<element_t>(best);
        places[i] = place;
    }
}

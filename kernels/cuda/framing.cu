// Frames that continue an array along one axis, and the way back. Elements lie `inner` apart along the axis, which has
// length n, and n + before + after with its frame. element_t is the type in memory, number that of the arithmetic, each
// defined in front of this text.

enum { EDGE, REFLECT, SYMMETRIC, WRAP };

// The element that the one at i, counted from the first one inside, repeats.
NBDL_FUNCTION long long repeated(long long i, long long n, int mode) {
    if (mode == EDGE) return i < 0 ? 0 : i < n ? i : n - 1;
    const long long period = mode == WRAP ? n : mode == SYMMETRIC ? 2 * n : n > 1 ? 2 * n - 2 : 1;
    const long long place = (i % period + period) % period;
    return place < n ? place : (mode == SYMMETRIC ? 2 * n - 1 : 2 * n - 2) - place;
}

extern "C" __global__ void nbdl_extend(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long count, long long n, long long before,
    long long after, long long inner, int mode) {
    const long long framed = n + before + after;
    NBDL_EACH(i, count) {
        const long long place = repeated(i / inner % framed - before, n, mode);
        y[i] = x[(i / (inner * framed) * n + place) * inner + i % inner];
    }
}

// Every element collects from the frame what repeats it.
extern "C" __global__ void nbdl_extend_input(
    const element_t* __restrict__ y, element_t* __restrict__ x, long long count, long long n, long long before,
    long long after, long long inner, int mode) {
    const long long framed = n + before + after;
    NBDL_EACH(i, count) {
        const long long here = i / inner % n;
        const element_t* line = y + i / (inner * n) * framed * inner + i % inner;
        number total = nbdl::cast<number>(line[(before + here) * inner]);
        for (long long k = 0; k < before; ++k)
            if (repeated(k - before, n, mode) == here) total += nbdl::cast<number>(line[k * inner]);
        for (long long k = before + n; k < framed; ++k)
            if (repeated(k - before, n, mode) == here) total += nbdl::cast<number>(line[k * inner]);
        x[i] = nbdl::cast<element_t>(total);
    }
}

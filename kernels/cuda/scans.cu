// The recurrence y[t] = a[t] y[t-1] + b[t], y[0] = b[0], along rows (rows.cuh). element_t is the type in memory, number
// that of the arithmetic, each defined in front of this text.
//
// A lane has neighbouring steps. What it does to the value that comes in is linear, so lanes combine their maps in
// parallel (Blelloch 1990, Prefix sums and their applications, section 1.4.1), and walk a second time from the value
// that reaches them. A single lane walks once, in the order of the definition.

struct Map {
    number slope, value;
};

// First a, then b. A product of factors may overflow where the value that they meet is 0.
NBDL_FUNCTION Map after(Map a, Map b) {
    return {a.slope * b.slope, a.value == number(0) ? b.value : b.slope * a.value + b.value};
}

extern "C" __global__ void nbdl_linear_scan(
    const element_t* __restrict__ a, const element_t* __restrict__ b, element_t* __restrict__ y, long long rows,
    long long n, long long inner, int reverse) {
    const Row row = this_row(rows, n, inner);
    const long long share = (n + row.lanes - 1) / row.lanes, first = row.lane * share;
    const long long end = !row.exists ? 0 : first + share < n ? first + share : n;
    number before = 0;
    if (row.lanes > 1) {
        Map mine = {number(1), number(0)};
        for (long long t = first; t < end; ++t) {
            const long long place = row.start + (reverse ? n - 1 - t : t) * inner;
            mine = after(mine, {nbdl::cast<number>(a[place]), nbdl::cast<number>(b[place])});
        }
        Map* maps = static_cast<Map*>(memory_of_rows());
        const int next = NBDL_ACROSS ? blockDim.x : 1, here = threadIdx.y * blockDim.x + threadIdx.x;
        maps[here] = mine;
        for (int distance = 1; distance < row.lanes; distance *= 2) {
            __syncthreads();
            if (row.lane >= distance) mine = after(maps[here - distance * next], mine);
            __syncthreads();
            maps[here] = mine;
        }
        __syncthreads();
        if (row.lane > 0) before = maps[here - next].value;
    }
    for (long long t = first; t < end; ++t) {
        const long long place = row.start + (reverse ? n - 1 - t : t) * inner;
        const number term = nbdl::cast<number>(b[place]);
        before = t == 0 ? term : nbdl::cast<number>(a[place]) * before + term;
        y[place] = nbdl::cast<element_t>(before);
    }
}

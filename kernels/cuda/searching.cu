// Places of the largest and smallest elements of rows (rows.cuh), and of values among rising ones. element_t is the
// type in memory, number that of the comparisons, each defined in front of this text.

template <class T> NBDL_FUNCTION bool is_nan(T x) {
    if constexpr (nbdl::is_real<T>) return x != x; else return false;
}

// An element and its place; place -1 where there is none.
struct Best {
    number value;
    long long place;
};

// Whether a beats b: it is larger (smaller), and a NaN beats everything else.
NBDL_FUNCTION bool beats(number a, number b, int largest) {
    return !is_nan(b) && (is_nan(a) || (largest ? b < a : a < b));
}

// The better one of two, and of equal ones the one at the lower place.
NBDL_FUNCTION Best better(Best a, Best b, int largest) {
    if (a.place < 0 || b.place < 0) return a.place < 0 ? b : a;
    if (beats(a.value, b.value, largest)) return a;
    if (beats(b.value, a.value, largest)) return b;
    return a.place < b.place ? a : b;
}

// The place of the best element of part blockIdx.y of every row of n elements, which has `part` candidates of `count`:
// all elements, or those at the places among[candidate * rows + row].
extern "C" __global__ void nbdl_argreduce(
    const element_t* __restrict__ x, const long long* __restrict__ among, long long* __restrict__ y, long long rows,
    long long n, long long inner, long long count, long long part, int is_chosen, int largest) {
    const Row row = this_row(rows, n, inner);
    const long long begin = blockIdx.y * part, end = begin + part < count ? begin + part : count;
    Best best = {number(0), -1};
    if (row.exists)
        for (long long k = begin + row.lane; k < end; k += row.lanes) {
            const long long place = is_chosen ? among[k * rows + row.number] : k;
            best = better(best, {nbdl::cast<number>(x[row.start + place * inner]), place}, largest);
        }
    best = over_lanes(best, row, [largest](Best a, Best b) { return better(a, b, largest); });
    if (row.exists && row.lane == 0) y[blockIdx.y * rows + row.number] = best.place;
}

// The later one, unless the one before beats it.
NBDL_FUNCTION Best latest(Best before, Best now, int largest) {
    return now.place < 0 || (before.place >= 0 && beats(before.value, now.value, largest)) ? before : now;
}

// The place of the best element so far, of equal ones the last: a lane has neighbouring steps, as in scans.cu.
extern "C" __global__ void nbdl_argscan(
    const element_t* __restrict__ x, long long* __restrict__ y, long long rows, long long n, long long inner,
    int largest) {
    const Row row = this_row(rows, n, inner);
    const long long share = (n + row.lanes - 1) / row.lanes, first = row.lane * share;
    const long long end = !row.exists ? 0 : first + share < n ? first + share : n;
    Best best = {number(0), -1};
    for (long long k = first; k < end; ++k)
        best = latest(best, {nbdl::cast<number>(x[row.start + k * inner]), k}, largest);
    Best* shared = static_cast<Best*>(memory_of_rows());
    const int next = NBDL_ACROSS ? blockDim.x : 1, here = threadIdx.y * blockDim.x + threadIdx.x;
    shared[here] = best;
    for (int distance = 1; distance < row.lanes; distance *= 2) {
        __syncthreads();
        if (row.lane >= distance) best = latest(shared[here - distance * next], best, largest);
        __syncthreads();
        shared[here] = best;
    }
    __syncthreads();
    best = {number(0), -1};
    if (row.lane > 0) best = shared[here - next];
    for (long long k = first; k < end; ++k) {
        const long long place = row.start + k * inner;
        best = latest(best, {nbdl::cast<number>(x[place]), k}, largest);
        y[place] = best.place;
    }
}

// Whether a comes before b in rising order, in which NaN is the last.
NBDL_FUNCTION bool is_below(number a, number b) { return a < b || (is_nan(b) && !is_nan(a)); }

// How many of n rising boundaries are below a value (or equal, if `right`), for `values` of them a row of boundaries; one
// row for all values where they are `count`.
extern "C" __global__ void nbdl_searchsorted(
    const element_t* __restrict__ boundaries, const element_t* __restrict__ x, long long* __restrict__ y, long long count,
    long long n, long long values, int right) {
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < count; i += (long long)gridDim.x * blockDim.x) {
        const element_t* row = boundaries + i / values * n;
        const number value = nbdl::cast<number>(x[i]);
        long long low = 0, high = n;  // the answer is in [low, high]
        while (low < high) {
            const long long middle = low + (high - low) / 2;
            const number there = nbdl::cast<number>(row[middle]);
            if (right ? !is_below(value, there) : is_below(there, value)) low = middle + 1;
            else high = middle;
        }
        y[i] = low;
    }
}

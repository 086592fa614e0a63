// Rows that several threads walk together.
//
// A block has `lanes` threads for each of its rows, a power of two. With NBDL_ACROSS 0 neighbouring threads are
// lanes of one row, whose elements are neighbours in memory; with NBDL_ACROSS 1 they are neighbouring rows.

#if NBDL_ACROSS
#define NBDL_LANE y
#define NBDL_SLOT x
#else
#define NBDL_LANE x
#define NBDL_SLOT y
#endif

constexpr int MAX_THREADS = 256;

struct Row {
    int lane, lanes;
    long long number, start;  // start: place of the first element
    bool exists;
};

// Row i of `rows` rows of n elements, which are `inner` apart, as are those of the inner rows beside it.
NBDL_FUNCTION Row this_row(long long rows, long long n, long long inner) {
    Row row;
    row.lane = threadIdx.NBDL_LANE;
    row.lanes = blockDim.NBDL_LANE;
    row.number = (long long)blockIdx.x * blockDim.NBDL_SLOT + threadIdx.NBDL_SLOT;
    row.start = row.number / inner * n * inner + row.number % inner;
    row.exists = row.number < rows;
    return row;
}

struct alignas(16) Cell {
    char bytes[16];
};

// Room for a cell a thread.
NBDL_FUNCTION void* memory_of_rows() {
    __shared__ Cell memory[MAX_THREADS];
    return memory;
}

// `combine` of the values of all lanes of a row, in all of them. Every thread of the block calls it.
template <class T, class Combine> NBDL_FUNCTION T over_lanes(T value, const Row& row, Combine combine) {
    T* shared = static_cast<T*>(memory_of_rows());
    const int mine = threadIdx.y * blockDim.x + threadIdx.x, next = NBDL_ACROSS ? blockDim.x : 1;
    const int first = mine - row.lane * next;
    __syncthreads();  // the last call has been read
    shared[mine] = value;
    for (int half = row.lanes / 2; half > 0; half /= 2) {
        __syncthreads();
        if (row.lane < half) shared[mine] = combine(shared[mine], shared[mine + half * next]);
    }
    __syncthreads();
    return shared[first];
}

template <class T> NBDL_FUNCTION T sum_over_lanes(T value, const Row& row) {
    return over_lanes(value, row, [](T a, T b) { return a + b; });
}

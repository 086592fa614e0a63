// Losses of rows with integer classes, added up to one number. element_t is the type in memory, number that of the
// arithmetic, each defined in front of this text. A class that does not exist gives NaN: to raise an error, the host
// would have to wait.

constexpr int THREADS = 256;

// A sum of losses, and how many rows are in it.
struct Tally {
    number sum;
    long long rows;
};

// The tallies of all threads of a block, added up in thread 0.
NBDL_FUNCTION Tally of_block(Tally mine) {
    __shared__ number sums[THREADS];
    __shared__ long long rows[THREADS];
    const int lane = threadIdx.x;
    sums[lane] = mine.sum;
    rows[lane] = mine.rows;
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        __syncthreads();
        if (lane < half) {
            sums[lane] += sums[lane + half];
            rows[lane] += rows[lane + half];
        }
    }
    return {sums[0], rows[0]};
}

// The sum or the mean, and the share of a row in it.
NBDL_FUNCTION void conclude(Tally all, element_t* total, element_t* share, int mean) {
    const number divisor = mean ? number(all.rows) : number(1);
    *total = nbdl::cast<element_t>(all.sum / divisor);
    *share = nbdl::cast<element_t>(number(1) / divisor);
}

// The losses of rows that count: with n = 0 they are given; else they are minus the scores of the classes, which are
// `inner` apart. One block concludes; several leave their tallies.
extern "C" __global__ void nbdl_class_total(
    const element_t* __restrict__ values, const long long* __restrict__ target, number* __restrict__ sums,
    long long* __restrict__ counts, element_t* __restrict__ total, element_t* __restrict__ share, long long rows,
    long long n, long long inner, long long ignored, int mean) {
    Tally mine = {number(0), 0};
    NBDL_EACH(row, rows) {
        const long long label = target[row];
        if (label == ignored) continue;
        number loss = nbdl::not_a_number<number>();
        if (n == 0) loss = nbdl::cast<number>(values[row]);
        else if (label >= 0 && label < n)
            loss = -nbdl::cast<number>(values[(row / inner * n + label) * inner + row % inner]);
        mine.sum += loss;
        mine.rows += 1;
    }
    const Tally all = of_block(mine);
    if (threadIdx.x != 0) return;
    if (gridDim.x == 1) {
        conclude(all, total, share, mean);
    } else {
        sums[blockIdx.x] = all.sum;
        counts[blockIdx.x] = all.rows;
    }
}

// The tallies of `blocks` blocks, by one.
extern "C" __global__ void nbdl_class_conclusion(
    const number* __restrict__ sums, const long long* __restrict__ counts, element_t* __restrict__ total,
    element_t* __restrict__ share, int blocks, int mean) {
    Tally mine = {number(0), 0};
    for (int k = threadIdx.x; k < blocks; k += blockDim.x) {
        mine.sum += sums[k];
        mine.rows += counts[k];
    }
    const Tally all = of_block(mine);
    if (threadIdx.x == 0) conclude(all, total, share, mean);
}

// -g share at the classes of rows that count, 0 elsewhere.
extern "C" __global__ void nbdl_nll_loss_input(
    const element_t* __restrict__ g, const long long* __restrict__ target, const element_t* __restrict__ share,
    element_t* __restrict__ gx, long long count, long long n, long long inner, long long ignored) {
    const number slope = -(nbdl::cast<number>(*g) * nbdl::cast<number>(*share));
    NBDL_EACH(i, count) {
        const long long label = target[i / (n * inner) * inner + i % inner];
        const bool exists = label >= 0 && label < n;
        number value = 0;
        if (label != ignored) value = !exists ? nbdl::not_a_number<number>() : label == i / inner % n ? slope : number(0);
        gx[i] = nbdl::cast<element_t>(value);
    }
}

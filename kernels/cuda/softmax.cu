// Softmax, its logarithm, and cross-entropy, along rows (rows.cuh). element_t is the type in memory, number that of
// the arithmetic, each defined in front of this text.

// The largest element so far, and the sum of exp(x - largest); Milakov and Gimelshein (2018), algorithm 3.
struct Exponentials {
    number largest, total;
};

NBDL_FUNCTION Exponentials joined(Exponentials a, Exponentials b) {
    const number largest = a.largest > b.largest ? a.largest : b.largest;
    // An empty part has the total 0 and the largest element -inf, of which no difference must be taken.
    const number of_a = a.largest == largest ? a.total : a.total * ::exp(a.largest - largest);
    const number of_b = b.largest == largest ? b.total : b.total * ::exp(b.largest - largest);
    return {largest, of_a + of_b};
}

NBDL_FUNCTION Exponentials exponentials(const element_t* x, const Row& row, long long n, long long inner) {
    Exponentials sum = {-nbdl::infinity<number>(), number(0)};
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const number value = nbdl::cast<number>(x[row.start + k * inner]);
            if (value > sum.largest) {
                sum.total = sum.total * ::exp(sum.largest - value) + (value - value + 1);  // NaN for infinity
                sum.largest = value;
            } else if (value != -nbdl::infinity<number>()) {
                sum.total += ::exp(value - sum.largest);
            }
        }
    return over_lanes(sum, row, [](Exponentials a, Exponentials b) { return joined(a, b); });
}

extern "C" __global__ void nbdl_softmax(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long rows, long long n, long long inner) {
    const Row row = this_row(rows, n, inner);
    const Exponentials sum = exponentials(x, row, n, inner);
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const long long place = row.start + k * inner;
            y[place] = nbdl::cast<element_t>(::exp(nbdl::cast<number>(x[place]) - sum.largest) / sum.total);
        }
}

extern "C" __global__ void nbdl_log_softmax(
    const element_t* __restrict__ x, element_t* __restrict__ y, long long rows, long long n, long long inner) {
    const Row row = this_row(rows, n, inner);
    const Exponentials sum = exponentials(x, row, n, inner);
    const number logarithm = ::log(sum.total);
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const long long place = row.start + k * inner;
            y[place] = nbdl::cast<element_t>(nbdl::cast<number>(x[place]) - sum.largest - logarithm);
        }
}

// Softmax, 0 in a row that is -inf throughout, and log(sum(exp(x))): the weights of attention.
extern "C" __global__ void nbdl_attention_weights(
    const element_t* __restrict__ x, element_t* __restrict__ y, element_t* __restrict__ log_sums, long long rows,
    long long n, long long inner) {
    const Row row = this_row(rows, n, inner);
    const Exponentials sum = exponentials(x, row, n, inner);
    if (!row.exists) return;
    const bool is_empty = sum.total == number(0);
    for (long long k = row.lane; k < n; k += row.lanes) {
        const long long place = row.start + k * inner;
        const number weight = ::exp(nbdl::cast<number>(x[place]) - sum.largest) / sum.total;
        y[place] = nbdl::cast<element_t>(is_empty ? number(0) : weight);
    }
    if (row.lane == 0)
        log_sums[row.number] = nbdl::cast<element_t>(
            is_empty ? -nbdl::infinity<number>() : sum.largest + ::log(sum.total));
}

// y (g - sum(g y))
extern "C" __global__ void nbdl_softmax_input(
    const element_t* __restrict__ y, const element_t* __restrict__ g, element_t* __restrict__ gx, long long rows,
    long long n, long long inner) {
    const Row row = this_row(rows, n, inner);
    number total = 0;
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const long long place = row.start + k * inner;
            total += nbdl::cast<number>(g[place]) * nbdl::cast<number>(y[place]);
        }
    total = sum_over_lanes(total, row);
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const long long place = row.start + k * inner;
            gx[place] = nbdl::cast<element_t>(
                nbdl::cast<number>(y[place]) * (nbdl::cast<number>(g[place]) - total));
        }
}

// g - exp(y) sum(g)
extern "C" __global__ void nbdl_log_softmax_input(
    const element_t* __restrict__ y, const element_t* __restrict__ g, element_t* __restrict__ gx, long long rows,
    long long n, long long inner) {
    const Row row = this_row(rows, n, inner);
    number total = 0;
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) total += nbdl::cast<number>(g[row.start + k * inner]);
    total = sum_over_lanes(total, row);
    if (row.exists)
        for (long long k = row.lane; k < n; k += row.lanes) {
            const long long place = row.start + k * inner;
            gx[place] = nbdl::cast<element_t>(
                nbdl::cast<number>(g[place]) - ::exp(nbdl::cast<number>(y[place])) * total);
        }
}

// Losses -log(softmax(x)) at the targets, and the probabilities. A class that does not exist gives NaN: to raise an
// error, the host would have to wait.
extern "C" __global__ void nbdl_cross_entropy(
    const element_t* __restrict__ x, const long long* __restrict__ target, element_t* __restrict__ losses,
    element_t* __restrict__ y, long long rows, long long n, long long inner, long long ignored) {
    const Row row = this_row(rows, n, inner);
    const Exponentials sum = exponentials(x, row, n, inner);
    if (!row.exists) return;
    for (long long k = row.lane; k < n; k += row.lanes) {
        const long long place = row.start + k * inner;
        y[place] = nbdl::cast<element_t>(::exp(nbdl::cast<number>(x[place]) - sum.largest) / sum.total);
    }
    if (row.lane == 0) {
        const long long label = target[row.number];
        number loss = 0;
        if (label != ignored) {
            loss = nbdl::not_a_number<number>();
            if (label >= 0 && label < n)
                loss = ::log(sum.total) - (nbdl::cast<number>(x[row.start + label * inner]) - sum.largest);
        }
        losses[row.number] = nbdl::cast<element_t>(loss);
    }
}

// g (p - 1) at the target, g p elsewhere, 0 in rows that are ignored. Rows have a g each, or share g times h.
extern "C" __global__ void nbdl_cross_entropy_input(
    const element_t* __restrict__ p, const long long* __restrict__ target, const element_t* __restrict__ g,
    const element_t* __restrict__ h, element_t* __restrict__ gx, long long rows, long long n, long long inner,
    long long ignored, int is_shared) {
    const Row row = this_row(rows, n, inner);
    if (!row.exists) return;
    const long long label = target[row.number];
    const number scale = is_shared ? nbdl::cast<number>(*g) * nbdl::cast<number>(*h) : nbdl::cast<number>(g[row.number]);
    const bool exists = label >= 0 && label < n;
    for (long long k = row.lane; k < n; k += row.lanes) {
        const long long place = row.start + k * inner;
        number slope = 0;
        if (label != ignored)
            slope = exists ? scale * (nbdl::cast<number>(p[place]) - number(k == label)) : nbdl::not_a_number<number>();
        gx[place] = nbdl::cast<element_t>(slope);
    }
}

// Weighted sums along an axis: element j is the sum of weights[k] x[places[k]] over starts[j] <= k < starts[j + 1].
// element_t is the type in memory, number that of the arithmetic, each defined in front of this text.
extern "C" __global__ void nbdl_resample(
    const element_t* __restrict__ x, const long long* __restrict__ starts, const long long* __restrict__ places,
    const number* __restrict__ weights, element_t* __restrict__ y, long long count, long long length, long long taken,
    long long inner) {
    NBDL_EACH(i, count) {
        const long long j = i / inner % taken;
        const element_t* line = x + i / (inner * taken) * length * inner + i % inner;
        number total = 0;
        for (long long k = starts[j]; k < starts[j + 1]; ++k)
            total += weights[k] * nbdl::cast<number>(line[places[k] * inner]);
        y[i] = nbdl::cast<element_t>(total);
    }
}

// Connectionist temporal classification (Graves et al. 2006, section 4.1): a block a sample. Its labels, with a blank
// before, between and behind them, are its states; threads share the states of a step. Variables are logarithms, and all
// have the emission of their own step. element_t is the type in memory, number that of the arithmetic, each defined in
// front of this text.

struct Sample {
    const long long* labels;
    long long steps, count, states, blank;
    bool fits;  // whether lengths and labels exist

    __device__ __forceinline__ long long label(long long state) const { return state % 2 ? labels[state / 2] : blank; }
    // Whether a path may come from two states before.
    __device__ __forceinline__ bool skips(long long state) const {
        return state > 1 && state % 2 && labels[state / 2] != labels[state / 2 - 1];
    }
};

NBDL_FUNCTION Sample this_sample(
    const long long* labels, const long long* input_lengths, const long long* target_lengths, long long steps,
    long long classes, long long columns, long long blank) {
    Sample sample;
    sample.labels = labels + blockIdx.x * columns;
    sample.steps = input_lengths[blockIdx.x];
    sample.count = target_lengths[blockIdx.x];
    sample.states = 2 * sample.count + 1;
    sample.blank = blank;
    sample.fits = 0 <= sample.steps && sample.steps <= steps && 0 <= sample.count && sample.count <= columns;
    for (long long k = 0; sample.fits && k < sample.count; ++k)
        sample.fits = 0 <= sample.labels[k] && sample.labels[k] < classes;
    return sample;
}

// log(exp(a) + exp(b) + exp(c)), where all may be -inf.
NBDL_FUNCTION number log_sum(number a, number b, number c) {
    number top = a > b ? a : b;
    top = top > c ? top : c;
    if (!(top > -nbdl::infinity<number>())) top = 0;
    return top + ::log(::exp(a - top) + ::exp(b - top) + ::exp(c - top));
}

// The forward variables, of step t in row t & mask; returns the loss. All threads of a block call it.
NBDL_FUNCTION number forward(
    const element_t* x, const Sample& sample, long long distance, number* alphas, long long width, long long mask) {
    const number never = -nbdl::infinity<number>();
    if (!sample.fits) return never - never;
    if (sample.steps == 0) return sample.count ? -never : number(0);
    for (long long t = 0; t < sample.steps; ++t) {
        number* here = alphas + (t & mask) * width;
        const number* before = alphas + ((t - 1) & mask) * width;
        for (long long state = threadIdx.x; state < sample.states; state += blockDim.x) {
            number value = state < 2 ? number(0) : never;
            if (t > 0)
                value = log_sum(
                    before[state], state > 0 ? before[state - 1] : never,
                    sample.skips(state) ? before[state - 2] : never);
            here[state] = value + nbdl::cast<number>(x[t * distance + sample.label(state)]);
        }
        __syncthreads();
    }
    const number* last = alphas + ((sample.steps - 1) & mask) * width;
    const number loss = -log_sum(last[sample.states - 1], sample.count ? last[sample.states - 2] : never, never);
    __syncthreads();  // the caller may overwrite the rows
    return loss;
}

// A sample that does not fit gives NaN: to raise an error the host would have to wait.
extern "C" __global__ void nbdl_ctc_loss(
    const element_t* __restrict__ x, const long long* __restrict__ labels, const long long* __restrict__ input_lengths,
    const long long* __restrict__ target_lengths, number* __restrict__ alphas, element_t* __restrict__ losses,
    long long steps, long long classes, long long columns, long long blank, int zero_infinity) {
    const Sample sample = this_sample(labels, input_lengths, target_lengths, steps, classes, columns, blank);
    const long long width = 2 * columns + 1;
    const number loss = forward(
        x + blockIdx.x * classes, sample, gridDim.x * classes, alphas + blockIdx.x * 2 * width, width, 1);
    if (threadIdx.x == 0)
        losses[blockIdx.x] = nbdl::cast<element_t>(zero_infinity && loss == nbdl::infinity<number>() ? number(0) : loss);
}

// The gradient by log-probabilities that a log-softmax gave. `g` is that of the losses, or with `of_total` that of their
// total. `chains` has for each state twice the next one of the same class (0: none), and 1 more for the first one.
extern "C" __global__ void nbdl_ctc_loss_input(
    const element_t* __restrict__ x, const long long* __restrict__ labels, const long long* __restrict__ input_lengths,
    const long long* __restrict__ target_lengths, const element_t* __restrict__ g, number* __restrict__ alphas,
    number* __restrict__ betas, long long* __restrict__ chains, element_t* __restrict__ y, long long steps,
    long long classes, long long columns, long long blank, int mean, int zero_infinity, int of_total) {
    const number never = -nbdl::infinity<number>();
    const Sample sample = this_sample(labels, input_lengths, target_lengths, steps, classes, columns, blank);
    const long long width = 2 * columns + 1, distance = gridDim.x * classes;
    x += blockIdx.x * classes;
    y += blockIdx.x * classes;
    alphas += blockIdx.x * steps * width;
    betas += blockIdx.x * 2 * width;
    chains += blockIdx.x * width;
    const number loss = forward(x, sample, distance, alphas, width, -1);
    number slope = nbdl::cast<number>(g[of_total ? 0 : blockIdx.x]);
    if (of_total && mean) slope /= number((sample.count > 1 ? sample.count : 1) * gridDim.x);
    if (!(loss < -never)) slope = never - never;
    const long long end = !sample.fits || (zero_infinity && loss == -never) ? 0 : sample.steps;
    const number rest = sample.fits ? number(0) : never - never;
    for (long long t = end; t < steps; ++t)
        for (long long k = threadIdx.x; k < classes; k += blockDim.x)
            y[t * distance + k] = nbdl::cast<element_t>(rest);
    for (long long state = threadIdx.x; end > 0 && state < sample.states; state += blockDim.x) {
        const long long label = sample.label(state);
        long long next = state + 1, before = state - 1;
        while (next < sample.states && sample.label(next) != label) ++next;
        while (before >= 0 && sample.label(before) != label) --before;
        chains[state] = (next < sample.states ? 2 * next : 0) + (before < 0);
    }
    for (long long t = end - 1; t >= 0; --t) {
        number *here = betas + (t & 1) * width, *alpha = alphas + t * width;
        const number* after = betas + ((t + 1) & 1) * width;
        for (long long k = threadIdx.x; k < classes; k += blockDim.x)
            y[t * distance + k] = nbdl::cast<element_t>(::exp(nbdl::cast<number>(x[t * distance + k])) * slope);
        for (long long state = threadIdx.x; state < sample.states; state += blockDim.x) {
            number value = state + 2 >= sample.states ? number(0) : never;
            if (t < end - 1)
                value = log_sum(
                    after[state], state + 1 < sample.states ? after[state + 1] : never,
                    state + 2 < sample.states && sample.skips(state + 2) ? after[state + 2] : never);
            here[state] = value + nbdl::cast<number>(x[t * distance + sample.label(state)]);
            // Without a path the sum would be NaN. The emission is in both variables.
            alpha[state] = alpha[state] != never && here[state] != never ? slope * ::exp(alpha[state] + value + loss)
                                                                         : number(0);
        }
        __syncthreads();
        for (long long state = threadIdx.x; state < sample.states; state += blockDim.x) {
            if (chains[state] % 2 == 0) continue;
            number total = 0;
            long long k = state;
            do {
                total += alpha[k];
                k = chains[k] / 2;
            } while (k > 0);
            const long long place = t * distance + sample.label(state);
            y[place] = nbdl::cast<element_t>(::exp(nbdl::cast<number>(x[place])) * slope - total);
        }
    }
}

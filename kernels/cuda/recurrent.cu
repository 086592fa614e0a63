// A recurrent layer in one direction over whole sequences: a block for each sequence, which keeps the hidden state in
// shared memory; a thread for each hidden unit, or for several. In front of this text stand element_t, the type in
// memory, number, that of the arithmetic, the numbers of the cell (BLOCKS of the weights, SAVED outputs, STATES,
// MEMORY: which state the step reads beside u, -1 for none, SPLITS: whether the gradients of x and u differ), and
//
//     step(x, u, m, r)         the saved outputs and the new states r of a step
//     gradient(y, m, d, g, r)  the gradients r of x, of u if they differ, and of m
//
// Place t, row of a sequence is t * step_stride + row * row_stride, in units of what a place holds.

// Whether a sequence has a step t; the longest come first.
NBDL_FUNCTION bool goes_on(const long long* sizes, int has_sizes, int t, int row) {
    return !has_sizes || row < sizes[t];
}

// weight is (n, BLOCKS * n), transposed, so that neighbouring threads read neighbours.
extern "C" __global__ void nbdl_recurrent(
    const element_t* __restrict__ x, const element_t* __restrict__ h_first, const element_t* __restrict__ c_first,
    const element_t* __restrict__ weight, const element_t* __restrict__ bias, const long long* __restrict__ sizes,
    element_t* __restrict__ hidden, element_t* __restrict__ h_last, element_t* __restrict__ c_last,
    element_t* __restrict__ saved, element_t* __restrict__ h_before, element_t* __restrict__ c_before, int steps, int n,
    long long step_stride, long long row_stride, int reverse, int has_bias, int has_sizes, int keep) {
    extern __shared__ number shared[];
    const int row = blockIdx.x;
    number* h = shared;
    number* next = shared + n;
    number* c = shared + 2 * n;
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        h[j] = nbdl::cast<number>(h_first[(long long)row * n + j]);
        if (STATES == 2) c[j] = nbdl::cast<number>(c_first[(long long)row * n + j]);
    }
    __syncthreads();
    for (int s = 0; s < steps; ++s) {
        const int t = reverse ? steps - 1 - s : s;
        const long long at = t * step_stride + row * row_stride;
        const bool active = goes_on(sizes, has_sizes, t, row);
        for (int j = threadIdx.x; j < n; j += blockDim.x) {
            if (keep) {
                h_before[at * n + j] = nbdl::cast<element_t>(h[j]);
                if (STATES == 2) c_before[at * n + j] = nbdl::cast<element_t>(c[j]);
            }
            number value = h[j];
            if (active) {
                number xs[BLOCKS], u[BLOCKS], r[SAVED + STATES];
                for (int k = 0; k < BLOCKS; ++k) {
                    xs[k] = nbdl::cast<number>(x[(at * BLOCKS + k) * n + j]);
                    u[k] = has_bias ? nbdl::cast<number>(bias[k * n + j]) : number(0);
                }
                for (int i = 0; i < n; ++i)
                    for (int k = 0; k < BLOCKS; ++k)
                        u[k] += h[i] * nbdl::cast<number>(weight[((long long)i * BLOCKS + k) * n + j]);
                step(xs, u, MEMORY == 1 ? c[j] : h[j], r);
                if (keep)
                    for (int k = 0; k < SAVED; ++k) saved[(at * SAVED + k) * n + j] = nbdl::cast<element_t>(r[k]);
                value = r[SAVED];
                if (STATES == 2) c[j] = r[SAVED + STATES - 1];
            } else if (keep) {
                for (int k = 0; k < SAVED; ++k) saved[(at * SAVED + k) * n + j] = nbdl::cast<element_t>(0);
            }
            next[j] = value;
            hidden[at * n + j] = nbdl::cast<element_t>(value);
        }
        __syncthreads();  // the old state has been read, the new one is written
        number* old = h;
        h = next;
        next = old;
    }
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        h_last[(long long)row * n + j] = nbdl::cast<element_t>(h[j]);
        if (STATES == 2) c_last[(long long)row * n + j] = nbdl::cast<element_t>(c[j]);
    }
}

// weight is (BLOCKS * n, n), as it is.
extern "C" __global__ void nbdl_recurrent_input(
    const element_t* __restrict__ g, const element_t* __restrict__ h_slope, const element_t* __restrict__ c_slope,
    const element_t* __restrict__ saved, const element_t* __restrict__ before, const element_t* __restrict__ weight,
    const long long* __restrict__ sizes, element_t* __restrict__ of_x, element_t* __restrict__ of_u,
    element_t* __restrict__ of_h, element_t* __restrict__ of_c, int steps, int n, long long step_stride,
    long long row_stride, int reverse, int has_sizes) {
    extern __shared__ number shared[];
    const int row = blockIdx.x;
    number* slopes = shared;  // of u, BLOCKS * n
    number* dh = shared + BLOCKS * n;
    number* dc = dh + n;
    number* carry = dc + n;  // what m hands to h, where m is h
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        dh[j] = nbdl::cast<number>(h_slope[(long long)row * n + j]);
        if (STATES == 2) dc[j] = nbdl::cast<number>(c_slope[(long long)row * n + j]);
    }
    __syncthreads();
    for (int s = 0; s < steps; ++s) {
        const int t = reverse ? s : steps - 1 - s;
        const long long at = t * step_stride + row * row_stride;
        const bool active = goes_on(sizes, has_sizes, t, row);
        for (int j = threadIdx.x; j < n; j += blockDim.x) {
            number r[(1 + SPLITS) * BLOCKS + 1];
            for (int k = 0; k <= (1 + SPLITS) * BLOCKS; ++k) r[k] = 0;
            if (active) {
                number y[SAVED];
                for (int k = 0; k < SAVED; ++k) y[k] = nbdl::cast<number>(saved[(at * SAVED + k) * n + j]);
                const number m = MEMORY >= 0 ? nbdl::cast<number>(before[at * n + j]) : number(0);
                const number d[2] = {dh[j], STATES == 2 ? dc[j] : number(0)};
                gradient(y, m, d, nbdl::cast<number>(g[at * n + j]), r);
                for (int k = 0; k < BLOCKS; ++k) slopes[k * n + j] = r[SPLITS * BLOCKS + k];
                if (MEMORY == 1) dc[j] = r[(1 + SPLITS) * BLOCKS];
                if (MEMORY == 0) carry[j] = r[(1 + SPLITS) * BLOCKS];
            }
            for (int k = 0; k < BLOCKS; ++k) {
                of_x[(at * BLOCKS + k) * n + j] = nbdl::cast<element_t>(r[k]);
                if (SPLITS) of_u[(at * BLOCKS + k) * n + j] = nbdl::cast<element_t>(r[BLOCKS + k]);
            }
        }
        __syncthreads();
        for (int j = threadIdx.x; j < n; j += blockDim.x) {
            if (active) {
                number total = MEMORY == 0 ? carry[j] : number(0);
                for (int i = 0; i < BLOCKS * n; ++i)
                    total += slopes[i] * nbdl::cast<number>(weight[(long long)i * n + j]);
                dh[j] = total;
            } else {
                dh[j] += nbdl::cast<number>(g[at * n + j]);
            }
        }
        __syncthreads();
    }
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        of_h[(long long)row * n + j] = nbdl::cast<element_t>(dh[j]);
        if (STATES == 2) of_c[(long long)row * n + j] = nbdl::cast<element_t>(dc[j]);
    }
}

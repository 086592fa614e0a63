// Random numbers from the words of philox.cuh; a thread makes the elements of a block. The types element_t (of the
// result) and real_t (in which it is computed) are defined in front of this text.

// The fraction of 53 bits in two words.
NBDL_FUNCTION double fraction53(unsigned high, unsigned low) {
    return ((high >> 5) * 67108864.0 + (low >> 6)) * 1.1102230246251565e-16;
}

// A probability: a number, or one for each element.
template <class P> NBDL_FUNCTION double probability(P p, long long) { return p; }
template <class P> NBDL_FUNCTION double probability(const P* p, long long k) { return p[k]; }

constexpr bool is_wide = sizeof(real_t) == 8;
// Elements that the words of a block give.
constexpr int per_block = is_wide ? 2 : 4;

#define NBDL_BLOCKS(count, size)                                                        \
    for (long long block = blockIdx.x * (long long)blockDim.x + threadIdx.x;            \
         block * (size) < (count); block += (long long)gridDim.x * blockDim.x)

extern "C" __global__ void nbdl_random_uniform(
    const long long* __restrict__ seed, const long long* __restrict__ draw, element_t* __restrict__ y, long long count, int digits) {
    NBDL_BLOCKS(count, per_block) {
        const Words w = philox(*seed, *draw, block);
        for (int k = 0; k < per_block && block * per_block + k < count; ++k) {
            real_t value;
            if constexpr (is_wide) value = fraction53(w.word[2 * k], w.word[2 * k + 1]);
            else value = (w.word[k] >> (32 - digits)) * ::exp2f(-digits);
            y[block * per_block + k] = nbdl::cast<element_t>(value);
        }
    }
}

// Box and Muller: two words (in double four) give r cos(a) and r sin(a).
extern "C" __global__ void nbdl_random_normal(
    const long long* __restrict__ seed, const long long* __restrict__ draw, element_t* __restrict__ y, long long count) {
    NBDL_BLOCKS(count, per_block) {
        const Words w = philox(*seed, *draw, block);
        for (int pair = 0; pair < per_block / 2; ++pair) {
            real_t u, v;
            if constexpr (is_wide) {
                u = fraction53(w.word[0], w.word[1]) + 5.5511151231257827e-17;
                v = fraction53(w.word[2], w.word[3]);
            } else {
                u = (float)w.word[2 * pair] * 2.3283064365386963e-10f + 1.1641532182693481e-10f;
                v = (float)w.word[2 * pair + 1] * 2.3283064365386963e-10f;
            }
            const real_t radius = ::sqrt(real_t(-2) * ::log(u)), angle = real_t(6.283185307179586) * v;
            const long long k = block * per_block + 2 * pair;
            if (k < count) y[k] = nbdl::cast<element_t>(radius * ::cos(angle));
            if (k + 1 < count) y[k + 1] = nbdl::cast<element_t>(radius * ::sin(angle));
        }
    }
}

// low + (w mod span) of 64-bit words w; a span of 0 means 2^64.
extern "C" __global__ void nbdl_random_integers(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const long long* __restrict__ low,
    const long long* __restrict__ span, element_t* __restrict__ y, long long count) {
    const unsigned long long values = *span;
    NBDL_BLOCKS(count, 2) {
        const Words w = philox(*seed, *draw, block);
        for (int k = 0; k < 2 && block * 2 + k < count; ++k) {
            unsigned long long wide = (unsigned long long)w.word[2 * k + 1] << 32 | w.word[2 * k];
            if (values != 0) wide %= values;
            y[block * 2 + k] = nbdl::cast<element_t>((long long)((unsigned long long)*low + wide));
        }
    }
}

extern "C" __global__ void nbdl_random_bernoulli(
    const long long* __restrict__ seed, const long long* __restrict__ draw, probability_t p, element_t* __restrict__ y, long long count) {
    NBDL_BLOCKS(count, 4) {
        const Words w = philox(*seed, *draw, block);
        for (int k = 0; k < 4 && block * 4 + k < count; ++k)
            y[block * 4 + k] = nbdl::cast<element_t>(w.word[k] < probability(p, block * 4 + k) * 4294967296.0);
    }
}

// x / (1 - p) where an element is kept, else 0; and which are kept.
extern "C" __global__ void nbdl_dropout(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const element_t* __restrict__ x, double p,
    element_t* __restrict__ y, bool* __restrict__ kept, long long count) {
    const real_t scale = real_t(1.0 / (1.0 - p));
    const double limit = (1.0 - p) * 4294967296.0;
    NBDL_BLOCKS(count, 4) {
        const Words w = philox(*seed, *draw, block);
        for (int k = 0; k < 4 && block * 4 + k < count; ++k) {
            const long long i = block * 4 + k;
            const bool is_kept = w.word[k] < limit;
            y[i] = nbdl::cast<element_t>(is_kept ? nbdl::cast<real_t>(x[i]) * scale : real_t(0));
            kept[i] = is_kept;
        }
    }
}

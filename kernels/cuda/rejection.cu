// Random numbers by rejection (nbdl/backend/numpy/rejection.py has the methods): a thread proposes for an element until
// it is accepted. Attempt t of element i reads block i + 2^40 t of the draw. Parameters are double, one an element; one
// outside of its domain gives NaN. element_t, the type of the result, is defined in front of this text.

constexpr double SMALL_MEAN = 10;  // below it, by summing probabilities
constexpr int TERMS = 80;
constexpr double PI = 3.141592653589793;

NBDL_FUNCTION Words attempt_of(long long seed, long long draw, long long i, long long t) {
    return philox(seed, draw, i + (t << 40));
}

// Numbers in (0, 1), from 52 bits and from 32.
NBDL_FUNCTION double wide(unsigned high, unsigned low) {
    return ((high >> 6) * 67108864.0 + (low >> 6) + 0.5) * 2.220446049250313e-16;
}
NBDL_FUNCTION double narrow(unsigned word) { return (word + 0.5) * 2.3283064365386963e-10; }

// The first k where the sum of probabilities exceeds u; ratio(k) is that of the probabilities of k + 1 and k.
template <class Ratio> NBDL_FUNCTION double inverted(double u, double probability, Ratio ratio) {
    double k = 0, total = probability;
    for (int term = 0; term < TERMS && u >= total; ++term) {
        k += 1;
        probability *= ::fmax(ratio(term), 0.0);
        total += probability;
    }
    return k;
}

// Marsaglia and Tsang (2000), in logarithms.
extern "C" __global__ void nbdl_random_log_gamma(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const double* __restrict__ concentration,
    element_t* __restrict__ y, long long count) {
    NBDL_EACH(i, count) {
        const double a = concentration[i], d = (a < 1 ? a + 1 : a) - 1.0 / 3.0;
        double value = nbdl::not_a_number<double>();
        for (long long t = 1; a > 0 && nbdl::isfinite(a); ++t) {
            const Words w = attempt_of(*seed, *draw, i, t);
            const double normal = ::sqrt(-2 * ::log(wide(w.word[0], w.word[1]))) * ::cos(2 * PI * narrow(w.word[2]));
            const double root = 1 + normal / (3 * ::sqrt(d)), log_cube = 3 * ::log(root);
            if (::log(narrow(w.word[3])) < 0.5 * normal * normal + d - d * root * root * root + d * log_cube) {
                const Words last = attempt_of(*seed, *draw, i, 0);
                value = ::log(d) + log_cube + (a < 1 ? ::log(wide(last.word[0], last.word[1])) / a : 0.0);
                break;
            }
        }
        y[i] = nbdl::cast<element_t>(value);
    }
}

// Inversion, or PTRS of Hoermann (1993).
extern "C" __global__ void nbdl_random_poisson(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const double* __restrict__ rate,
    element_t* __restrict__ y, long long count) {
    NBDL_EACH(i, count) {
        const double mean = rate[i], b = 0.931 + 2.53 * ::sqrt(mean), a = -0.059 + 0.02483 * b;
        double value = nbdl::not_a_number<double>();
        for (long long t = 0; mean >= 0 && nbdl::isfinite(mean); ++t) {
            const Words w = attempt_of(*seed, *draw, i, t);
            const double u = wide(w.word[0], w.word[1]), v = wide(w.word[2], w.word[3]);
            if (mean < SMALL_MEAN) {
                value = inverted(u, ::exp(-mean), [=](int k) { return mean / (k + 1); });
                break;
            }
            const double distance = 0.5 - ::fabs(u - 0.5);
            const double k = ::floor((2 * a / distance + b) * (u - 0.5) + mean + 0.43);
            bool accepted = distance >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2);
            if (!accepted && k >= 0 && (distance >= 0.013 || v <= distance)) {
                const double scale = (1.1239 + 1.1328 / (b - 3.4)) / (a / (distance * distance) + b);
                accepted = ::log(v * scale) <= k * ::log(mean) - mean - ::lgamma(k + 1);
            }
            if (accepted) {
                value = k;
                break;
            }
        }
        y[i] = nbdl::cast<element_t>(value);
    }
}

// Inversion, or BTRS of Hoermann (1993); the rarer outcome is counted.
extern "C" __global__ void nbdl_random_binomial(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const double* __restrict__ trials,
    const double* __restrict__ probability, element_t* __restrict__ y, long long count) {
    NBDL_EACH(i, count) {
        const double n = ::floor(trials[i]), p = probability[i], rare = ::fmin(p, 1 - p), odds = rare / (1 - rare);
        const double mean = n * rare, spread = ::sqrt(::fmax(mean, SMALL_MEAN) * (1 - rare)), mode = ::floor((n + 1) * rare);
        const double b = 1.15 + 2.53 * spread, a = -0.0873 + 0.0248 * b + 0.01 * rare;
        double value = nbdl::not_a_number<double>();
        for (long long t = 0; n >= 0 && p >= 0 && p <= 1 && nbdl::isfinite(n); ++t) {
            const Words w = attempt_of(*seed, *draw, i, t);
            const double u = wide(w.word[0], w.word[1]), v = wide(w.word[2], w.word[3]);
            if (mean < SMALL_MEAN) {
                value = inverted(u, ::exp(n * ::log1p(-rare)), [=](int k) { return (n - k) / (k + 1) * odds; });
                break;
            }
            const double distance = 0.5 - ::fabs(u - 0.5);
            const double k = ::floor((2 * a / distance + b) * (u - 0.5) + mean + 0.5);
            bool accepted = distance >= 0.07 && v <= 0.92 - 4.2 / b;
            if (!accepted && k >= 0 && k <= n) {
                const double scale = (2.83 + 5.1 / b) * spread / (a / (distance * distance) + b);
                const double bound = ::lgamma(mode + 1) + ::lgamma(n - mode + 1) - ::lgamma(k + 1) - ::lgamma(n - k + 1);
                accepted = ::log(v * scale) <= bound + (k - mode) * ::log(odds);
            }
            if (accepted) {
                value = k;
                break;
            }
        }
        y[i] = nbdl::cast<element_t>(p > 0.5 ? n - value : value);
    }
}

// Best and Fisher (1979), in forms without cancellation.
extern "C" __global__ void nbdl_random_von_mises(
    const long long* __restrict__ seed, const long long* __restrict__ draw, const double* __restrict__ concentration,
    element_t* __restrict__ y, long long count) {
    NBDL_EACH(i, count) {
        const double c = concentration[i], root = ::sqrt(1 + 4 * c * c), tau = 1 + root;
        const double rho = ::sqrt(tau) * 2 * c / (tau * (::sqrt(tau) + 1.4142135623730951));
        const double gap = c < 1 ? 1 - rho : (::sqrt(2 * tau) - 1 - 1 / (root + 2 * c)) / (2 * c);
        const double excess = gap * gap / (2 * rho);
        double value = nbdl::not_a_number<double>();
        for (long long t = 0; c > 0 && nbdl::isfinite(c); ++t) {
            const Words w = attempt_of(*seed, *draw, i, t);
            const double half = 0.5 * PI * wide(w.word[0], w.word[1]), sine = ::sin(half), cosine = ::cos(half);
            const double versine = excess * 2 * sine * sine / (excess + 2 * cosine * cosine);
            const double spread = c * (excess + versine);
            if (::log(spread / narrow(w.word[2])) + 1 - spread >= 0) {
                const double angle = 2 * ::asin(::sqrt(::fmin(0.5 * versine, 1.0)));
                value = w.word[3] < 0x80000000u ? angle : -angle;
                break;
            }
        }
        y[i] = nbdl::cast<element_t>(value);
    }
}

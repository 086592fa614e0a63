// The vocabulary of nbdl.formula where CUDA's C library lacks a function or means another one by its name.
//
// Everything is a template of the dtype of the arithmetic: float, double, bool, or an integer. Special values are
// those of NumPy: NaN propagates through maximum and minimum, integer division by zero gives 0, shifts by the width
// or more are defined. Compiled by NVRTC, which has no standard headers.

namespace nbdl {

#define NBDL_FUNCTION static __device__ __forceinline__

// ---------------------------------------------------------------------------------------------------------- numbers
template <class T> struct is_floating { static constexpr bool value = false; };
template <> struct is_floating<float> { static constexpr bool value = true; };
template <> struct is_floating<double> { static constexpr bool value = true; };

template <class T> constexpr bool is_real = is_floating<T>::value;
template <class T> constexpr bool is_signed = T(-1) < T(1);
template <class T> constexpr bool is_bool = T(2) == T(1);
template <class T> constexpr int width = 8 * sizeof(T);

template <class T> NBDL_FUNCTION T infinity() { return T(__longlong_as_double(0x7ff0000000000000LL)); }
template <class T> NBDL_FUNCTION T not_a_number() { return T(__longlong_as_double(0x7ff8000000000000LL)); }

// The values that are not larger, and not smaller, than any other.
template <class T> NBDL_FUNCTION T lowest() {
    if constexpr (is_real<T>) return -infinity<T>();
    else if constexpr (is_signed<T>) return T(1ULL << (width<T> - 1));
    else return T(0);
}
template <class T> NBDL_FUNCTION T highest() {
    if constexpr (is_real<T>) return infinity<T>();
    else if constexpr (is_signed<T>) return T((1ULL << (width<T> - 1)) - 1);
    else return T(-1);
}

template <class T> NBDL_FUNCTION bool is_negative(T x) {
    if constexpr (is_signed<T>) return x < T(0); else return false;
}

// How elements in memory become numbers and back; half.cuh and bfloat16.cuh add their types.
template <class To, class From> struct Cast { NBDL_FUNCTION To apply(From x) { return To(x); } };
template <class From> struct Cast<bool, From> { NBDL_FUNCTION bool apply(From x) { return x != From(0); } };
template <class To, class From> NBDL_FUNCTION To cast(From x) { return Cast<To, From>::apply(x); }
template <class From> NBDL_FUNCTION bool truth(From x) { return cast<bool>(x); }

// N neighbouring elements that are moved by one instruction.
template <class T, int N> struct alignas(sizeof(T) * N) Pack {
    T element[N];
    __device__ __forceinline__ T& operator[](int k) { return element[k]; }
    __device__ __forceinline__ const T& operator[](int k) const { return element[k]; }
};
template <int N, class T, class Index> NBDL_FUNCTION Pack<T, N> load_pack(const T* address, Index k) {
    return reinterpret_cast<const Pack<T, N>*>(address)[k];
}
template <int N, class T, class Index> NBDL_FUNCTION void store_pack(T* address, Index k, const Pack<T, N>& pack) {
    reinterpret_cast<Pack<T, N>*>(address)[k] = pack;
}

// ------------------------------------------------------------------------------------------------------- arithmetic
template <class T> NBDL_FUNCTION T square(T x) { return x * x; }
template <class T> NBDL_FUNCTION T reciprocal(T x) { return T(1) / x; }

template <class T> NBDL_FUNCTION T abs(T x) {
    if constexpr (is_real<T>) return ::fabs(x);
    else if constexpr (is_signed<T>) return x < T(0) ? T(-x) : x;
    else return x;
}
template <class T> NBDL_FUNCTION T sign(T x) {
    if constexpr (is_real<T>) { if (x != x) return x; }
    return T(T(0) < x) - T(is_negative(x));
}
template <class T> NBDL_FUNCTION T heaviside(T x, T at_zero) {
    if (x == T(0)) return at_zero;
    return x != x ? x : T(x > T(0));
}

// A divisor for which integer division is defined: 1 in place of 0 and -1.
template <class T> NBDL_FUNCTION T safe_divisor(T y) {
    return y == T(0) || (is_signed<T> && y == T(-1)) ? T(1) : y;
}
template <class T> NBDL_FUNCTION T fmod(T x, T y) {
    if constexpr (is_real<T>) return ::fmod(x, y);
    else return T(x % safe_divisor(y));
}
template <class T> NBDL_FUNCTION T remainder(T x, T y) {
    const T r = nbdl::fmod(x, y);
    if constexpr (is_real<T>) { if (r == T(0)) return ::copysign(T(0), y); }
    return r != T(0) && is_negative(r) != is_negative(y) ? T(r + y) : r;
}
template <class T> NBDL_FUNCTION T floor_divide(T x, T y) {
    if constexpr (is_real<T>) {
        if (y == T(0)) return x / y;
        // x - fmod is divisible by y up to rounding, so that the quotient is within rounding of an integer.
        const T r = ::fmod(x, y);
        T quotient = (x - r) / y;
        if (r != T(0) && (r < T(0)) != (y < T(0))) quotient -= T(1);
        if (quotient == T(0)) return ::copysign(T(0), x / y);
        const T below = ::floor(quotient);
        return quotient - below > T(0.5) ? below + T(1) : below;
    } else {
        if (y == T(0)) return T(0);
        if (is_signed<T> && y == T(-1)) return T(0ULL - (unsigned long long)x);
        const T quotient = T(x / y);
        return x % y != 0 && is_negative(x) != is_negative(y) ? T(quotient - 1) : quotient;
    }
}

// Integers: modulo the width; negative powers give 0, except of 1 and -1.
template <class T> NBDL_FUNCTION T pow(T x, T y) {
    if constexpr (is_real<T>) return ::pow(x, y);
    else {
        T exponent = y;
        if (is_negative(y)) {
            if (x != T(1) && T(x + 1) != T(0)) return T(0);
            exponent = T(y & T(1));
        }
        unsigned long long result = 1, factor = (unsigned long long)x;
        for (; exponent > T(0); exponent = T(exponent >> 1)) {
            if (exponent & T(1)) result *= factor;
            factor *= factor;
        }
        return T(result);
    }
}
template <class T> NBDL_FUNCTION T float_power(T x, T y) { return ::pow(x, y); }

template <class T> NBDL_FUNCTION T maximum(T x, T y) { return x > y || x != x ? x : y; }
template <class T> NBDL_FUNCTION T minimum(T x, T y) { return x < y || x != x ? x : y; }
template <class T> NBDL_FUNCTION T fmax(T x, T y) { return x > y || y != y ? x : y; }
template <class T> NBDL_FUNCTION T fmin(T x, T y) { return x < y || y != y ? x : y; }
template <class T> NBDL_FUNCTION T clip(T x, T low, T high) { return minimum(maximum(x, low), high); }
template <class T> NBDL_FUNCTION T relu(T x) { return maximum(x, T(0)); }

template <class T> NBDL_FUNCTION T floor(T x) { if constexpr (is_real<T>) return ::floor(x); else return x; }
template <class T> NBDL_FUNCTION T ceil(T x) { if constexpr (is_real<T>) return ::ceil(x); else return x; }
template <class T> NBDL_FUNCTION T trunc(T x) { if constexpr (is_real<T>) return ::trunc(x); else return x; }
template <class T> NBDL_FUNCTION T rint(T x) { if constexpr (is_real<T>) return ::rint(x); else return x; }

// ------------------------------------------------------------------------------------------- truth values of numbers
template <class T> NBDL_FUNCTION bool isnan(T x) { return x != x; }
template <class T> NBDL_FUNCTION bool isinf(T x) {
    if constexpr (is_real<T>) return ::fabs(x) == infinity<T>(); else return false;
}
template <class T> NBDL_FUNCTION bool isfinite(T x) {
    if constexpr (is_real<T>) return ::fabs(x) < infinity<T>(); else return true;
}
template <class T> NBDL_FUNCTION bool signbit(T x) {
    if constexpr (is_real<T>) return ::copysign(T(1), x) < T(0); else return is_negative(x);
}
template <class T> NBDL_FUNCTION T nan_to_num(T x, T nan, T posinf, T neginf) {
    if constexpr (is_real<T>) {
        if (x != x) return nan;
        return x == infinity<T>() ? posinf : x == -infinity<T>() ? neginf : x;
    } else return x;
}

// ----------------------------------------------------------------------------------------------- bits of integers
template <class T> NBDL_FUNCTION T bitwise_not(T x) { if constexpr (is_bool<T>) return !x; else return T(~x); }
template <class T> NBDL_FUNCTION T left_shift(T x, T n) {
    return !is_negative(n) && n < T(width<T>) ? T((unsigned long long)x << n) : T(0);
}
template <class T> NBDL_FUNCTION T right_shift(T x, T n) {
    if (!is_negative(n) && n < T(width<T>)) return T(x >> n);
    return is_negative(x) ? T(-1) : T(0);
}

// -------------------------------------------------------------------------------------- exponentials and logarithms
template <class T> NBDL_FUNCTION T expit(T x) {
    const T e = ::exp(-::fabs(x));  // never overflows
    return (x < T(0) ? e : T(1)) / (T(1) + e);
}
// Around 1/2 the quotient is close to 1 and its logarithm would lose digits.
template <class T> NBDL_FUNCTION T logit(T x) {
    return x > T(0.25) && x < T(0.75) ? T(2) * ::atanh(T(2) * x - T(1)) : ::log(x / (T(1) - x));
}
template <class T> NBDL_FUNCTION T softplus(T x) { return relu(x) + ::log1p(::exp(-::fabs(x))); }
// Equal operands may be infinite, and then have no difference.
template <class T> NBDL_FUNCTION T logaddexp(T x, T y) {
    return x == y ? x + T(0.6931471805599453) : maximum(x, y) + ::log1p(::exp(-::fabs(x - y)));
}
template <class T> NBDL_FUNCTION T logaddexp2(T x, T y) {
    return x == y ? x + T(1) : maximum(x, y) + ::log1p(::exp2(-::fabs(x - y))) * T(1.4426950408889634);
}
template <class T> NBDL_FUNCTION T xlogy(T x, T y) { return x == T(0) && y == y ? T(0) : x * ::log(y); }
template <class T> NBDL_FUNCTION T xlog1py(T x, T y) { return x == T(0) && y == y ? T(0) : x * ::log1p(y); }

// ----------------------------------------------------------------------------------------------------- trigonometric
template <class T> constexpr T pi = T(3.14159265358979323846);

template <class T> NBDL_FUNCTION T deg2rad(T x) { return x * T(pi<double> / 180); }
template <class T> NBDL_FUNCTION T rad2deg(T x) { return x * T(180 / pi<double>); }
template <class T> NBDL_FUNCTION T sinc(T x) { return x == T(0) ? T(1) : ::sinpi(x) / (pi<T> * x); }

// The n-th derivative of sinc. With s = pi x, that of sin(s)/s is (sin(s + n pi/2) - n * (the one before))/s, which
// loses digits for small s; there the Taylor series, of terms (-1)^m s^(2m-n) / ((2m-n)! (2m+1)) with 2m >= n, is
// summed.
inline __device__ __noinline__ double sinc_slope(double x, int n) {
    const double s = pi<double> * x;
    double scale = 1;
    for (int k = 0; k < n; ++k) scale *= pi<double>;
    if (::fabs(s) < 1.0 + n) {
        int m = (n + 1) / 2, power = n % 2;
        double term = (m % 2 ? -1.0 : 1.0) * (power ? s : 1.0), total = 0;
        for (int k = 0; k < 20 + n; ++k, ++m, power += 2) {
            total += term / (2 * m + 1);
            term *= -s * s / ((power + 1) * (power + 2));
        }
        return total * scale;
    }
    double value = ::sin(s) / s;
    for (int k = 1; k <= n; ++k) value = (::sin(s + k * (pi<double> / 2)) - k * value) / s;
    return value * scale;
}
template <class T> NBDL_FUNCTION T sinc_slope(T x, T n) { return T(sinc_slope(double(x), int(n))); }

// -------------------------------------------------------------------------------- derivatives of the gamma function
// In double for all dtypes: they are rare, and their recurrences lose digits.
inline __device__ __noinline__ double digamma(double x) {
    if (x == 0) return ::copysign(infinity<double>(), -x);
    double value = 0;
    if (x < 0) {  // digamma(x) = digamma(1 - x) - pi cot(pi x)
        const double fraction = x - ::floor(x + 0.5);
        if (!(fraction * fraction > 0)) return not_a_number<double>();
        value = -pi<double> * ::cospi(fraction) / ::sinpi(fraction);
        x = 1 - x;
    }
    for (; x < 10; x += 1) value -= 1 / x;
    const double r = 1 / (x * x);  // the asymptotic series, of terms B(2j) / (2j x^2j)
    const double series = r * (1.0 / 12 - r * (1.0 / 120 - r * (1.0 / 252 - r * (1.0 / 240 - r * (1.0 / 132
                          - r * (691.0 / 32760 - r / 12))))));
    return value + ::log(x) - 0.5 / x - series;
}
// The sum of (a + k)^-s over k = 0, 1, ... for a > 0 by Euler's and Maclaurin's formula, of terms B(2j)/(2j)! times
// derivatives.
inline __device__ __noinline__ double hurwitz_zeta(double s, double a) {
    const double coefficients[] = {1.0 / 12, -1.0 / 720, 1.0 / 30240, -1.0 / 1209600, 1.0 / 47900160,
                                   -691.0 / 1307674368000, 1.0 / 74724249600, -3617.0 / 10670622842880000};
    double total = 0;
    for (; a < s + 11; a += 1) total += ::pow(a, -s);
    const double power = ::pow(a, -s);
    if (power == 0) return total;
    total += power * (a / (s - 1) + 0.5);
    double rising = s * power / a;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
        total += coefficients[j] * rising;
        rising *= (s + (2 * j + 1)) * (s + (2 * j + 2)) / (a * a);
    }
    return total;
}
// The n-th derivative of digamma; infinite at 0, -1, ...
inline __device__ __noinline__ double polygamma(int n, double x) {
    if (n == 0) return digamma(x);
    const double s = n + 1, parity = n % 2 ? 1 : -1;
    double factor = parity;
    for (int k = 2; k <= n; ++k) factor *= k;
    if (!(x <= 0)) return factor * hurwitz_zeta(s, x);
    const double fraction = x - ::floor(x);
    if (fraction == 0) return factor * infinity<double>();
    // The sum over all integers without those to the left of x.
    const double both_sides = hurwitz_zeta(s, fraction) + parity * hurwitz_zeta(s, 1 - fraction);
    return factor * (both_sides - parity * hurwitz_zeta(s, 1 - x));
}
template <class T> NBDL_FUNCTION T digamma(T x) { return T(digamma(double(x))); }
template <class T> NBDL_FUNCTION T polygamma(T n, T x) { return T(polygamma(int(n), double(x))); }

}  // namespace nbdl

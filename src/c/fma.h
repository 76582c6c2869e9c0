/* a * b + c with one rounding, to nearest even: fma_f32 and fma_f64.
 *
 * The processor's instruction where every processor that the file is compiled for has one. Elsewhere these functions,
 * for libraries differ: some call a product and a sum a fused one, or err where the result is subnormal. NaN and
 * infinity are as the instruction gives them; the rounding mode must be the usual one.
 *
 * (Boldo, Melquiond: Emulation of a FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd, 2008.
 * Dekker: A Floating-Point Technique for Extending the Available Precision, 1971, for the product.)
 */
#ifndef LNORM_FMA_H
#define LNORM_FMA_H

#include <math.h>

#include "compiler.h"

/* All of these compilers know __builtin_fma. Of 32-bit ARM, some have the instruction for float alone. */
#if defined(__FMA__) || defined(__aarch64__) || defined(__s390x__) || defined(__powerpc64__) ||                        \
    (defined(__riscv_flen) && __riscv_flen >= 64) ||                                                                   \
    (defined(__FP_FAST_FMA) && __FP_FAST_FMA && defined(__FP_FAST_FMAF) && __FP_FAST_FMAF)
#define LNORM_FMA_F32 1
#define LNORM_FMA_F64 1
#elif defined(__ARM_FEATURE_FMA)
#define LNORM_FMA_F32 1
#define LNORM_FMA_F64 (__ARM_FP & 8)
#endif

/* ---- Without the instruction ---- */

static INLINE uint64_t bits_of_double(double a)
{
    union {
        double value;
        uint64_t bits;
    } u = {.value = a};
    return u.bits;
}

static INLINE double double_of_bits(uint64_t bits)
{
    union {
        uint64_t bits;
        double value;
    } u = {.bits = bits};
    return u.value;
}

/* A sum of two doubles; the second is what the first lost, or what is left of that. */
typedef struct double_pair {
    double high, low;
} double_pair;

/* a + b exactly. (Knuth's TwoSum.) */
static INLINE double_pair two_sum(double a, double b)
{
    const double sum = a + b, from_b = sum - a;
    return (double_pair){sum, (a - (sum - from_b)) + (b - from_b)};
}

/* a + b rounded to odd: where it is not a double, to that of its two neighbours whose last bit is 1. Rounded once more,
 * to less digits, it gives what a + b would have given. */
static INLINE double odd_sum(double a, double b)
{
    const double_pair exact = two_sum(a, b);
    const uint64_t bits = bits_of_double(exact.high);
    if ((exact.low > 0 || exact.low < 0) && (bits & 1) == 0) {
        return double_of_bits((exact.low > 0) == (exact.high > 0) ? bits + 1 : bits - 1);
    }
    return exact.high;
}

static INLINE float software_fma_f32(float a, float b, float c)
{
    return (float)odd_sum((double)a * (double)b, (double)c); /* the product is exact */
}

/* The upper half of a's digits. */
static INLINE double upper_half(double a)
{
    const double shifted = a * 0x1.0000002p27;
    return shifted - (shifted - a);
}

/* a * b + c is high + low, where low is rounded to odd, if nothing overflows and no digit of the product is too small.
 */
static INLINE double_pair product_and_sum(double a, double b, double c)
{
    const double product = a * b, a_high = upper_half(a), b_high = upper_half(b);
    const double a_low = a - a_high, b_low = b - b_high;
    const double rest = a_low * b_low - (((product - a_high * b_high) - a_low * b_high) - a_high * b_low);
    const double_pair low = two_sum(c, rest), high = two_sum(product, low.high);
    return (double_pair){high.high, odd_sum(high.low, low.low)};
}

/* 2^exponent, from -1022 to 1023. */
static INLINE double double_power(int exponent)
{
    return double_of_bits((uint64_t)(exponent + 1023) << 52);
}

/* a * 2^exponent, where that is a double or overflows. */
static INLINE double times_power_of_two(double a, int exponent)
{
    const int third = exponent / 3;
    return a * double_power(third) * double_power(third) * double_power(exponent - 2 * third);
}

/* a, finite and not 0, as a number in [1, 2), or (-2, -1], and a power of two. */
static INLINE double digits_of(double a, int *exponent)
{
    const int subnormal = a < DBL_MIN && a > -DBL_MIN;
    const uint64_t bits = bits_of_double(subnormal ? a * 0x1p64 : a);
    *exponent = (int)((bits >> 52) & 0x7ff) - 1023 - (subnormal ? 64 : 0);
    return double_of_bits((bits & 0x800fffffffffffffu) | 0x3ff0000000000000u);
}

/* The same near the ends of the range, and of what is not finite. */
static NOINLINE double wide_fma_f64(double a, double b, double c)
{
    int a_exponent, b_exponent, c_exponent;
    if (!isfinite(a) || !isfinite(b) || a == 0 || b == 0) {
        return a * b + c;
    }
    if (!isfinite(c)) {
        return c;
    }
    const double a_digits = digits_of(a, &a_exponent), b_digits = digits_of(b, &b_exponent);
    const int exponent = a_exponent + b_exponent;
    double scaled = c;
    if (c != 0) {
        scaled = digits_of(c, &c_exponent);
        c_exponent -= exponent;
        if (c_exponent > 120) {
            return c;
        }
        scaled *= double_power(c_exponent < -120 ? -120 : c_exponent); /* so far below, only its sign counts */
    }
    const double_pair parts = product_and_sum(a_digits, b_digits, scaled), total = two_sum(parts.high, parts.low);
    /* Subnormal numbers are 2^-1074 apart; so are, with this exponent, the doubles from `near` to its double. */
    const int apart = -1074 - exponent;
    if (apart > -180 && (apart > 130 || fabs(total.high) < double_power(apart + 52))) {
        const double near = copysign(double_power(apart > 130 ? 182 : apart + 52), total.high);
        const double_pair high = two_sum(near, total.high);
        const double rounded = high.high + odd_sum(high.low, total.low) - near;
        return copysign(times_power_of_two(rounded, exponent), total.high);
    }
    return times_power_of_two(total.high, exponent);
}

static INLINE double software_fma_f64(double a, double b, double c)
{
    const double product = fabs(a * b);
    if (LIKELY(product > 0x1p-900 && product < 0x1p1000 && fabs(a) < 0x1p990 && fabs(b) < 0x1p990 &&
               fabs(c) < 0x1p1000)) {
        const double_pair total = product_and_sum(a, b, c);
        return total.high + total.low;
    }
    return wide_fma_f64(a, b, c);
}

/* ---- As the kernels use them ---- */

static INLINE float fma_f32(float a, float b, float c)
{
#if LNORM_FMA_F32
    return __builtin_fmaf(a, b, c);
#else
    return software_fma_f32(a, b, c);
#endif
}

static INLINE double fma_f64(double a, double b, double c)
{
#if LNORM_FMA_F64
    return __builtin_fma(a, b, c);
#else
    return software_fma_f64(a, b, c);
#endif
}

#endif

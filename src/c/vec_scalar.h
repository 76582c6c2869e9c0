/* Virtual vectors of 64 bytes, in plain C: one lane after the other.
 *
 * The loops stay loops, and the functions functions: unrolled, the kernels would be ten times as long.
 */

#include "fma.h"

#define REGISTER_VECS 1

#define VEC_SCALAR(T, S, LANES, FMA, SQRT)                                                                             \
    typedef struct {                                                                                                   \
        T lane[LANES];                                                                                                 \
    } vec_##S;                                                                                                         \
    static NOINLINE vec_##S vec_set1_##S(T a)                                                                          \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            v.lane[i] = a;                                                                                             \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_load_##S(const T *p)                                                                   \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            v.lane[i] = p[i];                                                                                          \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_load_first_##S(const T *p, size_t n)                                                   \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        ROLLED                                                                                                         \
        for (size_t i = 0; i < LANES; i++) {                                                                           \
            v.lane[i] = i < n ? p[i] : 0;                                                                              \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE void vec_store_##S(T *p, vec_##S v)                                                                \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            p[i] = v.lane[i];                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static NOINLINE void vec_store_first_##S(T *p, vec_##S v, size_t n)                                                \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (size_t i = 0; i < n; i++) {                                                                               \
            p[i] = v.lane[i];                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_keep_first_##S(vec_##S v, size_t n)                                                    \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (size_t i = n; i < LANES; i++) {                                                                           \
            v.lane[i] = 0;                                                                                             \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_add_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] += b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_sub_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] -= b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_mul_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] *= b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_fma_##S(vec_##S a, vec_##S b, vec_##S c)                                               \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] = FMA(a.lane[i], b.lane[i], c.lane[i]);                                                          \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_fnma_##S(vec_##S a, vec_##S b, vec_##S c)                                              \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] = FMA(-a.lane[i], b.lane[i], c.lane[i]);                                                         \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_fms_##S(vec_##S a, vec_##S b, vec_##S c)                                               \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] = FMA(a.lane[i], b.lane[i], -c.lane[i]);                                                         \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_div_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] /= b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_sqrt_##S(vec_##S a)                                                                    \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] = SQRT(a.lane[i]);                                                                               \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_if_less_##S(vec_##S a, vec_##S b, vec_##S x, vec_##S y)                                \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            y.lane[i] = a.lane[i] < b.lane[i] ? x.lane[i] : y.lane[i];                                                 \
        }                                                                                                              \
        return y;                                                                                                      \
    }                                                                                                                  \
    static INLINE vec_##S vec_min_##S(vec_##S a, vec_##S b)                                                            \
    {                                                                                                                  \
        return vec_if_less_##S(a, b, a, b);                                                                            \
    }                                                                                                                  \
    static INLINE vec_##S vec_max_##S(vec_##S a, vec_##S b)                                                            \
    {                                                                                                                  \
        return vec_if_less_##S(b, a, a, b);                                                                            \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_even_##S(vec_##S a, vec_##S b, int unit)                                               \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            a.lane[i] = (i & unit) == 0 ? a.lane[i] : b.lane[i - unit];                                                \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_odd_##S(vec_##S a, vec_##S b, int unit)                                                \
    {                                                                                                                  \
        ROLLED                                                                                                         \
        for (int i = 0; i < LANES; i++) {                                                                              \
            b.lane[i] = (i & unit) == 0 ? a.lane[i + unit] : b.lane[i];                                                \
        }                                                                                                              \
        return b;                                                                                                      \
    }

VEC_SCALAR(float, f32, 16, fma_f32, SQRT_F32)
VEC_SCALAR(double, f64, 8, fma_f64, SQRT_F64)
#undef VEC_SCALAR

/* The 16-bit types, rounded to nearest even; NaN stays NaN, and becomes quiet. */

static INLINE uint32_t bits_of_float(float a)
{
    union {
        float value;
        uint32_t bits;
    } u = {.value = a};
    return u.bits;
}

static INLINE float float_of_bits(uint32_t bits)
{
    union {
        uint32_t bits;
        float value;
    } u = {.bits = bits};
    return u.value;
}

static NOINLINE float float_of_f16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, fraction = h & 0x3ffu;
    if (exponent == 0) { /* 0 and subnormal numbers */
        return float_of_bits(sign | bits_of_float((float)fraction * 0x1p-24f));
    }
    if (exponent == 31) {
        return float_of_bits(sign | 0x7f800000u | fraction << 13 | (fraction != 0 ? 0x400000u : 0));
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static NOINLINE uint16_t f16_of_float(float a)
{
    const uint32_t bits = bits_of_float(a), sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    uint32_t half;
    if (size > 0x7f800000u) {
        half = 0x7e00u | ((size >> 13) & 0x3ffu);
    } else if (size >= 0x477ff000u) { /* 65520, half-way to what would be the next number */
        half = 0x7c00u;
    } else if (size < 0x38800000u) { /* 2^-14: in 0.5 and above, one unit of float is 2^-24 */
        half = bits_of_float(float_of_bits(size) + 0.5f) - bits_of_float(0.5f);
    } else {
        half = (size + 0xfffu + ((size >> 13) & 1u) - 0x38000000u) >> 13;
    }
    return (uint16_t)(sign | half);
}

static NOINLINE uint16_t bf16_of_float(float a)
{
    const uint32_t bits = bits_of_float(a), quiet = bits | 0x400000u;
    return (uint16_t)((a != a ? quiet : bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

static NOINLINE vec_f32 vec_widen_f16(const uint16_t *p)
{
    vec_f32 v;
    ROLLED
    for (int i = 0; i < 16; i++) {
        v.lane[i] = float_of_f16(p[i]);
    }
    return v;
}

static NOINLINE void vec_narrow_f16(uint16_t *p, vec_f32 v)
{
    ROLLED
    for (int i = 0; i < 16; i++) {
        p[i] = f16_of_float(v.lane[i]);
    }
}

static NOINLINE vec_f32 vec_widen_bf16(const uint16_t *p)
{
    vec_f32 v;
    ROLLED
    for (int i = 0; i < 16; i++) {
        v.lane[i] = float_of_bits((uint32_t)p[i] << 16);
    }
    return v;
}

static NOINLINE void vec_narrow_bf16(uint16_t *p, vec_f32 v)
{
    ROLLED
    for (int i = 0; i < 16; i++) {
        p[i] = bf16_of_float(v.lane[i]);
    }
}

/* Virtual vectors of 64 bytes, in plain C: one lane after the other.
 *
 * The loops stay loops, and the functions functions: unrolled, the kernels would be ten times as long.
 */

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

VEC_SCALAR(float, f32, 16, fmaf, sqrtf)
VEC_SCALAR(double, f64, 8, fma, sqrt)
#undef VEC_SCALAR

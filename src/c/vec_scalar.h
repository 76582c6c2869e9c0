/* Virtual vectors of 64 bytes, in plain C: one lane after the other.
 *
 * The loops stay loops, and the functions functions: unrolled, the kernels would be ten times as long.
 */

#if defined(__clang__)
#define LANE_LOOP _Pragma("clang loop unroll(disable)") for
#elif defined(__GNUC__)
#define LANE_LOOP _Pragma("GCC unroll 1") for
#else
#define LANE_LOOP for
#endif

#define VEC_SCALAR(T, S, LANES, FMA, SQRT)                                                                             \
    typedef struct {                                                                                                   \
        T lane[LANES];                                                                                                 \
    } vec_##S;                                                                                                         \
    static NOINLINE vec_##S vec_set1_##S(T a)                                                                          \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            v.lane[i] = a;                                                                                             \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_load_##S(const T *p)                                                                   \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            v.lane[i] = p[i];                                                                                          \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_load_first_##S(const T *p, size_t n)                                                   \
    {                                                                                                                  \
        vec_##S v;                                                                                                     \
        LANE_LOOP (size_t i = 0; i < LANES; i++) {                                                                     \
            v.lane[i] = i < n ? p[i] : 0;                                                                              \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE void vec_store_##S(T *p, vec_##S v)                                                                \
    {                                                                                                                  \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            p[i] = v.lane[i];                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static NOINLINE void vec_store_first_##S(T *p, vec_##S v, size_t n)                                                \
    {                                                                                                                  \
        LANE_LOOP (size_t i = 0; i < n; i++) {                                                                         \
            p[i] = v.lane[i];                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_keep_first_##S(vec_##S v, size_t n)                                                    \
    {                                                                                                                  \
        LANE_LOOP (size_t i = n; i < LANES; i++) {                                                                     \
            v.lane[i] = 0;                                                                                             \
        }                                                                                                              \
        return v;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_add_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            a.lane[i] += b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_sub_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            a.lane[i] -= b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_mul_##S(vec_##S a, vec_##S b)                                                          \
    {                                                                                                                  \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            a.lane[i] *= b.lane[i];                                                                                    \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static NOINLINE vec_##S vec_fma_##S(vec_##S a, vec_##S b, vec_##S c)                                               \
    {                                                                                                                  \
        LANE_LOOP (int i = 0; i < LANES; i++) {                                                                        \
            a.lane[i] = FMA(a.lane[i], b.lane[i], c.lane[i]);                                                          \
        }                                                                                                              \
        return a;                                                                                                      \
    }                                                                                                                  \
    static T tree_##S(vec_##S v, T *lost)                                                                              \
    {                                                                                                                  \
        T e[LANES] = {0};                                                                                              \
        for (int half = LANES / 2; half > 0; half /= 2) {                                                              \
            LANE_LOOP (int i = 0; i < half; i++) {                                                                     \
                const T a = v.lane[i], b = v.lane[i + half];                                                           \
                const T s = a + b;                                                                                     \
                const T b_part = s - a;                                                                                \
                e[i] = (e[i] + e[i + half]) + ((a - (s - b_part)) + (b - b_part));                                     \
                v.lane[i] = s;                                                                                         \
            }                                                                                                          \
        }                                                                                                              \
        *lost = e[0];                                                                                                  \
        return v.lane[0];                                                                                              \
    }                                                                                                                  \
    static void vec_sum2_##S(vec_##S a, vec_##S b, T sum[2], T lost[2])                                                \
    {                                                                                                                  \
        sum[0] = tree_##S(a, &lost[0]);                                                                                \
        sum[1] = tree_##S(b, &lost[1]);                                                                                \
    }                                                                                                                  \
    static INLINE T real_fma_##S(T a, T b, T c)                                                                        \
    {                                                                                                                  \
        return FMA(a, b, c);                                                                                           \
    }                                                                                                                  \
    static INLINE T real_sqrt_##S(T a)                                                                                 \
    {                                                                                                                  \
        return SQRT(a);                                                                                                \
    }

VEC_SCALAR(float, f32, 16, fmaf, sqrtf)
VEC_SCALAR(double, f64, 8, fma, sqrt)
#undef VEC_SCALAR
#undef LANE_LOOP

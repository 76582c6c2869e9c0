/* Stands before the compiler's <immintrin.h> when isa_avx512.c is built for a machine without AVX-512: the instructions
 * are carried out by SIMDe (https://github.com/simd-everywhere/simde), lane for lane, so that the kernels' bits can be
 * compared there too. Masked loads and stores are written here; SIMDe 0.7 lacks them. */
#ifndef LNORM_AVX512_ON_AVX2
#define LNORM_AVX512_ON_AVX2

#include_next <immintrin.h>

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#undef LNORM_TARGET_BEGIN
#undef LNORM_TARGET_END
#define LNORM_TARGET_BEGIN(names)
#define LNORM_TARGET_END

#define MASKED_MEMORY(suffix, T, V, LANE_COUNT)                                                                        \
    static inline V masked_load_##suffix(unsigned mask, const T *p)                                                    \
    {                                                                                                                  \
        T lanes[LANE_COUNT] = {0};                                                                                     \
        V v;                                                                                                           \
        for (int i = 0; i < LANE_COUNT; i++) {                                                                         \
            if ((mask >> i) & 1u) {                                                                                    \
                lanes[i] = p[i];                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
        __builtin_memcpy(&v, lanes, sizeof v);                                                                         \
        return v;                                                                                                      \
    }                                                                                                                  \
    static inline void masked_store_##suffix(T *p, unsigned mask, V v)                                                 \
    {                                                                                                                  \
        T lanes[LANE_COUNT];                                                                                           \
        __builtin_memcpy(lanes, &v, sizeof v);                                                                         \
        for (int i = 0; i < LANE_COUNT; i++) {                                                                         \
            if ((mask >> i) & 1u) {                                                                                    \
                p[i] = lanes[i];                                                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }
MASKED_MEMORY(ps, float, simde__m512, 16)
MASKED_MEMORY(pd, double, simde__m512d, 8)
#undef MASKED_MEMORY
#define _mm512_maskz_loadu_ps masked_load_ps
#define _mm512_maskz_loadu_pd masked_load_pd
#define _mm512_mask_storeu_ps masked_store_ps
#define _mm512_mask_storeu_pd masked_store_pd

#endif

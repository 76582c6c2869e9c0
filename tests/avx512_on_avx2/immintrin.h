/* Stands before the compiler's <immintrin.h> when isa_avx512.c is built for a machine without AVX-512: the instructions
 * are carried out by SIMDe (https://github.com/simd-everywhere/simde), lane for lane, so that the kernels' bits can be
 * compared there too. What SIMDe 0.7 lacks is written here: masked loads and stores, and the
 * conversions of float16 and bfloat16. */
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

static inline simde__m512 widen_f16(__m256i h)
{
    simde__m512_private v;
    v.m256[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(h));
    v.m256[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1));
    return simde__m512_from_private(v);
}
static inline __m256i narrow_f16(simde__m512 a)
{
    const simde__m512_private v = simde__m512_to_private(a);
    return _mm256_set_m128i(_mm256_cvtps_ph(v.m256[1], _MM_FROUND_TO_NEAREST_INT),
                            _mm256_cvtps_ph(v.m256[0], _MM_FROUND_TO_NEAREST_INT));
}
static inline simde__m512i widen_u16(__m256i h)
{
    simde__m512i_private v;
    v.m256i[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128(h));
    v.m256i[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1));
    return simde__m512i_from_private(v);
}
static inline __m256i narrow_u32(simde__m512i a)
{
    const simde__m512i_private v = simde__m512i_to_private(a);
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(v.m256i[0], v.m256i[1]), 0xd8);
}
#define _mm512_cvtepi32_epi16(a) narrow_u32(a) /* of numbers that fit */
#define _mm512_cvtepu16_epi32(h) widen_u16(h)
#define _mm512_cvtph_ps(h) widen_f16(h)
#define _mm512_cvtps_ph(a, rounding) narrow_f16(a)

#endif

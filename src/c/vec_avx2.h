/* Virtual vectors of 64 bytes in two ymm registers: a holds the lower lanes, b the upper ones. */

#define REGISTER_VECS 8

typedef struct {
    __m256 a, b;
} vec_f32;

static INLINE vec_f32 vec_set1_f32(float a)
{
    const __m256 v = _mm256_set1_ps(a);
    return (vec_f32){v, v};
}
static INLINE vec_f32 vec_load_f32(const float *p)
{
    return (vec_f32){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
/* All ones in the lanes below n, for the eight lanes that begin at lane `from`. */
static INLINE __m256i lanes_below_f32(size_t n, int from)
{
    const __m256i lane = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(from));
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}
static INLINE vec_f32 vec_load_first_f32(const float *p, size_t n)
{
    return (vec_f32){_mm256_maskload_ps(p, lanes_below_f32(n, 0)), _mm256_maskload_ps(p + 8, lanes_below_f32(n, 8))};
}
static INLINE void vec_store_f32(float *p, vec_f32 v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}
static INLINE void vec_store_first_f32(float *p, vec_f32 v, size_t n)
{
    _mm256_maskstore_ps(p, lanes_below_f32(n, 0), v.a);
    _mm256_maskstore_ps(p + 8, lanes_below_f32(n, 8), v.b);
}
static INLINE vec_f32 vec_keep_first_f32(vec_f32 v, size_t n)
{
    return (vec_f32){_mm256_and_ps(v.a, _mm256_castsi256_ps(lanes_below_f32(n, 0))),
                     _mm256_and_ps(v.b, _mm256_castsi256_ps(lanes_below_f32(n, 8)))};
}
static INLINE vec_f32 vec_add_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_add_ps(a.a, b.a), _mm256_add_ps(a.b, b.b)};
}
static INLINE vec_f32 vec_sub_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_sub_ps(a.a, b.a), _mm256_sub_ps(a.b, b.b)};
}
static INLINE vec_f32 vec_mul_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)};
}
static INLINE vec_f32 vec_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return (vec_f32){_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}
static INLINE vec_f32 vec_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return (vec_f32){_mm256_fnmadd_ps(a.a, b.a, c.a), _mm256_fnmadd_ps(a.b, b.b, c.b)};
}
static INLINE vec_f32 vec_fms_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return (vec_f32){_mm256_fmsub_ps(a.a, b.a, c.a), _mm256_fmsub_ps(a.b, b.b, c.b)};
}
static INLINE vec_f32 vec_div_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_div_ps(a.a, b.a), _mm256_div_ps(a.b, b.b)};
}
static INLINE vec_f32 vec_sqrt_f32(vec_f32 a)
{
    return (vec_f32){_mm256_sqrt_ps(a.a), _mm256_sqrt_ps(a.b)};
}
static INLINE __m256 choose_f32(__m256 a, __m256 b, __m256 x, __m256 y)
{
    return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static INLINE vec_f32 vec_if_less_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y)
{
    return (vec_f32){choose_f32(a.a, b.a, x.a, y.a), choose_f32(a.b, b.b, x.b, y.b)};
}
static INLINE vec_f32 vec_min_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_min_ps(a.a, b.a), _mm256_min_ps(a.b, b.b)};
}
static INLINE vec_f32 vec_max_f32(vec_f32 a, vec_f32 b)
{
    return (vec_f32){_mm256_max_ps(a.a, b.a), _mm256_max_ps(a.b, b.b)};
}
static INLINE __m256 even_f32(__m256 a, __m256 b, int unit)
{
    switch (unit) {
    case 4:
        return _mm256_permute2f128_ps(a, b, 0x20);
    case 2:
        return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    default:
        return _mm256_blend_ps(a, _mm256_moveldup_ps(b), 0xaa);
    }
}
static INLINE __m256 odd_f32(__m256 a, __m256 b, int unit)
{
    switch (unit) {
    case 4:
        return _mm256_permute2f128_ps(a, b, 0x31);
    case 2:
        return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
    default:
        return _mm256_blend_ps(_mm256_movehdup_ps(a), b, 0xaa);
    }
}
static INLINE vec_f32 vec_even_f32(vec_f32 a, vec_f32 b, int unit)
{
    return unit == 8 ? (vec_f32){a.a, b.a} : (vec_f32){even_f32(a.a, b.a, unit), even_f32(a.b, b.b, unit)};
}
static INLINE vec_f32 vec_odd_f32(vec_f32 a, vec_f32 b, int unit)
{
    return unit == 8 ? (vec_f32){a.b, b.b} : (vec_f32){odd_f32(a.a, b.a, unit), odd_f32(a.b, b.b, unit)};
}

static INLINE vec_f32 vec_widen_f16(const uint16_t *p)
{
    return (vec_f32){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)))};
}
static INLINE void vec_narrow_f16(uint16_t *p, vec_f32 v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}
static INLINE __m256 load_bf16(const uint16_t *p)
{
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static INLINE vec_f32 vec_widen_bf16(const uint16_t *p)
{
    return (vec_f32){load_bf16(p), load_bf16(p + 8)};
}
/* In the lower halves of 32 bits; not of NaN. */
static INLINE __m256i round_bf16(__m256 v)
{
    const __m256i bits = _mm256_castps_si256(v),
                  odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
}
static INLINE __m256i quiet_bf16(__m256 v, __m256i rounded)
{
    const __m256i quiet = _mm256_or_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x400000));
    const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(rounded, _mm256_srli_epi32(quiet, 16), is_nan);
}
static INLINE void vec_narrow_bf16(uint16_t *p, vec_f32 v)
{
    __m256i a = round_bf16(v.a), b = round_bf16(v.b);
    if (!LIKELY(_mm256_testz_ps(_mm256_cmp_ps(v.a, v.b, _CMP_UNORD_Q), _mm256_set1_ps(-1.0f)))) {
        a = quiet_bf16(v.a, a);
        b = quiet_bf16(v.b, b);
    }
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(a, b), 0xd8));
}

typedef struct {
    __m256d a, b;
} vec_f64;

static INLINE vec_f64 vec_set1_f64(double a)
{
    const __m256d v = _mm256_set1_pd(a);
    return (vec_f64){v, v};
}
static INLINE vec_f64 vec_load_f64(const double *p)
{
    return (vec_f64){_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
}
static INLINE __m256i lanes_below_f64(size_t n, int from)
{
    const __m256i lane = _mm256_add_epi64(_mm256_setr_epi64x(0, 1, 2, 3), _mm256_set1_epi64x(from));
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x((long long)n), lane);
}
static INLINE vec_f64 vec_load_first_f64(const double *p, size_t n)
{
    return (vec_f64){_mm256_maskload_pd(p, lanes_below_f64(n, 0)), _mm256_maskload_pd(p + 4, lanes_below_f64(n, 4))};
}
static INLINE void vec_store_f64(double *p, vec_f64 v)
{
    _mm256_storeu_pd(p, v.a);
    _mm256_storeu_pd(p + 4, v.b);
}
static INLINE void vec_store_first_f64(double *p, vec_f64 v, size_t n)
{
    _mm256_maskstore_pd(p, lanes_below_f64(n, 0), v.a);
    _mm256_maskstore_pd(p + 4, lanes_below_f64(n, 4), v.b);
}
static INLINE vec_f64 vec_keep_first_f64(vec_f64 v, size_t n)
{
    return (vec_f64){_mm256_and_pd(v.a, _mm256_castsi256_pd(lanes_below_f64(n, 0))),
                     _mm256_and_pd(v.b, _mm256_castsi256_pd(lanes_below_f64(n, 4)))};
}
static INLINE vec_f64 vec_add_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_add_pd(a.a, b.a), _mm256_add_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_sub_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_sub_pd(a.a, b.a), _mm256_sub_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_mul_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_mul_pd(a.a, b.a), _mm256_mul_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return (vec_f64){_mm256_fmadd_pd(a.a, b.a, c.a), _mm256_fmadd_pd(a.b, b.b, c.b)};
}
static INLINE vec_f64 vec_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return (vec_f64){_mm256_fnmadd_pd(a.a, b.a, c.a), _mm256_fnmadd_pd(a.b, b.b, c.b)};
}
static INLINE vec_f64 vec_fms_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return (vec_f64){_mm256_fmsub_pd(a.a, b.a, c.a), _mm256_fmsub_pd(a.b, b.b, c.b)};
}
static INLINE vec_f64 vec_div_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_div_pd(a.a, b.a), _mm256_div_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_sqrt_f64(vec_f64 a)
{
    return (vec_f64){_mm256_sqrt_pd(a.a), _mm256_sqrt_pd(a.b)};
}
static INLINE __m256d choose_f64(__m256d a, __m256d b, __m256d x, __m256d y)
{
    return _mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}
static INLINE vec_f64 vec_if_less_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y)
{
    return (vec_f64){choose_f64(a.a, b.a, x.a, y.a), choose_f64(a.b, b.b, x.b, y.b)};
}
static INLINE vec_f64 vec_min_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_min_pd(a.a, b.a), _mm256_min_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_max_f64(vec_f64 a, vec_f64 b)
{
    return (vec_f64){_mm256_max_pd(a.a, b.a), _mm256_max_pd(a.b, b.b)};
}
static INLINE vec_f64 vec_even_f64(vec_f64 a, vec_f64 b, int unit)
{
    switch (unit) {
    case 4:
        return (vec_f64){a.a, b.a};
    case 2:
        return (vec_f64){_mm256_permute2f128_pd(a.a, b.a, 0x20), _mm256_permute2f128_pd(a.b, b.b, 0x20)};
    default:
        return (vec_f64){_mm256_unpacklo_pd(a.a, b.a), _mm256_unpacklo_pd(a.b, b.b)};
    }
}
static INLINE vec_f64 vec_odd_f64(vec_f64 a, vec_f64 b, int unit)
{
    switch (unit) {
    case 4:
        return (vec_f64){a.b, b.b};
    case 2:
        return (vec_f64){_mm256_permute2f128_pd(a.a, b.a, 0x31), _mm256_permute2f128_pd(a.b, b.b, 0x31)};
    default:
        return (vec_f64){_mm256_unpackhi_pd(a.a, b.a), _mm256_unpackhi_pd(a.b, b.b)};
    }
}

/* Virtual vectors of 64 bytes in one zmm register. */

#define REGISTER_VECS 32

typedef __m512 vec_f32;

static INLINE vec_f32 vec_set1_f32(float a)
{
    return _mm512_set1_ps(a);
}
static INLINE vec_f32 vec_load_f32(const float *p)
{
    return _mm512_loadu_ps(p);
}
static INLINE __mmask16 lanes_below_f32(size_t n)
{
    return (__mmask16)((1u << n) - 1u);
}
static INLINE vec_f32 vec_load_first_f32(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(lanes_below_f32(n), p);
}
static INLINE void vec_store_f32(float *p, vec_f32 v)
{
    _mm512_storeu_ps(p, v);
}
static INLINE void vec_store_first_f32(float *p, vec_f32 v, size_t n)
{
    _mm512_mask_storeu_ps(p, lanes_below_f32(n), v);
}
static INLINE vec_f32 vec_keep_first_f32(vec_f32 v, size_t n)
{
    return _mm512_maskz_mov_ps(lanes_below_f32(n), v);
}
static INLINE vec_f32 vec_add_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_add_ps(a, b);
}
static INLINE vec_f32 vec_sub_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_sub_ps(a, b);
}
static INLINE vec_f32 vec_mul_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_mul_ps(a, b);
}
static INLINE vec_f32 vec_fma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static INLINE vec_f32 vec_fnma_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm512_fnmadd_ps(a, b, c);
}
static INLINE vec_f32 vec_fms_f32(vec_f32 a, vec_f32 b, vec_f32 c)
{
    return _mm512_fmsub_ps(a, b, c);
}
static INLINE vec_f32 vec_div_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_div_ps(a, b);
}
static INLINE vec_f32 vec_sqrt_f32(vec_f32 a)
{
    return _mm512_sqrt_ps(a);
}
static INLINE vec_f32 vec_if_less_f32(vec_f32 a, vec_f32 b, vec_f32 x, vec_f32 y)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
static INLINE vec_f32 vec_min_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_min_ps(a, b);
}
static INLINE vec_f32 vec_max_f32(vec_f32 a, vec_f32 b)
{
    return _mm512_max_ps(a, b);
}
static INLINE __m512d even_f64(__m512d a, __m512d b, int unit)
{
    switch (unit) {
    case 4:
        return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 1, 2, 3, 8, 9, 10, 11), b);
    case 2:
        return _mm512_permutex2var_pd(a, _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13), b);
    default:
        return _mm512_unpacklo_pd(a, b);
    }
}
static INLINE __m512d odd_f64(__m512d a, __m512d b, int unit)
{
    switch (unit) {
    case 4:
        return _mm512_permutex2var_pd(a, _mm512_setr_epi64(4, 5, 6, 7, 12, 13, 14, 15), b);
    case 2:
        return _mm512_permutex2var_pd(a, _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15), b);
    default:
        return _mm512_unpackhi_pd(a, b);
    }
}
static INLINE vec_f32 vec_even_f32(vec_f32 a, vec_f32 b, int unit)
{
    if (unit == 1) {
        const __m512i lanes = _mm512_setr_epi32(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
        return _mm512_permutex2var_ps(a, lanes, b);
    }
    return _mm512_castpd_ps(even_f64(_mm512_castps_pd(a), _mm512_castps_pd(b), unit / 2));
}
static INLINE vec_f32 vec_odd_f32(vec_f32 a, vec_f32 b, int unit)
{
    if (unit == 1) {
        const __m512i lanes = _mm512_setr_epi32(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31);
        return _mm512_permutex2var_ps(a, lanes, b);
    }
    return _mm512_castpd_ps(odd_f64(_mm512_castps_pd(a), _mm512_castps_pd(b), unit / 2));
}

static INLINE vec_f32 vec_widen_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static INLINE void vec_narrow_f16(uint16_t *p, vec_f32 v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}
static INLINE vec_f32 vec_widen_bf16(const uint16_t *p)
{
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static INLINE void vec_narrow_bf16(uint16_t *p, vec_f32 v)
{
    const __m512i bits = _mm512_castps_si512(v),
                  odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i result = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), rounded, quiet);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(result, 16)));
}

typedef __m512d vec_f64;

static INLINE vec_f64 vec_set1_f64(double a)
{
    return _mm512_set1_pd(a);
}
static INLINE vec_f64 vec_load_f64(const double *p)
{
    return _mm512_loadu_pd(p);
}
static INLINE __mmask8 lanes_below_f64(size_t n)
{
    return (__mmask8)((1u << n) - 1u);
}
static INLINE vec_f64 vec_load_first_f64(const double *p, size_t n)
{
    return _mm512_maskz_loadu_pd(lanes_below_f64(n), p);
}
static INLINE void vec_store_f64(double *p, vec_f64 v)
{
    _mm512_storeu_pd(p, v);
}
static INLINE void vec_store_first_f64(double *p, vec_f64 v, size_t n)
{
    _mm512_mask_storeu_pd(p, lanes_below_f64(n), v);
}
static INLINE vec_f64 vec_keep_first_f64(vec_f64 v, size_t n)
{
    return _mm512_maskz_mov_pd(lanes_below_f64(n), v);
}
static INLINE vec_f64 vec_add_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_add_pd(a, b);
}
static INLINE vec_f64 vec_sub_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_sub_pd(a, b);
}
static INLINE vec_f64 vec_mul_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_mul_pd(a, b);
}
static INLINE vec_f64 vec_fma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return _mm512_fmadd_pd(a, b, c);
}
static INLINE vec_f64 vec_fnma_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return _mm512_fnmadd_pd(a, b, c);
}
static INLINE vec_f64 vec_fms_f64(vec_f64 a, vec_f64 b, vec_f64 c)
{
    return _mm512_fmsub_pd(a, b, c);
}
static INLINE vec_f64 vec_div_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_div_pd(a, b);
}
static INLINE vec_f64 vec_sqrt_f64(vec_f64 a)
{
    return _mm512_sqrt_pd(a);
}
static INLINE vec_f64 vec_if_less_f64(vec_f64 a, vec_f64 b, vec_f64 x, vec_f64 y)
{
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), y, x);
}
static INLINE vec_f64 vec_min_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_min_pd(a, b);
}
static INLINE vec_f64 vec_max_f64(vec_f64 a, vec_f64 b)
{
    return _mm512_max_pd(a, b);
}
static INLINE vec_f64 vec_even_f64(vec_f64 a, vec_f64 b, int unit)
{
    return even_f64(a, b, unit);
}
static INLINE vec_f64 vec_odd_f64(vec_f64 a, vec_f64 b, int unit)
{
    return odd_f64(a, b, unit);
}

/* Virtual vectors of 64 bytes in one zmm register. */

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
static INLINE __m256 upper_f32(vec_f32 v)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1));
}
static INLINE void vec_sum2_f32(vec_f32 a, vec_f32 b, float sum[2], float lost[2])
{
    ymm_sum2_f32(_mm512_castps512_ps256(a), upper_f32(a), _mm512_castps512_ps256(b), upper_f32(b), sum, lost);
}
static INLINE float real_fma_f32(float a, float b, float c)
{
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
static INLINE float real_sqrt_f32(float a)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)));
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
static INLINE void vec_sum2_f64(vec_f64 a, vec_f64 b, double sum[2], double lost[2])
{
    ymm_sum2_f64(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1), _mm512_castpd512_pd256(b),
                 _mm512_extractf64x4_pd(b, 1), sum, lost);
}
static INLINE double real_fma_f64(double a, double b, double c)
{
    return _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(a), _mm_set_sd(b), _mm_set_sd(c)));
}
static INLINE double real_sqrt_f64(double a)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(a), _mm_set_sd(a)));
}

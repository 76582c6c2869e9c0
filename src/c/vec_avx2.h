/* Virtual vectors of 64 bytes in two ymm registers: a holds the lower lanes, b the upper ones. */

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
static INLINE void vec_sum2_f32(vec_f32 a, vec_f32 b, float sum[2], float lost[2])
{
    ymm_sum2_f32(a.a, a.b, b.a, b.b, sum, lost);
}
static INLINE float real_fma_f32(float a, float b, float c)
{
    return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
static INLINE float real_sqrt_f32(float a)
{
    return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a)));
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
static INLINE void vec_sum2_f64(vec_f64 a, vec_f64 b, double sum[2], double lost[2])
{
    ymm_sum2_f64(a.a, a.b, b.a, b.b, sum, lost);
}
static INLINE double real_fma_f64(double a, double b, double c)
{
    return _mm_cvtsd_f64(_mm_fmadd_sd(_mm_set_sd(a), _mm_set_sd(b), _mm_set_sd(c)));
}
static INLINE double real_sqrt_f64(double a)
{
    return _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(a), _mm_set_sd(a)));
}

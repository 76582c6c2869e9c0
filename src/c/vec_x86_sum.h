/* The end of both x86 sets' reductions: from 64 bytes in two ymm registers on, two sums share each instruction. */

static INLINE __m256 ymm_two_sum_f32(__m256 a, __m256 b, __m256 *lost)
{
    const __m256 s = _mm256_add_ps(a, b);
    const __m256 b_part = _mm256_sub_ps(s, a);
    *lost = _mm256_add_ps(_mm256_sub_ps(a, _mm256_sub_ps(s, b_part)), _mm256_sub_ps(b, b_part));
    return s;
}

static INLINE void ymm_sum2_f32(__m256 a_low, __m256 a_high, __m256 b_low, __m256 b_high, float sum[2], float lost[2])
{
    __m256 a_lost, b_lost, error;
    const __m256 a = ymm_two_sum_f32(a_low, a_high, &a_lost);
    const __m256 b = ymm_two_sum_f32(b_low, b_high, &b_lost);
    /* From here on the lower half belongs to a, the upper one to b. */
    __m256 s = ymm_two_sum_f32(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31), &error);
    __m256 e =
        _mm256_add_ps(_mm256_permute2f128_ps(a_lost, b_lost, 0x20), _mm256_permute2f128_ps(a_lost, b_lost, 0x31));
    e = _mm256_add_ps(e, error);
    s = ymm_two_sum_f32(s, _mm256_permute_ps(s, 0xee), &error);
    e = _mm256_add_ps(_mm256_add_ps(e, _mm256_permute_ps(e, 0xee)), error);
    s = ymm_two_sum_f32(s, _mm256_permute_ps(s, 0x55), &error);
    e = _mm256_add_ps(_mm256_add_ps(e, _mm256_permute_ps(e, 0x55)), error);
    sum[0] = _mm256_cvtss_f32(s);
    sum[1] = _mm_cvtss_f32(_mm256_extractf128_ps(s, 1));
    lost[0] = _mm256_cvtss_f32(e);
    lost[1] = _mm_cvtss_f32(_mm256_extractf128_ps(e, 1));
}

static INLINE __m256d ymm_two_sum_f64(__m256d a, __m256d b, __m256d *lost)
{
    const __m256d s = _mm256_add_pd(a, b);
    const __m256d b_part = _mm256_sub_pd(s, a);
    *lost = _mm256_add_pd(_mm256_sub_pd(a, _mm256_sub_pd(s, b_part)), _mm256_sub_pd(b, b_part));
    return s;
}

static INLINE void ymm_sum2_f64(__m256d a_low, __m256d a_high, __m256d b_low, __m256d b_high, double sum[2],
                                double lost[2])
{
    __m256d a_lost, b_lost, error;
    const __m256d a = ymm_two_sum_f64(a_low, a_high, &a_lost);
    const __m256d b = ymm_two_sum_f64(b_low, b_high, &b_lost);
    __m256d s = ymm_two_sum_f64(_mm256_permute2f128_pd(a, b, 0x20), _mm256_permute2f128_pd(a, b, 0x31), &error);
    __m256d e =
        _mm256_add_pd(_mm256_permute2f128_pd(a_lost, b_lost, 0x20), _mm256_permute2f128_pd(a_lost, b_lost, 0x31));
    e = _mm256_add_pd(e, error);
    s = ymm_two_sum_f64(s, _mm256_permute_pd(s, 0x5), &error);
    e = _mm256_add_pd(_mm256_add_pd(e, _mm256_permute_pd(e, 0x5)), error);
    sum[0] = _mm256_cvtsd_f64(s);
    sum[1] = _mm_cvtsd_f64(_mm256_extractf128_pd(s, 1));
    lost[0] = _mm256_cvtsd_f64(e);
    lost[1] = _mm_cvtsd_f64(_mm256_extractf128_pd(e, 1));
}

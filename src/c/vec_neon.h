/* Virtual vectors of 64 bytes in four q registers: a holds the lowest lanes, d the highest. */

typedef struct {
    float32x4_t a, b, c, d;
} vec_f32;

static INLINE vec_f32 vec_set1_f32(float s)
{
    const float32x4_t v = vdupq_n_f32(s);
    return (vec_f32){v, v, v, v};
}
static INLINE vec_f32 vec_load_f32(const float *p)
{
    return (vec_f32){vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)};
}
static INLINE vec_f32 vec_load_first_f32(const float *p, size_t n)
{
    float lanes[16] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i] = p[i];
    }
    return vec_load_f32(lanes);
}
static INLINE void vec_store_f32(float *p, vec_f32 v)
{
    vst1q_f32(p, v.a);
    vst1q_f32(p + 4, v.b);
    vst1q_f32(p + 8, v.c);
    vst1q_f32(p + 12, v.d);
}
static INLINE void vec_store_first_f32(float *p, vec_f32 v, size_t n)
{
    float lanes[16];
    vec_store_f32(lanes, v);
    for (size_t i = 0; i < n; i++) {
        p[i] = lanes[i];
    }
}
static INLINE vec_f32 vec_keep_first_f32(vec_f32 v, size_t n)
{
    float lanes[16];
    vec_store_f32(lanes, v);
    return vec_load_first_f32(lanes, n);
}
static INLINE vec_f32 vec_add_f32(vec_f32 x, vec_f32 y)
{
    return (vec_f32){vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b), vaddq_f32(x.c, y.c), vaddq_f32(x.d, y.d)};
}
static INLINE vec_f32 vec_sub_f32(vec_f32 x, vec_f32 y)
{
    return (vec_f32){vsubq_f32(x.a, y.a), vsubq_f32(x.b, y.b), vsubq_f32(x.c, y.c), vsubq_f32(x.d, y.d)};
}
static INLINE vec_f32 vec_mul_f32(vec_f32 x, vec_f32 y)
{
    return (vec_f32){vmulq_f32(x.a, y.a), vmulq_f32(x.b, y.b), vmulq_f32(x.c, y.c), vmulq_f32(x.d, y.d)};
}
static INLINE vec_f32 vec_fma_f32(vec_f32 x, vec_f32 y, vec_f32 z)
{
    return (vec_f32){vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c),
                     vfmaq_f32(z.d, x.d, y.d)};
}
static INLINE float32x4_t q_two_sum_f32(float32x4_t a, float32x4_t b, float32x4_t *lost)
{
    const float32x4_t s = vaddq_f32(a, b);
    const float32x4_t b_part = vsubq_f32(s, a);
    *lost = vaddq_f32(vsubq_f32(a, vsubq_f32(s, b_part)), vsubq_f32(b, b_part));
    return s;
}
/* The sums of lanes i, i + 4, i + 8 and i + 12. */
static INLINE float32x4_t q_sum_f32(vec_f32 v, float32x4_t *lost)
{
    float32x4_t ac_lost, bd_lost, error;
    const float32x4_t ac = q_two_sum_f32(v.a, v.c, &ac_lost), bd = q_two_sum_f32(v.b, v.d, &bd_lost);
    const float32x4_t s = q_two_sum_f32(ac, bd, &error);
    *lost = vaddq_f32(vaddq_f32(ac_lost, bd_lost), error);
    return s;
}
static INLINE void vec_sum2_f32(vec_f32 x, vec_f32 y, float sum[2], float lost[2])
{
    float32x4_t a_lost, b_lost, error;
    const float32x4_t a = q_sum_f32(x, &a_lost), b = q_sum_f32(y, &b_lost);
    /* From here on the lower half belongs to x, the upper one to y. */
    float32x4_t s = q_two_sum_f32(vcombine_f32(vget_low_f32(a), vget_low_f32(b)),
                                  vcombine_f32(vget_high_f32(a), vget_high_f32(b)), &error);
    float32x4_t e = vaddq_f32(vcombine_f32(vget_low_f32(a_lost), vget_low_f32(b_lost)),
                              vcombine_f32(vget_high_f32(a_lost), vget_high_f32(b_lost)));
    e = vaddq_f32(e, error);
    s = q_two_sum_f32(s, vrev64q_f32(s), &error);
    e = vaddq_f32(vaddq_f32(e, vrev64q_f32(e)), error);
    sum[0] = vgetq_lane_f32(s, 0);
    sum[1] = vgetq_lane_f32(s, 2);
    lost[0] = vgetq_lane_f32(e, 0);
    lost[1] = vgetq_lane_f32(e, 2);
}
static INLINE float real_fma_f32(float a, float b, float c)
{
    return __builtin_fmaf(a, b, c);
}
static INLINE float real_sqrt_f32(float a)
{
    return vgetq_lane_f32(vsqrtq_f32(vdupq_n_f32(a)), 0);
}

typedef struct {
    float64x2_t a, b, c, d;
} vec_f64;

static INLINE vec_f64 vec_set1_f64(double s)
{
    const float64x2_t v = vdupq_n_f64(s);
    return (vec_f64){v, v, v, v};
}
static INLINE vec_f64 vec_load_f64(const double *p)
{
    return (vec_f64){vld1q_f64(p), vld1q_f64(p + 2), vld1q_f64(p + 4), vld1q_f64(p + 6)};
}
static INLINE vec_f64 vec_load_first_f64(const double *p, size_t n)
{
    double lanes[8] = {0};
    for (size_t i = 0; i < n; i++) {
        lanes[i] = p[i];
    }
    return vec_load_f64(lanes);
}
static INLINE void vec_store_f64(double *p, vec_f64 v)
{
    vst1q_f64(p, v.a);
    vst1q_f64(p + 2, v.b);
    vst1q_f64(p + 4, v.c);
    vst1q_f64(p + 6, v.d);
}
static INLINE void vec_store_first_f64(double *p, vec_f64 v, size_t n)
{
    double lanes[8];
    vec_store_f64(lanes, v);
    for (size_t i = 0; i < n; i++) {
        p[i] = lanes[i];
    }
}
static INLINE vec_f64 vec_keep_first_f64(vec_f64 v, size_t n)
{
    double lanes[8];
    vec_store_f64(lanes, v);
    return vec_load_first_f64(lanes, n);
}
static INLINE vec_f64 vec_add_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){vaddq_f64(x.a, y.a), vaddq_f64(x.b, y.b), vaddq_f64(x.c, y.c), vaddq_f64(x.d, y.d)};
}
static INLINE vec_f64 vec_sub_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){vsubq_f64(x.a, y.a), vsubq_f64(x.b, y.b), vsubq_f64(x.c, y.c), vsubq_f64(x.d, y.d)};
}
static INLINE vec_f64 vec_mul_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){vmulq_f64(x.a, y.a), vmulq_f64(x.b, y.b), vmulq_f64(x.c, y.c), vmulq_f64(x.d, y.d)};
}
static INLINE vec_f64 vec_fma_f64(vec_f64 x, vec_f64 y, vec_f64 z)
{
    return (vec_f64){vfmaq_f64(z.a, x.a, y.a), vfmaq_f64(z.b, x.b, y.b), vfmaq_f64(z.c, x.c, y.c),
                     vfmaq_f64(z.d, x.d, y.d)};
}
static INLINE float64x2_t q_two_sum_f64(float64x2_t a, float64x2_t b, float64x2_t *lost)
{
    const float64x2_t s = vaddq_f64(a, b);
    const float64x2_t b_part = vsubq_f64(s, a);
    *lost = vaddq_f64(vsubq_f64(a, vsubq_f64(s, b_part)), vsubq_f64(b, b_part));
    return s;
}
/* The sums of lanes i, i + 2, i + 4 and i + 6. */
static INLINE float64x2_t q_sum_f64(vec_f64 v, float64x2_t *lost)
{
    float64x2_t ac_lost, bd_lost, error;
    const float64x2_t ac = q_two_sum_f64(v.a, v.c, &ac_lost), bd = q_two_sum_f64(v.b, v.d, &bd_lost);
    const float64x2_t s = q_two_sum_f64(ac, bd, &error);
    *lost = vaddq_f64(vaddq_f64(ac_lost, bd_lost), error);
    return s;
}
static INLINE void vec_sum2_f64(vec_f64 x, vec_f64 y, double sum[2], double lost[2])
{
    float64x2_t a_lost, b_lost, error;
    const float64x2_t a = q_sum_f64(x, &a_lost), b = q_sum_f64(y, &b_lost);
    const float64x2_t s = q_two_sum_f64(vzip1q_f64(a, b), vzip2q_f64(a, b), &error);
    const float64x2_t e = vaddq_f64(vaddq_f64(vzip1q_f64(a_lost, b_lost), vzip2q_f64(a_lost, b_lost)), error);
    sum[0] = vgetq_lane_f64(s, 0);
    sum[1] = vgetq_lane_f64(s, 1);
    lost[0] = vgetq_lane_f64(e, 0);
    lost[1] = vgetq_lane_f64(e, 1);
}
static INLINE double real_fma_f64(double a, double b, double c)
{
    return __builtin_fma(a, b, c);
}
static INLINE double real_sqrt_f64(double a)
{
    return vgetq_lane_f64(vsqrtq_f64(vdupq_n_f64(a)), 0);
}

/* Virtual vectors of 64 bytes in four q registers: a holds the lowest lanes, d the highest. */

#define REGISTER_VECS 8

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
static INLINE vec_f32 vec_fnma_f32(vec_f32 x, vec_f32 y, vec_f32 z)
{
    return (vec_f32){vfmsq_f32(z.a, x.a, y.a), vfmsq_f32(z.b, x.b, y.b), vfmsq_f32(z.c, x.c, y.c),
                     vfmsq_f32(z.d, x.d, y.d)};
}
static INLINE vec_f32 vec_fms_f32(vec_f32 x, vec_f32 y, vec_f32 z)
{
    return (vec_f32){vfmaq_f32(vnegq_f32(z.a), x.a, y.a), vfmaq_f32(vnegq_f32(z.b), x.b, y.b),
                     vfmaq_f32(vnegq_f32(z.c), x.c, y.c), vfmaq_f32(vnegq_f32(z.d), x.d, y.d)};
}
static INLINE vec_f32 vec_div_f32(vec_f32 x, vec_f32 y)
{
    return (vec_f32){vdivq_f32(x.a, y.a), vdivq_f32(x.b, y.b), vdivq_f32(x.c, y.c), vdivq_f32(x.d, y.d)};
}
static INLINE vec_f32 vec_sqrt_f32(vec_f32 x)
{
    return (vec_f32){vsqrtq_f32(x.a), vsqrtq_f32(x.b), vsqrtq_f32(x.c), vsqrtq_f32(x.d)};
}
static INLINE vec_f32 vec_if_less_f32(vec_f32 x, vec_f32 y, vec_f32 u, vec_f32 v)
{
    return (vec_f32){vbslq_f32(vcltq_f32(x.a, y.a), u.a, v.a), vbslq_f32(vcltq_f32(x.b, y.b), u.b, v.b),
                     vbslq_f32(vcltq_f32(x.c, y.c), u.c, v.c), vbslq_f32(vcltq_f32(x.d, y.d), u.d, v.d)};
}
static INLINE vec_f32 vec_min_f32(vec_f32 x, vec_f32 y)
{
    return vec_if_less_f32(x, y, x, y);
}
static INLINE vec_f32 vec_max_f32(vec_f32 x, vec_f32 y)
{
    return vec_if_less_f32(y, x, x, y);
}
static INLINE float32x4_t even_f32(float32x4_t x, float32x4_t y, int unit)
{
    return unit == 1 ? vtrn1q_f32(x, y)
                     : vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
}
static INLINE float32x4_t odd_f32(float32x4_t x, float32x4_t y, int unit)
{
    return unit == 1 ? vtrn2q_f32(x, y)
                     : vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
}
static INLINE vec_f32 vec_even_f32(vec_f32 x, vec_f32 y, int unit)
{
    switch (unit) {
    case 8:
        return (vec_f32){x.a, x.b, y.a, y.b};
    case 4:
        return (vec_f32){x.a, y.a, x.c, y.c};
    default:
        return (vec_f32){even_f32(x.a, y.a, unit), even_f32(x.b, y.b, unit), even_f32(x.c, y.c, unit),
                         even_f32(x.d, y.d, unit)};
    }
}
static INLINE vec_f32 vec_odd_f32(vec_f32 x, vec_f32 y, int unit)
{
    switch (unit) {
    case 8:
        return (vec_f32){x.c, x.d, y.c, y.d};
    case 4:
        return (vec_f32){x.b, y.b, x.d, y.d};
    default:
        return (vec_f32){odd_f32(x.a, y.a, unit), odd_f32(x.b, y.b, unit), odd_f32(x.c, y.c, unit),
                         odd_f32(x.d, y.d, unit)};
    }
}

static INLINE float32x4_t load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
static INLINE vec_f32 vec_widen_f16(const uint16_t *p)
{
    return (vec_f32){load_f16(p), load_f16(p + 4), load_f16(p + 8), load_f16(p + 12)};
}
static INLINE void store_f16(uint16_t *p, float32x4_t v)
{
    vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
}
static INLINE void vec_narrow_f16(uint16_t *p, vec_f32 v)
{
    store_f16(p, v.a);
    store_f16(p + 4, v.b);
    store_f16(p + 8, v.c);
    store_f16(p + 12, v.d);
}
static INLINE float32x4_t load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
static INLINE vec_f32 vec_widen_bf16(const uint16_t *p)
{
    return (vec_f32){load_bf16(p), load_bf16(p + 4), load_bf16(p + 8), load_bf16(p + 12)};
}
static INLINE void store_bf16(uint16_t *p, float32x4_t v)
{
    const uint32x4_t bits = vreinterpretq_u32_f32(v), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p, vshrn_n_u32(vbslq_u32(vceqq_f32(v, v), rounded, quiet), 16));
}
static INLINE void vec_narrow_bf16(uint16_t *p, vec_f32 v)
{
    store_bf16(p, v.a);
    store_bf16(p + 4, v.b);
    store_bf16(p + 8, v.c);
    store_bf16(p + 12, v.d);
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
static INLINE vec_f64 vec_fnma_f64(vec_f64 x, vec_f64 y, vec_f64 z)
{
    return (vec_f64){vfmsq_f64(z.a, x.a, y.a), vfmsq_f64(z.b, x.b, y.b), vfmsq_f64(z.c, x.c, y.c),
                     vfmsq_f64(z.d, x.d, y.d)};
}
static INLINE vec_f64 vec_fms_f64(vec_f64 x, vec_f64 y, vec_f64 z)
{
    return (vec_f64){vfmaq_f64(vnegq_f64(z.a), x.a, y.a), vfmaq_f64(vnegq_f64(z.b), x.b, y.b),
                     vfmaq_f64(vnegq_f64(z.c), x.c, y.c), vfmaq_f64(vnegq_f64(z.d), x.d, y.d)};
}
static INLINE vec_f64 vec_div_f64(vec_f64 x, vec_f64 y)
{
    return (vec_f64){vdivq_f64(x.a, y.a), vdivq_f64(x.b, y.b), vdivq_f64(x.c, y.c), vdivq_f64(x.d, y.d)};
}
static INLINE vec_f64 vec_sqrt_f64(vec_f64 x)
{
    return (vec_f64){vsqrtq_f64(x.a), vsqrtq_f64(x.b), vsqrtq_f64(x.c), vsqrtq_f64(x.d)};
}
static INLINE vec_f64 vec_if_less_f64(vec_f64 x, vec_f64 y, vec_f64 u, vec_f64 v)
{
    return (vec_f64){vbslq_f64(vcltq_f64(x.a, y.a), u.a, v.a), vbslq_f64(vcltq_f64(x.b, y.b), u.b, v.b),
                     vbslq_f64(vcltq_f64(x.c, y.c), u.c, v.c), vbslq_f64(vcltq_f64(x.d, y.d), u.d, v.d)};
}
static INLINE vec_f64 vec_min_f64(vec_f64 x, vec_f64 y)
{
    return vec_if_less_f64(x, y, x, y);
}
static INLINE vec_f64 vec_max_f64(vec_f64 x, vec_f64 y)
{
    return vec_if_less_f64(y, x, x, y);
}
static INLINE vec_f64 vec_even_f64(vec_f64 x, vec_f64 y, int unit)
{
    switch (unit) {
    case 4:
        return (vec_f64){x.a, x.b, y.a, y.b};
    case 2:
        return (vec_f64){x.a, y.a, x.c, y.c};
    default:
        return (vec_f64){vtrn1q_f64(x.a, y.a), vtrn1q_f64(x.b, y.b), vtrn1q_f64(x.c, y.c), vtrn1q_f64(x.d, y.d)};
    }
}
static INLINE vec_f64 vec_odd_f64(vec_f64 x, vec_f64 y, int unit)
{
    switch (unit) {
    case 4:
        return (vec_f64){x.c, x.d, y.c, y.d};
    case 2:
        return (vec_f64){x.b, y.b, x.d, y.d};
    default:
        return (vec_f64){vtrn2q_f64(x.a, y.a), vtrn2q_f64(x.b, y.b), vtrn2q_f64(x.c, y.c), vtrn2q_f64(x.d, y.d)};
    }
}

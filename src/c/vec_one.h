/* A vector of one lane: what small.c needs of the vocabulary, for a machine that takes one number at a time. */
#include "fma.h"

typedef float vec_f32;

static INLINE float vec_set1_f32(float a)
{
    return a;
}
static INLINE void vec_store_f32(float *p, float v)
{
    *p = v;
}
static INLINE float vec_load_f32(const float *p)
{
    return *p;
}
static INLINE float vec_load_first_f32(const float *p, size_t n) /* coverage: one lane is never loaded in part */
{
    return n > 0 ? *p : 0;
}
static INLINE float vec_add_f32(float a, float b)
{
    return a + b;
}
static INLINE float vec_sub_f32(float a, float b)
{
    return a - b;
}
static INLINE float vec_mul_f32(float a, float b)
{
    return a * b;
}
static INLINE float vec_fma_f32(float a, float b, float c)
{
    return fma_f32(a, b, c);
}
static INLINE float vec_fnma_f32(float a, float b, float c)
{
    return fma_f32(-a, b, c);
}
static INLINE float vec_div_f32(float a, float b)
{
    return a / b;
}
static INLINE float vec_sqrt_f32(float a)
{
    return SQRT_F32(a);
}
static INLINE float vec_if_less_f32(float a, float b, float x, float y)
{
    return a < b ? x : y;
}
static INLINE float vec_min_f32(float a, float b)
{
    return a < b ? a : b;
}
static INLINE float vec_max_f32(float a, float b)
{
    return a > b ? a : b;
}

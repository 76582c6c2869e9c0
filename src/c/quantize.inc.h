/* y as integers of 8 bits: saturate(round(y / scale) + zero_point), rounded to nearest even.
 * Parameters: as lane_sums.inc.h, BLOCK, the most elements of a call, and REAL_ROUNDER, 1.5 times the number from which
 * on REAL has no fraction: added to a small number, it leaves it rounded in its lowest bits.
 */

/* Blocks of y that are kept until the scale is known. */
#define KEPT_BLOCKS ((size_t)4)

struct REALED(quantizer) {
    REAL scale, least, most; /* of the rounded quotient */
    int32_t zero_point;
    vec lowest, highest; /* of y so far, and of 0 */
};

static INLINE void REALED(set_scale)(struct REALED(quantizer) * to, int type, REAL scale, int32_t zero_point)
{
    to->scale = scale;
    to->zero_point = zero_point;
    to->least = (REAL)((type == LNORM_I8 ? -128 : 0) - zero_point);
    to->most = (REAL)((type == LNORM_I8 ? 127 : 255) - zero_point);
}

/* scale is NULL where it is to be found from y, of which nothing was seen yet. */
static INLINE void REALED(begin_quantizer)(struct REALED(quantizer) * to, int type, const REAL *scale,
                                           const int32_t *zero_point)
{
    to->lowest = to->highest = vec_set1(0);
    if (scale != NULL) {
        REALED(set_scale)(to, type, *scale, zero_point != NULL ? *zero_point : 0);
    }
}

static NOINLINE void REALED(extend_range)(struct REALED(quantizer) * to, const REAL *y, size_t n)
{
    vec lowest = to->lowest, highest = to->highest;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec v = vec_load(y + i);
        lowest = vec_min(v, lowest);
        highest = vec_max(v, highest);
    }
    if (i < n) { /* 0 is in the range already */
        const vec v = vec_load_first(y + i, n - i);
        lowest = vec_min(v, lowest);
        highest = vec_max(v, highest);
    }
    to->lowest = lowest;
    to->highest = highest;
}

/* The scale of a row whose range is known, and for LNORM_U8 its zero point, which are written too. */
static NOINLINE void REALED(finish_range)(struct REALED(quantizer) * to, int type, REAL *scale_out,
                                          int32_t *zero_point_out)
{
    REAL lowest[LANES], highest[LANES], scale;
    vec_store(lowest, to->lowest);
    vec_store(highest, to->highest);
    for (size_t i = 1; i < LANES; i++) {
        lowest[0] = lowest[i] < lowest[0] ? lowest[i] : lowest[0];
        highest[0] = highest[i] > highest[0] ? highest[i] : highest[0];
    }
    const int is_signed = type == LNORM_I8;
    if (is_signed) {
        scale = (highest[0] > -lowest[0] ? highest[0] : -lowest[0]) / 127;
    } else {
        scale = (highest[0] - lowest[0]) / 255;
    }
    scale = scale > 0 && scale <= REAL_MAX ? scale : 1;
    int32_t zero_point = 0;
    if (!is_signed) {
        const REAL quotient = -lowest[0] / scale; /* from 0 to 255, but for infinities */
        zero_point = quotient <= 255 ? (int32_t)((quotient + REAL_ROUNDER) - REAL_ROUNDER) : 255;
        *zero_point_out = zero_point;
    }
    *scale_out = scale;
    REALED(set_scale)(to, type, scale, zero_point);
}

/* n elements, at most a block. */
static NOINLINE WRAPS void REALED(quantize)(uint8_t *q, ptrdiff_t step, const struct REALED(quantizer) * by,
                                            const REAL *y, size_t n)
{
    union {
        REAL value;
        REAL_BITS bits;
    } rounder = {.value = REAL_ROUNDER};
    union {
        REAL values[BLOCK];
        REAL_BITS bits[BLOCK];
    } rounded;
    const vec scale = vec_set1(by->scale), zero = vec_set1(0);
    const vec least = vec_set1(by->least), most = vec_set1(by->most), add = vec_set1(REAL_ROUNDER);
    for (size_t i = 0; i < n; i += LANES) {
        const vec quotient = vec_div(i + LANES <= n ? vec_load(y + i) : vec_load_first(y + i, n - i), scale);
        /* One of both is 0; NaN becomes 0. */
        const vec kept = vec_add(vec_max(vec_min(quotient, zero), least), vec_min(vec_max(quotient, zero), most));
        vec_store(rounded.values + i, vec_add(kept, add));
    }
    const REAL_BITS offset = (REAL_BITS)by->zero_point - rounder.bits;
    if (step == 1) {
        for (size_t i = 0; i < n; i++) {
            q[i] = (uint8_t)(rounded.bits[i] + offset);
        }
    } else {
        for (size_t i = 0; i < n; i++) {
            q[(ptrdiff_t)i * step] = (uint8_t)(rounded.bits[i] + offset);
        }
    }
}

/* The scale and zero point that come with quantized output. */
#ifndef LNORM_CHECK_SCALE_H
#define LNORM_CHECK_SCALE_H

#include "compiler.h"
#include "lnorm.h"

/* y_type is LNORM_I8 or LNORM_U8, real the type of the scale. */
static lnorm_status check_scale(int y_type, int real, unsigned flags, size_t rows, const void *scale,
                                const int32_t *zero_point)
{
    const int is_signed = y_type == LNORM_I8, dynamic = (flags & LNORM_DYNAMIC_SCALE) != 0;
    if (rows != 0 && (scale == NULL || (dynamic && !is_signed && zero_point == NULL))) {
        return LNORM_ERROR_NULL;
    }
    if (dynamic) {
        return is_signed && zero_point != NULL ? LNORM_ERROR_SCALE : LNORM_OK;
    }
    if (scale != NULL && real == LNORM_F64 && !(*(const double *)scale > 0 && *(const double *)scale <= DBL_MAX)) {
        return LNORM_ERROR_SCALE;
    }
    if (scale != NULL && real == LNORM_F32 && !(*(const float *)scale > 0 && *(const float *)scale <= FLT_MAX)) {
        return LNORM_ERROR_SCALE;
    }
    const int32_t least = is_signed ? -128 : 0;
    return zero_point == NULL || (*zero_point >= least && *zero_point <= least + 255) ? LNORM_OK : LNORM_ERROR_SCALE;
}

#endif

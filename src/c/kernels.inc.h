/* All kernels for one instruction set: its table, with every element type in it.
 *
 * Parameters: ISA, its name; the vec_*.h of the set must have been included, inside its target region.
 */
#include "names.h"

/* Inlined, the kernels keep their vectors in registers. A set that has none says so. */
#ifndef KERNEL_INLINE
#define KERNEL_INLINE INLINE
#endif

/* What x of rows that are FAR is multiplied by. */
#define FAR_SCALE 0x1p-32f

#define REAL_NAME f32
#define REAL float
#define REAL_TYPE LNORM_F32
#define HAS_16_BITS (!LNORM_WITHOUT_F16 || !LNORM_WITHOUT_BF16)
#define REAL_MAX FLT_MAX
#define REAL_MIN FLT_MIN
#define REAL_TINY 0x1p-96f /* squares below it begin to lose digits */
#define REAL_SCALE_LIMIT 0x1p126f
#define REAL_FAR 0x1p-90f /* an rstd: no x - mean overflows where it is not smaller */
#define REAL_BITS uint32_t
#define REAL_FRACTION_BITS 23
#define REAL_ROUNDER 0x1.8p23f
#define FROM_Y_LEAST_GAMMA 0x1p-20f
#define REAL_EXPONENT_MASK ((uint32_t)0xff)
#include "two_parts.inc.h"
#include "lane_sums.inc.h"
#include "stage.inc.h"
#include "statistics.inc.h"
#include "moments.inc.h"
#include "parameter_sums.inc.h"
#include "residual.inc.h"
#include "quantize.inc.h"

#define TYPE f32
#define ELEMENT float
#define IS_16_BITS 0
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#include "pieces_kernel.inc.h"
#include "strip_moments.inc.h"
#include "strip_sums.inc.h"
#include "forward_tiles.inc.h"
#include "backward_tiles.inc.h"
#undef TYPE
#undef ELEMENT
#undef IS_16_BITS

#define ELEMENT uint16_t
#define IS_16_BITS 1
#define TYPE f16
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#include "strip_sums.inc.h"
#include "forward_tiles.inc.h"
#include "backward_tiles.inc.h"
#undef TYPE
#define TYPE bf16
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#include "strip_sums.inc.h"
#include "forward_tiles.inc.h"
#include "backward_tiles.inc.h"
#undef TYPE
#undef ELEMENT
#undef IS_16_BITS

#undef REAL_NAME
#undef REAL
#undef REAL_TYPE
#undef HAS_16_BITS
#undef REAL_MAX
#undef REAL_MIN
#undef REAL_TINY
#undef REAL_SCALE_LIMIT
#undef REAL_FAR
#undef REAL_BITS
#undef REAL_FRACTION_BITS
#undef REAL_ROUNDER
#undef FROM_Y_LEAST_GAMMA
#undef REAL_EXPONENT_MASK

#define REAL_NAME f64
#define REAL double
#define REAL_TYPE LNORM_F64
#define HAS_16_BITS 0
#define REAL_MAX DBL_MAX
#define REAL_MIN DBL_MIN
#define REAL_TINY 0x1p-900
#define REAL_SCALE_LIMIT 0x1p1022
#define REAL_FAR 0x1p-980
#define REAL_BITS uint64_t
#define REAL_FRACTION_BITS 52
#define REAL_ROUNDER 0x1.8p52
#define FROM_Y_LEAST_GAMMA 0x1p-40
#define REAL_EXPONENT_MASK ((uint64_t)0x7ff)
#include "two_parts.inc.h"
#include "lane_sums.inc.h"
#include "stage.inc.h"
#include "statistics.inc.h"
#include "moments.inc.h"
#include "parameter_sums.inc.h"
#include "residual.inc.h"
#include "quantize.inc.h"

#define TYPE f64
#define ELEMENT double
#define IS_16_BITS 0
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#include "pieces_kernel.inc.h"
#include "strip_moments.inc.h"
#include "strip_sums.inc.h"
#include "forward_tiles.inc.h"
#include "backward_tiles.inc.h"

#define LNORM_TABLE2(isa) lnorm_kernels_##isa
#define LNORM_TABLE(isa) LNORM_TABLE2(isa)
#define LNORM_STRING2(isa) #isa
#define LNORM_STRING(isa) LNORM_STRING2(isa)

#define LNORM_IF(left_out, kernel) ((left_out) ? NULL : (kernel))
#define LNORM_TYPED_KERNELS(type, real, without)                                                                       \
    {LNORM_IF(without, LNORM_OF(forward, type)),                                                                       \
     LNORM_IF((without) || LNORM_WITHOUT_BACKWARD, LNORM_OF(backward, type)),                                          \
     LNORM_IF((without) || LNORM_WITHOUT_BACKWARD, LNORM_OF(backward_merge, real)),                                    \
     LNORM_IF((without) || LNORM_WITHOUT_INNER, LNORM_OF(forward_tiles, type)),                                        \
     LNORM_IF((without) || LNORM_WITHOUT_INNER || LNORM_WITHOUT_BACKWARD, LNORM_OF(backward_tiles, type)),             \
     LNORM_IF((without) || LNORM_WITHOUT_MOMENTS, LNORM_OF(moments, real)),                                            \
     LNORM_IF((without) || LNORM_WITHOUT_MOMENTS, LNORM_OF(apply_moments, real)),                                      \
     LNORM_IF((without) || LNORM_WITHOUT_MOMENTS || LNORM_WITHOUT_BACKWARD, LNORM_OF(grad_moments, real)),             \
     LNORM_IF((without) || LNORM_WITHOUT_GROUPS || LNORM_WITHOUT_BACKWARD, LNORM_OF(backward_runs, real)),             \
     LNORM_IF((without) || LNORM_WITHOUT_GROUPS || LNORM_WITHOUT_BACKWARD, LNORM_OF(merge_runs, real))}

const struct lnorm_kernels LNORM_TABLE(ISA) = {
    .name = LNORM_STRING(ISA),
    .typed = {[LNORM_KERNELS_F32] = LNORM_TYPED_KERNELS(f32, f32, 0),
              [LNORM_KERNELS_F64] = LNORM_TYPED_KERNELS(f64, f64, LNORM_WITHOUT_F64),
              [LNORM_KERNELS_F16] = LNORM_TYPED_KERNELS(f16, f32, LNORM_WITHOUT_F16),
              [LNORM_KERNELS_BF16] = LNORM_TYPED_KERNELS(bf16, f32, LNORM_WITHOUT_BF16)},
};

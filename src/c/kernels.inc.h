/* All kernels for one instruction set: its table, with every element type in it.
 *
 * Parameters: ISA, its name; the vec_*.h of the set must have been included, inside its target region.
 */
#include "names.h"

/* Inlined, the kernels keep their vectors in registers. A set that has none says so. */
#ifndef KERNEL_INLINE
#define KERNEL_INLINE INLINE
#endif

/* What the statistics of a row say of how to go on: they will do, and its centre and rstd_lost are 0 or not; it is to
 * be summed again around its mean; its squares vanish or overflow, or it is not finite. */
enum { DIRECT, CENTRED, OFF_CENTRE, OUT_OF_RANGE };

#define REAL_NAME f32
#define REAL float
#define REAL_TYPE LNORM_F32
#define HAS_16_BITS 1
#define REAL_MAX FLT_MAX
#define REAL_MIN FLT_MIN
#define REAL_TINY 0x1p-96f /* squares below it begin to lose digits */
#define REAL_SCALE_LIMIT 0x1p126f
#define REAL_BITS uint32_t
#define REAL_FRACTION_BITS 23
#define REAL_EXPONENT_MASK ((uint32_t)0xff)
#include "lane_sums.inc.h"
#include "stage.inc.h"
#include "moments.inc.h"
#include "parameter_sums.inc.h"

#define TYPE f32
#define ELEMENT float
#define IS_16_BITS 0
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#undef TYPE
#undef ELEMENT
#undef IS_16_BITS

#define ELEMENT uint16_t
#define IS_16_BITS 1
#define TYPE f16
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
#undef TYPE
#define TYPE bf16
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"
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
#undef REAL_BITS
#undef REAL_FRACTION_BITS
#undef REAL_EXPONENT_MASK

#define REAL_NAME f64
#define REAL double
#define REAL_TYPE LNORM_F64
#define HAS_16_BITS 0
#define REAL_MAX DBL_MAX
#define REAL_MIN DBL_MIN
#define REAL_TINY 0x1p-900
#define REAL_SCALE_LIMIT 0x1p1022
#define REAL_BITS uint64_t
#define REAL_FRACTION_BITS 52
#define REAL_EXPONENT_MASK ((uint64_t)0x7ff)
#include "lane_sums.inc.h"
#include "stage.inc.h"
#include "moments.inc.h"
#include "parameter_sums.inc.h"

#define TYPE f64
#define ELEMENT double
#define IS_16_BITS 0
#include "row_sums.inc.h"
#include "forward_kernel.inc.h"
#include "backward_kernel.inc.h"

#define LNORM_TABLE2(isa) lnorm_kernels_##isa
#define LNORM_TABLE(isa) LNORM_TABLE2(isa)
#define LNORM_STRING2(isa) #isa
#define LNORM_STRING(isa) LNORM_STRING2(isa)

const struct lnorm_kernels LNORM_TABLE(ISA) = {
    .name = LNORM_STRING(ISA),
    .typed = {[LNORM_KERNELS_F32] = {forward_f32, backward_f32, backward_merge_f32},
              [LNORM_KERNELS_F64] = {forward_f64, backward_f64, backward_merge_f64},
              [LNORM_KERNELS_F16] = {forward_f16, backward_f16, backward_merge_f32},
              [LNORM_KERNELS_BF16] = {forward_bf16, backward_bf16, backward_merge_f32}},
};

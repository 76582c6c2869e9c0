/* What a build leaves out. Each of these is 0, or 1 where the compiler is told so (-DLNORM_WITHOUT_F64). The header and
 * the functions stay; a call for what is left out returns the status that is named here. */
#ifndef LNORM_PARTS_H
#define LNORM_PARTS_H

/* Instruction sets; one must remain. */
#ifndef LNORM_WITHOUT_SCALAR
#define LNORM_WITHOUT_SCALAR 0
#endif
#ifndef LNORM_WITHOUT_AVX2
#define LNORM_WITHOUT_AVX2 0
#endif
#ifndef LNORM_WITHOUT_AVX512
#define LNORM_WITHOUT_AVX512 0
#endif
#ifndef LNORM_WITHOUT_NEON
#define LNORM_WITHOUT_NEON 0
#endif

/* Element types: LNORM_ERROR_TYPE. */
#ifndef LNORM_WITHOUT_F64
#define LNORM_WITHOUT_F64 0
#endif
#ifndef LNORM_WITHOUT_F16
#define LNORM_WITHOUT_F16 0
#endif
#ifndef LNORM_WITHOUT_BF16
#define LNORM_WITHOUT_BF16 0
#endif

/* Operations: LNORM_ERROR_OPERATION. Every call for gradients; */
#ifndef LNORM_WITHOUT_BACKWARD
#define LNORM_WITHOUT_BACKWARD 0
#endif
/* lnorm_add_forward and lnorm_add_backward; */
#ifndef LNORM_WITHOUT_RESIDUAL
#define LNORM_WITHOUT_RESIDUAL 0
#endif
/* lnorm_quantized_forward; */
#ifndef LNORM_WITHOUT_QUANTIZED
#define LNORM_WITHOUT_QUANTIZED 0
#endif
/* statistics as building blocks; */
#ifndef LNORM_WITHOUT_MOMENTS
#define LNORM_WITHOUT_MOMENTS 0
#endif
/* inner of more than 1; */
#ifndef LNORM_WITHOUT_INNER
#define LNORM_WITHOUT_INNER 0
#endif
/* param_run of more than 1. */
#ifndef LNORM_WITHOUT_GROUPS
#define LNORM_WITHOUT_GROUPS 0
#endif

#endif

/* The kernels for AVX2, FMA and F16C. */
#include "kernels.h"

#if LNORM_AVX2
#include <immintrin.h>

LNORM_TARGET_BEGIN("avx2,fma,f16c")
#include "vec_avx2.h"

#define ISA avx2
#include "kernels.inc.h"
LNORM_TARGET_END

#else
typedef int lnorm_no_avx2;
#endif

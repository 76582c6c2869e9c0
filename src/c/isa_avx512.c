/* The kernels for AVX-512 F. */
#include "kernels.h"

#if LNORM_AVX512
#include <immintrin.h>

LNORM_TARGET_BEGIN(LNORM_TARGET_AVX512)
#include "vec_avx512.h"

#define ISA avx512
#include "kernels.inc.h"
LNORM_TARGET_END

#else
typedef int lnorm_no_avx512;
#endif

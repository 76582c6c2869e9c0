/* The limit loops for AVX2 and FMA. */
#include "compiler.h"
#include "limit.h"

#if LNORM_X86
#include <immintrin.h>

LNORM_TARGET_BEGIN("avx2,fma")
#include "vec_avx2.h"

#define ISA avx2
#include "limit.inc.h"
LNORM_TARGET_END

#else
typedef int limits_no_avx2;
#endif

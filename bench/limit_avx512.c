/* The limit loops for AVX-512 F. */
#include "compiler.h"
#include "limit.h"

#if LNORM_X86
#include <immintrin.h>

LNORM_TARGET_BEGIN(LNORM_TARGET_AVX512)
#include "vec_avx512.h"

#define ISA avx512
#include "limit.inc.h"
LNORM_TARGET_END

#else
typedef int limits_no_avx512;
#endif

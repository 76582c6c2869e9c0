/* The limit loops for AArch64's NEON. */
#include "compiler.h"
#include "limit.h"

#if LNORM_NEON
#include <arm_neon.h>

#include "vec_neon.h"

#define ISA neon
#include "limit.inc.h"

#else
typedef int limits_no_neon;
#endif

/* The kernels for AArch64's NEON, which every such CPU has. */
#include "kernels.h"

#if LNORM_NEON
#include <arm_neon.h>

#include "vec_neon.h"

#define ISA neon
#include "kernels.inc.h"

#else
typedef int lnorm_no_neon;
#endif

/* The kernels in plain C, for any machine. Everything else must give their bits. */
#include <math.h>

#include "kernels.h"

#if LNORM_SCALAR
#include "vec_scalar.h"

#define ISA scalar
#define KERNEL_INLINE
#include "kernels.inc.h"

#else
typedef int lnorm_no_scalar;
#endif

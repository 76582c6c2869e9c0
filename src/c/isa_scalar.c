/* The kernels in plain C, for any machine. Everything else must give their bits. */
#include <math.h>

#include "kernels.h"
#include "vec_scalar.h"

#define ISA scalar
#define KERNEL_INLINE
#include "kernels.inc.h"

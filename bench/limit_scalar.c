/* The limit loops in the scalar kernels' own plain C. */
#include <math.h>

#include "compiler.h"
#include "limit.h"

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wunused-function" /* the vocabulary has more than the limits need */
#endif
#include "vec_scalar.h"

#define ISA scalar
#include "limit.inc.h"

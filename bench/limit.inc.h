/* The limit loops for one instruction set, of every element type, and their table.
 *
 * Parameters: ISA, its name; the vec_*.h of the set must have been included, inside its target region.
 */
#include "limit.h"
#include "names.h"

#define TYPE f32
#define REAL_NAME f32
#define REAL float
#include "limit_loops.inc.h"
#undef TYPE
#undef REAL_NAME
#undef REAL

#define TYPE f64
#define REAL_NAME f64
#define REAL double
#include "limit_loops.inc.h"

#define LIMITS_TABLE2(isa) limits_##isa
#define LIMITS_TABLE(isa) LIMITS_TABLE2(isa)
#define LIMITS_STRING2(isa) #isa
#define LIMITS_STRING(isa) LIMITS_STRING2(isa)

const struct limits LIMITS_TABLE(ISA) = {.isa = LIMITS_STRING(ISA),
                                         .f32 = {LNORM_OF(copy, f32), LNORM_OF(add, f32)},
                                         .f64 = {LNORM_OF(copy, f64), LNORM_OF(add, f64)}};

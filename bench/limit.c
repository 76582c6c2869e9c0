/* Which limit loops there are. */
#include <string.h>

#include "compiler.h"
#include "limit.h"

extern const struct limits limits_scalar;
#if LNORM_X86
extern const struct limits limits_avx2, limits_avx512;
#endif
#if LNORM_NEON
extern const struct limits limits_neon;
#endif

const struct limits *find_limits(const char *isa)
{
    const struct limits *const all[] = {
#if LNORM_X86
        &limits_avx512, &limits_avx2,
#endif
#if LNORM_NEON
        &limits_neon,
#endif
        &limits_scalar};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->isa, isa) == 0) {
            return all[i];
        }
    }
    return NULL;
}

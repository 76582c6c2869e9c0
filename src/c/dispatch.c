/* Which instruction set is in use. */
#include <stdatomic.h>
#include <stdlib.h>

#include "kernels.h"
#include "lnorm.h"

static int always(void)
{
    return 1;
}

/* Best first. */
static const struct candidate {
    const struct lnorm_kernels *kernels;
    int (*available)(void);
} candidates[] = {
#if LNORM_X86
    {&lnorm_kernels_avx512, lnorm_cpu_has_avx512f},
    {&lnorm_kernels_avx2, lnorm_cpu_has_avx2_fma},
#endif
#if LNORM_NEON
    {&lnorm_kernels_neon, always},
#endif
    {&lnorm_kernels_scalar, always},
};

enum { CANDIDATES = (int)(sizeof candidates / sizeof candidates[0]) };

/* Stands for "LNORM_ISA is in error", so that NULL can stand for "not chosen yet". */
static const struct lnorm_kernels none;

static _Atomic(const struct lnorm_kernels *) active;

static int same(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static const struct lnorm_kernels *available(size_t index)
{
    for (int i = 0; i < CANDIDATES; i++) {
        if (candidates[i].available() && index-- == 0) {
            return candidates[i].kernels;
        }
    }
    return NULL;
}

static const struct lnorm_kernels *find(const char *name)
{
    for (int i = 0; i < CANDIDATES; i++) { /* the name first: asking the processor may take microseconds */
        if (same(candidates[i].kernels->name, name) && candidates[i].available()) {
            return candidates[i].kernels;
        }
    }
    return NULL;
}

static const struct lnorm_kernels *choose(void)
{
    const char *const wanted = getenv("LNORM_ISA");
    const struct lnorm_kernels *const kernels = wanted != NULL && *wanted != '\0' ? find(wanted) : available(0);
    return kernels != NULL ? kernels : &none;
}

static NOINLINE const struct lnorm_kernels *choose_first(void)
{
    const struct lnorm_kernels *const chosen = choose();
    /* Threads that race here choose the same; but a lnorm_set_isa that came between them stands. */
    const struct lnorm_kernels *before = NULL;
    return atomic_compare_exchange_strong(&active, &before, chosen) ? chosen : before;
}

const struct lnorm_kernels *lnorm_active_kernels(void)
{
    const struct lnorm_kernels *kernels = atomic_load_explicit(&active, memory_order_acquire);
    if (!LIKELY(kernels != NULL)) {
        kernels = choose_first();
    }
    return kernels != &none ? kernels : NULL;
}

const char *lnorm_isa(void)
{
    const struct lnorm_kernels *const kernels = lnorm_active_kernels();
    return kernels != NULL ? kernels->name : NULL;
}

const char *lnorm_available_isa(size_t index)
{
    const struct lnorm_kernels *const kernels = available(index);
    return kernels != NULL ? kernels->name : NULL;
}

lnorm_status lnorm_set_isa(const char *name)
{
    const struct lnorm_kernels *const kernels = name != NULL ? find(name) : choose();
    if (kernels == NULL || kernels == &none) {
        return LNORM_ERROR_ISA;
    }
    atomic_store_explicit(&active, kernels, memory_order_release);
    return LNORM_OK;
}

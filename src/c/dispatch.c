/* Which instruction set is in use. */
#if defined(_MSC_VER) && defined(__STDC_NO_ATOMICS__)
#include <intrin.h>
#else
#include <stdatomic.h>
#endif
#if __STDC_HOSTED__
#include <stdlib.h>
#endif

#include "kernels.h"
#include "lnorm.h"

/* Best first; `detect` is NULL where every machine has the set. */
static const struct candidate {
    const struct lnorm_kernels *kernels;
    int (*detect)(void);
} candidates[] = {
#if LNORM_AVX512
    {&lnorm_kernels_avx512, lnorm_cpu_has_avx512f},
#endif
#if LNORM_AVX2
    {&lnorm_kernels_avx2, lnorm_cpu_has_avx2_fma},
#endif
#if LNORM_NEON
    {&lnorm_kernels_neon, NULL},
#endif
#if LNORM_SCALAR
    {&lnorm_kernels_scalar, NULL},
#endif
};

enum { CANDIDATES = (int)(sizeof candidates / sizeof candidates[0]) };

/* Stands for "LNORM_ISA is in error", so that NULL can stand for "not chosen yet". */
static const struct lnorm_kernels none;

/* The table in use, NULL before the first call. MSVC has C11's atomics with /experimental:c11atomics only; its aligned
 * pointers are read and written at once, and no order is needed, for tables are constant. */
#if defined(_MSC_VER) && defined(__STDC_NO_ATOMICS__)
static const struct lnorm_kernels *volatile active;

static INLINE const struct lnorm_kernels *get_active(void)
{
    return active;
}
static INLINE void set_active(const struct lnorm_kernels *kernels)
{
    active = kernels;
}
/* Sets it where it was NULL. */
static INLINE void exchange_null(const struct lnorm_kernels *kernels)
{
    _InterlockedCompareExchangePointer((void *volatile *)&active, (void *)kernels, NULL);
}
#else
static _Atomic(const struct lnorm_kernels *) active;

static INLINE const struct lnorm_kernels *get_active(void)
{
    return atomic_load_explicit(&active, memory_order_acquire);
}
static INLINE void set_active(const struct lnorm_kernels *kernels)
{
    atomic_store_explicit(&active, kernels, memory_order_release);
}
static INLINE void exchange_null(const struct lnorm_kernels *kernels)
{
    const struct lnorm_kernels *before = NULL;
    atomic_compare_exchange_strong(&active, &before, kernels);
}
#endif

static int same(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

static int is_there(const struct candidate *candidate)
{
    return candidate->detect == NULL || candidate->detect();
}

static const struct lnorm_kernels *available(size_t index)
{
    size_t found = 0;
    for (int i = 0; i < CANDIDATES; i++) {
        if (is_there(&candidates[i]) && found++ == index) {
            return candidates[i].kernels;
        }
    }
    return NULL;
}

static const struct lnorm_kernels *find(const char *name)
{
    for (int i = 0; i < CANDIDATES; i++) { /* the name first: asking the processor may take microseconds */
        if (same(candidates[i].kernels->name, name) && is_there(&candidates[i])) {
            return candidates[i].kernels;
        }
    }
    return NULL;
}

static const struct lnorm_kernels *choose(void)
{
    const char *wanted = NULL;
#if __STDC_HOSTED__
    wanted = getenv("LNORM_ISA");
#endif
    const struct lnorm_kernels *const kernels = wanted != NULL && *wanted != '\0' ? find(wanted) : available(0);
    return kernels != NULL ? kernels : &none;
}

static NOINLINE const struct lnorm_kernels *choose_first(void)
{
    /* Threads that race here choose the same; but a lnorm_set_isa that came between them stands. */
    exchange_null(choose());
    return get_active();
}

/* Without an operating system and with one set that every such machine has, the choice is made as it is compiled. */
static INLINE int is_chosen(void)
{
    enum { ONE = !__STDC_HOSTED__ && CANDIDATES == 1 };
    return ONE && candidates[0].detect == NULL;
}

const struct lnorm_kernels *lnorm_active_kernels(void)
{
    if (is_chosen()) {
        return candidates[0].kernels;
    }
    const struct lnorm_kernels *kernels = get_active();
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
    if (!is_chosen()) {
        set_active(kernels);
    }
    return LNORM_OK;
}

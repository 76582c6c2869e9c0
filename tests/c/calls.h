/* Any call of the library as a value, with arguments that lie in one pool: a test changes one thing and looks at the
 * status, and at what was written. */
#ifndef TEST_CALLS_H
#define TEST_CALLS_H

#include "test_support.h"

enum { ROWS = 40, COLS = 8, SLOT = 1 << 14, POOL = SLOT * (ALL_ARGUMENTS + 1) };

static unsigned char *pool; /* every argument of a call lies in here, each in its own slot */
static char context[100];   /* of the checks that a loop makes, for what is printed */

typedef enum which {
    FORWARD,
    BACKWARD,
    ADD_FORWARD,
    ADD_BACKWARD,
    QUANTIZED_FORWARD,
    BACKWARD_FROM_Y,
    MOMENTS_OF,
    APPLY_MOMENTS,
    GRAD_MOMENTS_OF,
    APPLY_GRAD_MOMENTS,
    MERGE_MOMENTS,
    MERGE_GRAD_MOMENTS
} which;

typedef struct call {
    which which;
    lnorm_problem problem;
    void *a[ALL_ARGUMENTS];
    size_t workspace_size;
    int64_t count_a, count_b; /* of merges, of a[MOMENTS] and a[GRAD_MOMENTS] into a[Y] */
} call;

static inline lnorm_status run(const call *c)
{
    const lnorm_problem *const p = &c->problem;
    void *const *const a = c->a;
    switch (c->which) {
    case FORWARD:
        return lnorm_forward(p, a[X], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    case BACKWARD:
        return lnorm_backward(p, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA], a[WORKSPACE],
                              c->workspace_size);
    case ADD_FORWARD:
        return lnorm_add_forward(p, a[X], a[RESIDUAL], a[INPUT_BIAS], a[GAMMA], a[BETA], a[TOTAL], a[Y], a[MEAN],
                                 a[RSTD]);
    case ADD_BACKWARD:
        return lnorm_add_backward(p, a[DY], a[DTOTAL], a[TOTAL], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA],
                                  a[WORKSPACE], c->workspace_size);
    case QUANTIZED_FORWARD:
        return lnorm_quantized_forward(p, a[X], a[GAMMA], a[BETA], a[Y], a[SCALE], a[ZERO_POINT], a[MEAN], a[RSTD]);
    case BACKWARD_FROM_Y:
        return lnorm_backward_from_y(p, a[DY], a[Y], a[RSTD], a[GAMMA], a[BETA], a[DX], a[DGAMMA], a[DBETA],
                                     a[WORKSPACE], c->workspace_size);
    case MOMENTS_OF:
        return lnorm_moments(p, a[X], a[MOMENTS]);
    case APPLY_MOMENTS:
        return lnorm_apply_moments(p, a[X], a[MOMENTS], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    case GRAD_MOMENTS_OF:
        return lnorm_grad_moments(p, a[DY], a[X], a[MOMENTS], a[GAMMA], a[GRAD_MOMENTS]);
    case APPLY_GRAD_MOMENTS:
        return lnorm_apply_grad_moments(p, a[DY], a[X], a[MOMENTS], a[GRAD_MOMENTS], a[GAMMA], a[DX], a[DGAMMA],
                                        a[DBETA], a[WORKSPACE], c->workspace_size);
    case MERGE_MOMENTS:
        return lnorm_merge_moments(p, c->count_a, a[MOMENTS], c->count_b, a[GRAD_MOMENTS], a[Y]);
    default:
        return lnorm_merge_grad_moments(p, c->count_a, a[MOMENTS], c->count_b, a[GRAD_MOMENTS], a[Y]);
    }
}

static inline void fill_pool(lnorm_type type)
{
    uint64_t random = 1;
    fill_values(type, pool, POOL / type_size(type), 0.0, 1.0, &random);
}

static inline call good_call(lnorm_type type, which which)
{
    call c = {.which = which, .problem = LNORM_PROBLEM_INIT, .count_a = 3, .count_b = 4};
    c.problem.x_type = (int32_t)type;
    c.problem.outer = ROWS;
    c.problem.norm = COLS;
    c.problem.eps = 1e-5;
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        c.a[i] = pool + (size_t)i * SLOT;
    }
    c.workspace_size = workspace_bytes(type, ROWS, COLS);
    fill_pool(type);
    return c;
}

static inline void expect_refused(lnorm_status status, lnorm_status expected, const unsigned char *before,
                                  const char *what)
{
    if (!CHECK(status == expected)) {
        printf("  %s%s: status %d, expected %d\n", context, what, (int)status, (int)expected);
    }
    if (!CHECK(memcmp(pool, before, POOL) == 0)) {
        printf("  %s%s: refused, but something was written\n", context, what);
    }
}

/* The call, with one thing wrong, is refused with the status. */
#define REFUSED(status, wrong)                                                                                         \
    do {                                                                                                               \
        call c = good;                                                                                                 \
        wrong;                                                                                                         \
        memcpy(before, pool, POOL);                                                                                    \
        expect_refused(run(&c), status, before, #wrong);                                                               \
    } while (0)

#define ACCEPTED(unusual)                                                                                              \
    do {                                                                                                               \
        call c = good;                                                                                                 \
        unusual;                                                                                                       \
        if (!CHECK(run(&c) == LNORM_OK))                                                                               \
            printf("  %s%s: refused with status %d\n", context, #unusual, (int)run(&c));                               \
    } while (0)

#endif

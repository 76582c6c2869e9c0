/* What the benches time: the limits, the plain loops, and lnorm through its C API, on the same operands. */
#ifndef BENCH_SUBJECTS_H
#define BENCH_SUBJECTS_H

#include <stddef.h>

#include "lnorm.h"

/* One case. gamma and beta may be NULL, and then dgamma and dbeta are: see lnorm.h for what each is. mean and rstd are
 * what backward is given; forward is timed without them, as in inference. */
struct operands {
    lnorm_type type;
    size_t rows, cols;
    ptrdiff_t stride; /* elements from one row to the next in x, y, dy and dx */
    double eps;
    const void *x, *dy, *gamma, *beta, *mean, *rstd;
    void *y, *dx, *dgamma, *dbeta, *workspace;
    size_t workspace_size;
};

enum direction { FORWARD, BACKWARD };

/* Each does its work `times` times, so that a loop in C, not its caller, is around a short call. The limit and lnorm
 * use the named instruction set; the answer is LNORM_OK, or why there was nothing to time. */
lnorm_status repeat_limit(const struct operands *operands, enum direction direction, const char *isa, size_t times);
lnorm_status repeat_lnorm(const struct operands *operands, enum direction direction, const char *isa, size_t times);
void repeat_plain(const struct operands *operands, enum direction direction, size_t times);

#endif

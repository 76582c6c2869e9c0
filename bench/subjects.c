/* See subjects.h. */
#include "subjects.h"

#include "limit.h"
#include "plain.h"

static int dense(const struct operands *o)
{
    return o->stride == (ptrdiff_t)o->cols;
}

lnorm_status repeat_limit(const struct operands *o, enum direction direction, const char *isa, size_t times)
{
    const struct limits *const limits = find_limits(isa);
    if (limits == NULL) {
        return LNORM_ERROR_ISA;
    }
    const int f64 = o->type == LNORM_F64;
    const limit_loop copy = f64 ? limits->f64.copy : limits->f32.copy;
    const limit_loop add = f64 ? limits->f64.add : limits->f32.add;
    struct limit_args args = {o->rows, o->cols, o->stride, NULL, NULL, NULL};
    if (dense(o)) { /* rows are nothing to a limit */
        args.rows = 1;
        args.cols = o->rows * o->cols;
    }
    args.a = direction == FORWARD ? o->x : o->dy;
    args.b = direction == FORWARD ? NULL : o->x;
    args.out = direction == FORWARD ? o->y : o->dx;
    for (size_t i = 0; i < times; i++) {
        (direction == FORWARD ? copy : add)(&args);
    }
    return LNORM_OK;
}

static lnorm_status lnorm_dense(const struct operands *o, enum direction direction)
{
    if (o->type == LNORM_F64) {
        return direction == FORWARD
                   ? lnorm_forward_f64(o->rows, o->cols, o->x, o->gamma, o->beta, o->eps, o->y, NULL, NULL)
                   : lnorm_backward_f64(o->rows, o->cols, o->dy, o->x, o->mean, o->rstd, o->gamma, o->dx, o->dgamma,
                                        o->dbeta, o->workspace, o->workspace_size);
    }
    return direction == FORWARD ? lnorm_forward_f32(o->rows, o->cols, o->x, o->gamma, o->beta, o->eps, o->y, NULL, NULL)
                                : lnorm_backward_f32(o->rows, o->cols, o->dy, o->x, o->mean, o->rstd, o->gamma, o->dx,
                                                     o->dgamma, o->dbeta, o->workspace, o->workspace_size);
}

static lnorm_status lnorm_strided(const struct operands *o, enum direction direction)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = (int32_t)o->type;
    problem.outer = (int64_t)o->rows;
    problem.norm = (int64_t)o->cols;
    problem.x_stride = problem.y_stride = problem.dy_stride = problem.dx_stride = o->stride;
    problem.eps = o->eps;
    return direction == FORWARD ? lnorm_forward(&problem, o->x, o->gamma, o->beta, o->y, NULL, NULL)
                                : lnorm_backward(&problem, o->dy, o->x, o->mean, o->rstd, o->gamma, o->dx, o->dgamma,
                                                 o->dbeta, o->workspace, o->workspace_size);
}

lnorm_status repeat_lnorm(const struct operands *o, enum direction direction, const char *isa, size_t times)
{
    lnorm_status status = lnorm_set_isa(isa);
    for (size_t i = 0; i < times && status == LNORM_OK; i++) {
        status = dense(o) ? lnorm_dense(o, direction) : lnorm_strided(o, direction);
    }
    return status;
}

static void plain(const struct operands *o, enum direction direction)
{
    if (o->type == LNORM_F64) {
        if (direction == FORWARD) {
            plain_forward_f64(o->rows, o->cols, o->stride, o->x, o->gamma, o->beta, o->eps, o->y);
        } else {
            plain_backward_f64(o->rows, o->cols, o->stride, o->dy, o->x, o->mean, o->rstd, o->gamma, o->dx, o->dgamma,
                               o->dbeta);
        }
    } else if (direction == FORWARD) {
        plain_forward_f32(o->rows, o->cols, o->stride, o->x, o->gamma, o->beta, (float)o->eps, o->y);
    } else {
        plain_backward_f32(o->rows, o->cols, o->stride, o->dy, o->x, o->mean, o->rstd, o->gamma, o->dx, o->dgamma,
                           o->dbeta);
    }
}

void repeat_plain(const struct operands *o, enum direction direction, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        plain(o, direction);
    }
}

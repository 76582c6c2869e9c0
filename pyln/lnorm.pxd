# cython: language_level=3
from libc.stdint cimport int32_t, int64_t

cdef extern from "lnorm.h" nogil:
    ctypedef enum lnorm_status:
        LNORM_OK
        LNORM_ERROR_WORKSPACE
    ctypedef enum lnorm_operation:
        LNORM_LAYER_NORM
        LNORM_RMS_NORM
    ctypedef enum lnorm_type:
        LNORM_F32
        LNORM_F64
    ctypedef void (*lnorm_task)(void *argument, size_t index) noexcept nogil
    ctypedef void (*lnorm_parallel_for)(void *context, size_t count, lnorm_task task, void *argument) noexcept nogil
    const int64_t LNORM_BROADCAST
    ctypedef struct lnorm_problem:
        size_t struct_size
        int32_t operation, x_type, y_type, param_type
        int64_t outer, norm, x_stride, y_stride, dy_stride, dx_stride
        double eps
        lnorm_parallel_for parallel_for
        void *parallel_context

    const char *lnorm_status_text(lnorm_status status)
    const char *lnorm_version()
    const char *lnorm_isa()
    const char *lnorm_available_isa(size_t index)
    lnorm_status lnorm_set_isa(const char *name)
    lnorm_status lnorm_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta,
                               void *y, void *mean, void *rstd)
    lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size)
    lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                                const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta,
                                void *workspace, size_t workspace_size)

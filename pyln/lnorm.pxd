# cython: language_level=3
from libc.stdint cimport int32_t, int64_t, uint32_t

cdef extern from "lnorm.h" nogil:
    ctypedef enum lnorm_status:
        LNORM_OK
        LNORM_ERROR_OVERLAP
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
    const uint32_t LNORM_GAMMA_PLUS_ONE, LNORM_ROUND_STEPS, LNORM_ACCUMULATE, LNORM_DYNAMIC_SCALE
    ctypedef struct lnorm_problem:
        size_t struct_size
        int32_t operation, x_type, y_type, param_type
        uint32_t flags
        int64_t outer, norm, inner, x_stride, y_stride, dy_stride, dx_stride
        double eps
        lnorm_parallel_for parallel_for
        void *parallel_context
        int64_t x_norm_stride, y_norm_stride, dy_norm_stride, dx_norm_stride
        int64_t param_rows, param_repeat, param_run
        int64_t residual_rows, residual_stride, total_stride

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
    lnorm_status lnorm_add_forward(const lnorm_problem *problem, const void *x, const void *residual,
                                   const void *input_bias, const void *gamma, const void *beta, void *total,
                                   void *y, void *mean, void *rstd)
    lnorm_status lnorm_add_backward(const lnorm_problem *problem, const void *dy, const void *dtotal,
                                    const void *total, const void *mean, const void *rstd, const void *gamma,
                                    void *dx, void *dgamma, void *dbeta, void *workspace, size_t workspace_size)
    lnorm_status lnorm_quantized_forward(const lnorm_problem *problem, const void *x, const void *gamma,
                                         const void *beta, void *y, void *scale, int32_t *zero_point, void *mean,
                                         void *rstd)
    lnorm_status lnorm_backward_from_y(const lnorm_problem *problem, const void *dy, const void *y,
                                       const void *rstd, const void *gamma, const void *beta, void *dx,
                                       void *dgamma, void *dbeta, void *workspace, size_t workspace_size)
    lnorm_status lnorm_moments(const lnorm_problem *problem, const void *x, void *moments)
    lnorm_status lnorm_merge_moments(const lnorm_problem *problem, int64_t count_a, const void *a,
                                     int64_t count_b, const void *b, void *merged)
    lnorm_status lnorm_merge_grad_moments(const lnorm_problem *problem, int64_t count_a, const void *a,
                                          int64_t count_b, const void *b, void *merged)
    lnorm_status lnorm_apply_moments(const lnorm_problem *problem, const void *x, const void *moments,
                                     const void *gamma, const void *beta, void *y, void *mean, void *rstd)
    lnorm_status lnorm_grad_moments(const lnorm_problem *problem, const void *dy, const void *x,
                                    const void *moments, const void *gamma, void *grad_moments)
    lnorm_status lnorm_apply_grad_moments(const lnorm_problem *problem, const void *dy, const void *x,
                                          const void *moments, const void *grad_moments, const void *gamma,
                                          void *dx, void *dgamma, void *dbeta, void *workspace,
                                          size_t workspace_size)

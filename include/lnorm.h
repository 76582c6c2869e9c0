/* lnorm: layer normalization, forward and backward. C99 and C++.
 *
 *     y = (x - mean) / sqrt(var + eps) * gamma + beta
 *
 * mean and var (biased: divided by n) are taken over the n normalized elements of one row; gamma and beta have one
 * value per normalized element and are shared by all rows. (Ba, Kiros, Hinton: Layer Normalization, 2016.)
 *
 * The library allocates nothing, starts no threads, prints nothing, and keeps no state but the choice of an instruction
 * set. Results are the same bits on every instruction set, for every hook, row position and alignment.
 * Pointers must be aligned for their element type. A refused call writes nothing.
 */
#ifndef LNORM_H
#define LNORM_H

#include <stddef.h>
#include <stdint.h>

#define LNORM_VERSION_MAJOR 0
#define LNORM_VERSION_MINOR 1
#define LNORM_VERSION_PATCH 0
#define LNORM_VERSION_STRING "0.1.0"

#if defined(_WIN32) && defined(LNORM_SHARED)
#ifdef LNORM_BUILD
#define LNORM_API __declspec(dllexport)
#else
#define LNORM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define LNORM_API __attribute__((visibility("default")))
#else
#define LNORM_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a call returns: LNORM_OK, or the first thing found wrong. lnorm_status_text gives a sentence for each. */
typedef enum lnorm_status {
    LNORM_OK = 0,
    LNORM_ERROR_STRUCT = 1,     /* problem is NULL, or its struct_size is not one that this library knows */
    LNORM_ERROR_OPERATION = 2,  /* operation not supported */
    LNORM_ERROR_TYPE = 3,       /* element type, or combination of types, not supported */
    LNORM_ERROR_FLAGS = 4,      /* a flag that is not supported */
    LNORM_ERROR_INNER = 5,      /* inner other than 1 is not supported */
    LNORM_ERROR_SIZE = 6,       /* a negative size, or sizes or strides whose product overflows */
    LNORM_ERROR_STRIDE = 7,     /* strides that make the rows of y or dx overlap each other */
    LNORM_ERROR_EPS = 8,        /* eps is negative, NaN, or not finite in the type */
    LNORM_ERROR_NULL = 9,       /* x, y, dy, mean or rstd is NULL where it is required, or mean is not in RMS norm */
    LNORM_ERROR_OVERLAP = 10,   /* an output overlaps another argument in a way that is not allowed */
    LNORM_ERROR_WORKSPACE = 11, /* workspace is NULL, too small or misaligned */
    LNORM_ERROR_ISA = 12        /* LNORM_ISA or lnorm_set_isa names a set that is unknown or not available here */
} lnorm_status;

/* A sentence in English, never NULL, never to be freed; for an unknown status too. */
LNORM_API const char *lnorm_status_text(lnorm_status status);

/* The version of the library that is linked, "major.minor.patch"; LNORM_VERSION_STRING is that of the header. */
LNORM_API const char *lnorm_version(void);

/* ---- One dense tensor of rows x cols ------------------------------------------------------------------------------
 *
 * Row-major, without gaps; each row is normalized. Absent is NULL: gamma (as if 1), beta (as if 0), mean, rstd.
 *
 *   x      rows x cols   input
 *   gamma  cols          scale, or NULL
 *   beta   cols          shift, or NULL
 *   eps                  added to the variance, inside the root; rounded to the element type; finite there, >= 0
 *   y      rows x cols   output; may be x itself, must not overlap anything else
 *   mean   rows          output, or NULL
 *   rstd   rows          output, or NULL: 1 / sqrt(var + eps), and 0 where var + eps is 0 (then y = beta)
 *
 * Zero rows or zero cols succeed; data pointers may then be NULL. The statistics of no elements are NaN. A NaN or an
 * infinity spoils its own row only (in backward, dgamma and dbeta too, which sum over all rows).
 */
LNORM_API lnorm_status lnorm_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma,
                                         const float *beta, double eps, float *y, float *mean, float *rstd);
LNORM_API lnorm_status lnorm_forward_f64(size_t rows, size_t cols, const double *x, const double *gamma,
                                         const double *beta, double eps, double *y, double *mean, double *rstd);

/* Gradients of a scalar loss. With xhat = (x - mean) * rstd and g = dy * gamma, means taken over one row:
 *
 *     dx     = rstd * (g - mean(g) - xhat * mean(g * xhat))
 *     dgamma = sum over rows of dy * xhat
 *     dbeta  = sum over rows of dy
 *
 *   dy          rows x cols   gradient arriving at y
 *   x           rows x cols   the input of forward
 *   mean, rstd  rows          as forward returned them
 *   gamma       cols          or NULL
 *   dx          rows x cols   output, or NULL; may be dy or x itself, must not overlap anything else
 *   dgamma      cols          output, overwritten, or NULL
 *   dbeta       cols          output, overwritten, or NULL
 *   workspace                 workspace_size bytes, aligned for the element type, contents arbitrary; as many as the
 *                             query below asks for; NULL when that is 0 or neither dgamma nor dbeta is wanted
 */
LNORM_API lnorm_status lnorm_backward_f32(size_t rows, size_t cols, const float *dy, const float *x, const float *mean,
                                          const float *rstd, const float *gamma, float *dx, float *dgamma, float *dbeta,
                                          void *workspace, size_t workspace_size);
LNORM_API lnorm_status lnorm_backward_f64(size_t rows, size_t cols, const double *dy, const double *x,
                                          const double *mean, const double *rstd, const double *gamma, double *dx,
                                          double *dgamma, double *dbeta, void *workspace, size_t workspace_size);

/* Bytes of workspace that backward needs for this shape; SIZE_MAX when the shape is refused. */
LNORM_API size_t lnorm_backward_workspace_f32(size_t rows, size_t cols);
LNORM_API size_t lnorm_backward_workspace_f64(size_t rows, size_t cols);

/* ---- The general form ---------------------------------------------------------------------------------------------
 *
 * The tensor is seen as outer x norm x inner, and normalized over the middle: each (outer, inner) pair is a row of
 * norm elements.
 */
typedef enum lnorm_operation {
    LNORM_LAYER_NORM = 0,
    /* y = x / sqrt(mean(x * x) + eps) * gamma + beta. Nothing is subtracted; pass NULL for mean, to backward too.
     *     dx = rstd * (g - xhat * mean(g * xhat)),   xhat = x * rstd
     * (Zhang, Sennrich: Root Mean Square Layer Normalization, 2019.) */
    LNORM_RMS_NORM = 1
} lnorm_operation;

typedef enum lnorm_type {
    LNORM_TYPE_DEFAULT = 0, /* x_type: f32; the others: as x_type */
    LNORM_F32 = 1,
    LNORM_F64 = 2,
    LNORM_F16 = 3, /* IEEE 754 binary16, as uint16_t or _Float16 */
    LNORM_BF16 = 4 /* the upper half of an f32, as uint16_t */
} lnorm_type;

/* One piece of the work, safe to run beside every other piece of the same call. */
typedef void (*lnorm_task)(void *argument, size_t index);

/* A hook that runs task(argument, i) once for each i in 0 .. count-1, in any order, on any threads, and returns when
 * all have ended. The result does not depend on it. */
typedef void (*lnorm_parallel_for)(void *context, size_t count, lnorm_task task, void *argument);

/* A row stride that makes every row the same memory (inputs only). */
#define LNORM_BROADCAST INT64_MIN

/* 16-bit elements are widened exactly, everything is computed in f32, and y and dx are rounded once, to nearest even
 * (subnormal numbers are kept, NaN stays NaN). mean, rstd, dgamma, dbeta and the workspace are f32 then, always; with
 * f64 they are f64.
 *
 * Start from LNORM_PROBLEM_INIT and set what differs: zero means the default. The struct grows at its end only; a
 * library refuses a struct_size that it does not know. */
typedef struct lnorm_problem {
    size_t struct_size;              /* sizeof(lnorm_problem) */
    int32_t operation;               /* lnorm_operation */
    int32_t x_type;                  /* lnorm_type of x, and of dx */
    int32_t y_type;                  /* lnorm_type of y, and of dy; f64 where and only where x is */
    int32_t param_type;              /* lnorm_type of gamma and beta: f32 or x_type */
    uint32_t flags;                  /* none is defined yet */
    int32_t reserved;                /* 0 */
    int64_t outer;                   /* >= 0 */
    int64_t norm;                    /* >= 0 */
    int64_t inner;                   /* 0 means 1 */
    int64_t x_stride;                /* elements from one outer index to the next; may be negative; 0 means dense */
    int64_t y_stride;                /* forward */
    int64_t dy_stride;               /* backward */
    int64_t dx_stride;               /* backward */
    double eps;                      /* forward; as given, 0 is 0 */
    lnorm_parallel_for parallel_for; /* or NULL: all on the calling thread */
    void *parallel_context;          /* handed to parallel_for */
} lnorm_problem;

#define LNORM_PROBLEM_INIT {sizeof(lnorm_problem), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, NULL, NULL}

/* As the typed calls above, for the types and strides that the problem names. Rows of y and of dx must not overlap each
 * other; y may be x, dx may be dy or x, where pointer and stride are the same; two arguments with equal strides may
 * also interleave (columns of one matrix). */
LNORM_API lnorm_status lnorm_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta,
                                     void *y, void *mean, void *rstd);
LNORM_API lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                                      const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta,
                                      void *workspace, size_t workspace_size);

/* Writes the bytes of workspace that lnorm_backward needs for the problem to *size (SIZE_MAX when it is refused). */
LNORM_API lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size);

/* ---- Instruction sets ---------------------------------------------------------------------------------------------
 *
 * The best available one is chosen at the first call. The environment variable LNORM_ISA, read then, names another; a
 * name that is unknown or not available here makes every call return LNORM_ERROR_ISA.
 */

/* The set in use: "scalar", "avx2" (with FMA and F16C), "avx512" (F) or "neon"; NULL when LNORM_ISA is in error. */
LNORM_API const char *lnorm_isa(void);

/* The sets available here, best first, "scalar" last; NULL from there on. */
LNORM_API const char *lnorm_available_isa(size_t index);

/* Uses the named set from now on, in all threads; NULL goes back to the choice of the first call. For tests. */
LNORM_API lnorm_status lnorm_set_isa(const char *name);

#ifdef __cplusplus
}
#endif
#endif

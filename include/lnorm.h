/** @mainpage lnorm: layer normalization, forward and backward. C99 and C++.
 *
 *     y = (x - mean) / sqrt(var + eps) * gamma + beta
 *
 * mean and var (biased: divided by n) are taken over the n normalized elements of one row; gamma and beta have one
 * value per normalized element and are shared by all rows. (Ba, Kiros, Hinton: Layer Normalization, 2016.)
 *
 * The library allocates nothing, starts no threads, prints nothing, and keeps no state but the choice of an instruction
 * set. Results are the same bits on every instruction set, for every hook, row position and alignment.
 * Pointers must be aligned for their element type. A refused call writes nothing.
 *
 * @file
 * The whole C API.
 */
#ifndef LNORM_H
#define LNORM_H

#include <stddef.h>
#include <stdint.h>

/** @defgroup status Version and status
 * @{
 */

/** The version of this header; lnorm_version() is that of the library which is linked. */
#define LNORM_VERSION_STRING "0.1.0"
#define LNORM_VERSION_MAJOR 0 /**< the first number of it, for comparisons */
#define LNORM_VERSION_MINOR 1 /**< the second */
#define LNORM_VERSION_PATCH 0 /**< the third */

/** @def LNORM_API
 * Exports a function, or imports it. On Windows define LNORM_SHARED where the library is a DLL; the CMake target does.
 */
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

/** What a call returns: LNORM_OK, or the first thing found wrong. lnorm_status_text() gives a sentence for each. */
typedef enum lnorm_status {
    LNORM_OK = 0,               /**< success */
    LNORM_ERROR_STRUCT = 1,     /**< problem is NULL, or its struct_size is not one that this library knows */
    LNORM_ERROR_OPERATION = 2,  /**< operation not supported, or left out of the build */
    LNORM_ERROR_TYPE = 3,       /**< element type, or combination of types, not supported, or left out of the build */
    LNORM_ERROR_FLAGS = 4,      /**< a flag that is not supported */
    LNORM_ERROR_INNER = 5,      /**< inner is negative; or it or a norm stride is not 1 with a residual or param_run */
    LNORM_ERROR_SIZE = 6,       /**< a negative size, or sizes or strides whose product overflows */
    LNORM_ERROR_STRIDE = 7,     /**< strides that make elements of an output overlap each other */
    LNORM_ERROR_EPS = 8,        /**< eps is negative, NaN, or not finite in the type */
    LNORM_ERROR_NULL = 9,       /**< a pointer is NULL where it is required; or mean is not where there is none */
    LNORM_ERROR_OVERLAP = 10,   /**< an output overlaps another argument in a way that is not allowed */
    LNORM_ERROR_WORKSPACE = 11, /**< workspace is NULL, too small or misaligned */
    LNORM_ERROR_ISA = 12,       /**< LNORM_ISA or lnorm_set_isa names a set that is unknown or not available here */
    LNORM_ERROR_PARAMS = 13,    /**< param_rows, _repeat, _run or residual_rows does not divide, or is not taken */
    LNORM_ERROR_SCALE = 14      /**< scale or zero_point is out of range, or zero_point is given where there is none */
} lnorm_status;

/** A sentence in English, never NULL, never to be freed; for an unknown status too. */
LNORM_API const char *lnorm_status_text(lnorm_status status);

/** The version of the library that is linked, "major.minor.patch"; LNORM_VERSION_STRING is that of the header. */
LNORM_API const char *lnorm_version(void);
/** @} */

/** @defgroup dense One dense tensor of rows x cols
 *
 * Row-major, without gaps; each row is normalized. Zero rows or zero cols succeed; data pointers may then be NULL. The
 * statistics of no elements are NaN. A NaN or an infinity spoils its own row only (in backward, dgamma and dbeta too,
 * which sum over all rows).
 * @{
 */

/** Layer normalization.
 *
 * @param rows,cols  the sizes
 * @param x          rows x cols
 * @param gamma      cols: scale, or NULL, as if 1
 * @param beta       cols: shift, or NULL, as if 0
 * @param eps        added to the variance, inside the root; rounded to the element type; finite there, >= 0
 * @param[out] y     rows x cols; may be x itself, must not overlap anything else
 * @param[out] mean  rows, or NULL
 * @param[out] rstd  rows, or NULL: 1 / sqrt(var + eps), and 0 where var + eps is 0 (then y = beta)
 */
LNORM_API lnorm_status lnorm_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma,
                                         const float *beta, double eps, float *y, float *mean, float *rstd);
/** @copydoc lnorm_forward_f32 */
LNORM_API lnorm_status lnorm_forward_f64(size_t rows, size_t cols, const double *x, const double *gamma,
                                         const double *beta, double eps, double *y, double *mean, double *rstd);

/** Gradients of a scalar loss.
 *
 * With xhat = (x - mean) * rstd and g = dy * gamma, means taken over one row:
 *
 *     dx     = rstd * (g - mean(g) - xhat * mean(g * xhat))
 *     dgamma = sum over rows of dy * xhat
 *     dbeta  = sum over rows of dy
 *
 * @param rows,cols       the sizes
 * @param dy              rows x cols: the gradient that arrives at y
 * @param x               rows x cols: the input of forward
 * @param mean,rstd       rows: as forward returned them
 * @param gamma           cols, or NULL
 * @param[out] dx         rows x cols, or NULL; may be dy or x itself, must not overlap anything else
 * @param[out] dgamma     cols, overwritten, or NULL
 * @param[out] dbeta      cols, overwritten, or NULL
 * @param workspace       aligned for the element type, contents arbitrary; NULL when it needs no bytes, or neither
 *                        dgamma nor dbeta is wanted
 * @param workspace_size  its bytes, as many as lnorm_backward_workspace_f32() or f64 asks for
 */
LNORM_API lnorm_status lnorm_backward_f32(size_t rows, size_t cols, const float *dy, const float *x, const float *mean,
                                          const float *rstd, const float *gamma, float *dx, float *dgamma, float *dbeta,
                                          void *workspace, size_t workspace_size);
/** @copydoc lnorm_backward_f32 */
LNORM_API lnorm_status lnorm_backward_f64(size_t rows, size_t cols, const double *dy, const double *x,
                                          const double *mean, const double *rstd, const double *gamma, double *dx,
                                          double *dgamma, double *dbeta, void *workspace, size_t workspace_size);

/** Bytes of workspace that backward needs for this shape; SIZE_MAX when the shape is refused. */
LNORM_API size_t lnorm_backward_workspace_f32(size_t rows, size_t cols);
/** @copydoc lnorm_backward_workspace_f32 */
LNORM_API size_t lnorm_backward_workspace_f64(size_t rows, size_t cols);
/** @} */

/** @defgroup general The general form
 *
 * The tensor is seen as outer x norm x inner, and normalized over the middle: each (outer, inner) pair is a row of
 * norm elements. inner = 1 is normalization over the last axes; (N, C, H, W) over C is outer = N, norm = C,
 * inner = H * W. Rows are counted with inner running fastest; mean and rstd have outer * inner numbers, without gaps.
 *
 * 16-bit elements are widened exactly, everything is computed in f32, and y and dx are rounded once, to nearest even
 * (subnormal numbers are kept, NaN stays NaN). mean, rstd, dgamma, dbeta and the workspace are f32 then, always; with
 * f64 they are f64.
 * @{
 */

/** What is computed. */
typedef enum lnorm_operation {
    LNORM_LAYER_NORM = 0, /**< y = (x - mean) / sqrt(var + eps) * gamma + beta */
    /** y = x / sqrt(mean(x * x) + eps) * gamma + beta. Nothing is subtracted; pass NULL for mean, to backward too.
     *
     *     dx = rstd * (g - xhat * mean(g * xhat)),   xhat = x * rstd
     *
     * (Zhang, Sennrich: Root Mean Square Layer Normalization, 2019.) */
    LNORM_RMS_NORM = 1
} lnorm_operation;

/** The type of the elements of an argument. */
typedef enum lnorm_type {
    LNORM_TYPE_DEFAULT = 0, /**< x_type: f32; the others: as x_type */
    LNORM_F32 = 1,          /**< float */
    LNORM_F64 = 2,          /**< double */
    LNORM_F16 = 3,          /**< IEEE 754 binary16, as uint16_t or _Float16 */
    LNORM_BF16 = 4,         /**< the upper half of an f32, as uint16_t */
    LNORM_I8 = 5,           /**< int8_t, only as y of lnorm_quantized_forward() */
    LNORM_U8 = 6            /**< uint8_t, likewise */
} lnorm_type;

/** A flag: gamma is stored without the 1 that is its usual value. 1 + gamma is what multiplies, added in the type of
 * the arithmetic. dgamma is the same for both. */
#define LNORM_GAMMA_PLUS_ONE 1u

/** A flag of forward: xhat is rounded to x's type before gamma multiplies it, and the product and the sum with beta are
 * each rounded to y's type, instead of one rounding at the end. It is the order of Llama's norm, and of ONNX's
 * stash_type 1. (Gemma's is the default, with LNORM_GAMMA_PLUS_ONE.) Where y has 8 bits, the product is rounded to
 * x's type and the sum is not, before it is quantized. Backward takes no notice of the flag. */
#define LNORM_ROUND_STEPS 2u

/** A flag of backward: what is computed for dgamma and dbeta is added to what they hold. */
#define LNORM_ACCUMULATE 4u

/** A flag of lnorm_quantized_forward(): each row's scale, and for u8 its zero point, is computed from its values. */
#define LNORM_DYNAMIC_SCALE 8u

/** One piece of the work, safe to run beside every other piece of the same call. */
typedef void (*lnorm_task)(void *argument, size_t index);

/** A hook that runs task(argument, i) once for each i from 0 to count - 1, in any order, on any threads, and returns
 * when all have ended. The result does not depend on it. */
typedef void (*lnorm_parallel_for)(void *context, size_t count, lnorm_task task, void *argument);

/** A stride of 0 elements, as 0 itself means dense: every row is the same memory (inputs only). */
#define LNORM_BROADCAST INT64_MIN

/** What a call computes, and how its arguments lie in memory.
 *
 * Start from LNORM_PROBLEM_INIT and set what differs: zero means the default. The struct grows at its end only; a
 * library refuses a struct_size that it does not know.
 *
 * Which gamma and beta belong to which element: row r of outer uses row (r / param_repeat) % param_rows of the
 * parameters, and element i of a row their element i / param_run. So gamma, beta, dgamma and dbeta have
 * param_rows x (norm / param_run) elements, without gaps. All three are 1 for layer normalization.
 *   - one gamma per example, (N, 1, D) over (N, T, D): outer = N * T, param_rows = N, param_repeat = T;
 *   - group normalization of (N, C, H, W) in G groups: outer = N * G, norm = C / G * H * W, param_rows = G,
 *     param_run = H * W; instance normalization is G = C. (Wu, He: Group Normalization, 2018.)
 *
 * param_repeat must be 1 or outer / param_rows; param_run other than 1 needs inner = 1. */
typedef struct lnorm_problem {
    size_t struct_size;              /**< sizeof(lnorm_problem) */
    int32_t operation;               /**< lnorm_operation */
    int32_t x_type;                  /**< lnorm_type of x, and of dx, residual, total and dtotal */
    int32_t y_type;                  /**< lnorm_type of y, and of dy; f64 where and only where x is */
    int32_t param_type;              /**< lnorm_type of gamma, beta and input_bias: f32 or x_type */
    uint32_t flags;                  /**< LNORM_GAMMA_PLUS_ONE and the other flags, or-ed */
    int32_t reserved;                /**< 0 */
    int64_t outer;                   /**< >= 0 */
    int64_t norm;                    /**< >= 0 */
    int64_t inner;                   /**< 0 means 1 */
    int64_t x_stride;                /**< elements from one outer index to the next; may be negative; 0 means dense */
    int64_t y_stride;                /**< of y: forward */
    int64_t dy_stride;               /**< of dy: backward */
    int64_t dx_stride;               /**< of dx: backward */
    double eps;                      /**< forward; as given, 0 is 0 */
    lnorm_parallel_for parallel_for; /**< or NULL: all on the calling thread */
    void *parallel_context;          /**< handed to parallel_for */
    int64_t x_norm_stride;   /**< elements from one normalized element to the next; may be negative; 0 means inner. One
                                  inner index is always next to the other. */
    int64_t y_norm_stride;   /**< of y */
    int64_t dy_norm_stride;  /**< of dy */
    int64_t dx_norm_stride;  /**< of dx */
    int64_t param_rows;      /**< 0 means 1 */
    int64_t param_repeat;    /**< 0 means outer / param_rows */
    int64_t param_run;       /**< 0 means 1 */
    int64_t residual_rows;   /**< rows of residual, which are used again and again; divides outer; 0 means outer */
    int64_t residual_stride; /**< as x_stride */
    int64_t total_stride;    /**< of total, and of dtotal */
} lnorm_problem;

/** A problem with every default: layer normalization of f32, with no rows yet. */
#define LNORM_PROBLEM_INIT                                                                                             \
    {sizeof(lnorm_problem), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

/** lnorm_forward_f32() for the types and strides that the problem names.
 *
 * Rows of y must not overlap each other; y may be x where pointer, strides and element size are the same; two arguments
 * with equal strides may also interleave (columns of one matrix). */
LNORM_API lnorm_status lnorm_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta,
                                     void *y, void *mean, void *rstd);

/** lnorm_backward_f32() for the types and strides that the problem names.
 *
 * Rows of dx must not overlap each other; dx may be dy or x as y may be x in lnorm_forward(). eps is not looked at. */
LNORM_API lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                                      const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta,
                                      void *workspace, size_t workspace_size);

/** Writes the bytes of workspace that any backward call needs for the problem to *size (SIZE_MAX when it is refused).
 */
LNORM_API lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size);
/** @} */

/** @defgroup residual With a residual
 *
 *     total = x + input_bias + residual,   y = norm(total)
 *
 * added from left to right, in the type of the arithmetic, and rounded to x's type where that has 16 bits: y is, bit
 * for bit, lnorm_forward() of total. inner must be 1 and elements contiguous.
 * @{
 */

/** Forward of the sum.
 *
 * @param problem,x,gamma,beta  as in lnorm_forward()
 * @param residual              residual_rows x norm, of x's type
 * @param input_bias            norm, of the parameters' type, or NULL
 * @param[out] total            outer x norm, of x's type; may be x, or residual where that has as many rows
 * @param[out] y                may be x or residual too, where total is not
 * @param[out] mean,rstd        those of total, or NULL
 */
LNORM_API lnorm_status lnorm_add_forward(const lnorm_problem *problem, const void *x, const void *residual,
                                         const void *input_bias, const void *gamma, const void *beta, void *total,
                                         void *y, void *mean, void *rstd);

/** Its gradients. dgamma and dbeta are as in lnorm_backward(), with total as x.
 *
 * @param problem,dy,mean,rstd,gamma,dgamma,dbeta,workspace,workspace_size  as in lnorm_backward()
 * @param dtotal   the gradient that arrives at total, of x's type, or NULL; it is added to dx before that is rounded
 * @param total    as forward wrote it
 * @param[out] dx  the gradient of x and of residual, or NULL; may be dy, total or dtotal
 */
LNORM_API lnorm_status lnorm_add_backward(const lnorm_problem *problem, const void *dy, const void *dtotal,
                                          const void *total, const void *mean, const void *rstd, const void *gamma,
                                          void *dx, void *dgamma, void *dbeta, void *workspace, size_t workspace_size);
/** @} */

/** @defgroup quantized Quantized output
 * @{
 */

/** Forward to 8 bits.
 *
 *     q = saturate(round(y / scale) + zero_point)
 *
 * rounded to nearest even; y_type is LNORM_I8 or LNORM_U8. NaN becomes zero_point. With LNORM_DYNAMIC_SCALE each row
 * has a scale and a zero point of its own, which are written:
 *
 *     i8   scale = max|y| / 127,                     zero point 0
 *     u8   scale = (max(y, 0) - min(y, 0)) / 255,    zero point round(-min(y, 0) / scale)
 *
 * and scale is 1 where that is 0 or not finite. (As ONNX's QuantizeLinear and DynamicQuantizeLinear.)
 *
 * @param problem,x,gamma,beta  as in lnorm_forward()
 * @param[out] y                q, of y_type
 * @param[in,out] scale         one number of the arithmetic's type, > 0; dynamic: outer * inner, written
 * @param[in,out] zero_point    one number in q's range, or NULL for 0; dynamic: outer * inner, written, and for i8 NULL
 * @param[out] mean,rstd        as in lnorm_forward()
 */
LNORM_API lnorm_status lnorm_quantized_forward(const lnorm_problem *problem, const void *x, const void *gamma,
                                               const void *beta, void *y, void *scale, int32_t *zero_point, void *mean,
                                               void *rstd);
/** @} */

/** @defgroup from_y Backward from y
 * @{
 */

/** lnorm_backward() for who keeps y and not x.
 *
 * xhat = (y - beta) / gamma, kept within the +-sqrt(norm) that no xhat can exceed. Where |gamma| is below 2^-20 (2^-40
 * in f64) y does not say what xhat was; it is taken as 0, and dx and dgamma lack what it would have given. y must be as
 * forward wrote it, of y's type; gamma and beta may be NULL. */
LNORM_API lnorm_status lnorm_backward_from_y(const lnorm_problem *problem, const void *dy, const void *y,
                                             const void *rstd, const void *gamma, const void *beta, void *dx,
                                             void *dgamma, void *dbeta, void *workspace, size_t workspace_size);
/** @} */

/** @defgroup moments Statistics as building blocks
 *
 * For rows whose elements lie in several pieces, on several machines perhaps: each piece gives its moments, they are
 * merged, and applied to each piece. outer * inner rows of LNORM_MOMENTS numbers of the arithmetic's type:
 *
 *     mean, mean_lost, var, var_lost, scale
 *
 * mean + mean_lost and var + var_lost (biased; RMS norm: 0 and the mean of the squares) are those of scale * x; scale
 * is a power of two, 1 but for rows whose squares would overflow or vanish. Statistics from elsewhere are {mean, 0,
 * var, 0, 1}. Merged and applied, the result has the error bound of a whole row's.
 *
 * Backward in pieces needs LNORM_GRAD_MOMENTS numbers per row: the mean of g, and what that lost; the mean of xhat; and
 * the covariance of both, the mean of (g - g_mean) * (xhat - xhat_mean), over the piece (RMS norm: 0, 0, 0 and the mean
 * of g * xhat):
 *
 *     g_mean, g_mean_lost, xhat_mean, g_xhat_cov
 *
 * The merged ones, applied to a piece, give its dx, and dgamma and dbeta of its columns.
 * @{
 */

/** Numbers in a row of moments. */
#define LNORM_MOMENTS 5

/** Numbers in a row of moments of the gradient. */
#define LNORM_GRAD_MOMENTS 4

/** The moments of each row of a piece. */
LNORM_API lnorm_status lnorm_moments(const lnorm_problem *problem, const void *x, void *moments);

/** The moments of rows made of count_a and count_b elements.
 *
 * merged may be a or b. Only operation, types, outer and inner of the problem are looked at. */
LNORM_API lnorm_status lnorm_merge_moments(const lnorm_problem *problem, int64_t count_a, const void *a,
                                           int64_t count_b, const void *b, void *merged);

/** The same for the moments of the gradient. @copydetails lnorm_merge_moments */
LNORM_API lnorm_status lnorm_merge_grad_moments(const lnorm_problem *problem, int64_t count_a, const void *a,
                                                int64_t count_b, const void *b, void *merged);

/** Forward with given moments; mean and rstd are outputs, as in lnorm_forward(), or NULL. */
LNORM_API lnorm_status lnorm_apply_moments(const lnorm_problem *problem, const void *x, const void *moments,
                                           const void *gamma, const void *beta, void *y, void *mean, void *rstd);

/** The moments of the gradient over a piece. moments are those of the whole row, eps is forward's. */
LNORM_API lnorm_status lnorm_grad_moments(const lnorm_problem *problem, const void *dy, const void *x,
                                          const void *moments, const void *gamma, void *grad_moments);

/** Backward of a piece with given moments, both of the whole row. eps is forward's. */
LNORM_API lnorm_status lnorm_apply_grad_moments(const lnorm_problem *problem, const void *dy, const void *x,
                                                const void *moments, const void *grad_moments, const void *gamma,
                                                void *dx, void *dgamma, void *dbeta, void *workspace,
                                                size_t workspace_size);
/** @} */

/** @defgroup isa Instruction sets
 *
 * The best available one is chosen at the first call. The environment variable LNORM_ISA, read then, names another; a
 * name that is unknown or not available here makes every call return LNORM_ERROR_ISA.
 * @{
 */

/** The set in use: "scalar", "avx2" (with FMA and F16C), "avx512" (F) or "neon"; NULL when LNORM_ISA is in error. */
LNORM_API const char *lnorm_isa(void);

/** The sets available here, best first, "scalar" last; NULL from there on. */
LNORM_API const char *lnorm_available_isa(size_t index);

/** Uses the named set from now on, in all threads; NULL goes back to the choice of the first call. For tests. */
LNORM_API lnorm_status lnorm_set_isa(const char *name);
/** @} */

#ifdef __cplusplus
}
#endif
#endif

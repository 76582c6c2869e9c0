/* Layer normalization as a textbook's loops in C, for comparison: dense rows, no intrinsics, no attention to rounding.
 */
#ifndef BENCH_PLAIN_H
#define BENCH_PLAIN_H

#include <stddef.h>

void plain_forward_f32(size_t rows, size_t cols, ptrdiff_t stride, const float *x, const float *gamma,
                       const float *beta, float eps, float *restrict y);
void plain_forward_f64(size_t rows, size_t cols, ptrdiff_t stride, const double *x, const double *gamma,
                       const double *beta, double eps, double *restrict y);
void plain_backward_f32(size_t rows, size_t cols, ptrdiff_t stride, const float *dy, const float *x, const float *mean,
                        const float *rstd, const float *gamma, float *restrict dx, float *restrict dgamma,
                        float *restrict dbeta);
void plain_backward_f64(size_t rows, size_t cols, ptrdiff_t stride, const double *dy, const double *x,
                        const double *mean, const double *rstd, const double *gamma, double *restrict dx,
                        double *restrict dgamma, double *restrict dbeta);

#endif

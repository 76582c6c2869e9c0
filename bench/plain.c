/* What a compiler makes of the formula: see plain.h. gamma, beta, dgamma and dbeta may be NULL. */
#include "plain.h"

#include <math.h>

#define PLAIN(REAL, TYPE, SQRT)                                                                                        \
    void plain_forward_##TYPE(size_t rows, size_t cols, ptrdiff_t stride, const REAL *x, const REAL *gamma,            \
                              const REAL *beta, REAL eps, REAL *restrict y)                                            \
    {                                                                                                                  \
        for (size_t row = 0; row < rows; row++, x += stride, y += stride) {                                            \
            REAL sum = 0, squares = 0;                                                                                 \
            for (size_t i = 0; i < cols; i++) {                                                                        \
                sum += x[i];                                                                                           \
            }                                                                                                          \
            const REAL mean = sum / (REAL)cols;                                                                        \
            for (size_t i = 0; i < cols; i++) {                                                                        \
                squares += (x[i] - mean) * (x[i] - mean);                                                              \
            }                                                                                                          \
            const REAL rstd = 1 / SQRT(squares / (REAL)cols + eps);                                                    \
            for (size_t i = 0; i < cols; i++) {                                                                        \
                y[i] = (x[i] - mean) * rstd * (gamma ? gamma[i] : 1) + (beta ? beta[i] : 0);                           \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
                                                                                                                       \
    void plain_backward_##TYPE(size_t rows, size_t cols, ptrdiff_t stride, const REAL *dy, const REAL *x,              \
                               const REAL *mean, const REAL *rstd, const REAL *gamma, REAL *restrict dx,               \
                               REAL *restrict dgamma, REAL *restrict dbeta)                                            \
    {                                                                                                                  \
        for (size_t i = 0; i < cols && dgamma; i++) {                                                                  \
            dgamma[i] = 0;                                                                                             \
        }                                                                                                              \
        for (size_t i = 0; i < cols && dbeta; i++) {                                                                   \
            dbeta[i] = 0;                                                                                              \
        }                                                                                                              \
        for (size_t row = 0; row < rows; row++, dy += stride, x += stride, dx += stride) {                             \
            REAL g_sum = 0, g_xhat_sum = 0;                                                                            \
            for (size_t i = 0; i < cols; i++) {                                                                        \
                const REAL g = dy[i] * (gamma ? gamma[i] : 1), xhat = (x[i] - mean[row]) * rstd[row];                  \
                g_sum += g;                                                                                            \
                g_xhat_sum += g * xhat;                                                                                \
            }                                                                                                          \
            const REAL g_mean = g_sum / (REAL)cols, g_xhat_mean = g_xhat_sum / (REAL)cols;                             \
            for (size_t i = 0; i < cols; i++) {                                                                        \
                const REAL g = dy[i] * (gamma ? gamma[i] : 1), xhat = (x[i] - mean[row]) * rstd[row];                  \
                dx[i] = (g - g_mean - xhat * g_xhat_mean) * rstd[row];                                                 \
                if (dgamma) {                                                                                          \
                    dgamma[i] += dy[i] * xhat;                                                                         \
                }                                                                                                      \
                if (dbeta) {                                                                                           \
                    dbeta[i] += dy[i];                                                                                 \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

PLAIN(float, f32, sqrtf)
PLAIN(double, f64, sqrt)

/* The table of kernels that every instruction set fills in, and what the kernels are told. */
#ifndef LNORM_KERNELS_H
#define LNORM_KERNELS_H

#include "compiler.h"
#include "lnorm.h"

/* Only what lnorm.h declares leaves the library, whatever flags it is compiled with. */
#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif

/* Bytes of an element of an lnorm_type in memory. */
static INLINE size_t lnorm_type_size(int type)
{
    return type == LNORM_F64 ? 8 : type == LNORM_F32 ? 4 : 2;
}

/* Strides count elements from one row to the next. Pointers may be NULL where the public call says so. Types are
 * lnorm_types. Statistics, dgamma and dbeta have the type of the arithmetic. */
struct lnorm_forward_args {
    const void *x, *gamma, *beta;
    void *y, *mean, *rstd;
    size_t rows, cols;
    ptrdiff_t x_stride, y_stride;
    double eps;
    int has_mean; /* 0: RMS norm, in which nothing is subtracted */
    int staged, x_type, y_type, param_type;
};

/* Rows are cut into slabs by the shape alone; each slab sums its share of dgamma and dbeta into its own part of the
 * workspace, and the parts are added in the order of the slabs. */
struct lnorm_backward_args {
    const void *dy, *x, *mean, *rstd, *gamma;
    void *dx, *dgamma, *dbeta, *workspace;
    size_t rows, cols;
    ptrdiff_t dy_stride, x_stride, dx_stride;
    int has_mean, staged, x_type, dy_type, param_type; /* dx has x's type */
    size_t slabs, rows_per_slab;
};

/* Rows whose terms of dgamma and dbeta are summed by plain additions before the sum is carried on with its error. */
#define LNORM_BLOCK_ROWS ((size_t)16)

/* Arrays of cols elements that each slab keeps in the workspace for dgamma, and then for dbeta: the sums of the block
 * in hand, the sums of the blocks before it, and the errors of those. Where all rows are one block there are none. */
enum { LNORM_SLAB_BLOCK, LNORM_SLAB_HIGH, LNORM_SLAB_LOW, LNORM_SLAB_ARRAYS };

struct lnorm_typed_kernels {
    void (*forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row);
    void (*backward)(const struct lnorm_backward_args *args, size_t slab);
    void (*backward_merge)(const struct lnorm_backward_args *args, size_t first_col, size_t end_col);
};

/* By the type of x and y. Where they differ, or parameters of 16 bits have more columns than the kernels widen at once,
 * it is that of f32, with `staged`. */
enum { LNORM_KERNELS_F32, LNORM_KERNELS_F64, LNORM_KERNELS_F16, LNORM_KERNELS_BF16, LNORM_KERNEL_TYPES };

#define LNORM_WIDENED_COLS ((size_t)4096)

struct lnorm_kernels {
    const char *name;
    struct lnorm_typed_kernels typed[LNORM_KERNEL_TYPES];
};

extern const struct lnorm_kernels lnorm_kernels_scalar;
#if LNORM_X86
extern const struct lnorm_kernels lnorm_kernels_avx2;
extern const struct lnorm_kernels lnorm_kernels_avx512;
#endif
#if LNORM_NEON
extern const struct lnorm_kernels lnorm_kernels_neon;
#endif

/* The kernels in use, or NULL when LNORM_ISA names none that can be used. */
const struct lnorm_kernels *lnorm_active_kernels(void);

/* Which instruction sets the CPU and its operating system offer. */
int lnorm_cpu_has_avx2_fma(void);
int lnorm_cpu_has_avx512f(void);

#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility pop
#endif

#endif

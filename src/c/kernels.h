/* The table of kernels that every instruction set fills in, and what the kernels are told. */
#ifndef LNORM_KERNELS_H
#define LNORM_KERNELS_H

#include "compiler.h"
#include "lnorm.h"

/* Only what lnorm.h declares leaves the library, whatever flags it is compiled with. */
#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility push(hidden)
#endif

static INLINE int lnorm_is_quantized(int type)
{
    return !LNORM_WITHOUT_QUANTIZED && (type == LNORM_I8 || type == LNORM_U8);
}

/* Bytes of an element of an lnorm_type in memory. */
static INLINE size_t lnorm_type_size(int type)
{
    return type == LNORM_F64 ? 8 : type == LNORM_F32 ? 4 : lnorm_is_quantized(type) ? 1 : 2;
}

/* A tensor of rows: `stride` elements from one outer index to the next, `step` from one normalized element to the next.
 * Where there is an inner index, elements along it lie side by side. */
struct lnorm_input {
    const void *at;
    ptrdiff_t stride, step;
    int type;
};

struct lnorm_output {
    void *at;
    ptrdiff_t stride, step;
    int type;
};

/* Elements from the first row to a given one. */
static INLINE ptrdiff_t lnorm_row_offset(size_t row, ptrdiff_t stride, size_t inner)
{
    return inner == 1 ? (ptrdiff_t)row * stride : (ptrdiff_t)(row / inner) * stride + (ptrdiff_t)(row % inner);
}

/* gamma and beta: outer index o uses row (o / repeat) % rows of them, and element i of it their element i / run. */
struct lnorm_params {
    const void *gamma, *beta;
    int type, plus_one; /* of gamma */
    size_t rows, repeat, run;
};

/* Elements from the first parameter to those of a row of x. */
static INLINE size_t lnorm_param_offset(const struct lnorm_params *params, size_t cols, size_t outer)
{
    return params->rows == 1 ? 0 : outer / params->repeat % params->rows * (cols / params->run);
}

/* Pointers may be NULL where the public call says so. Types are lnorm_types. Statistics, dgamma and dbeta have the type
 * of the arithmetic. Where staged, elements are looked for through the sources of stage.inc.h. */
struct lnorm_forward_args {
    struct lnorm_input x;
    struct lnorm_output y;
    struct lnorm_params params;
    void *mean, *rstd;
    size_t rows, cols, inner; /* rows counts inner too */
    double eps;
    int has_mean; /* 0: RMS norm, in which nothing is subtracted */
    int staged, round_steps;

    /* x = input + input_bias + residual, which is written first, row by row; or residual.at is NULL. */
    struct lnorm_input input, residual, input_bias;
    size_t residual_rows;
    void *total;

    /* Where y is LNORM_I8 or LNORM_U8; the outputs of a dynamic scale are one per row. */
    void *scale;
    int32_t *zero_point;
    int dynamic_scale;

    const void *given_moments; /* LNORM_MOMENTS a row; or NULL */
};

/* Rows are cut into slabs by the shape alone; each slab sums its share of dgamma and dbeta into its own part of the
 * workspace, and the parts are added in the order of the slabs. */
struct lnorm_backward_args {
    struct lnorm_input dy, x;
    struct lnorm_output dx; /* has x's type */
    struct lnorm_params params;
    const void *mean, *rstd;
    void *dgamma, *dbeta, *workspace;
    size_t rows, cols, inner;
    size_t stat_stride; /* from one outer index's statistics to the next one's */
    int has_mean, staged, accumulate;
    size_t slabs, rows_per_slab; /* in backward_tiles tiles_per_slab */

    struct lnorm_input added; /* to dx; or NULL */
    int from_y;               /* x is y */

    const void *given_moments, *given_grad_moments; /* one row each of LNORM_MOMENTS and LNORM_GRAD_MOMENTS, or NULL */
    double eps;                                     /* with given moments */
};

/* Where inner is at least a vector, rows that lie side by side are taken by tiles of a few strips, each of as many rows
 * as a vector has lanes; the last strip of an outer index may begin within the one before. A tile has at least two
 * strips, if there are as many, so that a store of one tile is never behind a load of another; and so many that what
 * it has in memory, for `tensors` of them, stays in the second cache from one pass to the next. */
#define LNORM_TILE_STRIPS ((size_t)4)
#define LNORM_MOST_TILE_STRIPS (2 * LNORM_TILE_STRIPS - 1)
#define LNORM_TILE_BYTES ((size_t)262144)
#define LNORM_FORWARD_TENSORS ((size_t)2)
#define LNORM_BACKWARD_TENSORS ((size_t)3)

struct lnorm_tiles {
    size_t lanes, inner, strips, count; /* of one outer index */
};

static INLINE struct lnorm_tiles lnorm_tiles_of(size_t inner, size_t cols, size_t lanes, size_t tensors)
{
    const size_t strips = inner / lanes + (inner % lanes != 0), fitting = LNORM_TILE_BYTES / 64 / tensors / cols;
    const size_t wanted = fitting < 2 ? 2 : fitting > LNORM_TILE_STRIPS ? LNORM_TILE_STRIPS : fitting;
    return (struct lnorm_tiles){lanes, inner, strips, strips < wanted ? 1 : strips / wanted};
}

/* The rows of a tile: the inner indices from `first` on. */
struct lnorm_tile {
    size_t outer, first, width, strips;
};

static INLINE struct lnorm_tile lnorm_tile_at(const struct lnorm_tiles *of, size_t index)
{
    const size_t outer = index / of->count, k = index % of->count;
    const size_t begin = k * of->strips / of->count, end = (k + 1) * of->strips / of->count;
    const size_t first = begin * of->lanes, last = end * of->lanes < of->inner ? end * of->lanes : of->inner;
    return (struct lnorm_tile){outer, first, last - first, end - begin};
}

/* Where a strip begins in its tile. */
static INLINE size_t lnorm_strip_begin(const struct lnorm_tile *tile, size_t lanes, size_t strip)
{
    const size_t last = tile->width - lanes;
    return strip * lanes < last ? strip * lanes : last;
}

/* Rows whose terms of dgamma and dbeta are summed by plain additions before the sum is carried on with its error. */
#define LNORM_BLOCK_ROWS ((size_t)16)

/* Arrays of cols elements that each slab keeps in the workspace for dgamma, and then for dbeta: the sums of the block
 * in hand, the sums of the blocks before it, and the errors of those. Where all rows are one block there are none. */
enum { LNORM_SLAB_BLOCK, LNORM_SLAB_HIGH, LNORM_SLAB_LOW, LNORM_SLAB_ARRAYS };

struct lnorm_typed_kernels {
    void (*forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row);
    void (*backward)(const struct lnorm_backward_args *args, size_t slab);
    void (*backward_merge)(const struct lnorm_backward_args *args, size_t first_col, size_t end_col);
    void (*forward_tiles)(const struct lnorm_forward_args *args, size_t first_tile, size_t end_tile);
    void (*backward_tiles)(const struct lnorm_backward_args *args, size_t slab);

    /* The rest are those of the arithmetic's type, whatever the elements are. */
    void (*moments)(const struct lnorm_forward_args *args, void *moments, size_t first_row, size_t end_row);
    void (*apply_moments)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row);
    void (*grad_moments)(const struct lnorm_backward_args *args, void *grad_moments, size_t first_row, size_t end_row);
    void (*backward_runs)(const struct lnorm_backward_args *args, size_t first_row, size_t end_row);
    void (*merge_runs)(const struct lnorm_backward_args *args, size_t param_row);
};

/* Without what the build leaves out. By the type of x and y. Where rows or parameters are not as the kernels use them,
 * it is that of the arithmetic, with `staged`; but parameters alone are prepared once for all rows, where they are the
 * same for all and so few. */
enum { LNORM_KERNELS_F32, LNORM_KERNELS_F64, LNORM_KERNELS_F16, LNORM_KERNELS_BF16, LNORM_KERNEL_TYPES };

#define LNORM_PREPARED_COLS ((size_t)4096)

struct lnorm_kernels {
    const char *name;
    struct lnorm_typed_kernels typed[LNORM_KERNEL_TYPES];
};

/* Those that the machine and the build have. */
extern const struct lnorm_kernels lnorm_kernels_scalar;
extern const struct lnorm_kernels lnorm_kernels_avx2;
extern const struct lnorm_kernels lnorm_kernels_avx512;
extern const struct lnorm_kernels lnorm_kernels_neon;

/* The kernels in use, or NULL when LNORM_ISA names none that can be used. */
const struct lnorm_kernels *lnorm_active_kernels(void);

/* Merges the moments, or the grad moments, of one row; real is the type of the numbers. */
void lnorm_merge_row(int real, int64_t count_a, const void *a, int64_t count_b, const void *b, void *merged);
void lnorm_merge_grad_row(int real, int64_t count_a, const void *a, int64_t count_b, const void *b, void *merged);

/* Which instruction sets the CPU and its operating system offer. */
int lnorm_cpu_has_avx2_fma(void);
int lnorm_cpu_has_avx512f(void);

#if defined(__GNUC__) && !defined(_WIN32)
#pragma GCC visibility pop
#endif

#endif

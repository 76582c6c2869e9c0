/* Entry points: check the arguments, split the work, call the table. */
#include <math.h>

#include "kernels.h"
#include "lnorm.h"

/* Rows of one piece of forward's work: about this many bytes, so that a hook has something to share out. */
#define FORWARD_PIECE_BYTES ((size_t)65536)

/* A slab holds a whole number of blocks; there are at most this many slabs. */
#define MAX_SLABS ((size_t)32)
#define MIN_SLAB_ROWS ((size_t)64)

/* Columns of one piece of merging dgamma and dbeta. */
#define MERGE_PIECE_COLS ((size_t)4096)

const char *lnorm_version(void)
{
    return LNORM_VERSION_STRING;
}

const char *lnorm_status_text(lnorm_status status)
{
    switch (status) {
    case LNORM_OK:
        return "success";
    case LNORM_ERROR_STRUCT:
        return "problem is NULL or its struct_size is unknown to this library; start from LNORM_PROBLEM_INIT";
    case LNORM_ERROR_OPERATION:
        return "operation is not supported; use LNORM_LAYER_NORM";
    case LNORM_ERROR_TYPE:
        return "element type is not supported; x, y and parameters must all be LNORM_F32 or all LNORM_F64";
    case LNORM_ERROR_FLAGS:
        return "flags or reserved is not 0; no flag is defined yet";
    case LNORM_ERROR_INNER:
        return "inner is not supported; use 1";
    case LNORM_ERROR_SIZE:
        return "outer or norm is negative, or sizes and strides address more memory than there can be";
    case LNORM_ERROR_STRIDE:
        return "the rows of an output overlap each other; its stride must be at least norm, in either direction";
    case LNORM_ERROR_EPS:
        return "eps must be finite in the element type and not negative";
    case LNORM_ERROR_NULL:
        return "a required pointer is NULL: x and y in forward, dy, x, mean and rstd in backward";
    case LNORM_ERROR_OVERLAP:
        return "an output overlaps another argument; only y = x, dx = dy and dx = x with equal strides are allowed";
    case LNORM_ERROR_WORKSPACE:
        return "workspace is NULL, misaligned or smaller than lnorm_backward_workspace asks for";
    case LNORM_ERROR_ISA:
        return "the instruction set that LNORM_ISA or lnorm_set_isa names is unknown or not available on this machine";
    }
    return "unknown status";
}

/* ---- Memory that the arguments cover
 * -------------------------------------------------------------------------------*/

enum role { READ, READ_TENSOR, WRITE, WRITE_TENSOR };

struct argument {
    const void *base; /* NULL where it is absent */
    enum role role;
    size_t rows, cols;
    ptrdiff_t stride; /* elements from row to row */
    /* found from the above, in bytes: */
    uintptr_t begin, end;
    size_t step, row_bytes;
};

/* Whether everything from the first to the last element can lie in one address space. Sizes count even where the
 * pointer is NULL, so that a refusal does not depend on which gradients are wanted. */
static int find_extent(struct argument *a, size_t element)
{
    const size_t limit = PTRDIFF_MAX;
    if (a->rows == 0 || a->cols == 0) {
        a->base = NULL;
        return 1;
    }
    if (a->rows == 1) {
        a->stride = 0;
    }
    const size_t step = a->stride < 0 ? (size_t)0 - (size_t)a->stride : (size_t)a->stride;
    if (a->cols > limit / element || step > limit / element) {
        return 0;
    }
    a->row_bytes = a->cols * element;
    a->step = step * element;
    if (a->step != 0 && a->rows - 1 > (limit - a->row_bytes) / a->step) {
        return 0;
    }
    const size_t reach = (a->rows - 1) * a->step;
    const uintptr_t base = (uintptr_t)a->base;
    if (a->base != NULL && (a->stride < 0 ? base < reach : base > UINTPTR_MAX - reach - a->row_bytes)) {
        return 0;
    }
    a->begin = a->stride < 0 ? base - reach : base;
    a->end = a->begin + reach + a->row_bytes;
    return 1;
}

static int overlap(const struct argument *a, const struct argument *b)
{
    if (a->base == NULL || b->base == NULL || a->end <= b->begin || b->end <= a->begin) {
        return 0;
    }
    if (a->stride == b->stride && a->step != 0) {
        /* Columns of one matrix: the later one begins after the earlier one's row, and ends before its next row. */
        const struct argument *const early = a->begin < b->begin ? a : b, *const late = early == a ? b : a;
        const size_t offset = (late->begin - early->begin) % a->step;
        return offset < early->row_bytes || offset + late->row_bytes > a->step;
    }
    return 1;
}

static int in_place(const struct argument *output, const struct argument *input)
{
    return output->role == WRITE_TENSOR && input->role == READ_TENSOR && output->base == input->base &&
           output->stride == input->stride;
}

static lnorm_status check_memory(struct argument *list, size_t count, size_t element)
{
    for (size_t i = 0; i < count; i++) {
        if (!find_extent(&list[i], element)) {
            return LNORM_ERROR_SIZE;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (list[i].role < WRITE) {
            continue;
        }
        if (list[i].base != NULL && list[i].rows > 1 && list[i].step < list[i].row_bytes) {
            return LNORM_ERROR_STRIDE;
        }
        for (size_t j = 0; j < count; j++) {
            const int checked_before = list[j].role >= WRITE && j <= i;
            if (!checked_before && overlap(&list[i], &list[j]) && !in_place(&list[i], &list[j])) {
                return LNORM_ERROR_OVERLAP;
            }
        }
    }
    return LNORM_OK;
}

/* ---- Splitting the work
 * --------------------------------------------------------------------------------------------*/

struct hook {
    lnorm_parallel_for run;
    void *context;
};

static void for_each(const struct hook *hook, size_t count, lnorm_task task, void *argument)
{
    if (hook->run != NULL && count > 1) {
        hook->run(hook->context, count, task, argument);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        task(argument, i);
    }
}

struct forward_work {
    const struct lnorm_forward_args *args;
    const struct lnorm_typed_kernels *kernels;
    size_t rows_per_piece;
};

static void forward_piece(void *argument, size_t index)
{
    const struct forward_work *const work = argument;
    const size_t first = index * work->rows_per_piece;
    const size_t left = work->args->rows - first;
    work->kernels->forward(work->args, first, first + (left < work->rows_per_piece ? left : work->rows_per_piece));
}

struct backward_work {
    const struct lnorm_backward_args *args;
    const struct lnorm_typed_kernels *kernels;
};

static void backward_piece(void *argument, size_t index)
{
    const struct backward_work *const work = argument;
    work->kernels->backward(work->args, index);
}

static void merge_piece(void *argument, size_t index)
{
    const struct backward_work *const work = argument;
    const size_t first = index * MERGE_PIECE_COLS;
    const size_t left = work->args->cols - first;
    work->kernels->backward_merge(work->args, first, first + (left < MERGE_PIECE_COLS ? left : MERGE_PIECE_COLS));
}

static size_t pieces(size_t whole, size_t piece)
{
    return whole / piece + (whole % piece != 0);
}

static size_t rows_per_slab(size_t rows)
{
    const size_t even_share = pieces(pieces(rows, MAX_SLABS), LNORM_BLOCK_ROWS) * LNORM_BLOCK_ROWS;
    return even_share > MIN_SLAB_ROWS ? even_share : MIN_SLAB_ROWS;
}

/* SIZE_MAX where it does not fit. */
static size_t workspace_size(size_t rows, size_t cols, size_t element)
{
    if (cols > PTRDIFF_MAX / element || rows > PTRDIFF_MAX / element ||
        (cols != 0 && rows > PTRDIFF_MAX / element / cols)) {
        return SIZE_MAX;
    }
    if (rows <= LNORM_BLOCK_ROWS) {
        return 0;
    }
    const size_t arrays = 2 * LNORM_SLAB_ARRAYS * pieces(rows, rows_per_slab(rows));
    const size_t array = cols * element;
    return array > PTRDIFF_MAX / arrays ? SIZE_MAX : arrays * array;
}

/* ---- Checked calls
 * -------------------------------------------------------------------------------------------------*/

static const size_t element_size[LNORM_KERNEL_TYPES] = {sizeof(float), sizeof(double)};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The statistics of no elements. */
static void fill_nan(int type, void *array, size_t count)
{
    for (size_t i = 0; array != NULL && i < count; i++) {
        if (type == LNORM_KERNELS_F32) {
            ((float *)array)[i] = NAN;
        } else {
            ((double *)array)[i] = (double)NAN;
        }
    }
}

static lnorm_status forward(int type, const struct lnorm_forward_args *args, const struct hook *hook)
{
    const size_t element = element_size[type], rows = args->rows, cols = args->cols;
    if (!(args->eps >= 0 && args->eps <= (type == LNORM_KERNELS_F32 ? (double)FLT_MAX : DBL_MAX))) {
        return LNORM_ERROR_EPS;
    }
    struct argument list[] = {
        {args->y, WRITE_TENSOR, rows, cols, args->y_stride, 0, 0, 0, 0},
        {args->x, READ_TENSOR, rows, cols, args->x_stride, 0, 0, 0, 0},
        {args->gamma, READ, 1, cols, 0, 0, 0, 0, 0},
        {args->beta, READ, 1, cols, 0, 0, 0, 0, 0},
        {args->mean, WRITE, 1, rows, 0, 0, 0, 0, 0},
        {args->rstd, WRITE, 1, rows, 0, 0, 0, 0, 0},
    };
    const lnorm_status status = check_memory(list, COUNT(list), element);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_kernels *const kernels = lnorm_active_kernels();
    if (kernels == NULL) {
        return LNORM_ERROR_ISA;
    }
    if (cols == 0) {
        fill_nan(type, args->mean, rows);
        fill_nan(type, args->rstd, rows);
        return LNORM_OK;
    }
    if (rows != 0 && (args->x == NULL || args->y == NULL)) {
        return LNORM_ERROR_NULL;
    }
    const struct lnorm_typed_kernels *const typed = &kernels->typed[type];
    if (hook->run == NULL) {
        typed->forward(args, 0, rows);
        return LNORM_OK;
    }
    const size_t fitting = FORWARD_PIECE_BYTES / element / cols;
    struct forward_work work = {args, typed, fitting > 1 ? fitting : 1};
    for_each(hook, pieces(rows, work.rows_per_piece), forward_piece, &work);
    return LNORM_OK;
}

static lnorm_status backward(int type, const struct lnorm_backward_args *given, size_t workspace_bytes,
                             const struct hook *hook)
{
    const size_t element = element_size[type], rows = given->rows, cols = given->cols;
    const int wants_sums = given->dgamma != NULL || given->dbeta != NULL;
    const size_t needed = workspace_size(rows, cols, element);
    if (needed == SIZE_MAX) {
        return LNORM_ERROR_SIZE;
    }
    struct lnorm_backward_args args = *given;
    args.rows_per_slab = rows_per_slab(rows);
    args.slabs = pieces(rows, args.rows_per_slab);
    if (!wants_sums || needed == 0) {
        args.workspace = NULL;
    }
    struct argument list[] = {
        {args.dx, WRITE_TENSOR, rows, cols, args.dx_stride, 0, 0, 0, 0},
        {args.dgamma, WRITE, 1, cols, 0, 0, 0, 0, 0},
        {args.dbeta, WRITE, 1, cols, 0, 0, 0, 0, 0},
        {args.workspace, WRITE, 1, needed / element, 0, 0, 0, 0, 0},
        {args.dy, READ_TENSOR, rows, cols, args.dy_stride, 0, 0, 0, 0},
        {args.x, READ_TENSOR, rows, cols, args.x_stride, 0, 0, 0, 0},
        {args.mean, READ, 1, rows, 0, 0, 0, 0, 0},
        {args.rstd, READ, 1, rows, 0, 0, 0, 0, 0},
        {args.gamma, READ, 1, cols, 0, 0, 0, 0, 0},
    };
    const lnorm_status status = check_memory(list, COUNT(list), element);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_kernels *const kernels = lnorm_active_kernels();
    if (kernels == NULL) {
        return LNORM_ERROR_ISA;
    }
    if (cols == 0) {
        return LNORM_OK;
    }
    const struct lnorm_typed_kernels *const typed = &kernels->typed[type];
    if (rows != 0 && (args.dy == NULL || args.x == NULL || args.mean == NULL || args.rstd == NULL)) {
        return LNORM_ERROR_NULL;
    }
    if (wants_sums && needed != 0 &&
        (given->workspace == NULL || workspace_bytes < needed || (uintptr_t)given->workspace % element != 0)) {
        return LNORM_ERROR_WORKSPACE;
    }
    struct backward_work work = {&args, typed};
    for_each(hook, args.slabs, backward_piece, &work);
    if (wants_sums && (rows == 0 || needed != 0)) {
        for_each(hook, pieces(cols, MERGE_PIECE_COLS), merge_piece, &work);
    }
    return LNORM_OK;
}

/* ---- The general form
 * ----------------------------------------------------------------------------------------------*/

static lnorm_status check_problem(const lnorm_problem *problem, int *type)
{
    if (problem == NULL || problem->struct_size != sizeof *problem) {
        return LNORM_ERROR_STRUCT;
    }
    if (problem->operation != LNORM_LAYER_NORM) {
        return LNORM_ERROR_OPERATION;
    }
    const int32_t x_type = problem->x_type != LNORM_TYPE_DEFAULT ? problem->x_type : LNORM_F32;
    if ((x_type != LNORM_F32 && x_type != LNORM_F64) ||
        (problem->y_type != LNORM_TYPE_DEFAULT && problem->y_type != x_type) ||
        (problem->param_type != LNORM_TYPE_DEFAULT && problem->param_type != x_type)) {
        return LNORM_ERROR_TYPE;
    }
    if (problem->flags != 0 || problem->reserved != 0) {
        return LNORM_ERROR_FLAGS;
    }
    if (problem->inner != 0 && problem->inner != 1) {
        return LNORM_ERROR_INNER;
    }
    const uint64_t limit = PTRDIFF_MAX;
    if (problem->outer < 0 || problem->norm < 0 || (uint64_t)problem->outer > limit ||
        (uint64_t)problem->norm > limit) {
        return LNORM_ERROR_SIZE;
    }
    *type = x_type == LNORM_F32 ? LNORM_KERNELS_F32 : LNORM_KERNELS_F64;
    return LNORM_OK;
}

/* In elements; out of range for this machine becomes a stride that no extent can have. */
static ptrdiff_t row_stride(int64_t stride, int64_t norm)
{
    if (stride == LNORM_BROADCAST) {
        return 0;
    }
    const int64_t elements = stride != 0 ? stride : norm;
    return elements > PTRDIFF_MAX || elements < -PTRDIFF_MAX ? PTRDIFF_MAX : (ptrdiff_t)elements;
}

lnorm_status lnorm_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta, void *y,
                           void *mean, void *rstd)
{
    int type;
    const lnorm_status status = check_problem(problem, &type);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_forward_args args = {x,
                                            gamma,
                                            beta,
                                            y,
                                            mean,
                                            rstd,
                                            (size_t)problem->outer,
                                            (size_t)problem->norm,
                                            row_stride(problem->x_stride, problem->norm),
                                            row_stride(problem->y_stride, problem->norm),
                                            problem->eps};
    const struct hook hook = {problem->parallel_for, problem->parallel_context};
    return forward(type, &args, &hook);
}

lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                            const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta, void *workspace,
                            size_t workspace_bytes)
{
    int type;
    const lnorm_status status = check_problem(problem, &type);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_backward_args args = {.dy = dy,
                                             .x = x,
                                             .mean = mean,
                                             .rstd = rstd,
                                             .gamma = gamma,
                                             .dx = dx,
                                             .dgamma = dgamma,
                                             .dbeta = dbeta,
                                             .workspace = workspace,
                                             .rows = (size_t)problem->outer,
                                             .cols = (size_t)problem->norm,
                                             .dy_stride = row_stride(problem->dy_stride, problem->norm),
                                             .x_stride = row_stride(problem->x_stride, problem->norm),
                                             .dx_stride = row_stride(problem->dx_stride, problem->norm)};
    const struct hook hook = {problem->parallel_for, problem->parallel_context};
    return backward(type, &args, workspace_bytes, &hook);
}

lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size)
{
    int type;
    if (size == NULL) {
        return LNORM_ERROR_NULL;
    }
    *size = SIZE_MAX;
    const lnorm_status status = check_problem(problem, &type);
    if (status == LNORM_OK) {
        *size = workspace_size((size_t)problem->outer, (size_t)problem->norm, element_size[type]);
        return *size != SIZE_MAX ? LNORM_OK : LNORM_ERROR_SIZE;
    }
    return status;
}

/* ---- One dense tensor
 * ----------------------------------------------------------------------------------------------*/

static const struct hook no_hook;

static ptrdiff_t dense(size_t cols)
{
    return cols <= PTRDIFF_MAX ? (ptrdiff_t)cols : PTRDIFF_MAX;
}

#define TYPED_CALLS(suffix, REAL, type)                                                                                \
    lnorm_status lnorm_forward_##suffix(size_t rows, size_t cols, const REAL *x, const REAL *gamma, const REAL *beta,  \
                                        double eps, REAL *y, REAL *mean, REAL *rstd)                                   \
    {                                                                                                                  \
        const struct lnorm_forward_args args = {x,    gamma, beta,        y,           mean, rstd,                     \
                                                rows, cols,  dense(cols), dense(cols), eps};                           \
        return forward(type, &args, &no_hook);                                                                         \
    }                                                                                                                  \
    lnorm_status lnorm_backward_##suffix(size_t rows, size_t cols, const REAL *dy, const REAL *x, const REAL *mean,    \
                                         const REAL *rstd, const REAL *gamma, REAL *dx, REAL *dgamma, REAL *dbeta,     \
                                         void *workspace, size_t workspace_bytes)                                      \
    {                                                                                                                  \
        const struct lnorm_backward_args args = {.dy = dy,                                                             \
                                                 .x = x,                                                               \
                                                 .mean = mean,                                                         \
                                                 .rstd = rstd,                                                         \
                                                 .gamma = gamma,                                                       \
                                                 .dx = dx,                                                             \
                                                 .dgamma = dgamma,                                                     \
                                                 .dbeta = dbeta,                                                       \
                                                 .workspace = workspace,                                               \
                                                 .rows = rows,                                                         \
                                                 .cols = cols,                                                         \
                                                 .dy_stride = dense(cols),                                             \
                                                 .x_stride = dense(cols),                                              \
                                                 .dx_stride = dense(cols)};                                            \
        return backward(type, &args, workspace_bytes, &no_hook);                                                       \
    }                                                                                                                  \
    size_t lnorm_backward_workspace_##suffix(size_t rows, size_t cols)                                                 \
    {                                                                                                                  \
        return workspace_size(rows, cols, sizeof(REAL));                                                               \
    }

TYPED_CALLS(f32, float, LNORM_KERNELS_F32)
TYPED_CALLS(f64, double, LNORM_KERNELS_F64)

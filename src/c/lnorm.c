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
        return "operation is not known; use LNORM_LAYER_NORM or LNORM_RMS_NORM";
    case LNORM_ERROR_TYPE:
        return "element types do not go together: x, y and parameters must all be LNORM_F64, or x and y any of "
               "LNORM_F32, "
               "LNORM_F16 and LNORM_BF16 and the parameters LNORM_F32 or of x's type";
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
        return "a required pointer is NULL: x and y in forward, dy, x, mean and rstd in backward; or mean is not NULL "
               "with LNORM_RMS_NORM, which has none";
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
    const void *base; /* NULL where it is absent or empty */
    enum role role;
    int backwards;                /* the rows */
    size_t rows, step, row_bytes; /* step: bytes from row to row, whichever way; 0 where there is one row */
    uintptr_t begin, end;
};

/* a * b, at most PTRDIFF_MAX; 0 where it is more. Divides only where the factors leave it open. */
static int multiply(size_t a, size_t b, size_t *product)
{
    *product = a * b;
    return ((a | b) >> (4 * sizeof(size_t) - 1)) == 0 || a == 0 || b <= PTRDIFF_MAX / a;
}

/* Both of these: whether everything from the first to the last element can lie in one address space. Sizes count even
 * where the pointer is NULL, so that a refusal does not depend on which gradients are wanted. */

static int describe_array(struct argument *a, enum role role, const void *base, size_t count, size_t element)
{
    size_t bytes;
    if (!multiply(count, element, &bytes)) {
        return 0;
    }
    const uintptr_t begin = (uintptr_t)base;
    *a = (struct argument){count != 0 ? base : NULL, role, 0, 1, 0, bytes, begin, begin + bytes};
    return begin <= UINTPTR_MAX - bytes;
}

static int describe_tensor(struct argument *a, enum role role, const void *base, size_t rows, size_t cols,
                           ptrdiff_t stride, size_t element)
{
    size_t step, row_bytes, reach;
    if (rows <= 1 || cols == 0) {
        return describe_array(a, role, rows != 0 ? base : NULL, rows != 0 ? cols : 0, element);
    }
    if (!multiply(cols, element, &row_bytes) ||
        !multiply(stride < 0 ? (size_t)0 - (size_t)stride : (size_t)stride, element, &step) ||
        !multiply(rows - 1, step, &reach) || reach > PTRDIFF_MAX - row_bytes) {
        return 0;
    }
    const uintptr_t place = (uintptr_t)base, begin = stride < 0 && base != NULL ? place - reach : place;
    *a = (struct argument){base, role, stride < 0, rows, step, row_bytes, begin, begin + reach + row_bytes};
    return begin <= place && begin <= UINTPTR_MAX - reach - row_bytes;
}

/* Of arguments that are present and whose extents meet. */
static int overlap(const struct argument *a, const struct argument *b)
{
    if (a->step == b->step && a->backwards == b->backwards && a->step != 0) {
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
           output->step == input->step && output->backwards == input->backwards &&
           output->row_bytes == input->row_bytes;
}

/* The outputs come first in the list. */
static lnorm_status check_overlaps(const struct argument *list, size_t count)
{
    for (const struct argument *output = list; output < list + count && output->role >= WRITE; output++) {
        if (output->base == NULL) {
            continue;
        }
        if (output->rows > 1 && output->step < output->row_bytes) {
            return LNORM_ERROR_STRIDE;
        }
        for (const struct argument *other = output + 1; other < list + count; other++) {
            if (output->begin < other->end && other->begin < output->end && other->base != NULL &&
                overlap(output, other) && !in_place(output, other)) {
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

/* Of what is computed with. */
static const size_t element_size[LNORM_KERNEL_TYPES] = {sizeof(float), sizeof(double), sizeof(float), sizeof(float)};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The statistics of no elements. */
static void fill_nan(int type, void *array, size_t count)
{
    for (size_t i = 0; array != NULL && i < count; i++) {
        if (type == LNORM_KERNELS_F64) {
            ((double *)array)[i] = (double)NAN;
        } else {
            ((float *)array)[i] = NAN;
        }
    }
}

static lnorm_status forward(int type, const struct lnorm_forward_args *args, const struct hook *hook)
{
    const size_t element = element_size[type], rows = args->rows, cols = args->cols;
    if (!args->has_mean && args->mean != NULL) {
        return LNORM_ERROR_NULL;
    }
    if (!(args->eps >= 0 && args->eps <= (type == LNORM_KERNELS_F64 ? DBL_MAX : (double)FLT_MAX))) {
        return LNORM_ERROR_EPS;
    }
    struct argument list[6];
    const size_t x_size = lnorm_type_size(args->x_type), y_size = lnorm_type_size(args->y_type);
    const size_t param_size = lnorm_type_size(args->param_type);
    if (!describe_tensor(&list[0], WRITE_TENSOR, args->y, rows, cols, args->y_stride, y_size) ||
        !describe_array(&list[1], WRITE, args->mean, rows, element) ||
        !describe_array(&list[2], WRITE, args->rstd, rows, element) ||
        !describe_tensor(&list[3], READ_TENSOR, args->x, rows, cols, args->x_stride, x_size) ||
        !describe_array(&list[4], READ, args->gamma, cols, param_size) ||
        !describe_array(&list[5], READ, args->beta, cols, param_size)) {
        return LNORM_ERROR_SIZE;
    }
    const lnorm_status status = check_overlaps(list, COUNT(list));
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
    struct argument list[9];
    const size_t x_size = lnorm_type_size(args.x_type), dy_size = lnorm_type_size(args.dy_type);
    if (!describe_tensor(&list[0], WRITE_TENSOR, args.dx, rows, cols, args.dx_stride, x_size) ||
        !describe_array(&list[1], WRITE, args.dgamma, cols, element) ||
        !describe_array(&list[2], WRITE, args.dbeta, cols, element) ||
        !describe_array(&list[3], WRITE, args.workspace, needed / element, element) ||
        !describe_tensor(&list[4], READ_TENSOR, args.dy, rows, cols, args.dy_stride, dy_size) ||
        !describe_tensor(&list[5], READ_TENSOR, args.x, rows, cols, args.x_stride, x_size) ||
        !describe_array(&list[6], READ, args.mean, rows, element) ||
        !describe_array(&list[7], READ, args.rstd, rows, element) ||
        !describe_array(&list[8], READ, args.gamma, cols, lnorm_type_size(args.param_type))) {
        return LNORM_ERROR_SIZE;
    }
    const lnorm_status status = check_overlaps(list, COUNT(list));
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
    if (rows != 0 &&
        (args.dy == NULL || args.x == NULL || args.rstd == NULL || (args.mean == NULL) == (args.has_mean != 0))) {
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

/* The type of the arithmetic, and the lnorm_types of x, y and the parameters with the defaults filled in. */
struct types {
    int kernels, x, y, param, staged;
};

static int is_type(int type)
{
    return type == LNORM_F32 || type == LNORM_F64 || type == LNORM_F16 || type == LNORM_BF16;
}

static lnorm_status check_problem(const lnorm_problem *problem, struct types *types)
{
    if (problem == NULL || problem->struct_size != sizeof *problem) {
        return LNORM_ERROR_STRUCT;
    }
    if (problem->operation != LNORM_LAYER_NORM && problem->operation != LNORM_RMS_NORM) {
        return LNORM_ERROR_OPERATION;
    }
    const int x = problem->x_type != LNORM_TYPE_DEFAULT ? problem->x_type : LNORM_F32;
    const int y = problem->y_type != LNORM_TYPE_DEFAULT ? problem->y_type : x;
    const int param = problem->param_type != LNORM_TYPE_DEFAULT ? problem->param_type : x;
    if (!is_type(x) || !is_type(y) || (x == LNORM_F64) != (y == LNORM_F64) ||
        (param != x && (param != LNORM_F32 || x == LNORM_F64))) {
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
    *types = (struct types){.x = x, .y = y, .param = param};
    types->staged = x != LNORM_F64 && (x != y || (param != LNORM_F32 && (uint64_t)problem->norm > LNORM_WIDENED_COLS));
    types->kernels = x == LNORM_F64                    ? LNORM_KERNELS_F64
                     : x == LNORM_F32 || types->staged ? LNORM_KERNELS_F32
                     : x == LNORM_F16                  ? LNORM_KERNELS_F16
                                                       : LNORM_KERNELS_BF16;
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
    struct types types;
    const lnorm_status status = check_problem(problem, &types);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_forward_args args = {.x = x,
                                            .gamma = gamma,
                                            .beta = beta,
                                            .y = y,
                                            .mean = mean,
                                            .rstd = rstd,
                                            .rows = (size_t)problem->outer,
                                            .cols = (size_t)problem->norm,
                                            .x_stride = row_stride(problem->x_stride, problem->norm),
                                            .y_stride = row_stride(problem->y_stride, problem->norm),
                                            .eps = problem->eps,
                                            .has_mean = problem->operation == LNORM_LAYER_NORM,
                                            .staged = types.staged,
                                            .x_type = types.x,
                                            .y_type = types.y,
                                            .param_type = types.param};
    const struct hook hook = {problem->parallel_for, problem->parallel_context};
    return forward(types.kernels, &args, &hook);
}

lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                            const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta, void *workspace,
                            size_t workspace_bytes)
{
    struct types types;
    const lnorm_status status = check_problem(problem, &types);
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
                                             .dx_stride = row_stride(problem->dx_stride, problem->norm),
                                             .has_mean = problem->operation == LNORM_LAYER_NORM,
                                             .staged = types.staged,
                                             .x_type = types.x,
                                             .dy_type = types.y,
                                             .param_type = types.param};
    const struct hook hook = {problem->parallel_for, problem->parallel_context};
    return backward(types.kernels, &args, workspace_bytes, &hook);
}

lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size)
{
    struct types types;
    if (size == NULL) {
        return LNORM_ERROR_NULL;
    }
    *size = SIZE_MAX;
    const lnorm_status status = check_problem(problem, &types);
    if (status == LNORM_OK) {
        *size = workspace_size((size_t)problem->outer, (size_t)problem->norm, element_size[types.kernels]);
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

#define TYPED_CALLS(suffix, REAL, type, stored)                                                                        \
    lnorm_status lnorm_forward_##suffix(size_t rows, size_t cols, const REAL *x, const REAL *gamma, const REAL *beta,  \
                                        double eps, REAL *y, REAL *mean, REAL *rstd)                                   \
    {                                                                                                                  \
        const struct lnorm_forward_args args = {.x = x,                                                                \
                                                .gamma = gamma,                                                        \
                                                .beta = beta,                                                          \
                                                .y = y,                                                                \
                                                .mean = mean,                                                          \
                                                .rstd = rstd,                                                          \
                                                .rows = rows,                                                          \
                                                .cols = cols,                                                          \
                                                .x_stride = dense(cols),                                               \
                                                .y_stride = dense(cols),                                               \
                                                .eps = eps,                                                            \
                                                .has_mean = 1,                                                         \
                                                .x_type = stored,                                                      \
                                                .y_type = stored,                                                      \
                                                .param_type = stored};                                                 \
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
                                                 .dx_stride = dense(cols),                                             \
                                                 .has_mean = 1,                                                        \
                                                 .x_type = stored,                                                     \
                                                 .dy_type = stored,                                                    \
                                                 .param_type = stored};                                                \
        return backward(type, &args, workspace_bytes, &no_hook);                                                       \
    }                                                                                                                  \
    size_t lnorm_backward_workspace_##suffix(size_t rows, size_t cols)                                                 \
    {                                                                                                                  \
        return workspace_size(rows, cols, sizeof(REAL));                                                               \
    }

TYPED_CALLS(f32, float, LNORM_KERNELS_F32, LNORM_F32)
TYPED_CALLS(f64, double, LNORM_KERNELS_F64, LNORM_F64)

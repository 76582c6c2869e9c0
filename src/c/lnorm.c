/* Entry points: check the arguments, split the work, call the table. */
#include <math.h>

#include "check_scale.h"
#include "kernels.h"
#include "lnorm.h"

/* Bytes of one piece of the work: so few that a hook has something to share out, and where there is much of that, so
 * many that what each piece costs does not show. */
#define LEAST_PIECE_BYTES ((size_t)1 << 16)
#define MOST_PIECE_BYTES ((size_t)1 << 20)
#define PIECES ((size_t)256)

/* Shorter ones are repeated in a buffer, so that there are whole vectors to work on. */
#define SHORTEST_PLAIN_RUN ((size_t)16)

/* A slab holds a whole number of blocks; there are at most this many slabs. */
#define MAX_SLABS ((size_t)32)
#define MIN_SLAB_ROWS ((size_t)64)
#define MIN_SLAB_TILES ((size_t)2)

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
        return "operation is not known, use LNORM_LAYER_NORM or LNORM_RMS_NORM; or the library was built without what "
               "is asked for";
    case LNORM_ERROR_TYPE:
        return "element types do not go together: x, y and parameters must all be LNORM_F64, or x and y any of "
               "LNORM_F32, LNORM_F16 and LNORM_BF16 and the parameters LNORM_F32 or of x's type; y is LNORM_I8 or "
               "LNORM_U8 in lnorm_quantized_forward, and only there; or the library was built without a type";
    case LNORM_ERROR_FLAGS:
        return "flags has a bit that no flag defines, or reserved is not 0";
    case LNORM_ERROR_INNER:
        return "inner is negative; or inner or a norm stride is not 1 with a residual or with param_run";
    case LNORM_ERROR_SIZE:
        return "a size is negative, or sizes and strides address more memory than there can be";
    case LNORM_ERROR_STRIDE:
        return "elements of an output overlap each other; its strides must step over what lies between, in either "
               "direction";
    case LNORM_ERROR_EPS:
        return "eps must be finite in the element type and not negative";
    case LNORM_ERROR_NULL:
        return "a required pointer is NULL: x and y in forward, dy, x, mean and rstd in backward, residual and total, "
               "scale, or moments where the call has them; or mean is not NULL with LNORM_RMS_NORM, which has none";
    case LNORM_ERROR_OVERLAP:
        return "an output overlaps another argument; only y = x, dx = dy and dx = x with equal strides are allowed";
    case LNORM_ERROR_WORKSPACE:
        return "workspace is NULL, misaligned or smaller than lnorm_backward_workspace asks for";
    case LNORM_ERROR_ISA:
        return "the instruction set that LNORM_ISA or lnorm_set_isa names is unknown or not available on this machine";
    case LNORM_ERROR_PARAMS:
        return "param_rows, param_repeat, param_run or residual_rows does not divide what it divides, param_repeat is "
               "neither 1 nor outer / param_rows, or the call does not take such parameters";
    case LNORM_ERROR_SCALE:
        return "scale is not a positive finite number, or zero_point is not in the range of y's type, or not NULL "
               "where "
               "there is none";
    }
    return "unknown status";
}

/* ---- Memory that the arguments cover ---- */

enum role { READ, READ_TENSOR, WRITE, WRITE_TENSOR };

/* A tensor of outer x norm x inner, or, where it has no gaps, an array, of which only element, reach, begin and end are
 * set. Strides in bytes. */
struct argument {
    const void *base;
    enum role role;
    int backwards;                        /* from one outer index to the next */
    int injective;                        /* no two elements share memory */
    size_t outer, stride, reach, element; /* bytes of one outer index, from its lowest to its highest */
    ptrdiff_t step;
    uintptr_t begin, end;
};

/* a * b, at most PTRDIFF_MAX; 0 where it is more. Divides only where the factors leave it open. */
static WRAPS int size_product(size_t a, size_t b, size_t *product)
{
    *product = a * b;
    return ((a | b) >> (4 * sizeof(size_t) - 1)) == 0 || a == 0 || b <= PTRDIFF_MAX / a;
}

/* The arguments of a call, the outputs first. */
struct arguments {
    size_t count;
    struct argument list[13];
};

/* Both of these add an argument, and say whether everything from its first to its last element can lie in one address
 * space. That of a tensor counts even where the pointer is NULL, so that a refusal does not depend on which gradients
 * are wanted; arrays without one are left out. */

static int add_array(struct arguments *all, enum role role, const void *base, size_t count, size_t element)
{
    size_t bytes;
    if (base == NULL || count == 0) {
        return 1;
    }
    const uintptr_t begin = (uintptr_t)base;
    if (!size_product(count, element, &bytes) || begin > UINTPTR_MAX - bytes) {
        return 0;
    }
    all->list[all->count++] = (struct argument){.base = base,
                                                .role = role,
                                                .injective = 1,
                                                .reach = bytes,
                                                .element = element,
                                                .begin = begin,
                                                .end = begin + bytes};
    return 1;
}

struct shape {
    size_t outer, norm, inner;
};

static size_t magnitude(ptrdiff_t step)
{
    return step < 0 ? (size_t)-(step + 1) + 1 : (size_t)step;
}

/* count - 1 steps, in bytes. */
static int distance(size_t count, ptrdiff_t step, size_t element, size_t *bytes)
{
    size_t elements;
    return count > 1 ? size_product(count - 1, magnitude(step), &elements) && size_product(elements, element, bytes)
                     : (*bytes = 0, 1);
}

/* Whether no two elements share memory: each axis steps over what the smaller steps reach. */
static int is_injective(const struct shape *shape, ptrdiff_t stride, ptrdiff_t step)
{
    size_t count[3] = {shape->inner, shape->norm, shape->outer};
    const size_t size[3] = {1, magnitude(step), magnitude(stride)};
    size_t reach = 1;
    for (;;) {
        int next = -1;
        for (int i = 0; i < 3; i++) {
            if (count[i] > 1 && (next < 0 || size[i] < size[next])) {
                next = i;
            }
        }
        if (next < 0) {
            return 1;
        }
        if (size[next] < reach) {
            return 0;
        }
        reach += size[next] * (count[next] - 1);
        count[next] = 1;
    }
}

static int add_tensor(struct arguments *all, enum role role, const void *base, const struct shape *shape,
                      ptrdiff_t stride, ptrdiff_t step, size_t element)
{
    size_t rows, elements, bytes, row, outer;
    if (!size_product(shape->outer, shape->inner, &rows) || !size_product(rows, shape->norm, &elements) ||
        !size_product(elements, element, &bytes)) {
        return 0;
    }
    if (elements == 0) {
        return 1;
    }
    const size_t apart = shape->norm * shape->inner;
    if ((shape->outer == 1 || stride == (ptrdiff_t)apart) && (shape->norm == 1 || step == (ptrdiff_t)shape->inner)) {
        return add_array(all, role, base, elements, element);
    }
    const size_t inner = shape->inner * element;
    if (!distance(shape->norm, step, element, &row) || row > PTRDIFF_MAX - inner ||
        !distance(shape->outer, stride, element, &outer) || outer > PTRDIFF_MAX - row - inner) {
        return 0;
    }
    if (base == NULL) {
        return 1;
    }
    const int backwards = stride < 0;
    const size_t before = (backwards ? outer : 0) + (step < 0 ? row : 0), extent = outer + row + inner;
    const uintptr_t place = (uintptr_t)base;
    if (place < before || place - before > UINTPTR_MAX - extent) {
        return 0;
    }
    all->list[all->count++] = (struct argument){.base = base,
                                                .role = role,
                                                .backwards = backwards,
                                                .injective = role != WRITE_TENSOR || is_injective(shape, stride, step),
                                                .outer = shape->outer,
                                                .stride = shape->outer > 1 ? outer / (shape->outer - 1) : 0,
                                                .reach = row + inner,
                                                .element = element,
                                                .step = shape->norm > 1 ? step : 0,
                                                .begin = place - before,
                                                .end = place - before + extent};
    return 1;
}

/* Of arguments whose extents meet. */
static int overlap(const struct argument *a, const struct argument *b)
{
    if (a->stride == b->stride && a->backwards == b->backwards && a->stride != 0) {
        /* Columns of one matrix: the later one begins after the earlier one's row, and ends before its next row. */
        const struct argument *const early = a->begin < b->begin ? a : b, *const late = early == a ? b : a;
        const size_t offset = (late->begin - early->begin) % a->stride;
        return offset < early->reach || offset + late->reach > a->stride;
    }
    return 1;
}

static int in_place(const struct argument *output, const struct argument *input)
{
    return output->role == WRITE_TENSOR && input->role == READ_TENSOR && output->base == input->base &&
           output->outer == input->outer && output->stride == input->stride && output->step == input->step &&
           output->backwards == input->backwards && output->reach == input->reach && output->element == input->element;
}

static lnorm_status check_overlaps(const struct arguments *all)
{
    const struct argument *const end = all->list + all->count;
    for (const struct argument *output = all->list; output < end && output->role >= WRITE; output++) {
        if (!output->injective) {
            return LNORM_ERROR_STRIDE;
        }
        for (const struct argument *other = output + 1; other < end; other++) {
            if (output->begin < other->end && other->begin < output->end && overlap(output, other) &&
                !in_place(output, other)) {
                return LNORM_ERROR_OVERLAP;
            }
        }
    }
    return LNORM_OK;
}

/* ---- What a problem says ---- */

/* The element types with their defaults filled in, `real` that of the arithmetic, and the sizes. */
struct view {
    int x, y, param, real, has_mean;
    int spaced; /* whether the elements of a row lie apart */
    unsigned flags;
    struct shape shape;
    size_t rows; /* outer * inner */
    struct lnorm_params params;
};

static size_t real_size(const struct view *view)
{
    return lnorm_type_size(view->real);
}

static int is_type(int type)
{
    return type == LNORM_F32 || (type == LNORM_F64 && !LNORM_WITHOUT_F64) ||
           (type == LNORM_F16 && !LNORM_WITHOUT_F16) || (type == LNORM_BF16 && !LNORM_WITHOUT_BF16);
}

/* a size of the problem, 0 standing for `otherwise`. */
static int get_size(int64_t size, size_t otherwise, size_t *to)
{
    *to = size != 0 ? (size_t)size : otherwise;
    return (uint64_t)size <= PTRDIFF_MAX;
}

static NOINLINE lnorm_status view_problem(const lnorm_problem *problem, int quantized, struct view *view)
{
    const unsigned known = LNORM_GAMMA_PLUS_ONE | LNORM_ROUND_STEPS | LNORM_ACCUMULATE | LNORM_DYNAMIC_SCALE;
    if (problem == NULL || problem->struct_size != sizeof *problem) {
        return LNORM_ERROR_STRUCT;
    }
    if ((problem->operation != LNORM_LAYER_NORM && problem->operation != LNORM_RMS_NORM) ||
        (LNORM_WITHOUT_INNER && problem->inner > 1) || (LNORM_WITHOUT_GROUPS && problem->param_run > 1)) {
        return LNORM_ERROR_OPERATION;
    }
    const int x = problem->x_type != LNORM_TYPE_DEFAULT ? problem->x_type : LNORM_F32;
    const int y = problem->y_type != LNORM_TYPE_DEFAULT ? problem->y_type : x;
    const int param = problem->param_type != LNORM_TYPE_DEFAULT ? problem->param_type : x;
    const int y_fits = quantized ? lnorm_is_quantized(y) : is_type(y) && (x == LNORM_F64) == (y == LNORM_F64);
    if (!is_type(x) || !y_fits || (param != x && (param != LNORM_F32 || x == LNORM_F64))) {
        return LNORM_ERROR_TYPE;
    }
    if ((problem->flags & ~known) != 0 || problem->reserved != 0) {
        return LNORM_ERROR_FLAGS;
    }
    if (problem->inner < 0) {
        return LNORM_ERROR_INNER;
    }
    *view = (struct view){.x = x,
                          .y = y,
                          .param = param,
                          .real = x == LNORM_F64 ? LNORM_F64 : LNORM_F32,
                          .has_mean = problem->operation == LNORM_LAYER_NORM,
                          .flags = problem->flags};
    struct shape *const shape = &view->shape;
    struct lnorm_params *const params = &view->params;
    if (!get_size(problem->outer, 0, &shape->outer) || !get_size(problem->norm, 0, &shape->norm) ||
        !get_size(problem->inner, 1, &shape->inner) || !size_product(shape->outer, shape->inner, &view->rows)) {
        return LNORM_ERROR_SIZE;
    }
    if (!get_size(problem->param_rows, 1, &params->rows) || !get_size(problem->param_run, 1, &params->run) ||
        shape->outer % params->rows != 0 || shape->norm % params->run != 0) {
        return LNORM_ERROR_PARAMS;
    }
    const size_t share = shape->outer / params->rows;
    if (!get_size(problem->param_repeat, share, &params->repeat) || (params->repeat != share && params->repeat != 1)) {
        return LNORM_ERROR_PARAMS;
    }
    params->repeat = params->repeat != 0 ? params->repeat : 1;
    params->type = param;
    params->plus_one = (problem->flags & LNORM_GAMMA_PLUS_ONE) != 0;
    view->spaced = shape->inner != 1 || problem->x_norm_stride > 1 || problem->x_norm_stride < 0;
    return params->run != 1 && view->spaced ? LNORM_ERROR_INNER : LNORM_OK;
}

/* For a call that the build leaves out or not. */
static INLINE lnorm_status check_problem(const lnorm_problem *problem, int left_out, struct view *view)
{
    return left_out ? LNORM_ERROR_OPERATION : view_problem(problem, 0, view);
}

/* In elements, between `count` places; to one place there is no way, and so no stride that could be too long. One that
 * is out of range for this machine becomes one that no extent can have. */
static ptrdiff_t stride_of(size_t count, int64_t stride, size_t dense)
{
    if (stride == LNORM_BROADCAST) {
        return 0;
    }
    if (stride == 0 || count <= 1) {
        return (ptrdiff_t)dense;
    }
    return stride > PTRDIFF_MAX || stride < -PTRDIFF_MAX ? PTRDIFF_MAX : (ptrdiff_t)stride;
}

static size_t dense_stride(const struct shape *shape)
{
    size_t size;
    return size_product(shape->norm, shape->inner, &size) ? size : PTRDIFF_MAX;
}

static struct lnorm_input input_of(const struct view *view, const void *at, int type, int64_t stride,
                                   int64_t norm_stride)
{
    const struct shape *const shape = &view->shape;
    return (struct lnorm_input){at, stride_of(shape->outer, stride, dense_stride(shape)),
                                stride_of(shape->norm, norm_stride, shape->inner), type};
}

static struct lnorm_output output_of(const struct view *view, void *at, int type, int64_t stride, int64_t norm_stride)
{
    const struct shape *const shape = &view->shape;
    return (struct lnorm_output){at, stride_of(shape->outer, stride, dense_stride(shape)),
                                 stride_of(shape->norm, norm_stride, shape->inner), type};
}

static int add_input(struct arguments *all, const struct view *view, const struct lnorm_input *input)
{
    return add_tensor(all, READ_TENSOR, input->at, &view->shape, input->stride, input->step,
                      lnorm_type_size(input->type));
}

static int add_output(struct arguments *all, const struct view *view, const struct lnorm_output *output)
{
    return add_tensor(all, WRITE_TENSOR, output->at, &view->shape, output->stride, output->step,
                      lnorm_type_size(output->type));
}

/* Elements of gamma. */
static size_t param_count(const struct view *view)
{
    size_t count;
    return size_product(view->params.rows, view->shape.norm / view->params.run, &count) ? count : PTRDIFF_MAX;
}

/* Whether parameters are used as they are, or can be made so once for all rows. */
static int params_are_simple(const struct view *view)
{
    const int plain = view->param == view->real && !view->params.plus_one;
    const int shared = view->params.rows == 1 && view->params.run == 1 && view->shape.norm <= LNORM_PREPARED_COLS;
    return (plain && (view->params.run == 1 || view->params.run >= SHORTEST_PLAIN_RUN)) || shared;
}

/* Whether rows are taken by tiles, side by side along inner; calls with more to do than plain forward or backward have
 * to exclude that. */
static int has_tiles(const struct view *view)
{
    return !LNORM_WITHOUT_INNER && view->x == view->y && view->shape.inner >= 64 / real_size(view) &&
           view->params.rows == 1 && params_are_simple(view) && view->rows != 0 && view->shape.norm != 0;
}

/* `tensors` are those in memory that the work is on. */
static struct lnorm_tiles tiles_of(const struct view *view, size_t tensors)
{
    return lnorm_tiles_of(view->shape.inner, view->shape.norm, 64 / real_size(view), tensors);
}

static int kernels_for(const struct view *view, int staged)
{
    return view->x == LNORM_F64             ? LNORM_KERNELS_F64
           : view->x == LNORM_F32 || staged ? LNORM_KERNELS_F32
           : view->x == LNORM_F16           ? LNORM_KERNELS_F16
                                            : LNORM_KERNELS_BF16;
}

/* ---- Splitting the work ---- */

struct hook {
    lnorm_parallel_for run;
    void *context;
};

static const struct hook no_hook;

static struct hook hook_of(const lnorm_problem *problem)
{
    return (struct hook){problem->parallel_for, problem->parallel_context};
}

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

static size_t pieces(size_t whole, size_t piece)
{
    return whole / piece + (whole % piece != 0);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What is done to rows, or to tiles of them, independently of each other. */
struct row_work {
    const struct lnorm_typed_kernels *kernels;
    const struct lnorm_forward_args *forward;
    const struct lnorm_backward_args *backward;
    void *moments;
    size_t rows, rows_per_piece;
    void (*run)(const struct row_work *work, size_t first_row, size_t end_row);
};

static void run_forward(const struct row_work *work, size_t first_row, size_t end_row)
{
    work->kernels->forward(work->forward, first_row, end_row);
}

static void run_forward_tiles(const struct row_work *work, size_t first_tile, size_t end_tile)
{
    work->kernels->forward_tiles(work->forward, first_tile, end_tile);
}

static void run_apply_moments(const struct row_work *work, size_t first_row, size_t end_row)
{
    work->kernels->apply_moments(work->forward, first_row, end_row);
}

static void run_moments(const struct row_work *work, size_t first_row, size_t end_row)
{
    work->kernels->moments(work->forward, work->moments, first_row, end_row);
}

static void run_grad_moments(const struct row_work *work, size_t first_row, size_t end_row)
{
    work->kernels->grad_moments(work->backward, work->moments, first_row, end_row);
}

static void run_backward_runs(const struct row_work *work, size_t first_row, size_t end_row)
{
    work->kernels->backward_runs(work->backward, first_row, end_row);
}

static void row_piece(void *argument, size_t index)
{
    const struct row_work *const work = argument;
    const size_t first = index * work->rows_per_piece;
    work->run(work, first, first + smaller(work->rows - first, work->rows_per_piece));
}

static void for_rows(const struct hook *hook, struct row_work *work, size_t row_bytes)
{
    if (hook->run == NULL) {
        work->run(work, 0, work->rows);
        return;
    }
    const size_t most = smaller(work->rows / PIECES * row_bytes, MOST_PIECE_BYTES);
    const size_t fitting = (most > LEAST_PIECE_BYTES ? most : LEAST_PIECE_BYTES) / row_bytes;
    work->rows_per_piece = fitting > 1 ? fitting : 1;
    for_each(hook, pieces(work->rows, work->rows_per_piece), row_piece, work);
}

/* ---- Forward ---- */

/* The results of no elements. The array may be NULL. */
static void fill(int type, void *array, size_t count, double value)
{
    for (size_t i = 0; array != NULL && i < count; i++) {
        if (type == LNORM_F64) {
            ((double *)array)[i] = value;
        } else {
            ((float *)array)[i] = (float)value;
        }
    }
}

static int is_eps(double eps, int real)
{
    return eps >= 0 && eps <= (real == LNORM_F64 ? DBL_MAX : (double)FLT_MAX);
}

/* The arguments of forward calls that their problem gives. */
static struct lnorm_forward_args forward_args(const lnorm_problem *problem, const struct view *view, const void *x,
                                              const void *gamma, const void *beta, void *y, void *mean, void *rstd)
{
    struct lnorm_forward_args args = {
        .x = input_of(view, x, view->x, problem->x_stride, problem->x_norm_stride),
        .y = output_of(view, y, view->y, problem->y_stride, problem->y_norm_stride),
        .params = view->params,
        .mean = mean,
        .rstd = rstd,
        .rows = view->rows,
        .cols = view->shape.norm,
        .inner = view->shape.inner,
        .eps = problem->eps,
        .has_mean = view->has_mean,
        .round_steps = (view->flags & LNORM_ROUND_STEPS) != 0,
        .dynamic_scale = (view->flags & LNORM_DYNAMIC_SCALE) != 0,
    };
    args.params.gamma = gamma;
    args.params.beta = beta;
    args.staged =
        view->x != view->y || args.x.step != 1 || args.y.step != 1 || args.round_steps || !params_are_simple(view);
    return args;
}

static lnorm_status forward(const struct view *view, const struct lnorm_forward_args *args, const struct hook *hook)
{
    const size_t real = real_size(view), rows = args->rows, cols = args->cols;
    const int quantized = lnorm_is_quantized(view->y), added = args->total != NULL;
    const enum role scale_role = quantized && args->dynamic_scale ? WRITE : READ;
    const size_t scales = scale_role == WRITE ? rows : 1, param_size = lnorm_type_size(view->param);
    if (!args->has_mean && args->mean != NULL) {
        return LNORM_ERROR_NULL;
    }
    if (!is_eps(args->eps, view->real)) {
        return LNORM_ERROR_EPS;
    }
    const struct lnorm_input *const x = added ? &args->input : &args->x;
    struct arguments all;
    all.count = 0;
    int fits = add_output(&all, view, &args->y) && add_array(&all, WRITE, args->mean, rows, real) &&
               add_array(&all, WRITE, args->rstd, rows, real);
    if (fits && added) {
        const struct lnorm_output total = {args->total, args->x.stride, args->x.step, args->x.type};
        fits = add_output(&all, view, &total);
    }
    fits = fits && add_array(&all, scale_role, args->scale, scales, real) &&
           add_array(&all, scale_role, args->zero_point, scales, sizeof(int32_t)) && add_input(&all, view, x);
    if (fits && added) {
        const struct shape residual = {args->residual_rows, cols, 1};
        fits = add_tensor(&all, READ_TENSOR, args->residual.at, &residual, args->residual.stride, 1,
                          lnorm_type_size(view->x)) &&
               add_array(&all, READ, args->input_bias.at, cols, param_size);
    }
    if (!fits || !add_array(&all, READ, args->params.gamma, param_count(view), param_size) ||
        !add_array(&all, READ, args->params.beta, param_count(view), param_size) ||
        !add_array(&all, READ, args->given_moments, rows, LNORM_MOMENTS * real)) {
        return LNORM_ERROR_SIZE;
    }
    const lnorm_status status = check_overlaps(&all);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_kernels *const kernels = lnorm_active_kernels();
    if (kernels == NULL) {
        return LNORM_ERROR_ISA;
    }
    if (cols == 0) {
        fill(view->real, args->mean, rows, (double)NAN);
        fill(view->real, args->rstd, rows, (double)NAN);
        if (scale_role == WRITE) {
            fill(view->real, args->scale, rows, 1);
            for (size_t r = 0; args->zero_point != NULL && r < rows; r++) {
                args->zero_point[r] = 0;
            }
        }
        return LNORM_OK;
    }
    if (rows == 0) {
        return LNORM_OK;
    }
    if (x->at == NULL || args->y.at == NULL) {
        return LNORM_ERROR_NULL;
    }
    if (has_tiles(view) && !args->round_steps && args->given_moments == NULL) {
        const struct lnorm_tiles tiles = tiles_of(view, LNORM_FORWARD_TENSORS);
        struct row_work work = {.kernels = &kernels->typed[kernels_for(view, 0)],
                                .forward = args,
                                .rows = view->shape.outer * tiles.count,
                                .run = run_forward_tiles};
        for_rows(hook, &work, cols * args->inner / tiles.count * real);
        return LNORM_OK;
    }
    struct row_work work = {.kernels = &kernels->typed[kernels_for(view, args->staged)],
                            .forward = args,
                            .rows = rows,
                            .run = args->given_moments != NULL ? run_apply_moments : run_forward};
    for_rows(hook, &work, cols * real);
    return LNORM_OK;
}

lnorm_status lnorm_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta, void *y,
                           void *mean, void *rstd)
{
    struct view view;
    const lnorm_status status = check_problem(problem, 0, &view);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_forward_args args = forward_args(problem, &view, x, gamma, beta, y, mean, rstd);
    const struct hook hook = hook_of(problem);
    return forward(&view, &args, &hook);
}

lnorm_status lnorm_add_forward(const lnorm_problem *problem, const void *x, const void *residual,
                               const void *input_bias, const void *gamma, const void *beta, void *total, void *y,
                               void *mean, void *rstd)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_RESIDUAL, &view);
    if (status != LNORM_OK) {
        return status;
    }
    struct lnorm_forward_args args = forward_args(problem, &view, total, gamma, beta, y, mean, rstd);
    const struct shape *const shape = &view.shape;
    if (view.spaced) {
        return LNORM_ERROR_INNER;
    }
    if (!get_size(problem->residual_rows, shape->outer, &args.residual_rows) ||
        (args.residual_rows != 0 && shape->outer % args.residual_rows != 0)) {
        return LNORM_ERROR_PARAMS;
    }
    args.input = args.x;
    args.input.at = x;
    args.x.stride = stride_of(shape->outer, problem->total_stride, shape->norm);
    args.total = total;
    args.residual = input_of(&view, residual, view.x, problem->residual_stride, 1);
    args.input_bias = (struct lnorm_input){input_bias, 0, 1, view.param};
    if (view.rows != 0 && shape->norm != 0 && (residual == NULL || total == NULL)) {
        return LNORM_ERROR_NULL;
    }
    const struct hook hook = hook_of(problem);
    return forward(&view, &args, &hook);
}

lnorm_status lnorm_quantized_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta,
                                     void *y, void *scale, int32_t *zero_point, void *mean, void *rstd)
{
    struct view view;
    lnorm_status status = LNORM_WITHOUT_QUANTIZED ? LNORM_ERROR_OPERATION : view_problem(problem, 1, &view);
    if (status == LNORM_OK) {
        status = check_scale(view.y, view.real, view.flags, view.rows, scale, zero_point);
    }
    if (status != LNORM_OK) {
        return status;
    }
    struct lnorm_forward_args args = forward_args(problem, &view, x, gamma, beta, y, mean, rstd);
    args.scale = scale;
    args.zero_point = zero_point;
    const struct hook hook = hook_of(problem);
    return forward(&view, &args, &hook);
}

/* ---- Backward ---- */

/* How the rows whose terms of dgamma and dbeta are summed together lie. */
static int has_runs(const struct view *view)
{
    return !LNORM_WITHOUT_GROUPS && view->params.run != 1;
}

static size_t rows_per_slab(size_t rows)
{
    const size_t even_share = pieces(pieces(rows, MAX_SLABS), LNORM_BLOCK_ROWS) * LNORM_BLOCK_ROWS;
    return even_share > MIN_SLAB_ROWS ? even_share : MIN_SLAB_ROWS;
}

/* The same for tiles. */
static size_t tiles_per_slab(size_t tiles)
{
    const size_t even_share = pieces(tiles, MAX_SLABS);
    return even_share > MIN_SLAB_TILES ? even_share : MIN_SLAB_TILES;
}

static size_t tile_count(const struct view *view)
{
    return view->shape.outer * tiles_of(view, LNORM_BACKWARD_TENSORS).count;
}

/* Elements of workspace, of tiles and of rows: six times the tensor's at most, which do not wrap around. */
static size_t tile_workspace(const struct view *view)
{
    const size_t tiles = tile_count(view), slabs = pieces(tiles, tiles_per_slab(tiles));
    return 2 * LNORM_SLAB_ARRAYS * slabs * view->shape.norm;
}

static size_t slab_workspace(size_t rows, size_t cols, int accumulate)
{
    if (rows == 0 || (rows <= LNORM_BLOCK_ROWS && !accumulate)) {
        return 0;
    }
    return 2 * LNORM_SLAB_ARRAYS * pieces(rows, rows_per_slab(rows)) * cols;
}

/* Bytes of workspace; SIZE_MAX where they, or the tensor, do not fit. */
static size_t workspace_bytes(const struct view *view)
{
    const size_t groups = view->params.rows, element = real_size(view), cols = view->shape.norm;
    size_t bytes, elements;
    if (!size_product(view->rows, cols, &elements) || !size_product(elements, element, &bytes)) {
        return SIZE_MAX;
    }
    if (has_runs(view)) {
        return size_product(view->rows * (cols / view->params.run), 4 * element, &bytes) ? bytes : SIZE_MAX;
    }
    elements = slab_workspace(view->rows / groups, cols, (view->flags & LNORM_ACCUMULATE) != 0) * groups;
    if (has_tiles(view)) { /* but not in every call */
        const size_t of_tiles = tile_workspace(view);
        elements = elements > of_tiles ? elements : of_tiles;
    }
    return size_product(elements, element, &bytes) ? bytes : SIZE_MAX;
}

/* Groups of rows with parameters of their own, each cut into slabs. */
struct backward_work {
    const struct lnorm_backward_args *args; /* of all rows, but for slabs and rows_per_slab */
    const struct lnorm_typed_kernels *kernels;
    size_t groups, merge_pieces; /* merge_pieces per group */
    size_t real;
    int tiles; /* a slab is of tiles; one group */
};

static const void *moved(const void *array, size_t elements, size_t element)
{
    return array != NULL ? (const char *)array + elements * element : NULL;
}

static void *moved_output(void *array, size_t elements, size_t element)
{
    return array != NULL ? (char *)array + elements * element : NULL;
}

static void move_input(struct lnorm_input *input, size_t outer, size_t apart)
{
    if (input->at != NULL) {
        input->at =
            (const char *)input->at + (ptrdiff_t)outer * input->stride * (ptrdiff_t)lnorm_type_size(input->type);
        input->stride *= (ptrdiff_t)apart;
    }
}

/* The problem of the rows of one group: they follow each other, or the groups take turns. */
static struct lnorm_backward_args group_args(const struct backward_work *work, size_t group)
{
    struct lnorm_backward_args args = *work->args;
    if (work->groups == 1) {
        return args;
    }
    const struct lnorm_params all = args.params;
    const size_t outer = group * all.repeat, apart = all.repeat == 1 ? all.rows : 1, cols = args.cols;
    const size_t first_param = group * cols, first_stat = outer * args.stat_stride;
    if (args.rows != 0) {
        move_input(&args.dy, outer, apart);
        move_input(&args.x, outer, apart);
        move_input(&args.added, outer, apart);
        args.mean = moved(args.mean, first_stat, work->real);
        args.rstd = moved(args.rstd, first_stat, work->real);
        args.stat_stride *= apart;
        if (args.dx.at != NULL) {
            const ptrdiff_t distance = (ptrdiff_t)outer * args.dx.stride;
            args.dx.at = (char *)args.dx.at + distance * (ptrdiff_t)lnorm_type_size(args.dx.type);
            args.dx.stride *= (ptrdiff_t)apart;
        }
    }
    args.params = (struct lnorm_params){.gamma = moved(all.gamma, first_param, lnorm_type_size(all.type)),
                                        .beta = moved(all.beta, first_param, lnorm_type_size(all.type)),
                                        .type = all.type,
                                        .plus_one = all.plus_one,
                                        .rows = 1,
                                        .repeat = 1,
                                        .run = 1};
    args.dgamma = moved_output(args.dgamma, first_param, work->real);
    args.dbeta = moved_output(args.dbeta, first_param, work->real);
    const size_t workspace = slab_workspace(args.rows, cols, args.accumulate);
    args.workspace = moved_output(args.workspace, group * workspace, work->real);
    return args;
}

static void backward_piece(void *argument, size_t index)
{
    const struct backward_work *const work = argument;
    const struct lnorm_backward_args args = group_args(work, index / work->args->slabs);
    (work->tiles ? work->kernels->backward_tiles : work->kernels->backward)(&args, index % work->args->slabs);
}

static void merge_piece(void *argument, size_t index)
{
    const struct backward_work *const work = argument;
    const struct lnorm_backward_args args = group_args(work, index / work->merge_pieces);
    const size_t first = index % work->merge_pieces * MERGE_PIECE_COLS;
    work->kernels->backward_merge(&args, first, first + smaller(args.cols - first, MERGE_PIECE_COLS));
}

static void merge_runs_piece(void *argument, size_t index)
{
    const struct backward_work *const work = argument;
    work->kernels->merge_runs(work->args, index);
}

/* args.workspace is the caller's. */
static lnorm_status backward(const struct view *view, struct lnorm_backward_args args, size_t workspace,
                             const struct hook *hook)
{
    const size_t real = real_size(view), rows = args.rows, cols = args.cols, groups = view->params.rows;
    const size_t params = param_count(view), param_size = lnorm_type_size(view->param);
    const int wants_sums = args.dgamma != NULL || args.dbeta != NULL, given = args.given_moments != NULL;
    const size_t needed = workspace_bytes(view);
    if (needed == SIZE_MAX) {
        return LNORM_ERROR_SIZE;
    }
    void *const memory = args.workspace;
    args.workspace = wants_sums && needed != 0 ? memory : NULL;
    struct arguments all;
    all.count = 0;
    if (!add_output(&all, view, &args.dx) || !add_array(&all, WRITE, args.dgamma, params, real) ||
        !add_array(&all, WRITE, args.dbeta, params, real) ||
        !add_array(&all, WRITE, args.workspace, needed / real, real) || !add_input(&all, view, &args.dy) ||
        !add_input(&all, view, &args.x) || (args.added.at != NULL && !add_input(&all, view, &args.added)) ||
        !add_array(&all, READ, args.mean, rows, real) || !add_array(&all, READ, args.rstd, rows, real) ||
        !add_array(&all, READ, args.params.gamma, params, param_size) ||
        !add_array(&all, READ, args.params.beta, params, param_size) ||
        !add_array(&all, READ, args.given_moments, rows, LNORM_MOMENTS * real) ||
        !add_array(&all, READ, args.given_grad_moments, rows, LNORM_GRAD_MOMENTS * real)) {
        return LNORM_ERROR_SIZE;
    }
    const lnorm_status status = check_overlaps(&all);
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
    const int mean_fits = (args.mean != NULL) == (args.has_mean && !args.from_y && !given);
    if (rows != 0 && (args.dy.at == NULL || args.x.at == NULL || (args.rstd == NULL) != given || !mean_fits)) {
        return LNORM_ERROR_NULL;
    }
    if (wants_sums && needed != 0 && (memory == NULL || workspace < needed || (uintptr_t)memory % real != 0)) {
        return LNORM_ERROR_WORKSPACE;
    }
    const struct lnorm_typed_kernels *const typed = &kernels->typed[kernels_for(view, args.staged || has_runs(view))];
    struct backward_work work = {.args = &args, .kernels = typed, .groups = groups, .real = real};
    if (has_runs(view)) {
        struct row_work runs = {.kernels = typed, .backward = &args, .rows = rows, .run = run_backward_runs};
        if (rows != 0) {
            for_rows(hook, &runs, cols * real);
        }
        if (wants_sums) {
            for_each(hook, groups, merge_runs_piece, &work);
        }
        return LNORM_OK;
    }
    args.rows = rows / groups;
    if (has_tiles(view) && !args.from_y && !given) {
        const size_t tiles = tile_count(view);
        work.kernels = &kernels->typed[kernels_for(view, 0)];
        work.tiles = 1;
        args.rows_per_slab = tiles_per_slab(tiles);
        args.slabs = pieces(tiles, args.rows_per_slab);
    } else {
        args.rows_per_slab = rows_per_slab(args.rows);
        args.slabs = pieces(args.rows, args.rows_per_slab);
    }
    for_each(hook, groups * args.slabs, backward_piece, &work);
    /* Without tiles a few rows are summed where the sums belong, whatever tiles would have needed. */
    const int merges = work.tiles || rows == 0 || slab_workspace(args.rows, cols, args.accumulate) != 0;
    if (wants_sums && merges) {
        work.merge_pieces = pieces(cols, MERGE_PIECE_COLS);
        for_each(hook, groups * work.merge_pieces, merge_piece, &work);
    }
    return LNORM_OK;
}

/* The arguments of backward calls that their problem gives; x has x_type. */
static struct lnorm_backward_args backward_args(const lnorm_problem *problem, const struct view *view, const void *dy,
                                                const void *x, const void *gamma, void *dx, void *dgamma, void *dbeta,
                                                void *workspace)
{
    struct lnorm_backward_args args = {
        .dy = input_of(view, dy, view->y, problem->dy_stride, problem->dy_norm_stride),
        .x = input_of(view, x, view->x, problem->x_stride, problem->x_norm_stride),
        .dx = output_of(view, dx, view->x, problem->dx_stride, problem->dx_norm_stride),
        .added = input_of(view, NULL, view->x, problem->total_stride, 0),
        .params = view->params,
        .dgamma = dgamma,
        .dbeta = dbeta,
        .workspace = workspace,
        .rows = view->rows,
        .cols = view->shape.norm,
        .inner = view->shape.inner,
        .stat_stride = view->shape.inner,
        .has_mean = view->has_mean,
        .accumulate = (view->flags & LNORM_ACCUMULATE) != 0,
        .eps = problem->eps,
    };
    args.params.gamma = gamma;
    args.staged = view->x != view->y || args.dy.step != 1 || args.x.step != 1 || args.dx.step != 1 || args.inner != 1 ||
                  !params_are_simple(view);
    return args;
}

lnorm_status lnorm_backward(const lnorm_problem *problem, const void *dy, const void *x, const void *mean,
                            const void *rstd, const void *gamma, void *dx, void *dgamma, void *dbeta, void *workspace,
                            size_t workspace_size)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_BACKWARD, &view);
    if (status != LNORM_OK) {
        return status;
    }
    struct lnorm_backward_args args = backward_args(problem, &view, dy, x, gamma, dx, dgamma, dbeta, workspace);
    args.mean = mean;
    args.rstd = rstd;
    const struct hook hook = hook_of(problem);
    return backward(&view, args, workspace_size, &hook);
}

lnorm_status lnorm_add_backward(const lnorm_problem *problem, const void *dy, const void *dtotal, const void *total,
                                const void *mean, const void *rstd, const void *gamma, void *dx, void *dgamma,
                                void *dbeta, void *workspace, size_t workspace_size)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_RESIDUAL | LNORM_WITHOUT_BACKWARD, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (has_runs(&view)) {
        return LNORM_ERROR_PARAMS;
    }
    struct lnorm_backward_args args = backward_args(problem, &view, dy, total, gamma, dx, dgamma, dbeta, workspace);
    if (view.spaced) {
        return LNORM_ERROR_INNER;
    }
    args.x.stride = args.added.stride = stride_of(view.shape.outer, problem->total_stride, view.shape.norm);
    args.added.at = dtotal;
    args.mean = mean;
    args.rstd = rstd;
    const struct hook hook = hook_of(problem);
    return backward(&view, args, workspace_size, &hook);
}

lnorm_status lnorm_backward_from_y(const lnorm_problem *problem, const void *dy, const void *y, const void *rstd,
                                   const void *gamma, const void *beta, void *dx, void *dgamma, void *dbeta,
                                   void *workspace, size_t workspace_size)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_BACKWARD, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (has_runs(&view)) {
        return LNORM_ERROR_PARAMS;
    }
    struct lnorm_backward_args args = backward_args(problem, &view, dy, NULL, gamma, dx, dgamma, dbeta, workspace);
    args.x = input_of(&view, y, view.y, problem->y_stride, problem->y_norm_stride);
    args.params.beta = beta;
    args.rstd = rstd;
    args.from_y = args.staged = 1;
    const struct hook hook = hook_of(problem);
    return backward(&view, args, workspace_size, &hook);
}

lnorm_status lnorm_backward_workspace(const lnorm_problem *problem, size_t *size)
{
    struct view view;
    if (size == NULL) {
        return LNORM_ERROR_NULL;
    }
    *size = SIZE_MAX;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_BACKWARD, &view);
    if (status == LNORM_OK) {
        *size = workspace_bytes(&view);
        return *size != SIZE_MAX ? LNORM_OK : LNORM_ERROR_SIZE;
    }
    return status;
}

/* ---- Statistics as building blocks ---- */

/* The checks and the work of what writes `count` numbers for each row. */
static lnorm_status write_moments(const struct view *view, struct row_work *work, size_t count, void *to,
                                  const struct lnorm_input *x, const struct lnorm_input *dy, const void *gamma,
                                  const void *moments, const struct hook *hook)
{
    const size_t real = real_size(view);
    struct arguments all;
    all.count = 0;
    if (!add_array(&all, WRITE, to, view->rows, count * real) || !add_input(&all, view, x) ||
        !add_input(&all, view, dy) || !add_array(&all, READ, gamma, param_count(view), lnorm_type_size(view->param)) ||
        !add_array(&all, READ, moments, view->rows, LNORM_MOMENTS * real)) {
        return LNORM_ERROR_SIZE;
    }
    const lnorm_status status = check_overlaps(&all);
    if (status != LNORM_OK) {
        return status;
    }
    const struct lnorm_kernels *const kernels = lnorm_active_kernels();
    if (kernels == NULL) {
        return LNORM_ERROR_ISA;
    }
    if (view->rows == 0) {
        return LNORM_OK;
    }
    if (to == NULL) {
        return LNORM_ERROR_NULL;
    }
    if (view->shape.norm == 0) {
        fill(view->real, to, count * view->rows, (double)NAN);
        return LNORM_OK;
    }
    if (x->at == NULL || dy->at == NULL) {
        return LNORM_ERROR_NULL;
    }
    work->kernels = &kernels->typed[kernels_for(view, 1)];
    work->moments = to;
    work->rows = view->rows;
    for_rows(hook, work, view->shape.norm * real);
    return LNORM_OK;
}

lnorm_status lnorm_moments(const lnorm_problem *problem, const void *x, void *moments)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_MOMENTS, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (!is_eps(problem->eps, view.real)) {
        return LNORM_ERROR_EPS;
    }
    struct lnorm_forward_args args = forward_args(problem, &view, x, NULL, NULL, NULL, NULL, NULL);
    args.staged = view.x != view.real || args.x.step != 1 || args.inner != 1;
    struct row_work work = {.forward = &args, .run = run_moments};
    const struct hook hook = hook_of(problem);
    return write_moments(&view, &work, LNORM_MOMENTS, moments, &args.x, &args.x, NULL, NULL, &hook);
}

lnorm_status lnorm_apply_moments(const lnorm_problem *problem, const void *x, const void *moments, const void *gamma,
                                 const void *beta, void *y, void *mean, void *rstd)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_MOMENTS, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (moments == NULL && view.rows != 0) {
        return LNORM_ERROR_NULL;
    }
    struct lnorm_forward_args args = forward_args(problem, &view, x, gamma, beta, y, mean, rstd);
    args.given_moments = moments;
    args.staged |= view.x != view.real || view.params.plus_one;
    const struct hook hook = hook_of(problem);
    return forward(&view, &args, &hook);
}

lnorm_status lnorm_grad_moments(const lnorm_problem *problem, const void *dy, const void *x, const void *moments,
                                const void *gamma, void *grad_moments)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_MOMENTS | LNORM_WITHOUT_BACKWARD, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (has_runs(&view)) {
        return LNORM_ERROR_PARAMS;
    }
    if (!is_eps(problem->eps, view.real)) {
        return LNORM_ERROR_EPS;
    }
    if (moments == NULL && view.rows != 0) {
        return LNORM_ERROR_NULL;
    }
    struct lnorm_backward_args args = backward_args(problem, &view, dy, x, gamma, NULL, NULL, NULL, NULL);
    args.given_moments = moments;
    struct row_work work = {.backward = &args, .run = run_grad_moments};
    const struct hook hook = hook_of(problem);
    return write_moments(&view, &work, LNORM_GRAD_MOMENTS, grad_moments, &args.x, &args.dy, gamma, moments, &hook);
}

lnorm_status lnorm_apply_grad_moments(const lnorm_problem *problem, const void *dy, const void *x, const void *moments,
                                      const void *grad_moments, const void *gamma, void *dx, void *dgamma, void *dbeta,
                                      void *workspace, size_t workspace_size)
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_MOMENTS | LNORM_WITHOUT_BACKWARD, &view);
    if (status != LNORM_OK) {
        return status;
    }
    if (has_runs(&view) || view.params.rows != 1) {
        return LNORM_ERROR_PARAMS;
    }
    if (!is_eps(problem->eps, view.real)) {
        return LNORM_ERROR_EPS;
    }
    struct lnorm_backward_args args = backward_args(problem, &view, dy, x, gamma, dx, dgamma, dbeta, workspace);
    args.given_moments = moments;
    args.given_grad_moments = grad_moments;
    if (view.rows != 0 && (moments == NULL || grad_moments == NULL)) {
        return LNORM_ERROR_NULL;
    }
    const struct hook hook = hook_of(problem);
    return backward(&view, args, workspace_size, &hook);
}

/* The checks and the work of both merges. */
static lnorm_status merge(const lnorm_problem *problem, int64_t count_a, const void *a, int64_t count_b, const void *b,
                          void *merged, size_t numbers,
                          void (*merge_row)(int real, int64_t count_a, const void *a, int64_t count_b, const void *b,
                                            void *merged))
{
    struct view view;
    const lnorm_status status = check_problem(problem, LNORM_WITHOUT_MOMENTS, &view);
    if (status != LNORM_OK) {
        return status;
    }
    const size_t row = numbers * real_size(&view);
    const struct shape rows = {view.rows, numbers, 1};
    const ptrdiff_t stride = (ptrdiff_t)numbers;
    struct arguments all;
    all.count = 0;
    if (count_a < 0 || count_b < 0 || count_a > INT64_MAX - count_b ||
        !add_tensor(&all, WRITE_TENSOR, merged, &rows, stride, 1, real_size(&view)) ||
        !add_tensor(&all, READ_TENSOR, a, &rows, stride, 1, real_size(&view)) ||
        !add_tensor(&all, READ_TENSOR, b, &rows, stride, 1, real_size(&view))) {
        return LNORM_ERROR_SIZE;
    }
    if (view.rows != 0 && (a == NULL || b == NULL || merged == NULL)) {
        return LNORM_ERROR_NULL;
    }
    const lnorm_status overlaps = check_overlaps(&all);
    if (overlaps != LNORM_OK) {
        return overlaps;
    }
    for (size_t r = 0; r < view.rows; r++) {
        merge_row(view.real, count_a, (const char *)a + r * row, count_b, (const char *)b + r * row,
                  (char *)merged + r * row);
    }
    return LNORM_OK;
}

lnorm_status lnorm_merge_moments(const lnorm_problem *problem, int64_t count_a, const void *a, int64_t count_b,
                                 const void *b, void *merged)
{
    return merge(problem, count_a, a, count_b, b, merged, LNORM_MOMENTS, lnorm_merge_row);
}

lnorm_status lnorm_merge_grad_moments(const lnorm_problem *problem, int64_t count_a, const void *a, int64_t count_b,
                                      const void *b, void *merged)
{
    return merge(problem, count_a, a, count_b, b, merged, LNORM_GRAD_MOMENTS, lnorm_merge_grad_row);
}

/* ---- One dense tensor ---- */

static struct view dense_view(int type, size_t rows, size_t cols)
{
    return (struct view){.x = type,
                         .y = type,
                         .param = type,
                         .real = type,
                         .has_mean = 1,
                         .shape = {rows, cols, 1},
                         .rows = rows,
                         .params = {.type = type, .rows = 1, .repeat = 1, .run = 1}};
}

#define TYPED_CALLS(suffix, REAL, type)                                                                                \
    lnorm_status lnorm_forward_##suffix(size_t rows, size_t cols, const REAL *x, const REAL *gamma, const REAL *beta,  \
                                        double eps, REAL *y, REAL *mean, REAL *rstd)                                   \
    {                                                                                                                  \
        if (!is_type(type)) {                                                                                          \
            return LNORM_ERROR_TYPE;                                                                                   \
        }                                                                                                              \
        static const lnorm_problem dense = LNORM_PROBLEM_INIT;                                                         \
        const struct view view = dense_view(type, rows, cols);                                                         \
        struct lnorm_forward_args args = forward_args(&dense, &view, x, gamma, beta, y, mean, rstd);                   \
        args.eps = eps;                                                                                                \
        return forward(&view, &args, &no_hook);                                                                        \
    }                                                                                                                  \
    lnorm_status lnorm_backward_##suffix(size_t rows, size_t cols, const REAL *dy, const REAL *x, const REAL *mean,    \
                                         const REAL *rstd, const REAL *gamma, REAL *dx, REAL *dgamma, REAL *dbeta,     \
                                         void *workspace, size_t workspace_size)                                       \
    {                                                                                                                  \
        if (!is_type(type) || LNORM_WITHOUT_BACKWARD) {                                                                \
            return is_type(type) ? LNORM_ERROR_OPERATION : LNORM_ERROR_TYPE;                                           \
        }                                                                                                              \
        static const lnorm_problem dense = LNORM_PROBLEM_INIT;                                                         \
        const struct view view = dense_view(type, rows, cols);                                                         \
        struct lnorm_backward_args args = backward_args(&dense, &view, dy, x, gamma, dx, dgamma, dbeta, workspace);    \
        args.mean = mean;                                                                                              \
        args.rstd = rstd;                                                                                              \
        return backward(&view, args, workspace_size, &no_hook);                                                        \
    }                                                                                                                  \
    size_t lnorm_backward_workspace_##suffix(size_t rows, size_t cols)                                                 \
    {                                                                                                                  \
        const struct view view = dense_view(type, rows, cols);                                                         \
        return is_type(type) && !LNORM_WITHOUT_BACKWARD ? workspace_bytes(&view) : SIZE_MAX;                           \
    }

TYPED_CALLS(f32, float, LNORM_F32)
TYPED_CALLS(f64, double, LNORM_F64)

/* What include/lnorm.h promises of its calls: refusals that write nothing, absent arguments, layouts, hooks, texts. */
#include "calls.h"

#include <math.h>

/* ---- Refusals ---- */

static void test_refused_by_both(lnorm_type type, bool backward)
{
    const call good = good_call(type, backward ? BACKWARD : FORWARD);
    const int32_t same = (int32_t)type, other = type == LNORM_F32 ? LNORM_F64 : LNORM_F32;
    unsigned char *before = test_allocate(POOL);

    ACCEPTED((void)c);
    REFUSED(LNORM_ERROR_STRUCT, c.problem.struct_size = 0);
    REFUSED(LNORM_ERROR_STRUCT, c.problem.struct_size--);
    REFUSED(LNORM_ERROR_STRUCT, c.problem.struct_size += 8);
    REFUSED(LNORM_ERROR_STRUCT, c.problem.struct_size = SIZE_MAX);
    REFUSED(LNORM_ERROR_OPERATION, c.problem.operation = 2);
    REFUSED(LNORM_ERROR_OPERATION, c.problem.operation = -1);
    REFUSED(LNORM_ERROR_TYPE, c.problem.x_type = 5);
    REFUSED(LNORM_ERROR_TYPE, c.problem.x_type = -1);
    REFUSED(LNORM_ERROR_TYPE, c.problem.x_type = other; c.problem.y_type = same);
    REFUSED(LNORM_ERROR_TYPE, c.problem.y_type = other);
    REFUSED(LNORM_ERROR_TYPE, c.problem.y_type = 5);
    REFUSED(LNORM_ERROR_TYPE, c.problem.x_type = LNORM_F64; c.problem.y_type = LNORM_F16);
    REFUSED(LNORM_ERROR_TYPE, c.problem.param_type = other);
    REFUSED(LNORM_ERROR_TYPE, c.problem.param_type = -1);
    REFUSED(LNORM_ERROR_TYPE, c.problem.param_type = LNORM_F16);
    REFUSED(LNORM_ERROR_TYPE, c.problem.x_type = c.problem.y_type = LNORM_BF16; c.problem.param_type = LNORM_F16);
    ACCEPTED(c.problem.y_type = c.problem.param_type = same);
    REFUSED(LNORM_ERROR_NULL, c.problem.operation = LNORM_RMS_NORM); /* mean is given */
    ACCEPTED(c.problem.operation = LNORM_RMS_NORM; c.a[MEAN] = NULL);
    REFUSED(LNORM_ERROR_FLAGS, c.problem.flags = 16);
    REFUSED(LNORM_ERROR_FLAGS, c.problem.flags = 0x80000000u);
    REFUSED(LNORM_ERROR_FLAGS, c.problem.reserved = 1);
    REFUSED(LNORM_ERROR_INNER, c.problem.inner = -1);
    REFUSED(LNORM_ERROR_SIZE, c.problem.inner = INT64_MAX);
    ACCEPTED(c.problem.inner = 1);

    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = -1);
    REFUSED(LNORM_ERROR_SIZE, c.problem.norm = -1);
    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = INT64_MIN);
    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = INT64_MAX);
    REFUSED(LNORM_ERROR_SIZE, c.problem.norm = INT64_MAX);
    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = INT64_C(1) << 32; c.problem.norm = INT64_C(1) << 32);
    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = INT64_C(1) << 31; c.problem.norm = INT64_C(1) << 31);
    REFUSED(LNORM_ERROR_SIZE, c.problem.outer = 1; c.problem.norm = INT64_C(1) << 62);
    REFUSED(LNORM_ERROR_SIZE, c.problem.x_stride = INT64_MAX);
    REFUSED(LNORM_ERROR_SIZE, c.problem.x_stride = INT64_MIN + 1);
    REFUSED(LNORM_ERROR_SIZE, c.problem.x_stride = INT64_C(1) << 58);
    free(before);
}

static void test_refused_forward(lnorm_type type)
{
    const call good = good_call(type, FORWARD);
    const size_t e = type_size(type);
    unsigned char *before = test_allocate(POOL);

#define AT(argument, element) (void *)((unsigned char *)good.a[argument] + (size_t)(element) * e)
    memcpy(before, pool, POOL);
    expect_refused(lnorm_forward(NULL, good.a[X], NULL, NULL, good.a[Y], NULL, NULL), LNORM_ERROR_STRUCT, before,
                   "problem = NULL");

    REFUSED(LNORM_ERROR_SIZE, c.problem.y_stride = INT64_MAX);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.y_stride = COLS - 1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.y_stride = 1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.y_stride = -1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.y_stride = 1 - COLS; c.a[Y] = AT(Y, ROWS * COLS));
    REFUSED(LNORM_ERROR_STRIDE, c.problem.y_stride = LNORM_BROADCAST);
    ACCEPTED(c.problem.y_stride = COLS);
    ACCEPTED(c.problem.x_stride = 1);
    /* y in x's memory, but of another size */
    if (type == LNORM_F32) {
        REFUSED(LNORM_ERROR_OVERLAP, c.problem.y_type = LNORM_F16; c.a[Y] = c.a[X]);
        ACCEPTED(c.problem.x_type = LNORM_BF16; c.problem.y_type = LNORM_F16; c.a[Y] = c.a[X]);
    }
    ACCEPTED(c.problem.x_stride = LNORM_BROADCAST);

    REFUSED(LNORM_ERROR_EPS, c.problem.eps = -1e-5);
    REFUSED(LNORM_ERROR_EPS, c.problem.eps = -1e-300);
    REFUSED(LNORM_ERROR_EPS, c.problem.eps = (double)NAN);
    REFUSED(LNORM_ERROR_EPS, c.problem.eps = (double)INFINITY);
    REFUSED(LNORM_ERROR_EPS, c.problem.eps = -(double)INFINITY);
    ACCEPTED(c.problem.eps = 0.0);

    REFUSED(LNORM_ERROR_NULL, c.a[X] = NULL);
    REFUSED(LNORM_ERROR_NULL, c.a[Y] = NULL);

    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[X] = AT(Y, 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, ROWS * COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[X] = AT(Y, ROWS * COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, COLS));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = c.a[X]; c.problem.y_stride = COLS + 1);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = c.a[X]; c.problem.x_stride = LNORM_BROADCAST);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[X] = AT(Y, (ROWS - 1) * COLS); c.problem.x_stride = -COLS);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, COLS - 1); c.problem.x_stride = c.problem.y_stride = 2 * COLS);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, COLS + 1); c.problem.x_stride = c.problem.y_stride = 2 * COLS);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = AT(X, COLS); c.problem.x_stride = 2 * COLS;
            c.problem.y_stride = 2 * COLS + 1);
    ACCEPTED(c.a[Y] = AT(X, COLS); c.problem.x_stride = c.problem.y_stride = 2 * COLS);
    ACCEPTED(c.a[Y] = AT(X, ROWS * COLS));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[GAMMA] = AT(Y, 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[BETA] = AT(Y, ROWS * COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[MEAN] = AT(Y, 3));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[RSTD] = AT(Y, 3));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[MEAN] = c.a[RSTD]);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[RSTD] = AT(MEAN, ROWS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[MEAN] = AT(X, ROWS * COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[RSTD] = c.a[X]);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[MEAN] = c.a[GAMMA]);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[RSTD] = AT(BETA, COLS - 1));
    ACCEPTED(c.a[GAMMA] = c.a[BETA] = c.a[X]);
    free(before);
}

static void test_refused_backward(lnorm_type type)
{
    const call good = good_call(type, BACKWARD);
    const size_t e = type_size(type);
    unsigned char *before = test_allocate(POOL);

    memcpy(before, pool, POOL);
    expect_refused(
        lnorm_backward(NULL, good.a[DY], good.a[X], good.a[MEAN], good.a[RSTD], NULL, good.a[DX], NULL, NULL, NULL, 0),
        LNORM_ERROR_STRUCT, before, "problem = NULL");

    REFUSED(LNORM_ERROR_SIZE, c.problem.dy_stride = INT64_MAX);
    REFUSED(LNORM_ERROR_SIZE, c.problem.dx_stride = INT64_MIN + 1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.dx_stride = COLS - 1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.dx_stride = -1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.dx_stride = LNORM_BROADCAST);
    ACCEPTED(c.problem.dy_stride = 1; c.problem.x_stride = LNORM_BROADCAST);

    REFUSED(LNORM_ERROR_NULL, c.a[DY] = NULL);
    REFUSED(LNORM_ERROR_NULL, c.a[X] = NULL);
    REFUSED(LNORM_ERROR_NULL, c.a[MEAN] = NULL);
    REFUSED(LNORM_ERROR_NULL, c.a[RSTD] = NULL);

    if (CHECK(good.workspace_size > 0)) { /* the shape was chosen so */
        REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = NULL);
        REFUSED(LNORM_ERROR_WORKSPACE, c.workspace_size--);
        REFUSED(LNORM_ERROR_WORKSPACE, c.workspace_size = 0);
        REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = (unsigned char *)c.a[WORKSPACE] + 1);
        REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = (unsigned char *)c.a[WORKSPACE] + e / 2);
        REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = NULL; c.a[DGAMMA] = NULL);
        REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = NULL; c.a[DBETA] = NULL);
    }
    ACCEPTED(c.workspace_size++);
    ACCEPTED(c.a[WORKSPACE] = AT(WORKSPACE, 1));
    ACCEPTED(c.a[WORKSPACE] = c.a[DGAMMA] = c.a[DBETA] = NULL; c.workspace_size = 0);

    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = AT(DY, 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DY] = AT(DX, 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = AT(X, ROWS * COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[X] = AT(DX, COLS));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = c.a[DY]; c.problem.dx_stride = COLS + 1);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = c.a[X]; c.problem.x_stride = LNORM_BROADCAST);
    ACCEPTED(c.a[DX] = c.a[DY] = c.a[X]);
    for (int output = DX; output <= WORKSPACE; output++) {
        for (int argument = 0; argument < ARGUMENTS; argument++) {
            const bool into_its_source = output == DX && (argument == X || argument == DY);
            if (argument == output || argument == BETA || argument == Y || into_its_source) {
                continue;
            }
            if (output != WORKSPACE) { /* the last element of the output is the first of the argument */
                const size_t last = argument_length(output, ROWS, COLS) - 1;
                REFUSED(LNORM_ERROR_OVERLAP, c.a[argument] = AT(output, last));
            } else {
                REFUSED(LNORM_ERROR_OVERLAP, c.a[argument] = c.a[WORKSPACE]);
            }
        }
    }
    ACCEPTED(c.a[MEAN] = c.a[RSTD] = c.a[GAMMA] = c.a[X] = c.a[DY]);
#undef AT
    free(before);
}

/* The typed calls check as the general form does. */
static void test_refused_flat(lnorm_type type)
{
    const call good = good_call(type, FORWARD);
    const size_t overflowing[][2] = {{SIZE_MAX, 2}, {2, SIZE_MAX}, {SIZE_MAX / 2, 3}, {SIZE_MAX / 2, 1}, {1, SIZE_MAX}};
    unsigned char *before = test_allocate(POOL);
    memcpy(before, pool, POOL);

    for (size_t i = 0; i < sizeof overflowing / sizeof overflowing[0]; i++) {
        const size_t rows = overflowing[i][0], cols = overflowing[i][1];
        expect_refused(flat_forward(type, rows, cols, 1e-5, good.a), LNORM_ERROR_SIZE, before, "forward");
        expect_refused(flat_backward(type, rows, cols, good.a, SLOT), LNORM_ERROR_SIZE, before, "backward");
        CHECK(workspace_bytes(type, rows, cols) == SIZE_MAX);
    }
    expect_refused(flat_forward(type, ROWS, COLS, (double)NAN, good.a), LNORM_ERROR_EPS, before, "eps = NaN");
    expect_refused(flat_forward(type, ROWS, COLS, type == LNORM_F32 ? 0x1p128 : (double)INFINITY, good.a),
                   LNORM_ERROR_EPS, before, "eps beyond the type");
    expect_refused(flat_backward(type, ROWS, COLS, good.a, good.workspace_size - 1), LNORM_ERROR_WORKSPACE, before,
                   "workspace_size - 1");
    call c = good;
    c.a[X] = NULL;
    expect_refused(flat_forward(type, ROWS, COLS, 1e-5, c.a), LNORM_ERROR_NULL, before, "x = NULL");
    expect_refused(flat_backward(type, ROWS, COLS, c.a, c.workspace_size), LNORM_ERROR_NULL, before, "x = NULL");
    c.a[X] = (unsigned char *)good.a[Y] + type_size(type);
    expect_refused(flat_forward(type, ROWS, COLS, 1e-5, c.a), LNORM_ERROR_OVERLAP, before, "x = y + 1");
    free(before);
}

/* What every call refuses, and what is refused of parameters, residuals, scales and moments. */
static void test_refused_others(lnorm_type type)
{
    unsigned char *before = test_allocate(POOL);
    for (which which = ADD_FORWARD; which <= MERGE_GRAD_MOMENTS; which++) {
        const call good = good_call(type, which);
        const bool merges = which >= MERGE_MOMENTS;
        if (which == QUANTIZED_FORWARD) {
            continue;
        }
        ACCEPTED((void)c);
        REFUSED(LNORM_ERROR_STRUCT, c.problem.struct_size = 1);
        REFUSED(LNORM_ERROR_OPERATION, c.problem.operation = 7);
        REFUSED(LNORM_ERROR_TYPE, c.problem.y_type = LNORM_I8);
        REFUSED(LNORM_ERROR_FLAGS, c.problem.flags = 16);
        REFUSED(LNORM_ERROR_SIZE, c.problem.outer = INT64_MAX);
        REFUSED(LNORM_ERROR_PARAMS, c.problem.param_rows = 3);
        REFUSED(LNORM_ERROR_PARAMS, c.problem.param_rows = 4; c.problem.param_repeat = 2);
        REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = 3);
        REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = -1);
        REFUSED(LNORM_ERROR_INNER, c.problem.param_run = 2; c.problem.inner = 2);
        if (!merges) {
            REFUSED(LNORM_ERROR_NULL, c.a[X] = c.a[Y] = c.a[DY] = c.a[MOMENTS] = c.a[TOTAL] = NULL);
            REFUSED(LNORM_ERROR_SIZE, c.problem.x_stride = c.problem.total_stride = INT64_MAX / 8;
                    c.problem.y_stride = INT64_MAX / 8);
        }
        if (which == APPLY_MOMENTS || which == GRAD_MOMENTS_OF || which == APPLY_GRAD_MOMENTS || which == MOMENTS_OF) {
            REFUSED(LNORM_ERROR_EPS, c.problem.eps = -1.0);
            REFUSED(LNORM_ERROR_NULL, c.a[MOMENTS] = NULL);
        }
    }

    call good = good_call(type, ADD_FORWARD);
    REFUSED(LNORM_ERROR_NULL, c.a[RESIDUAL] = NULL);
    REFUSED(LNORM_ERROR_NULL, c.a[TOTAL] = NULL);
    REFUSED(LNORM_ERROR_INNER, c.problem.inner = 2);
    REFUSED(LNORM_ERROR_INNER, c.problem.x_norm_stride = 2);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.residual_rows = 3);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.residual_rows = -1);
    REFUSED(LNORM_ERROR_STRIDE, c.problem.total_stride = COLS - 1);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = c.a[TOTAL]);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[TOTAL] = (char *)c.a[X] + type_size(type));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[TOTAL] = c.a[RESIDUAL]; c.problem.residual_rows = ROWS / 2);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[TOTAL] = c.a[INPUT_BIAS]);
    ACCEPTED(c.a[TOTAL] = c.a[X]);
    ACCEPTED(c.a[TOTAL] = c.a[RESIDUAL]);
    ACCEPTED(c.a[Y] = c.a[X]);
    ACCEPTED(c.a[Y] = c.a[RESIDUAL]; c.a[TOTAL] = c.a[X]);
    ACCEPTED(c.problem.residual_rows = 1; c.a[INPUT_BIAS] = NULL);
    ACCEPTED(c.problem.residual_stride = LNORM_BROADCAST);

    good = good_call(type, ADD_BACKWARD);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = 2);
    REFUSED(LNORM_ERROR_INNER, c.problem.inner = 2);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = (char *)c.a[DTOTAL] + type_size(type));
    ACCEPTED(c.a[DTOTAL] = NULL);
    ACCEPTED(c.a[DX] = c.a[DTOTAL]);

    good = good_call(type, QUANTIZED_FORWARD);
    good.problem.y_type = LNORM_I8;
    good.a[ZERO_POINT] = NULL;
    set_value(type, good.a[SCALE], 0, 0.25);
    ACCEPTED((void)c);
    REFUSED(LNORM_ERROR_TYPE, c.problem.y_type = (int32_t)type);
    REFUSED(LNORM_ERROR_NULL, c.a[SCALE] = NULL);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = c.a[X]);
    int32_t zero_point = 128;
    REFUSED(LNORM_ERROR_SCALE, c.a[ZERO_POINT] = &zero_point);
    zero_point = -129;
    REFUSED(LNORM_ERROR_SCALE, c.a[ZERO_POINT] = &zero_point);
    REFUSED(LNORM_ERROR_SCALE, c.a[ZERO_POINT] = &zero_point; c.problem.flags = LNORM_DYNAMIC_SCALE);
    REFUSED(LNORM_ERROR_NULL, c.problem.y_type = LNORM_U8; c.problem.flags = LNORM_DYNAMIC_SCALE);
    ACCEPTED(c.problem.flags = LNORM_DYNAMIC_SCALE);
    for (int i = 0; i < 4; i++) {
        set_value(type, good.a[SCALE], 0, i == 0 ? 0.0 : i == 1 ? -1.0 : i == 2 ? (double)NAN : (double)INFINITY);
        REFUSED(LNORM_ERROR_SCALE, (void)c);
    }

    good = good_call(type, BACKWARD_FROM_Y);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = 2);
    REFUSED(LNORM_ERROR_NULL, c.a[RSTD] = NULL);
    REFUSED(LNORM_ERROR_WORKSPACE, c.workspace_size--);
    good = good_call(type, APPLY_GRAD_MOMENTS);
    REFUSED(LNORM_ERROR_NULL, c.a[GRAD_MOMENTS] = NULL);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_rows = 2);
    REFUSED(LNORM_ERROR_WORKSPACE, c.a[WORKSPACE] = NULL);
    good = good_call(type, MERGE_MOMENTS);
    REFUSED(LNORM_ERROR_SIZE, c.count_a = -1);
    REFUSED(LNORM_ERROR_SIZE, c.count_b = INT64_MAX);
    REFUSED(LNORM_ERROR_NULL, c.a[Y] = NULL);
    REFUSED(LNORM_ERROR_OVERLAP, c.a[Y] = (char *)c.a[MOMENTS] + type_size(type));
    ACCEPTED(c.a[Y] = c.a[MOMENTS]);
    ACCEPTED(c.a[Y] = c.a[GRAD_MOMENTS]);
    free(before);
}

static void test_workspace_query(lnorm_type type)
{
    lnorm_problem problem = good_call(type, BACKWARD).problem;
    size_t size = 1;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    CHECK(size == workspace_bytes(type, ROWS, COLS));
    CHECK(lnorm_backward_workspace(NULL, &size) == LNORM_ERROR_STRUCT);
    CHECK(size == SIZE_MAX);
    size = 1;
    problem.flags = 16;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_ERROR_FLAGS);
    CHECK(size == SIZE_MAX);
}

/* ---- Samples: all arguments of a shape, with values; the outputs hold rubbish until they are run ---- */

typedef struct sample {
    lnorm_type type;
    size_t rows, cols;
    void *a[ARGUMENTS];
} sample;

static bool is_output(int argument)
{
    return (argument >= Y && argument <= RSTD) || (argument >= DX && argument <= DBETA);
}

static size_t bytes_of(const sample *s, int argument)
{
    return argument_bytes(argument, s->type, s->rows, s->cols);
}

static sample new_sample(lnorm_type type, size_t rows, size_t cols)
{
    sample s = {.type = type, .rows = rows, .cols = cols};
    uint64_t random = rows * 1000003 + cols;
    for (int i = 0; i < ARGUMENTS; i++) {
        s.a[i] = test_allocate(bytes_of(&s, i));
        memset(s.a[i], GUARD_CANARY, bytes_of(&s, i));
        if (i == X || i == GAMMA || i == BETA || i == DY) {
            fill_values(type, s.a[i], argument_length(i, rows, cols), i == DY ? 0.0 : 0.5, 1.0, &random);
        }
    }
    return s;
}

/* The same inputs, and the statistics too, which backward reads. */
static sample copy_inputs(const sample *s)
{
    sample copy = new_sample(s->type, s->rows, s->cols);
    for (int i = 0; i < ARGUMENTS; i++) {
        if (!is_output(i) || i == MEAN || i == RSTD) {
            memcpy(copy.a[i], s->a[i], bytes_of(s, i));
        }
    }
    return copy;
}

static void free_sample(sample *s)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        free(s->a[i]);
    }
}

static void run_forward(const sample *s, void *const a[])
{
    CHECK(flat_forward(s->type, s->rows, s->cols, 1e-5, a) == LNORM_OK);
}

static void run_backward(const sample *s, void *const a[])
{
    CHECK(flat_backward(s->type, s->rows, s->cols, a, bytes_of(s, WORKSPACE)) == LNORM_OK);
}

static void run_sample(const sample *s)
{
    run_forward(s, s->a);
    run_backward(s, s->a);
}

static void check_same(const sample *expected, int argument, const void *got, const char *what)
{
    const size_t count = argument_length(argument, expected->rows, expected->cols);
    const size_t i = first_difference(expected->type, expected->a[argument], got, count);
    if (!CHECK(i == count)) {
        printf("  %s, %s %s %zu x %zu: %s[%zu] is %a, expected %a\n", what, lnorm_isa(), type_name(expected->type),
               expected->rows, expected->cols, argument_names[argument], i, get_value(expected->type, got, i),
               get_value(expected->type, expected->a[argument], i));
    }
}

static void check_same_outputs(const sample *expected, const sample *got, const char *what)
{
    for (int i = 0; i < ARGUMENTS; i++) {
        if (is_output(i)) {
            check_same(expected, i, got->a[i], what);
        }
    }
}

static bool all_zero(lnorm_type type, const void *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(get_value(type, values, i) == 0.0)) {
            return false;
        }
    }
    return true;
}

/* ---- Shapes at the edge ---- */

static void test_no_elements(lnorm_type type)
{
    static const size_t shapes[][2] = {{0, 5}, {5, 0}, {0, 0}};
    for (size_t i = 0; i < 3; i++) {
        const size_t rows = shapes[i][0], cols = shapes[i][1];
        void *nothing[ARGUMENTS] = {NULL};
        CHECK(flat_forward(type, rows, cols, 1e-5, nothing) == LNORM_OK);
        CHECK(flat_backward(type, rows, cols, nothing, 0) == LNORM_OK);
        CHECK(flat_forward(type, rows, cols, -1.0, nothing) == LNORM_ERROR_EPS);

        sample s = new_sample(type, rows, cols);
        run_sample(&s);
        CHECK(all_zero(type, s.a[DGAMMA], cols));
        CHECK(all_zero(type, s.a[DBETA], cols));
        for (size_t r = 0; r < rows; r++) {
            CHECK(isnan(get_value(type, s.a[MEAN], r)) && isnan(get_value(type, s.a[RSTD], r)));
        }
        free_sample(&s);
    }
}

/* Rows of no elements have a scale and a zero point too. */
static void test_scale_of_no_elements(lnorm_type type)
{
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        lnorm_problem problem = LNORM_PROBLEM_INIT;
        double scale[4] = {9, 9, 9, 9};
        int32_t zero_point[3] = {9, 9, 9};
        problem.x_type = (int32_t)type;
        problem.y_type = is_signed ? LNORM_I8 : LNORM_U8;
        problem.flags = LNORM_DYNAMIC_SCALE;
        problem.outer = 3;
        set_value(type, scale, 3, 9);
        CHECK(lnorm_quantized_forward(&problem, NULL, NULL, NULL, NULL, scale, is_signed ? NULL : zero_point, NULL,
                                      NULL) == LNORM_OK);
        for (size_t r = 0; r < 3; r++) {
            CHECK(get_value(type, scale, r) == 1);
            CHECK(zero_point[r] == (is_signed ? 9 : 0));
        }
        CHECK(get_value(type, scale, 3) == 9);
    }
}

static void test_one_column(lnorm_type type)
{
    const double unit = type == LNORM_F32 ? 0x1p-24 : 0x1p-53;
    for (int with_beta = 0; with_beta < 2; with_beta++) {
        for (int with_eps = 0; with_eps < 2; with_eps++) {
            sample s = new_sample(type, 21, 1);
            void *a[ARGUMENTS];
            memcpy(a, s.a, sizeof a);
            if (!with_beta) {
                a[BETA] = NULL;
            }
            CHECK(flat_forward(type, s.rows, 1, with_eps ? 1e-5 : 0.0, a) == LNORM_OK);
            run_backward(&s, a);
            for (size_t r = 0; r < s.rows; r++) {
                CHECK(get_value(type, s.a[Y], r) == (with_beta ? get_value(type, s.a[BETA], 0) : 0.0));
                CHECK(with_eps || get_value(type, s.a[RSTD], r) == 0.0);
                /* rstd * (g - mean(g)) to within a rounding of g = dy * gamma */
                const double g = get_value(type, s.a[DY], r) * get_value(type, s.a[GAMMA], 0);
                CHECK(fabs(get_value(type, s.a[DX], r)) <= unit * fabs(g) * get_value(type, s.a[RSTD], r));
            }
            CHECK(first_difference(type, s.a[X], s.a[MEAN], s.rows) == s.rows);
            CHECK(all_zero(type, s.a[DGAMMA], 1));
            free_sample(&s);
        }
    }
}

/* ---- Values: each on every instruction set, type and shape below ---- */

static const size_t value_shapes[][2] = {{1, 1}, {5, 37}, {2, 1000}, {33, 100}, {150, 5}, {200, 300}, {70, 5000}};

/* A row depends on itself alone: on no other row, however many there are, and not on what is spoilt. */
static void test_rows_are_independent(const sample *s)
{
    const size_t row_bytes = s->cols * type_size(s->type);
    for (size_t r = 0; r < s->rows; r++) {
        sample one = new_sample(s->type, 1, s->cols);
        memcpy(one.a[X], (char *)s->a[X] + r * row_bytes, row_bytes);
        memcpy(one.a[DY], (char *)s->a[DY] + r * row_bytes, row_bytes);
        memcpy(one.a[GAMMA], s->a[GAMMA], row_bytes);
        memcpy(one.a[BETA], s->a[BETA], row_bytes);
        run_sample(&one);
        check_same(&one, Y, (char *)s->a[Y] + r * row_bytes, "a row alone");
        check_same(&one, DX, (char *)s->a[DX] + r * row_bytes, "a row alone");
        check_same(&one, MEAN, (char *)s->a[MEAN] + r * type_size(s->type), "a row alone");
        check_same(&one, RSTD, (char *)s->a[RSTD] + r * type_size(s->type), "a row alone");
        free_sample(&one);
    }

    const double spoilers[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++) {
        const size_t spoilt = s->rows / 2;
        sample got = copy_inputs(s);
        set_value(s->type, got.a[X], spoilt * s->cols + s->cols / 2, spoilers[i]);
        run_sample(&got);
        for (size_t c = 0; i == 0 && c < s->cols; c++) {
            CHECK(isnan(get_value(s->type, got.a[Y], spoilt * s->cols + c)));
            CHECK(isnan(get_value(s->type, got.a[DX], spoilt * s->cols + c)));
        }
        memcpy((char *)got.a[Y] + spoilt * row_bytes, (char *)s->a[Y] + spoilt * row_bytes, row_bytes);
        memcpy((char *)got.a[DX] + spoilt * row_bytes, (char *)s->a[DX] + spoilt * row_bytes, row_bytes);
        set_value(s->type, got.a[MEAN], spoilt, get_value(s->type, s->a[MEAN], spoilt));
        set_value(s->type, got.a[RSTD], spoilt, get_value(s->type, s->a[RSTD], spoilt));
        check_same(s, Y, got.a[Y], "another row spoilt");
        check_same(s, DX, got.a[DX], "another row spoilt");
        check_same(s, MEAN, got.a[MEAN], "another row spoilt");
        check_same(s, RSTD, got.a[RSTD], "another row spoilt");
        check_same(s, DBETA, got.a[DBETA], "another row spoilt");
        free_sample(&got);
    }
}

static void test_absent_arguments(const sample *s)
{
    /* gamma and beta: NULL is 1 and 0. Equal, but not the same bits: -0 + 0 is 0. */
    sample filled = copy_inputs(s), absent = copy_inputs(s);
    for (size_t c = 0; c < s->cols; c++) {
        set_value(s->type, filled.a[GAMMA], c, 1.0);
        set_value(s->type, filled.a[BETA], c, 0.0);
    }
    run_sample(&filled);
    void *a[ARGUMENTS];
    memcpy(a, absent.a, sizeof a);
    a[GAMMA] = a[BETA] = NULL;
    run_forward(s, a);
    run_backward(s, a);
    for (int i = 0; i < ARGUMENTS; i++) {
        for (size_t k = 0; is_output(i) && k < argument_length(i, s->rows, s->cols); k++) {
            CHECK(get_value(s->type, filled.a[i], k) == get_value(s->type, absent.a[i], k));
        }
    }
    free_sample(&filled);
    free_sample(&absent);

    /* What is asked for does not depend on what is not; and what is not asked for is not written. */
    for (unsigned wanted = 0; wanted < 8; wanted++) {
        sample got = copy_inputs(s);
        memcpy(a, got.a, sizeof a);
        a[MEAN] = wanted & 1 ? got.a[MEAN] : NULL;
        a[RSTD] = wanted & 2 ? got.a[RSTD] : NULL;
        run_forward(s, a);
        check_same(s, Y, got.a[Y], "some statistics");
        check_same(s, MEAN, got.a[MEAN], "some statistics");
        check_same(s, RSTD, got.a[RSTD], "some statistics");
        memcpy(a, got.a, sizeof a);
        for (int i = 0; i < 3; i++) {
            if (!(wanted & 1u << i)) {
                a[DX + i] = NULL;
            }
        }
        if (!a[DGAMMA] && !a[DBETA]) {
            a[WORKSPACE] = NULL;
        }
        CHECK(flat_backward(s->type, s->rows, s->cols, a, a[WORKSPACE] ? bytes_of(s, WORKSPACE) : 0) == LNORM_OK);
        for (int i = DX; i <= DBETA; i++) {
            if (a[i]) {
                check_same(s, i, a[i], "some gradients");
            }
        }
        free_sample(&got);
    }
}

static void test_in_place(const sample *s)
{
    for (int i = 0; i < 3; i++) {
        const int outputs[] = {Y, DX, DX}, inputs[] = {X, DY, X};
        sample got = copy_inputs(s);
        void *a[ARGUMENTS];
        memcpy(a, got.a, sizeof a);
        a[outputs[i]] = a[inputs[i]];
        (outputs[i] == Y ? run_forward : run_backward)(s, a);
        check_same(s, outputs[i], a[outputs[i]], "in place");
        for (int other = 0; other < ARGUMENTS; other++) {
            if (is_output(other) && other != Y && other != DX && (other < DX) == (outputs[i] == Y)) {
                check_same(s, other, a[other], "in place");
            }
        }
        free_sample(&got);
    }
}

/* ---- The general form: layouts and hooks ---- */

static lnorm_problem problem_of(const sample *s)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = (int32_t)s->type;
    problem.outer = (int64_t)s->rows;
    problem.norm = (int64_t)s->cols;
    problem.eps = 1e-5;
    return problem;
}

static void run_general(const sample *s, const lnorm_problem *problem, void *const a[])
{
    call c = {.which = FORWARD, .problem = *problem, .workspace_size = bytes_of(s, WORKSPACE)};
    memcpy(c.a, a, ARGUMENTS * sizeof *c.a);
    CHECK(run(&c) == LNORM_OK);
    c.which = BACKWARD;
    CHECK(run(&c) == LNORM_OK);
}

/* Rows of the dense tensor into the strided one. */
static void scatter(const sample *s, int argument, unsigned char *first, int64_t stride)
{
    const size_t row_bytes = s->cols * type_size(s->type);
    for (size_t r = 0; r < s->rows; r++) {
        memcpy(first + (ptrdiff_t)r * (ptrdiff_t)stride * (ptrdiff_t)type_size(s->type),
               (char *)s->a[argument] + r * row_bytes, row_bytes);
    }
}

static void test_strides(const sample *s)
{
    enum { GAPS, REVERSED, DIFFERENT, INTERLEAVED, INTERLEAVED_REVERSED, LAYOUTS };
    static const char *const names[LAYOUTS] = {"gaps", "reversed", "different strides", "interleaved",
                                               "interleaved, reversed"};
    static const int tensors[4] = {X, Y, DY, DX}, others[4] = {MEAN, RSTD, DGAMMA, DBETA};
    const size_t size = type_size(s->type), memory_bytes = 4 * s->rows * (s->cols + 5) * size;
    const int64_t rows = (int64_t)s->rows, cols = (int64_t)s->cols;
    unsigned char *memory = test_allocate(memory_bytes), *expected = test_allocate(memory_bytes);

    for (int layout = 0; layout < LAYOUTS; layout++) {
        int64_t first[4], stride[4];
        sample got = copy_inputs(s);
        void *a[ARGUMENTS];
        memcpy(a, got.a, sizeof a);
        memset(memory, GUARD_CANARY, memory_bytes);
        memset(expected, GUARD_CANARY, memory_bytes);
        for (int t = 0; t < 4; t++) {
            const bool interleaved = layout >= INTERLEAVED;
            stride[t] = interleaved ? 4 * cols : cols + (layout == DIFFERENT ? t : 5);
            first[t] = interleaved ? t * cols : t * rows * (cols + 5);
            if (layout == REVERSED || layout == INTERLEAVED_REVERSED || (layout == DIFFERENT && t % 2)) {
                first[t] += (rows - 1) * stride[t];
                stride[t] = -stride[t];
            }
            a[tensors[t]] = memory + (size_t)first[t] * size;
            scatter(s, tensors[t], expected + (size_t)first[t] * size, stride[t]);
        }
        scatter(s, X, a[X], stride[0]);
        scatter(s, DY, a[DY], stride[2]);

        lnorm_problem problem = problem_of(s);
        problem.x_stride = stride[0];
        problem.y_stride = stride[1];
        problem.dy_stride = stride[2];
        problem.dx_stride = stride[3];
        run_general(s, &problem, a);
        if (!CHECK(memcmp(memory, expected, memory_bytes) == 0)) {
            printf("  %s, %s %s %zu x %zu: not the dense values, or the gaps were written\n", names[layout],
                   lnorm_isa(), type_name(s->type), s->rows, s->cols);
        }
        for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
            check_same(s, others[i], got.a[others[i]], names[layout]);
        }
        free_sample(&got);
    }
    free(memory);
    free(expected);
}

static void test_broadcast(const sample *s)
{
    sample dense = copy_inputs(s), got = copy_inputs(s);
    for (size_t r = 0; r < s->rows; r++) {
        memcpy((char *)dense.a[X] + r * s->cols * type_size(s->type), s->a[X], s->cols * type_size(s->type));
        memcpy((char *)dense.a[DY] + r * s->cols * type_size(s->type), s->a[DY], s->cols * type_size(s->type));
    }
    run_sample(&dense);
    lnorm_problem problem = problem_of(s);
    problem.x_stride = problem.dy_stride = LNORM_BROADCAST;
    run_general(s, &problem, got.a);
    check_same_outputs(&dense, &got, "broadcast");
    free_sample(&dense);
    free_sample(&got);
}

static void run_scrambled(void *context, size_t count, lnorm_task task, void *argument)
{
    for (size_t i = count; i > 0; i--) {
        const size_t neighbour = (i - 1) ^ 1;
        task(argument, neighbour < count ? neighbour : i - 1);
    }
    ++*(size_t *)context;
}

static void test_hooks(const sample *s)
{
    const lnorm_parallel_for hooks[] = {NULL, run_scrambled,
#ifdef TEST_POSIX
                                        run_threads
#endif
    };
    for (size_t i = 0; i < sizeof hooks / sizeof hooks[0]; i++) {
        size_t calls = 0;
        sample got = copy_inputs(s);
        lnorm_problem problem = problem_of(s);
        problem.parallel_for = hooks[i];
        problem.parallel_context = &calls;
        run_general(s, &problem, got.a);
        check_same_outputs(s, &got, hooks[i] ? "hook" : "no hook");
        const bool large = s->rows * s->cols >= 60000; /* must be shared out; small ones may be */
        CHECK(hooks[i] ? calls >= 2 || !large : calls == 0);
        free_sample(&got);
    }
}

static void test_values(lnorm_type type)
{
    for (size_t i = 0; i < sizeof value_shapes / sizeof value_shapes[0]; i++) {
        sample s = new_sample(type, value_shapes[i][0], value_shapes[i][1]);
        run_sample(&s);
        test_rows_are_independent(&s);
        test_absent_arguments(&s);
        test_in_place(&s);
        test_strides(&s);
        test_broadcast(&s);
        test_hooks(&s);
        free_sample(&s);
    }
}

/* ---- Version, texts, instruction sets ---- */

/* A row of equal numbers, however large or small, has the rstd that eps alone gives it, in pieces too. */
static void test_equal_numbers(lnorm_type type)
{
    const bool is_double = type == LNORM_F64;
    const double epsilons[] = {0.25, ldexp(9.0, is_double ? -1004 : -104)}, tolerance = is_double ? 1e-15 : 1e-6;
    for (int exponent = is_double ? -1070 : -145; exponent < (is_double ? 1024 : 128); exponent++) {
        for (int i = 0; i < 4; i++) {
            const double eps = epsilons[i / 2], expected = 1 / sqrt(eps);
            lnorm_problem problem = LNORM_PROBLEM_INIT;
            uint64_t x[4], y[4], moments[LNORM_MOMENTS], rstd;
            problem.x_type = (int32_t)type;
            problem.outer = 1;
            problem.norm = 4;
            for (size_t k = 0; k < 4; k++) {
                set_value(type, x, k, ldexp(1.5, exponent));
            }
            if (i % 2 != 0) {
                CHECK(lnorm_moments(&problem, x, moments) == LNORM_OK); /* of eps nothing is known yet */
                problem.eps = eps;
                CHECK(lnorm_apply_moments(&problem, x, moments, NULL, NULL, y, NULL, &rstd) == LNORM_OK);
            } else {
                problem.eps = eps;
                CHECK(lnorm_forward(&problem, x, NULL, NULL, y, NULL, &rstd) == LNORM_OK);
            }
            CHECK(fabs(get_value(type, &rstd, 0) / expected - 1) < tolerance);
        }
    }
}

/* The gradient's moments of a row of equal numbers, which is summed again after the others, with its own gamma. */
static void test_gamma_of_equal_numbers(lnorm_type type)
{
    enum { ROWS = 3, COLS = 2 };
    const size_t size = type_size(type);
    uint64_t x[ROWS * COLS], dy[ROWS * COLS], gamma[ROWS * COLS], moments[ROWS * LNORM_MOMENTS];
    uint64_t together[ROWS * LNORM_GRAD_MOMENTS], alone[LNORM_GRAD_MOMENTS];
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = (int32_t)type;
    problem.flags = LNORM_GAMMA_PLUS_ONE;
    problem.outer = problem.param_rows = ROWS;
    problem.norm = COLS;
    problem.eps = 1;
    for (size_t i = 0; i < ROWS * COLS; i++) {
        set_value(type, x, i, 5);
        set_value(type, dy, i, 0.5);
        set_value(type, gamma, i, (double)i);
    }
    CHECK(lnorm_moments(&problem, x, moments) == LNORM_OK);
    CHECK(lnorm_grad_moments(&problem, dy, x, moments, gamma, together) == LNORM_OK);
    problem.outer = problem.param_rows = 1;
    for (size_t row = 0; row < ROWS; row++) {
        CHECK(lnorm_grad_moments(&problem, dy, x, moments, (char *)gamma + row * COLS * size, alone) == LNORM_OK);
        CHECK(memcmp(alone, (char *)together + row * LNORM_GRAD_MOMENTS * size, LNORM_GRAD_MOMENTS * size) == 0);
    }
}

static void test_texts(void)
{
    char version[50];
    snprintf(version, sizeof version, "%d.%d.%d", LNORM_VERSION_MAJOR, LNORM_VERSION_MINOR, LNORM_VERSION_PATCH);
    CHECK(strcmp(version, LNORM_VERSION_STRING) == 0);
    CHECK(strcmp(version, lnorm_version()) == 0);

    const char *unknown = lnorm_status_text((lnorm_status)99);
    CHECK(unknown && *unknown);
    CHECK(lnorm_status_text((lnorm_status)-1) != NULL);
    for (int i = LNORM_OK; i <= LNORM_ERROR_SCALE; i++) {
        const char *text = lnorm_status_text((lnorm_status)i);
        CHECK(text && *text && strcmp(text, unknown) != 0);
        for (int k = LNORM_OK; k < i; k++) {
            CHECK(strcmp(text, lnorm_status_text((lnorm_status)k)) != 0);
        }
    }
}

static void test_instruction_sets(void)
{
    const char *const at_first = lnorm_isa(), *const unknown[] = {"", "sse9", "scalar2", "SCALAR", "avx"};
    size_t count = 0;
    while (lnorm_available_isa(count)) {
        count++;
    }
    if (!CHECK(count > 0 && at_first)) {
        return;
    }
    CHECK(lnorm_available_isa(count + 1) == NULL && lnorm_available_isa(SIZE_MAX) == NULL);
    CHECK(strcmp(lnorm_available_isa(count - 1), "scalar") == 0);
    for (size_t i = 0; i < count; i++) {
        const char *name = lnorm_available_isa(i);
        CHECK(lnorm_set_isa(name) == LNORM_OK);
        CHECK(strcmp(lnorm_isa(), name) == 0);
        for (size_t k = 0; k < sizeof unknown / sizeof unknown[0]; k++) {
            CHECK(lnorm_set_isa(unknown[k]) == LNORM_ERROR_ISA);
            CHECK(strcmp(lnorm_isa(), name) == 0);
        }
    }
    CHECK(lnorm_set_isa(NULL) == LNORM_OK);
    CHECK(strcmp(lnorm_isa(), at_first) == 0);
}

int main(void)
{
    pool = test_allocate(POOL);
    test_texts();
    test_instruction_sets();
    for (size_t t = 0; t < 2; t++) {
        const lnorm_type type = element_types[t];
        test_refused_by_both(type, false);
        test_refused_by_both(type, true);
        test_refused_forward(type);
        test_refused_backward(type);
        test_refused_flat(type);
        test_refused_others(type);
        test_workspace_query(type);
        for (size_t i = 0; lnorm_available_isa(i); i++) {
            CHECK(lnorm_set_isa(lnorm_available_isa(i)) == LNORM_OK);
            test_no_elements(type);
            test_scale_of_no_elements(type);
            test_one_column(type);
            test_values(type);
            test_equal_numbers(type);
            test_gamma_of_equal_numbers(type);
        }
    }
    free(pool);
    return test_result("api_test");
}

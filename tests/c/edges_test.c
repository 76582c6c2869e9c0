/* The edges of every call: for each argument, absent, at the end of memory, on another one; sizes and strides at the
 * limits; no rows and no elements; and values that only seldom paths see. */
#include "calls.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CALLS (MERGE_GRAD_MOMENTS + 1)

/* ---- What each call does with its arguments ---- */

#define A(argument) (1u << (argument))
#define PARAMS (A(GAMMA) | A(BETA))
#define STATISTICS (A(MEAN) | A(RSTD))
#define GRADIENTS (A(DX) | A(DGAMMA) | A(DBETA) | A(WORKSPACE))
#define ANY_MOMENTS (A(MOMENTS) | A(GRAD_MOMENTS))

/* Optional: may be NULL. Those of quantized forward are of a dynamic scale. */
static const struct {
    unsigned required, optional, outputs;
} arguments_of[CALLS] = {
    [FORWARD] = {A(X) | A(Y), PARAMS | STATISTICS, A(Y) | STATISTICS},
    [BACKWARD] = {A(DY) | A(X) | STATISTICS | A(WORKSPACE), A(GAMMA) | A(DX) | A(DGAMMA) | A(DBETA), GRADIENTS},
    [ADD_FORWARD] = {A(X) | A(RESIDUAL) | A(TOTAL) | A(Y), A(INPUT_BIAS) | PARAMS | STATISTICS,
                     A(Y) | A(TOTAL) | STATISTICS},
    [ADD_BACKWARD] = {A(DY) | A(TOTAL) | STATISTICS | A(WORKSPACE), A(DTOTAL) | A(GAMMA) | A(DX) | A(DGAMMA) | A(DBETA),
                      GRADIENTS},
    [QUANTIZED_FORWARD] = {A(X) | A(Y) | A(SCALE) | A(ZERO_POINT), PARAMS | STATISTICS,
                           A(Y) | A(SCALE) | A(ZERO_POINT) | STATISTICS},
    [BACKWARD_FROM_Y] = {A(DY) | A(Y) | A(RSTD) | A(WORKSPACE), PARAMS | A(DX) | A(DGAMMA) | A(DBETA), GRADIENTS},
    [MOMENTS_OF] = {A(X) | A(MOMENTS), 0, A(MOMENTS)},
    [APPLY_MOMENTS] = {A(X) | A(Y) | A(MOMENTS), PARAMS | STATISTICS, A(Y) | STATISTICS},
    [GRAD_MOMENTS_OF] = {A(DY) | A(X) | ANY_MOMENTS, A(GAMMA), A(GRAD_MOMENTS)},
    [APPLY_GRAD_MOMENTS] = {A(DY) | A(X) | ANY_MOMENTS | A(WORKSPACE), A(GAMMA) | A(DX) | A(DGAMMA) | A(DBETA),
                            GRADIENTS},
    [MERGE_MOMENTS] = {ANY_MOMENTS | A(Y), 0, A(Y)},
    [MERGE_GRAD_MOMENTS] = {ANY_MOMENTS | A(Y), 0, A(Y)},
};

/* The members of a problem that are strides, and the calls that look at them. */
#define C(call) (1u << (call))
#define ALL_X (C(FORWARD) | C(BACKWARD) | C(ADD_FORWARD) | C(QUANTIZED_FORWARD) | PIECES)
#define PIECES (C(MOMENTS_OF) | C(APPLY_MOMENTS) | C(GRAD_MOMENTS_OF) | C(APPLY_GRAD_MOMENTS))
#define ALL_Y (C(FORWARD) | C(ADD_FORWARD) | C(QUANTIZED_FORWARD) | C(BACKWARD_FROM_Y) | C(APPLY_MOMENTS))
#define ALL_DX (C(BACKWARD) | C(ADD_BACKWARD) | C(BACKWARD_FROM_Y) | C(APPLY_GRAD_MOMENTS))
#define ALL_DY (ALL_DX | C(GRAD_MOMENTS_OF))
#define ALL_TOTAL (C(ADD_FORWARD) | C(ADD_BACKWARD))

static const struct {
    size_t place;
    unsigned calls;
} strides[] = {
    {offsetof(lnorm_problem, x_stride), ALL_X},
    {offsetof(lnorm_problem, y_stride), ALL_Y},
    {offsetof(lnorm_problem, dy_stride), ALL_DY},
    {offsetof(lnorm_problem, dx_stride), ALL_DX},
    {offsetof(lnorm_problem, x_norm_stride), ALL_X | C(ADD_BACKWARD)},
    {offsetof(lnorm_problem, y_norm_stride), ALL_Y},
    {offsetof(lnorm_problem, dy_norm_stride), ALL_DY},
    {offsetof(lnorm_problem, dx_norm_stride), ALL_DX},
    {offsetof(lnorm_problem, residual_stride), C(ADD_FORWARD)},
    {offsetof(lnorm_problem, total_stride), ALL_TOTAL},
};

static int64_t *member(call *c, size_t place)
{
    return (int64_t *)(void *)((char *)&c->problem + place);
}

static bool is_merge(which which)
{
    return which >= MERGE_MOMENTS;
}

/* A call with every argument that it has; quantized forward's scale is dynamic. */
static call full_call(lnorm_type type, which which)
{
    call c = good_call(type, which);
    if (which == QUANTIZED_FORWARD) {
        c.problem.y_type = LNORM_U8;
        c.problem.flags = LNORM_DYNAMIC_SCALE;
    }
    return c;
}

static void *moved(void *from, size_t bytes)
{
    return (char *)from + bytes;
}

/* ---- Each argument ---- */

static void test_arguments(lnorm_type type, which which)
{
    const call good = full_call(type, which);
    const unsigned required = arguments_of[which].required, outputs = arguments_of[which].outputs;
    const unsigned used = required | arguments_of[which].optional;
    unsigned char *before = test_allocate(POOL);
    ACCEPTED((void)c);
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        const lnorm_status missing = i == WORKSPACE ? LNORM_ERROR_WORKSPACE : LNORM_ERROR_NULL;
        snprintf(context, sizeof context, "call %d, %s: ", (int)which, name_of(i));
        if (required & A(i)) {
            REFUSED(missing, c.a[i] = NULL);
        } else {
            ACCEPTED(c.a[i] = NULL);
        }
        if (used & A(i)) { /* it does not end before memory does, or begin after it begins */
            REFUSED(LNORM_ERROR_SIZE, c.a[i] = (void *)(UINTPTR_MAX - sizeof(double) + 1));
        } else {
            ACCEPTED(c.a[i] = (void *)(UINTPTR_MAX - sizeof(double) + 1));
        }
        for (int output = 0; output < ALL_ARGUMENTS; output++) {
            const size_t unit = output == ZERO_POINT || i == ZERO_POINT ? sizeof(int32_t) : type_size(type);
            if (output != i && outputs & A(output) && used & A(i)) {
                REFUSED(LNORM_ERROR_OVERLAP, c.a[i] = moved(c.a[output], unit));
                REFUSED(LNORM_ERROR_OVERLAP, c.a[output] = moved(c.a[i], unit));
            }
        }
    }
    context[0] = '\0';
    free(before);
}

static void test_strides(lnorm_type type, which which)
{
    const call good = full_call(type, which);
    unsigned char *before = test_allocate(POOL);
    for (size_t i = 0; i < COUNT(strides); i++) {
        const int64_t extremes[] = {INT64_MAX, INT64_MIN + 1, PTRDIFF_MAX, -PTRDIFF_MAX, PTRDIFF_MAX / 4};
        const bool added = which == ADD_FORWARD || which == ADD_BACKWARD;
        const bool is_step = strides[i].place == offsetof(lnorm_problem, x_norm_stride);
        snprintf(context, sizeof context, "call %d, stride %lu: ", (int)which, (unsigned long)i);
        for (size_t k = 0; k < COUNT(extremes); k++) {
            if (strides[i].calls & C(which)) {
                REFUSED(added && is_step ? LNORM_ERROR_INNER : LNORM_ERROR_SIZE,
                        *member(&c, strides[i].place) = extremes[k]);
            } else {
                ACCEPTED(*member(&c, strides[i].place) = extremes[k]);
            }
        }
    }
    context[0] = '\0';
    free(before);
}

/* What a problem says of the parameters, and counts that do not fit. */
static void test_refused_members(lnorm_type type, which which)
{
    const bool without_runs =
        C(which) & (C(ADD_BACKWARD) | C(BACKWARD_FROM_Y) | C(GRAD_MOMENTS_OF) | C(APPLY_GRAD_MOMENTS));
    const call good = full_call(type, which);
    unsigned char *before = test_allocate(POOL);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_rows = -1);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_repeat = -1);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_repeat = ROWS - 1);
    REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = INT64_MIN);
    REFUSED(LNORM_ERROR_SIZE, c.problem.inner = INT64_MAX);
    REFUSED(LNORM_ERROR_INNER, c.problem.inner = INT64_MIN);
    REFUSED(LNORM_ERROR_INNER, c.problem.param_run = 2; c.problem.x_norm_stride = -1);
    REFUSED(LNORM_ERROR_INNER, c.problem.param_run = 2; c.problem.x_norm_stride = 2);
    if (without_runs) {
        REFUSED(LNORM_ERROR_PARAMS, c.problem.param_run = 2);
    } else {
        ACCEPTED(c.problem.param_run = 2; c.problem.x_norm_stride = 1; c.workspace_size = SLOT);
    }
    ACCEPTED(c.problem.param_repeat = 1);
    ACCEPTED(c.problem.param_repeat = ROWS);
    free(before);
}

/* ---- Sizes ---- */

/* The extent of a tensor may be as large as memory, and not larger; also of one that is absent. */
static void test_extents(lnorm_type type)
{
    const call good = good_call(type, BACKWARD);
    const int64_t most = (int64_t)(PTRDIFF_MAX / type_size(type));
    unsigned char *before = test_allocate(POOL);
#define ABSENT(rows, cols, member, value)                                                                              \
    c.a[DX] = NULL, c.problem.outer = (rows), c.problem.norm = (cols), c.problem.member = (value)
    for (int sign = 1; sign >= -1; sign -= 2) {
        ACCEPTED(ABSENT(2, 1, dx_stride, sign * (most - 1)));
        REFUSED(LNORM_ERROR_SIZE, ABSENT(2, 1, dx_stride, sign * most));
        REFUSED(LNORM_ERROR_SIZE, ABSENT(2, 1, dx_stride, sign * (most + 1)));
        ACCEPTED(ABSENT(1, 2, dx_norm_stride, sign * (most - 1)));
        REFUSED(LNORM_ERROR_SIZE, ABSENT(1, 2, dx_norm_stride, sign * most));
        REFUSED(LNORM_ERROR_SIZE, ABSENT(1, 2, dx_norm_stride, sign * (most + 1)));
        ACCEPTED(ABSENT(3, 2, dx_stride, sign * (most / 2 - 1)));
        REFUSED(LNORM_ERROR_SIZE, ABSENT(3, 2, dx_stride, sign * (most / 2 + 1)));
        ACCEPTED(ABSENT(1, 1, dx_stride, sign > 0 ? INT64_MAX : -INT64_MAX)); /* of which no step is taken */
        ACCEPTED(ABSENT(1, 1, dx_norm_stride, sign > 0 ? INT64_MAX : -INT64_MAX));
    }
#undef ABSENT
    /* An array that ends where memory does, or a byte later. */
    REFUSED(LNORM_ERROR_SIZE, c.problem.dy_stride = -COLS - 1; c.a[DY] = (void *)(uintptr_t)64);
    REFUSED(LNORM_ERROR_SIZE, c.problem.dy_norm_stride = -1; c.a[DY] = (void *)(uintptr_t)8);
    REFUSED(LNORM_ERROR_SIZE, c.problem.dy_stride = COLS + 1;
            c.a[DY] = (void *)(UINTPTR_MAX - ((ROWS - 1) * (COLS + 1) + COLS) * type_size(type) + 1));
    REFUSED(LNORM_ERROR_SIZE, c.a[DY] = (void *)(UINTPTR_MAX - ROWS * COLS * type_size(type) + 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.problem.dy_stride = COLS + 1; c.a[DX] = c.a[GAMMA]; /* and so the next two count */
            c.a[DY] = (void *)(UINTPTR_MAX - ((ROWS - 1) * (COLS + 1) + COLS + 1) * type_size(type) + 1));
    REFUSED(LNORM_ERROR_OVERLAP, c.a[DX] = c.a[GAMMA];
            c.a[DY] = (void *)(UINTPTR_MAX - (ROWS * COLS + 1) * type_size(type) + 1));
    free(before);
}

static void test_sizes(lnorm_type type)
{
    const int64_t most = (int64_t)(PTRDIFF_MAX / type_size(type));
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    size_t size, per_col;
    problem.x_type = (int32_t)type;
    problem.flags = LNORM_ACCUMULATE;
    problem.outer = problem.norm = 1;
    CHECK(lnorm_backward_workspace(&problem, NULL) == LNORM_ERROR_NULL);
    CHECK(lnorm_backward_workspace(&problem, &per_col) == LNORM_OK && per_col > 0);
    problem.norm = (int64_t)(PTRDIFF_MAX / per_col);
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK && size == (size_t)problem.norm * per_col);
    problem.norm++;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_ERROR_SIZE && size == SIZE_MAX);
    problem.norm = most; /* the tensor itself fits */
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_ERROR_SIZE && size == SIZE_MAX);
    problem.flags = 0;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK && size == 0);
    problem.norm++;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_ERROR_SIZE && size == SIZE_MAX);
    problem.outer = most / 2;
    problem.norm = problem.param_run = 2;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_ERROR_SIZE && size == SIZE_MAX);
    problem.outer = most / 4;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK && size == (size_t)problem.outer * 4 * type_size(type));
    problem.outer = 2;
    problem.norm = problem.param_run = 0;
    problem.inner = 64;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    problem.norm = 3;
    problem.outer = 0;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK && size == 0);
    problem.outer = 2;
    problem.norm = 5000; /* too many to prepare 1 + gamma, and so there are no tiles */
    problem.flags = LNORM_GAMMA_PLUS_ONE;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK && size == 2 * 5000 * per_col);
}

/* Calls of no elements succeed without pointers, whatever the other sizes are, and give what there is to give. */
static void test_no_elements(lnorm_type type, which which)
{
    static const int64_t shapes[][3] = {{0, 8, 1}, {0, PTRDIFF_MAX, 1}, {0, 8, PTRDIFF_MAX}, {0, 0, 1}, {40, 0, 1}};
    const unsigned per_row = STATISTICS | ANY_MOMENTS | A(SCALE) | A(ZERO_POINT);
    unsigned char *expected = test_allocate(POOL);
    for (size_t i = 0; i < COUNT(shapes) - (is_merge(which) ? 1 : 0); i++) {
        const bool has_room = shapes[i][1] <= COLS; /* for gamma and the others of norm elements */
        for (int with_pointers = 0; with_pointers < 1 + has_room; with_pointers++) {
            call c = full_call(type, which);
            const unsigned wanted = shapes[i][0] != 0 ? arguments_of[which].required & per_row : 0;
            const unsigned outputs = arguments_of[which].outputs;
            c.problem.outer = shapes[i][0];
            c.problem.norm = shapes[i][1];
            c.problem.inner = C(which) & ALL_TOTAL ? 1 : shapes[i][2];
            c.workspace_size = 0;
            for (int k = 0; k < ALL_ARGUMENTS; k++) {
                c.a[k] = with_pointers || wanted & A(k) ? c.a[k] : NULL;
            }
            memcpy(expected, pool, POOL);
            for (int k = 0; k < ALL_ARGUMENTS; k++) {
                unsigned char *const slot = expected + (size_t)k * SLOT;
                const size_t numbers = k == MOMENTS ? LNORM_MOMENTS : k == GRAD_MOMENTS ? LNORM_GRAD_MOMENTS : 1;
                for (size_t r = 0; outputs & per_row & A(k) && c.a[k] && r < (size_t)shapes[i][0] * numbers; r++) {
                    if (k == ZERO_POINT) {
                        memset(slot + r * sizeof(int32_t), 0, sizeof(int32_t));
                    } else {
                        set_value(type, slot, r, k == SCALE ? 1.0 : (double)NAN);
                    }
                }
                for (size_t col = 0;
                     (k == DGAMMA || k == DBETA) && outputs & A(k) && c.a[k] && col < (size_t)shapes[i][1]; col++) {
                    set_value(type, slot, col, 0.0);
                }
            }
            if (!CHECK(run(&c) == LNORM_OK) ||
                !CHECK(first_difference(type, pool, expected, POOL / type_size(type)) == POOL / type_size(type))) {
                printf("  call %d, %d x %d\n", (int)which, (int)shapes[i][0], (int)shapes[i][1]);
            }
            c.problem.flags |= LNORM_ACCUMULATE;
            memcpy(expected, pool, POOL);
            CHECK(run(&c) == LNORM_OK &&
                  first_difference(type, pool, expected, POOL / type_size(type)) == POOL / type_size(type));
        }
    }
    free(expected);
}

/* The same of groups without rows, each with gradients of its own. */
static void test_no_rows_in_groups(lnorm_type type)
{
    enum { GROUPS = 3 };
    call c = good_call(type, BACKWARD);
    double gradients[2][GROUPS * COLS];
    c.problem.outer = 0;
    c.problem.param_rows = GROUPS;
    c.a[GAMMA] = NULL;
    for (int i = 0; i < 2; i++) {
        c.a[i == 0 ? DGAMMA : DBETA] = gradients[i];
        memset(gradients[i], GUARD_CANARY, sizeof gradients[i]);
    }
    CHECK(run(&c) == LNORM_OK);
    for (size_t i = 0; i < GROUPS * COLS; i++) {
        CHECK(value_bits(type, gradients[0], i) == 0 && value_bits(type, gradients[1], i) == 0);
    }
}

static void run_in_order(void *calls, size_t count, lnorm_task task, void *argument)
{
    if (calls) {
        *(size_t *)calls += count;
    }
    for (size_t i = 0; i < count; i++) {
        task(argument, i);
    }
}

/* Rows that are longer than memory, of which there are none: the size of one, in bytes, is 0 where it wraps around. */
static void test_no_long_rows(lnorm_type type, which which)
{
    static const int64_t most = PTRDIFF_MAX / 2 + 1, shapes[][3] = {{most, 1, 1}, {8, most, 1}, {most, 1, most}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        const bool has_inner = shapes[i][1] != 1, has_runs = shapes[i][2] != 1;
        if ((has_inner && C(which) & ALL_TOTAL) || (has_runs && which != FORWARD && which != BACKWARD)) {
            continue;
        }
        call c = full_call(type, which);
        memset(c.a, 0, sizeof c.a);
        c.problem.outer = 0;
        c.problem.norm = shapes[i][0];
        c.problem.inner = shapes[i][1];
        c.problem.param_run = shapes[i][2];
        c.problem.parallel_for = run_in_order;
        CHECK(run(&c) == LNORM_OK);
    }
}

/* ---- What a tensor may be laid over ---- */

static void test_places(lnorm_type type)
{
    unsigned char *before = test_allocate(POOL);
    const size_t e = type_size(type);
    call good = good_call(type, FORWARD);
    const int64_t x = COLS + 2;
#define STRIDED(of_x, of_y, offset)                                                                                    \
    c.problem.x_stride = (of_x), c.problem.y_stride = (of_y), c.a[Y] = moved(c.a[X], (size_t)(offset) * e)
    ACCEPTED(STRIDED(x, x, 0));
    ACCEPTED(STRIDED(-x, -x, 0); c.a[X] = c.a[Y] = moved(c.a[X], SLOT / 2));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(x, x + 1, 0));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(x, x, 1));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(x, -x, 0));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(x, -x, ROWS * x));
    ACCEPTED(STRIDED(2 * COLS, 2 * COLS, COLS));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(2 * COLS, 2 * COLS, COLS - 1));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(2 * COLS, 2 * COLS, COLS + 1));
    ACCEPTED(STRIDED(2 * COLS + 1, 2 * COLS + 1, COLS));
    ACCEPTED(STRIDED(2 * COLS + 1, 2 * COLS + 1, COLS + 1));
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(2 * COLS + 1, 2 * COLS + 1, COLS + 2));
    ACCEPTED(STRIDED(2 * COLS, 2 * COLS, COLS); void *const y = c.a[Y]; c.a[Y] = c.a[X]; c.a[X] = y);
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(2 * COLS, 2 * COLS, COLS - 1); void *const y = c.a[Y]; c.a[Y] = c.a[X];
            c.a[X] = y);
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(3 * COLS, 3 * COLS, 0); c.problem.y_norm_stride = 2);
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(3 * COLS, 3 * COLS, 0); c.problem.x_norm_stride = 2);
    ACCEPTED(STRIDED(3 * COLS, 3 * COLS, 0); c.problem.x_norm_stride = c.problem.y_norm_stride = 2);
    REFUSED(LNORM_ERROR_OVERLAP, STRIDED(0, 0, 0); c.problem.outer = 1; c.problem.norm = 6; c.problem.x_norm_stride = 2;
            c.problem.y_norm_stride = -2; c.a[X] = c.a[Y] = moved(c.a[X], SLOT / 2));
    ACCEPTED(STRIDED(5, -5, 0); c.problem.outer = 1; c.problem.x_norm_stride = c.problem.y_norm_stride = 2);
#undef STRIDED

    /* Elements of y: each axis must step over what the smaller steps reach. */
#define STEPS(of_outer, of_norm, outers, norms, inners)                                                                \
    c.problem.y_stride = (of_outer), c.problem.y_norm_stride = (of_norm), c.problem.outer = (outers),                  \
    c.problem.norm = (norms), c.problem.inner = (inners), c.a[Y] = moved(c.a[Y], SLOT / 2)
    ACCEPTED(STEPS(6, 2, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(5, 2, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(6, 1, 3, 3, 2));
    ACCEPTED(STEPS(2, 6, 3, 3, 2));
    ACCEPTED(STEPS(-2, -6, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(2, 5, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(1, 6, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(6, 6, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(-6, 6, 3, 3, 2));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(1, 1, 3, 3, 1));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(LNORM_BROADCAST, 1, 3, 3, 1));
    REFUSED(LNORM_ERROR_STRIDE, STEPS(3, LNORM_BROADCAST, 3, 3, 1));
    ACCEPTED(STEPS(1, 3, 3, 3, 1));
    ACCEPTED(STEPS(LNORM_BROADCAST, 1, 1, 3, 1)); /* a stride of which no step is taken */
    ACCEPTED(STEPS(3, LNORM_BROADCAST, 3, 1, 2));
    ACCEPTED(STEPS(1, 1, 1, 1, 2); c.problem.x_norm_stride = 1);
#undef STEPS

    good = good_call(type, ADD_FORWARD);
    if (type == LNORM_F32) { /* as many bytes, but not the same elements */
        REFUSED(LNORM_ERROR_OVERLAP, c.problem.y_type = LNORM_F16; c.problem.residual_rows = ROWS / 2;
                c.a[Y] = c.a[RESIDUAL]);
    }
    ACCEPTED(c.problem.outer = 0; c.problem.residual_rows = 0);

    good = good_call(type, MOMENTS_OF);
    ACCEPTED(c.problem.inner = 2; c.problem.x_norm_stride = 1); /* an input may overlap itself */
    free(before);
}

/* ---- Scales and zero points ---- */

static void test_scales(lnorm_type type)
{
    unsigned char *before = test_allocate(POOL);
    static const int32_t limits[2][2] = {{-128, 127}, {0, 255}};
    const double least = type == LNORM_F64 ? 0x1p-1074 : 0x1p-149;
    const double most = type == LNORM_F64 ? 0x1.fffffffffffffp+1023 : 0x1.fffffep+127;
    call good = good_call(type, QUANTIZED_FORWARD);
    int32_t zero_point;
    good.a[ZERO_POINT] = &zero_point;
    for (int is_unsigned = 0; is_unsigned < 2; is_unsigned++) {
        good.problem.y_type = is_unsigned ? LNORM_U8 : LNORM_I8;
        set_value(type, good.a[SCALE], 0, 1.0);
        for (int end = 0; end < 2; end++) {
            zero_point = limits[is_unsigned][end];
            ACCEPTED((void)c);
            zero_point += end ? 1 : -1;
            REFUSED(LNORM_ERROR_SCALE, (void)c);
        }
        zero_point = 0;
        set_value(type, good.a[SCALE], 0, least);
        ACCEPTED((void)c);
        set_value(type, good.a[SCALE], 0, most);
        ACCEPTED((void)c);
        ACCEPTED(c.a[SCALE] = NULL; c.problem.outer = 0);
    }
    free(before);
}

/* ---- Values that only seldom paths see ---- */

/* Everything that both calls write is the same, but for these arguments. */
static void expect_same(lnorm_type type, const call *a, const call *b, unsigned but)
{
    unsigned char *first = test_allocate(POOL);
    for (int turn = 0; turn < 2; turn++) {
        const call *const c = turn == 0 ? a : b;
        const size_t cols = (size_t)c->problem.norm;
        uint64_t random = 3;
        fill_pool(type);
        make_special(type, pool + X * SLOT, SLOT / type_size(type) / cols, cols, &random);
        if (c->which == APPLY_MOMENTS) {
            CHECK(lnorm_moments(&c->problem, c->a[X], c->a[MOMENTS]) == LNORM_OK);
        }
        CHECK(run(c) == LNORM_OK);
        if (turn == 0) {
            memcpy(first, pool, POOL);
        }
    }
    for (size_t i = 0; i < ALL_ARGUMENTS; i++) {
        if (!(but & A(i)) && !CHECK(memcmp(first + i * SLOT, pool + i * SLOT, SLOT) == 0)) {
            printf("  %s%s\n", context, name_of((int)i));
        }
    }
    free(first);
}

/* A step that is never taken changes nothing. */
static void test_step_of_one_element(lnorm_type type, which which)
{
    call dense = full_call(type, which);
    dense.problem.norm = 1;
    dense.problem.inner = 2;
    call stepped = dense;
    for (size_t i = 4; i < 8; i++) {
        *member(&stepped, strides[i].place) = 1;
    }
    snprintf(context, sizeof context, "call %d, steps of one element: ", (int)which);
    expect_same(type, &dense, &stepped, 0);
    context[0] = '\0';
}

/* The statistics that are not wanted change nothing; in rows of all kinds, dense and by tiles. */
static void test_absent_statistics(lnorm_type type)
{
    static const which calls[] = {FORWARD, ADD_FORWARD, QUANTIZED_FORWARD, APPLY_MOMENTS};
    for (size_t i = 0; i < COUNT(calls); i++) {
        for (int tiles = 0; tiles < (calls[i] == ADD_FORWARD ? 1 : 2); tiles++) {
            call all = full_call(type, calls[i]);
            all.problem.outer = tiles ? 2 : ROWS;
            all.problem.inner = tiles ? 40 : 1;
            for (int absent = MEAN; absent <= RSTD; absent++) {
                call some = all;
                some.a[absent] = NULL;
                snprintf(context, sizeof context, "call %d without %s: ", (int)calls[i], name_of(absent));
                expect_same(type, &all, &some, A(absent));
            }
        }
    }
    context[0] = '\0';
}

static void expect_near(lnorm_type type, const void *a, const void *b, size_t count, double relative)
{
    for (size_t i = 0; i < count; i++) {
        const double x = get_value(type, a, i), y = get_value(type, b, i);
        if (!CHECK(fabs(x - y) <= relative * (1 + fabs(x)))) {
            printf("  %s[%lu]: %a, expected %a\n", context, (unsigned long)i, y, x);
            return;
        }
    }
}

static double unit_of(lnorm_type type)
{
    return type == LNORM_F64 ? 0x1p-52 : type == LNORM_F32 ? 0x1p-23 : 0x1p-7;
}

/* Moments that are taken and applied give what forward does, and backward from y what backward does, for whatever the
 * problem says of layouts, types and parameters. */
static void test_ways(lnorm_type type)
{
    enum { PLAIN, RUNS_OF_4, RUNS_OF_20, TILES, TWO_PARAM_ROWS, STEPS, ROUNDED, WIDE_Y, WIDE_PARAMS, PLUS_ONE, WAYS };
    const double near = 64 * unit_of(type);
    for (int way = PLAIN; way < WAYS; way++) {
        call c = good_call(type, FORWARD);
        lnorm_problem *const p = &c.problem;
        lnorm_type of_y = type, of_params = type, of_x = type;
        snprintf(context, sizeof context, "%s, way %d, ", type_name(type), way);
        if (way == RUNS_OF_4 || way == RUNS_OF_20) {
            p->outer = 6;
            p->norm = 40;
            p->param_run = way == RUNS_OF_4 ? 4 : 20;
        } else if (way == TILES || way == TWO_PARAM_ROWS) {
            p->outer = way == TILES ? 2 : 4;
            p->inner = 40;
            p->param_rows = way == TILES ? 1 : 2;
        } else if (way == STEPS) {
            p->y_norm_stride = p->dy_norm_stride = p->dx_norm_stride = 2;
            p->y_stride = p->dy_stride = p->dx_stride = 2 * COLS;
        } else if (way == ROUNDED) {
            p->flags = LNORM_ROUND_STEPS;
            p->outer = 2;
            p->inner = 40;
        } else if (way == WIDE_Y && type == LNORM_F32) {
            p->x_type = (int32_t)(of_x = LNORM_BF16);
            p->y_type = (int32_t)type;
            p->param_type = (int32_t)type;
        } else if (way == WIDE_PARAMS && type == LNORM_F32) {
            p->x_type = p->y_type = (int32_t)(of_x = of_y = LNORM_BF16);
            p->param_type = (int32_t)type;
        } else if (way == PLUS_ONE) {
            p->flags = LNORM_GAMMA_PLUS_ONE;
        }
        const size_t count = (size_t)(p->outer * p->norm * (p->inner ? p->inner : 1)) * (way == STEPS ? 2 : 1);
        const double y_near = of_y == type ? near : 4 * unit_of(of_y);
        uint64_t random = 5;
        fill_values(of_x, c.a[X], count, 0.0, 1.0, &random);
        fill_values(of_params, c.a[GAMMA], 2 * COLS, 3.0, 0.5, &random); /* far from 0, for backward from y */
        void *const y = test_allocate(SLOT), *const dx = test_allocate(SLOT);
        CHECK(run(&c) == LNORM_OK);
        memcpy(y, c.a[Y], SLOT);
        CHECK(lnorm_moments(p, c.a[X], c.a[MOMENTS]) == LNORM_OK);
        c.which = APPLY_MOMENTS;
        CHECK(run(&c) == LNORM_OK);
        expect_near(of_y, y, c.a[Y], count, y_near);
        if (way < ROUNDED && p->param_run == 0) {
            size_t size;
            CHECK(lnorm_backward_workspace(p, &size) == LNORM_OK && size <= SLOT);
            c.workspace_size = size;
            c.which = BACKWARD;
            CHECK(run(&c) == LNORM_OK);
            memcpy(dx, c.a[DX], SLOT);
            c.which = BACKWARD_FROM_Y;
            CHECK(run(&c) == LNORM_OK);
            expect_near(type, dx, c.a[DX], count, 16 * near);
            c.which = GRAD_MOMENTS_OF;
            CHECK(run(&c) == LNORM_OK);
            c.which = APPLY_GRAD_MOMENTS;
            CHECK(run(&c) == (way == TWO_PARAM_ROWS ? LNORM_ERROR_PARAMS : LNORM_OK));
            expect_near(type, dx, c.a[DX], count, near);
        }
        free(y);
        free(dx);
    }
    context[0] = '\0';
}

/* One tensor alone with every second element of memory: the results are the same bits. */
static void test_one_strided(lnorm_type type, which which)
{
    static const int tensors[] = {X, Y, DY, DX}; /* in the order of `strides` */
    const size_t e = type_size(type), slots = ALL_ARGUMENTS * SLOT / e;
    unsigned char *const dense = test_allocate(POOL), *const spare = pool + ALL_ARGUMENTS * SLOT;
    for (size_t t = 0; t < COUNT(tensors); t++) {
        unsigned char *const own = pool + (size_t)tensors[t] * SLOT;
        call c = good_call(type, which);
        CHECK(run(&c) == LNORM_OK);
        memcpy(dense, pool, POOL);
        c = good_call(type, which);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            memcpy(spare + 2 * i * e, own + i * e, e);
        }
        c.a[tensors[t]] = spare;
        *member(&c, strides[t].place) = 2 * COLS;
        *member(&c, strides[t + 4].place) = 2;
        CHECK(run(&c) == LNORM_OK);
        for (size_t i = 0; i < ROWS * COLS; i++) {
            memcpy(own + i * e, spare + 2 * i * e, e);
        }
        if (!CHECK(first_difference(type, dense, pool, slots) == slots)) {
            printf("  call %d, only %s strided\n", (int)which, name_of(tensors[t]));
        }
    }
    free(dense);
}

/* A gamma for each run is a gamma for each element; runs shorter and longer than a block. */
static void test_runs(lnorm_type type)
{
    static const size_t runs[] = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 500, 511, 512, 513, 1023, 1024, 1025, 1100};
    enum { MOST = 3 * 1100 };
    const size_t e = type_size(type);
    char *const memory = test_allocate(10 * 2 * MOST * e);
    void *tensors[8];
    for (size_t i = 0; i < 8; i++) {
        tensors[i] = memory + (i + 2) * 2 * MOST * e;
    }
    void *const x = tensors[0], *const dy = tensors[1], *const gamma = tensors[2], *const each = tensors[3],
                *const y = tensors[4], *const dx = tensors[5], *const dx_each = tensors[6], *const spaced = tensors[7];
    for (size_t i = 0; i < COUNT(runs); i++) {
        const size_t cols = 3 * runs[i];
        double mean[2], rstd[2];
        lnorm_problem problem = LNORM_PROBLEM_INIT;
        uint64_t random = i;
        problem.x_type = (int32_t)type;
        problem.outer = 2;
        problem.norm = (int64_t)cols;
        problem.eps = 1e-5;
        fill_values(type, x, 2 * cols, 0.0, 1.0, &random);
        fill_values(type, dy, 2 * cols, 0.0, 1.0, &random);
        fill_values(type, gamma, 3, 1.0, 1.0, &random);
        for (size_t k = 0; k < cols; k++) {
            set_value(type, each, k, get_value(type, gamma, k / runs[i]));
        }
        for (size_t k = 0; k < cols; k++) { /* the first row of dy, every second element */
            set_value(type, spaced, 2 * k, get_value(type, dy, k));
        }
        snprintf(context, sizeof context, "%s, runs of %lu, dx", type_name(type), (unsigned long)runs[i]);
        CHECK(lnorm_forward(&problem, x, each, NULL, y, mean, rstd) == LNORM_OK);
        problem.param_run = (int64_t)runs[i];
        problem.y_norm_stride = 2;
        problem.y_stride = 2 * problem.norm;
        CHECK(lnorm_forward(&problem, x, gamma, NULL, memory, NULL, NULL) == LNORM_OK);
        for (size_t k = 0; k < 2 * cols; k++) {
            CHECK(get_value(type, memory, 2 * k) == get_value(type, y, k));
        }
        problem.param_run = problem.y_norm_stride = problem.y_stride = 0;
        CHECK(lnorm_backward(&problem, dy, x, mean, rstd, each, dx_each, NULL, NULL, NULL, 0) == LNORM_OK);
        problem.param_run = (int64_t)runs[i];
        CHECK(lnorm_backward(&problem, dy, x, mean, rstd, gamma, dx, NULL, NULL, NULL, 0) == LNORM_OK);
        expect_near(type, dx_each, dx, 2 * cols, 64 * unit_of(type));
        problem.outer = 1;
        problem.dy_norm_stride = 2;
        CHECK(lnorm_backward(&problem, spaced, x, mean, rstd, gamma, y, NULL, NULL, NULL, 0) == LNORM_OK);
        CHECK(first_difference(type, dx, y, cols) == cols);
    }
    free(memory);
    context[0] = '\0';
}

/* 1 + gamma is what multiplies, in rows longer than a block too. */
static void test_plus_one(lnorm_type type)
{
    enum { LONG = 2100 };
    double x[LONG], dy[LONG], gamma[LONG], one_more[LONG], moments[LNORM_MOMENTS];
    double expected[LNORM_GRAD_MOMENTS], got[LNORM_GRAD_MOMENTS];
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    uint64_t random = 8;
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    problem.norm = LONG;
    fill_values(type, x, LONG, 0.0, 1.0, &random);
    fill_values(type, dy, LONG, 0.0, 1.0, &random);
    fill_values(type, gamma, LONG, 0.0, 1.0, &random);
    for (size_t i = 0; i < LONG; i++) {
        set_value(type, one_more, i, 1 + get_value(type, gamma, i));
    }
    CHECK(lnorm_moments(&problem, x, moments) == LNORM_OK);
    CHECK(lnorm_grad_moments(&problem, dy, x, moments, one_more, expected) == LNORM_OK);
    problem.flags = LNORM_GAMMA_PLUS_ONE;
    CHECK(lnorm_grad_moments(&problem, dy, x, moments, gamma, got) == LNORM_OK);
    CHECK(first_difference(type, expected, got, LNORM_GRAD_MOMENTS) == LNORM_GRAD_MOMENTS);
}

/* A row of zeros, and an eps whose root is all there is. */
static void test_tiny_eps(lnorm_type type)
{
    double x[5] = {0}, y[5], rstd;
    const double eps = type == LNORM_F64 ? 0x1p-1040 : 0x1p-140, expected = type == LNORM_F64 ? 0x1p520 : 0x1p70;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    problem.norm = 5;
    problem.eps = eps;
    CHECK(lnorm_forward(&problem, x, NULL, NULL, y, NULL, &rstd) == LNORM_OK);
    CHECK(fabs(get_value(type, &rstd, 0) / expected - 1) <= 4 * unit_of(type));
    CHECK(get_value(type, y, 0) == 0 && get_value(type, y, 4) == 0);
}

/* In place of dtotal and without it: dx is that of backward and dtotal added, whatever is asked for ahead. */
static void test_added_gradient(lnorm_type type)
{
    enum { MANY = 20000, FEW = 16 };
    const size_t count = (size_t)MANY * FEW, e = type_size(type);
    char *const memory = test_allocate((4 * count + 2 * MANY) * e);
    void *const x = memory, *const dy = memory + count * e, *const added = memory + 2 * count * e;
    void *const dx = memory + 3 * count * e, *const mean = memory + 4 * count * e;
    void *const rstd = memory + (4 * count + MANY) * e, *const expected = test_allocate(count * e);
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    uint64_t random = 9;
    problem.x_type = (int32_t)type;
    problem.outer = MANY;
    problem.norm = FEW;
    problem.eps = 1e-5;
    fill_values(type, memory, 3 * count, 0.0, 1.0, &random);
    CHECK(lnorm_forward(&problem, x, NULL, NULL, dx, mean, rstd) == LNORM_OK);
    CHECK(lnorm_backward(&problem, dy, x, mean, rstd, NULL, expected, NULL, NULL, NULL, 0) == LNORM_OK);
    for (size_t i = 0; i < count; i++) {
        set_value(type, expected, i, get_value(type, expected, i) + get_value(type, added, i));
    }
    CHECK(lnorm_add_backward(&problem, dy, added, x, mean, rstd, NULL, dx, NULL, NULL, NULL, 0) == LNORM_OK);
    CHECK(first_difference(type, expected, dx, count) == count);
    free(memory);
    free(expected);
}

/* Every 16-bit number read, and numbers all over the range rounded to 16 bits, as a beta, which xhat * 0 leaves alone.
 */
static void test_16_bits(lnorm_type type)
{
    enum { NUMBERS = 1 << 16, AROUND = 5, ALL = NUMBERS * AROUND };
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    uint16_t *const x = test_allocate(ALL * sizeof *x), *const gamma = test_allocate(ALL * sizeof *gamma),
                    *const y = test_allocate(ALL * sizeof *y);
    float *const wide = test_allocate(ALL * sizeof *wide), *const zeros = test_allocate(ALL * sizeof *zeros);
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    problem.norm = NUMBERS;
    problem.eps = 1e-5;
    for (size_t i = 0; i < ALL; i++) {
        x[i] = value_to_16_bits(type, i % 2 ? 1.0 : -1.0);
        gamma[i] = 0;
        zeros[i] = 0;
        y[i] = (uint16_t)i;
    }
    problem.y_type = LNORM_F32;
    CHECK(lnorm_forward(&problem, x, gamma, y, wide, NULL, NULL) == LNORM_OK);
    for (size_t i = 0; i < NUMBERS; i++) {
        const double expected = value_of_16_bits(type, (uint16_t)i);
        CHECK(isnan(expected) ? isnan(wide[i]) : (double)wide[i] == expected);
    }
    for (size_t i = 0; i < ALL; i++) { /* each, half-way to the next one, and what is next to that */
        const size_t number = i / AROUND, way = i % AROUND;
        const double from = value_of_16_bits(type, (uint16_t)number);
        const double to = value_of_16_bits(type, (uint16_t)(number + 1));
        const float half = isinf(to) ? (float)(from + (from - value_of_16_bits(type, (uint16_t)(number - 1))) / 2)
                                     : (float)((from + to) / 2);
        wide[i] = way == 0 ? (float)from : way == 1 ? half : nextafterf(half, (way < 4 ? -1.0f : 1.0f) * INFINITY);
        wide[i] = way == 3 ? nextafterf(wide[i], -INFINITY) : wide[i];
    }
    problem.norm = ALL;
    problem.y_type = (int32_t)type;
    problem.param_type = LNORM_F32;
    CHECK(lnorm_forward(&problem, x, zeros, wide, y, NULL, NULL) == LNORM_OK);
    for (size_t i = 0; i < ALL; i++) {
        const uint16_t expected = value_to_16_bits(type, (double)wide[i]);
        if (!CHECK(wide[i] == 0 || value_bits(type, y, i) == value_bits(type, &expected, 0))) {
            printf("  %s of %a is %04x, expected %04x\n", type_name(type), (double)wide[i], y[i], expected);
        }
    }
    free(x);
    free(gamma);
    free(y);
    free(wide);
    free(zeros);
}

/* Eight bits: rounded after each step, and of infinite y. */
static void test_eight_bits(lnorm_type type)
{
    call c = full_call(type, QUANTIZED_FORWARD);
    int8_t q[ROWS * COLS];
    int32_t zero_point = 3;
    c.problem.y_type = LNORM_I8;
    c.problem.flags = LNORM_ROUND_STEPS;
    c.a[ZERO_POINT] = &zero_point;
    set_value(type, c.a[SCALE], 0, 0.0625);
    CHECK(run(&c) == LNORM_OK);
    memcpy(q, c.a[Y], sizeof q);
    c.which = FORWARD;
    c.problem.y_type = LNORM_TYPE_DEFAULT;
    CHECK(run(&c) == LNORM_OK);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        CHECK(q[i] == nearbyint(get_value(type, c.a[Y], i) / 0.0625) + 3);
    }

    for (int is_signed = 0; is_signed < 2; is_signed++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            c = full_call(type, QUANTIZED_FORWARD);
            c.problem.y_type = is_signed ? LNORM_I8 : LNORM_U8;
            c.a[ZERO_POINT] = is_signed ? NULL : c.a[ZERO_POINT];
            c.a[GAMMA] = NULL;
            set_value(type, c.a[BETA], 3, sign * (double)INFINITY);
            CHECK(run(&c) == LNORM_OK);
            const int32_t zero = is_signed ? 0 : sign < 0 ? 255 : *(int32_t *)c.a[ZERO_POINT];
            const int got = is_signed ? ((int8_t *)c.a[Y])[3] : ((uint8_t *)c.a[Y])[3];
            CHECK(get_value(type, c.a[SCALE], 0) == 1);
            CHECK(is_signed || (*(int32_t *)c.a[ZERO_POINT] == zero && (sign < 0 || zero <= 3)));
            CHECK(got == (is_signed ? (sign < 0 ? -128 : 127) : (sign < 0 ? 0 : 255)));
        }
    }
}

static void test_merges(lnorm_type type)
{
    const double huge = type == LNORM_F64 ? 1e300 : 3e38;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    double a[LNORM_MOMENTS], b[LNORM_MOMENTS], merged[LNORM_MOMENTS];
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    for (int grad = 0; grad < 2; grad++) {
        lnorm_status (*const merge)(const lnorm_problem *, int64_t, const void *, int64_t, const void *, void *) =
            grad ? lnorm_merge_grad_moments : lnorm_merge_moments;
        const size_t numbers = grad ? LNORM_GRAD_MOMENTS : LNORM_MOMENTS;
        uint64_t random = 1;
        fill_values(type, a, numbers, 0.0, 1.0, &random);
        fill_values(type, b, numbers, 0.0, 1.0, &random);
        CHECK(merge(&problem, 0, a, 5, b, merged) == LNORM_OK);
        CHECK(first_difference(type, b, merged, numbers) == numbers);
        CHECK(merge(&problem, 5, a, 0, b, merged) == LNORM_OK);
        CHECK(first_difference(type, a, merged, numbers) == numbers);
        CHECK(merge(&problem, 0, a, 0, b, merged) == LNORM_OK);
        CHECK(first_difference(type, b, merged, numbers) == numbers);
        CHECK(merge(&problem, INT64_MAX - 5, a, 5, b, merged) == LNORM_OK);
        CHECK(merge(&problem, INT64_MAX - 5, a, 6, b, merged) == LNORM_ERROR_SIZE);
        CHECK(merge(&problem, 6, a, -1, b, merged) == LNORM_ERROR_SIZE);
        CHECK(merge(&problem, -1, a, 6, b, merged) == LNORM_ERROR_SIZE);
    }
    for (size_t k = 0; k < LNORM_MOMENTS; k++) { /* a share that counts which are no doubles decide */
        set_value(type, a, k, k == 4 ? 1.0 : 0.0);
        set_value(type, b, k, k == 4 || k == 0 ? 1.0 : 0.0);
    }
    CHECK(lnorm_merge_moments(&problem, ((int64_t)1 << 62) - 6, a, 6, b, merged) == LNORM_OK);
    CHECK(fabs(get_value(type, merged, 0) / get_value(type, merged, 4) * 0x1p62 / 6.0 - 1.0) < 1e-6);
    const double means[][2] = {{huge, -huge}, {huge, 1.0}, {1.0, huge}, {(double)INFINITY, 1.0}}; /* far apart */
    for (int i = 0; i < 4; i++) {
        const double of_a = means[i][0], of_b = means[i][1];
        for (int k = 0; k < LNORM_MOMENTS; k++) {
            set_value(type, a, (size_t)k, k == 0 ? of_a : k == 4 ? 1.0 : 0.0);
            set_value(type, b, (size_t)k, k == 0 ? of_b : k == 4 ? 1.0 : 0.0);
        }
        CHECK(lnorm_merge_moments(&problem, 1, a, 3, b, merged) == LNORM_OK);
        const double scale = get_value(type, merged, 4), mean = get_value(type, merged, 0) / scale;
        const double var = get_value(type, merged, 2), apart = (of_a - of_b) * scale;
        if (i < 3) {
            CHECK(scale > 0 && scale < 1 && fabs(mean / (of_a / 4 + of_b * 3 / 4) - 1) < 1e-6);
            CHECK(fabs(var / (apart * apart * 3 / 16) - 1) < 1e-6);
        } else {
            CHECK(scale == 1 && !(fabs(mean) <= huge));
        }
    }
}

/* The moments of two pieces, merged, are those of whole rows; ordinary rows, and such as need a scale. */
static void test_merged_pieces(lnorm_type type)
{
    enum { FIRST = 3 };
    const size_t e = type_size(type);
    for (int size = -1; size <= 1; size++) {
        call whole = good_call(type, MOMENTS_OF), piece[2];
        char a[2][ROWS * LNORM_MOMENTS * sizeof(double)], merged[ROWS * LNORM_MOMENTS * sizeof(double)];
        const double near = 64 * unit_of(type), large = ldexp(1.0, size * (type == LNORM_F64 ? 700 : 100));
        uint64_t random = 6;
        fill_values(type, whole.a[X], ROWS * COLS, 0.5, large, &random);
        whole.problem.x_stride = whole.problem.dy_stride = COLS;
        whole.problem.eps = 0;
        CHECK(run(&whole) == LNORM_OK);
        for (int grad = 0; grad < 2; grad++) {
            whole.which = grad ? GRAD_MOMENTS_OF : MOMENTS_OF;
            for (int i = 0; i < 2; i++) {
                piece[i] = whole;
                piece[i].problem.norm = i == 0 ? FIRST : COLS - FIRST;
                for (int k = 0; k < ALL_ARGUMENTS && i == 1; k++) {
                    piece[i].a[k] = k == X || k == DY || k == GAMMA ? moved(whole.a[k], FIRST * e) : whole.a[k];
                }
                piece[i].a[grad ? GRAD_MOMENTS : MOMENTS] = a[i];
                CHECK(run(&piece[i]) == LNORM_OK);
            }
            CHECK(run(&whole) == LNORM_OK);
            CHECK((grad ? lnorm_merge_grad_moments : lnorm_merge_moments)(&whole.problem, FIRST, a[0], COLS - FIRST,
                                                                          a[1], merged) == LNORM_OK);
            const size_t numbers = grad ? LNORM_GRAD_MOMENTS : LNORM_MOMENTS;
            for (size_t r = 0; r < ROWS; r++) {
                double got[LNORM_MOMENTS], expected[LNORM_MOMENTS];
                for (size_t k = 0; k < numbers; k++) {
                    got[k] = get_value(type, merged, r * numbers + k);
                    expected[k] = get_value(type, whole.a[grad ? GRAD_MOMENTS : MOMENTS], r * numbers + k);
                }
                for (size_t k = 0; k < 2 && !grad; k++) { /* what the sums lost is added; of the same scale */
                    const double by = expected[4] / got[4];
                    got[k] = (got[2 * k] + got[2 * k + 1]) * by * (k == 0 ? 1 : by);
                    expected[k] = expected[2 * k] + expected[2 * k + 1];
                }
                for (size_t k = 0; k < (grad ? 4 : 2); k++) {
                    CHECK(fabs(got[k] - expected[k]) <= near);
                }
            }
        }
    }
}

/* As many rows as make pieces larger than the least: of one row that is seen again and again. */
static void test_large_pieces(lnorm_type type)
{
    enum { MANY = 3000, LONG = 3001 };
    const size_t e = type_size(type);
    char *const memory = test_allocate((LONG + (MANY + 1) * LNORM_MOMENTS) * e);
    void *const one = memory + LONG * e, *const all = memory + (LONG + LNORM_MOMENTS) * e;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    uint64_t random = 3;
    size_t calls = 0;
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    problem.norm = LONG;
    fill_values(type, memory, LONG, 0.0, 1.0, &random);
    CHECK(lnorm_moments(&problem, memory, one) == LNORM_OK);
    problem.outer = MANY;
    problem.x_stride = LNORM_BROADCAST;
    problem.parallel_for = run_in_order;
    problem.parallel_context = &calls;
    CHECK(lnorm_moments(&problem, memory, all) == LNORM_OK);
    CHECK(calls > 1 && calls < MANY / 2);
    for (size_t r = 0; r < MANY; r++) {
        const void *const got = (const char *)all + r * LNORM_MOMENTS * e;
        CHECK(first_difference(type, one, got, LNORM_MOMENTS) == LNORM_MOMENTS);
    }
    free(memory);
}

/* Gradients of inputs that overlap themselves, each element of a row a place behind the last, are those of copies. */
static void test_overlapping_inputs(lnorm_type type)
{
    enum { PLACES = COLS + 1 }; /* of two rows side by side */
    double values[4][2 * COLS], expected[2][COLS];
    void *const x = values[0], *const dy = values[1], *const x_copy = values[2], *const dy_copy = values[3];
    call c = good_call(type, BACKWARD);
    uint64_t random = 6;
    c.problem.outer = 1;
    c.problem.inner = 2;
    fill_values(type, x, PLACES, 0.0, 1.0, &random);
    fill_values(type, dy, PLACES, 0.0, 1.0, &random);
    for (size_t n = 0; n < COLS; n++) {
        for (size_t i = 0; i < 2; i++) {
            set_value(type, x_copy, 2 * n + i, get_value(type, x, n + i));
            set_value(type, dy_copy, 2 * n + i, get_value(type, dy, n + i));
        }
    }
    set_value(type, c.a[MEAN], 0, 0.1);
    set_value(type, c.a[MEAN], 1, -0.1);
    set_value(type, c.a[RSTD], 0, 1.1);
    set_value(type, c.a[RSTD], 1, 0.9);
    c.a[DX] = NULL;
    c.a[X] = x_copy;
    c.a[DY] = dy_copy;
    CHECK(run(&c) == LNORM_OK);
    memcpy(expected[0], c.a[DGAMMA], COLS * type_size(type));
    memcpy(expected[1], c.a[DBETA], COLS * type_size(type));
    c.problem.x_norm_stride = c.problem.dy_norm_stride = c.problem.dx_norm_stride = 1;
    c.a[X] = x;
    c.a[DY] = dy;
    CHECK(run(&c) == LNORM_OK);
    CHECK(first_difference(type, expected[0], c.a[DGAMMA], COLS) == COLS);
    CHECK(first_difference(type, expected[1], c.a[DBETA], COLS) == COLS);
}

/* The scale of moments is the power of two nearest to 1 that brings the largest element to 0.5 to 1. */
static void test_scale_of_moments(lnorm_type type)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = (int32_t)type;
    problem.outer = 1;
    problem.norm = 3;
    for (int sign = -1; sign <= 1; sign += 2) {
        for (int i = 0; i < 3; i++) {
            const double power = ldexp(1.0, sign * (type == LNORM_F64 ? 700 : 100));
            const double expected = i == 0 && sign > 0 ? 1 / power : 0.5 / power;
            double x[3] = {0}, moments[LNORM_MOMENTS];
            set_value(type, x, 1, -power * (i == 0 ? 1 : i == 1 ? 1.5 : 1 + unit_of(type)));
            CHECK(lnorm_moments(&problem, x, moments) == LNORM_OK);
            CHECK(get_value(type, moments, 4) == expected);
        }
    }
}

/* Moments of tiny rows, taken without eps, whose eps would overflow beside their scale. */
static void test_scaled_eps(lnorm_type type)
{
    call c = good_call(type, FORWARD);
    const double tiny = type == LNORM_F64 ? 0x1p-900 : 0x1p-100;
    uint64_t random = 4;
    fill_values(type, c.a[X], ROWS * COLS, 0.0, tiny, &random);
    c.a[BETA] = NULL;
    c.problem.eps = 0;
    CHECK(lnorm_moments(&c.problem, c.a[X], c.a[MOMENTS]) == LNORM_OK);
    CHECK(get_value(type, c.a[MOMENTS], 4) > 1);
    for (int i = 0; i < 3; i++) {
        unsigned char y[ROWS * COLS * sizeof(double)];
        c.problem.eps = i == 0 ? 1e-5 : i == 1 ? tiny : 0.0;
        c.which = FORWARD;
        CHECK(run(&c) == LNORM_OK);
        memcpy(y, c.a[Y], sizeof y);
        c.which = APPLY_MOMENTS;
        CHECK(run(&c) == LNORM_OK);
        double largest = 0;
        for (size_t k = 0; k < ROWS * COLS; k++) {
            largest = fmax(largest, fabs(get_value(type, y, k)));
        }
        for (size_t k = 0; k < ROWS * COLS; k++) {
            CHECK(fabs(get_value(type, c.a[Y], k) - get_value(type, y, k)) <= 16 * unit_of(type) * largest);
        }
    }
}

int main(void)
{
    pool = test_allocate(POOL);
    for (size_t t = 0; t < COUNT(element_types); t++) {
        const lnorm_type type = element_types[t];
        for (which which = FORWARD; which <= MERGE_GRAD_MOMENTS; which++) {
            test_arguments(type, which);
            test_strides(type, which);
            test_refused_members(type, which);
            test_no_elements(type, which);
            if (!is_merge(which)) {
                test_no_long_rows(type, which);
            }
        }
        test_no_rows_in_groups(type);
        test_extents(type);
        test_sizes(type);
        test_places(type);
        test_scales(type);
        for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
            CHECK(lnorm_set_isa(lnorm_available_isa(isa)) == LNORM_OK);
            test_absent_statistics(type);
            test_ways(type);
            for (which which = FORWARD; which <= APPLY_GRAD_MOMENTS; which++) {
                if (!(C(which) & (ALL_TOTAL | C(QUANTIZED_FORWARD)))) {
                    test_one_strided(type, which);
                    test_step_of_one_element(type, which);
                }
            }
            test_runs(type);
            test_plus_one(type);
            test_tiny_eps(type);
            test_added_gradient(type);
            test_eight_bits(type);
            test_merged_pieces(type);
            test_large_pieces(type);
            test_overlapping_inputs(type);
            test_scale_of_moments(type);
            test_scaled_eps(type);
        }
        test_merges(type);
    }
    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        CHECK(lnorm_set_isa(lnorm_available_isa(isa)) == LNORM_OK);
        test_16_bits(LNORM_F16);
        test_16_bits(LNORM_BF16);
    }
    free(pool);
    return test_result("edges_test");
}

/* The small build's functions give the bits and the statuses of the library's. */
#include "test_support.h"

lnorm_status lnorm_small_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma, const float *beta,
                                     double eps, float *y, float *mean, float *rstd);

lnorm_status lnorm_small_quantized_forward(const lnorm_problem *problem, const void *x, const void *gamma,
                                           const void *beta, void *y, void *scale, int32_t *zero_point, void *mean,
                                           void *rstd);

enum { MOST_COLS = 70001, MOST_ROWS = 3 };

typedef struct outputs {
    float *y, mean[MOST_ROWS], rstd[MOST_ROWS], scale[MOST_ROWS];
    int32_t zero_point[MOST_ROWS];
} outputs;

/* The same rows to 8 bits, in each of the four ways. */
static void check_quantized(size_t rows, size_t cols, const float *x, const float *gamma, const float *beta, double eps,
                            outputs to[2])
{
    for (int way = 0; way < 4; way++) {
        lnorm_problem problem = LNORM_PROBLEM_INIT;
        problem.outer = (int64_t)rows;
        problem.norm = (int64_t)cols;
        problem.eps = eps;
        problem.y_type = way % 2 ? LNORM_I8 : LNORM_U8;
        problem.flags = way < 2 ? LNORM_DYNAMIC_SCALE : 0;
        for (int i = 0; i < 2; i++) {
            int32_t *const zero_point = way == 1 ? NULL : to[i].zero_point;
            memset(to[i].scale, 0, sizeof to[i].scale);
            memset(to[i].zero_point, 0, sizeof to[i].zero_point);
            if (way >= 2) {
                to[i].scale[0] = 0.0117f;
                to[i].zero_point[0] = way == 2 ? 131 : -3;
            }
            CHECK((i == 0 ? lnorm_quantized_forward : lnorm_small_quantized_forward)(
                      &problem, x, gamma, beta, to[i].y, to[i].scale, zero_point, to[i].mean, to[i].rstd) == LNORM_OK);
        }
        CHECK(memcmp(to[0].y, to[1].y, rows * cols) == 0);
        CHECK(first_difference(LNORM_F32, to[0].scale, to[1].scale, MOST_ROWS) == MOST_ROWS);
        CHECK(memcmp(to[0].zero_point, to[1].zero_point, sizeof to[0].zero_point) == 0);
        CHECK(first_difference(LNORM_F32, to[0].rstd, to[1].rstd, rows) == rows);
    }
}

static bool same(const float *a, const float *b, size_t count)
{
    return first_difference(LNORM_F32, a, b, count) == count;
}

static void check_values(float *x, float *gamma, float *beta, outputs to[2])
{
    static const double scales[] = {1.0, 1.0, 1.0, 0x1p-140, 0x1p-60, 0x1p+100, 1.0}, offsets[] = {0, 3, 1e4, 0, 0};
    uint64_t random = 1;
    for (size_t i = 0; i < 4000; i++) {
        const size_t cols = i < 1100 ? i + 1 : i % 1000 == 0 ? MOST_COLS : 1 + (size_t)(next_random(&random) % 3000);
        const size_t rows = 1 + i % MOST_ROWS;
        const double eps = i % 3 == 0 ? 0.0 : i % 3 == 1 ? 1e-5 : 1e-30;
        const float *const wanted_gamma = i % 8 == 1 ? NULL : gamma, *const wanted_beta = i % 8 == 2 ? NULL : beta;
        fill_values(LNORM_F32, x, rows * cols, offsets[i % 5], scales[i % 7], &random);
        if (i % 4 == 0) {
            make_special(LNORM_F32, x, rows, cols, &random);
        }
        if (i % 11 < 3) { /* equal elements; two neighbours, of which the mean is none; zeros where the guess looks */
            const float most = i % 2 == 0 ? 0x1.fffffep+127f : ldexpf(1.1f, (int)(i % 97) - 20);
            for (size_t k = 0; k < cols; k++) {
                const bool is_near_end = k < 40 || k + 40 >= cols;
                x[k] = i % 11 == 1 && k % 5 < 2 ? nextafterf(most, 0.0f) : i % 11 == 2 && is_near_end ? 0.0f : most;
            }
        }
        const lnorm_status status =
            lnorm_forward_f32(rows, cols, x, wanted_gamma, wanted_beta, eps, to[0].y, to[0].mean, to[0].rstd);
        CHECK(status == LNORM_OK);
        CHECK(lnorm_small_forward_f32(rows, cols, x, wanted_gamma, wanted_beta, eps, to[1].y, to[1].mean, to[1].rstd) ==
              status);
        if (!CHECK(same(to[0].y, to[1].y, rows * cols) && same(to[0].mean, to[1].mean, rows) &&
                   same(to[0].rstd, to[1].rstd, rows))) {
            printf("  case %zu: %zu x %zu\n", i, rows, cols);
        }
        if (i % 5 == 0) {
            check_quantized(rows, cols, x, wanted_gamma, wanted_beta, eps, to);
        }
    }
    check_quantized(MOST_ROWS, 0, x, gamma, beta, 1e-5, to);
    memcpy(to[1].y, x, 7 * sizeof *x); /* in place, and without statistics */
    CHECK(lnorm_forward_f32(1, 7, x, gamma, beta, 1e-5, to[0].y, NULL, NULL) == LNORM_OK);
    CHECK(lnorm_small_forward_f32(1, 7, to[1].y, gamma, beta, 1e-5, to[1].y, NULL, NULL) == LNORM_OK);
    CHECK(same(to[0].y, to[1].y, 7));
}

static void check_refusals(float *x, float *gamma, float *beta, outputs *to)
{
    const struct {
        size_t rows, cols;
        const float *x, *gamma, *beta;
        double eps;
        float *y, *mean, *rstd;
    } calls[] = {
        {2, 3, x, gamma, beta, -1e-300, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, -0.0, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, 1e39, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, (double)NAN, to->y, NULL, NULL},
        {2, 3, NULL, gamma, beta, 0.0, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, NULL, NULL, NULL},
        {0, 3, NULL, gamma, beta, 0.0, NULL, NULL, NULL},
        {2, 0, NULL, NULL, NULL, 0.0, NULL, to->mean, to->rstd},
        {2, 3, x, gamma, beta, 0.0, x, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, x + 1, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, x - 6, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, x + 6, NULL, NULL},
        {2, 3, x, x + 1, x + 2, 0.0, to->y, NULL, NULL}, /* inputs may be parts of each other */
        {2, 3, x, to->y, beta, 0.0, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, to->y, to->y + 5, NULL},
        {2, 3, x, gamma, beta, 0.0, to->y, to->mean, to->mean + 1},
        {2, 3, x, gamma, beta, 0.0, to->y, to->mean, gamma + 2},
        {1, 64, NULL, NULL, NULL, 0.0, (float *)(uintptr_t)64, NULL, NULL}, /* what is absent overlaps nothing */
        {SIZE_MAX / 4, 3, x, gamma, beta, 0.0, to->y, NULL, NULL},
        {3, SIZE_MAX / 4, x, gamma, beta, 0.0, to->y, NULL, NULL},
        {SIZE_MAX, 0, x, gamma, beta, 0.0, to->y, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        const lnorm_status expected =
            lnorm_forward_f32(calls[i].rows, calls[i].cols, calls[i].x, calls[i].gamma, calls[i].beta, calls[i].eps,
                              calls[i].y, calls[i].mean, calls[i].rstd);
        const lnorm_status got =
            lnorm_small_forward_f32(calls[i].rows, calls[i].cols, calls[i].x, calls[i].gamma, calls[i].beta,
                                    calls[i].eps, calls[i].y, calls[i].mean, calls[i].rstd);
        if (!CHECK(got == expected)) {
            printf("  call %zu: got %d, expected %d\n", i, got, expected);
        }
    }
}

/* What both refuse, and what only the small build does. */
static void check_quantized_refusals(float *x, const float *gamma, outputs *to)
{
    static const struct {
        size_t offset;
        int64_t value;
        size_t size;
        lnorm_status small; /* LNORM_OK: as the library's */
    } changes[] = {
#define CHANGE(member, value, small)                                                                                   \
    {offsetof(lnorm_problem, member), value, sizeof(((lnorm_problem *)0)->member), small}
        CHANGE(struct_size, 8, LNORM_OK),
        CHANGE(x_type, LNORM_F32, LNORM_OK),
        CHANGE(param_type, LNORM_F32, LNORM_OK),
        CHANGE(norm, -1, LNORM_OK),
        CHANGE(outer, INT64_MAX, LNORM_OK),
        CHANGE(y_stride, 3, LNORM_OK),
        CHANGE(y_norm_stride, 2, LNORM_ERROR_STRIDE),
        CHANGE(operation, 7, LNORM_OK),
        CHANGE(operation, LNORM_RMS_NORM, LNORM_ERROR_OPERATION),
        CHANGE(x_type, LNORM_I8, LNORM_OK),
        CHANGE(x_type, LNORM_F16, LNORM_ERROR_TYPE),
        CHANGE(y_type, LNORM_F32, LNORM_OK),
        CHANGE(param_type, LNORM_F64, LNORM_OK),
        CHANGE(flags, 1024, LNORM_OK),
        CHANGE(flags, LNORM_GAMMA_PLUS_ONE, LNORM_ERROR_FLAGS),
        CHANGE(reserved, 1, LNORM_OK),
        CHANGE(inner, -1, LNORM_OK),
        CHANGE(inner, 2, LNORM_ERROR_INNER),
        CHANGE(outer, -1, LNORM_OK),
        CHANGE(norm, INT64_MAX, LNORM_OK),
        CHANGE(x_stride, 3, LNORM_OK),
        CHANGE(x_stride, 4, LNORM_ERROR_STRIDE),
        CHANGE(y_stride, 1, LNORM_OK),
        CHANGE(x_norm_stride, 2, LNORM_ERROR_STRIDE),
        CHANGE(param_rows, 2, LNORM_ERROR_PARAMS),
        CHANGE(param_repeat, 2, LNORM_OK), /* which is outer */
        CHANGE(param_repeat, 3, LNORM_OK),
        CHANGE(param_run, 2, LNORM_OK),
#undef CHANGE
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        lnorm_problem problem = LNORM_PROBLEM_INIT;
        int32_t zero_point = 0;
        problem.outer = 2;
        problem.norm = 3;
        problem.y_type = LNORM_I8;
        for (size_t byte = 0; byte < changes[i].size; byte++) { /* of either endianness */
            const int one = 1, place = *(const char *)&one ? (int)byte : (int)(changes[i].size - 1 - byte);
            ((unsigned char *)&problem)[changes[i].offset + (size_t)place] =
                (unsigned char)((uint64_t)changes[i].value >> (8 * byte));
        }
        to->scale[0] = 1;
        const lnorm_status expected =
            lnorm_quantized_forward(&problem, x, gamma, NULL, to->y, to->scale, &zero_point, NULL, NULL);
        const lnorm_status got =
            lnorm_small_quantized_forward(&problem, x, gamma, NULL, to->y, to->scale, &zero_point, NULL, NULL);
        if (!CHECK(got == (changes[i].small != LNORM_OK ? changes[i].small : expected))) {
            printf("  change %zu: got %d, the library %d\n", i, got, expected);
        }
    }
    CHECK(lnorm_small_quantized_forward(NULL, x, gamma, NULL, to->y, to->scale, NULL, NULL, NULL) ==
          LNORM_ERROR_STRUCT);
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = 2;
    problem.norm = 3;
    problem.y_type = LNORM_I8;
    const struct {
        void *x, *y, *scale;
        int32_t zero_point;
    } calls[] = {{x, x, to->scale, 0}, /* the elements are not as large */
                 {x, to->y, to->y, 0},
                 {x, to->y, NULL, 0},
                 {NULL, to->y, to->scale, 0},
                 {x, to->y, to->scale, 128}};
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int32_t zero_point = calls[i].zero_point;
        to->scale[0] = to->y[0] = 1;
        const lnorm_status expected = lnorm_quantized_forward(&problem, calls[i].x, gamma, NULL, calls[i].y,
                                                              calls[i].scale, &zero_point, NULL, NULL);
        const lnorm_status got = lnorm_small_quantized_forward(&problem, calls[i].x, gamma, NULL, calls[i].y,
                                                               calls[i].scale, &zero_point, NULL, NULL);
        if (!CHECK(got == expected && got != LNORM_OK)) {
            printf("  call %zu: got %d, the library %d\n", i, got, expected);
        }
    }
}

int main(void)
{
    const size_t bytes = (size_t)MOST_ROWS * MOST_COLS * sizeof(float);
    float *x = test_allocate(bytes), *gamma = test_allocate(bytes), *beta = test_allocate(bytes);
    static outputs to[2];
    uint64_t random = 2;
    to[0].y = test_allocate(bytes);
    to[1].y = test_allocate(bytes);
    fill_values(LNORM_F32, gamma, MOST_COLS, 0.5, 1.0, &random);
    fill_values(LNORM_F32, beta, MOST_COLS, 0.0, 1.0, &random);
    check_values(x, gamma, beta, to);
    check_refusals(x + 6, gamma, beta, &to[0]);
    check_quantized_refusals(x, gamma, &to[0]);
    free(x);
    free(gamma);
    free(beta);
    free(to[0].y);
    free(to[1].y);
    return test_result("lnorm_small");
}

/* The small build of lnorm_forward_f32 gives the bits and the statuses of the library's. */
#include "test_support.h"

lnorm_status lnorm_small_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma, const float *beta,
                                     double eps, float *y, float *mean, float *rstd);

enum { MOST_COLS = 70001, MOST_ROWS = 3 };

typedef struct outputs {
    float *y, mean[MOST_ROWS], rstd[MOST_ROWS];
} outputs;

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
        if (i % 11 == 0) { /* equal elements */
            for (size_t k = 0; k < cols; k++) {
                x[k] = i % 2 == 0 ? 0x1.fffffep+127f : x[0];
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
    }
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
        {2, 3, x, to->y, beta, 0.0, to->y, NULL, NULL},
        {2, 3, x, gamma, beta, 0.0, to->y, to->y + 5, NULL},
        {2, 3, x, gamma, beta, 0.0, to->y, to->mean, to->mean + 1},
        {2, 3, x, gamma, beta, 0.0, to->y, to->mean, gamma + 2},
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
    free(x);
    free(gamma);
    free(beta);
    free(to[0].y);
    free(to[1].y);
    return test_result("lnorm_small");
}

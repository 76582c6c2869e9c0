/* What was built against a recorded lnorm.h, to run with a later library: every function by its formula, every member
 * of the problem. A problem ends where a page does, so that a library that reads further crashes. */
#include "test_support.h"

#define ROWS 3
#define COLS 5
#define SIZE (ROWS * COLS)
#define STEP 2
#define STRIDE (COLS * STEP + 1)

static const double x[SIZE] = {1, 2, 3, 4, 7, -3, 8, 0, 2, 1, 9, 9, 8, 9, 1};
static const double dy[SIZE] = {1, -1, 2, 0, 3, 2, 2, -1, 1, 0, 0, 1, 0, -2, 1};
static const double gamma_[COLS] = {1, 2, -1, 0.5, 3}, beta[COLS] = {0, 1, -1, 2, 0.25};
static const double eps = 1e-3;

typedef struct results {
    double xhat[SIZE], y[SIZE], mean[ROWS], rstd[ROWS], dx[SIZE], dgamma[COLS], dbeta[COLS];
} results;

static results compute(void)
{
    results is = {.mean = {0}};
    for (int r = 0; r < ROWS; r++) {
        double var = 0, g_mean = 0, g_xhat_mean = 0;
        for (int i = r * COLS; i < (r + 1) * COLS; i++) {
            is.mean[r] += x[i] / COLS;
        }
        for (int i = r * COLS; i < (r + 1) * COLS; i++) {
            var += (x[i] - is.mean[r]) * (x[i] - is.mean[r]) / COLS;
        }
        is.rstd[r] = 1 / sqrt(var + eps);
        for (int i = r * COLS, c = 0; c < COLS; i++, c++) {
            is.xhat[i] = (x[i] - is.mean[r]) * is.rstd[r];
            is.y[i] = is.xhat[i] * gamma_[c] + beta[c];
            g_mean += dy[i] * gamma_[c] / COLS;
            g_xhat_mean += dy[i] * gamma_[c] * is.xhat[i] / COLS;
            is.dgamma[c] += dy[i] * is.xhat[i];
            is.dbeta[c] += dy[i];
        }
        for (int i = r * COLS, c = 0; c < COLS; i++, c++) {
            is.dx[i] = is.rstd[r] * (dy[i] * gamma_[c] - g_mean - is.xhat[i] * g_xhat_mean);
        }
    }
    return is;
}

static results right, got;
static double workspace[1000];

static bool near(const double *a, const double *b, size_t count, double error)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabs(a[i] - b[i]) <= error)) {
            printf("element %d is %g, not %g\n", (int)i, a[i], b[i]);
            return false;
        }
    }
    return true;
}

static bool forward_is_right(double error)
{
    const bool is = near(got.y, right.y, SIZE, error) && near(got.mean, right.mean, ROWS, error) &&
                    near(got.rstd, right.rstd, ROWS, error);
    memset(&got, 0, sizeof got);
    return is;
}

static bool backward_is_right(double error)
{
    const bool is = near(got.dx, right.dx, SIZE, error) && near(got.dgamma, right.dgamma, COLS, error) &&
                    near(got.dbeta, right.dbeta, COLS, error);
    memset(&got, 0, sizeof got);
    return is;
}

#define OK(call) CHECK((call) == LNORM_OK)

/* ---- The typed calls ---- */

static void narrow(float *to, const double *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = (float)from[i];
    }
}

static void widen(double *to, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        to[i] = (double)from[i];
    }
}

static void typed(void)
{
    OK(lnorm_forward_f64(ROWS, COLS, x, gamma_, beta, eps, got.y, got.mean, got.rstd));
    CHECK(forward_is_right(1e-12));
    CHECK(lnorm_backward_workspace_f64(ROWS, COLS) <= sizeof workspace);
    OK(lnorm_backward_f64(ROWS, COLS, dy, x, right.mean, right.rstd, gamma_, got.dx, got.dgamma, got.dbeta, workspace,
                          sizeof workspace));
    CHECK(backward_is_right(1e-12));

    float x32[SIZE], dy32[SIZE], gamma32[COLS], beta32[COLS], y32[SIZE], mean32[ROWS], rstd32[ROWS];
    float dx32[SIZE], dgamma32[COLS], dbeta32[COLS];
    narrow(x32, x, SIZE);
    narrow(dy32, dy, SIZE);
    narrow(gamma32, gamma_, COLS);
    narrow(beta32, beta, COLS);
    OK(lnorm_forward_f32(ROWS, COLS, x32, gamma32, beta32, eps, y32, mean32, rstd32));
    CHECK(lnorm_backward_workspace_f32(ROWS, COLS) <= sizeof workspace);
    OK(lnorm_backward_f32(ROWS, COLS, dy32, x32, mean32, rstd32, gamma32, dx32, dgamma32, dbeta32, workspace,
                          sizeof workspace));
    widen(got.y, y32, SIZE);
    widen(got.mean, mean32, ROWS);
    widen(got.rstd, rstd32, ROWS);
    CHECK(forward_is_right(1e-5));
    widen(got.dx, dx32, SIZE);
    widen(got.dgamma, dgamma32, COLS);
    widen(got.dbeta, dbeta32, COLS);
    CHECK(backward_is_right(1e-5));
}

/* ---- Calls with a problem, which ends where its page does ---- */

static guarded page;

static lnorm_problem *problem_of(size_t struct_size)
{
    const lnorm_problem plain = LNORM_PROBLEM_INIT;
    const size_t known = struct_size < sizeof plain ? struct_size : sizeof plain;
    lnorm_problem *const problem = guarded_place(&page, known, 0, true);
    memcpy(problem, &plain, known);
    memcpy(problem, &struct_size, sizeof struct_size);
    return problem;
}

static lnorm_problem *problem_f64(void)
{
    lnorm_problem *const problem = problem_of(sizeof *problem);
    problem->x_type = LNORM_F64;
    problem->outer = ROWS;
    problem->norm = COLS;
    problem->eps = eps;
    return problem;
}

static void spread(double *to, const double *from)
{
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLS; c++) {
            to[r * STRIDE + c * STEP] = from[r * COLS + c];
        }
    }
}

static void collect(double *to, const double *from)
{
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < COLS; c++) {
            to[r * COLS + c] = from[r * STRIDE + c * STEP];
        }
    }
}

static void strides(void)
{
    double sx[ROWS * STRIDE] = {0}, sy[ROWS * STRIDE] = {0}, sdy[ROWS * STRIDE] = {0}, sdx[ROWS * STRIDE] = {0};
    size_t bytes = 0;
    lnorm_problem *const problem = problem_f64();
    problem->inner = 1;
    problem->x_stride = problem->y_stride = problem->dy_stride = problem->dx_stride = STRIDE;
    problem->x_norm_stride = problem->y_norm_stride = problem->dy_norm_stride = problem->dx_norm_stride = STEP;
    problem->param_rows = problem->param_run = 1;
    problem->param_repeat = ROWS;
    spread(sx, x);
    spread(sdy, dy);
    OK(lnorm_forward(problem, sx, gamma_, beta, sy, got.mean, got.rstd));
    collect(got.y, sy);
    CHECK(forward_is_right(1e-12));
    OK(lnorm_backward_workspace(problem, &bytes));
    CHECK(bytes <= sizeof workspace);
    OK(lnorm_backward(problem, sdy, sx, right.mean, right.rstd, gamma_, sdx, got.dgamma, got.dbeta, workspace, bytes));
    collect(got.dx, sdx);
    CHECK(backward_is_right(1e-12));
}

static void count_tasks(void *context, size_t count, lnorm_task task, void *argument)
{
    *(size_t *)context += count;
    for (size_t i = 0; i < count; i++) {
        task(argument, i);
    }
}

static void hook(void)
{
    static double y[100000 * COLS];
    size_t tasks = 0;
    lnorm_problem *const problem = problem_f64();
    problem->outer = 100000;
    problem->x_stride = LNORM_BROADCAST;
    problem->parallel_for = count_tasks;
    problem->parallel_context = &tasks;
    OK(lnorm_forward(problem, x, gamma_, beta, y, NULL, NULL));
    CHECK(near(y, right.y, COLS, 1e-12) && near(y + 99999 * COLS, right.y, COLS, 1e-12));
    CHECK(tasks >= 2);
}

static void parameters_and_operation(void)
{
    double transposed[SIZE], y[SIZE];
    for (int i = 0; i < SIZE; i++) {
        transposed[i % COLS * ROWS + i / COLS] = x[i];
    }
    lnorm_problem *problem = problem_f64();
    problem->outer = 1;
    problem->inner = ROWS;
    OK(lnorm_forward(problem, transposed, gamma_, beta, y, got.mean, got.rstd));
    for (int i = 0; i < SIZE; i++) {
        got.y[i] = y[i % COLS * ROWS + i / COLS];
    }
    CHECK(forward_is_right(1e-12));

    problem = problem_f64();
    problem->param_rows = ROWS; /* one gamma for each row, of which 1 is left out */
    problem->param_run = COLS;
    problem->flags = LNORM_GAMMA_PLUS_ONE;
    OK(lnorm_forward(problem, x, gamma_, NULL, y, NULL, NULL));
    for (int i = 0; i < SIZE; i++) {
        CHECK(fabs(y[i] - right.xhat[i] * (1 + gamma_[i / COLS])) < 1e-12);
    }

    problem = problem_f64();
    problem->operation = LNORM_RMS_NORM;
    problem->outer = 1;
    OK(lnorm_forward(problem, x, NULL, NULL, y, NULL, NULL));
    CHECK(fabs(y[4] - 7 / sqrt((1 + 4 + 9 + 16 + 49) / 5.0 + eps)) < 1e-12);
}

static void residual(void)
{
    double part[SIZE], total[ROWS * STRIDE] = {0}, dtotal[ROWS * STRIDE], residual[2 * COLS];
    lnorm_problem *const problem = problem_f64();
    problem->residual_rows = 1;
    problem->residual_stride = COLS;
    problem->total_stride = STRIDE;
    for (int i = 0; i < SIZE; i++) {
        residual[i % COLS] = 0.25 * (i % COLS);
        part[i] = x[i] - residual[i % COLS] - beta[i % COLS];
    }
    OK(lnorm_add_forward(problem, part, residual, beta, gamma_, beta, total, got.y, got.mean, got.rstd));
    CHECK(forward_is_right(1e-12));
    CHECK(near(total, x, COLS, 1e-12) && near(total + STRIDE, x + COLS, COLS, 1e-12));
    for (int i = 0; i < ROWS * STRIDE; i++) {
        dtotal[i] = 10;
    }
    OK(lnorm_add_backward(problem, dy, dtotal, total, right.mean, right.rstd, gamma_, got.dx, got.dgamma, got.dbeta,
                          workspace, sizeof workspace));
    for (int i = 0; i < SIZE; i++) {
        got.dx[i] -= 10;
    }
    CHECK(backward_is_right(1e-12));
}

static void other_forms(void)
{
    int8_t q[SIZE];
    const float scale = 0.0625f;
    const int32_t zero_point = -3;
    float x32[SIZE], gamma32[COLS], beta32[COLS];
    narrow(x32, x, SIZE);
    narrow(gamma32, gamma_, COLS);
    narrow(beta32, beta, COLS);
    lnorm_problem *const problem = problem_f64();
    problem->x_type = problem->param_type = LNORM_F32;
    problem->y_type = LNORM_I8;
    float given_scale = scale;
    int32_t given_zero_point = zero_point;
    OK(lnorm_quantized_forward(problem, x32, gamma32, beta32, q, &given_scale, &given_zero_point, NULL, NULL));
    for (int i = 0; i < SIZE; i++) {
        CHECK(fabs((q[i] - zero_point) * (double)scale - right.y[i]) <= (double)scale * 0.5001);
    }
    OK(lnorm_backward_from_y(problem_f64(), dy, right.y, right.rstd, gamma_, beta, got.dx, got.dgamma, got.dbeta,
                             workspace, sizeof workspace));
    CHECK(backward_is_right(1e-10));
}

static void pieces(void)
{
    double a[ROWS * LNORM_MOMENTS], b[ROWS * LNORM_MOMENTS], grad_a[ROWS * LNORM_GRAD_MOMENTS],
        grad_b[ROWS * LNORM_GRAD_MOMENTS];
    const int first = 2;
    lnorm_problem *problem = problem_f64();
    problem->x_stride = problem->dy_stride = COLS;
    problem->norm = first;
    OK(lnorm_moments(problem, x, a));
    problem->norm = COLS - first;
    OK(lnorm_moments(problem, x + first, b));
    OK(lnorm_merge_moments(problem, first, a, COLS - first, b, a));
    OK(lnorm_grad_moments(problem, dy + first, x + first, a, gamma_ + first, grad_b));
    problem->norm = first;
    OK(lnorm_grad_moments(problem, dy, x, a, gamma_, grad_a));
    OK(lnorm_merge_grad_moments(problem, first, grad_a, COLS - first, grad_b, grad_a));
    problem = problem_f64();
    OK(lnorm_apply_moments(problem, x, a, gamma_, beta, got.y, got.mean, got.rstd));
    CHECK(forward_is_right(1e-12));
    OK(lnorm_apply_grad_moments(problem, dy, x, a, grad_a, gamma_, got.dx, got.dgamma, got.dbeta, workspace,
                                sizeof workspace));
    CHECK(backward_is_right(1e-12));
}

/* ---- A struct_size that the library does not know ---- */

enum { CALLS_WITH_PROBLEM = 13 };

static lnorm_status call(int which, const lnorm_problem *problem)
{
    double moments[ROWS * LNORM_MOMENTS] = {0};
    size_t size;
    switch (which) {
    case 0:
        return lnorm_forward(problem, x, gamma_, beta, got.y, got.mean, got.rstd);
    case 1:
        return lnorm_backward(problem, dy, x, right.mean, right.rstd, gamma_, got.dx, got.dgamma, got.dbeta, workspace,
                              sizeof workspace);
    case 2:
        return lnorm_backward_workspace(problem, &size);
    case 3:
        return lnorm_add_forward(problem, x, dy, beta, gamma_, beta, got.dx, got.y, got.mean, got.rstd);
    case 4:
        return lnorm_add_backward(problem, dy, NULL, x, right.mean, right.rstd, gamma_, got.dx, got.dgamma, got.dbeta,
                                  workspace, sizeof workspace);
    case 5:
        return lnorm_quantized_forward(problem, x, gamma_, beta, got.y, got.mean, NULL, NULL, NULL);
    case 6:
        return lnorm_backward_from_y(problem, dy, x, right.rstd, gamma_, beta, got.dx, got.dgamma, got.dbeta, workspace,
                                     sizeof workspace);
    case 7:
        return lnorm_moments(problem, x, got.y);
    case 8:
        return lnorm_merge_moments(problem, 1, moments, 1, moments, got.y);
    case 9:
        return lnorm_merge_grad_moments(problem, 1, moments, 1, moments, got.y);
    case 10:
        return lnorm_apply_moments(problem, x, moments, gamma_, beta, got.y, got.mean, got.rstd);
    case 11:
        return lnorm_grad_moments(problem, dy, x, moments, gamma_, got.y);
    default:
        return lnorm_apply_grad_moments(problem, dy, x, moments, moments, gamma_, got.dx, got.dgamma, got.dbeta,
                                        workspace, sizeof workspace);
    }
}

/* Nothing but struct_size is there to be read where it is less than the library's smallest, or more than its largest.
 */
static void unknown_sizes(void)
{
    const results before = got;
    const size_t sizes[] = {0, 1, sizeof(size_t), sizeof(lnorm_problem) / 2, 100000, SIZE_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t *const alone = guarded_place(&page, sizeof(size_t), 0, true);
        *alone = sizes[i];
        for (int which = 0; which < CALLS_WITH_PROBLEM; which++) {
            CHECK(call(which, (const lnorm_problem *)alone) == LNORM_ERROR_STRUCT);
        }
    }
    CHECK(memcmp(&got, &before, sizeof got) == 0);
    printf("%d calls with a problem\n", CALLS_WITH_PROBLEM);
}

int main(void)
{
    right = compute();
    typed();
    strides();
    hook();
    parameters_and_operation();
    residual();
    other_forms();
    pieces();
    unknown_sizes();
    CHECK(strlen(lnorm_status_text(LNORM_ERROR_EPS)) > 0);
    CHECK(lnorm_set_isa("scalar") == LNORM_OK && strcmp(lnorm_isa(), "scalar") == 0);
    CHECK(lnorm_set_isa(NULL) == LNORM_OK && lnorm_available_isa(0) != NULL && lnorm_available_isa(99) == NULL);
    guarded_free(&page);
    printf("header %s, library %s, ", LNORM_VERSION_STRING, lnorm_version());
    return test_result("program");
}

/* What the environment variable LNORM_ISA does; run once with each value. */
#include "test_support.h"

static bool is_available(const char *name)
{
    for (size_t i = 0; lnorm_available_isa(i); i++) {
        if (strcmp(lnorm_available_isa(i), name) == 0) {
            return true;
        }
    }
    return false;
}

static lnorm_status forward(float *y)
{
    const float x[4] = {1, 2, 3, 4};
    return lnorm_forward_f32(1, 4, x, NULL, NULL, 1e-5, y, NULL, NULL);
}

static lnorm_status backward(float *dx)
{
    const float x[4] = {1, 2, 3, 4}, mean = 2.5f, rstd = 1.0f;
    return lnorm_backward_f32(1, 4, x, x, &mean, &rstd, NULL, dx, NULL, NULL, NULL, 0);
}

static lnorm_status moments(float *to)
{
    const float x[4] = {1, 2, 3, 4};
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = 1;
    problem.norm = 4;
    return lnorm_moments(&problem, x, to);
}

int main(void)
{
    const char *wanted = getenv("LNORM_ISA");
    const bool named = wanted && *wanted, in_error = named && !is_available(wanted);
    float y[4] = {9, 9, 9, 9}, dx[4] = {9, 9, 9, 9}, to[LNORM_MOMENTS] = {9, 9, 9, 9, 9};

    /* The first call chooses, whichever it is. */
    CHECK(forward(y) == (in_error ? LNORM_ERROR_ISA : LNORM_OK));
    CHECK(backward(dx) == (in_error ? LNORM_ERROR_ISA : LNORM_OK));
    CHECK(moments(to) == (in_error ? LNORM_ERROR_ISA : LNORM_OK));
    if (in_error) {
        CHECK(lnorm_isa() == NULL);
        CHECK(y[0] == 9 && y[3] == 9 && dx[0] == 9 && dx[3] == 9 && to[0] == 9 && to[4] == 9);
        CHECK(lnorm_set_isa(NULL) == LNORM_ERROR_ISA);
        CHECK(lnorm_set_isa("scalar") == LNORM_OK);
        CHECK(forward(y) == LNORM_OK && backward(dx) == LNORM_OK);
    } else {
        const char *expected = named ? wanted : lnorm_available_isa(0);
        CHECK(lnorm_isa() && strcmp(lnorm_isa(), expected) == 0);
        CHECK(lnorm_set_isa("scalar") == LNORM_OK && strcmp(lnorm_isa(), "scalar") == 0);
        CHECK(lnorm_set_isa(NULL) == LNORM_OK && strcmp(lnorm_isa(), expected) == 0);
    }
    CHECK(y[0] < 0 && y[3] > 0 && y[0] == -y[3]);
    printf("LNORM_ISA=%s: %s\n", named ? wanted : "", in_error ? "not available here" : "used");
    return test_result("isa_test");
}

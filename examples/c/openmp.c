/* Threads are the caller's: a parallel_for hook of three lines gives lnorm those of OpenMP. */
#include <lnorm.h>
#include <stdio.h>
#include <stdlib.h>

static void parallel_for(void *context, size_t count, lnorm_task task, void *argument)
{
    (void)context;
#pragma omp parallel for
    for (size_t i = 0; i < count; i++) {
        task(argument, i);
    }
}

int main(void)
{
    enum { ROWS = 4096, COLS = 768 };
    float *x = malloc(sizeof(float[ROWS][COLS]));
    if (!x) {
        return 1;
    }
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        x[i] = (float)(i * i % 1000);
    }

    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = ROWS;
    problem.norm = COLS;
    problem.eps = 1e-5;
    problem.parallel_for = parallel_for;
    lnorm_status status = lnorm_forward(&problem, x, NULL, NULL, x, NULL, NULL); /* in place */

    printf("%s: %s, x[0][0] is now %f\n", lnorm_isa(), lnorm_status_text(status), x[0]);
    free(x);
    return status == LNORM_OK ? 0 : 1;
}

/* Normalizes rows of a real model and prints digests of the results, which are those of every other machine. There is
 * no heap, no stdio, and no C library but memcpy and memset.
 *
 * rows.h, which scripts/firmware.py writes, has the model's numbers: ROWS, COLS, EPS, x, gamma and beta. */
#include <lnorm.h>
#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "rows.h"

static float y[ROWS * COLS], mean[ROWS], rstd[ROWS];
static lnorm_status status;

/* A name, FNV-1a 64 of an array in memory, and what the last call returned where that is not LNORM_OK. */
static void print_digest(const char *name, const void *array, size_t size)
{
    uint64_t digest = 0xcbf29ce484222325u;
    char text[] = " 0000000000000000\n";
    for (size_t i = 0; i < size; i++) {
        digest = (digest ^ ((const unsigned char *)array)[i]) * 0x100000001b3u;
    }
    for (int i = 16; i > 0; i--, digest >>= 4) {
        text[i] = "0123456789abcdef"[digest & 15];
    }
    board_print(name);
    board_print(status == LNORM_OK ? text : " was refused\n");
}

static void forward(void)
{
    status = lnorm_forward_f32(ROWS, COLS, x, gamma, beta, EPS, y, mean, rstd);
}

#if WITH_QUANTIZED
static int8_t q[ROWS * COLS];
static float scale[ROWS];

static void quantized_forward(void)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = ROWS;
    problem.norm = COLS;
    problem.eps = EPS;
    problem.y_type = LNORM_I8;
    problem.flags = LNORM_DYNAMIC_SCALE; /* of each row */
    status = lnorm_quantized_forward(&problem, x, gamma, beta, q, scale, NULL, NULL, NULL);
}
#endif

#if WITH_BACKWARD
static float dx[ROWS * COLS], dgamma[COLS], dbeta[COLS];
static float workspace[8192]; /* lnorm_backward_workspace_f32(ROWS, COLS) says how many bytes; fewer are refused */

static void backward(void)
{
    status = lnorm_backward_f32(ROWS, COLS, y, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, sizeof workspace);
}
#endif

int run(void)
{
    bool passed = true;
    board_measure(forward);
    passed = passed && status == LNORM_OK;
    print_digest("forward f32", y, sizeof y);
#if WITH_QUANTIZED
    board_measure(quantized_forward);
    passed = passed && status == LNORM_OK;
    print_digest("forward i8", q, sizeof q);
#endif
#if WITH_BACKWARD
    board_measure(backward);
    passed = passed && status == LNORM_OK;
    print_digest("backward f32", dx, sizeof dx);
#endif
    return !passed;
}

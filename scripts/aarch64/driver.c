/* driver forward|backward ROWS COLS REPEATS: runs one operation so many times, in float32. */
#include <stdlib.h>
#include <string.h>

#include "lnorm.h"

int main(int argc, char **argv)
{
    if (argc != 5) {
        return 2;
    }
    const size_t rows = strtoul(argv[2], NULL, 10), cols = strtoul(argv[3], NULL, 10);
    const size_t repeats = strtoul(argv[4], NULL, 10), size = lnorm_backward_workspace_f32(rows, cols);
    float *const x = malloc(rows * cols * sizeof *x), *const dy = malloc(rows * cols * sizeof *dy);
    float *const y = malloc(rows * cols * sizeof *y), *const stats = malloc(2 * rows * sizeof *stats);
    float *const params = malloc(4 * cols * sizeof *params);
    void *const workspace = malloc(size + 1);
    for (size_t i = 0; i < rows * cols; i++) {
        x[i] = (float)(i * 7919 % 1009) / 500 - 1;
        dy[i] = (float)(i * 104729 % 997) / 500 - 1;
    }
    for (size_t i = 0; i < 4 * cols; i++) {
        params[i] = 1;
    }
    lnorm_status status = lnorm_forward_f32(rows, cols, x, params, params + cols, 1e-5, y, stats, stats + rows);
    for (size_t i = 0; i < repeats && status == LNORM_OK; i++) {
        if (strcmp(argv[1], "forward") == 0) {
            status = lnorm_forward_f32(rows, cols, x, params, params + cols, 1e-5, y, stats, stats + rows);
        } else {
            status = lnorm_backward_f32(rows, cols, dy, x, stats, stats + rows, params, y, params + 2 * cols,
                                        params + 3 * cols, workspace, size);
        }
    }
    return (int)status;
}

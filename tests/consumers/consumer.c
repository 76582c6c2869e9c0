/* A C program that uses the typed calls; exit status 0 when the results are right. */
#include <lnorm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(void)
{
    const float x[2][3] = {{1, 2, 3}, {-4, 0, 4}}, dy[2][3] = {{1, 0, 0}, {0, 0, 1}};
    float y[2][3], mean[2], rstd[2], dx[2][3], dbeta[3];
    if (strcmp(lnorm_version(), LNORM_VERSION_STRING) != 0) {
        return 1;
    }
    const size_t workspace_size = lnorm_backward_workspace_f32(2, 3);
    void *workspace = malloc(workspace_size);
    if (lnorm_forward_f32(2, 3, x[0], NULL, NULL, 0.0, y[0], mean, rstd) != LNORM_OK ||
        lnorm_backward_f32(2, 3, dy[0], x[0], mean, rstd, NULL, dx[0], NULL, dbeta, workspace, workspace_size) !=
            LNORM_OK) {
        return 2;
    }
    free(workspace);
    const double expected = sqrt(1.5); /* (3 - 2) / sqrt(2/3), (4 - 0) / sqrt(32/3) */
    for (int row = 0; row < 2; row++) {
        if (fabs(y[row][0] + expected) > 1e-6 || y[row][1] != 0 || fabs(y[row][2] - expected) > 1e-6) {
            return 3;
        }
    }
    if (dbeta[0] != 1 || dbeta[1] != 0 || dbeta[2] != 1) {
        return 4;
    }
    printf("C, lnorm %s, %s\n", lnorm_version(), lnorm_isa());
    return 0;
}

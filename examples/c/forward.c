#include <lnorm.h>
#include <stdio.h>

int main(void)
{
    const float x[2][4] = {{1, 2, 3, 4}, {10, 10, 10, 50}}, gamma[4] = {1, 1, 2, 2}, beta[4] = {0, 0, 0, 1};
    float y[2][4];
    lnorm_status status = lnorm_forward_f32(2, 4, x[0], gamma, beta, 1e-5, y[0], NULL, NULL);
    for (int row = 0; status == LNORM_OK && row < 2; row++) {
        printf("%9.5f %9.5f %9.5f %9.5f\n", y[row][0], y[row][1], y[row][2], y[row][3]);
    }
    return status == LNORM_OK ? 0 : 1;
}

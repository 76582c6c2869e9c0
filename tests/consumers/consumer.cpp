// A C++ program that uses the general form with a hook; exit status 0 when the results are right.
#include <lnorm.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

int main()
{
    const size_t rows = 300, cols = 200;
    std::vector<double> x(rows * cols), flat(rows * cols), y(rows * cols);
    for (size_t i = 0; i < x.size(); i++) {
        x[i] = static_cast<double>(i * i % 1000);
    }
    if (std::string(lnorm_version()) != LNORM_VERSION_STRING ||
        lnorm_forward_f64(rows, cols, x.data(), nullptr, nullptr, 1e-5, flat.data(), nullptr, nullptr) != LNORM_OK) {
        return 1;
    }

    size_t pieces = 0;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.x_type = LNORM_F64;
    problem.outer = rows;
    problem.norm = cols;
    problem.eps = 1e-5;
    problem.parallel_context = &pieces;
    problem.parallel_for = [](void *context, size_t count, lnorm_task task, void *argument) {
        *static_cast<size_t *>(context) += count;
        for (size_t i = count; i-- > 0;) {
            task(argument, i);
        }
    };
    if (lnorm_forward(&problem, x.data(), nullptr, nullptr, y.data(), nullptr, nullptr) != LNORM_OK || pieces == 0) {
        return 2;
    }
    double squares = 0;
    for (size_t c = 0; c < cols; c++) {
        squares += y[c] * y[c];
    }
    if (y != flat || std::fabs(squares / cols - 1) > 1e-6) {
        return 3;
    }
    std::printf("C++, lnorm %s, %s, %zu pieces\n", lnorm_version(), lnorm_isa(), pieces);
    return 0;
}

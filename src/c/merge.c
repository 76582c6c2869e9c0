/* The moments of a row from those of its two pieces, in double-double arithmetic: two doubles, of which the second is
 * what the first lost. (Dekker: A floating-point technique for extending the available precision, 1971; the update of
 * mean, variance and covariance is Chan, Golub and LeVeque's, 1979.)
 */
#include "kernels.h"

#if !LNORM_WITHOUT_MOMENTS
#include "fma.h"

static double_pair add(double_pair a, double_pair b)
{
    const double_pair s = two_sum(a.high, b.high);
    return two_sum(s.high, s.low + (a.low + b.low));
}

static double_pair multiply(double_pair a, double_pair b)
{
    const double p = a.high * b.high;
    return two_sum(p, fma_f64(a.high, b.high, -p) + (a.high * b.low + a.low * b.high));
}

static double_pair times(double_pair a, double power_of_two)
{
    return (double_pair){a.high * power_of_two, a.low * power_of_two};
}

static double_pair pair_of(int64_t count)
{
    const int64_t low = count & INT32_MAX;
    return two_sum((double)(count - low), (double)low);
}

static double_pair quotient(int64_t a, int64_t b)
{
    const double_pair top = pair_of(a), below = pair_of(b);
    const double q = top.high / below.high, rest = fma_f64(-q, below.high, top.high) + top.low - q * below.low;
    return two_sum(q, rest / below.high);
}

static double number(int real, const void *row, size_t i)
{
    return real == LNORM_F64 ? ((const double *)row)[i] : (double)((const float *)row)[i];
}

static double_pair get(int real, const void *row, size_t i)
{
    return two_sum(number(real, row, i), number(real, row, i + 1));
}

static void set_number(int real, void *row, size_t i, double value)
{
    if (real == LNORM_F64) {
        ((double *)row)[i] = value;
    } else {
        ((float *)row)[i] = (float)value;
    }
}

static void set(int real, void *row, size_t i, double_pair value)
{
    set_number(real, row, i, value.high);
    set_number(real, row, i + 1, (value.high - number(real, row, i)) + value.low);
}

static void copy(int real, void *to, const void *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        set_number(real, to, i, number(real, from, i));
    }
}

void lnorm_merge_row(int real, int64_t count_a, const void *a, int64_t count_b, const void *b, void *merged)
{
    if (count_a == 0 || count_b == 0) {
        copy(real, merged, count_a == 0 ? b : a, LNORM_MOMENTS);
        return;
    }
    const double_pair share_a = quotient(count_a, count_a + count_b), share_b = quotient(count_b, count_a + count_b);
    const double scale_a = number(real, a, 4), scale_b = number(real, b, 4);
    double scale = scale_a < scale_b ? scale_a : scale_b;
    const double_pair means[2] = {get(real, a, 0), get(real, b, 0)}, vars[2] = {get(real, a, 2), get(real, b, 2)};
    /* The square of the difference of the means must not overflow. */
    const double limit = real == LNORM_F64 ? 0x1p500 : 0x1p60;
    const double size_a = fabs(means[0].high) * (scale / scale_a), size_b = fabs(means[1].high) * (scale / scale_b);
    for (double size = size_a > size_b ? size_a : size_b; size > limit && size <= DBL_MAX; size *= 1 / limit) {
        scale *= 1 / limit;
    }
    const double down_a = scale / scale_a, down_b = scale / scale_b;
    const double_pair mean_a = times(means[0], down_a), mean_b = times(means[1], down_b);
    const double_pair apart = add(mean_b, times(mean_a, -1.0));
    const double_pair between = multiply(multiply(apart, apart), multiply(share_a, share_b));
    const double_pair within = add(multiply(times(times(vars[0], down_a), down_a), share_a),
                                   multiply(times(times(vars[1], down_b), down_b), share_b));
    set(real, merged, 0, add(mean_a, multiply(apart, share_b)));
    set(real, merged, 2, add(within, between));
    set_number(real, merged, 4, scale);
}

void lnorm_merge_grad_row(int real, int64_t count_a, const void *a, int64_t count_b, const void *b, void *merged)
{
    if (count_a == 0 || count_b == 0) {
        copy(real, merged, count_a == 0 ? b : a, LNORM_GRAD_MOMENTS);
        return;
    }
    const double_pair share_a = quotient(count_a, count_a + count_b), share_b = quotient(count_b, count_a + count_b);
    const double_pair g_a = get(real, a, 0), xhat_a = {number(real, a, 2), 0}, cov_a = {number(real, a, 3), 0};
    const double_pair g_b = get(real, b, 0), xhat_b = {number(real, b, 2), 0}, cov_b = {number(real, b, 3), 0};
    const double_pair g_apart = add(g_b, times(g_a, -1.0)), xhat_apart = add(xhat_b, times(xhat_a, -1.0));
    const double_pair between = multiply(multiply(g_apart, xhat_apart), multiply(share_a, share_b));
    const double_pair within = add(multiply(cov_a, share_a), multiply(cov_b, share_b));
    set(real, merged, 0, add(g_a, multiply(g_apart, share_b)));
    set_number(real, merged, 2, add(xhat_a, multiply(xhat_apart, share_b)).high);
    set_number(real, merged, 3, add(within, between).high);
}

#else
typedef int lnorm_no_merge;
#endif

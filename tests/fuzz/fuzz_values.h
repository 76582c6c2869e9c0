/* What fuzz_c.c compares values with: the formulas of lnorm.h in long double, and the bounds derived in
 * docs/numerics.md. A row with a number that is not finite is held to nothing, and neither are its sums; all others
 * are, so that it spoils nothing but itself. */

typedef long double real;

/* Multiples of u, as in docs/numerics.md; those of sums count where rows are few. */
#define Y_BOUND 9
#define MEAN_BOUND 3
#define RSTD_BOUND 7
#define VAR_BOUND 22
#define DX_BOUND 37
#define SUM_BOUND 14

static real unit_of(lnorm_type type)
{
    return type == LNORM_F64 ? 0x1p-53L : type == LNORM_F16 ? 0x1p-11L : type == LNORM_BF16 ? 0x1p-8L : 0x1p-24L;
}

static int lowest_of(lnorm_type type) /* exponent of the smallest subnormal number */
{
    return type == LNORM_F64 ? -1074 : type == LNORM_F32 ? -149 : lowest_exponent(type) - fraction_bits(type);
}

static real top_of(lnorm_type type)
{
    return ldexpl(1.0L, type == LNORM_F64 ? 1024 : type == LNORM_F16 ? 16 : 128);
}

/* What the last rounding alone may do: half a unit of 16 bits, or of subnormal numbers. */
static real last_rounding(lnorm_type type, real exact)
{
    int exponent = 0;
    (void)frexpl(exact, &exponent);
    const int lowest = lowest_of(type), unit = exponent - 1 - fraction_bits(type);
    const bool is_short = type == LNORM_F16 || type == LNORM_BF16;
    return ldexpl(0.5L, is_short && exact != 0 && unit > lowest ? unit : lowest);
}

static real clip(real value, real top)
{
    return value > top ? top : value < -top ? -top : value;
}

static void check_near(int argument, real got, real exact, real tolerance, lnorm_type type)
{
    const real top = top_of(type);
    if (!isfinite(exact) || !isfinite(tolerance)) {
        return;
    }
    exact = clip(exact, top);
    tolerance += last_rounding(type, exact);
    if (!(fabsl(clip(got, top) - exact) <= tolerance)) {
        printf("got %La, exactly %La, off by %.3Lg of what is allowed\n", got, exact, fabsl(got - exact) / tolerance);
        fail("values", argument);
    }
}

/* ---- Numbers of arguments ---- */

static real input_at(int argument, size_t o, size_t n, size_t i)
{
    const tensor *const t = &now.arguments[argument];
    return (real)get_value(t->type, element(t, o, n, i), 0);
}

static real output_at(int argument, size_t o, size_t n, size_t i)
{
    const tensor *const t = &now.arguments[argument];
    return (real)get_value(t->type, after_call[t->host] + (element(t, o, n, i) - memory[t->host]), 0);
}

static size_t param_at(size_t o, size_t n)
{
    const lnorm_problem *const p = &now.problem;
    const size_t rows = or_else(p->param_rows, 1), share = (size_t)p->outer / rows;
    const size_t run = or_else(p->param_run, 1);
    return o / or_else(p->param_repeat, share) % rows * ((size_t)p->norm / run) + n / run;
}

static real gamma_at(size_t o, size_t n)
{
    if (!has(GAMMA)) {
        return 1.0L;
    }
    const double gamma = (double)input_at(GAMMA, 0, param_at(o, n), 0);
    const double one = now.problem.flags & LNORM_GAMMA_PLUS_ONE ? 1.0 : 0.0;
    return (real)(now.real == LNORM_F64 ? gamma + one : (double)(float)(gamma + one)); /* f32: rounded once */
}

static real beta_at(size_t o, size_t n)
{
    return has(BETA) ? input_at(BETA, 0, param_at(o, n), 0) : 0.0L;
}

/* ---- A row ---- */

typedef struct row {
    size_t o, i, r, count;
    real mean, var, rstd, g_mean, gx_mean, gx_size, g_spread, g_most, dy_most, xhat_most; /* g: of dy * gamma */
} row;

static real xs[MOST_ELEMENTS], gs[MOST_ELEMENTS];

static real mean_of(const real *values, size_t count, real minus)
{
    real sum = 0.0L;
    for (size_t n = 0; n < count; n++) {
        sum += values[n] - minus;
    }
    return sum / (real)count;
}

static real eps_of(void)
{
    return (real)(now.real == LNORM_F64 ? now.problem.eps : (double)(float)now.problem.eps);
}

/* xs becomes xhat. A first mean is taken off before the second, so that rows far from 0 keep their digits. */
static void normalize_xs(row *of)
{
    const size_t count = of->count;
    const real shift = is_rms() ? 0.0L : (real)(double)(xs[0] + mean_of(xs, count, xs[0]));
    const real rest = is_rms() ? 0.0L : mean_of(xs, count, shift);
    of->mean = shift + rest;
    of->var = of->xhat_most = 0.0L;
    for (size_t n = 0; n < count; n++) {
        xs[n] = xs[n] - shift - rest;
        of->var += xs[n] * xs[n] / (real)count;
    }
    const real variance = of->var + eps_of();
    of->rstd = variance == 0.0L ? 0.0L : isfinite(variance) ? 1.0L / sqrtl(variance) : (real)NAN;
    for (size_t n = 0; n < count; n++) {
        xs[n] *= of->rstd;
        of->xhat_most = fmaxl(of->xhat_most, fabsl(xs[n]));
    }
}

static void load_row(row *of, int argument)
{
    for (size_t n = 0; n < of->count; n++) {
        xs[n] = argument == TOTAL && now.outputs & SET(TOTAL) ? output_at(argument, of->o, n, of->i)
                                                              : input_at(argument, of->o, n, of->i);
    }
    normalize_xs(of);
}

/* xhat as lnorm_backward_from_y() says; rstd is given. */
static void load_row_of_y(row *of)
{
    const real limit = sqrtl((real)of->count), least = now.real == LNORM_F64 ? 0x1p-40L : 0x1p-20L;
    of->rstd = input_at(RSTD, 0, of->r, 0);
    of->mean = of->var = of->xhat_most = 0.0L;
    for (size_t n = 0; n < of->count; n++) {
        const real gamma = gamma_at(of->o, n), xhat = (input_at(Y, of->o, n, of->i) - beta_at(of->o, n)) / gamma;
        xs[n] = fabsl(gamma) < least ? 0.0L : isnan(xhat) ? xhat : clip(xhat, limit);
        of->xhat_most = fmaxl(of->xhat_most, fabsl(xs[n]));
    }
}

static void load_gradient(row *of)
{
    const bool from_y = now.operation == FROM_Y; /* whose xhat may have any mean */
    of->gx_mean = of->gx_size = of->g_spread = of->g_most = of->dy_most = 0.0L;
    for (size_t n = 0; n < of->count; n++) {
        const real dy = input_at(DY, of->o, n, of->i);
        of->dy_most = fmaxl(of->dy_most, fabsl(dy));
        gs[n] = dy * gamma_at(of->o, n);
    }
    of->g_mean = is_rms() ? 0.0L : mean_of(gs, of->count, 0.0L);
    for (size_t n = 0; n < of->count; n++) {
        of->g_most = fmaxl(of->g_most, fabsl(gs[n]));
        of->g_spread = fmaxl(of->g_spread, fabsl(gs[n] - of->g_mean));
        of->gx_mean += (gs[n] - (from_y ? 0.0L : of->g_mean)) * xs[n] / (real)of->count;
        of->gx_size += fabsl(gs[n] * xs[n]) / (real)of->count;
    }
}

#define FOR_ROWS(of)                                                                                                   \
    for (row of = {.count = (size_t)now.problem.norm}; of.r < now.rows && of.count != 0;                               \
         of.r++, of.o = of.r / or_else(now.problem.inner, 1), of.i = of.r % or_else(now.problem.inner, 1))

/* Where neither rstd nor products of backward leave the range in which all digits are kept. */
static bool is_moderate(const row *of)
{
    const real far = now.real == LNORM_F64 ? 0x1p200L : 0x1p30L;
    const bool has_runs = now.problem.param_run > 1; /* whose products with xhat come before those with gamma */
    return of->rstd > 1.0L / far && of->rstd < far && of->dy_most < far && (!has_runs || of->dy_most > 1.0L / far) &&
           (of->g_most == 0.0L || (of->g_most > 1.0L / far && of->g_most < far));
}

static int source_of(void)
{
    return is_added() ? TOTAL : X;
}

/* ---- Statistics that are given: those of the rows ---- */

static void set_pair(int argument, size_t r, size_t n, real value)
{
    const tensor *const t = &now.arguments[argument];
    set_value(now.real, element(t, r, n, 0), 0, (double)value);
    const real high = (real)get_value(now.real, element(t, r, n, 0), 0);
    set_value(now.real, element(t, r, n + 1, 0), 0, (double)(value - high));
}

static void set_statistics(void)
{
    uint64_t random = now.seed;
    for (int argument = A; is_merge() && argument <= B; argument++) {
        for (size_t r = 0; r < now.rows; r++) {
            const tensor *const t = &now.arguments[argument];
            set_pair(argument, r, 0, (real)next_value(LNORM_F64, &random));
            if (now.operation == MERGE_MOMENTS) {
                set_pair(argument, r, 2, fabsl((real)next_value(LNORM_F64, &random)));
                set_value(now.real, element(t, r, 4, 0), 0, ldexp(1.0, (int)(next_random(&random) % 5)));
            }
        }
    }
    lnorm_problem p = now.problem;
    p.eps = random & 1 ? 0.0 : p.eps; /* moments may be taken without it */
    const bool some = now.rows != 0 && p.norm != 0;
    if (some && now.inputs & SET(MOMENTS) && lnorm_moments(&p, pointer(X), pointer(MOMENTS)) != LNORM_OK) {
        fail("moments of an input", X);
    }
    if (some && now.inputs & SET(GRAD_MOMENTS) &&
        lnorm_grad_moments(&now.problem, pointer(DY), pointer(X), pointer(MOMENTS), pointer(GAMMA),
                           pointer(GRAD_MOMENTS)) != LNORM_OK) {
        fail("moments of a gradient", DY);
    }
    FOR_ROWS(of)
    {
        if (now.inputs & SET(RSTD)) {
            load_row(&of, now.operation == FROM_Y ? Y : source_of());
        }
        if (has(MEAN) && now.inputs & SET(MEAN)) {
            set_value(now.real, element(&now.arguments[MEAN], 0, of.r, 0), 0, (double)of.mean);
        }
        if (has(RSTD) && now.inputs & SET(RSTD)) {
            set_value(now.real, element(&now.arguments[RSTD], 0, of.r, 0), 0, (double)of.rstd);
        }
    }
}

/* ---- Forward ---- */

static real most(real a, real b)
{
    return a > b || isnan(a) ? a : b;
}

static real exact_y(const row *of, size_t n, real *tolerance)
{
    const real u = unit_of(now.real), gamma = gamma_at(of->o, n), beta = beta_at(of->o, n);
    const real xhat = most(fabsl(xs[n]), 1.0L);
    *tolerance = Y_BOUND * u * (xhat * fabsl(gamma) + fabsl(beta));
    if (now.problem.flags & LNORM_ROUND_STEPS) {
        const lnorm_type y = now.operation == QUANTIZED ? x_type() : y_type();
        *tolerance += 1.1L * unit_of(x_type()) * xhat * fabsl(gamma) + last_rounding(x_type(), 0.0L) * fabsl(gamma) +
                      1.1L * unit_of(y) * xhat * fabsl(gamma) + 2.0L * last_rounding(y, 0.0L);
        *tolerance += 1.1L * unit_of(y) * (fabsl(xs[n] * gamma) + fabsl(beta));
        *tolerance += fabsl(xs[n] * gamma) < top_of(y) / 4.0L ? 0.0L : (real)INFINITY; /* before beta is added */
    }
    return xs[n] * gamma + beta;
}

static void check_quantized(const row *of)
{
    const bool dynamic = (now.problem.flags & LNORM_DYNAMIC_SCALE) != 0, is_signed = y_type() == LNORM_I8;
    const real u = unit_of(now.real), least = is_signed ? -128.0L : 0.0L, highest = is_signed ? 127.0L : 255.0L;
    real low = 0.0L, high = 0.0L, slack = 0.0L, tolerance;
    for (size_t n = 0; n < of->count; n++) {
        const real y = exact_y(of, n, &tolerance);
        low = most(-y, low);
        high = most(y, high);
        slack = most(slack, tolerance);
    }
    real range = is_signed ? most(low, high) / 127.0L : (low + high) / 255.0L;
    const size_t k = dynamic ? of->r : 0;
    const real scale = dynamic ? output_at(SCALE, 0, k, 0) : input_at(SCALE, 0, k, 0);
    int32_t zero_point = 0;
    if (has(ZERO_POINT)) {
        const size_t place = (size_t)(now.arguments[ZERO_POINT].at - memory[now.arguments[ZERO_POINT].host]);
        memcpy(&zero_point, after_call[now.arguments[ZERO_POINT].host] + place + k * sizeof zero_point,
               sizeof zero_point);
    }
    if (!isfinite(low) || !isfinite(high) || low + high > top_of(now.real) / 4.0L || !isfinite(slack)) {
        return;
    }
    if (dynamic && range > 2.0L * slack && range > 1024.0L * last_rounding(now.real, 0.0L)) {
        check_near(SCALE, scale, range, slack / (is_signed ? 127.0L : 127.5L) + 2.0L * u * range, now.real);
        if (!is_signed) {
            check_near(ZERO_POINT, (real)zero_point, low / scale, 0.5L + slack / scale + 4.0L * u * low / scale,
                       LNORM_F64);
        }
    } else if (dynamic && range == 0.0L && slack == 0.0L && (scale != 1.0L || zero_point != 0)) {
        fail("scale of a row of zeros", SCALE);
    }
    for (size_t n = 0; n < of->count; n++) {
        const real y = exact_y(of, n, &tolerance) / scale;
        const real q = output_at(Y, of->o, n, of->i);
        tolerance = 0.5L + (tolerance + last_rounding(now.real, 0.0L)) / scale + 4.0L * u * (fabsl(y) + 256.0L);
        if (isfinite(y) && isfinite(tolerance)) {
            const real lowest = clip(y - tolerance + zero_point, 1e9L), top = clip(y + tolerance + zero_point, 1e9L);
            if (q < (lowest > highest ? highest : lowest) || q > (top < least ? least : top)) {
                printf("q is %Lg, exactly %Lg, scale %La, zero point %d\n", q, y, scale, (int)zero_point);
                fail("q", Y);
            }
        }
    }
}

static void check_total(const row *of)
{
    for (size_t n = 0; n < of->count; n++) {
        const size_t residual = of->o % now.arguments[RESIDUAL].outer;
        const double x = (double)input_at(X, of->o, n, 0), other = (double)input_at(RESIDUAL, residual, n, 0);
        const double bias = has(INPUT_BIAS) ? (double)input_at(INPUT_BIAS, 0, n, 0) : 0.0;
        double sum = has(INPUT_BIAS) ? x + bias : x;
        sum = now.real == LNORM_F64 ? sum + other : (double)((float)sum + (float)other);
        uint64_t rounded = 0;
        set_value(x_type(), &rounded, 0, sum);
        const double expected = sum == 0.0 ? 0.0 : get_value(x_type(), &rounded, 0); /* set_value() has no 16-bit 0 */
        if ((double)output_at(TOTAL, of->o, n, 0) != expected && !isnan(sum)) {
            fail("total", TOTAL);
        }
    }
}

static void check_forward(void)
{
    const real u = unit_of(now.real);
    FOR_ROWS(of)
    {
        if (now.operation == ADD_FORWARD) {
            check_total(&of);
        }
        load_row(&of, source_of());
        const real deviation = of.rstd > 0.0L ? 1.0L / of.rstd : 0.0L;
        if (has(MEAN)) {
            check_near(MEAN, output_at(MEAN, 0, of.r, 0), of.mean, MEAN_BOUND * u * most(fabsl(of.mean), deviation),
                       now.real);
        }
        if (has(RSTD)) {
            check_near(RSTD, output_at(RSTD, 0, of.r, 0), of.rstd, RSTD_BOUND * u * of.rstd, now.real);
        }
        if (now.operation == QUANTIZED) {
            check_quantized(&of);
            continue;
        }
        for (size_t n = 0; n < of.count; n++) {
            real tolerance;
            const real y = exact_y(&of, n, &tolerance);
            check_near(Y, output_at(Y, of.o, n, of.i), y, tolerance, y_type());
        }
    }
}

/* ---- Backward ---- */

static void check_backward(void)
{
    static real sums[2][MOST_ELEMENTS], sizes[2][MOST_ELEMENTS];
    const real u = unit_of(now.real), tiny = last_rounding(now.real, 0.0L);
    const size_t params = now.arguments[DGAMMA].norm;
    memset(sums, 0, sizeof sums[0] * 2);
    memset(sizes, 0, sizeof sizes[0] * 2);
    FOR_ROWS(of)
    {
        if (now.operation == FROM_Y) {
            load_row_of_y(&of);
        } else {
            load_row(&of, source_of());
        }
        load_gradient(&of);
        const bool moderate = is_moderate(&of);
        const real follows = now.operation == FROM_Y ? of.xhat_most * of.gx_size : 0.0L;
        const real terms = of.rstd * (DX_BOUND * (of.g_spread + follows) + 4.0L * of.g_most);
        const real lost = tiny * (of.rstd + 1.0L) * (of.xhat_most + 1.0L) * (of.xhat_most + 1.0L) * 8.0L;
        for (size_t n = 0; n < of.count; n++) {
            const real dy = input_at(DY, of.o, n, of.i);
            if (has(DX) && moderate) {
                const real added = has(DTOTAL) ? input_at(DTOTAL, of.o, n, of.i) : 0.0L;
                const real dx = of.rstd * (gs[n] - of.g_mean - xs[n] * of.gx_mean);
                check_near(DX, output_at(DX, of.o, n, of.i), dx + added,
                           u * (terms + 2.0L * (fabsl(added) + fabsl(dx))) + lost, x_type());
            }
            const size_t p = param_at(of.o, n);
            const real size = fabsl(dy) * most(fabsl(xs[n]), 1.0L);
            sums[0][p] += moderate ? dy * xs[n] : (real)NAN;
            sizes[0][p] += SUM_BOUND * u * size + 4.0L * tiny * (1.0L + fabsl(xs[n]));
            sums[1][p] += dy;
            sizes[1][p] += SUM_BOUND * u * fabsl(dy) + tiny;
        }
    }
    for (int which = 0; which < 2; which++) {
        const int argument = which == 0 ? DGAMMA : DBETA;
        for (size_t p = 0; has(argument) && p < params && now.rows != 0; p++) {
            const bool adds = (now.problem.flags & LNORM_ACCUMULATE) != 0;
            const real old = adds ? input_at(argument, 0, p, 0) : 0.0L, sum = old + sums[which][p];
            const bool fits = sizes[which][p] / u < top_of(now.real) / 4.0L; /* and partial sums too */
            if (fits) {
                check_near(argument, output_at(argument, 0, p, 0), sum,
                           sizes[which][p] + 2.0L * u * (fabsl(old) + fabsl(sum)), now.real);
            }
        }
    }
}

/* ---- Building blocks ---- */

static void check_moments(void)
{
    const real u = unit_of(now.real), tiny = last_rounding(now.real, 0.0L);
    FOR_ROWS(of)
    {
        load_row(&of, X);
        const real scale = output_at(MOMENTS, of.r, 4, 0);
        const real mean = output_at(MOMENTS, of.r, 0, 0) + output_at(MOMENTS, of.r, 1, 0);
        const real var = output_at(MOMENTS, of.r, 2, 0) + output_at(MOMENTS, of.r, 3, 0);
        check_near(MOMENTS, mean / scale, of.mean,
                   VAR_BOUND * u * sqrtl(of.var) + 4.0L * u * u * fabsl(of.mean) + 4.0L * tiny / scale, now.real);
        check_near(MOMENTS, var, of.var * scale * scale, VAR_BOUND * u * of.var * scale * scale + 4.0L * tiny,
                   now.real);
    }
}

static void check_grad_moments(void)
{
    const real u = unit_of(now.real), tiny = last_rounding(now.real, 0.0L);
    FOR_ROWS(of)
    {
        load_row(&of, X);
        load_gradient(&of);
        const real lost = 8.0L * tiny * (1.0L + of.rstd) * (1.0L + of.xhat_most);
        if (is_moderate(&of)) {
            const real size = u * (DX_BOUND * of.g_spread + 2.0L * of.g_most);
            const real g = output_at(GRAD_MOMENTS, of.r, 0, 0) + output_at(GRAD_MOMENTS, of.r, 1, 0);
            check_near(GRAD_MOMENTS, g, of.g_mean, size + lost, now.real);
            check_near(GRAD_MOMENTS, output_at(GRAD_MOMENTS, of.r, 2, 0), 0.0L,
                       VAR_BOUND * u * most(of.xhat_most, 1.0L) + lost, now.real);
            check_near(GRAD_MOMENTS, output_at(GRAD_MOMENTS, of.r, 3, 0), of.gx_mean,
                       size * most(of.xhat_most, 1.0L) + lost, now.real);
        }
    }
}

static real pair_at(int argument, size_t r, size_t n)
{
    return input_at(argument, r, n, 0) + input_at(argument, r, n + 1, 0);
}

static void check_merged(void)
{
    const real u = now.real == LNORM_F64 ? 0x1p-56L : 0x1p-42L, one = unit_of(now.real);
    const real a = (real)now.counts[0], b = (real)now.counts[1], share_a = a / (a + b), share_b = b / (a + b);
    for (size_t r = 0; r < now.rows && a + b > 0.0L; r++) {
        const real first = output_at(MERGED, r, 0, 0) + output_at(MERGED, r, 1, 0);
        if (now.operation == MERGE_MOMENTS) {
            const real scale_a = input_at(A, r, 4, 0), scale_b = input_at(B, r, 4, 0);
            const real scale = output_at(MERGED, r, 4, 0);
            const real mean_a = pair_at(A, r, 0) / scale_a, mean_b = pair_at(B, r, 0) / scale_b;
            const real var_a = pair_at(A, r, 2) / scale_a / scale_a, var_b = pair_at(B, r, 2) / scale_b / scale_b;
            const real var = output_at(MERGED, r, 2, 0) + output_at(MERGED, r, 3, 0);
            check_near(MERGED, first / scale, mean_a * share_a + mean_b * share_b, u * (fabsl(mean_a) + fabsl(mean_b)),
                       now.real);
            check_near(MERGED, var / scale / scale,
                       var_a * share_a + var_b * share_b + (mean_a - mean_b) * (mean_a - mean_b) * share_a * share_b,
                       u * (var_a + var_b + mean_a * mean_a + mean_b * mean_b), now.real);
        } else {
            const real g_a = pair_at(A, r, 0), g_b = pair_at(B, r, 0);
            const real x_a = input_at(A, r, 2, 0), x_b = input_at(B, r, 2, 0);
            const real c_a = input_at(A, r, 3, 0), c_b = input_at(B, r, 3, 0);
            const real largest = most(most(fabsl(g_a), fabsl(g_b)), most(fabsl(x_a), fabsl(x_b)));
            if (!(largest < 0x1p500L)) { /* the product of two may overflow */
                continue;
            }
            const real between = (g_a - g_b) * (x_a - x_b) * share_a * share_b;
            check_near(MERGED, first, g_a * share_a + g_b * share_b, u * (fabsl(g_a) + fabsl(g_b)), now.real);
            check_near(MERGED, output_at(MERGED, r, 2, 0), x_a * share_a + x_b * share_b,
                       2.0L * one * (fabsl(x_a) + fabsl(x_b)), now.real);
            check_near(MERGED, output_at(MERGED, r, 3, 0), c_a * share_a + c_b * share_b + between,
                       2.0L * one * (fabsl(c_a) + fabsl(c_b) + fabsl(between)), now.real);
        }
    }
}

/* After a call that was accepted; `own` where given statistics are those of the rows. */
static void check_values(bool own)
{
    const unsigned given = STATS | SET(MOMENTS) | SET(GRAD_MOMENTS) | SET(A) | SET(B);
    if ((now.inputs & given && !own) || (LDBL_MANT_DIG < 64 && now.real == LNORM_F64)) { /* nothing to compare with */
        return;
    }
    if (is_merge()) {
        check_merged();
    } else if (now.operation == GET_MOMENTS) {
        check_moments();
    } else if (now.operation == GET_GRAD_MOMENTS) {
        check_grad_moments();
    } else if (now.outputs & SET(Y)) {
        check_forward();
    } else if (now.outputs & SET(DX)) {
        check_backward();
    }
}

/* What the kernels for rows that lie side by side share, whatever the elements are. Parameters: as lane_sums.inc.h;
 * after the forward and backward kernels of a TYPE that is REAL.
 */

/* gamma or beta, one number for each normalized element; where it is absent, the same number for all. */
struct REALED(factors) {
    const REAL *at;
    ptrdiff_t step;
};

static INLINE struct REALED(factors) REALED(factors_of)(const void *at, const REAL *otherwise)
{
    return (struct REALED(factors)){at != NULL ? at : otherwise, at != NULL};
}

/* Adds n vectors of sums over a block to those before it, with what they lose; the first such block begins `lost`. */
static NOINLINE void REALED(add_block)(vec *sum, vec *lost, const vec *block, size_t n, int first)
{
    ROLLED
    for (size_t i = 0; i < n; i++) {
        vec errors = first ? vec_set1(0) : lost[i];
        REALED(add_exactly)(&sum[i], &errors, block[i]);
        lost[i] = errors;
    }
}

/* Two sums with what they lost, added as add_lanes does. */
static KERNEL_INLINE struct REALED(two_part) REALED(add_two)(struct REALED(two_part) a, struct REALED(two_part) b)
{
    const struct REALED(two_part) s = REALED(two_sum)(a.sum, b.sum);
    return (struct REALED(two_part)){s.sum, vec_add(vec_add(a.lost, b.lost), s.lost)};
}

/* The sum of the lanes' vectors and what it lost, with the additions of add_all_lanes, two levels at a time. What is
 * given is overwritten. */
static NOINLINE struct REALED(two_part) REALED(total_of_lanes)(vec *sum, vec *lost, int has_lost)
{
    struct REALED(two_part) part[4];
    for (size_t n = LANES; n >= 4; n /= 4, has_lost = 1) {
        for (size_t lane = 0; lane < n / 4; lane++) {
            for (size_t k = 0; k < 4; k++) {
                const size_t at = lane + k * (n / 4);
                part[k] = (struct REALED(two_part)){sum[at], has_lost ? lost[at] : vec_set1(0)};
            }
            part[0] = REALED(add_two)(REALED(add_two)(part[0], part[2]), REALED(add_two)(part[1], part[3]));
            sum[lane] = part[0].sum;
            lost[lane] = part[0].lost;
        }
    }
    if (LANES == 8) {
        part[1] = (struct REALED(two_part)){sum[1], lost[1]};
        part[0] = REALED(add_two)((struct REALED(two_part)){sum[0], lost[0]}, part[1]);
    }
    return REALED(two_sum)(part[0].sum, part[0].lost);
}

/* Whether any verdict is above a given one. */
static KERNEL_INLINE int REALED(any_above)(const REAL *verdicts, int verdict)
{
    REAL above[LANES];
    vec_store(above,
              REALED(sum_of_lanes)(vec_if_less(vec_set1((REAL)verdict), vec_load(verdicts), vec_set1(1), vec_set1(0))));
    return above[0] > 0;
}

/* ---- Forward ---- */

/* Those of a strip, of scale * row. */
struct REALED(strip_moments) {
    struct REALED(moments) m;
    REAL scale[LANES];
};

/* The statistics of those rows of a strip, from `row` on, whose first ones will not do. */
static NOINLINE void REALED(careful_strip)(struct REALED(strip_moments) * to, const struct lnorm_forward_args *args,
                                           size_t row)
{
    for (size_t lane = 0; lane < LANES; lane++) {
        if (to->m.verdict[lane] <= (REAL)CENTRED) {
            continue;
        }
        struct REALED(moments) careful;
        struct REALED(statistics) s;
        const REAL scale = REALED(careful_row)(&careful, &s, &to->m, lane, args, row + lane, 1);
        if (args->mean != NULL) {
            ((REAL *)args->mean)[row + lane] = careful.mean[0] / scale;
        }
        if (args->rstd != NULL) {
            ((REAL *)args->rstd)[row + lane] = careful.rstd[0] * scale;
        }
        to->scale[lane] = scale;
        to->m.centre[lane] = careful.centre[0];
        to->m.rstd[lane] = careful.rstd[0];
        to->m.rstd_lost[lane] = careful.rstd_lost[0];
        to->m.shift[lane] = careful.shift[0];
    }
}

/* The statistics of a strip, from its sums. */
static NOINLINE void REALED(finish_strip)(struct REALED(strip_moments) * to, const struct lnorm_forward_args *args,
                                          size_t row, vec *sum, vec *lost, vec centre)
{
    const vec zero = vec_set1(0);
    const int has_lost = args->cols > BLOCK;
    struct REALED(two_part) square = REALED(total_of_lanes)(sum, lost, has_lost), lo = {zero, zero};
    square = REALED(mean_of_total)(square.sum, square.lost, args->cols);
    if (args->has_mean) {
        lo = REALED(total_of_lanes)(sum + LANES, lost + LANES, has_lost);
        lo = REALED(mean_of_total)(lo.sum, lo.lost, args->cols);
    }
    const struct REALED(statistics) statistics = REALED(statistics_from)(square, lo, centre);
    REALED(finish_statistics)(&to->m, &statistics, (REAL)args->eps);
    vec_store(to->scale, vec_set1(1));
    if (args->mean != NULL) {
        vec_store((REAL *)args->mean + row, vec_load(to->m.mean));
    }
    if (args->rstd != NULL) {
        vec_store((REAL *)args->rstd + row, vec_load(to->m.rstd));
    }
    if (REALED(any_above)(to->m.verdict, CENTRED)) {
        REALED(careful_strip)(to, args, row);
    }
}

/* ---- Backward ---- */

/* What the second pass needs of those rows of a strip, from `row` on, whose products are out of range. */
static NOINLINE void REALED(careful_backward_strip)(struct REALED(backward_moments) * m,
                                                    const struct lnorm_backward_args *args, size_t row)
{
    struct REALED(backward_stage) stage;
    REALED(begin_parameter)(&stage.gamma);
    REALED(begin_parameter)(&stage.beta);
    for (size_t lane = 0; lane < LANES; lane++) {
        if (m->verdict[lane] == (REAL)OUT_OF_RANGE) {
            REALED(careful_backward)(m, lane, args, &stage, row + lane);
        }
    }
}

static NOINLINE void REALED(finish_backward_strip)(struct REALED(backward_moments) * m,
                                                   const struct lnorm_backward_args *args, size_t row, vec *sum,
                                                   vec *lost, vec centre, vec g_centre)
{
    const struct REALED(two_part) none = {vec_set1(0), vec_set1(0)};
    const ptrdiff_t at = lnorm_row_offset(row, (ptrdiff_t)args->stat_stride, args->inner);
    const int has_lost = args->cols > BLOCK;
    struct REALED(two_part) total[3] = {none, none, none};
    struct REALED(backward_totals) all = {
        .mean = centre, .rstd = vec_load((const REAL *)args->rstd + at), .g_centre = g_centre, .scale = vec_set1(1)};
    for (size_t q = 0; q < REALED(quantities)(args->has_mean, 1); q++) {
        total[q] = REALED(total_of_lanes)(sum + q * LANES, lost + q * LANES, has_lost);
    }
    all.product = total[0].sum;
    all.gc = REALED(mean_of_total)(total[0].sum, total[0].lost, args->cols);
    if (args->has_mean) {
        all.c = REALED(mean_of_total)(total[1].sum, total[1].lost, args->cols);
        all.g = REALED(mean_of_total)(total[2].sum, total[2].lost, args->cols);
    } else {
        all.c = all.g = none;
    }
    REALED(finish_backward_totals)(m, &all, args->cols);
    if (REALED(any_above)(m->verdict, CENTRED)) {
        REALED(careful_backward_strip)(m, args, row);
    }
}

/* One level of adding the lanes of vectors: v and v + unit become one, v. */
static KERNEL_INLINE void REALED(add_level)(vec *terms, size_t unit)
{
    for (size_t v = 0; v < unit; v++) {
        terms[v] =
            vec_add(vec_even(terms[v], terms[v + unit], (int)unit), vec_odd(terms[v], terms[v + unit], (int)unit));
    }
}

/* Adds the lanes of each of LANES vectors, makes them 0, and carries the first n sums on into those of (high, low). */
static NOINLINE void REALED(fold_lanes)(vec *terms, REAL *high, REAL *low, size_t n)
{
    REALED(add_level)(terms, LANES / 2);
    REALED(add_level)(terms, LANES / 4);
    REALED(add_level)(terms, LANES / 8);
    if (LANES == 16) {
        REALED(add_level)(terms, 1);
    }
    vec sum = REALED(load)(high, n), lost = REALED(load)(low, n);
    REALED(add_exactly)(&sum, &lost, terms[0]);
    REALED(store)(high, sum, n);
    REALED(store)(low, lost, n);
    for (size_t v = 0; v < LANES; v++) {
        terms[v] = vec_set1(0);
    }
}

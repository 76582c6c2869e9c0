/* Layer normalization, forward. Parameters: as row_sums.inc.h, which comes before.
 *
 * One pass sums c = k - x and c*c, with k a first guess of the mean from 16 elements; then lo = sum(c)/n,
 * mean = k - lo and var = sum(c*c)/n - lo*lo. Where the guess was so far off that the subtraction would cost digits
 * (lo*lo > var/2), the row is summed once more around k - lo. The second pass writes
 *
 *     y = fma(xhat, gamma, beta),   xhat = fma(c, rstd, fma(c, rstd_lost, shift)),   c = x - centre
 *
 * with centre = mean, or 0 where |mean| is at most half of the deviation: then x itself has fewer roundings than
 * x - mean, and rstd_lost is 0 too. What the mean has beyond the centre is in the shift.
 *
 * Rows whose squares overflow or vanish are multiplied by a power of two, on the way in, by the same code.
 *
 * RMS norm is the same with k, lo and mean 0, of which only sum(x*x) is left: xhat = fma(x, rstd, 0).
 */

/* What the sums of a batch give, one row a lane, all of scale * row. */
struct TYPED(moments) {
    REAL mean[LANES], rstd[LANES], centre[LANES], rstd_lost[LANES], shift[LANES];
    REAL verdict[LANES];
};

/* The per-lane sums of a batch, and the centres of its rows. */
struct TYPED(forward_sums) {
    vec sum[2 * BATCH_ROWS], lost[2 * BATCH_ROWS];
    REAL centre[LANES];
};

/* eps is that of the scaled rows. */
static KERNEL_INLINE void TYPED(finish_moments)(struct TYPED(moments) * m, struct TYPED(forward_sums) * sums,
                                                size_t rows, size_t cols, REAL eps, int has_mean)
{
    const vec zero = vec_set1(0), half = vec_set1((REAL)0.5), one = vec_set1(1);
    REAL totals[3 * BATCH_ROWS], totals_lost[3 * BATCH_ROWS];
    const struct TYPED(places) at = TYPED(places_of)(TYPED(quantities)(has_mean, 0), rows);
    TYPED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);

    const struct TYPED(two_part) lo = TYPED(mean_of)(1, &at, totals, totals_lost, cols);
    const struct TYPED(two_part) mean = TYPED(two_sum)(vec_load(sums->centre), vec_sub(zero, lo.sum));
    const vec mean_lost = vec_sub(mean.lost, lo.lost);

    /* var + eps = square - lo*lo + eps, with what each rounding loses kept in `lost`. */
    const struct TYPED(two_part) square = TYPED(mean_of)(0, &at, totals, totals_lost, cols);
    const vec lo_square = vec_mul(lo.sum, lo.sum);
    const vec lo_square_lost =
        vec_fma(vec_add(lo.sum, lo.sum), lo.lost, vec_fma(lo.sum, lo.sum, vec_sub(zero, lo_square)));
    const struct TYPED(two_part) var = TYPED(two_sum)(square.sum, vec_sub(zero, lo_square));
    const struct TYPED(two_part) v = TYPED(two_sum)(var.sum, vec_set1(eps));
    const vec lost = vec_add(vec_add(vec_sub(square.lost, lo_square_lost), var.lost), v.lost);

    /* 1 / sqrt(v + lost), corrected to first order in what root, quotient and `lost` leave. */
    const vec root = vec_sqrt(v.sum);
    const vec inverse = vec_div(one, root);
    const vec root_error = vec_mul(vec_mul(vec_add(vec_fnma(root, root, v.sum), lost), inverse), half);
    const vec relative = vec_fnma(inverse, root_error, vec_fnma(inverse, root, one));
    vec rstd = vec_fma(inverse, relative, inverse);
    vec rstd_lost = vec_fma(inverse, relative, vec_sub(inverse, rstd));

    /* A row without variance, and eps = 0: xhat is 0. What is not a number stays none. */
    const vec nothing = vec_mul(v.sum, zero);
    rstd = vec_if_less(zero, v.sum, rstd, nothing);
    rstd_lost = vec_if_less(zero, v.sum, rstd_lost, nothing);

    const vec two_mean = vec_add(mean.sum, mean.sum), two_mean_square = vec_mul(two_mean, two_mean);
    const vec shift = vec_mul(mean_lost, rstd);
    const vec out_of_range = vec_set1((REAL)OUT_OF_RANGE);
    vec verdict = vec_if_less(two_mean_square, var.sum, vec_set1((REAL)DIRECT), vec_set1((REAL)CENTRED));
    verdict = vec_if_less(var.sum, vec_add(lo_square, lo_square), vec_set1((REAL)OFF_CENTRE), verdict);
    verdict = vec_if_less(v.sum, vec_set1((REAL)REAL_TINY), out_of_range, verdict);
    verdict = vec_if_less(v.sum, vec_set1(REAL_MAX), verdict, out_of_range);
    vec_store(m->mean, mean.sum);
    vec_store(m->rstd, rstd);
    vec_store(m->centre, vec_if_less(two_mean_square, var.sum, zero, mean.sum));
    vec_store(m->rstd_lost, vec_if_less(two_mean_square, var.sum, zero, rstd_lost));
    vec_store(m->shift, vec_sub(zero, vec_if_less(two_mean_square, var.sum, vec_fma(mean.sum, rstd, shift), shift)));
    vec_store(m->verdict, verdict);
}

/* A power of two that brings the largest of |x| and sqrt(eps) near 1; 1 where there is nothing to scale. */
static REAL TYPED(choose_scale)(const struct TYPED(source) * x, size_t cols, REAL eps)
{
    REAL largest = 0;
    for (size_t i = 0; i < cols; i += BLOCK) {
        const size_t n = cols - i < BLOCK ? cols - i : BLOCK;
        const REAL *const block = TYPED(fetch)(x, i, n);
        for (size_t j = 0; j < n; j++) {
            const REAL a = block[j] < 0 ? -block[j] : block[j];
            if (!(a <= REAL_MAX)) {
                return 1;
            }
            largest = a > largest ? a : largest;
        }
    }
    for (; largest * largest < eps; largest = largest > 0 ? largest * 2 : REAL_MIN) {
    }
    REAL scale = 1;
    if (largest > 0) {
        for (; largest * scale > 1; scale *= (REAL)0.5) {
        }
        for (; largest * scale < (REAL)0.5 && scale < REAL_SCALE_LIMIT; scale *= 2) {
        }
    }
    return scale;
}

/* The statistics of a row whose first ones, in the given lane, will not do: summed again around their mean, or scaled
 * and then, where it needs to be, summed around that mean. They come in lane 0 of m; returns the scale. */
static NOINLINE REAL TYPED(careful_moments)(struct TYPED(moments) * m, const struct TYPED(moments) * first, size_t lane,
                                            const struct TYPED(source) * x, const struct lnorm_forward_args *args)
{
    const size_t cols = args->cols, pitch = TYPED(places_of)(TYPED(quantities)(args->has_mean, 0), 1).pitch;
    const REAL eps = (REAL)args->eps;
    struct TYPED(forward_sums) sums;
    struct TYPED(row) row = {.cols = cols,
                             .has_mean = args->has_mean,
                             .scaled = 1,
                             .scale = 1,
                             .centre = first->mean[lane],
                             .staged = 1,
                             .x_source = *x};
    int may_move = 0;
    if (first->verdict[lane] == (REAL)OUT_OF_RANGE) {
        may_move = 1;
        row.scale = TYPED(choose_scale)(x, cols, eps);
        const struct TYPED(sample) sample = TYPED(sample_of)(cols, SAMPLE_VECS);
        row.centre = row.has_mean ? TYPED(guess_staged_mean)(&sample, x, &row.gamma_source, row.scale) : 0;
    }
    for (;;) {
        vec_store(sums.centre, vec_set1(row.centre));
        TYPED(sum_row)(&row, sums.sum, sums.lost, pitch);
        TYPED(finish_moments)(m, &sums, 1, cols, eps * row.scale * row.scale, row.has_mean);
        if (!may_move || m->verdict[0] != (REAL)OFF_CENTRE) {
            return row.scale;
        }
        may_move = 0;
        row.centre = m->mean[0];
    }
}

/* n elements of a row, and where they go. */
struct TYPED(span) {
    const REAL *x, *gamma, *beta;
    REAL *y;
    size_t n;
};

/* What the second pass does to them. */
struct TYPED(normalization) {
    const REAL *x, *gamma, *beta;
    vec scale, centre, rstd, rstd_lost, shift;
};

/* The n elements of y from column i, n <= LANES. Where direct, centre and rstd_lost are 0 and scale is 1. */
static KERNEL_INLINE vec TYPED(normalize)(const struct TYPED(normalization) * to, size_t i, size_t n, int direct,
                                          int has_gamma, int has_beta)
{
    vec c = TYPED(load)(to->x + i, n), shift = to->shift;
    if (!direct) {
        c = vec_fms(c, to->scale, to->centre);
        shift = vec_fma(c, to->rstd_lost, shift);
    }
    const vec xhat = vec_fma(c, to->rstd, shift);
    if (has_gamma && has_beta) {
        return vec_fma(xhat, TYPED(load)(to->gamma + i, n), TYPED(load)(to->beta + i, n));
    }
    if (has_gamma) {
        return vec_mul(xhat, TYPED(load)(to->gamma + i, n));
    }
    return has_beta ? vec_add(xhat, TYPED(load)(to->beta + i, n)) : xhat;
}

/* Vectors whose loads are done before their stores: a store delays later loads from the same place of another page. */
#define TILE_VECS ((size_t)4)

/* The second pass over a span, with the moments of scale * row in the given lane. */
typedef void TYPED(second_pass)(const struct TYPED(span) * span, const struct TYPED(moments) * m, size_t lane,
                                REAL scale);

static KERNEL_INLINE void TYPED(normalize_span)(const struct TYPED(span) * span, const struct TYPED(moments) * m,
                                                size_t lane, REAL scale, int direct, int has_gamma, int has_beta)
{
    const size_t cols = span->n;
    REAL *const y = span->y;
    const struct TYPED(normalization) to = {
        .x = span->x,
        .gamma = span->gamma,
        .beta = span->beta,
        .scale = vec_set1(scale),
        .centre = vec_set1(m->centre[lane]),
        .rstd = vec_set1(m->rstd[lane]),
        .rstd_lost = vec_set1(m->rstd_lost[lane]),
        .shift = vec_set1(m->shift[lane]),
    };
    if (cols < LANES) {
        vec_store_first(y, TYPED(normalize)(&to, 0, cols, direct, has_gamma, has_beta), cols);
        return;
    }
    /* The last vector may overlap the one before. It is computed before anything is stored, as y may be x. */
    const size_t last = cols - LANES;
    vec last_out = vec_set1(0);
    if (cols % LANES != 0) {
        last_out = TYPED(normalize)(&to, last, LANES, direct, has_gamma, has_beta);
    }
    size_t i = 0;
    ROLLED
    for (; i + TILE_VECS * LANES <= cols; i += TILE_VECS * LANES) {
        vec out[TILE_VECS];
        for (size_t v = 0; v < TILE_VECS; v++) {
            out[v] = TYPED(normalize)(&to, i + v * LANES, LANES, direct, has_gamma, has_beta);
        }
        for (size_t v = 0; v < TILE_VECS; v++) {
            vec_store(y + i + v * LANES, out[v]);
        }
    }
    ROLLED
    for (; i + LANES <= cols; i += LANES) {
        vec_store(y + i, TYPED(normalize)(&to, i, LANES, direct, has_gamma, has_beta));
    }
    if (i < cols) {
        vec_store(y + last, last_out);
    }
}

#define SECOND_PASS(name, direct, has_gamma, has_beta)                                                                 \
    static NOINLINE void TYPED(name)(const struct TYPED(span) * span, const struct TYPED(moments) * m, size_t lane,    \
                                     REAL scale)                                                                       \
    {                                                                                                                  \
        TYPED(normalize_span)(span, m, lane, scale, direct, has_gamma, has_beta);                                      \
    }
SECOND_PASS(centred, 0, 0, 0)
SECOND_PASS(centred_gamma, 0, 1, 0)
SECOND_PASS(centred_beta, 0, 0, 1)
SECOND_PASS(centred_gamma_beta, 0, 1, 1)
SECOND_PASS(direct, 1, 0, 0)
SECOND_PASS(direct_gamma, 1, 1, 0)
SECOND_PASS(direct_beta, 1, 0, 1)
SECOND_PASS(direct_gamma_beta, 1, 1, 1)
#undef SECOND_PASS

static TYPED(second_pass) *const TYPED(second_passes)[2][4] = {
    {TYPED(centred), TYPED(centred_gamma), TYPED(centred_beta), TYPED(centred_gamma_beta)},
    {TYPED(direct), TYPED(direct_gamma), TYPED(direct_beta), TYPED(direct_gamma_beta)},
};

/* Buffers for a block of a row, and the parameters where they are. */
struct TYPED(forward_stage) {
    REAL x[BLOCK], y[BLOCK], gamma_block[BLOCK], beta_block[BLOCK];
    struct TYPED(source) gamma, beta;
};

/* The first pass over a staged row. */
static NOINLINE void TYPED(sum_staged_row)(struct TYPED(forward_sums) * sums, size_t lane, size_t pitch,
                                           const struct TYPED(sample) * sample, const struct lnorm_forward_args *args,
                                           struct TYPED(forward_stage) * stage, size_t row)
{
    struct TYPED(row) one = {
        .cols = args->cols,
        .staged = 1,
        .x_source = TYPED(row_source)(args->x, row, args->x_stride, args->x_type, stage != NULL ? stage->x : NULL)};
    if (args->has_mean) {
        one.has_mean = 1;
        one.centre = TYPED(guess_staged_mean)(sample, &one.x_source, &one.gamma_source, 1);
        sums->centre[lane] = one.centre;
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    } else {
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    }
}

/* The second pass over a staged row. */
static NOINLINE void TYPED(normalize_staged_row)(const struct lnorm_forward_args *args, size_t row,
                                                 struct TYPED(forward_stage) * stage, TYPED(second_pass) * pass,
                                                 const struct TYPED(moments) * m, size_t lane, REAL scale)
{
    const struct TYPED(source) x =
        TYPED(row_source)(args->x, row, args->x_stride, args->x_type, stage != NULL ? stage->x : NULL);
    char *const y = TYPED(row_target)(args->y, row, args->y_stride, args->y_type);
    for (size_t i = 0; i < args->cols; i += BLOCK) {
        const size_t n = args->cols - i < BLOCK ? args->cols - i : BLOCK;
        const struct TYPED(span) span = {.x = TYPED(fetch)(&x, i, n),
                                         .gamma = TYPED(fetch)(&stage->gamma, i, n),
                                         .beta = TYPED(fetch)(&stage->beta, i, n),
                                         .y = TYPED(place)(y, args->y_type, stage->y, i),
                                         .n = n};
        pass(&span, m, lane, scale);
        TYPED(put)(y, args->y_type, stage->y, i, n);
    }
}

/* A row whose statistics, in the given lane, will not do: others, and then the second pass. */
static NOINLINE void TYPED(normalize_carefully)(const struct lnorm_forward_args *args, size_t row,
                                                struct TYPED(forward_stage) * stage, const struct TYPED(span) * span,
                                                TYPED(second_pass) * pass, const struct TYPED(moments) * m, size_t lane)
{
    const struct TYPED(source) x =
        TYPED(row_source)(args->x, row, args->x_stride, args->x_type, stage != NULL ? stage->x : NULL);
    struct TYPED(moments) careful;
    const REAL scale = TYPED(careful_moments)(&careful, m, lane, &x, args);
    if (args->mean != NULL) {
        ((REAL *)args->mean)[row] = careful.mean[0] / scale;
    }
    if (args->rstd != NULL) {
        ((REAL *)args->rstd)[row] = careful.rstd[0] * scale;
    }
    if (stage != NULL) {
        TYPED(normalize_staged_row)(args, row, stage, pass, &careful, 0, scale);
    } else {
        pass(span, &careful, 0, scale);
    }
}

/* Bytes of the rows of a batch: its two passes and the first pass of the next share the first cache. */
#define BATCH_BYTES ((size_t)65536)

/* stage is NULL where nothing is staged. */
static NOINLINE void TYPED(forward_rows)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row,
                                         struct TYPED(forward_stage) * stage)
{
    const size_t cols = args->cols;
    const size_t fitting = BATCH_BYTES / sizeof(REAL) / cols;
    const size_t batch = fitting < 1 ? 1 : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    const struct TYPED(sample) sample = TYPED(sample_of)(cols, SAMPLE_VECS);
    const int affine = (args->gamma != NULL) + 2 * (args->beta != NULL);
    TYPED(second_pass) *const centred = TYPED(second_passes)[0][affine], *const direct =
                                                                             TYPED(second_passes)[1][affine];
    struct TYPED(span) span = {.gamma = args->gamma, .beta = args->beta, .n = cols};
    struct TYPED(forward_sums) sums;
    struct TYPED(moments) m;
    vec_store(sums.centre, vec_set1(0));

    /* The first pass of one batch goes along with the second pass of the one before, so that the core always has
     * something to do while roots, stores or memory keep the other waiting. */
    size_t rows = 0;
    for (size_t first = first_row; first < end_row || rows > 0;) {
        const size_t next_rows = end_row - first < batch ? end_row - first : batch;
        if (rows > 0) {
            TYPED(finish_moments)(&m, &sums, rows, cols, (REAL)args->eps, args->has_mean);
            if (args->mean != NULL) {
                TYPED(store)((REAL *)args->mean + first - rows, vec_load(m.mean), rows);
            }
            if (args->rstd != NULL) {
                TYPED(store)((REAL *)args->rstd + first - rows, vec_load(m.rstd), rows);
            }
        }
        const size_t pitch = TYPED(places_of)(TYPED(quantities)(args->has_mean, 0), next_rows).pitch;
        for (size_t r = 0; r < rows || r < next_rows; r++) {
            if (r < next_rows && stage != NULL) {
                TYPED(sum_staged_row)(&sums, r, pitch, &sample, args, stage, first + r);
            } else if (r < next_rows) {
                struct TYPED(row)
                    row = {.x = (const REAL *)args->x + (ptrdiff_t)(first + r) * args->x_stride, .cols = cols};
                if (args->has_mean) {
                    row.has_mean = 1;
                    row.centre = TYPED(guess_mean)(&sample, row.x, NULL, 1);
                    sums.centre[r] = row.centre;
                    TYPED(sum_row)(&row, sums.sum + r, sums.lost + r, pitch);
                } else {
                    TYPED(sum_row)(&row, sums.sum + r, sums.lost + r, pitch);
                }
            }
            if (r < rows) {
                const size_t row = first - rows + r;
                TYPED(second_pass) *const pass = m.verdict[r] == (REAL)DIRECT ? direct : centred;
                span.x = (const REAL *)args->x + (ptrdiff_t)row * args->x_stride;
                span.y = (REAL *)args->y + (ptrdiff_t)row * args->y_stride;
                if (!LIKELY(m.verdict[r] <= (REAL)CENTRED)) {
                    TYPED(normalize_carefully)(args, row, stage, &span, centred, &m, r);
                } else if (stage != NULL) {
                    TYPED(normalize_staged_row)(args, row, stage, pass, &m, r, 1);
                } else {
                    pass(&span, &m, r, 1);
                }
            }
        }
        first += next_rows;
        rows = next_rows;
    }
}

static NOINLINE void TYPED(forward_staged)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    struct TYPED(forward_stage) stage;
    stage.gamma = TYPED(parameter)(args->gamma, args->param_type, stage.gamma_block, args->cols);
    stage.beta = TYPED(parameter)(args->beta, args->param_type, stage.beta_block, args->cols);
    TYPED(forward_rows)(args, first_row, end_row, &stage);
}

static void TYPED(forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    if (args->staged) {
        TYPED(forward_staged)(args, first_row, end_row);
    } else {
        TYPED(forward_rows)(args, first_row, end_row, NULL);
    }
}

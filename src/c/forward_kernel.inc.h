/* Layer normalization, forward. Parameters: as row_sums.inc.h.
 *
 * One pass sums c = x - k and c*c, with k a first guess of the mean from 8 elements; then lo = sum(c)/n,
 * mean = k + lo and var = sum(c*c)/n - lo*lo. Where the guess was so far off that the subtraction would cost digits
 * (lo*lo > var/2), the row is summed once more around k + lo. The second pass writes
 *
 *     y = fma(xhat, gamma, beta),   xhat = fma(c, rstd, fma(c, rstd_lost, shift)),   c = x - centre
 *
 * with centre = mean, or 0 where |mean| is at most half of the deviation: then x itself has fewer roundings than
 * x - mean, and rstd_lost is 0 too. What the mean has beyond the centre is in the shift.
 *
 * Rows whose squares overflow or vanish are multiplied by a power of two, on the way in, by the same code.
 */

/* What the sums of a row give, all of scale * row. */
struct TYPED(moments) {
    REAL scale, mean, var_plus_eps, rstd;
    REAL centre, rstd_lost, shift;
    int centred;
};

/* eps is that of the scaled row. */
static KERNEL_INLINE struct TYPED(moments)
    TYPED(moments_of)(const struct TYPED(row) * row, struct TYPED(row_sums) sums, REAL reciprocal, REAL eps)
{
    const REAL n = (REAL)row->cols;
    struct TYPED(moments) m = {.scale = row->scale};
    const struct TYPED(row_sum) lo = TYPED(divide)(sums.c, n, reciprocal);
    REAL mean_lost;
    TYPED(two_sum)(row->centre, lo.sum, &m.mean, &mean_lost);
    mean_lost += lo.lost;

    /* var + eps = square - lo*lo + eps, with what each rounding loses kept in `lost`. */
    const struct TYPED(row_sum) square = TYPED(divide)(sums.gc, n, reciprocal);
    const REAL lo_square = lo.sum * lo.sum;
    REAL lost = square.lost - real_fma(lo.sum, lo.sum, -lo_square) - 2 * lo.sum * lo.lost;
    REAL var, rounding;
    TYPED(two_sum)(square.sum, -lo_square, &var, &rounding);
    lost += rounding;
    m.centred = !(lo_square + lo_square > var);
    TYPED(two_sum)(var, eps, &m.var_plus_eps, &rounding);
    lost += rounding;

    /* 1 / sqrt(v + lost), corrected to first order in what root, quotient and `lost` leave. */
    const REAL v = m.var_plus_eps;
    const REAL root = real_sqrt(v);
    const REAL inverse = 1 / root;
    const REAL root_error = (real_fma(-root, root, v) + lost) * inverse * (REAL)0.5;
    const REAL relative = real_fma(-inverse, root, 1) - inverse * root_error;
    m.rstd = real_fma(inverse, relative, inverse);
    m.rstd_lost = real_fma(inverse, relative, inverse - m.rstd);
    m.centre = m.mean;
    m.shift = -(mean_lost * m.rstd);
    if (4 * m.mean * m.mean < var) {
        m.centre = 0;
        m.rstd_lost = 0;
        m.shift = -real_fma(m.mean, m.rstd, mean_lost * m.rstd);
    }
    if (!(v > 0)) {
        /* A row without variance, and eps = 0: xhat is 0. What is not a number stays none. */
        m.rstd = m.rstd_lost = m.shift = v * 0;
    }
    return m;
}

static KERNEL_INLINE REAL TYPED(guess_mean)(const REAL *x, size_t cols, REAL scale)
{
    REAL sample[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        sample[i] = x[i * (cols / SAMPLES)] * scale;
    }
    return TYPED(sample_mean)(sample);
}

/* A power of two that brings the largest of |x| and sqrt(eps) near 1; 1 where there is nothing to scale. */
static REAL TYPED(choose_scale)(const REAL *x, size_t cols, REAL eps)
{
    REAL largest = real_sqrt(eps);
    for (size_t i = 0; i < cols; i++) {
        const REAL a = x[i] < 0 ? -x[i] : x[i];
        if (!(a <= REAL_MAX)) {
            return 1;
        }
        largest = a > largest ? a : largest;
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

/* The statistics of any row: summed again around a better centre, or scaled, where it needs to be. */
static NOINLINE struct TYPED(moments) TYPED(careful_moments)(const REAL *x, size_t cols, REAL reciprocal, REAL eps)
{
    struct TYPED(row) row = {.x = x, .cols = cols, .scale = 1, .centre = TYPED(guess_mean)(x, cols, 1)};
    int scaled = 0, recentred = 0;
    for (;;) {
        const struct TYPED(row_sums) sums = TYPED(sum_row)(&row);
        const struct TYPED(moments) m = TYPED(moments_of)(&row, sums, reciprocal, eps * row.scale * row.scale);
        if (!scaled && !(m.var_plus_eps >= REAL_TINY && m.var_plus_eps <= REAL_MAX)) {
            scaled = 1;
            row.scale = TYPED(choose_scale)(x, cols, eps);
            row.centre = TYPED(guess_mean)(x, cols, row.scale);
        } else if (!recentred && !m.centred) {
            recentred = 1;
            row.centre = m.mean;
        } else {
            return m;
        }
    }
}

static KERNEL_INLINE struct TYPED(moments) TYPED(row_moments)(const REAL *x, size_t cols, REAL reciprocal, REAL eps)
{
    const struct TYPED(row) row = {.x = x, .cols = cols, .scale = 1, .centre = TYPED(guess_mean)(x, cols, 1)};
    const struct TYPED(moments) m = TYPED(moments_of)(&row, TYPED(sum_row)(&row), reciprocal, eps);
    if (LIKELY(m.centred && m.var_plus_eps >= REAL_TINY && m.var_plus_eps <= REAL_MAX)) {
        return m;
    }
    return TYPED(careful_moments)(x, cols, reciprocal, eps);
}

/* The n elements of y from column i, n <= LANES. Where `direct`, centre and rstd_lost are 0 and scale is 1. */
static KERNEL_INLINE vec TYPED(normalize)(const REAL *x, size_t i, size_t n, const struct TYPED(moments) * m,
                                          int direct, const REAL *gamma, const REAL *beta)
{
    const vec rstd = vec_set1(m->rstd);
    vec c = TYPED(load)(x + i, n), shift = vec_set1(m->shift);
    if (!direct) {
        c = vec_fma(c, vec_set1(m->scale), vec_set1(-m->centre));
        shift = vec_fma(c, vec_set1(m->rstd_lost), shift);
    }
    const vec xhat = vec_fma(c, rstd, shift);
    if (gamma != NULL && beta != NULL) {
        return vec_fma(xhat, TYPED(load)(gamma + i, n), TYPED(load)(beta + i, n));
    }
    if (gamma != NULL) {
        return vec_mul(xhat, TYPED(load)(gamma + i, n));
    }
    return beta != NULL ? vec_add(xhat, TYPED(load)(beta + i, n)) : xhat;
}

/* Vectors whose loads are done before their stores: a store delays later loads from the same place of another page. */
#define APPLY_VECS ((size_t)4)

static KERNEL_INLINE void TYPED(apply)(const REAL *x, REAL *y, size_t cols, const struct TYPED(moments) * m, int direct,
                                       const REAL *gamma, const REAL *beta)
{
    size_t i = 0;
    for (; i + APPLY_VECS * LANES <= cols; i += APPLY_VECS * LANES) {
        vec out[APPLY_VECS];
        for (size_t v = 0; v < APPLY_VECS; v++) {
            out[v] = TYPED(normalize)(x, i + v * LANES, LANES, m, direct, gamma, beta);
        }
        for (size_t v = 0; v < APPLY_VECS; v++) {
            vec_store(y + i + v * LANES, out[v]);
        }
    }
    for (; i + LANES <= cols; i += LANES) {
        vec_store(y + i, TYPED(normalize)(x, i, LANES, m, direct, gamma, beta));
    }
    if (i < cols) {
        vec_store_first(y + i, TYPED(normalize)(x, i, cols - i, m, direct, gamma, beta), cols - i);
    }
}

/* The same with the branches taken outside of the loop. */
static KERNEL_INLINE void TYPED(apply_any)(const REAL *x, REAL *y, size_t cols, const struct TYPED(moments) * m,
                                           int direct, const REAL *gamma, const REAL *beta)
{
    if (gamma != NULL && beta != NULL) {
        TYPED(apply)(x, y, cols, m, direct, gamma, beta);
    } else if (gamma != NULL) {
        TYPED(apply)(x, y, cols, m, direct, gamma, NULL);
    } else if (beta != NULL) {
        TYPED(apply)(x, y, cols, m, direct, NULL, beta);
    } else {
        TYPED(apply)(x, y, cols, m, direct, NULL, NULL);
    }
}

/* Rows are taken in batches that stay in the first cache between their two passes, so that the end of one row's sums
 * is hidden behind the next row's. */
#define BATCH_ROWS ((size_t)16)
#define BATCH_BYTES ((size_t)16384)

static void TYPED(forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    const size_t cols = args->cols;
    const REAL *const gamma = args->gamma, *const beta = args->beta;
    REAL *const mean = args->mean, *const rstd = args->rstd;
    const REAL eps = (REAL)args->eps;
    const REAL reciprocal = 1 / (REAL)cols;
    const size_t fitting = BATCH_BYTES / sizeof(REAL) / cols;
    const size_t batch = fitting < 1 ? 1 : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    struct TYPED(moments) moments[BATCH_ROWS];

    for (size_t row = first_row; row < end_row; row += batch) {
        const size_t rows = end_row - row < batch ? end_row - row : batch;
        const REAL *const x = (const REAL *)args->x + (ptrdiff_t)row * args->x_stride;
        REAL *const y = (REAL *)args->y + (ptrdiff_t)row * args->y_stride;
        for (size_t r = 0; r < rows; r++) {
            moments[r] = TYPED(row_moments)(x + (ptrdiff_t)r * args->x_stride, cols, reciprocal, eps);
        }
        for (size_t r = 0; r < rows; r++) {
            const struct TYPED(moments) *const m = &moments[r];
            const REAL *const from = x + (ptrdiff_t)r * args->x_stride;
            REAL *const to = y + (ptrdiff_t)r * args->y_stride;
            if (mean != NULL) {
                mean[row + r] = m->mean / m->scale;
            }
            if (rstd != NULL) {
                rstd[row + r] = m->rstd * m->scale;
            }
            if (m->centre == 0 && m->rstd_lost == 0 && m->scale == 1) {
                TYPED(apply_any)(from, to, cols, m, 1, gamma, beta);
            } else {
                TYPED(apply_any)(from, to, cols, m, 0, gamma, beta);
            }
        }
    }
}

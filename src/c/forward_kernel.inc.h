/* Layer normalization, forward. Parameters: as row_sums.inc.h, which comes before.
 *
 * One pass sums c = k - x and c*c, with k a first guess of the mean from a few vectors; then lo = sum(c)/n,
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

/* The statistics of a row whose first ones, in the given lane, will not do: summed again around their mean, or scaled
 * and then, where it needs to be, summed around that mean. They come in lane 0 of m; returns the scale. */
static NOINLINE REAL TYPED(careful_moments)(struct REALED(moments) * m, const struct REALED(moments) * first,
                                            size_t lane, struct TYPED(row) row, const struct lnorm_forward_args *args)
{
    const size_t cols = args->cols, pitch = REALED(places_of)(REALED(quantities)(args->has_mean, 0), 1).pitch;
    const REAL eps = (REAL)args->eps;
    struct REALED(forward_sums) sums;
    int may_move = 0;
    row.scaled = 1;
    row.scale = 1;
    row.centre = first->mean[lane];
    if (first->verdict[lane] == (REAL)OUT_OF_RANGE) {
        const struct REALED(sample) sample = REALED(sample_of)(cols, SAMPLE_VECS);
        may_move = 1;
        row.scale = REALED(choose_scale)(&row.x_source, cols, eps);
        row.centre = row.has_mean ? TYPED(guess_any_mean)(&sample, &row, row.scale) : 0;
    }
    for (;;) {
        vec_store(sums.centre, vec_set1(row.centre));
        TYPED(sum_blocks)(&row, 0, sums.sum, sums.lost, pitch);
        REALED(finish_moments)(m, &sums, 1, cols, eps * row.scale * row.scale, row.has_mean);
        if (!may_move || m->verdict[0] != (REAL)OFF_CENTRE) {
            return row.scale;
        }
        may_move = 0;
        row.centre = m->mean[0];
    }
}

/* n elements of a row, and where they go. */
struct TYPED(span) {
    const ELEMENT *x;
    const REAL *gamma, *beta;
    ELEMENT *y;
    size_t n;
};

/* What the second pass does to them. */
struct TYPED(normalization) {
    const ELEMENT *x;
    const REAL *gamma, *beta;
    vec scale, centre, rstd, rstd_lost, shift;
};

/* The n elements of y from column i, n <= LANES. Where direct, centre and rstd_lost are 0 and scale is 1. */
static KERNEL_INLINE vec TYPED(normalize)(const struct TYPED(normalization) * to, size_t i, size_t n, int direct,
                                          int has_gamma, int has_beta)
{
    vec c = TYPED(read)(to->x + i, n), shift = to->shift;
    if (!direct) {
        c = vec_fms(c, to->scale, to->centre);
        shift = vec_fma(c, to->rstd_lost, shift);
    }
    const vec xhat = vec_fma(c, to->rstd, shift);
    if (has_gamma && has_beta) {
        return vec_fma(xhat, REALED(load)(to->gamma + i, n), REALED(load)(to->beta + i, n));
    }
    if (has_gamma) {
        return vec_mul(xhat, REALED(load)(to->gamma + i, n));
    }
    return has_beta ? vec_add(xhat, REALED(load)(to->beta + i, n)) : xhat;
}

/* Vectors whose loads are done before their stores: a store delays later loads from the same place of another page. */
#define TILE_VECS ((size_t)4)

/* The second pass over a span, with the moments of scale * row in the given lane. */
typedef void TYPED(second_pass)(const struct TYPED(span) * span, const struct REALED(moments) * m, size_t lane,
                                REAL scale);

static KERNEL_INLINE void TYPED(normalize_span)(const struct TYPED(span) * span, const struct REALED(moments) * m,
                                                size_t lane, REAL scale, int direct, int has_gamma, int has_beta)
{
    const size_t cols = span->n;
    ELEMENT *const y = span->y;
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
        TYPED(write)(y, TYPED(normalize)(&to, 0, cols, direct, has_gamma, has_beta), cols);
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
            TYPED(write)(y + i + v * LANES, out[v], LANES);
        }
    }
    ROLLED
    for (; i + LANES <= cols; i += LANES) {
        TYPED(write)(y + i, TYPED(normalize)(&to, i, LANES, direct, has_gamma, has_beta), LANES);
    }
    if (i < cols) {
        TYPED(write)(y + last, last_out, LANES);
    }
}

#define SECOND_PASS(name, direct, has_gamma, has_beta)                                                                 \
    static NOINLINE void TYPED(name)(const struct TYPED(span) * span, const struct REALED(moments) * m, size_t lane,   \
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

#if IS_16_BITS
struct TYPED(forward_stage); /* never one */
#else
/* Buffers for a block of a row, and the parameters where they are. */
struct TYPED(forward_stage) {
    REAL x[BLOCK], y[BLOCK], gamma_block[BLOCK], beta_block[BLOCK];
    struct REALED(source) gamma, beta;
};

/* The first pass over a staged row. */
static NOINLINE void TYPED(sum_staged_row)(struct REALED(forward_sums) * sums, size_t lane, size_t pitch,
                                           const struct REALED(sample) * sample, const struct lnorm_forward_args *args,
                                           size_t row, struct TYPED(forward_stage) * stage)
{
    struct TYPED(row) one = {
        .cols = args->cols,
        .has_mean = args->has_mean,
        .staged = 1,
        .x_source = REALED(row_source)(args->x, row, args->x_stride, args->x_type, stage->x),
    };
    if (one.has_mean) {
        one.centre = TYPED(guess_any_mean)(sample, &one, 1);
        sums->centre[lane] = one.centre;
    }
    TYPED(sum_blocks)(&one, 0, sums->sum + lane, sums->lost + lane, pitch);
}

/* The second pass over a staged row. */
static NOINLINE void TYPED(normalize_staged_row)(const struct lnorm_forward_args *args, size_t row,
                                                 struct TYPED(forward_stage) * stage, TYPED(second_pass) * pass,
                                                 const struct REALED(moments) * m, size_t lane, REAL scale)
{
    const struct REALED(source) x = REALED(row_source)(args->x, row, args->x_stride, args->x_type, stage->x);
    char *const y = REALED(row_target)(args->y, row, args->y_stride, args->y_type);
    for (size_t i = 0; i < args->cols; i += BLOCK) {
        const size_t n = args->cols - i < BLOCK ? args->cols - i : BLOCK;
        const struct TYPED(span) span = {.x = REALED(fetch)(&x, i, n),
                                         .gamma = REALED(fetch)(&stage->gamma, i, n),
                                         .beta = REALED(fetch)(&stage->beta, i, n),
                                         .y = REALED(place)(y, args->y_type, stage->y, i),
                                         .n = n};
        pass(&span, m, lane, scale);
        REALED(put)(y, args->y_type, stage->y, i, n);
    }
}
#endif

/* The first pass over the row of place `row`, as the given lane of a batch. stage is NULL where nothing is staged. */
static KERNEL_INLINE void TYPED(sum_forward_row)(struct REALED(forward_sums) * sums, size_t lane, size_t pitch,
                                                 const struct REALED(sample) * sample,
                                                 const struct lnorm_forward_args *args, size_t row,
                                                 struct TYPED(forward_stage) * stage)
{
#if IS_16_BITS
    (void)stage;
#else
    if (stage != NULL) {
        TYPED(sum_staged_row)(sums, lane, pitch, sample, args, row, stage);
        return;
    }
#endif
    struct TYPED(row) one = {.x = (const ELEMENT *)args->x + (ptrdiff_t)row * args->x_stride, .cols = args->cols};
    if (args->has_mean) {
        one.has_mean = 1;
        one.centre = TYPED(guess_mean)(sample, one.x, NULL, 1);
        sums->centre[lane] = one.centre;
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    } else {
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    }
}

/* The second pass over that row; the span says what is the same for all rows. */
static KERNEL_INLINE void TYPED(normalize_row)(const struct lnorm_forward_args *args, size_t row,
                                               struct TYPED(forward_stage) * stage, struct TYPED(span) * span,
                                               TYPED(second_pass) * pass, const struct REALED(moments) * m, size_t lane,
                                               REAL scale)
{
#if IS_16_BITS
    (void)stage;
#else
    if (stage != NULL) {
        TYPED(normalize_staged_row)(args, row, stage, pass, m, lane, scale);
        return;
    }
#endif
    span->x = (const ELEMENT *)args->x + (ptrdiff_t)row * args->x_stride;
    span->y = (ELEMENT *)args->y + (ptrdiff_t)row * args->y_stride;
    pass(span, m, lane, scale);
}

/* The same of a row whose statistics will not do, with others. */
static NOINLINE void TYPED(normalize_carefully)(const struct lnorm_forward_args *args, size_t row,
                                                struct TYPED(forward_stage) * stage, struct TYPED(span) * span,
                                                TYPED(second_pass) * pass, const struct REALED(moments) * m,
                                                size_t lane)
{
    REAL block[BLOCK];
    struct TYPED(row) one = {
        .cols = args->cols,
        .has_mean = args->has_mean,
        .staged = stage != NULL,
        .x_source = REALED(row_source)(args->x, row, args->x_stride, args->x_type, block),
    };
    one.x = (const ELEMENT *)(const void *)one.x_source.at; /* looked at where the row is not staged */
    struct REALED(moments) careful;
    const REAL scale = TYPED(careful_moments)(&careful, m, lane, one, args);
    if (args->mean != NULL) {
        ((REAL *)args->mean)[row] = careful.mean[0] / scale;
    }
    if (args->rstd != NULL) {
        ((REAL *)args->rstd)[row] = careful.rstd[0] * scale;
    }
    TYPED(normalize_row)(args, row, stage, span, pass, &careful, 0, scale);
}

/* Bytes of the rows of a batch, as REAL: its two passes and the first pass of the next share the first cache. */
#define BATCH_BYTES ((size_t)65536)

/* stage is NULL where nothing is staged. */
static NOINLINE void TYPED(forward_rows)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row,
                                         struct TYPED(forward_stage) * stage)
{
    const size_t cols = args->cols;
    const size_t fitting = BATCH_BYTES / sizeof(REAL) / cols;
    const size_t batch = fitting < 1 ? 1 : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    const struct REALED(sample) sample = REALED(sample_of)(cols, SAMPLE_VECS);
    const int affine = (args->gamma != NULL) + 2 * (args->beta != NULL);
    TYPED(second_pass) *const centred = TYPED(second_passes)[0][affine];
    TYPED(second_pass) *const direct = TYPED(second_passes)[1][affine];
    struct TYPED(span) span = {.gamma = args->gamma, .beta = args->beta, .n = cols};
    struct REALED(forward_sums) sums;
    struct REALED(moments) m;
    vec_store(sums.centre, vec_set1(0));

    /* The first pass of one batch goes along with the second pass of the one before, so that the core always has
     * something to do while roots, stores or memory keep the other waiting. */
    size_t rows = 0;
    for (size_t first = first_row; first < end_row || rows > 0;) {
        const size_t next_rows = end_row - first < batch ? end_row - first : batch;
        if (rows > 0) {
            REALED(finish_moments)(&m, &sums, rows, cols, (REAL)args->eps, args->has_mean);
            if (args->mean != NULL) {
                REALED(store)((REAL *)args->mean + first - rows, vec_load(m.mean), rows);
            }
            if (args->rstd != NULL) {
                REALED(store)((REAL *)args->rstd + first - rows, vec_load(m.rstd), rows);
            }
        }
        const size_t pitch = REALED(places_of)(REALED(quantities)(args->has_mean, 0), next_rows).pitch;
        for (size_t r = 0; r < rows || r < next_rows; r++) {
            if (r < next_rows) {
                TYPED(sum_forward_row)(&sums, r, pitch, &sample, args, first + r, stage);
            }
            if (r < rows) {
                const size_t row = first - rows + r;
                if (LIKELY(m.verdict[r] <= (REAL)CENTRED)) {
                    TYPED(second_pass) *const pass = m.verdict[r] == (REAL)DIRECT ? direct : centred;
                    TYPED(normalize_row)(args, row, stage, &span, pass, &m, r, 1);
                } else {
                    TYPED(normalize_carefully)(args, row, stage, &span, centred, &m, r);
                }
            }
        }
        first += next_rows;
        rows = next_rows;
    }
}

#if IS_16_BITS
/* With parameters of 16 bits too, which are widened once for all rows. */
static NOINLINE void TYPED(forward_widened)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    struct lnorm_forward_args wide = *args;
    REAL gamma[LNORM_WIDENED_COLS], beta[LNORM_WIDENED_COLS];
    if (args->gamma != NULL) {
        REALED(widen)(gamma, args->gamma, args->param_type, args->cols);
        wide.gamma = gamma;
    }
    if (args->beta != NULL) {
        REALED(widen)(beta, args->beta, args->param_type, args->cols);
        wide.beta = beta;
    }
    TYPED(forward_rows)(&wide, first_row, end_row, NULL);
}
#else
static NOINLINE void TYPED(forward_staged)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    struct TYPED(forward_stage) stage;
    stage.gamma = REALED(parameter)(args->gamma, args->param_type, stage.gamma_block, args->cols);
    stage.beta = REALED(parameter)(args->beta, args->param_type, stage.beta_block, args->cols);
    TYPED(forward_rows)(args, first_row, end_row, &stage);
}
#endif

static void TYPED(forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
#if IS_16_BITS
    if (args->param_type != REAL_TYPE && (args->gamma != NULL || args->beta != NULL)) {
        TYPED(forward_widened)(args, first_row, end_row);
        return;
    }
#else
    if (args->staged) {
        TYPED(forward_staged)(args, first_row, end_row);
        return;
    }
#endif
    TYPED(forward_rows)(args, first_row, end_row, NULL);
}

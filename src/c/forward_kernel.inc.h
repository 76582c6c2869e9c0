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
 * and then, where it needs to be, summed around that mean; x are its elements. They come in lane 0 of m and s; returns
 * the scale. */
static NOINLINE REAL TYPED(careful_moments)(struct REALED(moments) * m, struct REALED(statistics) * s,
                                            const struct REALED(moments) * first, size_t lane, struct TYPED(row) row,
                                            const struct REALED(source) * x, const struct lnorm_forward_args *args)
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
        row.scale = REALED(choose_scale)(x, cols, eps);
        row.centre = row.has_mean ? TYPED(guess_any_mean)(&sample, &row, row.scale) : 0;
    }
    for (;;) {
        vec_store(sums.centre, vec_set1(row.centre));
        TYPED(sum_blocks)(&row, 0, sums.sum, sums.lost, pitch);
        *s = REALED(statistics_of)(&sums, 1, cols, row.has_mean);
        REALED(finish_statistics)(m, s, eps * row.scale * row.scale);
        if (!may_move || m->verdict[0] != (REAL)OFF_CENTRE) {
            break;
        }
        may_move = 0;
        row.centre = m->mean[0];
    }
    REAL var[LANES];
    vec_store(var, s->var);
    const int keeps_eps = eps * row.scale * row.scale / row.scale / row.scale == eps;
    if (row.has_mean && !(var[0] > 0) && !keeps_eps) { /* equal elements, so large that the scaled eps vanishes */
        s->mean = vec_div(s->mean, vec_set1(row.scale));
        row.scale = 1;
        REALED(finish_statistics)(m, s, eps);
    }
    return row.scale;
}

/* The same for the row of that place. */
static NOINLINE REAL TYPED(careful_row)(struct REALED(moments) * m, struct REALED(statistics) * s,
                                        const struct REALED(moments) * first, size_t lane,
                                        const struct lnorm_forward_args *args, size_t row, int staged)
{
    REAL block[BLOCK];
    const struct REALED(sources) sources = {.x = REALED(row_source)(&args->x, row, args->inner, block)};
    const struct TYPED(row) one = {.x = (const ELEMENT *)(const void *)sources.x.at,
                                   .cols = args->cols,
                                   .has_mean = args->has_mean,
                                   .staged = staged ? &sources : NULL};
    return TYPED(careful_moments)(m, s, first, lane, one, &sources.x, args);
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
    vec one_gamma, one_beta;
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
    if (has_gamma == ONE_FOR_ALL) {
        return vec_fma(xhat, to->one_gamma, to->one_beta);
    }
    if (has_gamma && has_beta) {
        return vec_fma(xhat, REALED(load)(to->gamma + i, n), REALED(load)(to->beta + i, n));
    }
    if (has_gamma) {
        return vec_mul(xhat, REALED(load)(to->gamma + i, n));
    }
    return has_beta ? vec_add(xhat, REALED(load)(to->beta + i, n)) : xhat;
}

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
        .one_gamma = vec_set1(has_gamma == ONE_FOR_ALL && span->gamma != NULL ? span->gamma[0] : 1),
        .one_beta = vec_set1(has_beta == ONE_FOR_ALL && span->beta != NULL ? span->beta[0] : -(REAL)0),
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
SECOND_PASS(centred_run, 0, ONE_FOR_ALL, ONE_FOR_ALL)
SECOND_PASS(direct_run, 1, ONE_FOR_ALL, ONE_FOR_ALL)
#undef SECOND_PASS

static TYPED(second_pass) *const TYPED(second_passes)[2][5] = {
    {TYPED(centred), TYPED(centred_gamma), TYPED(centred_beta), TYPED(centred_gamma_beta), TYPED(centred_run)},
    {TYPED(direct), TYPED(direct_gamma), TYPED(direct_beta), TYPED(direct_gamma_beta), TYPED(direct_run)},
};

#if IS_16_BITS
struct TYPED(forward_stage); /* never one */
#else
/* Buffers for a block of a row, for what is kept of a row that is quantized, and for the parameters. */
struct TYPED(forward_stage) {
    REAL x[BLOCK], y[KEPT_BLOCKS * BLOCK];
    struct REALED(parameter) gamma, beta;
};

/* The first pass over a staged row. */
static NOINLINE void TYPED(sum_staged_row)(struct REALED(forward_sums) * sums, size_t lane, size_t pitch,
                                           const struct REALED(sample) * sample, const struct lnorm_forward_args *args,
                                           size_t row, struct TYPED(forward_stage) * stage)
{
    const struct REALED(sources) sources = {.x = REALED(row_source)(&args->x, row, args->inner, stage->x)};
    struct TYPED(row) one = {.cols = args->cols, .has_mean = args->has_mean, .staged = &sources};
    if (one.has_mean) {
        one.centre = TYPED(guess_any_mean)(sample, &one, 1);
        sums->centre[lane] = one.centre;
    }
    TYPED(sum_blocks)(&one, 0, sums->sum + lane, sums->lost + lane, pitch);
}

/* The second pass over n elements of a staged row from the i-th on, at most a block, to y. */
static NOINLINE void TYPED(normalize_staged_block)(const struct lnorm_forward_args *args,
                                                   const struct REALED(source) * x, const struct REALED(source) * gamma,
                                                   const struct REALED(source) * beta, REAL *y, size_t i, size_t n,
                                                   TYPED(second_pass) * pass, const struct REALED(moments) * m,
                                                   size_t lane, REAL scale)
{
    const struct TYPED(span) span = {.x = REALED(fetch)(x, i, n),
                                     .gamma = REALED(fetch)(gamma, i, n),
                                     .beta = REALED(fetch)(beta, i, n),
                                     .y = y,
                                     .n = n};
    if (!args->round_steps) {
        pass(&span, m, lane, scale);
        return;
    }
    TYPED(second_passes)[0][0](&span, m, lane, scale);
    REALED(round_to)(y, args->x.type, n);
    for (size_t j = 0; span.gamma != NULL && j < n; j++) {
        y[j] *= span.gamma[j];
    }
    REALED(round_to)(y, lnorm_is_quantized(args->y.type) ? args->x.type : args->y.type, span.gamma != NULL ? n : 0);
    for (size_t j = 0; span.beta != NULL && j < n; j++) {
        y[j] += span.beta[j];
    }
}

/* The second pass over a staged row. */
static NOINLINE void TYPED(normalize_staged_row)(const struct lnorm_forward_args *args, size_t row,
                                                 struct TYPED(forward_stage) * stage, TYPED(second_pass) * pass,
                                                 const struct REALED(moments) * m, size_t lane, REAL scale)
{
    const size_t cols = args->cols, outer = row / args->inner;
    const struct lnorm_params *const params = &args->params;
    const struct REALED(source) x = REALED(row_source)(&args->x, row, args->inner, stage->x);
    const struct REALED(source) *const gamma =
        REALED(parameter_of)(&stage->gamma, params->gamma, params, params->plus_one, cols, outer);
    const struct REALED(source) *const beta = REALED(parameter_of)(&stage->beta, params->beta, params, 0, cols, outer);
    struct REALED(sink) y = REALED(row_sink)(&args->y, row, args->inner, stage->y);
    y.plain &= !args->round_steps; /* whole vectors are written */
    const int quantized = lnorm_is_quantized(y.type);
    const int dynamic = quantized && args->dynamic_scale;
    REAL *const scale_out = dynamic ? (REAL *)args->scale + row : NULL;
    int32_t *const zero_point_out = dynamic && args->zero_point != NULL ? args->zero_point + row : NULL;
    struct REALED(quantizer) to;
    REALED(begin_quantizer)(&to, y.type, dynamic ? NULL : args->scale, args->zero_point);
    /* Where the scale depends on all of y, a long row's y is computed twice. */
    const int keeps = cols <= KEPT_BLOCKS * BLOCK, passes = dynamic ? 2 : 1;
    for (int p = 1; p <= passes; p++) {
        for (size_t i = 0; i < cols; i += BLOCK) {
            const size_t n = cols - i < BLOCK ? cols - i : BLOCK;
            REAL *const block = quantized ? stage->y + (keeps ? i : 0) : REALED(place)(&y, i);
            if (p == 1 || !keeps) {
                TYPED(normalize_staged_block)(args, &x, gamma, beta, block, i, n, pass, m, lane, scale);
            }
            if (p < passes) {
                REALED(extend_range)(&to, block, n);
            } else if (quantized) {
                REALED(quantize)((uint8_t *)y.at + (ptrdiff_t)i * y.step, y.step, &to, block, n);
            } else {
                REALED(put)(&y, i, n);
            }
        }
        if (p < passes) {
            REALED(finish_range)(&to, y.type, scale_out, zero_point_out);
        }
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
    struct TYPED(row) one = {.x = (const ELEMENT *)args->x.at + (ptrdiff_t)row * args->x.stride, .cols = args->cols};
    if (args->has_mean) {
        one.has_mean = 1;
        one.centre = TYPED(guess_mean)(sample, one.x, NULL, 1);
        sums->centre[lane] = one.centre;
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    } else {
        TYPED(sum_row)(&one, sums->sum + lane, sums->lost + lane, pitch);
    }
}

/* The second pass over a row in which each gamma and beta stands for a run of elements. */
static NOINLINE void TYPED(normalize_runs)(const struct lnorm_params *params, struct TYPED(span) span,
                                           TYPED(second_pass) * pass, const struct REALED(moments) * m, size_t lane,
                                           REAL scale)
{
    const size_t cols = span.n;
    span.n = params->run;
    for (size_t i = 0; i < cols; i += span.n) {
        pass(&span, m, lane, scale);
        span.x += span.n;
        span.y += span.n;
        span.gamma = span.gamma != NULL ? span.gamma + 1 : NULL;
        span.beta = span.beta != NULL ? span.beta + 1 : NULL;
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
    span->x = (const ELEMENT *)args->x.at + (ptrdiff_t)row * args->x.stride;
    span->y = (ELEMENT *)args->y.at + (ptrdiff_t)row * args->y.stride;
    if (args->params.rows > 1) {
        const size_t offset = lnorm_param_offset(&args->params, args->cols, row);
        span->gamma = args->params.gamma != NULL ? (const REAL *)args->params.gamma + offset : NULL;
        span->beta = args->params.beta != NULL ? (const REAL *)args->params.beta + offset : NULL;
    }
    if (!LNORM_WITHOUT_GROUPS && args->params.run > 1) {
        TYPED(normalize_runs)(&args->params, *span, pass, m, lane, scale);
        return;
    }
    pass(span, m, lane, scale);
}

/* The same as normalize_row of a row whose statistics will not do, with others. */
static NOINLINE void TYPED(normalize_carefully)(const struct lnorm_forward_args *args, size_t row,
                                                struct TYPED(forward_stage) * stage, struct TYPED(span) * span,
                                                TYPED(second_pass) * pass, const struct REALED(moments) * m,
                                                size_t lane)
{
    struct REALED(moments) careful;
    struct REALED(statistics) s;
    const REAL scale = TYPED(careful_row)(&careful, &s, m, lane, args, row, stage != NULL);
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
    const struct lnorm_params *const params = &args->params;
    const int affine = stage == NULL && params->run > 1 ? RUNS : (params->gamma != NULL) + 2 * (params->beta != NULL);
    TYPED(second_pass) *const centred = TYPED(second_passes)[0][affine];
    TYPED(second_pass) *const direct = TYPED(second_passes)[1][affine];
    struct TYPED(span) span = {.gamma = params->gamma, .beta = params->beta, .n = cols};
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
                if (!LNORM_WITHOUT_RESIDUAL && args->residual.at != NULL) {
                    REALED(add_row)(args, first + r);
                }
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

static void TYPED(forward_plain)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    TYPED(forward_rows)(args, first_row, end_row, NULL);
}

/* With parameters that are not as they are used, in which case they are made so once for all rows, or tiles. */
static NOINLINE void TYPED(forward_prepared)(const struct lnorm_forward_args *args, size_t first, size_t end,
                                             void (*run)(const struct lnorm_forward_args *args, size_t first,
                                                         size_t end))
{
    struct lnorm_forward_args prepared = *args;
    struct REALED(prepared) gamma, beta;
    prepared.params.gamma =
        REALED(prepare)(&gamma, args->params.gamma, &args->params, args->params.plus_one, args->cols);
    prepared.params.beta = REALED(prepare)(&beta, args->params.beta, &args->params, 0, args->cols);
    prepared.params.type = REAL_TYPE;
    prepared.params.plus_one = 0;
    run(&prepared, first, end);
}

#if !IS_16_BITS
static NOINLINE void TYPED(forward_staged)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    struct TYPED(forward_stage) stage;
    REALED(begin_parameter)(&stage.gamma);
    REALED(begin_parameter)(&stage.beta);
    TYPED(forward_rows)(args, first_row, end_row, &stage);
}
#endif

static void TYPED(forward)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
#if !IS_16_BITS
    if (args->staged) {
        TYPED(forward_staged)(args, first_row, end_row);
        return;
    }
#endif
    if (REALED(needs_preparing)(&args->params)) {
        TYPED(forward_prepared)(args, first_row, end_row, TYPED(forward_plain));
    } else {
        TYPED(forward_plain)(args, first_row, end_row);
    }
}

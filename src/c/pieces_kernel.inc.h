/* Rows that lie in pieces: the moments of a piece, forward and backward with given ones. And the means over runs of a
 * row, which group normalization's backward needs. Parameters: as row_sums.inc.h; after the other kernels, of a TYPE
 * that is REAL.
 */

/* ---- Forward ---- */

static NOINLINE void TYPED(moments_of_rows)(const struct lnorm_forward_args *args, REAL *moments, size_t first_row,
                                            size_t end_row, struct TYPED(forward_stage) * stage)
{
    const size_t cols = args->cols;
    const struct REALED(sample) sample = REALED(sample_of)(cols, SAMPLE_VECS);
    struct REALED(forward_sums) sums;
    vec_store(sums.centre, vec_set1(0));
    for (size_t first = first_row; first < end_row; first += BATCH_ROWS) {
        const size_t rows = end_row - first < BATCH_ROWS ? end_row - first : BATCH_ROWS;
        const size_t pitch = REALED(places_of)(REALED(quantities)(args->has_mean, 0), rows).pitch;
        for (size_t r = 0; r < rows; r++) {
            TYPED(sum_forward_row)(&sums, r, pitch, &sample, args, first + r, stage);
        }
        struct REALED(moments) m;
        const struct REALED(statistics) all = REALED(statistics_of)(&sums, rows, cols, args->has_mean);
        REALED(finish_statistics)(&m, &all, (REAL)args->eps);
        for (size_t r = 0; r < rows; r++) {
            REAL *const to = moments + (first + r) * LNORM_MOMENTS;
            struct REALED(statistics) own = all;
            size_t lane = r;
            to[4] = 1;
            if (m.verdict[r] > (REAL)CENTRED) {
                struct REALED(moments) careful;
                to[4] = TYPED(careful_row)(&careful, &own, &m, r, args, first + r, stage != NULL);
                lane = 0;
            }
            REAL part[4][LANES];
            vec_store(part[0], own.mean);
            vec_store(part[1], own.mean_lost);
            vec_store(part[2], own.var);
            vec_store(part[3], own.var_lost);
            for (size_t k = 0; k < 4; k++) {
                to[k] = part[k][lane];
            }
        }
    }
}

static NOINLINE void TYPED(normalize_given)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row,
                                            struct TYPED(forward_stage) * stage)
{
    const struct lnorm_params *const params = &args->params;
    const int affine = stage == NULL && params->run > 1 ? RUNS : (params->gamma != NULL) + 2 * (params->beta != NULL);
    struct TYPED(span) span = {.gamma = params->gamma, .beta = params->beta, .n = args->cols};
    for (size_t first = first_row; first < end_row; first += LANES) {
        const size_t rows = end_row - first < LANES ? end_row - first : LANES;
        struct REALED(moments) m;
        REAL scale[LANES];
        REALED(moments_of_given)(&m, args->given_moments, first, rows, (REAL)args->eps, scale);
        for (size_t r = 0; r < rows; r++) {
            if (args->mean != NULL) {
                ((REAL *)args->mean)[first + r] = m.mean[r] / scale[r];
            }
            if (args->rstd != NULL) {
                ((REAL *)args->rstd)[first + r] = m.rstd[r] * scale[r];
            }
            TYPED(second_pass) *const pass = TYPED(second_passes)[m.verdict[r] == (REAL)DIRECT][affine];
            TYPED(normalize_row)(args, first + r, stage, &span, pass, &m, r, scale[r]);
        }
    }
}

static void TYPED(moments)(const struct lnorm_forward_args *args, void *moments, size_t first_row, size_t end_row)
{
    struct TYPED(forward_stage) stage;
    TYPED(moments_of_rows)(args, moments, first_row, end_row, args->staged ? &stage : NULL);
}

static void TYPED(apply_moments)(const struct lnorm_forward_args *args, size_t first_row, size_t end_row)
{
    struct TYPED(forward_stage) stage;
    REALED(begin_parameter)(&stage.gamma);
    REALED(begin_parameter)(&stage.beta);
    TYPED(normalize_given)(args, first_row, end_row, args->staged ? &stage : NULL);
}

/* ---- Backward ---- */

/* The means, one row a lane, of c = centre - x, of g, and of g * (x - centre), each with what its rounding lost, and
 * the covariance of g and x, where x and the centre are multiplied by the scale. The rows are summed as those of layer
 * normalization. */
struct REALED(product_means) {
    REAL c[LANES], c_lost[LANES], g[LANES], g_lost[LANES], gx[LANES], gx_lost[LANES], cov[LANES], scale[LANES];
    REAL in_range[LANES]; /* of the products' sum: 0 or 1 */
};

static NOINLINE void REALED(finish_products)(struct REALED(product_means) * to, struct REALED(backward_sums) * sums,
                                             size_t rows, size_t cols)
{
    const vec zero = vec_set1(0), one = vec_set1(1);
    const struct REALED(places) at = REALED(places_of)(3, rows);
    REAL totals[4 * BATCH_ROWS], totals_lost[4 * BATCH_ROWS];
    REALED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);
    const struct REALED(two_part) gc = REALED(mean_of)(0, &at, totals, totals_lost, cols);
    const struct REALED(two_part) c = REALED(mean_of)(1, &at, totals, totals_lost, cols);
    const struct REALED(two_part) g = REALED(mean_of)(2, &at, totals, totals_lost, cols);
    const vec g_centre = vec_load(sums->g_centre);
    const struct REALED(two_part) g_mean = REALED(two_sum)(g_centre, vec_sub(zero, g.sum));
    /* What was summed is (g_centre - g) * c; g * (x - centre) is that less g_centre * c. */
    const vec product = vec_mul(g_centre, c.sum), product_lost = vec_fms(g_centre, c.sum, product);
    const struct REALED(two_part) gx = REALED(two_sum)(gc.sum, vec_sub(zero, product));
    const vec gx_lost = vec_sub(vec_add(gx.lost, gc.lost), vec_fma(g_centre, c.lost, product_lost));
    vec_store(to->c, c.sum);
    vec_store(to->c_lost, c.lost);
    vec_store(to->g, g_mean.sum);
    vec_store(to->g_lost, vec_sub(g_mean.lost, g.lost));
    vec_store(to->gx, gx.sum);
    vec_store(to->gx_lost, gx_lost);
    vec_store(to->cov, vec_add(vec_fnma(c.sum, g.sum, gc.sum), gc.lost));
    vec_store(to->scale, vec_load(sums->scale));
    const vec size = REALED(size_or_nan)(vec_load(totals), c.sum);
    vec_store(to->in_range,
              vec_if_less(size, vec_set1((REAL)REAL_TINY), zero, vec_if_less(size, vec_set1(REAL_MAX), one, zero)));
}

/* Sums one staged row, of which the sources and the centre are set, as the given lane. */
static NOINLINE void TYPED(sum_products)(struct REALED(backward_sums) * sums, size_t lane, size_t pitch,
                                         struct TYPED(row) row, REAL scale)
{
    row.has_g = row.has_mean = 1;
    row.scaled = scale != 1;
    row.scale = scale;
    sums->mean[lane] = row.centre;
    row.centre *= scale;
    row.g_centre = TYPED(guess_any_mean)(&sums->sample, &row, 1);
    sums->g_centre[lane] = row.g_centre;
    sums->scale[lane] = scale;
    TYPED(sum_blocks)(&row, 0, sums->sum + lane, sums->lost + lane, pitch);
}

/* The same of a row without gamma that is where it is to be used. */
static KERNEL_INLINE void TYPED(sum_plain_products)(struct REALED(backward_sums) * sums, size_t lane, size_t pitch,
                                                    const REAL *x, const REAL *dy, size_t cols, REAL centre)
{
    struct TYPED(row) row = {.x = x, .dy = dy, .cols = cols, .has_mean = 1, .has_g = 1, .centre = centre};
    row.g_centre = TYPED(guess_mean)(&sums->sample, dy, NULL, 1);
    sums->mean[lane] = centre;
    sums->g_centre[lane] = row.g_centre;
    sums->scale[lane] = 1;
    TYPED(sum_row)(&row, sums->sum + lane, sums->lost + lane, pitch);
}

/* The same alone, with c scaled, where the lane's products were out of range. */
static NOINLINE void TYPED(mend_products)(struct REALED(product_means) * means, size_t lane,
                                          const struct REALED(sample) * sample, struct TYPED(row) row, REAL rstd)
{
    struct REALED(backward_sums) sums;
    struct REALED(product_means) one;
    REALED(no_backward_sums)(&sums, row.cols);
    sums.sample = *sample;
    TYPED(sum_products)(&sums, 0, REALED(places_of)(3, 1).pitch, row, REALED(scale_of_c)(rstd, row.centre));
    REALED(finish_products)(&one, &sums, 1, row.cols);
    means->c[lane] = one.c[0];
    means->c_lost[lane] = one.c_lost[0];
    means->gx[lane] = one.gx[0];
    means->gx_lost[lane] = one.gx_lost[0];
    means->cov[lane] = one.cov[0];
    means->g[lane] = one.g[0];
    means->g_lost[lane] = one.g_lost[0];
    means->scale[lane] = one.scale[0];
}

static KERNEL_INLINE struct REALED(source)
    TYPED(staged_gamma)(struct TYPED(backward_stage) * stage, const struct lnorm_backward_args *args, size_t row)
{
    const struct lnorm_params *const params = &args->params;
    return *REALED(parameter_of)(&stage->gamma, params->gamma, params, params->plus_one, args->cols, row / args->inner);
}

static void TYPED(grad_moments)(const struct lnorm_backward_args *args, void *grad_moments, size_t first_row,
                                size_t end_row)
{
    const size_t cols = args->cols, inner = args->inner;
    struct TYPED(backward_stage) stage;
    struct REALED(backward_sums) sums;
    REALED(begin_parameter)(&stage.gamma);
    REALED(no_backward_sums)(&sums, cols);
    for (size_t first = first_row; first < end_row; first += BATCH_ROWS) {
        const size_t rows = end_row - first < BATCH_ROWS ? end_row - first : BATCH_ROWS;
        const size_t pitch = REALED(places_of)(3, rows).pitch;
        struct REALED(moments) m;
        REAL scale[LANES];
        struct TYPED(row) lanes[BATCH_ROWS];
        struct REALED(sources) sources[BATCH_ROWS];
        REALED(moments_of_given)(&m, args->given_moments, first, rows, (REAL)args->eps, scale);
        for (size_t r = 0; r < rows; r++) {
            const size_t row = first + r;
            sources[r] = (struct REALED(sources)){.x = REALED(row_source)(&args->x, row, inner, stage.x),
                                                  .dy = REALED(row_source)(&args->dy, row, inner, stage.dy),
                                                  .gamma = TYPED(staged_gamma)(&stage, args, row)};
            lanes[r] = (struct TYPED(row)){.cols = cols,
                                           .centre = m.mean[r] / scale[r],
                                           .has_gamma = args->params.gamma != NULL,
                                           .staged = &sources[r]};
            TYPED(sum_products)(&sums, r, pitch, lanes[r], 1);
        }
        struct REALED(product_means) means;
        REALED(finish_products)(&means, &sums, rows, cols);
        for (size_t r = 0; r < rows; r++) {
            const REAL rstd = m.rstd[r] * scale[r];
            REAL *const to = (REAL *)grad_moments + (first + r) * LNORM_GRAD_MOMENTS;
            if (means.in_range[r] == 0) {
                sources[r].gamma = TYPED(staged_gamma)(&stage, args, first + r); /* by now another row's, perhaps */
                TYPED(mend_products)(&means, r, &sums.sample, lanes[r], rstd);
            }
            const REAL scaled_rstd = rstd / means.scale[r];
            if (args->has_mean) {
                const REAL mean_lost = REALED(given_mean_lost)(args->given_moments, first + r) * means.scale[r];
                to[0] = means.g[r];
                to[1] = means.g_lost[r];
                to[2] = -scaled_rstd * (means.c[r] + (means.c_lost[r] + mean_lost));
                to[3] = scaled_rstd * means.cov[r];
            } else {
                to[0] = to[1] = to[2] = 0;
                to[3] = scaled_rstd * (means.gx[r] + means.gx_lost[r]);
            }
        }
    }
}

/* ---- Backward of rows whose parameters stand for runs of elements ----
 *
 * A run is summed as a row of its own, around the mean of the whole one. With S the mean of dy and P that of
 * dy * (x - mean) over a run, dgamma and dbeta are the sums over rows of run * rstd * P and run * S, and the row's
 * means of g and of g * (x - mean) are those of gamma * S and gamma * P over its runs.
 */

/* Arrays of a row's runs in the workspace: its terms of dgamma and of dbeta, each with what its rounding lost. */
enum { TYPED(DGAMMA_TERM), TYPED(DGAMMA_LOST), TYPED(DBETA_TERM), TYPED(DBETA_LOST) };

/* What is summed over the runs of a row. */
struct REALED(run_sums) {
    vec c, c_lost, g, g_lost, gx, gx_lost;
};

/* The mean over the lanes of all sums, n of which were added. */
static KERNEL_INLINE REAL REALED(run_mean)(vec sum, vec lost, size_t n, REAL *mean_lost)
{
    REAL sums[LANES], losts[LANES], total[2][LANES];
    vec_store(sums, sum);
    vec_store(losts, lost);
    vec all = vec_set1(0), all_lost = all;
    for (size_t i = 0; i < LANES; i++) {
        REALED(add_exactly)(&all, &all_lost, vec_set1(sums[i]));
        all_lost = vec_add(all_lost, vec_set1(losts[i]));
    }
    const vec count = vec_set1((REAL)n);
    const vec mean = vec_div(vec_add(all, all_lost), count);
    const struct REALED(two_part) whole = REALED(two_sum)(all, all_lost);
    vec_store(total[0], mean);
    vec_store(total[1], vec_div(vec_add(vec_fnma(mean, count, whole.sum), whole.lost), count));
    *mean_lost = total[1][0];
    return total[0][0];
}

/* n elements, n <= LANES, of dx of a run; only where `scaled` may the row be FAR. */
static KERNEL_INLINE vec TYPED(run_dx)(const REAL *x, const REAL *dy, size_t i, size_t n, vec gamma,
                                       const struct REALED(backward_moments) * m, int scaled)
{
    const REAL scale = scaled ? m->scale[0] : 1;
    const vec xs = REALED(load)(x + i, n), centre = vec_set1(m->centre[0] * scale);
    const vec c = scaled ? vec_fms(xs, vec_set1(scale), centre) : vec_sub(xs, centre);
    const vec xhat = vec_fma(c, vec_set1(m->rstd[0] / scale), vec_set1(m->xhat_shift[0]));
    const vec g = vec_fms(REALED(load)(dy + i, n), gamma, vec_set1(m->g_mean[0]));
    return vec_fma(vec_fnma(xhat, vec_set1(m->g_xhat_mean[0]), g), vec_set1(m->rstd[0]), vec_set1(m->dx_shift[0]));
}

/* dx of one run. */
static NOINLINE void TYPED(apply_run)(const struct REALED(source) * x, const struct REALED(source) * dy,
                                      const struct REALED(sink) * dx, size_t begin, size_t n, REAL gamma,
                                      const struct REALED(backward_moments) * moments)
{
    const struct REALED(backward_moments) m = *moments;
    const vec factor = vec_set1(gamma);
    for (size_t i = begin; i < begin + n; i += BLOCK) {
        const size_t some = begin + n - i < BLOCK ? begin + n - i : BLOCK;
        const REAL *const xs = REALED(fetch)(x, i, some), *const dys = REALED(fetch)(dy, i, some);
        REAL *const to = REALED(place)(dx, i);
        const size_t near = m.scale[0] == 1 ? some : 0; /* elements that may be taken without their scale */
        size_t j = 0;
        ROLLED
        for (; j + TILE_VECS * LANES <= near; j += TILE_VECS * LANES) {
            vec out[TILE_VECS];
            for (size_t v = 0; v < TILE_VECS; v++) {
                out[v] = TYPED(run_dx)(xs, dys, j + v * LANES, LANES, factor, &m, 0);
            }
            for (size_t v = 0; v < TILE_VECS; v++) {
                vec_store(to + j + v * LANES, out[v]);
            }
        }
        for (; j < some; j += LANES) {
            const size_t left = some - j < LANES ? some - j : LANES;
            REALED(store)(to + j, TYPED(run_dx)(xs, dys, j, left, factor, &m, 1), left);
        }
        REALED(put)(dx, i, some);
    }
}

/* The runs of one row; its terms of dgamma and dbeta go to `terms`, or nowhere. */
static NOINLINE void TYPED(backward_run_row)(const struct lnorm_backward_args *args, size_t row, REAL *terms,
                                             struct TYPED(backward_stage) * stage)
{
    const size_t run = args->params.run, runs = args->cols / run;
    const size_t offset = lnorm_param_offset(&args->params, args->cols, row);
    const REAL rstd = ((const REAL *)args->rstd)[row], count = (REAL)run;
    const REAL scale = rstd < (REAL)REAL_FAR ? (REAL)FAR_SCALE : 1, scaled_rstd = rstd / scale;
    const REAL centre = args->mean != NULL ? ((const REAL *)args->mean)[row] : 0;
    const struct REALED(source) x = REALED(row_source)(&args->x, row, 1, stage->x);
    const struct REALED(source) dy = REALED(row_source)(&args->dy, row, 1, stage->dy);
    const struct REALED(source) gammas = {
        .at = args->params.gamma, .type = args->params.type, .plus_one = args->params.plus_one, .step = 1, .run = 1};
    const vec zero = vec_set1(0);
    struct REALED(run_sums) all = {zero, zero, zero, zero, zero, zero};
    struct REALED(backward_sums) sums;
    struct REALED(product_means) means;
    REALED(no_backward_sums)(&sums, run);
    for (size_t first = 0; first < runs; first += LANES) {
        const size_t some = runs - first < LANES ? runs - first : LANES, pitch = REALED(places_of)(3, some).pitch;
        REAL gamma[LANES];
        vec_store(gamma, vec_set1(1));
        if (gammas.at != NULL) {
            REALED(fill)(gamma, &gammas, offset + first, some);
        }
        for (size_t r = 0; r < some; r++) {
            const size_t begin = (first + r) * run;
            if (x.plain && dy.plain && scale == 1) {
                TYPED(sum_plain_products)
                (&sums, r, pitch, (const REAL *)(const void *)x.at + begin, (const REAL *)(const void *)dy.at + begin,
                 run, centre);
            } else {
                const struct REALED(sources)
                    of_run = {.x = REALED(from_element)(x, begin), .dy = REALED(from_element)(dy, begin)};
                const struct TYPED(row) lane = {.cols = run, .centre = centre, .staged = &of_run};
                TYPED(sum_products)(&sums, r, pitch, lane, scale);
            }
        }
        REALED(finish_products)(&means, &sums, some, run);
        for (size_t r = 0; r < some; r++) {
            if (means.in_range[r] == 0) {
                const size_t begin = (first + r) * run;
                const struct REALED(sources)
                    of_run = {.x = REALED(from_element)(x, begin), .dy = REALED(from_element)(dy, begin)};
                const struct TYPED(row) lane = {.cols = run, .centre = centre, .staged = &of_run};
                TYPED(mend_products)(&means, r, &sums.sample, lane, rstd);
            }
        }
        const vec factor = REALED(load)(gamma, some);
        const vec unit = vec_div(vec_set1(scale), vec_load(means.scale)), g = REALED(load)(means.g, some);
        const vec c = vec_mul(REALED(load)(means.c, some), unit), c_lost = vec_mul(vec_load(means.c_lost), unit);
        const vec gx = vec_mul(REALED(load)(means.gx, some), unit), gx_lost = vec_mul(vec_load(means.gx_lost), unit);
        const vec g_product = vec_mul(factor, g), gx_product = vec_mul(factor, gx);
        REALED(add_exactly)(&all.c, &all.c_lost, c);
        all.c_lost = vec_add(all.c_lost, REALED(keep)(c_lost, some));
        REALED(add_exactly)(&all.g, &all.g_lost, g_product);
        all.g_lost =
            vec_add(all.g_lost, vec_fma(factor, REALED(load)(means.g_lost, some), vec_fms(factor, g, g_product)));
        REALED(add_exactly)(&all.gx, &all.gx_lost, gx_product);
        all.gx_lost =
            vec_add(all.gx_lost, vec_fma(factor, REALED(keep)(gx_lost, some), vec_fms(factor, gx, gx_product)));
        if (terms != NULL) {
            REALED(store)(terms + TYPED(DGAMMA_TERM) * runs + first, gx, some);
            REALED(store)(terms + TYPED(DGAMMA_LOST) * runs + first, gx_lost, some);
            REALED(store)(terms + TYPED(DBETA_TERM) * runs + first, g, some);
            REALED(store)(terms + TYPED(DBETA_LOST) * runs + first, REALED(load)(means.g_lost, some), some);
        }
    }

    /* The mean of c is what the centre is off the mean. */
    REAL c_lost = 0, g_lost = 0, gx_lost;
    const REAL c_mean = args->has_mean ? REALED(run_mean)(all.c, all.c_lost, runs, &c_lost) : 0;
    const REAL g_mean = args->has_mean ? REALED(run_mean)(all.g, all.g_lost, runs, &g_lost) : 0;
    const REAL gx_mean = REALED(run_mean)(all.gx, all.gx_lost, runs, &gx_lost), off_centre = c_mean + c_lost;
    const struct REALED(backward_means)
        row_means = {vec_set1(off_centre), vec_set1(g_mean), vec_set1(-g_lost),
                     vec_set1(scaled_rstd * (gx_mean + (gx_lost + off_centre * g_mean)))};
    struct REALED(backward_moments) m;
    REALED(finish_backward_means)
    (&m, &row_means, vec_set1(centre), vec_set1(rstd), vec_set1(scaled_rstd), args->has_mean ? args->cols : 2);
    if (args->dx.at != NULL) {
        const struct REALED(sink) dx = REALED(row_sink)(&args->dx, row, 1, stage->dx);
        for (size_t k = 0; k < runs; k++) {
            REAL gamma[LANES] = {1};
            if (gammas.at != NULL) {
                REALED(fill)(gamma, &gammas, offset + k, 1);
            }
            TYPED(apply_run)(&x, &dy, &dx, k * run, run, gamma[0], &m);
        }
    }
    for (size_t first = 0; terms != NULL && first < runs; first += LANES) {
        const size_t some = runs - first < LANES ? runs - first : LANES;
        REAL *const at = terms + first;
        const vec g = REALED(load)(at + TYPED(DBETA_TERM) * runs, some);
        const vec g_rest = REALED(load)(at + TYPED(DBETA_LOST) * runs, some);
        const vec gx = REALED(load)(at + TYPED(DGAMMA_TERM) * runs, some);
        const vec gx_rest = vec_fma(vec_set1(off_centre), g, REALED(load)(at + TYPED(DGAMMA_LOST) * runs, some));
        const vec factor = vec_set1(scaled_rstd), n = vec_set1(count);
        const vec dbeta = vec_mul(g, n), xhat = vec_mul(gx, factor);
        const vec xhat_rest = vec_fma(gx_rest, factor, vec_fms(gx, factor, xhat)), dgamma = vec_mul(xhat, n);
        REALED(store)(at + TYPED(DBETA_TERM) * runs, dbeta, some);
        REALED(store)(at + TYPED(DBETA_LOST) * runs, vec_fma(g_rest, n, vec_fms(g, n, dbeta)), some);
        REALED(store)(at + TYPED(DGAMMA_TERM) * runs, dgamma, some);
        REALED(store)(at + TYPED(DGAMMA_LOST) * runs, vec_fma(xhat_rest, n, vec_fms(xhat, n, dgamma)), some);
    }
}

static void TYPED(backward_runs)(const struct lnorm_backward_args *args, size_t first_row, size_t end_row)
{
    struct TYPED(backward_stage) stage;
    const size_t size = 4 * (args->cols / args->params.run);
    for (size_t row = first_row; row < end_row; row++) {
        TYPED(backward_run_row)
        (args, row, args->workspace != NULL ? (REAL *)args->workspace + row * size : NULL, &stage);
    }
}

/* dgamma and dbeta of one row of parameters, from the terms of all rows that used it. */
static void TYPED(merge_runs)(const struct lnorm_backward_args *args, size_t param_row)
{
    const struct lnorm_params *const params = &args->params;
    const size_t runs = args->cols / params->run;
    REAL *const sums[2] = {args->dgamma, args->dbeta};
    for (size_t i = 0; i < runs; i += LANES) {
        const size_t n = runs - i < LANES ? runs - i : LANES;
        for (size_t which = 0; which < 2; which++) {
            if (sums[which] == NULL) {
                continue;
            }
            vec sum = vec_set1(0), lost = sum;
            for (size_t row = param_row * params->repeat; row < args->rows; row += params->rows * params->repeat) {
                for (size_t r = row; r < row + params->repeat; r++) {
                    const REAL *const terms = (const REAL *)args->workspace + r * 4 * runs + i;
                    REALED(add_exactly)(&sum, &lost, REALED(load)(terms + 2 * which * runs, n));
                    lost = vec_add(lost, REALED(load)(terms + (2 * which + 1) * runs, n));
                }
            }
            REAL *const to = sums[which] + param_row * runs + i;
            sum = vec_add(sum, lost);
            REALED(store)(to, args->accumulate ? vec_add(REALED(load)(to, n), sum) : sum, n);
        }
    }
}

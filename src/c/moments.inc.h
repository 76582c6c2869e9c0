/* What follows the sums of a batch of rows, one row a lane: the statistics of forward, the means of backward.
 * The formulas are explained where they are used, in forward_kernel.inc.h and backward_kernel.inc.h.
 * Parameters: as lane_sums.inc.h, which comes before.
 */

/* ---- Forward ---- */

/* The per-lane sums of a batch, and the centres of its rows. */
struct REALED(forward_sums) {
    vec sum[2 * BATCH_ROWS], lost[2 * BATCH_ROWS];
    REAL centre[LANES];
};

static KERNEL_INLINE struct REALED(statistics)
    REALED(statistics_of)(struct REALED(forward_sums) * sums, size_t rows, size_t cols, int has_mean)
{
    REAL totals[3 * BATCH_ROWS], totals_lost[3 * BATCH_ROWS];
    const struct REALED(places) at = REALED(places_of)(REALED(quantities)(has_mean, 0), rows);
    REALED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);
    return REALED(statistics_from)(REALED(mean_of)(0, &at, totals, totals_lost, cols),
                                   REALED(mean_of)(1, &at, totals, totals_lost, cols), vec_load(sums->centre));
}

static KERNEL_INLINE void REALED(finish_moments)(struct REALED(moments) * m, struct REALED(forward_sums) * sums,
                                                 size_t rows, size_t cols, REAL eps, int has_mean)
{
    const struct REALED(statistics) statistics = REALED(statistics_of)(sums, rows, cols, has_mean);
    REALED(finish_statistics)(m, &statistics, eps);
}

/* A power of two that brings the largest of |x| and sqrt(eps) near 1; 1 where there is nothing to scale. */
static REAL REALED(choose_scale)(const struct REALED(source) * x, size_t cols, REAL eps)
{
    REAL largest = 0;
    for (size_t i = 0; i < cols; i += BLOCK) {
        const size_t n = cols - i < BLOCK ? cols - i : BLOCK;
        const REAL *const block = REALED(fetch)(x, i, n);
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

/* ---- Backward ---- */

/* What the second pass needs of a batch, one row a lane:
 * xhat = fma(x - centre, rstd, xhat_shift), dx = fma(g - g_mean - xhat * g_xhat_mean, rstd, dx_shift).
 * The centre is the mean, or 0 where |mean| is at most half of the deviation: then x has fewer roundings than x - mean.
 */
struct REALED(backward_moments) {
    REAL centre[LANES], rstd[LANES], xhat_shift[LANES];
    REAL g_mean[LANES], g_xhat_mean[LANES], dx_shift[LANES];
    REAL scale[LANES];   /* what x and the centre are to be multiplied by where FAR: FAR_SCALE, or 1 */
    REAL verdict[LANES]; /* DIRECT where the centre is 0, CENTRED, FAR, or OUT_OF_RANGE */
};

/* The per-lane sums of a batch, and what they were taken with; c is multiplied by `scale`. */
struct REALED(backward_sums) {
    vec sum[3 * BATCH_ROWS], lost[3 * BATCH_ROWS];
    REAL mean[LANES], rstd[LANES], g_centre[LANES], scale[LANES];
    struct REALED(sample) sample;
};

/* The power of two below |a|, kept so far from the ends that its reciprocal is one too. */
static KERNEL_INLINE REAL REALED(power_of_two)(REAL a)
{
    union {
        REAL value;
        REAL_BITS bits;
    } u = {.value = a};
    const REAL_BITS lowest = (REAL_BITS)1 << REAL_FRACTION_BITS;
    const REAL_BITS highest = (REAL_EXPONENT_MASK - 2) << REAL_FRACTION_BITS;
    u.bits &= REAL_EXPONENT_MASK << REAL_FRACTION_BITS;
    u.bits = u.bits < lowest ? lowest : u.bits > highest ? highest : u.bits;
    return u.value;
}

/* What c of a row is multiplied by where its products are out of range. Elements so large that this would be too much
 * for them are all equal, or so far from each other that nothing vanishes. */
static KERNEL_INLINE REAL REALED(scale_of_c)(REAL rstd, REAL mean)
{
    const REAL scale = REALED(power_of_two)(rstd), size = mean < 0 ? -mean : mean;
    return size * scale <= (REAL)(REAL_MAX / 4) ? scale : 1;
}

static KERNEL_INLINE REAL REALED(square_root)(REAL a)
{
    REAL root[LANES];
    vec_store(root, vec_sqrt(vec_set1(a)));
    return root[0];
}

static KERNEL_INLINE void REALED(no_backward_sums)(struct REALED(backward_sums) * sums, size_t cols)
{
    vec_store(sums->mean, vec_set1(0));
    vec_store(sums->rstd, vec_set1(1));
    vec_store(sums->g_centre, vec_set1(0));
    vec_store(sums->scale, vec_set1(1));
    sums->sample = REALED(sample_of)(cols, 2);
}

/* What the sums of a batch give, one row a lane: what the centre is off the mean, the mean of g and what that has too
 * much, and the mean of g * xhat. */
struct REALED(backward_means) {
    vec off_centre, g_mean, g_mean_excess, g_xhat_mean;
};

static KERNEL_INLINE void REALED(finish_backward_means)(struct REALED(backward_moments) * m,
                                                        const struct REALED(backward_means) * of, vec mean, vec rstd,
                                                        vec scaled_rstd, size_t cols)
{
    const vec zero = vec_set1(0);
    const vec shift = vec_mul(of->off_centre, scaled_rstd);
    const vec two_xhat = vec_mul(vec_add(mean, mean), rstd), square = vec_mul(two_xhat, two_xhat);
    /* With one column x is the mean, and xhat is to be 0. */
    const vec limit = vec_set1(cols > 1 ? 1 : 0);
    vec_store(m->centre, vec_if_less(square, limit, zero, mean));
    vec_store(m->rstd, rstd);
    vec_store(m->xhat_shift, vec_if_less(square, limit, vec_fnma(mean, rstd, shift), shift));
    vec_store(m->g_mean, of->g_mean);
    vec_store(m->dx_shift, vec_mul(of->g_mean_excess, rstd));
    vec_store(m->g_xhat_mean, of->g_xhat_mean);
    const vec far = vec_set1((REAL)REAL_FAR);
    const vec centred = vec_if_less(rstd, far, vec_set1((REAL)FAR), vec_set1((REAL)CENTRED));
    vec_store(m->scale, vec_if_less(rstd, far, vec_set1((REAL)FAR_SCALE), vec_set1(1)));
    vec_store(m->verdict, vec_if_less(square, limit, vec_set1((REAL)DIRECT), centred));
}

/* What the sums were taken with, and what they give: the means of g * c, c and g, and the sum of g * c. */
struct REALED(backward_totals) {
    vec mean, rstd, g_centre, scale;
    struct REALED(two_part) gc, c, g;
    vec product;
};

/* The size of a product, or NaN where another sum is not finite. */
static KERNEL_INLINE vec REALED(size_or_nan)(vec product, vec other)
{
    const vec zero = vec_set1(0);
    return vec_fma(other, zero, vec_if_less(product, zero, vec_sub(zero, product), product));
}

static KERNEL_INLINE void REALED(finish_backward_totals)(struct REALED(backward_moments) * m,
                                                         const struct REALED(backward_totals) * of, size_t cols)
{
    const vec zero = vec_set1(0), mean = of->mean, rstd = of->rstd, product = of->product;
    const struct REALED(two_part) gc = of->gc, c = of->c, g = of->g;
    const struct REALED(two_part) g_mean = REALED(two_sum)(of->g_centre, vec_sub(zero, g.sum));
    const vec scaled_rstd = vec_div(rstd, of->scale);
    const struct REALED(backward_means)
        means = {vec_add(c.sum, c.lost), g_mean.sum, vec_sub(g.lost, g_mean.lost),
                 vec_mul(vec_add(vec_fnma(c.sum, g.sum, gc.sum), gc.lost), scaled_rstd)};
    REALED(finish_backward_means)(m, &means, mean, rstd, scaled_rstd, cols);

    const vec size = REALED(size_or_nan)(product, c.sum), out_of_range = vec_set1((REAL)OUT_OF_RANGE);
    vec verdict = vec_if_less(size, vec_set1((REAL)REAL_TINY), out_of_range, vec_load(m->verdict));
    vec_store(m->verdict, vec_if_less(size, vec_set1(REAL_MAX), verdict, out_of_range));
}

static KERNEL_INLINE void REALED(finish_backward)(struct REALED(backward_moments) * m,
                                                  struct REALED(backward_sums) * sums, size_t rows, size_t cols,
                                                  int has_mean, int from_y)
{
    const struct REALED(places) at = REALED(places_of)(REALED(quantities)(has_mean, 1), rows);
    REAL totals[4 * BATCH_ROWS], totals_lost[4 * BATCH_ROWS];
    REALED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);
    struct REALED(backward_totals) all = {.mean = vec_load(sums->mean),
                                          .rstd = vec_load(sums->rstd),
                                          .g_centre = vec_load(sums->g_centre),
                                          .scale = vec_load(sums->scale),
                                          .gc = REALED(mean_of)(0, &at, totals, totals_lost, cols),
                                          .c = REALED(mean_of)(1, &at, totals, totals_lost, cols),
                                          .g = REALED(mean_of)(2, &at, totals, totals_lost, cols),
                                          .product = vec_load(totals)};
    if (from_y) { /* xhat is as it was found: its mean is not looked after */
        all.gc.sum = vec_fnma(all.g_centre, all.c.sum, all.gc.sum);
        all.c.sum = all.c.lost = vec_set1(0);
    }
    REALED(finish_backward_totals)(m, &all, cols);
}

/* ---- Of rows whose statistics are given ---- */

/* rows and their LNORM_MOMENTS numbers from the given place on, one row a lane; the scales go to scale. Lanes without a
 * row are those of the last. Where eps of the scaled row would overflow, as that of tiny rows whose moments were taken
 * without it, the scale is made smaller: what the moments lose by that is nothing beside eps. A row of equal
 * numbers needs none, whose eps it could make vanish. */
static KERNEL_INLINE struct REALED(statistics)
    REALED(given_statistics)(const void *moments, size_t row, size_t rows, REAL eps, REAL *scale)
{
    REAL part[LNORM_MOMENTS][LANES];
    for (size_t lane = 0; lane < LANES; lane++) {
        const REAL *const from = (const REAL *)moments + (row + (lane < rows ? lane : rows - 1)) * LNORM_MOMENTS;
        for (size_t k = 0; k < LNORM_MOMENTS; k++) {
            part[k][lane] = from[k];
        }
        if (part[2][lane] + part[3][lane] == 0) {
            part[0][lane] /= part[4][lane];
            part[1][lane] /= part[4][lane];
            part[4][lane] = 1;
        }
        REAL down = 1;
        while (eps * (part[4][lane] * down) * (part[4][lane] * down) > REAL_MAX) {
            down /= 2;
        }
        part[0][lane] *= down;
        part[1][lane] *= down;
        part[2][lane] *= down * down;
        part[3][lane] *= down * down;
        part[4][lane] *= down;
    }
    vec_store(scale, vec_load(part[4]));
    return (struct REALED(statistics)){vec_load(part[0]), vec_load(part[1]), vec_load(part[2]), vec_load(part[3]),
                                       vec_set1(0)};
}

/* What the mean of a row is beyond its first number. */
static KERNEL_INLINE REAL REALED(given_mean_lost)(const void *moments, size_t row)
{
    const REAL *const from = (const REAL *)moments + row * LNORM_MOMENTS;
    return from[1] / from[4];
}

/* The same, and what follows from them for forward. */
static NOINLINE void REALED(moments_of_given)(struct REALED(moments) * m, const void *moments, size_t row, size_t rows,
                                              REAL eps, REAL *scale)
{
    REAL verdict[LANES];
    struct REALED(statistics) given = REALED(given_statistics)(moments, row, rows, eps, scale);
    REALED(finish_statistics)(m, &given, eps);
    for (size_t lane = 0; lane < LANES; lane++) {
        if (scale[lane] != 1) { /* seldom: eps is that of the scaled row */
            struct REALED(moments) one;
            REALED(finish_statistics)(&one, &given, eps * scale[lane] * scale[lane]);
            m->rstd[lane] = one.rstd[lane];
            m->centre[lane] = one.centre[lane];
            m->rstd_lost[lane] = one.rstd_lost[lane];
            m->shift[lane] = one.shift[lane];
            m->verdict[lane] = (REAL)CENTRED;
        }
        verdict[lane] = m->verdict[lane] == (REAL)DIRECT ? (REAL)DIRECT : (REAL)CENTRED;
    }
    vec_store(m->verdict, vec_load(verdict));
}

/* What follows for backward from given moments and means. */
static NOINLINE void REALED(finish_given)(struct REALED(backward_moments) * m, const struct lnorm_backward_args *args,
                                          size_t row, size_t rows)
{
    struct REALED(moments) forward;
    REAL scale[LANES], mean[LANES], off_centre[LANES], rstd[LANES], part[LNORM_GRAD_MOMENTS][LANES];
    REALED(moments_of_given)(&forward, args->given_moments, row, rows, (REAL)args->eps, scale);
    for (size_t lane = 0; lane < LANES; lane++) {
        const size_t at = row + (lane < rows ? lane : rows - 1);
        const REAL *const g = (const REAL *)args->given_grad_moments + at * LNORM_GRAD_MOMENTS;
        for (size_t k = 0; k < LNORM_GRAD_MOMENTS; k++) {
            part[k][lane] = g[k];
        }
        mean[lane] = forward.mean[lane] / scale[lane];
        off_centre[lane] = -REALED(given_mean_lost)(args->given_moments, at);
        rstd[lane] = forward.rstd[lane] * scale[lane];
    }
    const struct REALED(backward_means)
        means = {vec_load(off_centre), vec_load(part[0]), vec_sub(vec_set1(0), vec_load(part[1])), vec_load(part[3])};
    REALED(finish_backward_means)(m, &means, vec_load(mean), vec_load(rstd), vec_load(rstd), 2);
}

/* Layer normalization, backward. Parameters: as row_sums.inc.h, which comes before.
 *
 * For one row, with g = dy * gamma and xhat = (x - mean) * rstd:
 *
 *     dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),   dgamma += dy * xhat,   dbeta += dy
 *
 * The first pass sums c = x - mean, g - g_centre and their product. mean(c) is the part of the mean that one number
 * could not hold; g_centre, a first guess of mean(g), keeps a constant offset of g from costing digits. c is multiplied
 * by the power of two of rstd, so that no product overflows or vanishes while the row itself is finite.
 */

/* What the second pass needs of a batch, one row a lane:
 * xhat = fma(x - mean, rstd, xhat_shift), dx = fma(g - g_mean - xhat * g_xhat_mean, rstd, dx_shift). */
struct TYPED(backward_moments) {
    REAL mean[LANES], rstd[LANES], xhat_shift[LANES];
    REAL g_mean[LANES], g_xhat_mean[LANES], dx_shift[LANES];
};

/* The per-lane sums of a batch, the centres of its g and the powers of two by which its c were multiplied. */
struct TYPED(backward_sums) {
    vec sum[3 * BATCH_ROWS], lost[3 * BATCH_ROWS];
    REAL g_centre[LANES], scale[LANES];
};

/* The power of two below |a|, kept so far from the ends that its reciprocal is one too. */
static KERNEL_INLINE REAL TYPED(power_of_two)(REAL a)
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

static KERNEL_INLINE REAL TYPED(guess_g_mean)(const REAL *dy, const REAL *gamma, size_t cols)
{
    REAL sample[SAMPLES];
    for (size_t i = 0; i < SAMPLES; i++) {
        const size_t at = i * (cols / SAMPLES);
        sample[i] = gamma != NULL ? dy[at] * gamma[at] : dy[at];
    }
    return TYPED(sample_mean)(sample);
}

/* The first pass over `rows` rows from row `first` on. */
static KERNEL_INLINE void TYPED(sum_backward_batch)(struct TYPED(backward_sums) * sums,
                                                    struct TYPED(backward_moments) * m,
                                                    const struct lnorm_backward_args *args, size_t first, size_t rows)
{
    const REAL *const gamma = args->gamma;
    const vec zero = vec_set1(0), one = vec_set1(1);
    vec_store(sums->g_centre, zero);
    vec_store(sums->scale, one);
    vec_store(m->mean, zero);
    vec_store(m->rstd, one);
    for (size_t r = 0; r < rows; r++) {
        const REAL *const x = (const REAL *)args->x + (ptrdiff_t)(first + r) * args->x_stride;
        const REAL *const dy = (const REAL *)args->dy + (ptrdiff_t)(first + r) * args->dy_stride;
        m->mean[r] = ((const REAL *)args->mean)[first + r];
        m->rstd[r] = ((const REAL *)args->rstd)[first + r];
        sums->scale[r] = TYPED(power_of_two)(m->rstd[r]);
        sums->g_centre[r] = TYPED(guess_g_mean)(dy, gamma, args->cols);
        const struct TYPED(row) row = {.x = x,
                                       .dy = dy,
                                       .gamma = gamma,
                                       .cols = args->cols,
                                       .scaled = 1,
                                       .scale = sums->scale[r],
                                       .centre = m->mean[r] * sums->scale[r],
                                       .g_centre = sums->g_centre[r]};
        TYPED(sum_row)(&row, sums->sum + r, sums->lost + r, TYPED(places_of)(3, rows).pitch);
    }
}

static KERNEL_INLINE void TYPED(finish_backward)(struct TYPED(backward_moments) * m,
                                                 struct TYPED(backward_sums) * sums, size_t rows, size_t cols)
{
    const vec zero = vec_set1(0), n = vec_set1((REAL)cols), reciprocal = vec_set1(1 / (REAL)cols);
    REAL totals[4 * BATCH_ROWS], totals_lost[4 * BATCH_ROWS];
    const struct TYPED(places) at = TYPED(places_of)(3, rows);
    TYPED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);
    const struct TYPED(two_part) c = TYPED(divide)(totals, totals_lost, n, reciprocal);
    const struct TYPED(two_part) gc = TYPED(divide)(totals + at.pitch, totals_lost + at.pitch, n, reciprocal);
    const struct TYPED(two_part) g = TYPED(divide)(totals + 2 * at.pitch, totals_lost + 2 * at.pitch, n, reciprocal);
    const struct TYPED(two_part) g_mean = TYPED(two_sum)(vec_load(sums->g_centre), vec_sub(zero, g.sum));
    const vec rstd = vec_load(m->rstd), scaled_rstd = vec_div(rstd, vec_load(sums->scale));
    vec_store(m->xhat_shift, vec_mul(vec_add(c.sum, c.lost), scaled_rstd));
    vec_store(m->g_mean, g_mean.sum);
    vec_store(m->dx_shift, vec_mul(vec_sub(g.lost, g_mean.lost), rstd));
    vec_store(m->g_xhat_mean, vec_mul(vec_add(vec_fnma(c.sum, g.sum, gc.sum), gc.lost), scaled_rstd));
}

/* Rows that the second pass takes together, so that gamma, dgamma and dbeta are loaded once for all of them. */
#define GROUP_ROWS ((size_t)4)

/* A group, and what is wanted of it. */
struct TYPED(group) {
    const REAL *dy, *x;
    REAL *dx;
    ptrdiff_t dy_stride, x_stride, dx_stride;
    const struct TYPED(backward_moments) * m;
    size_t first; /* in the batch */
    const REAL *gamma;
    REAL *dgamma, *dbeta; /* sums over rows, added to unless they are to be set */
    int set;
};

/* One vector of columns of all rows of a group. */
struct TYPED(columns) {
    vec dx[GROUP_ROWS], dgamma, dbeta;
};

/* The n elements from column i, n <= LANES. */
static KERNEL_INLINE struct TYPED(columns)
    TYPED(compute_columns)(const struct TYPED(group) * group, size_t rows, size_t i, size_t n)
{
    const struct TYPED(backward_moments) *const m = group->m;
    const vec gamma = group->gamma != NULL ? TYPED(load)(group->gamma + i, n) : vec_set1(1);
    struct TYPED(columns) to;
    to.dgamma = to.dbeta = vec_set1(0);
    for (size_t r = 0; r < rows; r++) {
        const size_t lane = group->first + r;
        const vec dy = TYPED(load)(group->dy + (ptrdiff_t)r * group->dy_stride + i, n);
        const vec c = vec_sub(TYPED(load)(group->x + (ptrdiff_t)r * group->x_stride + i, n), vec_set1(m->mean[lane]));
        const vec rstd = vec_set1(m->rstd[lane]);
        const vec xhat = vec_fma(c, rstd, vec_set1(m->xhat_shift[lane]));
        to.dgamma = vec_fma(dy, xhat, to.dgamma);
        to.dbeta = vec_add(to.dbeta, dy);
        to.dx[r] = xhat;
        if (group->dx != NULL) {
            const vec g_mean = vec_set1(m->g_mean[lane]);
            const vec g = group->gamma != NULL ? vec_fms(dy, gamma, g_mean) : vec_sub(dy, g_mean);
            to.dx[r] = vec_fma(vec_fnma(xhat, vec_set1(m->g_xhat_mean[lane]), g), rstd, vec_set1(m->dx_shift[lane]));
        }
    }
    if (!group->set) {
        if (group->dgamma != NULL) {
            to.dgamma = vec_add(TYPED(load)(group->dgamma + i, n), to.dgamma);
        }
        if (group->dbeta != NULL) {
            to.dbeta = vec_add(TYPED(load)(group->dbeta + i, n), to.dbeta);
        }
    }
    return to;
}

static KERNEL_INLINE void TYPED(store_columns)(const struct TYPED(group) * group, size_t rows, size_t i, size_t n,
                                               const struct TYPED(columns) * from)
{
    for (size_t r = 0; group->dx != NULL && r < rows; r++) {
        TYPED(store)(group->dx + (ptrdiff_t)r * group->dx_stride + i, from->dx[r], n);
    }
    if (group->dgamma != NULL) {
        TYPED(store)(group->dgamma + i, from->dgamma, n);
    }
    if (group->dbeta != NULL) {
        TYPED(store)(group->dbeta + i, from->dbeta, n);
    }
}

static KERNEL_INLINE void TYPED(backward_columns)(const struct TYPED(group) * group, size_t rows, size_t cols)
{
    if (cols < LANES) {
        const struct TYPED(columns) all = TYPED(compute_columns)(group, rows, 0, cols);
        TYPED(store_columns)(group, rows, 0, cols, &all);
        return;
    }
    /* The last vector may overlap the one before: it is computed before anything is stored. */
    const size_t last = cols - LANES;
    const struct TYPED(columns) last_columns = TYPED(compute_columns)(group, rows, last, LANES);
    for (size_t i = 0; i + LANES <= cols; i += LANES) {
        const struct TYPED(columns) columns = TYPED(compute_columns)(group, rows, i, LANES);
        TYPED(store_columns)(group, rows, i, LANES, &columns);
    }
    if (cols % LANES != 0) {
        TYPED(store_columns)(group, rows, last, LANES, &last_columns);
    }
}

/* The same with the branches of the usual case taken outside of the loop. */
static KERNEL_INLINE void TYPED(backward_group)(const struct TYPED(group) * group, size_t rows, size_t cols)
{
    if (group->dx != NULL && group->gamma != NULL && group->dgamma != NULL && group->dbeta != NULL && !group->set) {
        TYPED(backward_columns)(group, rows, cols);
    } else {
        TYPED(backward_columns)(group, rows, cols);
    }
}

/* Carries the sums of one block of rows on into (high, low), whose sum is the sum so far. */
static void TYPED(fold)(const REAL *from, REAL *high, REAL *low, size_t cols, int first)
{
    for (size_t i = 0; i < cols; i += LANES) {
        const size_t n = cols - i < LANES ? cols - i : LANES;
        vec sum = TYPED(load)(from + i, n), lost = vec_set1(0);
        if (!first) {
            const vec term = sum;
            sum = TYPED(load)(high + i, n);
            lost = TYPED(load)(low + i, n);
            TYPED(add_exactly)(&sum, &lost, term);
        }
        TYPED(store)(high + i, sum, n);
        TYPED(store)(low + i, lost, n);
    }
}

static KERNEL_INLINE REAL *TYPED(slab_array)(const struct lnorm_backward_args *args, size_t slab, size_t which,
                                             size_t array)
{
    return (REAL *)args->workspace + ((slab * 2 + which) * LNORM_SLAB_ARRAYS + array) * args->cols;
}

/* Bytes of x and dy of a batch: they stay in the first cache from the first pass to the second. */
#define BACKWARD_BATCH_BYTES ((size_t)24576)

static void TYPED(backward)(const struct lnorm_backward_args *args, size_t slab)
{
    const size_t cols = args->cols;
    const size_t begin = slab * args->rows_per_slab;
    const size_t end = args->rows - begin < args->rows_per_slab ? args->rows : begin + args->rows_per_slab;
    const int direct = args->rows <= LNORM_BLOCK_ROWS;
    const size_t fitting = BACKWARD_BATCH_BYTES / (2 * sizeof(REAL)) / cols / GROUP_ROWS * GROUP_ROWS;
    const size_t batch = fitting < GROUP_ROWS ? GROUP_ROWS : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    REAL *sums[2] = {args->dgamma, args->dbeta};
    struct TYPED(backward_sums) batch_sums;
    struct TYPED(backward_moments) m;
    for (size_t which = 0; which < 2; which++) {
        if (sums[which] != NULL && !direct) {
            sums[which] = TYPED(slab_array)(args, slab, which, LNORM_SLAB_BLOCK);
        }
    }

    for (size_t block = begin; block < end; block += LNORM_BLOCK_ROWS) {
        const size_t block_end = end - block < LNORM_BLOCK_ROWS ? end : block + LNORM_BLOCK_ROWS;
        for (size_t first = block; first < block_end; first += batch) {
            const size_t rows = block_end - first < batch ? block_end - first : batch;
            TYPED(sum_backward_batch)(&batch_sums, &m, args, first, rows);
            TYPED(finish_backward)(&m, &batch_sums, rows, cols);
            for (size_t r = 0; r < rows;) {
                const ptrdiff_t row = (ptrdiff_t)(first + r);
                const struct TYPED(group) group = {
                    .dy = (const REAL *)args->dy + row * args->dy_stride,
                    .x = (const REAL *)args->x + row * args->x_stride,
                    .dx = args->dx != NULL ? (REAL *)args->dx + row * args->dx_stride : NULL,
                    .dy_stride = args->dy_stride,
                    .x_stride = args->x_stride,
                    .dx_stride = args->dx_stride,
                    .m = &m,
                    .first = r,
                    .gamma = args->gamma,
                    .dgamma = sums[0],
                    .dbeta = sums[1],
                    .set = first + r == block,
                };
                if (rows - r >= GROUP_ROWS) {
                    TYPED(backward_group)(&group, GROUP_ROWS, cols);
                    r += GROUP_ROWS;
                } else {
                    TYPED(backward_group)(&group, 1, cols);
                    r += 1;
                }
            }
        }
        for (size_t which = 0; which < 2 && !direct; which++) {
            if (sums[which] != NULL) {
                TYPED(fold)(sums[which], TYPED(slab_array)(args, slab, which, LNORM_SLAB_HIGH),
                            TYPED(slab_array)(args, slab, which, LNORM_SLAB_LOW), cols, block == begin);
            }
        }
    }
}

/* dgamma and dbeta of the columns from first_col to end_col, from the workspace. */
static void TYPED(backward_merge)(const struct lnorm_backward_args *args, size_t first_col, size_t end_col)
{
    REAL *const sums[2] = {args->dgamma, args->dbeta};
    for (size_t i = first_col; i < end_col; i += LANES) {
        const size_t n = end_col - i < LANES ? end_col - i : LANES;
        for (size_t which = 0; which < 2; which++) {
            if (sums[which] == NULL) {
                continue;
            }
            vec sum = vec_set1(0), lost = vec_set1(0);
            for (size_t slab = 0; slab < args->slabs; slab++) {
                TYPED(add_exactly)(&sum, &lost,
                                   TYPED(load)(TYPED(slab_array)(args, slab, which, LNORM_SLAB_HIGH) + i, n));
                lost = vec_add(lost, TYPED(load)(TYPED(slab_array)(args, slab, which, LNORM_SLAB_LOW) + i, n));
            }
            TYPED(store)(sums[which] + i, vec_add(sum, lost), n);
        }
    }
}

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

/* What the second pass needs of a row. */
struct TYPED(backward_row) {
    const REAL *dy, *x;
    REAL *dx;
    REAL mean; /* as given; xhat = fma(x - mean, rstd, xhat_shift) */
    REAL rstd;
    REAL xhat_shift;
    REAL g_mean;      /* mean(g), and through dx_shift the part that one number could not hold: */
    REAL g_xhat_mean; /* mean(g * xhat) */
    REAL dx_shift;    /* dx = fma(g - g_mean - xhat * g_xhat_mean, rstd, dx_shift) */
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

static KERNEL_INLINE void TYPED(sum_backward_row)(struct TYPED(backward_row) * to, const REAL *gamma, size_t cols,
                                                  REAL mean, REAL rstd, REAL reciprocal)
{
    const REAL n = (REAL)cols;
    const REAL scale = TYPED(power_of_two)(rstd);
    const struct TYPED(row) row = {.x = to->x,
                                   .dy = to->dy,
                                   .gamma = gamma,
                                   .cols = cols,
                                   .scale = scale,
                                   .centre = mean * scale,
                                   .g_centre = TYPED(guess_g_mean)(to->dy, gamma, cols)};
    const struct TYPED(row_sums) sums = TYPED(sum_row)(&row);
    const REAL scaled_rstd = rstd / scale;
    const struct TYPED(row_sum) c_mean = TYPED(divide)(sums.c, n, reciprocal);
    const struct TYPED(row_sum) g_mean = TYPED(divide)(sums.g, n, reciprocal);
    const struct TYPED(row_sum) gc_mean = TYPED(divide)(sums.gc, n, reciprocal);
    REAL g_mean_lost;
    to->mean = mean;
    to->rstd = rstd;
    to->xhat_shift = -((c_mean.sum + c_mean.lost) * scaled_rstd);
    TYPED(two_sum)(row.g_centre, g_mean.sum, &to->g_mean, &g_mean_lost);
    to->dx_shift = -((g_mean_lost + g_mean.lost) * rstd);
    to->g_xhat_mean = (real_fma(-c_mean.sum, g_mean.sum, gc_mean.sum) + gc_mean.lost) * scaled_rstd;
}

/* Rows that the second pass takes together, so that gamma, dgamma and dbeta are loaded once for all of them. */
#define GROUP_ROWS ((size_t)4)

/* Adds to, or for the first group of a block sets, a running sum over rows; NULL where it is not wanted. */
static KERNEL_INLINE void TYPED(add_columns)(REAL *sum, vec terms, size_t n, int first)
{
    if (sum != NULL) {
        TYPED(store)(sum, first ? terms : vec_add(TYPED(load)(sum, n), terms), n);
    }
}

/* The n elements from column i, n <= LANES, of all rows of a group. */
static KERNEL_INLINE void TYPED(backward_columns)(const struct TYPED(backward_row) * group, size_t rows, size_t i,
                                                  size_t n, const REAL *gamma, int has_dx, REAL *dgamma, REAL *dbeta,
                                                  int first)
{
    const vec gammas = gamma != NULL ? TYPED(load)(gamma + i, n) : vec_set1(0);
    vec dgammas = vec_set1(0), dbetas = vec_set1(0), out[GROUP_ROWS];
    for (size_t r = 0; r < rows; r++) {
        const struct TYPED(backward_row) *const row = &group[r];
        const vec dy = TYPED(load)(row->dy + i, n);
        const vec c = vec_sub(TYPED(load)(row->x + i, n), vec_set1(row->mean));
        const vec xhat = vec_fma(c, vec_set1(row->rstd), vec_set1(row->xhat_shift));
        dgammas = vec_fma(dy, xhat, dgammas);
        dbetas = vec_add(dbetas, dy);
        if (has_dx) {
            const vec minus_mean = vec_set1(-row->g_mean);
            const vec g = gamma != NULL ? vec_fma(dy, gammas, minus_mean) : vec_add(dy, minus_mean);
            const vec rest = vec_fma(xhat, vec_set1(-row->g_xhat_mean), g);
            out[r] = vec_fma(rest, vec_set1(row->rstd), vec_set1(row->dx_shift));
        }
    }
    for (size_t r = 0; has_dx && r < rows; r++) {
        TYPED(store)(group[r].dx + i, out[r], n);
    }
    TYPED(add_columns)(dgamma != NULL ? dgamma + i : NULL, dgammas, n, first);
    TYPED(add_columns)(dbeta != NULL ? dbeta + i : NULL, dbetas, n, first);
}

static KERNEL_INLINE void TYPED(backward_group)(const struct TYPED(backward_row) * group, size_t rows, size_t cols,
                                                const REAL *gamma, int has_dx, REAL *dgamma, REAL *dbeta, int first)
{
    size_t i = 0;
    for (; i + LANES <= cols; i += LANES) {
        TYPED(backward_columns)(group, rows, i, LANES, gamma, has_dx, dgamma, dbeta, first);
    }
    if (i < cols) {
        TYPED(backward_columns)(group, rows, i, cols - i, gamma, has_dx, dgamma, dbeta, first);
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
            TYPED(vec_two_sum)(&sum, &lost, term);
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

static void TYPED(backward)(const struct lnorm_backward_args *args, size_t slab)
{
    const size_t cols = args->cols;
    const size_t begin = slab * args->rows_per_slab;
    const size_t end = args->rows - begin < args->rows_per_slab ? args->rows : begin + args->rows_per_slab;
    const int direct = args->rows <= LNORM_BLOCK_ROWS;
    const REAL *const gamma = args->gamma, *const mean = args->mean, *const rstd = args->rstd;
    const REAL reciprocal = 1 / (REAL)cols;
    const int has_dx = args->dx != NULL;
    REAL *sums[2] = {args->dgamma, args->dbeta};
    for (size_t which = 0; which < 2; which++) {
        if (sums[which] != NULL && !direct) {
            sums[which] = TYPED(slab_array)(args, slab, which, LNORM_SLAB_BLOCK);
        }
    }

    for (size_t block = begin; block < end; block += LNORM_BLOCK_ROWS) {
        const size_t block_end = end - block < LNORM_BLOCK_ROWS ? end : block + LNORM_BLOCK_ROWS;
        for (size_t first = block; first < block_end; first += GROUP_ROWS) {
            const size_t rows = block_end - first < GROUP_ROWS ? block_end - first : GROUP_ROWS;
            struct TYPED(backward_row) group[GROUP_ROWS];
            for (size_t r = 0; r < rows; r++) {
                const ptrdiff_t row = (ptrdiff_t)(first + r);
                group[r].dy = (const REAL *)args->dy + row * args->dy_stride;
                group[r].x = (const REAL *)args->x + row * args->x_stride;
                group[r].dx = has_dx ? (REAL *)args->dx + row * args->dx_stride : NULL;
                TYPED(sum_backward_row)(&group[r], gamma, cols, mean[row], rstd[row], reciprocal);
            }
            if (rows == GROUP_ROWS) {
                TYPED(backward_group)(group, GROUP_ROWS, cols, gamma, has_dx, sums[0], sums[1], first == block);
            } else {
                TYPED(backward_group)(group, rows, cols, gamma, has_dx, sums[0], sums[1], first == block);
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
                TYPED(vec_two_sum)(&sum, &lost,
                                   TYPED(load)(TYPED(slab_array)(args, slab, which, LNORM_SLAB_HIGH) + i, n));
                lost = vec_add(lost, TYPED(load)(TYPED(slab_array)(args, slab, which, LNORM_SLAB_LOW) + i, n));
            }
            TYPED(store)(sums[which] + i, vec_add(sum, lost), n);
        }
    }
}

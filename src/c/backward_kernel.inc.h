/* Layer normalization, backward. Parameters: as row_sums.inc.h, which comes before.
 *
 * For one row, with g = dy * gamma and xhat = (x - mean) * rstd:
 *
 *     dx = rstd * (g - mean(g) - xhat * mean(g * xhat)),   dgamma += dy * xhat,   dbeta += dy
 *
 * The first pass sums c = mean - x, g_centre - g and their product. mean(c) is the part of the mean that one number
 * could not hold; g_centre, a first guess of mean(g), keeps a constant offset of g from costing digits.
 *
 * Rows whose products overflow or vanish are summed again with c multiplied by a power of two near rstd.
 *
 * RMS norm is the same with mean and mean(g) 0.
 */

/* What the second pass needs of a batch, one row a lane:
 * xhat = fma(x - centre, rstd, xhat_shift), dx = fma(g - g_mean - xhat * g_xhat_mean, rstd, dx_shift).
 * The centre is the mean, or 0 where |mean| is at most half of the deviation: then x has fewer roundings than x - mean.
 */
struct TYPED(backward_moments) {
    REAL centre[LANES], rstd[LANES], xhat_shift[LANES];
    REAL g_mean[LANES], g_xhat_mean[LANES], dx_shift[LANES];
    REAL verdict[LANES]; /* DIRECT where the centre is 0, CENTRED, or OUT_OF_RANGE */
};

/* The per-lane sums of a batch, and what they were taken with; c is multiplied by `scale`. */
struct TYPED(backward_sums) {
    vec sum[3 * BATCH_ROWS], lost[3 * BATCH_ROWS];
    REAL mean[LANES], rstd[LANES], g_centre[LANES], scale[LANES];
    struct TYPED(sample) sample;
};

/* Buffers for a block of a row, and gamma where it is. In the second pass one of them holds the blocks of a group. */
struct TYPED(backward_stage) {
    REAL x[BLOCK], dy[BLOCK], dx[BLOCK], gamma_block[BLOCK];
    struct TYPED(source) gamma;
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

static KERNEL_INLINE void TYPED(no_backward_sums)(struct TYPED(backward_sums) * sums, size_t cols)
{
    vec_store(sums->mean, vec_set1(0));
    vec_store(sums->rstd, vec_set1(1));
    vec_store(sums->g_centre, vec_set1(0));
    vec_store(sums->scale, vec_set1(1));
    sums->sample = TYPED(sample_of)(cols, 2);
}

/* The same in each branch, but for what the compiler knows in it. */
static KERNEL_INLINE void TYPED(sum_backward)(struct TYPED(row) row, int has_mean, int has_gamma, vec *sum, vec *lost,
                                              size_t pitch)
{
    switch (2 * (has_mean != 0) + (has_gamma != 0)) {
    case 0:
        TYPED(sum_row)(&row, sum, lost, pitch);
        break;
    case 1:
        row.has_gamma = 1;
        TYPED(sum_row)(&row, sum, lost, pitch);
        break;
    case 2:
        row.has_mean = 1;
        TYPED(sum_row)(&row, sum, lost, pitch);
        break;
    default:
        row.has_mean = row.has_gamma = 1;
        TYPED(sum_row)(&row, sum, lost, pitch);
        break;
    }
}

/* The first pass over the row of place `row`, as the given lane of a batch. */
static KERNEL_INLINE void TYPED(sum_backward_row)(struct TYPED(backward_sums) * sums, size_t lane, size_t pitch,
                                                  const struct lnorm_backward_args *args, size_t row)
{
    const REAL mean = args->has_mean ? ((const REAL *)args->mean)[row] : 0;
    struct TYPED(row) one = {.x = (const REAL *)args->x + (ptrdiff_t)row * args->x_stride,
                             .dy = (const REAL *)args->dy + (ptrdiff_t)row * args->dy_stride,
                             .gamma = args->gamma,
                             .cols = args->cols,
                             .has_g = 1,
                             .centre = mean};
    sums->mean[lane] = mean;
    sums->rstd[lane] = ((const REAL *)args->rstd)[row];
    if (args->has_mean) {
        one.g_centre = TYPED(guess_mean)(&sums->sample, one.dy, one.gamma, 1);
        sums->g_centre[lane] = one.g_centre;
    }
    TYPED(sum_backward)(one, args->has_mean, args->gamma != NULL, sums->sum + lane, sums->lost + lane, pitch);
}

/* The same of a row that may be staged; where scaled, c is multiplied by a power of two near rstd. */
static NOINLINE void TYPED(sum_staged_backward_row)(struct TYPED(backward_sums) * sums, size_t lane, size_t pitch,
                                                    const struct lnorm_backward_args *args,
                                                    struct TYPED(backward_stage) * stage, size_t row, int scaled)
{
    const REAL rstd = ((const REAL *)args->rstd)[row], mean = args->has_mean ? ((const REAL *)args->mean)[row] : 0;
    const REAL scale = scaled ? TYPED(power_of_two)(rstd) : 1;
    struct TYPED(row) one = {
        .cols = args->cols,
        .scaled = 1,
        .has_g = 1,
        .scale = scale,
        .centre = mean * scale,
        .staged = 1,
        .x_source = TYPED(row_source)(args->x, row, args->x_stride, args->x_type, stage != NULL ? stage->x : NULL),
        .dy_source = TYPED(row_source)(args->dy, row, args->dy_stride, args->dy_type, stage != NULL ? stage->dy : NULL),
        .gamma_source = {args->gamma, args->param_type, NULL},
    };
    if (stage != NULL) {
        one.gamma_source = stage->gamma;
    }
    sums->mean[lane] = mean;
    sums->rstd[lane] = rstd;
    sums->scale[lane] = scale;
    if (args->has_mean) {
        one.g_centre = TYPED(guess_staged_mean)(&sums->sample, &one.dy_source, &one.gamma_source, 1);
        sums->g_centre[lane] = one.g_centre;
    }
    TYPED(sum_backward)(one, args->has_mean, args->gamma != NULL, sums->sum + lane, sums->lost + lane, pitch);
}

static KERNEL_INLINE void TYPED(finish_backward)(struct TYPED(backward_moments) * m, struct TYPED(backward_sums) * sums,
                                                 size_t rows, size_t cols, int has_mean)
{
    const vec zero = vec_set1(0);
    const struct TYPED(places) at = TYPED(places_of)(TYPED(quantities)(has_mean, 1), rows);
    REAL totals[4 * BATCH_ROWS], totals_lost[4 * BATCH_ROWS];
    TYPED(total)(sums->sum, sums->lost, at, cols > BLOCK, totals, totals_lost);
    const struct TYPED(two_part) gc = TYPED(mean_of)(0, &at, totals, totals_lost, cols);
    const struct TYPED(two_part) c = TYPED(mean_of)(1, &at, totals, totals_lost, cols);
    const struct TYPED(two_part) g = TYPED(mean_of)(2, &at, totals, totals_lost, cols);
    const struct TYPED(two_part) g_mean = TYPED(two_sum)(vec_load(sums->g_centre), vec_sub(zero, g.sum));
    const vec mean = vec_load(sums->mean), rstd = vec_load(sums->rstd);
    const vec scaled_rstd = vec_div(rstd, vec_load(sums->scale));
    const vec shift = vec_mul(vec_add(c.sum, c.lost), scaled_rstd);
    const vec two_xhat = vec_mul(vec_add(mean, mean), rstd), square = vec_mul(two_xhat, two_xhat);
    /* With one column x is the mean, and xhat is to be 0. */
    const vec limit = vec_set1(cols > 1 ? 1 : 0);
    vec_store(m->centre, vec_if_less(square, limit, zero, mean));
    vec_store(m->rstd, rstd);
    vec_store(m->xhat_shift, vec_if_less(square, limit, vec_fnma(mean, rstd, shift), shift));
    vec_store(m->g_mean, g_mean.sum);
    vec_store(m->dx_shift, vec_mul(vec_sub(g.lost, g_mean.lost), rstd));
    vec_store(m->g_xhat_mean, vec_mul(vec_add(vec_fnma(c.sum, g.sum, gc.sum), gc.lost), scaled_rstd));
    const vec product = vec_load(totals), size = vec_if_less(product, zero, vec_sub(zero, product), product);
    const vec out_of_range = vec_set1((REAL)OUT_OF_RANGE);
    vec verdict = vec_if_less(square, limit, vec_set1((REAL)DIRECT), vec_set1((REAL)CENTRED));
    verdict = vec_if_less(size, vec_set1((REAL)REAL_TINY), out_of_range, verdict);
    vec_store(m->verdict, vec_if_less(size, vec_set1(REAL_MAX), verdict, out_of_range));
}

/* The moments of one row whose products are out of range, into the given lane of m. */
static NOINLINE void TYPED(careful_backward)(struct TYPED(backward_moments) * m, size_t lane,
                                             const struct lnorm_backward_args *args,
                                             struct TYPED(backward_stage) * stage, size_t row)
{
    const size_t pitch = TYPED(places_of)(TYPED(quantities)(args->has_mean, 1), 1).pitch;
    struct TYPED(backward_sums) sums;
    struct TYPED(backward_moments) one;
    TYPED(no_backward_sums)(&sums, args->cols);
    TYPED(sum_staged_backward_row)(&sums, 0, pitch, args, stage, row, 1);
    TYPED(finish_backward)(&one, &sums, 1, args->cols, args->has_mean);
    m->xhat_shift[lane] = one.xhat_shift[0];
    m->g_mean[lane] = one.g_mean[0];
    m->g_xhat_mean[lane] = one.g_xhat_mean[0];
    m->dx_shift[lane] = one.dx_shift[0];
}

/* Rows that the second pass takes together, so that gamma, dgamma and dbeta are loaded once for all of them; their
 * terms of dgamma and dbeta are summed before they are added. What is left of a block goes row by row. */
#define GROUP_ROWS ((size_t)4)

/* Vectors of columns that are taken together, so that what belongs to a row is spread over a vector once for all. */
#define TILE_COLUMNS (REGISTER_VECS >= 32 ? (size_t)2 : (size_t)1)

/* Rows whose loads are done before their stores, as a store delays later loads from the same place of another page:
 * as many as the registers hold. */
#define HELD_ROWS (REGISTER_VECS >= 32 ? GROUP_ROWS : (size_t)1)

/* A group, and what is wanted of it. */
struct TYPED(group) {
    const REAL *dy, *x, *gamma;
    REAL *dx, *dgamma, *dbeta;
    ptrdiff_t dy_stride, x_stride, dx_stride;
    const struct TYPED(backward_moments) * m;
    size_t lane; /* of its first row */
    int direct;  /* all verdicts are */
};

/* One tile: dx of its rows, and the sums over its rows. */
struct TYPED(tile) {
    vec dx[GROUP_ROWS * 2], dgamma[2], dbeta[2];
};

/* Rows from r on of the tile of `vecs` vectors of n elements, n <= LANES, from column i on. */
static KERNEL_INLINE void TYPED(compute_rows)(struct TYPED(tile) * to, const struct TYPED(group) * group, size_t r,
                                              size_t rows, size_t i, size_t vecs, size_t n)
{
    const struct TYPED(backward_moments) *const m = group->m;
    vec *dx = to->dx;
    for (size_t end = r + rows; r < end; r++) {
        const size_t lane = group->lane + r;
        const REAL *const dys = group->dy + (ptrdiff_t)r * group->dy_stride + i;
        const REAL *const xs = group->x + (ptrdiff_t)r * group->x_stride + i;
        const vec centre = vec_set1(m->centre[lane]), rstd = vec_set1(m->rstd[lane]);
        const vec xhat_shift = vec_set1(m->xhat_shift[lane]), dx_shift = vec_set1(m->dx_shift[lane]);
        const vec g_mean = vec_set1(m->g_mean[lane]), g_xhat_mean = vec_set1(m->g_xhat_mean[lane]);
        for (size_t v = 0; v < vecs; v++) {
            const vec dy = TYPED(load)(dys + v * LANES, n);
            const vec x = TYPED(load)(xs + v * LANES, n);
            const vec xhat =
                group->direct ? vec_fma(x, rstd, xhat_shift) : vec_fnma(vec_sub(centre, x), rstd, xhat_shift);
            const vec g = group->gamma != NULL ? vec_fms(dy, TYPED(load)(group->gamma + i + v * LANES, n), g_mean)
                                               : vec_sub(dy, g_mean);
            to->dgamma[v] = r == 0 ? vec_mul(dy, xhat) : vec_fma(dy, xhat, to->dgamma[v]);
            to->dbeta[v] = r == 0 ? dy : vec_add(to->dbeta[v], dy);
            *dx++ = vec_fma(vec_fnma(xhat, g_xhat_mean, g), rstd, dx_shift);
        }
    }
}

static KERNEL_INLINE void TYPED(store_rows)(const struct TYPED(tile) * from, const struct TYPED(group) * group,
                                            size_t r, size_t rows, size_t i, size_t vecs, size_t n)
{
    const vec *dx = from->dx;
    for (size_t end = r + rows; r < end; r++) {
        for (size_t v = 0; v < vecs; v++) {
            TYPED(store)(group->dx + (ptrdiff_t)r * group->dx_stride + i + v * LANES, *dx++, n);
        }
    }
}

/* Adds what dgamma and dbeta are so far to the tile's sums. */
static KERNEL_INLINE void TYPED(add_tile)(struct TYPED(tile) * to, const struct TYPED(group) * group, size_t i,
                                          size_t vecs, size_t n)
{
    for (size_t v = 0; v < vecs; v++) {
        if (group->dgamma != NULL) {
            to->dgamma[v] = vec_add(TYPED(load)(group->dgamma + i + v * LANES, n), to->dgamma[v]);
        }
        if (group->dbeta != NULL) {
            to->dbeta[v] = vec_add(TYPED(load)(group->dbeta + i + v * LANES, n), to->dbeta[v]);
        }
    }
}

static KERNEL_INLINE void TYPED(store_tile)(const struct TYPED(tile) * from, const struct TYPED(group) * group,
                                            size_t i, size_t vecs, size_t n)
{
    for (size_t v = 0; v < vecs; v++) {
        if (group->dgamma != NULL) {
            TYPED(store)(group->dgamma + i + v * LANES, from->dgamma[v], n);
        }
        if (group->dbeta != NULL) {
            TYPED(store)(group->dbeta + i + v * LANES, from->dbeta[v], n);
        }
    }
}

/* `vecs` whole vectors of a group's columns. */
static KERNEL_INLINE void TYPED(apply_tile)(const struct TYPED(group) * group, size_t rows, size_t i, size_t vecs)
{
    const size_t held = rows < HELD_ROWS ? rows : HELD_ROWS;
    struct TYPED(tile) tile;
    for (size_t r = 0; r < rows; r += held) {
        TYPED(compute_rows)(&tile, group, r, held, i, vecs, LANES);
        if (group->dx != NULL) {
            TYPED(store_rows)(&tile, group, r, held, i, vecs, LANES);
        }
    }
    TYPED(add_tile)(&tile, group, i, vecs, LANES);
    TYPED(store_tile)(&tile, group, i, vecs, LANES);
}

/* The whole vectors of a group's columns. */
static KERNEL_INLINE void TYPED(apply_vectors)(const struct TYPED(group) * group, size_t rows, size_t cols)
{
    size_t i = 0;
    ROLLED
    for (; i + TILE_COLUMNS * LANES <= cols; i += TILE_COLUMNS * LANES) {
        TYPED(apply_tile)(group, rows, i, TILE_COLUMNS);
    }
    if (i + LANES <= cols) {
        TYPED(apply_tile)(group, rows, i, 1);
    }
}

static KERNEL_INLINE void TYPED(apply_backward)(const struct TYPED(group) * group, size_t rows, size_t cols)
{
    if (cols % LANES == 0) {
        TYPED(apply_vectors)(group, rows, cols);
        return;
    }
    /* What is left by whole vectors comes from a last one, which may overlap the one before: as dx may be x or dy, and
     * dgamma and dbeta are added to, it is computed before anything is stored. */
    const size_t n = cols < LANES ? cols : LANES, last = cols - n;
    struct TYPED(tile) tile;
    TYPED(compute_rows)(&tile, group, 0, rows, last, 1, n);
    TYPED(add_tile)(&tile, group, last, 1, n);
    TYPED(apply_vectors)(group, rows, cols);
    if (group->dx != NULL) {
        TYPED(store_rows)(&tile, group, 0, rows, last, 1, n);
    }
    TYPED(store_tile)(&tile, group, last, 1, n);
}

/* The same for as many groups as there are in `rows`, and row by row for what is left. */
static KERNEL_INLINE void TYPED(apply_groups)(struct TYPED(group) group, size_t rows, size_t cols)
{
    for (size_t together; rows > 0; rows -= together) {
        together = rows < GROUP_ROWS ? 1 : GROUP_ROWS;
        if (together == GROUP_ROWS) {
            TYPED(apply_backward)(&group, GROUP_ROWS, cols);
        } else {
            TYPED(apply_backward)(&group, 1, cols);
        }
        group.dy += (ptrdiff_t)together * group.dy_stride;
        group.x += (ptrdiff_t)together * group.x_stride;
        if (group.dx != NULL) {
            group.dx += (ptrdiff_t)together * group.dx_stride;
        }
        group.lane += together;
    }
}

/* The same in each branch, but for what the compiler knows in it. */
static NOINLINE void TYPED(apply_rows)(struct TYPED(group) group, size_t rows, size_t cols, int direct)
{
    const int all_wanted = group.gamma != NULL && group.dx != NULL && group.dgamma != NULL && group.dbeta != NULL;
    if (!all_wanted) {
        TYPED(apply_groups)(group, rows, cols);
    } else if (direct) {
        group.direct = 1;
        TYPED(apply_groups)(group, rows, cols);
    } else {
        TYPED(apply_groups)(group, rows, cols);
    }
}

/* The second pass over staged rows, at most a group, block by block; `row` is the first one's place among all. */
static NOINLINE void TYPED(apply_staged_rows)(const struct lnorm_backward_args *args,
                                              struct TYPED(backward_stage) * stage, struct TYPED(group) group,
                                              size_t row, size_t rows, int direct)
{
    const size_t width = BLOCK / GROUP_ROWS;
    REAL *const dgamma = group.dgamma, *const dbeta = group.dbeta;
    for (size_t i = 0; i < args->cols; i += width) {
        const size_t n = args->cols - i < width ? args->cols - i : width;
        for (size_t r = 0; r < rows; r++) {
            const struct TYPED(source) x = TYPED(row_source)(args->x, row + r, args->x_stride, args->x_type, NULL);
            const struct TYPED(source) dy = TYPED(row_source)(args->dy, row + r, args->dy_stride, args->dy_type, NULL);
            TYPED(widen)(stage->x + r * width, x.at + i * stored_size(x.type), x.type, n);
            TYPED(widen)(stage->dy + r * width, dy.at + i * stored_size(dy.type), dy.type, n);
        }
        group.x = stage->x;
        group.dy = stage->dy;
        group.x_stride = group.dy_stride = group.dx_stride = (ptrdiff_t)width;
        group.gamma = TYPED(fetch)(&stage->gamma, i, n);
        group.dx = args->dx != NULL ? stage->dx : NULL;
        group.dgamma = dgamma != NULL ? dgamma + i : NULL;
        group.dbeta = dbeta != NULL ? dbeta + i : NULL;
        TYPED(apply_rows)(group, rows, n, direct);
        for (size_t r = 0; r < rows && args->dx != NULL; r++) {
            char *const dx = TYPED(row_target)(args->dx, row + r, args->dx_stride, args->x_type);
            TYPED(narrow)(dx + i * stored_size(args->x_type), args->x_type, stage->dx + r * width, n);
        }
    }
}

/* The second pass over rows `lane` and following of the batch that m is of; `row` is the first one's place among all.
 */
static NOINLINE void TYPED(backward_rows)(const struct lnorm_backward_args *args, struct TYPED(backward_stage) * stage,
                                          struct TYPED(backward_moments) * m, size_t row, size_t lane, size_t rows,
                                          REAL *dgamma, REAL *dbeta)
{
    int direct = 1;
    for (size_t r = 0; r < rows; r++) {
        if (!LIKELY(m->verdict[lane + r] <= (REAL)CENTRED)) {
            TYPED(careful_backward)(m, lane + r, args, stage, row + r);
        }
        direct &= m->verdict[lane + r] == (REAL)DIRECT;
    }
    struct TYPED(group) group = {.gamma = args->gamma, .dgamma = dgamma, .dbeta = dbeta, .m = m, .lane = lane};
    if (stage == NULL) {
        group.dy = (const REAL *)args->dy + (ptrdiff_t)row * args->dy_stride;
        group.x = (const REAL *)args->x + (ptrdiff_t)row * args->x_stride;
        group.dx = args->dx != NULL ? (REAL *)args->dx + (ptrdiff_t)row * args->dx_stride : NULL;
        group.dy_stride = args->dy_stride;
        group.x_stride = args->x_stride;
        group.dx_stride = args->dx_stride;
        TYPED(apply_rows)(group, rows, args->cols, direct);
        return;
    }
    for (size_t together; rows > 0; rows -= together) {
        together = rows < GROUP_ROWS ? 1 : GROUP_ROWS;
        TYPED(apply_staged_rows)(args, stage, group, row, together, direct);
        row += together;
        group.lane += together;
    }
}

static KERNEL_INLINE REAL *TYPED(slab_array)(const struct lnorm_backward_args *args, size_t slab, size_t which,
                                             size_t array)
{
    return (REAL *)args->workspace + ((slab * 2 + which) * LNORM_SLAB_ARRAYS + array) * args->cols;
}

static void TYPED(set_zero)(REAL *array, size_t n)
{
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec_store(array + i, vec_set1(0));
    }
    if (i < n) {
        vec_store_first(array + i, vec_set1(0), n - i);
    }
}

/* Carries the sums of one block of rows on into (high, low), whose sum is the sum so far, and makes them 0. */
static void TYPED(fold)(REAL *block, REAL *high, REAL *low, size_t cols)
{
    for (size_t i = 0; i < cols; i += LANES) {
        const size_t n = cols - i < LANES ? cols - i : LANES;
        vec sum = TYPED(load)(high + i, n), lost = TYPED(load)(low + i, n);
        TYPED(add_exactly)(&sum, &lost, TYPED(load)(block + i, n));
        TYPED(store)(high + i, sum, n);
        TYPED(store)(low + i, lost, n);
        TYPED(store)(block + i, vec_set1(0), n);
    }
}

/* Bytes of x and dy of a batch: they stay in the second cache from the first pass to the second. */
#define BACKWARD_BATCH_BYTES ((size_t)131072)

/* Columns up to which a whole batch is one turn of the alternation below, as a call costs more than it hides. */
#define SHORT_ROW ((size_t)256)

/* stage is NULL where nothing is staged. */
static NOINLINE void TYPED(backward_slab)(const struct lnorm_backward_args *args, size_t slab,
                                          struct TYPED(backward_stage) * stage)
{
    const size_t cols = args->cols;
    const size_t begin = slab * args->rows_per_slab;
    const size_t end = args->rows - begin < args->rows_per_slab ? args->rows : begin + args->rows_per_slab;
    const int direct = args->rows <= LNORM_BLOCK_ROWS;
    const size_t fitting = BACKWARD_BATCH_BYTES / (2 * sizeof(REAL)) / cols / GROUP_ROWS * GROUP_ROWS;
    const size_t batch = fitting < GROUP_ROWS ? GROUP_ROWS : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    const size_t turn = cols <= SHORT_ROW ? batch : GROUP_ROWS;
    REAL *to[2] = {args->dgamma, args->dbeta};
    for (size_t which = 0; which < 2; which++) {
        if (to[which] != NULL && !direct) {
            to[which] = TYPED(slab_array)(args, slab, which, LNORM_SLAB_BLOCK);
            TYPED(set_zero)(to[which], LNORM_SLAB_ARRAYS * cols);
        } else if (to[which] != NULL) {
            TYPED(set_zero)(to[which], cols);
        }
    }
    struct TYPED(backward_sums) sums;
    struct TYPED(backward_moments) m;
    TYPED(no_backward_sums)(&sums, cols);

    /* As in forward, the first pass of one batch goes along with the second pass of the one before. */
    size_t rows = 0;
    for (size_t first = begin; first < end || rows > 0;) {
        const size_t block_end = first / LNORM_BLOCK_ROWS * LNORM_BLOCK_ROWS + LNORM_BLOCK_ROWS;
        const size_t left = (block_end < end ? block_end : end) - first;
        const size_t next_rows = left < batch ? left : batch;
        const size_t pitch = TYPED(places_of)(TYPED(quantities)(args->has_mean, 1), next_rows).pitch;
        if (rows > 0) {
            TYPED(finish_backward)(&m, &sums, rows, cols, args->has_mean);
        }
        for (size_t r = 0; r < rows || r < next_rows; r += turn) {
            for (size_t q = r; q < next_rows && q < r + turn; q++) {
                if (stage != NULL) {
                    TYPED(sum_staged_backward_row)(&sums, q, pitch, args, stage, first + q, 0);
                } else {
                    TYPED(sum_backward_row)(&sums, q, pitch, args, first + q);
                }
            }
            if (r < rows) {
                TYPED(backward_rows)(args, stage, &m, first - rows + r, r, rows - r < turn ? rows - r : turn, to[0],
                                     to[1]);
            }
        }
        if (rows > 0 && !direct && (first % LNORM_BLOCK_ROWS == 0 || first == end)) {
            for (size_t which = 0; which < 2; which++) {
                if (to[which] != NULL) {
                    TYPED(fold)(to[which], TYPED(slab_array)(args, slab, which, LNORM_SLAB_HIGH),
                                TYPED(slab_array)(args, slab, which, LNORM_SLAB_LOW), cols);
                }
            }
        }
        first += next_rows;
        rows = next_rows;
    }
}

static NOINLINE void TYPED(backward_staged)(const struct lnorm_backward_args *args, size_t slab)
{
    struct TYPED(backward_stage) stage;
    stage.gamma = TYPED(parameter)(args->gamma, args->param_type, stage.gamma_block, args->cols);
    TYPED(backward_slab)(args, slab, &stage);
}

static void TYPED(backward)(const struct lnorm_backward_args *args, size_t slab)
{
    if (args->staged) {
        TYPED(backward_staged)(args, slab);
    } else {
        TYPED(backward_slab)(args, slab, NULL);
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

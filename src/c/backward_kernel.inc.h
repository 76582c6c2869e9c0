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

#if IS_16_BITS
struct TYPED(backward_stage); /* never one */
#else
/* Buffers for a block of a row and for gamma, and beta where x is y. In the second pass one of them holds the blocks of
 * a group. */
struct TYPED(backward_stage) {
    REAL x[BLOCK], dy[BLOCK], dx[BLOCK], added[BLOCK];
    struct REALED(parameter) gamma, beta;
};

/* A row of args->x, of which x - mean may have to be found from y. */
static INLINE struct REALED(source)
    TYPED(staged_x)(const struct lnorm_backward_args *args, struct TYPED(backward_stage) * stage, size_t row,
                    struct REALED(from_y) * from_y)
{
    struct REALED(source) x = REALED(row_source)(&args->x, row, args->inner, stage->x);
    if (args->from_y) {
        const size_t outer = row / args->inner;
        const REAL rstd = ((const REAL *)args->rstd)[lnorm_row_offset(row, (ptrdiff_t)args->stat_stride, args->inner)];
        *from_y = (struct REALED(from_y)){
            .gamma = REALED(parameter_of)(&stage->gamma, args->params.gamma, &args->params, args->params.plus_one,
                                          args->cols, outer),
            .beta = REALED(parameter_of)(&stage->beta, args->params.beta, &args->params, 0, args->cols, outer),
            .inverse_rstd = rstd > 0 ? 1 / rstd : 0,
            .limit = REALED(square_root)((REAL)args->cols)};
        x.from_y = from_y;
        x.plain = 0;
    }
    return x;
}
#endif

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

/* The row of place `row`; the rest of what the sums need of it is 0. */
static KERNEL_INLINE struct TYPED(row) TYPED(backward_row)(const struct lnorm_backward_args *args, size_t row)
{
    return (struct TYPED(row)){.x = (const ELEMENT *)args->x.at + (ptrdiff_t)row * args->x.stride,
                               .dy = (const ELEMENT *)args->dy.at + (ptrdiff_t)row * args->dy.stride,
                               .gamma = args->params.gamma,
                               .cols = args->cols,
                               .has_g = 1};
}

/* What the first pass needs to know of a row beside its elements, into the given lane of a batch. */
static KERNEL_INLINE void TYPED(begin_backward_row)(struct REALED(backward_sums) * sums, size_t lane,
                                                    const struct lnorm_backward_args *args, size_t row,
                                                    struct TYPED(row) * one)
{
    const ptrdiff_t at = lnorm_row_offset(row, (ptrdiff_t)args->stat_stride, args->inner);
    one->centre = args->mean != NULL ? ((const REAL *)args->mean)[at] : 0;
    sums->mean[lane] = one->centre;
    sums->rstd[lane] = ((const REAL *)args->rstd)[at];
}

/* The first pass over that row, as the given lane of a batch. */
static KERNEL_INLINE void TYPED(sum_backward_row)(struct REALED(backward_sums) * sums, size_t lane, size_t pitch,
                                                  const struct lnorm_backward_args *args, size_t row)
{
    struct TYPED(row) one = TYPED(backward_row)(args, row);
    TYPED(begin_backward_row)(sums, lane, args, row, &one);
    if (args->has_mean) {
        one.g_centre = TYPED(guess_mean)(&sums->sample, one.dy, one.gamma, 1);
        sums->g_centre[lane] = one.g_centre;
    }
    TYPED(sum_backward)(one, args->has_mean, args->params.gamma != NULL, sums->sum + lane, sums->lost + lane, pitch);
}

/* The same of a row that may be staged; c is multiplied by a power of two near rstd where `scaled`. */
static NOINLINE void TYPED(sum_other_backward_row)(struct REALED(backward_sums) * sums, size_t lane, size_t pitch,
                                                   const struct lnorm_backward_args *args,
                                                   struct TYPED(backward_stage) * stage, size_t row, int scaled)
{
    struct TYPED(row) one = TYPED(backward_row)(args, row);
    TYPED(begin_backward_row)(sums, lane, args, row, &one);
    one.scaled = scaled;
    one.scale = scaled ? REALED(scale_of_c)(sums->rstd[lane], one.centre) : 1;
    one.centre *= one.scale;
    sums->scale[lane] = one.scale;
#if IS_16_BITS
    (void)stage;
#else
    struct REALED(from_y) from_y;
    struct REALED(sources) sources;
    if (stage != NULL) {
        sources.x = TYPED(staged_x)(args, stage, row, &from_y);
        sources.dy = REALED(row_source)(&args->dy, row, args->inner, stage->dy);
        sources.gamma = *REALED(parameter_of)(&stage->gamma, args->params.gamma, &args->params, args->params.plus_one,
                                              args->cols, row / args->inner);
        one.staged = &sources;
    }
#endif
    if (args->has_mean) {
        one.g_centre = TYPED(guess_any_mean)(&sums->sample, &one, 1);
        sums->g_centre[lane] = one.g_centre;
    }
    one.has_mean = args->has_mean;
    one.has_gamma = args->params.gamma != NULL;
    TYPED(sum_blocks)(&one, 0, sums->sum + lane, sums->lost + lane, pitch);
}

/* The moments of one row whose products are out of range, into the given lane of m. */
static NOINLINE void TYPED(careful_backward)(struct REALED(backward_moments) * m, size_t lane,
                                             const struct lnorm_backward_args *args,
                                             struct TYPED(backward_stage) * stage, size_t row)
{
    const size_t pitch = REALED(places_of)(REALED(quantities)(args->has_mean, 1), 1).pitch;
    struct REALED(backward_sums) sums;
    struct REALED(backward_moments) one;
    REALED(no_backward_sums)(&sums, args->cols);
    TYPED(sum_other_backward_row)(&sums, 0, pitch, args, stage, row, 1);
    REALED(finish_backward)(&one, &sums, 1, args->cols, args->has_mean, args->from_y);
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
    const ELEMENT *dy, *x, *added; /* added to dx, or NULL */
    const REAL *gamma;
    ELEMENT *dx;
    REAL *dgamma, *dbeta;
    ptrdiff_t dy_stride, x_stride, dx_stride, added_stride;
    const struct REALED(backward_moments) * m;
    size_t lane;    /* of its first row */
    int direct;     /* all verdicts are */
    int scaled;     /* some rows are FAR */
    int asks_ahead; /* for the next group's dx and added, taken to lie right behind this one's */
};

/* One tile: dx of its rows, and the sums over its rows. */
struct TYPED(tile) {
    vec dx[GROUP_ROWS * 2], dgamma[2], dbeta[2];
};

/* Rows from r on of the tile of `vecs` vectors of n elements, n <= LANES, from column i on. */
static KERNEL_INLINE void TYPED(compute_rows)(struct TYPED(tile) * to, const struct TYPED(group) * group, size_t r,
                                              size_t rows, size_t i, size_t vecs, size_t n)
{
    const struct REALED(backward_moments) *const m = group->m;
    vec *dx = to->dx;
    for (size_t end = r + rows; r < end; r++) {
        const size_t lane = group->lane + r;
        const ELEMENT *const dys = group->dy + (ptrdiff_t)r * group->dy_stride + i;
        const ELEMENT *const xs = group->x + (ptrdiff_t)r * group->x_stride + i;
        const REAL scale = group->scaled ? m->scale[lane] : 1;
        const vec centre = vec_set1(group->scaled ? m->centre[lane] * scale : m->centre[lane]);
        const vec rstd = vec_set1(m->rstd[lane]), rstd_of_c = group->scaled ? vec_set1(m->rstd[lane] / scale) : rstd;
        const vec xhat_shift = vec_set1(m->xhat_shift[lane]), dx_shift = vec_set1(m->dx_shift[lane]);
        const vec g_mean = vec_set1(m->g_mean[lane]), g_xhat_mean = vec_set1(m->g_xhat_mean[lane]);
        for (size_t v = 0; v < vecs; v++) {
            const vec dy = TYPED(read)(dys + v * LANES, n);
            const vec x = TYPED(read)(xs + v * LANES, n);
            const vec c = group->scaled ? vec_fnma(x, vec_set1(scale), centre) : vec_sub(centre, x);
            const vec xhat = group->direct ? vec_fma(x, rstd, xhat_shift) : vec_fnma(c, rstd_of_c, xhat_shift);
            const vec g = group->gamma != NULL ? vec_fms(dy, REALED(load)(group->gamma + i + v * LANES, n), g_mean)
                                               : vec_sub(dy, g_mean);
            to->dgamma[v] = r == 0 ? vec_mul(dy, xhat) : vec_fma(dy, xhat, to->dgamma[v]);
            to->dbeta[v] = r == 0 ? dy : vec_add(to->dbeta[v], dy);
            *dx = vec_fma(vec_fnma(xhat, g_xhat_mean, g), rstd, dx_shift);
            if (group->added != NULL) {
                const ELEMENT *const added = group->added + (ptrdiff_t)r * group->added_stride + i;
                *dx = vec_add(*dx, TYPED(read)(added + v * LANES, n));
            }
            dx++;
        }
    }
}

static KERNEL_INLINE void TYPED(store_rows)(const struct TYPED(tile) * from, const struct TYPED(group) * group,
                                            size_t r, size_t rows, size_t i, size_t vecs, size_t n)
{
    const vec *dx = from->dx;
    for (size_t end = r + rows; r < end; r++) {
        for (size_t v = 0; v < vecs; v++) {
            TYPED(write)(group->dx + (ptrdiff_t)r * group->dx_stride + i + v * LANES, *dx++, n);
        }
    }
}

/* Adds what dgamma and dbeta are so far to the tile's sums. */
static KERNEL_INLINE void TYPED(add_tile)(struct TYPED(tile) * to, const struct TYPED(group) * group, size_t i,
                                          size_t vecs, size_t n)
{
    for (size_t v = 0; v < vecs; v++) {
        if (group->dgamma != NULL) {
            to->dgamma[v] = vec_add(REALED(load)(group->dgamma + i + v * LANES, n), to->dgamma[v]);
        }
        if (group->dbeta != NULL) {
            to->dbeta[v] = vec_add(REALED(load)(group->dbeta + i + v * LANES, n), to->dbeta[v]);
        }
    }
}

static KERNEL_INLINE void TYPED(store_tile)(const struct TYPED(tile) * from, const struct TYPED(group) * group,
                                            size_t i, size_t vecs, size_t n)
{
    for (size_t v = 0; v < vecs; v++) {
        if (group->dgamma != NULL) {
            REALED(store)(group->dgamma + i + v * LANES, from->dgamma[v], n);
        }
        if (group->dbeta != NULL) {
            REALED(store)(group->dbeta + i + v * LANES, from->dbeta[v], n);
        }
    }
}

static KERNEL_INLINE void TYPED(ask_for)(const ELEMENT *p, size_t vecs)
{
    for (size_t v = 0; v < vecs; v++) {
        PREFETCH(p + v * LANES);
    }
}

/* `vecs` whole vectors of a group's columns. */
static KERNEL_INLINE void TYPED(apply_tile)(const struct TYPED(group) * group, size_t rows, size_t i, size_t vecs)
{
    const size_t held = rows < HELD_ROWS ? rows : HELD_ROWS;
    struct TYPED(tile) tile;
    if (rows == GROUP_ROWS && group->asks_ahead) { /* a line is waited for before it is overwritten, too */
        TYPED(ask_for)(group->dx + (ptrdiff_t)rows * group->dx_stride + rows * i, rows * vecs);
        if (group->added != NULL) {
            TYPED(ask_for)(group->added + (ptrdiff_t)rows * group->added_stride + rows * i, rows * vecs);
        }
    }
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
    for (;;) {
        const size_t together = rows < GROUP_ROWS ? 1 : GROUP_ROWS;
        if (together == GROUP_ROWS) {
            TYPED(apply_backward)(&group, GROUP_ROWS, cols);
        } else {
            TYPED(apply_backward)(&group, 1, cols);
        }
        rows -= together;
        if (rows == 0) {
            return; /* behind the last row there may be no place to point to */
        }
        group.dy += (ptrdiff_t)together * group.dy_stride;
        group.x += (ptrdiff_t)together * group.x_stride;
        if (group.dx != NULL) {
            group.dx += (ptrdiff_t)together * group.dx_stride;
        }
        if (group.added != NULL) {
            group.added += (ptrdiff_t)together * group.added_stride;
        }
        group.lane += together;
    }
}

/* The same in each branch, but for what the compiler knows in it. */
static NOINLINE void TYPED(apply_rows)(struct TYPED(group) group, size_t rows, size_t cols, int direct)
{
    const int all_wanted = group.gamma != NULL && group.dx != NULL && group.dgamma != NULL && group.dbeta != NULL;
    if (!all_wanted || group.added != NULL || group.scaled) {
        TYPED(apply_groups)(group, rows, cols);
        return;
    }
    group.added = NULL;
    group.scaled = 0;
    if (direct) {
        group.direct = 1;
        TYPED(apply_groups)(group, rows, cols);
    } else {
        TYPED(apply_groups)(group, rows, cols);
    }
}

#if !IS_16_BITS
/* The second pass over staged rows, at most a group, block by block; `row` is the first one's place among all. */
static NOINLINE void TYPED(apply_staged_rows)(const struct lnorm_backward_args *args,
                                              struct TYPED(backward_stage) * stage, struct TYPED(group) group,
                                              size_t row, size_t rows, int direct)
{
    const size_t width = BLOCK / GROUP_ROWS, inner = args->inner;
    const struct REALED(source) *const gamma = REALED(parameter_of)(&stage->gamma, args->params.gamma, &args->params,
                                                                    args->params.plus_one, args->cols, row / inner);
    REAL *const dgamma = group.dgamma, *const dbeta = group.dbeta;
    group.x = stage->x;
    group.dy = stage->dy;
    group.dx = args->dx.at != NULL ? stage->dx : NULL;
    group.added = args->added.at != NULL ? stage->added : NULL;
    group.x_stride = group.dy_stride = group.dx_stride = group.added_stride = (ptrdiff_t)width;
    for (size_t i = 0; i < args->cols; i += width) {
        const size_t n = args->cols - i < width ? args->cols - i : width;
        for (size_t r = 0; r < rows; r++) {
            struct REALED(from_y) from_y;
            const struct REALED(source) x = TYPED(staged_x)(args, stage, row + r, &from_y);
            const struct REALED(source) dy = REALED(row_source)(&args->dy, row + r, inner, NULL);
            REALED(fill)(stage->x + r * width, &x, i, n);
            REALED(fill)(stage->dy + r * width, &dy, i, n);
            if (group.added != NULL) {
                const struct REALED(source) added = REALED(row_source)(&args->added, row + r, inner, NULL);
                REALED(fill)(stage->added + r * width, &added, i, n);
            }
        }
        group.gamma = REALED(fetch)(gamma, i, n);
        group.dgamma = dgamma != NULL ? dgamma + i : NULL;
        group.dbeta = dbeta != NULL ? dbeta + i : NULL;
        TYPED(apply_rows)(group, rows, n, direct);
        for (size_t r = 0; r < rows && group.dx != NULL; r++) {
            const struct REALED(sink) dx = REALED(row_sink)(&args->dx, row + r, inner, NULL);
            REALED(put_from)(&dx, stage->dx + r * width, i, n);
        }
    }
}
#endif

/* Where dx is larger than the second cache, and a group of its rows smaller than the first, asking for lines ahead
 * saves up to a fifth of the time. Elsewhere it costs a twentieth. */
#define FIRST_CACHE_BYTES ((size_t)32768)
#define SECOND_CACHE_BYTES ((size_t)524288)

/* The second pass over rows `lane` and following of the batch that m is of; `row` is the first one's place among all.
 */
static NOINLINE void TYPED(backward_rows)(const struct lnorm_backward_args *args, struct TYPED(backward_stage) * stage,
                                          struct REALED(backward_moments) * m, size_t row, size_t lane, size_t rows,
                                          REAL *dgamma, REAL *dbeta)
{
    struct TYPED(group) group = {.gamma = args->params.gamma, .dgamma = dgamma, .dbeta = dbeta, .m = m, .lane = lane};
    int direct = 1;
    for (size_t r = 0; r < rows; r++) {
        if (!LIKELY(m->verdict[lane + r] <= (REAL)CENTRED)) {
            group.scaled = 1;
            if (m->verdict[lane + r] == (REAL)OUT_OF_RANGE) {
                TYPED(careful_backward)(m, lane + r, args, stage, row + r);
            }
        }
        direct &= m->verdict[lane + r] == (REAL)DIRECT;
    }
#if !IS_16_BITS
    if (stage != NULL) {
        for (size_t together; rows > 0; rows -= together) {
            together = rows < GROUP_ROWS ? 1 : GROUP_ROWS;
            TYPED(apply_staged_rows)(args, stage, group, row, together, direct);
            row += together;
            group.lane += together;
        }
        return;
    }
#endif
    group.dy = (const ELEMENT *)args->dy.at + (ptrdiff_t)row * args->dy.stride;
    group.x = (const ELEMENT *)args->x.at + (ptrdiff_t)row * args->x.stride;
    group.dx = args->dx.at != NULL ? (ELEMENT *)args->dx.at + (ptrdiff_t)row * args->dx.stride : NULL;
    group.added = args->added.at != NULL ? (const ELEMENT *)args->added.at + (ptrdiff_t)row * args->added.stride : NULL;
    group.dy_stride = args->dy.stride;
    group.x_stride = args->x.stride;
    group.dx_stride = args->dx.stride;
    group.added_stride = args->added.stride;
    group.asks_ahead = args->dx.at != NULL && args->dx.stride == (ptrdiff_t)args->cols &&
                       args->cols <= FIRST_CACHE_BYTES / GROUP_ROWS / sizeof(ELEMENT) &&
                       args->rows > SECOND_CACHE_BYTES / sizeof(ELEMENT) / args->cols;
    TYPED(apply_rows)(group, rows, args->cols, direct);
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
    const int direct = args->rows <= LNORM_BLOCK_ROWS && !args->accumulate;
    const size_t fitting = BACKWARD_BATCH_BYTES / (2 * sizeof(REAL)) / cols / GROUP_ROWS * GROUP_ROWS;
    const size_t batch = fitting < GROUP_ROWS ? GROUP_ROWS : fitting > BATCH_ROWS ? BATCH_ROWS : fitting;
    const size_t turn = cols <= SHORT_ROW ? batch : GROUP_ROWS;
    REAL *to[2] = {args->dgamma, args->dbeta};
    for (size_t which = 0; which < 2; which++) {
        if (to[which] != NULL && !direct) {
            to[which] = REALED(slab_array)(args, slab, which, LNORM_SLAB_BLOCK);
            REALED(set_zero)(to[which], LNORM_SLAB_ARRAYS * cols);
        } else if (to[which] != NULL) {
            REALED(set_zero)(to[which], cols);
        }
    }
    struct REALED(backward_sums) sums;
    struct REALED(backward_moments) m;
    REALED(no_backward_sums)(&sums, cols);

    /* As in forward, the first pass of one batch goes along with the second pass of the one before. */
    size_t rows = 0;
    for (size_t first = begin; first < end || rows > 0;) {
        const size_t block_end = first / LNORM_BLOCK_ROWS * LNORM_BLOCK_ROWS + LNORM_BLOCK_ROWS;
        const size_t left = (block_end < end ? block_end : end) - first;
        const size_t next_rows = left < batch ? left : batch;
        const size_t pitch = REALED(places_of)(REALED(quantities)(args->has_mean, 1), next_rows).pitch;
        if (rows > 0) {
            if (args->given_moments != NULL) {
                REALED(finish_given)(&m, args, first - rows, rows);
            } else {
                REALED(finish_backward)(&m, &sums, rows, cols, args->has_mean, args->from_y);
            }
        }
        for (size_t r = 0; r < rows || r < next_rows; r += turn) {
            for (size_t q = r; q < next_rows && q < r + turn; q++) {
                if (args->given_moments != NULL) {
                    break;
                }
                if (stage != NULL) {
                    TYPED(sum_other_backward_row)(&sums, q, pitch, args, stage, first + q, 0);
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
                    REALED(fold)(to[which], REALED(slab_array)(args, slab, which, LNORM_SLAB_HIGH),
                                 REALED(slab_array)(args, slab, which, LNORM_SLAB_LOW), cols);
                }
            }
        }
        first += next_rows;
        rows = next_rows;
    }
}

static void TYPED(backward_plain)(const struct lnorm_backward_args *args, size_t slab)
{
    TYPED(backward_slab)(args, slab, NULL);
}

/* With a gamma that is not as it is used, in which case it is made so once for all rows. */
static NOINLINE void TYPED(backward_prepared)(const struct lnorm_backward_args *args, size_t slab,
                                              void (*run)(const struct lnorm_backward_args *args, size_t slab))
{
    struct lnorm_backward_args prepared = *args;
    struct REALED(prepared) gamma;
    prepared.params.gamma =
        REALED(prepare)(&gamma, args->params.gamma, &args->params, args->params.plus_one, args->cols);
    prepared.params.type = REAL_TYPE;
    prepared.params.plus_one = 0;
    run(&prepared, slab);
}

#if !IS_16_BITS
static NOINLINE void TYPED(backward_staged)(const struct lnorm_backward_args *args, size_t slab)
{
    struct TYPED(backward_stage) stage;
    REALED(begin_parameter)(&stage.gamma);
    REALED(begin_parameter)(&stage.beta);
    TYPED(backward_slab)(args, slab, &stage);
}
#endif

static void TYPED(backward)(const struct lnorm_backward_args *args, size_t slab)
{
#if !IS_16_BITS
    if (args->staged) {
        TYPED(backward_staged)(args, slab);
        return;
    }
#endif
    if (REALED(needs_preparing)(&args->params)) {
        TYPED(backward_prepared)(args, slab, TYPED(backward_plain));
    } else {
        TYPED(backward_plain)(args, slab);
    }
}

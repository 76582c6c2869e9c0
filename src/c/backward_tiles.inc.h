/* Backward for rows that lie side by side, one row a lane: the formulas of backward_kernel.inc.h, tile by tile. What a
 * tile adds to dgamma and dbeta is summed over its strips, then over the lanes, and carried on with its error from tile
 * to tile. Parameters: as row_sums.inc.h; after strip_sums.inc.h.
 */

/* A strip as the second pass takes it, LANES elements of each row at a time. */
struct TYPED(backward_strip) {
    const ELEMENT *dy, *x;
    ELEMENT *dx;
    ptrdiff_t dy_step, x_step, dx_step, next_dy, next_x; /* next: elements to the next tile's */
    struct REALED(factors) gamma;
    int direct;   /* all verdicts are */
    int scaled;   /* some rows are FAR */
    size_t again; /* the first rows, which another strip has too */
};

/* The terms of dgamma and dbeta of LANES elements, summed over strips: a row a lane. */
struct TYPED(terms) {
    vec dgamma[LANES], dbeta[LANES];
};

/* dx of n elements, n <= LANES, of each row; their terms are added, without those of the first `again` rows. */
static KERNEL_INLINE void TYPED(apply_strip)(struct TYPED(terms) * terms, const struct TYPED(backward_strip) * strip,
                                             const struct REALED(backward_moments) * m, size_t n, int direct,
                                             int scaled, size_t again)
{
    static const REAL numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const struct TYPED(backward_strip) at = *strip; /* which no store can change */
    const vec scale = scaled ? vec_load(m->scale) : vec_set1(1), rstd = vec_load(m->rstd);
    const vec centre = scaled ? vec_mul(vec_load(m->centre), scale) : vec_load(m->centre);
    const vec rstd_of_c = scaled ? vec_div(rstd, scale) : rstd, shift = vec_load(m->xhat_shift);
    const ELEMENT *dy = at.dy, *x = at.x;
    ELEMENT *dx = at.dx;
    const REAL *gamma = at.gamma.at;
    ROLLED
    for (size_t i = 0; i < n; i++) {
        PREFETCH(dy + at.next_dy);
        PREFETCH(x + at.next_x);
        const vec v = TYPED(read)(dy, LANES), u = TYPED(read)(x, LANES);
        const vec c = scaled ? vec_fnma(u, scale, centre) : vec_sub(centre, u);
        const vec xhat = direct ? vec_fma(u, rstd, shift) : vec_fnma(c, rstd_of_c, shift);
        const vec g = vec_fms(v, vec_set1(*gamma), vec_load(m->g_mean));
        const vec result = vec_fma(vec_fnma(xhat, vec_load(m->g_xhat_mean), g), rstd, vec_load(m->dx_shift));
        vec dgamma = vec_fma(v, xhat, terms->dgamma[i]), dbeta = vec_add(v, terms->dbeta[i]);
        if (again != 0) {
            const vec lane = vec_load(numbers), first = vec_set1((REAL)again);
            dgamma = vec_if_less(lane, first, terms->dgamma[i], dgamma);
            dbeta = vec_if_less(lane, first, terms->dbeta[i], dbeta);
        }
        TYPED(write)(dx, result, LANES);
        terms->dgamma[i] = dgamma;
        terms->dbeta[i] = dbeta;
        dy += at.dy_step;
        x += at.x_step;
        dx += at.dx_step;
        gamma += at.gamma.step;
    }
}

/* The same in each branch, but for what the compiler knows in it. */
static NOINLINE void TYPED(apply_any_strip)(struct TYPED(terms) * terms, const struct TYPED(backward_strip) * strip,
                                            const struct REALED(backward_moments) * m, size_t n)
{
    if (strip->again != 0 || strip->scaled) {
        TYPED(apply_strip)(terms, strip, m, n, 0, strip->scaled, strip->again);
    } else if (strip->direct) {
        TYPED(apply_strip)(terms, strip, m, n, 1, 0, 0);
    } else {
        TYPED(apply_strip)(terms, strip, m, n, 0, 0, 0);
    }
}

/* A tile as the second pass takes it. */
struct TYPED(backward_tile) {
    struct lnorm_tile tile;
    const ELEMENT *dy, *x;
    ELEMENT *dx; /* or NULL */
    ptrdiff_t next_dy, next_x;
    struct REALED(factors) gamma;
    REAL *sums[2]; /* (high, low) of dgamma and dbeta; or NULL */
    int direct[LNORM_MOST_TILE_STRIPS], scaled[LNORM_MOST_TILE_STRIPS];
    _Alignas(64) struct REALED(backward_moments) of[LNORM_MOST_TILE_STRIPS];
};

/* dx of a tile, and what it adds to the sums, LANES elements of all rows at a time. As dx may be dy or x, a last strip
 * that has rows of the one before comes first, and is written last. */
static NOINLINE void TYPED(apply_backward_tile)(const struct lnorm_backward_args *args,
                                                const struct TYPED(backward_tile) * tile)
{
    ELEMENT kept[LANES * LANES];
    struct TYPED(terms) terms;
    const size_t strips = tile->tile.strips, last = tile->tile.width - LANES;
    const size_t in_common = strips * LANES - tile->tile.width;
    for (size_t i = 0; i < LANES; i++) {
        terms.dgamma[i] = terms.dbeta[i] = vec_set1(0);
    }
    for (size_t first = 0; first < args->cols; first += LANES) {
        const size_t n = args->cols - first < LANES ? args->cols - first : LANES;
        const ptrdiff_t i = (ptrdiff_t)first;
        for (size_t k = 0; k < strips; k++) {
            const size_t s = k != 0 ? k - 1 : strips - 1, begin = lnorm_strip_begin(&tile->tile, LANES, s);
            const size_t again = k == 0 ? in_common : 0;
            const int keep = again != 0 || tile->dx == NULL;
            const struct TYPED(backward_strip) at = {.dy = tile->dy + i * args->dy.step + begin,
                                                     .x = tile->x + i * args->x.step + begin,
                                                     .dx = keep ? kept : tile->dx + i * args->dx.step + begin,
                                                     .dy_step = args->dy.step,
                                                     .x_step = args->x.step,
                                                     .dx_step = keep ? (ptrdiff_t)LANES : args->dx.step,
                                                     .next_dy = tile->next_dy,
                                                     .next_x = tile->next_x,
                                                     .gamma = {tile->gamma.at + i * tile->gamma.step, tile->gamma.step},
                                                     .direct = tile->direct[s],
                                                     .scaled = tile->scaled[s],
                                                     .again = again};
            TYPED(apply_any_strip)(&terms, &at, &tile->of[s], n);
        }
        for (size_t k = 0; k < n && tile->dx != NULL && in_common != 0; k++) {
            ELEMENT *const to = tile->dx + (i + (ptrdiff_t)k) * args->dx.step + last;
            TYPED(write)(to, TYPED(read)(kept + k * LANES, LANES), LANES);
        }
        for (size_t which = 0; which < 2; which++) {
            if (tile->sums[which] != NULL) {
                REALED(fold_lanes)
                (which == 0 ? terms.dgamma : terms.dbeta, tile->sums[which] + first,
                 tile->sums[which] + args->cols + first, n);
            }
        }
    }
}

/* What the second pass needs of the strip whose first row has the place `row` among all. */
static NOINLINE void TYPED(sum_backward_strip)(struct REALED(backward_moments) * to,
                                               const struct lnorm_backward_args *args,
                                               const struct REALED(sample) * sample,
                                               const struct TYPED(backward_tile) * tile, size_t begin, size_t row)
{
    vec sum[3 * LANES], lost[3 * LANES];
    struct TYPED(strip) strip = {.x = tile->x + begin,
                                 .dy = tile->dy + begin,
                                 .out = tile->dx != NULL ? tile->dx + begin : tile->x + begin,
                                 .out_step = tile->dx != NULL ? args->dx.step : args->x.step,
                                 .x_step = args->x.step,
                                 .dy_step = args->dy.step,
                                 .gamma = tile->gamma,
                                 .cols = args->cols,
                                 .has_g = 1,
                                 .centre = vec_set1(0),
                                 .g_centre = vec_set1(0)};
    if (args->has_mean) {
        const ptrdiff_t at = lnorm_row_offset(row, (ptrdiff_t)args->stat_stride, args->inner);
        strip.centre = vec_load((const REAL *)args->mean + at);
        strip.g_centre = TYPED(guess_strip_mean)(sample, strip.dy, args->dy.step, &tile->gamma);
    }
    TYPED(sum_strip)(&strip, sum, lost);
    REALED(finish_backward_strip)(to, args, row, sum, lost, strip.centre, strip.g_centre);
}

static NOINLINE void TYPED(backward_plain_tiles)(const struct lnorm_backward_args *args, size_t slab)
{
    static const REAL one = 1;
    const struct lnorm_tiles tiles = lnorm_tiles_of(args->inner, args->cols, LANES, LNORM_BACKWARD_TENSORS);
    const size_t count = args->rows / args->inner * tiles.count, begin = slab * args->rows_per_slab;
    const size_t end = count - begin < args->rows_per_slab ? count : begin + args->rows_per_slab;
    const struct REALED(sample) sample = REALED(sample_of)(args->cols, 2);
    struct TYPED(backward_tile) tile;
    tile.gamma = REALED(factors_of)(args->params.gamma, &one);
    const void *const wanted[2] = {args->dgamma, args->dbeta};
    for (size_t which = 0; which < 2; which++) {
        tile.sums[which] = NULL;
        if (wanted[which] != NULL) {
            tile.sums[which] = REALED(slab_array)(args, slab, which, LNORM_SLAB_HIGH);
            REALED(set_zero)(tile.sums[which], 2 * args->cols);
        }
    }
    struct lnorm_tile next = lnorm_tile_at(&tiles, begin);
    for (size_t t = begin; t < end; t++) {
        const struct lnorm_tile now = next;
        const ptrdiff_t outer = (ptrdiff_t)now.outer;
        next = t + 1 < end ? lnorm_tile_at(&tiles, t + 1) : now;
        const ptrdiff_t outer_on = (ptrdiff_t)next.outer - outer,
                        inner_on = (ptrdiff_t)next.first - (ptrdiff_t)now.first;
        tile.tile = now;
        tile.dy = (const ELEMENT *)args->dy.at + outer * args->dy.stride + now.first;
        tile.x = (const ELEMENT *)args->x.at + outer * args->x.stride + now.first;
        tile.dx = args->dx.at != NULL ? (ELEMENT *)args->dx.at + outer * args->dx.stride + now.first : NULL;
        tile.next_dy = outer_on * args->dy.stride + inner_on;
        tile.next_x = outer_on * args->x.stride + inner_on;
        for (size_t s = 0; s < now.strips; s++) {
            const size_t at = lnorm_strip_begin(&now, LANES, s);
            TYPED(sum_backward_strip)
            (&tile.of[s], args, &sample, &tile, at, now.outer * args->inner + now.first + at);
            tile.direct[s] = !REALED(any_above)(tile.of[s].verdict, DIRECT);
            tile.scaled[s] = REALED(any_above)(tile.of[s].verdict, CENTRED);
        }
        TYPED(apply_backward_tile)(args, &tile);
    }
}

static void TYPED(backward_tiles)(const struct lnorm_backward_args *args, size_t slab)
{
    if (REALED(needs_preparing)(&args->params)) {
        TYPED(backward_prepared)(args, slab, TYPED(backward_plain_tiles));
    } else {
        TYPED(backward_plain_tiles)(args, slab);
    }
}

/* Forward for rows that lie side by side, one row a lane: the formulas of forward_kernel.inc.h, tile by tile.
 * Parameters: as row_sums.inc.h; after strip_sums.inc.h.
 */

/* One or two strips as the second pass takes them. */
struct TYPED(forward_strips) {
    const ELEMENT *x;
    ELEMENT *y;
    ptrdiff_t x_step, y_step, next; /* next: elements from x to the next tile's */
    struct REALED(factors) gamma, beta;
    size_t cols, apart; /* from one strip to the other */
};

/* y of `strips` strips; centre and rstd_lost are 0 and scale is 1 where direct. As y may be x, and strips may have rows
 * in common, all are read before any is written. */
static KERNEL_INLINE void TYPED(normalize_strips)(const struct TYPED(forward_strips) * strips_at,
                                                  const struct REALED(strip_moments) * of, size_t strips, int direct)
{
    const struct TYPED(forward_strips) to = *strips_at; /* which no store can change */
    const ELEMENT *x = to.x;
    ELEMENT *y = to.y;
    const REAL *g = to.gamma.at, *b = to.beta.at;
    vec centre[2], scale[2], rstd[2], rstd_lost[2], shift[2];
    for (size_t s = 0; s < strips; s++) {
        centre[s] = vec_load(of[s].m.centre);
        scale[s] = vec_load(of[s].scale);
        rstd[s] = vec_load(of[s].m.rstd);
        rstd_lost[s] = vec_load(of[s].m.rstd_lost);
        shift[s] = vec_load(of[s].m.shift);
    }
    ROLLED
    for (size_t left = to.cols; left > 0; left--) {
        const vec gamma = vec_set1(*g), beta = vec_set1(*b);
        vec v[2];
        for (size_t s = 0; s < strips; s++) {
            PREFETCH(x + to.next + s * to.apart);
            vec c = TYPED(read)(x + s * to.apart, LANES), moved = shift[s];
            if (!direct) {
                c = vec_fms(c, scale[s], centre[s]);
                moved = vec_fma(c, rstd_lost[s], moved);
            }
            v[s] = vec_fma(vec_fma(c, rstd[s], moved), gamma, beta);
        }
        for (size_t s = 0; s < strips; s++) {
            TYPED(write)(y + s * to.apart, v[s], LANES);
        }
        x += to.x_step;
        y += to.y_step;
        g += to.gamma.step;
        b += to.beta.step;
    }
}

/* The same in each branch, but for what the compiler knows in it. */
static NOINLINE void TYPED(normalize_any_strips)(const struct TYPED(forward_strips) * to,
                                                 const struct REALED(strip_moments) * of, size_t strips, int direct)
{
    switch (2 * (strips - 1) + (direct != 0)) {
    case 0:
        TYPED(normalize_strips)(to, of, 1, 0);
        break;
    case 1:
        TYPED(normalize_strips)(to, of, 1, 1);
        break;
    case 2:
        TYPED(normalize_strips)(to, of, 2, 0);
        break;
    default:
        TYPED(normalize_strips)(to, of, 2, 1);
        break;
    }
}

/* The statistics of the strip whose first row is at x and has the place `row` among all. */
static NOINLINE void TYPED(sum_forward_strip)(struct REALED(strip_moments) * to, const struct lnorm_forward_args *args,
                                              const struct REALED(sample) * sample, const ELEMENT *x, const ELEMENT *y,
                                              size_t row)
{
    vec sum[2 * LANES], lost[2 * LANES];
    struct TYPED(strip) strip = {
        .x = x, .out = y, .x_step = args->x.step, .out_step = args->y.step, .cols = args->cols, .centre = vec_set1(0)};
    if (args->has_mean) {
        strip.centre = TYPED(guess_strip_mean)(sample, x, args->x.step, NULL);
    }
    TYPED(sum_strip)(&strip, sum, lost);
    REALED(finish_strip)(to, args, row, sum, lost, strip.centre);
}

static NOINLINE void TYPED(forward_plain_tiles)(const struct lnorm_forward_args *args, size_t first_tile,
                                                size_t end_tile)
{
    /* What an absent gamma and beta are: -0 is what adds nothing, to a 0 of either sign. */
    static const REAL one = 1, nothing = (REAL)-0.0;
    const struct lnorm_tiles tiles = lnorm_tiles_of(args->inner, args->cols, LANES, LNORM_FORWARD_TENSORS);
    const struct REALED(sample) sample = REALED(sample_of)(args->cols, SAMPLE_VECS);
    struct TYPED(forward_strips) to = {.x_step = args->x.step,
                                       .y_step = args->y.step,
                                       .gamma = REALED(factors_of)(args->params.gamma, &one),
                                       .beta = REALED(factors_of)(args->params.beta, &nothing),
                                       .cols = args->cols};
    _Alignas(64) struct REALED(strip_moments) of[LNORM_MOST_TILE_STRIPS];
    struct lnorm_tile next = lnorm_tile_at(&tiles, first_tile);
    for (size_t t = first_tile; t < end_tile; t++) {
        const struct lnorm_tile tile = next;
        const ptrdiff_t outer = (ptrdiff_t)tile.outer;
        const ELEMENT *const x = (const ELEMENT *)args->x.at + outer * args->x.stride + tile.first;
        ELEMENT *const y = (ELEMENT *)args->y.at + outer * args->y.stride + tile.first;
        next = t + 1 < end_tile ? lnorm_tile_at(&tiles, t + 1) : tile;
        to.next = ((ptrdiff_t)next.outer - outer) * args->x.stride + (ptrdiff_t)next.first - (ptrdiff_t)tile.first;
        for (size_t s = 0; s < tile.strips; s++) {
            const size_t begin = lnorm_strip_begin(&tile, LANES, s);
            TYPED(sum_forward_strip)
            (&of[s], args, &sample, x + begin, y + begin, tile.outer * args->inner + tile.first + begin);
        }
        for (size_t s = 0, together; s < tile.strips; s += together) {
            const size_t begin = lnorm_strip_begin(&tile, LANES, s);
            together = tile.strips % 2 != 0 && s == 0 ? 1 : 2;
            to.apart = lnorm_strip_begin(&tile, LANES, s + 1) - begin;
            to.x = x + begin;
            to.y = y + begin;
            const int direct = !REALED(any_above)(of[s].m.verdict, DIRECT) &&
                               !REALED(any_above)(of[s + together - 1].m.verdict, DIRECT);
            TYPED(normalize_any_strips)(&to, &of[s], together, direct);
        }
    }
}

static void TYPED(forward_tiles)(const struct lnorm_forward_args *args, size_t first_tile, size_t end_tile)
{
    if (REALED(needs_preparing)(&args->params)) {
        TYPED(forward_prepared)(args, first_tile, end_tile, TYPED(forward_plain_tiles));
    } else {
        TYPED(forward_plain_tiles)(args, first_tile, end_tile);
    }
}

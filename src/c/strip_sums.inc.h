/* The sums over rows that lie side by side, of which LANES are a strip, one row a lane. What are the lanes of a vector
 * in lane_sums.inc.h are vectors of their own here: that of lane j sums the elements j, j + LANES, j + 2 * LANES ... in
 * the same order, so the bits are the same. Without a mean the centres are 0, and the sums of c and g are not looked
 * at.
 *
 * Parameters: as row_sums.inc.h, which comes before.
 */

/* c = centre - x and g = g_centre - dy * gamma of a strip; in forward there is no g, and g is c. What will be written
 * to `out` is asked for meanwhile. */
struct TYPED(strip) {
    const ELEMENT *x, *dy, *out; /* of the first row */
    ptrdiff_t x_step, dy_step, out_step;
    struct REALED(factors) gamma;
    size_t cols;
    int has_g;
    vec centre, g_centre;
};

/* An element's place in each. */
struct TYPED(strip_place) {
    const ELEMENT *x, *dy, *out;
    const REAL *gamma;
};

static KERNEL_INLINE struct TYPED(strip_place) TYPED(place_of)(const struct TYPED(strip) * strip, size_t element)
{
    const ptrdiff_t i = (ptrdiff_t)element;
    struct TYPED(strip_place) at = {.x = strip->x + i * strip->x_step, .out = strip->out + i * strip->out_step};
    if (strip->has_g) {
        at.dy = strip->dy + i * strip->dy_step;
        at.gamma = strip->gamma.at + i * strip->gamma.step;
    }
    return at;
}

/* Adds the element there, and goes on to the lane's next one. */
static KERNEL_INLINE void TYPED(add_element)(vec *products, struct REALED(vec_sums) * to,
                                             const struct TYPED(strip) * strip, struct TYPED(strip_place) * at)
{
    PREFETCH(at->out);
    const vec c = vec_sub(strip->centre, TYPED(read)(at->x, LANES));
    vec g = c;
    to->c = vec_add(to->c, c);
    if (strip->has_g) {
        g = vec_fnma(TYPED(read)(at->dy, LANES), vec_set1(*at->gamma), strip->g_centre);
        to->g = vec_add(to->g, g);
        at->dy += (ptrdiff_t)LANES * strip->dy_step;
        at->gamma += (ptrdiff_t)LANES * strip->gamma.step;
    }
    *products = vec_fma(g, c, *products);
    at->x += (ptrdiff_t)LANES * strip->x_step;
    at->out += (ptrdiff_t)LANES * strip->out_step;
}

/* A lane's sums of a step: the next n elements. */
static KERNEL_INLINE struct REALED(vec_sums)
    TYPED(sum_lane_step)(const struct TYPED(strip) * strip, struct TYPED(strip_place) * at, size_t n)
{
    const vec zero = vec_set1(0);
    struct REALED(vec_sums) even = {zero, zero, zero}, odd = even;
    ROLLED
    for (; n >= 2; n -= 2) {
        TYPED(add_element)(&even.gc, &even, strip, at);
        TYPED(add_element)(&odd.gc, strip->has_g ? &even : &odd, strip, at);
    }
    if (n > 0) {
        TYPED(add_element)(&even.gc, &even, strip, at);
    }
    even.gc = vec_add(even.gc, odd.gc);
    if (!strip->has_g) {
        even.c = vec_add(even.c, odd.c);
    }
    return even;
}

/* A lane's sums of a block: g * c to sum[0], c to sum[LANES], and g, where there is one, to sum[2 * LANES]. */
static KERNEL_INLINE void TYPED(sum_lane_block)(const struct TYPED(strip) * strip, size_t i, size_t n, vec *sum)
{
    struct TYPED(strip_place) at = TYPED(place_of)(strip, i);
    const vec zero = vec_set1(0);
    struct REALED(vec_sums) part[2] = {{zero, zero, zero}, {zero, zero, zero}}; /* as in sum_block */
    ROLLED
    for (size_t done = 0; done < n; done += STEP_VECS) {
        const struct REALED(vec_sums) step =
            TYPED(sum_lane_step)(strip, &at, n - done < STEP_VECS ? n - done : STEP_VECS);
        REALED(add_sums)(&part[done / STEP_VECS % 2], step);
    }
    REALED(add_sums)(&part[0], part[1]);
    sum[0] = part[0].gc;
    sum[LANES] = part[0].c;
    if (strip->has_g) {
        sum[2 * LANES] = part[0].g;
    }
}

/* The sums of all lanes, and what they lost where rows are longer than a block. */
static KERNEL_INLINE void TYPED(sum_strip)(const struct TYPED(strip) * strip, vec *sum, vec *lost)
{
    const size_t cols = strip->cols;
    vec later[3 * LANES];
    for (size_t begin = 0; begin < cols; begin += BLOCK) {
        const size_t n = cols - begin < BLOCK ? cols - begin : BLOCK;
        vec *const block = begin == 0 ? sum : later;
        for (size_t lane = 0; lane < LANES; lane++) {
            TYPED(sum_lane_block)(strip, begin + lane, (n + LANES - 1 - lane) / LANES, block + lane);
        }
        if (begin != 0) {
            REALED(add_block)(sum, lost, block, (strip->has_g ? 3 : 2) * LANES, begin == BLOCK);
        }
    }
}

/* A guess of the mean of each row, of x or of x * gamma: as guess_mean, the lanes pairwise. */
static KERNEL_INLINE vec TYPED(guess_strip_mean)(const struct REALED(sample) * at, const ELEMENT *x, ptrdiff_t step,
                                                 const struct REALED(factors) * gamma)
{
    vec sum[LANES / 4];
    const vec zero = vec_set1(0);
    for (size_t lane = 0; lane < LANES / 4; lane++) {
        vec part[4] = {zero, zero, zero, zero};
        for (size_t v = 0; v < at->vecs; v++) {
            for (size_t k = 0; k < 4; k++) {
                const size_t in_vec = lane + k * (LANES / 4);
                const ptrdiff_t i = (ptrdiff_t)(v * at->apart + in_vec);
                if (in_vec < at->n) {
                    const vec term = TYPED(read)(x + i * step, LANES);
                    part[k] = gamma != NULL ? vec_fma(term, vec_set1(gamma->at[i * gamma->step]), part[k])
                                            : vec_add(term, part[k]);
                }
            }
        }
        sum[lane] = vec_add(vec_add(part[0], part[2]), vec_add(part[1], part[3]));
    }
    for (size_t unit = LANES / 8; unit > 0; unit /= 2) {
        for (size_t lane = 0; lane < unit; lane++) {
            sum[lane] = vec_add(sum[lane], sum[lane + unit]);
        }
    }
    return vec_mul(sum[0], vec_set1(at->reciprocal));
}

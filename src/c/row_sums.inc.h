/* The sums over rows that forward and backward need, in the canonical order.
 *
 * Parameters: as stage.inc.h, which comes before.
 *
 * The order, which fixes the bits (docs/numerics.md says why it is this one):
 *   - a virtual vector is 64 bytes; the last of a row is filled up with elements that add nothing;
 *   - a step is 16 vectors: the even ones are summed in order, so are the odd ones, then both are added; in backward
 * that holds for the products only, and c and g are summed all in order;
 *   - a block is 4 steps, summed in order;
 *   - blocks are summed in order, and the error of each addition is found exactly and summed beside them;
 *   - last, the lanes are added pairwise, again with the error of each addition.
 *
 * Sums of a batch of rows go through the last of these together, one row a lane.
 */

#define STEP_VECS ((size_t)16)
#define BLOCK_STEPS ((size_t)4)
#define STEP (STEP_VECS * LANES)
#define BLOCK (BLOCK_STEPS * STEP)

/* Rows of a batch: the lanes of a vector, so that what follows the sums is done for all of them at once. */
#define BATCH_ROWS LANES

/* Bytes from an element that is read to the one that is asked for ahead. */
#define PREFETCH_BYTES ((size_t)4096)

/* One row as the sums see it: c = centre - x, where scaled centre - x * scale, and g = g_centre - dy * gamma. (With
 * x - centre the centre could not stay in its register: only what is subtracted may come from memory.) Without a mean
 * c is x and g is dy * gamma, and only their product is summed. Without g that is c * c. Where staged, x, dy and gamma
 * are looked for in the sources. */
struct TYPED(row) {
    const REAL *x, *dy, *gamma;
    size_t cols;
    int has_mean, scaled, has_g, has_gamma;
    REAL scale, centre, g_centre;
    int staged;
    struct TYPED(source) x_source, dy_source, gamma_source;
};

/* g * c, c and g, summed per lane. */
struct TYPED(vec_sums) {
    vec gc, c, g;
};

/* A number in each lane to nearly twice the precision: sum + lost. */
struct TYPED(two_part) {
    vec sum, lost;
};

/* The first n lanes, n from 1 to LANES; where the compiler sees that n is LANES, the whole vector. */
static KERNEL_INLINE vec TYPED(load)(const REAL *p, size_t n)
{
    return n == LANES ? vec_load(p) : vec_load_first(p, n);
}

static KERNEL_INLINE void TYPED(store)(REAL *p, vec v, size_t n)
{
    if (n == LANES) {
        vec_store(p, v);
    } else {
        vec_store_first(p, v, n);
    }
}

static KERNEL_INLINE vec TYPED(keep)(vec v, size_t n)
{
    return n == LANES ? v : vec_keep_first(v, n);
}

/* a + b exactly, as the rounded sum and what rounding lost (Knuth). */
static KERNEL_INLINE struct TYPED(two_part) TYPED(two_sum)(vec a, vec b)
{
    const vec s = vec_add(a, b);
    const vec b_part = vec_sub(s, a);
    return (struct TYPED(two_part)){s, vec_add(vec_sub(a, vec_sub(s, b_part)), vec_sub(b, b_part))};
}

static KERNEL_INLINE void TYPED(add_exactly)(vec *sum, vec *lost, vec term)
{
    const struct TYPED(two_part) s = TYPED(two_sum)(*sum, term);
    *sum = s.sum;
    *lost = vec_add(*lost, s.lost);
}

/* Adds the n elements from column i, n <= LANES. */
static KERNEL_INLINE void TYPED(add_vec)(struct TYPED(vec_sums) * products, struct TYPED(vec_sums) * to,
                                         const struct TYPED(row) * row, size_t i, size_t n)
{
    PREFETCH((const char *)(row->x + i) + PREFETCH_BYTES);
    vec c = TYPED(load)(row->x + i, n);
    if (row->has_mean) {
        const vec centre = vec_set1(row->centre);
        c = TYPED(keep)(row->scaled ? vec_fnma(c, vec_set1(row->scale), centre) : vec_sub(centre, c), n);
        to->c = vec_add(to->c, c);
    } else if (row->scaled) {
        c = vec_mul(c, vec_set1(row->scale));
    }
    vec g = c;
    if (row->has_g) {
        PREFETCH((const char *)(row->dy + i) + PREFETCH_BYTES);
        g = TYPED(load)(row->dy + i, n);
        if (row->has_mean) {
            const vec g_centre = vec_set1(row->g_centre);
            g = row->has_gamma ? vec_fnma(g, TYPED(load)(row->gamma + i, n), g_centre) : vec_sub(g_centre, g);
            g = TYPED(keep)(g, n);
            to->g = vec_add(to->g, g);
        } else if (row->has_gamma) {
            g = vec_mul(g, TYPED(load)(row->gamma + i, n));
        }
    }
    products->gc = vec_fma(g, c, products->gc);
}

/* The sums of a step: the n elements from column i, at most 16 vectors. Where there is a g, the registers hold a second
 * sum, of the odd vectors, for the products only. */
static KERNEL_INLINE struct TYPED(vec_sums) TYPED(sum_step)(const struct TYPED(row) * row, size_t i, size_t n)
{
    const vec zero = vec_set1(0);
    struct TYPED(vec_sums) even = {zero, zero, zero}, odd = even;
    const size_t end = i + n;
    ROLLED
    for (; i + 2 * LANES <= end; i += 2 * LANES) {
        TYPED(add_vec)(&even, &even, row, i, LANES);
        TYPED(add_vec)(&odd, row->has_g ? &even : &odd, row, i + LANES, LANES);
    }
    if (i + LANES <= end) {
        TYPED(add_vec)(&even, &even, row, i, LANES);
        i += LANES;
        if (i < end) {
            TYPED(add_vec)(&odd, row->has_g ? &even : &odd, row, i, end - i);
        }
    } else if (i < end) {
        TYPED(add_vec)(&even, &even, row, i, end - i);
    }
    even.gc = vec_add(even.gc, odd.gc);
    if (row->has_mean && !row->has_g) {
        even.c = vec_add(even.c, odd.c);
    }
    return even;
}

/* g * c, and with a mean c, and g. */
static KERNEL_INLINE size_t TYPED(quantities)(int has_mean, int has_g)
{
    return !has_mean ? 1 : has_g ? 3 : 2;
}

/* The sums of a block: the n elements from column i, at most 4 steps. Those of g * c go to sum[0], those of c to
 * sum[pitch] and those of g to sum[2 * pitch], where there are such. */
static KERNEL_INLINE void TYPED(sum_block)(const struct TYPED(row) * row, size_t i, size_t n, vec *sum, size_t pitch)
{
    const size_t quantities = TYPED(quantities)(row->has_mean, row->has_g);
    struct TYPED(vec_sums) step = TYPED(sum_step)(row, i, n < STEP ? n : STEP);
    sum[0] = step.gc;
    if (quantities > 1) {
        sum[pitch] = step.c;
    }
    if (quantities > 2) {
        sum[2 * pitch] = step.g;
    }
    ROLLED
    for (size_t done = STEP; done < n; done += STEP) {
        step = TYPED(sum_step)(row, i + done, n - done < STEP ? n - done : STEP);
        sum[0] = vec_add(sum[0], step.gc);
        if (quantities > 1) {
            sum[pitch] = vec_add(sum[pitch], step.c);
        }
        if (quantities > 2) {
            sum[2 * pitch] = vec_add(sum[2 * pitch], step.g);
        }
    }
}

/* The same, of a row that may be staged. */
static KERNEL_INLINE void TYPED(sum_part)(const struct TYPED(row) * row, size_t i, size_t n, vec *sum, size_t pitch)
{
    if (!row->staged) {
        TYPED(sum_block)(row, i, n, sum, pitch);
        return;
    }
    struct TYPED(row) part = *row;
    part.x = TYPED(fetch)(&row->x_source, i, n);
    part.dy = TYPED(fetch)(&row->dy_source, i, n);
    part.gamma = TYPED(fetch)(&row->gamma_source, i, n);
    TYPED(sum_block)(&part, 0, n, sum, pitch);
}

/* The sums of a row, in the places of those of a block; and in `lost`, where it is longer than one, what they lost. */
static KERNEL_INLINE void TYPED(sum_row)(const struct TYPED(row) * row, vec *sum, vec *lost, size_t pitch)
{
    const size_t cols = row->cols, quantities = TYPED(quantities)(row->has_mean, row->has_g);
    TYPED(sum_part)(row, 0, cols < BLOCK ? cols : BLOCK, sum, pitch);
    for (size_t i = BLOCK; i < cols; i += BLOCK) {
        vec block[3];
        TYPED(sum_part)(row, i, cols - i < BLOCK ? cols - i : BLOCK, block, 1);
        for (size_t q = 0; q < quantities; q++) {
            vec errors = i == BLOCK ? vec_set1(0) : lost[q * pitch];
            TYPED(add_exactly)(&sum[q * pitch], &errors, block[q]);
            lost[q * pitch] = errors;
        }
    }
}

/* Where the sums of a batch lie: those of the first quantity of all rows from 0 on, those of the next from `pitch` on.
 */
struct TYPED(places) {
    size_t quantities, rows, pitch;
};

/* The pitch is a power of two, LANES at most; so small that one row's quantities share a vector. */
static KERNEL_INLINE struct TYPED(places) TYPED(places_of)(size_t quantities, size_t rows)
{
    size_t pitch = quantities > 2 ? LANES / 4 : LANES / 2;
    while (pitch < rows) {
        pitch *= 2;
    }
    return (struct TYPED(places)){quantities, rows, pitch};
}

/* One level of adding the lanes of all vectors: lane i to lane i + unit. Vectors v and v + unit become one: v. */
static KERNEL_INLINE void TYPED(add_lanes)(vec *sum, vec *lost, struct TYPED(places) * at, int has_lost, size_t unit)
{
    const size_t end = unit >= at->pitch ? at->quantities * at->pitch : at->rows;
    for (size_t q = 0; q < at->quantities && q * at->pitch < unit; q++) {
        for (size_t v = q * at->pitch; v < q * at->pitch + at->rows && v < unit; v++) {
            const size_t w = v + unit < end ? v + unit : v;
            const struct TYPED(two_part) s =
                TYPED(two_sum)(vec_even(sum[v], sum[w], (int)unit), vec_odd(sum[v], sum[w], (int)unit));
            vec errors = s.lost;
            if (has_lost) {
                errors = vec_add(vec_add(vec_even(lost[v], lost[w], (int)unit), vec_odd(lost[v], lost[w], (int)unit)),
                                 errors);
            }
            sum[v] = s.sum;
            lost[v] = errors;
        }
    }
    if (unit < at->pitch) {
        at->rows = at->rows < unit ? at->rows : unit;
    } else {
        at->quantities = at->quantities < unit / at->pitch ? at->quantities : unit / at->pitch;
    }
}

static KERNEL_INLINE void TYPED(add_all_lanes)(vec *sum, vec *lost, struct TYPED(places) at, int has_lost)
{
    TYPED(add_lanes)(sum, lost, &at, has_lost, LANES / 2);
    TYPED(add_lanes)(sum, lost, &at, 1, LANES / 4);
    TYPED(add_lanes)(sum, lost, &at, 1, LANES / 8);
    if (LANES == 16) {
        TYPED(add_lanes)(sum, lost, &at, 1, 1);
    }
}

/* Adds the lanes of each vector, all of which are overwritten; the total of a vector goes to the same place of totals
 * and of what they lost. Both have room for LANES elements behind the last, and are set there to numbers of no meaning.
 */
static NOINLINE void TYPED(total)(vec *sum, vec *lost, struct TYPED(places) at, int has_lost, REAL *totals,
                                  REAL *totals_lost)
{
    const size_t together = LANES / at.pitch; /* quantities in one go */
    for (size_t q = 0; q < at.quantities; q += together) {
        const size_t begin = q * at.pitch;
        vec *const s = sum + begin, *const e = lost + begin;
        if (at.rows == LANES && !has_lost) {
            TYPED(add_all_lanes)(s, e, (struct TYPED(places)){1, LANES, LANES}, 0);
        } else {
            const size_t left = at.quantities - q;
            TYPED(add_all_lanes)
            (s, e, (struct TYPED(places)){left < together ? left : together, at.rows, at.pitch}, has_lost);
        }
        const struct TYPED(two_part) all = TYPED(two_sum)(s[0], e[0]);
        vec_store(totals + begin, all.sum);
        vec_store(totals + begin + LANES, all.sum);
        vec_store(totals_lost + begin, all.lost);
        vec_store(totals_lost + begin + LANES, all.lost);
    }
}

/* total / n; 0 where the quantity is not among the sums. */
static KERNEL_INLINE struct TYPED(two_part) TYPED(mean_of)(size_t quantity, const struct TYPED(places) * at,
                                                           const REAL *totals, const REAL *totals_lost, size_t cols)
{
    const vec n = vec_set1((REAL)cols), reciprocal = vec_set1(1 / (REAL)cols), zero = vec_set1(0);
    const REAL *const total = totals + quantity * at->pitch, *const lost = totals_lost + quantity * at->pitch;
    if (quantity >= at->quantities) {
        return (struct TYPED(two_part)){zero, zero};
    }
    const vec sum = vec_load(total);
    const vec quotient = vec_mul(sum, reciprocal);
    return (struct TYPED(two_part)){quotient, vec_mul(vec_add(vec_fnma(quotient, n, sum), vec_load(lost)), reciprocal)};
}

/* The sum of the lanes, in every lane. */
static KERNEL_INLINE vec TYPED(sum_of_lanes)(vec v)
{
    v = vec_add(vec_even(v, v, LANES / 2), vec_odd(v, v, LANES / 2));
    v = vec_add(vec_even(v, v, LANES / 4), vec_odd(v, v, LANES / 4));
    v = vec_add(vec_even(v, v, LANES / 8), vec_odd(v, v, LANES / 8));
    return LANES == 16 ? vec_add(vec_even(v, v, 1), vec_odd(v, v, 1)) : v;
}

/* Where to look for a guess of a row's mean: at the first and the last vector, in a long row at more of them, evenly
 * spread; at all elements where they are less than a vector. */
struct TYPED(sample) {
    size_t vecs, apart, n; /* `n` elements each */
    REAL reciprocal;       /* of their number */
};

static KERNEL_INLINE struct TYPED(sample) TYPED(sample_of)(size_t cols, size_t vecs_if_long)
{
    const size_t n = cols < LANES ? cols : LANES, vecs = cols < LANES ? 1 : cols < STEP ? 2 : vecs_if_long;
    return (struct TYPED(sample)){vecs, (cols - n) / (vecs > 1 ? vecs - 1 : 1), n, 1 / (REAL)(vecs * n)};
}

/* A guess of the mean of x * gamma, or of x * scale where there is no gamma. */
static KERNEL_INLINE REAL TYPED(guess_mean)(const struct TYPED(sample) * at, const REAL *x, const REAL *gamma,
                                            REAL scale)
{
    vec sum = vec_set1(0);
    for (size_t v = 0; v < at->vecs; v++) {
        const vec term = TYPED(load)(x + v * at->apart, at->n);
        sum = gamma != NULL ? vec_fma(term, TYPED(load)(gamma + v * at->apart, at->n), sum)
              : scale != 1  ? vec_fma(term, vec_set1(scale), sum)
                            : vec_add(term, sum);
    }
    REAL total[LANES];
    vec_store(total, TYPED(sum_of_lanes)(sum));
    return total[0] * at->reciprocal;
}

/* The most vectors of a sample. */
#define SAMPLE_VECS ((size_t)8)

/* The same of elements in sources. */
static NOINLINE REAL TYPED(guess_staged_mean)(const struct TYPED(sample) * at, const struct TYPED(source) * x,
                                              const struct TYPED(source) * gamma, REAL scale)
{
    REAL xs[SAMPLE_VECS * LANES], gammas[SAMPLE_VECS * LANES];
    for (size_t v = 0; v < at->vecs; v++) {
        const size_t i = v * at->apart;
        TYPED(widen)(xs + v * LANES, x->at + i * stored_size(x->type), x->type, at->n);
        if (gamma->at != NULL) {
            TYPED(widen)(gammas + v * LANES, gamma->at + i * stored_size(gamma->type), gamma->type, at->n);
        }
    }
    struct TYPED(sample) together = *at;
    together.apart = LANES;
    return TYPED(guess_mean)(&together, xs, gamma->at != NULL ? gammas : NULL, scale);
}

/* gamma or beta as a source: where it fits into the block that it is given, widened once for all rows. */
static KERNEL_INLINE struct TYPED(source) TYPED(parameter)(const void *array, int type, REAL *block, size_t cols)
{
    struct TYPED(source) source = {array, type, block};
    if (array != NULL && type != REAL_TYPE && cols <= BLOCK) {
        TYPED(widen)(block, array, type, cols);
        source.at = (const char *)block;
        source.type = REAL_TYPE;
    }
    return source;
}

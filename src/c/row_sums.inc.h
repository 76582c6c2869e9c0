/* The sums over rows that forward and backward need, in the canonical order.
 *
 * Parameters: TYPE, REAL, and the vec_*.h of an instruction set.
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
 * x - centre the centre could not stay in its register: only what is subtracted may come from memory.) Without dy there
 * is no g, and c * c is summed instead of g * c. */
struct TYPED(row) {
    const REAL *x, *dy, *gamma;
    size_t cols;
    int scaled, has_g, has_gamma;
    REAL scale, centre, g_centre;
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
    const vec x = TYPED(load)(row->x + i, n), centre = vec_set1(row->centre);
    const vec c = TYPED(keep)(row->scaled ? vec_fnma(x, vec_set1(row->scale), centre) : vec_sub(centre, x), n);
    vec g = c;
    if (row->has_g) {
        PREFETCH((const char *)(row->dy + i) + PREFETCH_BYTES);
        const vec dy = TYPED(load)(row->dy + i, n), g_centre = vec_set1(row->g_centre);
        g = row->has_gamma ? vec_fnma(dy, TYPED(load)(row->gamma + i, n), g_centre) : vec_sub(g_centre, dy);
        g = TYPED(keep)(g, n);
        to->g = vec_add(to->g, g);
    }
    to->c = vec_add(to->c, c);
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
    if (!row->has_g) {
        even.c = vec_add(even.c, odd.c);
    }
    return even;
}

/* The sums of a block: the n elements from column i, at most 4 steps. Those of g * c go to sum[0], those of c to
 * sum[pitch] and those of g, if there is one, to sum[2 * pitch]. */
static KERNEL_INLINE void TYPED(sum_block)(const struct TYPED(row) * row, size_t i, size_t n, vec *sum, size_t pitch)
{
    struct TYPED(vec_sums) step = TYPED(sum_step)(row, i, n < STEP ? n : STEP);
    sum[0] = step.gc;
    sum[pitch] = step.c;
    if (row->has_g) {
        sum[2 * pitch] = step.g;
    }
    ROLLED
    for (size_t done = STEP; done < n; done += STEP) {
        step = TYPED(sum_step)(row, i + done, n - done < STEP ? n - done : STEP);
        sum[0] = vec_add(sum[0], step.gc);
        sum[pitch] = vec_add(sum[pitch], step.c);
        if (row->has_g) {
            sum[2 * pitch] = vec_add(sum[2 * pitch], step.g);
        }
    }
}

/* The sums of a row, in the places of those of a block; and in `lost`, where it is longer than one, what they lost. */
static KERNEL_INLINE void TYPED(sum_row)(const struct TYPED(row) * row, vec *sum, vec *lost, size_t pitch)
{
    const size_t cols = row->cols, quantities = row->has_g ? 3 : 2;
    TYPED(sum_block)(row, 0, cols < BLOCK ? cols : BLOCK, sum, pitch);
    for (size_t i = BLOCK; i < cols; i += BLOCK) {
        vec block[3];
        TYPED(sum_block)(row, i, cols - i < BLOCK ? cols - i : BLOCK, block, 1);
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

/* total / n. */
static KERNEL_INLINE struct TYPED(two_part) TYPED(divide)(const REAL *total, const REAL *lost, vec n, vec reciprocal)
{
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

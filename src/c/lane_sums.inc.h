/* The canonical order of the sums over a row, and the end of it, in which sums of a batch of rows go together, one row
 * a lane.
 *
 * Parameters: REAL_NAME, REAL, REAL_TYPE, HAS_16_BITS, and the vec_*.h of an instruction set.
 *
 * The order, which fixes the bits (docs/numerics.md says why it is this one):
 *   - a virtual vector is 64 bytes; the last of a row is filled up with elements that add nothing;
 *   - a step is 8 vectors: the even ones are summed in order, so are the odd ones, then both are added; in backward
 * that holds for the products only, and c and g are summed all in order;
 *   - a block is 8 steps: again the even ones in order, the odd ones in order, then both are added;
 *   - blocks are summed in order, and the error of each addition is found exactly and summed beside them;
 *   - last, the lanes are added pairwise, again with the error of each addition.
 */

#define STEP (STEP_VECS * LANES)
#define BLOCK (BLOCK_STEPS * STEP)

/* Rows of a batch: the lanes of a vector, so that what follows the sums is done for all of them at once. */
#define BATCH_ROWS LANES

/* Vectors whose loads are done before their stores: a store delays later loads from the same place of another page. */
#define TILE_VECS ((size_t)4)

/* Bytes from an element that is read to the one that is asked for ahead. */
#define PREFETCH_BYTES ((size_t)4096)

/* g * c, c and g, summed per lane. */
struct REALED(vec_sums) {
    vec gc, c, g;
};

static KERNEL_INLINE void REALED(add_sums)(struct REALED(vec_sums) * to, struct REALED(vec_sums) of)
{
    to->gc = vec_add(to->gc, of.gc);
    to->c = vec_add(to->c, of.c);
    to->g = vec_add(to->g, of.g);
}

/* The first n lanes, n from 1 to LANES; where the compiler sees that n is LANES, the whole vector. */
static KERNEL_INLINE vec REALED(load)(const REAL *p, size_t n)
{
    return n == LANES ? vec_load(p) : vec_load_first(p, n);
}

static KERNEL_INLINE void REALED(store)(REAL *p, vec v, size_t n)
{
    if (n == LANES) {
        vec_store(p, v);
    } else {
        vec_store_first(p, v, n);
    }
}

static KERNEL_INLINE vec REALED(keep)(vec v, size_t n)
{
    return n == LANES ? v : vec_keep_first(v, n);
}

/* g * c, and with a mean c, and g. */
static KERNEL_INLINE size_t REALED(quantities)(int has_mean, int has_g)
{
    return !has_mean ? 1 : has_g ? 3 : 2;
}

/* Where the sums of a batch lie: those of the first quantity of all rows from 0 on, those of the next from `pitch` on.
 */
struct REALED(places) {
    size_t quantities, rows, pitch;
};

/* The pitch is a power of two, LANES at most; so small that one row's quantities share a vector. */
static KERNEL_INLINE struct REALED(places) REALED(places_of)(size_t quantities, size_t rows)
{
    size_t pitch = quantities > 2 ? LANES / 4 : LANES / 2;
    while (pitch < rows) {
        pitch *= 2;
    }
    return (struct REALED(places)){quantities, rows, pitch};
}

/* One level of adding the lanes of all vectors: lane i to lane i + unit. Vectors v and v + unit become one: v. */
static KERNEL_INLINE void REALED(add_lanes)(vec *sum, vec *lost, struct REALED(places) * at, int has_lost, size_t unit)
{
    const size_t end = unit >= at->pitch ? at->quantities * at->pitch : at->rows;
    for (size_t q = 0; q < at->quantities && q * at->pitch < unit; q++) {
        for (size_t v = q * at->pitch; v < q * at->pitch + at->rows && v < unit; v++) {
            const size_t w = v + unit < end ? v + unit : v;
            const struct REALED(two_part) s =
                REALED(two_sum)(vec_even(sum[v], sum[w], (int)unit), vec_odd(sum[v], sum[w], (int)unit));
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
        at->quantities = unit / at->pitch; /* so many, or more, as a pitch is LANES / 4 of three only */
    }
}

static KERNEL_INLINE void REALED(add_all_lanes)(vec *sum, vec *lost, struct REALED(places) at, int has_lost)
{
    REALED(add_lanes)(sum, lost, &at, has_lost, LANES / 2);
    REALED(add_lanes)(sum, lost, &at, 1, LANES / 4);
    REALED(add_lanes)(sum, lost, &at, 1, LANES / 8);
    if (LANES == 16) {
        REALED(add_lanes)(sum, lost, &at, 1, 1);
    }
}

/* Adds the lanes of each vector, all of which are overwritten; the total of a vector goes to the same place of totals
 * and of what they lost. Both have room for LANES elements behind the last, and are set there to numbers of no meaning.
 */
static NOINLINE void REALED(total)(vec *sum, vec *lost, struct REALED(places) at, int has_lost, REAL *totals,
                                   REAL *totals_lost)
{
    const size_t together = LANES / at.pitch; /* quantities in one go */
    for (size_t q = 0; q < at.quantities; q += together) {
        const size_t begin = q * at.pitch;
        vec *const s = sum + begin, *const e = lost + begin;
        if (at.rows == LANES && !has_lost) {
            REALED(add_all_lanes)(s, e, (struct REALED(places)){1, LANES, LANES}, 0);
        } else {
            const size_t left = at.quantities - q;
            REALED(add_all_lanes)
            (s, e, (struct REALED(places)){left < together ? left : together, at.rows, at.pitch}, has_lost);
        }
        const struct REALED(two_part) all = REALED(two_sum)(s[0], e[0]);
        vec_store(totals + begin, all.sum);
        vec_store(totals + begin + LANES, all.sum);
        vec_store(totals_lost + begin, all.lost);
        vec_store(totals_lost + begin + LANES, all.lost);
    }
}

/* The same of one of the totals; 0 where the quantity is not among them. */
static KERNEL_INLINE struct REALED(two_part) REALED(mean_of)(size_t quantity, const struct REALED(places) * at,
                                                             const REAL *totals, const REAL *totals_lost, size_t cols)
{
    const REAL *const total = totals + quantity * at->pitch, *const lost = totals_lost + quantity * at->pitch;
    if (quantity >= at->quantities) {
        return (struct REALED(two_part)){vec_set1(0), vec_set1(0)};
    }
    return REALED(mean_of_total)(vec_load(total), vec_load(lost), cols);
}

/* The sum of the lanes, in every lane. */
static KERNEL_INLINE vec REALED(sum_of_lanes)(vec v)
{
    v = vec_add(vec_even(v, v, LANES / 2), vec_odd(v, v, LANES / 2));
    v = vec_add(vec_even(v, v, LANES / 4), vec_odd(v, v, LANES / 4));
    v = vec_add(vec_even(v, v, LANES / 8), vec_odd(v, v, LANES / 8));
    return LANES == 16 ? vec_add(vec_even(v, v, 1), vec_odd(v, v, 1)) : v;
}

/* Where to look for a guess of a row's mean: at the first and the last vector, in a long row at more of them, evenly
 * spread; at all elements where they are less than a vector. */
struct REALED(sample) {
    size_t vecs, apart, n; /* `n` elements each */
    REAL reciprocal;       /* of their number */
};

static KERNEL_INLINE struct REALED(sample) REALED(sample_of)(size_t cols, size_t vecs_if_long)
{
    const size_t n = cols < LANES ? cols : LANES, vecs = cols < LANES ? 1 : cols < STEP ? 2 : vecs_if_long;
    return (struct REALED(sample)){vecs, (cols - n) / (vecs > 1 ? vecs - 1 : 1), n, 1 / (REAL)(vecs * n)};
}

/* The most vectors of a sample. */
#define SAMPLE_VECS ((size_t)8)

/* The sums over one row that forward and backward need, in the canonical order.
 *
 * Parameters: TYPE, REAL, and the vec_*.h of an instruction set.
 *
 * The order, which fixes the bits (docs/numerics.md says why it is this one):
 *   - a virtual vector is 64 bytes; the last of a row is filled up with elements that add nothing;
 *   - a step is 8 vectors: the even ones are summed in order, so are the odd ones, then both are added;
 *   - a block is 8 steps: the even ones are summed in order, so are the odd ones, then both are added;
 *   - blocks are summed in order, and the error of each addition is found exactly and summed beside them;
 *   - last, the lanes are added pairwise, again with the error of each addition.
 * So no chain of roundings is longer than about a dozen, however long the row.
 */

#define STEP_VECS ((size_t)8)
#define BLOCK_STEPS ((size_t)8)

/* c, g, and g * c, summed per lane. */
struct TYPED(vec_sums) {
    vec c, g, gc;
};

/* The same of the whole row; sum + lost is the sum to nearly twice the precision of what was added. */
struct TYPED(row_sum) {
    REAL sum, lost;
};
struct TYPED(row_sums) {
    struct TYPED(row_sum) c, g, gc;
};

/* One row as the sums see it: c = x * scale - centre and g = dy * gamma - g_centre. Without dy, g is c. */
struct TYPED(row) {
    const REAL *x, *dy, *gamma;
    size_t cols;
    REAL scale, centre, g_centre;
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
static KERNEL_INLINE void TYPED(two_sum)(REAL a, REAL b, REAL *sum, REAL *lost)
{
    const REAL s = a + b;
    const REAL b_part = s - a;
    *lost = (a - (s - b_part)) + (b - b_part);
    *sum = s;
}

static KERNEL_INLINE void TYPED(vec_two_sum)(vec *sum, vec *lost, vec b)
{
    const vec a = *sum;
    const vec s = vec_add(a, b);
    const vec b_part = vec_sub(s, a);
    *lost = vec_add(*lost, vec_add(vec_sub(a, vec_sub(s, b_part)), vec_sub(b, b_part)));
    *sum = s;
}

static KERNEL_INLINE struct TYPED(vec_sums) TYPED(no_sums)(void)
{
    const vec zero = vec_set1(0);
    return (struct TYPED(vec_sums)){zero, zero, zero};
}

static KERNEL_INLINE void TYPED(add_sums)(struct TYPED(vec_sums) * to, struct TYPED(vec_sums) from)
{
    to->c = vec_add(to->c, from.c);
    to->g = vec_add(to->g, from.g);
    to->gc = vec_add(to->gc, from.gc);
}

/* Adds the n elements from column i, n <= LANES. */
static KERNEL_INLINE void TYPED(add_vec)(struct TYPED(vec_sums) * to, const struct TYPED(row) * row, size_t i, size_t n)
{
    const vec x = TYPED(load)(row->x + i, n);
    const vec c = TYPED(keep)(vec_fma(x, vec_set1(row->scale), vec_set1(-row->centre)), n);
    vec g = c;
    if (row->dy != NULL) {
        const vec dy = TYPED(load)(row->dy + i, n);
        const vec minus_centre = vec_set1(-row->g_centre);
        g = row->gamma != NULL ? vec_fma(dy, TYPED(load)(row->gamma + i, n), minus_centre) : vec_add(dy, minus_centre);
        g = TYPED(keep)(g, n);
        to->g = vec_add(to->g, g);
    }
    to->c = vec_add(to->c, c);
    to->gc = vec_fma(g, c, to->gc);
}

/* The n elements from column i, at most 8 vectors. */
static KERNEL_INLINE struct TYPED(vec_sums) TYPED(sum_step)(const struct TYPED(row) * row, size_t i, size_t n)
{
    struct TYPED(vec_sums) even = TYPED(no_sums)(), odd = TYPED(no_sums)();
    size_t done = 0;
    for (; done + 2 * LANES <= n; done += 2 * LANES) {
        TYPED(add_vec)(&even, row, i + done, LANES);
        TYPED(add_vec)(&odd, row, i + done + LANES, LANES);
    }
    if (done + LANES <= n) {
        TYPED(add_vec)(&even, row, i + done, LANES);
        done += LANES;
        if (done < n) {
            TYPED(add_vec)(&odd, row, i + done, n - done);
        }
    } else if (done < n) {
        TYPED(add_vec)(&even, row, i + done, n - done);
    }
    TYPED(add_sums)(&even, odd);
    return even;
}

/* The n elements from column i, at most 8 steps. */
static KERNEL_INLINE struct TYPED(vec_sums) TYPED(sum_block)(const struct TYPED(row) * row, size_t i, size_t n)
{
    const size_t step = STEP_VECS * LANES;
    struct TYPED(vec_sums) even = TYPED(no_sums)(), odd = TYPED(no_sums)();
    size_t done = 0;
    for (; done + 2 * step <= n; done += 2 * step) {
        TYPED(add_sums)(&even, TYPED(sum_step)(row, i + done, step));
        TYPED(add_sums)(&odd, TYPED(sum_step)(row, i + done + step, step));
    }
    if (done + step <= n) {
        TYPED(add_sums)(&even, TYPED(sum_step)(row, i + done, step));
        done += step;
        if (done < n) {
            TYPED(add_sums)(&odd, TYPED(sum_step)(row, i + done, n - done));
        }
    } else if (done < n) {
        TYPED(add_sums)(&even, TYPED(sum_step)(row, i + done, n - done));
    }
    TYPED(add_sums)(&even, odd);
    return even;
}

static KERNEL_INLINE struct TYPED(row_sums) TYPED(sum_lanes)(struct TYPED(vec_sums) sums, const struct TYPED(row) * row)
{
    REAL sum[2], lost[2];
    struct TYPED(row_sums) all = {0};
    vec_sum2(sums.c, sums.gc, sum, lost);
    all.c = (struct TYPED(row_sum)){sum[0], lost[0]};
    all.gc = (struct TYPED(row_sum)){sum[1], lost[1]};
    if (row->dy != NULL) {
        vec_sum2(sums.g, vec_set1(0), sum, lost);
        all.g = (struct TYPED(row_sum)){sum[0], lost[0]};
    }
    return all;
}

/* Adds the errors of many additions, which together may be more than one rounding of the sum. */
static KERNEL_INLINE void TYPED(carry)(struct TYPED(row_sum) * to, REAL lost)
{
    TYPED(two_sum)(to->sum, to->lost + lost, &to->sum, &to->lost);
}

static KERNEL_INLINE struct TYPED(row_sums) TYPED(sum_row)(const struct TYPED(row) * row)
{
    const size_t block = BLOCK_STEPS * STEP_VECS * LANES;
    const size_t cols = row->cols;
    struct TYPED(vec_sums) sums = TYPED(sum_block)(row, 0, cols < block ? cols : block);
    if (cols <= block) {
        return TYPED(sum_lanes)(sums, row);
    }
    struct TYPED(vec_sums) lost = TYPED(no_sums)();
    for (size_t i = block; i < cols; i += block) {
        const struct TYPED(vec_sums) next = TYPED(sum_block)(row, i, cols - i < block ? cols - i : block);
        TYPED(vec_two_sum)(&sums.c, &lost.c, next.c);
        TYPED(vec_two_sum)(&sums.gc, &lost.gc, next.gc);
        if (row->dy != NULL) {
            TYPED(vec_two_sum)(&sums.g, &lost.g, next.g);
        }
    }
    struct TYPED(row_sums) all = TYPED(sum_lanes)(sums, row);
    const struct TYPED(row_sums) more = TYPED(sum_lanes)(lost, row);
    TYPED(carry)(&all.c, more.c.sum);
    TYPED(carry)(&all.g, more.g.sum);
    TYPED(carry)(&all.gc, more.gc.sum);
    return all;
}

/* (a.sum + a.lost) / n in the same two parts. */
static KERNEL_INLINE struct TYPED(row_sum) TYPED(divide)(struct TYPED(row_sum) a, REAL n, REAL reciprocal)
{
    const REAL quotient = a.sum * reciprocal;
    return (struct TYPED(row_sum)){quotient, (real_fma(-quotient, n, a.sum) + a.lost) * reciprocal};
}

/* Places from which the first guess of a mean is taken: 0, cols/8, 2*(cols/8), ... */
#define SAMPLES ((size_t)8)

static KERNEL_INLINE REAL TYPED(sample_mean)(const REAL s[SAMPLES])
{
    return (((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))) * (REAL)0.125;
}

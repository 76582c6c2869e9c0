/* The sums of dgamma and dbeta over rows: plain within a block of rows, carried on with their errors from block to
 * block and from slab to slab. Parameters: as lane_sums.inc.h, which comes before.
 */

static KERNEL_INLINE REAL *REALED(slab_array)(const struct lnorm_backward_args *args, size_t slab, size_t which,
                                              size_t array)
{
    return (REAL *)args->workspace + ((slab * 2 + which) * LNORM_SLAB_ARRAYS + array) * args->cols;
}

static void REALED(set_zero)(REAL *array, size_t n)
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
static void REALED(fold)(REAL *block, REAL *high, REAL *low, size_t cols)
{
    for (size_t i = 0; i < cols; i += LANES) {
        const size_t n = cols - i < LANES ? cols - i : LANES;
        vec sum = REALED(load)(high + i, n), lost = REALED(load)(low + i, n);
        REALED(add_exactly)(&sum, &lost, REALED(load)(block + i, n));
        REALED(store)(high + i, sum, n);
        REALED(store)(low + i, lost, n);
        REALED(store)(block + i, vec_set1(0), n);
    }
}

/* dgamma and dbeta of the columns from first_col to end_col, from the workspace. */
static void REALED(backward_merge)(const struct lnorm_backward_args *args, size_t first_col, size_t end_col)
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
                REALED(add_exactly)(&sum, &lost,
                                    REALED(load)(REALED(slab_array)(args, slab, which, LNORM_SLAB_HIGH) + i, n));
                lost = vec_add(lost, REALED(load)(REALED(slab_array)(args, slab, which, LNORM_SLAB_LOW) + i, n));
            }
            sum = vec_add(sum, lost);
            if (args->accumulate) {
                sum = vec_add(REALED(load)(sums[which] + i, n), sum);
            }
            REALED(store)(sums[which] + i, sum, n);
        }
    }
}

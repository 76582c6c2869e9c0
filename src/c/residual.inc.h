/* A row that is a sum. Parameters: as lane_sums.inc.h, which comes before. */

/* n elements, n <= LANES, of x + b + residual. */
static KERNEL_INLINE vec REALED(sum_of_three)(const REAL *x, const REAL *b, const REAL *residual, size_t i, size_t n)
{
    vec sum = REALED(load)(x + i, n);
    if (b != NULL) {
        sum = vec_add(sum, REALED(load)(b + i, n));
    }
    return vec_add(sum, REALED(load)(residual + i, n));
}

/* Writes the row of that place of x, args->total: input + input_bias + residual, added in this order. */
static NOINLINE void REALED(add_row)(const struct lnorm_forward_args *args, size_t row)
{
    enum { WIDTH = BLOCK / 4 };
    REAL x_block[WIDTH], residual_block[WIDTH], bias_block[WIDTH], total_block[WIDTH];
    const struct lnorm_output total = {args->total, args->x.stride, 1, args->x.type};
    const struct REALED(source) x_source = REALED(row_source)(&args->input, row, 1, x_block);
    const struct REALED(source) residual_source =
        REALED(row_source)(&args->residual, row % args->residual_rows, 1, residual_block);
    const struct REALED(source) bias_source = REALED(row_source)(&args->input_bias, 0, 1, bias_block);
    const struct REALED(sink) sink = REALED(row_sink)(&total, row, 1, total_block);
    for (size_t i = 0; i < args->cols; i += WIDTH) {
        const size_t n = args->cols - i < WIDTH ? args->cols - i : WIDTH;
        const REAL *const x = REALED(fetch)(&x_source, i, n), *const residual = REALED(fetch)(&residual_source, i, n);
        const REAL *const b = REALED(fetch)(&bias_source, i, n);
        REAL *const to = REALED(place)(&sink, i);
        size_t j = 0;
        ROLLED
        for (; j + TILE_VECS * LANES <= n; j += TILE_VECS * LANES) {
            vec sums[TILE_VECS];
            for (size_t v = 0; v < TILE_VECS; v++) {
                sums[v] = REALED(sum_of_three)(x, b, residual, j + v * LANES, LANES);
            }
            for (size_t v = 0; v < TILE_VECS; v++) {
                vec_store(to + j + v * LANES, sums[v]);
            }
        }
        for (; j < n; j += LANES) {
            const size_t left = n - j < LANES ? n - j : LANES;
            REALED(store)(to + j, REALED(sum_of_three)(x, b, residual, j, left), left);
        }
        REALED(put)(&sink, i, n);
    }
}

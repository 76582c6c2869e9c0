/* The limit loops for one element type, over the library's own vectors.
 *
 * Parameters: TYPE and REAL, as for the kernels. All loads of a step come before its stores: a store delays a load
 * from the address 4096 bytes further on.
 */
static void TYPED(copy)(const struct limit_args *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        const REAL *const a = (const REAL *)args->a + (ptrdiff_t)row * args->stride;
        REAL *const out = (REAL *)args->out + (ptrdiff_t)row * args->stride;
        size_t i = 0;
        for (; args->cols - i >= 4 * LANES; i += 4 * LANES) {
            const vec v0 = vec_load(a + i), v1 = vec_load(a + i + LANES);
            const vec v2 = vec_load(a + i + 2 * LANES), v3 = vec_load(a + i + 3 * LANES);
            vec_store(out + i, v0);
            vec_store(out + i + LANES, v1);
            vec_store(out + i + 2 * LANES, v2);
            vec_store(out + i + 3 * LANES, v3);
        }
        for (; args->cols - i >= LANES; i += LANES) {
            vec_store(out + i, vec_load(a + i));
        }
        if (i < args->cols) {
            vec_store_first(out + i, vec_load_first(a + i, args->cols - i), args->cols - i);
        }
    }
}

static void TYPED(add)(const struct limit_args *args)
{
    for (size_t row = 0; row < args->rows; row++) {
        const REAL *const a = (const REAL *)args->a + (ptrdiff_t)row * args->stride;
        const REAL *const b = (const REAL *)args->b + (ptrdiff_t)row * args->stride;
        REAL *const out = (REAL *)args->out + (ptrdiff_t)row * args->stride;
        size_t i = 0;
        for (; args->cols - i >= 4 * LANES; i += 4 * LANES) {
            const vec v0 = vec_add(vec_load(a + i), vec_load(b + i));
            const vec v1 = vec_add(vec_load(a + i + LANES), vec_load(b + i + LANES));
            const vec v2 = vec_add(vec_load(a + i + 2 * LANES), vec_load(b + i + 2 * LANES));
            const vec v3 = vec_add(vec_load(a + i + 3 * LANES), vec_load(b + i + 3 * LANES));
            vec_store(out + i, v0);
            vec_store(out + i + LANES, v1);
            vec_store(out + i + 2 * LANES, v2);
            vec_store(out + i + 3 * LANES, v3);
        }
        for (; args->cols - i >= LANES; i += LANES) {
            vec_store(out + i, vec_add(vec_load(a + i), vec_load(b + i)));
        }
        if (i < args->cols) {
            const size_t n = args->cols - i;
            vec_store_first(out + i, vec_add(vec_load_first(a + i, n), vec_load_first(b + i, n)), n);
        }
    }
}

/* The sums over the elements of a row. Parameters: TYPE, ELEMENT, IS_16_BITS, and those of lane_sums.inc.h, which
 * comes before.
 */

#if IS_16_BITS
/* Some of a vector's elements. */
static NOINLINE vec TYPED(read_first)(const ELEMENT *p, size_t n)
{
    ELEMENT first[LANES] = {0};
    ROLLED
    for (size_t i = 0; i < n; i++) {
        first[i] = p[i];
    }
    return vec_widen(first);
}

static NOINLINE void TYPED(write_first)(ELEMENT *p, vec v, size_t n)
{
    ELEMENT first[LANES];
    vec_narrow(first, v);
    ROLLED
    for (size_t i = 0; i < n; i++) {
        p[i] = first[i];
    }
}
#endif

/* The first n elements, n from 1 to LANES. */
static KERNEL_INLINE vec TYPED(read)(const ELEMENT *p, size_t n)
{
#if IS_16_BITS
    return n == LANES ? vec_widen(p) : TYPED(read_first)(p, n);
#else
    return REALED(load)(p, n);
#endif
}

static KERNEL_INLINE void TYPED(write)(ELEMENT *p, vec v, size_t n)
{
#if IS_16_BITS
    if (n == LANES) {
        vec_narrow(p, v);
    } else {
        TYPED(write_first)(p, v, n);
    }
#else
    REALED(store)(p, v, n);
#endif
}

/* One row as the sums see it: c = centre - x, where scaled centre - x * scale, and g = g_centre - dy * gamma. (With
 * x - centre the centre could not stay in its register: only what is subtracted may come from memory.) Without a mean
 * c is x and g is dy * gamma, and only their product is summed. Without g that is c * c. Where staged, x, dy and gamma
 * are looked for in the sources; only elements that are REAL can be. */
struct TYPED(row) {
    const ELEMENT *x, *dy;
    const REAL *gamma;
    size_t cols;
    int has_mean, scaled, has_g, has_gamma;
    REAL scale, centre, g_centre;
    const struct REALED(sources) * staged; /* or NULL */
};

/* Adds the n elements from column i, n <= LANES. */
static KERNEL_INLINE void TYPED(add_vec)(struct REALED(vec_sums) * products, struct REALED(vec_sums) * to,
                                         const struct TYPED(row) * row, size_t i, size_t n)
{
    PREFETCH((const char *)(row->x + i) + PREFETCH_BYTES);
    vec c = TYPED(read)(row->x + i, n);
    if (row->has_mean) {
        const vec centre = vec_set1(row->centre);
        c = REALED(keep)(row->scaled ? vec_fnma(c, vec_set1(row->scale), centre) : vec_sub(centre, c), n);
        to->c = vec_add(to->c, c);
    } else if (row->scaled) {
        c = vec_mul(c, vec_set1(row->scale));
    }
    vec g = c;
    if (row->has_g) {
        PREFETCH((const char *)(row->dy + i) + PREFETCH_BYTES);
        g = TYPED(read)(row->dy + i, n);
        if (row->has_mean) {
            const vec g_centre = vec_set1(row->g_centre);
            g = row->has_gamma ? vec_fnma(g, REALED(load)(row->gamma + i, n), g_centre) : vec_sub(g_centre, g);
            g = REALED(keep)(g, n);
            to->g = vec_add(to->g, g);
        } else if (row->has_gamma) {
            g = vec_mul(g, REALED(load)(row->gamma + i, n));
        }
    }
    products->gc = vec_fma(g, c, products->gc);
}

/* The sums of a step: the n elements from column i, at most 8 vectors. Where there is a g, the registers hold a second
 * sum, of the odd vectors, for the products only. */
static KERNEL_INLINE struct REALED(vec_sums) TYPED(sum_step)(const struct TYPED(row) * row, size_t i, size_t n)
{
    const vec zero = vec_set1(0);
    struct REALED(vec_sums) even = {zero, zero, zero}, odd = even;
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

/* Those of g * c go to sum[0], those of c to sum[pitch] and those of g to sum[2 * pitch], where there are such. */
static KERNEL_INLINE void TYPED(put_sums)(struct REALED(vec_sums) of, const struct TYPED(row) * row, vec *sum,
                                          size_t pitch)
{
    sum[0] = of.gc;
    if (row->has_mean) {
        sum[pitch] = of.c;
        if (row->has_g) {
            sum[2 * pitch] = of.g;
        }
    }
}

/* The sums of a block: the n elements from column i, at most 8 steps. Those of no step are 0, and not -0, so that they
 * can be added to 0. */
static KERNEL_INLINE void TYPED(sum_block)(const struct TYPED(row) * row, size_t i, size_t n, vec *sum, size_t pitch)
{
    const vec zero = vec_set1(0);
    const size_t end = i + n;
    struct REALED(vec_sums) even = {zero, zero, zero}, odd = even;
    ROLLED
    while (i < end) {
        REALED(add_sums)(&even, TYPED(sum_step)(row, i, end - i < STEP ? end - i : STEP));
        i += STEP;
        if (i < end) {
            REALED(add_sums)(&odd, TYPED(sum_step)(row, i, end - i < STEP ? end - i : STEP));
            i += STEP;
        }
    }
    REALED(add_sums)(&even, odd);
    TYPED(put_sums)(even, row, sum, pitch);
}

/* The same of any row, staged or not. The branches differ in what the compiler knows. */
static NOINLINE void TYPED(sum_any_block)(const struct TYPED(row) * row, size_t i, size_t n, vec *sum, size_t pitch)
{
    struct TYPED(row) part = *row;
#if !IS_16_BITS
    if (row->staged != NULL) {
        part.x = REALED(fetch)(&row->staged->x, i, n);
        part.dy = REALED(fetch)(&row->staged->dy, i, n);
        part.gamma = REALED(fetch)(&row->staged->gamma, i, n);
        i = 0;
    }
#endif
    part.has_mean = part.scaled = part.has_g = part.has_gamma = 0;
    switch (row->scaled ? 6 : 2 * row->has_g + row->has_mean + (row->has_g ? 2 * row->has_gamma : 0)) {
    case 0:
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    case 1:
        part.has_mean = 1;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    case 2:
        part.has_g = 1;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    case 3:
        part.has_g = part.has_mean = 1;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    case 4:
        part.has_g = part.has_gamma = 1;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    case 5:
        part.has_g = part.has_gamma = part.has_mean = 1;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    default: /* seldom, so that it may be slow */
        part.has_mean = row->has_mean;
        part.scaled = 1;
        part.has_g = row->has_g;
        part.has_gamma = row->has_gamma;
        TYPED(sum_block)(&part, i, n, sum, pitch);
        break;
    }
}

/* The sums of a row from the element `begin` on, where a block begins, added to those before it; and in `lost`, where
 * the row is longer than a block, what they lost. */
static NOINLINE void TYPED(sum_blocks)(const struct TYPED(row) * row, size_t begin, vec *sum, vec *lost, size_t pitch)
{
    const size_t cols = row->cols, quantities = REALED(quantities)(row->has_mean, row->has_g);
    for (size_t i = begin; i < cols; i += BLOCK) {
        const size_t n = cols - i < BLOCK ? cols - i : BLOCK;
        vec block[3];
        if (i == 0) {
            TYPED(sum_any_block)(row, i, n, sum, pitch);
            continue;
        }
        TYPED(sum_any_block)(row, i, n, block, 1);
        for (size_t q = 0; q < quantities; q++) {
            vec errors = i == BLOCK ? vec_set1(0) : lost[q * pitch];
            REALED(add_exactly)(&sum[q * pitch], &errors, block[q]);
            lost[q * pitch] = errors;
        }
    }
}

/* The sums of a row that is not staged. Its first block is worth a copy of the code, and a single step one more. */
static KERNEL_INLINE void TYPED(sum_row)(const struct TYPED(row) * row, vec *sum, vec *lost, size_t pitch)
{
    const size_t cols = row->cols;
    if (cols <= STEP) {
        TYPED(put_sums)(TYPED(sum_step)(row, 0, cols), row, sum, pitch);
        return;
    }
    TYPED(sum_block)(row, 0, cols < BLOCK ? cols : BLOCK, sum, pitch);
    if (cols > BLOCK) {
        const struct TYPED(row) in_memory = *row; /* and only here */
        TYPED(sum_blocks)(&in_memory, BLOCK, sum, lost, pitch);
    }
}

/* A guess of the mean of x * gamma, or of x * scale where there is no gamma. */
static KERNEL_INLINE REAL TYPED(guess_mean)(const struct REALED(sample) * at, const ELEMENT *x, const REAL *gamma,
                                            REAL scale)
{
    vec sum = vec_set1(0);
    for (size_t v = 0; v < at->vecs; v++) {
        const vec term = TYPED(read)(x + v * at->apart, at->n);
        sum = gamma != NULL ? vec_fma(term, REALED(load)(gamma + v * at->apart, at->n), sum)
              : scale != 1  ? vec_fma(term, vec_set1(scale), sum)
                            : vec_add(term, sum);
    }
    REAL total[LANES];
    vec_store(total, REALED(sum_of_lanes)(sum));
    return total[0] * at->reciprocal;
}

#if !IS_16_BITS
/* The same of elements in sources. */
static NOINLINE REAL TYPED(guess_staged_mean)(const struct REALED(sample) * at, const struct REALED(source) * x,
                                              const struct REALED(source) * gamma, REAL scale)
{
    REAL xs[SAMPLE_VECS * LANES], gammas[SAMPLE_VECS * LANES];
    if (x->plain && (gamma->at == NULL || gamma->plain)) {
        return TYPED(guess_mean)(at, (const REAL *)(const void *)x->at, (const REAL *)(const void *)gamma->at, scale);
    }
    for (size_t v = 0; v < at->vecs; v++) {
        const size_t i = v * at->apart;
        REALED(fill)(xs + v * LANES, x, i, at->n);
        if (gamma->at != NULL) {
            REALED(fill)(gammas + v * LANES, gamma, i, at->n);
        }
    }
    struct REALED(sample) together = *at;
    together.apart = LANES;
    return TYPED(guess_mean)(&together, xs, gamma->at != NULL ? gammas : NULL, scale);
}
#endif

/* The same of a row, staged or not: of its g where it has one, else of x. */
static KERNEL_INLINE REAL TYPED(guess_any_mean)(const struct REALED(sample) * at, const struct TYPED(row) * row,
                                                REAL scale)
{
#if !IS_16_BITS
    if (row->staged != NULL) {
        const struct REALED(sources) *const from = row->staged;
        return TYPED(guess_staged_mean)(at, row->has_g ? &from->dy : &from->x, &from->gamma, scale);
    }
#endif
    return TYPED(guess_mean)(at, row->has_g ? row->dy : row->x, row->gamma, scale);
}

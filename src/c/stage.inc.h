/* Elements that are not plain: of another type than REAL, not side by side, or in need of a computation. They are
 * brought into a buffer, and out of one, a block at a time. Parameters: as lane_sums.inc.h, which comes before.
 */

/* n elements; `to` has room for whole vectors. */
static NOINLINE void REALED(widen)(REAL *to, const void *from, int type, size_t n)
{
    size_t i = 0;
#if HAS_16_BITS
    if (type != REAL_TYPE) {
        const uint16_t *const p = from;
        uint16_t last[LANES] = {0};
        for (; i + LANES <= n; i += LANES) {
            vec_store(to + i, type == LNORM_F16 ? vec_widen_f16(p + i) : vec_widen_bf16(p + i));
        }
        for (size_t j = i; j < n; j++) {
            last[j - i] = p[j];
        }
        if (i < n) {
            vec_store(to + i, type == LNORM_F16 ? vec_widen_f16(last) : vec_widen_bf16(last));
        }
        return;
    }
#else
    (void)type;
#endif
    for (; i + LANES <= n; i += LANES) {
        vec_store(to + i, vec_load((const REAL *)from + i));
    }
    if (i < n) {
        vec_store(to + i, vec_load_first((const REAL *)from + i, n - i));
    }
}

static NOINLINE void REALED(narrow)(void *to, int type, const REAL *from, size_t n)
{
#if HAS_16_BITS
    if (type != REAL_TYPE) {
        uint16_t *const p = to;
        uint16_t last[LANES];
        for (size_t i = 0; i < n; i += LANES) {
            const size_t some = n - i < LANES ? n - i : LANES;
            const vec v = REALED(load)(from + i, some);
            uint16_t *const at = some < LANES ? last : p + i;
            if (type == LNORM_F16) {
                vec_narrow_f16(at, v);
            } else {
                vec_narrow_bf16(at, v);
            }
        }
        for (size_t j = n / LANES * LANES; j < n; j++) {
            p[j] = last[j % LANES];
        }
        return;
    }
#else
    (void)type;
#endif
    for (size_t i = 0; i < n; i += LANES) {
        const size_t some = n - i < LANES ? n - i : LANES;
        REALED(store)((REAL *)to + i, REALED(load)(from + i, some), some);
    }
}

/* ---- From memory ---- */

/* The elements of one argument of a row, absent where `at` is NULL; where they are not plain, a buffer for a block. */
struct REALED(source) {
    const char *at;
    int type, plain, plus_one;
    ptrdiff_t step; /* elements from one to the next */
    size_t run;     /* times that each is used */
    REAL *buffer;
    const struct REALED(from_y) * from_y; /* elements are those of y */
};

/* Those of a row. */
struct REALED(sources) {
    struct REALED(source) x, dy, gamma;
};

/* How the elements of y become those of x - mean. */
struct REALED(from_y) {
    const struct REALED(source) * gamma, *beta;
    REAL inverse_rstd, limit; /* the largest |xhat| that there can be */
};

static INLINE struct REALED(source)
    REALED(row_source)(const struct lnorm_input *from, size_t row, size_t inner, REAL *buffer)
{
    const char *const base = from->at;
    const ptrdiff_t offset = lnorm_row_offset(row, from->stride, inner) * (ptrdiff_t)lnorm_type_size(from->type);
    return (struct REALED(source)){.at = base != NULL ? base + offset : NULL,
                                   .type = from->type,
                                   .plain = from->type == REAL_TYPE && from->step == 1,
                                   .step = from->step,
                                   .run = 1,
                                   .buffer = buffer};
}

/* The same elements without the first ones. */
static INLINE struct REALED(source) REALED(from_element)(struct REALED(source) source, size_t first)
{
    source.at += (ptrdiff_t)first * source.step * (ptrdiff_t)lnorm_type_size(source.type);
    return source;
}

/* n elements that are `step` apart, not as they would be side by side. */
static NOINLINE void REALED(gather)(REAL *to, const char *from, int type, ptrdiff_t step, size_t n)
{
    if (type == REAL_TYPE) {
        const REAL *const p = (const REAL *)(const void *)from;
        for (size_t j = 0; j < n; j++) {
            to[j] = p[(ptrdiff_t)j * step];
        }
        return;
    }
    const uint16_t *const p = (const uint16_t *)(const void *)from;
    for (size_t i = 0; i < n; i += LANES) {
        uint16_t some[LANES];
        const size_t m = n - i < LANES ? n - i : LANES;
        for (size_t j = 0; j < m; j++) {
            some[j] = p[(ptrdiff_t)(i + j) * step];
        }
        REALED(widen)(to + i, some, type, m);
    }
}

/* n elements from the i-th on, of which each stands for `run`. */
static NOINLINE void REALED(repeat)(REAL *to, const struct REALED(source) * from, size_t i, size_t n)
{
    const size_t size = lnorm_type_size(from->type);
    size_t left = from->run - i % from->run;
    for (size_t k = i / from->run, j = 0; j < n; k++, left = from->run) {
        REAL one[LANES];
        REALED(widen)(one, from->at + k * size, from->type, 1);
        for (const size_t end = n - j < left ? n : j + left; j < end; j++) {
            to[j] = one[0];
        }
    }
}

static INLINE const REAL *REALED(fetch)(const struct REALED(source) * from, size_t i, size_t n);

static NOINLINE void REALED(undo_affine)(REAL *y, const struct REALED(from_y) * from, size_t i, size_t n)
{
    const REAL *const gamma = REALED(fetch)(from->gamma, i, n), *const beta = REALED(fetch)(from->beta, i, n);
    for (size_t j = 0; j < n; j++) {
        const REAL product = beta != NULL ? y[j] - beta[j] : y[j];
        const REAL factor = gamma != NULL ? gamma[j] : 1, size = factor < 0 ? -factor : factor;
        REAL xhat = size < FROM_Y_LEAST_GAMMA ? 0 : product / factor;
        xhat = xhat > from->limit ? from->limit : xhat < -from->limit ? -from->limit : xhat;
        y[j] = xhat * from->inverse_rstd;
    }
}

/* n elements from the i-th on; `to` has room for whole vectors. */
static NOINLINE void REALED(fill)(REAL *to, const struct REALED(source) * from, size_t i, size_t n)
{
    const ptrdiff_t size = (ptrdiff_t)lnorm_type_size(from->type);
    if (from->run > 1) {
        REALED(repeat)(to, from, i, n);
    } else if (from->step != 1) {
        REALED(gather)(to, from->at + (ptrdiff_t)i * from->step * size, from->type, from->step, n);
    } else {
        REALED(widen)(to, from->at + (ptrdiff_t)i * size, from->type, n);
    }
    for (size_t j = 0; from->plus_one && j < n; j++) {
        to[j] += 1;
    }
    if (!LNORM_WITHOUT_BACKWARD && from->from_y != NULL) {
        REALED(undo_affine)(to, from->from_y, i, n);
    }
}

/* The same, where they are or in the buffer, at most a block; NULL where the argument is absent. */
static INLINE const REAL *REALED(fetch)(const struct REALED(source) * from, size_t i, size_t n)
{
    if (from->at == NULL || from->plain) {
        return from->at != NULL ? (const REAL *)(const void *)from->at + i : NULL;
    }
    REALED(fill)(from->buffer, from, i, n);
    return from->buffer;
}

/* ---- To memory ---- */

/* Where the elements of an output's row go; where they are not plain, through a buffer for a block. */
struct REALED(sink) {
    char *at;
    int type, plain;
    ptrdiff_t step;
    REAL *buffer;
};

static INLINE struct REALED(sink)
    REALED(row_sink)(const struct lnorm_output *to, size_t row, size_t inner, REAL *buffer)
{
    char *const base = to->at;
    const ptrdiff_t offset = lnorm_row_offset(row, to->stride, inner) * (ptrdiff_t)lnorm_type_size(to->type);
    return (struct REALED(sink)){base + offset, to->type, to->type == REAL_TYPE && to->step == 1, to->step, buffer};
}

/* n elements from the i-th on, from REAL elements of which whole vectors can be read. */
static NOINLINE void REALED(put_from)(const struct REALED(sink) * to, const REAL *from, size_t i, size_t n)
{
    const ptrdiff_t size = (ptrdiff_t)lnorm_type_size(to->type);
    char *const at = to->at + (ptrdiff_t)i * to->step * size;
    if (to->step == 1) {
        REALED(narrow)(at, to->type, from, n);
    } else if (to->type == REAL_TYPE) {
        for (size_t j = 0; j < n; j++) {
            ((REAL *)(void *)at)[(ptrdiff_t)j * to->step] = from[j];
        }
    } else {
        for (size_t k = 0; k < n; k += LANES) {
            uint16_t some[LANES];
            const size_t m = n - k < LANES ? n - k : LANES;
            REALED(narrow)(some, to->type, from + k, m);
            for (size_t j = 0; j < m; j++) {
                ((uint16_t *)(void *)at)[(ptrdiff_t)(k + j) * to->step] = some[j];
            }
        }
    }
}

/* Where n elements from the i-th on are to be written before they are `put`: where they belong, or the buffer. */
static INLINE REAL *REALED(place)(const struct REALED(sink) * to, size_t i)
{
    return to->plain ? (REAL *)(void *)to->at + i : to->buffer;
}

static INLINE void REALED(put)(const struct REALED(sink) * to, size_t i, size_t n)
{
    if (!to->plain) {
        REALED(put_from)(to, to->buffer, i, n);
    }
}

/* ---- Parameters ---- */

/* gamma or beta: where what belongs to a row fits into the block, it is prepared once for all rows that share it. */
struct REALED(parameter) {
    struct REALED(source) source;
    size_t offset; /* of what is in the block */
    REAL block[BLOCK];
};

static INLINE void REALED(begin_parameter)(struct REALED(parameter) * parameter)
{
    parameter->offset = SIZE_MAX;
}

static INLINE const struct REALED(source) * REALED(parameter_of)(struct REALED(parameter) * parameter,
                                                                 const void *array, const struct lnorm_params *params,
                                                                 int plus_one, size_t cols, size_t outer)
{
    const size_t offset = lnorm_param_offset(params, cols, outer);
    if (offset != parameter->offset) {
        struct REALED(source) *const source = &parameter->source;
        parameter->offset = offset;
        *source = (struct REALED(source)){.at = array,
                                          .type = params->type,
                                          .plain = params->type == REAL_TYPE && params->run == 1 && !plus_one,
                                          .plus_one = plus_one,
                                          .step = 1,
                                          .run = params->run,
                                          .buffer = parameter->block};
        if (array != NULL) {
            source->at += offset * lnorm_type_size(params->type);
            if (!source->plain && cols <= BLOCK) {
                REALED(fill)(parameter->block, source, 0, cols);
                *source = (struct REALED(source)){
                    .at = (const char *)parameter->block, .type = REAL_TYPE, .plain = 1, .step = 1, .run = 1};
            }
        }
    }
    return &parameter->source;
}

/* n elements rounded to another type; whole vectors are written. */
static NOINLINE void REALED(round_to)(REAL *elements, int type, size_t n)
{
    uint16_t some[LANES];
    for (size_t i = 0; type != REAL_TYPE && i < n; i += LANES) {
        const size_t count = n - i < LANES ? n - i : LANES;
        REALED(narrow)(some, type, elements + i, count);
        REALED(widen)(elements + i, some, type, count);
    }
}

/* All of a parameter that has few columns, as it is used. */
struct REALED(prepared) {
    REAL values[LNORM_PREPARED_COLS];
};

static INLINE int REALED(needs_preparing)(const struct lnorm_params *params)
{
    return (params->gamma != NULL && (params->type != REAL_TYPE || params->plus_one)) ||
           (params->beta != NULL && params->type != REAL_TYPE);
}

static INLINE const REAL *REALED(prepare)(struct REALED(prepared) * to, const void *array,
                                          const struct lnorm_params *params, int plus_one, size_t cols)
{
    const struct REALED(source) source = {.at = array, .type = params->type, .plus_one = plus_one, .step = 1, .run = 1};
    if (array != NULL) {
        REALED(fill)(to->values, &source, 0, cols);
    }
    return array != NULL ? to->values : NULL;
}

/* Elements that are not REAL in memory: they are brought into a buffer, and out of one, a block at a time.
 * Parameters: as lane_sums.inc.h, which comes before.
 */

/* The elements of one argument of a row, absent where `at` is NULL; where they are not REAL, a buffer for a block. */
struct REALED(source) {
    const char *at;
    int type;
    REAL *buffer;
};

/* A row of a tensor, to read and to write. */

static INLINE struct REALED(source)
    REALED(row_source)(const void *base, size_t row, ptrdiff_t stride, int type, REAL *buffer)
{
    return (struct REALED(source)){(const char *)base + (ptrdiff_t)row * stride * (ptrdiff_t)lnorm_type_size(type),
                                   type, buffer};
}

static INLINE char *REALED(row_target)(void *base, size_t row, ptrdiff_t stride, int type)
{
    return (char *)base + (ptrdiff_t)row * stride * (ptrdiff_t)lnorm_type_size(type);
}

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

/* n elements; whole vectors of `from` are read. */
static NOINLINE void REALED(narrow)(void *to, int type, const REAL *from, size_t n)
{
    size_t i = 0;
#if HAS_16_BITS
    if (type != REAL_TYPE) {
        uint16_t *const p = to;
        uint16_t last[LANES];
        for (; i < n; i += LANES) {
            uint16_t *const at = n - i < LANES ? last : p + i;
            if (type == LNORM_F16) {
                vec_narrow_f16(at, vec_load(from + i));
            } else {
                vec_narrow_bf16(at, vec_load(from + i));
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
    for (; i < n; i += LANES) {
        const size_t left = n - i;
        if (left < LANES) {
            vec_store_first((REAL *)to + i, vec_load(from + i), left);
        } else {
            vec_store((REAL *)to + i, vec_load(from + i));
        }
    }
}

/* n elements from the i-th on, at most a block: where they are, or in the buffer; NULL where the argument is absent. */
static INLINE const REAL *REALED(fetch)(const struct REALED(source) * from, size_t i, size_t n)
{
    if (from->at == NULL || from->type == REAL_TYPE) {
        return from->at != NULL ? (const REAL *)from->at + i : NULL;
    }
    REALED(widen)(from->buffer, from->at + i * lnorm_type_size(from->type), from->type, n);
    return from->buffer;
}

/* Where n elements from the i-th on are to be written before they are `put`: where they belong, or the buffer. */
static INLINE REAL *REALED(place)(char *to, int type, REAL *buffer, size_t i)
{
    return type == REAL_TYPE ? (REAL *)to + i : buffer;
}

static INLINE void REALED(put)(char *to, int type, const REAL *buffer, size_t i, size_t n)
{
    if (type != REAL_TYPE) {
        REALED(narrow)(to + i * lnorm_type_size(type), type, buffer, n);
    }
}

/* gamma or beta: where it fits into the block that it is given, widened once for all rows. */
static INLINE struct REALED(source) REALED(parameter)(const void *array, int type, REAL *block, size_t cols)
{
    struct REALED(source) source = {array, type, block};
    if (array != NULL && type != REAL_TYPE && cols <= BLOCK) {
        REALED(widen)(block, array, type, cols);
        source.at = (const char *)block;
        source.type = REAL_TYPE;
    }
    return source;
}

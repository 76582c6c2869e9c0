/* Numbers of nearly twice the precision. Parameters: as lane_sums.inc.h. */

/* A number in each lane to nearly twice the precision: sum + lost. */
struct REALED(two_part) {
    vec sum, lost;
};

/* a + b exactly, as the rounded sum and what rounding lost (Knuth). */
static KERNEL_INLINE struct REALED(two_part) REALED(two_sum)(vec a, vec b)
{
    const vec s = vec_add(a, b);
    const vec b_part = vec_sub(s, a);
    return (struct REALED(two_part)){s, vec_add(vec_sub(a, vec_sub(s, b_part)), vec_sub(b, b_part))};
}

static KERNEL_INLINE void REALED(add_exactly)(vec *sum, vec *lost, vec term)
{
    const struct REALED(two_part) s = REALED(two_sum)(*sum, term);
    *sum = s.sum;
    *lost = vec_add(*lost, s.lost);
}

/* sum / n. */
static KERNEL_INLINE struct REALED(two_part) REALED(mean_of_total)(vec sum, vec lost, size_t cols)
{
    const vec n = vec_set1((REAL)cols), reciprocal = vec_set1(1 / (REAL)cols);
    const vec quotient = vec_mul(sum, reciprocal);
    return (struct REALED(two_part)){quotient, vec_mul(vec_add(vec_fnma(quotient, n, sum), lost), reciprocal)};
}

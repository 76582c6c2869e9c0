/* The statistics of a batch of rows, one row a lane, from their sums. The formulas are explained in
 * forward_kernel.inc.h. Parameters: as lane_sums.inc.h; after two_parts.inc.h.
 */

/* What the sums of a batch give, one row a lane, all of scale * row. */
struct REALED(moments) {
    REAL mean[LANES], rstd[LANES], centre[LANES], rstd_lost[LANES], shift[LANES];
    REAL verdict[LANES];
};

/* The statistics of scale * row, one row a lane: mean + mean_lost and var + var_lost. lo_square is the square of what
 * the centre, which the sums were taken around, is off the mean. */
struct REALED(statistics) {
    vec mean, mean_lost, var, var_lost, lo_square;
};

/* From the means of c * c and of c, and the centre. */
static KERNEL_INLINE struct REALED(statistics)
    REALED(statistics_from)(struct REALED(two_part) square, struct REALED(two_part) lo, vec centre)
{
    const vec zero = vec_set1(0);
    const struct REALED(two_part) mean = REALED(two_sum)(centre, vec_sub(zero, lo.sum));

    /* square - lo*lo, with what each rounding loses. */
    const vec lo_square = vec_mul(lo.sum, lo.sum);
    const vec lo_square_lost =
        vec_fma(vec_add(lo.sum, lo.sum), lo.lost, vec_fma(lo.sum, lo.sum, vec_sub(zero, lo_square)));
    const struct REALED(two_part) var = REALED(two_sum)(square.sum, vec_sub(zero, lo_square));
    return (struct REALED(statistics)){mean.sum, vec_sub(mean.lost, lo.lost), var.sum,
                                       vec_add(vec_sub(square.lost, lo_square_lost), var.lost), lo_square};
}

/* eps is that of the scaled rows. */
static KERNEL_INLINE void REALED(finish_statistics)(struct REALED(moments) * m, const struct REALED(statistics) * of,
                                                    REAL eps)
{
    const vec zero = vec_set1(0), half = vec_set1((REAL)0.5), one = vec_set1(1);
    const struct REALED(two_part) v = REALED(two_sum)(of->var, vec_set1(eps));
    const vec lost = vec_add(of->var_lost, v.lost);

    /* 1 / sqrt(v + lost), corrected to first order in what root, quotient and `lost` leave. */
    const vec root = vec_sqrt(v.sum);
    const vec inverse = vec_div(one, root);
    const vec root_error = vec_mul(vec_mul(vec_add(vec_fnma(root, root, v.sum), lost), inverse), half);
    const vec relative = vec_fnma(inverse, root_error, vec_fnma(inverse, root, one));
    vec rstd = vec_fma(inverse, relative, inverse);
    vec rstd_lost = vec_fma(inverse, relative, vec_sub(inverse, rstd));

    /* A row without variance, and eps = 0: xhat is 0. What is not a number stays none. */
    const vec nothing = vec_mul(v.sum, zero);
    rstd = vec_if_less(zero, v.sum, rstd, nothing);
    rstd_lost = vec_if_less(zero, v.sum, rstd_lost, nothing);

    const vec two_mean = vec_add(of->mean, of->mean), two_mean_square = vec_mul(two_mean, two_mean);
    const vec shift = vec_mul(of->mean_lost, rstd);
    const vec out_of_range = vec_set1((REAL)OUT_OF_RANGE);
    vec verdict = vec_if_less(two_mean_square, of->var, vec_set1((REAL)DIRECT), vec_set1((REAL)CENTRED));
    verdict = vec_if_less(of->var, vec_add(of->lo_square, of->lo_square), vec_set1((REAL)OFF_CENTRE), verdict);
    verdict = vec_if_less(v.sum, vec_set1((REAL)REAL_TINY), out_of_range, verdict);
    verdict = vec_if_less(v.sum, vec_set1(REAL_MAX), verdict, out_of_range);
    vec_store(m->mean, of->mean);
    vec_store(m->rstd, rstd);
    vec_store(m->centre, vec_if_less(two_mean_square, of->var, zero, of->mean));
    vec_store(m->rstd_lost, vec_if_less(two_mean_square, of->var, zero, rstd_lost));
    vec_store(m->shift, vec_sub(zero, vec_if_less(two_mean_square, of->var, vec_fma(of->mean, rstd, shift), shift)));
    vec_store(m->verdict, verdict);
}

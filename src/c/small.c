/* LNORM_SMALL: lnorm_forward_f32 and lnorm_quantized_forward of such rows, for machines of a few kilobytes. The order
 * of the sums is that of lane_sums.inc.h, and so are the bits; but the lanes are walked one after the other, and no
 * array of sums is kept. A lane takes every sixteenth element, which costs little where there is no cache to miss.
 */
#include "compiler.h"

#if LNORM_SMALL
#include "kernels.h"

#define ISA small
#define REAL_NAME f32
#define REAL float
#define REAL_TINY 0x1p-96f
#define REAL_MAX FLT_MAX
#define REAL_BITS uint32_t
#define REAL_ROUNDER 0x1.8p23f
#define BLOCK 1
#define KERNEL_INLINE inline
#define LANES 1
#include "names.h"
#include "vec_one.h"

#include "two_parts.inc.h"

#include "statistics.inc.h"

#if !LNORM_WITHOUT_QUANTIZED
#include "check_scale.h"
#include "quantize.inc.h"
#endif

enum { LANES_OF_ORDER = 16, LEVELS = 5, SAMPLES_OF_LONG_ROW = 8 };

/* A row as its sums see it: c = centre - x * scale. */
struct row {
    const float *x;
    size_t cols;
    float scale, centre;
};

/* The quantities that are summed: c * c and c. */
enum { SQUARE, C, QUANTITIES };

struct sums {
    struct REALED(two_part) of[QUANTITIES];
};

static void add_chain(float to[QUANTITIES], const float of[QUANTITIES])
{
    for (int q = 0; q < QUANTITIES; q++) {
        to[q] += of[q];
    }
}

/* A lane's sums of the block that begins with vector `v`: those of the even steps, to which the odd ones are added; in
 * each step those of the even vectors, to which the odd ones are added. */
static void sum_block(float parts[2][QUANTITIES], const struct row *row, size_t lane, size_t v)
{
    parts[0][SQUARE] = parts[0][C] = parts[1][SQUARE] = parts[1][C] = 0;
    for (size_t step = 0; step < BLOCK_STEPS && v * LANES_OF_ORDER < row->cols; step++) {
        float chains[2][QUANTITIES];
        chains[0][SQUARE] = chains[0][C] = chains[1][SQUARE] = chains[1][C] = 0;
        for (size_t end = v + STEP_VECS; v < end; v++) {
            const size_t i = v * LANES_OF_ORDER + lane;
            if (i < row->cols) {
                const float c = fma_f32(-row->x[i], row->scale, row->centre);
                chains[v % 2][SQUARE] = fma_f32(c, c, chains[v % 2][SQUARE]);
                chains[v % 2][C] += c;
            }
        }
        add_chain(chains[0], chains[1]);
        add_chain(parts[step % 2], chains[0]);
    }
    add_chain(parts[0], parts[1]);
}

/* The lanes in the order in which they meet: each with the one 8 further on, those sums with the ones 4 further on ...
 */
static const unsigned char lane_at[LANES_OF_ORDER] = {0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15};

static void add_sums(struct sums *to, const struct sums *of)
{
    for (int q = 0; q < QUANTITIES; q++) {
        to->of[q].lost += of->of[q].lost;
        REALED(add_exactly)(&to->of[q].sum, &to->of[q].lost, of->of[q].sum);
    }
}

/* Lane after lane, with a sum of 1, 2, 4, 8 lanes waiting for the other half. */
static void sum_lanes(struct sums waiting[LEVELS], const struct row *row)
{
    for (size_t k = 0; k < LANES_OF_ORDER; k++) {
        size_t level = 0;
        struct sums all;
        for (int q = 0; q < QUANTITIES; q++) { /* not an initializer, which may call memset */
            all.of[q].sum = all.of[q].lost = 0;
        }
        for (size_t v = 0; v * LANES_OF_ORDER < row->cols; v += STEP_VECS * BLOCK_STEPS) {
            float block[2][QUANTITIES];
            sum_block(block, row, lane_at[k], v);
            add_sums(&all, &(const struct sums){{{block[0][SQUARE], 0}, {block[0][C], 0}}});
        }
        for (; (k >> level & 1) != 0; level++) {
            add_sums(&waiting[level], &all);
            all = waiting[level];
        }
        waiting[level] = all;
    }
}

static struct REALED(two_part) mean_of(struct REALED(two_part) sum, size_t cols)
{
    const struct REALED(two_part) all = REALED(two_sum)(sum.sum, sum.lost);
    return REALED(mean_of_total)(all.sum, all.lost, cols);
}

/* Returns the variance of scale * row. */
static float statistics_of(struct REALED(moments) * m, const struct row *row, float eps)
{
    struct sums waiting[LEVELS];
    sum_lanes(waiting, row);
    const struct sums *const all = &waiting[LEVELS - 1];
    const struct REALED(statistics) s =
        REALED(statistics_from)(mean_of(all->of[SQUARE], row->cols), mean_of(all->of[C], row->cols), row->centre);
    REALED(finish_statistics)(m, &s, eps);
    return s.var;
}

static float guess_mean(const struct row *row)
{
    const size_t n = row->cols < LANES_OF_ORDER ? row->cols : LANES_OF_ORDER;
    const size_t samples = row->cols < LANES_OF_ORDER               ? 1
                           : row->cols < STEP_VECS * LANES_OF_ORDER ? 2
                                                                    : SAMPLES_OF_LONG_ROW;
    const size_t apart = (row->cols - n) / (samples > 1 ? samples - 1 : 1);
    float waiting[LEVELS];
    for (size_t k = 0; k < LANES_OF_ORDER; k++) {
        size_t level = 0;
        float sum = 0;
        for (size_t sample = 0; sample < samples && lane_at[k] < n; sample++) {
            sum = fma_f32(row->x[sample * apart + lane_at[k]], row->scale, sum);
        }
        for (; (k >> level & 1) != 0; level++) {
            sum = waiting[level] + sum;
        }
        waiting[level] = sum;
    }
    return waiting[LEVELS - 1] * (1 / (float)(samples * n));
}

/* The power of two that brings the largest of |x| and sqrt(eps) near 1; 1 where there is nothing to scale. */
static float choose_scale(const struct row *row, float eps)
{
    float largest = 0, scale = 1;
    for (size_t i = 0; i < row->cols; i++) {
        const float a = ABS_F32(row->x[i]);
        if (!(a <= FLT_MAX)) {
            return 1;
        }
        largest = a > largest ? a : largest;
    }
    for (; largest * largest < eps; largest = largest > 0 ? largest * 2 : FLT_MIN) {
    }
    if (largest > 0) {
        for (; largest * scale > 1; scale *= 0.5f) {
        }
        for (; largest * scale < 0.5f && scale < 0x1p126f; scale *= 2) {
        }
    }
    return scale;
}

/* The statistics of a row, whose scale is 1 as yet: as forward_kernel.inc.h goes about it. */
static void find_statistics(struct REALED(moments) * m, struct row *row, float eps)
{
    float scaled_eps = eps;
    int moved = 0;
    row->centre = guess_mean(row);
    for (int first = 1;; first = 0) {
        const float var = statistics_of(m, row, scaled_eps);
        if (first && m->verdict[0] == (float)OUT_OF_RANGE) {
            row->scale = choose_scale(row, eps);
            row->centre = guess_mean(row);
            scaled_eps = eps * row->scale * row->scale;
        } else if (!moved && m->verdict[0] == (float)OFF_CENTRE) {
            row->centre = m->mean[0];
            moved = 1;
        } else if (!(var > 0) && row->scale < 1) { /* as there, of equal elements */
            row->centre = m->mean[0] / row->scale;
            row->scale = 1;
            scaled_eps = eps;
        } else {
            break;
        }
    }
}

static float normalized(const struct row *row, const struct REALED(moments) * m, const float *gamma, const float *beta,
                        size_t i)
{
    const float c = fma_f32(row->x[i], row->scale, -m->centre[0]);
    const float xhat = fma_f32(c, m->rstd[0], fma_f32(c, m->rstd_lost[0], m->shift[0]));
    return fma_f32(xhat, gamma != NULL ? gamma[i] : 1, beta != NULL ? beta[i] : -0.0f);
}

static void write_statistics(const struct REALED(moments) * m, const struct row *row, size_t r, float *mean,
                             float *rstd)
{
    if (mean != NULL) {
        mean[r] = m->mean[0] / row->scale;
    }
    if (rstd != NULL) {
        rstd[r] = m->rstd[0] * row->scale;
    }
}

/* Of all arguments, the outputs come first, y before the others, and x after them. */
static lnorm_status check(const void *const all[], const size_t bytes[], int outputs, int count, int y_may_be_x,
                          double eps, float small_eps)
{
    if (bits_of_double(eps) > 0x8000000000000000u || !(small_eps <= FLT_MAX)) { /* negative, or not finite */
        return LNORM_ERROR_EPS;
    }
    for (int i = 0; i < outputs; i++) {
        for (int j = i + 1; j < count; j++) {
            const uintptr_t a = (uintptr_t)all[i], b = (uintptr_t)all[j];
            const int in_place = y_may_be_x && i == 0 && j == outputs && a == b;
            if (a < b + bytes[j] && b < a + bytes[i] && a != 0 && b != 0 && !in_place) {
                return LNORM_ERROR_OVERLAP;
            }
        }
    }
    return bytes[0] > 0 && (all[0] == NULL || all[outputs] == NULL) ? LNORM_ERROR_NULL : LNORM_OK;
}

static int fits(size_t rows, size_t cols)
{
    const size_t most = PTRDIFF_MAX / sizeof(float);
    return cols <= most && rows <= most / (cols > 0 ? cols : 1);
}

lnorm_status lnorm_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma, const float *beta,
                               double eps, float *y, float *mean, float *rstd)
{
    if (!fits(rows, cols)) {
        return LNORM_ERROR_SIZE;
    }
    const size_t row_bytes = rows * sizeof(float), col_bytes = cols * sizeof(float), bytes = row_bytes * cols;
    const float small_eps = (float)eps;
    const void *const all[] = {y, mean, rstd, x, gamma, beta};
    const size_t sizes[] = {bytes, row_bytes, row_bytes, bytes, col_bytes, col_bytes};
    const lnorm_status status = check(all, sizes, 3, 6, 1, eps, small_eps);
    for (size_t r = 0; status == LNORM_OK && r < rows; r++) {
        struct REALED(moments) m;
        struct row row = {x, cols, 1, 0};
        find_statistics(&m, &row, small_eps);
        write_statistics(&m, &row, r, mean, rstd);
        for (size_t i = 0; i < cols; i++) {
            *y++ = normalized(&row, &m, gamma, beta, i);
            x++; /* not by cols, as it may be NULL where there are none */
        }
    }
    return status;
}

#if !LNORM_WITHOUT_QUANTIZED
/* What the small build knows of a problem: rows of float32 without gaps. */
static lnorm_status check_problem(const lnorm_problem *p)
{
    if (p == NULL || p->struct_size != sizeof *p) {
        return LNORM_ERROR_STRUCT;
    }
    if (p->operation != LNORM_LAYER_NORM) {
        return LNORM_ERROR_OPERATION;
    }
    if ((p->x_type != LNORM_F32 && p->x_type != LNORM_TYPE_DEFAULT) || !lnorm_is_quantized(p->y_type) ||
        (p->param_type != LNORM_F32 && p->param_type != LNORM_TYPE_DEFAULT)) {
        return LNORM_ERROR_TYPE;
    }
    if ((p->flags & ~LNORM_DYNAMIC_SCALE) != 0 || p->reserved != 0) {
        return LNORM_ERROR_FLAGS;
    }
    if ((p->inner | 1) != 1) {
        return LNORM_ERROR_INNER;
    }
    if ((uint64_t)p->outer > PTRDIFF_MAX || (uint64_t)p->norm > PTRDIFF_MAX ||
        !fits((size_t)p->outer, (size_t)p->norm)) {
        return LNORM_ERROR_SIZE;
    }
    if ((p->x_stride != 0 && p->x_stride != p->norm) || (p->y_stride != 0 && p->y_stride != p->norm) ||
        (p->x_norm_stride | 1) != 1 || (p->y_norm_stride | 1) != 1) {
        return LNORM_ERROR_STRIDE;
    }
    const int shared = ((p->param_repeat | 1) == 1 || p->param_repeat == p->outer) && (p->param_rows | 1) == 1;
    return shared && (p->param_run | 1) == 1 ? LNORM_OK : LNORM_ERROR_PARAMS;
}

lnorm_status lnorm_quantized_forward(const lnorm_problem *problem, const void *x, const void *gamma, const void *beta,
                                     void *y, void *scale, int32_t *zero_point, void *mean, void *rstd)
{
    lnorm_status status = check_problem(problem);
    if (status == LNORM_OK) {
        status = check_scale(problem->y_type, LNORM_F32, problem->flags, (size_t)problem->outer, scale, zero_point);
    }
    if (status != LNORM_OK) {
        return status;
    }
    const int type = problem->y_type, dynamic = (problem->flags & LNORM_DYNAMIC_SCALE) != 0;
    const size_t rows = (size_t)problem->outer, cols = (size_t)problem->norm, scales = dynamic ? rows : 1;
    const size_t row_bytes = rows * sizeof(float), col_bytes = cols * sizeof(float);
    const void *const all[] = {y, mean, rstd, scale, zero_point, x, gamma, beta};
    const size_t sizes[] = {rows * cols,      row_bytes, row_bytes, scales * sizeof(float), scales * sizeof(int32_t),
                            row_bytes * cols, col_bytes, col_bytes};
    const float eps = (float)problem->eps;
    status = check(all, sizes, 5, 8, 0, problem->eps, eps);
    for (size_t r = 0; status == LNORM_OK && r < rows; r++) {
        struct REALED(moments) m;
        struct REALED(quantizer) to;
        struct row row = {cols > 0 ? (const float *)x + r * cols : NULL, cols, 1, 0};
        find_statistics(&m, &row, eps);
        write_statistics(&m, &row, r, mean, rstd);
        REALED(begin_quantizer)(&to, type, dynamic ? NULL : scale, zero_point);
        for (int pass = !dynamic; pass < 2; pass++) {
            for (size_t i = 0; i < cols; i++) {
                const float value = normalized(&row, &m, gamma, beta, i);
                if (pass == 0) {
                    REALED(extend_range)(&to, &value, 1);
                } else {
                    REALED(quantize)((uint8_t *)y + r * cols + i, 1, &to, &value, 1);
                }
            }
            if (pass == 0) {
                REALED(finish_range)(&to, type, (float *)scale + r, zero_point != NULL ? zero_point + r : NULL);
            }
        }
    }
    return status;
}
#endif

#else
typedef int lnorm_not_small;
#endif

/* LNORM_SMALL: lnorm_forward_f32 and nothing else, for machines of a few kilobytes. The order of the sums is that of
 * lane_sums.inc.h, and so are the bits; but the lanes are walked one after the other, and no array of sums is kept.
 * That reads a row sixteen times, which costs little where there is no cache to miss.
 */
#include "compiler.h"

#if LNORM_SMALL
#include "lnorm.h"

#define ISA small
#define REAL_NAME f32
#define REAL float
#define REAL_TINY 0x1p-96f
#define REAL_MAX FLT_MAX
#define KERNEL_INLINE inline
#define LANES 1
#include "names.h"
#include "vec_one.h"

#include "two_parts.inc.h"

#include "statistics.inc.h"

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
static size_t lane_at(size_t k)
{
    return (k & 1) << 3 | (k & 2) << 1 | (k & 4) >> 1 | k >> 3;
}

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
            sum_block(block, row, lane_at(k), v);
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

static void statistics_of(struct REALED(moments) * m, const struct row *row, float eps)
{
    struct sums waiting[LEVELS];
    sum_lanes(waiting, row);
    const struct sums *const all = &waiting[LEVELS - 1];
    const struct REALED(statistics) s =
        REALED(statistics_from)(mean_of(all->of[SQUARE], row->cols), mean_of(all->of[C], row->cols), row->centre);
    REALED(finish_statistics)(m, &s, eps);
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
        for (size_t sample = 0; sample < samples && lane_at(k) < n; sample++) {
            sum = fma_f32(row->x[sample * apart + lane_at(k)], row->scale, sum);
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
        statistics_of(m, row, scaled_eps);
        if (first && m->verdict[0] == (float)OUT_OF_RANGE) {
            row->scale = choose_scale(row, eps);
            row->centre = guess_mean(row);
            scaled_eps = eps * row->scale * row->scale;
        } else if (!moved && m->verdict[0] == (float)OFF_CENTRE) {
            row->centre = m->mean[0];
            moved = 1;
        } else if (m->rstd[0] == 0 && scaled_eps < eps) { /* equal elements, so large that the scaled eps is 0 */
            row->centre = m->mean[0] / row->scale;
            row->scale = 1;
            scaled_eps = eps;
        } else {
            break;
        }
    }
}

/* One row; statistics are its mean and rstd. */
static void normalize(const float *x, size_t cols, const float *gamma, const float *beta, float eps, float *y,
                      float statistics[2])
{
    struct REALED(moments) m;
    struct row row = {x, cols, 1, 0};
    find_statistics(&m, &row, eps);
    statistics[0] = m.mean[0] / row.scale;
    statistics[1] = m.rstd[0] * row.scale;
    for (size_t i = 0; i < cols; i++) {
        const float c = fma_f32(x[i], row.scale, -m.centre[0]);
        const float xhat = fma_f32(c, m.rstd[0], fma_f32(c, m.rstd_lost[0], m.shift[0]));
        y[i] = fma_f32(xhat, gamma != NULL ? gamma[i] : 1, beta != NULL ? beta[i] : -0.0f);
    }
}

/* Whether an output, of which there are three first, overlaps another argument; but y, the first, may be x. */
static int any_overlap(const void *const arrays[6], const size_t sizes[6])
{
    for (int i = 0; i < 3; i++) {
        for (int j = i + 1; j < 6; j++) {
            const uintptr_t a = (uintptr_t)arrays[i], b = (uintptr_t)arrays[j];
            if (a < b + sizes[j] && b < a + sizes[i] && a != 0 && b != 0 && !(i == 0 && j == 3 && a == b)) {
                return 1;
            }
        }
    }
    return 0;
}

lnorm_status lnorm_forward_f32(size_t rows, size_t cols, const float *x, const float *gamma, const float *beta,
                               double eps, float *y, float *mean, float *rstd)
{
    const size_t most = PTRDIFF_MAX / sizeof(float), row_bytes = rows * sizeof(float), col_bytes = cols * sizeof(float);
    const size_t bytes = row_bytes * cols;
    const uint64_t eps_bits = bits_of_double(eps);
    const float small_eps = (float)eps;
    if (cols > most || rows > most / (cols > 0 ? cols : 1)) {
        return LNORM_ERROR_SIZE;
    }
    if (eps_bits > 0x8000000000000000u || !(small_eps <= FLT_MAX)) { /* negative, or not finite */
        return LNORM_ERROR_EPS;
    }
    if (any_overlap((const void *const[]){y, mean, rstd, x, gamma, beta},
                    (const size_t[]){bytes, row_bytes, row_bytes, bytes, col_bytes, col_bytes})) {
        return LNORM_ERROR_OVERLAP;
    }
    if (bytes > 0 && (x == NULL || y == NULL)) {
        return LNORM_ERROR_NULL;
    }
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        float statistics[2] = {NAN, NAN}; /* of no elements */
        if (cols > 0) {
            normalize(x, cols, gamma, beta, small_eps, y, statistics);
        }
        if (mean != NULL) {
            mean[r] = statistics[0];
        }
        if (rstd != NULL) {
            rstd[r] = statistics[1];
        }
    }
    return LNORM_OK;
}

#else
typedef int lnorm_not_small;
#endif

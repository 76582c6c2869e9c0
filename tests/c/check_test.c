/* lnorm_check [--update] [--small] [--part K/N] [GOLDEN]: every instruction set available here gives the bits of
 * "scalar" (where the build has it) for every case, whatever the alignment, strides, neighbouring rows, order of the
 * work, in place or not, and touches no memory but its arguments; and "scalar" gives the bits that it gives on every
 * other machine.
 *
 * For the latter the file GOLDEN (tests/c/golden.txt when not named) holds two digests of the outputs for each
 * operation, element type and group of cases: of the small cases, and of all; --update writes it. --small runs the
 * small cases alone, for machines with little memory; --part runs one of N shares of the groups, of each operation and
 * element type some, where a whole run takes long. Of what the build leaves out, that it is refused is checked. */
#include "../../src/c/parts.h"
#include "test_support.h"

#ifdef TEST_POSIX
#include <signal.h>
#endif

/* ---- Cases: groups of values by lists of shapes ---- */

typedef struct group {
    const char *name;
    double offset, eps;
    double scale[2]; /* of x in f32 and in f64, after the offset; a power of two rounds only subnormal numbers */
} group;

/* Which calls a case is made of. */
typedef enum form {
    TYPED,    /* the typed calls */
    GENERAL,  /* lnorm_forward and lnorm_backward */
    INNER,    /* the same with an inner axis */
    ADDED,    /* with a residual */
    EXAMPLES, /* with several gammas and betas */
    RUNS,     /* with a gamma and a beta for each run of elements */
    INTEGERS, /* forward to 8 bits */
    FROM_Y,   /* backward from y */
    PIECES    /* moments, and what applies them */
} form;

/* An operation and its types; what is computed with has `real`. */
typedef struct kind {
    const char *name;
    form form;
    lnorm_operation operation;
    lnorm_type x, y, param, real;
    uint32_t flags;
} kind;

#define OF(form, type) form, LNORM_LAYER_NORM, type, type, type, type
#define OF_16_BITS(form, type) form, LNORM_LAYER_NORM, type, type, type, LNORM_F32

static const kind kinds[] = {
    {"f32", OF(TYPED, LNORM_F32), 0},
    {"f64", OF(TYPED, LNORM_F64), 0},
    {"rms f32", GENERAL, LNORM_RMS_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32, 0},
    {"rms f64", GENERAL, LNORM_RMS_NORM, LNORM_F64, LNORM_F64, LNORM_F64, LNORM_F64, 0},
    {"f16", OF_16_BITS(GENERAL, LNORM_F16), 0},
    {"bf16", OF_16_BITS(GENERAL, LNORM_BF16), 0},
    {"f16-f32-f32", GENERAL, LNORM_LAYER_NORM, LNORM_F16, LNORM_F32, LNORM_F32, LNORM_F32, 0},
    {"f32-bf16-f32", GENERAL, LNORM_LAYER_NORM, LNORM_F32, LNORM_BF16, LNORM_F32, LNORM_F32, 0},
    {"rms bf16-bf16-f32", GENERAL, LNORM_RMS_NORM, LNORM_BF16, LNORM_BF16, LNORM_F32, LNORM_F32, 0},
    {"rms f16", GENERAL, LNORM_RMS_NORM, LNORM_F16, LNORM_F16, LNORM_F16, LNORM_F32, 0},
    {"options f32", OF(GENERAL, LNORM_F32), LNORM_GAMMA_PLUS_ONE | LNORM_ACCUMULATE},
    {"options f64", OF(GENERAL, LNORM_F64), LNORM_GAMMA_PLUS_ONE | LNORM_ROUND_STEPS | LNORM_ACCUMULATE},
    {"options bf16", OF_16_BITS(GENERAL, LNORM_BF16), LNORM_ROUND_STEPS | LNORM_ACCUMULATE},
    {"options rms f16-f32-f32", GENERAL, LNORM_RMS_NORM, LNORM_F16, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_ROUND_STEPS},
    {"inner f32", OF(INNER, LNORM_F32), 0},
    {"inner f64", OF(INNER, LNORM_F64), LNORM_ACCUMULATE},
    {"inner f16", OF_16_BITS(INNER, LNORM_F16), LNORM_GAMMA_PLUS_ONE},
    {"inner bf16-bf16-f32", INNER, LNORM_LAYER_NORM, LNORM_BF16, LNORM_BF16, LNORM_F32, LNORM_F32, 0},
    {"inner f32-bf16-f32", INNER, LNORM_LAYER_NORM, LNORM_F32, LNORM_BF16, LNORM_F32, LNORM_F32, 0},
    {"inner rms f32", INNER, LNORM_RMS_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32, 0},
    {"added f32", OF(ADDED, LNORM_F32), 0},
    {"added f64", OF(ADDED, LNORM_F64), 0},
    {"added bf16", OF_16_BITS(ADDED, LNORM_BF16), 0},
    {"added rms f16-f32-f32", ADDED, LNORM_RMS_NORM, LNORM_F16, LNORM_F32, LNORM_F32, LNORM_F32, 0},
    {"examples f32", OF(EXAMPLES, LNORM_F32), 0},
    {"examples f64", OF(EXAMPLES, LNORM_F64), LNORM_ACCUMULATE},
    {"examples f16", OF_16_BITS(EXAMPLES, LNORM_F16), 0},
    {"runs f32", OF(RUNS, LNORM_F32), 0},
    {"runs f64", OF(RUNS, LNORM_F64), LNORM_ACCUMULATE},
    {"runs bf16", OF_16_BITS(RUNS, LNORM_BF16), LNORM_GAMMA_PLUS_ONE},
    {"runs rms f16-f16-f32", RUNS, LNORM_RMS_NORM, LNORM_F16, LNORM_F16, LNORM_F32, LNORM_F32, 0},
    {"i8 f32", INTEGERS, LNORM_LAYER_NORM, LNORM_F32, LNORM_I8, LNORM_F32, LNORM_F32, LNORM_DYNAMIC_SCALE},
    {"u8 f64", INTEGERS, LNORM_LAYER_NORM, LNORM_F64, LNORM_U8, LNORM_F64, LNORM_F64, LNORM_DYNAMIC_SCALE},
    {"u8 bf16", INTEGERS, LNORM_LAYER_NORM, LNORM_BF16, LNORM_U8, LNORM_F32, LNORM_F32, 0},
    {"from y f32", OF(FROM_Y, LNORM_F32), 0},
    {"from y f64", OF(FROM_Y, LNORM_F64), 0},
    {"from y rms bf16", FROM_Y, LNORM_RMS_NORM, LNORM_BF16, LNORM_BF16, LNORM_BF16, LNORM_F32, 0},
    {"pieces f32", OF(PIECES, LNORM_F32), 0},
    {"pieces f64", OF(PIECES, LNORM_F64), 0},
    {"pieces f16", OF_16_BITS(PIECES, LNORM_F16), 0},
    {"pieces rms f32", PIECES, LNORM_RMS_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32, 0},
};

#define KINDS (sizeof kinds / sizeof kinds[0])

enum { FORWARD, BACKWARD, DIRECTIONS };

static bool is_left_out(lnorm_type type)
{
    return (type == LNORM_F64 && LNORM_WITHOUT_F64) || (type == LNORM_F16 && LNORM_WITHOUT_F16) ||
           (type == LNORM_BF16 && LNORM_WITHOUT_BF16);
}

/* What the build makes of the calls: LNORM_OK, or the status of what it leaves out. */
static lnorm_status status_in_build(const kind *k, int direction)
{
    const bool lacks_type = is_left_out(k->x) || is_left_out(k->y) || is_left_out(k->param);
    const bool lacks_call =
        (k->form == ADDED && LNORM_WITHOUT_RESIDUAL) || (k->form == INTEGERS && LNORM_WITHOUT_QUANTIZED) ||
        (k->form == PIECES && LNORM_WITHOUT_MOMENTS) || (k->form == INNER && LNORM_WITHOUT_INNER) ||
        (k->form == RUNS && LNORM_WITHOUT_GROUPS) || (direction == BACKWARD && LNORM_WITHOUT_BACKWARD);
    if (k->form == INTEGERS && direction == BACKWARD) { /* which is none */
        return LNORM_OK;
    }
    return lacks_type && (k->form == TYPED || !lacks_call) ? LNORM_ERROR_TYPE
           : lacks_call                                    ? LNORM_ERROR_OPERATION
                                                           : LNORM_OK;
}

static lnorm_type type_of(const kind *k, int argument)
{
    switch (argument) {
    case X:
    case DX:
    case RESIDUAL:
    case TOTAL:
    case DTOTAL:
        return k->x;
    case Y:
        return k->y;
    case DY:
        return k->form == INTEGERS ? k->x : k->y;
    case GAMMA:
    case BETA:
    case INPUT_BIAS:
        return k->param;
    case ZERO_POINT: /* as many bytes */
        return LNORM_F32;
    default:
        return k->real;
    }
}

static size_t first_divisor(size_t of, const size_t *candidates)
{
    while (of % *candidates != 0) {
        candidates++;
    }
    return *candidates;
}

/* The shape of a case, in rows of cols, as the form makes use of it. */
static lnorm_problem problem_of(const kind *k, size_t rows, size_t cols, double eps)
{
    static const size_t parts[] = {3, 2, 1}, runs[] = {64, 17, 16, 7, 4, 3, 2, 1};
    const int64_t part = (int64_t)first_divisor(rows, parts);
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.operation = (int32_t)k->operation;
    problem.x_type = (int32_t)k->x;
    problem.y_type = (int32_t)k->y;
    problem.param_type = (int32_t)k->param;
    problem.flags = k->flags;
    problem.outer = (int64_t)rows;
    problem.norm = (int64_t)cols;
    problem.eps = eps;
    switch (k->form) {
    case INNER:
        problem.outer = part;
        problem.inner = (int64_t)rows / part;
        break;
    case ADDED:
        problem.residual_rows = cols % 3 == 0 ? part : (int64_t)rows;
        break;
    case EXAMPLES:
        problem.param_rows = part;
        problem.param_repeat = cols % 2 ? 1 : 0;
        break;
    case RUNS:
        problem.param_rows = part;
        problem.param_repeat = 1;
        problem.param_run = (int64_t)first_divisor(cols, runs);
        break;
    default:
        break;
    }
    return problem;
}

/* How a call is made that must give the bits of the plain one. */
typedef struct variant {
    bool in_place;
    size_t order;  /* in which a hook runs the pieces of the work; 0 is no hook */
    ptrdiff_t gap; /* elements that part one outer index from the next */
    bool reversed; /* the outer indices lie last to first in memory */
} variant;

static variant variant_of(const kind *k, uint64_t seed)
{
    const uint64_t random = next_random(&seed);
    if (k->form == TYPED) {
        return (variant){.in_place = random & 1};
    }
    return (variant){.in_place = random & 1,
                     .reversed = (random >> 1 & 3) == 3,
                     .gap = (random >> 3 & 1) ? (ptrdiff_t)(random >> 4 & 31) : 0,
                     .order = random >> 9 & 3};
}

/* lnorm_parallel_for: from first to last, from last to first, or the odd ones before the even ones. */
static void run_in_order(void *order, size_t count, lnorm_task task, void *argument)
{
    const size_t odd = count / 2;
    for (size_t i = 0; i < count; i++) {
        task(argument, *(const size_t *)order == 1   ? i
                       : *(const size_t *)order == 2 ? count - 1 - i
                       : i < odd                     ? 2 * i + 1
                                                     : 2 * (i - odd));
    }
}

static size_t length_of(const kind *k, int argument, size_t rows, size_t cols)
{
    const lnorm_problem problem = problem_of(k, rows, cols, 0.0);
    const size_t param_rows = problem.param_rows > 0 ? (size_t)problem.param_rows : 1;
    const size_t run = problem.param_run > 0 ? (size_t)problem.param_run : 1;
    switch (argument) {
    case GAMMA:
    case BETA:
    case DGAMMA:
    case DBETA:
        return param_rows * (cols / run);
    case RESIDUAL:
        return (problem.residual_rows > 0 ? (size_t)problem.residual_rows : rows) * cols;
    case TOTAL:
    case DTOTAL:
        return rows * cols;
    case SCALE:
    case ZERO_POINT:
        return rows;
    case MOMENTS:
        return rows * LNORM_MOMENTS;
    case GRAD_MOMENTS:
        return rows * LNORM_GRAD_MOMENTS;
    default:
        return argument_length(argument, rows, cols);
    }
}

static size_t workspace_of(const kind *k, size_t rows, size_t cols)
{
    lnorm_problem problem = problem_of(k, rows, cols, 0.0);
    size_t size = SIZE_MAX;
    if (k->form == INTEGERS || status_in_build(k, BACKWARD) != LNORM_OK) {
        return 0;
    }
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    return size;
}

/* An argument as equal parts of memory, `stride` elements from one to the next. */
typedef struct layout {
    size_t parts, length;
    ptrdiff_t stride;
} layout;

static layout layout_of(const kind *k, int argument, const lnorm_problem *problem)
{
    const size_t rows = (size_t)problem->outer, inner = problem->inner > 0 ? (size_t)problem->inner : 1;
    const size_t norm = (size_t)problem->norm;
    switch (argument) {
    case X:
    case Y:
    case DY:
    case DX:
    case TOTAL:
    case DTOTAL:
        return (layout){rows, norm * inner, problem->x_stride ? problem->x_stride : (ptrdiff_t)(norm * inner)};
    case WORKSPACE:
        return (layout){1, workspace_of(k, rows * inner, norm), 0};
    default:
        return (layout){1, length_of(k, argument, rows * inner, norm), 0};
    }
}

static size_t layout_length(layout of)
{
    return (of.parts - 1) * (size_t)(of.stride < 0 ? -of.stride : of.stride) + of.length;
}

/* The element from which on the part lies. */
static ptrdiff_t part_begin(layout of, size_t part)
{
    return (ptrdiff_t)(of.stride < 0 ? of.parts - 1 - part : part) * (of.stride < 0 ? -of.stride : of.stride);
}

static void vary(lnorm_problem *problem, variant *v)
{
    const ptrdiff_t stride = (ptrdiff_t)(problem->norm * (problem->inner > 0 ? problem->inner : 1)) + v->gap;
    problem->x_stride = v->reversed ? -stride : stride;
    problem->y_stride = problem->dy_stride = problem->dx_stride = problem->total_stride = problem->x_stride;
    if (v->order > 0) {
        problem->parallel_for = run_in_order;
        problem->parallel_context = &v->order;
    }
}

/* Whether the form's calls have the argument at all. */
static bool has_argument(const kind *k, int argument)
{
    switch (argument) {
    case MEAN:
        return k->operation != LNORM_RMS_NORM;
    case RESIDUAL:
    case INPUT_BIAS:
    case TOTAL:
    case DTOTAL:
        return k->form == ADDED;
    case ZERO_POINT:
        return k->form == INTEGERS && k->y == LNORM_U8;
    case SCALE:
        return k->form == INTEGERS;
    case MOMENTS:
    case GRAD_MOMENTS:
        return k->form == PIECES;
    case DX:
    case DGAMMA:
    case DBETA:
        return k->form != INTEGERS;
    default:
        return true;
    }
}

static bool is_input(const kind *k, int argument)
{
    return argument == X || argument == DY || argument == GAMMA || argument == BETA || argument == RESIDUAL ||
           argument == INPUT_BIAS || argument == DTOTAL ||
           ((argument == SCALE || argument == ZERO_POINT) && !(k->flags & LNORM_DYNAMIC_SCALE));
}

static lnorm_status run_forward(const kind *k, const lnorm_problem *problem, void *const a[])
{
    lnorm_status status;
    switch (k->form) {
    case TYPED:
        return flat_forward(k->real, (size_t)problem->outer, (size_t)problem->norm, problem->eps, a);
    case ADDED:
        return lnorm_add_forward(problem, a[X], a[RESIDUAL], a[INPUT_BIAS], a[GAMMA], a[BETA], a[TOTAL], a[Y], a[MEAN],
                                 a[RSTD]);
    case INTEGERS:
        return lnorm_quantized_forward(problem, a[X], a[GAMMA], a[BETA], a[Y], a[SCALE], a[ZERO_POINT], a[MEAN],
                                       a[RSTD]);
    case PIECES:
        status = lnorm_moments(problem, a[X], a[MOMENTS]);
        return status == LNORM_OK
                   ? lnorm_apply_moments(problem, a[X], a[MOMENTS], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD])
                   : status;
    default:
        return lnorm_forward(problem, a[X], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    }
}

static lnorm_status run_backward(const kind *k, const lnorm_problem *problem, void *const a[], size_t workspace)
{
    lnorm_status status;
    switch (k->form) {
    case TYPED:
        return flat_backward(k->real, (size_t)problem->outer, (size_t)problem->norm, a, workspace);
    case INTEGERS:
        return LNORM_OK;
    case ADDED:
        return lnorm_add_backward(problem, a[DY], a[DTOTAL], a[TOTAL], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA],
                                  a[DBETA], a[WORKSPACE], workspace);
    case FROM_Y:
        return lnorm_backward_from_y(problem, a[DY], a[Y], a[RSTD], a[GAMMA], a[BETA], a[DX], a[DGAMMA], a[DBETA],
                                     a[WORKSPACE], workspace);
    case PIECES:
        status = lnorm_grad_moments(problem, a[DY], a[X], a[MOMENTS], a[GAMMA], a[GRAD_MOMENTS]);
        return status == LNORM_OK
                   ? lnorm_apply_grad_moments(problem, a[DY], a[X], a[MOMENTS], a[GRAD_MOMENTS], a[GAMMA], a[DX],
                                              a[DGAMMA], a[DBETA], a[WORKSPACE], workspace)
                   : status;
    default:
        return lnorm_backward(problem, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA],
                              a[WORKSPACE], workspace);
    }
}

static const group groups[] = {
    {"plain", 0.0, 1e-5, {1.0, 1.0}},
    {"offset", 1e4, 1e-5, {1.0, 1.0}},
    {"tiny", 0.0, 0.0, {0x1p-100, 0x1p-665}}, /* 1e-30 and 1e-200: squares vanish */
    {"huge", 0.0, 0.0, {0x1p+100, 0x1p+665}}, /* 1e30 and 1e200: squares overflow */
    {"subnormal", 0.0, 0.0, {0x1p-140, 0x1p-1060}},
    {"special", 0.0, 0.0, {1.0, 1.0}}, /* see make_special */
};

#define GROUPS (sizeof groups / sizeof groups[0])

typedef struct shapes {
    size_t rows[14], cols[14]; /* each of these rows with each of these cols, up to the first 0 */
} shapes;

static const shapes shape_lists[] = {
    {{1, 2, 3, 8}, {511, 512, 513, 767, 768, 1000, 1023, 1024, 1025, 2047, 2049, 4096, 5000}},
    {{4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 31, 32, 33}, {24, 96, 129, 384}},
    {{63, 64, 65, 127, 128, 129, 257, 300}, {1, 3, 16, 33, 100}},
    {{1023, 1025, 4099}, {5, 16}},
    {{37}, {768, 1000}},
    {{1, 2}, {70001}},
};

#define SHAPE_LISTS (sizeof shape_lists / sizeof shape_lists[0])

/* ---- Digests: FNV-1a 64 over the values' bytes in little-endian order ---- */

static WRAPS uint64_t digest_values(uint64_t digest, lnorm_type type, const void *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t bits = value_bits(type, values, i);
        for (size_t byte = 0; byte < type_size(type); byte++, bits >>= 8) {
            digest = (digest ^ (bits & 0xff)) * 0x100000001b3u;
        }
    }
    return digest;
}

static uint64_t digest_argument(uint64_t digest, const kind *k, int argument, void *const a[], size_t rows, size_t cols)
{
    return a[argument] ? digest_values(digest, type_of(k, argument), a[argument], length_of(k, argument, rows, cols))
                       : digest;
}

static FILE *golden;
static bool updating;

/* Writes the line, or compares it with that of the file: the whole of it, or the beginning. */
static void golden_line(const char *line, bool whole)
{
    char expected[200] = "";
    if (updating) {
        CHECK(fprintf(golden, "%s\n", line) > 0);
    } else {
        if (!fgets(expected, sizeof expected, golden)) {
            strcpy(expected, "nothing");
        }
        expected[strcspn(expected, "\r\n")] = '\0';
        if (!CHECK(strncmp(line, expected, whole ? sizeof expected : strlen(line)) == 0)) {
            printf("  got %s\n  the golden file has %s\n", line, expected);
        }
    }
}

typedef struct state {
    const char *isas[8], *reference; /* those available here, and NULL; the last one */
    const kind *kind;
    const group *group;
    unsigned long cases, skipped, runs;
    bool skips, small_only; /* this group is not in the part that was asked for; nor are cases that are not small */
    uint64_t digest[DIRECTIONS], small_digest[DIRECTIONS];
    guarded expected[ALL_ARGUMENTS], got[ALL_ARGUMENTS];
} state;

static void golden_digests(const state *s, int direction)
{
    char line[100];
    int end = snprintf(line, sizeof line, "%s %s %s", direction == FORWARD ? "forward" : "backward", s->kind->name,
                       s->group->name);
    const bool skips = s->skips || status_in_build(s->kind, direction) != LNORM_OK;
    if (!skips) {
        end +=
            snprintf(line + end, sizeof line - (size_t)end, " %016llx", (unsigned long long)s->small_digest[direction]);
        if (!s->small_only) {
            snprintf(line + end, sizeof line - (size_t)end, " %016llx", (unsigned long long)s->digest[direction]);
        }
        puts(line);
    }
    golden_line(line, !skips && !s->small_only);
}

/* ---- One case ---- */

static char running[200]; /* what a failure, or a fault on a guard page, is reported with */

/* What lies where in a and b: the values that are expected, without gaps, and those that were got. */
static void check_equal(const kind *k, int argument, void *const a[], const void *b, layout of)
{
    const lnorm_type type = type_of(k, argument);
    const size_t size = type_size(type);
    for (size_t part = 0; a[argument] && b && part < of.parts; part++) {
        const char *const expected = (const char *)a[argument] + part * of.length * size;
        const char *const got = (const char *)b + part_begin(of, part) * (ptrdiff_t)size;
        const size_t i = first_difference(type, expected, got, of.length);
        if (!CHECK(i == of.length)) {
            printf("  %s: %s[%zu] of %zu is %a (%016llx), expected %a (%016llx)\n", running, name_of(argument),
                   part * of.length + i, of.parts * of.length, get_value(type, got, i),
                   (unsigned long long)value_bits(type, got, i), get_value(type, expected, i),
                   (unsigned long long)value_bits(type, expected, i));
            return;
        }
    }
}

/* Nothing was written around the arguments, nor in their gaps. */
static void check_guards(const kind *k, const guarded buffers[], void *const a[], const lnorm_problem *problem)
{
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        if (!a[i]) {
            continue;
        }
        const layout of = layout_of(k, i, problem);
        const size_t size = i == WORKSPACE ? 1 : type_size(type_of(k, i));
        const size_t stride = (size_t)(of.stride < 0 ? -of.stride : of.stride);
        bool intact = guarded_intact(&buffers[i]);
        for (size_t part = 0; part + 1 < of.parts && stride > of.length; part++) {
            const unsigned char *const gap = buffers[i].data + (part * stride + of.length) * size;
            MARK_WRITTEN(gap, (stride - of.length) * size);
            for (size_t byte = 0; byte < (stride - of.length) * size; byte++) {
                intact = intact && gap[byte] == GUARD_CANARY;
            }
        }
        if (!CHECK(intact)) {
            printf("  %s: written outside %s\n", running, name_of(i));
        }
    }
}

static void place_all(const kind *k, guarded buffers[], void *a[], const lnorm_problem *problem, size_t shift,
                      bool at_end)
{
    for (size_t i = 0; i < ALL_ARGUMENTS; i++) { /* odd factors: over all shifts, each argument takes every offset */
        const layout of = layout_of(k, (int)i, problem);
        const size_t size = type_size(type_of(k, (int)i));
        a[i] = guarded_place(&buffers[i], layout_length(of) * (i == WORKSPACE ? 1 : size),
                             (shift * (2 * i + 1) + i) % (64 / size) * size, at_end);
        if (is_input(k, (int)i) || (k->flags & LNORM_ACCUMULATE && (i == DGAMMA || i == DBETA))) {
            MARK_WRITTEN(a[i], layout_length(of) * size);
        }
    }
}

static void copy_in(const kind *k, int argument, void *to, void *const expected[], layout of)
{
    const size_t size = type_size(type_of(k, argument));
    for (size_t part = 0; part < of.parts; part++) {
        memcpy((char *)to + part_begin(of, part) * (ptrdiff_t)size,
               (const char *)expected[argument] + part * of.length * size, of.length * size);
    }
}

/* The pointer that the call gets, to the part of index 0. */
static void *first_part(const kind *k, int argument, void *memory, layout of)
{
    return memory ? (char *)memory + part_begin(of, 0) * (ptrdiff_t)type_size(type_of(k, argument)) : NULL;
}

static void make_inputs(const state *s, size_t rows, size_t cols, uint64_t seed, void *expected[])
{
    const kind *const k = s->kind;
    uint64_t random = seed;
    fill_values(k->x, expected[X], rows * cols, s->group->offset, s->group->scale[k->real == LNORM_F64], &random);
    fill_values(type_of(k, DY), expected[DY], rows * cols, 0.0, 1.0, &random);
    fill_values(k->param, expected[GAMMA], length_of(k, GAMMA, rows, cols), 0.5, 1.0, &random);
    fill_values(k->param, expected[BETA], length_of(k, BETA, rows, cols), 0.0, 1.0, &random);
    if (strcmp(s->group->name, "special") == 0) {
        make_special(k->x, expected[X], rows, cols, &random);
    }
    if (k->form == ADDED) {
        fill_values(k->x, expected[RESIDUAL], length_of(k, RESIDUAL, rows, cols), 0.0, 1.0, &random);
        fill_values(k->x, expected[DTOTAL], rows * cols, 0.0, 1.0, &random);
        fill_values(k->param, expected[INPUT_BIAS], cols, 0.0, 1.0, &random);
    }
    if (k->form == INTEGERS && !(k->flags & LNORM_DYNAMIC_SCALE)) {
        const int32_t zero_point = 131;
        set_value(k->real, expected[SCALE], 0, 0.0117);
        memcpy(expected[ZERO_POINT], &zero_point, sizeof zero_point);
    }
    if (seed % 5 == 1) {
        expected[GAMMA] = NULL;
    }
    if (seed % 5 == 2) {
        expected[BETA] = NULL;
    }
    if (seed % 5 == 3) {
        expected[INPUT_BIAS] = NULL;
    }
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        expected[i] = has_argument(k, i) ? expected[i] : NULL;
    }
}

/* The argument in whose place `output` may be written, or itself. */
static int place_of(const kind *k, int output, const variant *v, uint64_t seed)
{
    const int inputs_of_dx[] = {DY,
                                k->form == ADDED    ? TOTAL
                                : k->form == FROM_Y ? DY
                                                    : X,
                                k->form == ADDED ? DTOTAL : DY};
    const int place = output == DX                                    ? inputs_of_dx[seed % 3]
                      : k->form == ADDED && (output == Y) == seed % 2 ? output
                                                                      : X;
    return v->in_place && k->form != INTEGERS && type_of(k, place) == type_of(k, output) ? place : output;
}

/* One set, one variant of the call. */
static void run_variant(state *s, const lnorm_problem *problem, void *const expected[], uint64_t seed, size_t shift)
{
    static const int forward_outputs[] = {Y, MEAN, RSTD, TOTAL, SCALE, ZERO_POINT, MOMENTS};
    const kind *const k = s->kind;
    variant v = variant_of(k, seed);
    lnorm_problem varied = *problem;
    vary(&varied, &v);

    void *memory[ALL_ARGUMENTS], *a[ALL_ARGUMENTS];
    layout layouts[ALL_ARGUMENTS];
    place_all(k, s->got, memory, &varied, shift, seed % 2);
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        layouts[i] = layout_of(k, i, &varied);
        memory[i] = expected[i] ? memory[i] : NULL;
        a[i] = first_part(k, i, memory[i], layouts[i]);
        if (expected[i] && is_input(k, i)) {
            copy_in(k, i, memory[i], expected, layouts[i]);
        }
    }

    const int y_place = place_of(k, Y, &v, seed), total_place = place_of(k, TOTAL, &v, seed);
    void *const own_y = a[Y], *const own_total = a[TOTAL];
    a[Y] = a[y_place];
    a[TOTAL] = a[TOTAL] ? a[total_place] : NULL;
    CHECK(run_forward(k, &varied, a) == LNORM_OK);
    for (size_t i = 0; i < sizeof forward_outputs / sizeof forward_outputs[0]; i++) {
        const int output = forward_outputs[i], place = output == Y ? y_place : output == TOTAL ? total_place : output;
        check_equal(k, output, expected, memory[place], layouts[output]);
    }
    if (a[Y] != own_y || a[TOTAL] != own_total) { /* back to memory of their own, for backward */
        const int output = a[Y] != own_y ? Y : TOTAL;
        a[Y] = own_y;
        a[TOTAL] = own_total;
        copy_in(k, X, memory[X], expected, layouts[X]);
        copy_in(k, output, memory[output], expected, layouts[output]);
    }

    /* The outputs that are asked for do not depend on those that are not. */
    const bool wanted[] = {seed % 8 != 3, seed % 8 != 4 && seed % 8 != 6, seed % 8 != 5 && seed % 8 != 6};
    const lnorm_status status = status_in_build(k, BACKWARD);
    for (int i = DX; i <= DBETA; i++) {
        a[i] = wanted[i - DX] && status == LNORM_OK ? a[i] : NULL;
    }
    a[WORKSPACE] = a[DGAMMA] || a[DBETA] ? a[WORKSPACE] : NULL;
    const int dx_place = a[DX] ? place_of(k, DX, &v, seed) : DX;
    a[DX] = a[DX] ? a[dx_place] : NULL;
    CHECK(run_backward(k, &varied, a, a[WORKSPACE] ? layouts[WORKSPACE].length : 0) == status);
    check_guards(k, s->got, memory, &varied);
    for (int i = 0; i < ALL_ARGUMENTS; i++) { /* the inputs too: they are still what they were */
        if (i != WORKSPACE && a[i] && (i == DX || i != dx_place)) {
            check_equal(k, i, expected, memory[i == DX ? dx_place : i], layouts[i]);
        }
    }
    s->runs++;
}

/* A row has the same y, statistics and dx where it is the only one. */
static void check_alone(state *s, const lnorm_problem *problem, void *const expected[], size_t row)
{
    static const int of_a_row[] = {X, DY, Y, MEAN, RSTD, DX};
    const kind *const k = s->kind;
    lnorm_problem alone = *problem;
    alone.outer = 1;
    void *memory[ALL_ARGUMENTS], *a[ALL_ARGUMENTS], *row_expected[ALL_ARGUMENTS] = {NULL};
    place_all(k, s->got, memory, &alone, row, true);
    memcpy(a, memory, sizeof a);
    a[GAMMA] = expected[GAMMA];
    a[BETA] = expected[BETA];
    a[DGAMMA] = a[DBETA] = a[WORKSPACE] = NULL;
    for (size_t i = 0; i < sizeof of_a_row / sizeof of_a_row[0]; i++) {
        const int argument = of_a_row[i];
        const size_t bytes = layout_of(k, argument, &alone).length * type_size(type_of(k, argument));
        row_expected[argument] = expected[argument] ? (char *)expected[argument] + row * bytes : NULL;
        a[argument] = expected[argument] ? a[argument] : NULL;
    }
    a[X] = row_expected[X];
    a[DY] = row_expected[DY];
    CHECK(run_forward(k, &alone, a) == LNORM_OK);
    CHECK(run_backward(k, &alone, a, 0) == status_in_build(k, BACKWARD));
    for (size_t i = 0; i < sizeof of_a_row / sizeof of_a_row[0]; i++) {
        check_equal(k, of_a_row[i], row_expected, a[of_a_row[i]], layout_of(k, of_a_row[i], &alone));
    }
}

static void run_case(state *s, size_t rows, size_t cols, size_t shift)
{
    const kind *const k = s->kind;
    const uint64_t seed = s->cases++;
    if (s->skips) {
        s->skipped++;
        return;
    }
    const lnorm_problem problem = problem_of(k, rows, cols, s->group->eps);
    void *expected[ALL_ARGUMENTS];
    place_all(k, s->expected, expected, &problem, 0, true);
    make_inputs(s, rows, cols, seed, expected);

    snprintf(running, sizeof running, "%s %s %s, seed %llu, %zu x %zu", s->reference, k->name, s->group->name,
             (unsigned long long)seed, rows, cols);
    CHECK(lnorm_set_isa(s->reference) == LNORM_OK);
    CHECK(run_forward(k, &problem, expected) == LNORM_OK);
    CHECK(run_backward(k, &problem, expected, workspace_of(k, rows, cols)) == status_in_build(k, BACKWARD));
    check_guards(k, s->expected, expected, &problem);
    for (int i = Y; i <= RSTD; i++) {
        s->digest[FORWARD] = digest_argument(s->digest[FORWARD], k, i, expected, rows, cols);
    }
    for (int i = TOTAL; i <= MOMENTS; i++) {
        s->digest[FORWARD] = digest_argument(s->digest[FORWARD], k, i, expected, rows, cols);
    }
    for (int i = DX; i <= DBETA; i++) {
        s->digest[BACKWARD] = digest_argument(s->digest[BACKWARD], k, i, expected, rows, cols);
    }
    s->digest[BACKWARD] = digest_argument(s->digest[BACKWARD], k, GRAD_MOMENTS, expected, rows, cols);

    for (size_t isa = 0; s->isas[isa]; isa++) {
        snprintf(running, sizeof running, "%s %s %s, seed %llu, %zu x %zu, shift %zu", s->isas[isa], k->name,
                 s->group->name, (unsigned long long)seed, rows, cols, shift);
        CHECK(lnorm_set_isa(s->isas[isa]) == LNORM_OK);
        run_variant(s, &problem, expected, seed, shift);
        if (k->form == TYPED || k->form == GENERAL) {
            check_alone(s, &problem, expected, (size_t)seed % rows);
        }
    }
}

/* ---- All cases ---- */

#define SMALL_CASE ((size_t)1024) /* elements up to which a case is small */

static void run_cases_of_size(state *s, size_t rows, size_t cols, size_t shift, bool small)
{
    if ((rows * cols <= SMALL_CASE) == small) {
        run_case(s, rows, cols, shift);
    }
}

/* The kinds after the typed ones share their code, and get a share of their cases. */
static void run_cases(state *s, bool small)
{
    const bool typed = s->kind->form == TYPED;
    const size_t every = typed ? 1 : s->kind->form == GENERAL && s->kind->flags == 0 ? 7 : 41;
    for (size_t cols = 1; cols <= 300; cols += every) {
        run_cases_of_size(s, 1 + cols * 7 % (cols % 2 ? 40 : 10), cols, cols, small);
    }
    size_t count = 0;
    for (size_t list = 0; list < SHAPE_LISTS; list++) {
        for (const size_t *rows = shape_lists[list].rows; *rows; rows++) {
            for (const size_t *cols = shape_lists[list].cols; *cols; cols++) {
                if (count++ % every == 0) {
                    run_cases_of_size(s, *rows, *cols, *rows + *cols, small);
                }
            }
        }
    }
    for (size_t shift = 0; shift < 64 / type_size(s->kind->x); shift++) {
        for (size_t cols = 1; cols < 200; cols += typed ? 6 : 23) {
            run_cases_of_size(s, 5, cols, shift, small);
            run_cases_of_size(s, 2, cols + 5, shift, small);
        }
    }
}

/* Calls of what the build leaves out are refused. */
static void check_refused(state *s)
{
    const lnorm_problem problem = problem_of(s->kind, 6, 64, 0.0);
    void *a[ALL_ARGUMENTS];
    place_all(s->kind, s->expected, a, &problem, 0, true);
    make_inputs(s, 6, 64, 0, a);
    CHECK(run_forward(s->kind, &problem, a) == status_in_build(s->kind, FORWARD));
    CHECK(run_backward(s->kind, &problem, a, 0) == status_in_build(s->kind, BACKWARD));
    CHECK(s->kind->form != TYPED || workspace_bytes(s->kind->real, 6, 64) == SIZE_MAX);
}

static void run_group(state *s)
{
    if (status_in_build(s->kind, FORWARD) != LNORM_OK) {
        check_refused(s);
        s->skips = true;
    }
    for (int direction = FORWARD; direction < DIRECTIONS; direction++) {
        s->digest[direction] = 0xcbf29ce484222325u;
    }
    run_cases(s, true);
    memcpy(s->small_digest, s->digest, sizeof s->digest);
    const bool skips = s->skips;
    s->skips = skips || s->small_only;
    run_cases(s, false);
    s->skips = skips;
    for (int direction = FORWARD; direction < DIRECTIONS; direction++) {
        golden_digests(s, direction);
    }
}

#ifdef TEST_POSIX
static void report_fault(int signal_number)
{
    static const char text[] = "memory outside the arguments was accessed: ";
    (void)signal_number;
    if (write(STDOUT_FILENO, text, sizeof text - 1) < 0 || write(STDOUT_FILENO, running, strlen(running)) < 0 ||
        write(STDOUT_FILENO, "\n", 1) < 0) {
        _exit(2);
    }
    _exit(1);
}
#endif

int main(int argc, char **argv)
{
    static state s; /* hundreds of bytes more than a small machine's stack may like */
    const char *path = "tests/c/golden.txt";
    unsigned long part = 1, parts = 1; /* and not size_t: newlib may lack %zu */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--update") == 0) {
            updating = true;
        } else if (strcmp(argv[i], "--small") == 0) {
            s.small_only = true;
        } else if (strcmp(argv[i], "--part") == 0) {
            const char *const value = i + 1 < argc ? argv[++i] : "nothing";
            if (sscanf(value, "%lu/%lu", &part, &parts) != 2 || part < 1 || part > parts || parts > GROUPS) {
                printf("--part takes K/N with K from 1 to N, and N at most %lu, as 1/4; got %s\n",
                       (unsigned long)GROUPS, value);
                return EXIT_FAILURE;
            }
        } else if (argv[i][0] != '-' && i == argc - 1) {
            path = argv[i];
        } else {
            printf("usage: lnorm_check [--update] [--small] [--part K/N] [GOLDEN]; got %s\n", argv[i]);
            return EXIT_FAILURE;
        }
    }
    if (updating && (s.small_only || parts > 1)) {
        printf("--update takes a whole run: leave out --small and --part\n");
        return EXIT_FAILURE;
    }
    golden = fopen(path, updating ? "w" : "r");
    if (!golden) {
        printf("cannot open the golden file %s; --update writes one\n", path);
        return EXIT_FAILURE;
    }
#ifdef TEST_POSIX
    signal(SIGSEGV, report_fault);
    signal(SIGBUS, report_fault);
    setvbuf(stdout, NULL, _IOLBF, 0);
#endif
    printf("instruction sets:");
    for (size_t i = 0; lnorm_available_isa(i); i++) {
        s.isas[i] = s.reference = lnorm_available_isa(i);
        printf(" %s", s.isas[i]);
    }
    printf("\n");

    golden_line("# FNV-1a 64 of the outputs of lnorm_check, written by lnorm_check --update: small cases, all cases",
                true);
    for (s.kind = kinds; s.kind < kinds + KINDS; s.kind++) {
        for (s.group = groups; s.group < groups + GROUPS; s.group++) {
            s.skips = (unsigned long)(s.kind - kinds + (s.group - groups)) % parts != part - 1;
            run_group(&s);
        }
    }
    CHECK(updating || fgetc(golden) == EOF);
    CHECK(fclose(golden) == 0);
    printf("%lu cases, %lu runs", s.cases - s.skipped, s.runs);
    if (s.skipped > 0) {
        printf("; part %lu/%lu%s, without the %lu other cases", part, parts, s.small_only ? " of the small cases" : "",
               s.skipped);
    }
    printf("\n");
    return test_result("lnorm_check");
}

/* lnorm_check [--update | --part K/N] [GOLDEN]: every instruction set available here gives the bits of "scalar" for
 * every case, and touches no memory but its arguments; and "scalar" gives the bits that it gives on every other
 * machine.
 *
 * For the latter the file GOLDEN (tests/c/golden.txt when not named) holds a digest of the outputs for each operation,
 * element type and group of cases; --update writes it. --part runs one of N shares of those groups, of each operation
 * and element type some, where a whole run takes long; the digests are the same. */
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
    if (k->form == INTEGERS) {
        return 0;
    }
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    return size;
}

static size_t bytes_of(const kind *k, int argument, size_t rows, size_t cols)
{
    return argument == WORKSPACE ? workspace_of(k, rows, cols)
                                 : length_of(k, argument, rows, cols) * type_size(type_of(k, argument));
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

static lnorm_status run_forward(const kind *k, size_t rows, size_t cols, double eps, void *const a[])
{
    const lnorm_problem problem = problem_of(k, rows, cols, eps);
    lnorm_status status;
    switch (k->form) {
    case TYPED:
        return flat_forward(k->real, rows, cols, eps, a);
    case ADDED:
        return lnorm_add_forward(&problem, a[X], a[RESIDUAL], a[INPUT_BIAS], a[GAMMA], a[BETA], a[TOTAL], a[Y], a[MEAN],
                                 a[RSTD]);
    case INTEGERS:
        return lnorm_quantized_forward(&problem, a[X], a[GAMMA], a[BETA], a[Y], a[SCALE], a[ZERO_POINT], a[MEAN],
                                       a[RSTD]);
    case PIECES:
        status = lnorm_moments(&problem, a[X], a[MOMENTS]);
        return status == LNORM_OK
                   ? lnorm_apply_moments(&problem, a[X], a[MOMENTS], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD])
                   : status;
    default:
        return lnorm_forward(&problem, a[X], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    }
}

static lnorm_status run_backward(const kind *k, size_t rows, size_t cols, double eps, void *const a[], size_t workspace)
{
    const lnorm_problem problem = problem_of(k, rows, cols, eps);
    lnorm_status status;
    switch (k->form) {
    case TYPED:
        return flat_backward(k->real, rows, cols, a, workspace);
    case INTEGERS:
        return LNORM_OK;
    case ADDED:
        return lnorm_add_backward(&problem, a[DY], a[DTOTAL], a[TOTAL], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA],
                                  a[DBETA], a[WORKSPACE], workspace);
    case FROM_Y:
        return lnorm_backward_from_y(&problem, a[DY], a[Y], a[RSTD], a[GAMMA], a[BETA], a[DX], a[DGAMMA], a[DBETA],
                                     a[WORKSPACE], workspace);
    case PIECES:
        status = lnorm_grad_moments(&problem, a[DY], a[X], a[MOMENTS], a[GAMMA], a[GRAD_MOMENTS]);
        return status == LNORM_OK
                   ? lnorm_apply_grad_moments(&problem, a[DY], a[X], a[MOMENTS], a[GRAD_MOMENTS], a[GAMMA], a[DX],
                                              a[DGAMMA], a[DBETA], a[WORKSPACE], workspace)
                   : status;
    default:
        return lnorm_backward(&problem, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA],
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

static uint64_t digest_values(uint64_t digest, lnorm_type type, const void *values, size_t count)
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

/* Writes the line, or compares it with that of the file, as far as `length`. */
static void golden_line(const char *line, size_t length)
{
    char expected[200] = "";
    if (updating) {
        CHECK(fprintf(golden, "%s\n", line) > 0);
    } else {
        if (!fgets(expected, sizeof expected, golden)) {
            strcpy(expected, "nothing");
        }
        expected[strcspn(expected, "\r\n")] = '\0';
        if (!CHECK(strncmp(line, expected, length) == 0)) {
            printf("  the golden file has: %s\n", expected);
        }
    }
}

typedef struct state {
    const kind *kind;
    const group *group;
    unsigned long cases, skipped, runs;
    bool skips; /* this group is not in the part that was asked for */
    uint64_t digest_forward, digest_backward;
    guarded expected[ALL_ARGUMENTS], got[ALL_ARGUMENTS];
} state;

static void golden_digest(const char *operation, const state *s, uint64_t digest)
{
    char line[100];
    const int name = snprintf(line, sizeof line, "%s %s %s ", operation, s->kind->name, s->group->name);
    snprintf(line + name, sizeof line - (size_t)name, "%016llx", (unsigned long long)digest);
    if (!s->skips) {
        puts(line);
    }
    golden_line(line, s->skips ? (size_t)name : sizeof line);
}

/* ---- One case ---- */

static char running[200]; /* what a failure, or a fault on a guard page, is reported with */

static void check_equal(const state *s, int argument, void *const a[], void *const b[], size_t rows, size_t cols)
{
    const lnorm_type type = type_of(s->kind, argument);
    size_t count = length_of(s->kind, argument, rows, cols);
    if (!a[argument] || !b[argument]) {
        return;
    }
    size_t i = first_difference(type, a[argument], b[argument], count);
    if (!CHECK(i == count)) {
        printf("  %s: %s[%zu] of %zu is %a (%016llx), expected %a (%016llx)\n", running, name_of(argument), i, count,
               get_value(type, b[argument], i), (unsigned long long)value_bits(type, b[argument], i),
               get_value(type, a[argument], i), (unsigned long long)value_bits(type, a[argument], i));
    }
}

static void check_guards(const guarded buffers[], void *const a[])
{
    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        if (a[i] && !CHECK(guarded_intact(&buffers[i]))) {
            printf("  %s: written outside %s\n", running, name_of(i));
        }
    }
}

static void place_all(const state *s, guarded buffers[], void *a[], size_t rows, size_t cols, size_t shift, bool at_end)
{
    for (size_t i = 0; i < ALL_ARGUMENTS; i++) { /* odd factors: over all shifts, each argument takes every offset */
        const size_t size = type_size(type_of(s->kind, (int)i));
        a[i] = guarded_place(&buffers[i], bytes_of(s->kind, (int)i, rows, cols),
                             (shift * (2 * i + 1) + i) % (64 / size) * size, at_end);
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
    const size_t workspace = workspace_of(k, rows, cols);
    uint64_t random = seed;
    void *expected[ALL_ARGUMENTS], *got[ALL_ARGUMENTS];

    for (int i = 0; i < ALL_ARGUMENTS; i++) {
        expected[i] = guarded_place(&s->expected[i], bytes_of(k, i, rows, cols), 0, true);
    }
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

    snprintf(running, sizeof running, "scalar %s %s, seed %llu, %zu x %zu", k->name, s->group->name,
             (unsigned long long)seed, rows, cols);
    CHECK(lnorm_set_isa("scalar") == LNORM_OK);
    CHECK(run_forward(k, rows, cols, s->group->eps, expected) == LNORM_OK);
    CHECK(run_backward(k, rows, cols, s->group->eps, expected, workspace) == LNORM_OK);
    check_guards(s->expected, expected);
    for (int i = Y; i <= RSTD; i++) {
        s->digest_forward = digest_argument(s->digest_forward, k, i, expected, rows, cols);
    }
    for (int i = TOTAL; i <= MOMENTS; i++) {
        s->digest_forward = digest_argument(s->digest_forward, k, i, expected, rows, cols);
    }
    for (int i = DX; i <= DBETA && k->form != INTEGERS; i++) {
        s->digest_backward = digest_argument(s->digest_backward, k, i, expected, rows, cols);
    }
    s->digest_backward = digest_argument(s->digest_backward, k, GRAD_MOMENTS, expected, rows, cols);

    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        snprintf(running, sizeof running, "%s %s %s, seed %llu, %zu x %zu, shift %zu", lnorm_available_isa(isa),
                 k->name, s->group->name, (unsigned long long)seed, rows, cols, shift);
        place_all(s, s->got, got, rows, cols, shift, seed % 2);
        for (int i = 0; i < ALL_ARGUMENTS; i++) {
            if (!expected[i]) {
                got[i] = NULL;
            } else if (is_input(k, i)) {
                memcpy(got[i], expected[i], bytes_of(k, i, rows, cols));
            }
        }
        CHECK(lnorm_set_isa(lnorm_available_isa(isa)) == LNORM_OK);
        CHECK(run_forward(k, rows, cols, s->group->eps, got) == LNORM_OK);
        /* The outputs that are asked for do not depend on those that are not. */
        if (seed % 8 == 3) {
            got[DX] = NULL;
        }
        if (seed % 8 == 4) {
            got[DGAMMA] = NULL;
        }
        if (seed % 8 == 5) {
            got[DBETA] = NULL;
        }
        if (seed % 8 == 6) {
            got[DGAMMA] = got[DBETA] = got[WORKSPACE] = NULL;
        }
        CHECK(run_backward(k, rows, cols, s->group->eps, got, got[WORKSPACE] ? workspace : 0) == LNORM_OK);
        check_guards(s->got, got);
        for (int i = 0; i < ALL_ARGUMENTS; i++) { /* the inputs too: they are still what they were */
            if (i != WORKSPACE) {
                check_equal(s, i, expected, got, rows, cols);
            }
        }
        s->runs++;
    }
}

/* The kinds after the typed ones share their code, and get a share of their cases. */
static void run_group(state *s)
{
    const size_t every = s->kind->form == TYPED ? 1 : s->kind->form == GENERAL && s->kind->flags == 0 ? 7 : 41;
    for (size_t cols = 1; cols <= 300; cols += every) {
        run_case(s, 1 + cols * 7 % (cols % 2 ? 40 : 10), cols, cols);
    }
    size_t count = 0;
    for (size_t list = 0; list < SHAPE_LISTS; list++) {
        for (const size_t *rows = shape_lists[list].rows; *rows; rows++) {
            for (const size_t *cols = shape_lists[list].cols; *cols; cols++) {
                if (count++ % every == 0) {
                    run_case(s, *rows, *cols, *rows + *cols);
                }
            }
        }
    }
    for (size_t shift = 0; shift < 64 / type_size(s->kind->x); shift++) {
        for (size_t cols = 1; cols < 200; cols += 6 * every) {
            run_case(s, 5, cols, shift);
            run_case(s, 2, cols + 5, shift);
        }
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
    size_t part = 1, parts = 1;
    int options = 0;
    if (argc > 1 && strcmp(argv[1], "--update") == 0) {
        updating = true;
        options = 1;
    } else if (argc > 2 && strcmp(argv[1], "--part") == 0) {
        if (sscanf(argv[2], "%zu/%zu", &part, &parts) != 2 || part < 1 || part > parts || parts > GROUPS) {
            printf("--part takes K/N with K from 1 to N, and N at most %zu, as 1/4; got %s\n", GROUPS, argv[2]);
            return EXIT_FAILURE;
        }
        options = 2;
    }
    const char *path = argc > 1 + options ? argv[1 + options] : "tests/c/golden.txt";
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
        printf(" %s", lnorm_available_isa(i));
    }
    printf("\n");

    state s = {0};
    golden_line("# FNV-1a 64 of the outputs of lnorm_check, written by lnorm_check --update", SIZE_MAX);
    for (s.kind = kinds; s.kind < kinds + KINDS; s.kind++) {
        for (s.group = groups; s.group < groups + GROUPS; s.group++) {
            s.digest_forward = s.digest_backward = 0xcbf29ce484222325u;
            s.skips = (size_t)(s.kind - kinds + (s.group - groups)) % parts != part - 1;
            run_group(&s);
            golden_digest("forward", &s, s.digest_forward);
            golden_digest("backward", &s, s.digest_backward);
        }
    }
    CHECK(updating || fgetc(golden) == EOF);
    CHECK(fclose(golden) == 0);
    printf("%lu cases, %lu runs", s.cases - s.skipped, s.runs);
    if (s.skipped > 0) {
        printf("; part %zu/%zu, without the %lu cases of the others", part, parts, s.skipped);
    }
    printf("\n");
    return test_result("lnorm_check");
}

/* lnorm_check [--update] [GOLDEN]: every instruction set available here gives the bits of "scalar" for every case, and
 * touches no memory but its arguments; and "scalar" gives the bits that it gives on every other machine.
 *
 * For the latter the file GOLDEN (tests/c/golden.txt when not named) holds a digest of the outputs for each operation,
 * element type and group of cases; --update writes it. */
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

/* An operation and its types; what is computed with has `real`. */
typedef struct kind {
    const char *name;
    lnorm_operation operation;
    lnorm_type x, y, param, real;
} kind;

static const kind kinds[] = {
    {"f32", LNORM_LAYER_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32}, /* the first two by the typed calls */
    {"f64", LNORM_LAYER_NORM, LNORM_F64, LNORM_F64, LNORM_F64, LNORM_F64},
    {"rms f32", LNORM_RMS_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32},
    {"rms f64", LNORM_RMS_NORM, LNORM_F64, LNORM_F64, LNORM_F64, LNORM_F64},
    {"f16", LNORM_LAYER_NORM, LNORM_F16, LNORM_F16, LNORM_F16, LNORM_F32},
    {"bf16", LNORM_LAYER_NORM, LNORM_BF16, LNORM_BF16, LNORM_BF16, LNORM_F32},
    {"f16-f32-f32", LNORM_LAYER_NORM, LNORM_F16, LNORM_F32, LNORM_F32, LNORM_F32},
    {"f32-bf16-f32", LNORM_LAYER_NORM, LNORM_F32, LNORM_BF16, LNORM_F32, LNORM_F32},
    {"rms bf16-bf16-f32", LNORM_RMS_NORM, LNORM_BF16, LNORM_BF16, LNORM_F32, LNORM_F32},
    {"rms f16", LNORM_RMS_NORM, LNORM_F16, LNORM_F16, LNORM_F16, LNORM_F32},
};

#define KINDS (sizeof kinds / sizeof kinds[0])
#define TYPED_KINDS ((size_t)2)

static lnorm_type type_of(const kind *k, int argument)
{
    switch (argument) {
    case X:
    case DX:
        return k->x;
    case Y:
    case DY:
        return k->y;
    case GAMMA:
    case BETA:
        return k->param;
    default:
        return k->real;
    }
}

static size_t bytes_of(const kind *k, int argument, size_t rows, size_t cols)
{
    return argument == WORKSPACE ? workspace_bytes(k->real, rows, cols)
                                 : argument_length(argument, rows, cols) * type_size(type_of(k, argument));
}

static lnorm_problem problem_of(const kind *k, size_t rows, size_t cols, double eps)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.operation = (int32_t)k->operation;
    problem.x_type = (int32_t)k->x;
    problem.y_type = (int32_t)k->y;
    problem.param_type = (int32_t)k->param;
    problem.outer = (int64_t)rows;
    problem.norm = (int64_t)cols;
    problem.eps = eps;
    return problem;
}

static lnorm_status run_forward(const kind *k, size_t rows, size_t cols, double eps, void *const a[])
{
    if (k < kinds + TYPED_KINDS) {
        return flat_forward(k->real, rows, cols, eps, a);
    }
    const lnorm_problem problem = problem_of(k, rows, cols, eps);
    return lnorm_forward(&problem, a[X], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
}

static lnorm_status run_backward(const kind *k, size_t rows, size_t cols, void *const a[], size_t workspace)
{
    if (k < kinds + TYPED_KINDS) {
        return flat_backward(k->real, rows, cols, a, workspace);
    }
    const lnorm_problem problem = problem_of(k, rows, cols, 0.0);
    return lnorm_backward(&problem, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA], a[WORKSPACE],
                          workspace);
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

/* A power of two from anywhere in the type's range. */
static double random_scale(lnorm_type type, uint64_t *state)
{
    const int lowest = type == LNORM_F64 ? -1074 : -149, count = type == LNORM_F64 ? 2097 : 276;
    const int exponent = lowest + (int)(next_random(state) % (uint64_t)count);
    double scale = 1.0;
    for (int i = 0; i < exponent; i++) {
        scale *= 2.0;
    }
    for (int i = 0; i > exponent; i--) {
        scale *= 0.5;
    }
    return scale;
}

static void make_special(lnorm_type type, void *x, size_t rows, size_t cols, uint64_t *state)
{
    const double largest = type == LNORM_F64   ? 0x1.fffffffffffffp+1023
                           : type == LNORM_F32 ? 0x1.fffffep+127
                           : type == LNORM_F16 ? 65504.0
                                               : 0x1.fep+127;
    for (size_t r = 0; r < rows; r++) {
        const size_t row = r * cols, one = row + (size_t)(next_random(state) % cols);
        double scale;
        switch (next_random(state) % 9) {
        case 0: /* constant rows */
            fill_values(type, (char *)x + row * type_size(type), cols, 0.0, 0.0, state);
            break;
        case 1:
            for (size_t c = 0; c < cols; c++) {
                set_value(type, x, row + c, 0.1);
            }
            break;
        case 2: /* the whole row is spoilt, and only this one */
            set_value(type, x, one, (double)NAN);
            break;
        case 3:
            set_value(type, x, one, (double)INFINITY);
            break;
        case 4: /* outliers */
            set_value(type, x, one, 1e4);
            break;
        case 5:
            set_value(type, x, one, -largest);
            break;
        case 6: /* sums overflow as well */
            for (size_t c = 0; c < cols; c++) {
                set_value(type, x, row + c, get_value(type, x, row + c) < 0.0 ? -largest : largest);
            }
            break;
        case 7:
            scale = random_scale(type, state);
            for (size_t c = 0; c < cols; c++) {
                set_value(type, x, row + c, get_value(type, x, row + c) * scale);
            }
            break;
        default: /* an ordinary row between them */
            break;
        }
    }
}

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
    return a[argument] ? digest_values(digest, type_of(k, argument), a[argument], argument_length(argument, rows, cols))
                       : digest;
}

static FILE *golden;
static bool updating;

static void golden_line(const char *line)
{
    char expected[200] = "";
    if (updating) {
        CHECK(fprintf(golden, "%s\n", line) > 0);
    } else {
        if (!fgets(expected, sizeof expected, golden)) {
            strcpy(expected, "nothing");
        }
        expected[strcspn(expected, "\r\n")] = '\0';
        if (!CHECK(strcmp(line, expected) == 0)) {
            printf("  the golden file has: %s\n", expected);
        }
    }
}

static void golden_digest(const char *operation, const kind *k, const char *group_name, uint64_t digest)
{
    char line[100];
    snprintf(line, sizeof line, "%s %s %s %016llx", operation, k->name, group_name, (unsigned long long)digest);
    puts(line);
    golden_line(line);
}

/* ---- One case ---- */

typedef struct state {
    const kind *kind;
    const group *group;
    unsigned long cases, runs;
    uint64_t digest_forward, digest_backward;
    guarded expected[ARGUMENTS], got[ARGUMENTS];
} state;

static char running[200]; /* what a failure, or a fault on a guard page, is reported with */

static void check_equal(const state *s, int argument, void *const a[], void *const b[], size_t rows, size_t cols)
{
    const lnorm_type type = type_of(s->kind, argument);
    size_t count = argument_length(argument, rows, cols);
    if (!a[argument] || !b[argument]) {
        return;
    }
    size_t i = first_difference(type, a[argument], b[argument], count);
    if (!CHECK(i == count)) {
        printf("  %s: %s[%zu] of %zu is %a (%016llx), expected %a (%016llx)\n", running, argument_names[argument], i,
               count, get_value(type, b[argument], i), (unsigned long long)value_bits(type, b[argument], i),
               get_value(type, a[argument], i), (unsigned long long)value_bits(type, a[argument], i));
    }
}

static void check_guards(const guarded buffers[], void *const a[])
{
    for (int i = 0; i < ARGUMENTS; i++) {
        if (a[i] && !CHECK(guarded_intact(&buffers[i]))) {
            printf("  %s: written outside %s\n", running, argument_names[i]);
        }
    }
}

static void place_all(const state *s, guarded buffers[], void *a[], size_t rows, size_t cols, size_t shift, bool at_end)
{
    for (size_t i = 0; i < ARGUMENTS; i++) { /* odd factors: over all shifts, each argument takes every offset */
        const size_t size = type_size(type_of(s->kind, (int)i));
        a[i] = guarded_place(&buffers[i], bytes_of(s->kind, (int)i, rows, cols),
                             (shift * (2 * i + 1) + i) % (64 / size) * size, at_end);
    }
}

static void run_case(state *s, size_t rows, size_t cols, size_t shift)
{
    const kind *const k = s->kind;
    const size_t workspace = workspace_bytes(k->real, rows, cols);
    const uint64_t seed = s->cases++;
    uint64_t random = seed;
    void *expected[ARGUMENTS], *got[ARGUMENTS];

    for (int i = 0; i < ARGUMENTS; i++) {
        expected[i] = guarded_place(&s->expected[i], bytes_of(k, i, rows, cols), 0, true);
    }
    fill_values(k->x, expected[X], rows * cols, s->group->offset, s->group->scale[k->real == LNORM_F64], &random);
    fill_values(k->y, expected[DY], rows * cols, 0.0, 1.0, &random);
    fill_values(k->param, expected[GAMMA], cols, 0.5, 1.0, &random);
    fill_values(k->param, expected[BETA], cols, 0.0, 1.0, &random);
    if (strcmp(s->group->name, "special") == 0) {
        make_special(k->x, expected[X], rows, cols, &random);
    }
    if (seed % 5 == 1) {
        expected[GAMMA] = NULL;
    }
    if (seed % 5 == 2) {
        expected[BETA] = NULL;
    }
    if (k->operation == LNORM_RMS_NORM) {
        expected[MEAN] = NULL;
    }

    snprintf(running, sizeof running, "scalar %s %s, seed %llu, %zu x %zu", k->name, s->group->name,
             (unsigned long long)seed, rows, cols);
    CHECK(lnorm_set_isa("scalar") == LNORM_OK);
    CHECK(run_forward(k, rows, cols, s->group->eps, expected) == LNORM_OK);
    CHECK(run_backward(k, rows, cols, expected, workspace) == LNORM_OK);
    check_guards(s->expected, expected);
    for (int i = Y; i <= RSTD; i++) {
        s->digest_forward = digest_argument(s->digest_forward, k, i, expected, rows, cols);
    }
    for (int i = DX; i <= DBETA; i++) {
        s->digest_backward = digest_argument(s->digest_backward, k, i, expected, rows, cols);
    }

    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        snprintf(running, sizeof running, "%s %s %s, seed %llu, %zu x %zu, shift %zu", lnorm_available_isa(isa),
                 k->name, s->group->name, (unsigned long long)seed, rows, cols, shift);
        place_all(s, s->got, got, rows, cols, shift, seed % 2);
        for (int i = 0; i < ARGUMENTS; i++) {
            if (!expected[i]) {
                got[i] = NULL;
            } else if (i == X || i == DY || i == GAMMA || i == BETA) {
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
        CHECK(run_backward(k, rows, cols, got, got[WORKSPACE] ? workspace : 0) == LNORM_OK);
        check_guards(s->got, got);
        for (int i = 0; i < WORKSPACE; i++) { /* the inputs too: they are still what they were */
            check_equal(s, i, expected, got, rows, cols);
        }
        s->runs++;
    }
}

/* The kinds after the typed ones share their code, and get a share of their cases. */
static void run_group(state *s)
{
    const size_t every = s->kind < kinds + TYPED_KINDS ? 1 : 7;
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
    updating = argc > 1 && strcmp(argv[1], "--update") == 0;
    const char *path = argc > 1 + updating ? argv[1 + updating] : "tests/c/golden.txt";
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
    golden_line("# FNV-1a 64 of the outputs of lnorm_check, written by lnorm_check --update");
    for (s.kind = kinds; s.kind < kinds + KINDS; s.kind++) {
        for (s.group = groups; s.group < groups + GROUPS; s.group++) {
            s.digest_forward = s.digest_backward = 0xcbf29ce484222325u;
            run_group(&s);
            golden_digest("forward", s.kind, s.group->name, s.digest_forward);
            golden_digest("backward", s.kind, s.group->name, s.digest_backward);
        }
    }
    CHECK(updating || fgetc(golden) == EOF);
    CHECK(fclose(golden) == 0);
    printf("%lu cases, %lu runs\n", s.cases, s.runs);
    return test_result("lnorm_check");
}

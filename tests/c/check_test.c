/* lnorm_check [--update] [GOLDEN]: every instruction set available here gives the bits of "scalar" for every case, and
 * touches no memory but its arguments; and "scalar" gives the bits that it gives on every other machine.
 *
 * For the latter the file GOLDEN (tests/c/golden.txt when not named) holds a digest of the outputs for each operation,
 * element type and group of cases; --update writes it. */
#include "test_support.h"

#include <math.h>
#ifdef TEST_POSIX
#include <signal.h>
#endif

/* ---- Cases: groups of values by lists of shapes ---- */

typedef struct group {
    const char *name;
    double offset, eps;
    double scale[2]; /* of x in f32 and in f64, after the offset; a power of two rounds only subnormal numbers */
} group;

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
    const int lowest = type == LNORM_F32 ? -149 : -1074, count = type == LNORM_F32 ? 276 : 2097;
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
    const double largest = type == LNORM_F32 ? 0x1.fffffep+127 : 0x1.fffffffffffffp+1023;
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

static void golden_digest(const char *operation, lnorm_type type, const char *group_name, uint64_t digest)
{
    char line[100];
    snprintf(line, sizeof line, "%s %s %s %016llx", operation, type_name(type), group_name, (unsigned long long)digest);
    puts(line);
    golden_line(line);
}

/* ---- One case ---- */

typedef struct state {
    lnorm_type type;
    const group *group;
    unsigned long cases, runs;
    uint64_t digest_forward, digest_backward;
    guarded expected[ARGUMENTS], got[ARGUMENTS];
} state;

static char running[200]; /* what a failure, or a fault on a guard page, is reported with */

static void check_equal(const state *s, int argument, void *const a[], void *const b[], size_t rows, size_t cols)
{
    size_t count = argument_length(argument, rows, cols);
    if (!a[argument] || !b[argument]) {
        return;
    }
    size_t i = first_difference(s->type, a[argument], b[argument], count);
    if (!CHECK(i == count)) {
        printf("  %s: %s[%zu] of %zu is %a (%016llx), expected %a (%016llx)\n", running, argument_names[argument], i,
               count, get_value(s->type, b[argument], i), (unsigned long long)value_bits(s->type, b[argument], i),
               get_value(s->type, a[argument], i), (unsigned long long)value_bits(s->type, a[argument], i));
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
    const size_t elements = 64 / type_size(s->type);
    for (size_t i = 0; i < ARGUMENTS; i++) { /* odd factors: over all shifts, each argument takes every offset */
        a[i] = guarded_place(&buffers[i], argument_bytes((int)i, s->type, rows, cols),
                             (shift * (2 * i + 1) + i) % elements * type_size(s->type), at_end);
    }
}

static void run_case(state *s, size_t rows, size_t cols, size_t shift)
{
    const size_t workspace = workspace_bytes(s->type, rows, cols);
    const uint64_t seed = s->cases++;
    uint64_t random = seed;
    void *expected[ARGUMENTS], *got[ARGUMENTS];

    for (int i = 0; i < ARGUMENTS; i++) {
        expected[i] = guarded_place(&s->expected[i], argument_bytes(i, s->type, rows, cols), 0, true);
    }
    fill_values(s->type, expected[X], rows * cols, s->group->offset, s->group->scale[s->type == LNORM_F64], &random);
    fill_values(s->type, expected[DY], rows * cols, 0.0, 1.0, &random);
    fill_values(s->type, expected[GAMMA], cols, 0.5, 1.0, &random);
    fill_values(s->type, expected[BETA], cols, 0.0, 1.0, &random);
    if (strcmp(s->group->name, "special") == 0) {
        make_special(s->type, expected[X], rows, cols, &random);
    }
    if (seed % 5 == 1) {
        expected[GAMMA] = NULL;
    }
    if (seed % 5 == 2) {
        expected[BETA] = NULL;
    }

    snprintf(running, sizeof running, "scalar %s %s, seed %llu, %zu x %zu", type_name(s->type), s->group->name,
             (unsigned long long)seed, rows, cols);
    CHECK(lnorm_set_isa("scalar") == LNORM_OK);
    CHECK(flat_forward(s->type, rows, cols, s->group->eps, expected) == LNORM_OK);
    CHECK(flat_backward(s->type, rows, cols, expected, workspace) == LNORM_OK);
    check_guards(s->expected, expected);
    for (int i = Y; i <= RSTD; i++) {
        s->digest_forward = digest_values(s->digest_forward, s->type, expected[i], argument_length(i, rows, cols));
    }
    for (int i = DX; i <= DBETA; i++) {
        s->digest_backward = digest_values(s->digest_backward, s->type, expected[i], argument_length(i, rows, cols));
    }

    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        snprintf(running, sizeof running, "%s %s %s, seed %llu, %zu x %zu, shift %zu", lnorm_available_isa(isa),
                 type_name(s->type), s->group->name, (unsigned long long)seed, rows, cols, shift);
        place_all(s, s->got, got, rows, cols, shift, seed % 2);
        for (int i = 0; i < ARGUMENTS; i++) {
            if (!expected[i]) {
                got[i] = NULL;
            } else if (i == X || i == DY || i == GAMMA || i == BETA) {
                memcpy(got[i], expected[i], argument_bytes(i, s->type, rows, cols));
            }
        }
        CHECK(lnorm_set_isa(lnorm_available_isa(isa)) == LNORM_OK);
        CHECK(flat_forward(s->type, rows, cols, s->group->eps, got) == LNORM_OK);
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
        CHECK(flat_backward(s->type, rows, cols, got, got[WORKSPACE] ? workspace : 0) == LNORM_OK);
        check_guards(s->got, got);
        for (int i = 0; i < WORKSPACE; i++) { /* the inputs too: they are still what they were */
            check_equal(s, i, expected, got, rows, cols);
        }
        s->runs++;
    }
}

static void run_group(state *s)
{
    for (size_t cols = 1; cols <= 300; cols++) {
        run_case(s, 1 + cols * 7 % (cols % 2 ? 40 : 10), cols, cols);
    }
    for (size_t list = 0; list < SHAPE_LISTS; list++) {
        for (const size_t *rows = shape_lists[list].rows; *rows; rows++) {
            for (const size_t *cols = shape_lists[list].cols; *cols; cols++) {
                run_case(s, *rows, *cols, *rows + *cols);
            }
        }
    }
    for (size_t shift = 0; shift < 64 / type_size(s->type); shift++) {
        for (size_t cols = 1; cols < 200; cols += 6) {
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
    for (size_t t = 0; t < 2; t++) {
        for (size_t g = 0; g < GROUPS; g++) {
            s.type = element_types[t];
            s.group = &groups[g];
            s.digest_forward = s.digest_backward = 0xcbf29ce484222325u;
            run_group(&s);
            golden_digest("forward", s.type, s.group->name, s.digest_forward);
            golden_digest("backward", s.type, s.group->name, s.digest_backward);
        }
    }
    CHECK(updating || fgetc(golden) == EOF);
    CHECK(fclose(golden) == 0);
    printf("%lu cases, %lu runs\n", s.cases, s.runs);
    return test_result("lnorm_check");
}

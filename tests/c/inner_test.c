/* lnorm_inner_test [EVERY]: normalization over an axis that is not the last. y, mean, rstd and dx are the bits that
 * "scalar" gives for the transposed tensor, on every instruction set; dgamma and dbeta are the same bits on all of
 * them, and near those of the transposed tensor. With EVERY only one case in so many is run. */
#include "test_support.h"

#ifdef TEST_POSIX
#include <signal.h>
#endif

typedef struct kind {
    const char *name;
    lnorm_operation operation;
    lnorm_type x, y, param, real;
} kind;

static const kind kinds[] = {
    {"f32", LNORM_LAYER_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32},
    {"f64", LNORM_LAYER_NORM, LNORM_F64, LNORM_F64, LNORM_F64, LNORM_F64},
    {"f16", LNORM_LAYER_NORM, LNORM_F16, LNORM_F16, LNORM_F16, LNORM_F32},
    {"bf16", LNORM_LAYER_NORM, LNORM_BF16, LNORM_BF16, LNORM_F32, LNORM_F32},
    {"rms f32", LNORM_RMS_NORM, LNORM_F32, LNORM_F32, LNORM_F32, LNORM_F32},
    {"rms f64", LNORM_RMS_NORM, LNORM_F64, LNORM_F64, LNORM_F64, LNORM_F64},
    {"rms bf16", LNORM_RMS_NORM, LNORM_BF16, LNORM_BF16, LNORM_BF16, LNORM_F32},
    {"f16 to f32", LNORM_LAYER_NORM, LNORM_F16, LNORM_F32, LNORM_F32, LNORM_F32},
};

typedef struct group {
    const char *name;
    double offset, eps, scale[2]; /* as in check_test.c */
} group;

static const group groups[] = {
    {"plain", 0.0, 1e-5, {1.0, 1.0}},         {"offset", 1e4, 1e-5, {1.0, 1.0}},
    {"tiny", 0.0, 0.0, {0x1p-100, 0x1p-665}}, {"huge", 0.0, 0.0, {0x1p+100, 0x1p+665}},
    {"special", 0.0, 0.0, {1.0, 1.0}},        {"special, eps", 0.5, 1e-3, {1.0, 1.0}},
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- Where elements lie ---- */

typedef struct shape {
    size_t outer, norm, inner;
} shape;

typedef struct layout {
    ptrdiff_t stride, step;
    size_t first, elements; /* the place of the first element, and of how many there is room */
} layout;

enum { DENSE, PADDED, BACKWARDS, NORM_FIRST, LAYOUTS };

static layout make_layout(const shape *s, int which)
{
    layout l = {(ptrdiff_t)(s->norm * s->inner), (ptrdiff_t)s->inner, 0, 0};
    if (which == PADDED || which == BACKWARDS) {
        l.step = (ptrdiff_t)s->inner + 3;
        l.stride = (ptrdiff_t)s->norm * l.step + 5;
    } else if (which == NORM_FIRST) {
        l.step = (ptrdiff_t)(s->outer * s->inner);
        l.stride = (ptrdiff_t)s->inner;
    }
    l.elements = (size_t)l.stride * (s->outer - 1) + (size_t)l.step * (s->norm - 1) + s->inner;
    if (which == BACKWARDS) {
        l.stride = -l.stride;
        l.step = -l.step;
        l.first = l.elements - s->inner;
    }
    return l;
}

static size_t place(const shape *s, const layout *l, size_t row, size_t i)
{
    return (size_t)((ptrdiff_t)l->first + (ptrdiff_t)(row / s->inner) * l->stride + (ptrdiff_t)i * l->step) +
           row % s->inner;
}

static void copy_element(size_t size, void *to, size_t i, const void *from, size_t j)
{
    memcpy((char *)to + i * size, (const char *)from + j * size, size);
}

static void scatter(lnorm_type type, const shape *s, const layout *l, void *to, const void *rows)
{
    for (size_t r = 0; r < s->outer * s->inner; r++) {
        for (size_t i = 0; i < s->norm; i++) {
            copy_element(type_size(type), to, place(s, l, r, i), rows, r * s->norm + i);
        }
    }
}

static void gather(lnorm_type type, const shape *s, const layout *l, void *rows, const void *from)
{
    for (size_t r = 0; r < s->outer * s->inner; r++) {
        for (size_t i = 0; i < s->norm; i++) {
            copy_element(type_size(type), rows, r * s->norm + i, from, place(s, l, r, i));
        }
    }
}

/* ---- One case ---- */

static char running[200];
static const kind *k;
static shape s;

static lnorm_type type_of(int argument)
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

static void check_equal(int argument, const void *expected, const void *got, size_t count)
{
    const lnorm_type type = type_of(argument);
    const size_t i = first_difference(type, expected, got, count);
    if (!CHECK(i == count)) {
        printf("  %s: %s[%zu] of %zu is %a, expected %a\n", running, argument_names[argument], i, count,
               get_value(type, got, i), get_value(type, expected, i));
    }
}

static void backwards_hook(void *context, size_t count, lnorm_task task, void *argument)
{
    (void)context;
    for (size_t i = count; i > 0; i--) {
        task(argument, i - 1);
    }
}

/* The bound of an error of dgamma or dbeta that both ways of summing keep. */
static void check_sums(void *const expected[], const void *got, int argument, bool accumulate)
{
    const double u = k->real == LNORM_F64 ? 0x1p-53 : 0x1p-24;
    for (size_t i = 0; i < s.norm; i++) {
        double sum = 0.0;
        for (size_t r = 0; r < s.outer * s.inner; r++) {
            const double mean = expected[MEAN] ? get_value(k->real, expected[MEAN], r) : 0.0;
            const double xhat =
                (get_value(k->x, expected[X], r * s.norm + i) - mean) * get_value(k->real, expected[RSTD], r);
            sum += fabs(get_value(k->y, expected[DY], r * s.norm + i)) *
                   (argument == DGAMMA && fabs(xhat) > 1.0 ? fabs(xhat) : 1.0);
        }
        const double once = get_value(k->real, expected[argument], i), a = accumulate ? 2.0 * once : once,
                     b = get_value(k->real, got, i);
        if (!CHECK(fabs(a - b) <= 6.0 * u * sum)) {
            printf("  %s: %s[%zu] is %a, of the transposed tensor %a\n", running, argument_names[argument], i, b, a);
        }
    }
}

static size_t tensor_bytes(int argument)
{
    return s.outer * s.norm * s.inner * type_size(type_of(argument));
}

static void *allocate_tensor(int argument)
{
    return test_allocate(tensor_bytes(argument));
}

static unsigned long cases, every = 1, runs;
static guarded buffers[ARGUMENTS];

static void run_case(const group *g, bool special)
{
    const uint64_t seed = cases++;
    uint64_t random = seed * 77;
    if (seed % every != 0) {
        return;
    }
    const size_t rows = s.outer * s.inner, real = type_size(k->real);
    const bool rms = k->operation == LNORM_RMS_NORM;
    const uint64_t choice = next_random(&random);
    const bool no_gamma = choice % 5 == 1, no_beta = choice % 5 == 2;
    const bool plus_one = choice / 5 % 4 == 1, accumulate = choice / 20 % 4 == 1;
    const int in_place = (int)(choice / 160 % 4); /* 1: y = x, 2: dx = x, 3: dx = dy */
    const int which = (int)(choice / 640 % LAYOUTS);
    const int unwanted = (int)(choice / 4096 % 8); /* 0: dx, 1: dgamma, 2: dbeta, 3: both */
    void *expected[ARGUMENTS], *first[2] = {NULL, NULL};

    for (int i = 0; i < WORKSPACE; i++) {
        expected[i] = i == X || i == Y || i == DY || i == DX
                          ? allocate_tensor(i)
                          : test_allocate((i == MEAN || i == RSTD ? rows : s.norm) * type_size(type_of(i)));
    }
    fill_values(k->x, expected[X], rows * s.norm, g->offset, g->scale[k->real == LNORM_F64], &random);
    fill_values(k->y, expected[DY], rows * s.norm, 0.25, 1.0, &random);
    fill_values(k->param, expected[GAMMA], s.norm, 0.5, 1.0, &random);
    fill_values(k->param, expected[BETA], s.norm, 0.0, 1.0, &random);
    if (special) {
        make_special(k->x, expected[X], rows, s.norm, &random);
        if (choice / 32768 % 4 == 0) { /* products of backward out of range */
            fill_values(k->y, expected[DY], s.norm * (rows / 2), 0.0, k->real == LNORM_F64 ? 0x1p-1000 : 0x1p-120,
                        &random);
        }
    }
    const void *const gamma = no_gamma ? NULL : expected[GAMMA], *const beta = no_beta ? NULL : expected[BETA];

    lnorm_problem dense = LNORM_PROBLEM_INIT;
    dense.operation = (int32_t)k->operation;
    dense.x_type = (int32_t)k->x;
    dense.y_type = (int32_t)k->y;
    dense.param_type = (int32_t)k->param;
    dense.flags = plus_one ? LNORM_GAMMA_PLUS_ONE : 0;
    dense.outer = (int64_t)rows;
    dense.norm = (int64_t)s.norm;
    dense.eps = g->eps;
    size_t size;
    CHECK(lnorm_backward_workspace(&dense, &size) == LNORM_OK);
    expected[WORKSPACE] = test_allocate(size);
    snprintf(running, sizeof running, "scalar %s %s, case %llu, %zu x %zu x %zu", k->name, g->name,
             (unsigned long long)seed, s.outer, s.norm, s.inner);
    CHECK(lnorm_set_isa("scalar") == LNORM_OK);
    if (rms) {
        free(expected[MEAN]);
        expected[MEAN] = NULL;
    }
    CHECK(lnorm_forward(&dense, expected[X], gamma, beta, expected[Y], expected[MEAN], expected[RSTD]) == LNORM_OK);
    CHECK(lnorm_backward(&dense, expected[DY], expected[X], expected[MEAN], expected[RSTD], gamma, expected[DX],
                         expected[DGAMMA], expected[DBETA], expected[WORKSPACE], size) == LNORM_OK);

    lnorm_problem problem = dense;
    const layout l = make_layout(&s, which);
    problem.outer = (int64_t)s.outer;
    problem.inner = (int64_t)s.inner;
    if (which != DENSE) {
        problem.x_stride = problem.y_stride = problem.dy_stride = problem.dx_stride = l.stride;
        problem.x_norm_stride = problem.y_norm_stride = problem.dy_norm_stride = problem.dx_norm_stride = l.step;
    }
    problem.flags |= accumulate ? LNORM_ACCUMULATE : 0;
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        const bool hook = (choice / 80 + isa) % 2 == 1; /* on one set, and not on the next */
        problem.parallel_for = hook ? backwards_hook : NULL;
        snprintf(running, sizeof running, "%s %s %s, case %llu, %zu x %zu x %zu, layout %d%s%s%s%s",
                 lnorm_available_isa(isa), k->name, g->name, (unsigned long long)seed, s.outer, s.norm, s.inner, which,
                 hook ? ", hook" : "", in_place ? ", in place" : "", accumulate ? ", accumulated" : "",
                 plus_one ? ", plus one" : "");
        CHECK(lnorm_set_isa(lnorm_available_isa(isa)) == LNORM_OK);
        void *got[ARGUMENTS];
        for (int i = 0; i < ARGUMENTS; i++) {
            const bool tensor = i == X || i == Y || i == DY || i == DX;
            const size_t element = type_size(type_of(i));
            const size_t bytes = i == WORKSPACE           ? size
                                 : tensor                 ? l.elements * element
                                 : i == MEAN || i == RSTD ? rows * real
                                                          : s.norm * element;
            got[i] = guarded_place(&buffers[i], bytes, (seed * (size_t)(2 * i + 1)) % 16 * element, seed % 2);
            if (i == X || i == DY) {
                scatter(type_of(i), &s, &l, got[i], expected[i]);
            } else if (!tensor && i != WORKSPACE && expected[i] && i != MEAN && i != RSTD) {
                memcpy(got[i], expected[i], bytes); /* of dgamma and dbeta, what they are added to */
            }
        }
        const bool y_in_place = in_place == 1 && k->x == k->y;
        void *const at[2] = {(char *)got[X] + l.first * type_size(k->x), (char *)got[DY] + l.first * type_size(k->y)};
        void *const y = y_in_place ? at[0] : (char *)got[Y] + l.first * type_size(k->y);
        CHECK(lnorm_forward(&problem, at[0], no_gamma ? NULL : got[GAMMA], no_beta ? NULL : got[BETA], y,
                            rms ? NULL : got[MEAN], got[RSTD]) == LNORM_OK);
        void *const in_rows = allocate_tensor(Y);
        gather(k->y, &s, &l, in_rows, y_in_place ? got[X] : got[Y]);
        check_equal(Y, expected[Y], in_rows, rows * s.norm);
        free(in_rows);
        if (!rms) {
            check_equal(MEAN, expected[MEAN], got[MEAN], rows);
        }
        check_equal(RSTD, expected[RSTD], got[RSTD], rows);

        scatter(k->x, &s, &l, got[X], expected[X]);
        const bool in_x = in_place == 2, in_dy = in_place == 3 && k->x == k->y;
        const bool has_dx = unwanted != 0, has_dgamma = unwanted != 1 && unwanted != 3;
        const bool has_dbeta = unwanted != 2 && unwanted != 3;
        void *const dx = in_x ? at[0] : in_dy ? at[1] : (char *)got[DX] + l.first * type_size(k->x);
        CHECK(lnorm_backward(&problem, at[1], at[0], rms ? NULL : got[MEAN], got[RSTD], no_gamma ? NULL : got[GAMMA],
                             has_dx ? dx : NULL, has_dgamma ? got[DGAMMA] : NULL, has_dbeta ? got[DBETA] : NULL,
                             has_dgamma || has_dbeta ? got[WORKSPACE] : NULL, size) == LNORM_OK);
        if (has_dx) {
            void *const dx_rows = allocate_tensor(DX);
            gather(k->x, &s, &l, dx_rows, in_x ? got[X] : in_dy ? got[DY] : got[DX]);
            check_equal(DX, expected[DX], dx_rows, rows * s.norm);
            free(dx_rows);
        }
        for (int i = DGAMMA; i <= DBETA; i++) {
            if (!(i == DGAMMA ? has_dgamma : has_dbeta)) {
                continue;
            }
            void **const one = &first[i - DGAMMA];
            if (*one == NULL) {
                *one = test_allocate(s.norm * real);
                memcpy(*one, got[i], s.norm * real);
                if (!special && g->scale[0] == 1.0) {
                    check_sums(expected, got[i], i, accumulate);
                }
            } else {
                check_equal(i, *one, got[i], s.norm);
            }
        }
        for (int i = 0; i < ARGUMENTS; i++) {
            if (!CHECK(guarded_intact(&buffers[i]))) {
                printf("  %s: written outside %s\n", running, argument_names[i]);
            }
        }
        runs++;
    }
    for (int i = 0; i < ARGUMENTS; i++) {
        free(expected[i]);
    }
    free(first[0]);
    free(first[1]);
}

static void run_all(void)
{
    static const size_t norms[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 96, 100, 257, 511, 513, 768, 1025, 1100};
    uint64_t random = 1;
    for (k = kinds; k < kinds + COUNT(kinds); k++) {
        for (const group *g = groups; g < groups + COUNT(groups); g++) {
            for (s.inner = 1; s.inner <= 70; s.inner++) {
                const uint64_t draw = next_random(&random);
                s.norm = draw % 3 == 0 ? 1 + draw / 3 % 130 : norms[draw / 3 % COUNT(norms)];
                s.outer = 1 + draw / 4096 % 5;
                while (s.outer > 1 && s.outer * s.norm * s.inner > 20000) {
                    s.outer--;
                }
                run_case(g, strncmp(g->name, "special", 7) == 0);
            }
        }
        const group *const g = &groups[0];
        s = (shape){3, 40, 196};
        run_case(g, false);
        s = (shape){1, 2100, 130}; /* more blocks than one, tiles of two strips */
        run_case(g, false);
        s = (shape){1, 4200, 35}; /* parameters are not prepared */
        run_case(g, false);
        s = (shape){40, 3, 300}; /* as many slabs as there may be */
        run_case(g, false);
    }
}

/* Over many rows the error of the sums does not grow: the terms of dbeta are all of one sign here, and so are those of
 * dgamma, with dy near xhat. */
static void check_long_sums(void)
{
    enum { OUTER = 1000, NORM = 2, INNER = 1000, ROWS = OUTER * INNER };
    const size_t bytes = sizeof(float) * ROWS * NORM;
    float *const x = test_allocate(bytes), *const dy = test_allocate(bytes), *const y = test_allocate(bytes);
    float *const mean = test_allocate(bytes), *const rstd = test_allocate(bytes), sums[NORM];
    uint64_t random = 5;
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    problem.outer = OUTER;
    problem.norm = NORM;
    problem.inner = INNER;
    problem.eps = 1.0;
    size_t size;
    fill_values(LNORM_F32, x, (size_t)ROWS * NORM, 0.0, 1.0, &random);
    fill_values(LNORM_F32, dy, (size_t)ROWS * NORM, 1.5, 1.0, &random);
    CHECK(lnorm_set_isa(NULL) == LNORM_OK);
    CHECK(lnorm_backward_workspace(&problem, &size) == LNORM_OK);
    void *const workspace = test_allocate(size);
    CHECK(lnorm_forward(&problem, x, NULL, NULL, y, mean, rstd) == LNORM_OK);
    for (int turn = 0; turn < 2; turn++) { /* dbeta, then dgamma */
        const float *const g = turn == 0 ? dy : y;
        CHECK(lnorm_backward(&problem, g, x, mean, rstd, NULL, NULL, turn == 1 ? sums : NULL, turn == 0 ? sums : NULL,
                             workspace, size) == LNORM_OK);
        for (size_t i = 0; i < NORM; i++) {
            double exact = 0.0, size_of_terms = 0.0;
            for (size_t r = 0; r < ROWS; r++) {
                const size_t at = (r / INNER * NORM + i) * INNER + r % INNER, other = at + INNER - 2 * i * INNER;
                const double xhat = ((double)x[at] - (double)x[other]) / 2 * (double)rstd[r];
                exact += (double)g[at] * (turn == 1 ? xhat : 1.0);
                size_of_terms += fabs((double)g[at]) * (turn == 1 && fabs(xhat) > 1.0 ? fabs(xhat) : 1.0);
            }
            const double error = fabs((double)sums[i] - exact) / size_of_terms * 0x1p24;
            printf("%s of %d rows is off by %.2f u\n", turn == 0 ? "dbeta" : "dgamma", ROWS, error);
            CHECK(error <= 4.0);
        }
    }
    free(x);
    free(dy);
    free(y);
    free(mean);
    free(rstd);
    free(workspace);
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
    every = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
#ifdef TEST_POSIX
    signal(SIGSEGV, report_fault);
    signal(SIGBUS, report_fault);
#endif
    run_all();
    check_long_sums();
    printf("%lu cases, %lu runs\n", cases, runs);
    return test_result("lnorm_inner_test");
}

/* lnorm beside the limit of memory and a plain C loop, without Python: `lnorm_bench --help`. */
#if defined(__linux__)
#define _GNU_SOURCE /* sched_setaffinity, MADV_HUGEPAGE */
#include <sched.h>
#include <sys/mman.h>
#endif

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lnorm.h"
#include "subjects.h"

static const char usage[] =
    "usage: lnorm_bench [--isa NAME] [--type f32|f64] [--rounds N] [--json FILE] [ROWSxCOLS ...]\n"
    "\n"
    "Times lnorm's forward and backward, one thread, on each instruction set of this machine, and prints how many "
    "times\n"
    "as long as the limit they take: a loop over the same bytes at the same instruction set, which copies (forward) "
    "or\n"
    "adds two tensors into a third (backward). plain C is the textbook's loop as the compiler translates it.\n"
    "All take turns; the figures are medians, with half of the distance between the quartiles in percent.\n"
    "\n"
    "  --isa NAME      only this instruction set\n"
    "  --type TYPE     element type, f32 (default) or f64\n"
    "  --rounds N      turns of each (default 21)\n"
    "  --json FILE     write what was measured; `python -m pyln bench --from FILE` reads and draws it\n"
    "  ROWSxCOLS ...   the shapes; by default from 1x768 to 4x1048576\n";

enum { MAX_SHAPES = 64, MAX_ISAS = 4, MAX_SUBJECTS = 2 * MAX_ISAS + 1 };

static const double sample_ns = 2e6;

struct options {
    const char *isa, *json;
    lnorm_type type;
    size_t rounds, shapes, rows[MAX_SHAPES], cols[MAX_SHAPES];
};

static void die(const char *what, const char *argument)
{
    fprintf(stderr, "lnorm_bench: %s%s\n", what, argument);
    exit(EXIT_FAILURE);
}

/* ---- Time ---- */

static double now_ns(void)
{
    struct timespec t;
#if defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &t);
#else
    timespec_get(&t, TIME_UTC);
#endif
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

struct quartiles {
    double q1, median, q3;
};

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct quartiles quartiles(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return (struct quartiles){values[n / 4], values[n / 2], values[3 * n / 4]};
}

/* ---- What is timed ---- */

enum kind { LIMIT, LNORM, PLAIN };

struct subject {
    enum kind kind;
    const char *isa;
    size_t limit; /* index of the subject that it is measured by */
    size_t calls; /* in one sample, so that it lasts sample_ns */
    double *ns;   /* one call, by round */
    struct quartiles time, ratio;
};

static void repeat(const struct subject *s, const struct operands *o, enum direction direction, size_t times)
{
    lnorm_status status = LNORM_OK;
    switch (s->kind) {
    case LIMIT:
        status = repeat_limit(o, direction, s->isa, times);
        break;
    case LNORM:
        status = repeat_lnorm(o, direction, s->isa, times);
        break;
    case PLAIN:
        repeat_plain(o, direction, times);
        break;
    }
    if (status != LNORM_OK) {
        die("lnorm refused: ", lnorm_status_text(status));
    }
}

static double sample(const struct subject *s, const struct operands *o, enum direction direction)
{
    if (s->calls > 1) { /* what the one before left in the caches is not ours */
        repeat(s, o, direction, 1);
    }
    const double start = now_ns();
    repeat(s, o, direction, s->calls);
    return (now_ns() - start) / (double)s->calls;
}

/* Each in turn, round after round, the first one another in each round. */
static void measure(struct subject *subjects, size_t n, const struct operands *o, enum direction direction,
                    size_t rounds)
{
    for (size_t i = 0; i < n; i++) {
        struct subject *const s = &subjects[i];
        repeat(s, o, direction, 1);
        for (s->calls = 1; sample(s, o, direction) * (double)s->calls < sample_ns; s->calls *= 2) {
        }
    }
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            struct subject *const s = &subjects[(round + i) % n];
            s->ns[round] = sample(s, o, direction);
        }
    }
    double *const ratios = calloc(rounds, sizeof *ratios);
    if (ratios == NULL) {
        die("out of memory", "");
    }
    for (size_t i = n; i-- > 0;) { /* the limits come first, and sorting ends their use */
        for (size_t round = 0; round < rounds; round++) {
            ratios[round] = subjects[i].ns[round] / subjects[subjects[i].limit].ns[round];
        }
        subjects[i].ratio = quartiles(ratios, rounds);
    }
    free(ratios);
    for (size_t i = 0; i < n; i++) {
        subjects[i].time = quartiles(subjects[i].ns, rounds);
    }
}

/* ---- Operands ---- */

/* Every byte written, on a boundary of 64, with huge pages where they are asked for: as NumPy does. */
static void *allocate(size_t elements, lnorm_type type, double scale, double offset)
{
    const size_t size = elements * (type == LNORM_F64 ? sizeof(double) : sizeof(float));
    void *const memory = aligned_alloc(64, (size + 63) / 64 * 64 + 64);
    if (memory == NULL) {
        die("out of memory", "");
    }
#if defined(MADV_HUGEPAGE)
    const uintptr_t page = 4096, begin = ((uintptr_t)memory + page - 1) / page * page;
    if (size >= (size_t)4 << 20) {
        (void)madvise((void *)begin, (size - page) / page * page, MADV_HUGEPAGE);
    }
#endif
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < elements; i++) {
        state ^= state << 13; /* xorshift */
        state ^= state >> 7;
        state ^= state << 17;
        const double value = offset + scale * ((double)(state >> 11) * 0x1p-53 - 0.5);
        if (type == LNORM_F64) {
            ((double *)memory)[i] = value;
        } else {
            ((float *)memory)[i] = (float)value;
        }
    }
    return memory;
}

static double element(const void *p, lnorm_type type, size_t i)
{
    return type == LNORM_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

/* The plain loop and lnorm must have computed the same. */
static void compare(const struct operands *o, enum direction direction, const char *isa, void *scratch)
{
    struct operands other = *o;
    *(direction == FORWARD ? &other.y : &other.dx) = scratch;
    if (repeat_lnorm(o, direction, isa, 1) != LNORM_OK) {
        die("refused on ", isa);
    }
    repeat_plain(&other, direction, 1);
    const void *const result = direction == FORWARD ? o->y : o->dx;
    for (size_t i = 0; i < o->rows * o->cols; i++) {
        if (!(fabs(element(result, o->type, i) - element(scratch, o->type, i)) < 1e-2)) {
            die("the plain loop and lnorm differ on ", isa);
        }
    }
}

/* ---- What is said ---- */

static void copy_json_text(FILE *json, const char *text)
{
    fputc('"', json);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', json);
        }
        if ((unsigned char)*text >= ' ') {
            fputc(*text, json);
        }
    }
    fputc('"', json);
}

static void cpu_model(char *text, size_t size)
{
    snprintf(text, size, "unknown CPU");
#if defined(__linux__)
    FILE *const file = fopen("/proc/cpuinfo", "r");
    char line[512];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *const colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, "model name", 10) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(text, size, "%s", colon + 2);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
#endif
}

/* Returns the CPU that this process stays on from now on, or -1 where it may not be told. */
static int pin(void)
{
#if defined(__linux__)
    const int cpu = sched_getcpu();
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu >= 0) {
        CPU_SET((unsigned)cpu, &set);
        return sched_setaffinity(0, sizeof set, &set) == 0 ? cpu : -1;
    }
#endif
    return -1;
}

static void name_of(const struct subject *s, char *text, size_t size)
{
    snprintf(text, size, "%s%s%s",
             s->kind == LIMIT   ? "limit"
             : s->kind == LNORM ? "lnorm"
                                : "plain C",
             s->isa != NULL ? " " : "", s->isa != NULL ? s->isa : "");
}

static void print_row(const struct subject *subjects, size_t n, size_t rows, size_t cols)
{
    char shape[32];
    snprintf(shape, sizeof shape, "%zu x %zu", rows, cols);
    printf("%-13s%12.2f us", shape, subjects[0].time.median * 1e-3);
    for (size_t i = 0; i < n; i++) {
        const struct quartiles q = subjects[i].ratio;
        if (subjects[i].kind != LIMIT) {
            printf("%10.2f +-%2.0f%%", q.median, 50 * (q.q3 - q.q1) / q.median);
        }
    }
    printf("\n");
    fflush(stdout);
}

static void json_case(FILE *json, bool first, const struct subject *subjects, size_t n, const struct operands *o,
                      enum direction direction, size_t rounds)
{
    static const char *const kinds[] = {"limit", "lnorm", "plain"};
    const size_t size = o->type == LNORM_F64 ? sizeof(double) : sizeof(float);
    fprintf(json, "%s\n  {\"direction\": \"%s\", \"rows\": %zu, \"cols\": %zu, \"type\": \"%s\", \"bytes\": %zu,\n",
            first ? "" : ",", direction == FORWARD ? "forward" : "backward", o->rows, o->cols,
            o->type == LNORM_F64 ? "f64" : "f32", o->rows * o->cols * size);
    fprintf(json, "   \"skipped\": {}, \"times\": [");
    for (size_t i = 0; i < n; i++) {
        const struct subject *const s = &subjects[i];
        char name[32];
        name_of(s, name, sizeof name);
        fprintf(json, "%s\n    {\"name\": \"%s\", \"kind\": \"%s\", \"isa\": ", i == 0 ? "" : ",", name,
                kinds[s->kind]);
        fprintf(json, s->isa != NULL ? "\"%s\"" : "null", s->isa);
        fprintf(json, ", \"calls\": %zu, \"rounds\": %zu,\n", s->calls, rounds);
        fprintf(json, "     \"seconds\": [%.6g, %.6g, %.6g], \"ratio\": [%.5g, %.5g, %.5g]}", s->time.q1 * 1e-9,
                s->time.median * 1e-9, s->time.q3 * 1e-9, s->ratio.q1, s->ratio.median, s->ratio.q3);
    }
    fprintf(json, "]}");
}

/* ---- The program ---- */

static struct options parse(int argc, char **argv)
{
    static const size_t shapes[][2] = {{1, 768},   {32, 768},   {8192, 64},  {1024, 768},
                                       {64, 4096}, {4096, 301}, {8192, 768}, {4, 1048576}};
    struct options options = {.type = LNORM_F32, .rounds = 21};
    for (int i = 1; i < argc; i++) {
        const char *const option = argv[i];
        if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            fputs(usage, stdout);
            exit(EXIT_SUCCESS);
        }
        if (option[0] != '-') {
            char *end;
            const unsigned long long rows = strtoull(option, &end, 10);
            const unsigned long long cols = *end == 'x' ? strtoull(end + 1, &end, 10) : 0;
            if (*end != '\0' || rows == 0 || cols == 0 || rows > ((size_t)1 << 33) / cols) {
                die("expected a shape such as 32x768, of at most 2^33 elements, got ", option);
            }
            if (options.shapes == MAX_SHAPES) {
                die("too many shapes from this one on: ", option);
            }
            options.rows[options.shapes] = (size_t)rows;
            options.cols[options.shapes++] = (size_t)cols;
            continue;
        }
        const char *const value = ++i < argc ? argv[i] : NULL;
        if (value == NULL) {
            die("unknown, or without its value: ", option);
        } else if (strcmp(option, "--isa") == 0) {
            options.isa = value;
            if (lnorm_set_isa(value) != LNORM_OK) {
                die("--isa: not an instruction set of this machine: ", value);
            }
        } else if (strcmp(option, "--json") == 0) {
            options.json = value;
        } else if (strcmp(option, "--type") == 0) {
            options.type = strcmp(value, "f32") == 0 ? LNORM_F32 : strcmp(value, "f64") == 0 ? LNORM_F64 : 0;
            if (options.type == LNORM_TYPE_DEFAULT) {
                die("--type: expected f32 or f64, got ", value);
            }
        } else if (strcmp(option, "--rounds") == 0) {
            options.rounds = (size_t)strtoull(value, NULL, 10);
            if (options.rounds < 1 || options.rounds > 10000) {
                die("--rounds: expected 1 to 10000, got ", value);
            }
        } else {
            die("unknown option ", option);
        }
    }
    if (options.shapes == 0) {
        for (; options.shapes < sizeof shapes / sizeof shapes[0]; options.shapes++) {
            options.rows[options.shapes] = shapes[options.shapes][0];
            options.cols[options.shapes] = shapes[options.shapes][1];
        }
    }
    return options;
}

/* The limits first, best first, then lnorm, then the plain loop, which the best limit measures. */
static size_t choose_subjects(const char *only, struct subject subjects[MAX_SUBJECTS])
{
    size_t isas = 0, n = 0;
    const char *names[MAX_ISAS] = {NULL}, *name;
    for (size_t i = 0; (name = lnorm_available_isa(i)) != NULL && isas < MAX_ISAS; i++) {
        if (only == NULL || strcmp(only, name) == 0) {
            names[isas++] = name;
        }
    }
    for (size_t i = 0; i < isas; i++) {
        subjects[n] = (struct subject){.kind = LIMIT, .isa = names[i], .limit = n};
        n++;
    }
    for (size_t i = 0; i < isas; i++) {
        subjects[n++] = (struct subject){.kind = LNORM, .isa = names[i], .limit = i};
    }
    subjects[n++] = (struct subject){.kind = PLAIN};
    return n;
}

static void bench_shape(const struct options *options, size_t shape, enum direction direction, struct subject *subjects,
                        size_t n, FILE *json)
{
    const size_t rows = options->rows[shape], cols = options->cols[shape], elements = rows * cols;
    const lnorm_type type = options->type;
    const bool f64 = type == LNORM_F64;
    void *const x = allocate(elements, type, 4, 0.25), *const dy = allocate(elements, type, 2, 0);
    void *const gamma = allocate(cols, type, 1, 1), *const beta = allocate(cols, type, 1, 0);
    void *const out = allocate(elements, type, 0, 0), *const scratch = allocate(elements, type, 0, 0);
    void *const dgamma = allocate(cols, type, 0, 0), *const dbeta = allocate(cols, type, 0, 0);
    void *const mean = allocate(rows, type, 0, 0), *const rstd = allocate(rows, type, 0, 0);
    const size_t size = f64 ? lnorm_backward_workspace_f64(rows, cols) : lnorm_backward_workspace_f32(rows, cols);
    void *const workspace = allocate(size / 4, LNORM_F32, 0, 0);
    const struct operands o = {.type = type,
                               .rows = rows,
                               .cols = cols,
                               .stride = (ptrdiff_t)cols,
                               .eps = 1e-5,
                               .x = x,
                               .dy = dy,
                               .gamma = gamma,
                               .beta = beta,
                               .mean = mean,
                               .rstd = rstd,
                               .y = out,
                               .dx = out,
                               .dgamma = dgamma,
                               .dbeta = dbeta,
                               .workspace = workspace,
                               .workspace_size = size};
    const lnorm_status status = f64 ? lnorm_forward_f64(rows, cols, x, gamma, beta, o.eps, out, mean, rstd)
                                    : lnorm_forward_f32(rows, cols, x, gamma, beta, o.eps, out, mean, rstd);
    if (status != LNORM_OK) {
        die("lnorm refused: ", lnorm_status_text(status));
    }
    for (size_t i = 0; i < n; i++) {
        if (subjects[i].kind == LNORM) {
            compare(&o, direction, subjects[i].isa, scratch);
        }
    }
    measure(subjects, n, &o, direction, options->rounds);
    print_row(subjects, n, rows, cols);
    if (json != NULL) {
        json_case(json, shape == 0 && direction == FORWARD, subjects, n, &o, direction, options->rounds);
    }
    void *const all[] = {x, dy, gamma, beta, out, scratch, dgamma, dbeta, mean, rstd, workspace};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        free(all[i]);
    }
}

int main(int argc, char **argv)
{
    const struct options options = parse(argc, argv);
    FILE *const json = options.json != NULL ? fopen(options.json, "w") : NULL;
    if (options.json != NULL && json == NULL) {
        die("--json: cannot write ", options.json);
    }
    char model[256];
    cpu_model(model, sizeof model);
    const int cpu = pin();
    printf("%s; lnorm %s; %s, one thread", model, lnorm_version(), options.type == LNORM_F64 ? "f64" : "f32");
    if (cpu >= 0) {
        printf(" on CPU %d", cpu);
    }
    printf("\n");
    if (json != NULL) {
        fprintf(json, "{\"format\": 1, \"pyln\": \"%s\",\n \"machine\": {\"cpu\": ", lnorm_version());
        copy_json_text(json, model);
        fprintf(json,
                "},\n \"versions\": {},\n \"settings\": {\"type\": \"%s\", \"layout\": \"dense\", \"affine\": true",
                options.type == LNORM_F64 ? "f64" : "f32");
        fprintf(json, cpu >= 0 ? ", \"pinned\": %d},\n" : ", \"pinned\": null},\n", cpu);
        fprintf(json, " \"threads\": [],\n \"cases\": [");
    }

    struct subject subjects[MAX_SUBJECTS];
    const size_t n = choose_subjects(options.isa, subjects);
    for (size_t i = 0; i < n; i++) {
        subjects[i].ns = calloc(options.rounds, sizeof(double));
        if (subjects[i].ns == NULL) {
            die("out of memory", "");
        }
    }
    for (enum direction direction = FORWARD; direction <= BACKWARD; direction++) {
        printf("\n%s, times the limit\n%-13s%15s", direction == FORWARD ? "forward" : "backward", "rows x cols",
               "limit");
        for (size_t i = 0; i < n; i++) {
            if (subjects[i].kind != LIMIT) {
                char name[32];
                name_of(&subjects[i], name, sizeof name);
                printf("%16s", name);
            }
        }
        printf("\n");
        for (size_t shape = 0; shape < options.shapes; shape++) {
            bench_shape(&options, shape, direction, subjects, n, json);
        }
    }
    for (size_t i = 0; i < n; i++) {
        free(subjects[i].ns);
    }
    if (json != NULL) {
        fprintf(json, "]}\n");
        if (fclose(json) != 0) {
            die("--json: cannot write ", options.json);
        }
    }
    return EXIT_SUCCESS;
}

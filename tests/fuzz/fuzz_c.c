/* Fuzzing of the C API: bytes -> a legal call, then spoilers that alter fields of the problem, pointers and sizes.
 *
 * What is checked of every call: it is refused where, and for a reason for which, the header says so (judge, by marking
 * bytes one by one, and nothing of src/c); a refused call leaves all memory as it was, another one all but the elements
 * of its outputs; all instruction sets, with and without a hook, give the same bits; the values are near those of long
 * double, within the bounds of docs/numerics.md (fuzz_values.h). Each argument has an allocation of its exact size,
 * around which AddressSanitizer looks.
 *
 * scripts/fuzz.sh runs it by libFuzzer; without, it runs the files that it is given: lnorm_fuzz_replay FILE...,
 * or @LIST_OF_FILES. */
#include "../c/test_support.h"

#include <float.h>
#include <stddef.h>
#ifdef TEST_POSIX
#include <pthread.h>
#endif

#define SET(argument) (1u << (argument))
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MOST_ELEMENTS ((size_t)1 << 15)
#define MOST_BYTES ((size_t)1 << 18)

/* ---- Operations and their arguments ---- */

enum { A = ALL_ARGUMENTS, B, MERGED, EVERY_ARGUMENT };

enum {
    FLAT_FORWARD,
    FLAT_BACKWARD,
    FLAT_WORKSPACE,
    FORWARD,
    BACKWARD,
    BACKWARD_WORKSPACE,
    ADD_FORWARD,
    ADD_BACKWARD,
    QUANTIZED,
    FROM_Y,
    GET_MOMENTS,
    APPLY_MOMENTS,
    GET_GRAD_MOMENTS,
    APPLY_GRAD_MOMENTS,
    MERGE_MOMENTS,
    MERGE_GRAD_MOMENTS,
    SET_ISA,
    OPERATIONS
};

#define PARAMS (SET(GAMMA) | SET(BETA))
#define STATS (SET(MEAN) | SET(RSTD))
#define GRADS (SET(DX) | SET(DGAMMA) | SET(DBETA) | SET(WORKSPACE))

static const struct operation {
    const char *name;
    unsigned inputs, outputs, required;
} operations[OPERATIONS] = {
    {"flat forward", SET(X) | PARAMS, SET(Y) | STATS, SET(X) | SET(Y)},
    {"flat backward", SET(DY) | SET(X) | STATS | SET(GAMMA), GRADS, SET(DY) | SET(X) | STATS},
    {"flat backward_workspace", 0, 0, 0},
    {"forward", SET(X) | PARAMS, SET(Y) | STATS, SET(X) | SET(Y)},
    {"backward", SET(DY) | SET(X) | STATS | SET(GAMMA), GRADS, SET(DY) | SET(X) | STATS},
    {"backward_workspace", 0, 0, 0},
    {"add_forward", SET(X) | SET(RESIDUAL) | SET(INPUT_BIAS) | PARAMS, SET(Y) | STATS | SET(TOTAL),
     SET(X) | SET(RESIDUAL) | SET(TOTAL) | SET(Y)},
    {"add_backward", SET(DY) | SET(DTOTAL) | SET(TOTAL) | STATS | SET(GAMMA), GRADS, SET(DY) | SET(TOTAL) | STATS},
    {"quantized_forward", SET(X) | PARAMS | SET(SCALE) | SET(ZERO_POINT), SET(Y) | STATS, SET(X) | SET(Y) | SET(SCALE)},
    {"backward_from_y", SET(DY) | SET(Y) | SET(RSTD) | PARAMS, GRADS, SET(DY) | SET(Y) | SET(RSTD)},
    {"moments", SET(X), SET(MOMENTS), SET(X) | SET(MOMENTS)},
    {"apply_moments", SET(X) | SET(MOMENTS) | PARAMS, SET(Y) | STATS, SET(X) | SET(MOMENTS) | SET(Y)},
    {"grad_moments", SET(DY) | SET(X) | SET(MOMENTS) | SET(GAMMA), SET(GRAD_MOMENTS),
     SET(DY) | SET(X) | SET(MOMENTS) | SET(GRAD_MOMENTS)},
    {"apply_grad_moments", SET(DY) | SET(X) | SET(MOMENTS) | SET(GRAD_MOMENTS) | SET(GAMMA), GRADS,
     SET(DY) | SET(X) | SET(MOMENTS) | SET(GRAD_MOMENTS)},
    {"merge_moments", SET(A) | SET(B), SET(MERGED), SET(A) | SET(B) | SET(MERGED)},
    {"merge_grad_moments", SET(A) | SET(B), SET(MERGED), SET(A) | SET(B) | SET(MERGED)},
    {"set_isa", 0, 0, 0},
};

static unsigned long reached[OPERATIONS][LNORM_ERROR_SCALE + 1]; /* calls by what they returned */

/* An argument: outer x norm x inner elements, some of them in the same place. */
typedef struct tensor {
    lnorm_type type;
    size_t size, outer, norm, inner;
    int64_t stride, step; /* in elements */
    bool present;
    int host;             /* the argument in whose memory it lies, perhaps itself */
    int64_t shift;        /* in bytes, of its element 0 from that of the host */
    double before, after; /* bytes of it before its element 0, and from there on */
    unsigned char *at;
} tensor;

typedef struct call {
    int operation;
    lnorm_problem problem;
    bool no_problem, no_size, strange; /* strange: strides or places that were not made to be legal */
    lnorm_type real;
    size_t rows, workspace_size, misaligned;
    int64_t counts[2];
    int values[3], hook; /* how x, dy and gamma are filled */
    bool own_statistics; /* statistics are those of the tensor */
    size_t front;        /* elements before each argument in its allocation */
    uint64_t seed;
    tensor arguments[EVERY_ARGUMENT];
    unsigned inputs, outputs, must, may; /* sets of arguments; of statuses that must and that may be returned */
} call;

static call now;

static void fail(const char *what, int argument)
{
    const lnorm_problem *const p = &now.problem;
    printf("FAILED: %s: %s\n  %s: operation %d, types %d %d %d, flags %u, %lld x %lld x %lld\n", what,
           argument < 0               ? "the call"
           : argument < ALL_ARGUMENTS ? name_of(argument)
                                      : "moments, of a merge",
           operations[now.operation].name, (int)p->operation, (int)p->x_type, (int)p->y_type, (int)p->param_type,
           (unsigned)p->flags, (long long)p->outer, (long long)p->norm, (long long)p->inner);
    printf("  must be refused for %x, may be for %x; params %lld %lld %lld, residual rows %lld, eps %a\n", now.must,
           now.may, (long long)p->param_rows, (long long)p->param_repeat, (long long)p->param_run,
           (long long)p->residual_rows, p->eps);
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        const tensor *const t = &now.arguments[i];
        if (t->present) {
            printf("  argument %d at %p (in %d): type %d, %zu x %zu x %zu, strides %lld %lld\n", i, (void *)t->at,
                   t->host, (int)t->type, t->outer, t->norm, t->inner, (long long)t->stride, (long long)t->step);
        }
    }
    fflush(stdout);
    abort();
}

static unsigned char *element(const tensor *t, size_t o, size_t n, size_t i)
{
    return t->at + ((int64_t)o * t->stride + (int64_t)n * t->step + (int64_t)i) * (int64_t)t->size;
}

static bool has(int argument)
{
    return now.arguments[argument].present;
}

static void *pointer(int argument)
{
    return has(argument) ? now.arguments[argument].at : NULL;
}

static bool wants_sums(void)
{
    return has(DGAMMA) || has(DBETA);
}

/* What the header says of a problem, where it says it. */
static size_t or_else(int64_t size, size_t otherwise)
{
    return size != 0 ? (size_t)size : otherwise;
}

static bool is_rms(void)
{
    return now.problem.operation == LNORM_RMS_NORM;
}

/* ---- Bytes of the input ---- */

static const uint8_t *input, *input_end;

static unsigned take(void)
{
    return input < input_end ? *input++ : 0;
}

static uint64_t take_8(void)
{
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) {
        bits = bits << 8 | take();
    }
    return bits;
}

static size_t take_size(size_t small, size_t factor)
{
    const size_t byte = take();
    return byte < 224 ? byte % small : (byte - 223) * factor + byte % 3;
}

static int64_t take_divisor(int64_t of)
{
    int64_t divisor = take() % 16;
    while (divisor > 1 && of % divisor != 0) {
        divisor--;
    }
    return divisor;
}

/* ---- A legal problem ---- */

static lnorm_type x_type(void)
{
    return now.problem.x_type ? (lnorm_type)now.problem.x_type : LNORM_F32;
}
static lnorm_type y_type(void)
{
    return now.problem.y_type ? (lnorm_type)now.problem.y_type : x_type();
}
static lnorm_type param_type(void)
{
    return now.problem.param_type ? (lnorm_type)now.problem.param_type : x_type();
}

static void take_types(lnorm_problem *p)
{
    static const int8_t types[][3] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {3, 3, 3}, {4, 4, 4}, {2, 0, 0}, {3, 0, 1},
                                      {4, 0, 1}, {3, 1, 1}, {1, 4, 1}, {4, 3, 4}, {0, 3, 0}, {3, 1, 3}, {4, 1, 4}};
    const unsigned byte = take();
    const int8_t *const of = types[byte % COUNT(types)];
    p->x_type = of[0];
    p->y_type = now.operation == QUANTIZED ? (byte & 128 ? LNORM_I8 : LNORM_U8) : of[1];
    p->param_type = of[2];
}

/* Strides that are dense (0), with gaps, in reverse, or with rows side by side; of inputs also of length 0. */
static void take_strides(int64_t *stride, int64_t *step, bool is_input, bool contiguous)
{
    const lnorm_problem *const p = &now.problem;
    const int64_t inner = p->inner ? p->inner : 1;
    const unsigned byte = take(), kind = byte % 8;
    const int64_t gap = (byte >> 3) % 7, row = contiguous ? p->norm * inner : p->norm * (inner + gap);
    *stride = kind == 0 ? 0 : row + gap;
    if (step != NULL) {
        *step = contiguous || kind < 3 ? 0 : inner + gap;
    }
    if (kind == 4 || kind == 5) {
        *stride = -*stride;
    }
    if (kind == 5 && step != NULL && !contiguous) {
        *step = -*step;
    }
    if (kind == 6 && step != NULL && !contiguous) {
        *stride = inner;
        *step = p->outer * inner + gap;
    }
    if (kind == 7 && is_input) {
        *stride = LNORM_BROADCAST;
        if (step != NULL && !contiguous && gap == 1) {
            *step = LNORM_BROADCAST;
        }
    }
}

static bool is_flat(void)
{
    return now.operation <= FLAT_WORKSPACE;
}
static bool is_added(void)
{
    return now.operation == ADD_FORWARD || now.operation == ADD_BACKWARD;
}
static bool is_merge(void)
{
    return now.operation == MERGE_MOMENTS || now.operation == MERGE_GRAD_MOMENTS;
}
/* Of which gamma and beta for runs of elements are refused. */
static bool takes_no_runs(void)
{
    return now.operation == ADD_BACKWARD || now.operation == FROM_Y || now.operation == GET_GRAD_MOMENTS ||
           now.operation == APPLY_GRAD_MOMENTS;
}

static void take_problem(void)
{
    lnorm_problem *const p = &now.problem;
    *p = (lnorm_problem)LNORM_PROBLEM_INIT;
    take_types(p);
    const unsigned how = take();
    p->operation = (how & 1) && !is_flat() ? LNORM_RMS_NORM : LNORM_LAYER_NORM;
    p->flags = is_flat() ? 0 : how >> 1 & 15;
    p->outer = (int64_t)take_size(12, 13);
    p->norm = (int64_t)take_size(41, 71);
    p->inner = is_flat() || is_added() || (how & 96) != 32 ? (int64_t)(how >> 7) : (int64_t)take_size(41, 7);
    while (p->outer * p->norm * (p->inner ? p->inner : 1) > 6000) {
        *(p->norm > p->outer ? &p->norm : p->inner > p->outer ? &p->inner : &p->outer) /= 2;
    }
    static const double epsilons[] = {0.0, 1e-5, 1.0, 0x1p-126, 1e-30, 1e30, -0.0, 1e-300};
    p->eps = epsilons[take() % COUNT(epsilons)];
    if (is_flat()) {
        p->x_type = p->x_type == LNORM_F64 ? LNORM_F64 : 0;
        p->y_type = p->param_type = 0;
        return;
    }
    const unsigned parameters = take();
    if (parameters & 1) {
        p->param_rows = now.operation == APPLY_GRAD_MOMENTS ? 1 : take_divisor(p->outer);
        p->param_repeat = parameters & 2 ? 1 : 0;
    }
    const bool runs = (parameters & 4) && p->inner <= 1 && !takes_no_runs();
    p->param_run = runs ? take_divisor(p->norm) : 0;
    const bool contiguous = is_added() || p->param_run > 1;
    if (parameters & 8) {
        take_strides(&p->x_stride, &p->x_norm_stride, true, contiguous);
        take_strides(&p->y_stride, &p->y_norm_stride, now.operation == FROM_Y, contiguous);
        take_strides(&p->dy_stride, &p->dy_norm_stride, true, contiguous);
        take_strides(&p->dx_stride, &p->dx_norm_stride, false, contiguous);
    }
    if (is_added()) {
        p->residual_rows = parameters & 16 ? take_divisor(p->outer) : 0;
        take_strides(&p->residual_stride, NULL, true, true);
        take_strides(&p->total_stride, NULL, now.operation == ADD_BACKWARD, true);
    }
}

/* ---- Spoilers ---- */

static const struct field {
    uint8_t offset, size;
} fields[] = {
#define FIELD(name) {offsetof(lnorm_problem, name), sizeof((lnorm_problem){0}.name)}
    FIELD(struct_size),    FIELD(operation),     FIELD(x_type),
    FIELD(y_type),         FIELD(param_type),    FIELD(flags),
    FIELD(reserved),       FIELD(outer),         FIELD(norm),
    FIELD(inner),          FIELD(x_stride),      FIELD(y_stride),
    FIELD(dy_stride),      FIELD(dx_stride),     FIELD(eps),
    FIELD(x_norm_stride),  FIELD(y_norm_stride), FIELD(dy_norm_stride),
    FIELD(dx_norm_stride), FIELD(param_rows),    FIELD(param_repeat),
    FIELD(param_run),      FIELD(residual_rows), FIELD(residual_stride),
    FIELD(total_stride),
};

static int64_t take_odd_number(int64_t from)
{
    static const int64_t far[] = {INT64_MIN,         INT64_MIN + 1,       INT64_MAX,        INT64_MAX / 2,
                                  INT64_MAX / 4 + 1, INT64_MAX / 8,       (int64_t)1 << 31, (int64_t)1 << 32,
                                  (int64_t)1 << 33,  -((int64_t)1 << 62), 1 << 16,          -(1 << 16)};
    const unsigned byte = take();
    switch (byte % 8) {
    case 0:
        return (int64_t)(uint64_t)take_8();
    case 1:
        return far[byte / 8 % COUNT(far)];
    case 2:
        return (int64_t)(0 - (uint64_t)from);
    case 3:
        return (int64_t)((uint64_t)from + 1);
    case 4:
        return (int64_t)((uint64_t)from - 1);
    case 5:
        return from / 2;
    default:
        return (int64_t)take() - 128;
    }
}

static void spoil_field(void)
{
    const struct field *const field = &fields[take() % COUNT(fields)];
    char *const at = (char *)&now.problem + field->offset;
    now.strange = true;
    if (field->offset == offsetof(lnorm_problem, eps)) {
        static const double odd[] = {
            -1.0,        0x1p-1074,        -0x1p-1074,        0x1p127,        0x1p128, 0x1.fffffffffffffp+1023,
            (double)NAN, (double)INFINITY, -(double)INFINITY, 0x1.fffffep+127};
        const unsigned byte = take();
        const uint64_t bits = take_8();
        if (byte < 128) {
            now.problem.eps = odd[byte % COUNT(odd)];
        } else {
            memcpy(at, &bits, sizeof bits);
        }
    } else if (field->size == 8) {
        int64_t value;
        memcpy(&value, at, sizeof value);
        value = take_odd_number(value);
        memcpy(at, &value, sizeof value);
    } else {
        int32_t value;
        memcpy(&value, at, sizeof value);
        value = (int32_t)take_odd_number(value);
        memcpy(at, &value, sizeof value);
    }
}

/* An argument of the call, or -1. */
static int take_argument(unsigned of)
{
    const unsigned byte = take();
    for (int i = 0, seen = 0; of != 0 && i < 1000; i++) {
        if (of & SET(i % EVERY_ARGUMENT) && seen++ == (int)(byte % 12)) {
            return i % EVERY_ARGUMENT;
        }
    }
    return -1;
}

/* `argument` lies in the memory of another one, so many bytes from it. */
static void place_in(int argument, int host, int64_t shift)
{
    tensor *const t = now.arguments;
    for (int i = 0; i < EVERY_ARGUMENT; i++) { /* what lies in argument moves with it */
        if (t[i].host == argument && i != argument) {
            return;
        }
    }
    const int64_t size = (int64_t)t[argument].size, place = shift + t[host].shift;
    t[argument].shift = place - place % size;
    t[argument].host = t[host].host;
}

/* Once layouts are known: which arguments there are, and which lie in others. */
static void take_places(void)
{
    const struct operation *const o = &operations[now.operation];
    tensor *const t = now.arguments;
    unsigned absent = take() | take() << 8;
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        const bool is_one = (now.inputs | now.outputs) & SET(i);
        t[i].host = i;
        t[i].shift = 0;
        t[i].present = is_one && ((o->required & SET(i)) || !(absent & SET(i % 16)));
    }
    if (is_rms() || now.operation == FROM_Y) {
        t[MEAN].present = false;
    }
    if (now.operation == QUANTIZED && now.problem.flags & LNORM_DYNAMIC_SCALE) {
        t[ZERO_POINT].present = y_type() == LNORM_U8;
    }
    now.misaligned = 0;
    const unsigned together = take();
    if (together % 4 == 1) { /* in place, or not quite, where the layouts differ */
        const int output = take_argument(now.outputs), place = take_argument(now.inputs);
        if (output >= 0 && place >= 0 && t[place].present) {
            place_in(output, place, 0);
        }
    }
    if (together % 4 == 2) { /* columns of one matrix */
        const int one = take_argument(now.outputs), two = take_argument(now.inputs | now.outputs);
        if (one >= 0 && two >= 0 && one != two && t[two].present) {
            place_in(one, two, (int64_t)(t[two].norm * t[two].inner * t[two].size));
        }
    }
    const unsigned spoilers = take() % 16;
    for (unsigned i = 14; i <= spoilers; i++) {
        const unsigned kind = take() % 6;
        const int one = take_argument(now.inputs | now.outputs), two = take_argument(now.inputs | now.outputs);
        if (one < 0 || two < 0) {
            continue;
        }
        switch (kind) {
        case 0:
            t[one].present = false;
            break;
        case 1:
            now.workspace_size = take() % 2 ? 0 : now.workspace_size - now.workspace_size / 8 - 1;
            break;
        case 2:
            now.misaligned = take() % 8;
            break;
        case 3:
            t[one].present |= (now.inputs | now.outputs) & SET(one);
            break;
        default:
            if (one != two) {
                now.strange = true;
                place_in(one, two, ((int64_t)take() - 128) * (int64_t)t[one].size);
            }
            break;
        }
    }
    for (int i = 0; i < EVERY_ARGUMENT; i++) { /* what lies in nothing lies alone */
        if (!t[t[i].host].present) {
            t[i].host = i;
            t[i].shift = 0;
        }
    }
}

/* ---- What the header says of the call: `must` and `may` ---- */

static void refuse(unsigned *set, bool condition, lnorm_status status)
{
    *set |= condition ? 1u << status : 0;
}

static bool is_type(int type, int first, int last)
{
    return type >= first && type <= last;
}

static bool divides(int64_t part, int64_t whole)
{
    return part >= 0 && (part == 0 || whole % part == 0);
}

static double times(double a, double b)
{
    return a == 0.0 || b == 0.0 ? 0.0 : a * b;
}

/* Of fields alone; whether layouts can be told. */
static bool judge_problem(void)
{
    const lnorm_problem *const p = &now.problem;
    unsigned *const must = &now.must, *const may = is_merge() ? &now.may : &now.must;
    const int x = (int)x_type(), y = (int)y_type(), param = (int)param_type();
    refuse(must, now.no_problem || p->struct_size != sizeof *p, LNORM_ERROR_STRUCT);
    refuse(must, now.no_size, LNORM_ERROR_NULL);
    refuse(must, p->operation != LNORM_LAYER_NORM && p->operation != LNORM_RMS_NORM, LNORM_ERROR_OPERATION);
    const bool y_fits = now.operation == QUANTIZED
                            ? is_type(y, LNORM_I8, LNORM_U8)
                            : is_type(y, LNORM_F32, LNORM_BF16) && (x == LNORM_F64) == (y == LNORM_F64);
    refuse(must,
           !is_type(x, LNORM_F32, LNORM_BF16) || !y_fits || (param != x && (param != LNORM_F32 || x == LNORM_F64)),
           LNORM_ERROR_TYPE);
    refuse(must, (p->flags & ~15u) != 0 || p->reserved != 0, LNORM_ERROR_FLAGS);
    refuse(must, p->inner < 0, LNORM_ERROR_INNER);
    const bool no_product = is_flat() && (p->outer == 0 || p->norm == 0); /* their sizes are never negative */
    refuse(no_product ? &now.may : must, p->outer < 0, LNORM_ERROR_SIZE);
    refuse(no_product ? &now.may : may, p->norm < 0, LNORM_ERROR_SIZE);
    const bool params_fit = divides(p->param_rows, p->outer) && divides(p->param_run, p->norm);
    refuse(may, !params_fit, LNORM_ERROR_PARAMS);
    if (params_fit) {
        const int64_t share = p->outer / (p->param_rows ? p->param_rows : 1);
        refuse(may, p->param_repeat != 0 && p->param_repeat != 1 && p->param_repeat != share, LNORM_ERROR_PARAMS);
    }
    const size_t inner = or_else(p->inner, 1);
    const bool has_runs = p->param_run > 1, spaced = inner != 1 || (p->x_norm_stride != 0 && p->x_norm_stride != 1);
    refuse(may, (has_runs || is_added()) && spaced, LNORM_ERROR_INNER);
    refuse(may, has_runs && takes_no_runs(), LNORM_ERROR_PARAMS);
    refuse(must, now.operation == APPLY_GRAD_MOMENTS && p->param_rows > 1, LNORM_ERROR_PARAMS);
    refuse(must, now.operation == ADD_FORWARD && !divides(p->residual_rows, p->outer), LNORM_ERROR_PARAMS);
    const bool has_eps = (now.inputs & SET(X) && !(now.inputs & SET(RSTD)));
    const double largest = now.real == LNORM_F64 ? 0x1.fffffffffffffp+1023 : 0x1.fffffep+127;
    refuse(must, has_eps && !(p->eps >= 0.0 && p->eps <= largest), LNORM_ERROR_EPS);
    refuse(must, is_merge() && (now.counts[0] < 0 || now.counts[1] < 0 || now.counts[0] > INT64_MAX - now.counts[1]),
           LNORM_ERROR_SIZE);
    return ((now.must | now.may) & ~(1u << LNORM_ERROR_EPS)) == 0;
}

static void set_layout(int argument, lnorm_type type, size_t outer, size_t norm, size_t inner, int64_t stride,
                       int64_t step)
{
    tensor *const t = &now.arguments[argument];
    const size_t dense = norm * inner; /* meaningless where it overflows, which is refused by the number of elements */
    t->type = type;
    t->size = argument == ZERO_POINT ? sizeof(int32_t) : argument == WORKSPACE ? 1 : type_size(type);
    t->outer = outer;
    t->norm = norm;
    t->inner = inner;
    t->stride = stride == LNORM_BROADCAST ? 0 : stride != 0 ? stride : (int64_t)dense;
    t->step = step == LNORM_BROADCAST ? 0 : step != 0 ? step : (int64_t)inner;
    const double size = (double)t->size, along = times(outer > 1 ? (double)outer - 1.0 : 0.0, (double)t->stride),
                 across = times(norm > 1 ? (double)norm - 1.0 : 0.0, (double)t->step);
    t->before = t->after = 0.0;
    if (outer != 0 && norm != 0 && inner != 0) {
        t->before = -((along < 0 ? along : 0.0) + (across < 0 ? across : 0.0)) * size;
        t->after = ((along > 0 ? along : 0.0) + (across > 0 ? across : 0.0) + (double)inner) * size;
    }
}

static void set_array(int argument, lnorm_type type, size_t count)
{
    set_layout(argument, type, 1, count, 1, 0, 0);
}

/* Where all arguments of a problem lie, whose fields are legal. */
static void set_layouts(void)
{
    const lnorm_problem *const p = &now.problem;
    const lnorm_type x = x_type(), y = y_type(), param = param_type(), real = now.real;
    const size_t outer = (size_t)p->outer, norm = (size_t)p->norm, inner = or_else(p->inner, 1), rows = outer * inner;
    const size_t params = or_else(p->param_rows, 1) * (norm / or_else(p->param_run, 1));
    const bool dynamic = (p->flags & LNORM_DYNAMIC_SCALE) != 0;
    now.rows = rows;
    set_layout(X, x, outer, norm, inner, p->x_stride, p->x_norm_stride);
    set_layout(Y, y, outer, norm, inner, p->y_stride, p->y_norm_stride);
    set_layout(DY, y, outer, norm, inner, p->dy_stride, p->dy_norm_stride);
    set_layout(DX, x, outer, norm, inner, p->dx_stride, p->dx_norm_stride);
    set_layout(TOTAL, x, outer, norm, inner, p->total_stride, 0);
    set_layout(DTOTAL, x, outer, norm, inner, p->total_stride, 0);
    set_layout(RESIDUAL, x, or_else(p->residual_rows, outer), norm, 1, p->residual_stride, 0);
    set_array(INPUT_BIAS, param, norm);
    set_array(GAMMA, param, params);
    set_array(BETA, param, params);
    set_array(DGAMMA, real, params);
    set_array(DBETA, real, params);
    set_array(MEAN, real, rows);
    set_array(RSTD, real, rows);
    set_array(SCALE, real, dynamic ? rows : 1);
    set_array(ZERO_POINT, LNORM_F32, dynamic ? rows : 1);
    set_layout(MOMENTS, real, rows, LNORM_MOMENTS, 1, 0, 0);
    set_layout(GRAD_MOMENTS, real, rows, LNORM_GRAD_MOMENTS, 1, 0, 0);
    for (int i = A; i <= MERGED; i++) {
        set_layout(i, real, rows, now.operation == MERGE_MOMENTS ? LNORM_MOMENTS : LNORM_GRAD_MOMENTS, 1, 0, 0);
    }
    set_array(WORKSPACE, real, now.workspace_size);
}

static unsigned tensors_of(void)
{
    unsigned set = now.inputs | now.outputs;
    return set & (SET(X) | SET(Y) | SET(DY) | SET(DX) | SET(TOTAL) | SET(DTOTAL) | SET(RESIDUAL) | SET(A) | SET(B) |
                  SET(MERGED));
}

/* Sizes that overflow must be refused; of those that are only too large for a test, nothing is known. */
static bool judge_sizes(void)
{
    const lnorm_problem *const p = &now.problem;
    const double largest = (double)PTRDIFF_MAX;
    const double outer = (double)p->outer, inner = (double)or_else(p->inner, 1), rows = times(outer, inner);
    const double norm = is_merge() ? (double)now.arguments[A].norm : (double)p->norm, elements = times(rows, norm);
    bool fits = rows <= (double)MOST_ELEMENTS && elements <= (double)MOST_ELEMENTS && norm <= (double)MOST_ELEMENTS;
    refuse(&now.must, rows > 1.01 * largest, LNORM_ERROR_SIZE);
    const double params = (double)or_else(p->param_rows, 1) * norm;
    fits = fits && params <= (double)(MOST_ELEMENTS * LNORM_MOMENTS); /* which else may have overflowed */
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        const tensor *const t = &now.arguments[i];
        if (tensors_of() & SET(i) && elements != 0.0) {
            const double bytes = t->before + t->after, all = times(elements, (double)t->size);
            refuse(&now.must, (bytes > 1.01 * largest || all > 1.01 * largest) && i != RESIDUAL && i != DTOTAL,
                   LNORM_ERROR_SIZE);
            fits = fits && bytes <= (double)MOST_BYTES;
        } else if ((now.inputs | now.outputs) & SET(i)) { /* perhaps of many elements in one place */
            const double all = times(times((double)t->outer, (double)t->inner), (double)t->norm);
            fits = fits && t->before + t->after <= (double)MOST_BYTES && all <= (double)(MOST_ELEMENTS * LNORM_MOMENTS);
        }
    }
    refuse(&now.may, !fits, LNORM_ERROR_SIZE);
    return fits;
}

/* ---- Memory: the arguments that lie together have one allocation ---- */

static unsigned char *memory[EVERY_ARGUMENT];
static size_t memory_size[EVERY_ARGUMENT];
/* Of each allocation: what it held before the call, what it held after the first one, and how many elements of outputs
 * each byte belongs to. */
static unsigned char before_call[EVERY_ARGUMENT][2 * MOST_BYTES], after_call[EVERY_ARGUMENT][2 * MOST_BYTES],
    written[EVERY_ARGUMENT][2 * MOST_BYTES];

static bool allocate(void)
{
    tensor *const t = now.arguments;
    for (int host = 0; host < EVERY_ARGUMENT; host++) {
        if (!t[host].present || t[host].host != host) {
            continue;
        }
        double low = 0.0, high = 0.0;
        bool alone = true;
        for (int i = 0; i < EVERY_ARGUMENT; i++) {
            if (t[i].present && t[i].host == host) {
                const double begin = (double)t[i].shift - t[i].before, end = (double)t[i].shift + t[i].after;
                low = begin < low ? begin : low;
                high = end > high ? end : high;
                alone = alone && i == host;
            }
        }
        size_t front = now.front * t[host].size + (host == WORKSPACE ? now.misaligned + 7 * now.front : 0);
        const size_t offset = (size_t)-low;
        front += alone ? 0 : (8 - (front + offset) % 8) % 8; /* for elements of two sizes */
        memory_size[host] = front + offset + (size_t)high;
        if (memory_size[host] > 2 * MOST_BYTES) {
            return false;
        }
        memory[host] = test_allocate(memory_size[host]);
        memset(memory[host], 0xff, memory_size[host]); /* NaN in every type */
        memset(written[host], 0, memory_size[host]);
        t[host].at = memory[host] + front + offset;
    }
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        if (t[i].present) {
            t[i].at = t[t[i].host].at + t[i].shift;
        }
    }
    return true;
}

static void release(void)
{
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        free(memory[i]);
        memory[i] = NULL;
    }
}

#define FOR_ELEMENTS(t)                                                                                                \
    for (size_t o = 0; o < (t)->outer; o++)                                                                            \
        for (size_t n = 0; n < (t)->norm; n++)                                                                         \
            for (size_t i = 0; i < (t)->inner; i++)

static bool same_places(const tensor *a, const tensor *b)
{
    return a->at == b->at && a->size == b->size && a->outer == b->outer && a->norm == b->norm && a->inner == b->inner &&
           (a->outer <= 1 || a->stride == b->stride) && (a->norm <= 1 || a->step == b->step);
}

/* Marks the bytes of all outputs, and looks who else has them. */
static void judge_overlaps(void)
{
    const tensor *const t = now.arguments;
    const unsigned outputs = now.outputs & ~(wants_sums() ? 0 : SET(WORKSPACE));
    for (int k = 0; k < EVERY_ARGUMENT; k++) {
        if (!(outputs & SET(k)) || !t[k].present) {
            continue;
        }
        const int host = t[k].host;
        const bool is_tensor = (tensors_of() & SET(k)) != 0;
        unsigned char *const marks = written[host];
        bool clashes = false, twice = false;
        FOR_ELEMENTS(&t[k])
        {
            const size_t place = (size_t)(element(&t[k], o, n, i) - memory[host]);
            for (size_t byte = place; byte < place + t[k].size; byte++) {
                clashes = clashes || (marks[byte] != 0 && marks[byte] != k + 1);
                twice = twice || marks[byte] == k + 1;
                marks[byte] = (unsigned char)(k + 1);
            }
        }
        refuse(&now.must, twice, LNORM_ERROR_STRIDE);
        refuse(&now.must, clashes, LNORM_ERROR_OVERLAP);
        refuse(&now.may, is_tensor && now.strange, LNORM_ERROR_STRIDE);
    }
    for (int k = 0; k < EVERY_ARGUMENT; k++) {
        const bool is_one = t[k].present && (now.inputs | outputs) & SET(k);
        if (!is_one || t[k].outer * t[k].norm * t[k].inner == 0) {
            continue;
        }
        const unsigned char *const marks = written[t[k].host];
        for (int j = 0; j < EVERY_ARGUMENT && t[k].host >= 0; j++) { /* those that share memory */
            if (j == k || !t[j].present || t[j].host != t[k].host || !(outputs & SET(j))) {
                continue;
            }
            const bool both = tensors_of() & SET(k) && tensors_of() & SET(j), inside = same_places(&t[k], &t[j]);
            if (!(both && inside && now.inputs & SET(k))) {
                const bool alike = t[k].size == t[j].size && t[k].stride == t[j].stride;
                const bool dense = t[k].step == (int64_t)t[k].inner && t[j].step == (int64_t)t[j].inner;
                const bool columns = both && alike && dense && !now.strange && t[k].outer > 1;
                refuse(&now.may, !columns, LNORM_ERROR_OVERLAP);
                bool hits = false;
                FOR_ELEMENTS(&t[k])
                {
                    const size_t place = (size_t)(element(&t[k], o, n, i) - memory[t[k].host]);
                    for (size_t byte = place; byte < place + t[k].size; byte++) {
                        hits = hits || marks[byte] == j + 1;
                    }
                }
                refuse(&now.must, hits, LNORM_ERROR_OVERLAP);
            }
        }
    }
}

/* Of pointers and what they point to. */
static void judge_pointers(void)
{
    const lnorm_problem *const p = &now.problem;
    const bool nothing = now.rows == 0 || (p->norm == 0 && !is_merge());
    unsigned required = operations[now.operation].required & ~(is_rms() ? SET(MEAN) : 0);
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        const bool missing = required & SET(i) && !has(i);
        refuse(nothing ? &now.may : &now.must, missing, LNORM_ERROR_NULL);
    }
    const bool no_mean = is_rms() && (now.inputs | now.outputs) & SET(MEAN);
    refuse(nothing ? &now.may : &now.must, no_mean && has(MEAN), LNORM_ERROR_NULL);
    const size_t needed = now.arguments[WORKSPACE].norm;
    const bool lacks =
        !has(WORKSPACE) || now.workspace_size < needed || (uintptr_t)pointer(WORKSPACE) % type_size(now.real) != 0;
    refuse(nothing ? &now.may : &now.must, wants_sums() && needed != 0 && lacks, LNORM_ERROR_WORKSPACE);
    if (now.operation == QUANTIZED) {
        const bool is_signed = y_type() == LNORM_I8;
        if (p->flags & LNORM_DYNAMIC_SCALE) {
            refuse(now.rows == 0 ? &now.may : &now.must, !is_signed && !has(ZERO_POINT), LNORM_ERROR_NULL);
            refuse(now.rows == 0 ? &now.may : &now.must, is_signed && has(ZERO_POINT), LNORM_ERROR_SCALE);
        } else {
            const double scale = has(SCALE) ? get_value(now.real, now.arguments[SCALE].at, 0) : 1.0;
            int32_t zero_point = 0;
            if (has(ZERO_POINT)) {
                memcpy(&zero_point, now.arguments[ZERO_POINT].at, sizeof zero_point);
            }
            refuse(&now.must, !(scale > 0.0 && isfinite(scale)), LNORM_ERROR_SCALE);
            refuse(&now.must, zero_point < (is_signed ? -128 : 0) || zero_point > (is_signed ? 127 : 255),
                   LNORM_ERROR_SCALE);
        }
    }
}

/* ---- Values ---- */

enum { PLAIN, OFFSET, TINY, HUGE_VALUES, SPECIAL, BITS, CONSTANT, WIDE, FILLINGS };

static void fill(int argument, int how, uint64_t *random)
{
    static const struct {
        double offset, scale[2];
    } of[FILLINGS] = {{0.0, {1.0, 1.0}},  {1e4, {1.0, 1.0}}, {0.0, {0x1p-100, 0x1p-665}}, {0.0, {0x1p+100, 0x1p+665}},
                      {0.25, {1.0, 1.0}}, {0.0, {1.0, 1.0}}, {5.0, {0.0, 0.0}},           {0.5, {1.0, 1.0}}};
    static uint64_t rows[MOST_ELEMENTS * LNORM_MOMENTS];
    const tensor *const t = &now.arguments[argument];
    const size_t many = t->outer * t->inner, cols = t->norm;
    if (!t->present || many * cols == 0) {
        return;
    }
    fill_values(t->type, rows, many * cols, of[how].offset, of[how].scale[t->type == LNORM_F64], random);
    if (how == SPECIAL) {
        make_special(t->type, rows, many, cols, random);
    } else if (how == BITS) {
        for (size_t k = 0; k <= many * cols * t->size / 8; k++) {
            rows[k] = next_random(random);
        }
    } else if (how == WIDE) {
        for (size_t k = 0; k < many * cols; k++) {
            const int exponent = (int)(next_random(random) % 64) - 32;
            set_value(t->type, rows, k, ldexp(get_value(t->type, rows, k), exponent));
        }
    }
    FOR_ELEMENTS(t)
    {
        memcpy(element(t, o, n, i), (char *)rows + ((o * t->inner + i) * cols + n) * t->size, t->size);
    }
}

static void fill_all(void)
{
    const unsigned of_x = SET(X) | SET(TOTAL) | SET(RESIDUAL) | SET(Y), of_dy = SET(DY) | SET(DTOTAL);
    const unsigned statistics = STATS | SET(MOMENTS) | SET(GRAD_MOMENTS) | SET(A) | SET(B);
    uint64_t random = now.seed;
    for (int outputs = 1; outputs >= 0; outputs--) { /* the inputs last, as some lie in outputs */
        for (int i = 0; i < EVERY_ARGUMENT; i++) {
            const unsigned set = SET(i);
            const int how = set & of_x                                         ? now.values[0]
                            : set & of_dy                                      ? now.values[1]
                            : set & (PARAMS | SET(INPUT_BIAS))                 ? now.values[2]
                            : now.values[0] == BITS && (set & statistics) != 0 ? BITS
                            : i == SCALE                                       ? WIDE
                                                                               : PLAIN;
            if (((now.outputs & set) != 0) == outputs && i != WORKSPACE) {
                fill(i, now.arguments[i].size == 1 ? BITS : how, &random);
            }
        }
    }
    if (has(ZERO_POINT)) {
        const int32_t zero_point = (int32_t)(next_random(&random) % 260) - (y_type() == LNORM_I8 ? 130 : 2);
        for (size_t k = 0; k < now.arguments[ZERO_POINT].norm; k++) {
            memcpy(now.arguments[ZERO_POINT].at + k * sizeof zero_point, &zero_point, sizeof zero_point);
        }
    }
}

#include "fuzz_values.h"

/* ---- Calls ---- */

typedef struct work {
    lnorm_task task;
    void *argument;
    size_t count;
} work;

#ifdef TEST_POSIX
static void *run_odd(void *argument)
{
    const work *const w = argument;
    for (size_t i = 1; i < w->count; i += 2) {
        w->task(w->argument, i);
    }
    return NULL;
}
#endif

/* In reverse; from the middle on; or on two threads. */
static void run_pieces(void *context, size_t count, lnorm_task task, void *argument)
{
    const int order = *(const int *)context;
    work w = {task, argument, count};
#ifdef TEST_POSIX
    pthread_t thread;
    if (order == 3 && pthread_create(&thread, NULL, run_odd, &w) == 0) {
        for (size_t i = 0; i < count; i += 2) {
            task(argument, i);
        }
        pthread_join(thread, NULL);
        return;
    }
#endif
    for (size_t i = 0; i < count; i++) {
        w.task(w.argument, order == 1 ? count - 1 - i : (i + count / 2) % count);
    }
}

static lnorm_status call_operation(const lnorm_problem *p)
{
    void *a[EVERY_ARGUMENT];
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        a[i] = pointer(i);
    }
    const size_t rows = (size_t)now.problem.outer, cols = (size_t)now.problem.norm, size = now.workspace_size;
    size_t bytes = 1;
    switch (now.operation) {
    case FLAT_FORWARD:
        return flat_forward(now.real, rows, cols, now.problem.eps, a);
    case FLAT_BACKWARD:
        return flat_backward(now.real, rows, cols, a, size);
    case FLAT_WORKSPACE:
        return workspace_bytes(now.real, rows, cols) == SIZE_MAX ? LNORM_ERROR_SIZE : LNORM_OK;
    case FORWARD:
        return lnorm_forward(p, a[X], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    case BACKWARD:
        return lnorm_backward(p, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA], a[WORKSPACE],
                              size);
    case BACKWARD_WORKSPACE: {
        const lnorm_status status = lnorm_backward_workspace(p, now.no_size ? NULL : &bytes);
        if (!now.no_size && (bytes == SIZE_MAX) != (status != LNORM_OK)) {
            fail("bytes of a workspace that was refused, or none", -1);
        }
        return status;
    }
    case ADD_FORWARD:
        return lnorm_add_forward(p, a[X], a[RESIDUAL], a[INPUT_BIAS], a[GAMMA], a[BETA], a[TOTAL], a[Y], a[MEAN],
                                 a[RSTD]);
    case ADD_BACKWARD:
        return lnorm_add_backward(p, a[DY], a[DTOTAL], a[TOTAL], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA], a[DBETA],
                                  a[WORKSPACE], size);
    case QUANTIZED:
        return lnorm_quantized_forward(p, a[X], a[GAMMA], a[BETA], a[Y], a[SCALE], a[ZERO_POINT], a[MEAN], a[RSTD]);
    case FROM_Y:
        return lnorm_backward_from_y(p, a[DY], a[Y], a[RSTD], a[GAMMA], a[BETA], a[DX], a[DGAMMA], a[DBETA],
                                     a[WORKSPACE], size);
    case GET_MOMENTS:
        return lnorm_moments(p, a[X], a[MOMENTS]);
    case APPLY_MOMENTS:
        return lnorm_apply_moments(p, a[X], a[MOMENTS], a[GAMMA], a[BETA], a[Y], a[MEAN], a[RSTD]);
    case GET_GRAD_MOMENTS:
        return lnorm_grad_moments(p, a[DY], a[X], a[MOMENTS], a[GAMMA], a[GRAD_MOMENTS]);
    case APPLY_GRAD_MOMENTS:
        return lnorm_apply_grad_moments(p, a[DY], a[X], a[MOMENTS], a[GRAD_MOMENTS], a[GAMMA], a[DX], a[DGAMMA],
                                        a[DBETA], a[WORKSPACE], size);
    case MERGE_MOMENTS:
        return lnorm_merge_moments(p, now.counts[0], a[A], now.counts[1], a[B], a[MERGED]);
    default:
        return lnorm_merge_grad_moments(p, now.counts[0], a[A], now.counts[1], a[B], a[MERGED]);
    }
}

/* Bytes of the workspace may be anything, and NaN is NaN. */
static void check_same_bits(void)
{
    const tensor *const t = now.arguments;
    for (int k = 0; k < EVERY_ARGUMENT; k++) {
        if (!(now.outputs & SET(k)) || !t[k].present || k == WORKSPACE) {
            continue;
        }
        const unsigned char *const first = after_call[t[k].host];
        FOR_ELEMENTS(&t[k])
        {
            const unsigned char *const at = element(&t[k], o, n, i);
            if (value_bits(t[k].type, at, 0) != value_bits(t[k].type, first + (at - memory[t[k].host]), 0)) {
                fail("instruction sets or hooks differ", k);
            }
        }
    }
}

static void check_untouched(bool accepted)
{
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        for (size_t byte = 0; memory[i] && byte < memory_size[i]; byte++) {
            if (memory[i][byte] != before_call[i][byte] && !(accepted && written[i][byte] != 0)) {
                fail(accepted ? "written where no output is" : "a refused call wrote", i);
            }
        }
    }
}

static lnorm_status run_all_sets(void)
{
    lnorm_status first = LNORM_OK;
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        if (memory[i]) {
            memcpy(before_call[i], memory[i], memory_size[i]);
        }
    }
    for (size_t isa = 0; lnorm_available_isa(isa); isa++) {
        for (int hooked = 0; hooked <= (now.hook != 0 && !is_flat() && !is_merge()); hooked++) {
            if (lnorm_set_isa(lnorm_available_isa(isa)) != LNORM_OK) {
                fail("an instruction set that is not available", -1);
            }
            now.problem.parallel_for = hooked ? run_pieces : NULL;
            now.problem.parallel_context = &now.hook;
            for (int i = 0; i < EVERY_ARGUMENT; i++) {
                if (memory[i]) {
                    memcpy(memory[i], before_call[i], memory_size[i]);
                }
            }
            const lnorm_status status = call_operation(now.no_problem ? NULL : &now.problem);
            if (status < LNORM_OK || status > LNORM_ERROR_SCALE || !lnorm_status_text(status)[0]) {
                fail("no such status", -1);
            }
            if (status == LNORM_OK ? now.must != 0 : !((now.must | now.may) & 1u << status)) {
                printf("status %d: %s\n", (int)status, lnorm_status_text(status));
                fail(status == LNORM_OK ? "accepted" : "refused for no reason", -1);
            }
            check_untouched(status == LNORM_OK);
            if (isa == 0 && hooked == 0) {
                first = status;
                reached[now.operation][status]++;
                for (int i = 0; i < EVERY_ARGUMENT; i++) {
                    if (memory[i]) {
                        memcpy(after_call[i], memory[i], memory_size[i]);
                    }
                }
            } else if (status != first) {
                fail("instruction sets differ in status", -1);
            } else if (status == LNORM_OK) {
                check_same_bits();
            }
        }
    }
    for (int i = 0; i < EVERY_ARGUMENT; i++) { /* as the values are compared with those of the inputs */
        if (memory[i]) {
            memcpy(memory[i], before_call[i], memory_size[i]);
        }
    }
    return first;
}

/* ---- One input ---- */

static void try_isa(void)
{
    static const char *const names[] = {"scalar", "avx2", "avx512", "neon", "", "AVX2", "scalar ", "sse2"};
    const char *const name = names[take() % COUNT(names)];
    bool available = false;
    for (size_t i = 0; lnorm_available_isa(i); i++) {
        available = available || strcmp(lnorm_available_isa(i), name) == 0;
    }
    const lnorm_status status = lnorm_set_isa(name);
    reached[SET_ISA][status]++;
    if (status != (available ? LNORM_OK : LNORM_ERROR_ISA) || lnorm_set_isa(NULL) != LNORM_OK || !lnorm_isa()) {
        fail(name, -1);
    }
}

static bool statistics_lie_alone(void)
{
    const unsigned statistics = SET(MEAN) | SET(RSTD) | SET(MOMENTS) | SET(GRAD_MOMENTS) | SET(A) | SET(B);
    const tensor *const t = now.arguments;
    for (int i = 0; i < EVERY_ARGUMENT; i++) {
        if (t[i].present && t[i].host != i && (statistics & (SET(i) | SET(t[i].host))) &&
            !same_places(&t[i], &t[t[i].host])) {
            return false;
        }
    }
    return true;
}

static void try_call(void)
{
    const struct operation *const o = &operations[now.operation];
    now.inputs = o->inputs;
    now.outputs = o->outputs;
    now.seed = take() | (uint64_t)take() << 8;
    const unsigned fillings = take(), more = take();
    now.values[0] = (int)(fillings % FILLINGS);
    now.values[1] = (int)(fillings / FILLINGS % FILLINGS);
    now.values[2] = (int)(more % FILLINGS);
    now.hook = (int)(more / 8 % 4);
    now.front = more / 32 % 4;
    now.own_statistics = more < 128;
    take_problem();
    if (is_merge()) {
        now.counts[0] = take();
        now.counts[1] = take();
    }
    const unsigned spoilers = take() % 16;
    for (unsigned i = 13; i <= spoilers; i++) {
        spoil_field();
    }
    if (spoilers == 12) {
        now.no_problem = !is_flat();
    } else if (spoilers == 11) {
        now.no_size = now.operation == BACKWARD_WORKSPACE;
    } else if (spoilers == 10) {
        now.counts[take() % 2] = take_odd_number(1);
    }
    if (is_flat()) { /* of the problem, only these exist */
        const lnorm_problem p = now.problem;
        now.problem = (lnorm_problem)LNORM_PROBLEM_INIT;
        now.problem.x_type = p.x_type == LNORM_F64 ? LNORM_F64 : 0;
        now.problem.outer = p.outer;
        now.problem.norm = p.norm;
        now.problem.eps = p.eps;
        now.no_problem = false;
    }
    now.real = now.problem.x_type == LNORM_F64 ? LNORM_F64 : LNORM_F32;
    if (now.operation == QUANTIZED && now.problem.flags & LNORM_DYNAMIC_SCALE) {
        now.inputs &= ~(SET(SCALE) | SET(ZERO_POINT));
        now.outputs |= SET(SCALE) | SET(ZERO_POINT);
    }

    bool legal = judge_problem(), fits = true;
    if (legal) {
        set_layouts();
        fits = judge_sizes();
    }
    if (legal && fits && now.outputs & SET(WORKSPACE)) {
        now.workspace_size = 0;
        if (is_flat()) {
            now.workspace_size = workspace_bytes(now.real, (size_t)now.problem.outer, (size_t)now.problem.norm);
        } else if (lnorm_backward_workspace(&now.problem, &now.workspace_size) != LNORM_OK) {
            fail("no workspace", -1);
        }
        set_array(WORKSPACE, now.real, now.workspace_size);
        fits = now.workspace_size <= MOST_BYTES;
    }
    if (!(legal && fits) && now.must == 0) {
        return;
    }
    if (!legal || !fits) { /* a few bytes that nobody may touch */
        for (int i = 0; i < EVERY_ARGUMENT; i++) {
            set_array(i, LNORM_F64, 8);
        }
    }
    take_places();
    if (!allocate()) {
        release();
        return;
    }
    bool own = false;
    if (legal && fits) {
        fill_all();
        judge_pointers();
        judge_overlaps();
        own = now.must == 0 && now.own_statistics && statistics_lie_alone();
        if (own) {
            set_statistics();
        }
    } else {
        now.may = ~0u;
    }
    if (run_all_sets() == LNORM_OK) {
        check_values(own);
    }
    release();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input = data;
    input_end = data + size;
    now = (call){.operation = (int)(take() % OPERATIONS)};
    if (now.operation == SET_ISA) {
        try_isa();
    } else {
        try_call();
    }
    return 0;
}

#ifndef FUZZ_LIBFUZZER
static void replay(const char *path)
{
    static uint8_t bytes[4096];
    FILE *const file = fopen(path, "rb");
    const size_t size = file ? fread(bytes, 1, sizeof bytes, file) : 0;
    if (!CHECK(file != NULL)) {
        printf("  cannot read %s\n", path);
        return;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
}

/* The files that are named, or, line by line, in the one that is named behind a @. */
int main(int argc, char **argv)
{
    static char path[4096];
    for (int i = 1; i < argc; i++) {
        FILE *const list = argv[i][0] == '@' ? fopen(argv[i] + 1, "r") : NULL;
        while (list != NULL && fgets(path, sizeof path, list) != NULL) {
            path[strcspn(path, "\n")] = '\0';
            replay(path);
        }
        if (list != NULL) {
            fclose(list);
        } else {
            replay(argv[i]);
        }
    }
    for (int i = 0; i < OPERATIONS; i++) {
        unsigned long refused = 0;
        printf("%-24s %5lu accepted; refused by status:", operations[i].name, reached[i][LNORM_OK]);
        for (int status = 1; status <= LNORM_ERROR_SCALE; status++) {
            printf(" %lu", reached[i][status]);
            refused += reached[i][status];
        }
        printf("\n");
        CHECK(reached[i][LNORM_OK] != 0);
        CHECK(refused != 0);
    }
    return test_result("lnorm_fuzz_replay");
}
#endif

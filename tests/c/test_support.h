/* What the C tests share: arguments as a table, values from an integer generator, buffers between guard pages, and
 * comparison bit by bit. Include it first. With TEST_CANARIES there are no guard pages, as where mmap is missing:
 * AVX's masked moves, as qemu carries them out, touch lanes that they must not. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#if defined(__unix__) || defined(__APPLE__)
#define TEST_POSIX 1
#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS under -std=c11 */
#endif
#include <pthread.h>
#include <unistd.h>
#ifndef TEST_CANARIES
#define TEST_GUARD_PAGES 1
#include <sys/mman.h>
#endif
#endif

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../src/c/compiler.h"
#include "lnorm.h"

/* To MemorySanitizer and valgrind the data of a guarded buffer are unwritten: they report an output that the library
 * leaves out as soon as it is compared, and a workspace that it reads first. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define MARK_UNWRITTEN(data, size) __msan_poison(data, size)
#define MARK_WRITTEN(data, size) __msan_unpoison(data, size)
#elif defined(TEST_VALGRIND)
#include <valgrind/memcheck.h>
#define MARK_UNWRITTEN(data, size) (void)VALGRIND_MAKE_MEM_UNDEFINED(data, size)
#define MARK_WRITTEN(data, size) (void)VALGRIND_MAKE_MEM_DEFINED(data, size)
#define HAS_SIGNS_OF_ZERO false /* its FMA (3.19) gives a product that underflows the sign of what is added */
#else
#define MARK_UNWRITTEN(data, size) ((void)(data), (void)(size))
#define MARK_WRITTEN(data, size) ((void)(data), (void)(size))
#endif

#ifndef HAS_SIGNS_OF_ZERO
#define HAS_SIGNS_OF_ZERO true
#endif

/* ---- Checks ---- */

static unsigned long test_checks, test_failures;

static inline bool test_check(bool passed, const char *what, const char *file, int line)
{
    test_checks++;
    if (!passed && ++test_failures <= 50) {
        printf("%s:%d: not true: %s\n", file, line, what);
#ifdef TEST_STOPS /* at the first failure, as scripts/mutate.py wants it */
        exit(EXIT_FAILURE);
#endif
    }
    return passed;
}

#define CHECK(condition) test_check((condition), #condition, __FILE__, __LINE__)

static inline int test_result(const char *name)
{
    printf("%s: %lu checks, %lu failed\n", name, test_checks, test_failures);
    return test_failures ? EXIT_FAILURE : EXIT_SUCCESS;
}

static inline void *test_allocate(size_t size)
{
    void *memory = malloc(size ? size : 1);
    if (!memory) {
        printf("out of memory\n");
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* ---- Element types and the arguments of forward and backward, so that a test can loop over them ---- */

static const lnorm_type element_types[] = {LNORM_F32, LNORM_F64};

static inline const char *type_name(lnorm_type type)
{
    return type == LNORM_F32 ? "f32" : type == LNORM_F64 ? "f64" : type == LNORM_F16 ? "f16" : "bf16";
}
static inline size_t type_size(lnorm_type type)
{
    return type == LNORM_F32                      ? sizeof(float)
           : type == LNORM_F64                    ? sizeof(double)
           : type == LNORM_I8 || type == LNORM_U8 ? sizeof(uint8_t)
                                                  : sizeof(uint16_t);
}

enum { X, GAMMA, BETA, Y, MEAN, RSTD, DY, DX, DGAMMA, DBETA, WORKSPACE, ARGUMENTS };

static const char *const argument_names[ARGUMENTS] = {"x",  "gamma", "beta",   "y",     "mean",     "rstd",
                                                      "dy", "dx",    "dgamma", "dbeta", "workspace"};

/* The arguments beside those that every call has. */
enum { RESIDUAL = ARGUMENTS, INPUT_BIAS, TOTAL, DTOTAL, SCALE, ZERO_POINT, MOMENTS, GRAD_MOMENTS, ALL_ARGUMENTS };

static const char *const other_names[] = {"residual", "input_bias", "total",   "dtotal",
                                          "scale",    "zero_point", "moments", "grad_moments"};

static inline const char *name_of(int argument)
{
    return argument < ARGUMENTS ? argument_names[argument] : other_names[argument - ARGUMENTS];
}

static inline size_t workspace_bytes(lnorm_type type, size_t rows, size_t cols)
{
    return type == LNORM_F32 ? lnorm_backward_workspace_f32(rows, cols) : lnorm_backward_workspace_f64(rows, cols);
}

static inline size_t argument_length(int argument, size_t rows, size_t cols)
{
    switch (argument) {
    case X:
    case Y:
    case DY:
    case DX:
        return rows * cols;
    case MEAN:
    case RSTD:
        return rows;
    default:
        return cols;
    }
}

static inline size_t argument_bytes(int argument, lnorm_type type, size_t rows, size_t cols)
{
    return argument == WORKSPACE ? workspace_bytes(type, rows, cols)
                                 : argument_length(argument, rows, cols) * type_size(type);
}

/* The typed calls on a table of arguments. */
static inline lnorm_status flat_forward(lnorm_type type, size_t rows, size_t cols, double eps, void *const a[])
{
    return type == LNORM_F32 ? lnorm_forward_f32(rows, cols, a[X], a[GAMMA], a[BETA], eps, a[Y], a[MEAN], a[RSTD])
                             : lnorm_forward_f64(rows, cols, a[X], a[GAMMA], a[BETA], eps, a[Y], a[MEAN], a[RSTD]);
}

static inline lnorm_status flat_backward(lnorm_type type, size_t rows, size_t cols, void *const a[], size_t workspace)
{
    return type == LNORM_F32 ? lnorm_backward_f32(rows, cols, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA],
                                                  a[DBETA], a[WORKSPACE], workspace)
                             : lnorm_backward_f64(rows, cols, a[DY], a[X], a[MEAN], a[RSTD], a[GAMMA], a[DX], a[DGAMMA],
                                                  a[DBETA], a[WORKSPACE], workspace);
}

/* ---- Values: splitmix64, and only exact or correctly rounded steps after it, so all machines get the same ones ----
 */

static inline WRAPS uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [-1, 1), with as many random bits as the type holds. */
static inline double next_value(lnorm_type type, uint64_t *state)
{
    return type != LNORM_F64 ? (double)(next_random(state) >> 40) * 0x1p-23 - 1.0
                             : (double)(next_random(state) >> 11) * 0x1p-52 - 1.0;
}

/* Of the 16-bit types: how many bits of fraction they keep, and their smallest normal exponent. */
static inline int fraction_bits(lnorm_type type)
{
    return type == LNORM_F16 ? 10 : 7;
}
static inline int lowest_exponent(lnorm_type type)
{
    return type == LNORM_F16 ? -14 : -126;
}

static inline double value_of_16_bits(lnorm_type type, uint16_t bits)
{
    const int fraction = fraction_bits(type), exponent = (bits & 0x7fff) >> fraction;
    const double digits = bits & ((1 << fraction) - 1), sign = bits & 0x8000 ? -1.0 : 1.0;
    if (exponent == 0x7fff >> fraction) {
        return digits != 0.0 ? (double)NAN : sign * (double)INFINITY;
    }
    return sign * ldexp(exponent != 0 ? digits + (1 << fraction) : digits,
                        lowest_exponent(type) - fraction + (exponent != 0 ? exponent - 1 : 0));
}

/* Rounded to nearest even. */
static inline uint16_t value_to_16_bits(lnorm_type type, double value)
{
    const int fraction = fraction_bits(type);
    const uint16_t sign = signbit(value) ? 0x8000 : 0, infinity = (uint16_t)((0x7fff >> fraction) << fraction);
    int exponent;
    if (isnan(value)) {
        return (uint16_t)(sign | infinity | 1 << (fraction - 1));
    }
    if (isinf(value)) {
        return sign | infinity;
    }
    (void)frexp(value, &exponent); /* abs(value) is from 2^(exponent - 1) on */
    const int lowest = lowest_exponent(type), unit = (exponent - 1 > lowest ? exponent - 1 : lowest) - fraction;
    const double count = nearbyint(ldexp(fabs(value), -unit)); /* may round up to the next power of two */
    const double bits = count + ldexp(unit + fraction - lowest, fraction);
    return sign | (bits < infinity ? (uint16_t)bits : infinity);
}

static inline double get_value(lnorm_type type, const void *values, size_t i)
{
    switch (type) {
    case LNORM_F32:
        return (double)((const float *)values)[i];
    case LNORM_F64:
        return ((const double *)values)[i];
    case LNORM_I8:
        return ((const int8_t *)values)[i];
    case LNORM_U8:
        return ((const uint8_t *)values)[i];
    default:
        return value_of_16_bits(type, ((const uint16_t *)values)[i]);
    }
}

static inline void set_value(lnorm_type type, void *values, size_t i, double value)
{
    switch (type) {
    case LNORM_F32:
        ((float *)values)[i] = (float)value;
        break;
    case LNORM_F64:
        ((double *)values)[i] = value;
        break;
    default:
        ((uint16_t *)values)[i] = value_to_16_bits(type, value);
        break;
    }
}

static inline void fill_values(lnorm_type type, void *values, size_t count, double offset, double scale,
                               uint64_t *state)
{
    for (size_t i = 0; i < count; i++) {
        set_value(type, values, i, (next_value(type, state) + offset) * scale);
    }
}

/* A power of two from anywhere in the type's range. */
static inline double random_scale(lnorm_type type, uint64_t *state)
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

/* Rows of the kinds that are seldom met, and ordinary ones between them. */
static inline void make_special(lnorm_type type, void *x, size_t rows, size_t cols, uint64_t *state)
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

/* ---- Bits ---- */

/* All NaNs count as one: which NaN comes out of an operation differs between processors. */
static inline uint64_t value_bits(lnorm_type type, const void *values, size_t i)
{
    if (type == LNORM_F32) {
        uint32_t bits;
        memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
        return (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits;
    }
    if (type == LNORM_I8 || type == LNORM_U8) {
        return ((const uint8_t *)values)[i];
    }
    if (type == LNORM_F16 || type == LNORM_BF16) {
        const uint16_t bits = ((const uint16_t *)values)[i];
        return isnan(value_of_16_bits(type, bits)) ? 0x7fff : bits;
    }
    uint64_t bits;
    memcpy(&bits, (const char *)values + i * sizeof bits, sizeof bits);
    return (bits & 0x7fffffffffffffffu) > 0x7ff0000000000000u ? 0x7ff8000000000000u : bits;
}

/* The index of the first element whose bits differ; count when there is none. */
static inline size_t first_difference(lnorm_type type, const void *a, const void *b, size_t count)
{
    if (memcmp(a, b, count * type_size(type)) == 0) {
        return count;
    }
    size_t i = 0;
    while (i < count && (value_bits(type, a, i) == value_bits(type, b, i) ||
                         (!HAS_SIGNS_OF_ZERO && get_value(type, a, i) == 0.0 && get_value(type, b, i) == 0.0))) {
        i++;
    }
    return i;
}

/* ---- Guarded buffers: whole pages between two that fault on access, where mmap exists, and canaries everywhere ----
 */

#define GUARD_CANARY 0xc5
#define GUARD_BYTES 256 /* canaries on each side of the data, where there is room before the guard page */

typedef struct guarded { /* start with zeros; guarded_place grows it */
    unsigned char *memory, *data;
    size_t capacity, size;
} guarded;

static inline void guarded_free(guarded *buffer)
{
#ifdef TEST_GUARD_PAGES
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (buffer->memory) {
        munmap(buffer->memory - page, buffer->capacity + 2 * page);
    }
#else
    free(buffer->memory);
#endif
    *buffer = (guarded){0};
}

static inline void guarded_grow(guarded *buffer, size_t capacity)
{
    guarded_free(buffer);
#ifdef TEST_GUARD_PAGES
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    buffer->capacity = (capacity + page - 1) / page * page;
    unsigned char *map =
        mmap(NULL, buffer->capacity + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || mprotect(map, page, PROT_NONE) ||
        mprotect(map + page + buffer->capacity, page, PROT_NONE)) {
        printf("cannot map a guarded buffer\n");
        exit(EXIT_FAILURE);
    }
    buffer->memory = map + page;
#else
    buffer->capacity = (capacity + 63) / 64 * 64;
    buffer->memory = test_allocate(buffer->capacity);
#endif
}

static inline size_t guard_before(const guarded *buffer)
{
    size_t room = (size_t)(buffer->data - buffer->memory);
    return room < GUARD_BYTES ? room : GUARD_BYTES;
}

static inline size_t guard_after(const guarded *buffer)
{
    size_t room = buffer->capacity - (size_t)(buffer->data - buffer->memory) - buffer->size;
    return room < GUARD_BYTES ? room : GUARD_BYTES;
}

/* Room for size bytes of data, shift bytes from the guard page before it or from the one after it. */
static inline void *guarded_place(guarded *buffer, size_t size, size_t shift, bool at_end)
{
#ifndef TEST_GUARD_PAGES
    shift += GUARD_BYTES; /* no guard page: canaries on both sides */
#endif
    if (size + 2 * shift > buffer->capacity || !buffer->memory) {
        guarded_grow(buffer, size + 2 * shift + 64);
    }
    buffer->size = size;
    buffer->data = buffer->memory + (at_end ? buffer->capacity - size - shift : shift);
    memset(buffer->data - guard_before(buffer), GUARD_CANARY, guard_before(buffer) + size + guard_after(buffer));
    MARK_UNWRITTEN(buffer->data, size);
    return buffer->data;
}

static inline bool guarded_intact(const guarded *buffer)
{
    const unsigned char *before = buffer->data - guard_before(buffer), *after = buffer->data + buffer->size;
    for (size_t i = 0; i < guard_before(buffer); i++) {
        if (before[i] != GUARD_CANARY) {
            return false;
        }
    }
    for (size_t i = 0; i < guard_after(buffer); i++) {
        if (after[i] != GUARD_CANARY) {
            return false;
        }
    }
    return true;
}

/* ---- Threads ---- */

#ifdef TEST_POSIX
static inline void start_thread(pthread_t *thread, void *(*run)(void *), void *argument)
{
    if (pthread_create(thread, NULL, run, argument)) {
        printf("cannot start a thread\n");
        exit(EXIT_FAILURE);
    }
}

enum { THREADS_OF_HOOK = 4 };

typedef struct thread_share {
    size_t first, count;
    lnorm_task task;
    void *argument;
} thread_share;

static inline void *run_share(void *argument)
{
    const thread_share *share = argument;
    for (size_t i = share->first; i < share->count; i += THREADS_OF_HOOK) {
        share->task(share->argument, i);
    }
    return NULL;
}

/* A lnorm_parallel_for that counts its calls in *context. */
static inline void run_threads(void *context, size_t count, lnorm_task task, void *argument)
{
    pthread_t threads[THREADS_OF_HOOK];
    thread_share shares[THREADS_OF_HOOK];
    for (size_t i = 0; i < THREADS_OF_HOOK; i++) {
        shares[i] = (thread_share){i, count, task, argument};
        start_thread(&threads[i], run_share, &shares[i]);
    }
    for (size_t i = 0; i < THREADS_OF_HOOK; i++) {
        pthread_join(threads[i], NULL);
    }
    ++*(size_t *)context;
}
#endif

#endif

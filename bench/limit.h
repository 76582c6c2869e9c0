/* The limits: what memory and one instruction set allow to any program that touches the same bytes. Forward reads one
 * tensor and writes one, as a copy does; backward reads two and writes one, as an addition does. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stddef.h>

struct limit_args {
    size_t rows, cols;
    ptrdiff_t stride; /* elements from one row to the next, in each tensor */
    const void *a, *b;
    void *out;
};

typedef void (*limit_loop)(const struct limit_args *args);

struct limits {
    const char *isa;
    struct {
        limit_loop copy; /* out = a */
        limit_loop add;  /* out = a + b */
    } f32, f64;
};

/* The loops of the named instruction set, or NULL. Whether the machine has it is for lnorm_available_isa to say. */
const struct limits *find_limits(const char *isa);

#endif

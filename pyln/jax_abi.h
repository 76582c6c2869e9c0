/* What XLA hands to a function that it calls, as far as jax.c looks at it.
 *
 * These are the layouts of xla/ffi/api/c_api.h, which jaxlib carries, under names of our own: so that pyln is built
 * without jaxlib, and one build serves all versions of it. tests/test_jax.py compares the two by the compiler. */
#ifndef PYLN_JAX_ABI_H
#define PYLN_JAX_ABI_H

#include <stddef.h>
#include <stdint.h>

/* The version of the interface that has all of this; XLA refuses it at registration where it knows it no more. */
enum { XLA_MAJOR = 0, XLA_MINOR = 1 };

enum { XLA_METADATA = 1 };                                                     /* extension.type */
enum { XLA_F16 = 10, XLA_F32 = 11, XLA_F64 = 12, XLA_BF16 = 16, XLA_S64 = 5 }; /* buffer.type, scalar.type */
enum { XLA_INVALID_ARGUMENT = 3, XLA_RESOURCE_EXHAUSTED = 8, XLA_FAILED_PRECONDITION = 9 };

typedef struct xla_context xla_context;
typedef struct xla_error xla_error;

typedef struct xla_extension {
    size_t struct_size;
    int type;
    struct xla_extension *next;
} xla_extension;

typedef struct xla_version {
    size_t struct_size;
    xla_extension *extensions;
    int major, minor;
} xla_version;

typedef struct xla_metadata {
    size_t struct_size;
    xla_version version; /* written by the function, as is what follows */
    uint32_t traits;
} xla_metadata;

typedef struct xla_metadata_extension {
    xla_extension base;
    xla_metadata *metadata;
} xla_metadata_extension;

typedef struct xla_buffer {
    size_t struct_size;
    xla_extension *extensions;
    int type;
    void *data;
    int64_t rank;
    int64_t *dims;
} xla_buffer;

typedef struct xla_buffers {
    size_t struct_size;
    xla_extension *extensions;
    int64_t size;
    int *kinds;
    xla_buffer **at;
} xla_buffers;

typedef struct xla_scalar {
    int type;
    void *value;
} xla_scalar;

typedef struct xla_attributes { /* sorted by name */
    size_t struct_size;
    xla_extension *extensions;
    int64_t size;
    int *kinds;
    void *names;
    xla_scalar **at;
} xla_attributes;

typedef struct xla_error_args {
    size_t struct_size;
    xla_extension *extensions;
    const char *message;
    int code;
} xla_error_args;

typedef struct xla_destroy_args {
    size_t struct_size;
    xla_extension *extensions;
    xla_error *error;
} xla_destroy_args;

typedef struct xla_schedule_args {
    size_t struct_size;
    xla_extension *extensions;
    xla_context *context;
    void (*task)(void *data);
    void *data;
} xla_schedule_args;

typedef struct xla_threads_args {
    size_t struct_size;
    xla_extension *extensions;
    xla_context *context;
    int64_t *threads; /* written by XLA */
} xla_threads_args;

typedef struct xla_api {
    size_t struct_size;
    xla_extension *extensions;
    xla_version version;
    const void *internal;
    xla_error *(*create_error)(xla_error_args *);
    void *get_message;
    void (*destroy_error)(xla_destroy_args *);
    void *others[8];
    xla_error *(*schedule)(xla_schedule_args *);
    xla_error *(*count_threads)(xla_threads_args *);
} xla_api;

typedef struct xla_frame {
    size_t struct_size;
    xla_extension *extensions;
    const xla_api *api;
    xla_context *context;
    int stage;
    xla_buffers arguments, results;
    xla_attributes attributes;
} xla_frame;

#endif

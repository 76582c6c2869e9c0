/* What XLA calls for pyln.jax: lnorm_forward() and lnorm_backward() on XLA's buffers and, for large ones, its threads.
 *
 * Shapes and types were checked when the call was traced. Tensors are outer x norm x inner, parameters rows x norm,
 * statistics outer x inner; an optional argument that is absent has 0 rows. */
#include <fenv.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#define EXPORT __declspec(dllexport)
#else
#include <sched.h>
#define EXPORT __attribute__((visibility("default")))
#endif

#include "jax_abi.h"
#include "lnorm.h"

/* From this many bytes of input on threads are worth waking, as in _core.pyx. */
enum { FORWARD_BYTES = 1 << 22, BACKWARD_BYTES = 1 << 21 };

static xla_error *failure(const xla_frame *frame, int code, const char *message)
{
    xla_error_args args = {sizeof args, NULL, message, code};
    return frame->api->create_error(&args);
}

static void forget(const xla_api *api, xla_error *error)
{
    xla_destroy_args args = {sizeof args, NULL, error};
    api->destroy_error(&args);
}

/* XLA's threads flush subnormal numbers to 0. lnorm's results are those of IEEE arithmetic, on each of its threads. */
static void ieee_arithmetic(fenv_t *before)
{
    fegetenv(before);
    fesetenv(FE_DFL_ENV);
}

/* ---- Threads ---- */

/* The pieces that lnorm wants run: whoever works takes the next one, until there are none. Threads that come late find
 * none left, perhaps after the call is over; so this lives until all have been here. */
struct pieces {
    lnorm_task task;
    void *argument;
    size_t count;
    atomic_size_t next, done;
    atomic_size_t users;
};

static void leave(struct pieces *pieces, size_t users)
{
    if (atomic_fetch_sub(&pieces->users, users) == users) {
        free(pieces);
    }
}

static void work(struct pieces *pieces)
{
    size_t index;
    while ((index = atomic_fetch_add(&pieces->next, 1)) < pieces->count) {
        pieces->task(pieces->argument, index);
        atomic_fetch_add(&pieces->done, 1);
    }
}

static void help(void *data)
{
    fenv_t before;
    ieee_arithmetic(&before);
    work(data);
    fesetenv(&before);
    leave(data, 1);
}

static void yield(void)
{
#ifdef _WIN32
    SwitchToThread();
#else
    sched_yield();
#endif
}

static size_t count_threads(const xla_frame *frame)
{
    const xla_api *api = frame->api;
    if (api->struct_size < sizeof *api) {
        return 1;
    }
    int64_t threads = 1;
    xla_threads_args args = {sizeof args, NULL, frame->context, &threads};
    xla_error *error = api->count_threads(&args);
    if (error != NULL) { /* there are none */
        forget(api, error);
        return 1;
    }
    return threads < 1 ? 1 : (size_t)threads;
}

static void parallel_for(void *context, size_t count, lnorm_task task, void *argument)
{
    const xla_frame *frame = context;
    size_t threads = count_threads(frame), helpers = (threads < count ? threads : count) - (count != 0);
    struct pieces *pieces = helpers == 0 ? NULL : malloc(sizeof *pieces);
    if (pieces == NULL) {
        for (size_t i = 0; i < count; i++) {
            task(argument, i);
        }
        return;
    }
    pieces->task = task;
    pieces->argument = argument;
    pieces->count = count;
    atomic_init(&pieces->next, 0);
    atomic_init(&pieces->done, 0);
    atomic_init(&pieces->users, helpers + 1);
    for (size_t scheduled = 0; scheduled < helpers; scheduled++) {
        xla_schedule_args args = {sizeof args, NULL, frame->context, help, pieces};
        xla_error *error = frame->api->schedule(&args);
        if (error != NULL) {
            forget(frame->api, error);
            leave(pieces, helpers - scheduled);
            break;
        }
    }
    work(pieces);
    while (atomic_load(&pieces->done) != count) { /* the rest of a piece, at most */
        yield();
    }
    leave(pieces, 1);
}

/* ---- Buffers ---- */

static int type_of(const xla_buffer *buffer)
{
    switch (buffer->type) {
    case XLA_F32:
        return LNORM_F32;
    case XLA_F64:
        return LNORM_F64;
    case XLA_F16:
        return LNORM_F16;
    case XLA_BF16:
        return LNORM_BF16;
    default:
        return -1; /* which lnorm refuses */
    }
}

static void *optional(const xla_buffer *buffer)
{
    return buffer->dims[0] == 0 ? NULL : buffer->data;
}

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The problem but for its types: x, what is computed from it, the parameters. */
static lnorm_problem problem_of(xla_frame *frame, const xla_buffer *x, const xla_buffer *gamma, const xla_buffer *beta,
                                size_t parallel_bytes)
{
    lnorm_problem problem = LNORM_PROBLEM_INIT;
    memcpy(&problem.eps, frame->attributes.at[0]->value, sizeof problem.eps);
    int64_t operation;
    memcpy(&operation, frame->attributes.at[1]->value, sizeof operation);
    problem.operation = (int32_t)operation;
    problem.x_type = type_of(x);
    problem.param_type = gamma->dims[0] != 0 ? type_of(gamma) : beta->dims[0] != 0 ? type_of(beta) : problem.x_type;
    problem.outer = x->dims[2] == 0 ? 0 : x->dims[0]; /* inner: 0 would be 1 */
    problem.norm = x->dims[1];
    problem.inner = x->dims[2];
    problem.param_rows = most(gamma->dims[0], beta->dims[0]);
    double elements = (double)problem.outer * (double)problem.norm * (double)problem.inner;
    if (elements * (x->type == XLA_F64 ? 8 : x->type == XLA_F32 ? 4 : 2) >= (double)parallel_bytes) {
        problem.parallel_for = parallel_for;
        problem.parallel_context = frame;
    }
    return problem;
}

static int has_shape(const xla_frame *frame, const char *ranks)
{
    const xla_buffers *lists[] = {&frame->arguments, &frame->results};
    for (int i = 0; i < 2; i++) {
        for (int64_t j = 0; j < lists[i]->size; j++) {
            if (lists[i]->at[j]->rank != *ranks++ - '0') {
                return 0;
            }
        }
    }
    return *ranks == '\0' && frame->attributes.size == 2 && frame->attributes.at[0]->type == XLA_F64 &&
           frame->attributes.at[1]->type == XLA_S64;
}

/* Answers the question which version of the interface this was written for. */
static int is_question(xla_frame *frame)
{
    if (frame->extensions == NULL || frame->extensions->type != XLA_METADATA) {
        return 0;
    }
    xla_metadata *metadata = ((xla_metadata_extension *)frame->extensions)->metadata;
    metadata->version.major = XLA_MAJOR;
    metadata->version.minor = XLA_MINOR;
    metadata->traits = 0;
    return 1;
}

static xla_error *result_of(const xla_frame *frame, lnorm_status status)
{
    return status == LNORM_OK ? NULL : failure(frame, XLA_FAILED_PRECONDITION, lnorm_status_text(status));
}

/* x, gamma, beta -> y, mean, rstd */
EXPORT xla_error *pyln_jax_forward(xla_frame *frame);
xla_error *pyln_jax_forward(xla_frame *frame)
{
    if (is_question(frame)) {
        return NULL;
    }
    if (!has_shape(frame, "322322")) {
        return failure(frame, XLA_INVALID_ARGUMENT, "pyln_jax_forward: not called by this version of pyln.jax");
    }
    xla_buffer **in = frame->arguments.at, **out = frame->results.at;
    lnorm_problem problem = problem_of(frame, in[0], in[1], in[2], FORWARD_BYTES);
    problem.y_type = type_of(out[0]);
    fenv_t before;
    ieee_arithmetic(&before);
    lnorm_status status = lnorm_forward(&problem, in[0]->data, optional(in[1]), optional(in[2]), out[0]->data,
                                        optional(out[1]), optional(out[2]));
    fesetenv(&before);
    return result_of(frame, status);
}

/* dy, x, mean, rstd, gamma, beta (of which only the shape is looked at) -> dx, dgamma, dbeta */
EXPORT xla_error *pyln_jax_backward(xla_frame *frame);
xla_error *pyln_jax_backward(xla_frame *frame)
{
    if (is_question(frame)) {
        return NULL;
    }
    if (!has_shape(frame, "3322222322")) {
        return failure(frame, XLA_INVALID_ARGUMENT, "pyln_jax_backward: not called by this version of pyln.jax");
    }
    xla_buffer **in = frame->arguments.at, **out = frame->results.at;
    lnorm_problem problem = problem_of(frame, in[1], in[4], in[5], BACKWARD_BYTES);
    problem.y_type = type_of(in[0]);
    void *dgamma = optional(out[1]), *dbeta = optional(out[2]), *workspace = NULL;
    size_t size = 0;
    lnorm_status status = LNORM_OK;
    if (dgamma != NULL || dbeta != NULL) {
        status = lnorm_backward_workspace(&problem, &size);
    }
    if (status == LNORM_OK && size != 0 && (workspace = malloc(size)) == NULL) {
        return failure(frame, XLA_RESOURCE_EXHAUSTED, "pyln: no memory for the workspace of backward");
    }
    if (status == LNORM_OK) {
        fenv_t before;
        ieee_arithmetic(&before);
        status = lnorm_backward(&problem, in[0]->data, in[1]->data, optional(in[2]), optional(in[3]), optional(in[4]),
                                out[0]->data, dgamma, dbeta, workspace, size);
        fesetenv(&before);
    }
    free(workspace);
    return result_of(frame, status);
}

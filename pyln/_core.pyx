# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
"""The C library on NumPy buffers: pointers, the GIL, and statuses as exceptions. Shapes and types were checked before."""

cimport cython
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.object cimport PyObject
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock,
    WAIT_LOCK,
)
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.float cimport DBL_EPSILON, FLT_EPSILON
from libc.string cimport memset
from libc.time cimport time, time_t

from pyln cimport lnorm

import numpy

from pyln import _threads

# Below this many bytes the work is done before another thread could have used the time.
cdef Py_ssize_t GIL_BYTES = 32768

# From this many bytes of input on, threads gain more than they cost: waking one took about 0.1 ms (bench/threads.py).
cdef Py_ssize_t forward_bytes = 1 << 22, backward_bytes = 1 << 21

# From this many on, which take about 0.1 s, one thread alone works in pieces too: between them it sees to signals.
cdef Py_ssize_t LONG_BYTES = 1 << 28


cdef class _Array:
    """The buffer of an array, held for as long as this object lives."""

    cdef Py_buffer view
    cdef bint held

    def __cinit__(self, array, bint writable):
        self.held = False
        PyObject_GetBuffer(array, &self.view, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
        self.held = True

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef lnorm.int64_t stride(self, int axis):
        if self.view.shape[axis] < 2:
            return 0
        return stride_in_elements(self.view.strides[axis], self.view.itemsize)


cdef class _Pieces:
    """The pieces that the C library wants run: each call, on whatever thread, runs those that no other call has taken.

    The C library's pieces live only as long as its call, and Ctrl-C may end that early. So the threads are waited for,
    by locks that no signal interrupts: once the pieces are closed, none runs or will run.
    """

    cdef lnorm.lnorm_task task
    cdef void *argument
    cdef PyThread_type_lock mutex  # guards the three below
    cdef size_t next, count, running
    cdef size_t threads
    cdef PyThread_type_lock busy  # held while pieces run: taken with the first, released with the last

    def __cinit__(self):
        self.mutex = PyThread_allocate_lock()
        self.busy = PyThread_allocate_lock()
        if self.mutex == NULL or self.busy == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self.mutex != NULL:
            PyThread_free_lock(self.mutex)
        if self.busy != NULL:
            PyThread_free_lock(self.busy)

    def __call__(self):
        with nogil:
            while self.some():
                pass

    cdef bint some(self) noexcept nogil:
        """Run a few pieces; False if none are left."""
        cdef size_t index, end
        if not self.take(&index, &end):
            return False
        while index < end:
            self.task(self.argument, index)
            index += 1
        self.leave()
        return True

    cdef bint take(self, size_t *index, size_t *end) noexcept nogil:
        """A few pieces at once, fewer and fewer, so that threads seldom meet at the lock and end together.

        Few enough, too, for the calling thread to look up in time for Ctrl-C.
        """
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        cdef size_t left = self.count - self.next
        if left != 0:
            if self.running == 0:
                PyThread_acquire_lock(self.busy, WAIT_LOCK)
            self.running += 1
            index[0] = self.next
            self.next += min((left + 2 * self.threads - 1) // (2 * self.threads), self.count // 1024 + 1)
            end[0] = self.next
        PyThread_release_lock(self.mutex)
        return left != 0

    cdef void leave(self) noexcept nogil:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.running -= 1
        if self.running == 0:
            PyThread_release_lock(self.busy)
        PyThread_release_lock(self.mutex)

    cdef void close(self) noexcept nogil:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.next = self.count
        PyThread_release_lock(self.mutex)
        PyThread_acquire_lock(self.busy, WAIT_LOCK)
        PyThread_release_lock(self.busy)


cdef class _Hook:
    """What the C library's hook is given, and the exception that came up in it."""

    cdef object error

    cdef void attach(self, lnorm.lnorm_problem *problem):
        problem.parallel_for = run_pieces
        problem.parallel_context = <void *>self


cdef void run_pieces(void *context, size_t count, lnorm.lnorm_task task, void *argument) noexcept with gil:
    cdef _Hook hook = <_Hook>context
    if hook.error is not None:
        return
    try:
        share_out(count, task, argument)
    except BaseException as error:  # Ctrl-C too; it goes on from where the C library was called
        hook.error = error


cdef int share_out(size_t count, lnorm.lnorm_task task, void *argument) except -1:
    cdef _Pieces pieces = _Pieces()
    pieces.task = task
    pieces.argument = argument
    pieces.count = count
    pieces.threads = min(count, _threads.get_num_threads())
    cdef bint main = _threads.on_main_thread()
    cdef time_t now = time(NULL)
    cdef Py_ssize_t helpers, i
    put, helpers = _threads.helpers(pieces.threads - 1)
    # From here on no Python code runs, which signals interrupt. And only the main thread takes the GIL until all is
    # closed: the interpreter, when it ends, ends the others as they take it, and with them the stack with the argument.
    try:
        for i in range(helpers):
            put(pieces)
        with nogil:
            while pieces.some():
                if main and time(NULL) != now:
                    now = time(NULL)
                    with gil:
                        PyErr_CheckSignals()
            pieces.close()
    except:
        with nogil:
            pieces.close()
        raise
    return 0


cdef _Hook hook_for(lnorm.lnorm_problem *problem, Py_ssize_t nbytes, Py_ssize_t from_bytes):
    if nbytes < from_bytes or (nbytes < LONG_BYTES and _threads.get_num_threads() == 1):
        return None
    cdef _Hook hook = _Hook()
    hook.attach(problem)
    return hook


cdef void set_up(lnorm.lnorm_problem *problem, int operation, int x_type, Py_ssize_t rows, Py_ssize_t cols) noexcept:
    memset(problem, 0, sizeof(lnorm.lnorm_problem))
    problem.struct_size = sizeof(lnorm.lnorm_problem)
    problem.operation = operation
    problem.x_type = x_type
    problem.outer = rows
    problem.norm = cols


cdef lnorm.int64_t stride_in_elements(Py_ssize_t stride, Py_ssize_t itemsize) noexcept:
    """As the C library wants it: 0 is dense there, and equal rows have a name."""
    return stride // itemsize if stride != 0 else lnorm.LNORM_BROADCAST


cdef int finish(lnorm.lnorm_status status, _Hook hook) except -1:
    if hook is not None and hook.error is not None:
        raise hook.error
    if status != lnorm.LNORM_OK:
        raise ValueError(lnorm.lnorm_status_text(status).decode())
    return 0


cdef enum Call:
    FORWARD
    BACKWARD
    ADD_FORWARD
    ADD_BACKWARD
    QUANTIZED_FORWARD
    BACKWARD_FROM_Y
    MOMENTS
    APPLY_MOMENTS
    GRAD_MOMENTS
    APPLY_GRAD_MOMENTS


CALLS = {
    "forward": FORWARD,
    "backward": BACKWARD,
    "add_forward": ADD_FORWARD,
    "add_backward": ADD_BACKWARD,
    "quantized_forward": QUANTIZED_FORWARD,
    "backward_from_y": BACKWARD_FROM_Y,
    "moments": MOMENTS,
    "apply_moments": APPLY_MOMENTS,
    "grad_moments": GRAD_MOMENTS,
    "apply_grad_moments": APPLY_GRAD_MOMENTS,
}


cdef struct Operands:  # NULL is absent
    void *x
    void *y
    void *dy
    void *dx
    void *residual
    void *total
    void *dtotal
    void *gamma
    void *beta
    void *input_bias
    void *dgamma
    void *dbeta
    void *mean
    void *rstd
    void *moments
    void *grad_moments
    void *scale
    void *zero_point
    void *workspace
    size_t workspace_size


cdef lnorm.lnorm_status in_library(int call, const lnorm.lnorm_problem *problem, Operands *o) noexcept nogil:
    if call == FORWARD:
        return lnorm.lnorm_forward(problem, o.x, o.gamma, o.beta, o.y, o.mean, o.rstd)
    if call == BACKWARD:
        return lnorm.lnorm_backward(problem, o.dy, o.x, o.mean, o.rstd, o.gamma, o.dx, o.dgamma, o.dbeta,
                                    o.workspace, o.workspace_size)
    if call == ADD_FORWARD:
        return lnorm.lnorm_add_forward(problem, o.x, o.residual, o.input_bias, o.gamma, o.beta, o.total, o.y, o.mean,
                                       o.rstd)
    if call == ADD_BACKWARD:
        return lnorm.lnorm_add_backward(problem, o.dy, o.dtotal, o.total, o.mean, o.rstd, o.gamma, o.dx, o.dgamma,
                                        o.dbeta, o.workspace, o.workspace_size)
    if call == QUANTIZED_FORWARD:
        return lnorm.lnorm_quantized_forward(problem, o.x, o.gamma, o.beta, o.y, o.scale,
                                             <lnorm.int32_t *>o.zero_point, o.mean, o.rstd)
    if call == BACKWARD_FROM_Y:
        return lnorm.lnorm_backward_from_y(problem, o.dy, o.y, o.rstd, o.gamma, o.beta, o.dx, o.dgamma, o.dbeta,
                                           o.workspace, o.workspace_size)
    if call == MOMENTS:
        return lnorm.lnorm_moments(problem, o.x, o.moments)
    if call == APPLY_MOMENTS:
        return lnorm.lnorm_apply_moments(problem, o.x, o.moments, o.gamma, o.beta, o.y, o.mean, o.rstd)
    if call == GRAD_MOMENTS:
        return lnorm.lnorm_grad_moments(problem, o.dy, o.x, o.moments, o.gamma, o.grad_moments)
    return lnorm.lnorm_apply_grad_moments(problem, o.dy, o.x, o.moments, o.grad_moments, o.gamma, o.dx, o.dgamma,
                                          o.dbeta, o.workspace, o.workspace_size)


cdef lnorm.lnorm_status call_library(
    int call, lnorm.lnorm_problem *problem, Operands *operands, Py_ssize_t nbytes
) except? lnorm.LNORM_ERROR_WORKSPACE:
    """Brings a workspace of the size that the library asks for: a fraction of the input's, as its comments say."""
    cdef lnorm.lnorm_status status
    operands.workspace = NULL
    operands.workspace_size = 0
    if operands.dgamma != NULL or operands.dbeta != NULL:
        status = lnorm.lnorm_backward_workspace(problem, &operands.workspace_size)
        if status != lnorm.LNORM_OK:
            return status
        if operands.workspace_size != 0:
            operands.workspace = PyMem_Malloc(operands.workspace_size)
            if operands.workspace == NULL:
                raise MemoryError(f"no memory for a workspace of {operands.workspace_size} bytes")
    if nbytes < GIL_BYTES:
        status = in_library(call, problem, operands)
    else:
        with nogil:
            status = in_library(call, problem, operands)
    PyMem_Free(operands.workspace)
    return status


cdef void *data(dict held, str name) except? NULL:
    array = held.get(name)
    return NULL if array is None else (<_Array>array).view.buf


cdef int set_strides(dict held, str name, lnorm.int64_t *outer, lnorm.int64_t *norm) except -1:
    cdef _Array array = held.get(name)
    if array is not None:
        outer[0] = array.stride(0)
        norm[0] = array.stride(1)
    return 0


def run(call, settings, dict arrays, outputs):
    """One call of the C library, lnorm_CALL; False where it does not see that outputs and other arguments are apart.

    arrays go by the library's names: tensors have the axes outer, norm and inner, parameters rows and elements; others
    have no gaps. settings are the operation, the types of x, y and the parameters, flags, eps and param_repeat.
    """
    cdef int kind = CALLS[call]
    cdef dict held = {name: _Array(array, name in outputs) for name, array in arrays.items()}
    cdef _Array tensor = held["dy"] if "dy" in held else held["x"]
    cdef lnorm.lnorm_problem problem
    cdef Operands operands
    cdef lnorm.int64_t dense
    operation, x_type, y_type, param_type, flags, eps, param_repeat = settings
    set_up(&problem, operation, x_type, tensor.view.shape[0], tensor.view.shape[1])
    problem.y_type = y_type
    problem.param_type = param_type
    problem.flags = flags
    problem.inner = tensor.view.shape[2]
    problem.eps = eps
    problem.param_repeat = param_repeat

    set_strides(held, "x", &problem.x_stride, &problem.x_norm_stride)
    set_strides(held, "y", &problem.y_stride, &problem.y_norm_stride)
    set_strides(held, "dy", &problem.dy_stride, &problem.dy_norm_stride)
    set_strides(held, "dx", &problem.dx_stride, &problem.dx_norm_stride)
    set_strides(held, "residual", &problem.residual_stride, &dense)
    set_strides(held, "total", &problem.total_stride, &dense)
    cdef _Array some
    some = held.get("residual")
    if some is not None:
        problem.residual_rows = some.view.shape[0]
    for name in ("gamma", "beta", "dgamma", "dbeta"):
        some = held.get(name)
        if some is not None:
            problem.param_rows = some.view.shape[0]
            if some.view.shape[1] != 0:
                problem.param_run = problem.norm // some.view.shape[1]

    operands.x = data(held, "x")
    operands.y = data(held, "y")
    operands.dy = data(held, "dy")
    operands.dx = data(held, "dx")
    operands.residual = data(held, "residual")
    operands.total = data(held, "total")
    operands.dtotal = data(held, "dtotal")
    operands.gamma = data(held, "gamma")
    operands.beta = data(held, "beta")
    operands.input_bias = data(held, "input_bias")
    operands.dgamma = data(held, "dgamma")
    operands.dbeta = data(held, "dbeta")
    operands.mean = data(held, "mean")
    operands.rstd = data(held, "rstd")
    operands.moments = data(held, "moments")
    operands.grad_moments = data(held, "grad_moments")
    operands.scale = data(held, "scale")
    operands.zero_point = data(held, "zero_point")

    hook = hook_for(&problem, tensor.view.len, backward_bytes if "dx" in held else forward_bytes)
    cdef lnorm.lnorm_status status = call_library(kind, &problem, &operands, tensor.view.len)
    if status == lnorm.LNORM_ERROR_OVERLAP:
        return False
    finish(status, hook)
    return True


def merge(bint grads, operation, x_type, lnorm.int64_t count_a, a, lnorm.int64_t count_b, b, merged):
    """Writes the moments of rows, or their grad_moments, merged from those of two pieces: (rows, numbers) each."""
    cdef _Array first = _Array(a, False), second = _Array(b, False), both = _Array(merged, True)
    cdef lnorm.lnorm_problem problem
    set_up(&problem, operation, x_type, both.view.shape[0], 0)
    finish((lnorm.lnorm_merge_grad_moments if grads else lnorm.lnorm_merge_moments)(
        &problem, count_a, first.view.buf, count_b, second.view.buf, both.view.buf), None)


# ---- Calls whose arguments need no second look ----
#
# Plain arrays, which most calls are made with, are checked here; anything else, errors too, is left to the Python code
# above, which looks at everything anew. Nothing has been written then.

cdef extern from "Python.h":
    # As functions that raise nothing: errors are cleared.
    int GetBuffer "PyObject_GetBuffer"(PyObject *exporter, Py_buffer *view, int flags)
    Py_ssize_t AsSsize_t "PyLong_AsSsize_t"(PyObject *value)

cdef object ndarray = numpy.ndarray, empty = numpy.empty
cdef object FLOAT32 = numpy.dtype("float32"), FLOAT64 = numpy.dtype("float64")


cdef struct Plain:
    int count
    Py_buffer views[9]  # that one call holds


cdef Py_buffer *get(Plain *plain, object array, object dtype, int flags) noexcept:
    """A view of an array of just this type of element, aligned; NULL of others."""
    if type(array) is not ndarray or array.dtype is not dtype:
        return NULL
    cdef Py_buffer *view = &plain.views[plain.count]
    if GetBuffer(<PyObject *>array, view, PyBUF_STRIDES | flags) != 0:
        PyErr_Clear()
        return NULL
    plain.count += 1
    return view if <size_t>view.buf % <size_t>view.itemsize == 0 else NULL


cdef void release(Plain *plain) noexcept:
    cdef int i
    for i in range(plain.count):
        PyBuffer_Release(&plain.views[i])


cdef bint dense(Py_buffer *view, int first) noexcept:
    """Whether the axes from `first` on are contiguous."""
    cdef Py_ssize_t expected = view.itemsize
    cdef int i = view.ndim
    while i > first:
        i -= 1
        if view.shape[i] != 1 and view.strides[i] != expected:
            return False
        expected *= view.shape[i]
    return True


cdef bint same_shape(Py_buffer *a, Py_buffer *b) noexcept:
    cdef int i
    if a.ndim != b.ndim:
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i]:
            return False
    return True


cdef bint is_parameter(Py_buffer *view, Py_buffer *x, int first) noexcept:
    """Whether the view is contiguous and has the shape of x's axes from `first` on."""
    cdef int i
    if view.ndim != x.ndim - first or not dense(view, 0):
        return False
    for i in range(view.ndim):
        if view.shape[i] != x.shape[first + i]:
            return False
    return True


cdef bint is_size(object value, Py_ssize_t size) noexcept:
    if type(value) is not int:
        return False
    cdef Py_ssize_t got = AsSsize_t(<PyObject *>value)
    if got == -1:
        PyErr_Clear()
    return got == size


cdef int first_axis(Py_buffer *x, object normalized_shape) noexcept:
    """The first of the axes that normalized_shape names, or -1 where it does not fit or is not plain."""
    cdef int i, k, first
    if type(normalized_shape) is int:
        return x.ndim - 1 if x.ndim > 0 and is_size(normalized_shape, x.shape[x.ndim - 1]) else -1
    if type(normalized_shape) is not tuple:
        return -1
    k = len(normalized_shape)
    first = x.ndim - k
    if k == 0 or first < 0:
        return -1
    for i in range(k):
        if not is_size((<tuple>normalized_shape)[i], x.shape[first + i]):
            return -1
    return first


cdef bint row_stride(Py_buffer *view, int first, lnorm.int64_t *stride) noexcept:
    """Whether rows are contiguous, and one stride leads from row to row: that, as the C library wants it."""
    cdef Py_ssize_t step = 0, reach = 0
    cdef bint found = False
    cdef int i = first
    while i > 0:
        i -= 1
        if view.shape[i] != 1:
            if found and view.strides[i] != reach:
                return False
            if not found:
                step = view.strides[i]
            found = True
            reach = view.strides[i] * view.shape[i]
    stride[0] = stride_in_elements(step, view.itemsize) if found else 0
    return step % view.itemsize == 0 and dense(view, first)


cdef bint is_statistic(Py_buffer *view, Py_buffer *x, int first) noexcept:
    """Whether the view is contiguous and has the shape of x, but 1 for the axes from `first` on."""
    cdef int i
    if view.ndim != x.ndim or not dense(view, 0):
        return False
    for i in range(view.ndim):
        if view.shape[i] != (x.shape[i] if i < first else 1):
            return False
    return True


cdef bint parameter(Plain *plain, object array, object dtype, Py_buffer *x, int first, int flags, void **data) noexcept:
    """Whether the array is None or a parameter; its data."""
    cdef Py_buffer *view
    data[0] = NULL
    if array is None:
        return True
    view = get(plain, array, dtype, flags)
    if view == NULL or not is_parameter(view, x, first):
        return False
    data[0] = view.buf
    return True


cdef bint statistic(Plain *plain, object array, object dtype, Py_buffer *x, int first, void **data) noexcept:
    cdef Py_buffer *view = get(plain, array, dtype, 0)
    if view == NULL or not is_statistic(view, x, first):
        return False
    data[0] = view.buf
    return True


cdef class Statistics:
    """mean and rstd of the rows of one input, kept for backward by who does not look at them."""

    cdef void *means
    cdef void *rstds
    cdef Py_ssize_t nbytes  # of each
    cdef object dtype

    def __dealloc__(self):
        PyMem_Free(self.means)

    def arrays(self, shape):
        """(mean, rstd) of the given shape."""
        both = numpy.frombuffer((<char *>self.means)[:2 * self.nbytes], self.dtype)
        rows = len(both) // 2
        return both[:rows].reshape(shape), both[rows:].reshape(shape)


cdef Statistics new_statistics(Py_ssize_t rows, object dtype, Py_ssize_t itemsize):
    cdef Statistics stats = Statistics.__new__(Statistics)
    stats.nbytes = rows * itemsize
    stats.dtype = dtype
    stats.means = PyMem_Malloc(2 * stats.nbytes)
    if stats.means == NULL:
        raise MemoryError
    stats.rstds = <char *>stats.means + stats.nbytes
    return stats


cdef Py_buffer *input_rows(Plain *plain, int operation, object input, object normalized_shape,
                           lnorm.lnorm_problem *problem, int *first) except? NULL:
    """The view of an input that is not empty; describes it in problem. NULL if it is not plain."""
    cdef Py_ssize_t rows = 1, cols = 1
    cdef int i
    if type(input) is not ndarray:
        return NULL
    dtype = input.dtype
    if dtype is not FLOAT32 and dtype is not FLOAT64:
        return NULL
    cdef Py_buffer *x = get(plain, input, dtype, 0)
    if x == NULL:
        return NULL
    first[0] = first_axis(x, normalized_shape)
    if first[0] < 0:
        return NULL
    for i in range(first[0]):
        rows *= x.shape[i]
    for i in range(first[0], x.ndim):
        cols *= x.shape[i]
    if rows == 0 or cols == 0:
        return NULL
    set_up(problem, operation, lnorm.LNORM_F32 if x.itemsize == 4 else lnorm.LNORM_F64, rows, cols)
    return x if row_stride(x, first[0], &problem.x_stride) else NULL


cdef bint succeeded(lnorm.lnorm_status status, _Hook hook) except -1:
    if hook is not None and hook.error is not None:
        raise hook.error
    return status == lnorm.LNORM_OK


@cython.binding(False)  # else the Limited API of 3.11 makes calls slower
def layer_norm(
    input, normalized_shape, weight, bias, eps, out, bint return_stats, bint zero_centered, bint round_steps
):
    """functional.layer_norm of plain arrays; None if there is more to look at."""
    return try_forward(lnorm.LNORM_LAYER_NORM, forward_flags(zero_centered, round_steps), input, normalized_shape,
                       weight, bias, eps, out, return_stats, False)


@cython.binding(False)
def layer_norm_keeping(input, normalized_shape, weight, bias, eps, out, bint zero_centered):
    """(y, Statistics) of plain arrays, of which out is not input; None if there is more to look at."""
    return try_forward(lnorm.LNORM_LAYER_NORM, forward_flags(zero_centered, False), input, normalized_shape, weight,
                       bias, eps, out, False, True)


@cython.binding(False)
def rms_norm(input, normalized_shape, weight, eps, out, bint return_stats, bint zero_centered, bint round_steps):
    """functional.rms_norm of plain arrays; None if there is more to look at."""
    return try_forward(lnorm.LNORM_RMS_NORM, forward_flags(zero_centered, round_steps), input, normalized_shape,
                       weight, None, eps, out, return_stats, False)


cdef lnorm.uint32_t forward_flags(bint zero_centered, bint round_steps) noexcept:
    return (lnorm.LNORM_GAMMA_PLUS_ONE if zero_centered else 0) | (lnorm.LNORM_ROUND_STEPS if round_steps else 0)


cdef object try_forward(
    int operation, lnorm.uint32_t flags, input, normalized_shape, weight, bias, eps, out, bint return_stats, bint keep
):
    cdef Plain plain
    plain.count = 0
    try:
        return plain_forward(
            &plain, operation, flags, input, normalized_shape, weight, bias, eps, out, return_stats, keep
        )
    finally:
        release(&plain)


cdef object plain_forward(
    Plain *plain, int operation, lnorm.uint32_t flags, input, normalized_shape, weight, bias, eps, out,
    bint return_stats, bint keep
):
    cdef lnorm.lnorm_problem problem
    cdef Operands operands
    memset(&operands, 0, sizeof(operands))
    cdef int first
    cdef Py_buffer *x = input_rows(plain, operation, input, normalized_shape, &problem, &first)
    if x == NULL or not (type(eps) is float or (eps is None and operation == lnorm.LNORM_RMS_NORM)):
        return None
    dtype = FLOAT32 if x.itemsize == 4 else FLOAT64
    problem.flags = flags
    problem.eps = eps if eps is not None else FLT_EPSILON if x.itemsize == 4 else DBL_EPSILON
    if not (parameter(plain, weight, dtype, x, first, 0, &operands.gamma) and
            parameter(plain, bias, dtype, x, first, 0, &operands.beta)):
        return None
    if out is None:
        out = empty(input.shape, dtype)
    cdef Py_buffer *y = get(plain, out, dtype, PyBUF_WRITABLE)
    if y == NULL or not same_shape(x, y) or not row_stride(y, first, &problem.y_stride):
        return None
    cdef Statistics kept = None
    mean = rstd = None
    if return_stats:
        shape = input.shape[:first] + (1,) * (x.ndim - first)
        if operation == lnorm.LNORM_LAYER_NORM:
            mean = empty(shape, dtype)
            statistic(plain, mean, dtype, x, first, &operands.mean)
        rstd = empty(shape, dtype)
        statistic(plain, rstd, dtype, x, first, &operands.rstd)
    elif keep:
        if y.buf == x.buf:
            return None
        kept = new_statistics(problem.outer, dtype, x.itemsize)
        operands.mean, operands.rstd = kept.means, kept.rstds
    operands.x, operands.y = x.buf, y.buf
    hook = hook_for(&problem, x.len, forward_bytes)
    if not succeeded(call_library(FORWARD, &problem, &operands, x.len), hook):
        return None
    if return_stats:
        return (out, rstd) if mean is None else (out, mean, rstd)
    return (out, kept) if keep else out


@cython.binding(False)
def layer_norm_backward(
    grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask, out, bint zero_centered, bint accumulate
):
    """functional.layer_norm_backward of plain arrays; None if there is more to look at."""
    cdef Plain plain
    plain.count = 0
    try:
        return plain_layer_norm_backward(
            &plain, grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask, out, zero_centered,
            accumulate
        )
    finally:
        release(&plain)


cdef object plain_layer_norm_backward(
    Plain *plain, grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask, out, bint zero_centered,
    bint accumulate
):
    cdef lnorm.lnorm_problem problem
    cdef Operands operands
    memset(&operands, 0, sizeof(operands))
    cdef int first
    cdef Py_buffer *x = input_rows(plain, lnorm.LNORM_LAYER_NORM, input, normalized_shape, &problem, &first)
    if x == NULL or type(output_mask) is not tuple or len(output_mask) != 3:
        return None
    dtype = FLOAT32 if x.itemsize == 4 else FLOAT64
    cdef Py_buffer *dy = get(plain, grad_out, dtype, 0)
    cdef Py_buffer *dx
    if dy == NULL or not same_shape(x, dy) or not row_stride(dy, first, &problem.dy_stride):
        return None
    if not (statistic(plain, mean, dtype, x, first, &operands.mean) and
            statistic(plain, rstd, dtype, x, first, &operands.rstd)):
        return None
    cdef void *beta  # looked at only
    if not (parameter(plain, weight, dtype, x, first, 0, &operands.gamma) and
            parameter(plain, bias, dtype, x, first, 0, &beta)):
        return None
    if out is None:
        grad_input, grad_weight, grad_bias = None, None, None
    elif type(out) is tuple and len(out) == 3:
        grad_input, grad_weight, grad_bias = out
    else:
        return None
    wants_input, wants_weight, wants_bias = output_mask
    if (type(wants_input) is not bool or type(wants_weight) is not bool or type(wants_bias) is not bool or
            (grad_input is not None and not wants_input) or (grad_weight is not None and not wants_weight) or
            (grad_bias is not None and not wants_bias)):
        return None
    if wants_input:
        if grad_input is None:
            grad_input = empty(input.shape, dtype)
        dx = get(plain, grad_input, dtype, PyBUF_WRITABLE)
        if dx == NULL or not same_shape(x, dx) or not row_stride(dx, first, &problem.dx_stride):
            return None
        operands.dx = dx.buf
    if accumulate and ((wants_weight and grad_weight is None) or (wants_bias and grad_bias is None)):
        return None
    if wants_weight and grad_weight is None:
        grad_weight = empty(input.shape[first:], dtype)
    if wants_bias and grad_bias is None:
        grad_bias = empty(input.shape[first:], dtype)
    if not (parameter(plain, grad_weight, dtype, x, first, PyBUF_WRITABLE, &operands.dgamma) and
            parameter(plain, grad_bias, dtype, x, first, PyBUF_WRITABLE, &operands.dbeta)):
        return None
    problem.flags = ((lnorm.LNORM_GAMMA_PLUS_ONE if zero_centered else 0) |
                     (lnorm.LNORM_ACCUMULATE if accumulate else 0))
    operands.dy, operands.x = dy.buf, x.buf
    hook = hook_for(&problem, x.len, backward_bytes)
    if not succeeded(call_library(BACKWARD, &problem, &operands, x.len), hook):
        return None
    return grad_input, grad_weight, grad_bias


def set_thread_bytes(Py_ssize_t forward, Py_ssize_t backward):
    """Use threads for inputs of so many bytes on. Returns what it was."""
    global forward_bytes, backward_bytes
    before = forward_bytes, backward_bytes
    forward_bytes, backward_bytes = forward, backward
    return before


def isa():
    """The name of the instruction set in use; None when the environment's LNORM_ISA names none of this machine's."""
    cdef const char *name = lnorm.lnorm_isa()
    if name == NULL:
        return None
    return name.decode()


def available_isas():
    """Names of the instruction sets that this machine has, best first."""
    names = []
    while lnorm.lnorm_available_isa(len(names)) != NULL:
        names.append(lnorm.lnorm_available_isa(len(names)).decode())
    return names


def set_isa(name):
    """Use the named set; False if there is none of that name here."""
    encoded = name.encode()
    return lnorm.lnorm_set_isa(encoded) == lnorm.LNORM_OK


def version():
    """The version of the C library."""
    return lnorm.lnorm_version().decode()

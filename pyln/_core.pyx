# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
"""The C library on NumPy buffers: pointers, the GIL, and statuses as exceptions. Shapes and types were checked before."""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.pythread cimport (
    PyThread_acquire_lock, PyThread_allocate_lock, PyThread_free_lock, PyThread_release_lock, PyThread_type_lock,
    WAIT_LOCK,
)
from libc.string cimport memset

from pyln cimport lnorm

from pyln import _threads

# Below this many bytes the work is done before another thread could have used the time.
cdef Py_ssize_t GIL_BYTES = 32768


cdef class _Array:
    """The buffer of an array of rows, held for as long as this object lives; NULL for None."""

    cdef Py_buffer view
    cdef bint held
    cdef void *data

    def __cinit__(self, array, bint writable):
        self.data = NULL
        self.held = False
        if array is not None:
            PyObject_GetBuffer(array, &self.view, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
            self.held = True
            self.data = self.view.buf

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)

    cdef lnorm.int64_t row_stride(self):
        """In elements, as the C library wants it: 0 is dense there, and equal rows have a name."""
        if self.data == NULL or self.view.shape[0] < 2:
            return 0
        cdef lnorm.int64_t stride = self.view.strides[0] // self.view.itemsize
        return stride if stride != 0 else lnorm.LNORM_BROADCAST


cdef class _Pieces:
    """The pieces that the C library wants run, for Python's threads to call. Once it is closed, none runs or will run.

    Ctrl-C may raise anywhere in Python code, also in what waits for the threads, and the C library's pieces live only
    as long as its call. So the threads are waited for here, by locks that no signal interrupts.
    """

    cdef lnorm.lnorm_task task
    cdef void *argument
    cdef PyThread_type_lock mutex  # guards the two below
    cdef size_t running
    cdef bint closed
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

    def __call__(self, size_t index):
        with nogil:
            if self.enter():
                self.task(self.argument, index)
                self.leave()

    cdef bint enter(self) noexcept nogil:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        cdef bint entered = not self.closed
        if entered:
            if self.running == 0:
                PyThread_acquire_lock(self.busy, WAIT_LOCK)
            self.running += 1
        PyThread_release_lock(self.mutex)
        return entered

    cdef void leave(self) noexcept nogil:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.running -= 1
        if self.running == 0:
            PyThread_release_lock(self.busy)
        PyThread_release_lock(self.mutex)

    cdef void close(self) noexcept nogil:
        PyThread_acquire_lock(self.mutex, WAIT_LOCK)
        self.closed = True
        PyThread_release_lock(self.mutex)
        PyThread_acquire_lock(self.busy, WAIT_LOCK)
        PyThread_release_lock(self.busy)


cdef class _Call:
    """One call of the C library, which may come back to have its pieces run by Python's threads."""

    cdef object error

    cdef void set_up(self, lnorm.lnorm_problem *problem, _Array x, bint parallel):
        memset(problem, 0, sizeof(lnorm.lnorm_problem))
        problem.struct_size = sizeof(lnorm.lnorm_problem)
        problem.x_type = lnorm.LNORM_F32 if x.view.itemsize == 4 else lnorm.LNORM_F64
        problem.outer = x.view.shape[0]
        problem.norm = x.view.shape[1]
        problem.x_stride = x.row_stride()
        if parallel:
            problem.parallel_for = run_pieces
            problem.parallel_context = <void *>self

    cdef int finish(self, lnorm.lnorm_status status) except -1:
        if self.error is not None:
            raise self.error
        if status != lnorm.LNORM_OK:
            raise ValueError(lnorm.lnorm_status_text(status).decode())
        return 0


cdef void run_pieces(void *context, size_t count, lnorm.lnorm_task task, void *argument) noexcept with gil:
    cdef _Call call = <_Call>context
    cdef _Pieces pieces = None
    if call.error is not None:
        return
    try:
        pieces = _Pieces()
        pieces.task = task
        pieces.argument = argument
        _threads.run(pieces, count)
    except BaseException as error:  # Ctrl-C too; it goes on from where the C library was called
        call.error = error
    if pieces is not None:
        with nogil:
            pieces.close()


def forward(x, weight, bias, double eps, y, mean, rstd, bint parallel):
    """y, mean and rstd (each of the latter may be None) of x, two-dimensional; writes into its arguments."""
    cdef _Array xs = _Array(x, False), gamma = _Array(weight, False), beta = _Array(bias, False)
    cdef _Array ys = _Array(y, True), means = _Array(mean, True), rstds = _Array(rstd, True)
    cdef _Call call = _Call()
    cdef lnorm.lnorm_problem problem
    cdef lnorm.lnorm_status status
    call.set_up(&problem, xs, parallel)
    problem.y_stride = ys.row_stride()
    problem.eps = eps
    if xs.view.len < GIL_BYTES:
        status = lnorm.lnorm_forward(&problem, xs.data, gamma.data, beta.data, ys.data, means.data, rstds.data)
    else:
        with nogil:
            status = lnorm.lnorm_forward(&problem, xs.data, gamma.data, beta.data, ys.data, means.data, rstds.data)
    call.finish(status)


def backward(grad_out, x, mean, rstd, weight, grad_x, grad_weight, grad_bias, bint parallel):
    """Gradients into grad_x (two-dimensional), grad_weight and grad_bias, each of which may be None."""
    cdef _Array dy = _Array(grad_out, False), xs = _Array(x, False), gamma = _Array(weight, False)
    cdef _Array means = _Array(mean, False), rstds = _Array(rstd, False)
    cdef _Array dx = _Array(grad_x, True), dgamma = _Array(grad_weight, True), dbeta = _Array(grad_bias, True)
    cdef _Call call = _Call()
    cdef lnorm.lnorm_problem problem
    cdef lnorm.lnorm_status status
    cdef size_t size = 0
    call.set_up(&problem, xs, parallel)
    problem.dy_stride = dy.row_stride()
    problem.dx_stride = dx.row_stride()
    call.finish(lnorm.lnorm_backward_workspace(&problem, &size))
    cdef _Array workspace = _Array(bytearray(size) if dgamma.held or dbeta.held else None, True)
    with nogil:
        status = lnorm.lnorm_backward(&problem, dy.data, xs.data, means.data, rstds.data, gamma.data, dx.data,
                                      dgamma.data, dbeta.data, workspace.data, size)
    call.finish(status)


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

# cython: language_level=3, freethreading_compatible=True
"""Loops in C around what is timed, so that a short call is not lost in what Python takes. See bench/subjects.h."""

cdef extern from "lnorm.h" nogil:
    ctypedef enum lnorm_status:
        LNORM_OK
    ctypedef enum lnorm_type:
        LNORM_F32
        LNORM_F64
    const char *lnorm_status_text(lnorm_status status)
    size_t lnorm_backward_workspace_f32(size_t rows, size_t cols)
    size_t lnorm_backward_workspace_f64(size_t rows, size_t cols)

cdef extern from "subjects.h" nogil:
    ctypedef enum direction "enum direction":
        FORWARD
        BACKWARD
    struct operands:
        lnorm_type type
        size_t rows, cols
        Py_ssize_t stride
        double eps
        const void *x
        const void *dy
        const void *gamma
        const void *beta
        const void *mean
        const void *rstd
        void *y
        void *dx
        void *dgamma
        void *dbeta
        void *workspace
        size_t workspace_size
    lnorm_status c_repeat_limit "repeat_limit"(const operands *o, direction d, const char *isa, size_t times)
    lnorm_status c_repeat_lnorm "repeat_lnorm"(const operands *o, direction d, const char *isa, size_t times)
    void c_repeat_plain "repeat_plain"(const operands *o, direction d, size_t times)

ctypedef int (*execute_function)(void *primitive, void *stream, int count, const void *arguments) noexcept nogil


cdef void *address(array):
    return <void *><size_t>array.ctypes.data if array is not None else NULL


cdef direction named(str name) except *:
    return {"forward": FORWARD, "backward": BACKWARD}[name]


cdef int check(lnorm_status status) except -1:
    if status != LNORM_OK:
        raise ValueError(lnorm_status_text(status).decode())
    return 0


def workspace_size(str type, size_t rows, size_t cols):
    """Bytes that backward needs."""
    return lnorm_backward_workspace_f64(rows, cols) if type == "f64" else lnorm_backward_workspace_f32(rows, cols)


cdef class Operands:
    """The C side's view of NumPy arrays, which it keeps alive; None is absent."""

    cdef operands c
    cdef tuple arrays

    def __init__(self, str type, size_t rows, size_t cols, Py_ssize_t stride, double eps, *, x, dy, gamma, beta, mean,
                 rstd, y, dx, dgamma, dbeta, workspace):
        self.arrays = (x, dy, gamma, beta, mean, rstd, y, dx, dgamma, dbeta, workspace)
        self.c.type = {"f32": LNORM_F32, "f64": LNORM_F64}[type]
        self.c.rows = rows
        self.c.cols = cols
        self.c.stride = stride
        self.c.eps = eps
        self.c.x = address(x)
        self.c.dy = address(dy)
        self.c.gamma = address(gamma)
        self.c.beta = address(beta)
        self.c.mean = address(mean)
        self.c.rstd = address(rstd)
        self.c.y = address(y)
        self.c.dx = address(dx)
        self.c.dgamma = address(dgamma)
        self.c.dbeta = address(dbeta)
        self.c.workspace = address(workspace)
        self.c.workspace_size = 0 if workspace is None else workspace.nbytes


def repeat_limit(Operands operands, str way, str isa, size_t times):
    """Copy x to y (forward) or add dy and x into dx (backward)."""
    cdef bytes name = isa.encode()
    cdef const char *c_name = name
    cdef direction d = named(way)
    cdef lnorm_status status
    with nogil:
        status = c_repeat_limit(&operands.c, d, c_name, times)
    check(status)


def repeat_lnorm(Operands operands, str way, str isa, size_t times):
    """The C API, on the named instruction set."""
    cdef bytes name = isa.encode()
    cdef const char *c_name = name
    cdef direction d = named(way)
    cdef lnorm_status status
    with nogil:
        status = c_repeat_lnorm(&operands.c, d, c_name, times)
    check(status)


def repeat_plain(Operands operands, str way, size_t times):
    """The textbook's loops."""
    cdef direction d = named(way)
    with nogil:
        c_repeat_plain(&operands.c, d, times)


def repeat_onednn(size_t execute, size_t primitive, size_t stream, int count, size_t arguments, size_t times):
    """Call dnnl_primitive_execute, which is at the address `execute`."""
    cdef execute_function function = <execute_function>execute
    cdef int status = 0
    cdef size_t i
    with nogil:
        for i in range(times):
            status = function(<void *>primitive, <void *>stream, count, <const void *>arguments)
            if status != 0:
                break
    if status != 0:
        raise RuntimeError(f"dnnl_primitive_execute returned {status}")

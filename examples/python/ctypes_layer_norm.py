"""lnorm from Python by ctypes: what is used of lnorm.h is declared here. (For NumPy's arrays there is pyln.)

    python examples/python/ctypes_layer_norm.py PREFIX

with PREFIX where lnorm is installed.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Array,
    Structure,
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_void_p,
    sizeof,
)

Floats = Array[c_float]

LNORM_OK = 0
LNORM_RMS_NORM = 1

lnorm_task = CFUNCTYPE(None, c_void_p, c_size_t)
lnorm_parallel_for = CFUNCTYPE(None, c_void_p, c_size_t, lnorm_task, c_void_p)


class lnorm_problem(Structure):
    """The problem of the general form; all is 0 at first, which means the default, but the size."""

    _fields_ = (
        ("struct_size", c_size_t),
        ("operation", c_int32),
        ("x_type", c_int32),
        ("y_type", c_int32),
        ("param_type", c_int32),
        ("flags", c_uint32),
        ("reserved", c_int32),
        ("outer", c_int64),
        ("norm", c_int64),
        ("inner", c_int64),
        ("x_stride", c_int64),
        ("y_stride", c_int64),
        ("dy_stride", c_int64),
        ("dx_stride", c_int64),
        ("eps", c_double),
        ("parallel_for", lnorm_parallel_for),
        ("parallel_context", c_void_p),
        ("x_norm_stride", c_int64),
        ("y_norm_stride", c_int64),
        ("dy_norm_stride", c_int64),
        ("dx_norm_stride", c_int64),
        ("param_rows", c_int64),
        ("param_repeat", c_int64),
        ("param_run", c_int64),
        ("residual_rows", c_int64),
        ("residual_stride", c_int64),
        ("total_stride", c_int64),
    )

    def __init__(self, **members: object) -> None:
        super().__init__(sizeof(lnorm_problem), **members)


class LnormError(ValueError):
    """A call that was refused: its status, and the library's sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (status {status})")
        self.status = status


class Lnorm:
    """The shared library; arrays are those of ctypes: (c_float * n)(...)."""

    def __init__(self, path: str) -> None:
        library = self.library = CDLL(path)
        floats, problem = POINTER(c_float), POINTER(lnorm_problem)
        declarations = {
            "lnorm_forward_f32": (c_int, [c_size_t] * 2 + [floats] * 3 + [c_double] + [floats] * 3),
            "lnorm_backward_f32": (c_int, [c_size_t] * 2 + [floats] * 8 + [c_void_p, c_size_t]),
            "lnorm_backward_workspace_f32": (c_size_t, [c_size_t] * 2),
            "lnorm_forward": (c_int, [problem] + [c_void_p] * 6),
            "lnorm_status_text": (c_char_p, [c_int]),
            "lnorm_version": (c_char_p, []),
            "lnorm_isa": (c_char_p, []),
        }
        for name, (result, arguments) in declarations.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments

    def check(self, status: int) -> None:
        """Raise what a call refused."""
        if status != LNORM_OK:
            raise LnormError(status, self.library.lnorm_status_text(status).decode())

    def forward(self, x: Floats, gamma: Floats, beta: Floats, eps: float) -> tuple[Floats, Floats, Floats]:
        """Return y, mean and rstd; the rows of x are as long as gamma."""
        rows, cols = shape(x, gamma)
        if len(beta) != cols:
            raise ValueError("beta must be as long as gamma")
        y, mean, rstd = (c_float * len(x))(), (c_float * rows)(), (c_float * rows)()
        self.check(self.library.lnorm_forward_f32(rows, cols, x, gamma, beta, eps, y, mean, rstd))
        return y, mean, rstd

    def backward(
        self, dy: Floats, x: Floats, mean: Floats, rstd: Floats, gamma: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Return dx, dgamma and dbeta."""
        rows, cols = shape(x, gamma)
        if len(dy) != len(x) or len(mean) != rows or len(rstd) != rows:
            raise ValueError("dy, mean and rstd must be those of x")
        size = self.library.lnorm_backward_workspace_f32(rows, cols)
        workspace = (c_float * (size // sizeof(c_float)))()
        dx, dgamma, dbeta = (c_float * len(x))(), (c_float * cols)(), (c_float * cols)()
        self.check(
            self.library.lnorm_backward_f32(rows, cols, dy, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, size)
        )
        return dx, dgamma, dbeta

    def rms_norm(self, x: Floats, gamma: Floats, eps: float, parallel_for: Callable[..., None] | None = None) -> Floats:
        """By the general form, which knows other operations, element types, strides and threads."""
        rows, cols = shape(x, gamma)
        problem = lnorm_problem(operation=LNORM_RMS_NORM, outer=rows, norm=cols, eps=eps)
        if parallel_for is not None:
            problem.parallel_for = lnorm_parallel_for(parallel_for)  # which the problem keeps alive
        y = (c_float * len(x))()
        self.check(self.library.lnorm_forward(byref(problem), x, gamma, None, y, None, None))
        return y


def shape(x: Floats, gamma: Floats) -> tuple[int, int]:
    """Return how many rows x has, and of how many elements."""
    rows, rest = divmod(len(x), len(gamma))
    if rest:
        raise ValueError(f"x must be rows of {len(gamma)} elements")
    return rows, len(gamma)


def threads(context: int | None, count: int, task: Callable[..., None], argument: int | None) -> None:
    """Run the pieces of a call on threads: a hook. ctypes releases the GIL while C runs."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda index: task(argument, index), range(count)))


def print_rows(label: str, values: Floats) -> None:
    """Print the first two rows."""
    for first in range(0, min(len(values), 8), 4):
        print(*(f"{value:9.5f}" for value in values[first : first + 4]), f" {label}")


def main(prefix: str) -> None:
    """Print y, the gradients, RMS norm, and what a refused call says."""
    lnorm = Lnorm(f"{prefix}/lib/liblnorm.so")
    # 64 rows: these two, again and again.
    x = (c_float * 256)(*[1, 2, 3, 4, 10, 10, 10, 50] * 32)
    dy = (c_float * 256)(*[0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125] * 32)
    gamma, beta = (c_float * 4)(1, 1, 2, 2), (c_float * 4)(0, 0, 0, 1)

    y, mean, rstd = lnorm.forward(x, gamma, beta, 1e-5)
    print_rows("y", y)
    for label, gradient in zip(("dx", "dgamma", "dbeta"), lnorm.backward(dy, x, mean, rstd, gamma), strict=True):
        print_rows(label, gradient)
    print_rows("RMS norm", lnorm.rms_norm(x, gamma, 1e-5, threads))

    try:
        lnorm.forward(x, gamma, beta, -1)
    except LnormError as error:
        print(f"refused: {error}")
    print(f"lnorm {lnorm.library.lnorm_version().decode()}, {lnorm.library.lnorm_isa().decode()}")


if __name__ == "__main__":
    main(sys.argv[1])

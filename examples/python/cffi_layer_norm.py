"""lnorm from Python by cffi, which reads lnorm.h itself. (For NumPy's arrays there is pyln.)

    python examples/python/cffi_layer_norm.py PREFIX

with PREFIX where lnorm is installed. A C compiler is asked for the header without its macros; nothing is compiled.
"""

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import cffi


class LnormError(ValueError):
    """A call that was refused: its status, and the library's sentence."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{text} (status {status})")
        self.status = status


class Lnorm:
    """The shared library; arrays are those of cffi: ffi.new("float[]", ...)."""

    def __init__(self, prefix: str) -> None:
        preprocess = ["cc", "-E", "-P", "-D__attribute__(list)=", f"{prefix}/include/lnorm.h"]
        header = subprocess.run(preprocess, check=True, capture_output=True, text=True).stdout
        self.ffi = cffi.FFI()
        self.ffi.cdef(header[header.index("typedef enum lnorm_status") :])
        self.c: Any = self.ffi.dlopen(f"{prefix}/lib/liblnorm.so")

    def text(self, of: object) -> str:
        """Return a text of the library's."""
        return self.ffi.string(of).decode()

    def check(self, status: int) -> None:
        """Raise what a call refused."""
        if status != self.c.LNORM_OK:
            raise LnormError(status, self.text(self.c.lnorm_status_text(status)))

    def forward(self, x: Any, gamma: Any, beta: Any, eps: float) -> tuple[Any, Any, Any]:
        """Return y, mean and rstd; the rows of x are as long as gamma."""
        rows, cols = shape(x, gamma)
        if len(beta) != cols:
            raise ValueError("beta must be as long as gamma")
        y, mean, rstd = (self.ffi.new("float[]", size) for size in (len(x), rows, rows))
        self.check(self.c.lnorm_forward_f32(rows, cols, x, gamma, beta, eps, y, mean, rstd))
        return y, mean, rstd

    def backward(self, dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any) -> tuple[Any, Any, Any]:
        """Return dx, dgamma and dbeta."""
        rows, cols = shape(x, gamma)
        if len(dy) != len(x) or len(mean) != rows or len(rstd) != rows:
            raise ValueError("dy, mean and rstd must be those of x")
        size = self.c.lnorm_backward_workspace_f32(rows, cols)
        workspace = self.ffi.new("float[]", size // self.ffi.sizeof("float"))
        dx, dgamma, dbeta = (self.ffi.new("float[]", size) for size in (len(x), cols, cols))
        self.check(self.c.lnorm_backward_f32(rows, cols, dy, x, mean, rstd, gamma, dx, dgamma, dbeta, workspace, size))
        return dx, dgamma, dbeta

    def rms_norm(self, x: Any, gamma: Any, eps: float) -> Any:
        """By the general form, which knows other operations, element types, strides and threads."""
        rows, cols = shape(x, gamma)
        problem = self.ffi.new("lnorm_problem *")
        problem.struct_size = self.ffi.sizeof("lnorm_problem")
        problem.operation = self.c.LNORM_RMS_NORM
        problem.outer, problem.norm, problem.eps = rows, cols, eps
        y, null = self.ffi.new("float[]", len(x)), self.ffi.NULL
        self.check(self.c.lnorm_forward(problem, x, gamma, null, y, null, null))
        return y


def shape(x: Sequence[float], gamma: Sequence[float]) -> tuple[int, int]:
    """Return how many rows x has, and of how many elements."""
    rows, rest = divmod(len(x), len(gamma))
    if rest:
        raise ValueError(f"x must be rows of {len(gamma)} elements")
    return rows, len(gamma)


def print_rows(label: str, values: Sequence[float]) -> None:
    """Print the first two rows."""
    for first in range(0, min(len(values), 8), 4):
        print(*(f"{value:9.5f}" for value in values[first : first + 4]), f" {label}")


def main(prefix: str) -> None:
    """Print y, the gradients, RMS norm, and what a refused call says."""
    lnorm = Lnorm(prefix)
    # 64 rows: these two, again and again.
    x = lnorm.ffi.new("float[]", [1, 2, 3, 4, 10, 10, 10, 50] * 32)
    dy = lnorm.ffi.new("float[]", [0.125, 0.03125, 0.0625, 0.09375, 0.03125, 0.0625, 0.09375, 0.125] * 32)
    gamma, beta = (lnorm.ffi.new("float[]", row) for row in ([1, 1, 2, 2], [0, 0, 0, 1]))

    y, mean, rstd = lnorm.forward(x, gamma, beta, 1e-5)
    print_rows("y", y)
    for label, gradient in zip(("dx", "dgamma", "dbeta"), lnorm.backward(dy, x, mean, rstd, gamma), strict=True):
        print_rows(label, gradient)
    print_rows("RMS norm", lnorm.rms_norm(x, gamma, 1e-5))

    try:
        lnorm.forward(x, gamma, beta, -1)
    except LnormError as error:
        print(f"refused: {error}")
    print(f"lnorm {lnorm.text(lnorm.c.lnorm_version())}, {lnorm.text(lnorm.c.lnorm_isa())}")


if __name__ == "__main__":
    main(sys.argv[1])

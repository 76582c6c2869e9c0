"""What is measured: shapes, and the arrays of one shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import pyln
from pyln._bench import _loops

Array = np.ndarray[Any, Any]
Direction = Literal["forward", "backward"]
Shape = tuple[int, int]

DIRECTIONS: tuple[Direction, ...] = ("forward", "backward")
TYPES: dict[str, np.dtype[Any]] = {"f32": np.dtype(np.float32), "f64": np.dtype(np.float64)}
EPS = 1e-5

# One row and 32 (call overhead, first caches), short, usual, long, odd and huge rows, and one beyond most caches.
SMALL: tuple[Shape, ...] = (
    (1, 768),
    (32, 768),
    (8192, 64),
    (1024, 768),
    (64, 4096),
    (4096, 301),
    (8192, 768),
    (4, 1048576),
)

# Elements from which threads have something to gain.
THREADED_ELEMENTS = 1 << 18

# An RNN's 20; one attention head's 64 and 128; 65 and 301, which no vector divides; BERT's 768; GPT's 1024 to 12288.
FULL_COLS = (20, 64, 65, 128, 301, 768, 1024, 2048, 4096, 12288)
FULL_BYTES = (16 << 10, 256 << 10, 4 << 20)  # of one tensor; the last size depends on the last cache
FULL_OTHERS: tuple[Shape, ...] = ((1, 64), (1, 768), (1, 4096), (1, 12288), (197, 768), (1, 1048576), (16, 1048576))


def full(itemsize: int, last_cache: int) -> list[Shape]:
    """Shapes of real models, each from what the first cache holds to more than the last one does."""
    beyond = min(max(64 << 20, 2 * last_cache), 256 << 20)
    shapes = {(max(1, size // (cols * itemsize)), cols) for cols in FULL_COLS for size in (*FULL_BYTES, beyond)} | set(
        FULL_OTHERS
    )
    return sorted(shapes, key=lambda shape: (shape[1], shape[0]))


@dataclass(frozen=True)
class Settings:
    """How the arrays of every shape look."""

    type: str = "f32"
    layout: Literal["dense", "strided"] = "dense"
    affine: bool = True
    offset: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's name of the type."""
        return TYPES[self.type]


def allocate(shape: Sequence[int], dtype: np.dtype[Any], offset: int) -> Array:
    """Zeros that begin `offset` bytes after a boundary of 64; being written, their pages are there."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64 + offset, np.uint8)
    memory.fill(0)
    begin = -memory.ctypes.data % 64 + offset
    return memory[begin : begin + size].view(dtype).reshape(shape)


class Data:
    """The arrays of one shape, and what pyln makes of them: what every peer must find too."""

    def __init__(self, shape: Shape, settings: Settings) -> None:
        self.rows, self.cols = shape
        self.settings = settings
        self.dtype = settings.dtype
        self.dense = settings.layout == "dense"
        self.bytes = self.rows * self.cols * self.dtype.itemsize
        rng = np.random.default_rng(0)
        self.x, self.dy = self._random(rng, 0.25), self._random(rng, 0.0)
        self.y, self.dx = self._tensor(), self._tensor()
        self.gamma, self.beta, self.dgamma, self.dbeta = (
            allocate((self.cols,), self.dtype, settings.offset) if settings.affine else None for _ in range(4)
        )
        if self.gamma is not None and self.beta is not None:
            self.gamma[:] = rng.uniform(0.5, 1.5, self.cols)
            self.beta[:] = rng.uniform(-0.5, 0.5, self.cols)
        y, mean, rstd = pyln.layer_norm(self.x, self.cols, self.gamma, self.beta, EPS, return_stats=True)
        self.mean, self.rstd = (np.ascontiguousarray(a.reshape(self.rows)) for a in (mean, rstd))
        self.wanted = (True, settings.affine, settings.affine)  # dx, dgamma and dbeta
        grads = pyln.layer_norm_backward(self.dy, self.x, self.cols, mean, rstd, self.gamma, self.beta, self.wanted)
        self._expected: dict[Direction, tuple[Array, ...]] = {
            "forward": (y,),
            "backward": tuple(grad for grad in grads if grad is not None),
        }
        self.operands = _loops.Operands(
            settings.type,
            self.rows,
            self.cols,
            self.x.strides[0] // self.dtype.itemsize,
            EPS,
            x=self.x,
            dy=self.dy,
            gamma=self.gamma,
            beta=self.beta,
            mean=self.mean,
            rstd=self.rstd,
            y=self.y,
            dx=self.dx,
            dgamma=self.dgamma,
            dbeta=self.dbeta,
            workspace=allocate((_loops.workspace_size(settings.type, *shape),), np.dtype(np.uint8), 0),
        )

    def expected(self, direction: Direction) -> tuple[Array, ...]:
        """y, or dx and, with gamma and beta, dgamma and dbeta."""
        return self._expected[direction]

    def outputs(self, direction: Direction) -> tuple[Array, ...]:
        """The preallocated arrays for the same."""
        wanted = (self.y,) if direction == "forward" else (self.dx, self.dgamma, self.dbeta)
        return tuple(array for array in wanted if array is not None)

    def spoil(self, direction: Direction) -> None:
        """Forget what is in the outputs."""
        for array in self.outputs(direction):
            array.fill(np.nan)

    def _tensor(self) -> Array:
        """All of a matrix, or the left half of one twice as wide."""
        width = self.cols if self.dense else 2 * self.cols
        return allocate((self.rows, width), self.dtype, self.settings.offset)[:, : self.cols]

    def _random(self, rng: np.random.Generator, mean: float) -> Array:
        array = self._tensor()
        for row in range(0, self.rows, 4096):  # in blocks, so that no large temporary stays behind
            block = array[row : row + 4096]
            block[...] = rng.standard_normal(block.shape, np.float32)
            block += self.dtype.type(mean)
        return array

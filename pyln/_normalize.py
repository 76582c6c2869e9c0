"""Layer normalization from file to file, for arrays that may be larger than memory.

Files of others are read, not mapped: one that becomes shorter is an error then, not a crash. Only the new file is
mapped, which nobody else knows.
"""

from __future__ import annotations

import errno
import io
import math
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from tqdm import tqdm

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln.functional import layer_norm

# Bytes of the input that are worked on at a time.
BLOCK_BYTES = 1 << 24

# Seconds after which work counts as long, and its progress is shown.
PROGRESS_DELAY = 1.0

# What is read of a file before its shape and type are known; NumPy takes no longer headers either.
_HEADER_BYTES = 10_000


def normalize_file(
    source: Path,
    target: Path,
    *,
    axis: int | None = None,
    last: int = 1,
    weight: Path | None = None,
    bias: Path | None = None,
    eps: float = 1e-5,
) -> None:
    """Write the layer normalization of the array in one .npy file to another, which appears only when it is complete.

    Parameters
    ----------
    source
        File of a float16, float32 or float64 array, in C or Fortran order.
    target
        File to write, of the same shape, type and order; may be source itself. A symbolic link stays one, the file
        that it leads to is replaced, and keeps its permissions.
    axis
        The axis to normalize over; otherwise the last `last` ones.
    weight, bias
        Files of arrays with the normalized axes' shape and the input's type.
    eps
        Added to the variance, inside the root.

    Raises
    ------
    OSError
        A file cannot be read or written, or is not a regular one, or the disk is full.
    TypeError, ValueError
        As ``pyln.layer_norm``, or a file is not a .npy file of numbers, or changes while it is read.

    """
    with _opened("input", source) as x:
        ndim = x.like.ndim
        if axis is None and not 1 <= last <= ndim:
            raise ValueError(f"last: expected 1 to {ndim}, the dimensions of the input, got {last}")
        axes = arguments.normalized_axes(x.like, None, tuple(range(ndim - last, ndim)) if axis is None else axis)
        gamma, beta = _parameter("weight", weight, x.like, axes), _parameter("bias", bias, x.like, axes)
        arguments.epsilon(eps, x.like.dtype)
        with _whole_file(target) as file:
            _write(file, x, axes, gamma, beta, eps)
            x.check_unchanged()


@dataclass(frozen=True)
class _Npy:
    """A .npy file, open where its numbers begin."""

    name: str  # of the argument
    path: Path
    file: IO[bytes]
    like: Array  # of its shape and type, without memory
    fortran: bool
    state: tuple[int, int]

    def read_into(self, place: Array) -> None:
        """Read the next numbers; place is in C order."""
        try:
            got = self.file.readinto(place)  # type: ignore[attr-defined]
        except OSError as error:
            raise OSError(f"{self.name}: cannot read {self.path}: {error.strerror or error}") from None
        if got != place.nbytes:
            raise ValueError(f"{self.name}: {self.path} became shorter while it was read")

    def check_unchanged(self) -> None:
        if _state(self.file) != self.state:
            raise ValueError(f"{self.name}: {self.path} changed while it was read")


def _state(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _open(name: str, path: Path) -> IO[bytes]:
    try:
        return open(path, "rb", opener=_without_waiting)
    except OSError as error:
        raise OSError(f"{name}: cannot read {path}: {error.strerror or error}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open what may be a pipe that nobody writes to."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def _opened(name: str, path: Path) -> Iterator[_Npy]:
    """A .npy file of numbers, whose size is as its header says."""
    with _open(name, path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(f"{name}: cannot read {path}: not a regular file")
        state = _state(file)
        header = io.BytesIO(file.read(_HEADER_BYTES))
        if header.getvalue().startswith(b"PK\3\4"):
            raise ValueError(f"{name}: {path} holds several arrays; expected one, as numpy.save writes it")
        try:
            shape, fortran, dtype = _read_header(header)
        except Exception as error:  # of ast and tokenize too, by whatever stands there
            raise ValueError(f"{name}: {path} is not a .npy file of numbers ({arguments.shown(error, str)})") from None
        arguments.check_type(name, dtype)
        try:
            like = np.broadcast_to(np.zeros((), dtype), shape)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {path} is not a .npy file of numbers ({arguments.shown(error, str)})") from None
        if (promised := header.tell() + like.nbytes) > state[0]:
            raise ValueError(f"{name}: {path} is cut off: by its header it has {promised} bytes, found {state[0]}")
        file.seek(header.tell())
        yield _Npy(name, path, file, arguments.tensor(name, like), fortran and like.ndim > 1, state)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    if version in ((2, 0), (3, 0)):  # they differ in names of fields only, which numbers do not have
        return np.lib.format.read_array_header_2_0(file)
    raise ValueError(f"version {version[0]}.{version[1]} of the format is not known")


def _parameter(name: str, path: Path | None, x: Array, axes: tuple[int, int]) -> Array | None:
    if path is None:
        return None
    with _opened(name, path) as given:
        arguments.parameter(name, given.like, x, axes, shared=True)  # looked at before there is memory for it
        shape = given.like.shape
        values = np.empty(shape[::-1] if given.fortran else shape, given.like.dtype)
        given.read_into(values)
        return values.T if given.fortran else values


def _write(
    file: IO[bytes], x: _Npy, axes: tuple[int, int], gamma: Array | None, beta: Array | None, eps: float
) -> None:
    """Read the input into the new file, and normalize it there: about BLOCK_BYTES at a time, or a whole slab."""
    (begin, end), shape = axes, x.like.shape
    y = _allocate(file, x)
    if x.fortran:  # the transposed arrays are in C order
        begin, end, shape = len(shape) - end, len(shape) - begin, shape[::-1]
        gamma, beta = (None if p is None else p.T for p in (gamma, beta))
    gamma, beta = (None if p is None else p.reshape(-1) for p in (gamma, beta))
    outer, norm, inner = math.prod(shape[:begin]), math.prod(shape[begin:end]), math.prod(shape[end:])
    if y.size == 0:
        return
    y = y.reshape(outer, norm, inner)
    rows = BLOCK_BYTES // (norm * inner * y.itemsize)
    columns = inner if rows else max(1, BLOCK_BYTES // (norm * y.itemsize))
    with tqdm(total=y.nbytes, unit="B", unit_scale=True, delay=PROGRESS_DELAY, disable=None) as progress:
        for i in range(0, outer, max(1, rows)):
            slab = y[i : i + max(1, rows)]
            x.read_into(slab)
            for j in range(0, inner, columns):
                part = slab[:, :, j : j + columns]
                layer_norm(part, None, gamma, beta, eps, axis=1, out=part)
                progress.update(part.nbytes)


def _allocate(file: IO[bytes], x: _Npy) -> Array:
    """A writable view of a new .npy file like x, transposed if that is in Fortran order.

    Its place on the disk is taken now: later a full disk would be a crash.
    """
    header = {
        "descr": np.lib.format.dtype_to_descr(x.like.dtype),
        "fortran_order": x.fortran,
        "shape": x.like.shape,
    }
    np.lib.format.write_array_header_2_0(file, header)
    file.flush()
    offset, size = file.tell(), x.like.nbytes
    if size == 0:
        return np.empty(0, x.like.dtype)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, offset + size)
    else:
        zeros = bytes(BLOCK_BYTES)
        for start in range(0, size, BLOCK_BYTES):
            file.write(zeros[: size - start])
        file.flush()
    return np.memmap(file, x.like.dtype, "r+", offset, x.like.size)


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the path's place at the end, or disappears if that is not reached."""
    place = Path(os.path.realpath(path))  # a link stays one
    part = place.with_name(f".{place.name[:50]}.{secrets.token_hex(8)}.part")
    refusal = f"output: cannot write {path}"
    if not place.parent.is_dir():
        raise OSError(f"{refusal}: No such folder: {place.parent}")
    if exists := os.path.lexists(place):
        if not stat.S_ISREG(os.lstat(place).st_mode):
            raise OSError(f"{refusal}: not a regular file")
        if not os.access(place, os.W_OK):
            raise OSError(f"{refusal}: {os.strerror(errno.EACCES)}")
    try:
        with open(part, "x+b") as file:
            if exists:
                shutil.copymode(place, part)
            yield file
            os.fsync(file.fileno())
        os.replace(part, place)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.errno is not None:  # those of other files have been named
            raise OSError(f"{refusal}: {error.strerror}") from None
        raise

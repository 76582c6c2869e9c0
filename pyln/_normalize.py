"""Layer normalization from file to file, for arrays that may be larger than memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
        File to write, of the same shape, type and order; may be source itself.
    axis
        The axis to normalize over; otherwise the last `last` ones.
    weight, bias
        Files of arrays with the normalized axes' shape and the input's type.
    eps
        Added to the variance, inside the root.

    Raises
    ------
    OSError
        A file cannot be read or written, or the disk is full.
    TypeError, ValueError
        As ``pyln.layer_norm``, or a file is not a .npy file of numbers.

    """
    x = arguments.tensor("input", _load("input", source, mmap_mode="r"))
    if axis is None and not 1 <= last <= x.ndim:
        raise ValueError(f"last: expected 1 to {x.ndim}, the dimensions of the input, got {last}")
    given_axis = tuple(range(x.ndim - last, x.ndim)) if axis is None else axis
    begin, end = arguments.normalized_axes(x, None, given_axis)
    gamma, beta = (
        None if path is None else arguments.parameter(name, _load(name, path), x, (begin, end), shared=True)
        for name, path in (("weight", weight), ("bias", bias))
    )
    arguments.epsilon(eps, x.dtype)

    fortran = x.flags.f_contiguous and not x.flags.c_contiguous
    with _whole_file(target) as file:
        y = _allocate(file, x.shape, x.dtype, fortran)
        if fortran:  # the transposed arrays are in C order
            x, y, begin, end = x.T, y.T, x.ndim - end, x.ndim - begin
            gamma, beta = (None if p is None else p.T for p in (gamma, beta))
        norm, inner = math.prod(x.shape[begin:end]), math.prod(x.shape[end:])
        shape = math.prod(x.shape[:begin]), norm, inner
        gamma, beta = (None if p is None else p.reshape(-1) for p in (gamma, beta))
        xs, ys = x.reshape(shape), y.reshape(shape)
        with tqdm(total=x.nbytes, unit="B", unit_scale=True, delay=PROGRESS_DELAY, disable=None) as progress:
            for block in _blocks(shape, x.itemsize):
                layer_norm(xs[block], None, gamma, beta, eps, axis=1, out=ys[block])
                progress.update(xs[block].nbytes)


def _blocks(shape: tuple[int, int, int], itemsize: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cut outer x norm x inner into blocks of about BLOCK_BYTES that hold whole rows."""
    outer, norm, inner = shape
    everything = slice(None)
    slab = max(1, norm * inner * itemsize)
    if slab <= BLOCK_BYTES or inner == 1:
        step = max(1, BLOCK_BYTES // slab)
        for i in range(0, outer, step):
            yield slice(i, i + step), everything, everything
        return
    step = max(1, BLOCK_BYTES // (norm * itemsize))
    for i in range(outer):
        for j in range(0, inner, step):
            yield slice(i, i + 1), everything, slice(j, j + step)


def _load(name: str, path: Path, mmap_mode: Any = None) -> Array:
    try:
        loaded = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except OSError as error:
        raise OSError(f"{name}: cannot read {path}: {error.strerror or error}") from None
    except (EOFError, ValueError) as error:
        raise ValueError(f"{name}: {path} is not a .npy file of numbers ({error})") from None
    if not isinstance(loaded, np.ndarray):
        loaded.close()
        raise ValueError(f"{name}: {path} holds several arrays; expected one, as numpy.save writes it")
    return loaded


def _allocate(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], fortran: bool) -> Array:
    """A writable view of a new .npy file whose place on the disk is taken now: later a full disk would be a crash."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": fortran, "shape": shape}
    np.lib.format.write_array_header_2_0(file, header)
    file.flush()
    offset, size = file.tell(), math.prod(shape) * dtype.itemsize
    if size == 0:
        return np.empty(shape, dtype)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, offset + size)
    else:
        zeros = bytes(BLOCK_BYTES)
        for start in range(0, size, BLOCK_BYTES):
            file.write(zeros[: size - start])
        file.flush()
    return np.memmap(file, dtype, "r+", offset, shape, "F" if fortran else "C")


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A new file that takes the path's place at the end, or disappears if that is not reached."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"output: cannot write {path}: No such folder: {path.parent}")
    try:
        with open(part, "x+b") as file:
            yield file
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise

"""Arrays of other libraries, as NumPy arrays that share their memory."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# The C structures of https://dmlc.github.io/dlpack/latest/c_api.html


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_CPU = 1
_BFLOAT = 4


def as_array(name: str, value: Any) -> Array:
    """Return what has ``__array__``, the buffer protocol or ``__dlpack__`` as an array; lists are copied into one."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        # PyTorch's bfloat16 has no NumPy type to go to by itself.
        bfloat16 = None
        with suppress(AttributeError, BufferError, RuntimeError, TypeError, ValueError):  # as a tensor without data has
            bfloat16 = _bfloat16(value)
        if bfloat16 is None:
            raise type(error)(f"{name}: {error}") from None
        return bfloat16
    if array.dtype == object and hasattr(value, "__dlpack__"):
        bfloat16 = _bfloat16(value)
        return np.from_dlpack(value) if bfloat16 is None else bfloat16
    return array


def _bfloat16(value: Any) -> Array | None:
    """Return a CPU tensor of bfloat16 as an array; None for others."""
    if value.__dlpack_device__()[0] != _CPU:
        return None
    capsule = value.__dlpack__()
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    tensor = _Tensor.from_address(get_pointer(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (_BFLOAT, 16, 1):
        return None
    from pyln._arguments import bfloat16

    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(2 * s for s in tensor.strides[: tensor.ndim]) if tensor.strides else None
    if 0 in shape:
        return np.empty(shape, bfloat16())
    count = 1 + sum((n - 1) * s // 2 for n, s in zip(shape, strides, strict=True)) if strides else int(np.prod(shape))
    memory = (ctypes.c_uint16 * count).from_address(tensor.data + tensor.byte_offset)
    memory.owner = capsule  # type: ignore[attr-defined]  # the tensor lives as long as its memory is used
    array: Array = np.ndarray(shape, np.uint16, memoryview(memory), 0, strides)
    array.flags.writeable = False
    return array.view(bfloat16())

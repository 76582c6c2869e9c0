"""Arrays of other libraries, as NumPy arrays that share their memory.

What they say of their memory is believed where nothing contradicts it: an address is an address.
"""

from __future__ import annotations

import ctypes
import math
import struct
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


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


class _Memory:
    """Memory at an address, and who owns it, as NumPy takes it."""

    def __init__(self, owner: object, **interface: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {"version": 3, **interface}


# Devices whose memory the processor reads too: CPU, CUDAHost, ROCMHost, CUDAManaged.
_HOSTS = (1, 3, 11, 13)
_KINDS = {0: "i", 1: "u", 2: "f", 5: "c", 6: "b"}
_BFLOAT = 4
_MAX_NDIM = 64  # NumPy's

# Not attributes of ctypes.pythonapi, whose types anyone may set.
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", ctypes.pythonapi))
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def as_array(value: Any) -> Array:
    """Return what has ``__array__``, the buffer protocol or ``__dlpack__`` as an array; lists are copied into one."""
    if isinstance(value, memoryview) and struct.calcsize(value.format) != value.itemsize:
        raise ValueError(f"a buffer of elements {value.format!r} that have {value.itemsize} bytes")  # NumPy would crash
    try:
        array = np.asarray(value)
    except Exception:
        # PyTorch's bfloat16 has no NumPy type to go to by itself; what else NumPy refuses may have no data at all.
        with suppress(Exception):
            array = _from_dlpack(value)
            if array.dtype == _bfloat16():
                return array
        raise
    if array.dtype == object and hasattr(value, "__dlpack__"):
        return _from_dlpack(value)
    _check_extent(array)
    return array


def _check_extent(array: Array) -> None:
    """Refuse an array that is longer than the buffer that it is made of, or all memory: NumPy does not look at that."""
    if array.size == 0:
        return
    begin, end = 1, 2**64
    if not isinstance(array.base, np.ndarray):
        with suppress(TypeError):  # where there is an address only
            buffer = memoryview(array.base)  # type: ignore[arg-type]
            if buffer.contiguous:
                begin, end = np.lib.array_utils.byte_bounds(np.frombuffer(buffer.cast("B"), np.uint8))
    low, high = np.lib.array_utils.byte_bounds(array)
    if not begin <= low < high <= end:
        raise ValueError(
            f"shape {list(array.shape)} and strides {array.strides} leave the memory of {end - begin} bytes"
        )


def _from_dlpack(value: Any) -> Array:
    """Return a tensor in the processor's memory as an array, after a look at what NumPy would believe."""
    if value.__dlpack_device__()[0] not in _HOSTS:
        raise TypeError("a tensor that is not in the processor's memory")
    try:
        capsule = value.__dlpack__(max_version=(1, 0))
    except TypeError:  # from before there were versions
        capsule = value.__dlpack__()
    tensor = _tensor(capsule)
    dtype = _type(tensor)
    if not 0 <= tensor.ndim <= _MAX_NDIM or (tensor.ndim > 0 and not tensor.shape):
        raise ValueError(f"a tensor of {tensor.ndim} dimensions with{'' if tensor.shape else 'out'} a shape")
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    if any(n < 0 for n in shape):
        raise ValueError(f"a tensor of shape {list(shape)}")
    if 0 in shape:
        return np.empty(shape, dtype)
    strides = tuple(dtype.itemsize * tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    if strides is None:
        reach = math.prod(shape) * dtype.itemsize
    else:
        reach = sum(abs(s) * (n - 1) for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
    address = (tensor.data or 0) + tensor.byte_offset
    if not tensor.data or not reach < address < 2**64 - reach:
        raise ValueError(f"a tensor of shape {list(shape)} and strides {strides} at address {address:#x}")
    place = {"data": (address, True), "shape": shape, "strides": strides, "typestr": f"V{dtype.itemsize}"}
    return np.asarray(_Memory(capsule, **place)).view(dtype)


def _tensor(capsule: object) -> _Tensor:
    """What a capsule holds; it must live as long as that."""
    for name, structure in ((b"dltensor", _Tensor), (b"dltensor_versioned", _Versioned)):
        if _is_valid(capsule, name):
            held = structure.from_address(_get_pointer(capsule, name))
            if isinstance(held, _Tensor):
                return held
            if held.major != 1:
                raise ValueError(f"a tensor of DLPack {held.major}.{held.minor}, which is not known")
            tensor: _Tensor = held.tensor
            return tensor
    raise TypeError(f"__dlpack__ returned no tensor, but {type(capsule).__name__}")


def _bfloat16() -> np.dtype[Any]:
    from pyln._arguments import bfloat16  # which imports this module

    return bfloat16()


def _type(tensor: _Tensor) -> np.dtype[Any]:
    code, bits, lanes = tensor.code, tensor.bits, tensor.lanes
    if (code, bits, lanes) == (_BFLOAT, 16, 1):
        return _bfloat16()
    if code not in _KINDS or bits % 8 or lanes != 1:
        raise TypeError(f"a tensor of DLPack's type {code} with {bits} bits and {lanes} lanes")
    return np.dtype(f"{_KINDS[code]}{bits // 8}")

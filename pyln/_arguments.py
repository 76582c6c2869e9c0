"""What the functions accept: each check names the argument, what it got, and what would be right."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from pyln import _dlpack

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

# By the names that NumPy gives them, the C library's numbers. bfloat16 is the one of the package ml_dtypes.
# NumPy has 64, and views of an array take up to two more than it has.
MAX_NDIM = 62

_TYPES = {t: t.__name__ for t in (np.float32, np.float64, np.float16, np.int8, np.uint8)}
_CODES = {"float32": 1, "float64": 2, "float16": 3, "bfloat16": 4, "int8": 5, "uint8": 6}
_NAMES = "float32, float64, float16 or bfloat16"
_QUANTIZED = ("int8", "uint8")


def shown(value: object, text: Callable[[Any], str] = repr) -> str:
    """What a message says of a value: no long text, and no error where the value has none."""
    try:
        whole = text(value)
    except Exception:
        whole = f"<{type(value).__name__}>"
    return whole if len(whole) <= 300 else f"{whole[:300]}..."


def type_code(dtype: np.dtype[Any]) -> int:
    """Return the C library's number of an element type."""
    return _CODES[type_name(dtype)]


def _is_known(dtype: np.dtype[Any]) -> bool:
    """Whether rows may be of this type."""
    return dtype.isnative and type_name(dtype) in _CODES and type_name(dtype) not in _QUANTIZED


def type_name(dtype: np.dtype[Any]) -> str:
    """Return the name of an element type; of one that is called as ours are, but is another, something else."""
    known = _TYPES.get(dtype.type)
    if known is None and dtype.type.__name__ == "bfloat16" and dtype == bfloat16():
        return "bfloat16"
    return known or str(dtype)


def arithmetic_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that rows of dtype are computed in, which statistics and gradients of parameters have too."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def companions(dtype: np.dtype[Any]) -> list[str]:
    """Return the names of the types that y may have beside x of dtype, or grad_out beside input."""
    return ["float64"] if dtype == np.float64 else ["float32", "float16", "bfloat16"]


def element_type(name: str, value: object) -> np.dtype[Any]:
    """Return a dtype that the library knows, from what numpy.dtype takes or the name "bfloat16"."""
    if isinstance(value, str) and value == "bfloat16":
        return bfloat16()
    try:
        dtype: np.dtype[Any] = np.dtype(value)  # type: ignore[call-overload]
    except Exception:
        raise TypeError(f"{name}: expected {_NAMES}, got {shown(value)}") from None
    if not _is_known(dtype):
        raise TypeError(f"{name}: expected {_NAMES}, got {shown(dtype, str)}")
    return dtype


def quantized_type(name: str, value: object) -> np.dtype[Any]:
    """Return int8 or uint8."""
    try:
        dtype: np.dtype[Any] = np.dtype(value)  # type: ignore[call-overload]
    except Exception:
        raise TypeError(f"{name}: expected int8 or uint8, got {shown(value)}") from None
    if type_name(dtype) not in _QUANTIZED:
        raise TypeError(f"{name}: expected int8 or uint8, got {shown(dtype, str)}")
    return dtype


def bfloat16() -> np.dtype[Any]:
    """Return NumPy's bfloat16, which comes with a package of its own."""
    try:
        import ml_dtypes
    except ImportError:
        raise TypeError("bfloat16 in NumPy needs the package ml_dtypes: pip install ml_dtypes") from None
    dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return dtype


def tensor(name: str, value: object, allowed: Sequence[str] = (), owner: str = "input") -> Array:
    """Return value as an array of a type that the library knows, or just of those that its owner allows."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: a masked array, whose mask would be ignored; fill it first: {name}.filled(...)")
    array = as_array(name, value)
    check_type(name, array.dtype, allowed, owner)
    if array.ndim > MAX_NDIM:
        raise ValueError(f"{name}: expected at most {MAX_NDIM} dimensions, got {array.ndim}")
    return array if array.flags.aligned else array.copy()


def as_array(name: str, value: object) -> Array:
    """Return what NumPy makes an array of, or a tensor of DLPack; of a subclass what it is in memory."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        lost = bool(getattr(value, "requires_grad", False))
        array = None if lost else _dlpack.as_array(value)
    except MemoryError:
        raise
    except Exception as error:  # whatever a stranger's methods raise
        raise (ValueError if isinstance(error, ValueError) else TypeError)(f"{name}: {shown(error, str)}") from error
    if array is None:
        raise TypeError(
            f"{name}: a tensor that requires grad, whose gradient would be lost; pyln.torch has the functions with "
            f"autograd, and {name}.detach() is for those without"
        )
    return array


def check_type(name: str, dtype: np.dtype[Any], allowed: Sequence[str] = (), owner: str = "input") -> None:
    """Refuse a type that the library does not know, or that is not one of those that its owner allows."""
    if not _is_known(dtype) or (allowed and type_name(dtype) not in allowed):
        native = dtype.newbyteorder("=")
        if dtype != native and _is_known(native):
            raise TypeError(
                f"{name}: byte order is not this machine's ({dtype.str}); use {name}.astype({native.name!r})"
            )
        expected = f"{' or '.join(allowed)} to go with {owner}" if allowed else _NAMES
        raise TypeError(f"{name}: expected {expected}, got {shown(dtype, str)}")


def normalized_axes(
    input: Array, normalized_shape: int | Sequence[int] | None, axis: int | Sequence[int] | None
) -> tuple[int, int]:
    """Return the first normalized axis and the one after the last."""
    if (normalized_shape is None) == (axis is None):
        raise TypeError("give either normalized_shape or axis=")
    if axis is not None:
        return _consecutive(input.ndim, axis)
    shape = shape_tuple("normalized_shape", normalized_shape)
    if input.shape[max(0, input.ndim - len(shape)) :] != shape:
        raise ValueError(
            f"Given normalized_shape={list(shape)}, expected input with shape [*, {str(list(shape))[1:]}, "
            f"but got input of size {list(input.shape)}"
        )
    return input.ndim - len(shape), input.ndim


def shape_tuple(name: str, value: object) -> Shape:
    """Return an int or a sequence of ints as a tuple that is not empty."""
    shape = _integers(name, value)
    if min(shape) < 0:
        raise ValueError(f"{name}: sizes cannot be negative, got {shown(value)}")
    return shape


def integer(name: str, value: Any) -> int:
    """Return an int."""
    return _indices(name, iter((value,)), "an int", value)[0]


def _indices(name: str, values: Iterator[Any], expected: str, given: object) -> Shape:
    try:
        found = tuple(values)
        if any(isinstance(v, (bool, np.bool_)) for v in found):
            raise TypeError
        integers = tuple(operator.index(v) for v in found)
    except Exception:
        raise TypeError(f"{name}: expected {expected}, got {shown(given)}") from None
    if any(not -(2**63) <= i < 2**63 for i in integers):  # which may have too many digits for any message
        raise ValueError(f"{name}: expected no more than 64 bits, got {shown(given)}")
    return integers


def _consecutive(ndim: int, axis: int | Sequence[int]) -> tuple[int, int]:
    given = _integers("axis", axis)
    for a in given:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis: {shown(a)} is out of range for an input of {ndim} dimensions")
    axes = sorted(a % ndim for a in given)
    if axes != list(range(axes[0], axes[0] + len(axes))):
        raise ValueError(f"axis: expected consecutive axes, each once, got {shown(axis)}; transpose the input first")
    return axes[0], axes[-1] + 1


def _integers(name: str, value: object) -> Shape:
    def each() -> Iterator[Any]:
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            yield from islice(value, MAX_NDIM + 1)
        else:
            yield value

    integers = _indices(name, each(), "an int or a sequence of ints", value)
    if not 1 <= len(integers) <= MAX_NDIM:
        number = f"at most {MAX_NDIM} axes" if integers else "at least one axis"
        raise ValueError(f"{name}: expected {number}, got {shown(value)}")
    return integers


def truth(name: str, value: object) -> bool:
    """Return whether a value is true."""
    try:
        return bool(value)
    except Exception:
        raise TypeError(f"{name}: expected True or False, got {shown(value)}") from None


def parameter_tensor(name: str, value: object, input: Array) -> Array:
    """Return weight or bias as an array of a type that goes with input, of whatever shape."""
    own = type_name(input.dtype)
    return tensor(name, value, [own] if own in ("float32", "float64") else [own, "float32"])


def parameter(name: str, value: object, input: Array, axes: tuple[int, int], shared: bool = False) -> Array | None:
    """Return weight or bias, of the normalized shape or, if not shared by all rows, with input's other axes too."""
    if value is None:
        return None
    begin, end = axes
    shape = input.shape[begin:end]
    array = parameter_tensor(name, value, input)
    if array.shape == shape:
        return array
    message = (
        f"Expected {name} to be of same shape as normalized_shape, "
        f"but got {name} of shape {list(array.shape)} and normalized_shape = {list(shape)}"
    )
    if shared or array.ndim != input.ndim:
        raise ValueError(message)
    sizes = zip(array.shape, input.shape, strict=True)
    if array.shape[begin:end] != shape or any(own not in (1, whole) for own, whole in sizes):
        raise ValueError(f"{message}; one for each example has input's size or 1 along the other axes")
    return array


def same_type(**parameters: Array | None) -> None:
    """Refuse parameters of one call that have different element types."""
    given = [(name, p) for name, p in parameters.items() if p is not None]
    for name, p in given[1:]:
        if p.dtype != given[0][1].dtype:
            raise TypeError(f"{name}: expected {given[0][1].dtype} as {given[0][0]} has, got {p.dtype}")


def statistic(name: str, value: object, input: Array, shape: Shape, function: str) -> Array:
    """Return mean or rstd as forward gave it, without gaps."""
    array = tensor(name, value, [type_name(arithmetic_type(input.dtype))])
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, as {function} returns it, got {list(array.shape)}")
    return array


def same_shape(name: str, array: Array, shape: Shape, other: str) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)} as {other} has, got {list(array.shape)}")


def epsilon(eps: float | None, dtype: np.dtype[Any], none_is_machine_epsilon: bool = False) -> float:
    """Return eps, not negative and finite in the type that it will be rounded to."""
    dtype = arithmetic_type(dtype)
    if eps is None and none_is_machine_epsilon:
        return float(np.finfo(dtype).eps)
    value = _number("eps", eps)
    if not 0 <= value <= float(np.finfo(dtype).max):
        raise ValueError(f"eps: expected a finite {dtype} that is not negative, got {shown(eps)}")
    return value


def scale(value: object, dtype: np.dtype[Any]) -> float:
    """Return what y is divided by, above 0 and finite in the type that it will be rounded to."""
    number = _number("scale", value)
    limits = np.finfo(dtype)
    if not float(limits.smallest_subnormal) <= number <= float(limits.max):
        raise ValueError(f"scale: expected a finite {dtype} above 0, got {shown(value)}")
    return number


def zero_point(value: object, dtype: np.dtype[Any]) -> int:
    """Return the int of dtype that stands for 0."""
    number = integer("zero_point", value)
    limits = np.iinfo(dtype)
    if not limits.min <= number <= limits.max:
        raise ValueError(f"zero_point: expected {limits.min} to {limits.max} for {dtype}, got {shown(value)}")
    return number


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return float(value)
    except OverflowError:
        return math.inf
    except Exception:
        raise TypeError(f"{name}: expected a number, got {shown(value)}") from None


def output(
    name: str,
    value: object,
    shape: Shape,
    dtype: np.dtype[Any],
    allowed: Sequence[str] | None = None,
    like: Array | None = None,
) -> Array:
    """Return an array to write into, of dtype or one of those allowed; for None a new one of dtype.

    A new one's axes follow each other in memory as those of the array that it is like.
    """
    if value is None:
        return np.empty(shape, dtype) if like is None else _new_like(like, dtype)
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a NumPy array to write into, got {type(value).__name__}")
    names = [type_name(dtype)] if allowed is None else allowed
    array = np.asarray(value)  # of a subclass what it is in memory
    if type_name(array.dtype) not in names or not array.dtype.isnative:
        raise TypeError(f"{name}: expected {' or '.join(names)}, got {shown(array.dtype, str)}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {list(shape)}, got {list(array.shape)}")
    if not array.flags.writeable:
        raise ValueError(f"{name}: the array is read-only")
    if not array.flags.aligned:
        raise ValueError(f"{name}: the array is not aligned for {dtype}")
    if _elements_overlap(array):
        raise ValueError(f"{name}: elements of the array share memory (strides {array.strides})")
    return value


def result(name: str, value: object, input: Array, dtype: object) -> Array:
    """Return an array for y, in the given type or that of out, or else as input."""
    names = companions(input.dtype)
    y_type = input.dtype if dtype is None else element_type("dtype", dtype)
    if type_name(y_type) not in names:
        raise TypeError(f"dtype: expected {' or '.join(names)} for an input of {input.dtype}, got {y_type}")
    return output(name, value, input.shape, y_type, names if dtype is None else None, like=input)


def _new_like(array: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array as numpy.empty_like does, but that axes along which all is the same memory come first."""
    if array.flags.c_contiguous:
        return np.empty(array.shape, dtype)
    order = sorted(range(array.ndim), key=lambda i: -(abs(array.strides[i]) or math.inf))
    return np.empty([array.shape[i] for i in order], dtype).transpose(np.argsort(order))


def _elements_overlap(array: Array) -> bool:
    if array.flags.c_contiguous or array.size == 0:
        return False
    reach = array.itemsize
    for stride, size in sorted((abs(stride), size) for stride, size in zip(array.strides, array.shape, strict=True)):
        if size > 1:
            if stride < reach:
                return True
            reach += stride * (size - 1)
    return False


def distinct(outputs: dict[str, Array], inputs: dict[str, Array | None], in_place: Sequence[str] = ()) -> None:
    """Refuse an output that shares memory with another argument, unless it is one of in_place and the same array."""
    written: dict[str, Array] = {}
    for name, out in outputs.items():
        out = np.asarray(out)
        for other_name, other in (*inputs.items(), *written.items()):
            if other is None or not _share_memory(out, other):
                continue
            if other_name in in_place and out.ndim == other.ndim and _same(out, other):
                continue
            raise ValueError(f"{name}: overlaps {other_name} in memory; give it memory of its own, or None")
        written[name] = out


def _share_memory(a: Array, b: Array) -> bool:
    if not np.may_share_memory(a, b):
        return False
    try:
        return bool(np.shares_memory(a, b, max_work=10_000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _same(a: Array, b: Array) -> bool:
    return a.__array_interface__["data"] == b.__array_interface__["data"] and a.strides == b.strides

"""oneDNN through its C API, in the version that PyPI has: onednn-cpu-gomp."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from ctypes import byref, c_float, c_int, c_int64, c_uint, c_void_p
from importlib.metadata import PackageNotFoundError, files

import numpy as np

from pyln._bench import _loops
from pyln._bench.cases import EPS, Array, Data, Direction
from pyln._bench.peers import Call, Declined

# Names and numbers of dnnl_types.h, 3.x
_CPU, _F32 = 1, 3
_FORWARD_TRAINING, _FORWARD_INFERENCE, _BACKWARD, _BACKWARD_DATA = 64, 96, 128, 160
_USE_SCALE, _USE_SHIFT = 2, 4
_SRC, _DST, _MEAN, _VARIANCE, _SCALE, _SHIFT = 1, 17, 49, 50, 51, 52
_DIFF_SRC, _DIFF_DST, _DIFF_SCALE, _DIFF_SHIFT = 129, 145, 255, 256


class _Version(ctypes.Structure):
    _fields_ = (("major", c_int), ("minor", c_int), ("patch", c_int))


class _Argument(ctypes.Structure):
    _fields_ = (("index", c_int), ("memory", c_void_p))


def library_path() -> str | None:
    """Where the library is: from the Python package, else the system's; None if nowhere."""
    try:
        for file in files("onednn-cpu-gomp") or []:
            if file.name == "libdnnl.so":
                return str(file.locate())
    except PackageNotFoundError:
        pass
    return ctypes.util.find_library("dnnl")


class OneDnn:
    """The layer normalization primitive, executed from a loop in C."""

    title = "oneDNN"

    def __init__(self) -> None:
        path = library_path()
        if path is None:
            raise ImportError("oneDNN is not installed: pip install onednn-cpu-gomp")
        self._library = ctypes.CDLL(path)
        self._library.dnnl_version.restype = ctypes.POINTER(_Version)
        version = self._library.dnnl_version().contents
        self.version = f"{version.major}.{version.minor}.{version.patch}"
        if version.major != 3:
            raise ImportError(f"{path}: expected oneDNN 3, got {self.version}")
        self._engine = self._create("dnnl_engine_create", c_int(_CPU), ctypes.c_size_t(0))
        self._stream = self._create("dnnl_stream_create", self._engine, c_uint(1))

    def call(self, data: Data, direction: Direction) -> Call:
        if data.settings.type != "f32":
            raise Declined("its layer normalization has no f64")
        if not data.dense:
            raise Declined("it takes rows with gaps, but computes as if there were none")
        primitive = _Primitive(self, data, direction)
        return Call(primitive.repeat, lambda: data.outputs(direction))

    def _create(self, function: str, *arguments: object) -> c_void_p:
        """Call a function that returns a handle through its first argument."""
        handle = c_void_p()
        self._call(function, byref(handle), *arguments)
        return handle

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise Declined(f"{function} returned {status}")


_Operands = dict[int, tuple[c_void_p, Array | None]]


class _Primitive:
    """A primitive with its memories, for as long as this object lives."""

    def __init__(self, onednn: OneDnn, data: Data, direction: Direction) -> None:
        self._onednn = onednn
        self._owned: list[tuple[str, c_void_p]] = []
        self._alive: list[Array] = []
        affine = data.gamma is not None
        tensor = self._description((data.rows, data.cols), [s // data.dtype.itemsize for s in data.x.strides])
        statistics = self._description((data.rows,), (1,))
        parameter = self._description((data.cols,), (1,))
        common = (tensor, tensor, statistics, c_float(EPS), c_uint(_USE_SCALE | _USE_SHIFT if affine else 0))
        operands: _Operands = {
            _SRC: (tensor, data.x),
            _SCALE: (parameter, data.gamma),
            _SHIFT: (parameter, data.beta),  # backward wants it too
        }
        forward_function = "dnnl_layer_normalization_forward_primitive_desc_create"
        if direction == "forward":
            kind = self._create(
                "primitive_desc", forward_function, onednn._engine, c_int(_FORWARD_INFERENCE), *common, None
            )
            operands[_DST] = (tensor, data.y)
        else:
            hint = self._create(
                "primitive_desc", forward_function, onednn._engine, c_int(_FORWARD_TRAINING), *common, None
            )
            mean, variance = (np.empty(data.rows, data.dtype) for _ in range(2))
            operands |= {_MEAN: (statistics, mean), _VARIANCE: (statistics, variance)}
            self._execute_once(hint, operands | {_DST: (tensor, data.y)})
            kind = self._create(
                "primitive_desc",
                "dnnl_layer_normalization_backward_primitive_desc_create",
                onednn._engine,
                c_int(_BACKWARD if affine else _BACKWARD_DATA),
                tensor,
                *common,
                hint,
                None,
            )
            operands |= {
                _DIFF_DST: (tensor, data.dy),
                _DIFF_SRC: (tensor, data.dx),
                _DIFF_SCALE: (parameter, data.dgamma),
                _DIFF_SHIFT: (parameter, data.dbeta),
            }
        self._primitive = self._create("primitive", "dnnl_primitive_create", kind)
        self._arguments = self._bound(operands)
        self._execute = ctypes.cast(onednn._library.dnnl_primitive_execute, c_void_p).value or 0

    def __del__(self) -> None:
        for kind, handle in reversed(self._owned):
            getattr(self._onednn._library, f"dnnl_{kind}_destroy")(handle)

    def repeat(self, times: int) -> None:
        """Execute it."""
        primitive, stream = self._primitive.value or 0, self._onednn._stream.value or 0
        arguments = ctypes.addressof(self._arguments)
        _loops.repeat_onednn(self._execute, primitive, stream, len(self._arguments), arguments, times)

    def _execute_once(self, kind: c_void_p, operands: _Operands) -> None:
        """For the statistics that backward wants."""
        primitive, arguments = self._create("primitive", "dnnl_primitive_create", kind), self._bound(operands)
        self._onednn._call("dnnl_primitive_execute", primitive, self._onednn._stream, c_int(len(arguments)), arguments)

    def _bound(self, operands: _Operands) -> ctypes.Array[_Argument]:
        present = [(index, self._memory(layout, a)) for index, (layout, a) in operands.items() if a is not None]
        return (_Argument * len(present))(*(_Argument(index, memory) for index, memory in present))

    def _create(self, kind: str, function: str, *arguments: object) -> c_void_p:
        handle = self._onednn._create(function, *arguments)
        self._owned.append((kind, handle))
        return handle

    def _description(self, shape: Sequence[int], strides: Sequence[int]) -> c_void_p:
        n = len(shape)
        dims = c_int64 * n
        function = "dnnl_memory_desc_create_with_strides"
        return self._create("memory_desc", function, c_int(n), dims(*shape), c_int(_F32), dims(*strides))

    def _memory(self, layout: c_void_p, array: Array) -> c_void_p:
        self._alive.append(array)
        return self._create("memory", "dnnl_memory_create", layout, self._onednn._engine, c_void_p(array.ctypes.data))

"""One call of the C library on arrays of any layout.

Arrays go by the library's names: x, y, gamma, beta, total; dx, dy, dgamma, dbeta, dtotal are their gradients.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape
from pyln._layout import Arrays, Layout, pieces, repetition

# The library's operations and flags.
LAYER, RMS = 0, 1
GAMMA_PLUS_ONE, ROUND_STEPS, ACCUMULATE, DYNAMIC_SCALE = 1, 2, 4, 8

_GRADIENTS = frozenset({"dx", "dgamma", "dbeta"})
_OUTPUTS = {
    "forward": frozenset({"y", "mean", "rstd"}),
    "add_forward": frozenset({"total", "y", "mean", "rstd"}),
    "quantized_forward": frozenset({"y", "scale", "zero_point"}),
    "apply_moments": frozenset({"y"}),
    "moments": frozenset({"moments"}),
    "grad_moments": frozenset({"grad_moments"}),
    "backward": _GRADIENTS,
    "add_backward": _GRADIENTS,
    "backward_from_y": _GRADIENTS,
    "apply_grad_moments": _GRADIENTS,
}
_TENSORS = frozenset({"x", "y", "dy", "dx", "total", "dtotal"})
_STATISTICS = frozenset({"mean", "rstd", "moments", "grad_moments", "scale", "zero_point"})
PARAMETERS = frozenset({"gamma", "beta", "dgamma", "dbeta"})


class Settings(NamedTuple):
    """What a call is told beside its arrays; types are the library's numbers."""

    operation: int
    x_type: int
    y_type: int
    param_type: int
    flags: int
    eps: float


def run(call: str, settings: Settings, axes: tuple[int, int], arrays: Arrays) -> None:
    """Call lnorm_CALL, on as many parts of the arrays as their strides need.

    Tensors have the same shape, parameters and statistics have as many axes, of which some are 1. A parameter that is 1
    along the last of the normalized axes has one number for all elements there.
    """
    arrays = {name: _bits(array) for name, array in arrays.items()}
    dense = _dense(axes, arrays)
    if dense is not None:
        operands, repeat = dense
        _core.run(call, (*settings, repeat), operands, _OUTPUTS[call])
        return
    begin, end = axes
    tensors = [name for name in arrays if name in _TENSORS]
    shape = arrays[tensors[0]].shape
    parameters = [array for name, array in arrays.items() if name in PARAMETERS]
    has_runs = any(p.shape[begin:end] != shape[begin:end] for p in parameters)
    outputs = _OUTPUTS[call]
    whole = outputs is _GRADIENTS  # sums over all rows are one call
    layout = Layout(
        axes,
        [arrays[name] for name in tensors],
        varying={i for p in parameters for i in range(len(shape)) if p.shape[i] != 1},
        contiguous=has_runs or "total" in arrays,
        whole=whole,
        in_order_of=None if whole else arrays.get("y"),
    )
    seen, constants = {}, {}
    for name, array in arrays.items():
        if name in _TENSORS:
            seen[name] = layout.tensor(array)
        elif name in PARAMETERS:
            seen[name] = layout.parameter(array)
        elif name == "residual":
            seen[name] = _trailing(layout.tensor(array), layout.outer_shape)
        elif name in _STATISTICS and array.ndim >= len(shape):
            seen[name] = layout.statistic(array)
        else:
            constants[name] = np.ascontiguousarray(array).reshape(-1)
    if "dtotal" in seen and seen["dtotal"].strides != seen["total"].strides:  # the library knows one stride for both
        seen |= {name: np.ascontiguousarray(seen[name]) for name in ("total", "dtotal")}
    if layout.norm == 0 and not settings.flags & ACCUMULATE:  # sums of nothing, which the library does not write
        for name in seen.keys() & {"dgamma", "dbeta"}:
            seen[name][...] = 0
    stepping = [*tensors, "residual"] if "residual" in seen else tensors
    for part in pieces(seen, stepping, len(layout.outer)):
        _call(call, settings, part, constants, layout)
    for name in outputs & seen.keys():
        layout.write_back(seen[name], arrays[name])


def _dense(axes: tuple[int, int], arrays: Arrays) -> tuple[Arrays, int] | None:
    """The arrays as the library takes them, and its param_repeat, where nothing is to be laid out, as in most calls.

    That is, no array is empty or has gaps, and the parameters are stored as the library wants them.
    """
    begin, end = axes
    shape = next(array for name, array in arrays.items() if name in _TENSORS).shape
    outer, norm, inner = math.prod(shape[:begin]), math.prod(shape[begin:end]), math.prod(shape[end:])
    stored, repeat = None, 0
    operands: Arrays = {}
    for name, array in arrays.items():
        if not array.flags.c_contiguous or array.size == 0:
            return None
        if name in _TENSORS or name == "residual":
            if array.shape != shape:
                return None
            operands[name] = array.reshape(outer, norm, inner)
        elif name in PARAMETERS:
            if stored is None:
                stored = array.shape[:begin]
                expected, repeat = repetition(shape[:begin], [n != 1 for n in stored])
                if stored != expected:
                    return None
            if array.shape[:begin] != stored or any(n != 1 for n in array.shape[end:]):
                return None
            operands[name] = array.reshape(math.prod(stored), math.prod(array.shape[begin:]))
        elif name in _STATISTICS and array.ndim >= len(shape):
            operands[name] = array.reshape(outer * inner, *array.shape[len(shape) :])
        else:
            operands[name] = array.reshape(-1)
    return operands, repeat


def _bits(array: Array) -> Array:
    """The array, or, of a type that has no buffer protocol, its bits."""
    return array.view(np.uint16) if arguments.type_name(array.dtype) == "bfloat16" else array


def _trailing(residual: Array, outer: Shape) -> Array:
    """The residual as the library uses it again and again: in full from the first axis on along which it varies."""
    first = next((i for i in range(len(outer)) if residual.shape[i] != 1), len(outer))
    shape = (1,) * first + outer[first:] + residual.shape[len(outer) :]
    return residual if residual.shape == shape else np.ascontiguousarray(np.broadcast_to(residual, shape))


def _call(call: str, settings: Settings, part: Arrays, constants: Arrays, layout: Layout) -> None:
    """The same of arrays through whose outer axes one stride leads."""
    outputs = _OUTPUTS[call]
    outer = next(array for name, array in part.items() if name in _TENSORS).shape[:-2]
    k, rows = len(outer), math.prod(outer)
    parameters = {name: array for name, array in part.items() if name in PARAMETERS}
    stored, repeat = repetition(outer, [any(p.shape[i] != 1 for p in parameters.values()) for i in range(k)])
    full = {name: _repeated(array, stored, name in outputs) for name, array in parameters.items()}
    operands = dict(constants)
    for name, array in part.items():
        if name in _TENSORS:
            operands[name] = array.reshape(rows, *array.shape[k:])
        elif name == "residual":
            operands[name] = array.reshape(math.prod(array.shape[:k]), *array.shape[k:])
        elif name in _STATISTICS:
            operands[name] = array.reshape(rows * layout.inner_size, *array.shape[k + 1 :])
        elif full[name].size:
            operands[name] = full[name].reshape(math.prod(stored), array.shape[k])
    more = (*settings, repeat if operands.keys() & PARAMETERS else 0)
    if not _core.run(call, more, operands, outputs):
        # An output's elements lie between those of another array, which the library does not see.
        copies = {name: array.copy() for name, array in operands.items() if name in outputs}
        _core.run(call, more, operands | copies, outputs)
        for name, array in copies.items():
            operands[name][...] = array
    for name, array in parameters.items():
        if full[name] is not array and name in outputs:
            axes = tuple(i for i in range(k) if array.shape[i] != stored[i])
            total = full[name].sum(axes, dtype=np.float64, keepdims=True)
            array[...] = array + total if settings.flags & ACCUMULATE else total


def _repeated(parameter: Array, stored: Shape, is_sum: bool) -> Array:
    """A parameter of the shape, but for its elements, in which all are stored; for one that is summed, zeros."""
    shape = (*stored, parameter.shape[-1])
    if parameter.shape == shape:
        return parameter
    return np.zeros(shape, parameter.dtype) if is_sum else np.ascontiguousarray(np.broadcast_to(parameter, shape))

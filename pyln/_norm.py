"""What the functions share: an input, its axes and parameters; places for gradients; the call of the library.

Arrays go by the C library's names: x, y, gamma, beta, total; dx, dy, dgamma, dbeta, dtotal are their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape
from pyln._layout import Arrays, Layout, pieces, repetition

# The C library's operations and flags.
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
_PARAMETERS = frozenset({"gamma", "beta", "dgamma", "dbeta"})
_STATISTICS = frozenset({"mean", "rstd", "moments", "grad_moments", "scale", "zero_point"})

# Arguments of the functions, by what the library calls them; other names are the same.
_LIBRARY_NAMES = {"grad_out": "dy", "grad_total": "dtotal", "input": "x", "weight": "gamma", "bias": "beta"}
_TENSOR_ARGUMENTS = frozenset({"grad_out", "grad_total", "input", "total", "y"})

Read = dict[str, Array | None]


class Norm:
    """An array, the axes over which it is normalized, and its weight and bias, which have been looked at."""

    def __init__(
        self, operation: int, x: Array, axes: tuple[int, int], weight: Array | None = None, bias: Array | None = None
    ) -> None:
        begin, end = axes
        self.operation = operation
        self.x = x
        self.axes = axes
        self.weight = weight
        self.bias = bias
        self.norm_shape: Shape = x.shape[begin:end]
        self.stat_shape: Shape = tuple(1 if begin <= i < end else n for i, n in enumerate(x.shape))
        self.real = arguments.arithmetic_type(x.dtype)

    @property
    def function(self) -> str:
        """The name of the function that gives statistics like these."""
        return "layer_norm" if self.operation == LAYER else "rms_norm"

    def statistic(self, *rest: int) -> Array:
        """Return an array for one number for each row, or several."""
        return np.empty((*self.stat_shape, *rest), self.real)

    def parameter_shapes(self) -> tuple[Shape, Shape]:
        """Return those of weight and bias; one that is absent has the other's."""
        shapes = [None if p is None else p.shape for p in (self.weight, self.bias)]
        return shapes[0] or shapes[1] or self.norm_shape, shapes[1] or shapes[0] or self.norm_shape

    def _spread(self, parameter: Array) -> Array:
        begin, end = self.axes
        if parameter.ndim == self.x.ndim:
            return parameter
        return parameter.reshape((1,) * begin + parameter.shape + (1,) * (self.x.ndim - end))

    def run(self, call: str, eps: float = 0.0, flags: int = 0, **operands: Array | None) -> None:
        """Call lnorm_CALL on as many parts of the operands, by the library's names, as their strides need."""
        given = {name: array for name, array in operands.items() if array is not None}
        y = given["dy"] if "dy" in given else given.get("y", self.x)
        kinds = [given[name] for name in ("gamma", "beta", "input_bias") if name in given]
        code = arguments.type_code
        types = code(self.x.dtype), code(y.dtype), code(kinds[0].dtype if kinds else self.x.dtype)
        settings = (self.operation, *types, flags, eps)
        arrays = {name: _bits(self._spread(a) if name in _PARAMETERS else a) for name, a in given.items()}
        _run(call, settings, self.axes, arrays)


def _bits(array: Array) -> Array:
    """The array, or, of a type that has no buffer protocol, its bits."""
    return array.view(np.uint16) if arguments.type_name(array.dtype) == "bfloat16" else array


Settings = tuple[int, int, int, int, int, float]


def _run(call: str, settings: Settings, axes: tuple[int, int], arrays: Arrays) -> None:
    begin, end = axes
    outputs = _OUTPUTS[call]
    whole = outputs is _GRADIENTS  # the sums over all rows are one call
    tensors = [name for name in arrays if name in _TENSORS]
    shape = arrays[tensors[0]].shape
    parameters = [arrays[name] for name in arrays if name in _PARAMETERS]
    has_runs = any(p.shape[begin:end] != shape[begin:end] for p in parameters)
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
        elif name in _PARAMETERS:
            seen[name] = layout.parameter(array)
        elif name == "residual":
            seen[name] = _trailing(layout.tensor(array), layout.outer_shape)
        elif name in _STATISTICS and array.ndim >= len(shape):
            seen[name] = layout.statistic(array)
        else:
            constants[name] = np.ascontiguousarray(array).reshape(-1)
    if "dtotal" in seen and seen["dtotal"].strides != seen["total"].strides:  # the library knows one stride for both
        seen |= {name: np.ascontiguousarray(seen[name]) for name in ("total", "dtotal")}
    if layout.norm == 0 and not settings[4] & ACCUMULATE:  # sums of nothing
        for name in seen.keys() & {"dgamma", "dbeta"}:
            seen[name][...] = 0
    stepping = [*tensors, "residual"] if "residual" in seen else tensors
    for part in pieces(seen, stepping, len(layout.outer)):
        _call(call, settings, part, constants, layout)
    for name in outputs & seen.keys():
        layout.write_back(seen[name], arrays[name])


def _trailing(residual: Array, outer: Shape) -> Array:
    """The residual as the library uses it again and again: in full from the first axis on along which it varies."""
    first = next((i for i in range(len(outer)) if residual.shape[i] != 1), len(outer))
    shape = (1,) * first + outer[first:] + residual.shape[len(outer) :]
    return residual if residual.shape == shape else np.ascontiguousarray(np.broadcast_to(residual, shape))


def _call(call: str, settings: Settings, part: Arrays, constants: Arrays, layout: Layout) -> None:
    outputs = _OUTPUTS[call]
    outer = next(a for name, a in part.items() if name in _TENSORS).shape[:-2]
    rows = math.prod(outer)
    parameters = {name: a for name, a in part.items() if name in _PARAMETERS}
    stored, repeat = repetition(outer, [any(p.shape[i] != 1 for p in parameters.values()) for i in range(len(outer))])
    operands, sums = dict(constants), []
    for name, array in part.items():
        if name in _TENSORS:
            operands[name] = array.reshape(rows, *array.shape[-2:])
        elif name == "residual":
            operands[name] = array.reshape(math.prod(array.shape[:-2]), *array.shape[-2:])
        elif name in _STATISTICS:
            operands[name] = array.reshape(rows * layout.inner_size, *array.shape[len(outer) + 1 :])
        else:
            full = array
            if array.shape[:-1] != stored and name in outputs:
                full = np.zeros((*stored, array.shape[-1]), array.dtype)
                sums.append((array, full))
            elif array.shape[:-1] != stored:
                full = np.ascontiguousarray(np.broadcast_to(array, (*stored, array.shape[-1])))
            if full.size:
                operands[name] = full.reshape(math.prod(stored), full.shape[-1])
    if not _core.run(call, (*settings, repeat), operands, outputs):
        # Elements that lie between those of another array: the library takes them for shared.
        copies = {name: a.copy() for name, a in operands.items() if name in outputs}
        _core.run(call, (*settings, repeat), operands | copies, outputs)
        for name, a in copies.items():
            operands[name][...] = a
    for array, full in sums:
        axes = tuple(i for i in range(len(outer)) if array.shape[i] != stored[i])
        total = full.sum(axes, dtype=np.float64, keepdims=True)
        array[...] = array + total if settings[4] & ACCUMULATE else total


# ---- Checks ----


def look_at(
    operation: int,
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = None,
    bias: object = None,
    axis: int | Sequence[int] | None = None,
    name: str = "input",
    shared: bool = False,
) -> Norm:
    """Return what is to be done with an input, which goes by the given name in errors; shared is as in parameter."""
    x = arguments.tensor(name, input)
    axes = arguments.normalized_axes(x, normalized_shape, axis)
    gamma = arguments.parameter("weight", weight, x, axes, shared)
    beta = arguments.parameter("bias", bias, x, axes, shared)
    arguments.same_type(weight=gamma, bias=beta)
    return Norm(operation, x, axes, gamma, beta)


def new_statistics(norm: Norm, wanted: bool) -> tuple[Array | None, Array | None]:
    """Return places for mean and rstd."""
    mean = norm.statistic() if wanted and norm.operation == LAYER else None
    return mean, norm.statistic() if wanted else None


def saved_statistics(norm: Norm, mean: object, rstd: object) -> Read:
    """Return mean, where the operation has one, and rstd, as forward gave them."""
    given = {"mean": mean, "rstd": rstd} if norm.operation == LAYER else {"rstd": rstd}
    return {name: arguments.statistic(name, a, norm.x, norm.stat_shape, norm.function) for name, a in given.items()}


def flags(zero_centered: bool = False, round_steps: bool = False, accumulate: bool = False) -> int:
    """Return the C library's flags."""
    return (
        (GAMMA_PLUS_ONE if zero_centered else 0)
        | (ROUND_STEPS if round_steps else 0)
        | (ACCUMULATE if accumulate else 0)
    )


def backward(
    call: str,
    norm: Norm,
    read: Read,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int = 0,
    eps: float = 0.0,
    names: Sequence[str] | None = None,
) -> list[Array | None]:
    """Return the gradients of the named arguments, from the arguments that the call reads."""
    if names is None:
        names = ("input", "weight", "bias") if norm.operation == LAYER else ("input", "weight")
    grads = gradients(names, (norm.x.shape, *norm.parameter_shapes()), norm.x, output_mask, out, flags, read)
    dx, dgamma, dbeta = (*grads, None)[:3]
    operands = {_LIBRARY_NAMES.get(name, name): array for name, array in read.items()}
    norm.run(call, eps, flags, **operands, dx=dx, dgamma=dgamma, dbeta=dbeta)
    return grads


def gradients(
    names: Sequence[str],
    shapes: Sequence[Shape],
    x: Array,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int,
    read: Read,
) -> list[Array | None]:
    """Return places, new or from out, for the gradients of the named arguments, of which x is the first.

    They must not overlap what is read; but the first may be one of the tensors there.
    """
    wanted = each("output_mask", output_mask, names)
    given = each("out", [None] * len(names) if out is None else out, names)
    grads: list[Array | None] = [None] * len(names)
    for i, name in enumerate(names):
        place = f"out (grad_{name})"
        if not wanted[i]:
            if given[i] is not None:
                raise ValueError(f"{place}: given, but output_mask says that it is not wanted")
        elif i == 0:
            grads[i] = arguments.output(place, given[i], x.shape, x.dtype, like=x)
        elif flags & ACCUMULATE and given[i] is None:
            raise ValueError(f"{place}: accumulate adds to what it holds, but it is not given")
        else:
            grads[i] = arguments.output(place, given[i], shapes[i], arguments.arithmetic_type(x.dtype))
    arguments.distinct(
        {f"out (grad_{name})": grad for name, grad, o in zip(names, grads, given, strict=True) if o is not None},
        read,
        in_place=[name for name in _TENSOR_ARGUMENTS & read.keys() if (a := read[name]) is None or a.dtype == x.dtype],
    )
    return grads


def each(name: str, values: Any, of: Sequence[str]) -> list[Any]:
    """One value for each of the named arguments."""
    try:
        result = list(values)
    except TypeError:
        result = []
    if len(result) != len(of):
        count = {2: "two", 3: "three"}[len(of)]
        raise TypeError(f"{name}: expected {count}, for {', '.join(of[:-1])} and {of[-1]}, got {values!r}")
    return result

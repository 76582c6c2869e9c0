"""What the functions share: an input with its axes and parameters, places for gradients, the checks of all these."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln._arguments import Array, Shape
from pyln._call import ACCUMULATE, GAMMA_PLUS_ONE, LAYER, PARAMETERS, ROUND_STEPS, Settings, run

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
        given = {name: np.asarray(array) for name, array in operands.items() if array is not None}
        y = given["dy"] if "dy" in given else given.get("y", self.x)
        kinds = [given[name] for name in ("gamma", "beta", "input_bias") if name in given]
        code = arguments.type_code
        types = code(self.x.dtype), code(y.dtype), code(kinds[0].dtype if kinds else self.x.dtype)
        settings = Settings(self.operation, *types, flags, eps)
        arrays = {name: self._spread(a) if name in PARAMETERS else a for name, a in given.items()}
        run(call, settings, self.axes, arrays)


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
    wanted = [arguments.truth("output_mask", value) for value in each("output_mask", output_mask, names)]
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
    own = [name for name, o in zip(names, given, strict=True) if o is not None]
    arguments.distinct(
        {f"out (grad_{name})": g for name, g in zip(names, grads, strict=True) if name in own and g is not None},
        read,
        in_place=[name for name in _TENSOR_ARGUMENTS & read.keys() if (a := read[name]) is None or a.dtype == x.dtype],
    )
    return grads


def each(name: str, values: Any, of: Sequence[str]) -> list[Any]:
    """One value for each of the named arguments."""
    try:
        result = list(islice(values, len(of) + 1))
    except Exception:
        result = []
    if len(result) != len(of):
        count = {2: "two", 3: "three"}[len(of)]
        raise TypeError(
            f"{name}: expected {count}, for {', '.join(of[:-1])} and {of[-1]}, got {arguments.shown(values)}"
        )
    return result

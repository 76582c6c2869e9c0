"""Layer and RMS normalization, forward and backward, as functions of NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape

# The C library's operations.
LAYER, RMS = 0, 1

_plain_layer_norm = _core.layer_norm
_plain_rms_norm = _core.rms_norm
_plain_layer_norm_backward = _core.layer_norm_backward


class _Layout:
    """An input seen as rows: leading axes count rows, the normalized ones are moved behind them."""

    def __init__(self, input: Array, axes: tuple[int, int]) -> None:
        begin, end = axes
        self.begin = begin
        self.k = end - begin
        self.shape = input.shape
        self.norm_shape: Shape = input.shape[begin:end]
        self.cols = math.prod(self.norm_shape)
        self.stat_shape: Shape = tuple(1 if begin <= i < end else n for i, n in enumerate(input.shape))
        self.is_last = end == input.ndim
        self.lead = input.shape[:begin] + input.shape[end:]

    def rows(self, array: Array) -> Array:
        """The array with the normalized axes last and as one: a view if strides allow, else a copy."""
        if not self.is_last:
            array = np.moveaxis(array, range(self.begin, self.begin + self.k), range(-self.k, 0))
        flat = array.reshape(*self.lead, self.cols)
        gapless = flat.shape[-1] <= 1 or flat.strides[-1] == flat.itemsize
        return flat if gapless and not any(s % flat.itemsize for s in flat.strides) else np.ascontiguousarray(flat)

    def write_back(self, rows: Array, out: Array) -> None:
        """Copy what was computed in a copy of out's rows back into it."""
        if not np.may_share_memory(rows, out) and rows.size:
            shaped = rows.reshape(*self.lead, *self.norm_shape)
            out[...] = np.moveaxis(shaped, range(-self.k, 0), range(self.begin, self.begin + self.k))


def _as_matrix(rows: Array) -> Array | None:
    """Rows as a two-dimensional view, or None where no single stride leads from row to row."""
    step = None
    for size, stride in zip(reversed(rows.shape[:-1]), reversed(rows.strides[:-1]), strict=True):
        if size != 1 and rows.size:
            if step is not None and stride != step:
                return None
            step = stride * size
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1])


def _matrices(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Cut arrays of rows along their first axes until one stride leads from row to row in each of them."""
    matrices = [_as_matrix(a) for a in arrays]
    if all(m is not None for m in matrices):
        yield tuple(m for m in matrices if m is not None)
        return
    for parts in zip(*arrays, strict=True):
        yield from _matrices(*parts)


@overload
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
) -> Array: ...
@overload
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
) -> tuple[Array, Array, Array]: ...
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalize each example over its last axes: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    As ``torch.nn.functional.layer_norm``. mean and var (biased: divided by n) are those of one example's normalized
    elements; weight and bias have one value per normalized element, the same for every example.
    (Ba, Kiros, Hinton: Layer Normalization, 2016.)

    Parameters
    ----------
    input
        Array of shape ``(*, *normalized_shape)``, of float32, float64, float16 or bfloat16 (of the package ml_dtypes),
        or anything with ``__array__``, ``__dlpack__`` or the buffer protocol. Rows may have any stride, negative or 0
        too; where the normalized elements themselves are not contiguous, input is copied first. 16-bit elements are
        computed with in float32.
    normalized_shape
        The sizes of the last axes, over which to normalize: an int or a sequence of ints. None if `axis` is given.
    weight, bias
        Arrays of shape `normalized_shape`, or None for 1 and 0; of input's type, or float32 for a 16-bit input.
    eps
        Added to the variance, inside the root; finite, not negative. Rounded to the type that is computed in.
    axis
        Instead of `normalized_shape`: an axis or consecutive axes of input. weight and bias then have the shape of
        those. Where they are not the last ones, input is copied with these axes moved to the end.
    out
        Array to write y into, of input's shape; may be input itself.
    dtype
        Element type of y, by default out's or input's. float64 goes with float64; the other three go with each other.
    return_stats
        Return mean and rstd too, as ``layer_norm_backward`` wants them.

    Returns
    -------
    y, or (y, mean, rstd)
        y as input; mean and ``rstd = 1 / sqrt(var + eps)`` with input's shape, but 1 for the normalized axes. rstd is 0
        where var + eps is 0; y is the bias there. The statistics of no elements are NaN. Those of 16-bit inputs are
        float32.

    Raises
    ------
    TypeError
        Element types that are not known, do not go together, or are not in this machine's byte order.
    ValueError
        Shapes that do not fit, axes that are out of range or not consecutive, eps negative or NaN, an out that is
        read-only or overlaps another argument in part. Nothing has been written then.

    """
    if axis is None and dtype is None:
        result = _plain_layer_norm(input, normalized_shape, weight, bias, eps, out, return_stats)
        if result is not None:
            return result
    y, mean, rstd = _forward(LAYER, input, normalized_shape, weight, bias, eps, axis, out, dtype, return_stats)
    if mean is None or rstd is None:
        return y
    return y, mean, rstd


def _forward(
    operation: int,
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object,
    bias: object,
    eps: float | None,
    axis: int | Sequence[int] | None,
    out: Array | None,
    dtype: Any,
    return_stats: bool,
) -> tuple[Array, Array | None, Array | None]:
    x = arguments.tensor("input", input)
    layout = _Layout(x, arguments.normalized_axes(x, normalized_shape, axis))
    gamma = arguments.parameter("weight", weight, x, layout.norm_shape)
    beta = arguments.parameter("bias", bias, x, layout.norm_shape)
    if gamma is not None and beta is not None and gamma.dtype != beta.dtype:
        raise TypeError(f"bias: expected {gamma.dtype} as weight has, got {beta.dtype}")
    eps = arguments.epsilon(_machine_epsilon(x) if eps is None and operation == RMS else eps, x.dtype)
    names = arguments.companions(x.dtype)
    y_type = x.dtype if dtype is None else arguments.element_type("dtype", dtype)
    if arguments.type_name(y_type) not in names:
        raise TypeError(f"dtype: expected {' or '.join(names)} for an input of {x.dtype}, got {y_type}")
    y = arguments.output("out", out, x.shape, y_type, names if dtype is None else None)
    if out is not None:
        in_place = ("input",) if x.dtype == y.dtype else ()
        arguments.distinct({"out": y}, {"input": x, "weight": gamma, "bias": beta}, in_place)
    statistics = arguments.arithmetic_type(x.dtype)
    mean = np.empty(layout.stat_shape, statistics) if return_stats and operation == LAYER else None
    rstd = np.empty(layout.stat_shape, statistics) if return_stats else None

    x_rows, y_rows = layout.rows(x), layout.rows(y)
    types = _types(x, y, gamma if gamma is not None else beta)
    first = 0
    for x_part, y_part in _matrices(x_rows, y_rows):
        end = first + x_part.shape[0]
        _core.forward(
            (operation, *types),
            _bits(x_part),
            _flat(gamma),
            _flat(beta),
            eps,
            _bits(y_part),
            _part(mean, first, end),
            _part(rstd, first, end),
        )
        first = end
    layout.write_back(y_rows, y)
    return y, mean, rstd


def _machine_epsilon(x: Array) -> float:
    return 2.0**-7 if arguments.type_name(x.dtype) == "bfloat16" else float(np.finfo(x.dtype).eps)


def _types(x: Array, y: Array, parameter: Array | None) -> tuple[int, int, int]:
    code = arguments.type_code
    return code(x.dtype), code(y.dtype), code(x.dtype if parameter is None else parameter.dtype)


def _bits(array: Array) -> Array:
    """The array, or, of a type that has no buffer protocol, its bits."""
    return array.view(np.uint16) if arguments.type_name(array.dtype) == "bfloat16" else array


def _flat(array: Array | None) -> Array | None:
    return None if array is None else _bits(array.reshape(-1))


def _part(statistic: Array | None, first: int, end: int) -> Array | None:
    return None if statistic is None else statistic.reshape(-1)[first:end]


def layer_norm_backward(
    grad_out: object,
    input: object,
    normalized_shape: int | Sequence[int] | None,
    mean: object,
    rstd: object,
    weight: object = None,
    bias: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    axis: int | Sequence[int] | None = None,
    out: Sequence[Array | None] | None = None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of layer_norm, in the argument order of torch's ``native_layer_norm_backward``.

    With ``xhat = (input - mean) * rstd`` and ``g = grad_out * weight``, means taken over one example's elements::

        grad_input  = rstd * (g - mean(g) - xhat * mean(g * xhat))
        grad_weight = sum over examples of grad_out * xhat
        grad_bias   = sum over examples of grad_out

    Parameters
    ----------
    grad_out
        Gradient arriving at y, of input's shape; of a type that y may have.
    input, normalized_shape, weight, axis
        As given to ``layer_norm``.
    mean, rstd
        As ``layer_norm(..., return_stats=True)`` returned them.
    bias
        Not needed; its shape and type are checked if it is given.
    output_mask
        Which of the three gradients are wanted.
    out
        Arrays to write the gradients into, or None for a new one each; grad_input may be grad_out or input itself.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        None where masked. grad_weight and grad_bias have normalized_shape and do not depend on the number of threads;
        they are float32 for 16-bit inputs.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for statistics of another shape than ``layer_norm`` returned.

    """
    if axis is None:
        result = _plain_layer_norm_backward(
            grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask, out
        )
        if result is not None:
            return result
    names = ("input", "weight", "bias")
    grads = _backward(LAYER, names, grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask, axis, out)
    return grads[0], grads[1], grads[2]


def _backward(
    operation: int,
    names: tuple[str, ...],
    grad_out: object,
    input: object,
    normalized_shape: int | Sequence[int] | None,
    mean: object,
    rstd: object,
    weight: object,
    bias: object,
    output_mask: Sequence[bool],
    axis: int | Sequence[int] | None,
    out: Sequence[Array | None] | None,
) -> list[Array | None]:
    """The gradients of the named arguments."""
    x = arguments.tensor("input", input)
    layout = _Layout(x, arguments.normalized_axes(x, normalized_shape, axis))
    dy = arguments.tensor("grad_out", grad_out, arguments.companions(x.dtype))
    arguments.same_shape("grad_out", dy, x.shape, "input")
    function = "layer_norm" if operation == LAYER else "rms_norm"
    means = arguments.statistic("mean", mean, x, layout.stat_shape, function) if operation == LAYER else None
    rstds = arguments.statistic("rstd", rstd, x, layout.stat_shape, function)
    gamma = arguments.parameter("weight", weight, x, layout.norm_shape)
    arguments.parameter("bias", bias, x, layout.norm_shape)
    wanted = _each("output_mask", output_mask, names)
    given = _each("out", [None] * len(names) if out is None else out, names)
    sums_type = arguments.arithmetic_type(x.dtype)
    grads: list[Array | None] = [None] * len(names)
    for i, name in enumerate(names):
        if wanted[i]:
            shape, dtype = (x.shape, x.dtype) if i == 0 else (layout.norm_shape, sums_type)
            grads[i] = arguments.output(f"out (grad_{name})", given[i], shape, dtype)
        elif given[i] is not None:
            raise ValueError(f"out (grad_{name}): given, but output_mask says that it is not wanted")
    arguments.distinct(
        {f"out (grad_{name})": grad for name, grad, o in zip(names, grads, given, strict=True) if o is not None},
        {"grad_out": dy, "input": x, "mean": means, "rstd": rstds, "weight": gamma},
        in_place=[name for name, a in (("grad_out", dy), ("input", x)) if a.dtype == x.dtype],
    )

    grad_x = grads[0]
    sums = [None if g is None else g if g.flags.c_contiguous else np.empty(g.shape, g.dtype) for g in grads[1:]]
    dx_rows = None if grad_x is None else layout.rows(grad_x)
    dx = None if dx_rows is None else _one_matrix(dx_rows)
    _core.backward(
        (operation, *_types(x, dy, gamma)),
        _bits(_one_matrix(layout.rows(dy))),
        _bits(_one_matrix(layout.rows(x))),
        None if means is None else means.reshape(-1),
        rstds.reshape(-1),
        _flat(gamma),
        None if dx is None else _bits(dx),
        _flat(sums[0]),
        _flat(sums[1]) if len(sums) > 1 else None,
    )
    if grad_x is not None and dx is not None:
        layout.write_back(dx, grad_x)
    for grad, total in zip(grads[1:], sums, strict=True):
        if grad is not None and grad is not total:
            grad[...] = total
    return grads


def _each(name: str, values: Any, arguments_of: tuple[str, ...]) -> list[Any]:
    """One value for each of the named arguments."""
    listed = f"{', '.join(arguments_of[:-1])} and {arguments_of[-1]}"
    try:
        result = list(values)
    except TypeError:
        result = []
    if len(result) != len(arguments_of):
        count = {2: "two", 3: "three"}[len(arguments_of)]
        raise TypeError(f"{name}: expected {count}, for {listed}, got {values!r}")
    return result


def _one_matrix(rows: Array) -> Array:
    """Rows behind one stride; a copy where they have more, since the sums over rows are one call."""
    matrix = _as_matrix(rows)
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]) if matrix is None else matrix


@overload
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
) -> Array: ...
@overload
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
) -> tuple[Array, Array]: ...
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None,
    weight: object = None,
    eps: float | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
) -> Array | tuple[Array, Array]:
    """Divide each example by its root mean square: ``x / sqrt(mean(x * x) + eps) * weight``.

    As ``torch.nn.functional.rms_norm``. Nothing is subtracted and there is no bias; where an example's mean is 0 the
    result is that of ``layer_norm``. (Zhang, Sennrich: Root Mean Square Layer Normalization, 2019.)

    Parameters
    ----------
    input, normalized_shape, weight, axis, out, dtype
        As in ``layer_norm``.
    eps
        Added to the mean of the squares, inside the root. None is the machine epsilon of input's type, as in PyTorch:
        2^-23 for float32, 2^-52 for float64, 2^-10 for float16, 2^-7 for bfloat16.
    return_stats
        Return rstd too, as ``rms_norm_backward`` wants it.

    Returns
    -------
    y, or (y, rstd)
        y as input; ``rstd = 1 / sqrt(mean(x * x) + eps)`` with input's shape, but 1 for the normalized axes.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    if axis is None and dtype is None:
        result = _plain_rms_norm(input, normalized_shape, weight, eps, out, return_stats)
        if result is not None:
            return result
    y, _, rstd = _forward(RMS, input, normalized_shape, weight, None, eps, axis, out, dtype, return_stats)
    return y if rstd is None else (y, rstd)


def rms_norm_backward(
    grad_out: object,
    input: object,
    normalized_shape: int | Sequence[int] | None,
    rstd: object,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True),
    *,
    axis: int | Sequence[int] | None = None,
    out: Sequence[Array | None] | None = None,
) -> tuple[Array | None, Array | None]:
    """Gradients of rms_norm.

    With ``xhat = input * rstd`` and ``g = grad_out * weight``, means taken over one example's elements::

        grad_input  = rstd * (g - xhat * mean(g * xhat))
        grad_weight = sum over examples of grad_out * xhat

    Parameters
    ----------
    grad_out, input, normalized_shape, weight, axis, output_mask, out
        As in ``layer_norm_backward``, without the bias.
    rstd
        As ``rms_norm(..., return_stats=True)`` returned it.

    Returns
    -------
    (grad_input, grad_weight)
        None where masked. grad_weight has normalized_shape; it is float32 for 16-bit inputs.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    names = ("input", "weight")
    grads = _backward(RMS, names, grad_out, input, normalized_shape, None, rstd, weight, None, output_mask, axis, out)
    return grads[0], grads[1]

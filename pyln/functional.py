"""Layer normalization, forward and backward, as functions of NumPy arrays."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, overload

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape

_plain_layer_norm = _core.layer_norm
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
    return_stats: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalize each example over its last axes: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    As ``torch.nn.functional.layer_norm``. mean and var (biased: divided by n) are those of one example's normalized
    elements; weight and bias have one value per normalized element, the same for every example.
    (Ba, Kiros, Hinton: Layer Normalization, 2016.)

    Parameters
    ----------
    input
        Array of shape ``(*, *normalized_shape)``, float32 or float64. Rows may have any stride, negative or 0 too;
        where the normalized elements themselves are not contiguous, input is copied first.
    normalized_shape
        The sizes of the last axes, over which to normalize: an int or a sequence of ints. None if `axis` is given.
    weight, bias
        Arrays of shape `normalized_shape` and of input's type, or None for 1 and 0.
    eps
        Added to the variance, inside the root; finite, not negative. Rounded to input's type.
    axis
        Instead of `normalized_shape`: an axis or consecutive axes of input. weight and bias then have the shape of
        those. Where they are not the last ones, input is copied with these axes moved to the end.
    out
        Array to write y into, of input's shape and type; may be input itself.
    return_stats
        Return mean and rstd too, as ``layer_norm_backward`` wants them.

    Returns
    -------
    y, or (y, mean, rstd)
        y as input; mean and ``rstd = 1 / sqrt(var + eps)`` with input's shape, but 1 for the normalized axes. rstd is 0
        where var + eps is 0; y is the bias there. The statistics of no elements are NaN.

    Raises
    ------
    TypeError
        Element types that are not float32 or float64, that differ, or that are not in this machine's byte order.
    ValueError
        Shapes that do not fit, axes that are out of range or not consecutive, eps negative or NaN, an out that is
        read-only or overlaps another argument in part. Nothing has been written then.

    """
    if axis is None:
        result = _plain_layer_norm(input, normalized_shape, weight, bias, eps, out, return_stats)
        if result is not None:
            return result
    x = arguments.tensor("input", input)
    layout = _Layout(x, arguments.normalized_axes(x, normalized_shape, axis))
    gamma = arguments.parameter("weight", weight, x, layout.norm_shape)
    beta = arguments.parameter("bias", bias, x, layout.norm_shape)
    eps = arguments.epsilon(eps, x.dtype)
    y = arguments.output("out", out, x.shape, x.dtype)
    if out is not None:
        arguments.distinct({"out": y}, {"input": x, "weight": gamma, "bias": beta}, in_place=("input",))
    mean = np.empty(layout.stat_shape, x.dtype) if return_stats else None
    rstd = np.empty(layout.stat_shape, x.dtype) if return_stats else None

    x_rows, y_rows = layout.rows(x), layout.rows(y)
    gamma, beta = _flat(gamma), _flat(beta)
    first = 0
    for x_part, y_part in _matrices(x_rows, y_rows):
        end = first + x_part.shape[0]
        _core.forward(x_part, gamma, beta, eps, y_part, _part(mean, first, end), _part(rstd, first, end))
        first = end
    layout.write_back(y_rows, y)
    if mean is None or rstd is None:
        return y
    return y, mean, rstd


def _flat(array: Array | None) -> Array | None:
    return None if array is None else array.reshape(-1)


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
        Gradient arriving at y, of input's shape and type.
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
        None where masked. grad_weight and grad_bias have normalized_shape and do not depend on the number of threads.

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
    x = arguments.tensor("input", input)
    layout = _Layout(x, arguments.normalized_axes(x, normalized_shape, axis))
    dy = arguments.tensor("grad_out", grad_out, x.dtype)
    arguments.same_shape("grad_out", dy, x.shape, "input")
    means = arguments.statistic("mean", mean, x, layout.stat_shape)
    rstds = arguments.statistic("rstd", rstd, x, layout.stat_shape)
    gamma = arguments.parameter("weight", weight, x, layout.norm_shape)
    arguments.parameter("bias", bias, x, layout.norm_shape)
    wanted, given = _three("output_mask", output_mask), _three("out", (None, None, None) if out is None else out)
    shapes = (x.shape, layout.norm_shape, layout.norm_shape)
    names = ("grad_input", "grad_weight", "grad_bias")
    grads: list[Array | None] = [None, None, None]
    for i, name in enumerate(names):
        if wanted[i]:
            grads[i] = arguments.output(f"out ({name})", given[i], shapes[i], x.dtype)
        elif given[i] is not None:
            raise ValueError(f"out ({name}): given, but output_mask says that it is not wanted")
    arguments.distinct(
        {f"out ({name})": grad for name, grad, o in zip(names, grads, given, strict=True) if o is not None},
        {"grad_out": dy, "input": x, "mean": means, "rstd": rstds, "weight": gamma},
        in_place=("grad_out", "input"),
    )

    grad_x, grad_weight, grad_bias = grads
    sums = [None if g is None else g if g.flags.c_contiguous else np.empty(g.shape, g.dtype) for g in grads[1:]]
    dx_rows = None if grad_x is None else layout.rows(grad_x)
    dx = None if dx_rows is None else _one_matrix(dx_rows)
    _core.backward(
        _one_matrix(layout.rows(dy)),
        _one_matrix(layout.rows(x)),
        means.reshape(-1),
        rstds.reshape(-1),
        _flat(gamma),
        dx,
        _flat(sums[0]),
        _flat(sums[1]),
    )
    if grad_x is not None and dx is not None:
        layout.write_back(dx, grad_x)
    for grad, total in zip(grads[1:], sums, strict=True):
        if grad is not None and grad is not total:
            grad[...] = total
    return grad_x, grad_weight, grad_bias


def _three(name: str, values: Any) -> tuple[Any, Any, Any]:
    try:
        first, second, third = values
    except (TypeError, ValueError):
        raise TypeError(f"{name}: expected three, for input, weight and bias, got {values!r}") from None
    return first, second, third


def _one_matrix(rows: Array) -> Array:
    """Rows behind one stride; a copy where they have more, since the sums over rows are one call."""
    matrix = _as_matrix(rows)
    return rows.reshape(math.prod(rows.shape[:-1]), rows.shape[-1]) if matrix is None else matrix

"""The sum with a residual and its normalization in one pass, forward and backward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln._call import LAYER, RMS
from pyln._norm import Norm, backward, each, flags, look_at, new_statistics, saved_statistics

Out = tuple[Array | None, Array | None]


@overload
def add_layer_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    input_bias: object = ...,
    out: Out | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array]: ...
@overload
def add_layer_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    input_bias: object = ...,
    out: Out | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array, Array, Array]: ...
def add_layer_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    input_bias: object = None,
    out: Out | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> tuple[Array, Array] | tuple[Array, Array, Array, Array]:
    """Add a residual and normalize the sum: ``total = input + input_bias + residual``, ``y = layer_norm(total, ...)``.

    The sum is made from left to right in the type that is computed in, and rounded to input's type: y is, bit for bit,
    ``layer_norm`` of total.

    Parameters
    ----------
    input
        As in ``layer_norm``; copied where its elements are not contiguous.
    residual
        Array of input's type and shape, or with leading axes that are 1 or missing, along which it is repeated.
    normalized_shape, weight, bias, eps, dtype, zero_centered, round_steps
        As in ``layer_norm``.
    input_bias
        Array of shape normalized_shape, of the type of weight and bias, or None: the bias of the layer before.
    out
        Pair of arrays for y and total, or None for a new one each. total may be input, or a residual of its shape; y
        may be the other one, or one of them where total is neither.
    return_stats
        Return mean and rstd too, as ``add_layer_norm_backward`` wants them.

    Returns
    -------
    (y, total), or (y, total, mean, rstd)
        total has input's type; the others are as in ``layer_norm``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for a residual that does not fit.

    """
    norm = look_at(LAYER, input, normalized_shape, weight, bias)
    options = flags(zero_centered, round_steps)
    y, total, mean, rstd = _add_forward(norm, residual, input_bias, eps, out, dtype, return_stats, options)
    return (y, total) if mean is None or rstd is None else (y, total, mean, rstd)


@overload
def add_rms_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = ...,
    eps: float | None = ...,
    *,
    input_bias: object = ...,
    out: Out | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array]: ...
@overload
def add_rms_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = ...,
    eps: float | None = ...,
    *,
    input_bias: object = ...,
    out: Out | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array, Array]: ...
def add_rms_norm(
    input: object,
    residual: object,
    normalized_shape: int | Sequence[int],
    weight: object = None,
    eps: float | None = None,
    *,
    input_bias: object = None,
    out: Out | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> tuple[Array, Array] | tuple[Array, Array, Array]:
    """Add a residual and normalize the sum: ``total = input + input_bias + residual``, ``y = rms_norm(total, ...)``.

    Parameters
    ----------
    input, residual, input_bias, out
        As in ``add_layer_norm``.
    normalized_shape, weight, eps, dtype, zero_centered, round_steps
        As in ``rms_norm``.
    return_stats
        Return rstd too, as ``add_rms_norm_backward`` wants it.

    Returns
    -------
    (y, total), or (y, total, rstd)
        As ``add_layer_norm``.

    Raises
    ------
    TypeError, ValueError
        As ``add_layer_norm``.

    """
    norm = look_at(RMS, input, normalized_shape, weight)
    options = flags(zero_centered, round_steps)
    y, total, _, rstd = _add_forward(norm, residual, input_bias, eps, out, dtype, return_stats, options)
    return (y, total) if rstd is None else (y, total, rstd)


def _add_forward(
    norm: Norm,
    residual: object,
    input_bias: object,
    eps: float | None,
    out: Out | None,
    dtype: Any,
    return_stats: bool,
    flags: int,
) -> tuple[Array, Array, Array | None, Array | None]:
    x = norm.x
    added = _residual(residual, norm)
    first = arguments.parameter("input_bias", input_bias, x, norm.axes, shared=True)
    arguments.same_type(weight=norm.weight, bias=norm.bias, input_bias=first)
    eps = arguments.epsilon(eps, x.dtype, norm.operation == RMS)
    given = each("out", [None, None] if out is None else out, ("y", "total"))
    y = arguments.result("out (y)", given[0], x, dtype)
    total = arguments.output("out (total)", given[1], x.shape, x.dtype, like=x)
    read = {"input": x, "residual": added, "weight": norm.weight, "bias": norm.bias, "input_bias": first}
    in_place = ("input", "residual") if added.shape == x.shape else ("input",)
    if given[1] is not None:
        arguments.distinct({"out (total)": total}, read, in_place)
    if given[0] is not None:
        arguments.distinct({"out (y)": y}, {**read, "out (total)": total}, in_place if y.dtype == x.dtype else ())
    mean, rstd = new_statistics(norm, return_stats)
    norm.run(
        "add_forward",
        eps,
        flags,
        x=x,
        residual=added,
        input_bias=first,
        gamma=norm.weight,
        beta=norm.bias,
        total=total,
        y=y,
        mean=mean,
        rstd=rstd,
    )
    return y, total, mean, rstd


def _residual(value: object, norm: Norm) -> Array:
    """Return the residual with as many axes as input, of which the leading ones may be 1."""
    x, first = norm.x, norm.axes[0]
    residual = arguments.tensor("residual", value, [arguments.type_name(x.dtype)])
    shape = (1,) * (x.ndim - residual.ndim) + residual.shape
    if shape[first:] != x.shape[first:] or any(n not in (1, m) for n, m in zip(shape, x.shape, strict=False)):
        raise ValueError(
            f"residual: expected input's shape {list(x.shape)}, or with leading axes that are 1 or missing, "
            f"got {list(residual.shape)}"
        )
    return residual.reshape(shape)


def add_layer_norm_backward(
    grad_out: object,
    grad_total: object,
    total: object,
    normalized_shape: int | Sequence[int],
    mean: object,
    rstd: object,
    weight: object = None,
    bias: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    out: Sequence[Array | None] | None = None,
    zero_centered: bool = False,
    accumulate: bool = False,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of add_layer_norm.

    grad_input is that of ``layer_norm_backward`` for total, plus grad_total, rounded once. It is the gradient of input
    and of a residual of its shape; that of an input_bias, or of a residual that was repeated, is its sum over the axes
    along which they were.

    Parameters
    ----------
    grad_out
        Gradient arriving at y, of total's shape; of a type that y may have.
    grad_total
        Gradient arriving at total, of its shape and type, or None for 0.
    total, mean, rstd
        As ``add_layer_norm(..., return_stats=True)`` returned them.
    normalized_shape, weight, bias, zero_centered
        As given to ``add_layer_norm``.
    output_mask, out, accumulate
        As in ``layer_norm_backward``; grad_input may be grad_out, grad_total or total itself.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        As ``layer_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    norm = look_at(LAYER, total, normalized_shape, weight, bias, name="total")
    options = flags(zero_centered, accumulate=accumulate)
    grads = _add_backward(norm, grad_out, grad_total, mean, rstd, output_mask, out, options)
    return grads[0], grads[1], grads[2]


def add_rms_norm_backward(
    grad_out: object,
    grad_total: object,
    total: object,
    normalized_shape: int | Sequence[int],
    rstd: object,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True),
    *,
    out: Sequence[Array | None] | None = None,
    zero_centered: bool = False,
    accumulate: bool = False,
) -> tuple[Array | None, Array | None]:
    """Gradients of add_rms_norm.

    Parameters
    ----------
    grad_out, grad_total, total, normalized_shape, rstd, weight, output_mask, out, zero_centered, accumulate
        As in ``add_layer_norm_backward``, without mean and bias.

    Returns
    -------
    (grad_input, grad_weight)
        As ``add_layer_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    norm = look_at(RMS, total, normalized_shape, weight, name="total")
    options = flags(zero_centered, accumulate=accumulate)
    grads = _add_backward(norm, grad_out, grad_total, None, rstd, output_mask, out, options)
    return grads[0], grads[1]


def _add_backward(
    norm: Norm,
    grad_out: object,
    grad_total: object,
    mean: object,
    rstd: object,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int,
) -> list[Array | None]:
    total = norm.x
    dy = arguments.tensor("grad_out", grad_out, arguments.companions(total.dtype), owner="total")
    arguments.same_shape("grad_out", dy, total.shape, "total")
    dtotal = None
    if grad_total is not None:
        dtotal = arguments.tensor("grad_total", grad_total, [arguments.type_name(total.dtype)], owner="total")
        arguments.same_shape("grad_total", dtotal, total.shape, "total")
    read = {
        "grad_out": dy,
        "grad_total": dtotal,
        "total": total,
        **saved_statistics(norm, mean, rstd),
        "weight": norm.weight,
    }
    return backward("add_backward", norm, read, output_mask, out, flags)

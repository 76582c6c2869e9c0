"""Layer and RMS normalization, forward and backward, as functions of NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array
from pyln._call import LAYER, RMS
from pyln._norm import Norm, backward, flags, look_at, new_statistics, saved_statistics

_plain_layer_norm = _core.layer_norm
_plain_rms_norm = _core.rms_norm
_plain_layer_norm_backward = _core.layer_norm_backward


@overload
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> Array: ...
@overload
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array, Array]: ...
def layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalize each example over its last axes: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    As ``torch.nn.functional.layer_norm``. mean and var (biased: divided by n) are those of one example's normalized
    elements; weight and bias have one value per normalized element, the same for every example.
    (Ba, Kiros, Hinton: Layer Normalization, 2016.)

    Parameters
    ----------
    input
        Array of shape ``(*, *normalized_shape)``, of float32, float64, float16 or bfloat16 (of the package ml_dtypes),
        or anything with ``__array__``, ``__dlpack__`` or the buffer protocol. Rows, and elements in a row, may have any
        stride, negative or 0 too; input is copied only where no single stride leads through the normalized elements.
        16-bit elements are computed with in float32.
    normalized_shape
        The sizes of the last axes, over which to normalize: an int or a sequence of ints. None if `axis` is given.
    weight, bias
        Arrays of shape `normalized_shape`, or None for 1 and 0; of input's type, or float32 for a 16-bit input. Or with
        as many axes as input, of which those that are not normalized are 1 or as input's: parameters for each example,
        such as (N, 1, D) for an input of (N, T, D). Where only one of the two has an axis, the other is repeated.
    eps
        Added to the variance, inside the root; finite, not negative. Rounded to the type that is computed in.
    axis
        Instead of `normalized_shape`: an axis or consecutive axes of input. weight and bias then have the shape of
        those.
    out
        Array to write y into, of input's shape; may be input itself.
    dtype
        Element type of y, by default out's or input's. float64 goes with float64; the other three go with each other.
    return_stats
        Return mean and rstd too, as ``layer_norm_backward`` wants them.
    zero_centered
        weight is stored without its 1: ``1 + weight`` is what multiplies.
    round_steps
        For 16-bit elements: round after each step, as a chain of array operations does, not once at the end. The
        normalized number is rounded to input's type, its product with weight and the sum with bias to y's.

    Returns
    -------
    y, or (y, mean, rstd)
        y as input, its axes in the same order in memory; mean and ``rstd = 1 / sqrt(var + eps)`` with input's shape,
        but 1 for the normalized axes. rstd is 0 where var + eps is 0; y is the bias there. The statistics of no
        elements are NaN. Those of 16-bit inputs are float32.

    Raises
    ------
    TypeError
        Element types that are not known, do not go together, or are not in this machine's byte order.
    ValueError
        Shapes that do not fit, axes that are out of range or not consecutive, eps negative or NaN, an out that is
        read-only or overlaps another argument in part. Nothing has been written then.

    """
    if axis is None and dtype is None:
        result = _plain_layer_norm(
            input, normalized_shape, weight, bias, eps, out, return_stats, zero_centered, round_steps
        )
        if result is not None:
            return result
    norm = look_at(LAYER, input, normalized_shape, weight, bias, axis)
    y, mean, rstd = _forward(norm, eps, out, dtype, return_stats, flags(zero_centered, round_steps))
    if mean is None or rstd is None:
        return y
    return y, mean, rstd


def _forward(
    norm: Norm, eps: float | None, out: Array | None, dtype: Any, return_stats: bool, flags: int
) -> tuple[Array, Array | None, Array | None]:
    x = norm.x
    eps = arguments.epsilon(eps, x.dtype, norm.operation == RMS)
    y = arguments.result("out", out, x, dtype)
    if out is not None:
        in_place = ("input",) if x.dtype == y.dtype else ()
        arguments.distinct({"out": y}, {"input": x, "weight": norm.weight, "bias": norm.bias}, in_place)
    mean, rstd = new_statistics(norm, return_stats)
    norm.run("forward", eps, flags, x=x, y=y, gamma=norm.weight, beta=norm.bias, mean=mean, rstd=rstd)
    return y, mean, rstd


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
    zero_centered: bool = False,
    accumulate: bool = False,
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
    input, normalized_shape, weight, axis, zero_centered
        As given to ``layer_norm``.
    mean, rstd
        As ``layer_norm(..., return_stats=True)`` returned them.
    bias
        Needed for its shape only, where there is one for each example.
    output_mask
        Which of the three gradients are wanted.
    out
        Arrays to write the gradients into, or None for a new one each; grad_input may be grad_out or input itself.
    accumulate
        Add grad_weight and grad_bias to what their arrays in `out`, which must be given then, hold.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        None where masked. grad_weight has weight's shape and grad_bias that of bias; where one of these is not given,
        that of the other, or normalized_shape. They do not depend on the number of threads, and are float32 for 16-bit
        inputs.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for statistics of another shape than ``layer_norm`` returned.

    """
    if axis is None:
        result = _plain_layer_norm_backward(
            grad_out,
            input,
            normalized_shape,
            mean,
            rstd,
            weight,
            bias,
            output_mask,
            out,
            zero_centered,
            accumulate,
        )
        if result is not None:
            return result
    norm = look_at(LAYER, input, normalized_shape, weight, bias, axis)
    grads = _backward(norm, grad_out, mean, rstd, output_mask, out, flags(zero_centered, accumulate=accumulate))
    return grads[0], grads[1], grads[2]


def _backward(
    norm: Norm,
    grad_out: object,
    mean: object,
    rstd: object,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int,
) -> list[Array | None]:
    x = norm.x
    dy = arguments.tensor("grad_out", grad_out, arguments.companions(x.dtype))
    arguments.same_shape("grad_out", dy, x.shape, "input")
    read = {"grad_out": dy, "input": x, **saved_statistics(norm, mean, rstd), "weight": norm.weight}
    return backward("backward", norm, read, output_mask, out, flags)


def layer_norm_backward_from_y(
    grad_out: object,
    y: object,
    normalized_shape: int | Sequence[int] | None,
    rstd: object,
    weight: object = None,
    bias: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    axis: int | Sequence[int] | None = None,
    out: Sequence[Array | None] | None = None,
    zero_centered: bool = False,
    accumulate: bool = False,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients of layer_norm for who keeps its result y and not its input.

    As ``layer_norm_backward`` with ``xhat = (y - bias) / weight``, which loses digits where bias is large against
    weight. Where ``|weight|`` is below 2^-20 (2^-40 in float64) y does not say what xhat was: it is taken as 0, and
    grad_input and grad_weight lack what it would have given.

    Parameters
    ----------
    grad_out
        Gradient arriving at y, of y's shape and type.
    y, rstd
        As ``layer_norm(..., return_stats=True)`` returned them.
    normalized_shape, weight, bias, axis, zero_centered
        As given to ``layer_norm``; weight and bias of y's type, or float32 for a 16-bit y.
    output_mask, out, accumulate
        As in ``layer_norm_backward``; grad_input may be grad_out or y itself, and has y's type.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        As ``layer_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    norm = look_at(LAYER, y, normalized_shape, weight, bias, axis, name="y")
    grads = _backward_from_y(norm, grad_out, rstd, output_mask, out, flags(zero_centered, accumulate=accumulate))
    return grads[0], grads[1], grads[2]


def _backward_from_y(
    norm: Norm,
    grad_out: object,
    rstd: object,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int,
) -> list[Array | None]:
    y = norm.x
    dy = arguments.tensor("grad_out", grad_out, [arguments.type_name(y.dtype)], owner="y")
    arguments.same_shape("grad_out", dy, y.shape, "y")
    rstds = arguments.statistic("rstd", rstd, y, norm.stat_shape, norm.function)
    read = {"grad_out": dy, "y": y, "rstd": rstds, "weight": norm.weight, "bias": norm.bias}
    return backward("backward_from_y", norm, read, output_mask, out, flags)


@overload
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> Array: ...
@overload
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = ...,
    weight: object = ...,
    eps: float | None = ...,
    *,
    axis: int | Sequence[int] | None = ...,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
    zero_centered: bool = ...,
    round_steps: bool = ...,
) -> tuple[Array, Array]: ...
def rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    eps: float | None = None,
    *,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> Array | tuple[Array, Array]:
    """Divide each example by its root mean square: ``x / sqrt(mean(x * x) + eps) * weight``.

    As ``torch.nn.functional.rms_norm``. Nothing is subtracted and there is no bias; where an example's mean is 0 the
    result is that of ``layer_norm``. (Zhang, Sennrich: Root Mean Square Layer Normalization, 2019.)

    Parameters
    ----------
    input, normalized_shape, weight, axis, out, dtype, zero_centered, round_steps
        As in ``layer_norm``.
    eps
        Added to the mean of the squares, inside the root. None is the machine epsilon of the type that is computed
        in, as in PyTorch from 2.7 on: 2^-52 for float64, 2^-23 for all others.
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
        result = _plain_rms_norm(input, normalized_shape, weight, eps, out, return_stats, zero_centered, round_steps)
        if result is not None:
            return result
    norm = look_at(RMS, input, normalized_shape, weight, axis=axis)
    y, _, rstd = _forward(norm, eps, out, dtype, return_stats, flags(zero_centered, round_steps))
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
    zero_centered: bool = False,
    accumulate: bool = False,
) -> tuple[Array | None, Array | None]:
    """Gradients of rms_norm.

    With ``xhat = input * rstd`` and ``g = grad_out * weight``, means taken over one example's elements::

        grad_input  = rstd * (g - xhat * mean(g * xhat))
        grad_weight = sum over examples of grad_out * xhat

    Parameters
    ----------
    grad_out, input, normalized_shape, weight, output_mask, axis, out, zero_centered, accumulate
        As in ``layer_norm_backward``, without the bias.
    rstd
        As ``rms_norm(..., return_stats=True)`` returned it.

    Returns
    -------
    (grad_input, grad_weight)
        None where masked. grad_weight has weight's shape, or normalized_shape; it is float32 for 16-bit inputs.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    norm = look_at(RMS, input, normalized_shape, weight, axis=axis)
    grads = _backward(norm, grad_out, None, rstd, output_mask, out, flags(zero_centered, accumulate=accumulate))
    return grads[0], grads[1]


def rms_norm_backward_from_y(
    grad_out: object,
    y: object,
    normalized_shape: int | Sequence[int] | None,
    rstd: object,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True),
    *,
    axis: int | Sequence[int] | None = None,
    out: Sequence[Array | None] | None = None,
    zero_centered: bool = False,
    accumulate: bool = False,
) -> tuple[Array | None, Array | None]:
    """Gradients of rms_norm for who keeps its result y and not its input.

    As ``rms_norm_backward`` with ``xhat = y / weight``; the rest is as in ``layer_norm_backward_from_y``.

    Parameters
    ----------
    grad_out, y, normalized_shape, rstd, weight, output_mask, axis, out, zero_centered, accumulate
        As in ``layer_norm_backward_from_y``, without the bias.

    Returns
    -------
    (grad_input, grad_weight)
        As ``rms_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm_backward``.

    """
    norm = look_at(RMS, y, normalized_shape, weight, axis=axis, name="y")
    grads = _backward_from_y(norm, grad_out, rstd, output_mask, out, flags(zero_centered, accumulate=accumulate))
    return grads[0], grads[1]

"""Normalization with a result in 8-bit integers, as what multiplies matrices of them takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln._call import DYNAMIC_SCALE, LAYER, RMS
from pyln._norm import Norm, look_at

Quantized = tuple[Array, Array | float, Array | int | None]


def quantized_layer_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    dtype: Any = "int8",
    scale: float | None = None,
    zero_point: int | None = None,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
) -> Quantized:
    """Layer normalization, quantized: ``q = saturate(round(layer_norm(input, ...) / scale) + zero_point)``.

    Rounded to nearest even; a NaN becomes zero_point. As ONNX's QuantizeLinear after LayerNormalization, or with one
    scale per row, as its DynamicQuantizeLinear of each row.

    Parameters
    ----------
    input, normalized_shape, weight, bias, eps, axis
        As in ``layer_norm``.
    dtype
        int8 or uint8.
    scale
        A positive number, or None for one per row: for int8 ``max|y| / 127``, for uint8 ``(max(y, 0) - min(y, 0)) /
        255``, for which y and 0 just fit; 1 where that is 0 or not finite.
    zero_point
        The int that stands for 0, by default 0; only with a scale.
    out
        Array of dtype and input's shape to write q into.

    Returns
    -------
    (q, scale, zero_point)
        scale and zero_point as given. Or computed: arrays of input's shape, but 1 for the normalized axes; zero_point
        is ``round(-min(y, 0) / scale)``, of int32, for uint8, and None for int8, where it is 0.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for a scale that is not positive and a zero_point that dtype does not have.

    """
    norm = look_at(LAYER, input, normalized_shape, weight, bias, axis)
    return _quantized(norm, eps, dtype, scale, zero_point, out)


def quantized_rms_norm(
    input: object,
    normalized_shape: int | Sequence[int] | None = None,
    weight: object = None,
    eps: float | None = None,
    *,
    dtype: Any = "int8",
    scale: float | None = None,
    zero_point: int | None = None,
    axis: int | Sequence[int] | None = None,
    out: Array | None = None,
) -> Quantized:
    """RMS normalization, quantized: ``q = saturate(round(rms_norm(input, ...) / scale) + zero_point)``.

    Parameters
    ----------
    input, normalized_shape, weight, eps, axis
        As in ``rms_norm``.
    dtype, scale, zero_point, out
        As in ``quantized_layer_norm``.

    Returns
    -------
    (q, scale, zero_point)
        As ``quantized_layer_norm``.

    Raises
    ------
    TypeError, ValueError
        As ``quantized_layer_norm``.

    """
    norm = look_at(RMS, input, normalized_shape, weight, axis=axis)
    return _quantized(norm, eps, dtype, scale, zero_point, out)


def _quantized(
    norm: Norm, eps: float | None, dtype: Any, scale: object, zero_point: object, out: Array | None
) -> Quantized:
    x = norm.x
    eps = arguments.epsilon(eps, x.dtype, norm.operation == RMS)
    q_type = arguments.quantized_type("dtype", dtype)
    q = arguments.output("out", out, x.shape, q_type, like=x)
    if out is not None:
        arguments.distinct({"out": q}, {"input": x, "weight": norm.weight, "bias": norm.bias})
    if scale is None:
        if zero_point is not None:
            raise ValueError(f"zero_point: expected None where scale is None, got {arguments.shown(zero_point)}")
        scales, zeros = norm.statistic(), np.empty(norm.stat_shape, np.int32) if q_type == np.uint8 else None
        result: Quantized = q, scales, zeros
    else:
        given_scale = arguments.scale(scale, norm.real)
        given_zero = arguments.zero_point(0 if zero_point is None else zero_point, q_type)
        scales, zeros = np.array(given_scale, norm.real), np.array(given_zero, np.int32)
        result = q, given_scale, given_zero
    norm.run(
        "quantized_forward",
        eps,
        DYNAMIC_SCALE if scale is None else 0,
        x=x,
        y=q,
        gamma=norm.weight,
        beta=norm.bias,
        scale=scales,
        zero_point=zeros,
    )
    return result

"""ONNX's operators of layer normalization and its family, for ONNX's reference evaluator. Not imported with pyln.

``ReferenceEvaluator(model, new_ops=pyln.onnx.operators())`` runs a model with these nodes computed by pyln, and all
others by ONNX's own Python code.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from onnx import TensorProto
    from onnx.helper import tensor_dtype_to_np_dtype
    from onnx.reference.op_run import OpRun
except ImportError as error:
    raise ImportError('pyln.onnx needs the package onnx: pip install "pyln[onnx]"') from error

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln.functional import layer_norm, rms_norm
from pyln.groups import group_norm
from pyln.residual import add_layer_norm, add_rms_norm

__all__ = ["operators"]

_SHORT = 2  # bytes of the elements that are rounded at each step


def operators() -> list[type[OpRun]]:
    """Return the operators, each a class of its name, for the evaluator's `new_ops`.

    ``LayerNormalization`` (opset 17), ``RMSNormalization`` (23), ``GroupNormalization`` (18, and 21, since when there
    is a scale for each channel), ``InstanceNormalization``; of the domain com.microsoft ``SkipLayerNormalization`` and
    ``SkipSimplifiedLayerNormalization``, which is the same with RMS norm.

    16-bit numbers are rounded where ONNX's definition of the operator rounds them, but for GroupNormalization and
    InstanceNormalization, which are rounded once. float64 is computed in float64, all else in float32; `stash_type`,
    float32 or bfloat16, is the type of the statistics only.
    """
    return [
        LayerNormalization,
        RMSNormalization,
        GroupNormalization,
        InstanceNormalization,
        SkipLayerNormalization,
        SkipSimplifiedLayerNormalization,
    ]


class LayerNormalization(OpRun):
    """Over the axes from `axis` on; gives the statistics too."""

    def _run(
        self, x: Array, scale: Array, bias: Array | None = None, *, axis: int, epsilon: float, stash_type: int
    ) -> tuple[Array, ...]:
        shape = _normalized_shape(axis, x)
        scale, bias = _parameter(scale, x, shape), _parameter(bias, x, shape)
        short = x.itemsize == _SHORT
        y, mean, rstd = layer_norm(x, shape, scale, bias, epsilon, return_stats=True, round_steps=short)
        stash = _stash_dtype(stash_type)
        return y, mean.astype(stash), rstd.astype(stash)


class RMSNormalization(OpRun):
    """Over the axes from `axis` on; the result has scale's type."""

    def _run(self, x: Array, scale: Array, *, axis: int, epsilon: float, stash_type: int) -> tuple[Array, ...]:
        _stash_dtype(stash_type)
        shape = _normalized_shape(axis, x)
        weight = _parameter(scale, x, shape)
        if arguments.type_name(scale.dtype) not in arguments.companions(x.dtype):
            return (rms_norm(x, shape, weight, epsilon).astype(scale.dtype),)
        return (rms_norm(x, shape, weight, epsilon, dtype=scale.dtype, round_steps=x.itemsize == _SHORT),)


class GroupNormalization(OpRun):
    """Over groups of channels."""

    def _run(
        self, x: Array, scale: Array, bias: Array, *, epsilon: float, num_groups: int, stash_type: int = 1
    ) -> tuple[Array, ...]:
        _stash_dtype(stash_type)
        if self.run_params["opsets"][""] < 21:
            scale, bias = (np.repeat(p, x.shape[1] // num_groups) for p in (scale, bias))
        return (group_norm(x, num_groups, scale, bias, epsilon),)


class InstanceNormalization(OpRun):
    """Over each channel; of a single number that is 0, and the result the bias."""

    def _run(self, x: Array, scale: Array, bias: Array, *, epsilon: float, **_: Any) -> tuple[Array, ...]:
        return (group_norm(x, x.shape[1], scale, bias, epsilon),)


class SkipLayerNormalization(OpRun):
    """ONNX Runtime's sum with layer normalization: total = input + bias + skip."""

    op_domain = "com.microsoft"

    def _run(
        self,
        x: Array,
        skip: Array,
        gamma: Array,
        beta: Array | None = None,
        bias: Array | None = None,
        *,
        epsilon: float = 1e-12,
    ) -> tuple[Array, ...]:
        y, total, mean, rstd = add_layer_norm(
            x, skip, x.shape[-1], gamma, beta, epsilon, input_bias=bias, return_stats=True
        )
        return y, mean, rstd, total


class SkipSimplifiedLayerNormalization(OpRun):
    """ONNX Runtime's sum with RMS normalization."""

    op_domain = "com.microsoft"

    def _run(
        self, x: Array, skip: Array, gamma: Array, bias: Array | None = None, *, epsilon: float = 1e-12
    ) -> tuple[Array, ...]:
        y, total, rstd = add_rms_norm(x, skip, x.shape[-1], gamma, epsilon, input_bias=bias, return_stats=True)
        return y, np.zeros_like(rstd), rstd, total


def _normalized_shape(axis: int, x: Array) -> arguments.Shape:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis: {arguments.shown(axis)} is out of range for an input of {x.ndim} dimensions")
    shape: arguments.Shape = x.shape[axis % x.ndim :]
    return shape


def _parameter(value: Array | None, x: Array, normalized: arguments.Shape) -> Any:
    """Return scale or bias, which ONNX repeats along x's axes as NumPy does, of a type and a shape that pyln takes."""
    if value is None:
        return None
    begin = x.ndim - len(normalized)
    shape = (1,) * (x.ndim - value.ndim) + value.shape
    others = shape[:begin] if any(n != 1 for n in shape[:begin]) else ()
    value = np.broadcast_to(value.reshape(others + shape[begin:]), others + normalized)
    return value if value.dtype == x.dtype else value.astype(arguments.arithmetic_type(x.dtype))


def _stash_dtype(stash_type: int) -> np.dtype[Any]:
    if stash_type not in (TensorProto.FLOAT, TensorProto.BFLOAT16):
        raise NotImplementedError(
            f"stash_type: expected {TensorProto.FLOAT} (float32) or {TensorProto.BFLOAT16} (bfloat16), got {stash_type}"
        )
    return tensor_dtype_to_np_dtype(stash_type)

"""Normalization with the names, argument order and defaults of torch.nn.functional."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyln.torch import _operators  # noqa: F401
from pyln.torch._arrays import arithmetic_type, check_tensors

_layer_norm = torch.ops.pyln.layer_norm.default
_rms_norm = torch.ops.pyln.rms_norm.default
_add_layer_norm = torch.ops.pyln.add_layer_norm.default
_group_norm = torch.ops.pyln.group_norm.default

Shape = int | Sequence[int]


def _sizes(normalized_shape: Shape) -> Sequence[int]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else normalized_shape


def layer_norm(
    input: Tensor, normalized_shape: Shape, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize over the last axes, as ``torch.nn.functional.layer_norm``.

    Parameters
    ----------
    input
        CPU tensor of shape ``(*, *normalized_shape)``, of any strides; float32, float64, float16 or bfloat16.
    normalized_shape, eps
        As in PyTorch; an int will do for one axis.
    weight, bias
        Of shape normalized_shape, of input's type, or float32 for 16-bit input. Or, beyond PyTorch, one for each
        example, such as (N, 1, D) for an input of (N, T, D).

    Returns
    -------
    y
        A contiguous tensor of input's shape and type.

    Raises
    ------
    TypeError, ValueError
        As ``pyln.layer_norm``; also for tensors that are not dense or not on the CPU.

    """
    check_tensors(input=input, weight=weight, bias=bias)
    y: Tensor = _layer_norm(input, _sizes(normalized_shape), weight, bias, eps)[0]
    return y


def rms_norm(
    input: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> Tensor:
    """Divide by the root mean square over the last axes, as ``torch.nn.functional.rms_norm``.

    Parameters
    ----------
    input, normalized_shape
        As in ``layer_norm``.
    weight
        As in ``layer_norm``; one of another type than that takes is converted, and the result has input's type.
    eps
        As in ``pyln.rms_norm``.
    zero_centered, round_steps
        As in ``pyln.rms_norm``, for the weights of Gemma and the bits of Llama.

    Returns
    -------
    y
        As in ``layer_norm``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    check_tensors(input=input, weight=weight)
    real = arithmetic_type(input.dtype)
    if eps is None:
        eps = torch.finfo(real).eps
    if weight is not None and weight.dtype not in (input.dtype, real):
        weight = weight.to(real)
    y: Tensor = _rms_norm(input, _sizes(normalized_shape), weight, eps, zero_centered, round_steps)[0]
    return y


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Shape,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """Add a residual and normalize the sum, in one pass: ``total = input + residual``, ``y = layer_norm(total, ...)``.

    Parameters
    ----------
    input, residual
        Of the same shape. Where their types differ, as under autocast, both are converted to that of ``input +
        residual``.
    normalized_shape, weight, bias, eps
        As in ``layer_norm``.

    Returns
    -------
    (y, total)
        Both with gradients; y has the bits of ``layer_norm(total, ...)``.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for a residual of another shape.

    """
    check_tensors(input=input, residual=residual, weight=weight, bias=bias)
    if input.shape != residual.shape:
        raise ValueError(
            f"residual: expected input's shape {list(input.shape)}, got {list(residual.shape)}; use residual.expand"
        )
    if input.dtype is not residual.dtype:
        common = torch.promote_types(input.dtype, residual.dtype)
        input, residual = input.to(common), residual.to(common)
    y, total, _, _ = _add_layer_norm(input, residual, _sizes(normalized_shape), weight, bias, eps)
    return y, total


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalize over groups of channels, as ``torch.nn.functional.group_norm``.

    Parameters
    ----------
    input
        CPU tensor of shape ``(N, C, *)``, as in ``layer_norm``.
    num_groups
        A divisor of C.
    weight, bias
        Of shape (C,); types as in ``layer_norm``.
    eps
        As in PyTorch.

    Returns
    -------
    y
        Of input's shape and type, with the channels last in memory where input's are.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    check_tensors(input=input, weight=weight, bias=bias)
    y: Tensor = _group_norm(input, num_groups, weight, bias, eps)[0]
    return y

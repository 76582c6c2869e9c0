"""The operators on CPU tensors: pyln's functions on their memory. Arguments are those of the schemas in _operators."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

import pyln
from pyln._arguments import Array
from pyln.torch._arrays import array
from pyln.torch._fake import contiguous, group_format

Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Triple:
    y = contiguous(input)
    _, mean, rstd = pyln.layer_norm(
        array(input), tuple(normalized_shape), array(weight), array(bias), eps, out=array(y), return_stats=True
    )
    return y, torch.from_numpy(mean), torch.from_numpy(rstd)


def layer_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_mask: Sequence[bool],
) -> Triple:
    grad_input = contiguous(input) if output_mask[0] else None
    _, grad_weight, grad_bias = pyln.layer_norm_backward(
        array(grad_out),
        array(input),
        tuple(normalized_shape),
        array(mean),
        array(rstd),
        array(weight),
        array(bias),
        tuple(output_mask),
        out=(array(grad_input), None, None),
    )
    return _given(grad_input, input), _gradient(grad_weight, weight, input), _gradient(grad_bias, bias, input)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    eps: float,
    zero_centered: bool,
    round_steps: bool,
) -> Pair:
    y = contiguous(input)
    _, rstd = pyln.rms_norm(
        array(input),
        tuple(normalized_shape),
        array(weight),
        eps,
        out=array(y),
        return_stats=True,
        zero_centered=zero_centered,
        round_steps=round_steps,
    )
    return y, torch.from_numpy(rstd)


def rms_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    rstd: Tensor,
    weight: Tensor | None,
    eps: float,
    zero_centered: bool,
    output_mask: Sequence[bool],
) -> Pair:
    grad_input = contiguous(input) if output_mask[0] else None
    _, grad_weight = pyln.rms_norm_backward(
        array(grad_out),
        array(input),
        tuple(normalized_shape),
        array(rstd),
        array(weight),
        tuple(output_mask),
        out=(array(grad_input), None),
        zero_centered=zero_centered,
    )
    return _given(grad_input, input), _gradient(grad_weight, weight, input)


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, total = contiguous(input), contiguous(input)
    _, _, mean, rstd = pyln.add_layer_norm(
        array(input),
        array(residual),
        tuple(normalized_shape),
        array(weight),
        array(bias),
        eps,
        out=(array(y), array(total)),
        return_stats=True,
    )
    return y, total, torch.from_numpy(mean), torch.from_numpy(rstd)


def add_layer_norm_backward(
    grad_out: Tensor,
    grad_total: Tensor | None,
    total: Tensor,
    normalized_shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_mask: Sequence[bool],
) -> Triple:
    grad_input = contiguous(total) if output_mask[0] else None
    _, grad_weight, grad_bias = pyln.add_layer_norm_backward(
        array(grad_out),
        array(grad_total),
        array(total),
        tuple(normalized_shape),
        array(mean),
        array(rstd),
        array(weight),
        array(bias),
        tuple(output_mask),
        out=(array(grad_input), None, None),
    )
    return _given(grad_input, total), _gradient(grad_weight, weight, total), _gradient(grad_bias, bias, total)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float) -> Triple:
    y = torch.empty_like(input, memory_format=group_format(input))
    _, mean, rstd = pyln.group_norm(
        array(input), num_groups, array(weight), array(bias), eps, out=array(y), return_stats=True
    )
    return y, torch.from_numpy(mean), torch.from_numpy(rstd)


def group_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    num_groups: int,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_mask: Sequence[bool],
) -> Triple:
    grad_input = torch.empty_like(input, memory_format=group_format(input)) if output_mask[0] else None
    _, grad_weight, grad_bias = pyln.group_norm_backward(
        array(grad_out),
        array(input),
        num_groups,
        array(mean),
        array(rstd),
        array(weight),
        tuple(output_mask),
        out=(array(grad_input), None, None),
    )
    return _given(grad_input, input), _gradient(grad_weight, weight, input), _gradient(grad_bias, bias, input)


def _given(grad: Tensor | None, input: Tensor) -> Tensor:
    """An operator returns tensors only: one without elements where nothing is wanted."""
    return input.new_empty(0) if grad is None else grad


def _gradient(grad: Array | None, parameter: Tensor | None, input: Tensor) -> Tensor:
    """The gradient of a parameter in its type."""
    if grad is None:
        return input.new_empty(0)
    tensor = torch.from_numpy(grad)
    return tensor if parameter is None else tensor.to(parameter.dtype)

"""The operators on tensors without data: shapes, types and strides of the results, for torch.compile and torch.export.

The sizes that do not fit are refused here too, as no kernel sees them before the compiled program runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyln.torch._arrays import arithmetic_type

_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def contiguous(input: Tensor) -> Tensor:
    """Return a place for what has the shape and type of input."""
    return torch.empty_like(input, memory_format=torch.contiguous_format)


def group_format(input: Tensor) -> torch.memory_format:
    """Return the order of the axes that group norm's results have: channels last where the input is so."""
    if not input.is_contiguous():
        if input.ndim == 4 and input.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
        if input.ndim == 5 and input.is_contiguous(memory_format=torch.channels_last_3d):
            return torch.channels_last_3d
    return torch.contiguous_format


def _look_at(input: Tensor) -> None:
    if input.dtype not in _TYPES:
        raise TypeError(f"input: expected float32, float64, float16 or bfloat16, got {input.dtype}")


def _statistic(input: Tensor, normalized_shape: Sequence[int]) -> Tensor:
    _look_at(input)
    k = len(normalized_shape)
    if k == 0 or k > input.ndim or any(a != b for a, b in zip(input.shape[-k:], normalized_shape, strict=True)):
        raise ValueError(
            f"Given normalized_shape={list(normalized_shape)}, expected input with shape "
            f"[*, {', '.join(map(str, normalized_shape))}], but got input of size {list(input.shape)}"
        )
    return input.new_empty((*input.shape[:-k], *(1,) * k), dtype=arithmetic_type(input.dtype))


def _parameter(name: str, parameter: Tensor | None, input: Tensor, shape: Sequence[int]) -> None:
    if parameter is None or (
        len(shape) <= parameter.ndim <= input.ndim
        and all(a == b for a, b in zip(parameter.shape[parameter.ndim - len(shape) :], shape, strict=True))
    ):
        return
    raise ValueError(f"{name}: expected the shape {list(shape)}, got {list(parameter.shape)}")


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    statistic = _statistic(input, normalized_shape)
    _parameter("weight", weight, input, normalized_shape)
    _parameter("bias", bias, input, normalized_shape)
    return contiguous(input), statistic, torch.empty_like(statistic)


def _gradients(
    input: Tensor, place: Tensor, parameters: Sequence[Tensor | None], output_mask: Sequence[bool]
) -> tuple[Tensor, ...]:
    like = (place, *parameters)
    return tuple(
        torch.empty_like(t, memory_format=torch.contiguous_format if i else torch.preserve_format)
        if t is not None and wanted
        else input.new_empty(0)
        for i, (t, wanted) in enumerate(zip(like, output_mask, strict=True))
    )


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
) -> tuple[Tensor, ...]:
    return _gradients(input, contiguous(input), (weight, bias), output_mask)


def rms_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    eps: float,
    zero_centered: bool,
    round_steps: bool,
) -> tuple[Tensor, Tensor]:
    statistic = _statistic(input, normalized_shape)
    _parameter("weight", weight, input, normalized_shape)
    return contiguous(input), statistic


def rms_norm_backward(
    grad_out: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    rstd: Tensor,
    weight: Tensor | None,
    eps: float,
    zero_centered: bool,
    output_mask: Sequence[bool],
) -> tuple[Tensor, ...]:
    return _gradients(input, contiguous(input), (weight,), output_mask)


def add_layer_norm(
    input: Tensor,
    residual: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    y, mean, rstd = layer_norm(input, normalized_shape, weight, bias, eps)
    return y, contiguous(input), mean, rstd


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
) -> tuple[Tensor, ...]:
    return _gradients(total, contiguous(total), (weight, bias), output_mask)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    _look_at(input)
    if input.ndim < 2:
        raise ValueError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    examples, channels = input.shape[:2]
    if num_groups <= 0 or channels % num_groups != 0:
        raise ValueError(f"num_groups: expected a divisor of {channels} channels, got {num_groups}")
    for name, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None and (parameter.ndim != 1 or parameter.shape[0] != channels):
            raise ValueError(f"{name}: expected the shape {[channels]}, got {list(parameter.shape)}")
    mean = input.new_empty((examples, num_groups), dtype=arithmetic_type(input.dtype))
    return torch.empty_like(input, memory_format=group_format(input)), mean, torch.empty_like(mean)


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
) -> tuple[Tensor, ...]:
    place = torch.empty_like(input, memory_format=group_format(input))
    return _gradients(input, place, (weight, bias), output_mask)

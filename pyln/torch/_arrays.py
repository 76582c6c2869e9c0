"""Tensors as NumPy arrays that share their memory."""

from __future__ import annotations

from typing import overload

import numpy as np
import torch
from torch import Tensor

from pyln._arguments import Array, bfloat16, type_name


@overload
def array(tensor: Tensor) -> Array: ...
@overload
def array(tensor: None) -> None: ...
@overload
def array(tensor: Tensor | None) -> Array | None: ...
def array(tensor: Tensor | None) -> Array | None:
    """Return the tensor's memory, with its strides, as an array; bfloat16 as that of ml_dtypes."""
    if tensor is None:
        return None
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy().view(bfloat16())
    return tensor.numpy()


def tensor(array: Array) -> Tensor:
    """Return a tensor that shares the array's memory."""
    if type_name(array.dtype) == "bfloat16":
        return torch.from_numpy(array.view(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def arithmetic_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type that tensors of dtype are computed in, which statistics have too."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def check_tensors(**given: object) -> None:
    """Refuse what is no tensor; only of weights and biases may there be none."""
    for name, value in given.items():
        if not isinstance(value, Tensor) and (value is not None or name in ("input", "residual")):
            raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")

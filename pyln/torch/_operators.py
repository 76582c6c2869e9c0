"""The operators torch.ops.pyln.*, registered with PyTorch: what each takes, and what runs it in each situation.

``Library.impl`` on the keys CPU and Autograd costs half of what ``torch.library.custom_op`` costs per call.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from pyln.torch import _fake, _kernels

_SCHEMAS = (
    "layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    "layer_norm_backward(Tensor grad_out, Tensor input, SymInt[] normalized_shape, Tensor mean, Tensor rstd,"
    " Tensor? weight, Tensor? bias, float eps, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "rms_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight, float eps, bool zero_centered,"
    " bool round_steps) -> (Tensor, Tensor)",
    "rms_norm_backward(Tensor grad_out, Tensor input, SymInt[] normalized_shape, Tensor rstd, Tensor? weight,"
    " float eps, bool zero_centered, bool[2] output_mask) -> (Tensor, Tensor)",
    "add_layer_norm(Tensor input, Tensor residual, SymInt[] normalized_shape, Tensor? weight, Tensor? bias, float eps)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    "add_layer_norm_backward(Tensor grad_out, Tensor? grad_total, Tensor total, SymInt[] normalized_shape, Tensor mean,"
    " Tensor rstd, Tensor? weight, Tensor? bias, float eps, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
    "group_norm(Tensor input, int num_groups, Tensor? weight, Tensor? bias, float eps) -> (Tensor, Tensor, Tensor)",
    "group_norm_backward(Tensor grad_out, Tensor input, int num_groups, Tensor mean, Tensor rstd, Tensor? weight,"
    " Tensor? bias, float eps, bool[3] output_mask) -> (Tensor, Tensor, Tensor)",
)

# What is not memory of this machine's CPU with strides, and what would make it so.
ELSEWHERE = {
    "CUDA": ".cpu()",
    "XPU": ".cpu()",
    "MPS": ".cpu()",
    "HPU": ".cpu()",
    "XLA": ".cpu()",
    "PrivateUse1": ".cpu()",
    "SparseCPU": ".to_dense()",
    "SparseCsrCPU": ".to_dense()",
    "MkldnnCPU": ".to_dense()",
    "QuantizedCPU": ".dequantize()",
    "NestedTensorCPU": ".to_padded_tensor(0.0)",
}

NAMES = [schema.partition("(")[0] for schema in _SCHEMAS]
_LIBRARY: Any = torch.library.Library("pyln", "FRAGMENT")  # type: ignore[no-untyped-call]


def _refusal(name: str, key: str, remedy: str) -> object:
    def refuse(*arguments: object) -> NoReturn:
        raise TypeError(
            f"{name}: pyln computes on dense tensors of the CPU, and one of the tensors is of another kind ({key}); "
            f"use {remedy} first, or torch.nn.functional"
        )

    return refuse


for _schema in _SCHEMAS:
    _LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))

# They refer to the operators.
from pyln.torch import _autograd, _batching  # noqa: E402

for _name, _rule in _batching.rules().items():
    _LIBRARY.impl(_name, getattr(_kernels, _name), "CPU")
    _LIBRARY.impl(_name, _autograd.kernel(_name), "Autograd")
    torch.library.register_fake(f"pyln::{_name}", getattr(_fake, _name), lib=_LIBRARY)
    torch.library.register_vmap(f"pyln::{_name}", _rule, lib=_LIBRARY)
    for _key, _remedy in ELSEWHERE.items():
        _LIBRARY.impl(_name, _refusal(_name, _key, _remedy), _key)

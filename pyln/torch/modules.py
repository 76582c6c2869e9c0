"""torch.nn's layers with pyln's forward: constructors, parameters, state_dict and repr are inherited."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyln.torch.functional import Shape, group_norm, layer_norm, rms_norm


class LayerNorm(torch.nn.LayerNorm):
    """``torch.nn.LayerNorm`` on the CPU by pyln."""

    def forward(self, input: Tensor) -> Tensor:
        """Return y, as ``pyln.torch.layer_norm``."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)


class GroupNorm(torch.nn.GroupNorm):
    """``torch.nn.GroupNorm`` on the CPU by pyln."""

    def forward(self, input: Tensor) -> Tensor:
        """Return y, as ``pyln.torch.group_norm``."""
        return group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class RMSNorm(torch.nn.RMSNorm):
    """``torch.nn.RMSNorm`` on the CPU by pyln.

    Parameters
    ----------
    normalized_shape, eps, elementwise_affine, device, dtype
        As in ``torch.nn.RMSNorm``.
    zero_centered
        Whether the weight is stored without its 1, and so zeros at first, as Gemma's.
    round_steps
        Whether 16-bit numbers are rounded before the weight too, as Llama's.

    """

    zero_centered = False
    round_steps = False

    def __init__(
        self,
        normalized_shape: Shape,
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        zero_centered: bool = False,
        round_steps: bool = False,
    ) -> None:
        if zero_centered:
            self.__dict__["zero_centered"] = True  # before torch.nn.Module is there, for reset_parameters
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)
        self.zero_centered = zero_centered
        self.round_steps = round_steps

    def reset_parameters(self) -> None:
        """Set the weight to what changes nothing."""
        if self.elementwise_affine:
            (torch.nn.init.zeros_ if self.zero_centered else torch.nn.init.ones_)(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Return y, as ``pyln.torch.rms_norm``."""
        return rms_norm(
            input,
            self.normalized_shape,
            self.weight,
            self.eps,
            zero_centered=self.zero_centered,
            round_steps=self.round_steps,
        )

    def extra_repr(self) -> str:
        """Return torch.nn's, and the options that are not at their defaults."""
        options = [f"{name}=True" for name in ("zero_centered", "round_steps") if getattr(self, name)]
        return ", ".join([super().extra_repr(), *options])

"""The norms of a model that exists, by pyln."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pyln.torch.functional import rms_norm
from pyln.torch.modules import GroupNorm, LayerNorm, RMSNorm

_LAYERS: dict[type[torch.nn.Module], type[torch.nn.Module]] = {
    torch.nn.LayerNorm: LayerNorm,
    torch.nn.RMSNorm: RMSNorm,
    torch.nn.GroupNorm: GroupNorm,
}
_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass
class Conversion:
    """What ``convert`` did, by the names of the layers in the model: what became of one, or why it was left."""

    converted: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"converted {len(self.converted)}, left {len(self.left)}"]
        lines += [f"  {name or '(the model)'}: {text}" for name, text in self.converted.items()]
        lines += [f"  {name or '(the model)'}: left, {text}" for name, text in self.left.items()]
        return "\n".join(lines)


def convert(model: torch.nn.Module) -> Conversion:
    """Make pyln's layers of a model's norms, in place.

    ``torch.nn.LayerNorm``, ``torch.nn.RMSNorm`` and ``torch.nn.GroupNorm`` get the class of the same name of
    ``pyln.torch``: parameters, hooks and whatever refers to a layer stay. Of other classes whose names contain "norm",
    those are converted to ``pyln.torch.RMSNorm`` that prove to be RMS norms, as those of transformers' Llama, Gemma and
    T5: copies are run on random numbers in float32 and bfloat16, and must give what pyln gives. All else is left.

    Returns
    -------
    Conversion
        What was converted, and what was left and why. Print it to read it.

    """
    report = Conversion()
    for name, module in model.named_modules():
        kind = type(module)
        if kind in _LAYERS.values() or (kind not in _LAYERS and "norm" not in kind.__name__.lower()):
            continue
        reason = _obstacle(module)
        if reason is None and kind in _LAYERS:
            module.__class__ = _LAYERS[kind]
        elif reason is None:
            found = _as_rms_norm(module)
            if isinstance(found, str):
                reason = found
            else:
                module.__class__ = RMSNorm
                vars(module).update(found)
        if reason is None:
            report.converted[name] = f"{kind.__name__} is pyln.torch.{module}"
        else:
            report.left[name] = f"{kind.__name__}: {reason}"
    return report


def _obstacle(module: torch.nn.Module) -> str | None:
    if "forward" in vars(module):
        return "its forward was replaced"
    for parameter in module.parameters():
        if parameter.device.type not in ("cpu", "meta"):
            return f"its parameters are on {parameter.device}"
        if parameter.dtype not in _TYPES:
            return f"its parameters are {parameter.dtype}"
    return None


def _as_rms_norm(module: torch.nn.Module) -> dict[str, Any] | str:
    """Return the attributes of the RMSNorm that computes what the module does, or why there is none."""
    weight = vars(module)["_parameters"].get("weight")
    eps = next(
        (e for name in ("variance_epsilon", "eps", "epsilon") if type(e := getattr(module, name, None)) is float), None
    )
    if (
        weight is None
        or weight.ndim != 1
        or eps is None
        or len(module.state_dict()) != 1
        or next(module.children(), None) is not None
    ):
        return "not an RMS norm of one weight and an eps"
    if weight.device.type == "meta":
        return "its weight has no data yet, to see what it computes"
    random = torch.Generator().manual_seed(0)
    size = weight.shape[0]
    rows = torch.randn(64, size, generator=random) + 0.5
    rows[1::2] *= math.sqrt(eps)  # here eps counts
    weights = torch.randn(size, generator=random)
    try:
        expected, rounded = (_run(module, rows, weights, dtype) for dtype in (torch.float32, torch.bfloat16))
    except Exception as error:  # whatever a stranger's forward may raise
        return f"a trial failed: {type(error).__name__}: {error}"
    for zero_centered in (False, True):
        y = rms_norm(rows, size, weights, eps, zero_centered=zero_centered)
        if expected.shape != y.shape or expected.dtype != y.dtype or not torch.allclose(expected, y, 1e-5, 1e-6):
            continue
        for round_steps in (False, True):
            options = {"zero_centered": zero_centered, "round_steps": round_steps}
            y = rms_norm(rows.bfloat16(), size, weights.bfloat16(), eps, **options)
            # PyTorch's rstd is not correctly rounded: once in a while a number falls on the other side.
            if rounded.dtype == y.dtype and (rounded != y).float().mean() < 0.01:
                return {"normalized_shape": (size,), "eps": eps, "elementwise_affine": True, **options}
    return "does not compute what an RMS norm does"


def _run(module: torch.nn.Module, rows: Tensor, weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Run the forward of a copy in the given type, without hooks."""
    trial = copy.deepcopy(module).to(dtype)
    with torch.no_grad():
        trial.weight.copy_(weights)  # type: ignore[operator]
        result: Tensor = type(module).forward(trial, rows.to(dtype))
    return result

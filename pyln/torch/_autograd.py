"""The operators with gradients: what forward keeps, and which operator makes the gradients of it.

Backward is an operator too; its own gradients, and forward mode, are made of the formulas in PyTorch's operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.autograd_function import enable_single_level_autograd_function  # type: ignore[attr-defined]
from torch.autograd import forward_ad

from pyln.torch import _formulas as formulas

Gradient = Tensor | None
operators = torch.ops.pyln


def _masked(grads: Sequence[Gradient], output_mask: Sequence[bool]) -> list[Gradient]:
    return [grad if wanted else None for grad, wanted in zip(grads, output_mask, strict=True)]


class Derivative(ABC):
    """How an operator is differentiated; arguments are the operator's."""

    inputs: tuple[int, ...]  # the arguments that have gradients

    @abstractmethod
    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        """Keep what backward needs."""

    @abstractmethod
    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        """Return the gradients of inputs, from those of the results, None for 0."""

    @abstractmethod
    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        """Return the operator's results by PyTorch's operations."""


class _Norm(Derivative):
    """Of layer norm and group norm, which differ in how their second argument says what rows are."""

    inputs = (0, 2, 3)

    def __init__(self, backward: str, view: Callable[[Tensor, Any], formulas.View]) -> None:
        self.backward_operator, self.view = getattr(operators, backward), view

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        input, ctx.rows, weight, bias, ctx.eps = arguments
        _, mean, rstd = results
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(input, mean, rstd, weight, bias)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        if grads[0] is None:
            return None, None, None
        input, mean, rstd, weight, bias = ctx.saved_tensors
        results = self.backward_operator(grads[0], input, ctx.rows, mean, rstd, weight, bias, ctx.eps, wanted)
        return _masked(results, wanted)

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        input, rows, weight, bias, eps = arguments
        return formulas.forward(self.view(input, rows), input, weight, bias, eps)


class _NormBackward(Derivative):
    inputs = (0, 1, 5)

    def __init__(self, view: Callable[[Tensor, Any], formulas.View]) -> None:
        self.view = view

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        grad_out, input, ctx.rows, _, _, weight, _, ctx.eps, ctx.mask = arguments
        ctx.save_for_backward(grad_out, input, weight)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        grad_out, input, weight = ctx.saved_tensors
        view = self.view(input, ctx.rows)
        return formulas.double_backward(view, _masked(grads, ctx.mask), grad_out, input, weight, ctx.eps)

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        grad_out, input, rows, _, _, weight, bias, eps, mask = arguments
        return tuple(formulas.backward(self.view(input, rows), grad_out, input, weight, bias, eps, mask))


class _RMSNorm(Derivative):
    inputs = (0, 2)

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        input, ctx.shape, weight, ctx.eps, ctx.plus_one, _ = arguments
        ctx.mark_non_differentiable(results[1])
        ctx.save_for_backward(input, results[1], weight)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        if grads[0] is None:
            return None, None
        input, rstd, weight = ctx.saved_tensors
        results = operators.rms_norm_backward(grads[0], input, ctx.shape, rstd, weight, ctx.eps, ctx.plus_one, wanted)
        return _masked(results, wanted)

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        input, shape, weight, eps, plus_one, _ = arguments
        y, _, rstd = formulas.forward(formulas.last_axes(input, shape, False, plus_one), input, weight, None, eps)
        return y, rstd


class _RMSNormBackward(Derivative):
    inputs = (0, 1, 4)

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        grad_out, input, ctx.shape, _, weight, ctx.eps, ctx.plus_one, ctx.mask = arguments
        ctx.save_for_backward(grad_out, input, weight)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        grad_out, input, weight = ctx.saved_tensors
        view = formulas.last_axes(input, ctx.shape, False, ctx.plus_one)
        arrived = [*_masked(grads, ctx.mask), None]
        return formulas.double_backward(view, arrived, grad_out, input, weight, ctx.eps)

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        grad_out, input, shape, _, weight, eps, plus_one, mask = arguments
        view = formulas.last_axes(input, shape, False, plus_one)
        return tuple(formulas.backward(view, grad_out, input, weight, None, eps, (*mask, False))[:2])


class _AddLayerNorm(Derivative):
    inputs = (0, 1, 3, 4)

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        _, _, ctx.shape, weight, bias, ctx.eps = arguments
        _, total, mean, rstd = results
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(total, mean, rstd, weight, bias)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        grad_out, grad_total = grads[:2]
        if grad_out is None:
            return grad_total, grad_total, None, None
        total, mean, rstd, weight, bias = ctx.saved_tensors
        mask = [wanted[0] or wanted[1], *wanted[2:]]
        results = operators.add_layer_norm_backward(
            grad_out, grad_total, total, ctx.shape, mean, rstd, weight, bias, ctx.eps, mask
        )
        grad_input, grad_weight, grad_bias = _masked(results, mask)
        return grad_input, grad_input, grad_weight, grad_bias

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        input, residual, shape, weight, bias, eps = arguments
        total = input + residual
        y, mean, rstd = formulas.forward(formulas.last_axes(total, shape), total, weight, bias, eps)
        return y, total, mean, rstd


class _AddLayerNormBackward(Derivative):
    inputs = (0, 1, 2, 6)

    def keep(self, ctx: Any, arguments: Sequence[Any], results: tuple[Tensor, ...]) -> None:
        grad_out, _, total, ctx.shape, _, _, weight, _, ctx.eps, ctx.mask = arguments
        ctx.save_for_backward(grad_out, total, weight)

    def backward(self, ctx: Any, grads: Sequence[Gradient], wanted: list[bool]) -> Sequence[Gradient]:
        grad_out, total, weight = ctx.saved_tensors
        view = formulas.last_axes(total, ctx.shape)
        arrived = _masked(grads, ctx.mask)
        to_dy, to_x, to_weight = formulas.double_backward(view, arrived, grad_out, total, weight, ctx.eps)
        return to_dy, arrived[0], to_x, to_weight

    def composed(self, *arguments: Any) -> tuple[Tensor, ...]:
        grad_out, grad_total, total, shape, _, _, weight, bias, eps, mask = arguments
        grads = formulas.backward(formulas.last_axes(total, shape), grad_out, total, weight, bias, eps, mask)
        if grad_total is not None and mask[0]:
            grads[0] = grads[0] + grad_total
        return tuple(grads)


DERIVATIVES: dict[str, Derivative] = {
    "layer_norm": _Norm("layer_norm_backward", formulas.last_axes),
    "layer_norm_backward": _NormBackward(formulas.last_axes),
    "rms_norm": _RMSNorm(),
    "rms_norm_backward": _RMSNormBackward(),
    "add_layer_norm": _AddLayerNorm(),
    "add_layer_norm_backward": _AddLayerNormBackward(),
    "group_norm": _Norm("group_norm_backward", formulas.groups),
    "group_norm_backward": _NormBackward(formulas.groups),
}


def kernel(name: str) -> Callable[..., tuple[Tensor, ...]]:
    """Return what runs above the CPU kernel of an operator: it records how to differentiate."""
    derivative = DERIVATIVES[name]
    operator = getattr(operators, name).default

    def below(*arguments: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            results: tuple[Tensor, ...] = operator(*arguments)
        return results

    # torch.autograd.Function, and so register_autograd, refuses torch.func; but this runs within one level of it.
    class Function(torch.autograd.function._SingleLevelFunction):
        @staticmethod
        def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
            if torch._C._are_functorch_transforms_active():
                # Below may be another level of torch.func, which differentiates in its turn.
                with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
                    results = below(*arguments)
            else:
                results = below(*arguments)
            ctx.set_materialize_grads(False)
            derivative.keep(ctx, arguments, results)
            return results

        @staticmethod
        def backward(ctx: Any, *grads: Gradient) -> tuple[Gradient, ...]:
            wanted = [ctx.needs_input_grad[i] for i in derivative.inputs]
            result: list[Gradient] = [None] * len(ctx.needs_input_grad)
            for i, grad in zip(derivative.inputs, derivative.backward(ctx, grads, wanted), strict=True):
                result[i] = grad
            return tuple(result)

    Function.__name__ = "".join(word.capitalize() for word in name.split("_")).replace("Rms", "RMS")
    apply: Callable[..., tuple[Tensor, ...]] = Function.apply  # type: ignore[attr-defined]

    def autograd(*arguments: Any) -> tuple[Tensor, ...]:
        if forward_ad._current_level >= 0 and _has_tangent(arguments):
            return derivative.composed(*arguments)
        if not (torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments)):
            return below(*arguments)
        if torch._C._are_functorch_transforms_active():
            with enable_single_level_autograd_function():
                return apply(*arguments)
        return apply(*arguments)

    return autograd


def _has_tangent(arguments: Sequence[Any]) -> bool:
    unpack: Any = forward_ad.unpack_dual
    return any(isinstance(a, Tensor) and unpack(a).tangent is not None for a in arguments)

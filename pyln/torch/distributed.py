"""Layer and RMS norm of tensors whose normalized dimensions are sharded over the ranks of a process group.

Each rank holds a piece of every row. Forward gathers the moments of the pieces, five numbers per row, and backward
those of the gradient, four; every rank merges them in the order of the ranks, so that all go on with the same bits.
Gradients of the weight and of the bias are those of the rank's own columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from pyln import _arguments as arguments
from pyln._arguments import Array
from pyln._call import LAYER, RMS
from pyln._norm import Norm, look_at
from pyln.building_blocks import (
    GradMoments,
    Moments,
    apply_grad_moments,
    apply_moments,
    grad_moments,
    merge_grad_moments,
    merge_moments,
    moments,
)
from pyln.torch._arrays import array, check_tensors, tensor

__all__ = ["ShardedLayerNorm", "ShardedRMSNorm", "layer_norm", "rms_norm"]

Group = Any  # torch's ProcessGroup, which builds of torch without distributed lack

# What ranks tell each other first. It has a fixed size, so that nobody waits for numbers that do not come.
_GREETING = np.dtype([("failed", "?"), ("grad_input", "?"), ("count", "i8"), ("text", "S246")])


def layer_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *,
    group: Group | None = None,
) -> Tensor:
    """Normalize rows of which each rank of a group has a piece, as ``torch.nn.functional.layer_norm`` does whole ones.

    Every rank of the group calls it, and backward too, with its own piece of the same rows.

    Parameters
    ----------
    input
        This rank's CPU tensor of shape ``(*, *normalized_shape)``, of float32, float64, float16 or bfloat16. Ranks may
        differ in normalized_shape, but not in the axes before it.
    normalized_shape
        The sizes of this rank's piece of a row: an int or a sequence of ints.
    weight, bias
        Tensors of shape normalized_shape, or None: those of this rank's columns.
    eps
        As in ``pyln.layer_norm``.
    group
        Process group of the ranks; the default one if None.

    Returns
    -------
    y
        This rank's piece, of input's shape and type, within the error bounds of a whole row.

    Raises
    ------
    RuntimeError
        The process group is not initialized, this rank is not in it, or another rank's arguments are wrong.
    TypeError, ValueError
        As ``pyln.layer_norm``. A ValueError on every rank if they differ in what they ask for.

    """
    return _norm(LAYER, input, normalized_shape, weight, bias, eps, group)


def rms_norm(
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
    *,
    group: Group | None = None,
) -> Tensor:
    """Divide rows of which each rank of a group has a piece by their root mean square.

    Parameters
    ----------
    input, normalized_shape, weight, group
        As in ``layer_norm``.
    eps
        As in ``pyln.rms_norm``.

    Returns
    -------
    y
        As ``layer_norm``.

    Raises
    ------
    RuntimeError, TypeError, ValueError
        As ``layer_norm``.

    """
    return _norm(RMS, input, normalized_shape, weight, None, eps, group)


class ShardedLayerNorm(torch.nn.LayerNorm):
    """``torch.nn.LayerNorm`` of a dimension that is sharded over the ranks of a group.

    Parameters
    ----------
    normalized_shape
        The sizes of this rank's piece of a row. weight and bias have this shape.
    eps, elementwise_affine, bias, device, dtype
        As in ``torch.nn.LayerNorm``.
    group
        Process group of the ranks; the default one if None.

    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        group: Group | None = None,
    ) -> None:
        shape = list(arguments.shape_tuple("normalized_shape", normalized_shape))
        super().__init__(shape, eps, elementwise_affine, bias, device, dtype)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:
        """Return this rank's piece of y."""
        return layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps, group=self.group)


class ShardedRMSNorm(torch.nn.RMSNorm):
    """``torch.nn.RMSNorm`` of a dimension that is sharded over the ranks of a group.

    Parameters
    ----------
    normalized_shape, group
        As in ``ShardedLayerNorm``.
    eps, elementwise_affine, device, dtype
        As in ``torch.nn.RMSNorm``.

    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        group: Group | None = None,
    ) -> None:
        shape = list(arguments.shape_tuple("normalized_shape", normalized_shape))
        super().__init__(shape, eps, elementwise_affine, device, dtype)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:
        """Return this rank's piece of y."""
        return rms_norm(input, self.normalized_shape, self.weight, self.eps, group=self.group)


class _Shards(NamedTuple):
    """The pieces that the ranks of a group have."""

    group: Group
    counts: list[int]  # elements of a row on each rank
    grad_input: bool  # whether any rank's backward needs the gradient of its input


def _norm(
    operation: int,
    input: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    group: Group | None,
) -> Tensor:
    _check_group(group)
    name = "layer_norm" if operation == LAYER else "rms_norm"
    try:
        norm = _look_at(operation, input, normalized_shape, weight, bias)
        eps = arguments.epsilon(eps, norm.x.dtype, operation == RMS)
    except Exception as error:
        _agree(group, f"{type(error).__name__} in {name}: {error}", failed=True)
        raise
    wanted = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (input, weight, bias))
    rows = list(norm.x.shape[: norm.axes[0]])
    text = f"{name} of {norm.x.dtype} rows {rows}, eps={eps!r}, {'with' if wanted else 'without'} gradients"
    shards = _agree(group, text, count=int(np.prod(norm.norm_shape)), grad_input=wanted and input.requires_grad)
    axes = tuple(range(*norm.axes))
    own = moments(norm.x, axes, rms=operation == RMS)
    pieces = zip(shards.counts, _all_gather(own.values, shards.group), strict=True)
    whole = reduce(merge_moments, (Moments(count, values, own.rms) for count, values in pieces))
    y: Tensor = _Apply.apply(input, weight, bias, whole, axes, eps, shards)  # type: ignore[no-untyped-call]
    return y


class _Apply(torch.autograd.Function):
    """What follows once the moments of the whole rows are known."""

    @staticmethod
    def forward(
        ctx: Any,
        input: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        moments: Moments,
        axes: tuple[int, ...],
        eps: float,
        shards: _Shards,
    ) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.moments, ctx.axes, ctx.eps, ctx.shards = moments, axes, eps, shards
        ctx.types = [None if p is None else p.dtype for p in (weight, bias)]
        y = apply_moments(array(input), moments, array(weight), array(bias), eps, axis=axes)
        return tensor(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        dy, x, weight = map(array, (grad_out, *ctx.saved_tensors))
        shards: _Shards = ctx.shards
        mask = ctx.needs_input_grad[:3]
        if shards.grad_input:  # on all ranks then
            own = grad_moments(dy, x, ctx.moments, weight, ctx.eps, axis=ctx.axes).values
            pieces = zip(shards.counts, _all_gather(own, shards.group), strict=True)
            whole = reduce(merge_grad_moments, (GradMoments(count, values) for count, values in pieces))
        else:  # grad_weight and grad_bias do not need them
            whole = GradMoments(ctx.moments.count, np.zeros_like(ctx.moments.values[..., :4]))
        grads = apply_grad_moments(dy, x, ctx.moments, whole, weight, ctx.eps, axis=ctx.axes, output_mask=mask)
        dx, *parameters = (None if g is None else tensor(g) for g in grads)
        rounded = (None if g is None else g.to(t) for g, t in zip(parameters, ctx.types, strict=True))
        return dx, *rounded, None, None, None, None


# ---- What ranks tell each other ----


def _check_group(group: Group | None) -> None:
    if not dist.is_available() or not dist.is_initialized():
        raise RuntimeError(
            "the process group is not initialized; first torch.distributed.init_process_group('gloo'), on every rank"
        )
    if dist.get_rank(group) < 0:
        raise RuntimeError(f"rank {dist.get_rank()} is not in the group that was given")


def _agree(group: Group | None, text: str, failed: bool = False, count: int = 0, grad_input: bool = False) -> _Shards:
    """Tell the others what is asked for here, or why it cannot be done; raise on all ranks if they differ."""
    own = np.array([(failed, grad_input, count, text.encode())], _GREETING)
    greetings = np.concatenate([np.asarray(a).view(_GREETING) for a in _all_gather(own.view(np.uint8), group)])
    ranks = dist.get_process_group_ranks(group) if group is not None else range(len(greetings))
    if not failed and (greetings["failed"].any() or (greetings["text"] != greetings["text"][0]).any()):
        lines = "".join(
            f"\n    rank {rank}: {said.decode(errors='replace')}"
            for rank, said in zip(ranks, greetings["text"].tolist(), strict=True)
        )
        if greetings["failed"].any():
            raise RuntimeError(f"another rank's arguments are wrong:{lines}")
        raise ValueError(f"the ranks of a group must ask for the same, of the same rows:{lines}")
    return _Shards(group, greetings["count"].tolist(), bool(greetings["grad_input"].any()))


def _all_gather(values: Array, group: Group | None) -> list[Array]:
    """Return the arrays of all ranks, which have one shape and type, in the order of the ranks."""
    own = torch.from_numpy(values)
    gathered = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
    dist.all_gather(gathered, own, group)
    return [tensor.numpy() for tensor in gathered]


def _look_at(operation: int, input: Any, normalized_shape: Any, weight: Any, bias: Any) -> Norm:
    given = {"input": input, "weight": weight, "bias": bias}
    check_tensors(**given)
    for name, value in given.items():
        if value is not None and (value.device.type != "cpu" or value.layout != torch.strided):
            raise TypeError(
                f"{name}: expected a dense tensor in the CPU's memory, got {value.layout} on {value.device}"
            )
    return look_at(operation, array(input), normalized_shape, array(weight), array(bias), shared=True)

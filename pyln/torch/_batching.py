"""The operators under torch.vmap: one call for the whole batch.

The batch becomes the first axis, of rows that are there anyway. A weight in the batch, or one whose gradient is wanted
for each example, is a weight for each example; group norm has none of those, and goes through such a batch in a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

operators = torch.ops.pyln
Result = tuple[tuple[Tensor, ...], tuple[int, ...]]


def _first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _zeros(count: int) -> tuple[int, ...]:
    return (0,) * count


class _LastAxes:
    """Rows are the last axes: an operator's tensors and parameters, by their places among its arguments."""

    def __init__(self, name: str, tensors: Sequence[int], shape: int, parameters: Sequence[int], mask: int | None):
        self.operator = getattr(operators, name).default
        self.tensors, self.shape, self.parameters, self.mask = tensors, shape, parameters, mask

    def __call__(self, info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Result:
        size = info.batch_size
        batched = list(arguments)
        for i in self.tensors:
            if arguments[i] is not None:
                batched[i] = _first(arguments[i], in_dims[i], size)
        ndim, k = batched[self.tensors[0]].ndim, len(arguments[self.shape])
        gradients_of_each = self.mask is not None and any(arguments[self.mask][1:])
        each = gradients_of_each or any(in_dims[i] is not None for i in self.parameters)
        for i in self.parameters:
            if arguments[i] is not None and (each or arguments[i].ndim > k):
                parameter = _first(arguments[i], in_dims[i], size)
                batched[i] = parameter.reshape(size, *(1,) * (ndim - parameter.ndim), *parameter.shape[1:])
        results = list(self.operator(*batched))
        if self.mask is not None:
            for j, (i, wanted) in enumerate(zip(self.parameters, arguments[self.mask][1:], strict=True), 1):
                if wanted:
                    own = arguments[i].shape if in_dims[i] is None else arguments[i].movedim(in_dims[i], 0).shape[1:]
                    results[j] = results[j].reshape(size, *own)
            results = [
                grad if wanted else grad.new_empty(size, 0)
                for grad, wanted in zip(results, arguments[self.mask], strict=True)
            ]
        return tuple(results), _zeros(len(results))


def _looped(operator: Callable[..., tuple[Tensor, ...]], info: Any, in_dims: Sequence[Any], arguments: Any) -> Result:
    calls = [
        operator(*(a.select(d, i) if isinstance(d, int) else a for a, d in zip(arguments, in_dims, strict=True)))
        for i in range(info.batch_size)
    ]
    results = tuple(torch.stack(parts) for parts in zip(*calls, strict=True))
    return results, _zeros(len(results))


class _Groups:
    """Groups of channels are rows: the batch joins the axis of examples."""

    def __init__(self, name: str, tensors: Sequence[int], parameters: Sequence[int], mask: int | None):
        self.operator = getattr(operators, name).default
        self.tensors, self.parameters, self.mask = tensors, parameters, mask

    def __call__(self, info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Result:
        size = info.batch_size
        of_each = self.mask is not None and any(arguments[self.mask][1:])
        if of_each or any(in_dims[i] is not None for i in self.parameters):
            return _looped(self.operator, info, in_dims, arguments)
        joined = list(arguments)
        for i in self.tensors:
            joined[i] = _first(arguments[i], in_dims[i], size).flatten(0, 1)
        results = tuple(
            r.unflatten(0, (size, -1)) if r.ndim > 1 else r.new_empty(size, 0) for r in self.operator(*joined)
        )
        return results, _zeros(len(results))


def rules() -> dict[str, Callable[..., Result]]:
    """Return torch.library's vmap function of each operator."""
    return {
        "layer_norm": _LastAxes("layer_norm", (0,), 1, (2, 3), None),
        "layer_norm_backward": _LastAxes("layer_norm_backward", (1, 0, 3, 4), 2, (5, 6), 8),
        "rms_norm": _LastAxes("rms_norm", (0,), 1, (2,), None),
        "rms_norm_backward": _LastAxes("rms_norm_backward", (1, 0, 3), 2, (4,), 7),
        "add_layer_norm": _LastAxes("add_layer_norm", (0, 1), 2, (3, 4), None),
        "add_layer_norm_backward": _LastAxes("add_layer_norm_backward", (2, 0, 1, 4, 5), 3, (6, 7), 9),
        "group_norm": _Groups("group_norm", (0,), (2, 3), None),
        "group_norm_backward": _Groups("group_norm_backward", (1, 0, 3, 4), (5, 6), 8),
    }

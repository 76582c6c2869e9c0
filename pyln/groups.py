"""Group and instance normalization, forward and backward: rows are groups of channels, or channels, of each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, overload

import numpy as np

from pyln import _arguments as arguments
from pyln._arguments import Array, Shape
from pyln._call import LAYER
from pyln._norm import Norm, flags, gradients

Gradients = tuple[Array | None, Array | None, Array | None]


class _Groups:
    """An input (N, C, *) in groups of channels, seen as (N, groups, C / groups, *)."""

    def __init__(self, function: str, input: object, num_groups: object, weight: object, bias: object = None) -> None:
        self.function = function
        self.x = arguments.tensor("input", input)
        if self.x.ndim < 2:
            raise ValueError(f"Expected at least 2 dimensions for input tensor but received {self.x.ndim}")
        examples, self.channels, *spatial = self.x.shape
        self.groups = self.channels if num_groups is None else self._checked(num_groups)
        self.stat_shape: Shape = (examples, self.groups)
        size = self.channels // self.groups if self.groups else 1
        self._split_shape = (examples, self.groups, size, *spatial)
        self.weight = self._parameter("weight", weight)
        self.bias = self._parameter("bias", bias)
        arguments.same_type(weight=self.weight, bias=self.bias)
        self.norm = Norm(LAYER, self.split(self.x), (2, self.x.ndim + 1))

    def _checked(self, num_groups: object) -> int:
        groups = arguments.integer("num_groups", num_groups)
        if groups <= 0:
            raise ValueError(f"Expected num groups to be greater than 0, got {groups}")
        if self.channels % groups != 0:
            raise ValueError(
                "Expected number of channels in input to be divisible by num_groups, "
                f"but got input of shape {list(self.x.shape)} and num_groups={groups}"
            )
        return groups

    def _parameter(self, name: str, value: object) -> Array | None:
        if value is None:
            return None
        array = arguments.parameter_tensor(name, value, self.x)
        if array.shape != (self.channels,):
            raise ValueError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, "
                f"but got {name} of shape {list(array.shape)} and input of shape {list(self.x.shape)}"
            )
        return array

    def split(self, array: Array) -> Array:
        return np.asarray(array).reshape(self._split_shape)

    def of_channels(self, array: Array | None) -> Array | None:
        """A number for each channel, with the axes of what is split."""
        if array is None:
            return None
        return array.reshape(1, *self._split_shape[1:3], *(1 for _ in self._split_shape[3:]))

    def of_groups(self, array: Array | None) -> Array | None:
        """A number for each group, with the axes of what is split."""
        return None if array is None else array.reshape(self.norm.stat_shape)


def _forward(
    groups: _Groups, eps: float, out: Array | None, dtype: Any, return_stats: bool
) -> Array | tuple[Array, Array, Array]:
    x, norm = groups.x, groups.norm
    eps = arguments.epsilon(eps, x.dtype)
    y = arguments.result("out", out, x, dtype)
    if out is not None:
        in_place = ("input",) if x.dtype == y.dtype else ()
        arguments.distinct({"out": y}, {"input": x, "weight": groups.weight, "bias": groups.bias}, in_place)
    mean, rstd = (np.empty(groups.stat_shape, norm.real) if return_stats else None for _ in range(2))
    norm.run(
        "forward",
        eps,
        x=norm.x,
        y=groups.split(y),
        gamma=groups.of_channels(groups.weight),
        beta=groups.of_channels(groups.bias),
        mean=groups.of_groups(mean),
        rstd=groups.of_groups(rstd),
    )
    return y if mean is None or rstd is None else (y, mean, rstd)


def _backward(
    groups: _Groups,
    grad_out: object,
    mean: object,
    rstd: object,
    output_mask: Sequence[bool],
    out: Sequence[Array | None] | None,
    flags: int,
) -> Gradients:
    x, norm = groups.x, groups.norm
    dy = arguments.tensor("grad_out", grad_out, arguments.companions(x.dtype))
    arguments.same_shape("grad_out", dy, x.shape, "input")
    means = arguments.statistic("mean", mean, x, groups.stat_shape, groups.function)
    rstds = arguments.statistic("rstd", rstd, x, groups.stat_shape, groups.function)
    of_channels = (groups.channels,)
    dx, dgamma, dbeta = gradients(
        ("input", "weight", "bias"),
        (x.shape, of_channels, of_channels),
        x,
        output_mask,
        out,
        flags,
        {"grad_out": dy, "input": x, "mean": means, "rstd": rstds, "weight": groups.weight},
    )
    norm.run(
        "backward",
        flags=flags,
        dy=groups.split(dy),
        x=norm.x,
        mean=groups.of_groups(means),
        rstd=groups.of_groups(rstds),
        gamma=groups.of_channels(groups.weight),
        dx=None if dx is None else groups.split(dx),
        dgamma=groups.of_channels(dgamma),
        dbeta=groups.of_channels(dbeta),
    )
    return dx, dgamma, dbeta


@overload
def group_norm(
    input: object,
    num_groups: int,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
) -> Array: ...
@overload
def group_norm(
    input: object,
    num_groups: int,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
) -> tuple[Array, Array, Array]: ...
def group_norm(
    input: object,
    num_groups: int,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalize each example over groups of its channels: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    As ``torch.nn.functional.group_norm``. mean and var are those of one group of one example: C / num_groups channels
    that follow each other, with all that is behind them. One group is layer normalization but for the weight, as many
    as channels are instance normalization. (Wu, He: Group Normalization, 2018.)

    Parameters
    ----------
    input
        Array of shape ``(N, C, *)``, as in ``layer_norm``; copied where a group's elements are not contiguous and there
        is a weight or a bias.
    num_groups
        A divisor of C.
    weight, bias
        Arrays of shape (C,), one number per channel, or None for 1 and 0; types as in ``layer_norm``.
    eps, out, dtype
        As in ``layer_norm``.
    return_stats
        Return mean and rstd too, as ``group_norm_backward`` wants them.

    Returns
    -------
    y, or (y, mean, rstd)
        y as input; mean and rstd of shape (N, num_groups), as ``torch.native_group_norm`` returns them.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for a num_groups that does not divide C.

    """
    return _forward(_Groups("group_norm", input, num_groups, weight, bias), eps, out, dtype, return_stats)


def group_norm_backward(
    grad_out: object,
    input: object,
    num_groups: int,
    mean: object,
    rstd: object,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    out: Sequence[Array | None] | None = None,
    accumulate: bool = False,
) -> Gradients:
    """Gradients of group_norm: those of ``layer_norm_backward``, each example's group being a row.

    Parameters
    ----------
    grad_out
        Gradient arriving at y, of input's shape; of a type that y may have.
    input, num_groups, weight
        As given to ``group_norm``.
    mean, rstd
        As ``group_norm(..., return_stats=True)`` returned them.
    output_mask, out, accumulate
        As in ``layer_norm_backward``.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        None where masked. The last two have shape (C,), and are float32 for 16-bit inputs.

    Raises
    ------
    TypeError, ValueError
        As ``group_norm``; also for statistics of another shape than it returned.

    """
    groups = _Groups("group_norm", input, num_groups, weight)
    return _backward(groups, grad_out, mean, rstd, output_mask, out, flags(accumulate=accumulate))


@overload
def instance_norm(
    input: object,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[False] = ...,
) -> Array: ...
@overload
def instance_norm(
    input: object,
    weight: object = ...,
    bias: object = ...,
    eps: float = ...,
    *,
    out: Array | None = ...,
    dtype: Any = ...,
    return_stats: Literal[True],
) -> tuple[Array, Array, Array]: ...
def instance_norm(
    input: object,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    out: Array | None = None,
    dtype: Any = None,
    return_stats: bool = False,
) -> Array | tuple[Array, Array, Array]:
    """Normalize each channel of each example: ``(x - mean) / sqrt(var + eps) * weight + bias``.

    As ``torch.nn.functional.instance_norm`` without running statistics; ``group_norm`` with a group for each channel.
    (Ulyanov, Vedaldi, Lempitsky: Instance Normalization, 2016.)

    Parameters
    ----------
    input, weight, bias, eps, out, dtype, return_stats
        As in ``group_norm``.

    Returns
    -------
    y, or (y, mean, rstd)
        y as input; mean and rstd of shape (N, C).

    Raises
    ------
    TypeError, ValueError
        As ``group_norm``; also, as PyTorch, for an input with one element in each channel.

    """
    groups = _Groups("instance_norm", input, None, weight, bias)
    _refuse_single_elements(groups.x)
    return _forward(groups, eps, out, dtype, return_stats)


def instance_norm_backward(
    grad_out: object,
    input: object,
    mean: object,
    rstd: object,
    weight: object = None,
    output_mask: Sequence[bool] = (True, True, True),
    *,
    out: Sequence[Array | None] | None = None,
    accumulate: bool = False,
) -> Gradients:
    """Gradients of instance_norm: those of ``layer_norm_backward``, each example's channel being a row.

    Parameters
    ----------
    grad_out, input, mean, rstd, weight, output_mask, out, accumulate
        As in ``group_norm_backward``.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        As ``group_norm_backward``.

    Raises
    ------
    TypeError, ValueError
        As ``group_norm_backward``.

    """
    groups = _Groups("instance_norm", input, None, weight)
    _refuse_single_elements(groups.x)
    return _backward(groups, grad_out, mean, rstd, output_mask, out, flags(accumulate=accumulate))


def _refuse_single_elements(x: Array) -> None:
    if all(n == 1 for n in x.shape[2:]):
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {list(x.shape)}")

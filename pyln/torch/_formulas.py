"""The operators and their derivatives in PyTorch's own operations: what is needed seldom, and need not be fast.

These are differentiable as often as one likes, in both modes; double backward and forward mode are made of them. Rows
are computed in float32, or float64. r is rstd, and for z of the input's shape, means taken over one row::

    P(z) = z - mean(z) - xhat * mean(z * xhat)        without mean(z) in rms_norm
    d xhat = r * P(d x),  d r = -r * r * mean(xhat * d x)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pyln.torch._arrays import arithmetic_type

Gradient = Tensor | None


class View(NamedTuple):
    """How rows are seen: the input's shape then, the axes of one row, a parameter's shape or None for its own."""

    shape: Sequence[int]
    dims: Sequence[int]
    parameter: Sequence[int] | None = None
    centered: bool = True
    plus_one: bool = False

    def rows(self, tensor: Tensor) -> Tensor:
        return tensor.to(arithmetic_type(tensor.dtype)).reshape(self.shape)

    def factor(self, weight: Tensor | None, like: Tensor) -> Tensor | float:
        if weight is None:
            return 1.0
        weight = self.seen(weight).to(like.dtype)
        return 1 + weight if self.plus_one else weight

    def seen(self, parameter: Tensor) -> Tensor:
        return parameter if self.parameter is None else parameter.reshape(self.parameter)

    def statistic(self, of_rows: Tensor) -> Tensor:
        return of_rows if self.parameter is None else of_rows.flatten(1)

    def summed(self, terms: Tensor, parameter: Tensor) -> Tensor:
        shape = parameter.shape if self.parameter is None else self.parameter
        return terms.sum_to_size(*shape).reshape(parameter.shape).to(parameter.dtype)


def last_axes(input: Tensor, normalized_shape: Sequence[int], centered: bool = True, plus_one: bool = False) -> View:
    """See the last axes as rows."""
    return View(input.shape, range(-len(normalized_shape), 0), None, centered, plus_one)


def groups(input: Tensor, num_groups: int) -> View:
    """See groups of channels as rows."""
    n, channels, *spatial = input.shape
    size = channels // num_groups
    shape = (n, num_groups, size, *spatial)
    return View(shape, range(2, len(shape)), (1, num_groups, size, *(1,) * len(spatial)))


class _Rows:
    def __init__(self, view: View, input: Tensor, eps: float) -> None:
        x = view.rows(input)
        self.dims = tuple(view.dims)
        self.centered = view.centered
        self.mean = self.average(x)
        if view.centered:
            x = x - self.mean
        self.rstd = torch.rsqrt(self.average(x * x) + eps)
        self.xhat = x * self.rstd

    def average(self, z: Tensor) -> Tensor:
        return z.mean(self.dims, keepdim=True)

    def project(self, z: Tensor) -> Tensor:
        p = z - self.xhat * self.average(z * self.xhat)
        return p - self.average(z) if self.centered else p


def forward(
    view: View, input: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, mean and rstd as the operator does."""
    rows = _Rows(view, input, eps)
    y = rows.xhat * view.factor(weight, rows.xhat)
    if bias is not None:
        y = y + view.seen(bias)
    return y.reshape(input.shape).to(input.dtype), view.statistic(rows.mean), view.statistic(rows.rstd)


def backward(
    view: View,
    grad_out: Tensor,
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    output_mask: Sequence[bool],
) -> list[Tensor]:
    """Return the gradients of input, weight and bias; those not wanted have no elements."""
    rows, dy = _Rows(view, input, eps), view.rows(grad_out)
    nothing = input.new_empty(0)
    grads = [nothing, nothing, nothing]
    if output_mask[0]:
        grads[0] = (rows.rstd * rows.project(dy * view.factor(weight, dy))).reshape(input.shape).to(input.dtype)
    if output_mask[1] and weight is not None:
        grads[1] = view.summed(dy * rows.xhat, weight)
    if output_mask[2] and bias is not None:
        grads[2] = view.summed(dy, bias)
    return grads


def double_backward(
    view: View,
    grads: Sequence[Gradient],
    grad_out: Tensor,
    input: Tensor,
    weight: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor, Gradient]:
    """Return the gradients of grad_out, input and weight, from those that arrive at backward's three results."""
    rows, dy = _Rows(view, input, eps), view.rows(grad_out)
    r, xhat, average = rows.rstd, rows.xhat, rows.average
    v, u, t = grads
    to_dy, to_xhat, to_r = torch.zeros_like(dy), torch.zeros_like(dy), None
    to_weight = None
    if v is not None:  # of grad_input = r * P(g), where <v, P(g)> = <P(v), g>
        v = view.rows(v)
        factor = view.factor(weight, dy)
        g, pv = dy * factor, rows.project(v)
        to_dy = r * pv * factor
        to_xhat = -r * (v * average(g * xhat) + g * average(v * xhat))
        to_r = average(pv * g)  # divided by the size of a row, as d r is a mean
        if weight is not None:
            to_weight = view.summed(r * pv * dy, weight)
    if u is not None:  # of grad_weight = sum(dy * xhat)
        u = view.seen(u)
        to_dy, to_xhat = to_dy + u * xhat, to_xhat + u * dy
    if t is not None:  # of grad_bias = sum(dy)
        to_dy = to_dy + view.seen(t)
    to_x = r * rows.project(to_xhat)
    if to_r is not None:
        to_x = to_x - to_r * r * r * xhat
    return to_dy.reshape(input.shape).to(grad_out.dtype), to_x.reshape(input.shape).to(input.dtype), to_weight

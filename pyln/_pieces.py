"""Backward of rows in pieces, with the bounds of a whole row for every gradient.

``pyln.grad_moments`` gives mean(g * xhat) of a piece as one number. Where g is far from 0 against its spread, that of
the whole row is a small difference of large ones. So here a number near the mean of g is taken from it first: each
piece takes its own first g, and tells what it was and what mean(xhat) is, so that another can be taken instead, the
same for all pieces. RMS norm subtracts no mean from g, and so loses nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from pyln import _arguments as arguments
from pyln._arguments import Array, Shape
from pyln.building_blocks import GradMoments, Moments, apply_grad_moments, grad_moments, merge_grad_moments


def numbers(rms: bool) -> int:
    """Return how many numbers per row each piece tells the others."""
    return 3 if rms else 5


def of_piece(dy: Array, x: Array, moments: Moments, weight: Array | None, eps: float, axes: Shape) -> Array:
    """Return what others need to know of a piece: those of GradMoments, of g - k; k; the mean of xhat."""
    if moments.rms:
        return grad_moments(dy, x, moments, weight, eps, axis=axes).values
    g = _g(dy, x, weight, axes)
    k = _first(g, axes)
    ones = np.broadcast_to(g.dtype.type(1), g.shape)
    own = grad_moments(g - k, x, moments, None, eps, axis=axes).values
    xhat_mean = grad_moments(ones, x, moments, None, eps, axis=axes).values[..., 2]
    return np.concatenate([own, k[..., None], xhat_mean[..., None]], axis=-1)


def merged(counts: Sequence[int], pieces: Sequence[Array], rms: bool) -> Array:
    """Return what is to be applied to each piece: GradMoments of the whole rows, of g - k, and k."""
    if not rms:
        k = next((values[..., 3] for count, values in zip(counts, pieces, strict=True) if count), pieces[0][..., 3])
        pieces = [_around(values, k) for values in pieces]
    of_pieces = (GradMoments(count, values) for count, values in zip(counts, pieces, strict=True))
    values = reduce(merge_grad_moments, of_pieces).values
    return values if rms else np.concatenate([values, k[..., None]], axis=-1)


def apply(
    dy: Array,
    x: Array,
    moments: Moments,
    merged: Array,
    weight: Array | None,
    eps: float,
    axes: Shape,
    output_mask: Sequence[bool],
) -> tuple[Array | None, Array | None, Array | None]:
    """Return the gradients of a piece."""
    of_rows = GradMoments(moments.count, np.ascontiguousarray(merged[..., :3]))
    if moments.rms:
        return apply_grad_moments(dy, x, moments, of_rows, weight, eps, axis=axes, output_mask=output_mask)
    dx = grad_weight = grad_bias = None
    if output_mask[0]:
        g = _g(dy, x, weight, axes) - merged[..., 3]
        dx = apply_grad_moments(g, x, moments, of_rows, None, eps, axis=axes, output_mask=(True, False, False))[0]
    if any(output_mask[1:]):
        mask = (False, *output_mask[1:])
        grads = apply_grad_moments(dy, x, moments, of_rows, weight, eps, axis=axes, output_mask=mask)
        _, grad_weight, grad_bias = grads
    return dx, grad_weight, grad_bias


def _g(dy: Array, x: Array, weight: Array | None, axes: Shape) -> Array:
    real = arguments.arithmetic_type(x.dtype)
    g = dy.astype(real, copy=False)
    if weight is None:
        return g
    shape = tuple(n if a in axes else 1 for a, n in enumerate(x.shape))
    return g * weight.astype(real, copy=False).reshape(shape)


def _first(g: Array, axes: Shape) -> Array:
    """Return the first number of each row, or 0 where there is none."""
    first = g[tuple(slice(0, 1) if a in axes else slice(None) for a in range(g.ndim))]
    shape = tuple(1 if a in axes else n for a, n in enumerate(g.shape))
    return first if first.shape == shape else np.zeros(shape, g.dtype)


def _around(values: Array, k: Array) -> Array:
    """Return GradMoments of g - k for another k than the piece has taken."""
    apart = values[..., 3] - k
    mean = apart + values[..., 0]
    of_mean = mean - apart
    lost = (apart - (mean - of_mean)) + (values[..., 0] - of_mean) + values[..., 1]  # Knuth's two-sum
    return np.stack([mean, lost, values[..., 2] + apart * values[..., 4]], axis=-1)

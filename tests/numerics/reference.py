"""Layer and RMS normalization as the formula says, in long double: what the tests measure the library against.

It knows nothing of the library. The last axis is normalized. test_reference.py holds it against mpmath.
"""

from typing import NamedTuple

import numpy as np

Array = np.ndarray
LONG = np.longdouble


class Forward(NamedTuple):
    """What ``forward`` returns: y and xhat as the input, mean and rstd with the last axis as 1."""

    y: Array
    mean: Array
    rstd: Array
    xhat: Array


class Backward(NamedTuple):
    """What ``backward`` returns: dx as the input, dgamma and dbeta of one row's shape, with forward's rstd and xhat."""

    dx: Array
    dgamma: Array
    dbeta: Array
    rstd: Array
    xhat: Array


def forward(
    x: Array, gamma: Array | None = None, beta: Array | None = None, eps: float = 0.0, *, rms: bool = False
) -> Forward:
    """(x - mean) / sqrt(var + eps) * gamma + beta; where var + eps is 0, rstd is 0. With ``rms`` the mean is taken as 0."""
    mean, deviation = (np.zeros((*x.shape[:-1], 1), LONG), x.astype(LONG)) if rms else centred(x)
    var_plus_eps = row_mean(deviation**2) + LONG(eps)
    rstd = 1 / np.sqrt(np.where(var_plus_eps == 0, LONG(np.inf), var_plus_eps))
    xhat = deviation * rstd
    y = xhat * (1 if gamma is None else gamma.astype(LONG)) + (0 if beta is None else beta.astype(LONG))
    return Forward(y, mean, rstd, xhat)


def backward(
    dy: Array,
    x: Array,
    gamma: Array | None = None,
    eps: float = 0.0,
    *,
    rms: bool = False,
    of: Forward | None = None,
) -> Backward:
    """Gradients of sum(dy * y), by the chain rule through mean and var; ``of`` is what forward gave, if it was asked."""
    _, _, rstd, xhat = forward(x, eps=eps, rms=rms) if of is None else of
    dy = dy.astype(LONG)
    g = dy if gamma is None else dy * gamma
    deviation = g if rms else centred(g)[1]
    dx = rstd * (deviation - xhat * row_mean(deviation * xhat))
    return Backward(dx, sum_rows(dy * xhat), sum_rows(dy), rstd, xhat)


def centred(a: Array) -> tuple[Array, Array]:
    """The mean of each row, and what its elements are more than that.

    Deviations do not change when all of a row is shifted. A shift close to the mean leaves them exact, where the mean
    itself, rounded to a long double, would spoil those of a float64 row that is far from 0.
    """
    shift = a[..., :1].astype(LONG)
    shift = (shift + row_mean(a - shift)).astype(a.dtype).astype(LONG)
    shifted = a - shift
    shifted_mean = row_mean(shifted)
    return shift + shifted_mean, shifted - shifted_mean


def row_mean(a: Array) -> Array:
    """Mean over the last axis, which stays as 1."""
    return np.ascontiguousarray(a).mean(axis=-1, keepdims=True, dtype=LONG)


def sum_rows(a: Array) -> Array:
    """Sum over all axes but the last; along a contiguous axis NumPy sums in pairs, which loses next to nothing."""
    return np.ascontiguousarray(a.reshape(-1, a.shape[-1]).T).sum(axis=-1)

"""Normalization of rows whose elements lie in several pieces, on several machines perhaps.

Forward: each piece gives its ``moments``, these are merged, and applied to each piece. Backward: each piece gives its
``grad_moments``, these are merged, and applied to each piece. What travels is a few numbers per row. The result has the
error bound of a whole row's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyln import _arguments as arguments
from pyln import _core
from pyln._arguments import Array, Shape
from pyln._call import LAYER, RMS
from pyln._norm import Norm, backward, flags, look_at

Axis = int | Sequence[int]


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and variance of rows, or of pieces of them, with more digits than two numbers have.

    Attributes
    ----------
    count
        Elements in each row, or piece.
    values
        Array of the input's shape, but 1 for the normalized axes, and a last axis of 5: mean, mean_lost, var and
        var_lost of ``scale * input``, and scale, a power of two, which is 1 but for rows whose squares would overflow
        or vanish. mean + mean_lost is the mean, var + var_lost the variance (biased; of RMS norm the mean of the
        squares). float32, or float64 for an input of float64. This is what to send to other machines.
    rms
        Whether they are for RMS norm, which subtracts no mean.

    """

    count: int
    values: Array
    rms: bool = False

    def __post_init__(self) -> None:
        _check_values("Moments", self.count, self.values, 5)

    @classmethod
    def of(cls, count: int, mean: object, var: object, *, rms: bool = False) -> Moments:
        """Return those of plain statistics, of input's shape but 1 for the normalized axes.

        With ``rms``, mean is None and var the mean of the squares.
        """
        variance = arguments.tensor("var", var, ["float32", "float64"], owner="moments")
        if rms != (mean is None):
            raise ValueError(
                f"mean: expected {'None' if rms else 'an array'} with rms={rms}, got {arguments.shown(mean)}"
            )
        values = np.zeros((*variance.shape, 5), variance.dtype)
        if not rms:
            means = arguments.tensor("mean", mean, [arguments.type_name(variance.dtype)], owner="var")
            arguments.same_shape("mean", means, variance.shape, "var")
            values[..., 0] = means
        values[..., 2], values[..., 4] = variance, 1
        return cls(count, values, rms)

    @property
    def mean(self) -> Array:
        """The mean of the rows, rounded to the type of the values."""
        with np.errstate(over="ignore"):
            mean: Array = (self.values[..., 0] + self.values[..., 1]) / self.scale
        return mean

    @property
    def var(self) -> Array:
        """The variance of the rows, or the mean of their squares, rounded to the type of the values."""
        with np.errstate(over="ignore", under="ignore"):
            var: Array = (self.values[..., 2] + self.values[..., 3]) / self.scale / self.scale
        return var

    @property
    def mean_lost(self) -> Array:
        """What the mean of the scaled rows is more than values[..., 0]."""
        return self.values[..., 1]

    @property
    def var_lost(self) -> Array:
        """What the variance of the scaled rows is more than values[..., 2]."""
        return self.values[..., 3]

    @property
    def scale(self) -> Array:
        """The power of two by which rows were multiplied."""
        return self.values[..., 4]


@dataclass(frozen=True, eq=False)
class GradMoments:
    """Means of ``g = grad_out * weight`` and of xhat, and their covariance, over rows or pieces of them.

    Attributes
    ----------
    count
        Elements in each row, or piece.
    values
        Array of the input's shape, but 1 for the normalized axes, and a last axis of 4: g_mean, g_mean_lost (what the
        mean is more than that), xhat_mean, and g_xhat_cov, the mean of ``(g - g_mean) * (xhat - xhat_mean)``. For RMS
        norm the first three are 0, and the last is the mean of ``g * xhat``.

    """

    count: int
    values: Array

    def __post_init__(self) -> None:
        _check_values("GradMoments", self.count, self.values, 4)


def _check_values(name: str, count: object, values: object, numbers: int) -> None:
    if arguments.integer(f"{name} count", count) < 0:
        raise ValueError(f"{name} count: expected a number of elements, got {arguments.shown(count)}")
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name} values: expected a NumPy array, got {type(values).__name__}")
    array = arguments.tensor(f"{name} values", values, ["float32", "float64"], owner="moments")
    if not values.flags.aligned:
        raise ValueError(f"{name} values: the array is not aligned for {array.dtype}")
    if array.ndim < 2 or array.shape[-1] != numbers:
        raise ValueError(f"{name} values: expected a last axis of {numbers}, got shape {list(array.shape)}")


def moments(input: object, axis: Axis = -1, *, rms: bool = False) -> Moments:
    """Return the moments of an array, which may be a piece of a longer one, over an axis or consecutive axes.

    Parameters
    ----------
    input
        Array as in ``layer_norm``.
    axis
        An axis or consecutive axes of input.
    rms
        For RMS norm: the mean of the squares, and no mean.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``.

    """
    norm = look_at(RMS if rms else LAYER, input, None, axis=axis)
    values = norm.statistic(5)
    norm.run("moments", x=norm.x, moments=values)
    return Moments(math.prod(norm.norm_shape), values, bool(rms))


def merge_moments(a: Moments, b: Moments) -> Moments:
    """Return the moments of rows made of those that a is of and those that b is of.

    Raises
    ------
    ValueError
        The two are of different shapes or types, or only one is for RMS norm.

    """
    _check_kind(Moments, a=a, b=b)
    if a.rms != b.rms:
        raise ValueError(f"b: expected moments with rms={a.rms} as a has, got rms={b.rms}")
    return Moments(a.count + b.count, _merged(False, RMS if a.rms else LAYER, a, b), a.rms)


def merge_grad_moments(a: GradMoments, b: GradMoments) -> GradMoments:
    """Return the grad_moments of rows made of those that a is of and those that b is of.

    Raises
    ------
    ValueError
        The two are of different shapes or types.

    """
    _check_kind(GradMoments, a=a, b=b)
    return GradMoments(a.count + b.count, _merged(True, LAYER, a, b))


def _check_kind(kind: type[Moments | GradMoments], **given: Any) -> None:
    """Look at moments anew, as their arrays may have changed since."""
    for name, value in given.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name}: expected pyln.{kind.__name__}, got {type(value).__name__}")
        value.__post_init__()


def _merged(grads: bool, operation: int, a: Moments | GradMoments, b: Moments | GradMoments) -> Array:
    first, second = np.asarray(a.values), np.asarray(b.values)
    if first.shape != second.shape or first.dtype != second.dtype:
        raise ValueError(
            f"b: expected values of {first.dtype} {list(first.shape)} as a has, got {second.dtype} {list(second.shape)}"
        )
    if a.count + b.count >= 2**63:
        raise ValueError(f"b: expected rows of less than 2**63 elements together, got {a.count} and {b.count}")
    merged = np.empty(first.shape, first.dtype)
    rows, others, both = (np.ascontiguousarray(v).reshape(-1, v.shape[-1]) for v in (first, second, merged))
    _core.merge(grads, operation, arguments.type_code(merged.dtype), a.count, rows, b.count, others, both)
    return merged


def apply_moments(
    input: object,
    moments: Moments,
    weight: object = None,
    bias: object = None,
    eps: float = 1e-5,
    *,
    axis: Axis = -1,
    out: Array | None = None,
    dtype: Any = None,
    zero_centered: bool = False,
    round_steps: bool = False,
) -> Array:
    """Normalize an array, which may be a piece of a longer one, by given moments.

    Parameters
    ----------
    input, axis
        As given to ``moments``.
    moments
        Those of the whole rows.
    weight, bias
        Arrays of the shape of the piece's normalized axes, or None.
    eps, out, dtype, zero_centered, round_steps
        As in ``layer_norm``.

    Returns
    -------
    y
        As input.

    Raises
    ------
    TypeError, ValueError
        As ``layer_norm``; also for moments of other rows.

    """
    norm = _piece(input, moments, weight, bias, axis)
    x = norm.x
    eps = arguments.epsilon(eps, x.dtype)
    y = arguments.result("out", out, x, dtype)
    if out is not None:
        read = {"input": x, "moments": moments.values, "weight": norm.weight, "bias": norm.bias}
        arguments.distinct({"out": y}, read, ("input",) if x.dtype == y.dtype else ())
    flag = flags(zero_centered, round_steps)
    norm.run("apply_moments", eps, flag, x=x, moments=moments.values, gamma=norm.weight, beta=norm.bias, y=y)
    return y


def grad_moments(
    grad_out: object,
    input: object,
    moments: Moments,
    weight: object = None,
    eps: float = 1e-5,
    *,
    axis: Axis = -1,
    zero_centered: bool = False,
) -> GradMoments:
    """Return what backward needs to know of an array, which may be a piece of a longer one.

    Parameters
    ----------
    grad_out
        Gradient arriving at the piece's y.
    input, moments, weight, eps, axis, zero_centered
        As given to ``apply_moments``.

    Raises
    ------
    TypeError, ValueError
        As ``apply_moments``.

    """
    norm = _piece(input, moments, weight, None, axis)
    dy = _grad_out(grad_out, norm)
    values = norm.statistic(4)
    eps, flag = arguments.epsilon(eps, norm.x.dtype), flags(zero_centered)
    norm.run("grad_moments", eps, flag, dy=dy, x=norm.x, moments=moments.values, gamma=norm.weight, grad_moments=values)
    return GradMoments(math.prod(norm.norm_shape), values)


def apply_grad_moments(
    grad_out: object,
    input: object,
    moments: Moments,
    grad_moments: GradMoments,
    weight: object = None,
    eps: float = 1e-5,
    *,
    axis: Axis = -1,
    output_mask: Sequence[bool] = (True, True, True),
    zero_centered: bool = False,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients for an array, which may be a piece of a longer one.

    Parameters
    ----------
    grad_out, input, moments, weight, eps, axis, zero_centered
        As given to ``grad_moments``.
    grad_moments
        Those of the whole rows.
    output_mask
        Which of the three gradients are wanted.

    Returns
    -------
    (grad_input, grad_weight, grad_bias)
        As ``layer_norm_backward``; those of the piece.

    Raises
    ------
    TypeError, ValueError
        As ``apply_moments``; also for grad_moments of other rows.

    """
    norm = _piece(input, moments, weight, None, axis)
    _check_kind(GradMoments, grad_moments=grad_moments)
    _check_fit("grad_moments", grad_moments.values, norm, 4)
    if grad_moments.count != moments.count:
        raise ValueError(
            f"grad_moments: expected those of rows of {moments.count} elements, as moments are, "
            f"got {grad_moments.count}"
        )
    read = {
        "grad_out": _grad_out(grad_out, norm),
        "input": norm.x,
        "moments": moments.values,
        "grad_moments": grad_moments.values,
        "weight": norm.weight,
    }
    eps = arguments.epsilon(eps, norm.x.dtype)
    names = ("input", "weight", "bias")
    grads = backward("apply_grad_moments", norm, read, output_mask, None, flags(zero_centered), eps, names)
    return grads[0], grads[1], grads[2]


def _piece(input: object, moments: Moments, weight: object, bias: object, axis: Axis) -> Norm:
    _check_kind(Moments, moments=moments)
    norm = look_at(RMS if moments.rms else LAYER, input, None, weight, bias, axis, shared=True)
    _check_fit("moments", moments.values, norm, 5)
    return norm


def _check_fit(name: str, values: Array, norm: Norm, numbers: int) -> None:
    shape: Shape = (*norm.stat_shape, numbers)
    values = np.asarray(values)
    if values.shape != shape or values.dtype != norm.real:
        raise ValueError(
            f"{name}: expected values of {norm.real} {list(shape)} for this input and axis, "
            f"got {values.dtype} {list(values.shape)}"
        )


def _grad_out(grad_out: object, norm: Norm) -> Array:
    dy = arguments.tensor("grad_out", grad_out, arguments.companions(norm.x.dtype))
    arguments.same_shape("grad_out", dy, norm.x.shape, "input")
    return dy

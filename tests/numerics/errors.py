"""How far the results of one call are from the exact ones.

u is half of the distance from 1 to the next number: 2**-24 in float32, 2**-53 in float64; that of float32 for 16-bit
elements, which are computed in it. Each error is the largest of an array, divided by u and by what BOUNDS says, after
taking off what the last rounding alone may do: half a unit of a 16-bit result, and half of the smallest subnormal.
"""

from collections.abc import Iterator
from typing import NamedTuple

import ml_dtypes
import numpy as np
import reference
from forms import Case, Form, Results
from reference import LONG

import pyln

Array = np.ndarray

# What is measured, and its bound in u. That of dx relative to max|dx| is for rows that do not cancel: see `measure`.
BOUNDS = {
    "y / (max(|xhat|, 1) * |gamma| + |beta|)": 4.0,
    "mean / max(|mean|, deviation)": 3.0,
    "rstd / rstd": 4.0,
    "dx / max|dx| of the row": 8.0,
    "dx / (rstd * max|g - mean(g)|) of the row": 8.0,
    "dgamma / sum of |dy| * max(|xhat|, 1)": 4.0,
    "dbeta / sum of |dy|": 4.0,
}
Y, MEAN, RSTD, DX, DX_TERMS, DGAMMA, DBETA = BOUNDS


class Error(NamedTuple):
    """The largest error of an array; a NaN is larger than all."""

    what: str
    value: float
    where: str


Errors = Iterator[Error]


def unit(dtype: np.dtype) -> LONG:
    """That of what computes with numbers of the type."""
    return LONG(np.finfo(dtype if dtype.itemsize >= 4 else np.float32).eps) / 2


def last_rounding(exact: Array, dtype: np.dtype) -> Array:
    """How far the nearest number of the type may be, but for u: half a unit of 16 bits, or of subnormal numbers."""
    info = ml_dtypes.finfo(dtype)
    if dtype.itemsize >= 4:
        return np.full(exact.shape, LONG(info.smallest_subnormal) / 2)
    _, exponent = np.frexp(exact)
    return np.ldexp(LONG(0.5), np.maximum(exponent, info.minexp + 1) - 1 - info.nmant)


def distance(got: Array, exact: Array) -> Array:
    """|got - exact| beyond the last rounding; overflow counts as the power of two behind the largest number."""
    top = np.ldexp(LONG(1), ml_dtypes.finfo(got.dtype).maxexp)
    difference = abs(np.clip(got.astype(LONG), -top, top) - np.clip(exact, -top, top))
    return np.maximum(difference - last_rounding(np.clip(exact, -top, top), got.dtype), 0)


def largest(what: str, error: Array, relative_to: Array, dtype: np.dtype, where: str) -> Error:
    """The largest of error / (u * relative_to), where 0 / 0 is 0, and its place."""
    scaled = np.broadcast_to(relative_to * unit(dtype), error.shape)
    with np.errstate(divide="ignore"):
        ratio = np.divide(error, scaled, out=np.zeros(error.shape, LONG), where=(error != 0) | np.isnan(scaled))
    worst = np.unravel_index(np.argmax(ratio), ratio.shape)  # NaN is the largest of all for argmax
    return Error(what, float(ratio[worst]), f"{where} at {[int(i) for i in worst]}")


def summed(terms: Array, case: Case) -> Array:
    """Terms of dgamma or dbeta, (rows, cols), summed to gamma's shape; along a contiguous axis NumPy sums in pairs."""
    kept = [axis for axis, size in enumerate(case.parameter_shape) if size > 1]
    others = [axis for axis in range(len(case.shape)) if axis not in kept]
    ordered = terms.reshape(case.shape).transpose(kept + others)
    return np.ascontiguousarray(ordered).reshape(*ordered.shape[: len(kept)], -1).sum(axis=-1)


def on_all_instruction_sets(form: Form, case: Case) -> Results:
    """What the best one gives; the others must give the same bits."""
    best, *others = pyln.available_isas()
    with pyln.use_isa(best):
        results = form(case)
    for isa in others:
        with pyln.use_isa(isa):
            for name, mine, theirs in zip(Results._fields, form(case), results, strict=True):
                same = mine is theirs is None or np.array_equal(*(bits(a) for a in (mine, theirs)))
                assert same, f"{name} differs between {isa} and {best}: {case}"
    return results


def bits(a: Array) -> Array:
    return np.where(np.isnan(a), 0, np.ascontiguousarray(a).view(f"u{a.itemsize}"))


def measure(form: Form, case: Case, where: str, ordinary: bool | Array = False) -> Errors:
    """All errors of one call, forward and backward.

    That of dx relative to max|dx| is measured in rows where this is no smaller than rstd * max|g - mean(g)|, and in all
    rows that are ``ordinary``: 16 elements or more, none of which holds the variance, and dy that does not follow y.
    That is True for all rows, or an array (rows, 1).
    """
    results = on_all_instruction_sets(form, case)
    rows, cols = case.x.shape
    where = f"{where} {rows} x {cols}"
    gamma, beta = (
        None if a is None else np.broadcast_to(a, case.shape).reshape(rows, cols) for a in (case.gamma, case.beta)
    )
    forward = reference.forward(case.x, gamma, beta, case.eps, rms=case.rms)
    backward = reference.backward(case.dy, case.x, gamma, case.eps, rms=case.rms, of=forward)
    dtype = case.x.dtype

    def worst(what: str, error: Array, relative_to: Array) -> Error:
        return largest(what, error, relative_to, dtype, where)

    size = np.maximum(abs(forward.xhat), 1)
    relative_to = size if gamma is None else size * abs(gamma.astype(LONG))
    relative_to = relative_to if beta is None else relative_to + abs(beta.astype(LONG))
    y, dx = (a.reshape(rows, cols) for a in (results.y, results.dx))
    yield worst(Y, distance(y, forward.y), relative_to)
    if results.mean is not None:
        deviation = np.where(forward.rstd > 0, 1 / np.where(forward.rstd > 0, forward.rstd, 1), 0)
        error = distance(results.mean.reshape(rows, 1), forward.mean)
        yield worst(MEAN, error, np.maximum(abs(forward.mean), deviation))
    if results.rstd is not None:
        yield worst(RSTD, distance(results.rstd.reshape(rows, 1), forward.rstd), forward.rstd)

    # Backward gets rstd in the type: with fewer digits where it is subnormal, and not at all where it overflows.
    info = np.finfo(np.float32 if dtype.itemsize < 4 else dtype)
    if (forward.rstd > info.max).any():
        return
    half = LONG(info.smallest_subnormal) / 2
    coarse = 1 + np.divide(half, unit(dtype) * forward.rstd, out=np.zeros((rows, 1), LONG), where=forward.rstd > 0)

    error = distance(dx, backward.dx)
    g = case.dy.astype(LONG) * (1 if gamma is None else gamma)
    # dy * gamma has a rounding of its own, which counts where all g are nearly equal; without, only its square does.
    rounding = unit(dtype) if gamma is None else LONG(0.1)
    spread = abs(g if case.rms else reference.centred(g)[1]) + rounding * abs(g)
    terms = coarse * (forward.rstd * spread).max(axis=1, keepdims=True)
    largest_dx = coarse * abs(backward.dx).max(axis=1, keepdims=True)
    yield worst(DX_TERMS, error, terms)
    yield worst(DX, np.where((largest_dx >= terms) | ordinary, error, 0), largest_dx)

    dy = case.dy.astype(LONG)
    sums = [(DGAMMA, results.dgamma, dy * backward.xhat, coarse * abs(dy) * size), (DBETA, results.dbeta, dy, abs(dy))]
    for what, got, terms, sizes in sums:
        if got is not None:
            exact = summed(terms, case)
            yield worst(what, distance(got.reshape(exact.shape), exact), summed(sizes, case))

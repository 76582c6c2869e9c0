"""The ways in which the library computes a norm of rows and its gradients, all with the same arguments and results."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import pyln

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """Arguments of a norm and of its gradients.

    x and dy are (rows, cols). gamma and beta broadcast with ``view``, the shape in which the form sees x: (1, cols) with
    (rows, cols), (N, 1, D) with (N, T, D), (1, C, 1) with (N, C, length). eps is a number that x's type holds.
    """

    x: Array
    dy: Array
    gamma: Array | None = None
    beta: Array | None = None
    eps: float = 0.0
    rms: bool = False
    view: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The view; x's own shape where none is given."""
        return self.view or self.x.shape

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """That of gamma and beta, or of what they would be."""
        return (1, self.x.shape[1]) if self.gamma is None else self.gamma.shape


class Results(NamedTuple):
    """y and dx as x; mean and rstd a number for each row; dgamma and dbeta as gamma; None where there is none."""

    y: Array
    mean: Array | None
    rstd: Array | None
    dx: Array
    dgamma: Array
    dbeta: Array | None


Form = Callable[[Case], Results]


def _norm(case: Case, x: Array, dy: Array, axis: int) -> Results:
    gamma, beta = (a.reshape(-1) if a is not None and a.size == case.x.shape[1] else a for a in (case.gamma, case.beta))
    options: dict[str, Any] = {"axis": axis}
    if case.rms:
        y, rstd = pyln.rms_norm(x, None, gamma, case.eps, return_stats=True, **options)
        return Results(y, None, rstd, *pyln.rms_norm_backward(dy, x, None, rstd, gamma, **options), None)
    y, mean, rstd = pyln.layer_norm(x, None, gamma, beta, case.eps, return_stats=True, **options)
    return Results(y, mean, rstd, *pyln.layer_norm_backward(dy, x, None, mean, rstd, gamma, beta, **options))


def rows(case: Case) -> Results:
    """Over the last axis of the view."""
    return _norm(case, case.x.reshape(case.shape), case.dy.reshape(case.shape), -1)


def channels_first(case: Case) -> Results:
    """Rows side by side: (examples, cols, pixels) over axis 1."""
    many, cols = case.x.shape
    examples = 2 if many % 2 == 0 else 1
    x, dy = (np.ascontiguousarray(a.reshape(examples, -1, cols).transpose(0, 2, 1)) for a in (case.x, case.dy))
    results = _norm(case, x, dy, 1)
    return results._replace(y=results.y.transpose(0, 2, 1), dx=results.dx.transpose(0, 2, 1))


def group_norm(case: Case) -> Results:
    """Of (N, C, length), all channels in one group."""
    return _groups(case, 1)


def instance_norm(case: Case) -> Results:
    """Of (N, C, length), each channel a group of its own."""
    return _groups(case, case.shape[1])


def _groups(case: Case, groups: int) -> Results:
    x, dy = case.x.reshape(case.shape), case.dy.reshape(case.shape)
    gamma, beta = (None if a is None else a.reshape(-1) for a in (case.gamma, case.beta))
    y, mean, rstd = pyln.group_norm(x, groups, gamma, beta, case.eps, return_stats=True)
    return Results(y, mean, rstd, *pyln.group_norm_backward(dy, x, groups, mean, rstd, gamma))


def residual(case: Case) -> Results:
    """The sum of x / 2 and x / 2, which is exact."""
    half = case.x * case.x.dtype.type(0.5)
    gamma, beta = (None if a is None else a.reshape(-1) for a in (case.gamma, case.beta))
    cols, none = case.x.shape[1], np.zeros_like(case.dy)
    if case.rms:
        y, total, rstd = pyln.add_rms_norm(half, half, cols, gamma, case.eps, return_stats=True)
        return Results(y, None, rstd, *pyln.add_rms_norm_backward(case.dy, none, total, cols, rstd, gamma), None)
    y, total, mean, rstd = pyln.add_layer_norm(half, half, cols, gamma, beta, case.eps, return_stats=True)
    grads = pyln.add_layer_norm_backward(case.dy, none, total, cols, mean, rstd, gamma, beta)
    return Results(y, mean, rstd, *grads)


def pieces(case: Case, count: int, in_pairs: bool) -> Results:
    """Rows in pieces of all sizes, whose moments are merged one after the other, or as a tree."""
    cols = case.x.shape[1]
    cuts = np.random.default_rng(count).choice(np.arange(1, cols), count - 1, replace=False)
    slices = [slice(int(a), int(b)) for a, b in itertools.pairwise([0, *sorted(cuts), cols])]

    def cut(a: Array | None) -> list[Array | None]:
        return [None if a is None else a[..., s] for s in slices]

    xs, dys = cut(case.x), cut(case.dy)
    gammas, betas = (cut(None if a is None else a.reshape(-1)) for a in (case.gamma, case.beta))
    moments = merged([pyln.moments(x, rms=case.rms) for x in xs], pyln.merge_moments, in_pairs)
    ys = [pyln.apply_moments(x, moments, *p, case.eps) for x, *p in zip(xs, gammas, betas, strict=True)]
    each = list(zip(dys, xs, gammas, strict=True))
    parts = [pyln.grad_moments(dy, x, moments, gamma, case.eps) for dy, x, gamma in each]
    grad_moments = merged(parts, pyln.merge_grad_moments, in_pairs)
    grads = [pyln.apply_grad_moments(dy, x, moments, grad_moments, gamma, case.eps) for dy, x, gamma in each]
    assert moments.count == grad_moments.count == cols
    dx, dgamma, dbeta = (np.concatenate(g, axis=-1) for g in zip(*grads, strict=True))
    return Results(np.concatenate(ys, axis=-1), None, None, dx, dgamma, None if case.rms else dbeta)


def merged(values: list, merge: Callable, in_pairs: bool) -> Any:
    while len(values) > 1:
        pairs = (
            (values[i : i + 2] for i in range(0, len(values), 2))
            if in_pairs
            else [values[:2], *([v] for v in values[2:])]
        )
        values = [merge(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return values[0]

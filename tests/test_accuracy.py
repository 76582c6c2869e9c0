"""How far results are from the exact ones: the figures of docs/numerics.md. `python tests/test_accuracy.py` prints them.

u is half of the distance from 1 to the next number: 2**-24 in float32, 2**-53 in float64. Each error is the largest of
an array, divided by u and by what BOUNDS says. eps is a power of two, which both types hold.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import reference
from reference import LONG

import pyln

Array = np.ndarray
Generator = np.random.Generator

# What is measured, and its bound in u. The error of dx relative to the terms is for rows where dx is the small
# difference of large terms: those of few elements, and those with outliers.
BOUNDS = {
    "y / (max(|xhat|, 1) * |gamma| + |beta|)": 4.0,
    "dx / max|dx| of the row": 8.0,
    "dx / (rstd * max|g - mean(g)|) of the row": 8.0,
    "dgamma / sum of |dy| * max(|xhat|, 1)": 4.0,
    "dbeta / sum of |dy|": 4.0,
}
Y, DX, DX_TERMS, DGAMMA, DBETA = BOUNDS

EPS = 2.0**-17
OFFSETS = [0, 1, 1e2, 1e4, 1e6]  # mean / std
COLS = [*range(1, 41), 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 301, 511, 512, 513, 768, 1000, 1023, 1024, 1025]
COLS += [2048, 4096, 5000, 70001]


class Error(NamedTuple):
    """The largest error of an array."""

    what: str
    value: float
    where: str


Errors = Iterator[Error]


# ---- Errors of one array ----


def unit(x: Array) -> LONG:
    return LONG(np.finfo(x.dtype).eps) / 2


def parameters(rng: Generator, x: Array) -> Iterator[tuple[Array | None, Array | None]]:
    yield None, None
    yield tuple(rng.standard_normal((2, x.shape[1])).astype(x.dtype))


def forward_errors(rng: Generator, x: Array, eps: float, where: str) -> Errors:
    for gamma, beta in parameters(rng, x):
        y = pyln.layer_norm(x, x.shape[1], gamma, beta, eps)
        exact = reference.forward(x, gamma, beta, eps)
        relative_to = np.maximum(abs(exact.xhat), 1)
        if gamma is not None and beta is not None:
            relative_to = relative_to * abs(gamma) + abs(beta)
        yield Error(Y, float((abs(y - exact.y) / (unit(x) * relative_to)).max()), where)


def gradients(dy: Array, x: Array, gamma: Array | None, eps: float) -> tuple[Array, Array, Array]:
    _, mean, rstd = pyln.layer_norm(x, x.shape[1], eps=eps, return_stats=True)
    return pyln.layer_norm_backward(dy, x, x.shape[1], mean, rstd, gamma)


def input_gradient_errors(rng: Generator, x: Array, eps: float, where: str, outliers: bool = False) -> Errors:
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    for gamma, _ in parameters(rng, x):
        dx, _, _ = gradients(dy, x, gamma, eps)
        exact = reference.backward(dy, x, gamma, eps)
        error = abs(dx - exact.dx).max(axis=1) / unit(x)
        g = dy.astype(LONG) * (1 if gamma is None else gamma)
        # Where all g are equal, dx is 0, but for what is lost where a g is rounded twice.
        spread = np.maximum(abs(g - reference.row_mean(g)), unit(x) * abs(g))
        yield Error(DX_TERMS, float((error / (exact.rstd * spread).max(axis=1)).max()), where)
        if x.shape[1] >= 16 and not outliers:
            yield Error(DX, float((error / abs(exact.dx).max(axis=1)).max()), where)


def parameter_gradient_errors(dy: Array, x: Array, where: str) -> Errors:
    _, dgamma, dbeta = gradients(dy, x, None, EPS)
    exact = reference.backward(dy, x, None, EPS)
    dgamma_terms = reference.sum_rows(abs(dy) * np.maximum(abs(exact.xhat), 1))
    dbeta_terms = reference.sum_rows(abs(dy).astype(LONG))
    yield Error(DGAMMA, float((abs(dgamma - exact.dgamma) / (unit(x) * dgamma_terms)).max()), where)
    yield Error(DBETA, float((abs(dbeta - exact.dbeta) / (unit(x) * dbeta_terms)).max()), where)


# ---- Kinds of rows: mean about 0, most deviations about 1 ----


def normal(rng: Generator, rows: int, cols: int) -> Array:
    return rng.standard_normal((rows, cols))


def alternating(rng: Generator, rows: int, cols: int) -> Array:
    return abs(rng.standard_normal((rows, cols))) * np.resize([1, -1], cols)


def two_valued(rng: Generator, rows: int, cols: int) -> Array:
    return rng.choice([-1.0, 1.0], (rows, cols), p=[0.3, 0.7])


def ramp(rng: Generator, rows: int, cols: int) -> Array:
    return np.linspace(-1.5, 1.5, cols) * rng.uniform(0.5, 2, (rows, 1))


def outliers(rng: Generator, rows: int, cols: int) -> Array:
    x = rng.standard_normal((rows, cols))
    x[np.arange(rows), rng.integers(cols, size=rows)] = rng.choice([-1e4, 1e4], rows)
    return x


def heavy_tails(rng: Generator, rows: int, cols: int) -> Array:
    return rng.standard_cauchy((rows, cols))


KINDS = [normal, alternating, two_valued, ramp, outliers, heavy_tails]


# ---- Classes: errors of arrays of many shapes ----


def rows_for(cols: int) -> int:
    return max(1, min(8, 4096 // cols))


def forward_of(kind: Callable[..., Array], offset: float, all_cols: list[int], rng: Generator, dtype: str) -> Errors:
    for cols in all_cols:
        x = (kind(rng, rows_for(cols), cols) + offset).astype(dtype)
        yield from forward_errors(rng, x, EPS, f"{cols=}")


def input_gradient_of(
    kind: Callable[..., Array], offset: float, all_cols: list[int], rng: Generator, dtype: str
) -> Errors:
    for cols in all_cols:
        x = (kind(rng, rows_for(cols), cols) + offset).astype(dtype)
        yield from input_gradient_errors(rng, x, EPS, f"{cols=}", kind is outliers)


def small_integers_at_1e7(rng: Generator, dtype: str) -> Errors:
    for cols, eps in itertools.product(COLS, (EPS, 0.0)):
        x = (1e7 + rng.integers(4, size=(rows_for(cols), cols))).astype(dtype)
        yield from forward_errors(rng, x, eps, f"{cols=} {eps=}")


def constant_rows(rng: Generator, dtype: str) -> Errors:
    for cols, eps in itertools.product(COLS, (EPS, 0.0)):
        x = np.repeat(1e3 * rng.standard_normal((rows_for(cols), 1)), cols, axis=1).astype(dtype)
        yield from forward_errors(rng, x, eps, f"{cols=} {eps=}")


def subnormal_rows(rng: Generator, dtype: str) -> Errors:
    for cols, reach in itertools.product(COLS, (2, 1000)):
        steps = rng.integers(-reach, reach, size=(rows_for(cols), cols), endpoint=True)
        x = (steps * np.finfo(dtype).smallest_subnormal).astype(dtype)
        yield from forward_errors(rng, x, 0.0, f"{cols=} {reach=}")


def largest_rows(rng: Generator, dtype: str) -> Errors:
    for cols, eps in itertools.product(COLS, (EPS, 0.0)):
        x = rng.uniform(-1, 1, (rows_for(cols), cols)).astype(dtype) * np.finfo(dtype).max
        yield from forward_errors(rng, x, eps, f"{cols=} {eps=}")


def scaled_rows(errors: Callable[..., Errors], rng: Generator, dtype: str) -> Errors:
    exponents = (-30, -20, -10, 10, 20, 30) if dtype == "float32" else (-300, -200, -100, 100, 200, 300)
    for cols, exponent, offset in itertools.product(COLS[1::2], exponents, (0, 1e4)):
        x = ((normal(rng, min(4, rows_for(cols)), cols) + offset) * 10.0**exponent).astype(dtype)
        yield from errors(rng, x, 0.0, f"{cols=} {exponent=} {offset=}")


def parameter_gradients_of(offset: float, shapes: list[tuple[int, int]], rng: Generator, dtype: str) -> Errors:
    for (rows, cols), dy_offset in itertools.product(shapes, (0, 3)):
        x = (normal(rng, rows, cols) + offset).astype(dtype)
        dy = (normal(rng, rows, cols) + dy_offset).astype(dtype)
        yield from parameter_gradient_errors(dy, x, f"{rows=} {cols=} {dy_offset=}")


MANY_ROWS = [(rows, 20) for rows in (1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 1000, 5000)]
MANY_ROWS += [(65, 300), (300, 768), (30_000, 4), (100_000, 3)]

CLASSES: dict[str, Callable[[Generator, str], Errors]] = {
    **{
        f"forward: {kind.__name__}, mean/std {offset:g}": partial(forward_of, kind, offset, COLS)
        for kind, offset in itertools.product(KINDS, OFFSETS)
    },
    "forward: 2**20 columns, mean/std 1e2": partial(forward_of, normal, 1e2, [1 << 20]),
    "forward: 1e7 + {0, 1, 2, 3}": small_integers_at_1e7,
    "forward: constant": constant_rows,
    "forward: subnormal, eps 0": subnormal_rows,
    "forward: up to the largest number": largest_rows,
    "forward: from 1e-30 (float64: 1e-300) to 1e30 (1e300), eps 0": partial(scaled_rows, forward_errors),
    **{
        f"backward: {kind.__name__}, mean/std {offset:g}": partial(input_gradient_of, kind, offset, COLS)
        for kind, offset in itertools.product(KINDS, OFFSETS)
    },
    "backward: 2**20 columns, mean/std 1e2": partial(input_gradient_of, normal, 1e2, [1 << 20]),
    "backward: from 1e-30 (float64: 1e-300) to 1e30 (1e300), eps 0": partial(scaled_rows, input_gradient_errors),
    **{
        f"backward: 1 to 1e5 rows, mean/std {offset:g}": partial(parameter_gradients_of, offset, MANY_ROWS)
        for offset in (0, 1e6)
    },
}
LARGE_CLASSES: dict[str, Callable[[Generator, str], Errors]] = {
    "forward: 2**22 columns, mean/std 1e6": partial(forward_of, normal, 1e6, [1 << 22]),
    "backward: 1e6 rows, mean/std 1e2": partial(parameter_gradients_of, 1e2, [(1_000_000, 4)]),
}


def check(errors: Errors) -> None:
    measured = 0
    with np.errstate(divide="raise", invalid="raise"):
        for error in errors:
            assert error.value <= BOUNDS[error.what], error
            measured += 1
    assert measured


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_error_is_below_its_bound(dtype: str, name: str) -> None:
    check(CLASSES[name](np.random.default_rng(2016), dtype))


@pytest.mark.parametrize("name", LARGE_CLASSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_error_of_a_large_array_is_below_its_bound(dtype: str, name: str) -> None:
    """On the best instruction set only: it takes a while, and test_isa.py says that the others give the same bits."""
    check(LARGE_CLASSES[name](np.random.default_rng(2016), dtype))


def main() -> None:
    """Print the largest error of each class, in u, and where it was found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many sets of random rows to take (default 1)")
    seeds = parser.parse_args().seeds
    for (name, errors), dtype in itertools.product((CLASSES | LARGE_CLASSES).items(), ("float32", "float64")):
        largest: dict[str, Error] = {}
        for seed in range(seeds):
            for error in errors(np.random.default_rng(seed), dtype):
                if error.what not in largest or not error.value <= largest[error.what].value:
                    largest[error.what] = error
        for error in largest.values():
            print(f"{name:66} {dtype:8} {error.value:5.2f}  {error.what:42} {error.where}", flush=True)


if __name__ == "__main__":
    main()

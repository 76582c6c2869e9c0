"""The figures of docs/numerics.md: how far results are from the exact ones. `python tests/test_accuracy.py` measures.

u is half of the distance from 1 to the next number: 2**-24 in float32, 2**-53 in float64. Each error is the largest of
an array, divided by u and by what the class of error is relative to. eps is a power of two, which both types hold.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import mpmath
import numpy as np
import pyln
import pytest
import reference
from reference import LONG

pytestmark = pytest.mark.usefixtures("isa")

Array = np.ndarray
Generator = np.random.Generator

FORWARD_BOUND = 4
INPUT_GRADIENT_BOUND = 8
PARAMETER_GRADIENT_BOUND = 4

DTYPES = ["float32", "float64"]
EPS = 2.0**-17
OFFSETS = [0, 1, 1e2, 1e4, 1e6]  # mean / std
COLS = [*range(1, 41), 63, 64, 65, 127, 128, 129, 255, 256, 257, 300, 301, 511, 512, 513, 768, 1000, 1023, 1024, 1025]
COLS += [2048, 4096, 5000, 70001]
LONG_COLS = [1 << 20, 1 << 22]


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
Kind = Callable[[Generator, int, int], Array]


class Largest(NamedTuple):
    """The largest error of a class, and where it was found."""

    error: float
    where: str


def largest(errors: Iterator[tuple[float, str]]) -> Largest:
    return Largest(*max(errors, key=lambda pair: float("inf") if np.isnan(pair[0]) else pair[0]))


def unit(x: Array) -> LONG:
    return LONG(np.finfo(x.dtype).eps) / 2


def rows_for(cols: int) -> int:
    return max(1, min(16, 16384 // cols))


def parameters(rng: Generator, x: Array) -> Iterator[tuple[Array | None, Array | None]]:
    yield None, None
    yield tuple(rng.standard_normal((2, x.shape[1])).astype(x.dtype))


# ---- The errors ----


def forward_error(x: Array, gamma: Array | None, beta: Array | None, eps: float) -> float:
    """Error of y / (u * (max(|xhat|, 1) * |gamma| + |beta|))."""
    y = pyln.layer_norm(x, x.shape[1], gamma, beta, eps)
    exact = reference.forward(x, gamma, beta, eps)
    scale = np.maximum(abs(exact.xhat), 1) * (1 if gamma is None else abs(gamma)) + (0 if beta is None else abs(beta))
    return float((abs(y - exact.y) / (unit(x) * scale)).max())


def gradients(dy: Array, x: Array, gamma: Array | None, eps: float) -> tuple[Array, Array, Array]:
    _, mean, rstd = pyln.layer_norm(x, x.shape[1], eps=eps, return_stats=True)
    return pyln.layer_norm_backward(dy, x, x.shape[1], mean, rstd, gamma)


def input_gradient_errors(dy: Array, x: Array, gamma: Array | None, eps: float) -> tuple[float, float]:
    """Error of dx / (u * max|dx| of the row), and error of dx / (u * rstd * max|g - mean(g)| of the row).

    The first is what users ask for. The second is for rows where dx itself is the small difference of large terms: those
    of few elements, and those with outliers. Where all g are equal, u * max|g| stands for max|g - mean(g)|.
    """
    dx, _, _ = gradients(dy, x, gamma, eps)
    exact = reference.backward(dy, x, gamma, eps)
    error = abs(dx - exact.dx).max(axis=1) / unit(x)
    g = dy.astype(LONG) * (1 if gamma is None else gamma)
    terms = np.maximum(abs(g - reference.row_mean(g)), unit(x) * abs(g))
    with np.errstate(divide="ignore", invalid="ignore"):  # dx of one column is 0
        return (
            float((error / abs(exact.dx).max(axis=1)).max()),
            float((error / (exact.rstd * terms).max(axis=1)).max()),
        )


def parameter_gradient_errors(dy: Array, x: Array, eps: float) -> tuple[float, float]:
    """Error of dgamma / (u * sum over rows of |dy| * max(|xhat|, 1)), error of dbeta / (u * sum over rows of |dy|)."""
    _, dgamma, dbeta = gradients(dy, x, None, eps)
    exact = reference.backward(dy, x, None, eps)
    dgamma_scale = reference.sum_rows(abs(dy) * np.maximum(abs(exact.xhat), 1))
    dbeta_scale = reference.sum_rows(abs(dy).astype(LONG))
    return (
        float((abs(dgamma - exact.dgamma) / (unit(x) * dgamma_scale)).max()),
        float((abs(dbeta - exact.dbeta) / (unit(x) * dbeta_scale)).max()),
    )


# ---- The classes: which rows, and the largest error found on them ----


def forward_by_offset(rng: Generator, dtype: str, kind: Kind, offset: float, all_cols: list[int] = COLS) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols in all_cols:
            x = (kind(rng, rows_for(cols), cols) + offset).astype(dtype)
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, EPS), f"{cols=}"

    return largest(errors())


def small_integers_at_1e7(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, eps in itertools.product(COLS, (EPS, 0.0)):
            x = (1e7 + rng.integers(4, size=(rows_for(cols), cols))).astype(dtype)
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, eps), f"{cols=} {eps=}"

    return largest(errors())


def constant_rows(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, eps in itertools.product(COLS, (EPS, 0.0)):
            x = np.repeat(rng.standard_normal((rows_for(cols), 1)) * 1e3, cols, axis=1).astype(dtype)
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, eps), f"{cols=} {eps=}"

    return largest(errors())


def scales(dtype: str) -> list[float]:
    return [10.0**e for e in ((-30, -20, -10, 10, 20, 30) if dtype == "float32" else (-300, -200, -100, 100, 200, 300))]


def forward_by_scale(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, scale, offset in itertools.product(COLS, scales(dtype), (0, 1e4)):
            x = ((normal(rng, min(4, rows_for(cols)), cols) + offset) * scale).astype(dtype)
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, 0.0), f"{cols=} {scale=} {offset=}"

    return largest(errors())


def up_to_the_largest_number(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, eps in itertools.product(COLS, (EPS, 0.0)):
            x = rng.uniform(-1, 1, (rows_for(cols), cols)).astype(dtype) * np.finfo(dtype).max
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, eps), f"{cols=} {eps=}"

    return largest(errors())


def subnormal_rows(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, reach in itertools.product(COLS, (2, 1000)):
            steps = rng.integers(-reach, reach, size=(rows_for(cols), cols), endpoint=True)
            x = (steps * np.finfo(dtype).smallest_subnormal).astype(dtype)
            for gamma, beta in parameters(rng, x):
                yield forward_error(x, gamma, beta, 0.0), f"{cols=} {reach=}"

    return largest(errors())


FORWARD_CLASSES: dict[str, Callable[[Generator, str], Largest]] = {
    "1e7 + {0, 1, 2, 3}": small_integers_at_1e7,
    "constant": constant_rows,
    "1e-30 to 1e30 (float64: 1e-300 to 1e300), eps = 0": forward_by_scale,
    "up to the largest number": up_to_the_largest_number,
    "subnormal, eps = 0": subnormal_rows,
}


def input_gradient_by_offset(
    rng: Generator, dtype: str, kind: Kind, offset: float, all_cols: list[int] = COLS
) -> tuple[Largest | None, Largest]:
    """Largest errors relative to dx, for rows where it is not a difference of large terms, and relative to the terms."""
    found = []
    for cols in all_cols:
        x = (kind(rng, rows_for(cols), cols) + offset).astype(dtype)
        dy = normal(rng, *x.shape).astype(dtype)
        for gamma, _ in parameters(rng, x):
            found.append((*input_gradient_errors(dy, x, gamma, EPS), cols))
    relative_to_dx = [(error, f"{cols=}") for error, _, cols in found if cols >= 16 and kind is not outliers]
    return (
        largest(iter(relative_to_dx)) if relative_to_dx else None,
        largest((error, f"{cols=}") for _, error, cols in found),
    )


def input_gradient_by_scale(rng: Generator, dtype: str) -> Largest:
    def errors() -> Iterator[tuple[float, str]]:
        for cols, scale, offset in itertools.product([c for c in COLS if c >= 16], scales(dtype), (0, 1e4)):
            x = ((normal(rng, min(4, rows_for(cols)), cols) + offset) * scale).astype(dtype)
            dy = normal(rng, *x.shape).astype(dtype)
            for gamma, _ in parameters(rng, x):
                yield input_gradient_errors(dy, x, gamma, 0.0)[0], f"{cols=} {scale=} {offset=}"

    return largest(errors())


PARAMETER_SHAPES = [(rows, 20) for rows in (1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 1000, 5000)]
PARAMETER_SHAPES += [(65, 300), (300, 768), (30_000, 4), (100_000, 3)]
MILLION_ROWS = [(1_000_000, 4)]


def parameter_gradients(
    rng: Generator, dtype: str, offset: float, shapes: list[tuple[int, int]] = PARAMETER_SHAPES
) -> tuple[Largest, Largest]:
    """Largest errors of dgamma and of dbeta, for gradients of both signs and of one."""
    found = []
    for (rows, cols), dy_offset in itertools.product(shapes, (0, 3)):
        x = (normal(rng, rows, cols) + offset).astype(dtype)
        dy = (normal(rng, rows, cols) + dy_offset).astype(dtype)
        found.append((*parameter_gradient_errors(dy, x, EPS), f"{rows=} {cols=} {dy_offset=}"))
    return largest((e, where) for e, _, where in found), largest((e, where) for _, e, where in found)


# ---- The tests ----


@pytest.fixture
def rng() -> Generator:
    return np.random.default_rng(2016)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_far_from_zero(rng: Generator, dtype: str, kind: Kind, offset: float) -> None:
    assert forward_by_offset(rng, dtype, kind, offset).error <= FORWARD_BOUND


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_long_rows(rng: Generator, dtype: str, offset: float) -> None:
    assert forward_by_offset(rng, dtype, normal, offset, LONG_COLS).error <= FORWARD_BOUND


@pytest.mark.parametrize("name", FORWARD_CLASSES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_forward_other_rows(rng: Generator, dtype: str, name: str) -> None:
    assert FORWARD_CLASSES[name](rng, dtype).error <= FORWARD_BOUND


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_input_gradient(rng: Generator, dtype: str, kind: Kind, offset: float) -> None:
    for found in input_gradient_by_offset(rng, dtype, kind, offset):
        assert found is None or found.error <= INPUT_GRADIENT_BOUND


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_input_gradient_long_rows(rng: Generator, dtype: str, offset: float) -> None:
    found, _ = input_gradient_by_offset(rng, dtype, normal, offset, LONG_COLS[:1])
    assert found is not None and found.error <= INPUT_GRADIENT_BOUND


@pytest.mark.parametrize("dtype", DTYPES)
def test_input_gradient_by_scale(rng: Generator, dtype: str) -> None:
    assert input_gradient_by_scale(rng, dtype).error <= INPUT_GRADIENT_BOUND


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parameter_gradients(rng: Generator, dtype: str, offset: float) -> None:
    for found in parameter_gradients(rng, dtype, offset):
        assert found.error <= PARAMETER_GRADIENT_BOUND


@pytest.mark.parametrize("dtype", DTYPES)
def test_parameter_gradients_of_a_million_rows(rng: Generator, isa: str, dtype: str) -> None:
    if isa == pyln.available_isas()[0]:  # the others give the same bits, test_isa.py says, and scalar is slow
        for found in parameter_gradients(rng, dtype, 1e2, MILLION_ROWS):
            assert found.error <= PARAMETER_GRADIENT_BOUND


# ---- The reference ----


def test_long_double_is_longer() -> None:
    assert np.finfo(LONG).nmant + 1 >= 64, "the reference needs a long double of 64 bits or more"


def mpmath_forward(x: list[float], eps: float) -> tuple[list[mpmath.mpf], mpmath.mpf]:
    numbers = [mpmath.mpf(v) for v in x]
    mean = mpmath.fsum(numbers) / len(x)
    var = mpmath.fsum((v - mean) ** 2 for v in numbers) / len(x)
    rstd = 1 / mpmath.sqrt(var + mpmath.mpf(eps))
    return [(v - mean) * rstd for v in numbers], rstd


def mpmath_input_gradient(dy: list[float], x: list[float], eps: float) -> list[mpmath.mpf]:
    xhat, rstd = mpmath_forward(x, eps)
    g = [mpmath.mpf(v) for v in dy]
    g_mean = mpmath.fsum(g) / len(g)
    g_xhat_mean = mpmath.fdot(g, xhat) / len(g)
    return [rstd * (gi - g_mean - xi * g_xhat_mean) for gi, xi in zip(g, xhat, strict=True)]


def to_mpmath(value: LONG) -> mpmath.mpf:
    """The long double exactly: as two float64, which hold 106 bits, after bringing it into their range."""
    fraction, exponent = np.frexp(value)
    high = float(fraction)
    return mpmath.ldexp(mpmath.mpf(high) + mpmath.mpf(float(fraction - high)), int(exponent))


HARD_ROWS: dict[str, Callable[[Generator], Array]] = {
    "mean/std of 1e6": lambda rng: 1e6 + normal(rng, 1, 301),
    "mean/std of 1e12": lambda rng: 1e12 + normal(rng, 1, 64),
    "outlier": lambda rng: outliers(rng, 1, 300),
    "outlier first": lambda rng: np.r_[1e4, normal(rng, 1, 300)[0]][None] + 1e6,
    "heavy tails": lambda rng: heavy_tails(rng, 1, 5000) + 1e4,
    "last bits": lambda rng: 1 + rng.integers(4, size=(1, 129)) * np.finfo(np.float64).eps,
    "subnormal": lambda rng: rng.integers(1, 9, size=(1, 40)) * np.finfo(np.float64).smallest_subnormal,
    "up to the largest number": lambda rng: rng.uniform(-1, 1, (1, 65)) * np.finfo(np.float64).max,
}


@pytest.mark.parametrize("name", HARD_ROWS)
def test_reference_against_mpmath(rng: Generator, name: str) -> None:
    """The reference's own error is below 2 % of the smallest bound, that is 0.08 u of float64."""
    x = HARD_ROWS[name](rng)
    dy = normal(rng, *x.shape)
    u = 2.0**-53
    with mpmath.workprec(4000):  # squares of numbers between 2**-1074 and 2**1024, added up without loss
        xhat, rstd = mpmath_forward(x[0].tolist(), 0.0)
        dx = mpmath_input_gradient(dy[0].tolist(), x[0].tolist(), 0.0)
        got = reference.forward(x)
        got_dx = reference.backward(dy, x).dx
        forward_error = max(abs(to_mpmath(a) - b) / max(abs(b), 1) for a, b in zip(got.xhat[0], xhat, strict=True))
        rstd_error = abs(to_mpmath(got.rstd[0, 0]) / rstd - 1)
        dx_error = max(abs(to_mpmath(a) - b) for a, b in zip(got_dx[0], dx, strict=True)) / max(map(abs, dx))
    assert max(forward_error, rstd_error) < 0.08 * u
    assert dx_error < 0.08 * u


# ---- The table ----


def table(seeds: int) -> Iterator[tuple[str, str, float, str]]:
    """Yield what, element type, largest error over the seeds, and where it was found."""

    def over_seeds(measure: Callable[[Generator], Largest]) -> Largest:
        return max(measure(np.random.default_rng(seed)) for seed in range(seeds))

    for dtype in DTYPES:
        for kind, offset in itertools.product(KINDS, OFFSETS):
            name = f"{kind.__name__.replace('_', ' ')}, mean/std {offset:g}"
            yield f"y, {name}", dtype, *over_seeds(lambda rng: forward_by_offset(rng, dtype, kind, offset))
        for offset in OFFSETS:
            name = f"normal, mean/std {offset:g}, 2**20 and 2**22 columns"
            found = over_seeds(lambda rng: forward_by_offset(rng, dtype, normal, offset, LONG_COLS))
            yield f"y, {name}", dtype, *found
        for name, measure in FORWARD_CLASSES.items():
            yield f"y, {name}", dtype, *over_seeds(lambda rng: measure(rng, dtype))
        for kind, offset in itertools.product(KINDS, OFFSETS):
            name = f"{kind.__name__.replace('_', ' ')}, mean/std {offset:g}"
            for terms in (False, True):
                if terms or kind is not outliers:
                    found = over_seeds(lambda rng: input_gradient_by_offset(rng, dtype, kind, offset, terms))
                    yield f"dx{' (terms)' if terms else ''}, {name}", dtype, *found
        yield "dx, 1e-30 to 1e30, eps = 0", dtype, *over_seeds(lambda rng: input_gradient_by_scale(rng, dtype))
        for offset, shapes in itertools.product(OFFSETS, (PARAMETER_SHAPES, MILLION_ROWS)):
            found = [parameter_gradients(np.random.default_rng(seed), dtype, offset, shapes) for seed in range(seeds)]
            for i, name in enumerate(("dgamma", "dbeta")):
                rows = max(rows for rows, _ in shapes)
                yield f"{name}, mean/std {offset:g}, up to {rows} rows", dtype, *max(f[i] for f in found)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the largest error of each class, in u, and where it was found.")
    parser.add_argument("--seeds", type=int, default=1, help="how many sets of random rows to take (default 1)")
    for what, dtype, error, where in table(parser.parse_args().seeds):
        print(f"{what:64} {dtype:8} {error:6.2f}  {where}", flush=True)


if __name__ == "__main__":
    main()

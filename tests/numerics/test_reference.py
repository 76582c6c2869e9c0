"""The tests' own reference against mpmath, which computes with as many digits as one asks for."""

import itertools
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import reference
import rows
from reference import LONG

Array = np.ndarray
Generator = np.random.Generator

F64 = np.finfo(np.float64)
U = 2.0**-53
COLS = [1, 2, 3, 17, 100, 301]


def test_long_double_is_longer() -> None:
    assert np.finfo(LONG).nmant + 1 >= 64, "the reference needs a long double of 64 bits or more"


class Exact:
    """One row and its gradient in mpmath's precision."""

    def __init__(self, dy: list[float], x: list[float], eps: float, rms: bool) -> None:
        self.mean = mpmath.mpf(0) if rms else mpmath.fsum(x) / len(x)
        deviation = [mpmath.mpf(v) - self.mean for v in x]
        var_plus_eps = mpmath.fdot(deviation, deviation) / len(x) + eps
        self.rstd = 1 / mpmath.sqrt(var_plus_eps) if var_plus_eps else mpmath.mpf(0)
        self.xhat = [v * self.rstd for v in deviation]
        g_mean = mpmath.mpf(0) if rms else mpmath.fsum(dy) / len(dy)
        g = [mpmath.mpf(v) - g_mean for v in dy]
        g_xhat_mean = mpmath.fdot(g, self.xhat) / len(g)
        self.dx = [self.rstd * (a - b * g_xhat_mean) for a, b in zip(g, self.xhat, strict=True)]
        self.dx_terms = self.rstd * max(map(abs, g))


def to_mpmath(value: LONG) -> mpmath.mpf:
    """The long double exactly: as two float64, which hold 106 bits, after bringing it into their range."""
    fraction, exponent = np.frexp(value)
    high = float(fraction)
    return mpmath.ldexp(mpmath.mpf(high) + mpmath.mpf(float(fraction - high)), int(exponent))


def distance(got: Array, exact: list[mpmath.mpf]) -> mpmath.mpf:
    return max(abs(to_mpmath(a) - b) for a, b in zip(got, exact, strict=True))


def check(x: Array, dy: Array, eps: float, rms: bool, digits: int) -> None:
    """The reference's own error is below 2 % of the smallest bound, that is 0.08 u of float64, in a matrix' first row."""
    got = reference.forward(x, eps=eps, rms=rms)
    got_dx = reference.backward(dy, x, eps=eps, rms=rms).dx
    with mpmath.workprec(digits):
        exact = Exact(dy[0].tolist(), x[0].tolist(), eps, rms)
        for a, b in zip(got.xhat[0], exact.xhat, strict=True):
            assert abs(to_mpmath(a) - b) <= 0.08 * U * max(abs(b), 1)
        assert abs(to_mpmath(got.rstd[0, 0]) - exact.rstd) <= 0.08 * U * exact.rstd
        deviation = 1 / exact.rstd if exact.rstd else 0
        assert abs(to_mpmath(got.mean[0, 0]) - exact.mean) <= 0.08 * U * max(abs(exact.mean), deviation)
        assert distance(got_dx[0], exact.dx) <= 0.08 * U * exact.dx_terms


@pytest.mark.parametrize("rms", [False, True])
@pytest.mark.parametrize("kind", [*rows.KINDS, "one hot", "constant", "1e7"])
def test_each_kind_against_mpmath(kind: str, rms: bool) -> None:
    rng = np.random.default_rng(1607)
    others = {"one hot": rows.one_hot, "constant": rows.constant, "1e7": rows.integers_at_1e7}
    for cols, offset, eps in itertools.product(COLS, (0, 1e2, 1e6, 1e12), (0.0, 2.0**-17)):
        x = (rows.KINDS | others)[kind](rng, 1, cols) + offset
        check(x, rng.standard_normal(x.shape), eps, rms, 400)


@pytest.mark.parametrize("rms", [False, True])
def test_each_gradient_against_mpmath(rms: bool) -> None:
    rng = np.random.default_rng(1607)
    for cols, offset, eps in itertools.product(COLS, (0, 1e6), (0.0, 2.0**-17)):
        x = rng.standard_normal((1, cols)) + offset
        for correlation in rows.CORRELATIONS:
            check(x, rows.correlated(rng, x, correlation), eps, rms, 400)
        for gradient in rows.GRADIENTS.values():
            check(x, gradient(rng, x), eps, rms, 400)


EXTREME: dict[str, Callable[[Generator], Array]] = {
    "last bits": lambda rng: 1 + rng.integers(4, size=(1, 129)) * F64.eps,
    "subnormal": lambda rng: rng.integers(1, 9, size=(1, 40)) * F64.smallest_subnormal,
    "up to the largest number": lambda rng: rng.uniform(-1, 1, (1, 65)) * F64.max,
    "from the smallest to the largest": lambda rng: np.ldexp(rng.standard_normal((1, 40)), np.arange(-1060, 1020, 52)),
    "long": lambda rng: 1e6 + rng.standard_normal((1, 1 << 14)),
}


@pytest.mark.parametrize("name", EXTREME)
def test_extreme_rows_against_mpmath(name: str) -> None:
    """Squares of numbers between 2**-1074 and 2**1024 are added up without loss in 4300 bits."""
    rng = np.random.default_rng(1607)
    x = EXTREME[name](rng)
    check(x, rng.standard_normal(x.shape), 0.0, False, 400 if name == "long" else 4300)


def test_sums_of_a_million_rows_are_exact_enough() -> None:
    terms = np.random.default_rng(1607).integers(-(1 << 52), 1 << 53, (1_000_000, 1))
    exact = sum(terms[:, 0].tolist())  # Python's integers have all digits
    with mpmath.workprec(200):
        got = to_mpmath(reference.sum_rows(terms.astype(LONG))[0])
        assert abs(got - exact) <= 0.08 * U * float(abs(terms.astype(LONG)).sum())

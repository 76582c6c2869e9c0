"""The tests' own reference against mpmath, which computes with as many digits as one asks for."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import reference
from reference import LONG

Array = np.ndarray
Generator = np.random.Generator

F64 = np.finfo(np.float64)


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
    "mean/std of 1e6": lambda rng: 1e6 + rng.standard_normal((1, 301)),
    "mean/std of 1e12": lambda rng: 1e12 + rng.standard_normal((1, 64)),
    "outlier": lambda rng: np.insert(rng.standard_normal((1, 300)), 77, 1e4, axis=1),
    "outlier first": lambda rng: np.insert(rng.standard_normal((1, 300)), 0, 1e4, axis=1) + 1e6,
    "heavy tails": lambda rng: rng.standard_cauchy((1, 1000)) + 1e4,
    "last bits": lambda rng: 1 + rng.integers(4, size=(1, 129)) * F64.eps,
    "subnormal": lambda rng: rng.integers(1, 9, size=(1, 40)) * F64.smallest_subnormal,
    "up to the largest number": lambda rng: rng.uniform(-1, 1, (1, 65)) * F64.max,
}


@pytest.mark.parametrize("name", HARD_ROWS)
def test_against_mpmath(name: str) -> None:
    """The reference's own error is below 2 % of the smallest bound, that is 0.08 u of float64."""
    rng = np.random.default_rng(1607)
    x = HARD_ROWS[name](rng)
    dy = rng.standard_normal(x.shape)
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

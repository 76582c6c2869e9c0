"""Hard rows and gradients, from a random generator: what the errors are measured on.

All are float64 and as if exact; who asks rounds them to the type that is to be tested.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Generator = np.random.Generator
Kind = Callable[[Generator, int, int], Array]


# ---- Rows of mean about 0, whose deviations are mostly about 1 ----


def normal(rng: Generator, rows: int, cols: int) -> Array:
    return rng.standard_normal((rows, cols))


def alternating(rng: Generator, rows: int, cols: int) -> Array:
    return abs(rng.standard_normal((rows, cols))) * np.resize([1, -1], cols)


def two_valued(rng: Generator, rows: int, cols: int) -> Array:
    return rng.choice([-1.0, 1.0], (rows, cols), p=[0.3, 0.7])


def ramp(rng: Generator, rows: int, cols: int) -> Array:
    return np.linspace(-1.5, 1.5, cols) * rng.uniform(0.5, 2, (rows, 1))


def smooth(rng: Generator, rows: int, cols: int) -> Array:
    """Neighbours that are nearly alike, as in images: one wave, and less of some others."""
    angle = np.linspace(0, 2 * np.pi, cols) * rng.uniform(0.3, 9, (rows, 1)) + rng.uniform(0, 7, (rows, 1))
    return np.sin(angle) + 0.3 * np.sin(7 * angle)


def outliers(rng: Generator, rows: int, cols: int) -> Array:
    """One or two elements of any size, at any place."""
    x = rng.standard_normal((rows, cols))
    for _ in range(2):
        size = 10.0 ** rng.uniform(0, 12, rows)
        x[np.arange(rows), rng.integers(cols, size=rows)] = np.where(rng.random(rows) < 0.5, size, -size)
    return x


def heavy_tails(rng: Generator, rows: int, cols: int) -> Array:
    return rng.standard_cauchy((rows, cols))


def misleading(rng: Generator, rows: int, cols: int) -> Array:
    """Where the library looks for its guess of the mean, numbers are shifted; a little, so that it just relies on it."""
    x = rng.standard_normal((rows, cols))
    runs = 8 if cols >= 128 else 2
    for start in np.linspace(0, max(0, cols - 16), runs).astype(int):
        x[:, start : start + 16] += 0.8 * 10.0 ** rng.uniform(-0.3, 0.3, (rows, 1))
    return x


def repeating(rng: Generator, rows: int, cols: int) -> Array:
    """With a period that lets the same roundings happen in all lanes, or all of the variance be in some."""
    period = int(rng.choice([2, 2, 3, 4, 8, 16]))
    return rng.standard_normal((rows, period))[:, np.arange(cols) % period]


KINDS: dict[str, Kind] = {
    "normal": normal,
    "alternating signs": alternating,
    "two values": two_valued,
    "ramps": ramp,
    "smooth": smooth,
    "outliers": outliers,
    "heavy tails": heavy_tails,
    "misleading samples": misleading,
    "repeating": repeating,
}


def constant(rng: Generator, rows: int, cols: int) -> Array:
    return np.repeat(1e3 * rng.standard_normal((rows, 1)), cols, axis=1)


def one_hot(rng: Generator, rows: int, cols: int) -> Array:
    """One number, of any size, beside equal ones."""
    x = np.repeat(rng.standard_normal((rows, 1)), cols, axis=1)
    x[np.arange(rows), rng.integers(cols, size=rows)] += 10.0 ** rng.uniform(0, 12, rows) * rng.choice([-1, 1], rows)
    return x


def integers_at_1e7(rng: Generator, rows: int, cols: int) -> Array:
    return 1e7 + rng.integers(4, size=(rows, cols))


def offsets(dtype: str) -> list[float]:
    """Means, in standard deviations: 0 to 1e6, and to where numbers of about 1 have one digit left, and half of one."""
    last = 1 / float(np.finfo(dtype).eps)
    between = [1e9, 1e12] if dtype == "float64" else []
    return [0, 1, 10, 1e2, 1e3, 1e4, 1e5, 1e6, *between, last, 2 * last]


# ---- Gradients that arrive at y ----


def normalized(x: Array) -> Array:
    """What y is about."""
    centred = x.astype(np.float64) - x.mean(axis=-1, keepdims=True, dtype=np.float64)
    largest = abs(centred).max(axis=-1, keepdims=True)
    centred = np.divide(centred, largest, out=np.zeros_like(centred), where=largest > 0)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def correlated(rng: Generator, x: Array, correlation: float) -> Array:
    """Some multiple of y, plus a constant, plus noise: of that correlation with y in each row; exactly y for 1."""
    if correlation == 1:
        return normalized(x)
    noise = np.sqrt(1 - correlation**2) * rng.standard_normal(x.shape)
    return rng.uniform(0.1, 10, (len(x), 1)) * (correlation * normalized(x) + noise) + rng.standard_normal((len(x), 1))


CORRELATIONS = [0.5, 0.9, 0.99, 0.999, 1]


def one_large(rng: Generator, x: Array) -> Array:
    return outliers(rng, *x.shape)


def far_from_0(rng: Generator, x: Array) -> Array:
    return rng.standard_normal(x.shape) + 1e4


def like_x(rng: Generator, x: Array) -> Array:
    return x * rng.uniform(-2, 2, (len(x), 1))


def equal(rng: Generator, x: Array) -> Array:
    return np.repeat(rng.standard_normal((len(x), 1)), x.shape[1], axis=1)


def small_or_large(rng: Generator, x: Array) -> Array:
    return rng.standard_normal(x.shape) * 10.0 ** rng.integers(-15, 15, (len(x), 1))


GRADIENTS: dict[str, Callable[[Generator, Array], Array]] = {
    "one large": one_large,
    "far from 0": far_from_0,
    "like x": like_x,
    "all equal": equal,
    "from 1e-15 to 1e15": small_or_large,
}

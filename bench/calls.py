"""What a call of pyln costs from Python, beside numpy.add on arrays of the same size: medians of interleaved runs.

python bench/calls.py
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

import numpy as np

import pyln

RUNS = 101
REPEATS = 2000


def medians(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of one call of each, the calls taking turns."""
    timers = {name: timeit.Timer(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(RUNS):
        for name, timer in timers.items():
            times[name].append(timer.timeit(repeats) / repeats)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(rows: int) -> None:
    """Print nanoseconds, and how many times as long as numpy.add each call takes."""
    rng = np.random.default_rng(0)
    x, z, dy = (rng.standard_normal((rows, 768), dtype=np.float32) for _ in range(3))
    weight, bias = (rng.standard_normal(768, dtype=np.float32) for _ in range(2))
    y = np.empty_like(x)
    _, mean, rstd = pyln.layer_norm(x, (768,), weight, bias, return_stats=True)
    grads = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    layer = pyln.LayerNorm(768)
    calls: dict[str, Callable[[], object]] = {
        "numpy.add(x, z, out=y)": lambda: np.add(x, z, out=y),
        "layer_norm(x, (768,), w, b, out=y)": lambda: pyln.layer_norm(x, (768,), weight, bias, out=y),
        "layer_norm(x, (768,), w, b)": lambda: pyln.layer_norm(x, (768,), weight, bias),
        "LayerNorm(768)(x, out=y)": lambda: layer(x, out=y),
        "layer_norm_backward(..., out=grads)": lambda: pyln.layer_norm_backward(
            dy, x, (768,), mean, rstd, weight, bias, out=grads
        ),
    }
    times = medians(calls, REPEATS // rows)
    add = next(iter(times.values()))
    for name, seconds in times.items():
        print(f"{rows:3} x 768  {name:40} {seconds * 1e9:8.0f} ns {seconds / add:6.2f}")


if __name__ == "__main__":
    for rows in (1, 32):
        compare(rows)

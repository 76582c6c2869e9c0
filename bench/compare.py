"""Time of layer normalization in pyln, NumPy and PyTorch: medians, and how many times as long as pyln the others take.

One thread, the calls interleaved in one run, outputs preallocated where a library allows it.

    python bench/compare.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import pyln

SHAPES = [(32, 768), (8192, 64), (1024, 768), (64, 4096), (4096, 301), (8192, 768)]
RUNS = 31


def numpy_layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5) -> np.ndarray:
    """The formula, operation by operation."""
    mean = x.mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=-1, keepdims=True) + np.float32(eps)) * weight + bias


def medians(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Seconds of one call of each, the calls taking turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(RUNS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(rows: int, cols: int) -> None:
    """Print two lines of the table."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((rows, cols), dtype=np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(cols, dtype=np.float32) for _ in range(2))
    y, mean, rstd = pyln.layer_norm(x, cols, weight, bias, return_stats=True)
    grads = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)
    tx, tdy, tweight, tbias, tmean, trstd = map(torch.from_numpy, (x, dy, weight, bias, mean, rstd))

    forward = {
        "pyln": lambda: pyln.layer_norm(x, cols, weight, bias, out=y),
        "PyTorch": lambda: torch.nn.functional.layer_norm(tx, (cols,), tweight, tbias),
        "NumPy": lambda: numpy_layer_norm(x, weight, bias),
    }
    native = torch.ops.aten.native_layer_norm_backward
    backward = {
        "pyln": lambda: pyln.layer_norm_backward(dy, x, cols, mean, rstd, weight, bias, out=grads),
        "PyTorch": lambda: native(tdy, tx, (cols,), tmean, trstd, tweight, tbias, [True, True, True]),
    }
    for what, calls in (("forward", forward), ("backward", backward)):
        seconds = medians(calls)
        ratios = "".join(f"{seconds[name] / seconds['pyln']:10.1f}" for name in list(calls)[1:])
        print(f"{rows:6} x {cols:5}  {what:8} {seconds['pyln'] * 1e6:10.0f} us{ratios}")


def main() -> None:
    """Print the table."""
    pyln.set_num_threads(1)
    torch.set_num_threads(1)
    print(f"pyln {pyln.__version__} ({pyln.isa()}), NumPy {np.__version__}, PyTorch {torch.__version__}; float32")
    print(f"{'rows x cols':14}  {'':8} {'pyln':>13}{'PyTorch':>10}{'NumPy':>10}   (times as long)")
    for rows, cols in SHAPES:
        compare(rows, cols)


if __name__ == "__main__":
    main()

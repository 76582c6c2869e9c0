"""From which size threads pay: two threads beside one, over sizes, from Python; medians of interleaved runs.

python bench/threads.py
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import numpy as np

import pyln
from pyln import _core

COLS = 768
RUNS = 21
SECONDS = 0.002  # of one run, at least


def timed(call: Callable[[], object], repeats: int) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def threaded_copy(x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Return a call that copies one half on another thread, which waits for it between calls."""
    half, go, done = len(x) // 2, threading.Semaphore(0), threading.Semaphore(0)

    def other() -> None:
        while True:
            go.acquire()
            np.copyto(y[half:], x[half:])
            done.release()

    threading.Thread(target=other, daemon=True).start()

    def call() -> None:
        go.release()
        np.copyto(y[:half], x[:half])
        done.acquire()

    return call


def compare(kilobytes: int) -> None:
    """Print how many times as fast two threads are."""
    rng = np.random.default_rng(0)
    rows = kilobytes * 1024 // (COLS * 4)
    x, dy = (rng.standard_normal((rows, COLS), dtype=np.float32) for _ in range(2))
    weight, bias = (rng.standard_normal(COLS, dtype=np.float32) for _ in range(2))
    y, mean, rstd = pyln.layer_norm(x, COLS, weight, bias, return_stats=True)
    grads = np.empty_like(x), np.empty_like(weight), np.empty_like(bias)

    def forward() -> object:
        return pyln.layer_norm(x, COLS, weight, bias, out=y)

    def backward() -> object:
        return pyln.layer_norm_backward(dy, x, COLS, mean, rstd, weight, bias, out=grads)

    ratios = []
    for one, two in (
        (forward, forward),
        (backward, backward),
        (lambda: np.copyto(y, x), threaded_copy(x, y)),
    ):
        pyln.set_num_threads(1)
        repeats = max(1, int(SECONDS / timed(one, 3)))
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(RUNS):
            for threads, call in ((1, one), (2, two)):
                pyln.set_num_threads(threads)
                call()  # starts the pool
                times[threads - 1].append(timed(call, repeats))
        ratios.append(statistics.median(times[0]) / statistics.median(times[1]))
    print(f"{kilobytes:6} kB" + "".join(f"{ratio:11.2f}" for ratio in ratios), flush=True)


if __name__ == "__main__":
    _core.set_thread_bytes(0, 0)
    print("   input    forward   backward       copy   (times as fast with two threads)")
    for kilobytes in (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
        compare(kilobytes)

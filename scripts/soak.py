"""Mixes all operations, types, layouts, instruction sets and thread counts in several processes; compares every bit.

    python scripts/soak.py --minutes 60

Each case's digest comes first from one process that uses one thread and the scalar kernels. Then every process calls
random cases, sometimes from several threads, sometimes in a forked child, while others call, until the time is over.
Prints figures, at the end as JSON; fails at any other bit, at a process that crashes or hangs (its threads' stacks are
printed), and at growth of memory.
"""

import argparse
import faulthandler
import hashlib
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import product
from typing import Any

import numpy as np
import psutil

import pyln
from pyln import _core

TYPES = "float32", "float64", "float16"
SHAPES = (3, 4, 6, 5), (2, 8, 31, 33), (600, 2, 3, 7), (1, 2, 3, 20_011), (64, 6, 4, 96)
PATIENCE_S = 60  # after which a forked child hangs; with the machine's other work it takes seconds
GROWTH_MB = 64  # of a process, once it is warm; what is leaked by each call is far more in minutes


def layouts(x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield arrays of the same values, as memory may have them."""
    yield "dense", x
    yield "Fortran", np.asfortranarray(x)
    yield "reversed", x[::-1, :, ::-1].copy()[::-1, :, ::-1]
    yield "gaps", np.repeat(x, 2, axis=-1)[..., ::2]


def operations(x: np.ndarray, dy: np.ndarray) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield a call of each of the library's functions, with what it is called; inputs are (N, C, H, W)."""
    w, c = x.shape[-1], x.shape[1]
    row, own = x[0, 0, 0].copy(), x[:, :1, :1].copy()
    channel, bias = x[0, :, 0, 0].copy(), dy[0, :, 0, 0].copy()
    _, mean, rstd = pyln.layer_norm(x, w, row, own, return_stats=True)
    _, channel_mean, channel_rstd = pyln.layer_norm(x, None, channel, axis=1, return_stats=True)
    _, group_mean, group_rstd = pyln.group_norm(x, 2, channel, bias, return_stats=True)
    _, total, sum_mean, sum_rstd = pyln.add_layer_norm(x, dy[:1], w, row, return_stats=True)
    y, rms = pyln.rms_norm(x, w, row, return_stats=True)
    moments = pyln.moments(x, (1, 2))
    grad_moments = pyln.grad_moments(dy, x, moments, axis=(1, 2))
    layer = pyln.LayerNorm(w, dtype=x.dtype)

    yield "layer_norm", lambda: pyln.layer_norm(x, w, row, own, return_stats=True)
    yield "layer_norm_backward", lambda: pyln.layer_norm_backward(dy, x, w, mean, rstd, own, own)
    yield "layer_norm axis", lambda: pyln.layer_norm(x, None, channel, axis=1)
    yield "layer_norm_backward axis", lambda: pyln.layer_norm_backward(dy, x, None, channel_mean, channel_rstd, axis=1)
    yield "rms_norm", lambda: pyln.rms_norm(x, w, row, return_stats=True)
    yield "rms_norm_backward", lambda: pyln.rms_norm_backward(dy, x, w, rms, row)
    yield "rms_norm_backward_from_y", lambda: pyln.rms_norm_backward_from_y(dy, y, w, rms, row)
    yield "group_norm", lambda: pyln.group_norm(x, 2, channel, bias, return_stats=True)
    yield "group_norm_backward", lambda: pyln.group_norm_backward(dy, x, 2, group_mean, group_rstd, channel)
    yield "instance_norm", lambda: pyln.instance_norm(x, weight=np.ones(c, x.dtype))
    yield "add_layer_norm", lambda: pyln.add_layer_norm(x, dy[:1], w, row, return_stats=True)
    yield (
        "add_layer_norm_backward",
        lambda: pyln.add_layer_norm_backward(dy, x, total, w, sum_mean, sum_rstd, row),
    )
    yield "quantized_rms_norm", lambda: pyln.quantized_rms_norm(x, w, row)
    yield "quantized_layer_norm", lambda: pyln.quantized_layer_norm(x, None, channel, axis=1, dtype="uint8")
    yield "moments", lambda: pyln.moments(x, (1, 2)).values
    yield "apply_moments", lambda: pyln.apply_moments(x, moments, axis=(1, 2))
    yield "grad_moments", lambda: pyln.grad_moments(dy, x, moments, axis=(1, 2)).values
    yield "apply_grad_moments", lambda: pyln.apply_grad_moments(dy, x, moments, grad_moments, axis=(1, 2))
    yield "LayerNorm", lambda: layer(x)


def refused(x: np.ndarray) -> str:
    """Return what a call that is refused raises."""
    try:
        pyln.layer_norm(x, x.shape[-1] + 1)
    except ValueError as error:
        return str(error)
    return ""


def cases() -> dict[str, tuple[int, Callable[[], Any]]]:
    """Return all cases by name: the elements of the input, and the call."""
    found = {}
    for number, (shape, dtype) in enumerate(product(SHAPES, TYPES)):
        x, dy = np.random.default_rng(number).standard_normal((2, *shape)).astype(dtype)
        for layout, seen in layouts(x):
            for name, call in (*operations(seen, dy), ("refused", lambda seen=seen: refused(seen))):
                found[f"{name} {dtype} {shape} {layout}"] = (x.size, call)
    return found


def digest(result: Any) -> str:
    """Return a digest of the bits of whatever a call returns."""
    sha = hashlib.blake2b(digest_size=16)
    for part in result if isinstance(result, tuple) else (result,):
        sha.update(part.encode() if isinstance(part, str) else b"-" if part is None else np.ascontiguousarray(part))
    return sha.hexdigest()


def first_digests() -> dict[str, str]:
    """Digest every case on one thread, by the scalar kernels."""
    pyln.set_num_threads(1)
    with pyln.use_isa("scalar"):
        return {name: digest(call()) for name, (_, call) in cases().items()}


class Soak:
    """What one process does."""

    def __init__(self, expected: dict[str, str], seed: int) -> None:
        self.expected, self.random, self.cases = expected, random.Random(seed), cases()
        self.names, self.figures, self.differences = list(self.cases), Counter[str](), list[str]()

    def compare(self, name: str) -> bool:
        """Call a case; note it where its bits are others."""
        size, call = self.cases[name]
        right = digest(call()) == self.expected[name]
        self.figures.update(calls=1, elements=size)
        if not right:
            self.differences.append(name)
        return right

    def forked(self) -> None:
        """The same in a child of this process, whose threads are at work."""
        names = self.random.sample(self.names, 5)
        child = os.fork()
        if child == 0:
            os._exit(0 if all([self.compare(name) for name in names]) else 1)
        self.figures["forks"] += 1
        process = psutil.Process(child)
        try:
            status = process.wait(PATIENCE_S)
        except psutil.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            status = f"a signal after {PATIENCE_S} s and {process.wait()}"
        if status:
            self.differences.append(f"a forked child ended with {status}: {names}")

    def round(self, callers: ThreadPoolExecutor) -> None:
        """A hundred calls, some of them by several threads, one after a fork."""
        _core.set_isa(self.random.choice(pyln.available_isas()))
        pyln.set_num_threads(self.random.randint(1, 6))
        _core.set_thread_bytes(*self.random.choice([(0, 0), (1 << 16, 1 << 14), (1 << 22, 1 << 21)]))
        calls = [callers.submit(self.compare, name) for name in self.random.choices(self.names, k=40)]
        self.forked()
        for name in self.random.choices(self.names, k=60):
            self.compare(name)
        for done in calls:
            done.result()

    def run(self, end: float) -> dict[str, Any]:
        """Go on until the end."""
        process = psutil.Process()
        with ThreadPoolExecutor(4) as callers:
            for name in self.names:  # so that all memory that calls keep is there
                self.compare(name)
            for _ in range(5):
                self.round(callers)
            before = process.memory_info().rss
            while time.monotonic() < end and not self.differences:
                self.round(callers)
        growth = process.memory_info().rss - before
        return dict(self.figures) | {"growth": growth, "differences": self.differences}


def soak(expected: dict[str, str], seed: int, minutes: float) -> dict[str, Any]:
    """Be one of the processes."""
    faulthandler.enable()  # SIGABRT prints what each thread is at
    return Soak(expected, seed).run(time.monotonic() + 60 * minutes)


def main() -> int:
    """Run it; 1 at any fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 1))
    parser.add_argument("--seed", type=int, default=0, help="of the random order of calls")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    broken = ""
    with ProcessPoolExecutor(options.processes, multiprocessing.get_context("spawn")) as pool:
        try:
            expected = pool.submit(first_digests).result(timeout=10 * PATIENCE_S)
            print(f"{len(expected)} cases, {options.processes} processes, {options.minutes} minutes", flush=True)
            seeds = range(options.seed, options.seed + options.processes)
            running = [pool.submit(soak, expected, seed, options.minutes) for seed in seeds]
            found = [process.result(timeout=60 * options.minutes + 10 * PATIENCE_S) for process in running]
        except (BrokenProcessPool, TimeoutError) as error:
            broken = repr(error)
            for process in multiprocessing.active_children():
                for child in (*psutil.Process(process.pid).children(), process):
                    os.kill(child.pid, signal.SIGABRT)

    figures: dict[str, Any] = {key: sum(f[key] for f in found) for key in ("calls", "elements", "forks")}
    figures |= {
        "minutes": options.minutes,
        "processes": options.processes,
        "crashed_or_hanging": broken,
        "differences": [d for f in found for d in f["differences"]],
        "growth_mb": round(max((f["growth"] for f in found), default=0) / 2**20, 1),
    }
    for key, value in figures.items():
        print(f"{key:20} {value}")
    print(json.dumps(figures))
    return int(bool(broken or figures["differences"] or figures["growth_mb"] > GROWTH_MB))


if __name__ == "__main__":
    sys.exit(main())

"""What ``python -m pyln`` does: a check on real activations, and the speed beside NumPy's on the same data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np

import pyln
from pyln._arguments import Array

# In units of 2**-24, the rounding of one float32; see docs/numerics.md.
FORWARD_BOUND, BACKWARD_BOUND = 4, 8
UNIT = 2.0**-24

NEXT = """\
Next
  python -m pyln normalize IN.npy OUT.npy   normalize an array in a file, of any size
  help(pyln.layer_norm)                     the function; torch's arguments, NumPy's out= and axis=
  examples/, docs/concepts.md               programs that run, and what is normalized over what"""


def run() -> int:
    """Print the report; return 0 if everything held, else 1."""
    used = pyln.isa()
    print(f"pyln {pyln.__version__}")
    sets = ", ".join(f"{name} (in use)" if name == used else name for name in pyln.available_isas())
    print(f"Instruction sets: {sets}; threads: {pyln.get_num_threads()}\n")

    norms = _load_norms()
    rows, cols = norms[0].x.shape
    print(f"Check on the input of {len(norms)} layer norms of all-MiniLM-L6-v2 ({rows} tokens x {cols}, float32)")
    forward, backward = (max(errors) for errors in zip(*map(_errors, norms), strict=True))
    results = [
        (f"{name}: largest error against float64 {error:.2f} u, allowed {bound} u", error <= bound)
        for name, error, bound in (("forward", forward, FORWARD_BOUND), ("backward", backward, BACKWARD_BOUND))
    ]
    expected = [_bits(norm) for norm in norms]
    for name in pyln.available_isas():
        if name != used:
            with pyln.use_isa(name):
                results.append((f"{name}: the same bits as {used}", [_bits(norm) for norm in norms] == expected))
    for what, good in results:
        print(f"  {'ok   ' if good else 'WRONG'}  {what}")

    print("\nSpeed on the same data, medians of interleaved runs")
    numpy_time, pyln_time = _times(norms[0])
    ratio = numpy_time / pyln_time
    print(f"  NumPy {numpy_time * 1e6:.0f} us, pyln {pyln_time * 1e6:.0f} us: {ratio:.1f} times as fast\n")
    passed = all(good for _, good in results)
    print(NEXT if passed else "The check FAILED: the results of this installation cannot be trusted.")
    return 0 if passed else 1


class _Norm(NamedTuple):
    x: Array
    weight: Array
    bias: Array
    eps: float


def _load_norms() -> list[_Norm]:
    with as_file(files(pyln).joinpath("data/minilm_sample.npz")) as path, np.load(path) as sample:
        names = [key.removesuffix(".input") for key in sample.files if key.endswith(".input")]
        return [
            _Norm(
                sample[f"{n}.input"], sample[f"{n}.weight"], sample[f"{n}.bias"], float(np.float32(sample[f"{n}.eps"]))
            )
            for n in names
        ]


def _gradient(y: Array) -> Array:
    """Something to send backward: each token's output is the gradient of the next one's."""
    return np.roll(y, 1, axis=0)


def _run(norm: _Norm) -> tuple[Array, ...]:
    x, weight, bias, eps = norm
    y, mean, rstd = pyln.layer_norm(x, x.shape[-1:], weight, bias, eps, return_stats=True)
    grad_input, grad_weight, grad_bias = pyln.layer_norm_backward(_gradient(y), x, x.shape[-1:], mean, rstd, weight)
    assert grad_input is not None and grad_weight is not None and grad_bias is not None
    return y, grad_input, mean, rstd, grad_weight, grad_bias


def _bits(norm: _Norm) -> list[bytes]:
    return [array.tobytes() for array in _run(norm)]


def _errors(norm: _Norm) -> tuple[float, float]:
    """The largest errors of y and of grad_input, in u.

    That of y is relative to max(abs(xhat), 1) * abs(weight) + abs(bias), that of grad_input to the row's largest.
    """
    y, grad_input, *_ = _run(norm)
    x, weight, bias = (array.astype(np.float64) for array in norm[:3])
    centred = x - x.mean(axis=1, keepdims=True)
    rstd = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + norm.eps)
    xhat = centred * rstd
    g = _gradient(y) * weight
    exact = rstd * (g - g.mean(axis=1, keepdims=True) - xhat * (g * xhat).mean(axis=1, keepdims=True))
    forward = abs(y - (xhat * weight + bias)) / (np.maximum(abs(xhat), 1) * abs(weight) + abs(bias))
    backward = abs(grad_input - exact).max(axis=1) / abs(exact).max(axis=1)
    return float(forward.max()) / UNIT, float(backward.max()) / UNIT


def _numpy_layer_norm(norm: _Norm) -> object:
    x, weight, bias, eps = norm
    mean = x.mean(axis=-1, keepdims=True)
    var = x.var(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(var + np.float32(eps)) * weight + bias


def _times(norm: _Norm) -> tuple[float, float]:
    """Seconds of one call, NumPy's and pyln's."""
    x, weight, bias, eps = norm
    calls: list[Callable[[], object]] = [
        lambda: _numpy_layer_norm(norm),
        lambda: pyln.layer_norm(x, x.shape[-1:], weight, bias, eps),
    ]
    seconds: list[list[float]] = [[], []]
    for _ in range(200):
        for call, times in zip(calls, seconds, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])

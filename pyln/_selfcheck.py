"""What ``python -m pyln check`` does: a check on real activations, and the speed beside NumPy's on the same data."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from typing import Any, NamedTuple

import numpy as np

import pyln
from pyln._arguments import Array
from pyln._terminal import paint

# In units of 2**-24, the rounding of one float32; see docs/numerics.md.
FORWARD_BOUND, BACKWARD_BOUND = 4, 8
UNIT = 2.0**-24

NEXT = """\
Next
  python -m pyln --help                     info, normalize, bench, with examples
  python -m pyln normalize IN.npy OUT.npy   normalize an array in a file, of any size
  help(pyln.layer_norm)                     the function; torch's arguments, NumPy's out= and axis=
  examples/, docs/concepts.md               programs that run, and what is normalized over what"""


def run(say: Callable[[str], object] = print) -> dict[str, Any]:
    """Say the report line by line; return it as JSON has it."""
    used = pyln.isa()
    say(f"pyln {pyln.__version__}")
    sets = ", ".join(f"{name} (in use)" if name == used else name for name in pyln.available_isas())
    say(f"Instruction sets: {sets}; threads: {pyln.get_num_threads()}\n")

    norms = _load_norms()
    rows, cols = norms[0].x.shape
    say(f"Check on the input of {len(norms)} layer norms of all-MiniLM-L6-v2 ({rows} tokens x {cols}, float32)")
    checks = list(_checks(norms, used))
    for check in checks:
        word = paint("ok   ", "green") if check["passed"] else paint("WRONG", "red")
        beside = "" if check["error"] is None else f" {check['error']:.2f} u, allowed {check['allowed']} u"
        say(f"  {word}  {check['what']}{beside}")

    say("\nSpeed on the same data, medians of interleaved runs")
    numpy_time, pyln_time = _times(norms[0])
    ratio = numpy_time / pyln_time
    say(f"  NumPy {numpy_time * 1e6:.0f} us, pyln {pyln_time * 1e6:.0f} us: {ratio:.1f} times as fast\n")
    passed = all(check["passed"] for check in checks)
    say(NEXT if passed else paint("The check FAILED: the results of this installation cannot be trusted.", "red"))
    return {
        "pyln": pyln.__version__,
        "passed": passed,
        "isa": used,
        "threads": pyln.get_num_threads(),
        "checks": checks,
        "speed": {"numpy": numpy_time, "pyln": pyln_time},
    }


def _checks(norms: list[_Norm], used: str) -> Iterator[dict[str, Any]]:
    forward, backward = (max(errors) for errors in zip(*map(_errors, norms), strict=True))
    for name, error, bound in (("forward", forward, FORWARD_BOUND), ("backward", backward, BACKWARD_BOUND)):
        what = f"{name}: largest error against float64"
        yield {"what": what, "passed": error <= bound, "error": error, "allowed": bound}
    expected = [_bits(norm) for norm in norms]
    for name in pyln.available_isas():
        if name != used:
            with pyln.use_isa(name):
                same = [_bits(norm) for norm in norms] == expected
            yield {"what": f"{name}: the same bits as {used}", "passed": same, "error": None, "allowed": None}


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

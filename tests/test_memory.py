"""Sizes beyond 2^31, sizes that overflow, memory that runs out or leaks: an error or a result, never a crash."""

import os

import numpy as np
import pytest
from commands import run_script

import pyln

BEYOND = 2**31 + 11
LARGE = "PYLN_LARGE" in os.environ  # minutes, and gigabytes on the disk


@pytest.mark.parametrize("dtype", ["float16", "float32"] if LARGE else ["float16"])
@pytest.mark.parametrize("shape", [(1, BEYOND), (3, BEYOND // 3 + 1)])
def test_statistics_of_more_than_2_to_the_31_elements(shape, dtype, tmp_path):
    """Memory, or a file, with nothing in it but numbers at its end."""
    x = np.memmap(tmp_path / "x", dtype, "w+", shape=shape) if LARGE else np.zeros(shape, dtype)
    x[-1, -4:] = 2, 4, 6, 8
    expected = np.zeros((shape[0], 1))
    expected[-1] = (4 + 16 + 36 + 64) / shape[1]
    np.testing.assert_allclose(pyln.moments(x, rms=True).var, expected, rtol=1e-6)


def test_statistics_of_rows_that_are_one_in_memory():
    row = np.random.default_rng(0).standard_normal(30_000, dtype="f4")
    found = pyln.moments(np.broadcast_to(row, (BEYOND // row.size + 1, row.size))).values
    assert (found == pyln.moments(row).values).all()


def test_an_output_of_more_than_2_to_the_31_elements(tmp_path):
    """Rows that are all the same memory; the output's file is written in full."""
    cols = 1000
    rows = BEYOND // cols + 1 if LARGE else 3000
    row = np.random.default_rng(0).standard_normal(cols).astype("f2")
    y = np.memmap(tmp_path / "y", "f2", "w+", shape=(rows, cols))
    pyln.layer_norm(np.broadcast_to(row, y.shape), cols, out=y)
    expected = pyln.layer_norm(row, cols)
    for first in range(0, rows, 100_000):
        assert (y[first : first + 100_000] == expected).all()


@pytest.mark.parametrize(
    "shape", [(2**31, 2**31, 2), (2**40, 2**24), (2**20, 2**20, 2**23), (3, 2**60 + 1), (2**62,), (2**61 + 1, 1)]
)
def test_shapes_whose_products_overflow(shape):
    """What NumPy lets be made of one element; results would not fit into any memory."""
    try:
        x = np.lib.stride_tricks.as_strided(np.ones(1, "f2"), shape, (0,) * len(shape))
    except (ValueError, MemoryError):  # NumPy's own limit
        return
    for call in (
        lambda: pyln.layer_norm(x, shape[-1]),
        lambda: pyln.rms_norm(x, shape[-1]),
        lambda: pyln.quantized_rms_norm(x, shape[-1]),
        lambda: pyln.layer_norm_backward(x, x, shape[-1], x[..., :1], x[..., :1]),
    ):
        with pytest.raises((ValueError, MemoryError, TypeError)):
            call()


# Calls with `calls(x)` all functions that allocate, in the shapes and layouts that need copies.
CALLS = """
import itertools, os, random, resource, sys, numpy as np, pyln
from pyln import _core
def calls(x, dy):
    w = x.shape[-1]
    row, own, channel = x[0, 0, 0].copy(), x[:, :1, :1].copy(), x[0, :, 0, 0].copy()
    y, mean, rstd = pyln.layer_norm(x, w, row, own, return_stats=True)
    yield y, mean, rstd
    yield pyln.layer_norm_backward(dy, x, w, mean, rstd, own, own)
    yield pyln.layer_norm_backward(dy, x, w, mean, rstd, row, row)
    y, rstd = pyln.rms_norm(x[..., ::-1], w, row, return_stats=True)
    yield y, rstd
    y, mean, rstd = pyln.layer_norm(x, None, channel, axis=1, return_stats=True)
    yield pyln.layer_norm_backward(dy, x, None, mean, rstd, channel, axis=1)
    y, total, mean, rstd = pyln.add_layer_norm(x, dy[:1], w, row, return_stats=True)
    yield pyln.add_layer_norm_backward(dy, x, total, w, mean, rstd, row)
    y, mean, rstd = pyln.group_norm(x, 2, channel, channel, return_stats=True)
    yield pyln.group_norm_backward(dy, x, 2, mean, rstd, channel)
    yield pyln.quantized_rms_norm(x, w, row)[:2]
    layer = pyln.LayerNorm(w, dtype=x.dtype)
    y = layer(x)
    yield y, layer.backward(dy)
    moments = pyln.moments(x, (1, 2))
    yield pyln.apply_grad_moments(dy, x, moments, pyln.grad_moments(dy, x, moments, axis=(1, 2)), axis=(1, 2))
    for wrong in (lambda: pyln.layer_norm(x, w + 1), lambda: pyln.rms_norm(x, "w"), lambda: pyln.layer_norm(x, w, own[..., 0])):
        try:
            wrong()
        except (TypeError, ValueError) as error:
            assert str(error)
        else:
            raise AssertionError("not refused")
def arrays(shape, dtype="f4"):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    return x, dy
def bits(results):
    return [None if a is None else a.tobytes() for result in results for a in result]
"""


def test_memory_runs_out(monkeypatch):
    """At each of many limits of the address space: MemoryError or right results; then it works as before."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")  # glibc keeps less of what was freed
    script = """
_core.set_thread_bytes(0, 0)
pyln.set_num_threads(2)
x, dy = arrays((4, 8, 30, 350))
expected = bits(calls(x, dy))
page = resource.getpagesize()
used = int(open("/proc/self/statm").read().split()[0]) * page
outcomes = []
for n, more in enumerate([*range(0, 60 << 17, 1 << 17), 1 << 30]):
    pyln.set_num_threads(2 + n % 3)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, resource.RLIM_INFINITY))
    try:
        for result in calls(x, dy):
            pass
        outcomes.append(True)
    except MemoryError:
        outcomes.append(False)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
assert bits(calls(x, dy)) == expected
print(outcomes[-1], outcomes.count(False))
"""
    succeeded, refused = run_script(CALLS + script, timeout=300).split()
    assert succeeded == "True" and int(refused) > 3


def test_each_allocation_fails_in_turn():
    """Those that go through Python's allocators, as the library's own do: statistics that layers keep, workspaces."""
    pytest.importorskip("_testcapi")
    script = """
import _testcapi
_core.set_thread_bytes(0, 0)
pyln.set_num_threads(2)
x = arrays((64, 3000))[0]
layer = pyln.LayerNorm(3000)
_, mean, rstd = pyln.layer_norm(x, 3000, return_stats=True)
for call in (
    lambda: layer(x),
    lambda: pyln.layer_norm(x, 3000, x[0], return_stats=True),
    lambda: pyln.layer_norm_backward(x, x, 3000, mean, rstd, x[0]),
):
    expected, failed, n = bits([call()]), 0, 0
    while True:
        try:
            _testcapi.set_nomemory(n, n + 1)
            try:
                found = call()
            finally:
                _testcapi.remove_mem_hooks()
        except MemoryError:
            failed += 1
        else:
            assert bits([found]) == expected
            if n > 200:
                break
        n += 1
    assert failed > 3, failed
"""
    run_script(CALLS + script)


LEAK_CALLS = int(os.environ.get("PYLN_LEAK_CALLS", "20000"))


def test_no_leak():
    """Of memory, after as many calls as PYLN_LEAK_CALLS says, refused ones among them; nor of references."""
    script = f"""
shapes = [(2, 4, 3, 5), (1, 2, 2, 300), (3, 2, 1, 64)]
inputs = [arrays(shape, dtype) for shape in shapes for dtype in ("f2", "f4", "f8")]
small = arrays((64, 200))
out = np.empty_like(small[0])
row = np.ones(200, "f4")
def some():
    for x, dy in inputs:
        for _ in calls(x, dy):
            pass
    for _ in range(100):
        pyln.layer_norm(small[0], 200, row, row, out=out)
        _, mean, rstd = pyln.layer_norm(small[0], 200, row, return_stats=True)
        pyln.layer_norm_backward(small[1], small[0], 200, mean, rstd, row, out=(out, None, None))
each = len(inputs) * 18 + 300
held = [*itertools.chain(*inputs), *small, out, row, small[0].dtype, None, pyln.layer_norm]
def rss():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
def counts():
    return [sys.getrefcount(a) for a in held if a is not None]
for _ in range(10):
    some()
before, counted = rss(), counts()
done = 0
while done < {LEAK_CALLS}:
    some()
    done += each
assert counts() == counted, (counts(), counted)
print(done, rss() - before)
"""
    done, growth = map(int, run_script(CALLS + script, timeout=3600).split())
    print(f"{done} calls, {growth} bytes more")
    assert done >= LEAK_CALLS and growth < 2**20 + 4 * done

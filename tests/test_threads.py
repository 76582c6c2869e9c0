"""Threads share the work and change no bit; fork, Ctrl-C and several callers at once work."""

import os
import threading
from queue import SimpleQueue

import numpy as np
import pytest
from commands import run_script

import pyln
from pyln import _core, _threads

MARK = 7


@pytest.fixture
def always_parallel(threads):
    before = _core.set_thread_bytes(0, 0)
    yield
    _core.set_thread_bytes(*before)


def results(rows, cols):
    rng = np.random.default_rng([rows, cols])
    x, dy = (rng.standard_normal((rows, cols), dtype="f4") for _ in range(2))
    weight = rng.standard_normal(cols, dtype="f4")
    y, mean, rstd = pyln.layer_norm(x, cols, weight, return_stats=True)
    return [a.tobytes() for a in (y, mean, rstd, *pyln.layer_norm_backward(dy, x, cols, mean, rstd, weight))]


@pytest.mark.parametrize(("rows", "cols"), [(1, 70), (2, 70_000), (64, 768), (65, 768), (1000, 40), (5000, 300)])
def test_the_number_of_threads_changes_no_bit(rows, cols, always_parallel, isa):
    if isa == "scalar" and rows * cols > 10**6:
        rows //= 10
    pyln.set_num_threads(1)
    expected = results(rows, cols)
    for n in range(2, 17):
        pyln.set_num_threads(n)
        assert results(rows, cols) == expected


def test_pieces_really_run_on_several_threads(always_parallel):
    pyln.set_num_threads(3)
    idents, barrier = set(), threading.Barrier(3, timeout=30)

    def pieces():
        idents.add(threading.get_ident())
        barrier.wait()

    put, count = _threads.helpers(2)
    for _ in range(count):
        put(pieces)
    pieces()
    assert len(idents) == 3


def test_several_callers_at_once(always_parallel):
    pyln.set_num_threads(3)
    expected = results(300, 200)
    got = [None] * 6

    def call(i):
        got[i] = [results(300, 200) for _ in range(10)]

    callers = [threading.Thread(target=call, args=(i,)) for i in range(len(got))]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    assert all(g == [expected] * 10 for g in got)


def test_fork():
    script = """
import os, numpy as np, pyln
from pyln import _core
_core.set_thread_bytes(0, 0)
pyln.set_num_threads(3)
x = np.random.default_rng(0).standard_normal((500, 300))
expected = pyln.layer_norm(x, 300).tobytes()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if pyln.layer_norm(x, 300).tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0
assert pyln.layer_norm(x, 300).tobytes() == expected
"""
    run_script(script)


def test_the_threads_of_a_pool(monkeypatch):
    """What they do, and what a child does after fork: there, debuggers and coverage do not follow."""
    queue, done = SimpleQueue(), []
    for work in (lambda: done.append(1), lambda: done.append(2), None, lambda: done.append(3)):
        queue.put(work)
    _threads._work(queue)
    assert done == [1, 2] and queue.qsize() == 1
    left = _threads._pool
    monkeypatch.setattr(_threads, "_pool", left)
    _threads._renew_pool()
    assert _threads._pool is not left and _threads.helpers(0)[1] == 0


def test_cpus_where_a_process_cannot_be_kept_to_some(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _threads.available_cpus() == os.cpu_count()


def test_ctrl_c_comes_through():
    script = """
import os, signal, threading, numpy as np, pyln
from pyln import _core
_core.set_thread_bytes(0, 0)
pyln.set_num_threads(2)
x = np.random.default_rng(0).standard_normal((2000, 2000))
y = np.empty_like(x)
expected = pyln.layer_norm(x, 2000).tobytes()
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    while True:
        pyln.layer_norm(x, 2000, out=y)
except KeyboardInterrupt:
    pass
assert pyln.layer_norm(x, 2000).tobytes() == expected
print("went on")
"""
    assert run_script(script) == "went on\n"


def test_ctrl_c_at_any_moment_leaves_no_lock_held():
    script = """
import random, signal, numpy as np, pyln
from pyln import _core
_core.set_thread_bytes(0, 0)
x = np.random.default_rng(0).standard_normal((100, 200))
expected = pyln.layer_norm(x, 200).tobytes()
signal.signal(signal.SIGALRM, signal.default_int_handler)
random.seed(1)
interrupted = 0
for i in range(8000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-4))
        while True:
            pyln.set_num_threads(2 + i % 3)
            pyln.layer_norm(x, 200)
    except KeyboardInterrupt:
        interrupted += 1
assert interrupted == 8000 and pyln.layer_norm(x, 200).tobytes() == expected
"""
    run_script(script)


def test_what_fails_while_the_work_is_handed_out_is_raised(always_parallel, monkeypatch):
    """Not before all pieces have ended: what has them may be written again."""
    pyln.set_num_threads(2)
    put, _ = _threads.helpers(1)

    def fail(work):
        put(work)
        raise MemoryError("planted")

    x = np.random.default_rng(0).standard_normal((20, 20_000))
    y = np.empty_like(x)
    expected = pyln.layer_norm(x, 20_000)
    for _ in range(20):
        with monkeypatch.context() as patch, pytest.raises(MemoryError, match="planted"):
            patch.setattr(_threads, "helpers", lambda wanted: (fail, wanted))
            pyln.layer_norm(x, 20_000, out=y)
        y.fill(MARK)
        reached = threading.Event()
        put(reached.set)
        assert reached.wait(60) and (y == MARK).all()
    np.testing.assert_array_equal(pyln.layer_norm(x, 20_000), expected)


def test_at_interpreter_shutdown():
    script = """
import atexit, numpy as np, pyln
from pyln import _core
_core.set_thread_bytes(0, 0)
pyln.set_num_threads(3)
x = np.ones((500, 300))
pyln.layer_norm(x, 300)
atexit.register(lambda: print(pyln.layer_norm(x, 300).sum()))
"""
    assert run_script(script) == "0.0\n"


def test_set_num_threads(always_parallel):
    pyln.set_num_threads(np.int64(5))
    assert pyln.get_num_threads() == 5
    for n, error in (
        (0, ValueError),
        (-1, ValueError),
        (2.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match="n: expected"):
            pyln.set_num_threads(n)
    assert pyln.get_num_threads() == 5


def everything(x, dy):
    """Results of all functions that call the library in their own way, for inputs (N, C, H, W)."""
    w = x.shape[-1]
    weight, bias = x[0, :, 0, 0].copy(), dy[0, :, 0, 0].copy()
    rows, own = x[0, 0, 0].copy(), x[:, :1, :1].copy()
    y, mean, rstd = pyln.layer_norm(x, w, rows, own, return_stats=True)
    yield y, mean, rstd
    yield pyln.layer_norm_backward(dy, x, w, mean, rstd, own, own)
    yield pyln.layer_norm_backward_from_y(dy, y, w, rstd, rows, own)
    _, mean, rstd = pyln.layer_norm(x, None, weight, axis=1, return_stats=True)
    yield pyln.layer_norm_backward(dy, x, None, mean, rstd, weight, axis=1)
    y, total, mean, rstd = pyln.add_layer_norm(x, dy[:1], w, rows, return_stats=True)
    yield y, total, *pyln.add_layer_norm_backward(dy, x, total, w, mean, rstd, rows)
    y, mean, rstd = pyln.group_norm(x, 2, weight, bias, return_stats=True)
    yield y, *pyln.group_norm_backward(dy, x, 2, mean, rstd, weight)
    yield pyln.quantized_rms_norm(x, w, rows)[:2]
    yield pyln.quantized_layer_norm(x, None, weight, axis=1, dtype="uint8")
    moments = pyln.moments(x, (1, 2))
    grad_moments = pyln.grad_moments(dy, x, moments, axis=(1, 2))
    yield moments.values, grad_moments.values
    yield pyln.apply_grad_moments(dy, x, moments, grad_moments, axis=(1, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (3, 8, 70, 33), (300, 2, 3, 4)])
def test_no_function_depends_on_threads(shape, dtype, isa, always_parallel):
    x, dy = np.random.default_rng(0).standard_normal((2, *shape)).astype(dtype)
    found = []
    for n in (1, 2, 3, 7, 16):
        pyln.set_num_threads(n)
        found.append([array for result in everything(x, dy) for array in result])
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a, b)

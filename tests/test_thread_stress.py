"""Up to 100 Python threads at once on the same arrays: shared inputs and weights, outputs that are parts of shared arrays.

Instruction sets and the number of threads of a call change under them, and no bit may. On a free-threaded CPython
nothing else keeps the threads apart.
"""

import sys
import sysconfig
import threading
import time

import numpy as np
import pytest

import pyln
from pyln import _core, _isa, _threads

SECONDS = 4


def calls(x, dy, weight, bias, statistics, out):
    """Write results of one caller's rows into its parts of the shared arrays."""
    y, dx, normalized, total = out
    cols = x.shape[1]
    pyln.layer_norm(x, cols, weight, bias, out=y)
    pyln.layer_norm_backward(dy, x, cols, *statistics, weight, bias, out=(dx, None, None))
    pyln.rms_norm(x, cols, weight, out=normalized)
    pyln.add_layer_norm(x, dy, cols, weight, out=(total, np.empty_like(x)))


# Each with so many rows of the shared outputs: as one piece under the GIL, and without it.
@pytest.mark.parametrize(("number", "rows", "cols"), [(8, 48, 96), (8, 48, 4096), (100, 20, 2048)])
def test_callers_share_arrays(number, rows, cols, threads):
    rng = np.random.default_rng(cols)
    x, dy = rng.standard_normal((2, rows * number, cols), dtype=np.float32)
    weight, bias = rng.standard_normal((2, cols), dtype=np.float32)
    _, mean, rstd = pyln.layer_norm(x, cols, weight, bias, return_stats=True)
    parts = [slice(i * rows, (i + 1) * rows) for i in range(number)]
    layer = pyln.LayerNorm(cols)
    layer_y = layer(x[:rows])

    def run(part, out):
        calls(x[part], dy[part], weight, bias, (mean[part], rstd[part]), [o[part] for o in out])

    expected = np.empty((4, *x.shape), np.float32)
    for part in parts:
        run(part, expected)
    got = np.empty_like(expected)
    rounds, errors, start, stop = [0] * number, [], threading.Barrier(number + 1, timeout=60), threading.Event()

    def caller(i):
        part = parts[i]
        try:
            start.wait()
            while not stop.is_set():
                for o in got:
                    o[part].fill(np.nan)
                run(part, got)
                for o, e in zip(got, expected, strict=True):
                    if o[part].tobytes() != e[part].tobytes():
                        raise AssertionError(f"caller {i}: other bits, in round {rounds[i]}")
                if layer(x[:rows]).tobytes() != layer_y.tobytes():
                    raise AssertionError(f"caller {i}: the shared layer gave other bits")
                rounds[i] += 1
        except BaseException as error:
            errors.append(error)
            stop.set()

    before = _core.set_thread_bytes(0, 0)
    isa = pyln.isa()
    callers = [threading.Thread(target=caller, args=(i,)) for i in range(number)]
    changes = 0
    try:
        for thread in callers:
            thread.start()
        start.wait()
        end = time.monotonic() + SECONDS
        while (time.monotonic() < end or min(rounds) < 2) and not stop.is_set() and time.monotonic() < end + 60:
            _core.set_isa(pyln.available_isas()[changes % len(pyln.available_isas())])
            pyln.set_num_threads(1 + changes % 4)
            changes += 1
            time.sleep(0.002)
    finally:
        stop.set()
        for thread in callers:
            thread.join(60)
        _core.set_isa(isa)
        _core.set_thread_bytes(*before)
    assert not errors, errors[0]
    assert not any(thread.is_alive() for thread in callers)
    assert min(rounds) >= 2 and changes > 10
    np.testing.assert_array_equal(got, expected)


def test_num_threads_and_sets_are_read_while_they_change(threads):
    """Whoever asks gets a value that someone has set."""
    sets, seen, errors, stop = pyln.available_isas(), set(), [], threading.Event()
    isa = pyln.isa()

    def ask():
        try:
            while not stop.is_set():
                seen.add((_isa.isa() in sets, _threads.get_num_threads() in (2, 3)))
        except BaseException as error:
            errors.append(error)

    pyln.set_num_threads(2)
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    for i in range(2000):
        pyln.set_num_threads(2 + i % 2)
        _core.set_isa(sets[i % len(sets)])
    stop.set()
    for asker in askers:
        asker.join(60)
    _core.set_isa(isa)
    assert not errors and seen == {(True, True)}


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded CPython")
def test_nothing_turned_the_gil_on():
    assert not sys._is_gil_enabled()

"""Forks and other processes, signals, the interpreter's end, several interpreters: nothing hangs, crashes or alters bits."""

import os
import subprocess
import sys

import pytest
from commands import UNMEASURED, run_script

# Every call is shared among threads, in pieces; `expected` are its bits on one.
START = """
import os, signal, sys, threading, time, numpy as np, pyln
from pyln import _core
_core.set_thread_bytes(0, 0)
x = np.random.default_rng(0).standard_normal((300, 200), dtype="f4")
def digest():
    y, mean, rstd = pyln.layer_norm(x, 200, return_stats=True)
    dx, _, _ = pyln.layer_norm_backward(x, x, 200, mean, rstd)
    return y.tobytes() + mean.tobytes() + rstd.tobytes() + dx.tobytes()
pyln.set_num_threads(1)
expected = digest()
pyln.set_num_threads(3)
"""


def test_fork_while_other_threads_call():
    run_script(
        START
        + """
wrong, stop = [], threading.Event()
def call():
    while not stop.is_set():
        if digest() != expected:
            wrong.append(1)
callers = [threading.Thread(target=call) for _ in range(4)]
for caller in callers:
    caller.start()
statuses = []
for _ in range(60):
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        pyln.set_num_threads(4)
        done = []
        another = threading.Thread(target=lambda: done.append(digest()))
        another.start()
        right = digest() == expected
        another.join()
        os._exit(0 if right and done == [expected] else 1)
    statuses.append(os.waitpid(child, 0)[1])
    if statuses[-1]:
        break
stop.set()
for caller in callers:
    caller.join()
assert not any(statuses), statuses
assert not wrong and digest() == expected
"""
    )


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        START
        + f"""
import multiprocessing
def in_child(_):
    pyln.set_num_threads(2)
    return [digest() == expected for _ in range(5)]
if __name__ == "__main__":
    assert digest() == expected
    with multiprocessing.get_context({method!r}).Pool(3) as pool:
        assert pool.map_async(in_child, range(12)).get(100) == 12 * [5 * [True]]
    assert digest() == expected
"""
    )
    done = subprocess.run(
        [sys.executable, program],
        env={**os.environ, **UNMEASURED},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


# About 10^11 elements, of which one row is in memory: minutes.
LONG = "pyln.moments(np.broadcast_to(np.ones(100_000, 'f4'), (1_000_000, 100_000)))"


@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_ends_a_long_call(threads):
    run_script(
        START
        + f"""
pyln.set_num_threads({threads})
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    {LONG}
except KeyboardInterrupt:
    assert digest() == expected
else:
    raise AssertionError("not interrupted")
""",
        timeout=60,
    )


def test_what_a_signal_handler_raises_ends_a_call():
    run_script(
        START
        + f"""
def raise_timeout(*_):
    raise TimeoutError("planted")
signal.signal(signal.SIGALRM, raise_timeout)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    {LONG}
except TimeoutError as error:
    assert str(error) == "planted"
else:
    raise AssertionError("not interrupted")
""",
        timeout=60,
    )


def test_a_call_goes_on_after_a_signal_handler_that_calls_too():
    run_script(
        START
        + """
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(digest() == expected))
signal.setitimer(signal.ITIMER_REAL, 0.3, 0.3)
long = np.broadcast_to(np.arange(100_000, dtype="f4"), (1000, 100_000))
before = pyln.moments(long[:1]).values
while len(handled) < 3:
    assert (pyln.moments(long).values == before).all()
signal.setitimer(signal.ITIMER_REAL, 0)
assert all(handled)
"""
    )


# Many more threads than cores, and an end that takes its time, in which threads end at any moment.
BUSY = """
pyln.set_num_threads(30)
_core.set_isa("scalar")
rows = np.ones((24, 60_000), "f4")
def busy():
    y = np.empty_like(rows)
    while True:
        pyln.layer_norm(rows, 60_000, out=y)
for _ in range(20):
    threading.Thread(target=busy, daemon=True).start()
class Last:
    def __del__(self):
        time.sleep(0.3)
last = Last()
time.sleep(0.2)
"""


@pytest.mark.parametrize(("end", "status"), [("", 0), ("sys.exit(3)", 3), ("1 / 0", 1)])
def test_the_interpreter_ends_while_daemon_threads_call(end, status):
    done = subprocess.run(
        [sys.executable, "-c", START + BUSY + end],
        env={**os.environ, **UNMEASURED},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == status, done.stderr
    assert not done.stderr or "ZeroDivisionError" in done.stderr.splitlines()[-1]


def test_the_interpreter_waits_for_threads_that_call():
    script = """
def call():
    time.sleep(0.1)
    for _ in range(20):
        assert digest() == expected
    print("right\\n", end="")
for _ in range(4):
    threading.Thread(target=call).start()
"""
    assert run_script(START + script) == "right\n" * 4


def test_calls_at_the_interpreters_end():
    """From an exit handler, and from what is finalized with the main module."""
    script = """
import atexit
class Last:
    def __del__(self):
        print(digest() == expected)
last = Last()
digest()
atexit.register(lambda: print(digest() == expected))
"""
    assert run_script(START + script) == "True\nTrue\n"


INTERPRETERS = """
import pyln
from pyln import _core
try:
    {run}
except Exception as error:
    message = str(error)
assert "pyln's compiled part is missing (run `pip install .`) or cannot be loaded" in message, message
assert "interpreter" in message, message
"""


def test_a_second_interpreter_is_refused():
    inside = f"import sys; sys.path[:] = {sys.path!r}; import pyln"
    if sys.version_info >= (3, 13):
        run = f"import _interpreters as i; message = i.exec(i.create('legacy'), {inside!r}).formatted"
    else:
        run = f"import _xxsubinterpreters as i; message = ''; i.run_string(i.create(), {inside!r})"
    run_script(START + INTERPRETERS.format(run=run) + "assert digest() == expected")


def test_without_the_compiled_part():
    absent = "import sys; sys.modules['pyln._core'] = None; import pyln"
    done = subprocess.run([sys.executable, "-c", absent], capture_output=True, text=True)
    assert done.returncode == 1 and "(run `pip install .`) or cannot be loaded" in done.stderr


def test_reload():
    run_script(
        START
        + """
from importlib import reload
for module in pyln, pyln._threads, pyln._isa, pyln.functional, pyln:
    reload(module)
    pyln.set_num_threads(2)
    assert digest() == expected
for name in [name for name in sys.modules if name.partition(".")[0] == "pyln"]:
    del sys.modules[name]
import pyln
assert digest() == expected
"""
    )


def test_first_calls_race():
    """A hundred threads import pyln and call it, at once, in a fresh process."""
    script = """
import threading
start, found = threading.Barrier(100), []
def first():
    start.wait(60)
    import numpy as np, pyln
    from pyln import _core
    _core.set_thread_bytes(0, 0)
    x = np.arange(60_000, dtype="f4").reshape(300, 200)
    found.append((pyln.isa(), pyln.layer_norm(x, 200).tobytes()))
callers = [threading.Thread(target=first) for _ in range(100)]
for caller in callers:
    caller.start()
for caller in callers:
    caller.join()
assert len(found) == 100 and len(set(found)) == 1
"""
    run_script(script)

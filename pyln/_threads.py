"""The threads that share the work of one call. The C library starts none.

Ctrl-C may raise after any step of Python code; in a pool of the standard library it could leave a lock held. So locks
and queue here are C's, and the count of threads is never above what there are. The interpreter, when it ends, does not
wait for them.
"""

from __future__ import annotations

import _thread
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

from pyln import _arguments as arguments

Work = Callable[[], object]


class _Pool:
    """Threads at one queue, where None ends one of them."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Work | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._size = 0

    def grow(self, size: int) -> int:
        """Have as many threads, or as many as the system lets us; return how many there are."""
        with self._lock, suppress(RuntimeError):
            while self._size < size:
                _thread.start_new_thread(_work, (self.queue,))
                self._size += 1
        return self._size

    def shrink(self, size: int) -> None:
        with self._lock:
            while self._size > size:
                self._size -= 1
                self.queue.put(None)


def _work(queue: SimpleQueue[Work | None]) -> None:
    while (work := queue.get()) is not None:
        work()
        del work


_pool = _Pool()
_num_threads = 0


def _renew_pool() -> None:
    """Leave the pool behind in a child process after fork, as its threads were."""
    global _pool  # noqa: PLW0603
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_pool)


def available_cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int) -> None:
    """Set how many threads one call may use, the calling one included.

    Parameters
    ----------
    n
        At least 1. Results do not depend on it.

    Raises
    ------
    TypeError, ValueError
        n is not an integer, or is less than 1.

    """
    global _num_threads  # noqa: PLW0603
    n = arguments.integer("n", n)
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    _num_threads = n
    _pool.shrink(n - 1)


def get_num_threads() -> int:
    """Return how many threads one call may use; at first as many as there are CPUs for this process."""
    return _num_threads or available_cpus()


def helpers(wanted: int) -> tuple[Callable[[Work], None], int]:
    """Return what has a thread of the pool call something, and how many can do so at a time: `wanted`, or fewer."""
    pool = _pool
    return pool.queue.put, min(wanted, pool.grow(wanted))


def on_main_thread() -> bool:
    """Whether this is the thread that signals interrupt."""
    return threading.get_ident() == threading.main_thread().ident

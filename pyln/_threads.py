"""The threads that share the work of one call, from the standard library's pool. The C library starts none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_num_threads = 0


def _forget_pool() -> None:
    """Drop the pool in a child process after fork: its threads stayed behind in the parent."""
    global _lock, _pool  # noqa: PLW0603
    _lock = threading.Lock()
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


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
    global _num_threads, _pool  # noqa: PLW0603
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n: expected an integer, got {type(n).__name__}")
    n = n.__index__()
    if n < 1:
        raise ValueError(f"n: expected at least 1, got {n}")
    with _lock:
        if n != _num_threads and _pool is not None:
            _pool.shutdown(wait=False)
            _pool = None
        _num_threads = n


def get_num_threads() -> int:
    """Return how many threads one call may use; at first as many as there are CPUs for this process."""
    return _num_threads or available_cpus()


def _helpers() -> ThreadPoolExecutor:
    global _pool  # noqa: PLW0603
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(max(1, get_num_threads() - 1), thread_name_prefix="pyln")
        return _pool


def run(piece: Callable[[int], None], count: int) -> None:
    """Call piece(0) ... piece(count - 1), each once, on this thread and the pool's; return when all have ended.

    An exception, Ctrl-C's too, comes through at once: no other piece begins then, but some may still be running.
    """
    left = list(range(count))

    def work() -> None:
        while True:
            try:
                index = left.pop()  # one operation, so no two threads get the same
            except IndexError:
                return
            piece(index)

    futures = []
    try:
        # A pool that is being shut down, with the interpreter or by set_num_threads, leaves the work to this thread.
        with suppress(RuntimeError):
            for _ in range(min(get_num_threads(), count) - 1):
                futures.append(_helpers().submit(work))
        work()
        for future in futures:
            future.result()
    except BaseException:
        left.clear()
        raise

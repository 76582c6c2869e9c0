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


def run(pieces: Callable[[], None], threads: int) -> None:
    """Call pieces() on this thread, and on the pool's so that there are as many as `threads`: each takes what is left.

    Others may still be at work when this returns, or raises.
    """
    # A pool that is being shut down, with the interpreter or by set_num_threads, leaves the work to this thread.
    with suppress(RuntimeError):
        for _ in range(threads - 1):
            _helpers().submit(pieces)
    pieces()

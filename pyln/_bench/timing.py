"""Time of several calls that take turns: medians and quartiles."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np

# A sample lasts at least this long: a shorter call is repeated within it.
SAMPLE_SECONDS = 2e-3
MIN_ROUNDS, MAX_ROUNDS = 5, 51

Quartiles = tuple[float, float, float]


@dataclass
class Subject:
    """Something to time. `repeat(times)` does it so many times; `limit` is the subject that it is measured by."""

    name: str
    kind: str
    repeat: Callable[[int], None]
    isa: str | None = None
    limit: Subject | None = None
    prepare: Callable[[], None] | None = None  # before each sample, untimed
    calls: int = 1
    seconds: list[float] = field(default_factory=list)

    def sample(self) -> float:
        """Seconds of one call. An untimed one goes before: what others left in the caches is not this one's."""
        if self.prepare is not None:
            self.prepare()
        if self.calls > 1:
            self.repeat(1)
        start = time.perf_counter()
        self.repeat(self.calls)
        return (time.perf_counter() - start) / self.calls

    def calibrate(self) -> float:
        """Warm up, choose how many calls make a sample, and return what a sample costs."""
        self.repeat(1)
        while (seconds := self.sample()) * self.calls < SAMPLE_SECONDS:
            self.calls *= 2
        return seconds * (self.calls + (self.calls > 1))


def calls_of(function: Callable[[], object]) -> Callable[[int], None]:
    """A loop around a Python call."""

    def repeated(times: int) -> None:
        for _ in repeat(None, times):
            function()

    return repeated


def measure(subjects: Sequence[Subject], seconds: float) -> int:
    """Let the subjects take turns for about so many seconds; fill in their `seconds`; return the number of rounds.

    Each is first in some rounds, and second in others, and so on.
    """
    gc.collect()
    gc.disable()
    try:
        cost = sum(subject.calibrate() for subject in subjects)
        rounds = max(MIN_ROUNDS, min(MAX_ROUNDS, int(seconds / cost)))
        for turn in range(rounds):
            first = turn % len(subjects)
            for subject in (*subjects[first:], *subjects[:first]):
                subject.seconds.append(subject.sample())
    finally:
        gc.enable()
    return rounds


def quartiles(values: Sequence[float]) -> Quartiles:
    """First quartile, median, third quartile."""
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    return float(first), float(median), float(third)


@contextmanager
def pinned() -> Iterator[int | None]:
    """Stay on one CPU inside a ``with`` block, whose number this is; None where a process cannot choose."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)


def keep_freed_memory() -> None:
    """Have the C library keep memory that is freed, where it can be told, for the next call to find it.

    Peers that allocate their results would else be measured by the page faults of fresh memory.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_max = -1, -4  # glibc's M_TRIM_THRESHOLD and M_MMAP_MAX
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)

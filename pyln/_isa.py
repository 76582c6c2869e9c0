"""Which of the C library's instruction sets is in use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pyln import _core


def available_isas() -> list[str]:
    """Return the instruction sets that this machine has, best first; "scalar" is always the last."""
    return _core.available_isas()


def isa() -> str:
    """Return the instruction set in use: the best one, or what the environment variable ``LNORM_ISA`` names.

    Raises
    ------
    RuntimeError
        ``LNORM_ISA`` names a set that is unknown or not available here.

    """
    name = _core.isa()
    if name is None:
        raise RuntimeError(_unusable("LNORM_ISA", os.environ.get("LNORM_ISA")))
    return name


@contextmanager
def use_isa(name: str) -> Iterator[str]:
    """Use the named instruction set inside a ``with`` block, in all threads. For tests: the results are the same bits.

    Raises
    ------
    TypeError, ValueError
        name is not a string, or names a set that is not among ``available_isas()``.

    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {type(name).__name__}")
    before = _core.isa()
    if name not in available_isas():
        raise ValueError(_unusable("name", name))
    _core.set_isa(name)
    try:
        yield name
    finally:
        if before is not None:
            _core.set_isa(before)


def _unusable(where: str, name: object) -> str:
    return f"{where}: {name!r} is not an instruction set of this machine; available: {', '.join(available_isas())}"

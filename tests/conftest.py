"""Fixtures of the test suite."""

from collections.abc import Iterator

import numpy as np
import pytest

import pyln


@pytest.fixture(params=pyln.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on each instruction set of this machine."""
    with pyln.use_isa(request.param) as name:
        yield name


@pytest.fixture
def threads() -> Iterator[None]:
    """Undo the test's calls of pyln.set_num_threads."""
    before = pyln.get_num_threads()
    yield
    pyln.set_num_threads(before)


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> np.dtype:
    """Run the test for each element type."""
    return np.dtype(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return random numbers that are the same in each run."""
    return np.random.default_rng(1607)

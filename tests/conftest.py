"""Fixtures of the test suite."""

from collections.abc import Iterator

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

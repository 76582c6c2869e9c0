"""Fixtures of the test suite."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, run
from filelock import FileLock

import pyln

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that the programs that are tested heed it


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


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the C library, once for all workers, and move the prefix: nothing in it may depend on where it was."""
    work = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        work = work.parent
    prefix = work / "installed"
    with FileLock(work / "installing"):
        if not prefix.exists():
            run(
                *("cmake", "-S", ROOT, "-B", work / "build", f"-DCMAKE_INSTALL_PREFIX={work / 'first'}"),
                *("-DCMAKE_BUILD_TYPE=Release", "-DLNORM_BUILD_TESTS=OFF", "-DCMAKE_INSTALL_LIBDIR=lib"),
            )
            run("cmake", "--build", work / "build", "--parallel", "2")
            run("cmake", "--install", work / "build")
            (work / "first").rename(prefix)
    return prefix

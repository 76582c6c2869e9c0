"""Fixtures of the test suite."""

import os
import re
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from commands import BUILDING, ROOT, apart, made_once, run

import pyln

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in what a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # so that the programs that are tested heed it

# Where everything that tests need is to be there, as in .ci/run, only these reasons are left to skip one.
NO_SKIPS = "PYLN_NO_SKIPS" in os.environ
OF_THE_MACHINE = re.compile("needs a free-threaded CPython|needs a browser|pointers have 64 bits|needs to mount")


def _skipped_is_failed(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        assert isinstance(report.longrepr, tuple)
        if not OF_THE_MACHINE.search(reason := report.longrepr[2]):
            report.outcome, report.longrepr = "failed", f"{reason}; with PYLN_NO_SKIPS set that is a failure"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at the report of a test."""
    report = yield
    _skipped_is_failed(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at the report of a file."""
    report = yield
    _skipped_is_failed(report)
    return report


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
    """Install the C library; the prefix has been moved since: nothing in it may depend on where it was."""

    def make(folder: Path) -> None:
        run(
            *("cmake", "-S", ROOT, "-B", folder / "build", f"-DCMAKE_INSTALL_PREFIX={folder / 'prefix'}"),
            *("-DCMAKE_BUILD_TYPE=Release", "-DLNORM_BUILD_TESTS=OFF", "-DCMAKE_INSTALL_LIBDIR=lib"),
        )
        run("cmake", "--build", folder / "build", "--parallel", "2")
        run("cmake", "--install", folder / "build")

    return made_once(tmp_path_factory, "installed", make) / "prefix"


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel of it."""
    missing = [name for name in ("build", "setuptools", "Cython") if find_spec(name) is None]
    if missing:
        pytest.skip(f"building wheels needs {', '.join(missing)}")

    def make(folder: Path) -> None:
        checkout = folder / "checkout"
        ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "*.so", "*.o", "__pycache__")
        shutil.copytree(ROOT, checkout, ignore=ignored)
        for name in (".clang-format", ".clang-tidy", ".pre-commit-config.yaml"):
            shutil.copy(ROOT / name, checkout)
        (checkout / "pyln" / "_core.c").unlink(missing_ok=True)
        command = (sys.executable, "-m", "build", "--no-isolation", checkout, "--outdir", folder / "dist")
        run(*apart("net"), *command, **BUILDING)

    return made_once(tmp_path_factory, "wheels", make) / "dist"


@pytest.fixture(scope="session")
def wheel(dist: Path) -> Path:
    """Return the wheel that was built of the sdist."""
    [path] = dist.glob("*.whl")
    return path

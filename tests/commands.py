"""Commands that tests run, and where they run them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent


def run(*command: str | Path, **environment: str) -> str:
    """Run a command and return what it printed; its errors are the failure's text."""
    done = subprocess.run(
        [str(part) for part in command], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that all workers share; make gets its place, and is called by the first who needs it."""
    work = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        work = work.parent
    folder = work / name
    with FileLock(work / f"{name}.lock"):
        if not folder.exists():
            make(work / f"{name}.part")
            (work / f"{name}.part").rename(folder)
    return folder

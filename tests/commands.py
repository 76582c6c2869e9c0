"""Commands that tests run, and where they run them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
# How wheels are built: in half the time, without PyPI, and so that they can be the same again.
BUILDING = {"CFLAGS": "-O1", "PIP_NO_INDEX": "1", "SOURCE_DATE_EPOCH": "1700000000"}

# For processes that signals interrupt, whose memory is limited, or that fork: what coverage does at such a moment, with
# its lock held, is not what is tested.
UNMEASURED = {"COVERAGE_PROCESS_CONFIG": ""}


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


def apart(kind: str) -> list[str]:
    """Words before a command that give it a network (net) or mounts (mount) of its own, where the system lets us."""
    command = ["unshare", "--map-root-user", f"--{kind}"]
    works = shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode
    return command if works else []


def run_script(script: str, *arguments: str | Path, timeout: float = 120) -> str:
    """Run Python code in a process of its own, which must end well and in time, and return what it printed."""
    command, environment = [sys.executable, "-c", script, *arguments], {**os.environ, **UNMEASURED}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout

"""Wheels and the sdist: what is in them, what they need of a machine, and that the wheel works where no compiler is.

`python -m build` makes the sdist and, of its contents alone, the wheel: here by -O1, which takes half the time, and
without a network.
"""

import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from commands import ROOT, run

VERSION = re.findall(r'#define LNORM_VERSION_STRING "(.*)"', (ROOT / "include" / "lnorm.h").read_text())[0]
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# What the wheel's own tests need in the clean environment: its requirements, and pytest's.
LENT = (
    "numpy",
    "tqdm",
    "pytest",
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "pytest-xdist",
    "execnet",
    "filelock",
)
BUILT = {"pyln/_core", "pyln/_bench/_loops"}

needs_git = pytest.mark.skipif(
    not (shutil.which("git") and (ROOT / ".git").exists()), reason="git of a checkout lists what the sdist should have"
)
needs_setuptools = pytest.mark.skipif(
    find_spec("setuptools") is None or find_spec("Cython") is None, reason="setup.py needs setuptools and Cython"
)
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="auditwheel looks at Linux's wheels")
needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the manylinux tags are glibc's")
needs_auditwheel = pytest.mark.skipif(
    not (shutil.which("auditwheel") and shutil.which("patchelf")), reason="the manylinux tag needs auditwheel, patchelf"
)


@pytest.fixture
def clean(wheel: Path, tmp_path: Path) -> Path:
    """Make an environment that has the wheel and what it requires, and no other distribution; its Python."""
    venv.create(tmp_path / "clean", symlinks=True)
    python = tmp_path / "clean" / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps", wheel)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())
    for name in LENT:
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in tops:
            (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return python


@needs_git
def test_the_sdist_is_the_repository(dist: Path) -> None:
    [archive] = dist.glob("*.tar.gz")
    assert archive.name == f"pyln-{VERSION}.tar.gz"
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in (member.name for member in tar if not member.isdir())}
    made = {"PKG-INFO", "setup.cfg"}
    tracked = set(run("git", "-C", ROOT, "ls-files").splitlines())
    left_out = {name for name in tracked if name.startswith(".ci/") or "/.git" in f"/{name}"}
    there = {name for name in tracked - left_out if (ROOT / name).exists()}
    assert there - names == set()
    untracked = {name for name in names - there - made if not name.startswith("pyln.egg-info/")}
    ignored = subprocess.run(["git", "-C", ROOT, "check-ignore", *untracked], capture_output=True, text=True)
    assert not ignored.stdout


def test_the_wheel_is_whole(wheel: Path) -> None:
    """One extension per part, for all CPythons from 3.11 on, or for just this one if it is free-threaded."""
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    expected = f"{tag}-{tag}t" if FREE_THREADED else "cp311-abi3"
    assert wheel.name.startswith(f"pyln-{VERSION}-{expected}-")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        told = json.loads(archive.read("pyln/_build.json"))
    extensions = {name for name in names if name.endswith((".so", ".pyd"))}
    assert {name.partition(".")[0] for name in extensions} == BUILT
    assert FREE_THREADED or all(".abi3." in name or name.endswith(".pyd") for name in extensions)
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pyln").rglob("*.py*") if path.suffix != ".pyc"}
    assert modules - names == set()
    assert {"pyln/py.typed", "pyln/data/minilm_sample.npz", f"pyln-{VERSION}.dist-info/licenses/LICENSE"} <= names
    assert not [name for name in names if name.endswith((".c", ".h", ".o")) or name.startswith("tests/")]
    assert told["limited_api"] == (None if FREE_THREADED else "3.11")
    assert told["flags"][0] == "-O3" and told["flags"][-1] == "-O1"


@needs_linux
@pytest.mark.skipif(not shutil.which("abi3audit"), reason="the Limited API is looked at by abi3audit")
@pytest.mark.skipif(FREE_THREADED, reason="a free-threaded CPython has no abi3")
def test_the_wheel_keeps_to_the_limited_api(wheel: Path) -> None:
    told = json.loads(run("abi3audit", "--strict", "--report", wheel))
    [found] = told["specs"].values()
    results = [so["result"] for so in found["wheel"]]
    assert len(results) == len(BUILT)
    for result in results:
        assert result["is_abi3"] and result["is_abi3_baseline_compatible"] and result["baseline"] == "3.11"


@needs_glibc
@needs_auditwheel
def test_the_wheel_runs_on_old_distributions(wheel: Path, tmp_path: Path) -> None:
    """To auditwheel, glibc 2.17 is enough (which memcpy needs at -O3), and there is nothing to copy into the wheel."""
    run("auditwheel", "repair", "--wheel-dir", tmp_path, wheel)
    [repaired] = tmp_path.glob("*.whl")
    newest = max(int(minor) for minor in re.findall(r"manylinux_2_(\d+)_", repaired.name))
    assert newest <= 17, repaired.name
    with zipfile.ZipFile(repaired) as archive:
        assert not [name for name in archive.namelist() if ".libs/" in name]


@needs_linux
def test_the_wheel_works_where_no_compiler_is(clean: Path, tmp_path: Path) -> None:
    """Nothing but the environment's own programs is on the path."""

    def alone(*command: str) -> str:
        done = subprocess.run(command, cwd=tmp_path, env={"PATH": str(clean.parent)}, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    python = str(clean)
    look = "import shutil, pyln; print([shutil.which(name) for name in ('cc', 'gcc', 'clang', 'ld')], pyln.__file__)"
    programs, _, file = alone(python, "-c", look).strip().rpartition(" ")
    assert programs == "[None, None, None, None]" and Path(file).is_relative_to(tmp_path / "clean")
    assert "The check FAILED" not in alone(python, "-m", "pyln")
    assert json.loads(alone(python, "-m", "pyln", "info", "--json"))["build"]["flags"][-1] == "-O1"

    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    tests = ("test_isa.py", "test_fast_path.py", "test_threads.py")
    told = alone(python, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", *(f"tests/{name}" for name in tests))
    assert re.search(r"\d{2,} passed", told)


SETUP = """
import json, sysconfig
sysconfig.get_config_vars()["Py_GIL_DISABLED"] = {disabled}
import setuptools
from distutils.core import run_setup
made = run_setup("setup.py", stop_after="init")
print(json.dumps({{
    "limited": [extension.py_limited_api for extension in made.ext_modules],
    "macros": [dict(extension.define_macros) for extension in made.ext_modules],
    "flags": [*(extension.extra_compile_args for extension in made.ext_modules), made.libraries[0][1]["cflags"]],
    "wheel": {{name: value for name, (_, value) in made.get_option_dict("bdist_wheel").items()}},
}}))
"""


def set_up(disabled: int, **environment: str) -> dict[str, list]:
    """Return what setup.py asks for on a CPython that is free-threaded, or is not."""
    code = f"import os; os.chdir({str(ROOT)!r})\n{SETUP.format(disabled=disabled)}"
    return json.loads(run(sys.executable, "-W", "ignore", "-c", code, **environment))


@needs_setuptools
def test_a_free_threaded_cpython_gets_a_wheel_of_its_own() -> None:
    """There, Py_LIMITED_API is an error of Python.h."""
    own, shared = set_up(1), set_up(0)
    assert own["limited"] == [False, False] and own["macros"] == [{}, {}] and own["wheel"] == {}
    assert shared["limited"] == [True, True] and shared["macros"] == [{"Py_LIMITED_API": "0x030B0000"}] * 2
    assert shared["wheel"] == {"py_limited_api": "cp311"}


@needs_setuptools
@pytest.mark.skipif(sys.platform == "win32", reason="MSVC does not read CFLAGS")
def test_cflags_of_the_environment_come_last() -> None:
    flags = set_up(0, CFLAGS="-O1 -g '-DA=b c'")["flags"]
    assert all(words[0] == "-O3" and words[-3:] == ["-O1", "-g", "-DA=b c"] for words in flags) and len(flags) == 3


def test_extras_all_is_all_extras() -> None:
    tomllib = pytest.importorskip("tomllib")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [joined] = extras.pop("all")
    assert set(re.findall(r"^pyln\[(.*)\]$", joined)[0].split(",")) == set(extras)


@pytest.mark.skipif(not shutil.which("cibuildwheel"), reason="which wheels a release has, is cibuildwheel's to say")
@pytest.mark.parametrize(
    ("platform", "arch", "systems"),
    [
        *(("linux", arch, [f"manylinux_{arch}", f"musllinux_{arch}"]) for arch in ("x86_64", "aarch64")),
        *(("macos", arch, [f"macosx_{arch}"]) for arch in ("x86_64", "arm64")),
        ("windows", "AMD64", ["win_amd64"]),
    ],
)
def test_wheels_of_a_release(platform: str, arch: str, systems: list[str]) -> None:
    told = run("cibuildwheel", "--platform", platform, "--archs", arch, "--print-build-identifiers", ROOT)
    assert set(told.split()) == {f"{python}-{system}" for python in ("cp311", "cp314t") for system in systems}

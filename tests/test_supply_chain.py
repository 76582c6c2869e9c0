"""What is built is the same again from the same sources, is built and used without a network, and says what is in it."""

import hashlib
import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from commands import BUILDING, ROOT, apart, run

from test_wheels import VERSION, needs_linux  # isort: skip


@pytest.fixture(scope="session")
def bill(wheel: Path) -> str:
    """Return the wheel's bill of materials."""
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"pyln-{VERSION}.dist-info/sboms/pyln.cdx.json").decode()


def test_bill_of_materials(wheel: Path, bill: str) -> None:
    """It names what is in the wheel, and what made it."""
    told = json.loads(bill)
    package, components = told["metadata"]["component"], {part["name"]: part for part in told["components"]}
    with zipfile.ZipFile(wheel) as archive:
        sample = hashlib.sha256(archive.read("pyln/data/minilm_sample.npz")).hexdigest()
        metadata = archive.read(f"pyln-{VERSION}.dist-info/METADATA").decode()
        compiler = json.loads(archive.read("pyln/_build.json"))["compiler"]
    assert (package["name"], package["version"]) == ("pyln", VERSION)
    assert f"License-Expression: {package['licenses'][0]['expression']}\n" in metadata
    assert components["lnorm"]["version"] == VERSION
    assert {name: part["licenses"] for name, part in components.items() if "licenses" in part} == {
        "lnorm": [{"license": {"id": "MIT"}}],
        "minilm_sample.npz": [{"license": {"id": "Apache-2.0"}}],
    }
    assert components["minilm_sample.npz"]["hashes"] == [{"alg": "SHA-256", "content": sample}]
    tools = {name for name, part in components.items() if part.get("scope") == "excluded"}
    assert tools == {"cython", "setuptools", "compiler"} and components["compiler"]["version"] == compiler


def test_bill_of_materials_is_cyclonedx(bill: str) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(bill) is None


@needs_linux
def test_wheel_is_the_same_again(dist: Path, wheel: Path, tmp_path: Path) -> None:
    """Built from the sdist somewhere else, with nothing but what is installed."""
    [archive] = dist.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    command = ("pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", tmp_path)
    run(*apart("net"), sys.executable, "-m", *command, tmp_path / f"pyln-{VERSION}", **BUILDING)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.skipif(not shutil.which("cmake"), reason="the C library is built by CMake")
@needs_linux
def test_library_is_the_same_again(tmp_path: Path) -> None:
    """Built in two directories, one after the other. Without what takes long: AVX-512 and f64."""

    def build(directory: Path) -> list[bytes]:
        for name in ("CMakeLists.txt", "LICENSE", "cmake", "include", "src"):
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, directory / name)
        run(
            *("cmake", "-S", directory, "-B", directory / "build", "-DLNORM_WITHOUT=AVX512;F64"),
            *("-DLNORM_BUILD_TESTS=OFF", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_C_FLAGS=-O1"),
        )
        run("cmake", "--build", directory / "build", "--parallel", "2")
        return [(directory / "build" / name).read_bytes() for name in ("liblnorm.a", "liblnorm.so")]

    for directory in (tmp_path / "here", tmp_path / "another place"):
        directory.mkdir()
    assert build(tmp_path / "here") == build(tmp_path / "another place")


USE = """
import contextlib, importlib, pkgutil, runpy, sys
asked = []
sys.addaudithook(lambda event, _: asked.append(event) if event.startswith("socket.") else None)
import pyln
for module in pkgutil.walk_packages(pyln.__path__, "pyln."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(ImportError):  # of what is not installed here
            importlib.import_module(module.name)
imported = [event for event in asked if event != "socket.__new__"]  # which asks nobody yet
asked.clear()
sys.argv = ["pyln"]
try:
    runpy.run_module("pyln", run_name="__main__")
except SystemExit as end:
    print("sockets:", imported, asked, end.code, pyln._core.__name__)
"""


def test_no_network_is_asked_for() -> None:
    """By no import, and not by the self-check."""
    told = run(*apart("net"), sys.executable, "-P", "-c", USE)
    assert told.splitlines()[-1] == "sockets: [] [] 0 pyln._core"

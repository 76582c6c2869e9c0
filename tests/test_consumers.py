"""The C library as others build and use it: bare compilers, pkg-config, find_package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, run

CONSUMERS = ROOT / "tests" / "consumers"
HEADER = ROOT / "include" / "lnorm.h"
SOURCES = sorted((ROOT / "src" / "c").glob("*.c"))


def found(*names: str) -> list[str]:
    """Return the compilers that are there, each once, whatever other names it has."""
    paths = {name: shutil.which(name) for name in names}
    return list({os.path.realpath(path): name for name, path in reversed(paths.items()) if path}.values())[::-1]


C_COMPILERS = found("gcc", "clang", "clang-16", "clang-19", "cc")
CXX_COMPILERS = found("g++", "clang++", "clang++-16", "clang++-19", "c++")
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]

needs_cmake = pytest.mark.skipif(
    not (C_COMPILERS and CXX_COMPILERS and shutil.which("cmake") and shutil.which("ctest")),
    reason="installing the C library needs cmake, a C and a C++ compiler",
)
needs_pkg_config = pytest.mark.skipif(not shutil.which("pkg-config"), reason="pkg-config is what is tested")


def defined_symbols(*nm_arguments: str | Path) -> set[str]:
    lines = run("nm", "--defined-only", *nm_arguments).splitlines()
    return {line.split()[-1] for line in lines if len(line.split()) == 3}


def run_programs(build: Path, targets: int = 3) -> None:
    """Run the programs of tests/consumers: three for each of lnorm's targets, and no test of the library's own."""
    told = run("ctest", "--test-dir", build, "--output-on-failure")
    assert re.search(rf"100% tests passed.* out of {3 * targets}\n", told), told


@needs_cmake
def test_installed_files(installed: Path) -> None:
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if not path.is_dir()}
    assert {"include/lnorm.h", "include/lnorm.hpp", "lib/liblnorm.a", "lib/pkgconfig/lnorm.pc"} <= files
    assert "share/doc/lnorm/LICENSE" in files
    assert (installed / "include" / "lnorm.h").read_bytes() == HEADER.read_bytes()
    for path in installed.rglob("*"):
        if path.suffix in {".pc", ".cmake"}:
            assert str(installed.parent) not in path.read_text(), f"{path.name} names the first prefix"


@needs_cmake
def test_only_the_header_is_exported(installed: Path) -> None:
    declared = set(re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", HEADER.read_text(), re.MULTILINE))
    assert len(declared) >= 12
    shared = next((installed / "lib").glob("liblnorm.so"))
    assert defined_symbols("-D", shared) == declared
    inside = defined_symbols("-g", installed / "lib" / "liblnorm.a")
    assert declared <= inside and all(name.startswith("lnorm_") for name in inside), sorted(inside)


@needs_cmake
@needs_pkg_config
@pytest.mark.parametrize("linking", ["shared", "static"])
@pytest.mark.parametrize("language", ["c", "cpp"])
def test_pkg_config(installed: Path, tmp_path: Path, language: str, linking: str) -> None:
    pkg_config_path = str(installed / "lib" / "pkgconfig")
    static = ["--static"] if linking == "static" else []
    flags = run("pkg-config", "--cflags", "--libs", *static, "lnorm", PKG_CONFIG_PATH=pkg_config_path).split()
    version = run("pkg-config", "--modversion", "lnorm", PKG_CONFIG_PATH=pkg_config_path).strip()
    compiler = (C_COMPILERS if language == "c" else CXX_COMPILERS)[0]
    program = tmp_path / "consumer"
    run(compiler, CONSUMERS / f"consumer.{language}", "-o", program, *(["-static"] if static else []), *flags, "-lm")
    assert f"lnorm {version}," in run(program, LD_LIBRARY_PATH=str(installed / "lib"))


@needs_cmake
@pytest.mark.parametrize("default", ["static", "shared"])
def test_find_package(installed: Path, tmp_path: Path, default: str) -> None:
    run(
        *("cmake", "-S", CONSUMERS, "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={installed}"),
        f"-DBUILD_SHARED_LIBS={default == 'shared'}",
    )
    run("cmake", "--build", tmp_path, "--parallel", "2")
    run_programs(tmp_path)
    links_shared = {
        program: "liblnorm.so" in run("readelf", "-d", tmp_path / f"{program}_consumer_c")
        for program in ("lnorm", "lnorm_static", "lnorm_shared")
    }
    assert links_shared == {"lnorm": default == "shared", "lnorm_static": False, "lnorm_shared": True}


@needs_cmake
def test_find_package_refuses_another_version(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(other LANGUAGES NONE)\nfind_package(lnorm 0.99 REQUIRED)\n"
    )
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "0.99" in done.stderr


@pytest.mark.parametrize("compiler", C_COMPILERS)
def test_bare_compiler(tmp_path: Path, compiler: str) -> None:
    """`cc -O2 -Iinclude -c src/c/*.c` is the whole build, without a warning, and gives the golden bits."""
    standard = ["-std=c11", *WARNINGS, "-O2", f"-I{ROOT / 'include'}"]
    for source in SOURCES:
        run(compiler, *standard, "-c", source, "-o", tmp_path / f"{source.stem}.o")
    objects = sorted(tmp_path.glob("*.o"))
    check = tmp_path / "lnorm_check"
    run(compiler, *standard, ROOT / "tests" / "c" / "check_test.c", *objects, "-o", check, "-lm")
    assert ", 0 failed" in run(check, "--part", "1/6", ROOT / "tests" / "c" / "golden.txt")


@pytest.mark.parametrize("compiler", C_COMPILERS[::2])  # each takes half a minute
def test_single_file(tmp_path: Path, compiler: str) -> None:
    """lnorm.c and lnorm.h are all that there need be, from another directory too; nothing else is exported."""
    vendor = tmp_path / "vendor"
    run(sys.executable, ROOT / "scripts" / "single_file.py", vendor)
    assert {path.name for path in vendor.iterdir()} == {"lnorm.c", "lnorm.h"}
    standard = ["-std=c11", "-O1", *WARNINGS]
    run(compiler, *standard, "-c", vendor / "lnorm.c", "-o", tmp_path / "lnorm.o")
    check, test = tmp_path / "lnorm_check", ROOT / "tests" / "c" / "check_test.c"
    run(compiler, *standard, f"-I{vendor}", test, tmp_path / "lnorm.o", "-o", check, "-lm")
    assert ", 0 failed" in run(check, "--part", "2/6", ROOT / "tests" / "c" / "golden.txt")
    assert all(name.startswith("lnorm_") for name in defined_symbols("-g", tmp_path / "lnorm.o"))


@pytest.mark.parametrize(
    ("compiler", "suffix", "standard"),
    [(name, "c", "c99") for name in C_COMPILERS] + [(name, "cpp", "c++11") for name in CXX_COMPILERS],
)
def test_header_alone(tmp_path: Path, compiler: str, suffix: str, standard: str) -> None:
    source = tmp_path / f"header.{suffix}"
    source.write_text('#include "lnorm.h"\n#include "lnorm.h"\nlnorm_problem problem = LNORM_PROBLEM_INIT;\n')
    flags = [f"-std={standard}", "-pedantic-errors", *WARNINGS, "-fsyntax-only", f"-I{ROOT / 'include'}"]
    run(compiler, *flags, source)

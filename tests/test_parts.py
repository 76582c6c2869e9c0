"""Builds that leave something out: the rest gives the golden bits, and calls of what is missing are refused."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, run

SCRIPT = ROOT / "scripts" / "single_file.py"
PARTS = re.findall(r"#define LNORM_WITHOUT_(\w+) 0", (ROOT / "src" / "c" / "parts.h").read_text())
ALL_OPERATIONS = ["BACKWARD", "RESIDUAL", "QUANTIZED", "MOMENTS", "INNER", "GROUPS"]
ALL_TYPES = ["F64", "F16", "BF16"]
# Of the instruction sets one is left, that a build takes less time.
BUILDS = {
    "forward f32": ["AVX2", "AVX512", "NEON", *ALL_TYPES, *ALL_OPERATIONS],
    "forward": ["AVX2", "AVX512", "NEON", "F16", "BACKWARD", "QUANTIZED"],
    "types": ["AVX2", "AVX512", "NEON", "BF16", "INNER", "GROUPS"],
    "vectors": ["SCALAR", "AVX512", "F64", "RESIDUAL", "MOMENTS"],
}


def test_each_part_is_left_out_somewhere() -> None:
    assert set(PARTS) == {part for build in BUILDS.values() for part in build}


@pytest.mark.skipif(not shutil.which("cc"), reason="building lnorm.c needs a C compiler named cc")
@pytest.mark.parametrize(("number", "build"), list(enumerate(BUILDS)), ids=list(BUILDS))
def test_build(tmp_path: Path, number: int, build: str) -> None:
    names = [word for part in BUILDS[build] for word in ("--without", part.lower())]
    flags = [f"-DLNORM_WITHOUT_{part}" for part in BUILDS[build]]
    run(sys.executable, SCRIPT, tmp_path, *names)
    compile_c = ["cc", "-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", f"-I{tmp_path}"]
    run(*compile_c, "-c", tmp_path / "lnorm.c", "-o", tmp_path / "lnorm.o")
    test, check = ROOT / "tests" / "c" / "check_test.c", tmp_path / "lnorm_check"
    run(*compile_c, *flags, test, tmp_path / "lnorm.o", "-o", check, "-lm")
    printed = run(check, "--part", f"{number + 1}/6", ROOT / "tests" / "c" / "golden.txt")
    assert ", 0 failed" in printed
    assert printed.startswith("instruction sets: scalar\n") == ("SCALAR" not in BUILDS[build])


@pytest.mark.skipif(not shutil.which("cc"), reason="building lnorm.c needs a C compiler named cc")
def test_small(installed: Path, tmp_path: Path) -> None:
    """--small: both functions, here under other names, give the bits and statuses of the library's."""
    run(sys.executable, SCRIPT, tmp_path, "--small")
    compile_c = ["cc", "-std=c11", "-Os", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", f"-I{tmp_path}"]
    rename = [f"-Dlnorm_{name}=lnorm_small_{name}" for name in ("forward_f32", "quantized_forward")]
    run(*compile_c, *rename, "-c", tmp_path / "lnorm.c", "-o", tmp_path / "small.o")
    test, library = ROOT / "tests" / "c" / "small_test.c", installed / "lib" / "liblnorm.a"
    run(*compile_c, test, tmp_path / "small.o", library, "-lm", "-o", tmp_path / "test")
    assert ", 0 failed" in run(tmp_path / "test")
    run(sys.executable, SCRIPT, tmp_path, "--small", "--without", "quantized")
    run(*compile_c, "-c", tmp_path / "lnorm.c", "-o", tmp_path / "smaller.o")
    assert re.findall(r" T (\w+)", run("nm", tmp_path / "smaller.o")) == ["lnorm_forward_f32"]


@pytest.mark.skipif(not shutil.which("cmake"), reason="CMake's way needs cmake")
def test_cmake(tmp_path: Path) -> None:
    options = ["-DLNORM_BUILD_TESTS=OFF", "-DLNORM_WITHOUT=AVX2;AVX512;NEON;F64;F16;BF16;BACKWARD"]
    run("cmake", "-S", ROOT, "-B", tmp_path, "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_C_FLAGS=-O1", *options)
    run("cmake", "--build", tmp_path, "--target", "lnorm_shared")
    names = run("nm", tmp_path / "liblnorm.so")
    assert " T lnorm_forward_f64\n" in names and "forward_f32_scalar" in names and "forward_f64_scalar" not in names
    command = ["cmake", "-S", ROOT, "-B", tmp_path, "-DLNORM_WITHOUT=F8"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "has no part F8" in done.stderr


def test_unknown_part(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, "--without", "f8"], capture_output=True, text=True)
    assert done.returncode == 2 and "'f8'" in done.stderr and "bf16" in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.skipif(not shutil.which("cc"), reason="compiling needs a C compiler named cc")
def test_no_instruction_set_is_left() -> None:
    flags = [f"-DLNORM_WITHOUT_{isa}" for isa in ("SCALAR", "AVX2", "AVX512", "NEON")]
    command = ["cc", *flags, f"-I{ROOT / 'include'}", "-fsyntax-only", ROOT / "src" / "c" / "dispatch.c"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "lnorm needs an instruction set" in done.stderr

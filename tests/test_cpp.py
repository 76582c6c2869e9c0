"""include/lnorm.hpp by compilers, standards and standard libraries; scripts/check.py runs it on other systems."""

import tempfile
from pathlib import Path

import pytest
from commands import run
from test_consumers import CONSUMERS, CXX_COMPILERS, WARNINGS, needs_cmake

STANDARDS = {"c++17": "201703", "c++20": "202002", "c++2b": "202"}  # and how __cplusplus begins there
WITHOUT_EXCEPTIONS = ["-fno-exceptions", "-fno-rtti"]


def has_libcxx(compiler: str) -> bool:
    """Whether a compiler finds LLVM's standard library."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "a.cpp"
        source.write_text("#include <version>\nint main() { return _LIBCPP_VERSION == 0; }\n")
        try:
            run(compiler, "-stdlib=libc++", source, "-o", Path(folder) / "a")
        except AssertionError:
            return False
    return True


@pytest.fixture(params=[*CXX_COMPILERS, "libc++"])
def compiler(request: pytest.FixtureRequest) -> list[str]:
    """Return each compiler, the newest clang with libc++ too."""
    if request.param != "libc++":
        return [request.param]
    clang = [name for name in CXX_COMPILERS if name.startswith("clang") and has_libcxx(name)]
    if not clang:
        pytest.skip("no clang with libc++ (libc++-19-dev and libc++abi-19-dev)")
    return [clang[-1], "-stdlib=libc++"]


@needs_cmake
@pytest.mark.parametrize("standard", STANDARDS)
@pytest.mark.parametrize("without", [[], WITHOUT_EXCEPTIONS], ids=["exceptions", "statuses"])
def test_wrapper(installed: Path, tmp_path: Path, compiler: list[str], standard: str, without: list[str]) -> None:
    program = tmp_path / "wrapper"
    options = [f"-std={standard}", *WARNINGS, *without, f"-I{installed / 'include'}", "-pthread"]
    run(*compiler, *options, CONSUMERS / "wrapper.cpp", installed / "lib" / "liblnorm.a", "-o", program)
    assert run(program).startswith(f"C++ {STANDARDS[standard]}")


@needs_cmake
@pytest.mark.skipif("g++" not in CXX_COMPILERS, reason="OpenMP needs g++, which brings its library")
def test_openmp(installed: Path, tmp_path: Path) -> None:
    """lnorm::openmp is there where the compiler is told to use OpenMP."""
    program = tmp_path / "wrapper"
    options = ["-std=c++17", *WARNINGS, "-fopenmp", f"-I{installed / 'include'}"]
    run("g++", *options, CONSUMERS / "wrapper.cpp", installed / "lib" / "liblnorm.a", "-o", program)
    assert "OpenMP" in run(program)

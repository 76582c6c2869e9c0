"""Builds pyln's compiled parts for the Limited API of CPython 3.11, each with the C library, src/c/*.c, in it.

pyln._core is the package; pyln._bench._loops is the C side of its bench, bench/*.c, which calls the library from C.
"""

import re
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

HEADER = "include/lnorm.h"
BENCH_PROGRAM = "bench/lnorm_bench.c"


def version() -> str:
    """The version of the C library, which is that of the package too."""
    found = re.search(r'#define LNORM_VERSION_STRING "([^"]+)"', Path(HEADER).read_text())
    if found is None:
        raise SystemExit(f"{HEADER} does not define LNORM_VERSION_STRING")
    return found[1]


C_FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]


def extension(name: str, sources: list[str], depends: list[str], include_dirs: list[str]) -> Extension:
    """The library's sources and more, with one set of flags for all."""
    return Extension(
        name,
        sources=[*sources, *sorted(glob("src/c/*.c"))],
        depends=[HEADER, *depends, *glob("src/c/*.h")],
        include_dirs=["include", *include_dirs],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=[] if sys.platform == "win32" else C_FLAGS,
        libraries=[] if sys.platform == "win32" else ["m"],
        py_limited_api=True,
    )


core = extension("pyln._core", ["pyln/_core.pyx"], ["pyln/lnorm.pxd"], [])
bench_sources = sorted(path for path in glob("bench/*.c") if path != BENCH_PROGRAM)
loops = extension(
    "pyln._bench._loops", ["pyln/_bench/_loops.pyx", *bench_sources], glob("bench/*.h"), ["bench", "src/c"]
)

setup(
    version=version(),
    ext_modules=[core, loops],
    options={"bdist_wheel": {"py_limited_api": "cp311"}, "build_ext": {"parallel": 2}},  # both hold all kernels
)

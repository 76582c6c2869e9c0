"""Builds pyln's compiled parts for the Limited API of CPython 3.11, each with the C library, src/c/*.c, in it.

pyln._core is the package, with the functions that XLA calls for pyln.jax; pyln._bench._loops is the C side of its
bench, bench/*.c, which calls the library from C.
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


POSIX = sys.platform != "win32"

# Compiled once, and linked into both extensions.
library = {
    "sources": sorted(glob("src/c/*.c")),
    "obj_deps": {"": [HEADER, *glob("src/c/*.h")]},
    "include_dirs": ["include"],
    "cflags": C_FLAGS if POSIX else [],
}


def extension(name: str, sources: list[str], depends: list[str], include_dirs: list[str]) -> Extension:
    """What goes around the library, with the library's flags."""
    return Extension(
        name,
        sources=sources,
        depends=[HEADER, *depends, *glob("src/c/*")],
        include_dirs=["include", *include_dirs],
        define_macros=[("Py_LIMITED_API", "0x030B0000")],
        extra_compile_args=C_FLAGS if POSIX else [],
        extra_link_args=["-lm"] if POSIX else [],  # behind the library, which needs it
        py_limited_api=True,
    )


core = extension("pyln._core", ["pyln/_core.pyx", "pyln/jax.c"], ["pyln/lnorm.pxd", "pyln/jax_abi.h"], [])
bench_sources = sorted(path for path in glob("bench/*.c") if path != BENCH_PROGRAM)
loops = extension(
    "pyln._bench._loops", ["pyln/_bench/_loops.pyx", *bench_sources], glob("bench/*.h"), ["bench", "src/c"]
)

setup(
    version=version(),
    libraries=[("lnorm", library)],
    ext_modules=[core, loops],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)

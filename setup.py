"""Builds pyln._core: the C library's sources, src/c/*.c, and the Cython glue, for the Limited API of CPython 3.11."""

import re
import sys
from glob import glob
from pathlib import Path

from setuptools import Extension, setup

HEADER = "include/lnorm.h"


def version() -> str:
    """The version of the C library, which is that of the package too."""
    found = re.search(r'#define LNORM_VERSION_STRING "([^"]+)"', Path(HEADER).read_text())
    if found is None:
        raise SystemExit(f"{HEADER} does not define LNORM_VERSION_STRING")
    return found[1]


C_FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]

core = Extension(
    "pyln._core",
    sources=["pyln/_core.pyx", *sorted(glob("src/c/*.c"))],
    depends=[HEADER, "pyln/lnorm.pxd", *glob("src/c/*.h")],
    include_dirs=["include"],
    define_macros=[("Py_LIMITED_API", "0x030B0000")],
    extra_compile_args=[] if sys.platform == "win32" else C_FLAGS,
    libraries=[] if sys.platform == "win32" else ["m"],
    py_limited_api=True,
)

setup(version=version(), ext_modules=[core], options={"bdist_wheel": {"py_limited_api": "cp311"}})

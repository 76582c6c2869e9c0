"""Builds pyln's compiled parts, each with the C library, src/c/*.c, in it.

pyln._core is the package, with the functions that XLA calls for pyln.jax; pyln._bench._loops is the C side of its
bench, bench/*.c, which calls the library from C.
Both are for the Limited API of CPython 3.11, so that one wheel serves it and all later ones. A free-threaded CPython
cannot use that: a wheel of its own is for just its version.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from glob import glob
from importlib.metadata import version as version_of
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

HEADER = "include/lnorm.h"
BENCH_PROGRAM = "bench/lnorm_bench.c"
SAMPLE = "pyln/data/minilm_sample.npz"
LIMITED_API = (3, 11)
LIMITED = not sysconfig.get_config_var("Py_GIL_DISABLED")


def version() -> str:
    """The version of the C library, which is that of the package too."""
    found = re.search(r'#define LNORM_VERSION_STRING "([^"]+)"', Path(HEADER).read_text())
    if found is None:
        raise SystemExit(f"{HEADER} does not define LNORM_VERSION_STRING")
    return found[1]


if sys.platform == "win32":
    # stdatomic.h is behind the last one.
    C_FLAGS = ["/O2", "/std:c11", "/experimental:c11atomics"]
    LINK_FLAGS = []
else:
    C_FLAGS = ["-O3", "-std=c11", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno"]
    C_FLAGS += shlex.split(os.environ.get("CFLAGS", ""))  # setuptools puts them first, where -O3 would overrule them
    LINK_FLAGS = ["-lm"]  # behind the library, which needs it

# Compiled once, and linked into both extensions.
library = {
    "sources": sorted(glob("src/c/*.c")),
    "obj_deps": {"": [HEADER, *glob("src/c/*.h")]},
    "include_dirs": ["include"],
    "cflags": C_FLAGS,
}


def extension(name: str, sources: list[str], depends: list[str], include_dirs: list[str]) -> Extension:
    """What goes around the library, with the library's flags."""
    return Extension(
        name,
        sources=sources,
        depends=[HEADER, *depends, *glob("src/c/*")],
        include_dirs=["include", *include_dirs],
        define_macros=[("Py_LIMITED_API", "0x{:02X}{:02X}0000".format(*LIMITED_API))] if LIMITED else [],
        extra_compile_args=C_FLAGS,
        extra_link_args=LINK_FLAGS,
        py_limited_api=LIMITED,
    )


class BuildExt(build_ext):
    """Also writes down how it was built, for `python -m pyln info`."""

    def run(self) -> None:
        super().run()
        target = Path(self.get_ext_fullpath("pyln._core")).with_name("_build.json")
        told = {
            "compiler": self._compiler_version(),
            "flags": [flag for flag in C_FLAGS if "/" not in flag[1:]],  # no paths of the machine
            "python": sysconfig.get_python_version(),
            "limited_api": ".".join(map(str, LIMITED_API)) if LIMITED else None,
            "platform": sysconfig.get_platform(),
        }
        target.write_text(json.dumps(told, indent=1) + "\n")

    def _compiler_version(self) -> str:
        command = getattr(self.compiler, "compiler_so", None)  # a Unix compiler's
        if not command:
            return str(self.compiler.compiler_type)
        asked = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=False)
        return asked.stdout.partition("\n")[0].strip() or Path(command[0]).name


class BdistWheel(bdist_wheel):
    """Also puts a bill of materials into the wheel, in CycloneDX's form, where PEP 770 says: nothing in it varies."""

    def write_wheelfile(self, wheelfile_base: str, **options: str) -> None:
        super().write_wheelfile(wheelfile_base, **options)
        target = Path(wheelfile_base, "sboms", "pyln.cdx.json")
        target.parent.mkdir()
        target.write_text(json.dumps(self._bill(), indent=1) + "\n")

    def _bill(self) -> dict[str, object]:
        def component(kind: str, name: str, version: str, **more: object) -> dict[str, object]:
            return {"type": kind, "bom-ref": name, "name": name, "version": version, **more}

        def licence(name: str) -> list[object]:
            return [{"license": {"id": name}}]

        built = json.loads(Path(self.bdist_dir, "pyln/_build.json").read_text())
        sample = Path(self.bdist_dir, SAMPLE)
        contents = [
            component("library", "lnorm", version(), licenses=licence("MIT")),
            component(
                *("data", sample.name, version()),
                licenses=licence("Apache-2.0"),
                hashes=[{"alg": "SHA-256", "content": hashlib.sha256(sample.read_bytes()).hexdigest()}],
            ),
        ]
        tools = [
            component("application", name, told, scope="excluded")
            for name, told in [
                ("cython", version_of("cython")),
                ("setuptools", version_of("setuptools")),
                ("compiler", built["compiler"]),
            ]
        ]
        package = component(
            *("library", "pyln", version()),
            purl=f"pkg:pypi/pyln@{version()}",
            licenses=[{"expression": self.distribution.metadata.license_expression}],
        )
        return {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "metadata": {"lifecycles": [{"phase": "build"}], "component": package},
            "components": [*contents, *tools],
            "dependencies": [{"ref": "pyln", "dependsOn": [part["bom-ref"] for part in contents]}],
        }


core = extension("pyln._core", ["pyln/_core.pyx", "pyln/jax.c"], ["pyln/lnorm.pxd", "pyln/jax_abi.h"], [])
bench_sources = sorted(path for path in glob("bench/*.c") if path != BENCH_PROGRAM)
loops = extension(
    "pyln._bench._loops", ["pyln/_bench/_loops.pyx", *bench_sources], glob("bench/*.h"), ["bench", "src/c"]
)

setup(
    version=version(),
    libraries=[("lnorm", library)],
    ext_modules=[core, loops],
    cmdclass={"bdist_wheel": BdistWheel, "build_ext": BuildExt},
    options={"bdist_wheel": {"py_limited_api": "cp{}{}".format(*LIMITED_API)}} if LIMITED else {},
)

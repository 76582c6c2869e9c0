#!/usr/bin/env python3
"""The C tests on machines that this one is not, by other compilers and libraries, with the golden digests.

Each target has a name, and installs what it needs: Debian's packages, and PyPI's into a virtual environment. Programs,
that environment and zig's libraries (but for ZIG_GLOBAL_CACHE_DIR) are kept in build/check.
"""

import argparse
import concurrent.futures
import functools
import os
import platform
import re
import shlex
import subprocess
import sys
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = Path("build/check")
GOLDEN = "tests/c/golden.txt"
PYPI = ["wasmtime==50.0.1", "ziglang==0.17.1"]
PYTHON = BUILD / "venv/bin/python"
ZIG = f"{PYTHON} -m ziglang cc"


@dataclass
class Target:
    """Where the programs of a target come from, and how they run."""

    compiler: str  # with all flags
    packages: str  # Debian's
    runs: list[str] = field(default_factory=lambda: [""])  # what to run lnorm_check with; the other tests, with the first
    sets: str = "scalar"  # the instruction sets that must be found
    small: bool = False  # only what of lnorm_check fits into a small memory, and no other test
    emulated: bool = False  # AVX-512 by SIMDe


def cross(triple: str, debian: str, qemu: str, *cpus: str, flags: str = "", sets: str = "scalar") -> Target:
    """Debian's cross compiler and qemu, with each of these options."""
    return Target(
        f"{triple}-gcc -O2 {flags}",
        f"gcc-{triple} libc6-dev-{debian}-cross qemu-user",
        [f"qemu-{qemu} -L /usr/{triple} {cpu}" for cpu in cpus or [""]],
        sets,
    )


def firmware(board: str, flags: str) -> Target:
    """A Cortex-M without an operating system; files and output go to qemu."""
    return Target(
        f"arm-none-eabi-gcc -O2 -mthumb -mfloat-abi=hard {flags} -nostartfiles --specs=rdimon.specs "
        "-T tests/firmware/board.ld",
        "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
        [f"qemu-system-arm -M {board} -nographic -monitor none -serial none -semihosting-config enable=on,target=native"],
        small=True,
    )


WASM = f"{PYTHON} tests/wasm/run.py"

TARGETS = {
    "aarch64": cross("aarch64-linux-gnu", "arm64", "aarch64", sets="neon scalar"),
    "aarch64-sve": cross(
        *("aarch64-linux-gnu", "arm64", "aarch64"),
        *(f"-cpu max,sve=on,sve-max-vq={quarters}" for quarters in (1, 2, 4)),
        flags="-O3 -march=armv8.2-a+sve",
        sets="neon scalar",
    ),
    "armv7": cross("arm-linux-gnueabihf", "armhf", "arm"),
    "armv7-musl": Target(f"{ZIG} -O2 -target arm-linux-musleabihf", "qemu-user", ["qemu-arm"]),
    "ppc64le": cross("powerpc64le-linux-gnu", "ppc64el", "ppc64le"),
    "riscv64": cross("riscv64-linux-gnu", "riscv64", "riscv64"),
    "riscv64-v": Target(  # vectors of 128, 256 and 512 bits
        f"{ZIG} -O3 -target riscv64-linux-musl -mcpu=baseline_rv64+v",
        "qemu-user",
        [f"qemu-riscv64 -cpu rv64,v=true,vlen={bits},vext_spec=v1.0" for bits in (128, 256, 512)],
    ),
    "s390x": cross("s390x-linux-gnu", "s390x", "s390x"),  # big endian
    "nehalem": Target("gcc -O2", "gcc qemu-user", ["qemu-x86_64 -cpu Nehalem"]),  # no AVX
    # qemu's masked moves touch what they must not, so there are no guard pages.
    "haswell": Target("gcc -O2 -DTEST_CANARIES", "gcc qemu-user", ["qemu-x86_64 -cpu Haswell"], "avx2 scalar"),
    "avx512": Target("gcc -O2", "gcc libsimde-dev", sets="avx512 avx2 scalar", emulated=True),
    "windows": Target(f"{ZIG} -O2 -target x86_64-windows-gnu", "wine64", ["/usr/lib/wine/wine64"], "avx2 scalar"),
    "wasm": Target(f"{ZIG} -O2 -target wasm32-wasi", "python3-venv", [WASM]),
    "wasm-simd128": Target(f"{ZIG} -O3 -target wasm32-wasi -msimd128", "python3-venv", [WASM]),
    "cortex-m4f": firmware("mps2-an386", "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16"),
    "cortex-m55": firmware("mps3-an547", "-mcpu=cortex-m55"),
}

COMPILERS = {
    "gcc": ("gcc", "gcc"),
    "clang-16": ("clang-16 -fuse-ld=lld-16", "clang-16 lld-16"),
    "clang-19": ("clang-19 -fuse-ld=lld-19", "clang-19 lld-19"),
    "zig": (f"{ZIG} -target {platform.machine()}-linux-musl", "python3-venv"),
}
MATRIX = [
    f"{compiler}-{level}{lto}"
    for compiler in COMPILERS
    for level in ("O0", "O1", "O2", "O3", "O2-native")
    for lto in ("", "-lto")
]


def find(name: str) -> Target | None:
    """The target of a name, if there is one."""
    compiled = re.fullmatch(rf"({'|'.join(COMPILERS)})-(O[0123])(-native)?(-lto)?", name)
    if compiled is None:
        return TARGETS.get(name)
    compiler, level, native, lto = compiled.groups()
    command, packages = COMPILERS[compiler]
    flags = f" -{level}{' -march=native' if native else ''}{' -flto' if lto else ''}"
    return Target(command + flags, packages, sets="")


def call(command: list[str], **options) -> str:
    """What the command prints; an exception with all of it where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@functools.cache
def make_venv() -> None:
    """Install what comes from PyPI."""
    if not PYTHON.exists():
        venv.create(BUILD / "venv", with_pip=True)
    call([str(PYTHON), "-m", "pip", "install", "-q", *PYPI])


def build(target: Target, directory: Path) -> list[str]:
    """Compile the library and the tests, and return the names of these."""
    directory.mkdir(parents=True, exist_ok=True)
    compiler = [*target.compiler.split(), "-Iinclude"]
    commands = {path: [*compiler, "-c", str(path)] for path in sorted(Path("src/c").glob("*.c"))}
    tests = ["check"] if target.small else ["check", "inner", "api"]
    for test in tests:
        path = Path(f"tests/c/{test}_test.c")
        commands[path] = [*compiler, "-c", str(path)]
    if target.small:
        commands[Path("start.c")] = [*compiler, "-c", "tests/firmware/start.c"]
    if target.emulated:
        emulation = "tests/avx512_on_avx2"
        commands[Path("src/c/cpu.c")] = [*compiler, "-c", f"{emulation}/cpu.c"]
        commands[Path("src/c/isa_avx512.c")] += f"-mavx2 -mfma -mf16c -ffp-contract=off -Wno-psabi -I{emulation}".split()
    objects = {path: str(directory / f"{path.stem}.o") for path in commands}
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda path: call([*commands[path], "-o", objects[path]]), commands))
        common = [objects[path] for path in commands if not path.stem.endswith("_test")]
        list(
            pool.map(
                lambda test: call(
                    [*compiler, str(directory / f"{test}_test.o"), *common, "-lm", "-o", str(directory / test)]
                ),
                tests,
            )
        )
    return tests


def run(runner: str, program: Path, *arguments: str) -> str:
    """Run a program of a target."""
    if "qemu-system" in runner:
        return call([*runner.split(), "-kernel", str(program), "-append", " ".join(arguments)], stdin=subprocess.DEVNULL)
    return call([*runner.split(), str(program), *arguments])


def check(name: str, target: Target, part: str) -> None:
    """Build a target and run its tests."""
    start = time.monotonic()
    call(["scripts/install_debian.sh", *target.packages.split()])
    if str(PYTHON) in target.compiler:
        make_venv()
    directory = BUILD / name
    tests = build(target, directory)
    print(f"{name}: built in {time.monotonic() - start:.0f} s", flush=True)
    for runner in target.runs:
        for test in tests if runner == target.runs[0] else ["check"]:
            start = time.monotonic()
            arguments = {
                "check": [*(["--small"] if target.small else []), "--part", part, GOLDEN],
                "inner": ["8"],
                "api": [],
            }[test]
            lines = run(runner, directory / test, *arguments).splitlines()
            if test == "check" and target.sets and f"instruction sets: {target.sets}" not in lines:
                raise RuntimeError("\n".join([*lines, f"expected instruction sets: {target.sets}"]))
            print(f"  {'; '.join(lines[-2:])} ({time.monotonic() - start:.0f} s)", flush=True)


def main() -> int:
    """Run the targets that are named, and report which of them failed."""
    groups = {"compilers": MATRIX, "all": [*TARGETS, *MATRIX]}
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [--part K/N] TARGET...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"targets: {' '.join(TARGETS)}\n"
        f"compilers: {' '.join(COMPILERS)}, each with -O0, -O1, -O2 or -O3, then -native, then -lto: gcc-O2-native-lto\n"
        f"{' and '.join(groups)} stand for several",
    )
    parser.add_argument("--part", default="1/1", metavar="K/N", help="one of N shares of lnorm_check")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    arguments = parser.parse_args()
    if not arguments.targets:
        parser.print_help()
        return 2
    names = [name for given in arguments.targets for name in groups.get(given, [given])]
    targets = {name: find(name) for name in names}
    unknown = [name for name, target in targets.items() if target is None]
    if unknown:
        parser.error(f"no target is named {', '.join(unknown)}; without arguments, all names are printed")

    os.chdir(ROOT)
    BUILD.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str((BUILD / "zig").resolve()))
    os.environ |= {"WINEPREFIX": str((BUILD / "wine").resolve()), "WINEDEBUG": "-all"}
    lines = Path(GOLDEN).read_text().splitlines()
    right = {*lines, *(line.rpartition(" ")[0] for line in lines)}  # those of small cases are printed without the other
    failed = []
    for name, target in targets.items():
        try:
            check(name, target, arguments.part)
        except RuntimeError as error:  # of the digests, only those that differ
            print("\n".join(line for line in str(error).splitlines() if line not in right))
            print(f"{name}: FAILED", flush=True)
            failed.append(name)
    print(f"{len(targets) - len(failed)} targets passed" + (f"; failed: {' '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The C tests on machines that this one is not, by other compilers and libraries, with the golden digests.

Each target has a name, and installs what it needs: Debian's packages, and PyPI's into a virtual environment. Programs,
that environment and zig's libraries (but for ZIG_GLOBAL_CACHE_DIR) are kept in build/check. What nothing here can run
is linked. Where the library is a shared one, it must export what lnorm.h declares, and nothing else.
"""

import argparse
import concurrent.futures
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
HEADER = "include/lnorm.h"
PYPI = ["lief==1.0.0", "wasmtime==50.0.1", "ziglang==0.17.1"]
PYTHON = BUILD / "venv/bin/python"
ZIG = f"{PYTHON} -m ziglang cc"


TESTS = "check inner api"


@dataclass
class Target:
    """Where the programs of a target come from, and how they run."""

    compiler: str  # with all flags
    packages: str  # Debian's
    runs: list[str] = field(default_factory=lambda: [""])  # what runs the tests; those after the first, the small cases
    sets: str = "scalar"  # the instruction sets that must be found
    tests: str = TESTS
    small: bool = False  # only the small cases of lnorm_check
    shared: str = ""  # the file of the shared library that the tests use
    library: str = ""  # the compiler of the library, where it is another, with all flags


# What each test is run with. fma compares with the C library, of which many err.
ARGUMENTS = {"check": [GOLDEN], "inner": ["8"], "fma": ["5000"]}
# The small build's functions, beside the library's.
SMALL = ["-DLNORM_SMALL=1", *(f"-Dlnorm_{name}=lnorm_small_{name}" for name in ("forward_f32", "quantized_forward"))]
WRAPPER = "tests/consumers/wrapper.cpp"  # by include/lnorm.hpp


def cross(triple: str, debian: str, qemu: str, *cpus: str, flags: str = "", sets: str = "scalar") -> Target:
    """Debian's cross compiler and glibc; qemu, with each of these options."""
    return Target(
        f"{triple}-gcc -O2 {flags}",
        f"gcc-{triple} libc6-dev-{debian}-cross qemu-user",
        [f"qemu-{qemu} -L /usr/{triple} {cpu}" for cpu in cpus or [""]],
        sets,
        "check inner api fma",
    )


def firmware(board: str, flags: str) -> Target:
    """A Cortex-M without an operating system; files and output go to qemu. The other tests need more memory."""
    return Target(
        f"arm-none-eabi-gcc -O2 -mthumb -mfloat-abi=hard {flags} -nostartfiles -specs=rdimon.specs -T {BOARD}",
        "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm",
        [f"qemu-system-arm -M {board} {SEMIHOSTING}"],
        tests="check",
        small=True,
    )


def clang_cl(flags: str = "") -> Target:
    """Objects for Microsoft's compiler and headers (Wine has some), linked to tests and a C library of MinGW."""
    headers = " ".join(f"/imsvc /usr/include/wine/wine/{kind}" for kind in ("msvcrt", "windows"))
    return Target(
        WINDOWS,
        "clang-19 libwine-dev wine64",
        WINE,
        NATIVE,
        library="clang-19 --driver-mode=cl --target=x86_64-windows-msvc /std:c11 /O1 /W4 /WX "
        f"/clang:-nostdlibinc {headers} /Zl /GS- {flags}",  # the last two: nothing of Microsoft's C library
    )


def sanitizer(flags: str, isa: str) -> Target:
    """What one of clang's sanitizers sees of an instruction set; both at once take long to compile."""
    other = {"AVX2": "AVX512", "AVX512": "AVX2"}[isa]
    return Target(
        f"clang-19 -O1 -g1 {flags} -fno-sanitize-recover=all -DLNORM_WITHOUT_{other}=1",
        "clang-19 libclang-rt-19-dev",
        sets=f"{isa.lower()} scalar",
        tests=f"{TESTS} edges fma isa small threads",
    )


BOARD = "examples/firmware/board.ld"
SEMIHOSTING = "-nographic -monitor none -serial none -semihosting-config enable=on,target=native"
WASM = f"{PYTHON} tests/wasm/run.py"
WINDOWS = f"{ZIG} -O2 -target x86_64-windows-gnu"
WINE = ["/usr/lib/wine/wine64"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
# Of what runs here without an emulator of processors.
NATIVE = "avx512 avx2 scalar" if "avx512f" in Path("/proc/cpuinfo").read_text().split() else "avx2 scalar"
SANITIZERS = {
    "msan": "-fsanitize=memory",
    "tsan": "-fsanitize=thread",
    "ubsan": "-fsanitize=integer,implicit-conversion,local-bounds",  # beside what the preset "sanitizers" sees
}

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
    # Carried out by SIMDe with AVX2.
    "avx512": Target("gcc -O2", "gcc libsimde-dev", sets="avx512 avx2 scalar"),
    "avx512-asan": Target(
        "clang-19 -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all",
        "clang-19 libclang-rt-19-dev libsimde-dev",
        sets="avx512 avx2 scalar",
    ),
    **{name: sanitizer(flags, "AVX2") for name, flags in SANITIZERS.items()},
    **{f"{name}-avx512": sanitizer(flags, "AVX512") for name, flags in SANITIZERS.items()},  # on a machine that has it
    "valgrind": Target(
        "gcc -O1 -g -DLNORM_WITHOUT_AVX512=1 -DTEST_VALGRIND",
        "gcc valgrind",
        ["valgrind -q --error-exitcode=1"],
        "avx2 scalar",
        "check edges isa",
    ),
    "i686": Target(  # 32 bits
        "i686-linux-gnu-gcc -O2 -msse2 -mfpmath=sse -static",
        "gcc-i686-linux-gnu libc6-dev-i386-cross",
        tests="check inner api fma",
    ),
    "glibc-2.17": Target(
        f"{ZIG} -O2 -target {platform.machine()}-linux-gnu.2.17 -Wl,-rpath,$ORIGIN",
        "",
        sets="",
        shared="liblnorm.so",
    ),
    "windows": Target(f"{WINDOWS} -DLNORM_SHARED", "wine64", WINE, NATIVE, f"{TESTS} wrapper", shared="lnorm.dll"),
    "windows-arm64": Target(f"{ZIG} -O1 -target aarch64-windows-gnu -DLNORM_SHARED", "", [], shared="lnorm.dll"),
    "clang-cl": clang_cl(),
    # The source as MSVC sees it, which has neither clang's nor GNU's extensions.
    "msvc": clang_cl("-U__clang__ -D__STDC_NO_ATOMICS__=1 -Wno-unknown-pragmas -Wpedantic /clang:-ffp-contract=off"),
    "macos-arm64": Target(f"{ZIG} -O1 -target aarch64-macos", "", [], shared="liblnorm.dylib"),
    "macos-x86_64": Target(f"{ZIG} -O1 -target x86_64-macos", "", [], shared="liblnorm.dylib"),
    "wasm": Target(f"{ZIG} -O2 -target wasm32-wasi -fno-exceptions", "", [WASM], tests=f"{TESTS} wrapper"),
    "wasm-simd128": Target(f"{ZIG} -O3 -target wasm32-wasi -msimd128", "", [WASM]),
    "cortex-m4f": firmware("mps2-an386", "-mcpu=cortex-m4 -mfpu=fpv4-sp-d16"),
    "cortex-m55": firmware("mps3-an547", "-mcpu=cortex-m55"),
}

COMPILERS = {
    "gcc": ("gcc", "gcc"),
    "clang-16": ("clang-16 -fuse-ld=lld-16", "clang-16 lld-16"),
    "clang-19": ("clang-19 -fuse-ld=lld-19", "clang-19 lld-19"),
    "zig": (f"{ZIG} -target {platform.machine()}-linux-musl", ""),
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


def call(command: list[str]) -> str:
    """What the command prints; an exception with all of it where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def make_venv() -> None:
    """Install what comes from PyPI."""
    if not PYTHON.exists():
        call(["scripts/install_debian.sh", "python3-venv"])
        venv.create(BUILD / "venv", with_pip=True)
    call([str(PYTHON), "-m", "pip", "install", "-q", *PYPI])


def refuse_gnu(commands: dict[str, list[str]]) -> None:
    """Look for GNU's words in what is left of our sources after the preprocessor: clang takes them for MSVC too."""
    for command in commands.values():
        of = ""
        for line in call([*command, "-E"]).splitlines():
            if marker := re.match(r'# \d+ "(.*?)"', line):
                of = marker[1]
            # The exceptions are what intrinsics and NAN are macros of, in clang's headers and in Wine's.
            elif of.startswith(("src", "include")) and (
                word := re.search(r"\b__(attribute|asm|typeof|extension|builtin_(?!ia32_|nanf\b))\w*", line)
            ):
                raise RuntimeError(f"{of}: {word[0]} is not MSVC's: {line.strip()}")


def build(name: str, target: Target) -> None:
    """Compile the library and the tests into the target's directory."""
    compiler = [*target.compiler.split(), "-Iinclude"]
    directory = BUILD / name
    directory.mkdir(parents=True, exist_ok=True)
    of_library = [*target.library.split(), "-Iinclude"] if target.library else compiler
    if target.shared:
        of_library += ["-DLNORM_BUILD", "-fPIC", "-fvisibility=hidden"]
    commands = {path.stem: [*of_library, "-c", str(path)] for path in Path("src/c").glob("*.c")}
    if name.startswith("avx512"):
        simde = "tests/avx512_on_avx2"
        commands["cpu"] = [*compiler, "-c", f"{simde}/cpu.c"]
        commands["isa_avx512"] += [f"-I{simde}", *AVX2, "-ffp-contract=off", "-Wno-psabi"]
    if "small" in target.tests.split():
        commands["small"] += SMALL
    if target.library:
        (directory / "fltused.c").write_text("int _fltused;\n")  # which Microsoft's C library has
        commands["fltused"] = [*compiler, "-c", str(directory / "fltused.c")]
        commands["header"] = [*of_library, "-Wno-unused-command-line-argument", "/TP", "-c", HEADER]
    if name == "msvc":  # whose intrinsics need no regions
        refuse_gnu(commands)
        commands["isa_avx2"] += AVX2
        commands["isa_avx512"] += [*AVX2, "-mavx512f"]
    if BOARD in target.compiler:
        commands |= {
            "start": [*compiler, "-c", "tests/firmware/start.c"],
            "cortex_m": [*compiler, "-c", "examples/firmware/cortex_m.c"],
        }
    objects = [str(directory / f"{stem}.o") for stem in commands]
    library = [f"-L{directory}", "-llnorm"] if target.shared else objects
    programs = {test: [*compiler, f"tests/c/{test}_test.c", *library, "-lm"] for test in target.tests.split()}
    if "wrapper" in programs:
        cpp = target.compiler.replace("ziglang cc", "ziglang c++").split()
        programs["wrapper"] = [*cpp, "-std=c++20", "-Wall", "-Werror", "-Iinclude", WRAPPER, *library]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda stem, output: call([*commands[stem], "-o", output]), commands, objects))
        if target.shared:
            call([*compiler, "-shared", *objects, "-lm", "-o", str(directory / target.shared)])
        list(pool.map(lambda test: call([*programs[test], "-o", str(directory / test)]), programs))


EXPORTED = """import lief, sys
binary = lief.parse(sys.argv[1])
print(*{symbol.name for symbol in getattr(binary, "exported_symbols", binary.exported_functions)})
needed = getattr(binary, "symbols_version_requirement", ())
print(*{version.name for library in needed for version in library.get_auxiliary_symbols()})
"""


def check_shared(name: str, target: Target) -> None:
    """Look at what the shared library of a target exports, and which glibc it needs."""
    symbols, versions = call([str(PYTHON), "-c", EXPORTED, str(BUILD / name / target.shared)]).split("\n")[:2]
    exported = set(symbols.split())
    if target.shared.endswith(".dylib"):  # whose symbols have a _ in front, and to which zig's linker adds two
        exported = {symbol.removeprefix("_") for symbol in exported - {"__mh_dylib_header", "___dso_handle"}}
    declared = set(re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", Path(HEADER).read_text(), re.MULTILINE))
    if exported != declared:
        differ = f"beyond {HEADER}: {sorted(exported - declared)}, missing: {sorted(declared - exported)}"
        raise RuntimeError(f"{target.shared} exports, {differ}")
    print(f"  {target.shared} exports the {len(declared)} functions of {HEADER}", flush=True)
    oldest = re.search(r"-gnu\.([\d.]+)", target.compiler)
    if oldest:
        newest = max(re.findall(r"\bGLIBC_([\d.]+)", versions), key=numbers)
        if numbers(newest) > numbers(oldest[1]):
            raise RuntimeError(f"{target.shared} needs glibc {newest}")
        print(f"  {target.shared} needs glibc {newest}", flush=True)


def numbers(version: str) -> list[int]:
    """Return what compares as versions do."""
    return [int(number) for number in version.split(".")]


def run(name: str, runner: str, test: str, options: list[str]) -> list[str]:
    """Run a test of a target: the lines that it prints."""
    program, arguments = str(BUILD / name / test), [*options, *ARGUMENTS.get(test, [])]
    if SEMIHOSTING in runner:
        program, arguments = f"-kernel {program}", ["-append", " ".join(arguments)]
    return call([*runner.split(), *program.split(), *arguments]).splitlines()


def check(name: str, target: Target, part: str, small_only: bool) -> None:
    """Build a target and run its tests."""
    start = time.monotonic()
    call(["scripts/install_debian.sh", *target.packages.split()])
    if target.shared or str(PYTHON) in " ".join([target.compiler, *target.runs]):
        make_venv()
    build(name, target)
    print(f"{name}: built in {time.monotonic() - start:.0f} s", flush=True)
    if target.shared:
        check_shared(name, target)
    if not target.runs:
        print("  linked, not run")
    for runner in target.runs:
        for test in target.tests.split() if runner == target.runs[0] else ["check"]:
            start = time.monotonic()
            small = ["--small"] if small_only or target.small or runner != target.runs[0] else []
            options = [*small, "--part", part] if test == "check" else []
            lines = run(name, runner, test, options)
            if test == "check" and target.sets and lines[0] != f"instruction sets: {target.sets}":
                raise RuntimeError("\n".join([*lines, f"expected instruction sets: {target.sets}"]))
            print(f"  {'; '.join(lines[-2:])} ({time.monotonic() - start:.0f} s)", flush=True)
    left_out = set(TESTS.split()) - set(target.tests.split())
    if left_out:
        print(f"  left out: {' '.join(sorted(left_out))}")


def main() -> int:
    """Run the targets that are named, and report which of them failed."""
    groups = {"compilers": MATRIX, "all": [*TARGETS, *MATRIX]}
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s [--part K/N] [--small] TARGET...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"targets: {' '.join(TARGETS)}\n"
        f"compilers: {' '.join(COMPILERS)}, each with -O0, -O1, -O2 or -O3, and -native, and -lto: gcc-O2-native-lto\n"
        f"{' and '.join(groups)} stand for several",
    )
    parser.add_argument("--part", default="1/1", metavar="K/N", help="one of N shares of lnorm_check")
    parser.add_argument("--small", action="store_true", help="its small cases alone")
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
            check(name, target, arguments.part, arguments.small)
        except RuntimeError as error:  # of the digests, only those that differ
            print("\n".join(line for line in str(error).splitlines() if line not in right))
            print(f"{name}: FAILED", flush=True)
            failed.append(name)
    print(f"{len(targets) - len(failed)} targets passed" + (f"; failed: {' '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

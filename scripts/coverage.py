#!/usr/bin/env python3
"""Whether the C tests reach every line and every branch of the C library.

By clang's source-based coverage, in three builds: the whole library, with AVX-512 carried out by SIMDe; one without all
that can be left out, and without an operating system; and one of 32 bits. A region of code, a line or a part of one,
counts as reached where any of them reaches it, in any element type and instruction set that it is compiled for; so does
either side of a branch. What other machines and compilers see is left out by the preprocessor: src/c/vec_neon.h, most
of all.

A function that nothing reaches says why, behind its name: /* coverage: REASON */. What is built is in build/coverage.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = Path("build/coverage")
PACKAGES = "clang-19 llvm-19 libclang-rt-19-dev libsimde-dev qemu-user gcc-i686-linux-gnu libc6-dev-i386-cross"
COMPILER = "clang-19 -O1 -std=c11 -Iinclude -ffp-contract=off -fno-math-errno -pthread -fprofile-instr-generate"
SIMDE = "tests/avx512_on_avx2"
SMALL = "-DLNORM_SMALL=1 -Dlnorm_forward_f32=lnorm_small_forward_f32"
SMALL += " -Dlnorm_quantized_forward=lnorm_small_quantized_forward"
PARTS = ["F64", "F16", "BF16", "BACKWARD", "RESIDUAL", "QUANTIZED", "MOMENTS", "INNER", "GROUPS", "AVX2", "AVX512"]
CHECK = "check --small tests/c/golden.txt"


class Build(NamedTuple):
    """What is compiled, and how it is run: a test of tests/c with its arguments, after what runs it."""

    runs: list[tuple[str, str]]
    machine: str = ""
    left_out: str = ""
    emulated: bool = False  # the sets that the processor lacks; but not for the test that asks for them


BUILDS = {
    "whole": Build(
        [("", test) for test in (CHECK, "inner 8", "api", "edges", "fma 5000", "small")]
        + [(f"env LNORM_ISA={isa}", "isa") for isa in ("", "scalar", "avx2", "avx512", "neon", "nonsense")]
        + [(f"qemu-x86_64 -cpu {older} -E LNORM_ISA=avx2", "isa") for older in ("Nehalem", "Opteron_G5", "Haswell")],
        emulated=True,
    ),
    "least": Build(
        [("", CHECK)],
        left_out=" ".join(f"-DLNORM_WITHOUT_{part}=1" for part in PARTS) + " -ffreestanding",
    ),
    "32 bits": Build(
        [("", "edges"), ("", "small")],
        machine="--target=i686-linux-gnu -static -msse2 -mfpmath=sse",
        left_out="-DLNORM_WITHOUT_AVX2=1 -DLNORM_WITHOUT_AVX512=1",
    ),
}


def call(command: str, profile: Path | str = "") -> str:
    """What the command prints, which leaves a profile; the end of this program where it fails."""
    environment = os.environ | {"LLVM_PROFILE_FILE": str(profile)}
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        sys.exit(f"{command}\nended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def run(directory: Path, build: Build) -> str:
    """Compile the library and the tests, run these, and return the options by which llvm-cov finds both."""
    directory.mkdir(parents=True, exist_ok=True)
    sources = {path.stem: str(path) for path in Path("src/c").glob("*.c")} | {"small_build": f"src/c/small.c {SMALL}"}
    if build.emulated:
        sources["isa_avx512"] += f" -I{SIMDE} -mavx2 -mfma -mf16c -Wno-psabi"
        sources["emulated"] = f"{SIMDE}/cpu.c"
    objects = {name: directory / f"{name}.o" for name in sources}
    compiler = f"{COMPILER} {build.machine}"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        mapped = f"{compiler} {build.left_out} -fcoverage-mapping -c"
        list(pool.map(lambda name: call(f"{mapped} {sources[name]} -o {objects[name]}"), sources))
    tests = sorted({test.split()[0] for _, test in build.runs})
    for test in tests:
        without = "emulated" if test == "isa" or not build.emulated else "cpu"
        library = " ".join(str(path) for name, path in objects.items() if name != without)
        call(f"{compiler} {build.left_out} tests/c/{test}_test.c {library} -lm -o {directory / test}")

    def measure(number: int) -> str:
        runner, test = build.runs[number]
        last = call(f"{runner} {directory}/{test}", directory / f"{number}.profraw").splitlines()[-1]
        print(f"  {runner} {test}: {last}", flush=True)
        return f"{directory}/{number}.profraw"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        profiles = " ".join(pool.map(measure, range(len(build.runs))))
    call(f"llvm-profdata-19 merge {profiles} -o {directory}/profile")
    objects_read = " ".join(f"-object {directory / test}" for test in tests[1:])
    return f"-instr-profile {directory}/profile {directory / tests[0]} {objects_read}"


Place = tuple[str, int, int, int]  # file, line, column, and which side of a branch or how far a region goes


def add_counts(found: str, regions: Counter[Place], sides: Counter[Place]) -> None:
    """How often each region of code was run, and each side of each branch was taken."""
    for function in json.loads(call(f"llvm-cov-19 export {found}"))["data"][0]["functions"]:
        files = [str(Path(name).relative_to(ROOT)) for name in function["filenames"]]
        for line, column, last, _, count, file, _, kind in function["regions"]:
            if kind == 0 and files[file].startswith("src"):
                regions[files[file], line, column, last] += count
        for line, column, _, _, *counts, file, _, _ in function["branches"]:
            for side in (0, 1):
                if files[file].startswith("src"):
                    sides[files[file], line, column, side] += counts[side]


def argued_for(source: list[str]) -> set[int]:
    """The lines of functions that say why nothing reaches them."""
    found, inside = set(), False
    for number, text in enumerate(source, 1):
        inside |= "/* coverage: " in text
        found |= {number} if inside else set()
        inside &= not text.startswith("}")
    return found


def report(regions: Counter[Place], sides: Counter[Place]) -> bool:
    """Print how much of each file was reached, and what was not; whether that is all that can be."""
    sources = {file: Path(file).read_text().splitlines() for file, *_ in regions}
    argued = {file: argued_for(source) for file, source in sources.items()}
    missed = []
    table: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for column, counts in ((0, regions), (2, sides)):
        for (file, line, begin, more), count in sorted(counts.items()):
            if line in argued[file]:
                continue
            for name in (file, "together"):
                table[name][column] += count > 0
                table[name][column + 1] += 1
            if count == 0:
                never = f"never {('true', 'false')[more]}: " if counts is sides else ""
                missed.append(
                    f"NOT REACHED: {file}:{line}:{begin}: {never}{sources[file][line - 1][begin - 1 :].strip()}"
                )
    print(f"{'':<28}{'regions':>14}{'branches':>14}")
    for name, numbers in sorted(table.items(), key=lambda row: (row[0] == "together", row[0])):
        print(f"{name:<28}{'{:>6} of {:<5}{:>6} of {}'.format(*numbers)}")
    for file, source in sources.items():
        print("".join(f"left out: {file}: {text}\n" for text in source if "/* coverage: " in text), end="")
    print("\n".join(missed))
    return not missed


def main() -> int:
    """Build, run and report."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.chdir(ROOT)
    call(f"scripts/install_debian.sh {PACKAGES}")
    regions: Counter[Place] = Counter()
    sides: Counter[Place] = Counter()
    for name, build in BUILDS.items():
        print(f"{name}:", flush=True)
        add_counts(run(DIRECTORY / name.replace(" ", "-"), build), regions, sides)
    return 0 if report(regions, sides) else 1


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Build examples/firmware for Cortex-M boards, run it under qemu, and print what each build of lnorm takes.

    python scripts/firmware.py [BUILD...]

Needs arm-none-eabi-gcc with newlib, qemu-system-arm, and pyln, whose digests the boards' must be. The table is that of
docs/embedded.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import pyln

ROOT = Path(__file__).resolve().parent.parent
FIRMWARE = ROOT / "examples" / "firmware"
NORM = "embeddings.LayerNorm"
KEYS = {"x": "input", "gamma": "weight", "beta": "bias", "eps": "eps"}

ARM = "arm-none-eabi-"
CORTEX = ["-mthumb", "-nostartfiles", "-Wl,--no-warn-rwx-segments", "-Wl,--gc-sections"]
# Everything between the program and the C library: with these the compiler relies on nothing but memcpy and the like.
FREESTANDING = ["-ffreestanding", "-fno-math-errno", "-ffunction-sections", "-fdata-sections"]


@dataclass(frozen=True)
class Board:
    """A machine of qemu's."""

    machine: str
    flags: list[str]


BOARDS = {
    "Cortex-M3": Board("mps2-an385", ["-mcpu=cortex-m3", "-mfloat-abi=soft"]),
    "Cortex-M4F": Board("mps2-an386", ["-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]),
    "Cortex-M55": Board("mps3-an547", ["-mcpu=cortex-m55", "-mfloat-abi=hard"]),
}

F32 = ["f64", "f16", "bf16", "residual", "moments", "inner", "groups"]


@dataclass(frozen=True)
class Build:
    """What of lnorm is built, and what of it the program calls."""

    what: str
    options: list[str]  # of scripts/single_file.py
    level: str
    calls: list[str] = field(default_factory=list)  # beside lnorm_forward_f32


def without(*parts: str) -> list[str]:
    """Return the options that leave parts out."""
    return [word for part in parts for word in ("--without", part)]


BUILDS = {
    "small": Build("`--small`, forward f32", ["--small", *without("quantized")], "-Os"),
    "small-int8": Build("`--small`, 8 bits too", ["--small"], "-Os", ["quantized"]),
    "forward": Build("forward f32", without(*F32, "backward", "quantized"), "-Os"),
    "forward-fast": Build("forward f32", without(*F32, "backward", "quantized"), "-O2"),
    "int8": Build("forward f32 and 8 bits", without(*F32, "backward"), "-Os", ["quantized"]),
    "training": Build("forward and backward f32", without(*F32, "quantized"), "-Os", ["backward"]),
    "whole": Build("everything", [], "-Os", ["quantized", "backward"]),
}


@dataclass
class Call:
    """What a call printed, and on a board took."""

    digest: str
    stack: int  # bytes
    instructions: int


def run(*command: str | Path) -> str:
    """Run a command and return what it printed; of semihosting, qemu prints on standard error."""
    words, nothing = [str(word) for word in command], subprocess.DEVNULL
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=nothing)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}\nended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def sample() -> dict[str, np.ndarray]:
    """Return the rows that enter a layer norm of a real model, and its parameters."""
    arrays = np.load(ROOT / "pyln" / "data" / "minilm_sample.npz")
    return {name: arrays[f"{NORM}.{key}"] for name, key in KEYS.items()}


def write_rows(folder: Path) -> None:
    """Write them as rows.h."""
    arrays = sample()
    rows, cols = arrays["x"].shape
    lines = [f"/* {NORM} of all-MiniLM-L6-v2; see pyln/data/README.md. */", f"enum {{ ROWS = {rows}, COLS = {cols} }};"]
    lines.append(f"#define EPS {float(arrays['eps']).hex()}")
    for name in ("x", "gamma", "beta"):
        numbers = ",\n    ".join(f"{float(value).hex()}f" for value in arrays[name].ravel())
        lines.append(f"static const float {name}[] = {{\n    {numbers}}};")
    (folder / "rows.h").write_text("\n".join(lines) + "\n")


def digest(array: np.ndarray) -> str:
    """FNV-1a 64 of the array's memory."""
    value = 0xCBF29CE484222325
    for byte in array.tobytes():
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def expected_digests() -> dict[str, str]:
    """Return those of this machine's results."""
    x, gamma, beta, eps = sample().values()
    options = x.shape[1], gamma, beta, float(eps)
    y, mean, rstd = pyln.layer_norm(x, *options, return_stats=True)
    q, _, _ = pyln.quantized_layer_norm(x, *options)
    dx, _, _ = pyln.layer_norm_backward(y, x, x.shape[1], mean, rstd, gamma)
    return {"forward f32": digest(y), "forward i8": digest(q), "backward f32": digest(dx)}


def sources(folder: Path, build: Build) -> list[str | Path]:
    """Write lnorm and the rows; return the compiler's arguments for the program but for the board's file."""
    run(sys.executable, ROOT / "scripts" / "single_file.py", folder, *build.options)
    write_rows(folder)
    return [
        f"-I{folder}",
        f"-I{FIRMWARE}",
        *(f"-DWITH_{call.upper()}=1" for call in build.calls),
        FIRMWARE / "normalize.c",
    ]


def parse(printed: str) -> dict[str, Call]:
    """Return the calls that the program reports; the costs stand before the digest that they belong to."""
    calls = {}
    costs = (0, 0)
    for line in printed.splitlines():
        if cost := re.fullmatch(r"stack (\d+) instructions (\d+)", line):
            costs = int(cost[1]), int(cost[2])
        else:
            name, _, digest = line.rpartition(" ")
            calls[name] = Call(digest, *costs)
    return calls


def text_size(folder: Path, lnorm: Path, build: Build, flags: list[str]) -> int:
    """Return the bytes of code and constants that the calls bring along, the compiler's and C library's included."""
    calls = ["lnorm_forward_f32", *(f"lnorm_{call}_forward" for call in build.calls if call == "quantized")]
    calls += ["lnorm_backward_f32"] if "backward" in build.calls else []
    linked = folder / "linked.o"
    roots = [f"-Wl,-u,{call}" for call in calls]
    libraries = ["-Wl,--start-group", "-lgcc", "-lc", "-lm", "-Wl,--end-group"]
    run(f"{ARM}gcc", *flags, *CORTEX, "-nostdlib", "-r", f"-Wl,-e,{calls[0]}", *roots, lnorm, *libraries, "-o", linked)
    return int(run(f"{ARM}size", linked).splitlines()[1].split()[0])


def run_on_board(folder: Path, build: Build, board: Board) -> tuple[int, dict[str, Call]]:
    """Return the bytes of lnorm's code and what the program reports."""
    compiler = [f"{ARM}gcc", build.level, "-std=gnu11", "-Wall", "-Wextra", *board.flags, *FREESTANDING]
    program, lnorm = folder / "firmware.elf", folder / "lnorm.o"
    arguments = sources(folder, build)
    run(*compiler, "-mthumb", "-c", folder / "lnorm.c", "-o", lnorm)
    run(
        *compiler,
        *CORTEX,
        "-T",
        FIRMWARE / "board.ld",
        *arguments,
        FIRMWARE / "cortex_m.c",
        lnorm,
        "-lm",
        "-o",
        program,
    )
    # Under -icount an instruction takes a nanosecond.
    qemu = ["qemu-system-arm", "-M", board.machine, "-icount", "shift=0", "-nographic", "-monitor", "none"]
    semihosting = ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
    return text_size(folder, lnorm, build, board.flags), parse(run(*qemu, *semihosting, "-kernel", program))


def main() -> int:
    """Print a line of the table for each call of each build on each board."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="*", choices=[*BUILDS, []], metavar="BUILD", help=f"of {', '.join(BUILDS)}")
    names = parser.parse_args().builds or list(BUILDS)
    wrong = 0
    expected, numbers = expected_digests(), sample()["x"].size
    print("| build | flags | board | text | call | stack | instructions per number |\n|---|---|---|---|---|---|---|")
    for build in map(BUILDS.__getitem__, names):
        for name, board in BOARDS.items():
            with tempfile.TemporaryDirectory() as folder:
                text, calls = run_on_board(Path(folder), build, board)
            for call, got in calls.items():
                right = got.digest == expected[call]
                wrong += not right
                print(
                    f"| {build.what} | {build.level} | {name} | {text:,} | {call}{'' if right else ': WRONG'} "
                    f"| {got.stack:,} | {got.instructions / numbers:.0f} |",
                    flush=True,
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Plant faults in a copy of the C sources, one at a time, and see lnorm_check turn red for each.

    python scripts/plant_faults.py [NAME...]

Needs a C compiler; CC names one. The exit status is 1 where a fault was not noticed.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COMPILER = shlex.split(os.environ.get("CC", "cc"))


class Fault(NamedTuple):
    """A text of a file in src/c, which is there once, and what it becomes."""

    file: str
    text: str
    becomes: str


FAULTS = {
    "none": Fault("lnorm.c", "#include", "#include"),
    "the low part of the mean is dropped": Fault(
        "moments.inc.h", "const vec shift = vec_mul(of->mean_lost, rstd);", "const vec shift = zero;"
    ),
    "a sum is taken in another order": Fault(
        "row_sums.inc.h",
        "TYPED(add_vec)(&odd, row->has_g ? &even : &odd, row, i + LANES, LANES);",
        "TYPED(add_vec)(&even, &even, row, i + LANES, LANES);",
    ),
    "a multiply-add is contracted": Fault(
        "moments.inc.h",
        "const struct REALED(two_part) var = REALED(two_sum)(square.sum, vec_sub(zero, lo_square));",
        "struct REALED(two_part) var = REALED(two_sum)(square.sum, vec_sub(zero, lo_square));\n"
        "    var.sum = vec_fnma(lo.sum, lo.sum, square.sum);",
    ),
    "one instruction set rounds a multiply-add twice": Fault(
        "vec_scalar.h",
        "a.lane[i] = FMA(-a.lane[i], b.lane[i], c.lane[i]);",
        "a.lane[i] = c.lane[i] - a.lane[i] * b.lane[i];",
    ),
    "a tail is written as a whole vector": Fault(
        "row_sums.inc.h", "    REALED(store)(p, v, n);", "    (void)n;\n    vec_store(p, v);"
    ),
}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command there and return what it printed."""
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def is_noticed(name: str) -> bool:
    """Build the faulty copy, run the small cases, and print what the first failure was."""
    fault = FAULTS[name]
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        for folder in ("include", "src", "tests/c"):
            shutil.copytree(ROOT / folder, copy / folder)
        file = copy / "src/c" / fault.file
        before = file.read_text()
        if fault.text != fault.becomes and before.count(fault.text) != 1:
            sys.exit(f"{fault.file} does not have this text once: {fault.text}")
        file.write_text(before.replace(fault.text, fault.becomes))
        sources = [str(path.relative_to(copy)) for path in sorted(copy.glob("src/c/*.c"))]
        build = [*COMPILER, "-O1", "-Iinclude", "tests/c/check_test.c", *sources, "-lm", "-o", "check"]
        if built := run(build, copy).stdout.strip():
            print(built)
        check = run(["./check", "--small", "--part", "1/6"], copy)
    told = [line.strip() for line in check.stdout.splitlines() if line.startswith("  ") or "was accessed" in line]
    print(f"{'red  ' if check.returncode else 'green'}  {name}{': ' + told[0] if told else ''}", flush=True)
    return check.returncode != 0


def main() -> None:
    """Plant the faults named, or all."""
    parser = argparse.ArgumentParser(description=main.__doc__, epilog="names: " + "; ".join(FAULTS))
    parser.add_argument("names", metavar="NAME", nargs="*", help="a fault's name or the beginning of it")
    wanted = tuple(parser.parse_args().names) or ("",)
    names = [name for name in FAULTS if name.startswith(wanted)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        noticed = list(pool.map(is_noticed, names))
    sys.exit(any(red != (name != "none") for red, name in zip(noticed, names, strict=True)))


if __name__ == "__main__":
    main()

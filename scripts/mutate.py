#!/usr/bin/env python3
"""Mutation testing of the C library: one operator or number at a time is changed, and a C test must notice.

All mutants are compiled into the same programs, where the environment variable LNORM_MUTANT says which one is alive: a
comparison is widened, narrowed or turned round, && and || change places, + and - of integers too, and an integer that
is written down, or a size given to a function, is one more; but 1 is 0. Those of vec_avx2.h are in programs of their
own; of the others the scalar kernels are run. Survivors that tests/c/equivalent_mutants.txt does not explain are
printed as they are found; the exit status is then 1.

Needs clang and PyPI's libclang. All of them take hours: --sample judges some, --quick leaves out the longest tests.
"""

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from clang import cindex

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / "build/mutants"
EQUIVALENT = ROOT / "tests/c/equivalent_mutants.txt"
FLAGS = "-O1 -g0 -std=gnu11 -w -ffp-contract=off -fno-math-errno -pthread -DTEST_STOPS -include mutant.h -Iinclude"
COMPILER = ["clang-19", *FLAGS.split()]
SMALL = ["-DLNORM_SMALL=1", *(f"-Dlnorm_{call}=lnorm_small_{call}" for call in ("forward_f32", "quantized_forward"))]
OTHERS = ["vec_scalar.h", "lnorm.c", "merge.c", "dispatch.c", "fma.h", "kernels.h", "check_scale.h", "small.c"]
UNITS = {"isa_scalar.c": [], "lnorm.c": [], "merge.c": [], "dispatch.c": [], "small.c": SMALL}
WITHOUT_AVX = ["-DLNORM_WITHOUT_AVX512=1", "-DLNORM_WITHOUT_AVX2=1"]
FUZZER, GOLDEN = "tests/fuzz/fuzz_c.c", "tests/c/golden.txt"
CORPUS = "tests/fuzz/corpus/*"
QUICK = ["isa", "fma 20000", f"fuzz {CORPUS}", "edges", "small", "inner 40", f"check --small --part 1/6 {GOLDEN}"]
SLOW = ["api", f"check --small {GOLDEN}", "inner 8"]
BECOMES = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "+": "-",
    "-": "+",
}
KIND = cindex.CursorKind
SIZE = cindex.TypeKind.ULONG
INTEGERS = {SIZE, cindex.TypeKind.INT, cindex.TypeKind.UINT, cindex.TypeKind.LONG}


class Mutant(NamedTuple):
    """An expression of a file by its bytes, and what is done to it: an operator, of two operands, or + 1."""

    file: str
    start: int
    end: int
    operator: str
    operands: tuple[tuple[int, int], ...] = ()


def text_of(source: bytes, mutant: Mutant) -> str:
    """Line, place in it, and what becomes what, as a survivor is printed."""
    place = mutant.operands[0][1] if mutant.operands else mutant.start
    begin, end = source.rfind(b"\n", 0, place) + 1, source.find(b"\n", place)
    line = source[begin:end].decode()
    column = place - begin - (len(line) - len(line.lstrip()))
    expression = " ".join(source[mutant.start : mutant.end].decode().split())
    change = f"{BECOMES[mutant.operator]} in" if mutant.operands else "0 for" if expression == "1" else "1 more than"
    return f"{mutant.file}: {line.strip()}: {column}: {change} {expression}"


def find(files: set[str], unit: str, flags: list[str]) -> set[Mutant]:
    """The mutants of those files, of src/c, that a translation unit shows."""
    found: set[Mutant] = set()
    sources = {str(ROOT / "src/c" / file): (ROOT / "src/c" / file).read_bytes() for file in files}

    def span(cursor: cindex.Cursor) -> tuple[int, int]:
        return cursor.extent.start.offset, cursor.extent.end.offset

    def visit(cursor: cindex.Cursor) -> None:
        is_variable = cursor.kind == KIND.VAR_DECL
        is_array = is_variable and cursor.type.kind == cindex.TypeKind.CONSTANTARRAY
        is_static = is_variable and cursor.storage_class == cindex.StorageClass.STATIC
        if cursor.kind == KIND.ENUM_DECL or is_array or is_static:  # what C wants constant stays so
            return
        children = list(cursor.get_children())[cursor.kind == KIND.CASE_STMT :]  # a label stays what it is
        place = cursor.extent.start.file
        source = sources.get(os.path.normpath(place.name)) if place else None
        if source is not None:
            (start, end), file = span(cursor), Path(place.name).name
            if cursor.kind == KIND.BINARY_OPERATOR and len(children) == 2:
                (left, left_end), (right, right_end) = spans = span(children[0]), span(children[1])
                operator = source[left_end:right].decode().strip()
                is_plain = left == start < left_end <= right < right_end == end  # no macro's
                of_integers = all(child.type.get_canonical().kind in INTEGERS for child in children)
                if is_plain and operator in BECOMES and (operator not in "+-" or of_integers):
                    found.add(Mutant(file, start, end, operator, spans))
            elif cursor.kind == KIND.INTEGER_LITERAL and re.fullmatch(rb"\d+u?", source[start:end]):
                found.add(Mutant(file, start, end, "number"))
            elif cursor.kind == KIND.CALL_EXPR:
                for first, last in (
                    span(one) for one in cursor.get_arguments() if one.type.get_canonical().kind == SIZE
                ):
                    if start < first < last < end and re.fullmatch(rb"[a-z]\w*( - \w+)?", source[first:last]):
                        found.add(Mutant(file, first, last, "size"))
        for child in children:
            visit(child)

    arguments = [*flags, "-std=gnu11", f"-I{ROOT}/include"]
    tree = cindex.Index.create().parse(str(ROOT / "src/c" / unit), args=arguments)
    for cursor in tree.cursor.get_children():
        if cursor.kind == KIND.FUNCTION_DECL and cursor.is_definition():
            visit(cursor)
    return found


def write(file: str, mutants: list[tuple[int, Mutant]], to: Path) -> None:
    """The file with all of its mutants, of which none is alive unless it is named."""
    source = (ROOT / "src/c" / file).read_bytes()
    mutants = sorted(mutants, key=lambda one: (one[1].start, -one[1].end))

    def text(start: int, end: int, mutants: list[tuple[int, Mutant]]) -> str:
        parts, at = [], start
        while mutants:
            number, mutant = mutants[0]
            inside = [one for one in mutants[1:] if one[1].end <= mutant.end]
            parts += [source[at : mutant.start].decode(), replace(number, mutant, inside)]
            at, mutants = mutant.end, mutants[1 + len(inside) :]
        return "".join([*parts, source[at:end].decode()])

    def replace(number: int, mutant: Mutant, inside: list[tuple[int, Mutant]]) -> str:
        if not mutant.operands:
            was = text(mutant.start, mutant.end, inside)
            return f"({was} {'-' if was == '1' else '+'} M({number}))"
        left, right = (
            text(*span, [one for one in inside if span[0] <= one[1].start and one[1].end <= span[1]])
            for span in mutant.operands
        )
        was, becomes = mutant.operator, BECOMES[mutant.operator]
        if was in ("&&", "||"):
            both = f"l{number} {becomes} ({right}) : l{number} {was} ({right})"
            return f"({{int l{number} = !!({left}); M({number}) ? {both};}})"
        values = f"__auto_type l{number} = ({left}); __auto_type r{number} = ({right});"
        return f"({{{values} M({number}) ? l{number} {becomes} r{number} : l{number} {was} r{number};}})"

    to.write_text(text(0, len(source), mutants))


def run(command: list[str], folder: Path, limit: int | None = None, mutant: int = -1) -> tuple[bool, str]:
    """Whether a command succeeds within a limit of CPU seconds, and what it printed."""
    limited = ["prlimit", f"--cpu={limit}", *command] if limit else command
    environment = os.environ | {"LNORM_MUTANT": str(mutant)}
    done = subprocess.run(limited, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode == 0, done.stdout.decode(errors="replace")


def build(name: str, mutants: list[tuple[int, Mutant]], flags: list[str], jobs: int) -> Path:
    """The programs of the tests, with the mutants."""
    folder = DIRECTORY / name
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("include", "src", "tests/c", "tests/fuzz"):
        shutil.copytree(ROOT / part, folder / part)
    for file in {mutant.file for _, mutant in mutants}:
        write(file, [one for one in mutants if one[1].file == file], folder / "src/c" / file)
    (folder / "include/mutant.h").write_text(
        "extern int lnorm_mutant;\n#define M(number) __builtin_expect(lnorm_mutant == (number), 0)\n"
    )
    (folder / "src/c/mutant.c").write_text(
        "#include <stdlib.h>\nint lnorm_mutant;\n"
        '__attribute__((constructor)) static void begin(void) { lnorm_mutant = atoi(getenv("LNORM_MUTANT")); }\n'
    )
    compiler = [*COMPILER, *flags]
    commands = {path.stem: [*compiler, "-c", f"src/c/{path.name}"] for path in folder.glob("src/c/*.c")}
    commands["small_build"] = [*compiler, *SMALL, "-c", "src/c/small.c"]
    tests = {test.split()[0] for test in [*QUICK, *SLOW]}
    for test in tests:
        commands[f"{test}_test"] = [*compiler, "-c", FUZZER if test == "fuzz" else f"tests/c/{test}_test.c"]
    with ThreadPoolExecutor(jobs) as pool:
        compiled = list(pool.map(lambda one: run([*one[1], "-o", f"{one[0]}.o"], folder), commands.items()))
    objects = [f"{name}.o" for name in commands if not name.endswith("_test")]
    for test in tests:
        compiled.append(run([*COMPILER, f"{test}_test.o", *objects, "-lm", "-o", test], folder))
    for succeeded, printed in compiled:
        if not succeeded:
            sys.exit(printed)
    return folder


def passes(test: str, folder: Path, limit: int | None = None, mutant: int = -1) -> bool:
    """Whether a test does not notice the mutant."""
    program, *options = test.split()
    options = [file for one in options for file in sorted(map(str, folder.glob(one))) or [one]]
    return run([f"./{program}", *options], folder, limit, mutant)[0]


def judge(chosen: list[tuple[int, Mutant]], folder: Path, tests: list[str], jobs: int, judged: Counter[str]) -> None:
    """Count those that were killed, that are explained and that survived, and print the last."""
    explained = EQUIVALENT.read_text() if EQUIVALENT.exists() else ""
    limits = {}
    for test in tests:
        start = time.monotonic()
        if not passes(test, folder):
            sys.exit(f"{test} fails without any mutant, in {folder}")
        limits[test] = 3 + 3 * round(time.monotonic() - start)

    def survives(one: tuple[int, Mutant]) -> bool:
        return all(passes(test, folder, limit, one[0]) for test, limit in limits.items())

    with ThreadPoolExecutor(jobs) as pool:
        for (_, mutant), survived in zip(chosen, pool.map(survives, chosen), strict=True):
            text = text_of((ROOT / "src/c" / mutant.file).read_bytes(), mutant)
            what = "killed" if not survived else "equivalent" if f"{text}\n" in explained else "survived"
            judged[what] += 1
            if what == "survived":
                print(text, flush=True)
            if judged.total() % 50 == 0:
                print(f"  {dict(judged)}", flush=True)


def main() -> int:
    """Find, build and judge the mutants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", nargs="+", metavar="FILE", help="of src/c; all that have mutants, if none is named")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants; all, if not given")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which they are taken")
    parser.add_argument("--quick", action="store_true", help="without the tests that take the longest")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    scalar = {path.name for path in ROOT.glob("src/c/*.inc.h")} | set(OTHERS)
    groups = {"scalar": (scalar, UNITS, WITHOUT_AVX), "avx2": ({"vec_avx2.h"}, {"isa_avx2.c": []}, WITHOUT_AVX[:1])}
    judged: Counter[str] = Counter()
    for name, (files, units, flags) in groups.items():
        wanted = files & set(arguments.files or files)
        mutants = sorted(set().union(*(find(wanted, unit, [*flags, *more]) for unit, more in units.items())))
        numbered = list(enumerate(mutants))
        chosen = random.Random(arguments.seed).sample(numbered, min(arguments.sample or len(mutants), len(mutants)))
        print(f"{name}: {len(chosen)} of {len(mutants)} mutants", flush=True)
        if chosen:
            folder = build(name, numbered, flags, arguments.jobs)
            judge(chosen, folder, QUICK if arguments.quick else QUICK + SLOW, arguments.jobs, judged)
    print(f"{judged['killed']} killed, {judged['equivalent']} equivalent, {judged['survived']} survived")
    return 1 if judged["survived"] else 0


if __name__ == "__main__":
    sys.exit(main())

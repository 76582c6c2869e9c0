"""The binary interface is what tests/abi/ has recorded of it: symbols, sizes, offsets and values, and a program built
against a recorded header runs with the library of today.

    python tests/test_abi.py > tests/abi/lnorm-0.1.txt

records a new one, which docs/abi.md says when to do.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import ROOT, run
from test_consumers import HEADER, WARNINGS, defined_symbols, needs_cmake

ABI = ROOT / "tests" / "abi"
RECORDED = ABI / "lnorm-0.1.txt"
HEADERS = sorted(ABI.glob("lnorm-*.h"))
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="layouts are what a C compiler says")
needs_elf = pytest.mark.skipif(sys.platform != "linux", reason="sonames and nm -D are ELF's")


def code(header: Path) -> str:
    """Return a header without its comments."""
    return re.sub(r" *(?:/\*.*?\*/)", "", header.read_text(), flags=re.DOTALL)


def functions(header: Path) -> dict[str, str]:
    """Return the declarations of a header by name."""
    found = re.findall(r"^LNORM_API (.*?);", code(header), re.MULTILINE | re.DOTALL)
    declarations = [" ".join(declaration.split()) for declaration in found]
    return {re.findall(r"(\w+)\(", declaration)[0]: declaration for declaration in declarations}


def soname(header: Path) -> str:
    """Return the name by which programs ask for the library of a header."""
    major, minor = re.findall(r"^#define LNORM_VERSION_(?:MAJOR|MINOR) (\d+)$", code(header), re.MULTILINE)
    return f"liblnorm.so.{major}" if major != "0" else f"liblnorm.so.0.{minor}"


def interface() -> str:
    """Return a line for each function, struct member and constant; of a machine whose pointers have 64 bits."""
    text = code(HEADER)
    prints = []
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", text, re.DOTALL):
        prints.append(f'printf("sizeof({name}) = %zu\\n", sizeof({name}));')
        for member in re.findall(r"(\w+);", body):
            place = f"offsetof({name}, {member}), sizeof((({name} *)0)->{member})"
            prints.append(f'printf("{name}.{member} at %zu, %zu bytes\\n", {place});')
    constants = [
        *re.findall(r"\b(LNORM_\w+) = \d+", text),
        *re.findall(r"^#define (LNORM_(?!VERSION)\w+) (?:\d+u?|INT64_MIN)$", text, re.MULTILINE),
    ]
    prints += [f'printf("{name} = %lld\\n", (long long){name});' for name in constants]
    prints += [
        f'printf("sizeof({name}) = %zu\\n", sizeof({name}));' for name in re.findall(r"typedef enum (\w+)", text)
    ]
    source = "#include <stdio.h>\n#include <lnorm.h>\nint main(void)\n{\n" + "\n".join(prints) + "\nreturn 0;\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "abi.c").write_text(source)
        run(COMPILER or "cc", f"-I{HEADER.parent}", Path(folder) / "abi.c", "-o", Path(folder) / "abi")
        return "\n".join(sorted(functions(HEADER).values())) + "\n" + run(Path(folder) / "abi")


def stub(header: Path, folder: Path) -> Path:
    """Make a library of functions that do nothing, with the types of a header and its soname."""
    folder.mkdir()
    shutil.copyfile(header, folder / "lnorm.h")
    bodies = [f"{declaration} {{ return 0; }}" for declaration in functions(header).values()]
    (folder / "stub.c").write_text("\n".join(['#include "lnorm.h"', *bodies, ""]))
    shared = folder / "liblnorm.so"
    options = ["-g", "-shared", "-fPIC", f"-Wl,-soname,{soname(header)}"]
    run(COMPILER or "cc", *options, folder / "stub.c", "-o", shared)
    return shared


@needs_compiler
@pytest.mark.skipif(sys.maxsize < 2**32, reason="recorded on machines whose pointers have 64 bits")
def test_the_interface_is_the_recorded_one() -> None:
    assert interface() == RECORDED.read_text()


def test_headers_of_this_soname_are_recorded() -> None:
    assert soname(HEADER) in map(soname, HEADERS)


@pytest.fixture(params=[h for h in HEADERS if soname(h) == soname(HEADER)], ids=lambda header: header.stem)
def recorded(request: pytest.FixtureRequest) -> Path:
    """Return each recorded header whose programs ask for the library of today."""
    header: Path = request.param
    return header


@needs_compiler
@needs_elf
@needs_cmake
def test_an_old_program_runs(installed: Path, tmp_path: Path, recorded: Path) -> None:
    """It uses every function and every member of its header, and is linked to no more than those."""
    old = stub(recorded, tmp_path / "old")
    program = tmp_path / "program"
    include = [f"-I{old.parent}", f"-I{ROOT / 'tests' / 'c'}"]
    run(COMPILER or "cc", "-std=c11", *WARNINGS, *include, ABI / "program.c", old, "-lm", "-o", program)
    assert set(functions(recorded)) <= set(re.findall(r" U (lnorm_\w+)", run("nm", "-D", program)))
    printed = run(program, LD_LIBRARY_PATH=str(installed / "lib"))
    version = re.findall(r'VERSION_STRING "(.*)"', recorded.read_text() + HEADER.read_text())
    assert f"header {version[0]}, library {version[1]}, program: " in printed
    with_problem = sum("const lnorm_problem *" in declaration for declaration in functions(recorded).values())
    assert f"{with_problem} calls with a problem" in printed
    body = re.findall(r"struct lnorm_problem \{(.*?)\}", code(recorded), re.DOTALL)[0]
    used = set(re.findall(r"problem->(\w+)", (ABI / "program.c").read_text()))
    assert set(re.findall(r"(\w+);", body)) - used == {"struct_size", "reserved"}


@needs_elf
@needs_cmake
def test_the_recorded_symbols_are_exported(installed: Path, recorded: Path) -> None:
    assert defined_symbols("-D", installed / "lib" / "liblnorm.so") >= set(functions(recorded))
    assert f"[{soname(recorded)}]" in run("readelf", "-d", installed / "lib" / "liblnorm.so")


@needs_compiler
@needs_elf
@pytest.mark.skipif(not shutil.which("abidiff"), reason="types are compared by abidiff (abigail-tools)")
def test_types(tmp_path: Path, recorded: Path) -> None:
    """What sizes and offsets do not tell: the types of members, of arguments, of what the hook is called with."""
    old, new = stub(recorded, tmp_path / "old"), stub(HEADER, tmp_path / "new")
    done = subprocess.run(["abidiff", "--no-added-syms", old, new], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    print(interface(), end="")

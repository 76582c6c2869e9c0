"""docs/c-api.md: its programs print what the page says, its commands lead to one, its tables are those of the library."""

import contextlib
import re
import shutil
from pathlib import Path

import pytest
from commands import ROOT, run

PAGE = (ROOT / "docs" / "c-api.md").read_text(encoding="utf-8")
HEADER = re.sub(r"/\*.*?\*/", "", (ROOT / "include" / "lnorm.h").read_text(), flags=re.DOTALL)
PROGRAMS = re.findall(r"^```(c|cpp)\n(.*?)^```\n\n^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMPILE = {"c": ["cc", "-std=c99"], "cpp": ["c++", "-std=c++17"]}

# Each builds the library; -O1 takes the least time to do so.
WAYS = {
    "One command",
    "Two files of your own",
    "Installed: pkg-config, find_package, C++",
    "A part of a CMake project",
    "A Meson subproject",
}
QUICKLY = {"CFLAGS": "-O1", "CMAKE_BUILD_TYPE": "None"}

needs_compilers = pytest.mark.skipif(
    not all(map(shutil.which, ("cc", "c++", "cmake"))), reason="the page's programs need cmake, a C and a C++ compiler"
)


def sections() -> dict[str, str]:
    """Return what is under each heading of the ways to a running program."""
    ways = PAGE[PAGE.index("## To a running program\n") : PAGE.index("## Layer normalization\n")]
    titles = re.split(r"^### (.*)\n", ways, flags=re.MULTILINE)[1:]
    return {title: text for title, text in zip(titles[::2], titles[1::2], strict=True) if "```" in text}


def build(source: str, language: str, installed: Path, folder: Path) -> Path:
    """Compile a program, with warnings as errors, and link the static library."""
    path, program = folder / f"program.{language}", folder / "program"
    path.write_text(source)
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{installed / 'include'}", "-pthread"]
    run(*COMPILE[language], *flags, path, installed / "lib" / "liblnorm.a", "-lm", "-o", program)
    return program


@needs_compilers
def test_programs_print_what_the_page_says(installed: Path, tmp_path: Path) -> None:
    assert len(PROGRAMS) == len(re.findall(r"^```c(?:pp)?$", PAGE, re.MULTILINE)) > 0, "each has its output after it"
    for language, source, expected in PROGRAMS:
        program = build(source, language, installed, tmp_path)
        assert run(program) == expected, source


def test_every_function_has_a_program() -> None:
    functions = set(re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", HEADER, re.MULTILINE))
    called = {
        name for language, source, _ in PROGRAMS if language == "c" for name in re.findall(r"\b(lnorm_\w+)\(", source)
    }
    assert len(functions) >= 24 and called == functions


@needs_compilers
def test_the_table_of_errors_is_the_library_s(installed: Path, tmp_path: Path) -> None:
    names = re.findall(r"\b(LNORM_(?:OK|ERROR_\w+)) = \d+", HEADER)
    lines = "\n".join(f'    printf("| %d | `{name}` | %s |\\n", {name}, lnorm_status_text({name}));' for name in names)
    source = f"#include <lnorm.h>\n#include <stdio.h>\n\nint main(void)\n{{\n{lines}\n    return 0;\n}}\n"
    rows = re.findall(r"^(\| \d+ \| `LNORM_\w+` \| .* \|) .+ \|$", PAGE, re.MULTILINE)
    assert rows == run(build(source, "c", installed, tmp_path)).splitlines()


def test_every_way_is_here() -> None:
    assert sections().keys() == WAYS


def files_of(text: str) -> dict[str, str]:
    """Return the files that a section names, each with what is in it."""
    return dict(re.findall(r"`([\w.]+)`:\n\n```(?:cmake|meson)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("way", sorted(WAYS))
def test_from_an_empty_folder_to_a_running_program(way: str, tmp_path: Path) -> None:
    """The commands as they stand on the page, with the files that it names; each program prints what the first does."""
    text = sections()[way]
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for tool in ("cc", "c++", "cmake", "meson", "pkg-config", "python3"):
        if re.search(rf"\b{re.escape(tool)} ", commands) and not shutil.which(tool):
            pytest.skip(f"the commands need {tool}")
    for name, contents in files_of(text).items():
        (tmp_path / name).write_text(contents)
    for language, source, _ in reversed(PROGRAMS):  # so that the first of each is what is left
        (tmp_path / f"layer_norm.{language}").write_text(source)
    (tmp_path / "commands.sh").write_text(commands)
    with contextlib.chdir(tmp_path):
        printed = run("sh", "-eu", "commands.sh", LNORM=str(ROOT), **QUICKLY)
    started = len(re.findall(r"^\./", commands, re.MULTILINE))
    assert started > 0 and printed.count(PROGRAMS[0][2]) == started, printed


@needs_compilers
def test_add_subdirectory_does_as_well(tmp_path: Path) -> None:
    """In place of the lines about FetchContent, as the page says; test_packages.py builds and runs such a project."""
    text = sections()["A part of a CMake project"]
    line = re.search(r"`(add_subdirectory\(.*\))`", text)
    assert line
    file, replaced = re.subn(
        r"include\(FetchContent\)\n(?:FetchContent_.*\n){2}", line[1] + "\n", files_of(text)["CMakeLists.txt"]
    )
    assert replaced == 1
    (tmp_path / "CMakeLists.txt").write_text(file)
    (tmp_path / "layer_norm.c").write_text(PROGRAMS[0][1])
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", LNORM=str(ROOT))

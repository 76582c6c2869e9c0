"""Write the whole library as two files, lnorm.c and lnorm.h.

    python scripts/single_file.py [--small] [--without PART]... [FOLDER]

lnorm.c includes itself: each template of src/c is a part of it, chosen by LNORM_PART, and is read once for every
element type and instruction set, as the templates are. So the file is hardly longer than its sources. With --small it
is src/c/small.c and what that includes: lnorm_forward_f32 and its 8-bit output alone. --without leaves out instruction
sets, element types and operations; src/c/parts.h has the names, and what a call of them returns then.
"""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "src" / "c"
HEADER = ROOT / "include" / "lnorm.h"
INCLUDE = re.compile(r'^#include "(.*)"\n', re.MULTILINE)

BEGIN = """\
/* lnorm {version}: layer normalization and its family, forward and backward.
 *
 * {contents}; lnorm.h says how to use it. Compile this file and link it (with -lm, where sqrt is there):
 *
 *     cc -O3 -c lnorm.c
 *
 * Made by scripts/single_file.py of the lnorm sources, which have the tests and the reasons.
 *
{license} */
/* clang-format off */

"""


def text_of(name: str) -> str:
    """Return the text of a source."""
    return (SOURCES / name).read_text()


def is_template(name: str) -> bool:
    """Whether it is included again and again."""
    return name.endswith(".inc.h")


def templates() -> list[str]:
    """Return the names of all templates, in a fixed order; a template's place is its part."""
    return sorted(path.name for path in SOURCES.glob("*.inc.h"))


def include_part(name: str) -> str:
    """Return what includes a template."""
    part = templates().index(name) + 1
    return f"#undef LNORM_PART\n#define LNORM_PART {part} /* {name} */\n#include LNORM_FILE\n"


def expand(name: str, seen: set[str], in_parts: bool = True) -> str:
    """Return a source with its headers, where they were not seen before, and parts for its templates, or those too."""

    def included(match: re.Match[str]) -> str:
        inner = match[1]
        if is_template(inner) and in_parts:
            return include_part(inner)
        if inner in seen or inner == HEADER.name:
            return ""
        seen.add(inner)
        return f"/* ---- {inner} ---- */\n\n{expand(inner, seen, in_parts)}\n"

    return INCLUDE.sub(included, text_of(name))


def words(vocabulary: str) -> list[str]:
    """Return the names that a vec_*.h gives to its functions and types, as the preprocessor has them in the end."""
    text = text_of(vocabulary)
    names = set(re.findall(r"\b(vec_[a-z0-9_]*?(?:f32|f64|f16))\b", text))
    for stem in re.findall(r"\b(vec_\w*?)_?##S", text):
        names |= {f"{stem.rstrip('_')}_{real}" for real in ("f32", "f64")}
    names |= set(re.findall(r"^static .*?\b(\w+)\(", text, re.MULTILINE))
    return sorted(name for name in names if not name.endswith("_"))


def instruction_set(name: str, seen: set[str]) -> str:
    """Return isa_NAME.c, with the words of its vocabulary made its own, and its macros forgotten at the end."""
    vocabulary = f"vec_{name}.h"
    own = words(vocabulary)
    texts = [text_of(f"isa_{name}.c"), text_of(vocabulary), *map(text_of, templates())]
    macros = sorted({macro for text in texts for macro in re.findall(r"^#define (\w+)", text, re.MULTILINE)})
    renamed = "".join(f"#define {word} {word}_{name}\n" for word in own)
    forgotten = "".join(f"#undef {word}\n" for word in sorted({*own, *macros}))
    return f"{renamed}{expand(f'isa_{name}.c', seen)}{forgotten}"


def parts() -> list[str]:
    """Return the names of what can be left out."""
    return [name.lower() for name in re.findall(r"#define LNORM_WITHOUT_(\w+) 0", text_of("parts.h"))]


def definitions(without: list[str]) -> str:
    """Return what leaves parts out."""
    return "".join(f"#define LNORM_WITHOUT_{part.upper()} 1\n" for part in without) + ("\n" if without else "")


def beginning(contents: str) -> str:
    """Return the comment on top."""
    version = re.search(r'LNORM_VERSION_STRING "(.*)"', HEADER.read_text())
    license_text = "".join(f" * {line}".rstrip() + "\n" for line in (ROOT / "LICENSE").read_text().splitlines())
    return BEGIN.format(contents=contents, version=version[1] if version else "", license=license_text)


def small_file(without: list[str]) -> str:
    """Return lnorm.c with nothing but small.c in it."""
    contents = "lnorm_forward_f32" + ("" if without else " and lnorm_quantized_forward")
    include = f'#define LNORM_SMALL 1\n{definitions(without)}#include "{HEADER.name}"\n\n'
    return beginning(f"{contents} alone") + include + expand("small.c", set(), in_parts=False)


def single_file(without: list[str]) -> str:
    """Return lnorm.c without some parts."""
    seen: set[str] = set()
    text = beginning(f"All but {', '.join(without)}" if without else "The whole library") + "#ifndef LNORM_PART\n\n"
    text += definitions(without)
    text += f'#ifndef LNORM_FILE\n#define LNORM_FILE "lnorm.c" /* this file */\n#endif\n\n#include "{HEADER.name}"\n\n'
    for path in sorted(set(SOURCES.glob("*.c")) - {SOURCES / "small.c"}):
        text += f"/* ======== {path.name} ======== */\n\n"
        isa = re.fullmatch(r"isa_(\w+)\.c", path.name)
        if isa and isa[1] in without:
            continue
        text += instruction_set(isa[1], seen) if isa else expand(path.name, seen)
        text += "\n"
    for name in templates():
        text += f"#elif LNORM_PART == {templates().index(name) + 1}\n\n{expand(name, seen)}\n"
    return text + "#endif\n"


def main() -> None:
    """Write the two files."""
    parser = argparse.ArgumentParser(description=main.__doc__, epilog=f"parts: {' '.join(parts())}")
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="where to (default: here)")
    parser.add_argument(
        "--small", action="store_true", help="lnorm_forward_f32 alone, in 2 kB of code, and its 8-bit output"
    )
    parser.add_argument(
        "--without", action="append", choices=parts(), default=[], metavar="PART", help="leave out; may be repeated"
    )
    given = parser.parse_args()
    if given.small and given.without not in ([], ["quantized"]):
        parser.error(f"of what --small has, quantized alone can be left out; got {' '.join(given.without)}")
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lnorm.c").write_text(small_file(given.without) if given.small else single_file(given.without))
    shutil.copyfile(HEADER, folder / HEADER.name)


if __name__ == "__main__":
    main()

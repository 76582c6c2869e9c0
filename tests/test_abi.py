"""The binary interface is what tests/abi/ has recorded of it: symbols, and the sizes, offsets and values of the header.

    python tests/test_abi.py > tests/abi/lnorm-0.1.txt

records a new one, which docs/abi.md says when to do.
"""

import re
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from commands import ROOT, run

HEADER = ROOT / "include" / "lnorm.h"
RECORDED = ROOT / "tests" / "abi" / "lnorm-0.1.txt"
COMPILER = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


def interface() -> str:
    """Return a line for each function, struct member and constant; of a machine whose pointers have 64 bits."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    functions = [" ".join(f.split()) for f in re.findall(r"^LNORM_API (.*?);", text, re.MULTILINE | re.DOTALL)]
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
        return "\n".join(sorted(functions)) + "\n" + run(Path(folder) / "abi")


@pytest.mark.skipif(COMPILER is None, reason="layouts are what a C compiler says")
@pytest.mark.skipif(sys.maxsize < 2**32, reason="recorded on machines whose pointers have 64 bits")
def test_the_interface_is_the_recorded_one() -> None:
    assert interface() == RECORDED.read_text()


if __name__ == "__main__":
    print(interface(), end="")

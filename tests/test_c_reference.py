"""The reference that Doxygen makes of lnorm.h and lnorm.hpp: without a warning, and nothing is left out."""

import contextlib
import re
import shutil
from xml.etree import ElementTree

import pytest
from commands import ROOT, run

INCLUDE = ROOT / "include"
pytestmark = pytest.mark.skipif(not shutil.which("doxygen"), reason="the reference is made by doxygen")


def text_of(element: ElementTree.Element) -> str:
    """Return what is said of a member or a class; for a comment that serves two, the same for both."""
    parts = [element.find(f"{kind}description") for kind in ("brief", "detailed")]
    return " ".join("".join(part.itertext()) for part in parts if part is not None).strip()


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Build the reference, and return what it says of each name."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "Doxyfile").write_text(
        f"@INCLUDE = {ROOT / 'docs' / 'Doxyfile'}\nOUTPUT_DIRECTORY = {folder}\nGENERATE_XML = YES\n"
    )
    with contextlib.chdir(ROOT):
        run("doxygen", folder / "Doxyfile")  # fails where there is a warning
    assert (folder / "reference" / "index.html").stat().st_size > 0
    found: dict[str, str] = {}
    for path in sorted((folder / "xml").glob("*.xml")):
        for compound in ElementTree.parse(path).iter("compounddef"):
            name = compound.findtext("compoundname") or ""
            found[name] = text_of(compound)
            for member in [*compound.iter("memberdef"), *compound.iter("enumvalue")]:
                inside = compound.get("kind") in {"struct", "class"}
                found[f"{name}::" * inside + (member.findtext("name") or "")] = text_of(member)
    return found


def names_of_the_header() -> set[str]:
    header = re.sub(r"/\*.*?\*/", "", (INCLUDE / "lnorm.h").read_text(), flags=re.DOTALL)
    problem = re.search(r"struct lnorm_problem \{(.*?)\}", header, re.DOTALL)
    assert problem
    return {
        *re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", header, re.MULTILINE),
        *re.findall(r"^typedef (?:enum|struct) (\w+)", header, re.MULTILINE),
        *re.findall(r"^typedef void \(\*(\w+)\)", header, re.MULTILINE),
        *re.findall(r"^#define (LNORM_(?!H\b)\w+)", header, re.MULTILINE),
        *re.findall(r"\b(LNORM_\w+) = \d+", header),
        *(f"lnorm_problem::{member}" for member in re.findall(r"(\w+);", problem[1])),
    }


def test_every_name_of_the_header_is_described(described: dict[str, str]) -> None:
    names = names_of_the_header()
    assert {
        "lnorm_set_isa",
        "lnorm_type",
        "lnorm_task",
        "LNORM_PROBLEM_INIT",
        "LNORM_U8",
        "lnorm_problem::eps",
    } <= names
    assert not {name for name in names if not described.get(name)}


def test_a_comment_that_serves_two_reaches_both(described: dict[str, str]) -> None:
    for name in ("lnorm_forward", "lnorm_backward", "lnorm_backward_workspace"):
        assert described[f"{name}_f64"] == described[f"{name}_f32"]
    assert "added to the variance, inside the root" in described["lnorm_forward_f64"]


def test_every_name_of_the_cpp_header_is_described(described: dict[str, str]) -> None:
    public = re.sub(r"^  private:.*?^\};", "};", (INCLUDE / "lnorm.hpp").read_text(), flags=re.MULTILINE | re.DOTALL)
    classes = r"^(?:template <[^<>]*> )?(?:class|struct) (\w+)(?: : [\w: ]+)?(?: \{)?$"
    names = {f"lnorm::{name}" for name in re.findall(classes, public, re.MULTILINE)}
    names |= {f"lnorm::norm::{name}" for name in re.findall(r"^    (?:result |norm &)(\w+)\(", public, re.MULTILINE)}
    assert {"lnorm::norm", "lnorm::norm::add_backward", "lnorm::view", "lnorm::openmp", "lnorm::f16"} <= names
    assert not {name for name in names if not described.get(name)}

"""The site of docs: it builds without a warning, its links lead somewhere, and it names all that is public."""

import inspect
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from commands import ROOT, made_once, run

import pyln

for tool in ("sphinx", "furo", "myst_parser", "breathe", "sphinxcontrib.programoutput"):
    pytest.importorskip(tool, reason=f"the site needs {tool}: pip install -r docs/requirements.txt")
bs4 = pytest.importorskip("bs4")

pytestmark = pytest.mark.skipif(not shutil.which("doxygen"), reason="the site's reference is made by doxygen")
COMMAND = re.search(r"`(sphinx-build .*) docs build/site`", (ROOT / "CONTRIBUTING.md").read_text())


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, by the command that CONTRIBUTING.md names."""
    assert COMMAND
    options = COMMAND[1].split()[1:]
    assert {"-W", "-n"} <= set(options)

    def make(folder: Path) -> None:
        run(sys.executable, "-m", "sphinx", *options, "-d", folder / "doctrees", ROOT / "docs", folder / "pages")

    return made_once(tmp_path_factory, "site", make) / "pages"


@pytest.fixture(scope="session")
def pages(site: Path) -> dict[str, "bs4.BeautifulSoup"]:
    """Return the pages by their names."""
    return {path.name: bs4.BeautifulSoup(path.read_text(), "html.parser") for path in site.glob("*.html")}


def ids(page: "bs4.BeautifulSoup") -> set[str]:
    """Return what a link may lead to in a page."""
    return {tag["id"] for tag in page.find_all(id=True)}


def test_every_page_of_docs_is_there(pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    sources = {path.stem for path in (ROOT / "docs").iterdir() if path.suffix in {".md", ".rst"}}
    assert "concepts" in sources and {f"{name}.html" for name in sources} <= pages.keys()
    index = {link["href"] for link in pages["index.html"].select(".sidebar-tree a[href]")}
    assert {f"{name}.html" for name in sources - {"index"}} <= index


def test_links_lead_to_pages_files_and_anchors(site: Path, pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    checked, broken = 0, []
    for name, page in pages.items():
        assert "</inline>" not in page.get_text()
        for tag in page.find_all(["a", "img", "link", "script"]):
            link = urlsplit(tag.get("href") or tag.get("src") or "")
            if link.scheme or link.netloc or not (link.path or link.fragment):
                continue
            checked += 1
            target = unquote(link.path) or name
            anchors = ids(pages[target]) if target in pages and link.fragment else {link.fragment}
            nameless = tag.name == "a" and tag.parent.name in {"p", "td", "li"} and not (tag.get_text() or tag.img)
            if nameless or not (site / target).is_file() or unquote(link.fragment) not in anchors:
                broken.append(f"{name}: {link.geturl()}")
    assert checked > 1000 and not broken


def test_every_public_name_of_python_is_there(pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    own = [name for name, value in vars(pyln.cs231n).items() if inspect.isfunction(value) and "layernorm" in name]
    names = {f"pyln.{name}" for name in pyln.__all__ if not inspect.ismodule(getattr(pyln, name))}
    names |= {f"pyln.cs231n.{name}" for name in own}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "pyln").rglob("*.py")}
    modules = {name.removesuffix(".__init__") for name in modules if "._" not in name.removesuffix(".__init__")}
    inits = "".join(path.read_text() for path in (ROOT / "pyln").rglob("__init__.py"))
    names |= {f"module-{name}" for name in modules - set(re.findall(r"^from (pyln\.\S+) import", inits, re.MULTILINE))}
    assert {
        "pyln.layer_norm",
        "pyln.__version__",
        "module-pyln",
        "module-pyln.cs231n",
        "pyln.cs231n.layernorm_forward",
    } <= names
    assert not names - ids(pages["python-api.html"])


def test_every_name_of_the_c_header_is_there(pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    header = re.sub(r"/\*.*?\*/", "", (ROOT / "include" / "lnorm.h").read_text(), flags=re.DOTALL)
    problem = re.search(r"struct lnorm_problem \{(.*?)\}", header, re.DOTALL)
    assert problem
    names = {
        *re.findall(r"^LNORM_API .*?\b(lnorm_\w+)\(", header, re.MULTILINE),
        *re.findall(r"^typedef (?:enum|struct) (\w+)", header, re.MULTILINE),
        *re.findall(r"^typedef void \(\*(\w+)\)", header, re.MULTILINE),
        *re.findall(r"^#define (LNORM_(?!H\b|API\b)\w+)", header, re.MULTILINE),
        *(f"lnorm_problem.{member}" for member in re.findall(r"(\w+);", problem[1])),
    }
    there = {anchor.removeprefix("c.") for anchor in ids(pages["c-reference.html"])}
    assert {"lnorm_forward_f32", "lnorm_problem.eps", "LNORM_PROBLEM_INIT"} <= names
    assert not names - there
    constants = set(re.findall(r"\b(LNORM_\w+) = \d+", header))
    assert not {name for name in constants if name not in {anchor.rpartition(".")[2] for anchor in there}}


def test_every_name_of_the_cpp_header_is_there(pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    header = (ROOT / "include" / "lnorm.hpp").read_text()
    names = set(re.findall(r"^(?:template <.*> ?)?(?:class|struct|using) ([\w:<>]+)", header, re.MULTILINE))
    assert {"norm", "view", "error", "element<double>", "default_errors"} <= names
    described = [" ".join(tag.get_text().split()) for tag in pages["cpp-reference.html"].select("dt.sig")]
    assert not {name for name in names if not any(re.search(rf"\b{re.escape(name)}(?!\w|<)", dt) for dt in described)}


def test_every_example_is_there_and_prints(pages: dict[str, "bs4.BeautifulSoup"]) -> None:
    text = pages["examples.html"].get_text()
    examples = {
        path.name for path in (ROOT / "examples").rglob("*") if path.suffix in {".py", ".c", ".rs", ".go", ".mjs"}
    }
    assert not {name for name in examples if name not in text}
    for line in ("after post-norm every token has mean 0 and variance 1", "every normalized state has mean 0"):
        assert text.count(line) == 2  # in the output and in the source


def test_the_comparison_prints_what_the_page_says() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text()
    program = re.search(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert program
    assert run(sys.executable, "-c", program[1]) == program[2]

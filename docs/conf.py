"""The site: sphinx-build -W --keep-going -n docs build/site. Pages are Markdown that can be read without it."""

import inspect
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pydoc import locate

from docutils.nodes import Text, document
from docutils.utils import get_source_line
from sphinx.addnodes import download_reference, literal_strong, pending_xref
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the docstrings of this checkout; the compiled part is that of the installed package
# The examples run with this Python, on one core: they are small, and other work shares the machine.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

project = "lnorm and pyln"
author = "The pyln maintainers"
copyright = author
release = re.search(r'LNORM_VERSION_STRING "(.*)"', (ROOT / "include" / "lnorm.h").read_text())[1]
version = release.rpartition(".")[0]

extensions = [
    "myst_parser",
    "breathe",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.programoutput",
]
highlight_language = "text"
default_role = "code"

myst_heading_anchors = 4

# Signatures as they are called; the docstrings say what each argument may be.
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False  # arguments that share a description stay together
napoleon_attr_annotations = False

breathe_default_project = "lnorm"
breathe_domain_by_extension = {"h": "c", "hpp": "cpp"}
breathe_default_members = ("members",)

# What the site has no page of: the languages' own types, in C++ C's names and what is not public, other packages.
nitpick_ignore_regex = [
    ("c:identifier", r"u?int\d+_t|size_t"),
    ("cpp:identifier", r"lnorm_\w+|LNORM_\w+|lnorm|throws|element<T>::real"),
    ("py:.*", r"(numpy|torch|jax|flax|dask|onnx|onnxruntime)(\..*)?"),
]

html_theme = "furo"
html_title = f"lnorm and pyln {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

# Pages of the repository that the site has through an `include`, and where it has what is in a folder.
PAGES = {
    "CHANGELOG.md": "changelog",
    "CODE_OF_CONDUCT.md": "conduct",
    "CONTRIBUTING.md": "contributing",
    "README.md": "index",
    "SECURITY.md": "security",
    "examples": "examples",
    "examples/c/gpt/README.md": "gpt",
    "packaging/README.md": "packaging",
}

LANGUAGES = {
    ".c": "c",
    ".f90": "fortran",
    ".go": "go",
    ".lua": "lua",
    ".mjs": "js",
    ".py": "python",
    ".rs": "rust",
    ".zig": "zig",
}


def follow_links(app: Sphinx, doctree: document) -> None:
    """Lead links that are right in the repository, in included pages too, to the site's pages or to copies of files."""
    for link in list(doctree.findall(pending_xref)):
        source, _ = get_source_line(link)
        if link["reftype"] != "myst" or source is None or link["reftarget"].startswith("#"):
            continue
        name, _, anchor = link["reftarget"].partition("#")
        suffix = ".md" if link["refdomain"] == "doc" else ""
        target = Path(os.path.relpath(Path(source).parent / (name + suffix), ROOT))
        if page := PAGES.get(str(target)) or (target.parts[0] == "docs" and target.suffix == ".md" and target.stem):
            link["refdomain"], link["reftarget"] = "doc", page
            link["reftargetid"] = link.get("reftargetid") or anchor or None
            if link.astext().endswith(f"{Path(name).stem}.md"):  # who reads the site sees titles, and not files
                heading = re.search("^# ([^:\n]+)", (ROOT / target).read_text(), re.MULTILINE)
                link.children[0].children = [Text(heading[1] if heading else page)]
        elif (ROOT / target).is_file():
            copy = download_reference(
                "", "", *link.children, refdoc=link["refdoc"], reftarget=os.path.join("..", target)
            )
            link.replace_self(copy)


def complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add what is not named there: pages to the table of contents, modules to the reference, examples to theirs."""
    if docname == "index":
        others = sorted(page for page in app.env.found_docs if not re.search(rf"^{page}$", source[0], re.MULTILINE))
        others.remove("index")
        source[0] = source[0].replace("OTHER-PAGES", "\n".join(others))
    if docname == "python-api":
        inits = "".join(path.read_text() for path in ROOT.glob("pyln/**/__init__.py"))
        exporting = re.findall(r"^from (pyln\.[\w.]+) import", inits, re.MULTILINE)
        modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("pyln/**/*.py")}
        for name in sorted({name.removesuffix(".__init__") for name in modules} - {"pyln", "pyln.cs231n", *exporting}):
            if "._" not in name:
                try:
                    import_module(name)
                    text = f".. automodule:: {name}\n   :members:"
                except ImportError as error:  # a package that it is for
                    text = f"Not described, as this page was built without what it needs: {error}"
                source[0] += f"\n{name}\n{'-' * len(name)}\n\n{text}\n"
    if docname == "examples":
        named = source[0]
        for path in sorted(path for path in (ROOT / "examples").rglob("*") if path.suffix in LANGUAGES):
            if path.name not in named:
                name, language = path.relative_to(ROOT), LANGUAGES[path.suffix]
                source[0] += f"\n## {name}\n\n```{{literalinclude}} ../{name}\n:language: {language}\n```\n"


def is_described(name: str) -> bool:
    """Tell whether the reference of Python has this name: of a module, or of what one offers as its own."""
    module, _, last = name.rpartition(".")
    owner, found = locate(module), locate(name)
    if "._" in name or not inspect.ismodule(owner):
        return False
    offered = getattr(owner, "__all__", None) or [last if getattr(found, "__module__", "") == module else ""]
    return inspect.ismodule(found) or bool(last in offered and found.__doc__)


def link_names(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make links of names in docstrings: those of the module, else pyln's; `pyln.name` is always pyln's."""
    parts = name.split(".")
    scopes = ["", *(".".join(parts[:n]) + "." for n in range(len(parts), 0, -1))]

    def link(code: re.Match[str]) -> str:
        targets = (scope + code[1] for scope in scopes)
        target = next((target for target in targets if target.startswith("pyln.") and is_described(target)), None)
        return f":py:obj:`{code[1]} <{target}>`" if target else code[0]

    lines[:] = [re.sub(r"``([\w.]+)``", link, line) for line in lines]


def part_names(app: Sphinx, doctree: document) -> None:
    """Have spaces between C's parameters that share a description: breathe takes them without."""
    for name in doctree.findall(literal_strong):
        name.children = [Text(re.sub(r",(?=\w)", ", ", name.astext()))]


def describe_headers(app: Sphinx) -> None:
    """Have Doxygen read the headers, as docs/Doxyfile says."""
    folder = Path(app.doctreedir) / "doxygen"
    folder.mkdir(parents=True, exist_ok=True)
    settings = f"@INCLUDE = docs/Doxyfile\nOUTPUT_DIRECTORY = {folder}\nGENERATE_HTML = NO\nGENERATE_XML = YES\n"
    try:
        subprocess.run(["doxygen", "-"], input=settings, cwd=ROOT, text=True, check=True)
    except FileNotFoundError as error:
        raise ExtensionError("the reference of the C API needs doxygen") from error
    for path in (folder / "xml").glob("*.xml"):  # parameters that share a description, as breathe takes them; no files
        text = re.sub(r"</parametername>\s*<parametername[^>]*>", ",", path.read_text())
        path.write_text(re.sub(r'<ref refid="lnorm_8h"[^>]*>(.*?)</ref>', r"\1", text))
    app.config.breathe_projects = {"lnorm": str(folder / "xml")}


def setup(app: Sphinx) -> None:
    """Register what the events call."""
    app.connect("builder-inited", describe_headers, priority=1)
    app.connect("autodoc-process-docstring", link_names)
    app.connect("source-read", complete)
    app.connect("doctree-read", follow_links, priority=1)
    app.connect("doctree-read", part_names)

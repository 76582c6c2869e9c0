"""The examples run and print what they promise; so do the snippets of the pages."""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run
from test_consumers import WARNINGS, needs_cmake

ROOT = Path(__file__).resolve().parent.parent
KEY_LINES = {
    "rnn": r"every normalized state has mean 0 and variance 1",
    "transformer_block": r"after post-norm every token has mean 0 and variance 1",
    "images": r"C, by axis=1 +\(3,\) +\(4, 1, 32, 48\) .* 0\.00$",
    "train": r"with layer norms .* 9\d\.\d%$",
    "torch_gpt": r"^largest difference \d\.\de-0[5-9]$",
    "torch_minilm": r"^embeddings differ by at most \d\.\de-0[78]",
    "minilm": r"A cat is asleep on the warm windowsill\. +-> The kitten naps in the sunshine\.$",
}


def test_every_example_is_here() -> None:
    assert KEY_LINES.keys() == {path.stem for path in (ROOT / "examples").glob("*.py")}


@pytest.mark.parametrize("name", KEY_LINES)
def test_example(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert re.search(KEY_LINES[name], done.stdout, re.MULTILINE), done.stdout
    assert not list(tmp_path.iterdir())


def readme_program(language: str) -> str:
    """Return the README's only block of code in the language."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    return code


def test_readme_in_python(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", readme_program("python")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert re.fullmatch(r"LayerNorm\(\(768,\), .*\) True (0\.99999\d*|1\.0\d*)\n", done.stdout), (
        done.stdout + done.stderr
    )


@needs_cmake
def test_readme_in_c(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.c").write_text(readme_program("c"))
    library = [f"-I{installed / 'include'}", f"-L{installed / 'lib'}", "-l:liblnorm.a", "-lm"]
    run("cc", *WARNINGS, "-std=c99", tmp_path / "program.c", *library, "-o", tmp_path / "program")
    rows = [[float(number) for number in line.split()] for line in run(tmp_path / "program").splitlines()]
    x, gamma, beta = np.array([[1, 2, 3, 4], [10, 10, 10, 50]]), np.array([1, 1, 2, 2]), np.array([0, 0, 0, 1])
    expected = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * gamma + beta
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_minilm_says_what_to_install() -> None:
    without_tokenizers = "import runpy, sys; sys.modules['tokenizers'] = None; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", without_tokenizers, str(ROOT / "examples" / "minilm.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "pip install tokenizers" in done.stderr


@pytest.mark.parametrize("name", ["concepts", "functions"])
def test_snippets_print_what_the_page_says(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```\n\n^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) == page.count("```python") > 0, "each snippet is followed by its output"
    namespace: dict[str, object] = {}
    with np.printoptions():  # the page sets its own
        for code, expected in snippets:
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(code, namespace)
            assert printed.getvalue() == expected

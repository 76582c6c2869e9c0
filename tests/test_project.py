"""Files that a host of projects reads: they are well formed, and agree with what they repeat."""

import re

import pytest
from commands import ROOT

yaml = pytest.importorskip("yaml", reason="reading the files needs PyYAML, which Sphinx's MyST brings along")


def test_hooks_have_the_versions_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    hooks = {
        hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    }
    (ruff,) = set(re.findall(r"\bruff==\S+", ci))
    (clang,) = set(re.findall(r"\bclang-format-(\d+) --", ci))
    assert hooks["ruff-check"]["additional_dependencies"] == hooks["ruff-format"]["additional_dependencies"] == [ruff]
    (formatter,) = hooks["clang-format"]["additional_dependencies"]
    assert formatter.startswith(f"clang-format=={clang}.")
    assert hooks.keys() == {"ruff-check", "ruff-format", "clang-format", "mypy"}


def test_the_changelog_begins_with_the_version_of_the_header() -> None:
    version = re.search(r'LNORM_VERSION_STRING "(.*)"', (ROOT / "include" / "lnorm.h").read_text())
    newest = re.search(r"^## (\S+), (?:unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version and newest and newest[1] == version[1]


def test_the_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what its schema requires
    assert citation["authors"] == [{"name": "The pyln maintainers"}] and citation["license"] == "MIT"


def test_forms_have_what_the_host_requires() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) > 1
    for path in forms:
        form = yaml.safe_load(path.read_text())
        if path.stem == "config":
            assert isinstance(form["blank_issues_enabled"], bool)
            continue
        assert form["name"] and form["description"]
        fields = [field for field in form["body"] if field["type"] != "markdown"]
        assert fields and all(field["attributes"]["label"] for field in fields)
        assert len({field["id"] for field in fields}) == len(fields)


def test_updates_look_where_the_pins_are() -> None:
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    (pip,) = [update for update in updates if update["package-ecosystem"] == "pip"]
    pinned = {path.parent for path in ROOT.glob("*/requirements.txt")} | {ROOT}
    assert {ROOT / folder.strip("/") for folder in pip["directories"]} == pinned

"""What the commands share: colours where a terminal shows them, and JSON on request."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

_CODES = {"bold": "1", "green": "32", "red": "31", "faint": "2"}


def paint(text: str, colour: str) -> str:
    """Colour text for standard output, if that is a terminal and nobody objects: no-color.org."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else f"\033[{_CODES[colour]}m{text}\033[0m"


def add_json_option(parser: argparse.ArgumentParser | argparse._ArgumentGroup, what: str) -> None:
    """`--json` prints JSON in place of text, `--json FILE` writes it beside the text."""
    parser.add_argument(
        "--json",
        nargs="?",
        const=Path("-"),
        type=Path,
        metavar="FILE",
        help=f"{what} as JSON: into FILE, or without FILE in place of the text",
    )


def json_only(path: Path | None) -> bool:
    """Whether standard output is for JSON alone."""
    return path == Path("-")


def write_json(path: Path | None, told: Any) -> None:
    """Where `--json` said, if at all."""
    if path is None:
        return
    text = json.dumps(told, indent=1) + "\n"
    if json_only(path):
        sys.stdout.write(text)
        return
    try:
        path.write_text(text)
    except OSError as error:
        raise OSError(f"--json: cannot write {path}: {error.strerror}") from None

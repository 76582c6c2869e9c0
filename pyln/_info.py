"""What ``python -m pyln info`` tells: versions, instruction sets, threads, the machine, how this pyln was built."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import pyln
from pyln import _core
from pyln._bench import machine
from pyln._terminal import paint
from pyln._threads import available_cpus


def gather() -> dict[str, Any]:
    """Everything, as JSON has it."""
    return {
        "pyln": pyln.__version__,
        "python": platform.python_version(),
        "gil": _gil(),
        "numpy": np.__version__,
        "instruction_sets": _instruction_sets(),
        "threads": pyln.get_num_threads(),
        "cpus": available_cpus(),
        "machine": {key: value for key, value in machine.describe().items() if key in ("cpu", "caches", "system")},
        "build": _build(),
        "optional": _optional(),
    }


def text(told: dict[str, Any]) -> str:
    """The same for people."""
    sets, of_machine, optional = told["instruction_sets"], told["machine"], told["optional"]
    named = [f"{paint(name, 'bold')} (in use)" if name == sets["in_use"] else name for name in sets["available"]]
    found = [f"{name} {version}" for name, version in optional.items() if version]
    missing = [name for name, version in optional.items() if not version]
    caches = ", ".join(f"{name} {size >> 10} KiB" for name, size in of_machine["caches"].items())
    lines = {
        "Versions": f"pyln {told['pyln']}, Python {told['python']}{'' if told['gil'] else ' without the GIL'}, "
        f"NumPy {told['numpy']}",
        "Instruction sets": f"{', '.join(named)}: {sets['reason']}",
        "Threads": f"{told['threads']} for one call; CPUs for this process: {told['cpus']}",
        "Machine": f"{of_machine['cpu']}; {of_machine['system']}",
        "Data caches": caches or "unknown",
        "Build": _build_text(told["build"]),
        "Optional packages": ", ".join(found) or "none",
    }
    if missing:
        lines["Not installed"] = f'{", ".join(missing)}: pip install "pyln[all]"'
    width = max(map(len, lines))
    return "\n".join(f"{paint(f'{name:{width}}', 'faint')}  {line}" for name, line in lines.items())


def _gil() -> bool:
    """Whether this interpreter holds one at the moment; an extension that needs it turns it on."""
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is None or bool(enabled())


def _instruction_sets() -> dict[str, Any]:
    named = os.environ.get("LNORM_ISA")
    try:
        in_use = pyln.isa()
    except RuntimeError as error:
        return {"in_use": None, "reason": str(error), "available": pyln.available_isas()}
    reason = f"LNORM_ISA={named} asks for it" if named else "the best that this machine has; LNORM_ISA=NAME changes it"
    return {"in_use": in_use, "reason": reason, "available": pyln.available_isas()}


def _build() -> dict[str, Any] | None:
    """What setup.py wrote down."""
    try:
        told = json.loads(Path(_core.__file__).with_name("_build.json").read_text())
    except OSError:
        return None
    return dict(told)


def _build_text(build: dict[str, Any] | None) -> str:
    if build is None:
        return "unknown"
    limited = build["limited_api"]
    serves = f"for CPython {limited} and later" if limited else f"for CPython {build['python']} without the GIL"
    return f"{build['compiler']}; {' '.join(build['flags'])}; {serves}"


def _optional() -> dict[str, str | None]:
    """The packages that the extras in pyproject.toml name, with the versions of those that are installed."""
    try:
        required = metadata.requires("pyln") or []
    except metadata.PackageNotFoundError:
        return {}
    names = (re.match(r"[\w.-]+", line) for line in required if "extra ==" in line)
    return {name: _version(name) for name in sorted({match[0] for match in names if match} - {"pyln"}, key=str.lower)}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""The program of examples/firmware runs on three boards, under qemu, with the digests of this machine."""

import shutil
import sys

import pytest
from commands import ROOT, run

pytestmark = pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("qemu-system-arm")),
    reason="the boards need arm-none-eabi-gcc (with newlib) and qemu-system-arm",
)


def costs(*builds: str) -> dict[tuple[str, str], tuple[int, int]]:
    """Return the bytes of text and stack of each call on each board; the script fails where a digest differs."""
    lines = run(sys.executable, ROOT / "scripts" / "firmware.py", *builds).splitlines()[2:]
    rows = [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in lines]
    return {(board, call): (int(text), int(stack)) for _, _, board, text, call, stack, _ in rows}


def test_small() -> None:
    """Forward alone keeps to 2 kB of text, with all that it brings along, and 512 bytes of stack, where there is an FPU."""
    got = {board: cost for (board, _), cost in costs("small").items()}
    assert got.keys() == {"Cortex-M3", "Cortex-M4F", "Cortex-M55"}
    assert all(text <= 2048 and stack <= 512 for board, (text, stack) in got.items() if board != "Cortex-M3"), got


def test_8_bits() -> None:
    assert ("Cortex-M4F", "forward i8") in costs("small-int8")


def test_kernels() -> None:
    """What is not small: the kernels of every other machine, without those for types that are not used."""
    got = costs("forward", "training")
    assert {call for _, call in got} == {"forward f32", "backward f32"}

"""Kill `normalize` at random times, again and again: its output must be the old one or the new one, never a part.

    python scripts/kill_loop.py [ROUNDS]

Half of the runs are killed by SIGKILL, of which only a hidden .part file may remain, the others by SIGINT and SIGTERM,
which leave nothing. The exit status is 1 where an output was something else, or a file was left.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

import pyln
from pyln import _normalize
from pyln.__main__ import main as command_line

OLD = b"what was there before"


def started(source: Path, target: Path) -> int:
    """Run the command in a child, which is forked for speed; its process."""
    parent = os.getpid()
    try:
        if child := os.fork():
            return child
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # "interrupted", hundreds of times
        os._exit(command_line(["normalize", str(source), str(target)]))
    finally:  # a signal may come before the command line's own handlers are there
        if os.getpid() != parent:
            os._exit(1)


def end(child: int) -> int:
    """The signal that it died of, or its exit status as a negative number."""
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def main() -> int:
    """Run the loop and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rounds", nargs="?", type=int, default=1000)
    rounds = parser.parse_args().rounds
    pyln.set_num_threads(1)  # children are forked: none but the calling thread would be there
    _normalize.BLOCK_BYTES = 1 << 14  # many blocks, and so many places to be killed at
    chance, found = random.Random(rounds), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, target = folder / "in.npy", folder / "out.npy"
        np.save(source, np.random.default_rng(0).standard_normal((4000, 256)))
        begin = time.monotonic()
        end(started(source, target))
        length, new = time.monotonic() - begin, target.read_bytes()
        for _ in tqdm(range(rounds), disable=None):
            target.write_bytes(OLD)
            number = chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM))
            child = started(source, target)
            time.sleep(chance.uniform(0, 1.2 * length))
            os.kill(child, number)
            ended = end(child)
            content = target.read_bytes()
            parts = [file for file in folder.iterdir() if file not in (source, target)]
            found[
                "no whole output"
                if content not in (OLD, new) or (ended == 0 and content != new)
                else "a part left by a signal that can be caught"
                if parts and number != signal.SIGKILL
                else f"{'old' if content == OLD else 'new'} output, {'a part' if parts else 'nothing'} left"
            ] += 1
            for file in parts:
                file.unlink()
    for what, count in sorted(found.items()):
        print(f"{count:6} {what}")
    return int(any("output, " not in what for what in found))


if __name__ == "__main__":
    sys.exit(main())

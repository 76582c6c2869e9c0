"""The command line.

``python -m pyln`` checks the installation, ``python -m pyln normalize`` works on files, and ``python -m pyln bench``
measures speed.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pyln
from pyln._bench import command as bench


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyln",
        description="Without a command: check this installation on real activations, and show its speed.",
    )
    parser.add_argument("--version", action="version", version=f"pyln {pyln.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    normalize = commands.add_parser(
        "normalize",
        help="layer-normalize an array in a .npy file of any size",
        description="Layer-normalize the array in IN.npy into OUT.npy, block by block: it need not fit in memory. "
        "OUT.npy appears only when it is complete.",
    )
    normalize.add_argument("input", metavar="IN.npy", type=Path, help="an array of float16, float32 or float64")
    normalize.add_argument("output", metavar="OUT.npy", type=Path, help="the result, of the same shape and type")
    axes = normalize.add_mutually_exclusive_group()
    axes.add_argument("--axis", type=int, metavar="A", help="normalize over axis A")
    axes.add_argument("--last", type=int, metavar="K", help="normalize over the last K axes (default 1)")
    normalize.add_argument("--weight", type=Path, metavar="W.npy", help="scale, of the normalized axes' shape")
    normalize.add_argument("--bias", type=Path, metavar="B.npy", help="shift, of the normalized axes' shape")
    normalize.add_argument("--eps", type=float, default=1e-5, metavar="E", help="inside the root (default 1e-5)")
    bench.add_parser(commands)
    return parser


def _terminate(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that a half-written file is removed."""
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = _parser().parse_args(argv)
    try:
        if args.command is None:
            from pyln._selfcheck import run

            return run()
        if args.command == "bench":
            return bench.run(args)
        from pyln._normalize import normalize_file

        signal.signal(signal.SIGTERM, _terminate)
        normalize_file(
            args.input,
            args.output,
            axis=args.axis,
            last=1 if args.last is None else args.last,
            weight=args.weight,
            bias=args.bias,
            eps=args.eps,
        )
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

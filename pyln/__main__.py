"""The command line.

``python -m pyln info`` tells what is installed, ``check`` whether it computes what it should (as does no command at
all), ``normalize`` works on files, and ``bench`` measures speed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pyln
from pyln._bench import command as bench
from pyln._terminal import add_json_option, json_only, write_json

EPILOG = """\
examples:
  python -m pyln                                      does this installation compute what it should?
  python -m pyln info                                 which version, instruction set, threads, build
  python -m pyln normalize in.npy out.npy             normalize the rows of a file
  python -m pyln bench --shape 32x768 --peers torch   speed beside PyTorch's

`python -m pyln COMMAND --help` has more of each. LNORM_ISA=scalar (or avx2, avx512, neon) chooses the instruction set,
NO_COLOR=1 turns colours off. Exit status: 0, or 1 if something is wrong, 2 if the command line is.
"""

INFO_EPILOG = """\
examples:
  python -m pyln info                   what to send with a report of a fault
  python -m pyln info --json | jq -r .instruction_sets.in_use
  LNORM_ISA=scalar python -m pyln info  the same on another instruction set

JSON: {pyln, python, gil, numpy, instruction_sets {in_use, reason, available}, threads, cpus,
       machine {cpu, caches {level: bytes}, system}, build {compiler, flags, python, limited_api, platform},
       optional {name: version, or null where it is not installed}}
"""

CHECK_EPILOG = """\
examples:
  python -m pyln check                  the same as python -m pyln
  python -m pyln check --json           for scripts; the exit status is 1 if a check fails

Errors are in u, the rounding of one float32: 2**-24. Bounds: docs/numerics.md.

JSON: {pyln, passed, isa, threads, checks: [{what, passed, error and allowed (in u, or null)}],
       speed {numpy, pyln} in seconds of one call}
"""

NORMALIZE_EPILOG = """\
examples:
  python -m pyln normalize in.npy out.npy                        over the last axis
  python -m pyln normalize in.npy out.npy --weight w.npy --bias b.npy --eps 1e-6
  python -m pyln normalize images.npy out.npy --axis 1           (N, C, H, W) over its channels
  python -m pyln normalize in.npy in.npy --last 2                over the last two axes, in place

A run that fails or is interrupted leaves OUT.npy as it was. One that is killed may leave a file .OUT.npy.*.part
beside it, which can be deleted.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pyln",
        description="Layer normalization of arrays. Without a command: check this installation on real activations,\n"
        "and show its speed.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pyln {pyln.__version__}")
    parser.set_defaults(json=None)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    info = commands.add_parser(
        "info",
        help="show versions, instruction sets, threads, build flags, optional packages",
        description="Show what this pyln is, how it was built, and what it uses of this machine.",
        epilog=INFO_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_json_option(info, "all of it")
    check = commands.add_parser(
        "check",
        help="check the results on real activations, and show the speed beside NumPy's",
        description="Normalize the input of five layer norms of a transformer, forward and backward: errors against\n"
        "float64, the same bits on each instruction set of this machine; and the time beside NumPy's.",
        epilog=CHECK_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_json_option(check, "the results")
    normalize = commands.add_parser(
        "normalize",
        help="layer-normalize an array in a .npy file of any size",
        description="Layer-normalize the array in IN.npy into OUT.npy, block by block: it need not fit in memory.\n"
        "OUT.npy appears only when it is complete.",
        epilog=NORMALIZE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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


def _info(args: argparse.Namespace) -> int:
    from pyln import _info as info

    told = info.gather()
    if not json_only(args.json):
        print(info.text(told))
    write_json(args.json, told)
    return 0


def _check(args: argparse.Namespace) -> int:
    from pyln import _selfcheck

    told = _selfcheck.run((lambda line: None) if json_only(args.json) else print)
    write_json(args.json, told)
    return 0 if told["passed"] else 1


def _normalize(args: argparse.Namespace) -> int:
    from pyln._normalize import normalize_file

    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP, and so it stays
            signal.signal(number, _terminate)
    normalize_file(
        args.input,
        args.output,
        axis=args.axis,
        last=1 if args.last is None else args.last,
        weight=args.weight,
        bias=args.bias,
        eps=args.eps,
    )
    return 0


COMMANDS = {None: _check, "info": _info, "check": _check, "normalize": _normalize, "bench": bench.run}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    args = _parser().parse_args(argv)
    try:
        status = COMMANDS[args.command](args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # as in `| head`: nobody reads on, and Python's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ImportError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"error: {str(error) or 'out of memory'}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The command ``python -m pyln bench``: its options, and what it does with them."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyln._terminal import add_json_option, json_only, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyln._bench.peers import Peer

DESCRIPTION = """\
Measure this machine, lnorm, and the other libraries that are installed, in one run, taking turns.

A time is given as a ratio to the limit: how many times as long as a loop that does nothing but read and write the same
bytes with the same instruction set. Forward's limit copies the tensor; backward's adds two tensors into a third. So
1.00 is as fast as memory. lnorm is the C library, called from a loop in C; pyln is the same as Python calls it. 1.13±4
means a median of 1.13, and that half of the distance between the quartiles is 4 % of it.
"""

EPILOG = """\
examples:
  python -m pyln bench                              the eight usual shapes, about a minute and a half
  python -m pyln bench --shape 32x768 --peers torch,onednn
  python -m pyln bench --set full --json all.json --plot pictures/
  python -m pyln bench --operations                 what is fused, 16-bit, quantized, channels-first ...
  python -m pyln bench --from all.json --plot size.svg          draw again, without measuring
  python -m pyln bench --peers none --json | jq .summary        the tables go to standard error

peers: plain (C loops at -O3), numpy, and those of onednn, torch, onnxruntime, openvino, jax that are installed;
`pip install "pyln[bench]"` installs them all. Each result is compared with pyln's before it is timed.

JSON: {format, pyln, date, machine, versions, settings, cases, threads, summary}
  cases    one per shape and direction: {direction, rows, cols, type, bytes (of one tensor), skipped {name: reason},
           times: [{name, kind, isa, calls (in a sample), rounds, seconds [q1, median, q3] of one call,
           ratio [q1, median, q3] to the limit}]}; kind is limit, lnorm, python, plain or peer
  threads  the same, where each of times has threads too
  summary  {times_lnorm {direction: {name: geometric mean of its time over lnorm's}},
           slower_than_onednn: [[direction, rows, cols, lnorm's time over oneDNN's]]}

Close other programs first. On a laptop, plug it in; on a shared machine, mind the spread.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's options."""
    parser = commands.add_parser(
        "bench",
        help="measure speed beside the limit of memory and beside other libraries",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = parser.add_argument_group("what is measured")
    what.add_argument(
        "--set", choices=("small", "full"), default="small", help="eight shapes (default), or about fifty"
    )
    what.add_argument(
        "--shape",
        type=_shape,
        action="append",
        metavar="ROWSxCOLS",
        help="this shape, no set; may be repeated",
    )
    what.add_argument(
        "--operations",
        action="store_true",
        help="no shapes: each operation of the library once, beside PyTorch and the separate steps that it replaces",
    )
    what.add_argument("--direction", choices=("forward", "backward", "both"), default="both")
    what.add_argument("--type", choices=("f32", "f64"), default="f32", help="element type (default f32)")
    what.add_argument(
        "--layout",
        choices=("dense", "strided"),
        default="dense",
        help="strided: each row is the left half of one twice as long",
    )
    what.add_argument("--no-affine", action="store_true", help="without gamma and beta")
    what.add_argument(
        "--offset",
        type=_offset,
        default=0,
        metavar="BYTES",
        help="begin each array so far after a multiple of 64 (default 0; NumPy's own large arrays have 16)",
    )
    what.add_argument("--isa", type=_names, metavar="NAMES", help="lnorm on these instruction sets (default: all)")
    what.add_argument("--peers", type=_names, metavar="NAMES", help="these others, or none (default: all installed)")
    what.add_argument(
        "--threads", type=_count, metavar="N", help="also pyln with up to N threads, beside a loop in as many"
    )
    how = parser.add_argument_group("how long, and where to")
    how.add_argument("--seconds", type=float, metavar="S", help="time to spend (default 80; for --set full 500)")
    add_json_option(how, "what was measured")
    how.add_argument(
        "--plot",
        type=Path,
        metavar="PATH",
        help="draw it, with matplotlib: into a file (.svg, .png), or one file per picture into a folder",
    )
    how.add_argument("--from", type=Path, dest="source", metavar="FILE", help="print and draw this; do not measure")


def run(args: argparse.Namespace) -> int:
    """Do what the command line says."""
    with redirect_stdout(sys.stderr if json_only(args.json) else sys.stdout):
        told = _run_operations(args) if args.operations else _run_shapes(args)
    write_json(args.json, told)
    return 0


def _run_shapes(args: argparse.Namespace) -> dict[str, Any]:
    from pyln._bench import report

    measured = _read(args.source) if args.source else None
    if args.plot:  # before the long part, in case it cannot be imported
        try:
            from pyln._bench import plot
        except ImportError:
            raise ImportError('--plot: needs matplotlib, which is not installed: pip install "pyln[bench]"') from None
        plot.check(args.plot)
    if measured is None:
        measured = _measure(args)
    else:
        _print_again(measured)
    print(report.foot(measured))
    if args.plot:
        for path in plot.draw(measured, args.plot):
            print(f"wrote {path}")
    return measured


def _run_operations(args: argparse.Namespace) -> dict[str, Any]:
    if args.plot or args.source or args.shape:
        raise ValueError("--operations: goes with --seconds and --json only")
    from pyln._bench import operations
    from pyln._bench.peers import one_thread_each

    one_thread_each()
    return {"format": 1, "operations": operations.run(args.seconds or 80)}


def _read(path: Path) -> dict[str, Any]:
    try:
        measured = json.loads(path.read_text())
    except OSError as error:
        raise OSError(f"--from: cannot read {path}: {error.strerror}") from None
    except ValueError:
        measured = None
    if not isinstance(measured, dict) or measured.get("format") != 1 or "cases" not in measured:
        raise ValueError(f"--from: expected the JSON that --json writes, with format 1 and cases, got {path}")
    return measured


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    from pyln._bench import cases, machine, report
    from pyln._bench import run as measuring

    isas, peers = _isas(args.isa), _peers(args.peers)
    settings = cases.Settings(args.type, args.layout, not args.no_affine, args.offset)
    full = args.set == "full" and not args.shape
    shapes = args.shape or cases.SMALL
    if full:
        shapes = cases.full(settings.dtype.itemsize, machine.last_cache(machine.describe()))
    names = [*(f"lnorm {isa}" for isa in isas), "pyln", *(peer.title for peer in peers.values())]
    table = report.Table(names, lambda line: print(line, flush=True))
    return measuring.run(
        shapes,
        settings,
        isas,
        peers,
        cases.DIRECTIONS if args.direction == "both" else (args.direction,),
        seconds=args.seconds or (500 if full else 80),
        threaded=[shape for shape in args.shape or cases.SMALL if shape[0] * shape[1] >= cases.THREADED_ELEMENTS],
        threads=args.threads or (machine.describe()["cpus"] if full else 1),
        begin=lambda begun: print(report.head(begun), flush=True),
        progress=table.add,
    )


def _print_again(measured: dict[str, Any]) -> None:
    from pyln._bench import report
    from pyln._bench.run import summary

    measured.setdefault("summary", summary(measured["cases"]))
    names = {timed["name"]: None for case in measured["cases"] for timed in case["times"] if timed["kind"] != "limit"}
    print(report.head(measured))
    table = report.Table(list(names))
    for case in (*measured["cases"], *measured["threads"]):
        table.add(case)


def _isas(names: list[str] | None) -> list[str]:
    import pyln

    available = pyln.available_isas()
    for name in names or []:
        if name not in available:
            raise ValueError(f"--isa: {name!r} is not an instruction set of this machine: {', '.join(available)}")
    return [isa for isa in available if names is None or isa in names]


def _peers(names: list[str] | None) -> Mapping[str, Peer]:
    from pyln._bench.peers import KNOWN, one_thread_each

    for name in names or []:
        if name not in KNOWN and name != "none":
            raise ValueError(f"--peers: {name!r} is not one of {', '.join(KNOWN)}, none")
        if name != "none" and not KNOWN[name].installed():
            raise ValueError(f"--peers: {name} is not installed: pip install {KNOWN[name].distribution}")
    one_thread_each()
    absent = [name for name, known in KNOWN.items() if names is None and not known.installed()]
    if absent:
        print(f'not installed: {", ".join(absent)} (pip install "pyln[bench]")', file=sys.stderr)
    wanted = [name for name in KNOWN if name not in absent and (names is None or name in names)]
    return {name: KNOWN[name].open() for name in wanted}


def _shape(text: str) -> tuple[int, int]:
    rows, x, cols = text.partition("x")
    if not (x and rows.isdecimal() and cols.isdecimal() and int(rows) > 0 and int(cols) > 0):
        raise argparse.ArgumentTypeError(f"expected ROWSxCOLS, such as 32x768, got {text!r}")
    return int(rows), int(cols)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of threads, at least 1, got {text!r}")
    return int(text)


def _offset(text: str) -> int:
    if not text.isdecimal() or int(text) % 8:
        raise argparse.ArgumentTypeError(f"expected a multiple of 8, the alignment of the elements, got {text!r}")
    return int(text)

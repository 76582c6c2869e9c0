"""Measures a list of shapes; what it returns is what ``--json`` writes."""

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise, product
from typing import Any

import numpy as np

import pyln
from pyln._bench import _loops, machine
from pyln._bench.cases import DIRECTIONS, EPS, Data, Direction, Settings, Shape
from pyln._bench.peers import Call, Declined, Peer
from pyln._bench.timing import Quartiles, Subject, calls_of, keep_freed_memory, measure, pinned, quartiles

# Of the largest expected value: peers differ from pyln in their roundings only.
TOLERANCE = {"f32": 2e-3, "f64": 1e-9}

Callback = Callable[[dict[str, Any]], None]


class WrongResult(RuntimeError):
    """Something was about to be timed that does not compute layer normalization."""


def run(
    shapes: Sequence[Shape],
    settings: Settings,
    isas: Sequence[str],
    peers: Mapping[str, Peer],
    directions: Sequence[Direction] = DIRECTIONS,
    seconds: float = 80.0,
    threads: int = 1,
    threaded: Sequence[Shape] = (),
    begin: Callback = lambda report: None,
    progress: Callback = lambda case: None,
) -> dict[str, Any]:
    """Measure the shapes in one thread, and those that are `threaded` in up to so many.

    `begin` gets the report without its cases, `progress` each case as it is ready. The first of
    `isas`, which are in order, is the one whose limit measures the peers.
    """
    report: dict[str, Any] = {
        "format": 1,
        "pyln": pyln.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "versions": {
            "Python": platform.python_version(),
            **{peer.title: peer.version for peer in peers.values() if peer.version},
        },
        "settings": asdict(settings),
        "cases": [],
        "threads": [],
    }
    keep_freed_memory()
    begin(report)
    if threads == 1:
        threaded = ()
    end = time.perf_counter() + seconds
    left = (len(shapes) + len(threaded)) * len(directions)

    def share() -> float:
        nonlocal left
        left -= 1
        return max(0.0, end - time.perf_counter()) / (left + 1)

    with _num_threads(1), pinned() as cpu:
        report["settings"]["pinned"] = cpu
        for direction, shape in product(directions, shapes):
            case = _one_thread(Data(shape, settings), direction, isas, peers, share())
            report["cases"].append(case)
            progress(case)
    for direction, shape in product(directions, threaded):
        case = _with_threads(Data(shape, settings), direction, isas[0], _thread_counts(threads), share())
        report["threads"].append(case)
        progress(case)
    report["summary"] = summary(report["cases"])
    return report


def summary(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Geometric means of each one's time over that of lnorm on its best instruction set, and where oneDNN is faster."""
    means: dict[str, dict[str, float]] = {}
    slower = []
    for direction in DIRECTIONS:
        logarithms: dict[str, list[float]] = {}
        for case in cases:
            if case["direction"] != direction:
                continue
            lnorm = next(timed for timed in case["times"] if timed["kind"] == "lnorm")["seconds"][1]
            for timed in case["times"]:
                if timed["kind"] not in ("limit", "lnorm"):
                    logarithms.setdefault(timed["name"], []).append(math.log(timed["seconds"][1] / lnorm))
                if timed["name"] == "oneDNN" and timed["seconds"][1] < lnorm:
                    slower.append([direction, case["rows"], case["cols"], lnorm / timed["seconds"][1]])
        if logarithms:
            means[direction] = {name: math.exp(sum(logs) / len(logs)) for name, logs in logarithms.items()}
    return {"times_lnorm": means, "slower_than_onednn": slower}


def _one_thread(
    data: Data, direction: Direction, isas: Sequence[str], peers: Mapping[str, Peer], seconds: float
) -> dict[str, Any]:
    repeat_limit = _loops.repeat_limit
    limits = {
        isa: Subject(f"limit {isa}", "limit", partial(repeat_limit, data.operands, direction, isa), isa) for isa in isas
    }
    subjects = list(limits.values())
    for isa in isas:
        repeat = partial(_loops.repeat_lnorm, data.operands, direction, isa)
        _check(data, direction, f"lnorm {isa}", Call(repeat, lambda: data.outputs(direction)))
        subjects.append(Subject(f"lnorm {isa}", "lnorm", repeat, isa, limits[isa]))
    best = limits[isas[0]]

    def mine() -> Call:
        return Call(calls_of(_python_call(data, direction)), lambda: data.outputs(direction))

    calls: list[tuple[str, str, Callable[[], Call]]] = [("pyln", "python", mine)]
    calls += [
        (peer.title, "plain" if name == "plain" else "peer", partial(peer.call, data, direction))
        for name, peer in peers.items()
    ]
    skipped = {}
    for name, kind, prepare in calls:
        try:
            call = prepare()
        except Declined as why:
            skipped[name] = str(why)
            continue
        _check(data, direction, name, call)
        subjects.append(Subject(name, kind, call.repeat, limit=best))
    with pyln.use_isa(isas[0]):
        rounds = measure(subjects, seconds)
    return {**_shape(data, direction), "skipped": skipped, "times": [_times(subject, rounds) for subject in subjects]}


def _python_call(data: Data, direction: Direction) -> Callable[[], object]:
    """What Python calls, with outputs given."""
    if direction == "forward":
        return partial(pyln.layer_norm, data.x, data.cols, data.gamma, data.beta, EPS, out=data.y)
    mean, rstd = data.mean.reshape(-1, 1), data.rstd.reshape(-1, 1)
    outputs = (data.dx, data.dgamma, data.dbeta)
    return lambda: pyln.layer_norm_backward(
        data.dy, data.x, data.cols, mean, rstd, data.gamma, data.beta, data.wanted, out=outputs
    )


def _check(data: Data, direction: Direction, name: str, call: Call) -> None:
    """Nobody is timed who does something else, or who leaves the outputs as they were."""
    data.spoil(direction)
    call.repeat(1)
    results, expected = call.results(), data.expected(direction)
    for result, wanted in zip(results, expected, strict=True):
        error = np.abs(result.reshape(wanted.shape) - wanted).max()
        if not error <= TOLERANCE[data.settings.type] * np.abs(wanted).max():
            raise WrongResult(f"{name}, {direction}, {data.rows} x {data.cols}: off by {error:.3g}")


@contextmanager
def _num_threads(count: int) -> Iterator[None]:
    """Whatever is set inside a ``with`` block, pyln has its number of threads back at the end."""
    before = pyln.get_num_threads()
    pyln.set_num_threads(count)
    try:
        yield
    finally:
        pyln.set_num_threads(before)


def _shape(data: Data, direction: Direction) -> dict[str, Any]:
    return {
        "direction": direction,
        "rows": data.rows,
        "cols": data.cols,
        "type": data.settings.type,
        "bytes": data.bytes,
    }


def _times(subject: Subject, rounds: int) -> dict[str, Any]:
    limit = subject if subject.limit is None else subject.limit
    ratio = quartiles([own / its for own, its in zip(subject.seconds, limit.seconds, strict=True)])
    return {
        "name": subject.name,
        "kind": subject.kind,
        "isa": subject.isa,
        "calls": subject.calls,
        "rounds": rounds,
        "seconds": _digits(quartiles(subject.seconds), 6),
        "ratio": _digits(ratio, 5),
    }


def _digits(values: Quartiles, digits: int) -> list[float]:
    return [float(f"{value:.{digits}g}") for value in values]


def _thread_counts(most: int) -> list[int]:
    """1, 2, 4 ... and the last."""
    return [*(1 << i for i in range((most - 1).bit_length())), most]


def _with_threads(data: Data, direction: Direction, isa: str, counts: Sequence[int], seconds: float) -> dict[str, Any]:
    """The package beside the limit's loop in as many threads, each with a part of the tensors."""
    function = _python_call(data, direction)
    limits, mine, pools = {}, {}, []
    for count in counts:
        parts = _parts(data, count)
        pool = ThreadPoolExecutor(count)
        pools.append(pool)

        def limit(times: int, parts: Sequence[_loops.Operands] = parts, pool: ThreadPoolExecutor = pool) -> None:
            for done in [pool.submit(_loops.repeat_limit, part, direction, isa, times) for part in parts]:
                done.result()

        limits[count] = Subject("limit", "limit", limit, isa)
        set_threads = partial(pyln.set_num_threads, count)

        def warm(set_threads: Callable[[], None] = set_threads) -> None:
            set_threads()
            function()  # starts the threads

        mine[count] = Subject("pyln", "python", calls_of(function), isa, limits[count], prepare=warm)
    try:
        with pyln.use_isa(isa), _num_threads(counts[0]):
            rounds = measure([*limits.values(), *mine.values()], seconds)
    finally:
        for pool in pools:
            pool.shutdown()
    times = [
        {**_times(subject, rounds), "threads": count} for group in (limits, mine) for count, subject in group.items()
    ]
    return {**_shape(data, direction), "times": times}


def _parts(data: Data, count: int) -> list[_loops.Operands]:
    """The tensors, cut into about equal parts: between rows if there are gaps, else anywhere."""
    tensors = {"x": data.x, "dy": data.dy, "y": data.y, "dx": data.dx}
    others = {"mean": data.mean, "rstd": data.rstd, "workspace": np.empty(0, data.dtype)}
    absent: dict[str, Any] = dict.fromkeys(("gamma", "beta", "dgamma", "dbeta"))
    if data.dense:
        tensors = {name: tensor.reshape(-1, 1) for name, tensor in tensors.items()}
    length = len(tensors["x"])
    cuts = [length * i // count // 16 * 16 if data.dense else length * i // count for i in range(count)] + [length]
    parts = []
    for begin, end in pairwise(cuts):
        part = {name: tensor[begin:end] for name, tensor in tensors.items()}
        rows, cols = (1, end - begin) if data.dense else (end - begin, data.cols)
        stride = cols if data.dense else data.x.strides[0] // data.dtype.itemsize
        parts.append(_loops.Operands(data.settings.type, rows, cols, stride, EPS, **part, **others, **absent))
    return parts

"""Errors of layer normalization beside other libraries', all in float32: tables, figures as JSON, and pictures.

    pip install torch onnxruntime onnx jax flax onednn-cpu-gomp matplotlib
    python bench/accuracy.py --json accuracy.json --plot docs/img
    python bench/accuracy.py --from accuracy.json --plot docs/img

Over the offset of rows (mean / standard deviation), over the number D of their elements, and of dx over how much the
gradient follows y. Rows are standard normal numbers, as are gamma and beta, but for the last, where these are 1 and 0;
each library computes backward from its own statistics. The error is in u = 2**-24: that of y relative to
max(abs(xhat), 1) * abs(gamma) + abs(beta), that of dx to the largest abs(dx) of the row; the exact result is that of
tests/numerics/reference.py. A library that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import pyln
from pyln._bench.cases import EPS, Array, Data, Direction, Settings
from pyln._bench.peers import KNOWN, Call, Declined, Peer, one_thread_each
from pyln._bench.timing import calls_of

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "numerics"))
import reference
import rows

U = 2.0**-24
COLS = 768
ROWS = 256
SEED = 2016

OFFSETS = [0.0, *(10.0**e for e in range(8))]
ALL_COLS = [2**e for e in range(1, 21)]  # with one column all are exact
CORRELATIONS = [0, 0.5, 0.9, 0.99, 0.999, 0.9999]


class Sweep(NamedTuple):
    """What is measured over what; dx relative to rstd * max abs(g - mean(g)) of the row with ``terms``."""

    x: str
    direction: Direction
    title: str
    bound: float | None
    terms: bool = False


SWEEPS = {
    "offset, y": Sweep("mean / standard deviation", "forward", "y, D = 768", 4),
    "offset, dx": Sweep("mean / standard deviation", "backward", "dx, D = 768", 8),
    "columns, y, offset 0": Sweep("D", "forward", "y, mean 0", 4),
    "columns, y, offset 100": Sweep("D", "forward", "y, mean / standard deviation 100", 4),
    "correlation, dx": Sweep("1 - correlation of dy with y", "backward", "dx, relative to max |dx| of the row", None),
    "correlation, dx by its terms": Sweep(
        "1 - correlation of dy with y", "backward", "dx, relative to rstd * max |g - mean(g)|", 8, True
    ),
}

Curves = dict[str, list[tuple[float, float]]]


# ---- Subjects ----


class Pyln:
    """As its users call it, forward and then backward."""

    title, version = "pyln", pyln.__version__

    def call(self, data: Data, direction: Direction) -> Call:
        last: tuple[Array, ...] = ()

        def compute() -> None:
            nonlocal last
            y, mean, rstd = pyln.layer_norm(data.x, data.cols, data.gamma, data.beta, EPS, return_stats=True)
            if direction == "forward":
                last = (y,)
            else:
                last = pyln.layer_norm_backward(data.dy, data.x, data.cols, mean, rstd, data.gamma)

        return Call(calls_of(compute), lambda: last)


class Flax:
    """flax.linen.LayerNorm, compiled; its fast variance, mean(x * x) - mean(x) ** 2, is its default."""

    def __init__(self, fast_variance: bool) -> None:
        self.jax: Any = import_module("jax")
        linen: Any = import_module("flax.linen")
        self.title = f"Flax ({'' if fast_variance else 'no '}fast variance)"
        self.version = version("flax")
        self.layer = linen.LayerNorm(epsilon=EPS, use_fast_variance=fast_variance)

    def call(self, data: Data, direction: Direction) -> Call:
        jax, apply = self.jax, self.layer.apply
        x, dy, gamma, beta = (jax.numpy.asarray(a) for a in (data.x, data.dy, data.gamma, data.beta))
        parameters = {"params": {"scale": gamma, "bias": beta}}
        last: Any = None

        def compute() -> None:
            nonlocal last
            if direction == "forward":
                last = jax.jit(apply)(parameters, x)
            else:
                last = jax.jit(lambda x, dy: jax.vjp(lambda x: apply(parameters, x), x)[1](dy))(x, dy)

        return Call(calls_of(compute), lambda: [np.asarray(a) for a in jax.tree.leaves(last)])


# From PyPI, by the names of `python -m pyln bench` and Flax's; pyln first, so that its curve has the strongest colour.
SUBJECTS: dict[str, Callable[[], Peer]] = {
    "pyln": Pyln,
    "numpy": KNOWN["numpy"].open,
    "torch": KNOWN["torch"].open,
    "onnxruntime": KNOWN["onnxruntime"].open,
    "jax": KNOWN["jax"].open,
    "flax": lambda: Flax(False),
    "flax-fast": lambda: Flax(True),
    "onednn": KNOWN["onednn"].open,
}


def installed() -> Iterator[Peer]:
    """Open each subject, and name those that are not there."""
    for name, open_subject in SUBJECTS.items():
        try:
            subject = open_subject()
        except (ImportError, PackageNotFoundError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            yield subject


# ---- Measuring ----


def made(shape: tuple[int, int], offset: float = 0, correlation: float | None = None) -> Data:
    """Arrays of one shape, the same for all subjects."""
    rng = np.random.default_rng(SEED)
    data = Data(shape, Settings())
    data.x[:] = rng.standard_normal(shape) + offset
    data.dy[:] = rng.standard_normal(shape)
    for parameter in (data.gamma, data.beta):
        assert parameter is not None
        parameter[:] = rng.standard_normal(data.cols)
    if correlation is not None:
        data.gamma[:], data.beta[:] = 1, 0
        data.dy[:] = rows.correlated(rng, data.x, correlation)
    # NumPy's backward takes these.
    data.mean[:] = data.x.mean(axis=1)
    data.rstd[:] = 1 / np.sqrt(data.x.var(axis=1) + np.float32(EPS))
    return data


def error_of(subject: Peer, data: Data, direction: Direction, terms: bool) -> float:
    """The largest error of y or dx, in u; NaN if one result is."""
    call = subject.call(data, direction)
    data.spoil(direction)
    call.repeat(1)
    got = np.asarray(call.results()[0])
    forward = reference.forward(data.x, data.gamma, data.beta, EPS)
    if direction == "forward":
        relative_to = np.maximum(abs(forward.xhat), 1) * abs(data.gamma) + abs(data.beta)
        return float((abs(got - forward.y) / relative_to).max() / U)
    exact = reference.backward(data.dy, data.x, data.gamma, EPS, of=forward).dx
    largest = forward.rstd * reference.centred(data.dy * data.gamma.astype(reference.LONG))[1] if terms else exact
    return float((abs(got - exact) / abs(largest).max(axis=1, keepdims=True)).max() / U)


def points(sweep: str) -> Iterator[tuple[float, Data]]:
    if sweep.startswith("offset"):
        yield from ((offset, made((ROWS, COLS), offset)) for offset in OFFSETS)
    elif sweep.startswith("columns"):
        offset = float(sweep.rpartition(" ")[2])
        yield from ((cols, made((min(ROWS, max(1, (1 << 20) // cols)), cols), offset)) for cols in ALL_COLS)
    else:
        yield from ((1 - c, made((ROWS, COLS), 0, c)) for c in CORRELATIONS)


def measure(subjects: Iterable[Peer]) -> dict[str, Any]:
    """Versions, and for each sweep the curve of each subject."""
    subjects = list(subjects)
    sweeps: dict[str, Curves] = {}
    for sweep, what in SWEEPS.items():
        curves = sweeps[sweep] = {subject.title: [] for subject in subjects}
        for at, data in points(sweep):
            for subject in subjects:
                try:
                    with np.errstate(all="ignore"):
                        curves[subject.title].append((at, error_of(subject, data, what.direction, what.terms)))
                except Declined:
                    continue
    return {"versions": {subject.title: subject.version for subject in subjects}, "sweeps": sweeps}


def print_tables(report: dict[str, Any]) -> None:
    print(", ".join(f"{title} {number}" for title, number in report["versions"].items()))
    for sweep, curves in report["sweeps"].items():
        titles = [title for title, curve in curves.items() if curve]
        print(f"\n{sweep}, in u\n\n| {SWEEPS[sweep].x} | {' | '.join(titles)} |\n|{'---|' * (len(titles) + 1)}")
        for row in zip(*(curves[title] for title in titles), strict=True):
            print(f"| {row[0][0]:.6g} | {' | '.join(f'{error:.2g}' for _, error in row)} |")


# ---- Drawing ----


def draw(report: dict[str, Any], folder: Path) -> None:
    """One picture for each variable: offset, columns, correlation."""
    folder.mkdir(parents=True, exist_ok=True)
    for variable in dict.fromkeys(sweep.partition(",")[0] for sweep in report["sweeps"]):
        own = {sweep: curves for sweep, curves in report["sweeps"].items() if sweep.startswith(variable)}
        draw_one(own, report["versions"], folder / f"accuracy-{variable.replace('columns', 'cols')}.svg")


def draw_one(sweeps: dict[str, Curves], versions: dict[str, str], path: Path) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    from pyln._bench.plot import COLOURS, MARKERS

    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "pyln", "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(5.2 * len(sweeps) + 2.6, 4.4), layout="constrained", facecolor="white")
        panels = figure.subplots(1, len(sweeps), squeeze=False, sharey=True)[0]
        finite = [e for curves in sweeps.values() for c in curves.values() for _, e in c if np.isfinite(e) and e > 0]
        top = 10 * max(finite)
        for panel, (sweep, curves) in zip(panels, sweeps.items(), strict=True):
            what = SWEEPS[sweep]
            for i, (subject, curve) in enumerate(curves.items()):
                if not curve:
                    continue
                x, y = (np.array(a, float) for a in zip(*curve, strict=True))
                shown = np.where(np.isfinite(y), y, top)
                style = {"color": COLOURS[i], "marker": MARKERS[i], "markersize": 4}
                width, order = (2.4, 3) if i == 0 else (1.2, 2)
                panel.plot(x, shown, label=subject, linewidth=width, zorder=order, **style)
                for at in x[~np.isfinite(y)]:
                    panel.annotate(
                        "NaN", (at, top), color=COLOURS[i], ha="center", xytext=(0, 4), textcoords="offset points"
                    )
            if what.bound:
                panel.axhline(what.bound, color="black", linewidth=1, linestyle="--", label="pyln's bound")
            scale_axes(panel, sweep)
            panel.set_title(f"error of {what.title}, in u")
            panel.set_xlabel(what.x)
        named = {n: h for panel in panels for h, n in zip(*panel.get_legend_handles_labels(), strict=True)}
        names = [" ".join([name, *versions.get(name, "").split("+")[:1]]) for name in named]
        panels[-1].legend(named.values(), names, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
        figure.savefig(path, metadata={"Date": None})
    print(path)


def scale_axes(panel: Any, sweep: str) -> None:
    panel.set_yscale("log")
    if sweep.startswith("offset"):
        panel.set_xscale("symlog", linthresh=1, linscale=0.5)
        panel.set_xlim(-0.2, 2e7)
        panel.set_xticks([0, 1, 1e2, 1e4, 1e6])
    elif sweep.startswith("columns"):
        panel.set_xscale("log", base=2)
        panel.set_xticks(ALL_COLS[3::4])
    else:
        panel.set_xscale("log")
        panel.invert_xaxis()


def main() -> None:
    """Measure, or read what was measured; print tables, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path, help="figures that --json wrote, in place of measuring")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--plot", type=Path, help="folder for the pictures; needs matplotlib")
    given = parser.parse_args()
    if given.source:
        report = json.loads(given.source.read_text())
    else:
        one_thread_each()
        report = measure(installed())
    print_tables(report)
    if given.json:
        given.json.write_text(json.dumps(report, indent=1))
    if given.plot:
        draw(report, given.plot)


if __name__ == "__main__":
    main()

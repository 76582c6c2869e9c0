"""Pictures of what was measured: ratios to the limit over the tensor's size and over D, and gains by threads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

USUAL_COLS = 768
MEDIUM_BYTES = 4 << 20

# Okabe and Ito's colours, which colour-blind eyes can tell apart; lnorm's is the strongest.
COLOURS = ("#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#0072b2", "#7a5195", "#999999", "#8c510a", "#222222", "#d55e00")
MARKERS = "osD^vP*Xhp"

Case = dict[str, Any]


def check(path: Path) -> None:
    """Refuse a file that matplotlib cannot write, before anything is measured."""
    supported = Figure().canvas.get_supported_filetypes()
    if path.suffix and not path.is_dir() and path.suffix[1:] not in supported:
        raise ValueError(f"--plot: expected a folder, or a file that ends in .svg or .png, got {path}")


def draw(report: dict[str, Any], path: Path) -> list[Path]:
    """Draw all pictures below each other into a file, or each into one of its own in a folder."""
    pictures = dict(_pictures(report))
    if not pictures:
        raise ValueError("--plot: nothing to draw: a curve needs two sizes of one D, two Ds, or threads")
    if path.suffix and not path.is_dir():
        _save(list(pictures.values()), path, report)
        return [path]
    path.mkdir(parents=True, exist_ok=True)
    written = []
    for name, picture in pictures.items():
        written.append(path / f"{name}.svg")
        _save([picture], written[-1], report)
    return written


Picture = Callable[[Sequence[Axes]], None]


def _pictures(report: dict[str, Any]) -> Iterator[tuple[str, Picture]]:
    cases = report["cases"]
    by_size = _of_one_cols(cases)
    if len({case["rows"] for case in by_size}) > 1:
        cols = by_size[0]["cols"]
        yield "size", lambda axes: _ratios(axes, by_size, "bytes", f"bytes of the tensor, rows of {cols}", _bytes)
    by_cols = _of_medium_size(cases)
    if len({case["cols"] for case in by_cols}) > 1:
        about = f"D, in tensors of about {_bytes(MEDIUM_BYTES)}"
        yield "cols", lambda axes: _ratios(axes, by_cols, "cols", about, "{:.0f}".format)
    if report["threads"]:
        yield "threads", lambda axes: _gains(axes, report["threads"])


def _save(pictures: Sequence[Picture], path: Path, report: dict[str, Any]) -> None:
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "pyln", "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(11, 4.2 * len(pictures)), layout="constrained")
        rows = figure.subplots(len(pictures), 2, squeeze=False, sharey="row")
        for picture, axes in zip(pictures, rows, strict=True):
            picture(axes)
        figure.suptitle(f"{report['machine']['cpu']}, {report['settings']['type']}, pyln {report['pyln']}", fontsize=9)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _of_one_cols(cases: Sequence[Case]) -> list[Case]:
    """Cases of the D that has most sizes, the usual one if it is among them."""
    counts = Counter(case["cols"] for case in cases)
    cols = max(counts, key=lambda cols: (counts[cols], cols == USUAL_COLS), default=0)
    return [case for case in cases if case["cols"] == cols]


def _of_medium_size(cases: Sequence[Case]) -> list[Case]:
    """For each D the case that is nearest to the medium size, if it is within four times of it."""
    nearest: dict[tuple[str, int], Case] = {}
    for case in cases:
        key = (case["direction"], case["cols"])
        if key not in nearest or _distance(case) < _distance(nearest[key]):
            nearest[key] = case
    return [case for case in nearest.values() if _distance(case) <= math.log(4) + 1e-9]


def _distance(case: Case) -> float:
    return abs(math.log(case["bytes"] / MEDIUM_BYTES))


def _styles(cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """A colour and a marker for each name; of lnorm, only its best instruction set."""
    names = dict.fromkeys(timed["name"] for case in cases for timed in case["times"] if timed["kind"] != "limit")
    best = next((name for name in names if name.startswith("lnorm ")), "")
    shown = [name for name in names if name == best or not name.startswith("lnorm ")]
    return {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "marker": MARKERS[i % len(MARKERS)],
            "linewidth": 2.4 if name == best else 1.2,
            "markersize": 4,
            "zorder": 3 if name == best else 2,
            "label": name,
        }
        for i, name in enumerate(shown)
    }


def _ratios(axes: Sequence[Axes], cases: Sequence[Case], key: str, label: str, tick: Callable[[float], str]) -> None:
    styles = _styles(cases)
    for ax, direction in zip(axes, ("forward", "backward"), strict=True):
        own = sorted((case for case in cases if case["direction"] == direction), key=lambda case: float(case[key]))
        for name, style in styles.items():
            points = [(case[key], t["ratio"]) for case in own for t in case["times"] if t["name"] == name]
            if points:
                x = [point for point, _ in points]
                ax.fill_between(
                    x, [r[0] for _, r in points], [r[2] for _, r in points], color=style["color"], alpha=0.2
                )
                ax.plot(x, [r[1] for _, r in points], **style)
        ax.axhline(1, color="black", linewidth=1, linestyle="--")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        at = [case[key] for case in own]
        apart = [value for before, value in pairwise([0, *at]) if value > 1.4 * before]  # labels must not touch
        ax.set_xticks(apart, [tick(value) for value in apart], rotation=45, ha="right")
        ax.minorticks_off()
        low, high = ax.get_ylim()
        ratios = [r for r in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= r <= high]
        ax.set_yticks(ratios, [f"{ratio}" for ratio in ratios])
        ax.set_title(f"{direction}: time over the limit")
        ax.set_xlabel(label)
    _legend(axes)


def _gains(axes: Sequence[Axes], cases: Sequence[Case]) -> None:
    for ax, direction in zip(axes, ("forward", "backward"), strict=True):
        own = [case for case in cases if case["direction"] == direction]
        for i, case in enumerate(own):
            for name, line in (("limit", ":"), ("pyln", "-")):
                timed = [t for t in case["times"] if t["name"] == name]
                counts = [t["threads"] for t in timed]
                gains = [timed[0]["seconds"][1] / t["seconds"][1] for t in timed]
                label = f"{case['rows']} x {case['cols']}" if name == "pyln" else None
                ax.plot(
                    counts,
                    gains,
                    line,
                    marker=MARKERS[i % len(MARKERS)],
                    markersize=4,
                    color=COLOURS[i % len(COLOURS)],
                    label=label,
                )
                ax.set_xticks(counts, [str(count) for count in counts])
        ax.set_title(f"{direction}: times as fast as with one thread\n(dotted: the limit's loop in as many threads)")
        ax.set_xlabel("threads")
    axes[0].set_ylim(bottom=0)
    _legend(axes)


def _legend(axes: Sequence[Axes]) -> None:
    """To the right of both pictures, where it hides nothing."""
    named = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    axes[-1].legend(named.values(), named.keys(), loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)


def _bytes(value: float) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"

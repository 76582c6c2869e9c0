"""Draw docs/img/axes.svg: which elements of (N, C, H, W) share a mean and variance, and which share a gamma and beta.

    pip install matplotlib
    python scripts/draw_axes.py

The picture belongs to docs/concepts.md.
"""

from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "img" / "axes.svg"

SHAPE = N, C, HW = 3, 4, 4  # of a block seen from the front right: c to the right, hw up, n to the back
BACK = np.array([0.45, 0.32])  # one step in n, on paper

# For each norm one set of elements that share a mean and variance, and one that share a gamma and beta: their n, c and
# hw. The sets touch the visible faces n = 0, c = C - 1 and hw = HW - 1.
ALL, FRONT, RIGHT, TOP, GROUP = slice(None), slice(1), slice(C - 1, C), slice(HW - 1, HW), slice(C // 2, C)
CHANNEL = ALL, RIGHT, ALL
NORMS = {
    "batch norm": (CHANNEL, CHANNEL),
    "layer norm\nover (C, H, W)": ((FRONT, ALL, ALL), (ALL, RIGHT, TOP)),
    "layer norm\nover C (axis=1)": ((FRONT, ALL, TOP), CHANNEL),
    "instance norm": ((FRONT, RIGHT, ALL), CHANNEL),
    "group norm\n(2 groups)": ((FRONT, GROUP, ALL), CHANNEL),
}
ROWS = {"share a mean\nand a variance": "#2f6fb0", "share a gamma\nand a beta": "#c06c12"}
OTHERS, LINES, LETTERS = "#eeece6", "#8a8a8a", "#555555"


def project(n: float, c: float, hw: float) -> np.ndarray:
    return np.array([c, hw]) + n * BACK


def draw_block(axes: Axes, shared: tuple[slice, slice, slice], colour: str) -> None:
    member = np.zeros(SHAPE, dtype=bool)
    member[shared] = True
    squares, colours = [], []
    for n, c, hw in product(range(N), range(C), range(HW)):
        front = [project(n, c + i, hw + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        right = [project(n + i, c + 1, hw + j) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        top = [project(n + i, c + j, hw + 1) for i, j in ((0, 0), (1, 0), (1, 1), (0, 1))]
        for square, visible in (front, n == 0), (right, c == C - 1), (top, hw == HW - 1):
            if visible:
                squares.append(square)
                colours.append(colour if member[n, c, hw] else OTHERS)
    axes.add_collection(PolyCollection(squares, facecolors=colours, edgecolors=LINES, linewidths=0.7))
    for name, angle, where in (
        ("C", 0, project(0, C / 2, -0.4)),
        ("H, W", 90, project(0, -0.4, HW / 2)),
        ("N", 0, project(N / 2, C + 0.35, -0.2)),
    ):
        axes.text(where[0], where[1], name, color=LETTERS, rotation=angle, ha="center", va="center")
    axes.set_aspect("equal")
    axes.set_xlim(-0.8, C + N * BACK[0] + 0.2)
    axes.set_ylim(-0.8, HW + N * BACK[1] + 0.2)
    axes.set_axis_off()


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "axes", "font.size": 12})
    figure, grid = plt.subplots(len(ROWS), len(NORMS), figsize=(13, 5.4), facecolor="white")
    figure.subplots_adjust(left=0.12, right=0.995, bottom=0.01, top=0.89, wspace=0.03, hspace=0.03)
    for row, (what, colour) in zip(grid, ROWS.items(), strict=True):
        middle = row[0].get_position().y0 + row[0].get_position().height / 2
        figure.text(0.01, middle, f"The coloured\nelements\n{what}", color=colour, verticalalignment="center")
    for column, (name, sets) in zip(grid.T, NORMS.items(), strict=True):
        column[0].set_title(name)
        for axes, shared, colour in zip(column, sets, ROWS.values(), strict=True):
            draw_block(axes, shared, colour)
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    main()

"""The figures that belong on a plot, drawn: calls a second over callers, with the bare commands' as the floor."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt  # a display may be missing, so the backend is chosen before

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from benchmarks.figures import Figure

INCHES = (7, 4.5)
DOTS_PER_INCH = 110
PER_SECOND = {"µs": 1e6, "ms": 1e3}


def draw(figures: Iterable[Figure], directory: Path) -> list[Path]:
    """One file for each plot that figures name; what was written."""
    placed = sorted((figure for figure in figures if figure.plot), key=lambda figure: (figure.plot, figure.line))
    return [_drawn(name, list(group), directory) for name, group in groupby(placed, key=lambda figure: figure.plot)]


def _drawn(name: str, figures: list[Figure], directory: Path) -> Path:
    canvas, axes = plt.subplots(figsize=INCHES)
    for line, group in groupby(figures, key=lambda figure: figure.line):
        points = sorted(group, key=lambda figure: figure.at or 0)
        at = [figure.at or 0 for figure in points]
        second = PER_SECOND[points[0].unit]
        (ours,) = axes.plot(at, [second / figure.ours for figure in points], marker="o", label=f"retrysafe, {line}")
        axes.plot(
            at,
            [second / figure.other for figure in points],
            linestyle="--",
            color=ours.get_color(),
            label=f"{points[0].other_name}, {line}",
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("callers at once")
    axes.set_ylabel("calls a second")
    axes.set_title(name)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    file = directory / f"{''.join(letter if letter.isalnum() else '-' for letter in name.lower())}.png"
    canvas.savefig(file, dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None})
    plt.close(canvas)
    return file

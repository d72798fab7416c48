"""The report as files: `figures.md` for people, `figures.json` for programs, and the plots."""

from __future__ import annotations

import json
import os
import platform
from typing import TYPE_CHECKING

from benchmarks import plots
from benchmarks.figures import Figure, as_json, as_markdown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write(directory: Path, figures: Sequence[Figure], rounds: int) -> None:
    """Write the report into a directory. Of what was there, sections that were not measured now stay, all in place."""
    directory.mkdir(parents=True, exist_ok=True)
    before, measured = _read(directory), {figure.section for figure in figures}
    order = list(dict.fromkeys(figure.section for figure in [*before, *figures]))
    kept = [figure for figure in before if figure.section not in measured]
    figures = sorted([*kept, *figures], key=lambda figure: order.index(figure.section))
    machine = {"python": platform.python_version(), "machine": platform.machine(), "processors": os.cpu_count()}
    report = {**machine, "rounds": rounds, "figures": as_json(figures)}
    (directory / "figures.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    how = (
        f"Python {machine['python']}, {machine['machine']}, {machine['processors']} processors; {rounds} rounds for"
        " each line.\nThe value is ours / other where its line says nothing else. How it is measured, and where the\n"
        "time goes, stands in [docs/performance.md](../../docs/performance.md).\n"
    )
    page = f"# What was measured\n\n{how}\n{as_markdown(figures)}"
    for drawn in plots.draw(figures, directory):
        page += f"\n![{drawn.stem}]({drawn.name})\n"
    (directory / "figures.md").write_text(page, encoding="utf-8")


def _read(directory: Path) -> list[Figure]:
    try:
        text = (directory / "figures.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    figures: list[Figure] = []
    for fields in json.loads(text)["figures"]:
        del fields["met"]
        fields["spread"] = fields["spread"] and tuple(fields["spread"])
        figures.append(Figure(**fields))
    return figures

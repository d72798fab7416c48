"""The figures: one line of the report each, with the goal that it meets or misses; as a table, Markdown and JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.pairs import Comparison


@dataclass(frozen=True)
class Figure:
    """One measured line.

    Attributes:
        section: The benchmark that it belongs to.
        what: What was measured.
        ours: Our time, in `unit`; for orientation only.
        other: The other's time.
        other_name: Who the other is.
        unit: The unit of both.
        value: What counts: a ratio, or a time in `unit`.
        spread: The quartiles around it, where it is a ratio of pairs.
        at_most: The goal: the largest value that is good enough. None: no goal.
        at_least: The goal: the smallest value that is good enough. None: no goal.
        plot: The plot that it belongs on, if it does.
        line: The line of that.
        at: Where on that line it stands: so many callers.
    """

    section: str
    what: str
    ours: float
    other: float
    other_name: str
    unit: str
    value: float
    spread: tuple[float, float] | None = None
    at_most: float | None = None
    at_least: float | None = None
    plot: str = ""
    line: str = ""
    at: int | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    def rate(self, *, at_least: float | None = None) -> Figure:
        """The same with rates compared instead of times."""
        spread = None if self.spread is None else (1 / self.spread[1], 1 / self.spread[0])
        return replace(self, value=1 / self.value, spread=spread, at_least=at_least)


def of_pairs(section: str, what: str, other_name: str, pairs: Comparison, *, at_most: float | None = None) -> Figure:
    """The figure of a comparison whose first subject is ours."""
    return Figure(
        section=section,
        what=what,
        ours=pairs.first_ns / 1000,
        other=pairs.second_ns / 1000,
        other_name=other_name,
        unit="µs",
        value=pairs.ratio,
        spread=pairs.spread,
        at_most=at_most,
    )


def table(figures: Iterable[Figure]) -> Table:
    """The report for a person."""
    shown = Table(title="retrysafe, measured in interleaved pairs", caption="ours / other unless it says otherwise")
    for name in ("section", "what"):
        shown.add_column(name, no_wrap=True)
    for name in ("ours", "other"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("who", no_wrap=True)
    for name in ("value", "quartiles", "goal"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("")
    previous = ""
    for figure in figures:
        if previous not in ("", figure.section):
            shown.add_section()
        shown.add_row(
            "" if previous == figure.section else figure.section,
            figure.what,
            f"{figure.ours:.1f} {figure.unit}",
            f"{figure.other:.1f} {figure.unit}",
            figure.other_name,
            _number(figure.value),
            _spread(figure),
            _goal(figure),
            {None: "", True: "[green]met[/]", False: "[red]missed[/]"}[figure.met],
        )
        previous = figure.section
    return shown


def as_markdown(figures: Iterable[Figure]) -> str:
    """The report for a page, a table for each section. What a line is about stands in its first cell."""
    lines: list[str] = []
    previous = ""
    for figure in figures:
        if figure.section != previous:
            header = ("what", "ours", "other", "value", "quartiles", "goal", "")
            lines += ["", f"## {figure.section[0].upper()}{figure.section[1:]}", "", f"| {' | '.join(header)} |"]
            lines.append("|---|---:|---:|---:|---:|---:|---|")
            previous = figure.section
        cells = (
            f"{figure.section}: {figure.what}; beside {figure.other_name}",
            f"{figure.ours:.1f} {figure.unit}",
            f"{figure.other:.1f} {figure.unit}",
            _number(figure.value),
            _spread(figure),
            _goal(figure),
            {None: "", True: "met", False: "missed"}[figure.met],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines).strip() + "\n"


def as_json(figures: Iterable[Figure]) -> list[dict[str, Any]]:
    """The report for a program."""
    return [asdict(figure) | {"met": figure.met} for figure in figures]


def _goal(figure: Figure) -> str:
    if figure.at_most is not None:
        return f"<= {figure.at_most:.3g}"
    if figure.at_least is not None:
        return f">= {figure.at_least:.3g}"
    return ""


def _spread(figure: Figure) -> str:
    return "" if figure.spread is None else f"{_number(figure.spread[0])} - {_number(figure.spread[1])}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"

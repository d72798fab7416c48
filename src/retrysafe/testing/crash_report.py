"""What `crash_points` found: one entry for each point at which the process was killed, and a text to read."""

from __future__ import annotations

import linecache
import os
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from retrysafe.testing._crash.effects import ANY, differences
from retrysafe.wishes import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Verdict = Literal["ok", "stopped", "doubled", "lost", "other answer", "no answer", "not reached"]
"""How a point came out:

- "ok": each effect happened as often as in an undisturbed run, and the retry got the answer.
- "stopped": the retry, or a call or an item within it, got `IdempotencyAbandonedError`, as `on_abandoned="raise"` asks,
  and nothing ran again.
- "doubled": an effect happened more often. "lost": one happened less often, and the caller was told that all is done.
- "other answer": the effects are right, but callers got different answers.
- "no answer": no retry got an answer.
- "not reached": the function took another course each time that this point was to be tried.
"""


WIDTH = 110
"""How wide the report's sentences are."""


class CrashPoint(Value):
    """A point at which the process was killed, and what came of it.

    Attributes:
        number: Its place in the course of an undisturbed run, from 1. 0: nothing was killed, a duplicate followed.
        kind: "store" for an operation of the store, "line", "await"; "none" where nothing was killed.
        what: When it was killed: "before this line", "after the claim was stored; the reply is lost", ...
        file: The file of the user's code that was under way; "" where none was yet.
        line: The line in it, from 1; 0 where none was yet.
        function: The function there.
        expected: How often each effect happens in an undisturbed run.
        when_killed: How often it had happened when the process was dead.
        seen: How often it had happened when a retry and a duplicate had their answers.
        retries: How many tries followed the one that was killed, without the duplicate at the end.
        verdict: How it came out; see `Verdict`.
        why: The reason, where it is not "ok".
        advice: What to do about it.
        ran_on: Whether the function's own `finally`, `except` or `with` did something after the kill, which the
            death of a process would not have let them do.
    """

    __slots__ = (
        "advice",
        "expected",
        "file",
        "function",
        "kind",
        "line",
        "number",
        "ran_on",
        "retries",
        "seen",
        "verdict",
        "what",
        "when_killed",
        "why",
    )

    def __init__(
        self,
        *,
        number: int,
        kind: Literal["none", "store", "line", "await"],
        what: str,
        file: str,
        line: int,
        function: str,
        expected: Mapping[Any, int],
        when_killed: Mapping[Any, int],
        seen: Mapping[Any, int],
        retries: int,
        verdict: Verdict,
        why: str,
        advice: str,
        ran_on: bool,
    ) -> None:
        self.number = number
        self.kind: Literal["none", "store", "line", "await"] = kind
        self.what = what
        self.file = file
        self.line = line
        self.function = function
        self.expected = expected
        self.when_killed = when_killed
        self.seen = seen
        self.retries = retries
        self.verdict: Verdict = verdict
        self.why = why
        self.advice = advice
        self.ran_on = ran_on

    @property
    def ok(self) -> bool:
        """Whether nothing doubled and nothing got lost without a word."""
        return self.verdict in ("ok", "stopped")

    @property
    def source(self) -> str:
        """The text of the line; "" where it is not at hand."""
        return linecache.getline(self.file, self.line).strip()

    @property
    def difference(self) -> str:
        """Which effects happened how often in the end, and how often they should have; "" where all are right."""
        differing = differences(self.expected, self.seen)
        return "; ".join(
            f"{'' if effect == ANY else f'{effect!r}: '}{seen} instead of {wanted}"
            for effect, (wanted, seen) in differing.items()
        )

    def __str__(self) -> str:
        if not self.line:
            return self.what
        where = f"{_short(self.file)}:{self.line} in {self.function}"
        return f"{where}, {self.what}"


class CrashPointsError(AssertionError):
    """A point at which an effect doubles, gets lost, or an answer fails; `str()` gives the whole report.

    Attributes:
        report: The report.
    """

    def __init__(self, report: CrashReport) -> None:
        super().__init__(str(report))
        self.report = report


class CrashReport(Value):
    """What `crash_points` found; `str()` gives it as text.

    Attributes:
        name: The function.
        points: What came of each point; the first is that of a duplicate where nothing was killed.
        total: How many points the function has, a duplicate not counted.
        seed: By which `max_points` of them were chosen.
        notes: What limits the meaning of this report.
    """

    __slots__ = ("name", "notes", "points", "seed", "total")

    def __init__(
        self, name: str, points: tuple[CrashPoint, ...], *, total: int, seed: int, notes: tuple[str, ...]
    ) -> None:
        self.name = name
        self.points = points
        self.total = total
        self.seed = seed
        self.notes = notes

    @property
    def problems(self) -> tuple[CrashPoint, ...]:
        """The points that are not `ok`."""
        return tuple(point for point in self.points if not point.ok)

    @property
    def ok(self) -> bool:
        """Whether there are none."""
        return not self.problems

    def raise_for_problems(self) -> None:
        """Do nothing where all is well.

        Raises:
            CrashPointsError: There are problems; its text is the report.
        """
        if self.problems:
            raise CrashPointsError(self)

    def __str__(self) -> str:
        return "\n".join([*self._head(), "", *self._table(), *self._reasons(), *self._notes()])

    def _head(self) -> Iterable[str]:
        tried = sum(point.kind != "none" for point in self.points)
        which = "all of them" if tried == self.total else f"{tried} of them, chosen by seed {self.seed}"
        bad = len(self.problems)
        found = "no problem" if not bad else "1 problem" if bad == 1 else f"{bad} problems"
        yield f"{self.name}: {found}. It has {self.total} points to be killed at; tried: {which}."

    def _table(self) -> Iterable[str]:
        rows = [("#", "verdict", "effects then", "in the end", "killed", "")]
        for point in self.points:
            then, end = (str(sum(counted.values())) for counted in (point.when_killed, point.seen))
            rows.append((str(point.number), point.verdict, then, end, str(point), point.source))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            yield "  ".join([*cells, row[4] + (f":  {row[5]}" if row[5] else "")]).rstrip()

    def _reasons(self) -> Iterable[str]:
        groups: dict[tuple[str, str, str], list[CrashPoint]] = {}
        for point in self.points:
            if point.verdict != "ok":
                groups.setdefault((point.verdict, point.why, point.advice), []).append(point)
        for (verdict, why, advice), points in groups.items():
            yield ""
            yield f"{verdict} at {_numbers(points)}:"
            yield from _wrapped(why)
            differing: dict[str, list[CrashPoint]] = {}
            for point in points:
                differing.setdefault(point.difference, []).append(point)
            for difference, those in differing.items():
                if difference:
                    where = f" at {_numbers(those)}" if len(differing) > 1 else ""
                    yield from _wrapped(f"Effects{where}: {difference}.")
            if advice:
                yield from _wrapped(f"What to do: {advice}")

    def _notes(self) -> Iterable[str]:
        if self.notes:
            yield ""
        for note in self.notes:
            yield from textwrap.wrap(f"Note: {note}", WIDTH)


def _numbers(points: Iterable[CrashPoint]) -> str:
    return ", ".join(f"#{point.number}" for point in points)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def _short(file: str) -> str:
    """The path from the working directory, where that is shorter."""
    try:
        relative = os.path.relpath(file)
    except ValueError:  # another drive
        return file
    return min(file, relative, key=len)

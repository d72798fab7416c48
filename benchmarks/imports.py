"""`import retrysafe` in a new interpreter: what it adds to one that imports nothing, beside Powertools' import.

Each round starts three processes one after the other. What counts is the smallest time of each, as a process
can only be held up, never sped up; the median is shown by the ratio's side, in milliseconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTION = "import"
GOAL_MS = 40.0
OURS = "import retrysafe"
PEER = "import aws_lambda_powertools.utilities.idempotency"
MOST_ROUNDS = 25
SLOWEST = 25


def measure(rounds: int) -> Iterator[Figure]:
    times: list[tuple[float, float, float]] = []
    for statement in (OURS, PEER):
        _milliseconds(statement)  # writes the bytecode, and brings the files into the cache
    for _ in range(min(rounds, MOST_ROUNDS)):
        bare = _milliseconds("pass")
        times.append((bare, _milliseconds(OURS), _milliseconds(PEER)))
    for name, of in (("minimum", min), ("median", median)):
        bare, ours, theirs = (of(column) for column in zip(*times, strict=True))
        yield Figure(
            section=SECTION,
            what=f"above a bare interpreter ({bare:.1f} ms), {name}; value in ms",
            ours=ours - bare,
            other=theirs - bare,
            other_name="Powertools",
            unit="ms",
            value=ours - bare,
            at_most=GOAL_MS if name == "minimum" else None,
        )


def slowest() -> Table:
    """The imports that take longest by themselves, as `-X importtime` tells them."""
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", OURS], check=True, capture_output=True, text=True
    ).stderr
    rows: list[tuple[int, int, str]] = []
    for line in told.splitlines():
        own, total, name = line.removeprefix("import time:").split("|")
        if own.strip().isdigit():
            rows.append((int(own), int(total), name))
    shown = Table("own µs", "with what it imports, µs", "module", title=f"-X importtime -c '{OURS}'")
    for own, total, name in sorted(rows, reverse=True)[:SLOWEST]:
        shown.add_row(str(own), str(total), name)
    return shown


def _milliseconds(statement: str) -> float:
    started = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter_ns() - started) / 1e6

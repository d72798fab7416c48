"""`import retrysafe` in a new interpreter: what it adds to one that imports nothing, beside Powertools' import.

Each round starts three processes one after the other. What counts is the smallest time of each, as a process
can only be held up, never sped up; the median is shown for orientation. The bytecode of both stands ready, as it
does after an installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SECTION = "import"
GOAL_MS = 40.0
OURS = "import retrysafe"
PEER = "import aws_lambda_powertools.utilities.idempotency"
MOST_ROUNDS = 25
SLOWEST = 25
IMPORTTIME_RUNS = 10


def measure(rounds: int) -> Iterator[Figure]:
    with ready_environment() as environment:
        times = [
            tuple(_milliseconds(statement, environment) for statement in ("pass", OURS, PEER))
            for _ in range(min(rounds, MOST_ROUNDS))
        ]
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
    """The imports that take longest by themselves: for each module the smallest of several `-X importtime`s."""
    own: dict[str, int] = {}
    total: dict[str, int] = {}
    with ready_environment() as environment:
        command = [sys.executable, "-X", "importtime", "-c", OURS]
        runs = [
            subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr
            for _ in range(IMPORTTIME_RUNS)
        ]
    for told in runs:
        for line in told.splitlines():
            of_itself, with_others, name = line.removeprefix("import time:").split("|")
            if of_itself.strip().isdigit():
                module = name.strip()
                own[module] = min(int(of_itself), own.get(module, int(of_itself)))
                total[module] = min(int(with_others), total.get(module, int(with_others)))
    shown = Table("own µs", "with what it imports, µs", "module", title=f"-X importtime -c '{OURS}'")
    for module in sorted(own, key=own.__getitem__, reverse=True)[:SLOWEST]:
        shown.add_row(str(own[module]), str(total[module]), module)
    return shown


@contextmanager
def ready_environment(statements: Sequence[str] = (OURS, PEER)) -> Iterator[dict[str, str]]:
    """The environment of processes that find the bytecode of all these in a directory of its own."""
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for statement in statements:
            _milliseconds(statement, environment)
        yield environment


def _milliseconds(statement: str, environment: dict[str, str]) -> float:
    started = time.perf_counter_ns()
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    return (time.perf_counter_ns() - started) / 1e6

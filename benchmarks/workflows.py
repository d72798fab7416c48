"""SQLite beside DBOS: a decorated call of ours, and a workflow of one step under an id of its own, each on a file.

DBOS calls its SQLite files a store for development, and PostgreSQL the one for production; without a server, and beside
ours, it is the one to compare. It also does more: it starts what was interrupted again by itself.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import answer
from benchmarks.pairs import Batch, compare
from dbos import DBOS, SetWorkflowID

import retrysafe
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTION = "workflows"
CALLS = 5
NUMBERS = itertools.count()


@DBOS.step()
def step(data: dict[str, Any]) -> dict[str, Any]:
    return answer(data)


@DBOS.workflow()
def workflow(data: dict[str, Any]) -> dict[str, Any]:
    return step(data)


def measure(rounds: int) -> Iterator[Figure]:
    warnings.simplefilter("ignore")
    rounds = max(5, rounds // 4)
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as directory:
        DBOS(
            config={
                "name": "benchmarks",
                "system_database_url": f"sqlite:///{directory}/workflows.db",
                "run_admin_server": False,
                "log_level": "ERROR",
                "application_version": "1",
            }
        )
        DBOS.launch()
        try:
            with SQLitePersistenceLayer(Path(directory) / "ours.db") as layer:
                protected = retrysafe.idempotent_function(answer, data_keyword_argument="data", persistence_store=layer)
                for phase in ("first call", "replay"):
                    ours = partial(_round, lambda data: protected(data=data), phase)
                    theirs = partial(_round, _workflow, phase)
                    pairs = compare(ours, theirs, calls=CALLS, rounds=rounds, clock=time.perf_counter_ns)
                    yield of_pairs(SECTION, f"SQLite, synchronous=full, {phase}", "DBOS, on SQLite", pairs)
        finally:
            DBOS.destroy()


def _workflow(data: dict[str, Any]) -> None:
    with SetWorkflowID(f"workflow-{data['id']}"):
        workflow(data)


def _round(call: Callable[[dict[str, Any]], Any], phase: str) -> Batch:
    given = [{"id": next(NUMBERS)} for _ in range(CALLS)]
    if phase == "replay":
        _each(call, given)
    return partial(_each, call, given)


def _each(call: Callable[[dict[str, Any]], Any], given: list[dict[str, Any]]) -> None:
    for data in given:
        call(data)

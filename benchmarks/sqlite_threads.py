"""SQLite under many threads: claims and completions that commit together, beside the same layer one by one.

Under both stands a disk that takes 5 ms for an fsync, or one that takes no time (see `tests/support/slow_disk.py`). The
pairs are rounds on two files; each thread of a round claims and completes keys of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, of_pairs
from benchmarks.pairs import Batch, compare
from benchmarks.servers import Disk
from benchmarks.sqlite import records_of

from retrysafe.persistence._sqlite.groups import WriteGroups
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrysafe import DataRecord

SECTION = "SQLite threads"
THREADS = (1, 2, 4, 8, 16, 32, 64)
MOST_ROUNDS = {0.005: 10, 0.0: 25}
CALLS = {0.005: 2, 0.0: 20}
"""Of each thread in a round, by the disk's fsync in seconds."""
EMPTY = ("DELETE FROM retrysafe", ())
GOAL_THREADS, GOAL = 32, 8.0
# Of a rate on the fast disk: never slower, but for what noise does to a median.
FAST_GOAL = 0.95


class OneByOne(WriteGroups):
    """Each write as a transaction of its own, whoever waits."""

    def write(self, command: Any, since: float, database: Any) -> int:
        """See `WriteGroups.write`."""
        with self._turn:
            return database.alone(command, since)

    def ride(self, command: Any, since: float) -> bool:  # noqa: ARG002  # nobody to ride with
        """See there."""
        return False


class Rounds:
    """One layer on a file of its own, and the times of its single writes."""

    def __init__(self, path: Path, *, grouped: bool) -> None:
        self.layer = SQLitePersistenceLayer(path, busy_timeout_seconds=60)
        if not grouped:
            connections = self.layer._connections
            connections._groups = OneByOne(connections._writing)
        self.waits: list[float] = []

    def ready(self, pool: ThreadPoolExecutor, threads: int, calls: int) -> Batch:
        """A round of so many threads, each with so many calls."""
        self.layer._connections.write(EMPTY)
        self.layer._connections._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        together = threading.Barrier(threads)
        given = [[records_of(f"{thread:04d}.{call:028x}") for call in range(calls)] for thread in range(threads)]
        return lambda: list(pool.map(partial(self._calls, together), given))

    def _calls(self, together: threading.Barrier, records: list[tuple[DataRecord, DataRecord]]) -> None:
        together.wait()
        for claim, done in records:
            started = time.perf_counter()
            self.layer._put_record(claim)
            claimed = time.perf_counter()
            self.layer._update_record(done)
            self.waits += (claimed - started, time.perf_counter() - claimed)


def measure(rounds: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as directory:
        for fsync_seconds in (0.005, 0.0):
            yield from _figures(Path(directory), fsync_seconds, min(rounds, MOST_ROUNDS[fsync_seconds]))


def _figures(directory: Path, fsync_seconds: float, rounds: int) -> Iterator[Figure]:
    disk = f"fsync {fsync_seconds * 1000:.0f} ms"
    calls = CALLS[fsync_seconds]
    with Disk(fsync_seconds=fsync_seconds):
        grouped = Rounds(directory / f"{fsync_seconds} grouped.db", grouped=True)
        one_by_one = Rounds(directory / f"{fsync_seconds} one by one.db", grouped=False)
        for threads in THREADS:
            with ThreadPoolExecutor(threads) as pool:
                grouped.waits, one_by_one.waits = [], []
                pairs = compare(
                    partial(grouped.ready, pool, threads, calls),
                    partial(one_by_one.ready, pool, threads, calls),
                    calls=threads * calls,
                    rounds=rounds,
                    clock=time.perf_counter_ns,
                )
            goal = FAST_GOAL if not fsync_seconds else GOAL if threads >= GOAL_THREADS else None
            figure = of_pairs(SECTION, f"{disk}, {threads} threads; value is a rate", "one by one", pairs)
            yield figure.rate(at_least=goal)
            if threads == GOAL_THREADS:
                yield _slowest(f"{disk}, {threads} threads, slowest of 100 writes", grouped.waits, one_by_one.waits)
        yield _async(directory, disk, calls, rounds)
        grouped.layer.close()
        one_by_one.layer.close()


def _slowest(what: str, ours: list[float], others: list[float]) -> Figure:
    slow, other_slow = (statistics.quantiles(waits, n=100)[-1] * 1000 for waits in (ours, others))
    return Figure(SECTION, what, slow, other_slow, "one by one", "ms", slow / other_slow, at_most=1.0)


def _async(directory: Path, disk: str, calls: int, rounds: int) -> Figure:
    """The asynchronous layer, whose worker threads commit together, with as many tasks as it has threads."""
    layers = [AsyncSQLitePersistenceLayer(directory / f"{disk} {who}.db", busy_timeout_seconds=60) for who in "ab"]
    connections = layers[1]._sqlite._connections
    connections._groups = OneByOne(connections._writing)

    async def call(layer: AsyncSQLitePersistenceLayer, records: list[tuple[DataRecord, DataRecord]]) -> None:
        for claim, done in records:
            await layer._put_record(claim)
            await layer._update_record(done)

    async def each(layer: AsyncSQLitePersistenceLayer, given: list[list[tuple[DataRecord, DataRecord]]]) -> None:
        await asyncio.gather(*(call(layer, records) for records in given))

    def ready(layer: AsyncSQLitePersistenceLayer) -> Batch:
        layer._sqlite._connections.write(EMPTY)
        given = [[records_of(f"{task:04d}.{call:028x}") for call in range(calls)] for task in range(GOAL_THREADS)]
        return lambda: runner.run(each(layer, given))

    with asyncio.Runner() as runner:
        pairs = compare(
            partial(ready, layers[0]),
            partial(ready, layers[1]),
            calls=GOAL_THREADS * calls,
            rounds=rounds,
            clock=time.perf_counter_ns,
        )
        for layer in layers:
            runner.run(layer.close())
    figure = of_pairs(SECTION, f"{disk}, {GOAL_THREADS} tasks; value is a rate", "one by one", pairs)
    return figure.rate()

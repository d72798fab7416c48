"""A thousand duplicates of one running call: what each costs while it waits, and when the last one has its answer.

Beside them, as the floor: as many bare threads or tasks that wait for one event. Each run is a process of its own, as
memory is what the process has more of while they wait; the runs of both sides take turns. How long they take to have
the answer counts from the moment at which the function returns, so the completion is in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.servers import valkey

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.persistence import async_layer_from_url, layer_from_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrysafe import AsyncBasePersistenceLayer, BasePersistenceLayer

SECTION = "waiters"
COUNT = 1000
MOST_ROUNDS = 3
RUN_SECONDS = 3.0
BARE = "bare"
WAIT = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=60)


def resident_bytes() -> int:
    """How much memory this process has."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class Waiting:
    """One run, and those who wait for it.

    Attributes:
        waits: Seconds from the run's end to each one's answer.
        bytes_before: The process's memory before they came.
        bytes_waiting: The same while all of them wait.
    """

    waits: list[float] = field(default_factory=list)
    bytes_before: int = field(default_factory=resident_bytes)
    bytes_waiting: int = 0
    _ended: float = 0.0

    def end(self) -> str:
        """The run is over, this moment."""
        self.bytes_waiting = resident_bytes()
        self._ended = time.perf_counter()
        return "done"

    def answered(self) -> None:
        """One of them has its answer."""
        self.waits.append(time.perf_counter() - self._ended)


def in_threads(layer: BasePersistenceLayer, count: int) -> Waiting:
    """So many threads wait for one more."""
    waiting = Waiting()

    def work(_: int) -> str:
        time.sleep(RUN_SECONDS)
        return waiting.end()

    def wait() -> None:
        call(1)
        waiting.answered()

    call = idempotent_function(work, persistence_store=layer, config=WAIT, key_prefix=f"waiters {time.time_ns()}")
    _join([threading.Thread(target=wait) for _ in range(count + 1)])
    waiting.waits = sorted(waiting.waits)[1:]  # without the run's own
    return waiting


async def in_tasks(layer: AsyncBasePersistenceLayer, count: int) -> Waiting:
    """So many tasks wait for one more."""
    waiting = Waiting()

    async def work(_: int) -> str:
        await asyncio.sleep(RUN_SECONDS)
        return waiting.end()

    async def wait() -> None:
        await call(1)
        waiting.answered()

    call = idempotent_function(work, persistence_store=layer, config=WAIT, key_prefix=f"waiters {time.time_ns()}")
    await asyncio.gather(*(wait() for _ in range(count + 1)))
    waiting.waits = sorted(waiting.waits)[1:]
    return waiting


def in_bare_threads(count: int) -> Waiting:
    """So many threads wait for an event, and nothing else."""
    waiting, event = Waiting(), threading.Event()

    def wait() -> None:
        event.wait()
        waiting.answered()

    def work() -> None:
        time.sleep(RUN_SECONDS)
        waiting.end()
        event.set()

    _join([threading.Thread(target=work), *(threading.Thread(target=wait) for _ in range(count))])
    return waiting


async def in_bare_tasks(count: int) -> Waiting:
    """So many tasks wait for an event, and nothing else."""
    waiting, event = Waiting(), asyncio.Event()

    async def wait() -> None:
        await event.wait()
        waiting.answered()

    async def work() -> None:
        await asyncio.sleep(RUN_SECONDS)
        waiting.end()
        event.set()

    await asyncio.gather(work(), *(wait() for _ in range(count)))
    return waiting


def measure(rounds: int) -> Iterator[Figure]:
    with valkey() as server, tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as directory:
        urls = {
            "memory": "memory://",
            "SQLite": f"sqlite:///{directory}/records.db?synchronous=off",
            "Valkey": f"{server.url}?max_connections={COUNT + 2}",
        }
        for kind in ("threads", "tasks"):
            runs: dict[str, list[dict[str, float]]] = {store: [] for store in (BARE, *urls)}
            for _ in range(min(rounds, MOST_ROUNDS)):
                for store, results in runs.items():
                    results.append(_in_a_process(kind, urls.get(store, BARE)))
            for store in urls:
                yield from _figures(f"{COUNT} {kind}, {store}", runs[store], runs[BARE])


def _figures(what: str, ours: list[dict[str, float]], bare: list[dict[str, float]]) -> Iterator[Figure]:
    for name, unit in (("memory of each", "KB"), ("last answer", "ms")):
        values = [median(run[name] for run in runs) for runs in (ours, bare)]
        yield Figure(SECTION, f"{what}, {name}", *values, "a bare event", unit, values[0] / values[1])


def _in_a_process(kind: str, url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.waiters", kind, url]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(said.stdout)
    return found


def _join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def _tasks(url: str) -> Waiting:
    async with async_layer_from_url(url) as layer:
        return await in_tasks(layer, COUNT)


def _run(kind: str, url: str) -> Waiting:
    if url == BARE:
        return in_bare_threads(COUNT) if kind == "threads" else asyncio.run(in_bare_tasks(COUNT))
    if kind == "tasks":
        return asyncio.run(_tasks(url))
    with layer_from_url(url) as layer:
        return in_threads(layer, COUNT)


def main() -> None:
    done = _run(*sys.argv[1:])
    told = {
        "memory of each": (done.bytes_waiting - done.bytes_before) / COUNT / 1000,
        "last answer": max(done.waits) * 1000,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

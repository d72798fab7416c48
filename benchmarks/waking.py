"""`python -m benchmarks.waking`: how long after a run has ended those who wait for it have its answer, on a cache.

From the moment at which the function returns, so the completion's round trip is in it. Told, and, for comparison, only
looking now and then; and how many steps the server was asked for by all of them, beyond their claims.
"""

from __future__ import annotations

import asyncio
import statistics
from typing import TYPE_CHECKING

from benchmarks import waiters
from benchmarks.servers import valkey
from benchmarks.waiters import RUN_SECONDS

from retrysafe.persistence.cache import AsyncCachePersistenceLayer, CachePersistenceLayer

if TYPE_CHECKING:
    from benchmarks.servers import RedisServer

ROUNDS = 5


def main() -> None:
    print(f"{'waiters':24}{'':14}{'median':>10}{'slowest':>10}{'steps':>8}   of {ROUNDS} runs of {RUN_SECONDS:.0f} s")
    with valkey() as server:
        for count in (1, 50):
            for told in (True, False):
                report(f"{count} threads", told, [in_threads(server, count, told) for _ in range(ROUNDS)])
        for count in (1, 50, 1000):
            for told in (True, False):
                report(f"{count} tasks", told, [asyncio.run(in_tasks(server, count, told)) for _ in range(ROUNDS)])


def report(who: str, told: bool, results: list[tuple[list[float], int]]) -> None:
    waits = [seconds * 1000 for seconds, _ in results for seconds in seconds]
    steps = statistics.median(steps for _, steps in results)
    how = "told" if told else "looking"
    print(f"{who:24}{how:14}{statistics.median(waits):7.1f} ms{max(waits):7.1f} ms{steps:8.0f}")


def in_threads(server: RedisServer, count: int, told: bool) -> tuple[list[float], int]:
    with CachePersistenceLayer(f"{server.url}?max_connections={count + 2}") as layer:
        if not told:
            layer._watch_record = not_told  # type: ignore[method-assign]
        before = steps_of(server)
        waits = waiters.in_threads(layer, count).waits
    return waits, steps_of(server) - before - count - 2


async def in_tasks(server: RedisServer, count: int, told: bool) -> tuple[list[float], int]:
    async with AsyncCachePersistenceLayer(f"{server.url}?max_connections={count + 2}") as layer:
        if not told:
            layer._watch_record = not_told  # type: ignore[method-assign]
        before = steps_of(server)
        waits = (await waiters.in_tasks(layer, count)).waits
    return waits, steps_of(server) - before - count - 2


def not_told(_: str) -> None:
    """No watch."""


def steps_of(server: RedisServer) -> int:
    stats = server.info("commandstats")
    return sum(
        int(stats[name].split(",")[0].removeprefix("calls="))
        for name in ("cmdstat_evalsha", "cmdstat_eval")
        if name in stats
    )


if __name__ == "__main__":
    main()

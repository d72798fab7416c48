"""A store that grows: what a call costs among a thousand records and among a million, and how much each record takes.

`python -m benchmarks.growth 10000000` measures SQLite alone with so many. Beside each store stands one of the same kind
with a thousand records, and calls on both take turns. What the calls find stored are keys at random; the window of some
records is over, so that they are swept meanwhile. How long sweeping holds a call up is the slowest call among those:
a call on the wall, the best of three tries, since others on the machine hold calls up too.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import redis
from benchmarks.figures import Figure, of_pairs, table
from benchmarks.pairs import Batch, Clock, Comparison, compare
from benchmarks.servers import valkey
from benchmarks.waiters import resident_bytes
from rich.console import Console

from retrysafe import DataRecord, IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe.persistence._dynamodb.items import Items
from retrysafe.persistence.cache import CachePersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.persistence.wire import AttributeNames

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.servers import RedisServer

    from retrysafe import BasePersistenceLayer

SECTION = "growth"
SMALL = 1000
SIZES = (10_000, 100_000, 1_000_000)
CALLS = 100
MOST_ROUNDS = 40
GOAL = 1.3
HOLD_UP_GOAL_MS = 20.0
SWEPT_CALLS = 3000
MOST_OVER = 1_000_000
TRIES = 3
PREFIX = "growth"
CONFIG = IdempotencyConfig(event_key_jmespath="id")
ANSWER = {"statusCode": 200, "count": 1, "text": "x", "nothing": None, "done": True}
DATA = '{"statusCode": 200, "count": 1, "text": "x", "nothing": null, "done": true}'
OWNER = "0123456789abcdef0123456789abcdef"
OVERHEAD = 100  # bytes that DynamoDB counts for an item beyond what is in it
AT_ONCE = 10_000


def key_of(number: int) -> str:
    """The key of the call with this id."""
    return f"{PREFIX}#{hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()}"


def answer(data: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG001  # the payload only makes the key
    return ANSWER


def record(number: int, window_seconds: int = 86_400) -> DataRecord:
    """The outcome of the call with this id."""
    window = int(time.time()) + window_seconds
    return DataRecord(key_of(number), "COMPLETED", window, response_data=DATA, owner=OWNER)


class Store(ABC):
    """A store with some records, and a protected function on it.

    Attributes:
        size: How many records it was filled with.
        bytes_per_record: What each takes.
    """

    layer: BasePersistenceLayer
    clock: Clock = staticmethod(time.perf_counter_ns)
    bytes_per_record = 0.0

    def __init__(self, size: int) -> None:
        self.size = size
        self._new = itertools.count(10**12)
        self._random = Random(size)  # noqa: S311  # which records are asked for

    def filled(self) -> Store:
        """Fill it."""
        self.bytes_per_record = self.fill(record(number) for number in range(self.size)) / self.size
        self.protected = idempotent_function(
            answer,
            data_keyword_argument="data",
            persistence_store=self.layer,
            config=CONFIG,
            key_prefix=PREFIX,
        )
        return self

    @abstractmethod
    def fill(self, records: Iterator[DataRecord]) -> int:
        """Store these, by the shortest way; how many bytes they take."""

    def first(self) -> Batch:
        """A round of first calls."""
        return partial(self._calls, [{"id": next(self._new)} for _ in range(CALLS)])

    def replay(self) -> Batch:
        """A round of replays of records at random."""
        return partial(self._calls, [{"id": self._random.randrange(self.size)} for _ in range(CALLS)])

    def slowest_ms(self) -> float:
        """The slowest of many first calls."""
        slowest = 0.0
        for number in itertools.islice(self._new, SWEPT_CALLS):
            started = time.perf_counter()
            self.protected(data={"id": number})
            slowest = max(slowest, time.perf_counter() - started)
        return slowest * 1000

    def expire(self) -> None:
        """Let more records be there, whose windows are over."""
        self.fill(record(-number, -60) for number in range(1, min(self.size, MOST_OVER) + 1))

    def _calls(self, payloads: list[dict[str, int]]) -> None:
        for payload in payloads:
            self.protected(data=payload)


class InMemory(Store):
    """Records in a dict."""

    clock = staticmethod(time.process_time_ns)

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.layer = MemoryPersistenceLayer()

    def fill(self, records: Iterator[DataRecord]) -> int:
        """See `Store.fill`."""
        before = resident_bytes()
        standing = self.layer._records  # type: ignore[attr-defined]  # else those that are over were swept right away
        standing.update((stored.idempotency_key, stored) for stored in records)
        return resident_bytes() - before


class InSQLite(Store):
    """Records in a file."""

    def __init__(self, size: int, directory: str) -> None:
        super().__init__(size)
        self._path = Path(directory) / f"{size}.db"
        self.layer: SQLitePersistenceLayer = SQLitePersistenceLayer(self._path, synchronous="off")

    def fill(self, records: Iterator[DataRecord]) -> int:
        """See `Store.fill`."""
        by_hand = sqlite3.connect(self._path, isolation_level=None)
        by_hand.execute("PRAGMA synchronous = off")
        by_hand.execute("PRAGMA cache_size = -2000000")
        claim = self.layer._statements.claim
        while some := [claim(stored, None) for stored in itertools.islice(records, AT_ONCE)]:
            by_hand.execute("BEGIN")
            by_hand.executemany(some[0][0], (values for _, values in some))
            by_hand.execute("COMMIT")
        by_hand.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        by_hand.close()
        return self._path.stat().st_size


class InValkey(Store):
    """Records on a server of their own."""

    def __init__(self, size: int, server: RedisServer) -> None:
        super().__init__(size)
        self._client = redis.Redis(host=server.host, port=server.port)
        self.layer = CachePersistenceLayer(client=self._client)

    def fill(self, records: Iterator[DataRecord]) -> int:
        """See `Store.fill`."""
        before = self._used()
        while some := list(itertools.islice(records, AT_ONCE)):
            with self._client.pipeline(transaction=False) as pipeline:
                for stored in some:
                    pipeline.set(stored.idempotency_key, as_text(stored), px=lifetime_ms(stored))
                pipeline.execute()
        return self._used() - before

    def _used(self) -> int:
        return int(self._client.info("memory")["used_memory"])


def as_text(stored: DataRecord) -> str:
    """A record as the cache layer writes it."""
    return json.dumps(
        {
            "data": stored.response_data,
            "status": "COMPLETED",
            "expiration": stored.expiry_timestamp,
            "owner": stored.owner,
            "attempt": 1,
        }
    )


def lifetime_ms(stored: DataRecord) -> int:
    """Of records that are over, at random within the first seconds, so that some of them end while it is measured."""
    left = (stored.expiry_timestamp or 0) - time.time()
    return int(left * 1000) if left > 0 else Random(stored.idempotency_key).randint(1000, 10_000)  # noqa: S311


def measure(rounds: int) -> Iterator[Figure]:
    rounds = min(rounds, MOST_ROUNDS)
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-"))
        kinds = {
            "memory": InMemory,
            "SQLite": partial(InSQLite, directory=directory),
            "Valkey": lambda size: InValkey(size, stack.enter_context(valkey())),
        }
        for name, make in kinds.items():
            yield from _figures(name, [make(size) for size in (SMALL, *SIZES)], rounds)
    yield _on_dynamodb()


def _figures(name: str, stores: list[Store], rounds: int) -> Iterator[Figure]:
    small, *others = (store.filled() for store in stores)
    for store in others:
        for what in ("first", "replay"):
            pairs = _compared(getattr(store, what), getattr(small, what), store.clock, rounds)
            text = f"{name}, {store.size:,} records, {'first call' if what == 'first' else what}"
            yield of_pairs(SECTION, text, f"{SMALL:,} records", pairs, at_most=GOAL)
    largest = others[-1]
    yield _size_figure(f"{name}, {largest.size:,} records, bytes of each", largest.bytes_per_record)
    calm = min(largest.slowest_ms() for _ in range(TRIES))
    largest.expire()
    swept = min(largest.slowest_ms() for _ in range(TRIES))
    text = f"{name}, {largest.size:,} records and {min(largest.size, MOST_OVER):,} to sweep, slowest call; value in ms"
    yield Figure(SECTION, text, swept, calm, "nothing to sweep", "ms", swept, at_most=HOLD_UP_GOAL_MS)


def _compared(ours: Any, other: Any, clock: Clock, rounds: int) -> Comparison:
    return compare(ours, other, calls=CALLS, rounds=rounds, clock=clock)


def _size_figure(what: str, size: float) -> Figure:
    least = len(key_of(0)) + len(DATA)
    return Figure(SECTION, what, size, least, "key and answer", "B", size / least)


def _on_dynamodb() -> Figure:
    """By DynamoDB's own rules, which its bill follows."""
    size = Items(AttributeNames(), "id", None, "")._size(record(0)) + OVERHEAD
    return _size_figure("DynamoDB, bytes of each", size)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as directory:
        stores: list[Store] = [InSQLite(size, directory) for size in (SMALL, int(sys.argv[1]))]
        Console(width=180).print(table(_figures("SQLite", stores, MOST_ROUNDS)))


if __name__ == "__main__":
    main()

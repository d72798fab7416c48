"""SQLite: claim and completion through the layer and through a decorated call, beside the two statements by hand.

By hand means: one connection, prepared values, INSERT .. ON CONFLICT and UPDATE with the same conditions, the same
table, index and pragmas, nothing checked afterwards. Rates are compared: ours / by hand.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Figure, of_pairs
from benchmarks.memory import answer, payloads
from benchmarks.pairs import Batch, Subject, compare

import retrysafe
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retrysafe.persistence._sqlite.opening import Synchronous

SECTION = "SQLite"
CALLS = 100
GOAL = 0.6
LEASE_MS = 30_000
WINDOW_SECONDS = 3600
DATA = '{"count": 1, "done": true, "nothing": null, "statusCode": 200, "text": "x"}'
OWNER = "0123456789abcdef0123456789abcdef"

CLAIM = """
INSERT INTO by_hand (id, status, expiration, in_progress_expiration, owner, attempt, validation, types, data)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, expiration = excluded.expiration,
    in_progress_expiration = excluded.in_progress_expiration, owner = excluded.owner, attempt = excluded.attempt,
    validation = excluded.validation, types = excluded.types, data = excluded.data
WHERE expiration < ? AND (status <> 'INPROGRESS' OR in_progress_expiration < ?)"""
COMPLETE = """
UPDATE by_hand SET status = ?, expiration = ?, in_progress_expiration = NULL, types = ?, data = ?
WHERE id = ? AND owner = ?"""
TABLE = """
CREATE TABLE by_hand (
    id TEXT PRIMARY KEY NOT NULL, status TEXT NOT NULL, expiration INTEGER, in_progress_expiration INTEGER, owner TEXT,
    attempt INTEGER NOT NULL DEFAULT 1, validation TEXT NOT NULL DEFAULT '', types TEXT NOT NULL DEFAULT '',
    data TEXT NOT NULL DEFAULT ''
);
CREATE INDEX by_hand_expiration ON by_hand (expiration);"""


class Database:
    """One file, which each round finds with the same number of records in every table: none."""

    def __init__(self, directory: Path, synchronous: Synchronous) -> None:
        path = directory / f"{synchronous}.db"
        self.layer = SQLitePersistenceLayer(path, synchronous=synchronous)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA synchronous = {synchronous}")
        self.connection.executescript(TABLE)
        self._protected = retrysafe.idempotent_function(
            answer, data_keyword_argument="data", persistence_store=self.layer
        )

    def by_hand(self) -> Batch:
        """A round of the two statements by hand."""
        self._empty()
        return partial(_by_hand, self.connection, _keys())

    def through_layer(self) -> Batch:
        """A round of the layer's two methods, with records made before."""
        self._empty()
        return partial(_through_layer, self.layer, [records_of(key) for key in _keys()])

    def decorated(self) -> Batch:
        """A round of decorated calls."""
        self._empty()
        return partial(_decorated, self._protected, payloads(CALLS))

    def close(self) -> None:
        """Close the file on both sides."""
        self.layer.close()
        self.connection.close()

    def _empty(self) -> None:
        self.connection.execute("DELETE FROM by_hand")
        self.connection.execute("DELETE FROM retrysafe")
        # Else the write-ahead log is moved into the file while the clock runs, now on one side, now on the other.
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def measure(rounds: int) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".benchmark-") as directory:
        for synchronous in ("full", "off"):
            database = Database(Path(directory), synchronous)
            try:
                yield _figure(database.through_layer, database.by_hand, f"synchronous={synchronous}, layer", rounds)
                yield _figure(database.decorated, database.by_hand, f"synchronous={synchronous}, decorated", rounds)
            finally:
                database.close()


def _figure(ours: Subject, by_hand: Subject, what: str, rounds: int) -> Figure:
    pairs = compare(ours, by_hand, calls=CALLS, rounds=rounds, clock=time.perf_counter_ns)
    return of_pairs(SECTION, f"{what}; value is a rate", "by hand", pairs).rate(at_least=GOAL)


def _keys() -> list[str]:
    return [f"benchmarks.memory.answer#{number:032x}" for number in range(CALLS)]


def records_of(key: str) -> tuple[retrysafe.DataRecord, retrysafe.DataRecord]:
    """A claim and the answer to it."""
    now = time.time_ns() // 1_000_000
    window = now // 1000 + WINDOW_SECONDS
    claim = retrysafe.DataRecord(
        key, "INPROGRESS", window, in_progress_expiry_timestamp=now + LEASE_MS, owner=OWNER, made_at_ms=now
    )
    done = retrysafe.DataRecord(key, "COMPLETED", window, response_data=DATA, owner=OWNER, made_at_ms=now)
    return claim, done


def _by_hand(connection: sqlite3.Connection, keys: list[str]) -> None:
    execute = connection.execute
    for key in keys:
        now = time.time_ns() // 1_000_000
        window = now // 1000 + WINDOW_SECONDS
        claim = (key, "INPROGRESS", window, now + LEASE_MS, OWNER, 1, "", "", "", now // 1000, now)
        if execute(CLAIM, claim).rowcount != 1:
            raise AssertionError(key)
        if execute(COMPLETE, ("COMPLETED", window, "", DATA, key, OWNER)).rowcount != 1:
            raise AssertionError(key)


def _through_layer(
    layer: SQLitePersistenceLayer, records: list[tuple[retrysafe.DataRecord, retrysafe.DataRecord]]
) -> None:
    for claim, done in records:
        layer._put_record(claim)
        layer._update_record(done)


def _decorated(protected: Any, given: list[dict[str, Any]]) -> None:
    for payload in given:
        protected(data=payload)

"""The SQL of the SQLite layer: each method of the contract as one statement, and a row as a record. No I/O.

Every rule that must hold against rivals stands in the statement itself, which SQLite carries out under its
write lock: who may claim, and whose record it is. The time is read inside the statement too, after the lock
is had, so that waiting for the lock makes no record look older or younger than it is.
"""

# ruff: noqa: S608  # the only text put into a statement is the table's name, which was checked

from __future__ import annotations

import re
from typing import Any, Final

from retrysafe.exceptions import IdempotencyPersistenceConsistencyError
from retrysafe.persistence.datarecord import INPROGRESS, STORED_STATUSES, DataRecord

_COLUMNS: Final = (
    ("status", (str,)),
    ("expiration", (int, type(None))),
    ("in_progress_expiration", (int, type(None))),
    ("owner", (str, type(None))),
    ("attempt", (int,)),
    ("validation", (str,)),
    ("types", (str,)),
    ("data", (str,)),
)
"""What a row has behind its key, and of which types it may be."""

COLUMNS: Final = ", ".join(name for name, _ in _COLUMNS)
ALL_NEW: Final = ", ".join(f"{name} = excluded.{name}" for name, _ in _COLUMNS)

# Milliseconds since the epoch: an injected clock's reading, else SQLite's own clock, which is the machine's.
# 2440587.5 is the epoch as a Julian day; a day number holds its milliseconds to within 0.05, hence the
# rounding.
NOW: Final = "COALESCE(:now, CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER))"

# By how much the times of a record are moved when it is written: by what has gone by since they were set, for instance
# in waiting for the lock, so that a lease is whole when it begins. The window is in whole seconds.


def late_ms(made_at: str) -> str:
    """The milliseconds that have gone by since this moment; 0 where it is NULL."""
    return f"COALESCE({NOW} - {made_at}, 0)"


def late_seconds(made_at: str) -> str:
    """How many seconds have begun since."""
    return f"COALESCE({NOW} / 1000 - {made_at} / 1000, 0)"


_LATE_MS: Final = late_ms(":made_at")
_LATE_SECONDS: Final = late_seconds(":made_at")

# `DataRecord.window_over`. A row edited by hand into other types is never gone, as SQLite sorts text and
# blobs above every number; a fraction would pass, so the types are asked for.
_KNOWN: Final = ", ".join(f"'{status}'" for status in sorted(STORED_STATUSES))

GONE: Final = f"""(
    typeof(expiration) = 'integer' AND expiration < {NOW} / 1000 AND status IN ({_KNOWN})
    AND (
        status <> '{INPROGRESS}'
        OR in_progress_expiration IS NULL
        OR (typeof(in_progress_expiration) = 'integer' AND in_progress_expiration < {NOW})
    )
)"""

# `DataRecord.same_claim`. Without a replaced claim all four are NULL, and `status = NULL` is never true.
_REPLACED: Final = """(
    status = :replaced_status AND owner IS :replaced_owner AND attempt = :replaced_attempt
    AND in_progress_expiration IS :replaced_lease
)"""


Command = tuple[str, tuple[object, ...]]
"""One statement and its values."""


def placed(sql: str) -> str:
    """The statement with `?` for its `:names`: values bind fastest by place, in the order of the names."""
    return re.sub(r":[a-z_]+", "?", sql)


class Statements:
    """The statements for one table, whose name has been checked."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._look = placed(f"""
            SELECT {COLUMNS}, {NOW} FROM "{table}" WHERE id = :id""")
        self._claim = placed(f"""
            INSERT INTO "{table}" (id, {COLUMNS}) VALUES
                (:id, :status, :window + {_LATE_SECONDS}, :lease + {_LATE_MS}, :owner, :attempt, :validation, :types,
                :data)
            ON CONFLICT (id) DO UPDATE SET {ALL_NEW}
            WHERE {GONE} OR {_REPLACED}""")
        # `owner = NULL` is never true, so what a peer wrote is nobody's to complete, renew or release.
        self._complete = placed(f"""
            UPDATE "{table}" SET
                status = :status, expiration = :window + {_LATE_SECONDS}, in_progress_expiration = NULL,
                validation = COALESCE(NULLIF(:validation, ''), validation), types = :types, data = :data
            WHERE id = :id AND owner = :owner""")
        self._release = placed(f"""
            DELETE FROM "{table}" WHERE id = :id AND owner = :owner AND status = '{INPROGRESS}'""")
        self._renew = placed(f"""
            UPDATE "{table}"
            SET expiration = :window + {_LATE_SECONDS}, in_progress_expiration = :lease + {_LATE_MS}
            WHERE id = :id AND owner = :owner AND status = '{INPROGRESS}'""")
        self._sweep = placed(f"""
            DELETE FROM "{table}"
            WHERE rowid IN (SELECT rowid FROM "{table}" WHERE {GONE} LIMIT :limit)""")

    def all(self) -> list[Command]:
        """Each statement once, with values that fit, so that a table can be checked against them."""
        record = DataRecord("", owner="")
        return [
            self.look("", None),
            self.claim(record, None),
            self.complete(record, None),
            self.release(record),
            self.renew(record, None),
            self.sweep(1, None),
        ]

    def look(self, idempotency_key: str, now_ms: int | None) -> Command:
        """Read the row of a key, if there is one; `record_of` makes a record of it."""
        return self._look, (now_ms, idempotency_key)

    def claim(self, record: DataRecord, now_ms: int | None) -> Command:
        """Store a claim: one row where none stood, or one gone, or exactly the replaced claim; else none."""
        seen = record.replaces
        return self._claim, (
            record.idempotency_key,
            record.stored_status,
            record.expiry_timestamp,
            now_ms,
            record.made_at_ms,
            record.in_progress_expiry_timestamp,
            now_ms,
            record.made_at_ms,
            record.owner,
            record.attempt,
            record.payload_hash,
            record.types,
            record.response_data,
            now_ms,
            now_ms,
            None if seen is None else seen.stored_status,
            None if seen is None else seen.owner,
            None if seen is None else seen.attempt,
            None if seen is None else seen.in_progress_expiry_timestamp,
        )

    def complete(self, record: DataRecord, now_ms: int | None) -> Command:
        """Store the outcome: one row where the owner is still the record's, else none."""
        return self._complete, (
            record.stored_status,
            record.expiry_timestamp,
            now_ms,
            record.made_at_ms,
            record.payload_hash,
            record.types,
            record.response_data,
            record.idempotency_key,
            record.owner,
        )

    def release(self, record: DataRecord) -> Command:
        """Remove the claim: one row where it is INPROGRESS and the owner is still the record's, else none."""
        return self._release, (record.idempotency_key, record.owner)

    def renew(self, record: DataRecord, now_ms: int | None) -> Command:
        """Move window and lease on: one row under the same condition as `release`, else none."""
        return self._renew, (
            record.expiry_timestamp,
            now_ms,
            record.made_at_ms,
            record.in_progress_expiry_timestamp,
            now_ms,
            record.made_at_ms,
            record.idempotency_key,
            record.owner,
        )

    def sweep(self, limit: int, now_ms: int | None) -> Command:
        """Delete at most `limit` rows that are gone."""
        return self._sweep, (now_ms, now_ms, limit)


def record_of(idempotency_key: str, row: tuple[Any, ...]) -> DataRecord:
    """The record in a row that `Statements.look` found, whatever its status.

    Raises:
        IdempotencyPersistenceConsistencyError: A column holds another type than it must; names the column.
    """
    for (name, types), value in zip(_COLUMNS, row, strict=False):  # the clock's reading follows the columns
        if type(value) not in types:
            raise IdempotencyPersistenceConsistencyError(
                f"the record under {idempotency_key!r} cannot be read: its column {name} holds {type(value).__name__}"
            )
    status, window, lease, owner, attempt, payload_hash, types_text, data, now_ms = row
    return DataRecord(
        idempotency_key,
        status=status,
        expiry_timestamp=window,
        in_progress_expiry_timestamp=lease,
        response_data=data,
        payload_hash=payload_hash,
        owner=owner,
        attempt=attempt,
        types=types_text,
        read_at_ms=now_ms,
    )

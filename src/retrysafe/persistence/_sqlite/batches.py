"""Many records of the SQLite layer in one statement: one transaction, so one wait for the disk.

One statement, and not several between BEGIN and COMMIT: nothing is ever left open, as in `connections`, and a
signal handler that uses the layer finds no half of a transaction. Each row is under the condition that it has in the
statement for one. SQLite tells how many rows it changed, not which; where it is not all of them, each is looked at.
"""

# ruff: noqa: S608  # the only text put into a statement is the table's name, which was checked

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from retrysafe.exceptions import IdempotencyPersistenceConnectionError, IdempotencyPersistenceLayerError
from retrysafe.persistence._sqlite.errors import UnstorableValueError
from retrysafe.persistence._sqlite.statements import (
    ALL_NEW,
    COLUMNS,
    GONE,
    NOW,
    late_ms,
    late_seconds,
    placed,
    record_of,
)
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.many import one_by_one, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retrysafe.persistence._sqlite.connections import Connections
    from retrysafe.persistence._sqlite.statements import Command, Statements
    from retrysafe.persistence.datarecord import DataRecord
    from retrysafe.persistence.many import Operation, Outcome

T = TypeVar("T")

MOST_TOGETHER: Final = 90
"""Rows in a statement: SQLite before 3.32 takes 999 values in one, and a row has ten."""


class Layer(Protocol):
    """What is taken from the layer: its file, and its methods for one record."""

    _connections: Connections
    _statements: Statements

    def _get_record(self, idempotency_key: str) -> DataRecord: ...
    def _put_record(self, data_record: DataRecord) -> None: ...
    def _refuse_if_held(self, claim: DataRecord) -> None: ...
    def _refuse_for(self, claim: DataRecord, found: DataRecord | None) -> None: ...
    def _write(self, command: Command, records: int = 1) -> int: ...
    def _now_ms(self) -> int | None: ...


def for_each(layer: Layer, operation: Operation, arguments: Sequence[Any]) -> list[Outcome]:
    """See `BasePersistenceLayer._for_each`."""
    if operation == "get" or len(arguments) == 1:
        return one_by_one(layer, operation, arguments)
    outcomes: list[Outcome] = []
    for portion in _portions(arguments, MOST_TOGETHER):
        outcomes += _claimed(layer, portion) if operation == "put" else _written(layer, operation, portion)
    return outcomes


def _claimed(layer: Layer, claims: Sequence[DataRecord]) -> list[Outcome]:
    """Each is looked at first, without a lock, as most of what stands is to be replayed; what is free is claimed."""
    new = iter(_looked_at(layer, [claim for claim in claims if claim.replaces is None]))
    # A takeover compares what it has seen, each something else, and there are few.
    outcomes: list[Outcome] = [
        next(new) if claim.replaces is None else outcome(layer._put_record, claim) for claim in claims
    ]
    free = [number for number, claim in enumerate(claims) if claim.replaces is None and outcomes[number] is None]
    if not free:
        return outcomes
    together = [claims[number] for number in free]
    try:
        changed = layer._write(claiming(layer._statements.table, together, layer._now_ms()), len(together))
    except IdempotencyPersistenceConnectionError as error:
        for number in free:
            outcomes[number] = error
    except (UnstorableValueError, IdempotencyPersistenceLayerError):
        # It may be for one of them alone: what it holds, or that the disk has no room for all of them.
        for number in free:
            outcomes[number] = outcome(layer._put_record, claims[number])
    else:
        if changed < len(free):
            for number in free:
                outcomes[number] = _claimed_after_all(layer, claims[number])
    return outcomes


def _looked_at(layer: Layer, claims: Sequence[DataRecord]) -> list[Outcome]:
    """What refuses each claim: one statement, where all that stands can be read."""
    try:
        rows = layer._connections.read(looking(layer._statements.table, claims, layer._now_ms()))
    except IdempotencyPersistenceConnectionError as error:
        return [error] * len(claims)  # the file stayed locked; each would wait as long once more
    except IdempotencyPersistenceLayerError:
        return [outcome(layer._refuse_if_held, claim) for claim in claims]
    standing = {row[0]: row[1:] for row in rows}

    def refuse(claim: DataRecord) -> None:
        row = standing[claim.idempotency_key]
        layer._refuse_for(claim, record_of(claim.idempotency_key, row))

    return [outcome(refuse, claim) if claim.idempotency_key in standing else None for claim in claims]


def _claimed_after_all(layer: Layer, claim: DataRecord) -> Outcome:
    """Whether this is one of those that got through; else it is claimed by itself."""
    found = outcome(layer._get_record, claim.idempotency_key)
    # Its times were moved when it was written; nobody else has its token.
    if not isinstance(found, Exception) and claim.owner is not None and found.owner == claim.owner:
        return None
    refused: Outcome = outcome(layer._put_record, claim)
    return refused


def _written(layer: Layer, operation: Operation, records: Sequence[DataRecord]) -> list[Outcome]:
    """Completed, renewed or released: each where the owner is still the record's."""
    try:
        changed = layer._write(_BUILT[operation](layer._statements.table, records, layer._now_ms()), len(records))
    except IdempotencyPersistenceConnectionError as error:
        return [error] * len(records)
    except (UnstorableValueError, IdempotencyPersistenceLayerError):
        return one_by_one(layer, operation, records)
    if changed == len(records) or operation == "delete":
        return [None] * len(records)
    # Once more, by itself, does no harm to those that got through, and finds out what stands in the way of the others.
    return one_by_one(layer, operation, records)


# --- the statements -----------------------------------------------------------------------------------------------


def looking(table: str, claims: Sequence[DataRecord], now_ms: int | None) -> Command:
    """Read the rows of the keys that have one, each behind its key; `record_of` makes a record of the rest."""
    return _look_text(table, len(claims)), (now_ms, *(claim.idempotency_key for claim in claims))


def claiming(table: str, claims: Sequence[DataRecord], now_ms: int | None) -> Command:
    """Store each claim where nothing stands, or what is gone."""
    values: list[object] = []
    for claim in claims:
        values += (claim.idempotency_key, claim.stored_status, claim.expiry_timestamp)
        values += (claim.in_progress_expiry_timestamp, claim.owner, claim.attempt)
        values += (claim.payload_hash, claim.types, claim.response_data, claim.made_at_ms)
    return _claim_text(table, len(claims)), (now_ms, now_ms, *values, now_ms, now_ms)


def completing(table: str, records: Sequence[DataRecord], now_ms: int | None) -> Command:
    """Store each outcome where the owner is still the record's."""
    values: list[object] = []
    for record in records:
        values += (record.idempotency_key, record.owner, record.stored_status, record.expiry_timestamp)
        values += (record.payload_hash, record.types, record.response_data, record.made_at_ms)
    return _complete_text(table, len(records)), (now_ms, *values)


def renewing(table: str, records: Sequence[DataRecord], now_ms: int | None) -> Command:
    """Move each window and lease on, where the owner is still the record's and it is INPROGRESS."""
    values: list[object] = []
    for record in records:
        values += (record.idempotency_key, record.owner, record.expiry_timestamp)
        values += (record.in_progress_expiry_timestamp, record.made_at_ms)
    return _renew_text(table, len(records)), (now_ms, now_ms, *values)


def releasing(table: str, records: Sequence[DataRecord], now_ms: int | None) -> Command:  # noqa: ARG001  # as the others
    """Remove each claim, under the same condition."""
    values = [value for record in records for value in (record.idempotency_key, record.owner)]
    return _release_text(table, len(records)), tuple(values)


_BUILT: Final = {"update": completing, "renew": renewing, "delete": releasing}


@cache
def _look_text(table: str, rows: int) -> str:
    return placed(f"""
        SELECT id, {COLUMNS}, {NOW} FROM "{table}" WHERE id IN ({", ".join("?" * rows)})""")


@cache
def _claim_text(table: str, rows: int) -> str:
    return placed(f"""
        INSERT INTO "{table}" (id, {COLUMNS})
        SELECT column1, column2, column3 + {late_seconds("column10")}, column4 + {late_ms("column10")},
            column5, column6, column7, column8, column9
        FROM (VALUES {_rows(rows, 10)})
        WHERE true
        ON CONFLICT (id) DO UPDATE SET {ALL_NEW}
        WHERE {GONE}""")


# The two below could say UPDATE ... FROM since SQLite 3.33. Here the join does it: what stands under another owner is
# not among the rows to be inserted, and each row that is stands already.


@cache
def _complete_text(table: str, rows: int) -> str:
    return placed(f"""
        INSERT INTO "{table}" (id, {COLUMNS})
        SELECT t.id, v.column3, v.column4 + {late_seconds("v.column8")}, NULL, t.owner, t.attempt,
            COALESCE(NULLIF(v.column5, ''), t.validation), v.column6, v.column7
        FROM (VALUES {_rows(rows, 8)}) AS v JOIN "{table}" AS t ON t.id = v.column1 AND t.owner = v.column2
        WHERE true
        ON CONFLICT (id) DO UPDATE SET
            status = excluded.status, expiration = excluded.expiration, in_progress_expiration = NULL,
            validation = excluded.validation, types = excluded.types, data = excluded.data""")


@cache
def _renew_text(table: str, rows: int) -> str:
    return placed(f"""
        INSERT INTO "{table}" (id, {COLUMNS})
        SELECT t.id, t.status, v.column3 + {late_seconds("v.column5")}, v.column4 + {late_ms("v.column5")},
            t.owner, t.attempt, t.validation, t.types, t.data
        FROM (VALUES {_rows(rows, 5)}) AS v JOIN "{table}" AS t ON t.id = v.column1 AND t.owner = v.column2
        WHERE t.status = '{INPROGRESS}'
        ON CONFLICT (id) DO UPDATE SET
            expiration = excluded.expiration, in_progress_expiration = excluded.in_progress_expiration""")


@cache
def _release_text(table: str, rows: int) -> str:
    return f"""
        DELETE FROM "{table}"
        WHERE status = '{INPROGRESS}' AND (id, owner) IN (VALUES {_rows(rows, 2)})"""


def _rows(rows: int, columns: int) -> str:
    row = f"({', '.join('?' * columns)})"
    return ", ".join([row] * rows)


def _portions(values: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), most):
        yield values[start : start + most]

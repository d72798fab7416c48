"""Many records in one statement of SQLite: what is for one of them alone to fail at is no failure of the others."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from retrysafe.clock import SYSTEM_CLOCK
from retrysafe.exceptions import IdempotencyPersistenceConnectionError, IdempotencyPersistenceLayerError
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.persistence.sqlite import SQLitePersistenceLayer

COUNT = 6


def claims(count=COUNT):
    now = SYSTEM_CLOCK.now_ms()
    return [
        DataRecord(f"order {number}", INPROGRESS, now // 1000 + 3600, now + 30_000, owner="me", made_at_ms=now)
        for number in range(count)
    ]


def outcomes(data=lambda number: '"paid"', count=COUNT):
    return [
        each.replaced(status=COMPLETED, response_data=data(number), in_progress_expiry_timestamp=None)
        for number, each in enumerate(claims(count))
    ]


def failed(told):
    return [number for number, each in enumerate(told) if each is not None]


@pytest.mark.parametrize("operation", ["put", "update", "renew", "delete"])
@pytest.mark.parametrize(("count", "transactions"), [(2, 1), (90, 1), (91, 2), (200, 3)])
def test_ninety_records_are_one_transaction(path, operation, count, transactions, monkeypatch):
    """A statement that failed would not be seen otherwise, as each record would then go by itself."""
    with SQLitePersistenceLayer(path) as layer:
        if operation != "put":
            assert layer._for_each("put", claims(count)) == [None] * count
        written, write = [], layer._connections.write
        monkeypatch.setattr(layer._connections, "write", lambda command: written.append(command) or write(command))
        monkeypatch.setattr(layer._connections, "write_unless_locked", lambda command: None)
        records = outcomes(count=count) if operation == "update" else claims(count)
        assert layer._for_each(operation, records) == [None] * count
        assert len(written) == transactions
        assert all(len(values) < 1000 for _, values in written)  # as many as SQLite takes before 3.32
        with closing(sqlite3.connect(path)) as connection:
            (standing,) = connection.execute("SELECT count(*) FROM retrysafe").fetchone()
    assert standing == (0 if operation == "delete" else count)


@pytest.mark.parametrize("operation", ["put", "update", "renew", "delete"])
@pytest.mark.parametrize("at", [0, COUNT // 2, COUNT - 1])
def test_a_record_that_the_database_refuses_fails_alone(path, operation, at):
    with SQLitePersistenceLayer(path) as layer, closing(sqlite3.connect(path)) as connection:
        if operation != "put":
            assert layer._for_each("put", claims()) == [None] * COUNT
        kinds = {"put": ["INSERT"], "delete": ["DELETE"]}.get(operation, ["UPDATE"])
        for kind in kinds:  # a trigger of the user's
            row = "OLD" if kind == "DELETE" else "NEW"
            connection.execute(
                f"CREATE TRIGGER refusing BEFORE {kind} ON retrysafe WHEN {row}.id = 'order {at}'"
                " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        told = layer._for_each(operation, outcomes() if operation == "update" else claims())
        assert failed(told) == [at]
        assert isinstance(told[at], IdempotencyPersistenceLayerError)
        stand = {row[0]: row[1] for row in connection.execute("SELECT id, status FROM retrysafe")}
    others = {f"order {number}" for number in range(COUNT) if number != at}
    assert {key for key in stand if key != f"order {at}"} == (set() if operation == "delete" else others)
    if operation == "update":
        assert {key for key, status in stand.items() if status == COMPLETED} == others


def test_where_there_is_no_room_for_all_outcomes_those_are_stored_that_find_some(path):
    with SQLitePersistenceLayer(path) as layer:
        assert layer._for_each("put", claims()) == [None] * COUNT
        (pages,) = layer._connections.read(("PRAGMA page_count", ()))[0]
        layer._connections.write((f"PRAGMA max_page_count = {pages + 4}", ()))
        told = layer._for_each("update", outcomes(lambda number: "x" * 100_000 if number == 2 else '"paid"'))
    assert failed(told) == [2]


def test_where_the_file_stays_locked_it_is_waited_for_once_and_not_for_each(path, monkeypatch):
    with SQLitePersistenceLayer(path, busy_timeout_seconds=0) as layer:
        for method, operation in (("read", "put"), ("write", "put"), ("write", "update")):
            asked = []

            def locked(command, asked=asked):
                asked.append(command)
                raise IdempotencyPersistenceConnectionError("locked")

            with monkeypatch.context() as patched:
                patched.setattr(layer._connections, method, locked)
                told = layer._for_each(operation, claims() if operation == "put" else outcomes())
            assert [type(each) for each in told] == [IdempotencyPersistenceConnectionError] * COUNT
            assert len(asked) == 1

"""Damaged SQLite databases and unreadable records: told without their content, and never written over."""

from __future__ import annotations

import traceback

import pytest

from retrysafe.exceptions import (
    IdempotencyBaseError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_failures import SECRET, writes
from support.sqlite_support import START_MS, SetClock, claim, completed


class TestDamage:
    @pytest.mark.parametrize("content", [b"short", b"a long text\n" * 1000], ids=["short", "long"])
    def test_a_file_that_is_no_database_is_refused_and_left_alone(self, path, content):
        path.write_bytes(content)
        with pytest.raises(IdempotencyPersistenceConsistencyError, match="no SQLite database") as caught:
            SQLitePersistenceLayer(path)
        assert str(path) in str(caught.value)
        assert path.read_bytes() == content

    def test_damaged_pages_are_never_written_over(self, path):
        with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
            for number in range(200):
                layer._put_record(completed(f"key#{number}", answer="1" * 300))
        content = bytearray(path.read_bytes())
        for page in range(6, len(content) // 4096, 3):
            content[page * 4096 : (page + 1) * 4096] = b"\xff" * 4096
        path.write_bytes(content)
        with SQLitePersistenceLayer(path, synchronous="off", clock=SetClock()) as layer:
            ends = []
            for number in range(200):
                with pytest.raises(IdempotencyBaseError) as caught:
                    layer._put_record(claim(f"key#{number}", owner="b"))
                ends.append(caught.type)
        assert set(ends) == {IdempotencyItemAlreadyExistsError, IdempotencyPersistenceConsistencyError}
        assert bytes(content) == path.read_bytes()

    def test_a_dropped_table_is_told(self, layer, by_hand):
        by_hand.execute("DROP TABLE retrysafe")
        for method, argument in writes(layer):
            with pytest.raises(IdempotencyPersistenceLayerError, match="dropped"):
                method(argument)


class TestUnreadable:
    @pytest.mark.parametrize(
        ("column", "value"),
        [
            ("status", "x'41'"),
            ("status", f"CAST(x'ff' || '{SECRET}' AS TEXT)"),
            ("expiration", f"'soon {SECRET}'"),
            ("expiration", "x'00'"),
            ("expiration", "0.5"),
            ("in_progress_expiration", f"'{SECRET}a'"),
            ("in_progress_expiration", "x'00'"),
            ("in_progress_expiration", "0.5"),
            ("owner", f"CAST('{SECRET}' AS BLOB)"),
            ("attempt", "'first'"),
            ("validation", "x'00'"),
            ("types", "x'00'"),
            ("data", f"CAST('{SECRET}' AS BLOB)"),
            ("data", f"CAST(x'ff' || '{SECRET}' AS TEXT)"),
        ],
    )
    def test_it_is_told_without_its_content_and_never_written_over(self, layer, by_hand, column, value):
        by_hand.execute(f"UPDATE retrysafe SET {column} = {value}")  # noqa: S608  # our own words
        before = by_hand.execute("SELECT *, hex(data) FROM retrysafe WHERE status <> 'x'")
        before.connection.text_factory = bytes
        before = before.fetchall()
        layer.clock.ms = 10 * START_MS
        for method, argument in ((layer._get_record, "key"), (layer._put_record, claim(owner="b"))):
            with pytest.raises(IdempotencyPersistenceConsistencyError) as caught:
                method(argument)
            assert SECRET not in "".join(traceback.format_exception(caught.value))
        after = by_hand.execute("SELECT *, hex(data) FROM retrysafe WHERE status <> 'x'").fetchall()
        assert before == after

    @pytest.mark.parametrize("value", ["'soon'", "x'00'", "0.5"])
    @pytest.mark.parametrize("column", ["expiration", "in_progress_expiration"])
    def test_the_statement_itself_spares_it_not_only_the_look_before_it(self, layer, by_hand, column, value):
        by_hand.execute(f"UPDATE retrysafe SET {column} = {value}")  # noqa: S608  # our own words
        assert layer._connections.write(layer._statements.claim(claim(owner="b"), 10 * START_MS)) == 0
        assert layer.sweep() == 0

    def test_a_lost_lease_is_a_lost_lease_whatever_stands_there_now(self, layer, by_hand):
        by_hand.execute("UPDATE retrysafe SET owner = x'00'")
        with pytest.raises(IdempotencyLeaseLostError) as caught:
            layer._update_record(completed())
        assert caught.value.record is None

    def test_other_keys_are_not_touched_by_it(self, layer, by_hand):
        by_hand.execute("UPDATE retrysafe SET expiration = 'soon'")
        layer._put_record(claim("other"))

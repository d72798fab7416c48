"""The database that an SQLite layer is given: its options, its file and its tables; and what is refused."""

from __future__ import annotations

import sqlite3

import pytest

from retrysafe.exceptions import IdempotencyPersistenceConfigError, IdempotencyPersistenceConnectionError
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import START_MS, WINDOW_S, claim, completed


class TestFile:
    @pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("normal", 1), ("off", 0)])
    def test_the_durability_asked_for_is_in_force(self, path, synchronous, level):
        with SQLitePersistenceLayer(path, synchronous=synchronous) as layer:
            layer._put_record(claim())
            connections = [layer._connections._writer, *layer._connections._readers]
            assert len(connections) == 2
            for connection in connections:
                assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
                assert connection.execute("PRAGMA synchronous").fetchall() == [(level,)]
                assert connection.execute("PRAGMA fullfsync").fetchall() == [(level == 2,)]

    def test_full_durability_is_the_default(self, path):
        with SQLitePersistenceLayer(path) as layer:
            layer._put_record(claim())
            assert layer._connections._writer.execute("PRAGMA synchronous").fetchall() == [(2,)]

    def test_a_reader_cannot_write(self, layer):
        layer._put_record(claim())
        (reader,) = layer._connections._readers
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM retrysafe")

    def test_the_columns_are_named_as_the_records_attributes(self, layer, path):
        layer._put_record(claim(payload_hash="h"))
        layer._update_record(completed(types="t"))
        by_hand = sqlite3.connect(path)
        by_hand.row_factory = sqlite3.Row
        (row,) = by_hand.execute("SELECT * FROM retrysafe").fetchall()
        by_hand.close()
        assert dict(row) == {
            "id": "key",
            "status": "COMPLETED",
            "expiration": START_MS // 1000 + WINDOW_S,
            "in_progress_expiration": None,
            "owner": "a",
            "attempt": 1,
            "validation": "h",
            "types": "t",
            "data": '{"paid": 1}',
        }

    def test_records_outlive_the_layer(self, path, clock):
        with SQLitePersistenceLayer(path, clock=clock) as layer:
            layer._put_record(claim())
        with SQLitePersistenceLayer(str(path), clock=clock) as layer:
            assert layer._get_record("key") == claim()

    def test_it_stays_the_same_file_when_the_directory_changes(self, tmp_path, monkeypatch, clock):
        monkeypatch.chdir(tmp_path)
        with SQLitePersistenceLayer("records.db", clock=clock) as layer:
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            layer._put_record(claim())
            assert not (tmp_path / "elsewhere" / "records.db").exists()

    @pytest.mark.parametrize("name", ["a b?mode=ro#c%41.db", "ä€𝄞.db"])
    def test_any_file_name_will_do(self, tmp_path, clock, name):
        with SQLitePersistenceLayer(tmp_path / name, clock=clock) as layer:
            layer._put_record(claim())
        assert [found.name for found in tmp_path.iterdir()] == [name]

    @pytest.mark.parametrize("table", ["select", "_T1", "x" * 63])
    def test_tables_of_one_file_are_independent(self, path, clock, layer, table):
        with SQLitePersistenceLayer(path, table=table, clock=clock) as other:
            other._put_record(claim())
            layer._put_record(claim(owner="b"))
            assert other._get_record("key").owner == "a"

    def test_a_closed_layer_says_so(self, path):
        layer = SQLitePersistenceLayer(path)
        layer._put_record(claim())
        layer.close()
        layer.close()
        for method, argument in (
            (layer._get_record, "key"),
            (layer._put_record, claim()),
            (layer._update_record, completed()),
            (layer._delete_record, claim()),
            (layer._renew_record, claim()),
            (layer.sweep, 1),
        ):
            with pytest.raises(IdempotencyPersistenceConnectionError, match="was closed with its layer"):
                method(argument)

    def test_closing_leaves_one_file(self, tmp_path, path):
        with SQLitePersistenceLayer(path) as layer:
            layer._put_record(claim())
        assert list(tmp_path.iterdir()) == [path]


class TestOptions:
    @pytest.mark.parametrize("path", ["", ":memory:", "file:records.db", "a\0b", b"records.db", 1, None])
    def test_a_path_that_is_none_is_refused(self, path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="path="):
            SQLitePersistenceLayer(path)

    def test_memory_has_a_layer_of_its_own(self):
        with pytest.raises(IdempotencyPersistenceConfigError, match="MemoryPersistenceLayer"):
            SQLitePersistenceLayer(":memory:")

    @pytest.mark.parametrize("table", ["", "a b", 'a"b', "1a", "sqlite_a", "ä", "x" * 64, "Retrysafe_Schema", None])
    def test_a_table_name_that_needs_care_is_refused(self, path, table):
        with pytest.raises(IdempotencyPersistenceConfigError, match="table="):
            SQLitePersistenceLayer(path, table=table)

    @pytest.mark.parametrize("synchronous", ["FULL", "extra", "", 2, None])
    def test_an_unknown_durability_is_refused(self, path, synchronous):
        with pytest.raises(IdempotencyPersistenceConfigError, match=f"synchronous={synchronous!r}"):
            SQLitePersistenceLayer(path, synchronous=synchronous)

    @pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), 1e10, "5", True, None])
    def test_a_timeout_that_is_none_is_refused(self, path, seconds):
        with pytest.raises(IdempotencyPersistenceConfigError, match="busy_timeout_seconds="):
            SQLitePersistenceLayer(path, busy_timeout_seconds=seconds)

    def test_nothing_was_made_where_an_option_was_refused(self, tmp_path, path):
        with pytest.raises(IdempotencyPersistenceConfigError):
            SQLitePersistenceLayer(path, busy_timeout_seconds=-1)
        assert list(tmp_path.iterdir()) == []


class TestSchema:
    def by_hand(self, path, *statements):
        connection = sqlite3.connect(path)
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()

    def test_a_newer_format_is_refused(self, path):
        SQLitePersistenceLayer(path).close()
        self.by_hand(path, "UPDATE retrysafe_schema SET version = 2")
        with pytest.raises(IdempotencyPersistenceConfigError, match="version 2"):
            SQLitePersistenceLayer(path)
        SQLitePersistenceLayer(path, table="another").close()

    COLUMNS = "id, status, expiration, in_progress_expiration, owner, attempt, validation, types, data"

    @pytest.mark.parametrize(
        "made",
        [
            "CREATE TABLE retrysafe (id TEXT PRIMARY KEY, expiration, total)",
            f"CREATE TABLE retrysafe ({COLUMNS})",
            "CREATE VIEW retrysafe AS SELECT 1 AS id, 2 AS expiration",
        ],
        ids=["other columns", "no key", "a view"],
    )
    def test_what_is_no_table_of_records_is_left_alone(self, path, made):
        self.by_hand(path, made)
        with pytest.raises(IdempotencyPersistenceConfigError, match="table='retrysafe'"):
            SQLitePersistenceLayer(path)
        connection = sqlite3.connect(path)
        assert connection.execute("SELECT sql FROM sqlite_master WHERE sql <> ''").fetchall() == [(made,)]
        connection.close()

    def test_the_users_own_version_of_the_file_is_left_alone(self, path):
        self.by_hand(path, "PRAGMA user_version = 42", "CREATE TABLE mine (x)")
        SQLitePersistenceLayer(path).close()
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA user_version").fetchall() == [(42,)]
        connection.close()

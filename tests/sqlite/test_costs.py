"""What the SQLite layer costs: the statements of a call, and the sweeps of what is gone."""

from __future__ import annotations

import sqlite3

import pytest

from retrysafe.exceptions import (
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_claims import AFTER_WINDOW, found_by
from support.sqlite_support import START_MS, WINDOW_S, claim, completed


class TestCost:
    @pytest.fixture
    def statements(self, layer):
        """What is sent to SQLite from here on: (who, first word)."""
        layer._put_record(claim("warm"))
        seen = []
        (reader,) = layer._connections._readers
        reader.set_trace_callback(lambda sql: seen.append(("reader", sql.split()[0])))
        layer._connections._writer.set_trace_callback(lambda sql: seen.append(("writer", sql.split()[0])))
        layer._turns = iter(range(1, 60))
        return seen

    def test_a_first_call_is_one_read_and_two_writes(self, layer, statements):
        layer._put_record(claim())
        assert statements == [("reader", "SELECT"), ("writer", "INSERT")]
        layer._update_record(completed())
        assert statements[2:] == [("writer", "UPDATE")]

    def test_a_replay_is_one_read_and_no_write(self, layer, statements):
        found_by(layer, claim("warm", owner="b"))
        assert statements == [("reader", "SELECT")]

    def test_a_replay_waits_for_no_writer(self, layer, path):
        layer._put_record(claim())
        by_hand = sqlite3.connect(path, isolation_level=None)
        by_hand.execute("BEGIN EXCLUSIVE")
        with layer._connections._writing:
            assert found_by(layer, claim(owner="b")).owner == "a"
        by_hand.close()

    def test_release_and_renewal_are_one_write_each(self, layer, statements):
        layer._renew_record(claim("warm"))
        layer._delete_record(claim("warm"))
        assert statements == [("writer", "UPDATE"), ("writer", "DELETE")]

    def test_a_lost_takeover_takes_no_write_lock(self, layer, statements):
        found_by(layer, claim("warm", owner="b", replaces=claim("warm", owner="c")))
        assert statements == [("reader", "SELECT")]


class TestSweep:
    def fill(self, layer, count, **fields):
        for number in range(count):
            layer._connections.write(layer._statements.claim(completed(f"{fields}{number}", **fields), START_MS))

    def test_what_is_gone_is_deleted_and_nothing_else(self, layer, clock):
        layer._put_record(completed("gone"))
        layer._put_record(claim("dead"))
        layer._put_record(claim("running", lease_ms=2 * WINDOW_S * 1000))
        layer._put_record(claim("in its last millisecond", lease_ms=AFTER_WINDOW - START_MS))
        layer._put_record(completed("of a later version", status="PAUSED"))
        layer._put_record(completed("kept", window_s=WINDOW_S + 1))
        layer._put_record(completed("eternal").replaced(expiry_timestamp=None))
        clock.ms = AFTER_WINDOW
        assert layer.sweep() == 2
        for key in ("running", "in its last millisecond", "of a later version", "kept", "eternal"):
            layer._get_record(key)
        for key in ("gone", "dead"):
            with pytest.raises(IdempotencyItemNotFoundError):
                layer._get_record(key)

    def test_a_sweep_is_bounded(self, layer, clock):
        self.fill(layer, 12)
        clock.ms = AFTER_WINDOW
        assert [layer.sweep(limit=5) for _ in range(4)] == [5, 5, 2, 0]

    @pytest.mark.parametrize("limit", [0, -1])
    def test_an_unbounded_sweep_is_refused(self, layer, limit):
        with pytest.raises(IdempotencyPersistenceConfigError, match=f"limit={limit}"):
            layer.sweep(limit)

    def test_one_of_64_writes_deletes_at_most_100(self, layer, clock, path):
        self.fill(layer, 250)
        clock.ms = AFTER_WINDOW
        counts = []
        by_hand = sqlite3.connect(path)
        for _ in range(128):
            layer._delete_record(claim("nothing"))
            counts.append(by_hand.execute("SELECT count(*) FROM retrysafe").fetchone()[0])
        by_hand.close()
        assert sorted(set(counts), reverse=True) in ([250, 150, 50], [150, 50])
        assert counts.count(150) == 64

    def test_a_failing_sweep_fails_no_call(self, layer, clock, path):
        self.fill(layer, 1)
        by_hand = sqlite3.connect(path)
        by_hand.execute("CREATE TRIGGER t BEFORE DELETE ON retrysafe BEGIN SELECT RAISE(ABORT, 'no'); END")
        by_hand.close()
        clock.ms = AFTER_WINDOW
        for number in range(64):
            layer._put_record(claim(f"key{number}", now_ms=AFTER_WINDOW))

    def test_a_sweep_by_the_way_waits_for_no_other_process(self, path):
        with SQLitePersistenceLayer(path, busy_timeout_seconds=600) as layer:
            by_hand = sqlite3.connect(path, isolation_level=None)
            by_hand.execute("BEGIN IMMEDIATE")
            with pytest.raises(IdempotencyPersistenceConnectionError):
                layer._connections.write_unless_locked(layer._statements.sweep(1, None))
            by_hand.close()

    def test_the_index_finds_what_is_gone(self, layer, path):
        by_hand = sqlite3.connect(path)
        sql, values = layer._statements.sweep(1, None)
        plan = by_hand.execute("EXPLAIN QUERY PLAN " + sql, values).fetchall()
        by_hand.close()
        assert any("INDEX retrysafe_expiration (expiration<?)" in row[3] for row in plan)

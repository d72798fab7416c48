"""The SQLite layer: what it stores, whom it lets claim, and what it costs. Real files throughout."""

from __future__ import annotations

import sqlite3
import time

import pytest

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import FAILED, UNAVAILABLE, DataRecord
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_support import LEASE_MS, START_MS, WINDOW_S, SetClock, claim, completed

AFTER_LEASE = START_MS + LEASE_MS + 1
AFTER_WINDOW = START_MS + (WINDOW_S + 1) * 1000


@pytest.fixture
def clock():
    return SetClock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.db"


@pytest.fixture
def layer(path, clock):
    with SQLitePersistenceLayer(path, synchronous="off", clock=clock) as made:
        yield made


OTHER_CLAIMS = [
    {"owner": "c"},
    {"owner": None},
    {"attempt": 2},
    {"in_progress_expiry_timestamp": 1},
    {"status": FAILED},
]


def found_by(layer, record):
    """The record that keeps this claim out."""
    with pytest.raises(IdempotencyItemAlreadyExistsError) as caught:
        layer._put_record(record)
    return caught.value.old_data_record


class TestClaim:
    def test_the_first_claim_is_stored_as_it_is(self, layer):
        record = claim(payload_hash="h")
        layer._put_record(record)
        assert layer._get_record("key") == record

    def test_a_second_claim_is_told_what_stands(self, layer, clock):
        layer._put_record(claim(owner="a"))
        clock.ms += 5
        found = found_by(layer, claim(owner="b"))
        assert found == claim(owner="a")
        assert found.read_at_ms == START_MS + 5

    def test_a_claim_finds_itself_after_a_lost_reply(self, layer):
        layer._put_record(claim(owner="a"))
        assert found_by(layer, claim(owner="a")).owner == "a"

    def test_keys_are_independent(self, layer):
        layer._put_record(claim("key#1"))
        layer._put_record(claim("KEY#1"))
        layer._put_record(claim("key#2"))

    def test_no_record_is_no_record(self, layer):
        with pytest.raises(IdempotencyItemNotFoundError):
            layer._get_record("key")

    def test_a_completed_record_whose_window_is_over_makes_way(self, layer, clock):
        layer._put_record(claim(payload_hash="h"))
        layer._update_record(completed(types="t"))
        clock.ms = AFTER_WINDOW - 1
        assert found_by(layer, claim(owner="b")).owner == "a"
        clock.ms = AFTER_WINDOW
        new = claim(owner="b", now_ms=AFTER_WINDOW)
        layer._put_record(new)
        assert layer._get_record("key") == new

    def test_many_at_once_replace_all_of_what_is_gone(self, layer, clock):
        layer._for_each("put", [claim("one", payload_hash="old", attempt=3), claim("two")])
        layer._for_each("update", [completed("one", types="t"), completed("two")])
        clock.ms = AFTER_WINDOW
        anew = [claim(key, "b", now_ms=clock.ms, payload_hash="new", attempt=2) for key in ("one", "two")]
        assert layer._for_each("put", anew) == [None, None]
        assert [layer._get_record(key) for key in ("one", "two")] == anew

    def test_a_lease_that_is_over_is_not_enough(self, layer, clock):
        layer._put_record(claim())
        clock.ms = AFTER_LEASE
        assert found_by(layer, claim(owner="b")).owner == "a"

    def test_a_window_never_cuts_a_running_lease(self, layer, clock):
        layer._put_record(claim(lease_ms=2 * WINDOW_S * 1000))
        clock.ms = AFTER_WINDOW
        assert found_by(layer, claim(owner="b")).owner == "a"
        clock.ms = START_MS + 2 * WINDOW_S * 1000 + 1
        layer._put_record(claim(owner="b"))

    def test_a_record_without_a_lease_is_held_until_its_window_is_over(self, layer, clock):
        layer._put_record(claim().replaced(in_progress_expiry_timestamp=None))
        clock.ms = AFTER_WINDOW - 1
        found_by(layer, claim(owner="b"))
        clock.ms = AFTER_WINDOW
        layer._put_record(claim(owner="b"))

    def test_a_record_without_a_window_stands_for_ever(self, layer, clock):
        layer._put_record(completed().replaced(expiry_timestamp=None))
        clock.ms = 10 * START_MS
        assert found_by(layer, claim(owner="b")).expiry_timestamp is None

    def test_a_status_from_elsewhere_is_handed_on(self, layer, path):
        layer._put_record(claim())
        with sqlite3.connect(path) as by_hand:
            by_hand.execute("UPDATE retrysafe SET status = 'PAUSED'")
        by_hand.close()
        assert found_by(layer, claim(owner="b")).stored_status == "PAUSED"

    def test_a_claim_gives_up_where_none_ever_applies(self, layer, path):
        by_hand = sqlite3.connect(path)
        by_hand.execute("CREATE TRIGGER t BEFORE INSERT ON retrysafe BEGIN SELECT RAISE(IGNORE); END")
        by_hand.close()
        assert found_by(layer, claim()) is None


class TestTakeover:
    def test_the_exact_record_is_replaced(self, layer, clock):
        layer._put_record(claim())
        clock.ms = AFTER_LEASE
        seen = found_by(layer, claim(owner="b"))
        new = claim(owner="b", now_ms=AFTER_LEASE, attempt=2)
        layer._put_record(new.replaced(replaces=seen))
        assert layer._get_record("key") == new

    @pytest.mark.parametrize("change", OTHER_CLAIMS, ids=lambda change: next(iter(change)))
    def test_any_other_record_is_not(self, layer, clock, change):
        layer._put_record(claim())
        clock.ms = AFTER_LEASE
        seen = claim().replaced(**change)
        assert found_by(layer, claim(owner="b", attempt=2, replaces=seen)) == claim()

    def test_a_peers_record_without_owner_and_lease_is_compared_too(self, layer):
        peers = claim(owner=None).replaced(in_progress_expiry_timestamp=None)
        layer._put_record(peers)
        layer._put_record(claim(owner="b", attempt=2, replaces=peers))
        assert layer._get_record("key").owner == "b"

    @pytest.mark.parametrize("change", OTHER_CLAIMS, ids=lambda change: next(iter(change)))
    def test_the_statement_itself_compares_not_only_the_look_before_it(self, layer, change):
        layer._put_record(claim())
        stale = claim(owner="b", replaces=claim().replaced(**change))
        assert layer._write(layer._statements.claim(stale, AFTER_LEASE)) == 0
        assert layer._write(layer._statements.claim(claim(owner="b"), AFTER_LEASE)) == 0
        assert layer._write(layer._statements.claim(claim(owner="b", replaces=claim()), AFTER_LEASE)) == 1

    def test_a_record_that_went_meanwhile_needs_no_comparison(self, layer):
        layer._put_record(claim(owner="b", replaces=claim()))
        assert layer._get_record("key").owner == "b"


class TestCompletion:
    def test_the_answer_is_stored_and_the_lease_ended(self, layer):
        layer._put_record(claim(payload_hash="h"))
        layer._update_record(completed(types="t"))
        assert layer._get_record("key") == completed(types="t", payload_hash="h")

    def test_a_payload_hash_that_comes_along_is_stored(self, layer):
        layer._put_record(claim())
        layer._update_record(completed(payload_hash="new"))
        assert layer._get_record("key").payload_hash == "new"

    def test_many_at_once_keep_or_get_their_payload_hashes_too(self, layer):
        layer._for_each("put", [claim("one", payload_hash="h"), claim("two")])
        outcomes = [completed("one", types="t"), completed("two", payload_hash="new")]
        assert layer._for_each("update", outcomes) == [None, None]
        assert layer._get_record("one") == completed("one", types="t", payload_hash="h")
        assert layer._get_record("two") == outcomes[1]

    @pytest.mark.parametrize("status", [FAILED, UNAVAILABLE])
    def test_other_outcomes_are_stored_too(self, layer, status):
        layer._put_record(claim())
        layer._update_record(completed(status=status, answer=""))
        assert layer._get_record("key").stored_status == status

    def test_doing_it_twice_is_harmless(self, layer):
        layer._put_record(claim())
        layer._update_record(completed())
        layer._update_record(completed())
        assert layer._get_record("key") == completed()

    def test_a_late_owner_changes_nothing(self, layer, clock):
        layer._put_record(claim())
        clock.ms = AFTER_LEASE
        layer._put_record(claim(owner="b", attempt=2, replaces=claim()))
        for late in (layer._update_record, layer._renew_record):
            with pytest.raises(IdempotencyLeaseLostError) as caught:
                late(completed(owner="a"))
            assert caught.value.owner == "b"
        layer._delete_record(completed(owner="a"))
        assert layer._get_record("key") == claim(owner="b", attempt=2)

    def test_a_purged_record_is_not_made_again(self, layer, path):
        layer._put_record(claim())
        with sqlite3.connect(path) as by_hand:
            by_hand.execute("DELETE FROM retrysafe")
        by_hand.close()
        with pytest.raises(IdempotencyLeaseLostError) as caught:
            layer._update_record(completed())
        assert caught.value.record is None
        with pytest.raises(IdempotencyItemNotFoundError):
            layer._get_record("key")

    def test_nobody_owns_a_peers_record(self, layer):
        peers = claim(owner=None)
        layer._put_record(peers)
        for method in (layer._update_record, layer._renew_record):
            with pytest.raises(IdempotencyLeaseLostError):
                method(completed(owner=None))
        layer._delete_record(peers)
        assert layer._get_record("key") == peers

    @pytest.mark.parametrize("answer", ["x" * 5000, '"\ud800"'], ids=["too large", "no Unicode"])
    def test_an_answer_that_sqlite_cannot_take_is_told_apart(self, layer, answer):
        layer._put_record(claim())
        layer._connections._writer.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4000)
        with pytest.raises(IdempotencyResponseUnavailableError):
            layer._update_record(completed(answer=answer))
        assert layer._get_record("key") == claim()
        layer._update_record(completed(status=UNAVAILABLE, answer=""))

    @pytest.mark.parametrize("answer", ['"\x00 ä €  𝄞"', "1" * 3_000_000], ids=["any text", "long"])
    def test_answers_come_back_as_they_were(self, layer, answer):
        layer._put_record(claim())
        layer._update_record(completed(answer=answer))
        assert layer._get_record("key").response_data == answer


class TestRelease:
    def test_the_claim_is_removed(self, layer):
        layer._put_record(claim())
        layer._delete_record(claim())
        layer._put_record(claim(owner="b"))

    def test_what_is_completed_stays(self, layer):
        layer._put_record(claim())
        layer._update_record(completed())
        layer._delete_record(claim())
        assert layer._get_record("key") == completed()

    def test_releasing_nothing_is_nothing(self, layer):
        layer._delete_record(claim())


class TestRenewal:
    def test_lease_and_window_move_on(self, layer):
        assert layer.can_renew
        layer._put_record(claim())
        later = claim(now_ms=START_MS + 30_000)
        layer._renew_record(later)
        assert layer._get_record("key") == later

    def test_a_completed_record_is_not_renewed(self, layer):
        layer._put_record(claim())
        layer._update_record(completed())
        with pytest.raises(IdempotencyLeaseLostError):
            layer._renew_record(claim())
        assert layer._get_record("key") == completed()


class TestClock:
    def test_sqlites_own_clock_judges_unless_one_is_given(self, path):
        with SQLitePersistenceLayer(path, synchronous="off") as layer:
            layer._put_record(claim(now_ms=time.time_ns() // 1_000_000))
            for _ in range(300):
                before = time.time_ns() // 1_000_000
                now = layer._get_record("key").read_at_ms
                assert before <= now <= time.time_ns() // 1_000_000

    def test_sqlites_own_clock_ends_windows(self, path):
        now = time.time_ns() // 1_000_000
        with SQLitePersistenceLayer(path, synchronous="off") as layer:
            layer._put_record(completed("over", now_ms=now, window_s=-2))
            layer._put_record(completed("not over", now_ms=now, window_s=60))
            layer._put_record(claim("over", owner="b", now_ms=now))
            assert found_by(layer, claim("not over", owner="b", now_ms=now)).owner == "a"

    def test_a_write_that_comes_late_moves_the_times_by_as_much(self, layer, clock):
        """A claim may have waited for other writers for longer than its lease: it has all of it before it."""
        clock.ms += 500
        for write, made in [
            (layer._put_record, claim),
            (layer._renew_record, claim),
            (layer._update_record, completed),
        ]:
            began = clock.ms
            clock.ms += 2 * LEASE_MS + 999  # a second more begins, too
            write(made(now_ms=began, made_at_ms=began))
            assert layer._get_record("key") == made(now_ms=clock.ms)

    def test_so_does_a_late_write_of_many_records(self, layer, clock):
        keys = ["one", "two"]
        clock.ms += 500
        for operation, made in [("put", claim), ("renew", claim), ("update", completed)]:
            began = clock.ms
            clock.ms += 2 * LEASE_MS + 999  # a second more begins, too
            records = [made(key, now_ms=began, made_at_ms=began) for key in keys]
            assert layer._for_each(operation, records) == [None, None]
            assert [layer._get_record(key) for key in keys] == [made(key, now_ms=clock.ms) for key in keys]

    def test_sqlites_own_clock_moves_them_too(self, path):
        long_ago = time.time_ns() // 1_000_000 - 3 * LEASE_MS
        with SQLitePersistenceLayer(path, synchronous="off") as layer:
            layer._put_record(claim(now_ms=long_ago, made_at_ms=long_ago))
            found = layer._get_record("key")
            assert not found.lease_over(found.read_at_ms)


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


def test_a_record_needs_no_more_than_its_key(layer):
    layer._put_record(DataRecord("key"))
    assert layer._get_record("key") == DataRecord("key")

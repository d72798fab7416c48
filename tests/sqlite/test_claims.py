"""Whom the SQLite layer lets claim and take over, and by which clock it judges. Real files throughout."""

from __future__ import annotations

import sqlite3
import time

import pytest

from retrysafe.exceptions import IdempotencyItemNotFoundError
from retrysafe.persistence.datarecord import FAILED, DataRecord
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from support.sqlite_claims import AFTER_LEASE, AFTER_WINDOW, found_by
from support.sqlite_support import LEASE_MS, START_MS, WINDOW_S, claim, completed

OTHER_CLAIMS = [
    {"owner": "c"},
    {"owner": None},
    {"attempt": 2},
    {"in_progress_expiry_timestamp": 1},
    {"status": FAILED},
]


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


def test_a_record_needs_no_more_than_its_key(layer):
    layer._put_record(DataRecord("key"))
    assert layer._get_record("key") == DataRecord("key")

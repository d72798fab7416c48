"""What the owner of a record in SQLite may do with it: complete, release and renew; and that nobody else may."""

from __future__ import annotations

import sqlite3

import pytest

from retrysafe.exceptions import (
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyResponseUnavailableError,
)
from retrysafe.persistence.datarecord import FAILED, UNAVAILABLE
from support.sqlite_claims import AFTER_LEASE
from support.sqlite_support import START_MS, claim, completed


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

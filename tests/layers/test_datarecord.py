"""What a record tells of itself, to layers of one's own and to hooks."""

from __future__ import annotations

import datetime as dt

import pytest

from retrysafe import DataRecord
from retrysafe.exceptions import IdempotencyInvalidStatusError
from retrysafe.persistence.datarecord import COMPLETED, EXPIRED, FAILED, INPROGRESS, UNAVAILABLE

LONG_AGO, FAR_OFF = 1, 4_000_000_000


@pytest.mark.parametrize("status", [INPROGRESS, COMPLETED, FAILED, UNAVAILABLE])
def test_its_status_is_the_stored_one_until_its_window_is_over(status):
    live, over = DataRecord("key", status, FAR_OFF), DataRecord("key", status, LONG_AGO)
    assert (live.status, live.is_expired) == (status, False)
    assert (over.status, over.is_expired, over.stored_status) == (EXPIRED, True, status)
    assert DataRecord("key", status).status == status, "without a window"


def test_it_is_not_over_while_its_lease_runs():
    assert DataRecord("key", INPROGRESS, LONG_AGO, FAR_OFF * 1000).status == INPROGRESS


def test_a_lease_that_a_peer_left_on_a_completed_record_does_not_outlast_its_window():
    assert DataRecord("key", COMPLETED, LONG_AGO, FAR_OFF * 1000).is_expired


@pytest.mark.parametrize(
    "change",
    [{"status": COMPLETED}, {"owner": "other"}, {"attempt": 2}, {"in_progress_expiry_timestamp": 2}],
    ids=lambda change: next(iter(change)),
)
def test_a_takeover_finds_the_very_write_that_it_saw_or_another(change):
    seen = DataRecord("key", INPROGRESS, 1, 1, owner="own")
    assert seen.same_claim(seen.replaced(expiry_timestamp=5, read_at_ms=7))
    assert not seen.same_claim(seen.replaced(**change))


def test_a_status_that_this_version_does_not_know_is_refused_and_never_over():
    record = DataRecord("key", "PAUSED", LONG_AGO)
    assert not record.is_expired
    with pytest.raises(IdempotencyInvalidStatusError, match="'PAUSED'"):
        _ = record.status


def test_the_end_of_its_window_is_an_aware_time_in_utc():
    assert DataRecord("key", COMPLETED, FAR_OFF).get_expiration_datetime() == dt.datetime(
        2096, 10, 2, 7, 6, 40, tzinfo=dt.UTC
    )
    assert DataRecord("key", COMPLETED).get_expiration_datetime() is None


def test_its_answer_is_plain_json_and_none_while_there_is_none():
    assert DataRecord("key", COMPLETED, response_data='{"a": [1]}').response_json_as_dict() == {"a": [1]}
    assert DataRecord("key", INPROGRESS).response_json_as_dict() is None


@pytest.mark.parametrize(
    "change",
    [
        {"idempotency_key": "other"},
        {"status": COMPLETED},
        {"expiry_timestamp": 2},
        {"in_progress_expiry_timestamp": 3},
        {"response_data": "1"},
        {"payload_hash": "x"},
        {"sort_key": "x"},
        {"owner": "other"},
        {"attempt": 2},
        {"types": "x"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_it_equals_another_with_the_same_in_the_store(change):
    record = DataRecord("key", INPROGRESS, 1, 1, owner="own")
    assert record == record.replaced(made_at_ms=1, read_at_ms=2, shown_as="whole", replaces=record)
    assert record != record.replaced(**change)
    assert record != "key"


def test_it_shows_all_but_its_answer():
    shown = repr(DataRecord("key", COMPLETED, 1, 2, '"private"', owner="own", attempt=3))
    assert "private" not in shown
    for part in ("'key'", "'COMPLETED'", "'own'", "attempt=3", "<9 characters>"):
        assert part in shown

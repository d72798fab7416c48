"""Records are dated by DynamoDB's clock: where the worker's is wrong or leaps, and where a claim took long."""

from __future__ import annotations

import pytest

from retrysafe import DataRecord
from retrysafe.clock import SystemClock
from retrysafe.exceptions import IdempotencyItemAlreadyExistsError
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.dynamodb_support import HOUR_MS, items_of


def _claim(clock, owner="me", lease_ms=60_000, replaces=None):
    now = clock.now_ms()
    lease_end = now + lease_ms
    return DataRecord(
        "orders#1", INPROGRESS, lease_end // 1000 + 1, lease_end, owner=owner, made_at_ms=now, replaces=replaces
    )


@pytest.mark.parametrize("place", ["a server", "Lambda"])
def test_a_lease_is_never_dated_by_a_clock_that_has_leapt(worker, service, place, request):
    """Not even for a moment, in which the worker may die and leave the key locked for so long."""
    if place == "Lambda":
        request.getfixturevalue("in_lambda")
    leaping = worker()
    leaping(0)
    leaping.clock.ahead_ms += 2 * HOUR_MS
    del service.requests[:]
    leaping(1)
    assert service.requests == ["GetItem", "PutItem", "outcome"]
    claim = _claim(leaping.clock)
    leaping.layer._put_record(claim)
    leaping.clock.ahead_ms += 2 * HOUR_MS
    del service.requests[:]
    leaping.layer._renew_record(_claim(leaping.clock))
    assert service.requests == ["GetItem", "UpdateItem"]


@pytest.mark.parametrize("is_over", [True, False])
def test_what_the_look_for_the_time_finds_is_claimed_all_the_same_where_it_is_over_or_named(worker, service, is_over):
    before, after = worker(), worker()
    before.layer._put_record(_claim(before.clock, lease_ms=-5000 if is_over else -1))
    seen = None if is_over else before.layer._get_record("orders#1")
    del service.requests[:]
    after.layer._put_record(_claim(after.clock, owner="anew", replaces=seen))
    assert service.requests == ["GetItem", "PutItem", *["PutItem"] * is_over]
    assert after.layer._get_record("orders#1").owner == "anew"


@pytest.mark.parametrize("hours", [2, -2])
def test_a_packed_answer_is_dated_by_the_service_too(worker, service, hours, dynoxide, table):
    leaping, wrong, right = worker(), worker(hours * HOUR_MS), worker()

    def leap():
        leaping.clock.ahead_ms += hours * HOUR_MS

    leaping(0)
    wrong(0)
    leaping.body.during, leaping.body.answer = leap, "x" * 500_000
    assert leaping(1) == leaping.body.answer
    service.refuse("outcome", "ValidationException", "Item size has exceeded the maximum allowed size")
    assert wrong(2) == 1
    ends = [int(item["expiration"]["N"]) - SystemClock().now_ms() // 1000 for item in items_of(dynoxide, table)]
    assert all(500 < end < 700 for end in ends)
    assert (right(1), right(2), right.body.runs) == (leaping.body.answer, 1, 0)


def test_a_claim_whose_lease_was_wrong_for_a_moment_and_was_taken_over_then_does_not_run(in_lambda, worker):
    """Its own reply says that the lease was over when it was written; a rival was quicker than the correction."""
    wrong, rival = worker(-2 * HOUR_MS), worker()
    claim = _claim(wrong.clock)
    steps = wrong.layer._steps.put(claim)
    backend = wrong.layer._settings.open()[0]
    correction = steps.send(backend.run(next(steps)))
    rival.layer._put_record(_claim(rival.clock, owner="rival", replaces=rival.layer._get_record("orders#1")))
    with pytest.raises(IdempotencyItemAlreadyExistsError) as refused:
        steps.send(backend.run(correction))
    assert refused.value.old_data_record.owner == "rival"


def test_a_claim_that_took_most_of_its_lease_to_get_through_begins_anew(worker, service):
    call = worker()
    call.layer._put_record(_claim(call.clock).replaced(idempotency_key="orders#0"))
    service.slow_seconds = 0.3
    claim = _claim(call.clock, lease_ms=500)
    call.layer._put_record(claim)
    assert service.requests[2:] == ["PutItem", "UpdateItem"]
    stands = call.layer._get_record("orders#1")
    assert stands.in_progress_expiry_timestamp >= claim.in_progress_expiry_timestamp + 300


def test_a_claim_that_is_sent_late_has_its_whole_lease_before_it(in_lambda, worker, service):
    """As the first one of a process, which loads boto3 first."""
    call = worker(-2900)
    claim = _claim(call.clock, lease_ms=3000)
    call.clock.ahead_ms += 2900
    call.layer._put_record(claim)
    assert service.requests == ["PutItem"]
    stands = call.layer._get_record("orders#1")
    assert stands.in_progress_expiry_timestamp >= claim.in_progress_expiry_timestamp + 2900
    assert stands.expiry_timestamp >= claim.expiry_timestamp + 2


def test_records_are_dated_by_the_service(worker):
    call = worker(2 * HOUR_MS)
    call.layer._put_record(_claim(call.clock))
    found = call.layer._get_record("orders#1")
    assert abs(found.read_at_ms - SystemClock().now_ms()) < 30_000
    assert 30_000 < found.in_progress_expiry_timestamp - found.read_at_ms < 90_000
    call.layer._update_record(found.replaced(status=COMPLETED, made_at_ms=call.clock.now_ms()))

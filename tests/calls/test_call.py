"""What a call writes: its times, whole and never too short, and what stays the same from its claim to its outcome."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.lease import Lease
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.plan import Plan


def a_call(clock, **options):
    plan = Plan(
        function_name="work", key_prefix="work", config=IdempotencyConfig(**options), codec=AnswerCodec(), clock=clock
    )
    return begin_call(plan, 1)


def test_a_lease_is_renewed_after_a_third_and_half_of_it_must_be_left_to_begin():
    lease = Lease(30_001, renews=True)
    assert (lease.renewal_seconds, lease.least_ms) == (pytest.approx(10.000333), 15_000)
    assert Lease(30_000, renews=False).least_ms == 0


@pytest.mark.parametrize(
    ("lease_s", "window_s", "ends_after_s"),
    [(1, 10, 10), (10, 10, 11), (9.2, 10, 10), (10.2, 1, 11), (10.201, 1, 12), (60.2, 1, 61)],
)
def test_a_claim_has_a_window_of_whole_seconds_that_ends_no_sooner_than_its_lease(
    clock, lease_s, window_s, ends_after_s
):
    clock.advance(0.8 - clock.now_ms() % 1000 / 1000)
    begun = clock.now_ms()
    claim = a_call(clock, in_progress_expires_after_seconds=lease_s, expires_after_seconds=window_s).claim()
    assert (claim.made_at_ms, claim.in_progress_expiry_timestamp) == (begun, begun + lease_s * 1000)
    assert claim.expiry_timestamp == begun // 1000 + ends_after_s
    assert isinstance(claim.expiry_timestamp, int)
    assert isinstance(claim.in_progress_expiry_timestamp, int)


def test_a_claim_made_in_a_lambda_invocation_has_a_lease_that_ends_with_it_however_late_it_is_made(clock):
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 5000)
    call = a_call(clock, lambda_context=context)
    first = call.claim()
    clock.advance(4.9)
    again = call.claim()
    assert first.in_progress_expiry_timestamp == again.in_progress_expiry_timestamp
    assert not call.is_short(again, clock.now_ms())


def test_renewals_and_outcomes_are_of_the_attempt_and_the_owner_of_the_claim(clock):
    call = a_call(clock)
    claim = call.claim(attempt=3)
    clock.advance(5)
    renewal, outcome = call.renewal(claim), call.outcome(claim, COMPLETED, "1")
    assert [each.attempt for each in (renewal, outcome)] == [3, 3]
    assert {each.owner for each in (claim, renewal, outcome)} == {call.owner}
    assert renewal.in_progress_expiry_timestamp == claim.in_progress_expiry_timestamp + 5000
    assert (renewal.response_data, outcome.in_progress_expiry_timestamp) == ("", None)
    assert repr(outcome.expiry_timestamp) == str(clock.now_ms() // 1000 + 3600), "a whole number"


def test_a_claim_is_short_once_less_than_half_of_its_lease_is_left(clock):
    call = a_call(clock)
    claim = call.claim()
    assert not call.is_short(claim, clock.now_ms() + 15_000)
    assert call.is_short(claim, clock.now_ms() + 15_001)

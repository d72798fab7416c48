"""A batch and its leases step by step, with neither store nor driver: what comes in which order, and is due when."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig
from retrysafe._batch import leases as module
from retrysafe._batch.item import Item
from retrysafe._batch.leases import Leases
from retrysafe._batch.state import Batch
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.heartbeat import SOONER_AFTER_FAILURE
from retrysafe.persistence.datarecord import UNAVAILABLE
from retrysafe.plan import Plan
from retrysafe.testing import ManualClock

WAITS = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=60, in_progress_expires_after_seconds=30)


@pytest.fixture
def plan():
    return Plan(function_name="charge", key_prefix="charge", config=WAITS, codec=AnswerCodec(), clock=ManualClock())


def begun(plan, *values, **options):
    """A batch whose items have begun, each with a claim for the store."""
    items = [Item(index, value, begin_call(plan, value)) for index, value in enumerate(values)]
    batch = Batch(items, most_claimed=9, **options)
    batch.begin()
    return batch


def answer(batch, *answers):
    """The store answers what it is asked."""
    asking, batch.asking = batch.asking, []
    batch.answer_all(list(zip(asking, answers, strict=True)))


def test_keys_that_others_held_are_run_for_in_their_places_once_they_are_free(plan):
    batch = begun(plan, "a", "b", "c", "d", "e")
    rival = begin_call(plan, "b").claim()
    answer(batch, None, rival, rival, rival, None)
    assert [item.value for item in batch.ready] == ["a", "e"]
    batch.take_due(float("inf"))
    answer(batch, None, None, None)  # the looks: nothing stands any more
    answer(batch, None, None, None)  # the claims
    assert [item.value for item in batch.ready] == ["a", "b", "c", "d", "e"]


def test_where_an_order_is_kept_one_that_waits_goes_on_though_one_behind_it_is_refused(plan):
    batch = begun(plan, "waits", "refused", "left out", stop_at_failure=True)
    held, done, also_held = (begin_call(plan, item.value) for item in batch.asking)
    answer(batch, held.claim(), done.outcome(done.claim(), UNAVAILABLE), also_held.claim())
    assert [item.value for _, _, item in batch.paused] == ["waits"]
    batch.take_due(float("inf"))
    answer(batch, None)
    answer(batch, None)
    assert [item.value for item in batch.ready] == ["waits"]
    assert batch.is_ready


@pytest.fixture
def time(monkeypatch):
    """The monotonic clock of leases, which a test sets."""
    time = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "monotonic", lambda: time.now)
    return time


def test_leases_are_renewed_three_times_in_each_and_sooner_after_a_failure(plan, time):
    batch = begun(plan, "a", "b")
    answer(batch, None, None)
    leases = Leases(batch)
    leases.claimed()
    assert leases.due == 1010
    time.now = 1005.0
    leases.claimed()
    assert leases.due == 1010  # that of keys which were claimed before
    time.now = 1010.0
    held, records = leases.renewals()
    leases.renewed(held, records, [OSError("no connection"), None])
    assert leases.due == pytest.approx(1010 + 10 / SOONER_AFTER_FAILURE)
    leases.renewed(held, records, [None, None])
    assert leases.due == 1020


def test_a_late_answer_about_one_claim_hides_none_of_those_about_others(plan, time):
    batch = begun(plan, "a", "b", "c", "d")
    answer(batch, None, None, None, None)
    anew, renewed, lost, last = batch.ready
    leases = Leases(batch)
    plan.clock.advance(10)
    held, records = leases.renewals()
    anew.claim = anew.call.claim()  # while the store took its time
    before = anew.lease_end_ms
    leases.renewed(held, records, [IdempotencyLeaseLostError("late"), None, IdempotencyLeaseLostError("lost"), None])
    assert [item.lease_end_ms - before for item in (anew, renewed, lost, last)] == [0, 10_000, 0, 10_000]
    assert [item.is_lost for item in (anew, renewed, lost, last)] == [False, False, True, False]
    assert [item for item, _ in leases.renewals()[0]] == [anew, renewed, last]  # what is lost is not asked for again


def test_an_item_whose_key_has_passed_to_another_call_claims_it_anew_before_it_runs(plan):
    batch = begun(plan, "a")
    answer(batch, None)
    leases = Leases(batch)
    leases.renewed(*leases.renewals(), [IdempotencyLeaseLostError("lost")])
    assert batch.take_ready() is None
    answer(batch, None)
    assert batch.take_ready().value == "a"


def test_an_item_claims_its_key_anew_as_often_as_its_lease_ends_before_its_turn(plan):
    batch = begun(plan, "a")
    answer(batch, None)
    for _ in range(2):
        plan.clock.advance(31)
        assert batch.take_ready() is None
        answer(batch, None)
    assert batch.take_ready().value == "a"

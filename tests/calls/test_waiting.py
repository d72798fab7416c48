"""Duplicates that wait for the answer of the call that runs."""

from __future__ import annotations

import functools
import threading

import pytest

from retrysafe import IdempotencyConfig, idempotent_block
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyItemAlreadyExistsError
from retrysafe.persistence.datarecord import INPROGRESS
from support.bodies import counted, only_record, plant

WAIT = {"on_in_progress": "wait", "wait_timeout_seconds": 60}


def test_200_simultaneous_duplicates_get_one_execution_and_200_equal_answers(flavour, events):
    runs = []
    everybody_is_here = threading.Event()

    def charge():
        runs.append(1)
        everybody_is_here.wait(0.2)
        return {"payment": len(runs)}

    config = IdempotencyConfig(**WAIT, event_hook=events.append)
    call = flavour.function(charge, persistence_store=flavour.layer(), config=config, key=lambda _: "the same")
    answers = flavour.together(200, call)
    assert answers == [{"payment": 1}] * 200
    assert len(runs) == 1
    names = [event.name for event in events]
    assert names.count("claimed") == names.count("completed") == 1
    assert names.count("waited") + names.count("replayed") == 199


def test_a_waiter_whose_time_is_over_gets_the_record_and_when_to_retry(flavour, clock, events):
    layer = flavour.layer(clock=clock)
    charge = counted()
    flavour.function(charge, persistence_store=layer, key_prefix="charge")(1)
    running = plant(
        flavour, layer, status=INPROGRESS, owner="other", in_progress_expiry_timestamp=clock.now_ms() + 9000
    )
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=0.02, event_hook=events.append)
    with pytest.raises(IdempotencyAlreadyInProgressError, match="after waiting") as refused:
        flavour.function(charge, persistence_store=layer, key_prefix="charge", config=config)(1)
    assert refused.value.record == running
    assert refused.value.retry_after == pytest.approx(9.0, abs=0.01)
    assert [(event.name, event.answered) for event in events] == [("waited", False)]
    assert charge.body.runs == 1


def test_waiters_of_a_run_that_fails_run_themselves_one_after_the_other(flavour):
    runs = []
    lock = threading.Lock()

    def charge():
        with lock:
            runs.append(1)
            number = len(runs)
        if number <= 3:
            raise ValueError(number)
        return number

    config = IdempotencyConfig(**WAIT)
    call = flavour.function(charge, persistence_store=flavour.layer(), config=config, key=lambda _: "the same")
    answers = flavour.together(20, call)
    assert sorted(str(answer) for answer in answers if isinstance(answer, ValueError)) == ["1", "2", "3"]
    assert [answer for answer in answers if not isinstance(answer, ValueError)] == [4] * 17


def test_a_waiter_takes_over_when_the_lease_of_a_dead_run_ends(flavour):
    layer = flavour.layer()
    charge = counted()
    call = functools.partial(
        flavour.function(charge, persistence_store=layer, config=IdempotencyConfig(**WAIT)), {"id": 1}
    )
    call()
    inner = flavour.inner(layer)
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=inner.clock.now_ms() + 60)
    assert call() == 2


def test_a_waiter_whose_takeover_the_store_refused_tries_again_at_the_next_look(flavour, clock):
    layer = flavour.layer(clock=clock)
    charge = counted()
    flavour.function(charge, persistence_store=layer, key_prefix="charge")(1)
    dead = plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms())
    clock.advance(1)
    inner = flavour.inner(layer)
    put, get, steps = inner._put_record, inner._get_record, []

    def put_by_another_clock(record):
        steps.append("claim" if record.replaces is None else "take over")
        if steps.count("take over") < 3:
            raise IdempotencyItemAlreadyExistsError(old_data_record=dead)
        put(record)

    def look(idempotency_key):
        steps.append("look")
        return get(idempotency_key)

    inner._put_record, inner._get_record = put_by_another_clock, look
    call = flavour.function(charge, persistence_store=layer, key_prefix="charge", config=IdempotencyConfig(**WAIT))
    assert call(1) == 2
    assert steps == ["claim", "take over", "look", "take over", "look", "take over"]


def test_a_waiter_that_finds_the_key_free_claims_it_for_a_whole_lease_from_then_on(flavour, clock):
    layer = flavour.layer(clock=clock)
    flavour.function(counted(), persistence_store=layer, key_prefix="charge")(1)
    plant(flavour, layer, status=INPROGRESS, owner="other", in_progress_expiry_timestamp=clock.now_ms() + 25_000)
    inner = flavour.inner(layer)
    get, ends = inner._get_record, []

    def look(idempotency_key):
        inner._get_record = get
        clock.advance(20)
        inner._records.clear()  # released
        return get(idempotency_key)

    inner._get_record = look
    charge = counted(during=lambda: ends.append(only_record(flavour, layer).in_progress_expiry_timestamp))
    config = IdempotencyConfig(**WAIT, in_progress_expires_after_seconds=30)
    flavour.function(charge, persistence_store=layer, key_prefix="charge", config=config)(1)
    assert ends == [clock.now_ms() + 30_000]


@pytest.mark.parametrize("between", [0, 1, 2])
def test_a_call_inside_itself_does_not_wait_for_itself_however_many_runs_lie_between(flavour, events, between):
    layer = flavour.layer()
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=5, event_hook=events.append)

    def block(payload, key_prefix):
        return idempotent_block(payload, key_prefix=key_prefix, persistence_store=flavour.inner(layer), config=config)

    def charge(order, levels=between):
        if levels:
            with block(levels, "between") as inner:
                inner.answer = charge(order, levels - 1)
            return inner.answer
        with pytest.raises(IdempotencyAlreadyInProgressError), block({"order": order}, "charge"):
            pass
        return "once"

    call = flavour.function(
        charge,
        persistence_store=layer,
        key_prefix="charge",
        config=config,
        key=lambda given: {"order": given["order"]},
    )
    assert call(1) == "once"
    assert {event.name for event in events} == {"claimed", "completed"}


def test_a_failing_store_only_costs_a_waiter_a_look(flavour, monkeypatch):
    layer = flavour.layer()
    charge = counted()
    call = flavour.function(charge, persistence_store=layer, config=IdempotencyConfig(**WAIT))
    call(1)
    inner = flavour.inner(layer)
    (key,) = inner._records
    done = inner._records[key]
    plant(flavour, layer, status=INPROGRESS, owner="other", in_progress_expiry_timestamp=inner.clock.now_ms() + 60_000)
    looks = []
    get = inner._get_record

    def failing_get(idempotency_key):
        looks.append(1)
        if len(looks) < 4:
            raise ConnectionError
        inner._records[key] = done
        return get(idempotency_key)

    monkeypatch.setattr(inner, "_get_record", failing_get)
    assert call(1) == 1
    assert len(looks) == 4

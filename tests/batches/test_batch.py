"""Batches: each item is a call of its own, with all that is promised for one, and shares round trips with others."""

from __future__ import annotations

import asyncio
import contextvars
import enum
import json
import logging
import random
import sys
import threading
from collections import OrderedDict, UserDict
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pydantic
import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent_batch,
    idempotent_function,
)
from retrysafe._batch import recorder
from retrysafe._batch.drivers import BatchRun
from retrysafe._batch.keeping import Keeper
from retrysafe.events import Claimed, Completed, Released, Replayed, TakenOver
from retrysafe.exceptions import (
    IdempotencyAbandonedError,
    IdempotencyAlreadyInProgressError,
    IdempotencyConfigError,
    IdempotencyKeyError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceConsistencyError,
    IdempotencyPersistenceLayerError,
    IdempotencyValidationError,
)
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS, UNAVAILABLE
from retrysafe.testing import AsyncFailingLayer, FailingLayer
from support.flavours import FLAVOURS

BY_ID = IdempotencyConfig(event_key_jmespath="id")
SYNC = [flavour for flavour in FLAVOURS if not flavour.is_async]


class DeclinedError(Exception):
    """What the work raises for an order that is to fail."""


class Work:
    """Answers each order, and keeps what ran; `failing` are the ids that raise."""

    def __init__(self, *failing):
        self.runs = []
        self.failing = set(failing)

    def __call__(self, order, **options):
        self.runs.append(order["id"])
        if order["id"] in self.failing:
            raise DeclinedError(order["id"])
        return {"paid": order["id"], **options}


def orders(*ids):
    return [{"id": each} for each in ids]


def replaying(*errors, **options):
    return IdempotencyConfig(event_key_jmespath="id", replay_exceptions=errors, **options)


def over_many(flavour, work, layer, config=BY_ID, **options):
    def charge(order, **further):
        return work(order, **further)

    return flavour.caller(
        idempotent_batch(flavour.body(charge), persistence_store=layer, config=config, key_prefix="charge", **options)
    )


def one_at_a_time(flavour, work, layer, config=BY_ID):
    def charge(order):
        return work(order)

    return flavour.function(
        charge, persistence_store=layer, config=config, key_prefix="charge", data_keyword_argument="order"
    )


def failing(flavour, **options):
    layer = flavour.layer(**options)
    return AsyncFailingLayer(layer) if flavour.is_async and flavour.name == "async" else FailingLayer(layer)


def statuses(result):
    return [each.status for each in result]


def stored(flavour, layer):
    """The records by the id of their order, which is in the answer or in nothing."""
    return sorted(record.stored_status for record in flavour.inner(layer)._records.values())


# --- the ways in which items end --------------------------------------------------------------------------------------


def test_each_item_runs_once_and_is_replayed_in_the_next_batch(flavour):
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer)
    first, second = charge(orders(1, 2, 3)), charge(orders(3, 4, 2))
    assert work.runs == [1, 2, 3, 4]
    assert statuses(first) == ["returned"] * 3
    assert statuses(second) == ["replayed", "returned", "replayed"]
    assert [each.answer for each in second] == [{"paid": 3}, {"paid": 4}, {"paid": 2}]
    assert all(each.ok and each.error is None for each in second)
    assert second[1].item == {"id": 4}


def test_a_batch_shares_its_keys_with_single_calls(flavour):
    layer, work = flavour.layer(), Work()
    assert one_at_a_time(flavour, work, layer)({"id": 1}) == {"paid": 1}
    assert statuses(over_many(flavour, work, layer)(orders(1, 2))) == ["replayed", "returned"]
    assert one_at_a_time(flavour, work, layer)({"id": 2}) == {"paid": 2}
    assert work.runs == [1, 2]


def test_an_item_that_comes_twice_in_a_batch_runs_once_and_costs_no_further_trip(flavour):
    layer, work = failing(flavour), Work()
    result = over_many(flavour, work, layer)(orders(1, 2, 1, 1))
    assert statuses(result) == ["returned", "returned", "replayed", "replayed"]
    assert [each.answer for each in result] == [{"paid": 1}, {"paid": 2}, {"paid": 1}, {"paid": 1}]
    assert work.runs == [1, 2]
    assert (layer.calls["put"], layer.calls["update"], layer.calls["get"]) == (2, 2, 0)


def test_an_item_that_fails_fails_alone_and_runs_when_it_comes_again(flavour):
    layer, work = flavour.layer(), Work(2)
    charge = over_many(flavour, work, layer)
    result = charge(orders(1, 2, 3))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, DeclinedError)
    assert [each.item for each in result.failures] == [{"id": 2}]
    assert stored(flavour, layer) == [COMPLETED, COMPLETED]
    work.failing.clear()
    assert statuses(charge(orders(1, 2, 3))) == ["replayed", "returned", "replayed"]


def test_a_duplicate_of_an_item_that_failed_is_a_retry_as_it_is_one_by_one(flavour):
    layer, work = flavour.layer(), Work()

    def once_then_well(order):
        work.failing = set() if work.runs else {1}
        return work(order)

    result = over_many(flavour, once_then_well, layer)(orders(1, 2, 1, 1))
    assert statuses(result) == ["raised", "returned", "returned", "replayed"]
    assert work.runs == [1, 2, 1]


@pytest.mark.parametrize("flavour", SYNC, ids=lambda flavour: flavour.name)
def test_an_item_that_runs_elsewhere_is_reported_and_hinders_no_other(flavour):
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer)
    results = []
    one_at_a_time(flavour, lambda order: results.append(charge(orders(1, 2))), layer)({"id": 1})
    (result,) = results
    assert statuses(result) == ["in_progress", "returned"]
    assert isinstance(result[0].error, IdempotencyAlreadyInProgressError)
    assert result[0].error.retry_after > 0
    assert statuses(charge(orders(1))) == ["replayed"]


def test_the_same_key_with_another_payload_is_refused_by_itself_also_within_a_batch(flavour):
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    layer, work = flavour.layer(), Work()
    charge = over_many(flavour, work, layer, config)
    batch = [{"id": 1, "amount": 5}, {"id": 1, "amount": 6}, {"id": 2, "amount": 5}, {"id": 1, "amount": 5}]
    for expected in (["returned", "raised", "returned", "replayed"], ["replayed", "raised", "replayed", "replayed"]):
        result = charge(batch)
        assert statuses(result) == expected
        assert isinstance(result[1].error, IdempotencyValidationError)
    assert work.runs == [1, 2]


def test_a_failure_that_is_an_answer_is_raised_again_for_duplicates(flavour):
    config = IdempotencyConfig(event_key_jmespath="id", replay_exceptions=DeclinedError)
    layer, work = flavour.layer(), Work(1)
    for _ in range(2):
        result = over_many(flavour, work, layer, config)(orders(1, 1, 2))
        assert [each.ok for each in result] == [False, False, True]
        assert [type(each.error) for each in result[:2]] == [DeclinedError] * 2
        assert result[1].error.args == (1,)
    assert work.runs == [1, 2]


def test_hook_and_events_are_those_of_single_calls(flavour, events):
    config = IdempotencyConfig(
        event_key_jmespath="id",
        event_hook=events.append,
        response_hook=lambda answer, record: answer | {"replayed": record.attempt},
    )
    result = over_many(flavour, Work(2), flavour.layer(), config)(orders(1, 2, 1))
    assert [each.answer for each in result] == [{"paid": 1}, None, {"paid": 1, "replayed": 1}]
    kinds = [type(event) for event in events]
    assert sorted(kinds, key=lambda kind: kind.name) == [Claimed, Claimed, Completed, Released, Replayed]


def test_a_hook_that_raises_and_a_failure_that_cannot_be_read_are_the_errors_of_their_items_alone(flavour):
    def hook(answer, record):
        if answer == {"paid": 1}:
            raise LookupError
        return answer

    layer, work = flavour.layer(), Work(2)
    over_many(flavour, work, layer, replaying(DeclinedError))(orders(1, 2, 3))
    records = flavour.inner(layer)._records
    (failed,) = (key for key, record in records.items() if record.stored_status == FAILED)
    records[failed] = records[failed].replaced(response_data="{not json")
    result = over_many(flavour, work, layer, replaying(DeclinedError, response_hook=hook))(orders(1, 2, 3, 4))
    assert [type(each.error) for each in result[:2]] == [LookupError, IdempotencyPersistenceConsistencyError]
    assert [each.answer for each in result[2:]] == [{"paid": 3}, {"paid": 4}]
    assert work.runs == [1, 2, 3, 4]


def test_an_answer_that_cannot_be_stored_is_given_once_and_does_not_run_again(flavour):
    layer, runs = flavour.layer(), []

    def work(order):
        runs.append(order["id"])
        return object() if order["id"] == 1 else "paid"

    charge = over_many(flavour, work, layer)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert stored(flavour, layer) == [COMPLETED, UNAVAILABLE]
    assert statuses(charge(orders(1, 2))) == ["raised", "replayed"]
    assert runs == [1, 2]


def test_an_item_without_a_key_runs_unprotected_with_a_warning_or_fails_alone(flavour):
    work = Work()
    with pytest.warns(UserWarning, match="runs without protection"):
        result = over_many(flavour, work, flavour.layer())(orders(1, None, None))
    assert statuses(result) == ["returned"] * 3
    assert work.runs == [1, None, None]
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    result = over_many(flavour, work, flavour.layer(), strict)(orders(1, None))
    assert statuses(result) == ["returned", "raised"]
    assert isinstance(result[1].error, IdempotencyKeyError)


def test_an_item_that_cannot_be_hashed_fails_alone(flavour):
    result = over_many(flavour, Work(), flavour.layer(), None)([{"id": 1}, {"id": object()}, {"id": 2}])
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, IdempotencyKeyError)


def test_the_function_knows_its_own_execution(flavour):
    keys = []

    def work(order):
        keys.append((current_execution().attempt, current_execution().key_for("charge")))

    over_many(flavour, work, flavour.layer())(orders(1, 2))
    assert [attempt for attempt, _ in keys] == [1, 1]
    assert keys[0] != keys[1]


# --- a store that fails -----------------------------------------------------------------------------------------------


def test_claims_whose_replies_were_lost_are_recognised_as_own(flavour):
    layer, work = failing(flavour), Work()
    for number in (1, 2, 3):
        layer.fail("put", call=number, applied=True)
    assert statuses(over_many(flavour, work, layer)(orders(1, 2, 3))) == ["returned"] * 3
    assert work.runs == [1, 2, 3]


def test_nothing_runs_that_could_not_be_claimed(flavour):
    layer, work = failing(flavour), Work()
    layer.fail("put", call=2)
    layer.fail("put", call=4)  # the second try of the second item, as the claims of all three come first
    result = over_many(flavour, work, layer)(orders(1, 2, 3))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert isinstance(result[1].error, IdempotencyPersistenceConnectionError)
    assert work.runs == [1, 3]


def test_an_outcome_that_the_store_did_not_take_is_tried_again(flavour):
    layer, work = failing(flavour), Work()
    layer.fail("update", call=1)
    layer.fail("update", call=2, applied=True)
    charge = over_many(flavour, work, layer)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert statuses(charge(orders(1, 2))) == ["replayed", "replayed"]


@pytest.mark.parametrize("record_after_seconds", [0, 3600])
def test_while_an_outcome_cannot_be_stored_nothing_more_runs(flavour, record_after_seconds):
    layer = failing(flavour)
    for call in (1, 2, 3):
        layer.fail("update", call=call)
    completions = []

    def work(order):
        completions.append(layer.calls["update"])
        return "paid"

    charge = over_many(flavour, work, layer, record_after_seconds=record_after_seconds, claimed_at_once=1)
    assert statuses(charge(orders(1, 2))) == ["returned", "returned"]
    assert completions == [0, 4]


def test_an_answer_that_could_not_be_stored_travels_with_the_error(flavour, clock):
    layer = failing(flavour, clock=clock)
    layer.fail("update")

    def work(order):
        clock.advance(29.99)  # so that the lease is as good as over
        return {"paid": order["id"]}

    result = over_many(flavour, work, layer)(orders(1))
    assert isinstance(result[0].error, IdempotencyPersistenceLayerError)
    assert result[0].error.response == {"paid": 1}


# --- leases -----------------------------------------------------------------------------------------------------------


def test_a_run_that_never_ended_is_taken_over_or_left_to_a_person(flavour, clock, events):
    config = IdempotencyConfig(event_key_jmespath="id", event_hook=events.append)
    layer = failing(flavour, clock=clock)
    layer.fail("delete")
    assert statuses(over_many(flavour, Work(1, 2), layer)(orders(1, 2))) == ["raised", "raised"]
    layer.heal()
    assert statuses(over_many(flavour, Work(), layer)(orders(1, 2, 3))) == ["in_progress", "in_progress", "returned"]
    clock.advance(31)
    strict = IdempotencyConfig(event_key_jmespath="id", on_abandoned="raise")
    refused = over_many(flavour, Work(), layer, strict)(orders(1))
    assert isinstance(refused[0].error, IdempotencyAbandonedError)
    assert statuses(over_many(flavour, Work(), layer, config)(orders(1, 2))) == ["returned", "returned"]
    assert [event.attempt for event in events if isinstance(event, TakenOver)] == [2, 2]


def test_a_key_whose_lease_ended_before_its_turn_is_claimed_anew(flavour, clock):
    layer, attempts = failing(flavour, clock=clock), []

    def work(order):
        attempts.append((order["id"], current_execution().attempt))
        if order["id"] == 1:
            clock.advance(31)  # this machine stood still
        return "paid"

    assert statuses(over_many(flavour, work, layer)(orders(1, 2, 3))) == ["returned"] * 3
    assert attempts == [(1, 1), (2, 1), (3, 1)]
    assert layer.calls["put"] > 3


def test_a_lease_that_an_invocation_leaves_no_time_for_is_claimed_anew_once_and_not_for_ever(flavour, clock):
    layer = failing(flavour, clock=clock)
    claim = layer._put_record

    def slow(record):
        clock.advance(0.01)
        return claim(record)

    layer._put_record = slow
    invocation = SimpleNamespace(get_remaining_time_in_millis=lambda: 5)
    config = IdempotencyConfig(event_key_jmespath="id", lambda_context=invocation)
    assert statuses(over_many(flavour, Work(), layer, config)(orders(1, 2, 3))) == ["returned"] * 3
    assert layer.calls["put"] <= 9  # a claim, and one more that finds it and one that takes its place


@pytest.mark.parametrize("flavour", SYNC, ids=lambda flavour: flavour.name)
def test_a_key_that_another_took_over_before_its_turn_does_not_run_here(flavour, clock):
    layer, work, rival = flavour.layer(clock=clock), Work(), Work()

    def standing_still(order):
        if order["id"] == 1:
            clock.advance(31)
            one_at_a_time(flavour, rival, layer)({"id": 2})
        return work(order)

    result = over_many(flavour, standing_still, layer)(orders(1, 2, 3))
    assert statuses(result) == ["returned", "replayed", "returned"]
    assert (work.runs, rival.runs) == ([1, 3], [2])


class Watched(MemoryPersistenceLayer):
    """Tells when it was asked to renew and to complete."""

    can_peek = False

    def __init__(self):
        super().__init__()
        self.renewed, self.completed = {}, threading.Event()
        self.all_renewed = threading.Event()

    def _renew_record(self, data_record):
        super()._renew_record(data_record)
        self.renewed[data_record.idempotency_key] = True
        if len(self.renewed) == 3:
            self.all_renewed.set()

    def _update_record(self, data_record):
        super()._update_record(data_record)
        self.completed.set()


class WatchedAsync(AsyncMemoryPersistenceLayer):
    """The same for asynchronous callers."""

    can_peek = False

    def __init__(self):
        super().__init__()
        self._layer = Watched()

    async def _renew_record(self, data_record):
        self._layer._renew_record(data_record)


SHORT = IdempotencyConfig(event_key_jmespath="id", in_progress_expires_after_seconds=0.3)


@pytest.mark.parametrize("blocking", [True, False])
def test_the_leases_of_items_that_wait_for_their_turn_are_renewed(blocking):
    layer = Watched()
    layer.blocking = blocking

    @idempotent_batch(persistence_store=layer, config=SHORT, key_prefix="charge")
    def charge(order):
        return layer.all_renewed.wait(30)

    assert [each.answer for each in charge(orders(1, 2, 3))] == [True] * 3


def refuse_once(layer):
    """The layer's first renewal fails."""
    renew, refused = layer._renew_record, []

    def refusing(data_record):
        if not refused:
            refused.append(data_record)
            raise OSError("no connection")
        renew(data_record)

    layer._renew_record = refusing


@pytest.fixture
def raising_log():
    """A filter of the user's that fails on each record of the log."""

    def fail(record):
        raise RuntimeError(record)

    log = logging.getLogger("retrysafe")
    log.addFilter(fail)
    yield
    log.removeFilter(fail)


@pytest.mark.usefixtures("raising_log")
def test_leases_are_renewed_after_a_failure_that_the_log_would_not_take():
    layer = Watched()
    layer.blocking = False  # so that the heartbeat's own thread renews
    refuse_once(layer)

    @idempotent_batch(persistence_store=layer, config=SHORT, key_prefix="charge")
    def charge(order):
        return layer.all_renewed.wait(5)

    assert [each.answer for each in charge(orders(1, 2, 3))] == [True] * 3


@pytest.mark.usefixtures("raising_log")
def test_leases_are_renewed_by_the_event_loop_after_a_failure_that_the_log_would_not_take():
    layer = WatchedAsync()
    refuse_once(layer._layer)

    @idempotent_batch(persistence_store=layer, config=SHORT, key_prefix="charge")
    async def charge(order):
        return await asyncio.to_thread(layer._layer.all_renewed.wait, 5)

    assert [each.answer for each in asyncio.run(charge(orders(1, 2, 3)))] == [True] * 3


def test_the_leases_of_items_that_wait_for_their_turn_are_renewed_by_the_event_loop():
    layer = WatchedAsync()

    @idempotent_batch(persistence_store=layer, config=SHORT, key_prefix="charge")
    async def charge(order):
        return await asyncio.to_thread(layer._layer.all_renewed.wait, 30)

    assert [each.answer for each in asyncio.run(charge(orders(1, 2, 3)))] == [True] * 3


@pytest.mark.parametrize("told", [1, 3])
@pytest.mark.parametrize("operation", ["put", "update", "delete"])
def test_outcomes_of_a_layer_that_gives_too_few_or_too_many_are_an_error_of_each_item(operation, told, clock):
    class Miscounting(MemoryPersistenceLayer):
        def _for_each(self, asked, arguments):
            outcomes = super()._for_each(asked, arguments)
            return [None] * told if asked == operation and len(arguments) == 2 else outcomes

    layer, runs = Miscounting(clock=clock), []

    def work(order):
        runs.append(order["id"])
        clock.advance(14.995)  # so that in the end the leases are as good as over
        if operation == "delete":
            raise DeclinedError
        return {"paid": order["id"]}

    result = over_many(SYNC[0], work, layer)(orders(1, 2))
    assert statuses(result) == ["raised", "raised"]
    assert runs == ([] if operation == "put" else [1, 2])
    if operation == "update":
        assert [each.error.response for each in result] == [{"paid": 1}, {"paid": 2}]


# --- when outcomes are recorded ---------------------------------------------------------------------------------------


def test_an_outcome_is_recorded_while_a_long_item_after_it_runs():
    layer = Watched()

    @idempotent_batch(persistence_store=layer, config=BY_ID, key_prefix="charge", record_after_seconds=0.01)
    def charge(order):
        return order["id"] == 1 or layer.completed.wait(30)

    assert [each.answer for each in charge(orders(1, 2))] == [True, True]


def test_an_outcome_is_recorded_while_a_long_item_after_it_is_awaited():
    layer = WatchedAsync()

    @idempotent_batch(persistence_store=layer, config=BY_ID, key_prefix="charge", record_after_seconds=0.01)
    async def charge(order):
        return order["id"] == 1 or await asyncio.to_thread(layer._layer.completed.wait, 30)

    assert [each.answer for each in asyncio.run(charge(orders(1, 2)))] == [True, True]


class Meeting(MemoryPersistenceLayer):
    """Completes nothing before two keys are claimed."""

    blocking = True

    def __init__(self):
        super().__init__()
        self.claims, self.both, self.met = 0, threading.Event(), []

    def _put_record(self, data_record):
        super()._put_record(data_record)
        self.claims += 1
        if self.claims == 2:
            self.both.set()

    def _update_record(self, data_record):
        self.met.append(self.both.wait(30))
        super()._update_record(data_record)


def test_outcomes_are_recorded_while_the_next_keys_are_claimed():
    layer = Meeting()
    result = over_many(SYNC[0], Work(), layer, record_after_seconds=3600, claimed_at_once=1)(orders(1, 2, 3))
    assert statuses(result) == ["returned"] * 3
    assert layer.met == [True] * 3


class Slow(MemoryPersistenceLayer):
    """Says when it is about to complete something, and goes on when it may."""

    blocking = True

    def __init__(self):
        super().__init__()
        self.asked, self.may_go_on = threading.Event(), threading.Event()

    def _update_record(self, data_record):
        self.asked.set()
        self.may_go_on.wait(0.02)  # who does not wait for it has its result by then
        super()._update_record(data_record)


def test_outcomes_that_a_thread_begins_to_record_at_any_moment_are_waited_for(monkeypatch):
    """At each instruction of what decides whether anything is left to be done."""
    watched = {BatchRun._step.__code__, BatchRun._go_on.__code__, Keeper.is_recording.__code__}
    at, keepers, struck = 0, [], True
    make = Keeper.__init__
    monkeypatch.setattr(Keeper, "__init__", lambda self, *args: keepers.append(self) or make(self, *args))
    while struck:
        at, struck, left = at + 1, False, at
        layer = Slow()

        def each_instruction(frame, event, arg, layer=layer):
            nonlocal left, struck
            if frame.f_code not in watched or struck:
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
            keeper = keepers[-1]
            if event == "opcode" and keeper._batch.writing:
                left -= 1
                if left < 0:
                    struck = True
                    threading.Thread(target=keeper._record).start()
                    layer.asked.wait(1)
            return each_instruction

        charge = over_many(SYNC[0], Work(), layer, record_after_seconds=3600)
        sys.settrace(each_instruction)
        try:
            result = charge(orders(1))
        finally:
            sys.settrace(None)
            layer.may_go_on.set()
        assert statuses(result) == ["returned"], at
    assert at > 20


class MeetingAsync(AsyncMemoryPersistenceLayer):
    """The same for asynchronous callers."""

    def __init__(self):
        super().__init__()
        self.claims, self.both, self.met = 0, asyncio.Event(), []

    async def _put_record(self, data_record):
        await super()._put_record(data_record)
        self.claims += 1
        if self.claims == 2:
            self.both.set()

    async def _update_record(self, data_record):
        await asyncio.wait_for(self.both.wait(), 30)
        self.met.append(data_record.idempotency_key)
        await super()._update_record(data_record)


def test_outcomes_are_recorded_while_the_next_keys_are_claimed_by_the_event_loop():
    layer = MeetingAsync()

    @idempotent_batch(persistence_store=layer, config=BY_ID, claimed_at_once=1)
    async def charge(order):
        return order["id"]

    assert statuses(asyncio.run(charge(orders(1, 2, 3)))) == ["returned"] * 3
    assert len(layer.met) == 3


def test_where_no_thread_is_to_be_had_outcomes_are_recorded_before_the_next_keys_are_claimed(monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(recorder.Thread, "start", refuse)
    layer = MemoryPersistenceLayer()
    layer.blocking = True
    seen = []

    def work(order):
        seen.append(stored(SYNC[0], layer))

    over_many(SYNC[0], work, layer, record_after_seconds=3600, claimed_at_once=1)(orders(1, 2))
    assert seen == [[INPROGRESS], [COMPLETED, INPROGRESS]]


def test_with_no_time_to_wait_each_outcome_is_recorded_before_the_next_item_runs(flavour):
    layer = flavour.layer()
    seen = []

    def work(order):
        seen.append(stored(flavour, layer))

    over_many(flavour, work, layer, record_after_seconds=0)(orders(1, 2, 3))
    assert seen == [
        [INPROGRESS] * 3,
        [COMPLETED, INPROGRESS, INPROGRESS],
        [COMPLETED, COMPLETED, INPROGRESS],
    ]


def test_no_more_keys_are_claimed_ahead_than_asked_for(flavour):
    layer = flavour.layer()
    claimed = []

    def work(order):
        claimed.append(stored(flavour, layer).count(INPROGRESS))

    over_many(flavour, work, layer, claimed_at_once=2)(orders(*range(5)))
    assert claimed == [2, 2, 2, 2, 1]


def test_where_leases_cannot_be_renewed_no_key_waits_for_its_turn(clock):
    class Unrenewed(MemoryPersistenceLayer):
        can_renew = False

    layer = Unrenewed(clock=clock)
    claimed = []

    @idempotent_batch(persistence_store=layer, config=BY_ID, key_prefix="charge")
    def charge(order):
        claimed.append(sum(record.stored_status == INPROGRESS for record in layer._records.values()))

    charge(orders(1, 2, 3))
    assert claimed == [1, 1, 1]


# --- waiting, order, concurrency --------------------------------------------------------------------------------------


def test_an_item_that_runs_elsewhere_is_waited_for_after_the_others_have_run():
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait", wait_timeout_seconds=30)
    layer, order_of_runs = MemoryPersistenceLayer(), []
    layer.blocking = True
    inside, leave = threading.Event(), threading.Event()

    def hold(order):
        inside.set()
        leave.wait(30)
        return "paid elsewhere"

    holder = threading.Thread(
        target=lambda: idempotent_function(
            hold, data_keyword_argument="order", persistence_store=layer, config=BY_ID, key_prefix="charge"
        )({"id": 1})
    )
    holder.start()
    inside.wait(30)

    @idempotent_batch(persistence_store=layer, config=config, key_prefix="charge")
    def charge(order):
        order_of_runs.append(order["id"])
        if order["id"] == 3:
            leave.set()
        return "paid"

    result = charge(orders(1, 2, 3))
    holder.join()
    assert order_of_runs == [2, 3]
    assert [(each.status, each.answer) for each in result] == [
        ("replayed", "paid elsewhere"),
        ("returned", "paid"),
        ("returned", "paid"),
    ]


def test_after_a_failure_the_items_behind_it_are_left_alone_where_that_is_asked_for(flavour):
    layer, work = flavour.layer(), Work(2)
    charge = over_many(flavour, work, layer, stop_at_failure=True, claimed_at_once=3)
    result = charge(orders(1, 2, 3, 1, 4, 5))
    assert statuses(result) == ["returned", "raised", "not_run", "not_run", "not_run", "not_run"]
    assert work.runs == [1, 2]
    assert stored(flavour, layer) == [COMPLETED]
    assert [each.item["id"] for each in result.failures] == [2, 3, 1, 4, 5]
    work.failing.clear()
    assert statuses(charge(orders(2, 3, 1, 4, 5))) == ["returned", "returned", "replayed", "returned", "returned"]


@pytest.mark.parametrize("claimed_at_once", [1, 3])
def test_where_an_order_is_kept_no_item_runs_ahead_of_one_that_waits(flavour, clock, claimed_at_once):
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait", wait_timeout_seconds=0.01)
    layer, work = flavour.layer(clock=clock), Work()

    def hold(order):
        charge = over_many(flavour, work, layer, config, stop_at_failure=True, claimed_at_once=claimed_at_once)
        copied = contextvars.Context()  # another consumer, and not a call within this one
        with ThreadPoolExecutor() as pool:
            return statuses(pool.submit(copied.run, charge, orders(0, 1, 2)).result())

    assert one_at_a_time(SYNC[0], hold, flavour.inner(layer))({"id": 1}) == ["returned", "in_progress", "not_run"]
    assert work.runs == [0]


@pytest.mark.parametrize("claimed_at_once", [1, 2, 9])
def test_where_an_order_is_kept_a_duplicate_that_is_refused_is_a_failure_before_the_next_item_runs(
    flavour, claimed_at_once
):
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    work = Work()
    charge = over_many(
        flavour,
        work,
        flavour.layer(),
        config,
        stop_at_failure=True,
        claimed_at_once=claimed_at_once,
        record_after_seconds=3600,
    )
    result = charge([{"id": number, "amount": amount} for number, amount in [(1, 5), (1, 5), (2, 5), (1, 6), (3, 5)]])
    assert statuses(result) == ["returned", "replayed", "returned", "raised", "not_run"]
    assert work.runs == [1, 2]


def test_an_item_that_cannot_begin_is_a_failure_too_and_those_before_it_run(flavour):
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    work = Work()
    result = over_many(flavour, work, flavour.layer(), strict, stop_at_failure=True)(orders(1, None, 2))
    assert statuses(result) == ["returned", "raised", "not_run"]
    assert work.runs == [1]


def test_a_failure_before_an_item_that_cannot_begin_leaves_out_those_between_them(flavour):
    work = Work(2)
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    result = over_many(flavour, work, flavour.layer(), strict, stop_at_failure=True)(orders(1, 2, 3, None, 4))
    assert statuses(result) == ["returned", "raised", "not_run", "raised", "not_run"]
    assert work.runs == [1, 2]


@pytest.mark.parametrize("keeps_order", [False, True])
@pytest.mark.parametrize("layer_class", [MemoryPersistenceLayer, AsyncMemoryPersistenceLayer])
def test_so_many_async_items_as_asked_for_are_under_way_at_the_same_time(layer_class, keeps_order):
    async def main():
        under_way, most = 0, 0
        options = {"concurrency": 3, "stop_at_failure": keeps_order}

        @idempotent_batch(persistence_store=layer_class(), config=BY_ID, key_prefix="charge", **options)
        async def charge(order):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            return order["id"]

        result = await charge(orders(*range(10), 3))
        assert [each.answer for each in result] == [*range(10), 3]
        return most

    assert asyncio.run(main()) == 3


# --- as one by one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_batch_comes_to_what_its_items_come_to_one_by_one(flavour, clock, seed):
    """The same orders, on stores with the same history: the same endings, the same runs of each, the same records."""
    chance = random.Random(seed)  # noqa: S311  # a simulation
    config = IdempotencyConfig(
        event_key_jmespath="id",
        payload_validation_jmespath="amount",
        replay_exceptions=DeclinedError if chance.random() < 0.5 else (),
        on_abandoned=chance.choice(["retry", "raise"]),
        use_local_cache=chance.random() < 0.3,
    )
    batch = [{"id": chance.randrange(8), "amount": chance.randrange(1, 12) // 10} for _ in range(12)]
    failures = {chance.randrange(8) for _ in range(2)}
    before = [({"id": number, "amount": 0}, chance.choice(["done", "failed", "died", "none"])) for number in range(8)]

    def history(layer):
        for order, what in before:
            if what == "none":
                continue
            if what == "died":
                layer.fail("delete")
            one_at_a_time_into(flavour, Work(*([order["id"]] if what != "done" else [])), layer, config, order)
            layer.heal()
        clock.advance(31)

    alone, together = failing(flavour, clock=clock), failing(flavour, clock=clock)
    moment = clock.now_ms()
    history(alone)
    work_alone = Work(*failures)
    ends = [one_at_a_time_into(flavour, work_alone, alone, config, order) for order in batch]
    clock.advance((moment - clock.now_ms()) / 1000)
    history(together)
    work_together = Work(*failures)
    result = over_many(flavour, work_together, together, config)(batch)
    assert [(type(each.error), each.answer) for each in result] == ends
    assert sorted(work_together.runs) == sorted(work_alone.runs)
    assert plain_records(flavour, together) == plain_records(flavour, alone)


def one_at_a_time_into(flavour, work, layer, config, order):
    try:
        return type(None), one_at_a_time(flavour, work, layer, config)(order)
    except Exception as error:  # noqa: BLE001  # compared
        return type(error), None


def plain_records(flavour, layer):
    records = flavour.inner(layer._layer)._records
    return {key: (each.stored_status, each.attempt, each.response_data) for key, each in records.items()}


# --- what a batch is, and what its items are called -------------------------------------------------------------------


def test_an_empty_batch_and_any_iterable_are_batches(flavour):
    charge = over_many(flavour, Work(), flavour.layer())
    assert list(charge([])) == []
    assert charge([]).batch_item_failures() == {"batchItemFailures": []}
    assert len(charge(order for order in orders(1, 2))) == 2


def test_further_arguments_go_to_each_item(flavour):
    result = over_many(flavour, Work(), flavour.layer())(orders(1, 2), note="x")
    assert [each.answer["note"] for each in result] == ["x", "x"]


@pytest.mark.parametrize(
    ("record", "identifier"),
    [
        ({"messageId": "m1", "body": "{}"}, "m1"),
        ({"kinesis": {"sequenceNumber": "496", "data": ""}}, "496"),
        ({"dynamodb": {"SequenceNumber": "111", "Keys": {}}}, "111"),
        ({"id": 7}, None),
        (["m1"], None),
    ],
)
def test_records_of_lambda_events_have_an_identifier(record, identifier):
    charge = idempotent_batch(lambda _: None, persistence_store=MemoryPersistenceLayer(), key_prefix="charge")
    assert charge([record])[0].item_identifier == identifier


def test_the_records_of_powertools_have_one_too_and_its_event_is_the_payload():
    from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord  # noqa: PLC0415  # slow to load

    config = IdempotencyConfig(event_key_jmespath="powertools_json(body).id")
    runs = []

    @idempotent_batch(persistence_store=MemoryPersistenceLayer(), config=config, key_prefix="charge")
    def charge(record):
        runs.append(record.json_body["id"])
        if record.json_body["id"] == 2:
            raise DeclinedError

    records = [SQSRecord({"messageId": f"m{n}", "body": json.dumps({"id": n // 2})}) for n in range(6)]
    assert charge(records).batch_item_failures() == {
        "batchItemFailures": [{"itemIdentifier": "m4"}, {"itemIdentifier": "m5"}]
    }
    assert runs == [0, 1, 2, 2]


def test_failures_are_reported_by_the_identifiers_that_the_caller_gives():
    charge = idempotent_batch(
        Work(2),
        persistence_store=MemoryPersistenceLayer(),
        key_prefix="charge",
        key=lambda order: order["id"],
        item_identifier=lambda order: f"order {order['id']}",
    )
    result = charge(orders(1, 2, 3))
    assert result.batch_item_failures() == {"batchItemFailures": [{"itemIdentifier": "order 2"}]}
    with pytest.raises(ExceptionGroup, match="1 of 3 items failed") as failures:
        result.raise_failures()
    assert failures.group_contains(DeclinedError, depth=1)
    charge(orders(1)).raise_failures()


def test_a_report_without_identifiers_is_refused_also_where_nothing_failed():
    charge = idempotent_batch(Work(), persistence_store=MemoryPersistenceLayer(), key_prefix="charge")
    with pytest.raises(IdempotencyConfigError, match="dict has not; give item_identifier"):
        charge(orders(1)).batch_item_failures()


# --- wrong use --------------------------------------------------------------------------------------------------------


class Model(pydantic.BaseModel):
    order: int


class Text(enum.StrEnum):
    ORDER = "order"


@pytest.mark.parametrize(
    "items",
    [
        {"Records": []},
        "text",
        b"bytes",
        7,
        None,
        OrderedDict(Records=[]),
        UserDict(Records=[]),  # a Mapping, as Powertools' SQSEvent is
        Model(order=1),
        Text.ORDER,
        memoryview(b"bytes"),
    ],
    ids=lambda items: type(items).__name__,
)
def test_what_is_no_batch_is_refused_before_anything_ran(flavour, items):
    work = Work()
    with pytest.raises(IdempotencyConfigError, match="takes a batch"):
        over_many(flavour, work, flavour.layer())(items)
    assert work.runs == []


@pytest.mark.parametrize(
    ("tell", "message"),
    [
        (lambda order: order["nr"], "failed on item 0"),
        (lambda order: None, "must tell a string; for item 0 it told None"),
    ],
)
def test_an_item_identifier_that_does_not_tell_is_refused_before_anything_ran(flavour, tell, message):
    work = Work()
    with pytest.raises(IdempotencyConfigError, match=message):
        over_many(flavour, work, flavour.layer(), item_identifier=tell)(orders(1))
    assert work.runs == []


def test_a_key_that_cannot_be_told_fails_its_item_alone(flavour):
    result = over_many(flavour, Work(), flavour.layer(), None, key=lambda order: order["nr"])(
        [{"id": 1, "nr": 1}, {"id": 2}]
    )
    assert statuses(result) == ["returned", "raised"]
    assert isinstance(result[1].error, KeyError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be"),
        ({"concurrency": True}, "concurrency must be"),
        ({"concurrency": 2}, "is for `async def`"),
        ({"claimed_at_once": 0}, "claimed_at_once must be"),
        ({"record_after_seconds": -1}, "record_after_seconds must be"),
        ({"record_after_seconds": "1"}, "record_after_seconds must be"),
        ({"stop_at_failure": 1}, "stop_at_failure must be"),
        ({"key": "id"}, "key must be callable"),
        ({"item_identifier": "id"}, "item_identifier must be callable"),
        ({"key": len, "config": BY_ID}, "both say what makes the key"),
        ({"config": {}}, "config must be"),
    ],
)
def test_options_that_are_wrong_are_refused_when_decorating(options, message):
    with pytest.raises(IdempotencyConfigError, match=message):
        idempotent_batch(Work(), **{"persistence_store": MemoryPersistenceLayer(), "key_prefix": "charge", **options})


class Shop:
    def charge(self, order):
        return order["id"]

    nothing = staticmethod(lambda: None)


def test_a_method_is_passed_bound_and_a_function_takes_its_item_first():
    layer = MemoryPersistenceLayer()
    with pytest.raises(IdempotencyConfigError, match="pass the bound one"):
        idempotent_batch(Shop.charge, persistence_store=layer)
    assert [each.answer for each in idempotent_batch(Shop().charge, persistence_store=layer)(orders(1, 2))] == [1, 2]
    with pytest.raises(IdempotencyConfigError, match="must take the item as its first argument"):
        idempotent_batch(Shop.nothing, persistence_store=layer)
    with pytest.raises(IdempotencyConfigError, match="is asynchronous and"):
        idempotent_batch(Shop().charge, persistence_store=AsyncMemoryPersistenceLayer())


def test_a_url_opens_the_layer_that_the_function_needs(tmp_path):
    @idempotent_batch(persistence_store=f"sqlite:///{tmp_path}/records.db", key_prefix="charge")
    def charge(order):
        return order["id"]

    @idempotent_batch(persistence_store=f"sqlite:///{tmp_path}/records.db", key_prefix="charge")
    async def charge_async(order):
        raise AssertionError(order)

    assert statuses(charge(orders(1, 2))) == ["returned"] * 2
    assert statuses(asyncio.run(charge_async(orders(1, 2)))) == ["replayed"] * 2


def test_switched_off_all_items_run_straight_through(flavour, monkeypatch):
    monkeypatch.setenv("RETRYSAFE_DISABLED", "1")
    work, layer = Work(2), flavour.layer()
    with pytest.warns(UserWarning, match="switched off"):
        result = over_many(flavour, work, layer)(orders(1, 2, 1))
    assert statuses(result) == ["returned", "raised", "returned"]
    assert work.runs == [1, 2, 1]
    assert stored(flavour, layer) == []


# --- many batches at the same time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_batches_of_several_consumers_that_overlap_run_each_item_once(blocking):
    """Outcomes are recorded in both threads, as fast as they come, and items wait for those of other consumers."""
    layer = Watched()
    layer.blocking = blocking
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
    runs, failures = [], []

    def work(order):
        runs.append(order["id"])
        return order["id"]

    charge = idempotent_batch(
        work, persistence_store=layer, config=config, key_prefix="charge", record_after_seconds=1e-6, claimed_at_once=7
    )

    def consume(seed):
        chance = random.Random(seed)  # noqa: S311  # a simulation
        for _ in range(10):
            ids = [chance.randrange(60) for _ in range(20)]
            failures.extend(each for each, id_ in zip(charge(orders(*ids)), ids, strict=True) if each.answer != id_)

    consumers = [threading.Thread(target=consume, args=(seed,)) for seed in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert failures == []
    assert len(runs) == len(set(runs))

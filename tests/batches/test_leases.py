"""The leases of a batch's items: renewed while these wait for their turn, taken over, claimed anew once they ended."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from retrysafe import IdempotencyConfig, current_execution, idempotent_batch
from retrysafe.events import TakenOver
from retrysafe.exceptions import IdempotencyAbandonedError
from support.batches import SYNC, Watched, WatchedAsync, Work, failing, one_at_a_time, orders, over_many, statuses
from support.flavours import LikeAnAsyncStore


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
    assert 3 < layer.calls["put"] <= 9  # a claim, and one more that finds it and one that takes its place


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


class Renewing(LikeAnAsyncStore):
    """Notes which keys it is to renew together, and answers when it may."""

    def __init__(self):
        super().__init__()
        self.renewed, self.asked, self.may_answer = [], asyncio.Event(), asyncio.Event()

    async def _for_each(self, operation, arguments):
        if operation == "renew":
            self.renewed.append([record.idempotency_key for record in arguments])
            self.asked.set()
            await self.may_answer.wait()
        return await super()._for_each(operation, arguments)


@pytest.mark.parametrize("until_renewed", [0, 9])
def test_however_often_keys_are_claimed_before_or_while_the_event_loop_renews_it_does_so_once(until_renewed):
    layer = Renewing()

    @idempotent_batch(persistence_store=layer, config=SHORT, key_prefix="charge", claimed_at_once=1)
    async def charge(order):
        if order["id"] == until_renewed:
            await layer.asked.wait()
        if order["id"] == 9:
            layer.may_answer.set()

    assert statuses(asyncio.run(charge(orders(*range(10))))) == ["returned"] * 10
    assert len(layer.renewed) == 1

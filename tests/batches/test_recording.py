"""When the outcomes of a batch are recorded, and how many keys are claimed ahead of their turn."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic

from retrysafe import AsyncMemoryPersistenceLayer, MemoryPersistenceLayer, idempotent_batch
from retrysafe._batch import drivers, drivers_async, keeping, leases, recorder
from retrysafe._batch.drivers import BatchRun
from retrysafe._batch.keeping import Keeper
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from support.batches import BY_ID, SYNC, Watched, WatchedAsync, Work, orders, over_many, statuses, stored
from support.instructions import before_each_instruction


def test_an_outcome_is_recorded_while_a_long_item_after_it_runs():
    layer = Watched()

    @idempotent_batch(persistence_store=layer, config=BY_ID, key_prefix="charge", record_after_seconds=0.01)
    def charge(order):
        return order["id"] == 1 or layer.completed.wait(30)

    assert [each.answer for each in charge(orders(1, 2))] == [True, True]
    assert layer.renewed == {}  # leases are renewed in their own time


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

        def strike(layer=layer):
            nonlocal left, struck
            keeper = keepers[-1]
            if keeper._batch.writing and not struck:
                left -= 1
                if left < 0:
                    struck = True
                    threading.Thread(target=keeper._record).start()
                    layer.asked.wait(1)

        charge = over_many(SYNC[0], Work(), layer, record_after_seconds=3600)
        try:
            with before_each_instruction(lambda frame: frame.f_code in watched, strike):
                result = charge(orders(1))
        finally:
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


def test_the_thread_that_records_keeps_no_process_alive():
    layer, daemons = MemoryPersistenceLayer(), []
    layer.blocking = True

    def work(order):
        daemons.append([thread.daemon for thread in threading.enumerate() if thread.name == "retrysafe-batch"])

    over_many(SYNC[0], work, layer, record_after_seconds=3600, claimed_at_once=1)(orders(1, 2, 3))
    assert daemons == [[], [True], [True]]


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


def noting(flavour, asked):
    """A layer that notes what it is asked, and for how many records."""

    class Noting(type(flavour.layer())):
        def _for_each(self, operation, arguments):
            asked.append((operation, len(arguments)))
            return super()._for_each(operation, arguments)

    return Noting()


def test_each_outcome_waits_for_others_as_long_as_it_may(flavour, monkeypatch):
    asked, now = [], monotonic() + 1e6  # so that the heartbeat's thread, which goes by another clock, keeps out
    for module in (keeping, leases, drivers, drivers_async):
        monkeypatch.setattr(module, "monotonic", lambda: now)

    def work(order):
        nonlocal now
        now += 6

    charge = over_many(flavour, work, noting(flavour, asked), record_after_seconds=10)
    assert statuses(charge(orders(*range(7)))) == ["returned"] * 7
    assert asked == [("put", 7), ("update", 3), ("update", 3), ("update", 1)]


def test_what_is_claimed_together_is_recorded_together_in_each_round(flavour):
    asked = []
    charge = over_many(flavour, Work(), noting(flavour, asked), record_after_seconds=3600, claimed_at_once=3)
    assert statuses(charge(orders(*range(9)))) == ["returned"] * 9
    assert sorted(asked) == [("put", 3)] * 3 + [("update", 3)] * 3


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

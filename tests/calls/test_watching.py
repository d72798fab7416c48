"""Duplicates that are told when the record changes, on a layer that can tell: they look when it is worth it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading

import pytest

from retrysafe import IdempotencyConfig, idempotent_function
from retrysafe.call import begin_call
from retrysafe.exceptions import IdempotencyAlreadyInProgressError
from retrysafe.pauses import LONGEST_PAUSE, LONGEST_TOLD_PAUSE, Waiting
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS, DataRecord
from retrysafe.plan import plan_for
from retrysafe.testing import ManualClock
from retrysafe.wishes import Fetch, Pause
from support.bodies import counted, plant
from support.flavours import AsyncFlavour, Flavour
from support.told_layers import AsyncToldLayer, ToldLayer, Watches

WAIT = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=60)


class Told(Flavour):
    def layer(self, **options):
        return ToldLayer(**options)


class AsyncTold(AsyncFlavour):
    def layer(self, **options):
        return AsyncToldLayer(**options)


@pytest.fixture(params=[Told(), AsyncTold()], ids=lambda flavour: flavour.name)
def flavour(request):
    return request.param


class Shop:
    """A layer on which another worker holds the key, and a call that meets it."""

    def __init__(self, flavour, config=WAIT, **options):
        self.flavour = flavour
        self.layer = flavour.layer(**options)
        self.inner = flavour.inner(self.layer)
        self.watches: Watches = self.layer.watches
        self.charge = counted()
        self.call = flavour.function(self.charge, persistence_store=self.layer, key_prefix="charge", config=config)
        assert self.call(1) == 1
        assert self.watches.opened == 0
        lease_end = self.inner.clock.now_ms() + 60_000
        self.held = plant(flavour, self.layer, status=INPROGRESS, owner="other", in_progress_expiry_timestamp=lease_end)

    def complete(self):
        """The other worker is done."""
        self.inner._update_record(self.held.replaced(status=COMPLETED, response_data='"done"'))

    def release(self):
        """The other worker has failed."""
        self.inner._delete_record(self.held)

    def nobody_watches(self):
        return self.watches.opened > 0 and not self.watches.open


@pytest.fixture
def shop(flavour):
    return Shop(flavour)


def at(number, what):
    """Do it the so many-th time."""
    times = iter(range(1, 1000))
    return lambda: what() if next(times) == number else None


def in_a_thread(what):
    return threading.Thread(target=what).start


# --- looking only when there is something to see -------------------------------------------------------------------


def test_a_waiter_looks_once_when_it_begins_to_be_told_and_once_when_the_record_has_changed(shop):
    shop.watches.before_wait = at(2, in_a_thread(shop.complete))
    assert shop.call(1) == "done"
    assert shop.watches.fetches == 2


def test_a_change_before_the_watch_is_opened_is_seen(shop):
    shop.watches.before_opening = shop.complete
    assert shop.call(1) == "done"
    assert shop.watches.fetches == 1


def test_a_change_between_a_look_and_the_wait_after_it_is_seen(shop):
    shop.watches.after_fetch = at(1, shop.complete)
    assert shop.call(1) == "done"
    assert shop.watches.fetches == 2


def test_a_waiter_that_is_not_told_looks_now_and_then(shop):
    shop.watches.is_told = False
    shop.watches.after_fetch = at(4, shop.complete)
    assert shop.call(1) == "done"
    assert shop.watches.fetches == 5


def test_a_waiter_looks_now_and_then_from_when_the_channel_is_down(shop):
    def go_down():
        shop.watches.drop()
        shop.complete()

    shop.watches.before_wait = at(2, in_a_thread(go_down))
    assert shop.call(1) == "done"
    assert shop.watches.fetches <= 3


def test_waiters_of_a_run_that_fails_are_told_and_run_themselves(shop):
    watching_meanwhile = []

    def charge(order):
        watching_meanwhile.append(not shop.nobody_watches())
        return "second"

    call = shop.flavour.function(charge, persistence_store=shop.layer, key_prefix="charge", config=WAIT)
    shop.watches.before_wait = at(2, in_a_thread(shop.release))
    assert call(1) == "second"
    assert watching_meanwhile == [False]


def test_a_block_waits_like_a_function(shop):
    shop.watches.before_wait = at(2, in_a_thread(shop.complete))
    prefix = shop.held.idempotency_key.partition("#")[0]
    options = {"key_prefix": prefix, "persistence_store": shop.layer, "config": WAIT}
    assert shop.flavour.block({"order": 1}, lambda: "again", **options) == "done"
    assert shop.nobody_watches()


# --- the watch is closed, however the call ends --------------------------------------------------------------------


def test_the_watch_is_closed_with_the_answer(shop):
    shop.watches.before_wait = at(2, in_a_thread(shop.complete))
    shop.call(1)
    assert shop.nobody_watches()


def test_the_watch_is_closed_when_the_time_to_wait_is_over(flavour):
    shop = Shop(flavour, IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=0.02))
    with pytest.raises(IdempotencyAlreadyInProgressError, match="after waiting"):
        shop.call(1)
    assert shop.nobody_watches()


@pytest.mark.parametrize("moment", ["before_wait", "after_fetch", "before_opening"])
def test_the_watch_is_closed_when_the_call_is_interrupted(shop, moment):
    def interrupt():
        raise KeyboardInterrupt

    setattr(shop.watches, moment, at(1, interrupt))
    with pytest.raises(KeyboardInterrupt):
        shop.call(1)
    assert not shop.watches.open
    assert shop.charge.body.runs == 1


@pytest.mark.parametrize("limit", [TimeoutError, type("SoftTimeLimitExceeded", (Exception,), {})])
def test_a_time_limit_that_a_signal_handler_raises_ends_the_wait(limit):
    def strike(*_):
        raise limit

    shop = Shop(Told())
    shop.watches.before_wait = at(2, lambda: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, strike)
    try:
        with pytest.raises(limit):
            shop.call(1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert shop.nobody_watches()
    assert shop.charge.body.runs == 1


def test_the_watch_is_closed_when_a_listener_tears_the_call_apart(shop):
    def refuse(event):
        raise KeyboardInterrupt

    config = IdempotencyConfig(on_in_progress="wait", event_hook=refuse)
    call = shop.flavour.function(shop.charge, persistence_store=shop.layer, key_prefix="charge", config=config)
    shop.watches.before_wait = at(2, in_a_thread(shop.complete))
    with pytest.raises(KeyboardInterrupt):
        call(1)
    assert shop.nobody_watches()


@pytest.fixture
def async_shop():
    return Shop(AsyncTold())


def waiting_call(shop):
    async def body(order):
        raise AssertionError("the key is held")

    function = idempotent_function(body, persistence_store=shop.layer, key_prefix="charge", config=WAIT)
    return function(1)


def test_the_watch_is_closed_when_the_task_is_cancelled(async_shop):
    async def cancel():
        waits = asyncio.Event()
        async_shop.watches.before_wait = at(2, waits.set)
        task = asyncio.create_task(waiting_call(async_shop))
        await waits.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(cancel())
    assert async_shop.nobody_watches()


def test_the_watch_is_closed_when_the_coroutine_is(async_shop):
    async def close():
        call = waiting_call(async_shop)
        call.send(None)
        assert async_shop.watches.open
        call.close()

    async_shop.watches.is_told = False
    asyncio.run(close())
    assert async_shop.nobody_watches()


# --- a watch is no more than a help --------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before_wait", "before_opening"])
def test_a_watch_that_fails_costs_no_more_than_looking_now_and_then(shop, moment):
    def fail():
        raise ConnectionError

    setattr(shop.watches, moment, fail)
    shop.watches.after_fetch = at(3, shop.complete)
    assert shop.call(1) == "done"
    assert shop.watches.fetches == 4
    assert not shop.watches.open


def test_a_watch_that_cannot_be_closed_costs_nobody_the_answer(shop):
    shop.watches.before_wait = at(2, in_a_thread(shop.complete))
    shop.watches.open = NeverRemoved()
    assert shop.call(1) == "done"


class NeverRemoved(list):
    def remove(self, _):
        raise ConnectionError


def test_calls_that_do_not_wait_open_no_watch(flavour):
    shop = Shop(flavour, IdempotencyConfig())
    with pytest.raises(IdempotencyAlreadyInProgressError):
        shop.call(1)
    assert shop.watches.opened == 0


def test_an_outcome_that_is_tried_again_opens_no_watch(shop, monkeypatch):
    update = shop.inner._update_record
    tries = iter([ConnectionError(), ConnectionError(), None])

    def failing(record):
        error = next(tries)
        if error is not None:
            raise error
        update(record)

    monkeypatch.setattr(shop.inner, "_update_record", failing)
    assert shop.call(2) == 2
    assert shop.watches.opened == 0


# --- how long a waiter may count on being told ---------------------------------------------------------------------


def first_pause(clock, *, wait_limit=60.0, **changes):
    """The pause of a call that meets this record."""
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=wait_limit)
    call = begin_call(plan_for(lambda order: order, ToldLayer(clock=clock), key_prefix="charge", config=config), 1)
    now = clock.now_ms()
    fields = {"owner": "other", "in_progress_expiry_timestamp": now + 60_000, **changes}
    held = DataRecord(call.idempotency_key, INPROGRESS, now // 1000 + 60, **fields)
    pause = next(Waiting(call).look_again(held, now))
    assert isinstance(pause, Pause)
    return pause


@pytest.fixture
def clock():
    return ManualClock()


def test_a_waiter_that_is_told_looks_all_the_same_after_some_seconds(clock):
    pause = first_pause(clock)
    assert pause.seconds <= LONGEST_PAUSE
    assert LONGEST_TOLD_PAUSE / 2 <= pause.at_most <= LONGEST_TOLD_PAUSE


def test_a_waiter_does_not_wait_to_be_told_beyond_its_own_limit(clock):
    assert first_pause(clock, wait_limit=1).at_most == 1


def test_a_waiter_does_not_wait_to_be_told_beyond_the_lease(clock):
    now = clock.now_ms()
    assert first_pause(clock, in_progress_expiry_timestamp=now + 499).at_most == 0.5


def test_nobody_tells_when_a_lease_has_ended(clock):
    pause = first_pause(clock, in_progress_expiry_timestamp=clock.now_ms() - 1)
    assert pause.at_most == pause.seconds


def test_a_peer_tells_nobody(clock):
    pause = first_pause(clock, owner=None)
    assert pause.at_most == pause.seconds


def test_waiting_counts_from_its_beginning(clock):
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=10)
    call = begin_call(plan_for(lambda order: order, ToldLayer(clock=clock), key_prefix="charge", config=config), 1)
    now = clock.now_ms()
    held = DataRecord(call.idempotency_key, INPROGRESS, now // 1000 + 60, now + 60_000, owner="other")
    waiting = Waiting(call)
    looking = waiting.look_again(held, now)
    pause = looking.send(None)
    assert isinstance(looking.send(1000.0 + pause.seconds), Fetch)
    looking = waiting.look_again(held, now)
    looking.send(None)
    looking.send(1004.0)
    assert waiting.waited == pytest.approx(4)
    assert next(waiting.look_again(held, now)).at_most <= 6

"""Calls that are torn apart at odd moments, and hearts that must go on beating."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
from contextvars import copy_context
from weakref import ref

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    endings,
    idempotent_block,
    idempotent_function,
)
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.heartbeat import Heart, heart
from retrysafe.heartbeat_async import _latest
from retrysafe.nesting import current
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS
from support.bodies import counted

SHORT = IdempotencyConfig(in_progress_expires_after_seconds=0.15)


class RenewingLayer(MemoryPersistenceLayer):
    """Counts its renewals, and may do something else at them."""

    def __init__(self, at_renewal=None, *, blocking=False):
        super().__init__()
        self.at_renewal = at_renewal
        self.blocking = blocking
        self.renewed = threading.Semaphore(0)

    def _renew_record(self, data_record):
        if self.at_renewal is not None:
            self.at_renewal()
        super()._renew_record(data_record)
        self.renewed.release()


def survives():
    """Whether the heart still renews another call."""
    layer = RenewingLayer()
    body = idempotent_function(lambda n: layer.renewed.acquire(timeout=30), persistence_store=layer, config=SHORT)
    return body(1)


def raising(error):
    def at_renewal():
        raised.set()
        raise error

    raised = threading.Event()
    at_renewal.raised = raised
    return at_renewal


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), MemoryError()], ids=repr)
def test_a_renewal_that_raises_anything_at_all_does_not_stop_the_others(error):
    at_renewal = raising(error)
    layer = RenewingLayer(at_renewal)
    idempotent_function(lambda n: at_renewal.raised.wait(30), persistence_store=layer, config=SHORT)(1)
    assert survives()


def test_a_log_filter_that_raises_does_not_stop_the_heart():
    def refuse(record):
        raise RuntimeError

    at_renewal = raising(ConnectionError("gone"))
    logger = logging.getLogger("retrysafe")
    logger.addFilter(refuse)
    try:
        idempotent_function(
            lambda n: at_renewal.raised.wait(30), persistence_store=RenewingLayer(at_renewal), config=SHORT
        )(1)
        assert survives()
    finally:
        logger.removeFilter(refuse)


def test_a_lease_as_good_as_endless_does_not_stop_the_heart():
    endless = IdempotencyConfig(in_progress_expires_after_seconds=100 * 365 * 24 * 3600)
    idempotent_function(lambda n: survives(), persistence_store=MemoryPersistenceLayer(), config=endless)(1)
    assert survives()


def test_a_store_that_hangs_costs_no_other_store_its_leases():
    hanging, release = threading.Event(), threading.Event()

    def hang():
        hanging.set()
        release.wait(30)

    slow = idempotent_function(
        lambda n: hanging.wait(30) and survives(), persistence_store=RenewingLayer(hang, blocking=True), config=SHORT
    )
    try:
        assert slow(1)
    finally:
        release.set()


def test_a_heart_whose_thread_cannot_start_leaves_nothing_behind_and_the_key_is_free(monkeypatch):
    def no_thread(self):
        raise RuntimeError("can't start new thread")

    layer, charge = MemoryPersistenceLayer(), counted()
    call = idempotent_function(charge, persistence_store=layer)
    fresh = Heart()
    monkeypatch.setattr("retrysafe.running.heart", fresh)
    with monkeypatch.context() as patched:
        patched.setattr(Heart, "_begin", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            call(1)
    assert (len(layer), charge.body.runs, fresh._runs) == (0, 0, set())
    assert call(1) == 1


def test_a_signal_handler_that_calls_a_function_while_the_heart_begins_does_not_wait_for_itself(monkeypatch):
    def start(thread):
        if not interrupted and thread.name == "retrysafe-heartbeat":
            interrupted.append(thread)
            answers.append(call(2))
        original(thread)

    interrupted, answers, original = [], [], threading.Thread.start
    monkeypatch.setattr("retrysafe.running.heart", Heart())
    call = idempotent_function(counted(), persistence_store=MemoryPersistenceLayer())
    caller = threading.Thread(target=lambda: answers.append(call(1)), daemon=True)
    monkeypatch.setattr(threading.Thread, "start", start)
    caller.start()
    caller.join(30)
    assert answers == [1, 2]


def test_a_run_that_nobody_holds_is_not_kept_alive():
    class Run:
        renewal_due = 0.0
        store = MemoryPersistenceLayer()
        call = type("Call", (), {"lease": type("Lease", (), {"renewal_seconds": 3600.0})})

    run = Run()
    heart.start(run)
    held = ref(run)
    assert held in heart._runs
    del run
    gc.collect()
    assert held() is None
    heart._alive()
    assert held not in heart._runs


def test_nor_is_a_block_that_nobody_leaves():
    def enter():
        idempotent_block(1, key_prefix="charge", persistence_store=layer).__enter__()
        return [run for run in heart._alive() if run.store is layer]  # other tests' runs may beat too

    async def enter_async():
        await idempotent_block(2, key_prefix="charge", persistence_store=layer).__aenter__()
        beating = _latest.heart()
        beating._beat()
        return len(beating._runs)

    layer = MemoryPersistenceLayer()
    assert copy_context().run(enter) == []
    assert asyncio.run(enter_async()) == 0


# --- between two wishes --------------------------------------------------------------------------------------------


def test_a_listener_that_exits_when_the_key_is_claimed_frees_it():
    layer, charge = MemoryPersistenceLayer(), counted()

    def leave(event):
        raise SystemExit

    with pytest.raises(SystemExit):
        idempotent_function(charge, persistence_store=layer, config=IdempotencyConfig(event_hook=leave))(1)
    assert (len(layer), charge.body.runs) == (0, 0)


def test_an_interruption_right_after_the_function_returned_stores_its_answer_first(monkeypatch):
    layer, charge = MemoryPersistenceLayer(), counted()
    call = idempotent_function(charge, persistence_store=layer, key_prefix="charge")
    torn = []

    def outcome(self, *args):
        if not torn:
            torn.append(True)
            raise KeyboardInterrupt
        return original(self, *args)

    from retrysafe.call import Call  # noqa: PLC0415  # patched here alone

    original = Call.outcome
    monkeypatch.setattr(Call, "outcome", outcome)
    with pytest.raises(KeyboardInterrupt):
        call(1)
    assert [record.stored_status for record in layer._records.values()] == [COMPLETED]
    assert call(1) == 1


@pytest.mark.parametrize("place", ["stop", "returned"])
def test_nor_does_one_before_the_heartbeat_has_stopped_free_the_key_of_what_has_run(monkeypatch, place):
    layer, charge = MemoryPersistenceLayer(), counted()
    call = idempotent_function(charge, persistence_store=layer, key_prefix="charge")

    torn = []

    def interrupted(self, *args):
        if not torn:
            torn.append(True)
            raise KeyboardInterrupt
        return original(self, *args)

    from retrysafe.running import Running  # noqa: PLC0415  # patched here alone

    original = getattr(Running, place)
    monkeypatch.setattr(Running, place, interrupted)
    with pytest.raises(KeyboardInterrupt):
        call(1)
    assert [record.stored_status for record in layer._records.values()] == [COMPLETED]
    assert call(1) == 1
    assert charge.body.runs == 1


@pytest.mark.parametrize("form", ["function", "block"])
def test_nor_does_one_while_a_failure_that_is_an_answer_is_written_down(monkeypatch, flavour, form):
    layer, runs, torn = MemoryPersistenceLayer(), [], []
    config = IdempotencyConfig(replay_exceptions=[LookupError])

    def declined(n=1):
        runs.append(n)
        raise LookupError("declined")

    def call():
        options = {"key_prefix": "p", "persistence_store": layer, "config": config}
        if form == "block":
            return flavour.block({"n": 1}, declined, **options)
        return flavour.function(declined, **options)(1)

    def encode_failure(*args):
        if not torn:
            torn.append(True)
            raise KeyboardInterrupt
        return original(*args)

    original = endings.encode_failure
    monkeypatch.setattr(endings, "encode_failure", encode_failure)
    with pytest.raises(KeyboardInterrupt):
        call()
    assert [record.stored_status for record in layer._records.values()] == [FAILED]
    with pytest.raises(LookupError, match="declined"):
        call()
    assert len(runs) == 1


class SoftTimeLimitError(Exception):
    """As a task queue raises it from a signal handler."""


def test_what_a_signal_handler_raises_in_a_waiting_duplicate_reaches_its_caller():
    layer = MemoryPersistenceLayer()
    config = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=60)
    inside, leave = threading.Event(), threading.Event()

    def holding(n):
        inside.set()
        leave.wait(30)

    def handler(*_):
        raise SoftTimeLimitError

    call = idempotent_function(holding, persistence_store=layer, config=config)
    holder = threading.Thread(target=call, args=(1,))
    holder.start()
    inside.wait(30)
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(SoftTimeLimitError):
            call(1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        leave.set()
        holder.join()


# --- contexts ------------------------------------------------------------------------------------------------------


def test_a_block_may_end_in_another_thread_than_it_began_in():
    layer = MemoryPersistenceLayer()

    @contextlib.contextmanager
    def dependency():
        with idempotent_block(1, key_prefix="charge", persistence_store=layer) as block:
            if block.is_first:
                block.answer = 7
            yield block

    async def main():
        manager = dependency()
        await asyncio.to_thread(manager.__enter__)
        await asyncio.to_thread(manager.__exit__, None, None, None)

    asyncio.run(main())
    assert [record.stored_status for record in layer._records.values()] == [COMPLETED]


def test_a_run_that_is_over_is_nobodys_current_one():
    layer = MemoryPersistenceLayer()
    blocks = [idempotent_block(n, key_prefix="charge", persistence_store=layer) for n in range(2)]
    for block in blocks:
        block.__enter__()
    for block in blocks:  # in the order in which they began, as generators end
        block.__exit__(None, None, None)
    with pytest.raises(IdempotencyConfigError, match="outside"):
        current_execution()


def test_a_block_object_can_be_entered_again_and_starts_anew(clock):
    layer = MemoryPersistenceLayer(clock=clock)
    config = IdempotencyConfig(expires_after_seconds=1)
    block = idempotent_block(1, key_prefix="charge", persistence_store=layer, config=config)
    with contextlib.suppress(ValueError), block:
        block.answer = 41
        raise ValueError
    with block:
        assert (block.is_first, block.answer) == (True, None)
        block.answer = 42
    with block:
        assert (block.is_first, block.answer) == (False, 42)
    clock.advance(5)
    with block:
        assert (block.is_first, block.answer) == (True, None)
        with pytest.raises(IdempotencyConfigError, match="entered already"), block:
            pass


class Step:
    """An await that comes back to whoever drives the coroutine."""

    def __await__(self):
        yield


@pytest.mark.parametrize("form", ["function", "block"])
@pytest.mark.parametrize(("place", "stands"), [("claim", []), ("work", [INPROGRESS]), ("completion", [INPROGRESS])])
def test_a_coroutine_that_is_closed_awaits_nothing_more_and_leaves_its_key_to_the_lease(form, place, stands):
    class Layer(AsyncMemoryPersistenceLayer):
        async def _put_record(self, data_record):
            await step_at("claim")
            await super()._put_record(data_record)

        async def _update_record(self, data_record):
            await step_at("completion")
            await super()._update_record(data_record)

        async def _delete_record(self, data_record):
            removed.append(data_record)

    async def step_at(here):
        if here == place:
            await Step()

    async def work(n=1):
        await step_at("work")
        return n

    async def in_block():
        async with idempotent_block(1, key_prefix="charge", persistence_store=layer) as block:
            block.answer = await work()

    async def closed():
        under_way = call()
        under_way.send(None)
        under_way.close()
        return [record.stored_status for record in layer._layer._records.values()], current.get()

    layer, removed = Layer(), []
    call = idempotent_function(work, persistence_store=layer) if form == "function" else in_block
    assert asyncio.run(closed()) == (stands, None)
    assert removed == []

"""Calls that are interrupted at odd moments: what has run is stored, and what has not frees its key."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    endings,
    idempotent_block,
    idempotent_function,
)
from retrysafe.nesting import current
from retrysafe.persistence.datarecord import COMPLETED, FAILED, INPROGRESS
from support.bodies import counted


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

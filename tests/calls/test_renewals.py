"""A renewal by itself: what a run knows of it, when the next is due, and what holds where there is none."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from queue import SimpleQueue
from types import SimpleNamespace

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_function
from retrysafe._batch.leases import Leases
from retrysafe.heartbeat import Heart, _outcomes, renew
from retrysafe.heartbeat_async import AsyncHeart
from support.renewals import a_run


def renewed(runs):
    """When each is due next, of runs on one layer."""
    return renew(runs, partial(_outcomes, runs[0].store))


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr("retrysafe.heartbeat.monotonic", lambda: 100.0)
    return 100.0


def test_a_run_knows_its_renewed_lease_of_which_a_third_passes_until_the_next_renewal(clock, now):
    run = a_run(clock, MemoryPersistenceLayer(clock=clock))
    end_ms = run.lease_end_ms
    clock.advance(7)
    assert renewed([run]) == [now + 10]
    assert (run.lease_end_ms, run.lease_lost) == (end_ms + 7000, False)
    assert run.store._get_record(run.idempotency_key).in_progress_expiry_timestamp == end_ms + 7000


def test_after_a_renewal_that_failed_a_quarter_of_that_time_passes_and_after_a_lost_lease_there_is_none(
    clock, now, caplog
):
    class Down(MemoryPersistenceLayer):
        def _renew_record(self, data_record):
            raise ConnectionError("gone")

    down, lost = a_run(clock, Down(clock=clock)), a_run(clock, MemoryPersistenceLayer(clock=clock))
    end_ms = down.lease_end_ms
    assert renewed([down]) == [now + 2.5]
    assert (down.lease_end_ms, down.lease_lost) == (end_ms, False)
    assert caplog.messages == [f"could not renew the lease of {down.idempotency_key}, trying again: gone"]
    lost.store._records[lost.idempotency_key] = theirs = lost.claim.replaced(owner="other")
    assert renewed([lost]) == [None]
    assert lost.lease_lost is True
    assert lost.store._get_record(lost.idempotency_key) is theirs


def test_the_thread_is_woken_for_a_run_that_is_due_before_it_would_wake_by_itself(clock, now):
    heart = Heart()
    heart._thread, heart._wake = threading.current_thread(), SimpleQueue()  # so that none begins
    for wakes_at, is_woken in ((now + 9, False), (now + 10, False), (now + 11, True)):
        heart._wakes_at = wakes_at
        run = a_run(clock, MemoryPersistenceLayer(clock=clock))
        heart.start(run)
        assert (run.renewal_due, heart._wake.empty()) == (now + 10, not is_woken)
        heart.stop(run)
        assert heart._alive() == []


def test_of_several_runs_only_those_are_let_go_whose_lease_is_lost(clock, now):
    layer = MemoryPersistenceLayer(clock=clock)
    runs = [a_run(clock, layer, payload) for payload in range(3)]
    del layer._records[runs[1].idempotency_key]
    assert renewed(runs) == [now + 10, None, now + 10]


@pytest.mark.parametrize(("window_seconds", "lease_ms"), [(3600, 3_600_000), (5, 30_000)])
def test_a_layer_that_cannot_renew_holds_the_key_for_its_whole_window_and_for_half_a_minute_at_least(
    window_seconds, lease_ms
):
    class FourMethods(MemoryPersistenceLayer):
        can_renew = False

    layer = FourMethods()

    @idempotent_function(persistence_store=layer, config=IdempotencyConfig(expires_after_seconds=window_seconds))
    def function(n):
        (record,) = layer._records.values()
        return record.in_progress_expiry_timestamp - record.made_at_ms

    assert function(1) == lease_ms


@pytest.mark.parametrize(("error", "until_next"), [(None, 10), (ConnectionError("gone"), 2.5)])
def test_the_next_is_due_by_when_the_store_was_asked_however_long_it_took(clock, monkeypatch, error, until_next):
    now = [100.0]

    class Slow(MemoryPersistenceLayer):
        def _renew_record(self, data_record):
            now[0] += 4
            if error is not None:
                raise error
            super()._renew_record(data_record)

    monkeypatch.setattr("retrysafe.heartbeat.monotonic", lambda: now[0])
    run = a_run(clock, Slow(clock=clock))
    assert renewed([run]) == [100 + until_next]


@pytest.mark.parametrize(("error", "until_next"), [(None, 10), (ConnectionError("gone"), 2.5)])
def test_so_it_is_where_the_event_loop_renews(clock, error, until_next):
    now = [100.0]

    class Slow(AsyncMemoryPersistenceLayer):
        async def _renew_record(self, data_record):
            now[0] += 4
            if error is not None:
                raise error

    async def main():
        loop = SimpleNamespace(
            time=lambda: now[0],
            call_at=lambda due, beat: SimpleNamespace(cancel=list),
            create_task=asyncio.get_running_loop().create_task,
        )
        heart, run = AsyncHeart(loop), a_run(clock, MemoryPersistenceLayer(clock=clock))
        run.store = Slow()
        heart.start(run)
        assert run.renewal_due == 110
        now[0] = 110.0
        heart._beat()
        await asyncio.wait(heart._tasks)
        await asyncio.sleep(0)  # so that the loop tells the heart
        return run.renewal_due

    assert asyncio.run(main()) == 110 + until_next


@pytest.mark.parametrize(("error", "until_next"), [(None, 10), (ConnectionError("gone"), 2.5)])
def test_and_where_a_batch_is_renewed(clock, monkeypatch, error, until_next):
    now = [100.0]
    monkeypatch.setattr("retrysafe._batch.leases.monotonic", lambda: now[0])
    run = a_run(clock, MemoryPersistenceLayer(clock=clock))
    item = SimpleNamespace(call=run.call, claim=run.claim, is_lost=False)
    leases = Leases(SimpleNamespace(claimed={run.idempotency_key: item}))
    held, records = leases.renewals()
    now[0] += 4
    leases.renewed(held, records, [error])
    assert leases.due == 100 + until_next

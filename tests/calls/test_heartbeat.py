"""Leases are renewed while a function runs, and only then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from queue import SimpleQueue

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent_function,
)
from retrysafe.answers import AnswerCodec
from retrysafe.call import begin_call
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.execution import Execution
from retrysafe.heartbeat import Heart, renew
from retrysafe.plan import Plan

SHORT = IdempotencyConfig(in_progress_expires_after_seconds=0.15)


class Counting:
    """Counts renewals, and lets a test wait for the n-th."""

    def __init__(self):
        self.renewals = []
        self.errors = []
        self.arrived = threading.Condition()

    def note(self, record):
        with self.arrived:
            self.renewals.append(record)
            self.arrived.notify_all()
        if self.errors:
            raise self.errors.pop(0)

    def wait_for(self, count):
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.renewals) >= count, timeout=30)


class SyncLayer(MemoryPersistenceLayer):
    def __init__(self):
        super().__init__()
        self.counting = Counting()

    def _renew_record(self, data_record):
        self.counting.note(data_record)
        super()._renew_record(data_record)


class AsyncLayer(AsyncMemoryPersistenceLayer):
    def __init__(self):
        super().__init__()
        self.counting = Counting()

    async def _renew_record(self, data_record):
        self.counting.note(data_record)
        await super()._renew_record(data_record)


def run(kind, during, config=SHORT):
    """Run a function whose body is `during(layer)`, in the given kind; its answer and its layer."""
    if kind == "sync":
        layer = SyncLayer()
        return idempotent_function(lambda n: during(layer), persistence_store=layer, config=config)(1), layer
    layer = AsyncLayer()

    async def function(n):
        return await asyncio.to_thread(during, layer)

    return asyncio.run(idempotent_function(function, persistence_store=layer, config=config)(1)), layer


@pytest.fixture(params=["sync", "async"])
def kind(request):
    return request.param


def test_the_lease_moves_on_again_and_again_while_the_function_runs(kind):
    def during(layer):
        layer.counting.wait_for(3)

    _, layer = run(kind, during)
    ends = [record.in_progress_expiry_timestamp for record in layer.counting.renewals]
    assert ends == sorted(ends)
    assert len(set(ends)) == len(ends) >= 3
    assert len({record.owner for record in layer.counting.renewals}) == 1


def test_a_renewal_that_fails_is_tried_again_sooner(kind, caplog):
    def during(layer):
        layer.counting.errors = [ConnectionError("gone"), ConnectionError("gone")]
        layer.counting.wait_for(4)

    _, layer = run(kind, during)
    assert len(layer.counting.renewals) >= 4
    assert "could not renew the lease" in caplog.text


def a_run(clock, layer, payload=1):
    """A run of half a minute's lease, by hand; and the clock by which it is renewed."""
    plan = Plan(function_name="work", key_prefix="work", config=IdempotencyConfig(), codec=AnswerCodec(), clock=clock)
    run = Execution()
    run.call, run.store, run.lease_lost = begin_call(plan, payload), layer, False
    run.claim = run.call.claim()
    run.lease_end_ms = run.claim.in_progress_expiry_timestamp
    layer._put_record(run.claim)
    return run


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr("retrysafe.heartbeat.monotonic", lambda: 100.0)
    return 100.0


def test_a_run_knows_its_renewed_lease_of_which_a_third_passes_until_the_next_renewal(clock, now):
    run = a_run(clock, MemoryPersistenceLayer(clock=clock))
    end_ms = run.lease_end_ms
    clock.advance(7)
    assert renew([run]) == []
    assert (run.lease_end_ms, run.renewal_due, run.lease_lost) == (end_ms + 7000, now + 10, False)
    assert run.store._get_record(run.idempotency_key).in_progress_expiry_timestamp == end_ms + 7000


def test_after_a_renewal_that_failed_a_quarter_of_that_time_passes_and_after_a_lost_lease_there_is_none(
    clock, now, caplog
):
    class Down(MemoryPersistenceLayer):
        def _renew_record(self, data_record):
            raise ConnectionError("gone")

    down, lost = a_run(clock, Down(clock=clock)), a_run(clock, MemoryPersistenceLayer(clock=clock))
    end_ms = down.lease_end_ms
    assert renew([down]) == []
    assert (down.lease_end_ms, down.renewal_due, down.lease_lost) == (end_ms, now + 2.5, False)
    assert caplog.messages == [f"could not renew the lease of {down.idempotency_key}, trying again: gone"]
    lost.store._records[lost.idempotency_key] = theirs = lost.claim.replaced(owner="other")
    assert renew([lost]) == [lost]
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
    assert renew(runs) == [runs[1]]
    assert [run.renewal_due for run in (runs[0], runs[2])] == [now + 10] * 2


def test_a_lost_lease_is_known_to_the_function_and_not_renewed_any_more():
    layer = SyncLayer()

    def function(n):
        layer.counting.errors = [IdempotencyLeaseLostError("gone")]
        layer.counting.wait_for(1)
        deadline = time.monotonic() + 30
        while not current_execution().lease_lost and time.monotonic() < deadline:
            time.sleep(0.001)
        return current_execution().lease_lost

    assert idempotent_function(function, persistence_store=layer, config=SHORT)(1) is True
    assert len(layer.counting.renewals) == 1


def test_after_the_function_nothing_is_renewed(kind):
    def during(layer):
        layer.counting.wait_for(1)
        return current_execution()

    kept, layer = run(kind, during)
    count = len(layer.counting.renewals)
    assert kept.over
    run("sync", lambda layer: layer.counting.wait_for(3))
    assert len(layer.counting.renewals) == count, "the heart went on to beat for another call, but not for this one"


def heartbeats():
    return {thread for thread in threading.enumerate() if thread.name == "retrysafe-heartbeat"}


def test_many_sync_calls_share_one_thread():
    layer = SyncLayer()
    before = heartbeats()  # of earlier tests

    def function(n):
        layer.counting.wait_for(12)
        return len(heartbeats() - before)

    call = idempotent_function(function, persistence_store=layer, config=SHORT)
    counts = []
    threads = [threading.Thread(target=lambda n=n: counts.append(call(n))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(counts) <= 1
    assert len({record.idempotency_key for record in layer.counting.renewals}) == 6


class SlowLayer(MemoryPersistenceLayer):
    """Renews nothing before the leases of all six calls are due, and notes how many it then renews at a time."""

    blocking = True

    def __init__(self):
        super().__init__()
        self.trips, self.all_due, self.all_renewed = [], threading.Event(), threading.Event()

    def _for_each(self, operation, arguments):
        assert operation == "renew"
        return self._trip(arguments)

    def _renew_record(self, data_record):
        self._trip([data_record])

    def _trip(self, records):
        self.all_due.wait(30)
        self.trips.append(len(records))
        for record in records:
            super()._renew_record(record)
        if sum(self.trips) >= 6:
            self.all_renewed.set()
        return [None] * len(records)


def test_a_thread_that_dies_as_it_begins_does_not_pass_for_one_that_beats(monkeypatch):
    heart, start = Heart(), threading.Thread.start

    def start_and_end(thread):
        start(thread)
        thread.join()

    monkeypatch.setattr(heart, "_beat_on", lambda: None)
    monkeypatch.setattr(threading.Thread, "start", start_and_end)
    heart._begin()
    assert heart._thread is None


def test_what_becomes_due_while_the_layer_is_busy_is_renewed_together():
    layer, executions, all_run = SlowLayer(), [], threading.Event()

    def function(n):
        executions.append(current_execution())
        if len(executions) == 6:
            all_run.set()
        if n == 0:
            all_run.wait(30)
            while any(run.renewal_due > time.monotonic() for run in executions):
                time.sleep(0.01)
            layer.all_due.set()
        return layer.all_renewed.wait(30)

    config = IdempotencyConfig(in_progress_expires_after_seconds=3)
    call = idempotent_function(function, persistence_store=layer, config=config)
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(call, range(6)))
    assert sum(layer.trips[:2]) == 6, "those of the first trip, and all others in the second"


def test_many_async_calls_share_one_timer():
    layer = AsyncLayer()

    @idempotent_function(persistence_store=layer)
    async def function(n):
        await asyncio.sleep(0)

    async def main():
        loop = asyncio.get_running_loop()
        timers = []
        set_timer = loop.call_at
        loop.call_at = lambda when, *args, **kwargs: timers.append(when) or set_timer(when, *args, **kwargs)
        await asyncio.gather(*(function(n) for n in range(20)))
        for n in range(20, 40):
            await function(n)
        return len(timers)

    assert asyncio.run(main()) == 1


def test_an_async_run_is_renewed_in_time_beside_one_with_a_longer_lease():
    layer, ended = AsyncLayer(), []

    async def main():
        over = asyncio.Event()

        @idempotent_function(persistence_store=layer)
        async def long(n):
            await over.wait()
            ended.append("long")

        @idempotent_function(persistence_store=layer, config=SHORT)
        async def short(n):
            await asyncio.to_thread(layer.counting.wait_for, 3)
            ended.append("short")

        first = asyncio.create_task(long(1))
        await asyncio.sleep(0)
        await short(1)
        await short(2)
        over.set()
        await first

    asyncio.run(main())
    assert ended == ["short", "short", "long"]
    assert all("short" in record.idempotency_key for record in layer.counting.renewals)


def test_an_async_renewal_sees_the_context_of_its_own_call():
    tenant = ContextVar("tenant")

    class Layer(AsyncLayer):
        async def _renew_record(self, data_record):
            seen.add((data_record.idempotency_key, tenant.get()))
            await super()._renew_record(data_record)

    layer, seen, keys = Layer(), set(), {}

    @idempotent_function(persistence_store=layer, config=SHORT)
    async def function(n):
        keys[current_execution().idempotency_key] = n
        await asyncio.to_thread(layer.counting.wait_for, 8)

    async def call(n):
        tenant.set(n)
        await function(n)

    async def main():
        await asyncio.gather(call(1), call(2))

    asyncio.run(main())
    assert seen == set(keys.items())


def test_a_layer_that_cannot_renew_holds_the_key_for_its_whole_window():
    class FourMethods(MemoryPersistenceLayer):
        can_renew = False

    layer = FourMethods()

    @idempotent_function(persistence_store=layer)
    def function(n):
        (record,) = layer._records.values()
        return record.in_progress_expiry_timestamp - record.made_at_ms

    assert function(1) == 3_600_000


PRELUDE = """
import os, sys, threading, time
from retrysafe import *
class Layer(MemoryPersistenceLayer):
    pids = []
    def _renew_record(self, data_record):
        Layer.pids.append(os.getpid())
        super()._renew_record(data_record)
layer = Layer()
config = IdempotencyConfig(in_progress_expires_after_seconds=0.06)
"""


def program(text):
    """What a program prints on both streams."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + text], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def test_a_child_forked_in_the_middle_of_a_call_has_a_heart_of_its_own():
    text = """
@idempotent_function(persistence_store=layer, config=config)
def function(n):
    while len(Layer.pids) < 2:
        time.sleep(0.005)
    if n == "parent":
        child = os.fork()
        if child == 0:
            Layer.pids.clear()
            function("child")
            os._exit(0 if set(Layer.pids) == {os.getpid()} else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
function("parent")
"""
    assert program(text) == "0\n"


def test_a_program_that_ends_with_a_call_under_way_ends_silently():
    text = """
@idempotent_function(persistence_store=layer, config=config)
def function(n):
    started.set()
    time.sleep(60)
started = threading.Event()
threading.Thread(target=function, args=(1,), daemon=True).start()
started.wait()
time.sleep(0.1)
print("over")
"""
    assert program(text) == "over\n"

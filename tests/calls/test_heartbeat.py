"""Leases are renewed while a function runs, and only then."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, current_execution, idempotent_function
from retrysafe.exceptions import IdempotencyLeaseLostError
from retrysafe.heartbeat import Heart
from support.renewals import SHORT, AsyncLayer, SyncLayer


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


@pytest.mark.parametrize("error", [ConnectionError("gone"), IdempotencyLeaseLostError("completed")], ids=repr)
def test_a_renewal_that_fails_after_its_run_is_over_says_nothing_of_it(error, caplog):
    class Layer(MemoryPersistenceLayer):
        blocking = True

        def _renew_record(self, data_record):
            renewals.append(threading.current_thread())
            under_way.set()
            over.wait(30)
            raise error

    def function(n):
        under_way.wait(30)
        kept.append(current_execution())

    under_way, over, renewals, kept = threading.Event(), threading.Event(), [], []
    idempotent_function(function, persistence_store=Layer(), config=SHORT)(1)
    over.set()
    renewals[0].join(30)
    assert (kept[0].lease_lost, caplog.text) == (False, "")


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


class StandingTime:
    """A queue to wait at whose waits end only when something is put into it, and never by themselves.

    Attributes:
        puts: How often something was put into it.
        waits: The limit of each wait.
    """

    def __init__(self):
        self.puts, self.waits, self._queue = 0, SimpleQueue(), SimpleQueue()

    def put(self, item):
        self.puts += 1
        self._queue.put(item)

    def get_nowait(self):
        return self._queue.get_nowait()

    def get(self, timeout):
        self.waits.put(timeout)
        return self._queue.get()

    def next_wait(self):
        """End the present wait; the limit of the next one."""
        self._queue.put(None)
        return self.waits.get(timeout=30)


def test_calls_that_end_in_time_do_not_wake_the_thread_and_without_any_it_sleeps_without_limit(monkeypatch):
    queue, heart = StandingTime(), Heart()
    monkeypatch.setattr("retrysafe.heartbeat.new_queue", lambda: queue)
    monkeypatch.setattr("retrysafe.running.heart", heart)
    call = idempotent_function(lambda n: n, persistence_store=MemoryPersistenceLayer())
    heart._begin()
    assert queue.waits.get(timeout=30) is None
    call(1)
    assert queue.waits.get(timeout=30) > 0
    for n in range(2, 20):
        call(n)
    assert queue.puts == 1
    assert queue.next_wait() > 0, "or each call that follows would wake it"
    assert queue.next_wait() is None


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

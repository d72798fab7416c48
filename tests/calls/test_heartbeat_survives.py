"""The heart goes on beating, whatever happens to one of its runs, and for none that nobody holds."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextvars import copy_context
from weakref import ref

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_block, idempotent_function
from retrysafe.heartbeat import Heart, heart
from retrysafe.heartbeat_async import _latest
from support.bodies import counted
from support.renewals import SHORT


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


def test_a_store_that_hangs_costs_no_other_store_its_leases_and_is_not_asked_again_meanwhile():
    hanging, release, asked = threading.Event(), threading.Event(), []

    def hang():
        asked.append("renew")
        hanging.set()
        release.wait()  # for longer than anybody waits for the other store

    def function(n):
        hanging.wait(30)
        return survives(), survives(), list(asked)

    layer = RenewingLayer(hang, blocking=True)
    slow = idempotent_function(function, persistence_store=layer, config=SHORT)
    try:
        assert slow(1) == (True, True, ["renew"])
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


def test_a_thread_that_dies_as_it_begins_does_not_pass_for_one_that_beats(monkeypatch):
    heart, start = Heart(), threading.Thread.start

    def start_and_end(thread):
        start(thread)
        thread.join()

    monkeypatch.setattr(heart, "_beat_on", lambda: None)
    monkeypatch.setattr(threading.Thread, "start", start_and_end)
    heart._begin()
    assert heart._thread is None


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

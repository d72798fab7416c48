"""Worker threads: any synchronous layer under asynchronous callers."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from retrysafe.persistence._threads import Threads
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from support.sqlite_support import SetClock, claim, completed
from support.threaded_layers import FourMethods, Gated, started


async def call_all(layer):
    await layer._put_record(claim())
    assert (await layer._get_record("key")).idempotency_key == "key"
    await layer._update_record(completed())
    await layer._delete_record(claim())
    await layer.close()


def test_each_method_runs_in_a_thread_of_its_own():
    wrapped = FourMethods()
    asyncio.run(call_all(ThreadedPersistenceLayer(wrapped)))
    assert [name for name, _ in wrapped.calls] == ["put", "get", "update", "delete", "close"]
    assert threading.get_ident() not in [thread for _, thread in wrapped.calls]


def test_a_layer_that_does_not_block_is_called_directly():
    class Direct(FourMethods):
        blocking = False

    wrapped = Direct()
    before = set(threading.enumerate())  # of which some may end meanwhile
    asyncio.run(call_all(ThreadedPersistenceLayer(wrapped)))
    assert {thread for _, thread in wrapped.calls} == {threading.get_ident()}
    assert set(threading.enumerate()) <= before


def test_what_the_wrapped_layer_is_the_adapter_is():
    class Private(SQLitePersistenceLayer):
        reachable_by_others = False

        def __init__(self):
            BasePersistenceLayer.__init__(self, clock=SetClock())

    plain, private = FourMethods(), Private()
    for wrapped in (plain, private):
        adapter = ThreadedPersistenceLayer(wrapped)
        assert adapter.clock is wrapped.clock
        assert adapter.can_renew is wrapped.can_renew
        assert adapter.reachable_by_others is wrapped.reachable_by_others
        assert adapter.blocking is False
    assert [plain.can_renew, private.can_renew] == [False, True]
    with pytest.raises(NotImplementedError):
        asyncio.run(ThreadedPersistenceLayer(plain)._renew_record(claim()))


def test_the_callers_context_comes_along():
    request = contextvars.ContextVar("request")

    class Reads(FourMethods):
        def _put_record(self, data_record):
            self.seen = request.get()

    wrapped = Reads()

    async def main():
        request.set("mine")
        await ThreadedPersistenceLayer(wrapped)._put_record(claim())

    asyncio.run(main())
    assert wrapped.seen == "mine"


def test_calls_run_side_by_side_up_to_the_limit():
    wrapped = Gated()
    adapter = ThreadedPersistenceLayer(wrapped, max_threads=2)

    async def main():
        tasks = [asyncio.create_task(adapter._put_record(claim())) for _ in range(5)]
        await started(wrapped, calls=2)
        wrapped.gate.set()
        await asyncio.gather(*tasks)
        await adapter.close()

    asyncio.run(main())
    threads = {thread for name, thread in wrapped.calls if name == "put"}
    assert len(wrapped.calls) == 6
    assert len(threads) == 2


@pytest.mark.parametrize("together", [False, True])
def test_what_a_run_owes_stands_behind_no_claims(together):
    """Nor a renewal behind outcomes: it would come when the lease is over, and another would run beside it."""

    class Renewable(Gated):
        def _update_record(self, data_record):
            if data_record.owner == "slow":
                self._put_record(data_record)
            self.called("update")

        def _renew_record(self, data_record):
            self.called("renew")

    wrapped = Renewable()
    adapter = ThreadedPersistenceLayer(wrapped, max_threads=2)

    async def main():
        claims = [asyncio.create_task(adapter._put_record(claim())) for _ in range(9)]
        await started(wrapped, calls=2)
        if together:
            for operation in ("update", "delete", "renew"):
                assert await adapter._for_each(operation, [claim()]) == [None]
        else:
            await adapter._update_record(completed())
            await adapter._delete_record(claim())
            await adapter._renew_record(claim())
        outcomes = [asyncio.create_task(adapter._update_record(claim(owner="slow"))) for _ in range(9)]
        await started(wrapped, calls=2)
        await adapter._renew_record(claim())
        wrapped.gate.set()
        await asyncio.gather(*claims, *outcomes)
        await adapter.close()

    asyncio.run(main())
    assert [name for name, _ in wrapped.calls[:4]] == ["update", "delete", "renew", "renew"]


def test_calls_side_by_side_see_the_callers_context():
    tracing = contextvars.ContextVar("tracing", default="nothing")
    threads = Threads(2)
    for span in ("first", "second"):  # the threads are the first one's
        tracing.set(span)
        assert threads.outcomes(lambda _: tracing.get(), range(20)) == [span] * 20
    threads.close()


def test_what_is_handed_to_threads_is_carried_out_though_they_are_closed_meanwhile():
    threads = Threads(4)

    def closing(number):
        threads.close()
        return number

    for _ in range(200):
        assert threads.outcomes(closing, range(20)) == list(range(20))


@pytest.mark.parametrize("most", range(4))
def test_what_no_thread_can_be_started_for_is_carried_out_by_those_that_there_are_and_the_caller(monkeypatch, most):
    threads, start_thread, began = Threads(8), threading.Thread.start, []

    def start_a_few(thread):
        if len(began) == most:
            raise RuntimeError("can't start new thread")
        began.append(thread)
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", start_a_few)
    for _ in range(20):
        asked = []
        told = threads.outcomes(lambda number, asked=asked: asked.append(number) or 2 * number, range(6))
        assert told == [0, 2, 4, 6, 8, 10]
        assert sorted(asked) == [*range(6)]
        began.clear()


def test_a_call_for_which_no_thread_can_be_started_is_made_all_the_same(monkeypatch):
    layer = FourMethods()
    threaded = ThreadedPersistenceLayer(layer)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        asyncio.run(threaded._delete_record(claim()))
    asyncio.run(threaded._delete_record(claim()))
    names = [name for name, _ in layer.calls]
    assert names == ["delete", "delete"], "the executor had kept the first one"

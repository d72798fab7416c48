"""Worker threads: any synchronous layer under asynchronous callers, and the asynchronous SQLite layer."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading

import pytest

from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyLeaseLostError,
    IdempotencyPersistenceConfigError,
    IdempotencyPersistenceConnectionError,
)
from retrysafe.persistence._threads import Threads
from retrysafe.persistence.base import BasePersistenceLayer
from retrysafe.persistence.datarecord import INPROGRESS
from retrysafe.persistence.many import at_once
from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer, SQLitePersistenceLayer
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from support.sqlite_support import START_MS, SetClock, claim, completed, outcome, start


class FourMethods(BasePersistenceLayer):
    """A layer without renewal, that tells where it was called."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = []
        self.closed = 0

    def called(self, name, answer=None):
        self.calls.append((name, threading.get_ident()))
        return answer

    def _get_record(self, idempotency_key):
        return self.called("get", claim(idempotency_key))

    def _put_record(self, data_record):
        self.called("put")

    def _update_record(self, data_record):
        self.called("update")

    def _delete_record(self, data_record):
        self.called("delete")

    def close(self):
        self.called("close")


class Gated(FourMethods):
    """A layer whose claims wait until they are let through."""

    def __init__(self):
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    def _put_record(self, data_record):
        self.entered.release()
        assert self.gate.wait(30)
        self.called("put")
        if data_record.owner == "unlucky":
            raise IdempotencyItemAlreadyExistsError("words")


async def started(gated, calls=1):
    """Wait until so many claims are in their threads."""
    for _ in range(calls):
        assert await asyncio.to_thread(gated.entered.acquire, timeout=30)


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


class TestCancellation:
    def cancelled(self, wrapped, owner="a", times=1):
        """Cancel a claim under way; what happened, in order."""
        happened = []
        adapter = ThreadedPersistenceLayer(wrapped)

        async def protect():
            try:
                await adapter._put_record(claim(owner=owner))
            finally:
                happened.append("let through")
                await adapter._delete_record(claim(owner=owner))

        async def main():
            task = asyncio.create_task(protect())
            await started(wrapped)
            for _ in range(times):
                task.cancel("stop")
                for _ in range(10):
                    await asyncio.sleep(0)
                assert not task.done()
                assert happened == []
            wrapped.gate.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            await adapter.close()
            gc.collect()
            return caught.value

        error = asyncio.run(main())
        assert happened == ["let through"]
        assert [name for name, _ in wrapped.calls] == ["put", "delete", "close"]
        return error

    def test_it_waits_until_the_thread_has_ended(self):
        error = self.cancelled(Gated())
        assert error.args == ("stop",)

    def test_it_waits_however_often_it_comes(self):
        self.cancelled(Gated(), times=5)

    def test_it_goes_before_the_calls_own_failure(self, caplog):
        self.cancelled(Gated(), owner="unlucky")
        assert caplog.records == []

    def test_a_timeout_is_a_timeout(self):
        wrapped = Gated()
        adapter = ThreadedPersistenceLayer(wrapped)

        async def main():
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, wrapped.gate.set)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await adapter._put_record(claim())
            assert [name for name, _ in wrapped.calls] == ["put"]
            await adapter.close()

        asyncio.run(main())


class TestSQLite:
    @pytest.fixture
    def clock(self):
        return SetClock()

    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "records.db"

    def run(self, path, clock, main):
        async def with_layer():
            async with AsyncSQLitePersistenceLayer(path, synchronous="off", clock=clock) as layer:
                return await main(layer)

        return asyncio.run(with_layer())

    def test_a_call_from_claim_to_replay(self, path, clock):
        async def main(layer):
            with pytest.raises(IdempotencyItemNotFoundError):
                await layer._get_record("key")
            await layer._put_record(claim(payload_hash="h"))
            await layer._renew_record(claim(now_ms=START_MS + 1000))
            await layer._update_record(completed())
            await layer._delete_record(claim())
            with pytest.raises(IdempotencyItemAlreadyExistsError) as caught:
                await layer._put_record(claim(owner="b"))
            return caught.value.old_data_record

        assert self.run(path, clock, main) == completed(payload_hash="h")

    def test_a_late_owner_changes_nothing(self, path, clock):
        async def main(layer):
            await layer._put_record(claim())
            await layer._put_record(claim(owner="b", attempt=2, replaces=claim()))
            for late in (layer._update_record, layer._renew_record):
                with pytest.raises(IdempotencyLeaseLostError):
                    await late(completed(owner="a"))
            await layer._delete_record(claim(owner="a"))
            return await layer._get_record("key")

        assert self.run(path, clock, main) == claim(owner="b", attempt=2)

    def test_of_100_tasks_one_wins_each_key(self, path, clock):
        async def main(layer):
            async def rival(key, owner):
                try:
                    await layer._put_record(claim(key, owner))
                except IdempotencyItemAlreadyExistsError:
                    return 0
                return 1

            return [sum(await asyncio.gather(*(rival(key, str(owner)) for owner in range(100)))) for key in "abcde"]

        assert self.run(path, clock, main) == [1] * 5

    def test_it_renews_and_sweeps_and_is_judged_by_its_clock(self, path, clock):
        async def main(layer):
            assert layer.can_renew
            assert layer.clock is clock
            await layer._put_record(claim())
            clock.ms *= 2
            return [await layer.sweep(limit=5), await layer.sweep()]

        assert self.run(path, clock, main) == [1, 0]

    def test_one_object_serves_one_loop_after_another(self, path, clock):
        layer = AsyncSQLitePersistenceLayer(path, clock=clock)
        asyncio.run(layer._put_record(claim()))
        assert asyncio.run(layer._get_record("key")).stored_status == INPROGRESS
        asyncio.run(layer.close())

    def test_a_closed_layer_says_so(self, path, clock):
        async def main():
            layer = AsyncSQLitePersistenceLayer(path, clock=clock)
            await layer._put_record(claim())
            await layer.close()
            await layer.close()
            with pytest.raises(IdempotencyPersistenceConnectionError, match="was closed with its layer"):
                await layer._get_record("key")
            await layer.close()

        asyncio.run(main())

    def test_options_are_refused_as_by_the_synchronous_one(self, path):
        with pytest.raises(IdempotencyPersistenceConfigError, match="synchronous='on'"):
            AsyncSQLitePersistenceLayer(path, synchronous="on")

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
    def test_a_forked_child_has_threads_of_its_own(self, path):
        said = outcome(
            start(
                """
                import asyncio, os, sys, warnings
                from support.sqlite_support import *
                from retrysafe.persistence.sqlite import AsyncSQLitePersistenceLayer
                warnings.simplefilter("ignore", DeprecationWarning)  # of forking among threads, as is meant
                layer = AsyncSQLitePersistenceLayer(sys.argv[1], clock=SetClock())
                asyncio.run(layer._put_record(claim("before")))
                pid = os.fork()
                if pid == 0:
                    asyncio.run(layer._put_record(claim("child")))
                    os._exit(0)
                assert os.waitpid(pid, 0)[1] == 0
                print(asyncio.run(layer._get_record("child")).owner)
                asyncio.run(layer.close())
                """,
                path,
            )
        )
        assert said == "a\n"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("retrysafe.persistence.threads", "{'asyncio', 'sqlite3', 'concurrent'}"),
        ("retrysafe.persistence.sqlite", "{'asyncio', 'concurrent'}"),
    ],
)
def test_synchronous_callers_load_no_event_loop(module, absent):
    outcome(start(f"import sys, {module}; assert not {absent} & sys.modules.keys(), sys.modules.keys()"))


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


def test_calls_side_by_side_that_are_cancelled_end_when_the_last_has_ended():
    async def check():
        ended = []
        under_way = asyncio.Event()
        let_go = asyncio.Event()

        async def call(number):
            if number == 2:
                under_way.set()
            try:
                await asyncio.Event().wait()
            finally:
                if number:
                    await let_go.wait()
                ended.append(number)

        task = asyncio.create_task(at_once(call, range(3)))
        await under_way.wait()
        task.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert (task.done(), ended) == (False, [0])
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == [0, 1, 2]

    asyncio.run(check())


OUTLIVES_MAIN = """
    import asyncio, sys, threading, time
    from retrysafe import idempotent_function
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer

    store, runs = SQLitePersistenceLayer(sys.argv[1]), []

    @idempotent_function(persistence_store=store, key_prefix="late")
    async def charge(order):
        runs.append(order)
        while threading.main_thread().is_alive():
            await asyncio.sleep(0.01)
        return order

    async def serve():
        print([await charge(order) for order in (1, 1, 2, 2)], runs)

    threading.Thread(target=asyncio.run, args=(serve(),)).start()
    while sys.argv[2] == "under way" and not runs:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("then", ["under way", "not begun"])
def test_a_loop_that_outlives_the_main_thread_stores_its_answers(tmp_path, then):
    assert outcome(start(OUTLIVES_MAIN, tmp_path / "records.db", then)) == "[1, 1, 2, 2] [1, 2]\n"


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

"""Calls in worker threads, and calls side by side, that are cancelled: they end when the last has ended."""

from __future__ import annotations

import asyncio
import gc

import pytest

from retrysafe.persistence.many import at_once
from retrysafe.persistence.threads import ThreadedPersistenceLayer
from support.sqlite_support import claim
from support.threaded_layers import Gated, started


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

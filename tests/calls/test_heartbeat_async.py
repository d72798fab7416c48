"""The renewals of an event loop's runs: on one timer, in time, and whatever happens to one of them."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, current_execution, idempotent_batch, idempotent_function
from retrysafe.exceptions import IdempotencyConfigError, IdempotencyLeaseLostError
from support.renewals import SHORT, AsyncLayer


class AsyncRenewingLayer(AsyncMemoryPersistenceLayer):
    """Does something else at its first renewal, and tells when one got through."""

    def __init__(self, at_first):
        super().__init__()
        self.at_first = at_first
        self.first, self.renewed = asyncio.Event(), asyncio.Event()

    async def _renew_record(self, data_record):
        if not self.first.is_set():
            self.first.set()
            await self.at_first()
        await super()._renew_record(data_record)
        self.renewed.set()


def test_an_async_run_is_renewed_again_after_a_renewal_that_was_cancelled():
    async def main():
        layer = AsyncRenewingLayer(asyncio.Event().wait)

        @idempotent_function(persistence_store=layer, config=SHORT)
        async def work(n):
            await layer.first.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as a program does that is told to end
                task.cancel()
            return await asyncio.wait_for(layer.renewed.wait(), 30)

        return await work(1)

    assert asyncio.run(main())


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_and_after_one_that_was_cancelled_before_it_began(kind):
    async def nothing():
        pass

    async def main():
        layer = AsyncRenewingLayer(nothing)

        async def work(n):
            before, begun = asyncio.all_tasks(), set()
            while not begun:
                await asyncio.sleep(0)  # in its turn of the loop before the renewal's
                begun = asyncio.all_tasks() - before
            for task in begun:
                task.cancel()
            assert not layer.first.is_set()
            return await asyncio.wait_for(layer.renewed.wait(), 30)

        options = {"persistence_store": layer, "config": SHORT, "key_prefix": "p"}
        if kind == "batch":
            return [each.answer for each in await idempotent_batch(work, **options)([1])]
        return [await idempotent_function(work, **options)(1)]

    assert asyncio.run(main()) == [True]


def test_an_async_run_that_has_lost_its_lease_is_not_renewed_any_more_though_others_are():
    layer, others = AsyncLayer(), AsyncLayer()
    layer.counting.errors = [IdempotencyLeaseLostError("gone")]

    @idempotent_function(persistence_store=others, config=SHORT)
    async def other(n):
        await asyncio.to_thread(others.counting.wait_for, 3)

    @idempotent_function(persistence_store=layer, config=SHORT)
    async def work(n):
        await asyncio.to_thread(layer.counting.wait_for, 1)
        await other(n)
        return current_execution().lease_lost

    assert asyncio.run(work(1)) is True
    assert len(layer.counting.renewals) == 1


@pytest.mark.parametrize("error", [ConnectionError("gone"), IdempotencyLeaseLostError("completed")], ids=repr)
def test_an_async_renewal_that_fails_after_its_run_is_over_says_nothing_of_it(error, caplog):
    async def main():
        async def fail():
            await over.wait()
            raise error

        over, layer = asyncio.Event(), AsyncRenewingLayer(fail)

        @idempotent_function(persistence_store=layer, config=SHORT)
        async def work(n):
            await layer.first.wait()
            kept.append(current_execution())

        await work(1)
        over.set()
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    kept = []
    asyncio.run(main())
    assert (kept[0].lease_lost, caplog.text) == (False, "")


def test_an_async_run_is_renewed_again_where_a_log_filter_raised():
    def refuse(record):
        raise RuntimeError

    async def gone():
        raise ConnectionError("gone")

    async def main():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        layer = AsyncRenewingLayer(gone)

        @idempotent_function(persistence_store=layer, config=SHORT)
        async def work(n):
            return await asyncio.wait_for(layer.renewed.wait(), 30)

        return await work(1)

    logger = logging.getLogger("retrysafe")
    logger.addFilter(refuse)
    try:
        assert asyncio.run(main())
    finally:
        logger.removeFilter(refuse)


def test_another_event_loop_than_asyncio_s_is_refused_before_anything_runs_and_the_key_stays_free():
    @idempotent_function(persistence_store=AsyncMemoryPersistenceLayer())
    async def work(n):
        return n

    with pytest.raises(IdempotencyConfigError, match="asyncio's event loop"):
        work(1).send(None)  # as trio drives a coroutine
    assert asyncio.run(work(1)) == 1


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

"""The renewals of an event loop's runs go on, whatever happens to one of them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, idempotent_batch, idempotent_function
from retrysafe.exceptions import IdempotencyConfigError

SHORT = IdempotencyConfig(in_progress_expires_after_seconds=0.15)


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

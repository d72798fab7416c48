"""Async batches that are cancelled: what has run is recorded, what has not is free, and the caller is cancelled too."""

from __future__ import annotations

import asyncio
import gc

import pytest

from retrysafe import AsyncMemoryPersistenceLayer
from retrysafe.testing import AsyncFailingLayer
from support.batches import orders
from support.interrupted_batches import over_many, recorded


class Stage:
    """Work for a batch that a test cancels when an order has come so far."""

    def __init__(self):
        self.reached = asyncio.Event()
        self.runs = []

    async def __call__(self, order):
        self.runs.append(order["id"])
        if order.get("stays"):
            self.reached.set()
            await asyncio.sleep(3600)
        return order["id"]


def over_many_async(stage, layer, **options):
    async def work(order):
        return await stage(order)

    return over_many(work, layer, **options)


@pytest.mark.parametrize("times", [1, 50])
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_cancellation_keeps_what_has_run_and_frees_the_rest(times, concurrency):
    async def main():
        inner = AsyncMemoryPersistenceLayer()
        stage = Stage()
        batch = [{"id": 1}, {"id": 2, "stays": True}, {"id": 3, "stays": concurrency > 1}, {"id": 4}]
        task = asyncio.ensure_future(
            over_many_async(stage, inner, concurrency=concurrency, record_after_seconds=3600)(batch)
        )
        await stage.reached.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 4 not in stage.runs
        assert recorded(inner._layer) == ["1"]

    asyncio.run(main())


@pytest.mark.parametrize("times", [1, 2, 20])
def test_a_function_that_does_not_heed_cancellations_is_recorded_and_the_cancellation_follows(times):
    async def main():
        layer, waits, heard, over = AsyncMemoryPersistenceLayer(), asyncio.Semaphore(0), [], asyncio.Event()

        async def work(order):
            for _ in range(times):
                waits.release()
                try:
                    await over.wait()
                except asyncio.CancelledError as error:
                    heard.append(error)
            return order["id"]

        task = asyncio.ensure_future(over_many(work, layer)(orders(1, 2)))
        try:
            for _ in range(times):
                await asyncio.wait_for(waits.acquire(), 5)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        finally:
            over.set()
        assert len(heard) == times
        assert recorded(layer._layer) == ["1"]

    asyncio.run(main())


@pytest.mark.parametrize("is_stored", ["at once", "late"])
@pytest.mark.parametrize("times", [1, 20])
def test_cancellations_while_keys_are_claimed_free_them(times, is_stored):
    async def main():
        inner = AsyncMemoryPersistenceLayer()
        asked, go_on = asyncio.Event(), asyncio.Event()

        class Slow(AsyncFailingLayer):
            async def _put_record(self, data_record):
                if is_stored == "at once":
                    await super()._put_record(data_record)
                asked.set()
                await go_on.wait()
                if is_stored == "late":
                    await super()._put_record(data_record)

        stage = Stage()
        task = asyncio.ensure_future(over_many_async(stage, Slow(inner))(orders(1, 2)))
        await asked.wait()
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        for _ in range(20):  # time for whoever would free them without waiting for the store
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
        assert (stage.runs, len(inner)) == ([], 0)

    asyncio.run(main())


def test_a_cancellation_of_the_pause_before_an_outcome_is_tried_again_records_it_first():
    async def main():
        inner = AsyncMemoryPersistenceLayer()
        layer, stage = AsyncFailingLayer(inner), Stage()
        layer.fail("update", call=1)
        task = asyncio.ensure_future(over_many_async(stage, layer, record_after_seconds=0)(orders(1, 2)))
        while not layer.calls["update"]:  # noqa: ASYNC110  # the layer counts, and tells nobody
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stage.runs == [1]
        assert recorded(inner._layer) == ["1"]

    asyncio.run(main())


def test_a_shutdown_that_cancels_all_tasks_once_more_leaves_no_key_behind():
    async def main():
        inner = AsyncMemoryPersistenceLayer()
        asked, go_on = asyncio.Event(), asyncio.Event()

        class Slow(AsyncFailingLayer):
            async def _delete_record(self, data_record):
                asked.set()
                await go_on.wait()
                await super()._delete_record(data_record)

        stage = Stage()
        batch = [{"id": 1}, {"id": 2, "stays": True}, {"id": 3}, {"id": 4}]
        task = asyncio.ensure_future(over_many_async(stage, Slow(inner))(batch))
        await stage.reached.wait()
        task.cancel()
        await asked.wait()
        for each in asyncio.all_tasks() - {asyncio.current_task()}:
            each.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert recorded(inner._layer) == ["1"]

    asyncio.run(main())


def test_an_item_that_ends_in_a_cancellation_of_its_own_making_fails_alone():
    async def main():
        layer = AsyncMemoryPersistenceLayer()

        async def work(order):
            if order["id"] == 2:
                raise asyncio.CancelledError
            return order["id"]

        result = await over_many(work, layer)(orders(1, 2, 3))
        assert [each.ok for each in result] == [True, False, True]
        assert isinstance(result[1].error, asyncio.CancelledError)
        assert recorded(layer._layer) == ["1", "3"]

    asyncio.run(main())


def test_an_item_that_cancels_its_own_task_and_returns_all_the_same_has_returned():
    layer = AsyncMemoryPersistenceLayer()

    async def work(order):
        asyncio.current_task().cancel()
        return order["id"]

    result = asyncio.run(over_many(work, layer)(orders(1, 2)))
    assert [(each.status, each.answer) for each in result] == [("returned", 1), ("returned", 2)]
    assert recorded(layer._layer) == ["1", "2"]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_an_item_whose_task_somebody_cancels_before_it_begins_fails_alone(concurrency):
    layer, tasks = AsyncMemoryPersistenceLayer(), []

    async def work(order):
        return order["id"]

    def cancelling_the_second(loop, coroutine, **options):
        task = asyncio.Task(coroutine, loop=loop, **options)
        if coroutine.__qualname__ == "AsyncBatchRun._run":
            tasks.append(task)
            if len(tasks) == 2:
                task.cancel()
        return task

    async def main():
        asyncio.get_running_loop().set_task_factory(cancelling_the_second)
        return await over_many(work, layer, concurrency=concurrency)(orders(1, 2, 3))

    result = asyncio.run(main())
    assert [each.ok for each in result] == [True, False, True]
    assert isinstance(result[1].error, asyncio.CancelledError)
    assert recorded(layer._layer) == ["1", "3"]


def test_an_exit_in_an_async_item_ends_the_batch():
    async def main():
        layer, runs = AsyncMemoryPersistenceLayer(), []

        async def work(order):
            runs.append(order["id"])
            if order["id"] == 2:
                raise SystemExit
            return order["id"]

        with pytest.raises(SystemExit):
            await over_many(work, layer)(orders(1, 2, 3))
        assert runs == [1, 2]
        assert recorded(layer._layer) == ["1"]

    asyncio.run(main())


def test_a_batch_whose_loop_is_closed_in_its_middle_ends_silently(capfd):
    loop, layer = asyncio.new_event_loop(), AsyncMemoryPersistenceLayer()

    async def work(order):
        if order["id"] == 2:
            loop.stop()
            await asyncio.sleep(3600)
        return order["id"]

    loop.set_exception_handler(lambda loop, context: None)  # which tells of the tasks that nobody has ended
    task = loop.create_task(over_many(work, layer)(orders(1, 2, 3)))
    loop.run_forever()
    loop.close()
    del task
    gc.collect()  # which ends the coroutines
    assert capfd.readouterr().err == ""
    assert recorded(layer._layer) == ["running"] * 3

"""Batches that are interrupted: what has run is recorded, what has not is free, and the caller is interrupted too."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
import textwrap
import threading

import pytest

from retrysafe import AsyncMemoryPersistenceLayer, IdempotencyConfig, MemoryPersistenceLayer, idempotent_batch
from retrysafe.heartbeat import heart
from retrysafe.persistence.datarecord import COMPLETED
from retrysafe.persistence.sqlite import SQLitePersistenceLayer
from retrysafe.testing import AsyncFailingLayer, FailingLayer

BY_ID = IdempotencyConfig(event_key_jmespath="id")


def orders(*ids):
    return [{"id": each} for each in ids]


def recorded(layer):
    """The ids of the orders whose answers are stored; a record that is still running is shown as "running"."""
    return sorted(
        record.response_data if record.stored_status == COMPLETED else "running" for record in layer._records.values()
    )


def over_many(work, layer, config=BY_ID, **options):
    return idempotent_batch(work, persistence_store=layer, config=config, key_prefix="charge", **options)


# --- sync -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_in_an_item_keeps_what_has_run_and_frees_the_rest(error):
    layer, runs = MemoryPersistenceLayer(), []

    def work(order):
        runs.append(order["id"])
        if order["id"] == 3:
            raise error
        return order["id"]

    with pytest.raises(error):
        over_many(work, layer)(orders(1, 2, 3, 4, 1))
    assert runs == [1, 2, 3]
    assert recorded(layer) == ["1", "2"]


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_an_interruption_while_keys_are_claimed_frees_them_all_and_nothing_runs(applied, number):
    inner = MemoryPersistenceLayer()
    layer, runs = FailingLayer(inner), []
    layer.fail("put", call=number, applied=applied, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        over_many(runs.append, layer, None)(orders(1, 2, 3))
    assert (runs, len(inner)) == ([], 0)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_an_interruption_while_outcomes_are_recorded_records_them_first(applied, number):
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("update", call=number, applied=applied, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        over_many(lambda order: order["id"], layer)(orders(1, 2))
    assert recorded(inner) == ["1", "2"]


def test_after_an_interruption_while_an_outcome_is_recorded_no_further_item_runs():
    inner, runs = MemoryPersistenceLayer(), []
    layer = FailingLayer(inner)
    layer.fail("update", call=1, error=KeyboardInterrupt)

    def work(order):
        runs.append(order["id"])
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer, record_after_seconds=0)(orders(1, 2))
    assert runs == [1]
    assert recorded(inner) == ["1"]


def test_an_interruption_while_keys_are_freed_frees_them_all_the_same():
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("delete", call=1, error=KeyboardInterrupt)

    def work(order):
        if order["id"] == 2:
            raise ValueError
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer)(orders(1, 2, 3))
    assert recorded(inner) == ["1", "3"]


def test_a_second_interruption_while_keys_are_freed_leaves_none_behind():
    inner = MemoryPersistenceLayer()
    layer = FailingLayer(inner)
    layer.fail("delete", call=1, error=KeyboardInterrupt)

    def work(order):
        if order["id"] == 2:
            raise SystemExit
        return order["id"]

    with pytest.raises(SystemExit):
        over_many(work, layer)(orders(1, 2, 3, 4))
    assert recorded(inner) == ["1"]


class Struck(MemoryPersistenceLayer):
    """The first outcomes that it is to record together are interrupted."""

    def __init__(self):
        super().__init__()
        self.times, self.recording = 0, threading.Condition()

    def _for_each(self, operation, arguments):
        if operation == "update":
            with self.recording:
                self.times += 1
                self.recording.notify_all()
            if self.times == 1:
                raise KeyboardInterrupt
        return super()._for_each(operation, arguments)

    def wait_until_it_records(self):
        with self.recording:
            times = self.times
            assert self.recording.wait_for(lambda: self.times > times, 5)


def test_an_interruption_of_many_outcomes_at_once_is_one_interruption():
    layer, runs = Struck(), []

    def work(order):
        runs.append(str(order["id"]))
        if order["id"] > 5:  # the six before it are recorded together, while this one runs
            layer.wait_until_it_records()
        return order["id"]

    with pytest.raises(KeyboardInterrupt):
        over_many(work, layer, record_after_seconds=0.01)(orders(*range(20)))
    assert recorded(layer) == sorted(runs)
    assert len(runs) < 20


def test_a_listener_that_exits_ends_the_batch_and_leaves_no_key_behind():
    layer, heard = MemoryPersistenceLayer(), []

    def leave(event):
        heard.append(event)
        if len(heard) == 3:
            raise SystemExit

    with pytest.raises(SystemExit):
        over_many(lambda order: order["id"], layer, IdempotencyConfig(event_hook=leave))(orders(1, 2, 3, 4))
    assert "running" not in recorded(layer)


class Torn(KeyboardInterrupt):
    """An interruption that strikes at a chosen call of one of our functions."""


def torn_at(number, batch):
    """Run the batch; at the so-manieth call of a function of ours the interruption strikes. Whether it did."""
    calls = 0

    def strike(frame, event, arg):
        nonlocal calls
        if event == "call" and "/retrysafe/" in frame.f_code.co_filename:
            calls += 1
            if calls == number:
                sys.setprofile(None)
                raise Torn

    # A run that is torn at its very end stays the current one of its context.
    context = contextvars.copy_context()
    gc.disable()  # what a batch before left to it would be counted too, and an interruption of its end be lost
    sys.setprofile(strike)
    try:
        context.run(batch)
    except Torn:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return False


def lingering():
    """The threads of batches that do not end."""
    threads = [thread for thread in threading.enumerate() if thread.name == "retrysafe-batch"]
    if threads:
        gc.collect()  # an interruption and what it tore hold each other
    for thread in threads:
        thread.join(5)
    return [thread for thread in threads if thread.is_alive()]


@pytest.mark.parametrize("blocking", [False, True])
def test_an_interruption_anywhere_loses_no_answer_and_leaves_no_key_behind(blocking):
    """But at the one place where nobody can know: between the end of a function and what is told of it."""
    number, unknown = 0, 0
    while True:
        number += 1
        layer, runs = MemoryPersistenceLayer(), []
        layer.blocking = blocking  # if it is, a thread records the first two while the others are claimed

        def work(order, runs=runs):
            runs.append(str(order["id"]))
            return order["id"]

        charge = over_many(work, layer, record_after_seconds=3600, claimed_at_once=2)
        if not torn_at(number, lambda charge=charge: charge(orders(1, 2, 3, 1))):
            break
        assert "running" not in recorded(layer), number
        assert set(recorded(layer)) <= set(runs), number
        assert not lingering(), number
        unknown += len(runs) - len(recorded(layer))
        assert len(runs) - len(recorded(layer)) <= 1, number
    assert number > 100
    gc.collect()
    assert not heart._alive()
    assert unknown <= 15  # five of our calls for each of three items


def test_an_interruption_that_strikes_where_another_one_is_caught_changes_nothing():
    layer, runs = MemoryPersistenceLayer(), []

    def work(order):
        runs.append(str(order["id"]))
        if order["id"] == 3:
            raise KeyboardInterrupt
        return order["id"]

    def strike(frame, event, arg):
        if event == "call" and frame.f_code.co_name == "_note":
            sys.setprofile(None)
            raise Torn

    sys.setprofile(strike)
    try:
        with pytest.raises(Torn):
            over_many(work, layer, record_after_seconds=3600)(orders(1, 2, 3, 4))
    finally:
        sys.setprofile(None)
    assert recorded(layer) == ["1", "2"]


# --- async ------------------------------------------------------------------------------------------------------------


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


def test_a_function_that_does_not_heed_the_cancellation_is_recorded_and_the_cancellation_follows():
    async def main():
        layer, reached = AsyncMemoryPersistenceLayer(), asyncio.Event()

        async def work(order):
            reached.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                return order["id"]

        task = asyncio.ensure_future(over_many(work, layer)(orders(1, 2)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert recorded(layer._layer) == ["1"]

    asyncio.run(main())


def test_a_cancellation_while_keys_are_claimed_frees_them():
    async def main():
        inner = AsyncMemoryPersistenceLayer()
        asked, go_on = asyncio.Event(), asyncio.Event()

        class Slow(AsyncFailingLayer):
            async def _put_record(self, data_record):
                await super()._put_record(data_record)
                asked.set()
                await go_on.wait()

        stage = Stage()
        task = asyncio.ensure_future(over_many_async(stage, Slow(inner))(orders(1, 2)))
        await asked.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (stage.runs, len(inner)) == ([], 0)

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


# --- the death of the process -----------------------------------------------------------------------------------------

DYING = """
    import os, sys
    from retrysafe import IdempotencyConfig, idempotent_batch
    from retrysafe.persistence.sqlite import SQLitePersistenceLayer

    config = IdempotencyConfig(event_key_jmespath="id", in_progress_expires_after_seconds=0.2)
    layer = SQLitePersistenceLayer(sys.argv[1], synchronous="off")

    @idempotent_batch(
        persistence_store=layer, config=config, key_prefix="charge", record_after_seconds=float(sys.argv[2])
    )
    def charge(order):
        print(order["id"], flush=True)
        if order["id"] == 4:
            os._exit(9)
        return order["id"]

    charge([{"id": number} for number in range(6)])
"""


@pytest.mark.parametrize(("record_after", "lost"), [(0, 0), (3600, 4)])
def test_after_the_death_of_the_process_only_what_was_not_recorded_runs_again(tmp_path, record_after, lost):
    path = tmp_path / "records.db"
    program = [sys.executable, "-c", textwrap.dedent(DYING), str(path), str(record_after)]
    died = subprocess.run(program, capture_output=True, text=True, check=False)
    assert (died.returncode, died.stdout.split()) == (9, ["0", "1", "2", "3", "4"])
    runs = []
    with SQLitePersistenceLayer(path) as layer:
        config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
        result = over_many(lambda order: runs.append(order["id"]), layer, config)(orders(*range(6)))
    assert all(each.ok for each in result)
    assert sorted(runs) == list(range(4 - lost, 6))


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

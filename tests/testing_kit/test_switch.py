"""The switch: within its block nothing is idempotent, and beside it everything is."""

from __future__ import annotations

import asyncio
import threading

import pytest

from retrysafe import (
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.testing import FailingLayer, idempotency_disabled


@pytest.fixture
def store():
    return FailingLayer(MemoryPersistenceLayer())


@pytest.fixture
def charge(store):
    runs = []

    @idempotent_function(persistence_store=store, key_prefix="charge")
    def charge(order):
        runs.append(order)
        return len(runs)

    return charge


@pytest.fixture
def charge_async(store):
    runs = []

    @idempotent_function(persistence_store=store, key_prefix="charge")
    async def charge(order):
        runs.append(order)
        return len(runs)

    return charge


def test_within_the_block_each_call_runs_and_no_store_is_asked_and_afterwards_all_is_as_before(charge, store):
    with idempotency_disabled():
        assert [charge("order"), charge("order")] == [1, 2]
    assert sum(store.calls.values()) == 0
    assert [charge("order"), charge("order")] == [3, 3]


def test_handlers_are_switched_off_too(store):
    runs = []

    @idempotent(persistence_store=store, key_prefix="handler")
    def handler(event, context):
        runs.append(event)
        return len(runs)

    with idempotency_disabled():
        assert [handler({"id": 1}, None), handler({"id": 1}, None)] == [1, 2]
    assert [handler({"id": 1}, None), handler({"id": 1}, None)] == [3, 3]


def test_batches_and_blocks_are_switched_off_too_and_a_handler_object_is_not(store):
    runs = []

    def charge(order):
        runs.append(order)
        return len(runs)

    batch = idempotent_batch(charge, persistence_store=store, key_prefix="batch")
    block = idempotent_block("order", key_prefix="block", persistence_store=store)
    with idempotency_disabled():
        assert [each.answer for each in batch(["order", "order"])] == [1, 2]
        for _ in range(2):
            with block:
                assert block.is_first
        assert sum(store.calls.values()) == 0
        handler = IdempotencyHandler(charge, "order", IdempotencyConfig(), store, function_args=["order"])
        assert [handler.handle(), handler.handle()] == [3, 3]


def test_an_exception_leaves_the_block_and_switches_back(charge):
    with pytest.raises(ValueError, match="in the block"), idempotency_disabled():
        raise ValueError("in the block")
    assert [charge("order"), charge("order")] == [1, 1]


def test_blocks_can_be_nested(charge):
    switch = idempotency_disabled()
    with switch:
        with switch, idempotency_disabled():
            pass
        assert [charge("order"), charge("order")] == [1, 2]
    assert [charge("order"), charge("order")] == [3, 3]


def test_it_decorates_functions(charge):
    @idempotency_disabled()
    def twice(order):
        """Charge twice."""
        return [charge(order), charge(order)]

    assert (twice("order"), twice.__name__, twice.__doc__) == ([1, 2], "twice", "Charge twice.")
    assert [charge("order"), charge("order")] == [3, 3]


def test_it_decorates_async_functions_while_they_run(charge_async):
    @idempotency_disabled()
    async def twice(order):
        await asyncio.sleep(0)
        return [await charge_async(order), await charge_async(order)]

    async def program():
        assert await twice("order") == [1, 2]
        return [await charge_async("order"), await charge_async("order")]

    assert asyncio.run(program()) == [3, 3]


def test_tasks_and_threads_beside_the_block_stay_protected(charge, charge_async):
    answers = []
    with idempotency_disabled():
        thread = threading.Thread(target=lambda: answers.extend([charge("order"), charge("order")]))
        thread.start()
        thread.join()
    assert answers == [1, 1]

    async def switched_off(entered, leave):
        with idempotency_disabled():
            entered.set()
            await leave.wait()

    async def program():
        entered, leave = asyncio.Event(), asyncio.Event()
        beside = asyncio.create_task(switched_off(entered, leave))
        await entered.wait()
        answers = [await charge_async("order 2"), await charge_async("order 2")]
        leave.set()
        await beside
        return answers

    assert asyncio.run(program()) == [1, 1]


def test_tasks_and_threads_started_by_asyncio_in_the_block_are_switched_off(charge, charge_async):
    async def program():
        with idempotency_disabled():
            in_thread = [await asyncio.to_thread(charge, "order") for _ in range(2)]
            in_task = [await asyncio.create_task(charge_async("order 2")) for _ in range(2)]
        return in_thread, in_task

    assert asyncio.run(program()) == ([1, 2], [1, 2])


class Sync:
    """A class, which is no function."""


def test_what_it_cannot_be_around_is_refused():
    def numbers():
        yield 1

    async def more_numbers():
        yield 1

    for wrong in (numbers, more_numbers, Sync):
        with pytest.raises(TypeError, match="with idempotency_disabled"):
            idempotency_disabled()(wrong)

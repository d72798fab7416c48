"""The tools for tests: layers that fail on demand, the switch and the clock."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    DataRecord,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_batch,
    idempotent_block,
    idempotent_function,
)
from retrysafe.base import IdempotencyHandler
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.testing import (
    AsyncFailingLayer,
    FailingLayer,
    ManualClock,
    idempotency_disabled,
)
from support.four_methods import FourMethodLayer

# --- failing layers ---------------------------------------------------------------------------------------------------


class Sync:
    """Calls a synchronous failing layer plainly."""

    def __init__(self):
        self.store = MemoryPersistenceLayer()
        self.layer = FailingLayer(self.store)

    def do(self, operation, argument):
        return getattr(self.layer, f"_{operation}_record")(argument)


class Async(Sync):
    """Calls an asynchronous failing layer plainly."""

    def __init__(self):
        inner = AsyncMemoryPersistenceLayer()
        self.store = inner._layer
        self.layer = AsyncFailingLayer(inner)

    def do(self, operation, argument):
        return asyncio.run(super().do(operation, argument))


@pytest.fixture(params=[Sync, Async])
def failing(request):
    return request.param()


def record(status="INPROGRESS", **fields):
    return DataRecord("key", status, 9_999_999_999, 9_999_999_999_000, owner="owner-1", **fields)


def test_without_a_failure_to_come_the_layer_is_the_one_it_wraps(failing):
    failing.do("put", record())
    with pytest.raises(IdempotencyItemAlreadyExistsError):
        failing.do("put", record())
    failing.do("renew", record())
    failing.do("update", record("COMPLETED", response_data="1"))
    assert failing.do("get", "key").response_data == "1"
    failing.do("delete", record())
    assert failing.layer.calls == {"put": 2, "renew": 1, "update": 1, "get": 1, "delete": 1}


@pytest.mark.parametrize("operation", ["get", "put", "update", "delete", "renew"])
def test_each_operation_can_fail_and_is_counted(failing, operation):
    failing.layer.fail(operation)
    with pytest.raises(IdempotencyPersistenceConnectionError, match=f"request of this {operation} was lost"):
        failing.do(operation, "key" if operation == "get" else record())
    assert failing.layer.calls[operation] == 1
    assert sum(failing.layer.calls.values()) == 1


def test_a_lost_request_never_reaches_the_store(failing):
    failing.layer.fail("put")
    with pytest.raises(IdempotencyPersistenceConnectionError, match="request"):
        failing.do("put", record())
    assert len(failing.store) == 0


def test_a_lost_reply_leaves_the_store_as_it_was_told(failing):
    failing.layer.fail("put", applied=True)
    with pytest.raises(IdempotencyPersistenceConnectionError, match="reply"):
        failing.do("put", record())
    assert len(failing.store) == 1


def test_a_lost_refusal_is_a_lost_reply(failing):
    failing.do("put", record())
    failing.layer.fail("put", applied=True)
    with pytest.raises(IdempotencyPersistenceConnectionError, match="reply"):
        failing.do("put", record())


def test_a_failure_can_be_that_of_one_call_by_its_number(failing):
    failing.layer.fail("get", call=2)
    for expected in (IdempotencyItemNotFoundError, IdempotencyPersistenceConnectionError, IdempotencyItemNotFoundError):
        with pytest.raises(expected):
            failing.do("get", "key")


def test_a_failure_can_be_any_exception(failing):
    failing.layer.fail("get", call=1, error=TimeoutError)
    failing.layer.fail("get", call=2, error=OSError(28, "disk full"))
    with pytest.raises(TimeoutError):
        failing.do("get", "key")
    with pytest.raises(OSError, match="disk full"):
        failing.do("get", "key")


def test_healing_ends_all_failures(failing):
    failing.layer.fail("put")
    failing.layer.fail("put", call=2)
    failing.layer.heal()
    failing.do("put", record())
    assert len(failing.store) == 1


@pytest.mark.parametrize(("operation", "call"), [("claim", None), ("put", 1), ("put", 0)])
def test_a_failure_that_can_never_come_is_refused(failing, operation, call):
    failing.do("put", record())
    with pytest.raises(ValueError, match=r"operation=|call="):
        failing.layer.fail(operation, call=call)


def test_what_the_wrapped_layer_says_of_itself_holds_for_the_failing_one():
    clock = ManualClock()
    memory = FailingLayer(MemoryPersistenceLayer(clock=clock))
    assert (memory.clock, memory.can_renew, memory.blocking, memory.reachable_by_others) == (clock, True, False, False)
    four = FailingLayer(FourMethodLayer())
    assert (four.can_renew, four.blocking, four.reachable_by_others) == (False, True, True)
    asynchronous = AsyncFailingLayer(AsyncMemoryPersistenceLayer(clock=clock))
    assert (asynchronous.clock, asynchronous.can_renew, asynchronous.reachable_by_others) == (clock, True, False)


def test_closing_the_failing_layer_closes_the_one_it_wraps():
    closed = []

    class Closing(MemoryPersistenceLayer):
        def close(self):
            closed.append("sync")

    class AsyncClosing(AsyncMemoryPersistenceLayer):
        async def close(self):
            closed.append("async")

    FailingLayer(Closing()).close()
    asyncio.run(AsyncFailingLayer(AsyncClosing()).close())
    assert closed == ["sync", "async"]


def test_a_store_that_is_down_at_completion_costs_no_second_run():
    store = FailingLayer(MemoryPersistenceLayer())
    store.fail("update")
    charged = []

    @idempotent_function(
        persistence_store=store, config=IdempotencyConfig(in_progress_expires_after_seconds=0.05), key_prefix="charge"
    )
    def charge(order):
        charged.append(order)
        return "receipt 1"

    with pytest.raises(IdempotencyPersistenceLayerError) as failure:
        charge("order 1")
    assert failure.value.response == "receipt 1"
    assert charged == ["order 1"]
    assert store.calls["update"] > 1, "it was tried again while the lease ran"


# --- the switch -------------------------------------------------------------------------------------------------------


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


def test_what_it_cannot_be_around_is_refused():
    def numbers():
        yield 1

    async def more_numbers():
        yield 1

    for wrong in (numbers, more_numbers, Sync):
        with pytest.raises(TypeError, match="with idempotency_disabled"):
            idempotency_disabled()(wrong)


# --- the clock --------------------------------------------------------------------------------------------------------


def test_the_clock_stands_still_until_it_is_moved():
    clock = ManualClock()
    assert (clock.now_ms(), clock.now_ms()) == (1_893_456_000_000, 1_893_456_000_000)
    clock.advance(1.5)
    assert clock.now_ms() == 1_893_456_001_500
    clock.advance(-2)
    assert clock.now_ms() == 1_893_455_999_500
    assert ManualClock(7).now_ms() == 7


def test_moving_the_clock_ends_a_window():
    clock = ManualClock()
    runs = []

    @idempotent_function(
        persistence_store=MemoryPersistenceLayer(clock=clock),
        config=IdempotencyConfig(expires_after_seconds=60),
        key_prefix="charge",
    )
    def charge(order):
        runs.append(order)
        return len(runs)

    assert [charge("order"), charge("order")] == [1, 1]
    clock.advance(61)
    assert [charge("order"), charge("order")] == [2, 2]


# --- what it needs ----------------------------------------------------------------------------------------------------


def test_the_testing_kit_needs_no_test_runner():
    program = "import sys, retrysafe.testing; print(sorted({'pytest', '_pytest', 'hypothesis'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Layers that fail on demand: requests and replies that get lost, and else the layer that they wrap."""

from __future__ import annotations

import asyncio

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    DataRecord,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent_function,
)
from retrysafe.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
    IdempotencyPersistenceConnectionError,
    IdempotencyPersistenceLayerError,
)
from retrysafe.testing import AsyncFailingLayer, FailingLayer, ManualClock
from support.four_methods import FourMethodLayer


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

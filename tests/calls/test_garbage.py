"""What a call raises is gone as soon as its caller has dealt with it, with the arguments that its traceback holds.

One that is in a cycle with the frames it passed through stays until the collector comes by, which may be much later.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from weakref import ref

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_block, idempotent_function
from retrysafe.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyItemAlreadyExistsError,
    IdempotencyPersistenceConnectionError,
)


class Payload(dict):
    """A dict to which a weak reference can be had."""


class Refusing(MemoryPersistenceLayer):
    """A store that takes no claim."""

    def _put_record(self, data_record):
        raise IdempotencyPersistenceConnectionError("gone")


def failing(order):
    raise ValueError


async def failing_async(order):
    raise ValueError


def within_itself(order):
    return same(order)


def hook(answer, record):
    raise ValueError


same = idempotent_function(within_itself, persistence_store=MemoryPersistenceLayer())
released = idempotent_function(failing, persistence_store=MemoryPersistenceLayer())
stored = idempotent_function(
    failing, persistence_store=MemoryPersistenceLayer(), config=IdempotencyConfig(replay_exceptions=[ValueError])
)
hooked = idempotent_function(
    lambda order: 1, persistence_store=MemoryPersistenceLayer(), config=IdempotencyConfig(response_hook=hook)
)
refused = idempotent_function(lambda order: 1, persistence_store=Refusing())


def blocked(order, store=MemoryPersistenceLayer()):  # noqa: B008  # one for all of them
    config = IdempotencyConfig(replay_exceptions=[ValueError])
    with idempotent_block(order, key_prefix="block", persistence_store=store, config=config) as block:
        if block.is_first:
            raise ValueError


@pytest.fixture
def _no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("call", [released, stored, hooked, same, refused, blocked])
def test_an_error_and_the_arguments_of_its_call_are_gone_when_it_has_been_dealt_with(call):
    for _ in range(3):
        payload = Payload(id=7)
        held = ref(payload)
        with contextlib.suppress(ValueError, IdempotencyAlreadyInProgressError, IdempotencyPersistenceConnectionError):
            call(payload)
        del payload
        assert held() is None


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("replayed", [(), [ValueError]], ids=["released", "stored"])
def test_so_they_are_in_coroutines(replayed):
    config = IdempotencyConfig(replay_exceptions=replayed)
    call = idempotent_function(failing_async, persistence_store=MemoryPersistenceLayer(), config=config)

    async def main():
        for _ in range(3):
            payload = Payload(id=7)
            held = ref(payload)
            with contextlib.suppress(ValueError):
                await call(payload)
            del payload
            assert held() is None

    asyncio.run(main())


def test_an_error_that_every_call_gets_does_not_gather_their_tracebacks():
    class Unreadable(MemoryPersistenceLayer):
        """Refuses, does not tell what stands, and does not find it."""

        def _put_record(self, data_record):
            raise IdempotencyItemAlreadyExistsError

    call = idempotent_function(lambda n: n, persistence_store=Unreadable())
    raised = []
    for _ in range(2):
        try:
            call(1)
        except Exception as error:  # noqa: BLE001  # any
            raised.append(error)
    assert raised[0] is not raised[1]

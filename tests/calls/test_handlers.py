"""The handler classes for authors of frameworks: what they refuse, and whose answer they take."""

from __future__ import annotations

import asyncio
import time

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_block
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.exceptions import IdempotencyAlreadyInProgressError, IdempotencyConfigError
from support.bodies import counted


def test_a_handler_refuses_a_function_of_the_other_kind_or_takes_its_answer():
    async def charge_async():
        return 1

    with pytest.raises(IdempotencyConfigError, match="AsyncIdempotencyHandler"):
        IdempotencyHandler(charge_async, 1, IdempotencyConfig(), MemoryPersistenceLayer())
    runs = []
    layer = MemoryPersistenceLayer()

    def charge():
        runs.append(1)
        return {"paid": len(runs)}

    for _ in range(2):
        handler = AsyncIdempotencyHandler(charge, 1, IdempotencyConfig(), layer)
        assert asyncio.run(handler.handle()) == {"paid": 1}
    assert runs == [1]


@pytest.mark.parametrize("made_up", [lambda name: lambda: name, lambda name: 1 / 0], ids=["any", "none"])
def test_an_answer_that_makes_up_its_attributes_is_nothing_to_await(made_up):
    class Answer:
        def __getattr__(self, name):
            return made_up(name)

    answer, layer = Answer(), MemoryPersistenceLayer()
    handler = AsyncIdempotencyHandler(lambda: answer, 1, IdempotencyConfig(), layer, key_prefix="x")
    assert asyncio.run(handler.handle()) is answer
    assert len(layer) == 1


@pytest.mark.parametrize("serializer", [object(), "x", int])
def test_a_handler_and_a_block_refuse_what_is_no_serializer(serializer):
    layer = MemoryPersistenceLayer()
    with pytest.raises(IdempotencyConfigError, match="output_serializer"):
        IdempotencyHandler(time.time, 1, IdempotencyConfig(), layer, output_serializer=serializer, key_prefix="x")
    with pytest.raises(IdempotencyConfigError, match="output_serializer"):
        idempotent_block(1, key_prefix="x", persistence_store=layer, output_serializer=serializer)


def test_a_payload_without_a_key_runs_unprotected_with_a_warning(flavour):
    layer = flavour.layer()
    for answer in (1, 2):
        with pytest.warns(UserWarning, match="no idempotency key"):
            assert flavour.handle(counted(answer=answer), None, IdempotencyConfig(), layer, function_args=[1]) == answer


@pytest.mark.parametrize("kind", [IdempotencyHandler, AsyncIdempotencyHandler])
def test_a_durable_execution_that_is_replayed_goes_on_under_its_own_name_alone(kind, events):
    layer, runs = MemoryPersistenceLayer(), []

    def work():
        runs.append(1)
        if len(runs) == 1:
            raise SuspendExecution
        return "done"

    async def work_async():
        return work()

    def handle(**options):
        is_async = kind is AsyncIdempotencyHandler
        config = IdempotencyConfig(event_hook=events.append)
        handler = kind(work_async if is_async else work, 1, config, layer, key_prefix="p")
        return asyncio.run(handler.handle(**options)) if is_async else handler.handle(**options)

    with pytest.raises(SuspendExecution):
        handle(execution_id="arn:1")
    for others in ({"execution_id": "arn:1"}, {"is_replay": True, "execution_id": "arn:2"}, {"is_replay": True}):
        with pytest.raises(IdempotencyAlreadyInProgressError):
            handle(**others)
    assert handle(is_replay=True, execution_id="arn:1") == "done"
    assert {event.owner for event in events} == {"durable:arn:1"}


class SuspendExecution(BaseException):  # as the durable SDK names it
    """How a durable execution ends an invocation that it will continue later."""

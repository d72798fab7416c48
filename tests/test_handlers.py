"""The handler classes for authors of frameworks: what they refuse, and whose answer they take."""

from __future__ import annotations

import asyncio
import time

import pytest

from retrysafe import IdempotencyConfig, MemoryPersistenceLayer, idempotent_block
from retrysafe.base import AsyncIdempotencyHandler, IdempotencyHandler
from retrysafe.exceptions import IdempotencyConfigError


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

"""For tests of refusals: functions that nothing calls or awaits, and a layer on which nothing stands."""

from __future__ import annotations

from retrysafe import MemoryPersistenceLayer

store = MemoryPersistenceLayer()


def function(order):
    return order


async def coroutine_function(order):
    return order


async def awaited(*given):
    raise AssertionError

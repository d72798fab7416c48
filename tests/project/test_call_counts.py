"""What a call costs, as the number of our own functions that it runs: a measure that no busy machine disturbs.

A limit is what it takes today. More than that wants a reason; less wants the limit lowered.
"""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent,
    idempotent_batch,
    idempotent_function,
)

PAYLOADS = [{f"field {field}": f"value {field}" for field in range(9)} | {"id": number} for number in range(8)]


class Context:
    """As much of Lambda's context as a handler's call asks for."""

    @staticmethod
    def get_remaining_time_in_millis():
        return 30_000


def answer(data, context=None):
    return {"statusCode": 200, "count": 1, "text": "x", "nothing": None, "done": True}


async def answer_async(data, context=None):
    return answer(data)


def sync_function(config):
    protected = idempotent_function(
        answer, data_keyword_argument="data", persistence_store=MemoryPersistenceLayer(), config=config
    )
    return lambda payload: protected(data=payload)


def async_function(config):
    protected = idempotent_function(
        answer_async, data_keyword_argument="data", persistence_store=AsyncMemoryPersistenceLayer(), config=config
    )
    return lambda payload: protected(data=payload)


def sync_handler(config):
    protected = idempotent(answer, persistence_store=MemoryPersistenceLayer(), config=config)
    return lambda payload: protected(payload, Context())


def async_handler(config):
    protected = idempotent(answer_async, persistence_store=AsyncMemoryPersistenceLayer(), config=config)
    return lambda payload: protected(payload, Context())


def functions_run(work):
    """How many calls of this package's functions the work takes; but those of locks, which are Python's own mostly."""
    count = 0

    def note(frame, event, arg):
        nonlocal count
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.partition(".")[0] == "retrysafe" and module != "retrysafe.locks":
            count += 1

    before = sys.getprofile()
    gc.disable()  # what earlier tests left behind is no step of this work
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def counts(make, expression):
    """The most that a first call takes, and that a replay does, once what is done only once has been done."""
    call = make(IdempotencyConfig(event_key_jmespath=expression))

    async def awaited(payload):
        return await call(payload)

    with asyncio.Runner() as runner:

        def step(payload):
            if make in (async_function, async_handler):
                runner.run(awaited(payload))
            else:
                call(payload)

        for payload in PAYLOADS[:4]:
            step(payload)
        first = [functions_run(lambda payload=payload: step(payload)) for payload in PAYLOADS[4:]]
        replay = [functions_run(lambda payload=payload: step(payload)) for payload in PAYLOADS]
    return max(first), max(replay)


@pytest.mark.parametrize(
    ("make", "expression", "most"),
    [
        pytest.param(sync_function, "", (41, 16), id="function"),
        pytest.param(sync_function, "id", (42, 17), id="function-one-field"),
        pytest.param(sync_handler, "", (46, 20), id="handler"),
        pytest.param(async_function, "", (51, 18), id="async-function"),
        pytest.param(async_handler, "", (54, 22), id="async-handler"),
    ],
)
def test_a_first_call_and_a_replay_in_memory_take_no_more_steps_than_they_need(make, expression, most):
    first, replay = counts(make, expression)
    assert first <= most[0]
    assert replay <= most[1]


async def over_many_async(batch, items):
    return await batch(items)


@pytest.mark.parametrize(
    ("asynchronous", "most"), [pytest.param(False, (58, 18), id="sync"), pytest.param(True, (86, 21), id="async")]
)
def test_an_item_of_a_batch_in_memory_takes_no_more_steps_than_it_needs(asynchronous, most):
    work, layer = (answer_async, AsyncMemoryPersistenceLayer) if asynchronous else (answer, MemoryPersistenceLayer)
    # No outcome waits for so long that another thread records it, whose steps are not seen here.
    batch = idempotent_batch(work, persistence_store=layer(), key_prefix="batch", record_after_seconds=60)
    items = [{"id": number} for number in range(500)]
    with asyncio.Runner() as runner:

        def carry_out(items):
            return runner.run(over_many_async(batch, items)) if asynchronous else batch(items)

        carry_out([{"id": "first"}])
        first, replay = (functions_run(lambda: carry_out(items)) / len(items) for _ in range(2))
    assert first <= most[0]
    assert replay <= most[1]


def test_a_listener_makes_a_call_take_more_steps_and_so_would_be_seen_here():
    heard = []
    call = idempotent_function(
        answer, persistence_store=MemoryPersistenceLayer(), config=IdempotencyConfig(event_hook=heard.append)
    )
    unheard = idempotent_function(answer, persistence_store=MemoryPersistenceLayer())
    assert functions_run(lambda: call(PAYLOADS[0])) > functions_run(lambda: unheard(PAYLOADS[0]))

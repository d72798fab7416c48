"""Event loops beside asyncio's own, and cancel scopes, which cancel a task again and again until it has left them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import anyio
import pytest

from retrysafe import IdempotencyConfig, async_layer_from_url, idempotent_batch, idempotent_function
from retrysafe.exceptions import IdempotencyAlreadyInProgressError

WAITING = IdempotencyConfig(on_in_progress="wait")


def eager_loop():
    """One whose tasks run at once, up to where they first wait."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


@pytest.fixture(params=["asyncio", "asyncio with eager tasks", "uvloop"])
def run(request, url):
    """Runs a coroutine function of an asynchronous layer, in the event loop that is named."""
    loop_factory = None
    if request.param == "uvloop":
        uvloop = pytest.importorskip("uvloop", reason="uvloop is missing; to get it: make setup")
        loop_factory = uvloop.new_event_loop
    elif "eager" in request.param:
        if sys.version_info < (3, 12):
            pytest.skip("eager tasks came with Python 3.12")
        loop_factory = eager_loop

    async def on_layer(main):
        async with async_layer_from_url(url) as layer:
            return await main(layer)

    def _run(main):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert type(runner.get_loop()).__module__.partition(".")[0] in request.param
            return runner.run(on_layer(main))

    return _run


def test_duplicates_in_tasks_wait_for_the_one_that_runs(run, tmp_path):
    runs = []

    async def main(layer):
        @idempotent_function(persistence_store=layer, key_prefix=str(tmp_path), config=WAITING)
        async def charge(order):
            runs.append(order)
            await asyncio.sleep(0.05)
            return order

        return await asyncio.gather(*(charge(number % 3) for number in range(30)))

    assert (run(main), sorted(runs)) == ([0, 1, 2] * 10, [0, 1, 2])


def test_a_run_keeps_its_key_for_longer_than_a_lease(run, tmp_path):
    async def main(layer):
        ended = asyncio.Event()

        @idempotent_function(
            persistence_store=layer,
            key_prefix=str(tmp_path),
            config=IdempotencyConfig(in_progress_expires_after_seconds=0.5),
        )
        async def charge(order):
            await ended.wait()
            return order

        first = asyncio.create_task(charge(1))
        await asyncio.sleep(1.2)
        with pytest.raises(IdempotencyAlreadyInProgressError):
            await charge(1)
        ended.set()
        return await first

    assert run(main) == 1


def test_a_batch_answers_each_item_once(run, tmp_path):
    runs = []

    async def main(layer):
        @idempotent_batch(persistence_store=layer, key_prefix=str(tmp_path))
        async def charge(order):
            runs.append(order)
            return order

        return [[result.answer for result in await charge([1, 2, 1])] for _ in range(2)]

    assert (run(main), sorted(runs)) == ([[1, 2, 1]] * 2, [1, 2])


@pytest.mark.parametrize("how", ["is_cancelled", "fails"])
def test_a_cancel_scope_that_ends_a_run_frees_its_key(run, tmp_path, how):
    runs = []

    async def main(layer):
        running = anyio.Event()

        @idempotent_function(persistence_store=layer, key_prefix=str(tmp_path))
        async def charge(order):
            runs.append(order)
            if len(runs) == 1:
                running.set()
                await anyio.sleep_forever()
            return order

        with suppress(ExceptionGroup):
            async with anyio.create_task_group() as group:
                group.start_soon(charge, 1)
                await running.wait()
                if how == "fails":
                    raise ConnectionError
                group.cancel_scope.cancel()
        return await charge(1)

    assert (run(main), runs) == (1, [1, 1])


def test_a_run_that_returned_in_a_cancelled_scope_has_left_its_answer(run, tmp_path):
    runs = []

    async def main(layer):
        @idempotent_function(persistence_store=layer, key_prefix=str(tmp_path))
        async def charge(order):
            runs.append(order)
            with anyio.CancelScope(shield=True):
                scope.cancel()
                await asyncio.sleep(0.01)
            return order

        with anyio.CancelScope() as scope:
            await charge(1)
        return await charge(1)

    assert (run(main), runs) == (1, [1])

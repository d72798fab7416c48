"""What a function can learn about its own run."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from weakref import ref

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    current_execution,
    idempotent_block,
    idempotent_function,
)
from retrysafe.exceptions import IdempotencyConfigError
from retrysafe.nesting import current
from retrysafe.persistence.datarecord import INPROGRESS
from support.bodies import plant


def test_a_run_knows_its_key_attempt_owner_and_lease(flavour, clock):
    layer = flavour.layer(clock=clock)
    seen = []

    def charge(order):
        execution = current_execution()
        (record,) = flavour.inner(layer)._records.values()
        seen.append(execution.attempt)
        assert execution.lease_lost is False
        assert (execution.idempotency_key, execution.owner) == (record.idempotency_key, record.owner)
        assert execution.lease_expires_at == dt.datetime.fromtimestamp(clock.now_ms() / 1000 + 30, tz=dt.UTC)

    call = flavour.function(charge, persistence_store=layer)
    call(1)
    plant(flavour, layer, status=INPROGRESS, owner="dead", in_progress_expiry_timestamp=clock.now_ms())
    clock.advance(1)
    call(1)
    assert seen == [1, 2]


def test_a_run_can_ask_the_store_whether_it_is_still_the_owner():
    layer = MemoryPersistenceLayer()

    @idempotent_function(persistence_store=layer, config=IdempotencyConfig(replay_exceptions=[]))
    def charge(order):
        execution = current_execution()
        before = execution.still_owner()
        (key,) = layer._records
        mine = layer._records[key]
        layer._records[key] = mine.replaced(owner="other")
        taken = execution.still_owner()
        del layer._records[key]
        gone = execution.still_owner()
        layer._records[key] = mine
        return before, taken, gone

    assert charge(1) == (True, False, False)


@pytest.mark.parametrize("store", ["memory://", MemoryPersistenceLayer()], ids=["async layer", "sync layer"])
def test_an_async_run_can_ask_too(store):
    @idempotent_function(persistence_store=store)
    async def charge(order):
        if store == "memory://":
            with pytest.raises(IdempotencyConfigError, match="still_owner_async"):
                current_execution().still_owner()
        before = await current_execution().still_owner_async()
        records = current_execution().store._layer._records
        (key,) = records
        mine = records.pop(key)
        gone = await current_execution().still_owner_async()
        records[key] = mine
        return before, gone

    assert asyncio.run(charge(1)) == (True, False)


def test_so_can_a_coroutine_inside_a_sync_run():
    store = MemoryPersistenceLayer()

    async def charge():
        with idempotent_block(1, key_prefix="charge", persistence_store=store) as block:
            block.answer = await current_execution().still_owner_async()
        return block.answer

    assert asyncio.run(charge()) is True


def test_keys_for_downstream_calls_are_the_same_in_every_attempt_and_differ_by_name_and_key(flavour, clock):
    layer = flavour.layer(clock=clock)
    keys = []

    def charge(order):
        keys.append((current_execution().key_for("charge"), current_execution().key_for("mail")))
        raise ValueError

    call = flavour.function(charge, persistence_store=layer)
    for order in (1, 1, 2):
        with pytest.raises(ValueError):  # noqa: PT011  # any will do
            call(order)
    assert keys[0] == keys[1]
    assert len({*keys[0], *keys[2]}) == 4
    assert all(len(key) == 64 for pair in keys for key in pair)


def test_they_are_the_same_in_every_process_and_in_every_version():
    @idempotent_function(persistence_store=MemoryPersistenceLayer(), key_prefix="shop.pay")
    def pay(order_id):
        return current_execution().idempotency_key, current_execution().key_for("charge")

    assert pay("7") == (
        "shop.pay#d28760c3931350faaf6a3d584f7a2d2a",
        "9ad1af70156661958db43ea57cb4a46d8abeac4e92a9539f894abe892b96eab0",
    )


def test_such_a_key_is_made_of_any_text_and_of_nothing_else():
    @idempotent_function(persistence_store=MemoryPersistenceLayer())
    def charge(order):
        for name in (5, None, b"charge"):
            with pytest.raises(IdempotencyConfigError, match=f"it was given a {type(name).__name__}"):
                current_execution().key_for(name)
        return current_execution().key_for("\ud800")

    assert len(charge(1)) == 64


def test_outside_of_a_run_there_is_none(flavour):
    flavour.function(lambda order: 1, persistence_store=flavour.layer())(1)
    with pytest.raises(IdempotencyConfigError, match="outside"):
        current_execution()


def test_a_call_that_runs_unprotected_has_none_and_is_told_why(flavour):
    def asking(order):
        return current_execution()

    call = flavour.function(asking, persistence_store=flavour.layer())
    with pytest.warns(UserWarning, match="no idempotency key"), pytest.raises(IdempotencyConfigError, match="no key"):
        call(None)


def test_nested_runs_see_their_own():
    layer = MemoryPersistenceLayer()

    @idempotent_function(persistence_store=layer)
    def inner(n):
        return current_execution().idempotency_key

    @idempotent_function(persistence_store=layer)
    def outer(n):
        before = current_execution().idempotency_key
        within = inner(n)
        return before, within, current_execution().idempotency_key

    before, within, after = outer(1)
    assert before == after != within


def test_tasks_of_one_loop_see_their_own():
    @idempotent_function(persistence_store="memory://")
    async def charge(order):
        before = current_execution().idempotency_key
        await asyncio.sleep(0)
        return before == current_execution().idempotency_key

    async def main():
        return await asyncio.gather(*(charge(n) for n in range(20)))

    assert asyncio.run(main()) == [True] * 20


def test_a_run_begun_by_a_task_of_an_earlier_one_does_not_hold_those_before():
    layer, runs, tasks = AsyncMemoryPersistenceLayer(), [], set()

    async def main():
        last = asyncio.Event()

        @idempotent_function(persistence_store=layer)
        async def tick(n):
            runs.append(ref(current.get()))
            if n < 20:
                asyncio.get_running_loop().call_soon(begin, n + 1)
                return None
            last.set()
            gc.collect()
            return sum(run() is not None for run in runs)

        def begin(n):
            task = asyncio.ensure_future(tick(n))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await tick(0)
        await last.wait()
        return await tick(20)

    # The last one, and the one in whose context its task was made.
    assert asyncio.run(main()) <= 2

"""In which order items run, and how many at once: who waits, what a failure leaves out, and batches that overlap."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from retrysafe import (
    AsyncMemoryPersistenceLayer,
    IdempotencyConfig,
    MemoryPersistenceLayer,
    idempotent_batch,
    idempotent_function,
)
from retrysafe.persistence.datarecord import COMPLETED, INPROGRESS
from retrysafe.testing import AsyncFailingLayer
from support.batches import BY_ID, SYNC, Watched, Work, failing, one_at_a_time, orders, over_many, statuses, stored

# --- waiting, order, concurrency --------------------------------------------------------------------------------------


def test_an_item_that_runs_elsewhere_is_waited_for_after_the_others_have_run():
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait", wait_timeout_seconds=30)
    layer, order_of_runs = MemoryPersistenceLayer(), []
    layer.blocking = True
    inside, leave = threading.Event(), threading.Event()

    def hold(order):
        inside.set()
        leave.wait(30)
        return "paid elsewhere"

    holder = threading.Thread(
        target=lambda: idempotent_function(
            hold, data_keyword_argument="order", persistence_store=layer, config=BY_ID, key_prefix="charge"
        )({"id": 1})
    )
    holder.start()
    inside.wait(30)

    @idempotent_batch(persistence_store=layer, config=config, key_prefix="charge")
    def charge(order):
        order_of_runs.append(order["id"])
        if order["id"] == 3:
            leave.set()
        return "paid"

    result = charge(orders(1, 2, 3))
    holder.join()
    assert order_of_runs == [2, 3]
    assert [(each.status, each.answer) for each in result] == [
        ("replayed", "paid elsewhere"),
        ("returned", "paid"),
        ("returned", "paid"),
    ]


def test_after_a_failure_the_items_behind_it_are_left_alone_where_that_is_asked_for(flavour):
    layer, work = flavour.layer(), Work(2)
    charge = over_many(flavour, work, layer, stop_at_failure=True, claimed_at_once=3)
    result = charge(orders(1, 2, 3, 1, 4, 5))
    assert statuses(result) == ["returned", "raised", "not_run", "not_run", "not_run", "not_run"]
    assert work.runs == [1, 2]
    assert stored(flavour, layer) == [COMPLETED]
    assert [each.item["id"] for each in result.failures] == [2, 3, 1, 4, 5]
    work.failing.clear()
    assert statuses(charge(orders(2, 3, 1, 4, 5))) == ["returned", "returned", "replayed", "returned", "returned"]


@pytest.mark.parametrize("claimed_at_once", [1, 3])
def test_where_an_order_is_kept_no_item_runs_ahead_of_one_that_waits(flavour, clock, claimed_at_once):
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait", wait_timeout_seconds=0.01)
    layer, work = flavour.layer(clock=clock), Work()

    def hold(order):
        charge = over_many(flavour, work, layer, config, stop_at_failure=True, claimed_at_once=claimed_at_once)
        copied = contextvars.Context()  # another consumer, and not a call within this one
        with ThreadPoolExecutor() as pool:
            return statuses(pool.submit(copied.run, charge, orders(0, 1, 2)).result())

    assert one_at_a_time(SYNC[0], hold, flavour.inner(layer))({"id": 1}) == ["returned", "in_progress", "not_run"]
    assert work.runs == [0]


@pytest.mark.parametrize("claimed_at_once", [1, 2, 9])
def test_where_an_order_is_kept_a_duplicate_that_is_refused_is_a_failure_before_the_next_item_runs(
    flavour, claimed_at_once
):
    config = IdempotencyConfig(event_key_jmespath="id", payload_validation_jmespath="amount")
    work = Work()
    charge = over_many(
        flavour,
        work,
        flavour.layer(),
        config,
        stop_at_failure=True,
        claimed_at_once=claimed_at_once,
        record_after_seconds=3600,
    )
    result = charge([{"id": number, "amount": amount} for number, amount in [(1, 5), (1, 5), (2, 5), (1, 6), (3, 5)]])
    assert statuses(result) == ["returned", "replayed", "returned", "raised", "not_run"]
    assert work.runs == [1, 2]


def test_an_item_that_cannot_begin_is_a_failure_too_and_those_before_it_run(flavour):
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    work = Work()
    result = over_many(flavour, work, flavour.layer(), strict, stop_at_failure=True)(orders(1, None, 2))
    assert statuses(result) == ["returned", "raised", "not_run"]
    assert work.runs == [1]


def test_a_failure_before_an_item_that_cannot_begin_leaves_out_those_between_them(flavour):
    work = Work(2)
    strict = IdempotencyConfig(event_key_jmespath="id", raise_on_no_idempotency_key=True)
    result = over_many(flavour, work, flavour.layer(), strict, stop_at_failure=True)(orders(1, 2, 3, None, 4))
    assert statuses(result) == ["returned", "raised", "not_run", "raised", "not_run"]
    assert work.runs == [1, 2]


def test_after_a_failure_no_item_behind_it_is_waited_for(flavour):
    """Also where claims tell of both at once: one is refused, and another call holds the key of the next."""
    layer = failing(flavour)
    options = {"event_key_jmespath": "id", "payload_validation_jmespath": "amount"}
    config = IdempotencyConfig(**options, on_in_progress="wait", wait_timeout_seconds=0.05)
    charge = over_many(flavour, Work(), layer, config, stop_at_failure=True)
    layer.fail("delete")
    over_many(flavour, Work(3), layer, IdempotencyConfig(**options))([{"id": 2, "amount": 5}, {"id": 3, "amount": 5}])
    layer.heal()
    looks = layer.calls["get"]
    result = charge([{"id": 1, "amount": 5}, {"id": 2, "amount": 6}, {"id": 3, "amount": 5}])
    assert statuses(result) == ["returned", "raised", "not_run"]
    assert layer.calls["get"] == looks


def test_after_a_failure_the_claim_behind_an_item_that_waited_is_freed(flavour):
    layer = failing(flavour)
    layer.fail("delete")
    over_many(flavour, Work(2), layer)(orders(2))
    layer.heal()
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
    result = over_many(flavour, Work(1), layer, config, stop_at_failure=True)(orders(1, 2, 3))
    assert statuses(result) == ["raised", "not_run", "not_run"]
    assert stored(flavour, layer._layer) == [INPROGRESS]


def test_after_a_failure_an_item_behind_it_that_has_run_is_recorded_all_the_same():
    """The store did not take its outcome at first, while the one before it ran, and the one behind it waited."""
    layer = AsyncFailingLayer(AsyncMemoryPersistenceLayer())

    async def charge(order):
        while order["id"] == 1 and not layer.calls["update"]:  # noqa: ASYNC110  # nothing there to await
            await asyncio.sleep(0)
        if order["id"] != 2:
            raise ValueError
        return "paid"

    def over(**options):
        return idempotent_batch(charge, persistence_store=layer, key_prefix="charge", concurrency=2, **options)

    layer.fail("delete")
    asyncio.run(over(config=BY_ID)(orders(3)))
    layer.heal()
    layer.fail("update", call=1)
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
    ordered = over(config=config, record_after_seconds=0, stop_at_failure=True)
    assert statuses(asyncio.run(ordered(orders(1, 2, 3)))) == ["raised", "returned", "not_run"]
    assert statuses(asyncio.run(over(config=BY_ID)(orders(2)))) == ["replayed"]


def test_after_a_failure_items_without_a_key_are_left_alone_too(flavour, monkeypatch):
    work = Work(1, 3)
    charge = over_many(flavour, work, flavour.layer(), stop_at_failure=True)
    with pytest.warns(UserWarning, match="runs without protection"):
        assert statuses(charge(orders(None, 1, None))) == ["returned", "raised", "not_run"]
    monkeypatch.setenv("RETRYSAFE_DISABLED", "1")
    with pytest.warns(UserWarning, match="switched off"):
        assert statuses(charge(orders(2, 3, 4))) == ["returned", "raised", "not_run"]
    assert work.runs == [None, 1, 2, 3]


@pytest.mark.parametrize("keeps_order", [False, True])
@pytest.mark.parametrize("layer_class", [MemoryPersistenceLayer, AsyncMemoryPersistenceLayer])
def test_so_many_async_items_as_asked_for_are_under_way_at_the_same_time(layer_class, keeps_order):
    async def main():
        under_way, most = 0, 0
        options = {"concurrency": 3, "stop_at_failure": keeps_order}

        @idempotent_batch(persistence_store=layer_class(), config=BY_ID, key_prefix="charge", **options)
        async def charge(order):
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.001)
            under_way -= 1
            return order["id"]

        result = await charge(orders(*range(10), 3))
        assert [each.answer for each in result] == [*range(10), 3]
        return most

    assert asyncio.run(main()) == 3


# --- many batches at the same time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blocking", [True, False])
def test_batches_of_several_consumers_that_overlap_run_each_item_once(blocking):
    """Outcomes are recorded in both threads, as fast as they come, and items wait for those of other consumers."""
    layer = Watched()
    layer.blocking = blocking
    config = IdempotencyConfig(event_key_jmespath="id", on_in_progress="wait")
    runs, failures = [], []

    def work(order):
        runs.append(order["id"])
        return order["id"]

    charge = idempotent_batch(
        work, persistence_store=layer, config=config, key_prefix="charge", record_after_seconds=1e-6, claimed_at_once=7
    )

    def consume(seed):
        chance = random.Random(seed)  # noqa: S311  # a simulation
        for _ in range(10):
            ids = [chance.randrange(60) for _ in range(20)]
            failures.extend(each for each, id_ in zip(charge(orders(*ids)), ids, strict=True) if each.answer != id_)

    consumers = [threading.Thread(target=consume, args=(seed,)) for seed in range(4)]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join()
    assert failures == []
    assert len(runs) == len(set(runs))

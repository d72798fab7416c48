"""Batches and calls made inside an item of a batch, for keys that this batch holds."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from retrysafe import IdempotencyConfig, idempotent_batch, idempotent_function
from support.flavours import LikeAnAsyncStore, LikeAStore

WAITS = IdempotencyConfig(on_in_progress="wait", wait_timeout_seconds=5)


def looking(layer_class, looks):
    """A layer that notes each look at a key that is held."""
    if layer_class is LikeAStore:

        class Looking(LikeAStore):
            def _get_record(self, idempotency_key):
                looks.append(idempotency_key)
                return super()._get_record(idempotency_key)

        return Looking()

    class AsyncLooking(LikeAnAsyncStore):
        async def _get_record(self, idempotency_key):
            looks.append(idempotency_key)
            return await super()._get_record(idempotency_key)

    return AsyncLooking()


@pytest.mark.parametrize("way", ["batch", "single", "in another thread"])
@pytest.mark.parametrize("wanted", ["own", "later"])
def test_a_wait_inside_an_item_that_would_never_end_is_refused_without_a_look(wanted, way):
    looks, ran, seen = [], [], []
    options = {"persistence_store": looking(LikeAStore, looks), "key_prefix": "nested", "config": WAITS}

    def work(item):
        ran.append(item)
        if item == "own" and len(ran) == 1:
            if way == "batch":
                seen.extend(type(each.error).__name__ for each in charge_all([wanted]))
            elif way == "single":
                note(lambda: charge(item=wanted))
            else:
                context = contextvars.copy_context()
                thread = threading.Thread(target=context.run, args=(note, lambda: charge(item=wanted)))
                thread.start()
                thread.join()
        return item

    def note(call):
        try:
            seen.append(call())
        except Exception as error:  # noqa: BLE001  # told by its name
            seen.append(type(error).__name__)

    charge = idempotent_function(work, data_keyword_argument="item", **options)
    charge_all = idempotent_batch(work, **options)
    result = charge_all(["own", "later"])
    assert seen == ["IdempotencyAlreadyInProgressError"]
    assert [each.answer for each in result] == ["own", "later"] == ran
    assert looks == []


@pytest.mark.parametrize("between", [[], ["between"]])
@pytest.mark.parametrize(("concurrency", "status"), [(1, "in_progress"), (2, "replayed")])
def test_a_later_item_is_waited_for_where_it_may_run_at_the_same_time(concurrency, status, between):
    """Also where its turn comes only when one between them has ended."""
    looks, seen = [], []

    async def work(item):
        if item == "first":
            seen.extend(each.status for each in await charge_all(["later"]))
        while item == "between" and not (looks or seen):  # noqa: ASYNC110  # lists, which tell nobody
            await asyncio.sleep(0)
        return item

    charge_all = idempotent_batch(
        work,
        persistence_store=looking(LikeAnAsyncStore, looks),
        key_prefix="nested",
        config=WAITS,
        concurrency=concurrency,
    )
    result = asyncio.run(charge_all(["first", *between, "later"]))
    assert seen == [status]
    assert {each.status for each in result} == {"returned"}
    assert bool(looks) == (concurrency > 1)


def test_an_item_that_has_run_and_is_not_recorded_yet_is_waited_for():
    seen = []

    def work(item):
        if item == "second":
            seen.extend((each.status, each.answer) for each in charge_all(["first"]))
        return item

    charge_all = idempotent_batch(work, persistence_store=LikeAStore(), key_prefix="nested", config=WAITS)
    assert [each.status for each in charge_all(["first", "second"])] == ["returned", "returned"]
    assert seen == [("replayed", "first")]

"""Batches of many items, and of large answers: what waits is asked about by none of the others, and nothing is held
for longer than it is needed."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import contextmanager, suppress
from weakref import ref

import pytest

from retrysafe import current_execution, idempotent_batch, idempotent_function
from retrysafe._batch.item import Item
from retrysafe._batch.pauses import LOOKS_PER_SECOND, Pauses
from retrysafe.persistence import async_layer_from_url, layer_from_url
from retrysafe.persistence.datarecord import DataRecord
from retrysafe.testing._contract.driving import settled
from retrysafe.wishes import Pause
from support import dynamodb_support as dynamodb
from support.flavours import FLAVOURS, LikeAnAsyncStore, LikeAStore

# --- many that wait ---------------------------------------------------------------------------------------------------


class Waiting:
    """An item that waits, and counts how often it is looked at."""

    looks = 0

    def __init__(self, index):
        self.index = index
        self.due = 0.0

    @property
    def has_run(self):
        Waiting.looks += 1
        return False


def test_whether_anything_is_held_up_or_due_is_told_without_a_look_at_all_that_wait():
    Waiting.looks = 0
    pauses = Pauses()
    for index in range(1000):
        pauses.add(Waiting(index), Pause(1.0, "key", 5.0), 0.0)
    for _ in range(1000):
        assert not pauses.is_held_up
        assert pauses.next_due == 1.0
        assert pauses.over(0.5) == []
    assert len(pauses.by_due) == 1000 == Waiting.looks
    assert [item.index for item in pauses.over(1.0)] == list(range(1000))
    assert not pauses.by_due


def test_one_whose_outcome_is_to_be_tried_again_holds_up_the_others_until_its_pause_is_over():
    pauses, item = Pauses(), Item(0, "value", None)
    item.has_run = True
    pauses.add(item, Pause(0.5, "key"), 1.0)
    assert pauses.is_held_up
    assert pauses.over(1.5) == [item]
    assert not pauses.is_held_up


def test_however_many_wait_they_look_only_so_often_together_and_none_later_than_it_may():
    pauses, now, looks = Pauses(), 0.0, 0
    for index in range(4 * LOOKS_PER_SECOND):
        pauses.add(Waiting(index), Pause(0.25, "key", 5.0), now)
    while now < 8.0:
        now = pauses.next_due
        for item in pauses.over(now):
            looks += 1
            pauses.add(item, Pause(0.25, "key", 5.0), now)
    assert looks <= 8 * 1.1 * LOOKS_PER_SECOND

    for longest in (None, 0.3):  # an outcome that is to be stored, and a wait that is nearly over
        item = Waiting(-1)
        pauses.add(item, Pause(0.25, "key", longest), 0.0)
        assert item.due == (longest or 0.25)


# --- what is held -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS, ids=lambda flavour: flavour.name)
def test_an_answer_is_held_once_while_a_batch_runs(flavour):
    class Elsewhere(LikeAStore):
        def _update_record(self, data_record):
            """Sends it away, as over a network."""

    class AsyncElsewhere(LikeAnAsyncStore):
        async def _update_record(self, data_record):
            """Sends it away, as over a network."""

    def answer(item):
        return "x" * (size + item)

    size, count = 100_000, 200
    layer = AsyncElsewhere() if flavour.is_async else Elsewhere()
    batch = flavour.caller(
        idempotent_batch(flavour.body(answer), persistence_store=layer, key_prefix="size", claimed_at_once=10)
    )
    batch(range(count, count + 10))  # what is loaded and started once
    tracemalloc.start()
    try:
        result = batch(range(count))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(result) == count
    assert most < 1.3 * size * count


def test_of_the_runs_of_a_batch_that_are_over_none_is_held(flavour):
    runs = []

    def work(item):
        runs.append(ref(current_execution()))
        return sum(run() is not None for run in runs)

    charge = flavour.caller(idempotent_batch(flavour.body(work), persistence_store=flavour.layer(), key_prefix="size"))
    assert {each.answer for each in charge(range(20))} <= {1, 2}  # this one, and perhaps the one before it


@contextmanager
def garbage():
    """What in here is left to the garbage collector, since it holds itself."""
    found = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found.extend(gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def layer_of(store, kind, tmp_path, request):
    if store == "memory":
        return LikeAnAsyncStore() if kind == "async" else LikeAStore()
    if store == "dynamodb":
        server = request.getfixturevalue("dynoxide")
        return (dynamodb.async_layer if kind == "async" else dynamodb.sync_layer)(server, dynamodb.new_table(server))
    url = f"sqlite:///{tmp_path}/records.db" if store == "sqlite" else request.getfixturevalue("valkey_91").url
    return (async_layer_from_url if kind == "async" else layer_from_url)(url)


@pytest.mark.parametrize("course", ["first", "replayed", "failed"])
@pytest.mark.parametrize("way", ["batch", "single"])
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("store", ["memory", "sqlite", "valkey", "dynamodb"])
def test_no_record_waits_for_the_garbage_collector(store, kind, way, course, tmp_path, request):
    layer = layer_of(store, kind, tmp_path, request)
    options = {"persistence_store": layer, "key_prefix": f"{kind}.{way}.{course}"}

    def work(item):
        if course == "failed" and item < 10:
            raise ValueError(item)
        return "answer"

    async def work_async(item):
        return work(item)

    function = work_async if kind == "async" else work
    one = idempotent_function(function, data_keyword_argument="item", **options)
    many = idempotent_batch(function, **options)

    async def one_by_one(items):
        for item in items:
            with suppress(ValueError):
                await settled(one(item=item))

    async def all_at_once(items):
        await settled(many(items))

    async def main():
        charge = all_at_once if way == "batch" else one_by_one
        await charge(range(7, 13))  # what is loaded and opened once, for failures too
        if course == "replayed":
            await charge(range(3))
        with garbage() as found:
            await charge(range(3))
        await settled(layer.close())
        return found

    found = asyncio.run(main())
    assert [each for each in found if isinstance(each, DataRecord | Item)] == []
